"""
A provider that lives in this process: the reference adapter, and the test double.

It carries encoded frames from a feed to its viewers as a real one does, without a network, and
fails on request. Clients that should meet share a `MemoryHub`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

from ..errors import MediaLost, NotOnAir, ProviderError, Unreachable
from ..media.feed import Feed
from ..media.frame import EncodedFrame, Kind
from ..media.liveness import Liveness
from .base import Stats


_FIRST_MEDIA_S = 3.0
"""A leg proves its media within this time [s], like one of WHIP."""

_FRAMES_MAX = 256
"""Frames a viewer may leave unread; then the oldest go."""


class MemoryHub:
    """
    What several `Memory` providers of one name share: the service itself.

    Attributes:
        open_s: Time until a leg carries media [s].
        refuses: Raised to whoever opens a leg; None: everybody is let in.
        is_silent: Take everything and forward nothing.
        is_up: Whether anything answers; `kill()` and `revive()` change it.
    """

    def __init__(self, *, open_s: float = 0.02) -> None:
        self.open_s = open_s
        self.refuses: ProviderError | None = None
        self.is_silent = False
        self.is_up = True
        self.publishers: dict[str, MemoryLeg] = {}
        self.viewers: dict[str, set[MemoryViewLeg]] = {}

    def kill(self) -> None:
        """Vanish: every leg goes silent and nothing answers any more."""
        self.is_up = False

    def revive(self) -> None:
        """Come back empty, as a restarted service does."""
        self.is_up, self.publishers, self.viewers = True, {}, {}

    def forward(self, stream: str, frame: EncodedFrame) -> None:
        """Hand a frame to every viewer."""
        for viewer in tuple(self.viewers.get(stream, ())):
            viewer.take(frame)


class Memory:
    """
    Carries streams in memory.

    Args:
        name: Provider name.
        hub: The service; None: one of its own.
    """

    def __init__(self, name: str = "memory", *, hub: MemoryHub | None = None) -> None:
        self.name = name
        self.hub = hub or MemoryHub()
        self._legs: set[MemoryLeg | MemoryViewLeg] = set()
        self._is_closed = False

    async def start_stream(self, stream: str, source: Feed) -> MemoryLeg:
        """Publish; see `Provider`."""
        await self._admit("publish")
        leg = MemoryLeg(self.name, self.hub, stream, source)
        await self._proven(leg, "publish")
        return leg

    async def join_stream(self, stream: str) -> MemoryViewLeg:
        """View; see `Provider`."""
        await self._admit("view")
        publisher = self.hub.publishers.get(stream)
        if publisher is None:
            raise NotOnAir(f"{self.name}: nobody publishes {stream}", retry_after_s=1.0)
        leg = MemoryViewLeg(self.name, self.hub, stream)
        leg.request_keyframe()
        await self._proven(leg, "view")
        return leg

    async def aclose(self) -> None:
        """Close every leg. Idempotent."""
        self._is_closed = True
        for leg in tuple(self._legs):
            await leg.aclose()
        self._legs.clear()

    async def _proven(self, leg: MemoryLeg | MemoryViewLeg, operation: str) -> None:
        """Wait for the first media of a leg, or close it again."""
        self._legs.add(leg)
        try:
            async with asyncio.timeout(_FIRST_MEDIA_S):
                await leg.begun()
        except TimeoutError:
            await leg.aclose()
            raise MediaLost("no media", provider=self.name, operation=operation) from None
        except BaseException:
            await leg.aclose()
            raise

    async def _admit(self, operation: str) -> None:
        if self._is_closed:
            raise Unreachable("it was closed", provider=self.name, operation=operation)
        await asyncio.sleep(self.hub.open_s)
        if not self.hub.is_up:
            raise Unreachable("nobody answers", provider=self.name, operation=operation)
        if self.hub.refuses is not None:
            raise self.hub.refuses


class _Losable:
    """What both kinds of leg have."""

    def __init__(self, provider: str, hub: MemoryHub, stream: str) -> None:
        self.provider = provider
        self.liveness = Liveness()
        self._hub, self._stream = hub, stream
        self._lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._count, self._bytes = dict.fromkeys(Kind, 0), dict.fromkeys(Kind, 0)

    async def begun(self) -> None:
        """Wait for the first media; raise what ended the leg before."""
        await asyncio.wait({self._begun, self._lost}, return_when=asyncio.FIRST_COMPLETED)
        if not self._begun.done():
            self._lost.result()

    async def lost(self) -> None:
        """Wait until the service ends the leg; see `Leg`."""
        await asyncio.shield(self._lost)

    def heard(self, frame: EncodedFrame, now: float) -> None:
        """Note a frame that passed at a time [s]."""
        self._count[frame.kind] += 1
        self._bytes[frame.kind] += len(frame.data)
        self.liveness.heard(frame.kind, now)
        if not self._begun.done():
            self._begun.set_result(None)

    def lose(self, because: str) -> None:
        """End the leg from the service's side."""
        if not self._lost.done():
            self._lost.set_exception(MediaLost(because, provider=self.provider))
            self._lost.exception()  # retrieved: nobody has to wait for it


