"""
The HTTP part of WHIP (RFC 9725) and WHEP: one request, one answer, one verdict.

A server's answer is tolerated where real servers deviate, and judged by the class of its status
rather than by the code (RFC 9725 section 4.5). The only retry loop is the caller's.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
from yarl import URL

from ..errors import (
    ContractBroken,
    CredentialsRejected,
    HitlessError,
    NotOnAir,
    Refused,
    Retry,
    StreamEnded,
    Unreachable,
)
from ..media.closing import finish
from ..media.connection import IceServer, is_loopback
from .credential import Credential, Token, check_token
from .headers import ice_servers_of, retry_after_s
from .unreached import translated


SDP: Final = "application/sdp"
BODY_MAX: Final = 256 * 1024
"""Largest answer that is read [bytes]; a description with many candidates has some 10 KB."""

REDIRECTS_MAX: Final = 5
DELETE_S: Final = 1.0
"""How long the polite end of a session may take [s]; the far side notices by itself as well."""

LATE_S: Final = 10.0
"""How long an answer that nobody waits for is awaited, to delete what it created [s]."""

RETRY_AFTER_S_SAME: Final = 1.0
"""A provider that asks for a longer pause than this [s] is left for the next one."""

_QUOTED: Final = 80
_SECRET_MIN: Final = 12  # characters; shorter parts of a path are words


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """
    One HTTP answer.

    Attributes:
        status: HTTP status.
        sdp: The session description; None if it carries none.
        text: The body, for a quotation.
        session: URL of what was created; None if it names none that may be used.
        etag: Entity tag of the ICE session.
        retry_after_s: How long to stay away [s], at most 300; None if it does not say.
        ice_servers: STUN and TURN servers it recommends.
        token: The credential that was sent along.
        url: What was asked; some servers take the credential in it.
    """

    status: int
    sdp: str | None = field(repr=False)
    text: str = field(repr=False)
    session: URL | None = field(repr=False)
    etag: str | None
    retry_after_s: float | None
    ice_servers: tuple[IceServer, ...]
    token: str | None = field(repr=False)
    url: URL = field(repr=False)


class _Connections:
    """The HTTP session of one provider and the requests under way, shared by all credentials."""

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._http: aiohttp.ClientSession | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closing: asyncio.Task[None] | None = None
        self.is_closed = False

    def http(self) -> aiohttp.ClientSession:
        if self._http is None or self._http.closed:
            self._http = aiohttp.ClientSession(
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),
                headers={"Accept": f"{SDP}, text/plain;q=0.1", "User-Agent": "hitless"},
            )
        return self._http

    def own(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(work, name=f"{self._provider} signalling")
        self._tasks.add(task)
        task.add_done_callback(self._disown)
        return task

    async def aclose(self) -> None:
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        await finish(self._closing)

    def _disown(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # retrieved: whoever waited has seen it, or nobody waits

    async def _close(self) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=DELETE_S)
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)
        self.is_closed = True
        if self._http is not None:
            await self._http.close()


class Signalling:
    """
    Speaks HTTP for one provider.

    Args:
        provider: Name for errors.
        token: Credential for the configured origins; sent nowhere else.
        endpoints: The configured URLs.
        allow_http: Whether plain http may be spoken with hosts other than loopback.
    """

    def __init__(
        self, provider: str, *, token: Token | None, endpoints: list[URL], allow_http: bool
    ) -> None:
        self._provider = provider
        self._credential = Credential(token)
        self._origins = {url.origin() for url in endpoints}
        self._allow_http = allow_http
        self._connections = _Connections(provider)

    def scoped(self, token: Token) -> Signalling:
        """Return one that sends another credential over the same connections."""
        other = copy.copy(self)
        other._credential = Credential(token)
        return other

    async def create(
        self,
        operation: str,
        url: URL,
        sdp: str,
        deadline: float,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """
        POST an offer and return the answer, whatever its status.

        If it does not come in time, or the caller is cancelled, it is still awaited in the
        background, and what it created is deleted.

        Args:
            operation: `publish` or `view`, for errors.
            url: The endpoint.
            sdp: The offer.
            deadline: When to give up [s, the loop's clock].
            headers: More headers, for servers that want some of their own; they go along a
                redirect too, so no secret belongs there.

        Raises:
            Unreachable: No answer by `deadline` [s, the loop's clock].
            ProviderError: It cannot be reached, or broke HTTP's or WHIP's rules.
            LocalFault: This machine has no network.
        """
        task = self._connections.own(self._request("POST", operation, url, sdp, headers))
        begun = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout_at(deadline):
                answer: Answer = await asyncio.shield(task)
        except TimeoutError:
            self._connections.own(self._delete_late(task))
            raise Unreachable(
                f"Connection timeout: no answer within {deadline - begun:.1f} s",
                provider=self._provider,
                operation=operation,
            ) from None
        except asyncio.CancelledError:
            self._connections.own(self._delete_late(task))
            raise
        if answer.status == 201:
            self._credential.accepted(operation)
        return answer

    async def patch(self, operation: str, created: Answer, sdp: str, deadline: float) -> None:
        """
        Send our answer to the far side's offer.

        Raises:
            ProviderError: It was not taken.
        """
        if created.session is None:
            raise self._broken("it offered without a Location to answer to", operation)
        headers: dict[str, str] = {}
        try:
            async with asyncio.timeout_at(deadline):
                answer = await self._request("PATCH", operation, created.session, sdp, headers)
                if answer.status == 428 and created.etag is not None:
                    headers["If-Match"] = created.etag
                    answer = await self._request("PATCH", operation, created.session, sdp, headers)
        except TimeoutError:
            raise Unreachable(
                "Connection timeout: our answer was not taken",
                provider=self._provider,
                operation=operation,
            ) from None
        if not 200 <= answer.status < 300:
            raise self.refusal(answer, operation)

    async def delete(self, answer: Answer) -> None:
        """End a session (RFC 9725 section 4.2). Bounded; never raises; no If-Match."""
        if answer.session is None:
            return
        try:
            async with asyncio.timeout(DELETE_S):
                await self._request("DELETE", "close", answer.session)
        except (HitlessError, TimeoutError):
            pass  # the far side ends it when its consent checks fail (RFC 7675)

    def delete_later(self, answer: Answer) -> None:
        """End a session without waiting for it."""
        self._connections.own(self.delete(answer))

    def refusal(self, answer: Answer, operation: str) -> HitlessError:
        """Return the error that an answer means. The one mapping of HTTP status to advice."""
        status, pause_s = answer.status, answer.retry_after_s
        because = f"HTTP {status}{self._quoted(answer)}"
        known: dict[str, Any] = {"provider": self._provider, "operation": operation}
        if status in (401, 403):
            retry = self._credential.rejected(operation, answer.token)
            also = ", or the stream is taken" if status == 403 else ""
            return CredentialsRejected(
                f"{because}: credential rejected{also}", retry=retry, **known
            )
        if operation == "view" and status in (404, 409):
            return NotOnAir(
                f"{self._provider}: nobody publishes ({because})", retry_after_s=pause_s
            )
        if status in (400, 406, 415, 422):
            also = "" if answer.token else ", or it wants a token"
            return ContractBroken(f"{because}: our offer was not understood{also}", **known)
        if status == 429 or 400 <= status < 500:
            return Refused(because, retry_after_s=pause_s, **known)
        if status >= 500:
            patient = pause_s is not None and pause_s > RETRY_AFTER_S_SAME
            retry = Retry.NEXT if patient else Retry.SAME
            return Refused(because, retry=retry, retry_after_s=pause_s, **known)
        return ContractBroken(f"{because}: not an answer to an offer", **known)

    async def aclose(self) -> None:
        """End requests that are under way and close connections. Idempotent; bounded."""
        await self._connections.aclose()

    # --- Inside ---

    async def _delete_late(self, task: asyncio.Task[Answer]) -> None:
        done, _ = await asyncio.wait({task}, timeout=LATE_S)
        if not done:
            task.cancel()
        elif not task.cancelled() and task.exception() is None:
            await self.delete(task.result())

    async def _request(
        self,
        method: str,
        operation: str,
        url: URL,
        sdp: str | None = None,
        more_headers: Mapping[str, str] | None = None,
    ) -> Answer:
        token = await self._token(operation)
        if self._connections.is_closed:
            raise StreamEnded(f"{self._provider}: {operation} failed: it was closed")
        headers = dict(more_headers or {})
        if sdp is not None:
            headers["Content-Type"] = SDP
        for _ in range(REDIRECTS_MAX + 1):
            if token is not None and url.origin() in self._origins:
                headers["Authorization"] = f"Bearer {token}"
            else:
                headers.pop("Authorization", None)
            failure: aiohttp.ClientError | OSError
            try:
                async with self._connections.http().request(
                    method, url, data=sdp, headers=headers, allow_redirects=False
                ) as response:
                    if not 300 <= response.status < 400:
                        return await self._read(response, url, operation, token)
                    url = self._redirect(response, url, operation)
                    continue
            except (aiohttp.ClientError, OSError) as exc:
                failure = exc
            # Outside of `except`: else what aiohttp raised would stay attached, and that may
            # hold the URL and our headers.
            raise translated(failure, self._provider, operation) from (
                failure if isinstance(failure, OSError) else None
            )
        raise self._broken(f"more than {REDIRECTS_MAX} redirects", operation)

    async def _token(self, operation: str) -> str | None:
        try:
            token = await self._credential.value()
        except HitlessError:
            raise
        except Exception as exc:
            failed = type(exc).__name__
        else:
            return self._sendable(token, operation)
        # Outside of `except`: its message may hold a secret, so only its type is told.
        raise CredentialsRejected(
            f"no token could be had ({failed} in the token function)",
            provider=self._provider,
            operation=operation,
            retry=Retry.NEXT,
            answered=False,
        )

    def _sendable(self, token: str | None, operation: str) -> str | None:
        try:
            if token is not None:
                check_token(token, provider=self._provider, operation=operation)
        except CredentialsRejected:
            self._credential.rejected(operation, token)  # the next attempt fetches a new one
            raise
        return token

    def _redirect(self, response: aiohttp.ClientResponse, url: URL, operation: str) -> URL:
        """Only 307 and 308 keep method and body; others are forbidden (RFC 9725 section 4.4)."""
        if response.status not in (307, 308):
            raise self._broken(f"HTTP {response.status} instead of 307 or 308", operation)
        target = self._resolved(response.headers.get("Location"), url)
        if target is None:
            raise self._broken("a redirect to nowhere, or from https to http", operation)
        return target

    def _resolved(self, location: str | None, url: URL) -> URL | None:
        """Return a Location as an absolute URL, if it may be used."""
        if not location:
            return None
        try:
            target = url.join(URL(location, encoded=True))
            host = target.host
        except ValueError:
            return None
        if host is None or target.scheme not in ("http", "https"):
            return None
        plain = target.scheme == "http"
        if plain and (url.scheme == "https" or not (self._allow_http or is_loopback(host))):
            return None
        return target

    async def _read(
        self, response: aiohttp.ClientResponse, url: URL, operation: str, token: str | None
    ) -> Answer:
        body = bytearray()
        async for part in response.content.iter_chunked(16 * 1024):
            body += part
            if len(body) > BODY_MAX:
                raise self._broken(f"an answer of more than {BODY_MAX // 1024} KiB", operation)
        text = body.decode("utf-8", errors="replace")
        has_sdp = response.content_type.lower() == SDP and text.startswith("v=0")
        return Answer(
            status=response.status,
            sdp=text if has_sdp else None,
            text=text,
            session=self._resolved(response.headers.get("Location"), url),
            etag=response.headers.get("ETag"),
            retry_after_s=retry_after_s(response.headers),
            ice_servers=ice_servers_of(response.headers),
            token=token,
            url=url,
        )

    def _quoted(self, answer: Answer) -> str:
        """Return the beginning of an error's text, unless it repeats what may be a credential."""
        secrets = [part for part in answer.url.parts if len(part) >= _SECRET_MIN]
        secrets += [answer.token or "", *answer.url.query.values()]
        if any(secret and secret in answer.text for secret in secrets):
            return ""
        words = "".join(each if each.isprintable() else " " for each in answer.text[:400])
        words = " ".join(words.split())[:_QUOTED]
        return f" ({words})" if words else ""

    def _broken(self, because: str, operation: str) -> ContractBroken:
        return ContractBroken(because, provider=self._provider, operation=operation)
