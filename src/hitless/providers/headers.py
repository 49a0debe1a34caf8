"""Two HTTP headers that servers write in many ways: Retry-After, and Link with ICE servers."""

from __future__ import annotations

import re
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import unquote

from aiortc.rtcicetransport import parse_stun_turn_uri
from multidict import CIMultiDictProxy

from ..media.connection import IceServer


RETRY_AFTER_S_MAX: Final = 300.0
"""Longest Retry-After that is obeyed [s] (DESIGN 4.1)."""

_ICE_SERVERS_MAX: Final = 8
# No `<` inside: else each of a thousand would look through all that follows it.
_LINK = re.compile(r'<([^<>]*)>((?:\s*;\s*[\w*-]+\s*=\s*(?:"(?:[^"\\]|\\.)*"|[^\s;,"]+))*)')
_PARAMETER = re.compile(r';\s*([\w*-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;,"]+))')


def retry_after_s(headers: CIMultiDictProxy[str]) -> float | None:
    """
    Return how long the server asks to stay away [s], from 0 to 300; None if it does not say.

    A date is read against the answer's own Date, so that no clock of ours is involved.
    """
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return min(float(value[:9]), RETRY_AFTER_S_MAX)
    try:
        until, now = (parsedate_to_datetime(each) for each in (value, headers.get("Date", "")))
        return min(max((until - now).total_seconds(), 0.0), RETRY_AFTER_S_MAX)
    except (ValueError, TypeError):  # one of them is missing, nonsense or without a time zone
        return None


def ice_servers_of(headers: CIMultiDictProxy[str]) -> tuple[IceServer, ...]:
    """
    Return the ICE servers that Link headers name (RFC 9725 section 4.6).

    Percent-escaped addresses and ones without a scheme are seen in the wild and understood;
    what cannot be understood is left out.
    """
    found: list[IceServer] = []
    for target, rest in _LINK.findall(", ".join(headers.getall("Link", []))):
        parameters = {
            name.lower(): re.sub(r"\\(.)", r"\1", quoted) or plain
            for name, quoted, plain in _PARAMETER.findall(rest)
        }
        if "ice-server" not in parameters.get("rel", "").lower().split():
            continue
        username, credential = parameters.get("username"), parameters.get("credential")
        urls = _ice_url(target.strip(), with_credential=username is not None)
        if urls is not None:
            found.append(IceServer(urls=urls, username=username, credential=credential))
    return tuple(found[:_ICE_SERVERS_MAX])


def _ice_url(target: str, *, with_credential: bool) -> str | None:
    target = unquote(target)  # LiveKit escapes it; no address of RFC 7064 or 7065 has a `%`
    if not re.match(r"(stun|turn)s?:", target):
        target = f"{'turn' if with_credential else 'stun'}:{target.lstrip('/')}"
    try:
        parse_stun_turn_uri(target)
    except ValueError:
        return None
    return target