class MemoryLeg(_Losable):
    """A published leg. What goes out is seen to go out: that is its self-view."""

    def __init__(self, provider: str, hub: MemoryHub, stream: str, feed: Feed) -> None:
        super().__init__(provider, hub, stream)
        older = hub.publishers.get(stream)
        if older is not None:
            older.lose("another publisher took the stream")
        hub.publishers[stream] = self
        self.feed = feed
        self._detach = feed.attach(self._send)
        feed.request_keyframe()

    def stats(self) -> list[Stats]:
        """Return what was sent."""
        return [
            {
                "type": "outbound-rtp",
                "id": f"out-{kind}",
                "kind": kind.value,
                "framesSent": n,
                "bytesSent": self._bytes[kind],
            }
            for kind, n in self._count.items()
        ]

    async def aclose(self) -> None:
        """Stop sending. Idempotent."""
        self._detach()
        if self._hub.publishers.get(self._stream) is self:
            del self._hub.publishers[self._stream]
            for viewer in tuple(self._hub.viewers.get(self._stream, ())):
                viewer.lose("the publisher left")

    def _send(self, frame: EncodedFrame) -> None:
        if not self._hub.is_up or self._hub.is_silent or self._lost.done():
            return
        self.heard(frame, asyncio.get_running_loop().time())
        self._hub.forward(self._stream, frame)


class MemoryViewLeg(_Losable):
    """A viewing leg. Like a real one it begins at a keyframe and has timestamps of its own."""

    def __init__(self, provider: str, hub: MemoryHub, stream: str) -> None:
        super().__init__(provider, hub, stream)
        self._queue: asyncio.Queue[EncodedFrame | None] = asyncio.Queue()
        self._has_keyframe = False
        hub.viewers.setdefault(stream, set()).add(self)

    async def frames(self) -> AsyncIterator[EncodedFrame]:
        """Yield what arrives; see `ViewLeg`."""
        while (frame := await self._queue.get()) is not None:
            yield frame

    def request_keyframe(self) -> None:
        """Pass the request on to the publisher."""
        publisher = self._hub.publishers.get(self._stream)
        if publisher is not None and self._hub.is_up:
            publisher.feed.request_keyframe()

    def take(self, frame: EncodedFrame) -> None:
        """Take a frame from the service."""
        is_video = frame.kind is Kind.VIDEO
        self._has_keyframe |= is_video and frame.keyframe
        if is_video and not self._has_keyframe:
            return
        now = asyncio.get_running_loop().time()
        if self._queue.qsize() >= _FRAMES_MAX:
            self._queue.get_nowait()
        offset = id(self) % 90_000
        self._queue.put_nowait(replace(frame, timestamp=frame.timestamp + offset, arrived_s=now))
        self.heard(frame, now)

    def stats(self) -> list[Stats]:
        """Return what was received."""
        return [
            {
                "type": "inbound-rtp",
                "id": f"in-{kind}",
                "kind": kind.value,
                "framesReceived": n,
                "bytesReceived": self._bytes[kind],
            }
            for kind, n in self._count.items()
        ]

    async def aclose(self) -> None:
        """Leave. Idempotent."""
        viewers = self._hub.viewers.get(self._stream, set())
        viewers.discard(self)
        self._queue.put_nowait(None)
