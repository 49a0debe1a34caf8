"""
One WebSocket to the control plane, kept up: hello, messages both ways, full-jitter reconnects.

Where no WebSocket comes through, a proxy of a company perhaps, the same is said by REST.

What waits to be sent is bounded and is thrown away with the connection it was for: whoever uses
the link says anew, from state, what matters (`connected`).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import aiohttp
import msgspec

from ..media.closing import finish
from . import protocol
from .telemetry import log


RETRY_S: Final = 0.5
RETRY_S_MAX: Final = 10.0
"""
Reconnects wait a random time up to this, doubled each time up to the cap [s]. A connection that
lasted for less than the cap does not start it again: a server that welcomes and dies is no better.
"""
QUEUE_MAX: Final = 256
"""Messages that wait to be sent; the oldest go first."""
CLOSE_S_MAX: Final = 1.0
REST_AFTER: Final = 3
"""After so many tries in vain each second one is by REST."""
REST_WAIT_S: Final = 25.0
"""How long a call waits for news [s]; proxies end what is quiet for longer."""
ANSWER_BYTES_MAX: Final = QUEUE_MAX * protocol.MESSAGE_BYTES_MAX
HEARTBEAT_S: Final = 10.0
"""A server that answers no ping within half of this is gone [s]."""

_DATA: Final = (aiohttp.WSMsgType.BINARY, aiohttp.WSMsgType.TEXT)
UNREADABLE: Final = (ValueError, RecursionError)
"""Raised by reading a message that is no JSON, no UTF-8, none of ours, or endlessly deep."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """
    Who is at our end of the link.

    Attributes:
        hello: Returns the first message of a connection.
        hear: Takes each message of the server after its welcome, or why there is none.
        connected: Called after the welcome; says what may have been lost.
        lost: Called with the reason when a connection that was welcomed ends.
        report: Called every `report_s` of the server.
    """

    hello: Callable[[], protocol.Hello]
    hear: Callable[[protocol.Down], None]
    connected: Callable[[protocol.Welcome], None]
    lost: Callable[[str], None]
    report: Callable[[], None]


class Link:
    """
    Connects when `open` is called, and again whenever the connection ends, until `aclose`.

    Args:
        url: Of the server.
        headers: They hold the key: never printed.
        http: Gives the session to connect with.
        timeout_s: How long a connection and its welcome may take [s].
        rng: Decides the jitter.
        ends: Our end.
    """

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str],
        http: Callable[[], aiohttp.ClientSession],
        timeout_s: float,
        rng: random.Random,
        ends: Ends,
    ) -> None:
        self._url, self._headers, self._http = url, headers, http
        self._timeout_s, self._rng, self._ends = timeout_s, rng, ends
        self._outbox: asyncio.Queue[protocol.Up] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self.is_connected = False

    def open(self) -> None:
        """Begin to connect. Idempotent; once closed it stays closed."""
        if self._task is None and self._closing is None:
            self._task = asyncio.create_task(self._keep(), name="hitless: control link")

    def send(self, message: protocol.Up) -> None:
        """Send as soon as possible; while there is no connection nothing is kept."""
        if not self.is_connected:
            return
        if self._outbox.qsize() >= QUEUE_MAX:
            self._outbox.get_nowait()
            self._outbox.task_done()
        self._outbox.put_nowait(message)

    async def aclose(self) -> None:
        """
        Send what waits, and let go. Idempotent; never raises; completes under cancellation.

        What waits has `CLOSE_S_MAX`, and so has the farewell.
        """
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(), name="hitless: end of control link")
        await finish(self._closing)

    async def _close(self) -> None:
        if self._task is None:
            return
        if self.is_connected:
            try:
                async with asyncio.timeout(CLOSE_S_MAX):
                    await self._outbox.join()
            except TimeoutError:
                pass
        while not self._task.done():  # once more where a farewell goes to a peer that is stuck
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=CLOSE_S_MAX)

    async def _keep(self) -> None:
        clock = asyncio.get_running_loop().time
        tries = 0
        while self._closing is None:
            because, begun_s = "the server closed it", clock()
            try:
                await (self._call_by_call() if _is_rest(tries) else self._connect())
            except* (aiohttp.ClientError, OSError, *UNREADABLE) as group:
                because = f"the connection broke: {type(group.exceptions[0]).__name__}"
            except* Exception as group:  # whoever hears has failed, and is to hear the next one
                because = "a defect here"
                log.error("hearing the control plane failed", exc_info=group.exceptions[0])
            if self.is_connected:
                self.is_connected = False
                self._empty()
                if clock() - begun_s >= RETRY_S_MAX:
                    tries = 0
                self._ends.lost(because)
            pause_s = min(RETRY_S_MAX, RETRY_S * 2.0 ** min(tries, 10))
            await asyncio.sleep(self._rng.uniform(0.0, pause_s))
            tries += 1

    async def _connect(self) -> None:
        """One connection, from the first word to its end."""
        until_s = asyncio.get_running_loop().time() + self._timeout_s
        async with asyncio.timeout_at(until_s):
            socket = await self._http().ws_connect(
                f"{self._url}/v1/connect",
                headers=self._headers,
                heartbeat=HEARTBEAT_S,
                max_msg_size=protocol.MESSAGE_BYTES_MAX,
                timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_S_MAX),
            )
        async with socket, asyncio.TaskGroup() as group:
            async with asyncio.timeout_at(until_s):
                await socket.send_bytes(protocol.encode(self._ends.hello()))
                welcome = protocol.decode_down(await _received(socket))
            if not isinstance(welcome, protocol.Welcome):
                if isinstance(welcome, protocol.Problem):
                    self._ends.hear(welcome)
                raise aiohttp.ClientError("no welcome")
            self.is_connected = True
            self._ends.connected(welcome)
            helpers = [
                group.create_task(self._send_all(socket)),
                group.create_task(self._report(welcome.report_s)),
            ]
            await self._hear_all(socket)
            for helper in helpers:
                helper.cancel()

    async def _hear_all(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        """Hear until the end; what a newer server says besides is skipped, and told of once."""
        skipped = 0
        async for message in socket:
            if message.type not in _DATA:
                raise aiohttp.ClientError("not a WebSocket any more")
            try:
                heard = protocol.decode_down(message.data)
            except UNREADABLE as exc:
                skipped += 1
                if skipped == 1:
                    log.warning(
                        "the control plane said what we do not know", error=type(exc).__name__
                    )
            else:
                self._ends.hear(heard)

    async def _send_all(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        while True:
            message = await self._outbox.get()
            try:
                await socket.send_bytes(protocol.encode(message))
            finally:
                self._outbox.task_done()

    async def _call_by_call(self) -> None:
        """The same by REST, from the first word to the end of the conversation."""
        hello = self._ends.hello()
        first = await self._exchange(hello.client, [hello])
        welcome, more = next(iter(first), None), first[1:]
        if not isinstance(welcome, protocol.Welcome):
            self._hear_each(one for one in first if isinstance(one, protocol.Problem))
            raise aiohttp.ClientError("no welcome")
        self.is_connected = True
        self._ends.connected(welcome)
        self._hear_each(more)

        async def listen() -> None:
            while True:
                self._hear_each(await self._exchange(hello.client, [], REST_WAIT_S))

        async def speak() -> None:
            while True:
                said = [await self._outbox.get()]
                while not self._outbox.empty():
                    said.append(self._outbox.get_nowait())
                try:
                    self._hear_each(await self._exchange(hello.client, said))
                finally:
                    for _ in said:
                        self._outbox.task_done()

        async with asyncio.TaskGroup() as group:
            group.create_task(listen())
            group.create_task(speak())
            group.create_task(self._report(welcome.report_s))

    async def _exchange(
        self, client: str, said: Sequence[protocol.Up], wait_s: float = 0.0
    ) -> list[protocol.Down]:
        """
        Bring messages up and return those that come down; a newer call ends one that waits.

        Raises:
            ClientError, TimeoutError: There is no answer, or the conversation is over.
        """
        messages = [msgspec.json.decode(protocol.encode(one)) for one in said]
        body = {"client": client, "messages": messages, "wait_s": wait_s}
        async with (
            asyncio.timeout(wait_s + self._timeout_s),
            self._http().post(
                f"{self._url}/v1/exchange",
                json=body,
                headers=self._headers,
                allow_redirects=False,
            ) as answer,
        ):
            if answer.status != 200:
                raise aiohttp.ClientError(f"HTTP {answer.status}")
            data = bytearray()
            async for part in answer.content.iter_any():
                data += part
                if len(data) > ANSWER_BYTES_MAX:
                    raise aiohttp.ClientError("the answer is too long")
            told = msgspec.json.decode(data, type=_Exchanged)
        return [protocol.decode_down(bytes(one)) for one in told.data.messages]

    def _hear_each(self, heard: Iterable[protocol.Down]) -> None:
        for one in heard:
            self._ends.hear(one)

    async def _report(self, interval_s: float) -> None:
        while True:
            await asyncio.sleep(max(interval_s, 0.1))
            self._ends.report()

    def _empty(self) -> None:
        while not self._outbox.empty():
            self._outbox.get_nowait()
            self._outbox.task_done()


class _Messages(msgspec.Struct):
    messages: list[msgspec.Raw]


class _Exchanged(msgspec.Struct):
    data: _Messages


def _is_rest(tries: int) -> bool:
    return tries >= REST_AFTER and tries % 2 == 1


async def _received(socket: aiohttp.ClientWebSocketResponse) -> bytes | str:
    message = await socket.receive()
    if message.type not in _DATA:
        raise aiohttp.ClientError("closed before its welcome")
    data: bytes | str = message.data
    return data
