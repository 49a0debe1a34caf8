"""
One RTMP connection (Adobe, "Real-Time Messaging Protocol 1.0"): handshake, commands, pings.

It runs on the loop: nothing blocks, and no thread can be left behind. What it sends counts as
taken only when the far side says so, see `rtmp_watermark`.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import struct
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from ..errors import HitlessError, StreamEnded
from . import amf, rtmp_errors
from .liveness import Liveness
from .rtmp_chunks import CHUNK_OUT, Joiner, Message, NotRtmp, Type, cut
from .rtmp_target import Target
from .rtmp_watermark import PING_S, WINDOW, Evidence, Watermark, acknowledge_soon, limit_kernel


CLOSE_S: Final = 0.5
"""How long the polite end of a connection may take [s]; then it is cut."""

_HANDSHAKE: Final = 1536
_STREAM_EOF, _SET_BUFFER_LENGTH, _PING_REQUEST, _PING_RESPONSE = 1, 3, 6, 7
_VIEW_BUFFER_MS: Final = 100
_ANSWER_S: Final = 0.1


Status = Mapping[str, amf.Value]
"""The information object of an onStatus: `level`, `code`, `description`."""


class RtmpSession(asyncio.Protocol):
    """
    One connection, used once.

    Args:
        target: Where to connect.
        provider, operation: For errors.
        liveness: Is told, under the name of the path, of each proof that bytes are taken.
        path_silence_s: Shortest silence of those that counts [s].
        take: Called with each message of media or data that arrives.
        status: Called with each onStatus once `publish` or `play` was accepted.
        keyed: Whether a credential is part of the address.
        pings: Whether to send ping requests.
    """

    def __init__(
        self,
        target: Target,
        *,
        provider: str,
        operation: str,
        liveness: Liveness,
        path_silence_s: float,
        take: Callable[[Message], None],
        status: Callable[[Status], None],
        keyed: bool = False,
        pings: bool = True,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._target = target
        self._words = rtmp_errors.Words(provider=provider, operation=operation, keyed=keyed)
        self.watermark = Watermark(liveness, path_silence_s)
        self._take, self._status = take, status
        self._pings = pings
        self._transport: asyncio.Transport | None = None
        self._gone: asyncio.Future[None] = self._loop.create_future()
        self._lost: asyncio.Future[None] = self._loop.create_future()
        self._stage, self._verb = "the connection", ""
        self._inbox = bytearray()
        self._joiner: Joiner | None = None
        self._shaken: asyncio.Future[None] = self._future()
        self._waiting: dict[float, asyncio.Future[list[amf.Value]]] = {}
        self._answer: asyncio.Future[None] | None = None
        self._calls = 0
        self._ticking: asyncio.TimerHandle | None = None
        self._their_window = self._told = 0
        self.stream = 0
        self.bytes_in = 0

    # --- Opening ---

    async def open(self, deadline: float) -> None:
        """
        Connect, shake hands, and have the application accepted.

        Raises:
            ProviderError: Not by `deadline` [s, the loop's clock], or refused.
            LocalFault: This machine has no network.
        """
        target = self._target
        tls = ssl.create_default_context() if target.tls else None
        try:
            async with asyncio.timeout_at(deadline):
                await self._loop.create_connection(
                    lambda: self,
                    target.address or target.host,
                    target.port,
                    ssl=tls,
                    server_hostname=target.host if target.tls else None,
                )
                await self._shaken
                await self._connect()
        except TimeoutError:
            raise self._words.timeout(self._stage) from None
        except OSError as exc:
            raise self._words.of_os(exc) from exc

    async def publish(self, deadline: float) -> None:
        """
        Begin to publish; media may be sent when it returns.

        Raises:
            ProviderError: Not accepted by `deadline` [s, the loop's clock].
        """
        name = self._target.name
        self._command("releaseStream", None, name)
        self._command("FCPublish", None, name)
        await self._begin("publish", deadline, name, "live")

    async def play(self, deadline: float, *, pictures: bool = True) -> None:
        """
        Begin to play. A server may accept and send nothing as long as nobody publishes.

        Args:
            deadline: When to give up [s, the loop's clock].
            pictures: False asks for sound only; not every server obeys.

        Raises:
            NotOnAir: It says that there is no such stream.
            ProviderError: Not accepted by `deadline`.
        """
        await self._begin("play", deadline, self._target.name, -2000.0)  # live, or else recorded
        if not pictures:
            self._command("receiveVideo", None, False, stream=self.stream)

    async def _begin(self, name: str, deadline: float, *values: amf.Value) -> None:
        self._stage = self._verb = name
        self._answer = self._future()
        try:
            async with asyncio.timeout_at(deadline):
                created = await self._call("createStream")
                number = created[1] if len(created) > 1 else None
                if not isinstance(number, float) or not 1 <= number < 1 << 32:
                    raise self._words.broken("createStream gave no stream")
                self.stream = int(number)
                if name == "play":  # nothing behind it: see `_answered_or_ponged`
                    self._control(_SET_BUFFER_LENGTH, self.stream, _VIEW_BUFFER_MS)
                self._command(name, None, *values, stream=self.stream)
                await (self._answered_or_ponged() if name == "play" else self._answer)
        except TimeoutError:
            raise self._words.timeout(self._stage) from None

    def runs(self) -> None:
        """Note that media flows: from now on a connection that ends is a loss, not a refusal."""
        self._stage = ""

    async def _answered_or_ponged(self) -> None:
        """
        Wait until the server said yes or no to play.

        One that lets a player wait for a publisher may say nothing at all: a pong must do then,
        and without pings that it made the stream to play on. It is asked for a pong only when it
        had time to say no and hang up: what it has not read by then would take its word along.
        """
        assert self._answer is not None
        if self._pings:
            await asyncio.wait([self._answer], timeout=_ANSWER_S)
        asked, marked = self.watermark.sent, self.watermark
        self.ping()
        while self._pings and not self._answer.done() and marked.taken(Evidence.PONG) < asked:
            marked.progressed.clear()
            news: asyncio.Future[Any] = asyncio.ensure_future(marked.progressed.wait())
            try:
                await asyncio.wait([self._answer, news], return_when=asyncio.FIRST_COMPLETED)
            finally:
                news.cancel()
        if not self._answer.done():
            self._answer.set_result(None)  # what it says from now on is news
        self._answer.result()

    async def _connect(self) -> None:
        self._stage = "connect"
        self.send(self._protocol(Type.SET_CHUNK_SIZE, CHUNK_OUT))
        await self._call(
            "connect",
            {
                "app": self._target.app,
                "type": "nonprivate",
                "flashVer": "FMLE/3.0 (compatible; hitless)",
                "tcUrl": self._target.url,
                "fpad": False,
                "capabilities": 15.0,
                "audioCodecs": 4071.0,
                "videoCodecs": 252.0,
                "videoFunction": 1.0,
            },
        )
        self.send(self._protocol(Type.WINDOW_ACKNOWLEDGEMENT_SIZE, WINDOW))
        self._tick()

    # --- Running ---

    def send(self, message: Message) -> int:
        """Send a message; return how many bytes will have been sent then. Never blocks."""
        data = cut(message)
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)
            self.watermark.sent += len(data)
        return self.watermark.sent

    def ping(self) -> None:
        """Ask for an answer to all that was sent so far."""
        if self._pings:
            self._control(_PING_REQUEST, self.watermark.pinged())

    @property
    def unwritten(self) -> int:
        """Bytes that our own kernel has not taken yet."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    @property
    def is_lost(self) -> bool:
        """Whether the connection is lost, or was closed by us."""
        return self._lost.done()

    async def lost(self) -> None:
        """Wait until the connection is lost, and say why. Cancelling is safe."""
        await asyncio.shield(self._lost)

    def fail(self, because: HitlessError) -> None:
        """End it for a reason. Idempotent: the first reason stays."""
        if not self._lost.done():
            self._lost.set_exception(because)
            self._lost.exception()  # retrieved: nobody has to wait for it
        for waiting in (self._shaken, self._answer, *self._waiting.values()):
            if waiting is not None and not waiting.done():
                waiting.set_exception(because)
        if self._ticking is not None:
            self._ticking.cancel()
        self.watermark.progressed.set()

    async def aclose(self) -> None:
        """Say goodbye and disconnect. Idempotent; never raises; at most twice `CLOSE_S`."""
        transport, words = self._transport, self._words
        if transport is not None and not transport.is_closing() and not self._lost.done():
            if self.stream and self._verb == "publish":
                self._command("FCUnpublish", None, self._target.name)
            if self.stream:
                self._command("deleteStream", None, float(self.stream))
        self.fail(StreamEnded(f"{words.provider}: the leg was closed"))
        if transport is None:
            return
        transport.close()
        if not (await asyncio.wait({self._gone}, timeout=CLOSE_S))[0]:
            transport.abort()  # it takes nothing any more
            await asyncio.wait({self._gone}, timeout=CLOSE_S)

    # --- As asyncio's protocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        limit_kernel(self._transport)
        self._stage = "the handshake"
        hello = b"\x03" + bytes(8) + os.urandom(_HANDSHAKE - 8)
        self._transport.write(hello)
        self.watermark.sent += len(hello)

    def data_received(self, data: bytes) -> None:
        self.bytes_in += len(data)
        if self._transport is not None:
            acknowledge_soon(self._transport)
        try:
            if self._joiner is None:
                data = self._shake(data)
            if self._joiner is not None:
                for message in self._joiner.feed(data):
                    self._receive(message)
        except (NotRtmp, amf.NotAmf, struct.error) as exc:
            self.fail(self._words.broken(f"it does not speak RTMP: {exc}"))
            if self._transport is not None:
                self._transport.abort()
            return
        self._acknowledge()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._gone.done():
            self._gone.set_result(None)
        self.fail(self._words.closed(self._stage, exc))

    # --- Inside ---

    def _shake(self, data: bytes) -> bytes:
        """Take the server's part of the handshake; return what follows it."""
        self._inbox += data
        if self._inbox and self._inbox[0] != 3:
            raise NotRtmp(f"version {self._inbox[0]}")
        if len(self._inbox) < 1 + 2 * _HANDSHAKE:
            return b""
        assert self._transport is not None
        self._transport.write(self._inbox[1 : 1 + _HANDSHAKE])
        self.watermark.sent += _HANDSHAKE
        rest = bytes(self._inbox[1 + 2 * _HANDSHAKE :])
        self._inbox.clear()
        self._joiner = Joiner()
        if not self._shaken.done():
            self._shaken.set_result(None)
        return rest

    def _receive(self, message: Message) -> None:
        body = message.payload
        match message.type:
            case Type.ACKNOWLEDGEMENT if len(body) >= 4:
                self.watermark.acknowledged(int.from_bytes(body[:4]))
            case Type.USER_CONTROL if len(body) >= 6:
                self._controlled(int.from_bytes(body[:2]), int.from_bytes(body[2:6]))
            case Type.WINDOW_ACKNOWLEDGEMENT_SIZE if len(body) >= 4:
                self._their_window = int.from_bytes(body[:4])
            case Type.AUDIO | Type.VIDEO | Type.DATA | Type.AGGREGATE:
                self._take(message)
            case Type.COMMAND:
                self._commanded(amf.decode(body))
            case Type.COMMAND_AMF3:
                self._commanded(amf.decode(body[1:]))

    def _controlled(self, event: int, value: int) -> None:
        if event == _PING_REQUEST:
            self._control(_PING_RESPONSE, value)
        elif event == _PING_RESPONSE:
            self.watermark.ponged(value)
        elif event == _STREAM_EOF and self._is_begun:
            self._status({"level": "status", "code": "NetStream.EOF"})

    def _commanded(self, values: list[amf.Value]) -> None:
        name, number, *rest = [*values, None, None][: max(len(values), 2)]
        info = next((each for each in reversed(rest) if isinstance(each, Mapping)), {})
        if name in ("_result", "_error") and isinstance(number, float):
            waiting = self._waiting.pop(number, None)
            if waiting is None or waiting.done():
                return  # nobody waits: releaseStream and FCPublish
            if name == "_error":
                waiting.set_exception(self._words.refused(self._stage, info))
            else:
                waiting.set_result(rest)
        elif name == "onStatus":
            self._told_status(info)

    def _told_status(self, info: Status) -> None:
        if self._is_begun:
            self._status(info)
            return
        refusal = self._words.refusal_of(self._stage, info)
        if self._answer is None:
            return
        if refusal is not None:
            self._answer.set_exception(refusal)
        elif str(info.get("code", "")).startswith("NetStream."):
            self._answer.set_result(None)

    @property
    def _is_begun(self) -> bool:
        """Whether publish or play was answered: what comes now is news."""
        return self._answer is not None and self._answer.done()

    def _tick(self) -> None:
        self.ping()
        if self._transport is not None:
            self.watermark.look(self._transport)
        self._ticking = self._loop.call_later(PING_S, self._tick)

    def _acknowledge(self) -> None:
        """Acknowledge what we read, as the far side asked (section 5.4.3)."""
        if self._their_window and self.bytes_in - self._told >= self._their_window // 2:
            self._told = self.bytes_in
            self.send(self._protocol(Type.ACKNOWLEDGEMENT, self.bytes_in & 0xFFFFFFFF))

    async def _call(self, name: str, *values: amf.Value) -> list[amf.Value]:
        waiting = self._waiting[float(self._calls + 1)] = self._future()
        if self._lost.done():
            self._lost.result()
        self._command(name, *(values or (None,)))
        found: list[amf.Value] = await waiting
        return found

    def _command(self, name: str, *values: amf.Value, stream: int = 0) -> None:
        self._calls += 1
        data = amf.encode(name, float(self._calls), *values)
        self.send(Message(type=Type.COMMAND, payload=data, stream=stream))

    def _control(self, event: int, *values: int) -> None:
        body = struct.pack(f">H{len(values)}I", event, *values)
        self.send(Message(type=Type.USER_CONTROL, payload=body))

    def _protocol(self, kind: Type, value: int) -> Message:
        return Message(type=kind, payload=struct.pack(">I", value))

    def _future(self) -> asyncio.Future[Any]:
        """Return a future whose failure nobody need look at (Any: of several results)."""
        future: asyncio.Future[Any] = self._loop.create_future()
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        return future
