"""
The RTMP side of a stand-in: a small server on loopback (Adobe, "RTMP 1.0", 2012).

It says what publishers and players need: handshake, connect, createStream, publish, play,
deleteStream, answers to pings, and acknowledgements by window, by which a publisher knows what
was read. Enhanced RTMP, AMF3, aggregates and RTMPS are not spoken. Who may come in, and where
the media goes, is `rtmp_reception.py`.

Everything has a limit; whoever passes one is cut off: connections, the time to shake hands and to
say what is wanted, the size of messages, and what waits to be sent to somebody who reads slowly.
"""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import Callable, Mapping
from typing import Final, Protocol, cast

import structlog

from ..errors import ConfigError, HitlessError
from ..media import amf
from ..media.rtmp_chunks import CHUNK_OUT, Joiner, Message, NotRtmp, Type, cut
from .faults import Injected
from .rtmp_ingest import Ingest, Player


CONNECTIONS_MAX: Final = 500
"""Connections at a time; one more is closed at once."""
HANDSHAKE_S_MAX: Final = 3.0
"""Hands are shaken within this time [s]."""
WANTED_S_MAX: Final = 10.0
"""And it is said what is wanted within this time after that [s]."""
REFUSED_S_MAX: Final = 1.0
"""Who was refused is read for so long [s], so that the answer is not lost with a reset."""
CLOSE_S_MAX: Final = 0.3
"""A connection is flushed within this time at its end [s]; then it is cut."""
HELD_MAX: Final = 6 * 1024 * 1024
"""Bytes kept of messages that are not complete, per connection: a keyframe of 4 MiB fits."""
UNSENT_MAX: Final = 1024 * 1024
"""Bytes that wait to be sent to one peer: 8 s at 1 Mbit/s."""
WINDOW: Final = 64 * 1024
"""Bytes after which a peer is asked to acknowledge; and the longest window that it may ask for
is not limited, the shortest is `WINDOW_MIN`."""
WINDOW_MIN: Final = 1024
PING_S: Final = 4.0
"""Time between two ping requests to a player [s]: one that is alive is heard then."""
TICK_S: Final = 0.05
"""How often it is looked whether the fault `gray-ingest` is on [s]."""

_HANDSHAKE: Final = 1536
_STREAM_BEGIN, _PING_REQUEST, _PING_RESPONSE = 0, 6, 7
_DYNAMIC: Final = 2

log: Final = structlog.get_logger()


class Rejection(HitlessError):
    """
    A publish or play that is answered with an error.

    Attributes:
        code: As RTMP has it.
        because: Why, for people; quotes no credential.
    """

    def __init__(self, code: str, because: str) -> None:
        super().__init__(because)
        self.code, self.because = code, because


class House(Protocol):
    """What is behind the door."""

    async def publish(self, connection: Connection, app: str, name: str, host: str) -> Ingest:
        """
        Take a publisher.

        Args:
            connection: Its own; it carries the session.
            app, name: Of the address.
            host: What the publisher calls this server.

        Raises:
            Rejection: It may not.
        """

    async def play(self, connection: Connection, app: str, name: str, host: str) -> Player:
        """Take a player, likewise; it is attached by the connection."""


