"""
Where the list of providers comes from: a backend over HTTP, a fixed list, or the app's callable.

A backend that is down, slow, wrong or lying costs one `BackendUnavailable` or one `Check`, and
whoever asks keeps the last good list. Nothing that a backend says is quoted beyond a name or a
short word, and our headers never are: they carry credentials.
"""

from __future__ import annotations

import asyncio
import errno
import json
import re
import zlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Protocol
from urllib.parse import quote

import aiohttp
from yarl import URL

from ..core.listing import Answer, Check, Listed, ProviderList
from ..errors import ConfigError, HitlessError
from .listing import Failed, read_health, read_list, shown, unusable, unwrap


BODY_BYTES_MAX: Final = 1 << 20
"""Longest answer that is read, as sent and again after decompression; 10 000 providers fit."""

REDIRECTS_MAX: Final = 3
Headers = Mapping[str, str] | Callable[[], Awaitable[Mapping[str, str]]]


class BackendUnavailable(HitlessError):
    """
    The list of providers could not be had; go on with the last good one.

    Attributes:
        because: Why, in words.
        answered: Whether anything came back: False may as well be our own network.
    """

    def __init__(self, because: str, *, answered: bool) -> None:
        super().__init__(f"no list of providers: {because}")
        self.because = because
        self.answered = answered


class ProviderSource(Protocol):
    """Whatever knows the providers."""

    async def list_providers(self) -> ProviderList:
        """
        Return the list as it is now.

        Raises:
            BackendUnavailable: It could not be had; keep the last good one.
        """
        ...

    async def check_health(self, name: str) -> Check | None:
        """Ask how a provider is; None: nobody to ask. Never raises."""
        ...


class Backend:
    """
    Any server of `GET /streaming/providers` and `GET /streaming/providers/{name}/health`.

    Args:
        url: What the two paths are appended to, `https://api.example.com/v2`.
        headers: Sent with each request, or an async callable that returns them each time.
            They go to the origin of `url` only, never along a redirect to another one.
        timeout_s: Limit of one whole request, redirects and body included [s].
        allow_http: Whether headers may be sent in clear to another machine.
    """

    def __init__(
        self,
        url: str,
        *,
        headers: Headers | None = None,
        timeout_s: float = 5.0,
        allow_http: bool = False,
    ) -> None:
        self._base = _base(url, in_clear=allow_http or headers is None)
        self._headers = headers if callable(headers) or headers is None else _checked(headers)
        if isinstance(timeout_s, bool) or not 0.0 < timeout_s <= 300.0:
            raise ConfigError(f"timeout_s = {timeout_s!r} is not possible: give 0 to 300 s")
        self._timeout_s = timeout_s
        self._session: aiohttp.ClientSession | None = None
        self._is_closed = False

    async def list_providers(self) -> ProviderList:
        """
        Return the backend's list.

        Raises:
            BackendUnavailable: Down, slow, wrong or lying; keep the last good list.
        """
        try:
            return read_list(unwrap(await self._get("/streaming/providers")))
        except Failed as failed:
            raise BackendUnavailable(failed.because, answered=failed.answered) from None

    async def check_health(self, name: str) -> Check:
        """Ask the backend how `name` is. Never raises (but when cancelled)."""
        clock = asyncio.get_running_loop().time
        asked_s = clock()
        is_answered = True
        try:
            data = unwrap(await self._get(f"/streaming/providers/{_escaped(name)}/health"))
            answer, because = read_health(data)
        except Failed as failed:
            answer = Answer.WARNING if failed.is_ours else Answer.UNANSWERED
            because, is_answered = failed.because, failed.answered
        latency_s = clock() - asked_s if is_answered else None
        return Check(provider=name, answer=answer, because=because, latency_s=latency_s)

    async def aclose(self) -> None:
        """Close the connections. Idempotent; never raises; asking later is refused."""
        self._is_closed = True
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _get(self, path: str) -> Any:
        """Return the JSON of a 200 answer, or raise `Failed`. Any: JSON may be of any type."""
        if self._is_closed:
            raise Failed("the backend was closed", is_ours=True)
        deadline_s = asyncio.get_running_loop().time() + self._timeout_s
        headers = await self._headers_by(deadline_s)
        try:
            async with asyncio.timeout_at(deadline_s):
                return await self._follow(URL(self._base + path, encoded=True), headers)
        except TimeoutError:
            raise Failed("Connection timeout") from None
        # ValueError: a redirect or header that aiohttp cannot send. Texts may hold headers.
        except (aiohttp.ClientError, OSError, ValueError) as exc:
            raise _translate(exc) from None

    async def _follow(self, url: URL, headers: Mapping[str, str]) -> Any:
        origin = url.origin()
        for _ in range(REDIRECTS_MAX + 1):
            sent = {"Accept": "application/json", "Accept-Encoding": "gzip, deflate"}
            if url.origin() == origin:
                sent |= headers
            async with self._opened().get(url, headers=sent, allow_redirects=False) as response:
                if response.status not in (301, 302, 303, 307, 308):
                    return await _read(response)
                target = url.join(URL(response.headers.get("Location", "")))
            if target.scheme not in ("http", "https") or not target.host:
                raise Failed("redirected to nowhere", answered=True)
            if url.scheme == "https" and target.scheme == "http":
                raise Failed("redirected from https to http", answered=True)
            url = target
        raise Failed(f"more than {REDIRECTS_MAX} redirects", answered=True)

    async def _headers_by(self, deadline_s: float) -> Mapping[str, str]:
        if not callable(self._headers):
            return self._headers or {}
        try:
            async with asyncio.timeout_at(deadline_s):
                return _checked(await self._headers())
        except TimeoutError:
            raise Failed("our headers came too late", is_ours=True) from None
        except Exception as exc:  # the app's code: anything, and its text may hold a secret
            raise Failed(f"our headers failed: {type(exc).__name__}", is_ours=True) from None

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                auto_decompress=False,  # `_read` does it, with a bound
                cookie_jar=aiohttp.DummyCookieJar(),
                connector=aiohttp.TCPConnector(limit=8),
                timeout=aiohttp.ClientTimeout(total=None),  # `_get` holds the only limit
            )
        return self._session


