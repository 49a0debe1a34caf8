"""
A shorter way between a WebSocket and what is said over it.

uvicorn hands each message over by a queue, a task and a pause of reading, which costs more than
most messages do, and each connection needs a task more to send. Here a message that needs no
waiting is heard in the moment in which it comes, and one that ten thousand are sent is made once.
One that comes as a whole frame, as nearly all do, is not parsed by machinery made for all others.
Everything else goes uvicorn's way, and so does all of it if uvicorn changes.
"""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import apply_mask  # type: ignore[attr-defined]  # in C, if there is one

from ..client import protocol
from ..client.protocol import Down


EXTENSION: Final = "hitless.direct"
"""Under this name a scope holds the protocol, where there is one."""

AT_ONCE_S: Final = 0.03
"""So long is sent before the loop turns [s]: what is told to many goes before what they answer."""

_LOOK_EACH: Final = 32
_PART_MAX: Final = 1 << 18
"""Of a frame that is not whole yet no more is kept here [byte]; uvicorn refuses it before."""


class Direct(WebSocketsSansIOProtocol):
    """
    uvicorn's WebSocket, with a short way in and out.

    Attributes:
        hear: Called with each message that comes; False: it goes the long way. None: all do.
        flow: Called when there is room to send again.
    """

    hear: Callable[[bytes], bool] | None = None
    flow: Callable[[], None] | None = None
    _part: bytes | None = None
    """What has come of a frame that is not whole yet; None: nobody knows where one begins."""

    def data_received(self, data: bytes) -> None:
        """Hear a message now, if it is one whole frame and nothing came before it."""
        if self.hear is not None and self._part == b"" and not self.frames and self.is_idle:
            message = whole(data)
            if message is not None and self.hear(message):
                return
        is_first = not self.handshake_initiated
        super().data_received(data)
        if is_first:
            # uvicorn gives the request as it was read, whole and alone: frames begin after it.
            is_alone = data.startswith(b"GET ") and data.find(b"\r\n\r\n") == len(data) - 4
            self._part = b"" if is_alone else None
        elif self._part is not None:
            part = rest(self._part + data)
            self._part = part if len(part) <= _PART_MAX else None

    @property
    def is_idle(self) -> bool:
        """Whether nothing that came still waits, and something may come."""
        return not self.close_sent and self.queue.empty()

    def handle_connect(self, event: Any) -> None:  # Any: uvicorn's own request
        """Tell the application of the short way."""
        super().handle_connect(event)
        if self.response.status_code == 101:
            extensions: dict[str, Any] = self.scope["extensions"]  # Any: by name, as ASGI has it
            extensions[EXTENSION] = self

    def send_receive_event_to_app(self) -> None:
        """Hear a message now, if nothing that came before it still waits."""
        if self.hear is not None and self.is_idle:
            data = self.frames[0] if len(self.frames) == 1 else b"".join(self.frames)
            if self.hear(data):
                self.frames = []
                return
        super().send_receive_event_to_app()

    @property
    def is_gone(self) -> bool:
        """Whether nothing can be sent any more."""
        return self.close_sent or self.transport.is_closing()

    @property
    def has_room(self) -> bool:
        """Whether what is sent now leaves at once, or nearly so."""
        return self.writable.is_set()

    def say(self, framed: bytes) -> None:
        """Send a frame that `frame` made; ignored if it is gone."""
        if not self.is_gone:
            self.transport.write(framed)

    def wake(self) -> None:
        """Let who waits for a message look around: none has come."""
        event: Any = {"type": "websocket.receive"}  # Any: one with neither text nor bytes
        self.queue.put_nowait(event)

    def resume_writing(self) -> None:
        """Go on."""
        super().resume_writing()
        if self.flow is not None:
            self.flow()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of everything: a circle would wait for the collector, and hold it up."""
        super().connection_lost(exc)
        self.hear = self.flow = None
        self.conn.parser.close()  # a generator of `conn` that `conn` holds


def way_of(scope: Mapping[str, Any]) -> Direct | None:
    """Return the short way of a connection, once; None: its server has none."""
    found = scope.get("extensions", {}).pop(EXTENSION, None)  # left there it would be a circle
    return found if isinstance(found, Direct) else None


def whole(data: bytes) -> bytes | None:
    """Return the message that is in one frame of a client; None: it is not just that."""
    if len(data) < 6 or data[0] not in _MESSAGES or _end(data, 0) != len(data):
        return None
    at = 4 if data[1] == 0xFE else 2
    return apply_mask(data[at + 4 :], data[at : at + 4]) if 0x80 <= data[1] <= 0xFE else None


def rest(data: bytes) -> bytes:
    """Return what is left behind the whole frames of a client."""
    at = 0
    while (end := _end(data, at)) is not None:
        at = end
    return data[at:]


_MESSAGES: Final = (0x81, 0x82)  # the first and last frame of text, and of bytes: RFC 6455, 5.2


def _end(data: bytes, at: int) -> int | None:
    """Return where the frame ends that begins at `at`; None: it is not whole."""
    if len(data) < at + 2:
        return None
    size, masked = data[at + 1] & 0x7F, data[at + 1] & 0x80
    start = at + 2
    if size >= 126:
        start = at + (4 if size == 126 else 10)
        if len(data) < start:
            return None
        size = int.from_bytes(data[at + 2 : start], "big")
    end = start + (4 if masked else 0) + size
    return end if end <= len(data) else None


def frame(data: bytes) -> bytes:
    """Return a message as one binary frame of a server (RFC 6455 section 5.2)."""
    if len(data) < 126:
        head = struct.pack("!BB", 0x82, len(data))
    elif len(data) < 1 << 16:
        head = struct.pack("!BBH", 0x82, 126, len(data))
    else:
        head = struct.pack("!BBQ", 0x82, 127, len(data))
    return head + data


class Leaving(Protocol):
    """Where messages wait."""

    def pop(self) -> tuple[Down, Direct] | None:
        """Return the next message and its way; None: nothing can be sent now."""
        ...


class Departures:
    """Sends what waits at many connections; between some of them the loop turns."""

    def __init__(self) -> None:
        self._ready: deque[Leaving] = deque()
        self._is_running = False
        self._last: tuple[Down, bytes] | None = None

    def add(self, leaving: Leaving) -> None:
        """Send soon what waits there, until it pops None."""
        self._ready.append(leaving)
        if not self._is_running:
            self._is_running = True
            asyncio.get_running_loop().call_soon(self._some)

    def drain(self, leaving: Leaving) -> None:
        """Send what waits there now, until it pops None."""
        while (found := leaving.pop()) is not None:
            message, way = found
            way.say(self._framed(message))

    def _some(self) -> None:
        loop = asyncio.get_running_loop()
        until_s, sent = loop.time() + AT_ONCE_S, 0
        while self._ready and (sent % _LOOK_EACH or loop.time() < until_s):
            sent += 1
            leaving = self._ready.popleft()
            if (found := leaving.pop()) is not None:
                message, way = found
                way.say(self._framed(message))
                self._ready.append(leaving)
        self._is_running = bool(self._ready)
        if self._ready:
            loop.call_soon(self._some)
        else:
            self._last = None

    def _framed(self, message: Down) -> bytes:
        """Return a message as a frame; the one that many are sent is made once."""
        if self._last is None or self._last[0] is not message:
            self._last = message, frame(protocol.encode(message))
        return self._last[1]
