"""
The signalling of Janus: one session over one WebSocket, and its handles.

A request bears a transaction that its answer repeats. A plugin's asynchronous requests are
answered twice: `ack` at once, and later the `event` that counts. Whatever comes without a
transaction is news of a handle: candidates, `hangup`, `media`, a publisher that leaves.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
from yarl import URL

from ..errors import (
    ContractBroken,
    CredentialsRejected,
    HitlessError,
    MediaLost,
    ProviderError,
    Retry,
    StreamEnded,
    Unreachable,
)
from ..media.closing import finish
from .credential import Credential
from .janus_errors import Complaint, JanusError, error_of, not_opened
from .janus_handle import Handle, Losable, Message, complaint_of, object_of


PLUGIN: Final = "janus.plugin.videoroom"
MESSAGE_MAX: Final = 256 * 1024
"""Largest message that is read [bytes]; a description with many candidates has some 10 KB."""

ANSWERS: Final = frozenset({"success", "event"})
"""What answers a request for good; `ack` only says that it came."""

LEAVE_S: Final = 1.0
"""How long the polite end of a session may take [s]; Janus ends it with the socket as well."""

KEEPALIVE_S: Final = 20.0
"""Time between two signs of life [s]: Janus forgets a session after `session_timeout`, 60 s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Secrets:
    """What opens Janus and its rooms; None: not needed. Never shown."""

    api_secret: str | None = field(default=None, repr=False)
    admin_key: str | None = field(default=None, repr=False)
    room_secret: str | None = field(default=None, repr=False)
    room_pin: str | None = field(default=None, repr=False)
    room_token: str | None = field(default=None, repr=False)

    def all(self) -> frozenset[str]:
        """Every secret there is."""
        found = (
            self.api_secret,
            self.admin_key,
            self.room_secret,
            self.room_pin,
            self.room_token,
        )
        return frozenset(each for each in found if each)


