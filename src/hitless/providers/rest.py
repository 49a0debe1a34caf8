"""
One call of a provider's control API: bounded in time and size, and no secret in its errors.

URLs of these APIs hold stream keys and signatures, and aiohttp's own errors hold URLs and
headers. So no error from here quotes a URL, and only an operating system's error is its cause.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import aiohttp
import msgspec
from aiohttp.abc import AbstractResolver
from yarl import URL

from ..errors import (
    ConfigError,
    ContractBroken,
    CredentialsRejected,
    HitlessError,
    Retry,
    StreamEnded,
    Unreachable,
)
from ..media.closing import finish
from ..media.connection import is_loopback
from .credential import Credential
from .headers import retry_after_s
from .unreached import translated


T = TypeVar("T")

BODY_MAX: Final = 1024 * 1024
"""Largest answer that is read [bytes]; 10,000 viewers of a channel have some 110 KB."""

CLOSE_S: Final = 1.0
"""How long calls under way may go on when their client is closed [s]."""

QUOTED_MAX: Final = 120
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """
    One answer.

    Attributes:
        status: HTTP status.
        body: What came with it, at most `BODY_MAX` bytes.
        request_id: The provider's number for the call, for its support; empty: none.
        retry_after_s: How long it asks to stay away [s], at most 300; None: it does not say.
    """

    status: int
    body: bytes
    request_id: str
    retry_after_s: float | None

    def decoded(self, kind: type[T], *, provider: str, operation: str) -> T:
        """
        Return the body as `kind`.

        Raises:
            ContractBroken: It is not what the provider's documents describe.
        """
        try:
            return msgspec.json.decode(self.body, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            because = f"HTTP {self.status} with a body that is not as documented ({_where(exc)})"
        raise ContractBroken(because, provider=provider, operation=operation)


class Calls:
    """
    The HTTP session of one client of a control API, and the calls under way.

    Args:
        provider: Name for errors.
        resolver: Finds addresses of host names; None: the system does.
    """

    def __init__(self, provider: str, *, resolver: AbstractResolver | None = None) -> None:
        self._provider = provider
        self._resolver = resolver
        self._http: aiohttp.ClientSession | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closing: asyncio.Task[None] | None = None
        self._is_closed = False

    async def send(
        self,
        method: str,
        url: URL,
        *,
        operation: str,
        deadline: float,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Reply:
        """
        Send one request and return its answer, whatever its status. No retry, no redirect.

        Cancelling ends the connection.

        Args:
            method: HTTP method.
            url: Where to; never quoted.
            operation: What for, for errors.
            deadline: When to give up [s, the loop's clock].
            headers: More headers; never quoted.
            body: JSON.

        Raises:
            Unreachable: No whole answer by the deadline, or no connection. An `OSError` is kept
                as its cause.
            ContractBroken: It does not speak HTTP, or its answer is longer than `BODY_MAX`.
            LocalFault: This machine has no network.
            StreamEnded: The client was closed.
        """
        if self._is_closed:
            raise StreamEnded(f"{self._provider}: {operation} failed: it was closed")
        begun = asyncio.get_running_loop().time()
        failure: aiohttp.ClientError | OSError
        try:
            async with (
                asyncio.timeout_at(deadline),
                self._session().request(
                    method, url, data=body, headers=headers, allow_redirects=False
                ) as response,
            ):
                return await self._read(response, operation)
        except TimeoutError:
            failure = TimeoutError()
        except (aiohttp.ClientError, OSError) as exc:
            failure = exc
        # Outside of `except`: else what aiohttp raised would stay attached, with its URL.
        if type(failure) is TimeoutError:
            raise Unreachable(
                f"Connection timeout: no answer within {deadline - begun:.1f} s",
                provider=self._provider,
                operation=operation,
            )
        raise translated(failure, self._provider, operation) from (
            failure if isinstance(failure, OSError) else None
        )

    async def or_undone(
        self, work: Coroutine[Any, Any, T], undo: Callable[[T], Coroutine[Any, Any, Any]]
    ) -> T:
        """
        Do `work`, and if the caller is cancelled before it ends, let it end and undo it.

        Args:
            work: Ends by itself within a limit.
            undo: Takes back what came of it; its errors are nobody's.
        """
        task = self._own(work)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            self._own(_undone(task, undo))
            raise

    async def aclose(self) -> None:
        """End what is under way and close connections. Idempotent; bounded; never raises."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        await finish(self._closing)

    # --- Inside ---

    def _session(self) -> aiohttp.ClientSession:
        if self._http is None:
            self._http = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(resolver=self._resolver),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),
                headers={"Accept": "application/json", "User-Agent": "hitless"},
            )
        return self._http

    async def _read(self, response: aiohttp.ClientResponse, operation: str) -> Reply:
        body = bytearray()
        async for part in response.content.iter_chunked(64 * 1024):
            body += part
            if len(body) > BODY_MAX:
                raise ContractBroken(
                    f"HTTP {response.status} with more than {BODY_MAX // 1024} KiB",
                    provider=self._provider,
                    operation=operation,
                )
        request_id = response.headers.get("X-Request-ID", "")
        return Reply(
            status=response.status,
            body=bytes(body),
            request_id=request_id if _REQUEST_ID.fullmatch(request_id) else "",
            retry_after_s=retry_after_s(response.headers),
        )

    def _own(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work, name=f"{self._provider} control call")
        self._tasks.add(task)
        task.add_done_callback(self._disown)
        return task

    def _disown(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # retrieved: whoever waited has seen it, or nobody waits

    async def _close(self) -> None:
        until = asyncio.get_running_loop().time() + CLOSE_S
        while self._tasks and (left := until - asyncio.get_running_loop().time()) > 0:
            await asyncio.wait(self._tasks, timeout=left)
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)
        self._is_closed = True  # only now: what was cancelled may still have to be undone
        if self._http is not None:
            await self._http.close()


