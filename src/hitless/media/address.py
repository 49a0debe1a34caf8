"""How an address is shown that somebody gave: without what opens it."""

from __future__ import annotations

import re
from typing import Final


_ADDRESS: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+([^/?#]*)(.*)", re.DOTALL)
_HOST: Final = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[\w.-]+)(?::\d{1,5})?")


def is_address(source: str) -> bool:
    """Whether a source is written as an address: `https://...`, `rtmp://...`, and no path."""
    return _ADDRESS.match(source) is not None


def shown(source: str) -> str:
    """
    Return a source for messages: an address by its scheme and host only, all else quoted.

    User info and query hold passwords and signatures, the path of an RTMP address its stream key.
    """
    found = _ADDRESS.match(source)
    if found is None:
        return repr(source)
    scheme, authority, rest = found.groups()
    host = authority.rpartition("@")[2]
    # An @ behind the host, or a second one: the password may hold what ends it, so nothing is
    # sure to be the host.
    is_sure = "@" not in rest and authority.count("@") <= 1 and _HOST.fullmatch(host)
    return f"{scheme}://{host}{'/...' if rest else ''}" if is_sure else f"{scheme}://..."


def without_stream_key(address: str) -> str:
    """
    Return a configured address with the end of an RTMP path left out, where a stream key stands.

    It stays where something is put in for `{stream}` or `{key}`; any other address stays whole.
    """
    found = _ADDRESS.match(address)
    if found is None or found[1].lower() not in ("rtmp", "rtmps"):
        return address
    path, mark, query = found[3].partition("?")
    folder, slash, name = path.rpartition("/")
    path = path if "{" in name or not name else f"{folder}{slash}..."
    query = query if "{" in query or not mark else "..."
    return f"{found[1]}://{found[2]}{path}{mark}{query}"
