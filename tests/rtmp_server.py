"""
A small RTMP server for tests: it forwards, and it misbehaves when told to.

A stand-in, on the loop of the test. It shares the chunk stream with what is tested; that this is
RTMP at all is proven against nginx-rtmp and FFmpeg (tests/interop/test_nginx_rtmp.py).
"""

from __future__ import annotations

import asyncio
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from hitless.media import amf
from hitless.media.rtmp_chunks import Joiner, Message, Type, cut


@dataclass
class RtmpServer:
    """
    Forwards one publisher a name to any number of players.

    Attributes:
        pongs: Whether it answers ping requests.
        acknowledges: Whether it acknowledges bytes, as often as asked.
        reads: Cleared, it stands still: it takes nothing and says nothing.
        forwards: Whether media reaches players.
        shakes: Whether it answers a handshake.
        knows: Whether it says that a stream to play does not exist.
        says_so: Whether it says anything to play before media comes.
        status: What it says to publish or play instead: (level, code, description), by command.
        rejects: What it says to connect, likewise.
        closes_on: The command that makes it hang up.
        created: What it answers to createStream.
        seen: Commands with what followed their number, in order.
    """

    port: int = 0
    pongs: bool = True
    acknowledges: bool = True
    reads: asyncio.Event = field(default_factory=asyncio.Event)
    forwards: bool = True
    shakes: bool = True
    knows: bool = True
    says_so: bool = True
    status: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    rejects: tuple[str, str, str] | None = None
    closes_on: str = ""
    created: amf.Value = 1.0
    seen: list[tuple[str, list[amf.Value]]] = field(default_factory=list)
    publishers: dict[str, _Connection] = field(default_factory=dict)
    players: dict[str, list[_Connection]] = field(default_factory=dict)
    headers: dict[str, dict[int, Message]] = field(default_factory=dict)
    connections: set[_Connection] = field(default_factory=set)

    @property
    def url(self) -> str:
        """Where to publish and play."""
        return f"rtmp://127.0.0.1:{self.port}/live/{{stream}}"

    def names(self, command: str) -> list[str]:
        """Return what a command was said about, in order."""
        return [str(rest[1]) for name, rest in self.seen if name == command]

    def tell(self, name: str, level: str, code: str) -> None:
        """Say something to the publisher and the players of a stream."""
        for one in [*self.players.get(name, []), *filter(None, [self.publishers.get(name)])]:
            one.status(level, code, "")


@dataclass(eq=False)
class _Connection:
    server: RtmpServer
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    joiner: Joiner = field(default_factory=Joiner)
    window: int = 0
    read: int = 0
    told: int = 0
    name: str = ""

    async def run(self) -> None:
        hello = await self.reader.readexactly(1537)
        if not self.server.shakes:
            await self.reader.read()
            return
        self.writer.write(b"\x03" + bytes(1536) + hello[1:])
        await self.reader.readexactly(1536)
        self.send(Message(type=Type.WINDOW_ACKNOWLEDGEMENT_SIZE, payload=struct.pack(">I", 4096)))
        self.send(Message(type=Type.SET_CHUNK_SIZE, payload=struct.pack(">I", 4096)))
        while True:
            await self.server.reads.wait()
            if not (data := await self.reader.read(4096)):
                return
            await self.server.reads.wait()
            self.read += len(data)
            for message in self.joiner.feed(data):
                if not self.take(message):
                    return
            if self.window and self.server.acknowledges and self.read - self.told >= self.window:
                self.told = self.read
                body = struct.pack(">I", self.read)
                self.send(Message(type=Type.ACKNOWLEDGEMENT, payload=body))

    def take(self, message: Message) -> bool:
        match message.type:
            case Type.WINDOW_ACKNOWLEDGEMENT_SIZE:
                self.window = int.from_bytes(message.payload)
            case Type.USER_CONTROL if message.payload[1] == 6 and self.server.pongs:
                body = b"\x00\x07" + message.payload[2:]
                self.send(Message(type=Type.USER_CONTROL, payload=body))
            case Type.COMMAND:
                name, number, *rest = amf.decode(message.payload)
                self.server.seen.append((str(name), rest))
                if name == self.server.closes_on:
                    return False
                self.command(str(name), number, rest)
            case Type.AUDIO | Type.VIDEO:
                self.forward(message)
        return True

    def command(self, name: str, number: amf.Value, rest: list[amf.Value]) -> None:
        server = self.server
        if name == "connect" and server.rejects:
            level, code, text = server.rejects
            info = {"level": level, "code": code, "description": text}
            self.say("_error", number, None, info)
        elif name in ("connect", "createStream"):
            self.say("_result", number, None, server.created if name == "createStream" else {})
        elif name in ("publish", "play"):
            self.name = str(rest[1])
            if name in server.status:
                self.status(*server.status[name])
            elif name == "publish":
                server.publishers[self.name] = self
                self.status("status", "NetStream.Publish.Start", "")
            elif self.name not in server.publishers and server.knows:
                self.status("error", "NetStream.Play.StreamNotFound", "No such stream")
            else:
                server.players.setdefault(self.name, []).append(self)
                if server.says_so:
                    self.status("status", "NetStream.Play.Start", "")
                for header in server.headers.get(self.name, {}).values():
                    self.send(header)

    def forward(self, message: Message) -> None:
        if message.payload[1] == 0:
            self.server.headers.setdefault(self.name, {})[message.type] = message
        if self.server.forwards:
            for player in self.server.players.get(self.name, []):
                player.send(message)

    def status(self, level: str, code: str, text: str) -> None:
        info: dict[str, amf.Value] = {"level": level, "code": code, "description": text}
        self.say("onStatus", 0.0, None, info)

    def say(self, *values: amf.Value) -> None:
        self.send(Message(type=Type.COMMAND, payload=amf.encode(*values), stream=1))

    def send(self, message: Message) -> None:
        if not self.writer.is_closing():
            self.writer.write(cut(message))


@asynccontextmanager
async def serving(
    *, receive_buffer: int | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[RtmpServer]:
    """
    Lend a running server.

    Args:
        receive_buffer: Of its sockets [bytes]; None: the kernel's.
        tls: Makes it speak RTMPS.
    """
    server = RtmpServer()
    server.reads.set()
    tasks: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        one = _Connection(server, reader, writer)
        server.connections.add(one)
        try:
            await one.run()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            if server.publishers.get(one.name) is one:
                del server.publishers[one.name]
                server.tell(one.name, "status", "NetStream.Play.UnpublishNotify")
            for players in server.players.values():
                if one in players:
                    players.remove(one)
            writer.transport.abort()
            server.connections.discard(one)

    listener = await asyncio.start_server(accept, "127.0.0.1", 0, limit=4096, ssl=tls)
    if receive_buffer is not None:
        for sock in listener.sockets:
            sock.setsockopt(1, 8, receive_buffer)  # SOL_SOCKET, SO_RCVBUF, inherited
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        server.reads.set()
        listener.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def until(condition: Callable[[], object], limit_s: float = 15.0) -> None:
    """Wait until something holds; fail if it does not in time."""
    async with asyncio.timeout(limit_s):
        while not condition():  # noqa: ASYNC110 -- what is waited for has no event
            await asyncio.sleep(0.01)