class Session(Losable):
    """
    One session at Janus, over a socket of its own: it ends with the socket.

    Made by `Session.open`; always closed.

    Attributes:
        provider: Name for errors.
        operation: `publish` or `view`, for errors.
        secrets: What opens Janus and its rooms.
    """

    def __init__(
        self,
        socket: aiohttp.ClientWebSocketResponse,
        *,
        provider: str,
        operation: str,
        secrets: Secrets,
        credential: Credential,
        keepalive_s: float,
    ) -> None:
        super().__init__()
        self.provider = provider
        self.operation = operation
        self.secrets = secrets
        self._socket = socket
        self._credential = credential
        self._keepalive_s = keepalive_s
        self._id: int | None = None
        self._count = 0
        self._waiting: dict[str, tuple[frozenset[str], asyncio.Future[Message]]] = {}
        self._handles: dict[int, Handle] = {}
        self._token: str | None = None
        self._has_answered = False
        self._closing: asyncio.Task[None] | None = None
        self._tasks = [asyncio.create_task(self._read(), name=f"{provider} signalling")]

    @classmethod
    async def open(
        cls, http: aiohttp.ClientSession, url: URL, deadline: float, **settings: Any
    ) -> Session:
        """
        Connect and create a session.

        Args:
            http: Opens the socket.
            url: `ws://` or `wss://`.
            deadline: When to give up [s, the loop's clock].
            settings: See the attributes; `credential` and `keepalive_s` [s] besides.

        Raises:
            ProviderError: It cannot be reached, or says no.
            LocalFault: This machine has no network.
        """
        provider, operation = settings["provider"], settings["operation"]
        failure: aiohttp.ClientError | OSError | None = None
        try:
            async with asyncio.timeout_at(deadline):
                socket = await http.ws_connect(
                    url,
                    protocols=("janus-protocol",),
                    max_msg_size=MESSAGE_MAX,
                    timeout=aiohttp.ClientWSTimeout(ws_close=LEAVE_S / 2),
                )
        except (aiohttp.ClientError, OSError) as exc:
            failure = exc
        if failure is not None:
            # Outside of `except`: else what aiohttp raised would stay attached, with the URL.
            cause = failure if isinstance(failure, OSError) else None
            raise not_opened(failure, provider, operation) from cause
        session = cls(socket, **settings)
        try:
            answer = await session.request({"janus": "create"}, deadline)
            session._id = session._number(answer)
            session._credential.accepted(operation)
        except BaseException:
            await session.aclose()
            raise
        session._tasks.append(
            asyncio.create_task(session._keep_alive(), name=f"{provider} keepalive")
        )
        return session

    async def attach(self, deadline: float) -> Handle:
        """
        Attach to VideoRoom.

        Raises:
            ProviderError: It says no, or nothing by `deadline` [s, the loop's clock].
        """
        answer = await self.request({"janus": "attach", "plugin": PLUGIN}, deadline)
        handle = Handle(self, self._number(answer))
        self._handles[handle.id] = handle
        return handle

    async def request(
        self, message: Message, deadline: float, *, until: frozenset[str] = ANSWERS
    ) -> Message:
        """
        Send a request, and return the answer that counts; see `ask`.

        Raises:
            HitlessError: It says no, or nothing in time, or the session is lost.
        """
        try:
            return await self.ask(message, deadline, until=until)
        except JanusError as exc:
            raise self.error(exc.complaint) from exc

    async def ask(
        self, message: Message, deadline: float, *, until: frozenset[str] = ANSWERS
    ) -> Message:
        """
        Send a request, and return the answer that counts; for who has a use for complaints.

        Args:
            message: Without session, transaction and credentials.
            deadline: When to give up [s, the loop's clock].
            until: Which kinds of answer count; `error` always does.

        Raises:
            JanusError: It says no.
            HitlessError: It says nothing in time, or the session is lost.
        """
        self._count += 1
        transaction = str(self._count)
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._waiting[transaction] = until, answer
        try:
            async with asyncio.timeout_at(deadline):
                await self._send(message | {"transaction": transaction})
                either: set[asyncio.Future[Any]] = {answer, self._lost}
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            raise self._unanswered(message) from None
        finally:
            del self._waiting[transaction]
        if not answer.done():
            raise self._lost_while_asking()
        complaint = complaint_of(answer.result())
        if complaint is not None:
            raise JanusError(complaint)
        return answer.result()

    async def tell(self, message: Message, deadline: float) -> None:
        """
        Send what needs no answer.

        Raises:
            Unreachable: It could not be sent by `deadline` [s, the loop's clock].
        """
        try:
            async with asyncio.timeout_at(deadline):
                await self._send(message | {"transaction": "told"})
        except TimeoutError:
            raise self._unanswered(message) from None

    def error(self, complaint: Complaint, operation: str | None = None) -> HitlessError:
        """Return the error that a complaint means here."""
        return error_of(
            complaint,
            provider=self.provider,
            operation=operation or self.operation,
            secrets=self.secrets.all() | ({self._token} if self._token else set()),
            rejected=self._rejected,
        )

    def forget(self, handle: Handle) -> None:
        """Expect no news of a handle any more."""
        self._handles.pop(handle.id, None)

    async def aclose(self) -> None:
        """End the session and close the socket. Idempotent; at most 2 s; never raises."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(), name=f"{self.provider} leaving")
        await finish(self._closing)

    # --- Inside ---

    async def _send(self, message: Message) -> None:
        if self._closing is not None and message["janus"] != "destroy":
            raise StreamEnded(f"{self.provider}: {self.operation} failed: it was closed")
        if message["janus"] in ("create", "keepalive"):
            self._token = await self._fetch_token()
        if self._id is not None:
            message = message | {"session_id": self._id}
        if self.secrets.api_secret is not None:
            message = message | {"apisecret": self.secrets.api_secret}
        if self._token is not None:
            message = message | {"token": self._token}
        try:
            await self._socket.send_str(json.dumps(message))
        except (aiohttp.ClientError, OSError):
            self.lose(self._cut())  # whoever waits for the answer is told

    async def _fetch_token(self) -> str | None:
        try:
            return await self._credential.value()
        except HitlessError:
            raise
        except Exception as exc:
            # Its message may hold a secret, so only its type is told.
            raise CredentialsRejected(
                f"no token could be had ({type(exc).__name__} in the token function)",
                provider=self.provider,
                operation=self.operation,
                retry=Retry.NEXT,
                answered=False,
            ) from exc

    def _rejected(self) -> Retry:
        return self._credential.rejected(self.operation, self._token)

    async def _read(self) -> None:
        try:
            async for news in self._socket:
                if news.type is not aiohttp.WSMsgType.TEXT:
                    continue
                message = json.loads(news.data)
                if not isinstance(message, dict):
                    raise ValueError("not an object")
                self._has_answered = True
                self._route(message)
        except ValueError as exc:
            self.lose(
                ContractBroken(
                    f"it sent what is no message of Janus ({type(exc).__name__})",
                    provider=self.provider,
                    operation=self.operation,
                )
            )
        finally:
            self.lose(self._cut())

    def _route(self, message: Message) -> None:
        kind = str(message.get("janus"))
        until, answer = self._waiting.get(str(message.get("transaction")), (None, None))
        if until is not None and answer is not None:
            if (kind in until or kind == "error") and not answer.done():
                answer.set_result(message)
            return
        if kind == "timeout":
            self.lose(self._ended("its session timed out"))
        sender = message.get("sender")
        handle = self._handles.get(sender) if isinstance(sender, int) else None
        if handle is not None:
            handle.hear(kind, message)

    async def _keep_alive(self) -> None:
        loop = asyncio.get_running_loop()
        while not self.is_lost:
            await asyncio.sleep(self._keepalive_s)
            with contextlib.suppress(HitlessError):  # liveness and the socket judge, not this
                await self.request(
                    {"janus": "keepalive"},
                    loop.time() + self._keepalive_s,
                    until=frozenset({"ack"}),
                )

    async def _close(self) -> None:
        deadline = asyncio.get_running_loop().time() + LEAVE_S / 2
        for task in self._tasks[1:]:
            task.cancel()
        if self._id is not None and not self.is_lost:
            with contextlib.suppress(HitlessError, JanusError):
                await self.ask({"janus": "destroy"}, deadline)
        with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
            async with asyncio.timeout(LEAVE_S):
                await self._socket.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        self.lose(self._ended("closed by us"))

    def _number(self, answer: Message) -> int:
        """Return the number of what was created."""
        found = answer.get("data")
        if not isinstance(found, dict) or not isinstance(found.get("id"), int):
            raise ContractBroken(
                "it created something without a number",
                provider=self.provider,
                operation=self.operation,
            )
        return int(found["id"])

    def lose(self, error: ProviderError) -> None:
        """See `Losable.lose`; its handles are lost with it."""
        super().lose(error)
        for handle in tuple(self._handles.values()):
            handle.lose(error)

    def _lost_while_asking(self) -> ProviderError:
        error = self._lost.exception()
        if isinstance(error, MediaLost):  # there is no media to lose yet
            return Unreachable(
                error.because,
                provider=self.provider,
                operation=self.operation,
                answered=self._has_answered,
            )
        assert isinstance(error, ProviderError)
        return error

    def _unanswered(self, message: Message) -> Unreachable:
        return Unreachable(
            f"Connection timeout: no answer to {_name(message)}",
            provider=self.provider,
            operation=self.operation,
            answered=self._has_answered,
        )

    def _cut(self) -> ProviderError:
        return self._ended("its signalling socket was closed")

    def _ended(self, because: str) -> MediaLost:
        return MediaLost(because, provider=self.provider, operation=self.operation)


def _name(message: Message) -> str:
    """Return what a request is called: the plugin's own word, or the core's."""
    return str(object_of(message.get("body")).get("request", message["janus"]))
