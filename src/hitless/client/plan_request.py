"""Asking the control plane for a plan: one POST, and what each answer means."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

import aiohttp
import msgspec

from ..errors import ConfigError, Refused
from . import protocol
from .link import UNREADABLE


NOBODY: Final = "no-provider"
"""Code of the answer to a start when nobody can carry the stream."""

AWAY_S: Final = 10.0
"""A server that let a request time out is not asked for a credential for so long [s]."""

WORDS_MAX: Final = 200
"""Longest sentence of the server that is repeated [character]."""

_JSON: Final = {"Content-Type": "application/json", "Accept-Encoding": "identity"}


class PlanDesk:
    """
    Where a client asks for its plans.

    Args:
        url: The server's address.
        headers: What every request carries.
        key: The client key; no answer that repeats it is quoted.
        http: Returns the HTTP client.
        timeout_s: Limit of one request [s].
    """

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str],
        key: str,
        http: Callable[[], aiohttp.ClientSession],
        timeout_s: float,
    ) -> None:
        self._url, self._headers, self._key = url, {**headers, **_JSON}, key
        self._http, self._timeout_s = http, timeout_s
        self._away_until_s = float("-inf")

    @property
    def is_away(self) -> bool:
        """Whether the server let a request time out a moment ago."""
        return asyncio.get_running_loop().time() < self._away_until_s

    async def ask(self, verb: str, request: protocol.PlanRequest) -> protocol.Plan | None:
        """
        Ask once; None: the server is away, has nobody who can carry it, or is no control plane.

        Args:
            verb: `start` or `join`.
            request: What is asked for.

        Raises:
            ConfigError: The server does not take our key, or our request.
            Refused: It says no to this stream.
        """
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                self._http().post(
                    f"{self._url}/v1/{verb}",
                    data=msgspec.json.encode(request),
                    headers=self._headers,
                    allow_redirects=False,
                ) as response,
            ):
                status, text = response.status, await _body(response)
        except TimeoutError:
            self._away_until_s = asyncio.get_running_loop().time() + AWAY_S
            return None
        except (aiohttp.ClientError, OSError):
            return None
        self._away_until_s = float("-inf")
        if status >= 500:
            return None
        if status >= 300:
            said = _said(text, status)
            if said.code == NOBODY:
                return None  # the list says so too: it is tried anew as without a server
            raise _refusal(status, self.words(said.code, said.message), request.stream)
        try:
            return msgspec.json.decode(text, type=_Enveloped).data
        except UNREADABLE:
            return None  # whatever answered, it is no control plane: go on without

    def words(self, code: str, message: str) -> str:
        """Return what the server says, short and printable, unless it repeats our key."""
        if self._key and self._key in message:
            return code
        return "".join(c if c.isprintable() else " " for c in message[:WORDS_MAX])


def new_http() -> aiohttp.ClientSession:
    """Return an HTTP client that says what it has to say to the configured address only."""
    trace = aiohttp.TraceConfig()
    trace.on_request_redirect.append(_stay)
    return aiohttp.ClientSession(
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None),
        trace_configs=[trace],
    )


class _Enveloped(msgspec.Struct):
    """What a plan arrives in."""

    data: protocol.Plan


class _Said(msgspec.Struct):
    code: str = ""
    message: str = ""


class _Failed(msgspec.Struct):
    error: _Said


async def _body(response: aiohttp.ClientResponse) -> bytes:
    """Return the body; of one that is too long, nothing."""
    body = bytearray()
    async for part in response.content.iter_any():
        body += part
        if len(body) > protocol.MESSAGE_BYTES_MAX:
            return b""
    return bytes(body)


async def _stay(_: object, __: object, to: aiohttp.TraceRequestRedirectParams) -> None:
    """Go nowhere else: what we say is meant for the configured address."""
    to.response.close()
    raise aiohttp.ClientError("redirected")


def _said(text: bytes, status: int) -> _Said:
    try:
        return msgspec.json.decode(text, type=_Failed).error
    except UNREADABLE:
        return _Said(message=f"HTTP {status}")


def _refusal(status: int, said: str, stream: str) -> ConfigError | Refused:
    if status in (401, 403):
        return ConfigError(f"{stream}: the control plane does not take our key: {said}")
    if status in (409, 429):
        return Refused(f"{stream}: {said}", provider="control plane", operation="plan")
    return ConfigError(f"{stream}: the control plane does not understand us: {said}")
