"""Where an RTMP URL leads: a server, an application, and a name that is often a secret key."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from yarl import URL

from ..errors import ConfigError


PORT: Final = 1935
"""RTMP's registered port; RTMPS has 443."""

_TLS_PORT: Final = 443
_URL = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """
    Where to connect. The application may hold a secret, so it is in no text.

    Attributes:
        host, port: The server's.
        tls: Whether it is RTMPS.
        app: Application, the path up to the last `/`.
        name: The stream's name there, with the query.
        address: What to connect to instead of looking the host up; empty: it is looked up. The
            host stays in TLS and in what is said to the server.
    """

    host: str
    port: int
    tls: bool = False
    app: str = field(repr=False)
    name: str = field(repr=False)
    address: str = ""

    @property
    def url(self) -> str:
        """The `tcUrl` of RTMP's connect: all but the name."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == (_TLS_PORT if self.tls else PORT) else f":{self.port}"
        return f"rtmp{'s' if self.tls else ''}://{host}{port}/{self.app}"


def target_of(field_name: str, url: str) -> Target:
    """
    Take an RTMP URL apart.

    Args:
        field_name: What the URL is called, for the error.
        url: `rtmp://host[:port]/app/name[?query]`, or `rtmps://`.

    Raises:
        ConfigError: Naming the field, never the URL: it may hold a credential.
    """
    try:
        found = URL(url, encoded=True)
        host, port = found.host, found.explicit_port
        fragment = found.raw_fragment
    except ValueError:
        raise ConfigError(f"{field_name} is not a URL") from None
    if found.scheme not in ("rtmp", "rtmps") or not host:
        raise ConfigError(f"{field_name} must begin with rtmp:// or rtmps://")
    if found.user is not None or found.password is not None:
        raise ConfigError(f"{field_name}: give the credential as stream_key, not in the URL")
    path, _, query = url.split("://", 1)[1].partition("/")[2].partition("?")
    app, _, name = path.rpartition("/")
    if not app or not name or fragment or not _URL.fullmatch(url):
        raise ConfigError(f"{field_name} must be of the form rtmp://host/application/name")
    tls = found.scheme == "rtmps"
    return Target(
        host=host,
        port=port or (_TLS_PORT if tls else PORT),
        tls=tls,
        app=app,
        name=f"{name}?{query}" if query else name,
    )