class StaticList:
    """Providers that never change, best first. There is nobody to ask for their health."""

    def __init__(self, names: Sequence[str]) -> None:
        if isinstance(names, str) or not names:
            raise ConfigError("give a list of at least one provider name")
        for name in names:
            if why := unusable(name):
                raise ConfigError(f"provider name {shown(name)} {why}")
            if list(names).count(name) > 1:
                raise ConfigError(f"provider name {shown(name)} is given twice")
        self._list = ProviderList(
            providers=tuple(
                Listed(name=name, is_active=True, priority=place, config={})
                for place, name in enumerate(names, start=1)
            ),
            default=None,
        )

    async def list_providers(self) -> ProviderList:
        """Return the list."""
        return self._list

    async def check_health(self, name: str) -> Check | None:
        """Return None: nobody to ask."""
        return None


class CallableList:
    """
    Providers that an async callable of the app supplies each time it is asked.

    Args:
        supply: Returns `Listed` values, names in order of preference, or the dictionaries of
            the wire (`name`, `isActive`, `priority`, `config`), mixed as it likes.
        timeout_s: How long it may take [s].
    """

    def __init__(
        self,
        supply: Callable[[], Awaitable[Sequence[Listed | str | Mapping[str, Any]]]],
        *,
        timeout_s: float = 5.0,
    ) -> None:
        self._supply = supply
        self._timeout_s = timeout_s

    async def list_providers(self) -> ProviderList:
        """
        Ask the callable.

        Raises:
            BackendUnavailable: It raised, took too long, or returned no usable entry.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                entries = await self._supply()
        except TimeoutError:
            raise BackendUnavailable("the callable took too long", answered=False) from None
        except Exception as exc:  # the app's code: anything; the cause keeps its text
            because = f"the callable failed: {type(exc).__name__}"
            raise BackendUnavailable(because, answered=False) from exc
        try:
            return read_list({"providers": entries})
        except Failed as failed:
            raise BackendUnavailable(failed.because, answered=True) from None

    async def check_health(self, name: str) -> Check | None:
        """Return None: nobody to ask."""
        return None


# --- Reading an answer ---


async def _read(response: aiohttp.ClientResponse) -> Any:
    status = response.status
    if status != 200:
        # 401, 403, 404, 429 are about us (DESIGN 4.2), and so is any other 4xx.
        raise Failed(f"HTTP {status}", answered=True, is_ours=400 <= status < 500)
    body = bytearray()
    async for part in response.content.iter_any():
        body += part
        if len(body) > BODY_BYTES_MAX:
            raise Failed("the answer is too long (limit 1 MiB)", answered=True)
    try:
        return json.loads(_inflated(bytes(body), response.headers.get("Content-Encoding", "")))
    # RecursionError: a million brackets. ValueError: also bad UTF-8 and endless numbers.
    except (ValueError, RecursionError, zlib.error):
        raise Failed("bad JSON", answered=True) from None


def _inflated(body: bytes, encoding: str) -> bytes:
    match encoding.strip().lower():
        case "" | "identity":
            return body
        case "gzip" | "x-gzip" | "deflate":
            # 47: zlib and gzip headers are told apart by zlib itself (zlib.h, inflateInit2).
            inflater = zlib.decompressobj(wbits=47)
            plain = inflater.decompress(body, BODY_BYTES_MAX + 1)
            if len(plain) > BODY_BYTES_MAX:
                raise Failed("the answer is too long (limit 1 MiB)", answered=True)
            if not inflater.eof:
                raise Failed("the answer is cut short", answered=True)
            return plain
        case _:
            raise Failed("the answer is in an encoding nobody asked for", answered=True)


def _translate(exc: Exception) -> Failed:
    """Return what a failed request is called. Texts of foreign exceptions are never quoted."""
    match exc:
        case aiohttp.ClientConnectorDNSError():
            return Failed("host not found")
        case aiohttp.ClientSSLError() | aiohttp.ClientConnectorCertificateError():
            return Failed("TLS failed", answered=True)
        case OSError(errno=errno.ECONNREFUSED):
            return Failed("Connection refused", answered=True)
        case OSError(errno=errno.ENETUNREACH | errno.EHOSTUNREACH | errno.ENETDOWN):
            return Failed("network unreachable")
        case aiohttp.ServerDisconnectedError() | ConnectionResetError() | BrokenPipeError():
            return Failed("connection closed without an answer")
        case aiohttp.ClientPayloadError():
            return Failed("the answer is cut short", answered=True)
        case aiohttp.ClientResponseError():
            return Failed("bad HTTP", answered=True)
        case aiohttp.InvalidURL() | ValueError():
            return Failed("redirected to nowhere", answered=True)
    return Failed(f"connection failed: {type(exc).__name__}")


# --- Checking what we are given ---


def _base(url: str, *, in_clear: bool) -> str:
    """Return the url without a trailing slash. A bad one is not quoted: it may hold a password."""
    try:
        parsed = URL(url)
        parsed.origin()
    except (TypeError, ValueError):
        raise ConfigError("the backend's url must be http(s)://host[:port][/path]") from None
    if parsed.scheme not in ("http", "https"):
        raise ConfigError("the backend's url must begin with http:// or https://")
    if parsed.user is not None or parsed.password is not None:
        raise ConfigError("the backend's url must hold no user or password: use headers")
    if parsed.query_string or parsed.fragment:
        raise ConfigError("the backend's url must end with its path: no ? and no #")
    is_near = re.fullmatch(r"localhost|::1|127(\.\d{1,3}){3}", parsed.host or "")
    if parsed.scheme == "http" and not is_near and not in_clear:
        raise ConfigError(
            "headers would go in clear to the backend: use https, or allow_http = true if the way "
            "there is safe"
        )
    return str(parsed).rstrip("/")


def _checked(headers: object) -> Mapping[str, str]:
    if not isinstance(headers, Mapping):
        raise ConfigError("headers must be a mapping of texts, or an async callable of one")
    for name, value in headers.items():
        is_text = isinstance(name, str) and isinstance(value, str)
        if not is_text or any(ord(char) < 0x20 and char != "\t" for char in name + value):
            raise ConfigError("headers must be texts of one line each")
    return dict(headers)


def _escaped(name: str) -> str:
    """Return a name as one path segment; dots alone would climb the path."""
    try:
        segment = quote(name, safe="")
    except (TypeError, UnicodeError):
        segment = ""
    if not segment.strip("."):
        raise Failed("this name cannot be put into a path", is_ours=True)
    return segment
