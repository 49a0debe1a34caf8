"""
One source, encoded once, carried by any number of legs.

An encoder pushes frames in; each leg attaches a callback and sends what it is given. Adding a
leg costs a function call per frame, never a second encoder.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import Callable
from typing import Protocol

from ..errors import LocalFault
from .frame import Codec, EncodedFrame, Kind


Take = Callable[[EncodedFrame], None]

KEYFRAME_INTERVAL_S = 0.1
"""A keyframe asked for by one leg reaches all of them, so requests are limited to 10 a second."""

_OWN_FRAMES = 512
"""How many sent frames are remembered for self-views: over 6 s at 30 pictures + 50 packets/s."""


def fingerprint(data: bytes) -> bytes:
    """Return what identifies an encoded frame wherever it arrives: 8 bytes of BLAKE2b."""
    return hashlib.blake2b(data, digest_size=8).digest()


class Engine(Protocol):
    """What stands behind a feed: it makes frames until told to stop."""

    def request_keyframe(self) -> None: ...

    def mute(self, kind: Kind, muted: bool) -> None: ...

    def set_quality(
        self,
        *,
        width: int | None,
        height: int | None,
        frame_rate: float | None,
        bitrate_bps: int | None,
    ) -> None: ...

    async def aclose(self) -> None: ...


class Feed:
    """
    A running source. Made by `hitless.media.source.open_feed`; closed by whoever opened it.

    Attributes:
        kinds: What the source sends; fixed for the life of the feed.
        codecs: The codec of each kind.
    """

    def __init__(self, codecs: dict[Kind, Codec]) -> None:
        self.codecs = dict(codecs)
        self.kinds = frozenset(codecs)
        self._takers: dict[object, Take] = {}
        self._engine: Engine | None = None
        self._own: deque[bytes] = deque(maxlen=_OWN_FRAMES)
        self._own_set: set[bytes] = set()
        self._keyframe_s = float("-inf")
        self._keyframe_due: asyncio.TimerHandle | None = None
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.frames_made = dict.fromkeys(codecs, 0)
        self.pushed_s: float | None = None
        """When the last frame came [s]; None: none came yet."""

    def run_by(self, engine: Engine) -> None:
        """Name the engine that pushes the frames. Called once, by what opens the feed."""
        self._engine = engine

    # --- For legs ---

    def attach(self, take: Take) -> Callable[[], None]:
        """
        Call `take` with each frame from now on, in the loop's thread; return what detaches it.

        `take` must not block. The first frame it sees may be any frame: ask for a keyframe.
        """
        key = object()
        self._takers[key] = take

        def detach() -> None:
            self._takers.pop(key, None)

        return detach

    def request_keyframe(self) -> None:
        """Ask the encoder for a keyframe soon. At most 10 a second reach it; none is forgotten."""
        if self._engine is None or self._keyframe_due is not None:
            return
        loop = asyncio.get_running_loop()
        wait_s = self._keyframe_s + KEYFRAME_INTERVAL_S - loop.time()
        if wait_s > 0:
            self._keyframe_due = loop.call_later(wait_s, self._ask_engine)
        else:
            self._ask_engine()

    def _ask_engine(self) -> None:
        self._keyframe_due = None
        self._keyframe_s = asyncio.get_running_loop().time()
        if self._engine is not None:
            self._engine.request_keyframe()

    def is_own(self, data: bytes) -> bool:
        """Whether this encoded frame was sent by this feed during the last seconds."""
        return fingerprint(data) in self._own_set

    # --- For the engine ---

    def push(self, frame: EncodedFrame) -> None:
        """Hand one frame to every leg. In the loop's thread."""
        mark = fingerprint(frame.data)
        if len(self._own) == _OWN_FRAMES:
            self._own_set.discard(self._own[0])
        self._own.append(mark)
        self._own_set.add(mark)
        self.frames_made[frame.kind] += 1
        self.pushed_s = asyncio.get_running_loop().time()
        for take in tuple(self._takers.values()):
            take(frame)

    def finish(self, fault: LocalFault | None = None) -> None:
        """Say that no more frames come: the source is at its end, or it failed. Idempotent."""
        if self._over.done():
            return
        if fault is None:
            self._over.set_result(None)
        else:
            self._over.set_exception(fault)
            self._over.exception()  # retrieved: a feed nobody waits on must not warn at exit

    # --- For the owner ---

    @property
    def is_over(self) -> bool:
        """Whether no more frames come."""
        return self._over.done()

    async def ended(self) -> None:
        """
        Wait until the source is at its end. Cancelling only stops the waiting.

        Raises:
            LocalFault: It failed instead: the camera is gone, the encoder died.
        """
        await asyncio.shield(self._over)

    def is_producing(self, now: float, *, within_s: float) -> bool:
        """Whether a frame came within the last `within_s` [s]: if not, nobody else is at fault."""
        return self.pushed_s is not None and now - self.pushed_s <= within_s

    def mute(self, kind: Kind, muted: bool) -> None:
        """Replace one kind by silence or black, or stop doing so. Frames keep flowing."""
        if self._engine is not None:
            self._engine.mute(kind, muted)

    def set_quality(
        self,
        *,
        width: int | None = None,
        height: int | None = None,
        frame_rate: float | None = None,
        bitrate_bps: int | None = None,
    ) -> None:
        """Change the picture from the next keyframe on [pixel, pixel, 1/s, bit/s]; None: keep."""
        if self._engine is not None:
            self._engine.set_quality(
                width=width, height=height, frame_rate=frame_rate, bitrate_bps=bitrate_bps
            )

    async def aclose(self) -> None:
        """Stop the engine and detach every leg. Idempotent."""
        self._takers.clear()
        if self._keyframe_due is not None:
            self._keyframe_due.cancel()
        self.finish()
        if self._engine is not None:
            await self._engine.aclose()