async def secret_of(
    credential: Credential, *, provider: str, operation: str, deadline: float
) -> str:
    """
    Return a credential's secret.

    Raises:
        CredentialsRejected: What should fetch it failed, had none, or took until `deadline`
            [s, the loop's clock].
        HitlessError: What it raised, if it is one of ours.
    """
    failed = "none"
    try:
        async with asyncio.timeout_at(deadline):
            value = await credential.value()
    except HitlessError:
        raise
    except Exception as exc:
        # Its message may hold a secret, so only its type is told.
        value, failed = None, type(exc).__name__
    if value:
        return value
    raise CredentialsRejected(
        f"no secret could be had ({failed} from the secret's function)",
        provider=provider,
        operation=operation,
        retry=Retry.NEXT,
        answered=False,
    )


def is_dns(error: BaseException) -> bool:
    """Whether an error of `Calls.send` says that a host name was not found."""
    cause = error.__cause__
    return isinstance(cause, socket.gaierror | aiohttp.ClientConnectorDNSError)


def quotable(text: str, secrets: Iterable[str]) -> str:
    """Return the beginning of a provider's words, or nothing if they repeat a secret."""
    if any(secret and secret in text for secret in secrets):
        return ""
    words = "".join(each if each.isprintable() else " " for each in text[: 4 * QUOTED_MAX])
    return " ".join(words.split())[:QUOTED_MAX]


def checked_origin(field: str, value: str) -> URL:
    """
    Return a configured base address of an API as a URL.

    Raises:
        ConfigError: It is no https address, and no http one of this machine (a stand-in).
    """
    try:
        url = URL(value)
        host, _ = url.host, url.port
    except ValueError:
        raise ConfigError(f"{field} is not a URL") from None
    if not host or url.user is not None or url.path not in ("", "/") or url.query_string:
        raise ConfigError(f"{field} must be like https://host, with nothing behind it")
    if url.scheme != "https" and not (url.scheme == "http" and is_loopback(host)):
        raise ConfigError(f"{field}: use https; plain http would show the credential")
    return url


def _where(exc: Exception) -> str:
    """Return where decoding failed; msgspec's words name fields and types, never values."""
    return quotable(str(exc), ()) if isinstance(exc, msgspec.DecodeError) else "not UTF-8"


async def _undone(task: asyncio.Task[T], undo: Callable[[T], Coroutine[Any, Any, Any]]) -> None:
    await asyncio.wait({task})
    if task.cancelled() or task.exception() is not None:
        return
    try:
        await undo(task.result())
    except HitlessError:
        pass  # the caller is gone; what is left ends by its own expiry
