"""
One source, encoded once per codec, carried by any number of legs.

An encoder pushes frames in; each leg attaches a callback and sends what it is given. Adding a
leg costs a function call per frame. Only a leg that wants another codec than the feed's own
costs a second encode of that kind, shared by all legs that want it, for as long as one does.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import Callable, Mapping
from typing import Protocol

from ..errors import ConfigError, LocalFault
from .frame import CODECS, Codec, EncodedFrame, Kind


Take = Callable[[EncodedFrame], None]

KEYFRAME_INTERVAL_S = 0.1
"""A keyframe asked for by one leg reaches all of them, so requests are limited to 10 a second."""

Failed = Callable[[LocalFault], None]

_OWN_FRAMES = 1024
"""How many sent frames are remembered for self-views: over 6 s at 30 pictures + 50 packets/s in
two codecs each."""


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


class FurtherEncoders(Protocol):
    """What makes frames in further codecs: an engine that has the raw pictures and sound."""

    def encode_also(self, codecs: frozenset[Codec]) -> None:
        """
        Encode in these codecs too from the next picture or sound on, and in no other further one.

        Raises:
            LocalFault: One of them cannot be encoded on this machine; nothing is changed.
        """
        ...


class Feed:
    """
    A running source. Made by `hitless.media.source.open_feed`; closed by whoever opened it.

    Attributes:
        kinds: What the source sends; fixed for the life of the feed.
        codecs: The feed's own codec of each kind: always encoded, and what legs get that do not
            ask for another.
    """

    def __init__(self, codecs: dict[Kind, Codec]) -> None:
        self.codecs = dict(codecs)
        self.kinds = frozenset(codecs)
        self._takers: dict[Codec, dict[object, Take]] = {own: {} for own in codecs.values()}
        self._failed: dict[object, Failed | None] = {}
        self._engine: Engine | None = None
        self._further: FurtherEncoders | None = None
        self._own: deque[bytes] = deque(maxlen=_OWN_FRAMES)
        self._own_set: set[bytes] = set()
        self._keyframe_s = float("-inf")
        self._keyframe_due: asyncio.TimerHandle | None = None
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.frames_made = dict.fromkeys(codecs, 0)
        """Frames of each kind, in the feed's own codec: pictures and sounds are counted once."""
        self.pushed_s: float | None = None
        """When the last frame came [s]; None: none came yet."""

    def run_by(self, engine: Engine, *, further: FurtherEncoders | None = None) -> None:
        """
        Name the engine that pushes the frames. Called once, by what opens the feed.

        Args:
            engine: Makes the feed's own frames.
            further: Makes them in further codecs; None: they come encoded, there is nothing to
                encode from.
        """
        self._engine, self._further = engine, further

    # --- For legs ---

    def attach(
        self,
        take: Take,
        *,
        codecs: Mapping[Kind, Codec] | None = None,
        failed: Failed | None = None,
    ) -> Callable[[], None]:
        """
        Call `take` with each frame from now on, in the loop's thread; return what detaches it.

        `take` must not block. The first frame it sees may be any frame: ask for a keyframe. Only
        the first leg of a further codec sees a keyframe first, as its encoder begins with it.

        Args:
            take: Takes each frame of each kind that the source has, once.
            codecs: The codec of each kind; what is not named comes in the feed's own, and what
                the source does not have does not come. None: all in the feed's own.
            failed: Called once, in the loop's thread, if a further codec cannot be encoded any
                more: `take` gets nothing from then on, the feed and other legs go on.

        Raises:
            ConfigError: A codec does not fit its kind, or it is not the feed's own and the
                source's frames come already encoded: take one of the feed's own codecs.
            LocalFault: This machine cannot encode one of them: another leg may do.
        """
        wanted = {kind: self._codec(kind, (codecs or {}).get(kind)) for kind in self.kinds}
        further = frozenset(wanted.values()) - frozenset(self.codecs.values())
        if not self.is_over and not further <= self._wanted():
            self._encode_also(self._wanted() | further)
        key = object()
        for codec in wanted.values():
            self._takers.setdefault(codec, {})[key] = take
        self._failed[key] = failed

        def detach() -> None:
            self._failed.pop(key, None)
            for codec in wanted.values():
                self._takers.get(codec, {}).pop(key, None)
            self._no_more_than_wanted(further)

        return detach

    def _codec(self, kind: Kind, codec: Codec | None) -> Codec:
        """Return the codec in which a leg gets a kind."""
        if codec is None:
            return self.codecs[kind]
        if codec not in CODECS[kind]:
            fit = " or ".join(sorted(one.name for one in CODECS[kind]))
            raise ConfigError(f"codecs = {{{kind}: {codec}}} is not possible: give {fit}")
        return codec

    def _wanted(self) -> frozenset[Codec]:
        """Return the further codecs that are being made."""
        return frozenset(self._takers) - frozenset(self.codecs.values())

    def _encode_also(self, further: frozenset[Codec]) -> None:
        if self._further is None:
            own = " and ".join(sorted(self.codecs.values()))
            more = " and ".join(sorted(further))
            raise ConfigError(
                f"codecs with {more} are not possible: this feed's frames come already encoded, "
                f"as {own}; open a feed with that video_codec, or use a leg that takes {own}"
            )
        self._further.encode_also(further)

    def _no_more_than_wanted(self, further: frozenset[Codec]) -> None:
        """Stop the encoders among these that nobody takes from."""
        idle = [codec for codec in further if self._takers.get(codec) == {}]
        for codec in idle:
            del self._takers[codec]
        if idle and self._further is not None:
            self._further.encode_also(self._wanted())

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
        """Hand one frame to every leg that takes its codec. In the loop's thread."""
        mark = fingerprint(frame.data)
        if len(self._own) == _OWN_FRAMES:
            self._own_set.discard(self._own[0])
        self._own.append(mark)
        self._own_set.add(mark)
        if frame.codec is self.codecs[frame.kind]:
            self.frames_made[frame.kind] += 1
        self.pushed_s = asyncio.get_running_loop().time()
        for take in tuple(self._takers.get(frame.codec, {}).values()):
            take(frame)

    def fail_codec(self, codec: Codec, fault: LocalFault) -> None:
        """Say that a further codec cannot be encoded any more; its legs are let go and told."""
        keys = tuple(self._takers.pop(codec, {}))
        tell = [self._failed.pop(key, None) for key in keys]
        for others in self._takers.values():
            for key in keys:
                others.pop(key, None)
        self._no_more_than_wanted(self._wanted())
        for failed in tell:
            if failed is not None:
                failed(fault)

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
        self._failed.clear()
        if self._keyframe_due is not None:
            self._keyframe_due.cancel()
        self.finish()
        if self._engine is not None:
            await self._engine.aclose()