class RtmpDoor:
    """
    Listens for publishers and players.

    Args:
        house: Who they are let in by.
        injected: The faults that are on.
        host: Address it listens on.
    """

    def __init__(self, house: House, injected: Injected, *, host: str = "127.0.0.1") -> None:
        self.house, self.injected = house, injected
        self._host = host
        self._server: asyncio.Server | None = None
        self._keeper: asyncio.Task[None] | None = None
        self.connections: set[Connection] = set()

    async def start(self, port: int = 0) -> str:
        """
        Listen; return the URL without application and name.

        Raises:
            ConfigError: The address cannot be had.
        """
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(lambda: Connection(self), self._host, port)
        except OSError as fault:
            raise ConfigError(f"cannot listen on {self._host}:{port}: {fault.strerror}") from fault
        self._keeper = asyncio.create_task(self._keep(), name="stand rtmp")
        return f"rtmp://{self._host}:{self._server.sockets[0].getsockname()[1]}"

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(TICK_S)
            for connection in tuple(self.connections):
                connection.tick(loop.time())

    async def aclose(self) -> None:
        """Listen no more and cut off whoever is left. Idempotent; within `CLOSE_S_MAX`."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait({self._keeper})
            self._keeper = None
        if self._server is not None:
            self._server.close()
            self._server = None
        if self.connections:
            await asyncio.gather(*(each.aclose() for each in tuple(self.connections)))


class Connection(asyncio.Protocol):
    """
    One connection: it shakes hands, is asked for one thing, and carries it. A `session.Peer`.

    Attributes:
        address: The peer's IP address.
        heard_s: When media came of a publisher, or anything of a player [s, the loop's clock].
        is_connected: Whether publish or play was accepted.
        on_gone: Called when the connection is lost, or its peer asked to leave.
    """

    def __init__(self, door: RtmpDoor) -> None:
        self._door, self._loop = door, asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._gone: asyncio.Future[None] = self._loop.create_future()
        self._asking: asyncio.Task[None] | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._inbox, self._unread = bytearray(), bytearray()
        self._joiner: _Joiner | None = None
        self._is_shaken = self._is_over = False
        self._app, self._host = "", ""
        self._ingest: Ingest | None = None
        self._player: Player | None = None
        self._window = self._read = self._told = 0
        self._pinged_s = 0.0
        self.address = ""
        self.heard_s = self._loop.time()
        self.is_connected = False
        self.on_gone: Callable[[], None] = _do_nothing

    # --- As `session.Peer` ---

    def behind_s(self, now: float) -> float:
        """Return 0: what is not read waits in the kernel, and its publisher notices."""
        return 0.0

    def overflowed(self) -> int:
        """Return 0: TCP loses nothing."""
        return 0

    async def aclose(self) -> None:
        """Say that it is over, and disconnect. Idempotent; within twice `CLOSE_S_MAX`."""
        if not self._is_over and not self._door.injected.is_mute:
            if self._ingest is not None:
                self._status("status", "NetStream.Unpublish.Success", "the stream was ended")
            elif self._player is not None:
                self._status("status", "NetStream.Play.UnpublishNotify", "the stream was ended")
        self._end()
        if self._transport is None:
            return
        self._transport.close()
        if not (await asyncio.wait({self._gone}, timeout=CLOSE_S_MAX))[0]:
            self._transport.abort()
            await asyncio.wait({self._gone}, timeout=CLOSE_S_MAX)

    # --- As asyncio's protocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if len(self._door.connections) >= CONNECTIONS_MAX:
            self._cut("too many connections")
            return
        self.address = str((transport.get_extra_info("peername") or ("",))[0])
        self._door.connections.add(self)
        self._until(HANDSHAKE_S_MAX)

    def data_received(self, data: bytes) -> None:
        if self._is_mute:
            self._unread += data
            self._pause()
            return
        if self._is_over:
            return
        self._read += len(data)
        try:
            self._feed(data)
        except (NotRtmp, amf.NotAmf, struct.error) as exc:
            self._cut(f"it does not speak RTMP: {exc}")
            return
        if self._joiner is not None and self._joiner.held > HELD_MAX:
            self._cut("its messages are too large")
        self._acknowledge()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._gone.done():
            self._gone.set_result(None)
        self._door.connections.discard(self)
        self._end()

    def tick(self, now: float) -> None:
        """Do what is due: obey `gray-ingest` or take up where it began, and ping players."""
        if self._is_mute:
            self._pause()
            return
        if self._unread or not self._is_reading:
            data, self._unread = bytes(self._unread), bytearray()
            if self._transport is not None and not self._transport.is_closing():
                self._transport.resume_reading()
            self.data_received(data)
        if self._player is not None and now - self._pinged_s >= PING_S:
            self._pinged_s = now
            self._control(_PING_REQUEST, int(now * 1000) & 0xFFFFFFFF)

    @property
    def _is_mute(self) -> bool:
        """Whether it neither hears nor says anything, though it accepted: `gray-ingest`."""
        return self._door.injected.is_mute and self.is_connected

    @property
    def _is_reading(self) -> bool:
        return self._transport is None or self._transport.is_reading()

    def _pause(self) -> None:
        if self._transport is not None and self._transport.is_reading():
            self._transport.pause_reading()

    # --- In ---

    def _feed(self, data: bytes) -> None:
        if self._joiner is None:
            data = self._shake(data)
        if self._joiner is None:
            return
        for message in self._joiner.feed(data):
            self._receive(message)

    def _shake(self, data: bytes) -> bytes:
        """Take the handshake (section 5.2); return what follows it."""
        self._inbox += data
        if self._inbox and self._inbox[0] != 3:
            raise NotRtmp(f"version {self._inbox[0]}")
        if not self._is_shaken and len(self._inbox) > _HANDSHAKE:
            self._is_shaken = True
            self._write(b"\x03" + bytes(8) + os.urandom(_HANDSHAKE - 8))
            self._write(bytes(self._inbox[1 : 1 + _HANDSHAKE]))
        if len(self._inbox) < 1 + 2 * _HANDSHAKE:
            return b""
        rest = bytes(self._inbox[1 + 2 * _HANDSHAKE :])
        self._inbox.clear()
        self._joiner = _Joiner()
        self._until(WANTED_S_MAX)
        return rest

    def _receive(self, message: Message) -> None:
        if self._is_over:
            return
        now, body = self._loop.time(), message.payload
        if self._player is not None:
            self.heard_s = now
        match message.type:
            case Type.USER_CONTROL if len(body) >= 6 and body[:2] == b"\x00\x06":
                self._control(_PING_RESPONSE, int.from_bytes(body[2:6]))
            case Type.WINDOW_ACKNOWLEDGEMENT_SIZE if len(body) >= 4:
                self._window = max(int.from_bytes(body[:4]), WINDOW_MIN)
            case Type.COMMAND:
                self._commanded(amf.decode(body))
            case Type.AUDIO | Type.VIDEO | Type.DATA if self._ingest is not None:
                if message.type != Type.DATA:
                    self.heard_s = now
                self._ingest.take(message)

    def _commanded(self, values: list[amf.Value]) -> None:
        name, number, *rest = [*values, None, None, None, None][: max(len(values), 4)]
        match name:
            case "connect" if isinstance(rest[0], Mapping):
                self._connected(number, rest[0])
            case "createStream":
                self._command("_result", number, None, 1.0)
            case "publish" | "play" if self._asking is None and isinstance(rest[1], str):
                self._until(None)
                asked = self._ask(rest[1], publishes=name == "publish")
                self._asking = asyncio.create_task(asked, name=f"stand rtmp {name}")
            case "receiveVideo" if self._player is not None:
                self._player.pictures = rest[1] is not False
            case "deleteStream" | "closeStream" if self._asking is not None:
                self._end()
                if self._transport is not None:
                    self._transport.close()

    def _connected(self, number: amf.Value, told: Mapping[str, amf.Value]) -> None:
        self._app = str(told.get("app") or "").strip("/")
        url = str(told.get("tcUrl") or "")
        self._host = url.partition("://")[2].partition("/")[0].partition(":")[0]
        size = struct.pack(">I", WINDOW)
        self._send(Type.WINDOW_ACKNOWLEDGEMENT_SIZE, size)
        self._send(Type.SET_PEER_BANDWIDTH, size + bytes([_DYNAMIC]))
        self._send(Type.SET_CHUNK_SIZE, struct.pack(">I", CHUNK_OUT))
        known: dict[str, amf.Value] = {"fmsVer": "FMS/3,0,1,123", "capabilities": 31.0}
        info = _info("status", "NetConnection.Connect.Success", "a stand-in, for the lab only")
        self._command("_result", number, known, {**info, "objectEncoding": 0.0})

    async def _ask(self, name: str, *, publishes: bool) -> None:
        try:
            await (self._publish(name) if publishes else self._play(name))
        except Rejection as fault:
            self._status("error", fault.code, fault.because)
            self._end()
            self._until(REFUSED_S_MAX)
        except Exception:
            self._cut("it could not be asked whether it may")  # else it would wait for ever
            raise

    async def _publish(self, name: str) -> None:
        ingest = await self._door.house.publish(self, self._app, name, self._host)
        self._status("status", "NetStream.Publish.Start", "it may begin")
        self._ingest, self.is_connected = ingest, True

    async def _play(self, name: str) -> None:
        player = await self._door.house.play(self, self._app, name, self._host)
        self._control(_STREAM_BEGIN, 1)
        self._status("status", "NetStream.Play.Reset", "it begins anew")
        self._status("status", "NetStream.Play.Start", "it begins")
        self._player, self.is_connected = player, True
        player.attach(self)

    # --- Out ---

    def send(self, message: Message) -> None:
        """Send a message of media; who does not read is cut off."""
        if not self._is_over:
            self._write(cut(message))

    def _send(self, kind: Type, payload: bytes, *, stream: int = 0) -> None:
        self._write(cut(Message(type=kind, payload=payload, stream=stream)))

    def _command(self, *values: amf.Value, stream: int = 0) -> None:
        self._send(Type.COMMAND, amf.encode(*values), stream=stream)

    def _status(self, level: str, code: str, because: str) -> None:
        self._command("onStatus", 0.0, None, _info(level, code, because), stream=1)

    def _control(self, event: int, value: int) -> None:
        self._send(Type.USER_CONTROL, struct.pack(">HI", event, value))

    def _acknowledge(self) -> None:
        if self._window and self._read - self._told >= self._window:
            self._told = self._read
            self._send(Type.ACKNOWLEDGEMENT, struct.pack(">I", self._read & 0xFFFFFFFF))

    def _write(self, data: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        self._transport.write(data)
        if self._transport.get_write_buffer_size() > UNSENT_MAX:
            self._cut("it does not read what is sent to it")

    # --- The end ---

    def _until(self, limit_s: float | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None
        if limit_s is not None:
            self._deadline = self._loop.call_later(limit_s, self._cut, "it took too long")

    def _cut(self, because: str) -> None:
        log.info("rtmp.cut", because=because)
        self._end()
        if self._transport is not None:
            self._transport.abort()

    def _end(self) -> None:
        """Carry nothing any more, and say so to the owner. Idempotent."""
        self._until(None)
        if self._is_over:
            return
        self._is_over, self.is_connected = True, False
        if self._asking is not None and self._asking is not _current():
            self._asking.cancel()
        on_gone, self.on_gone = self.on_gone, _do_nothing
        on_gone()


class _Joiner(Joiner):
    """Knows how much it keeps."""

    @property
    def held(self) -> int:
        """Bytes of what is not complete."""
        return len(self._data) + sum(len(each.body) for each in self._channels.values())


def _info(level: str, code: str, because: str) -> dict[str, amf.Value]:
    return {"level": level, "code": code, "description": because}


def _current() -> asyncio.Task[object] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


def _do_nothing() -> None: ...
