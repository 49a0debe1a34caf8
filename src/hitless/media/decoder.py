"""
A viewer's decoder: encoded frames in, pictures and sound out, in a thread of its own.

The codec of a kind may change between two frames, as legs differ in theirs: pictures change at a
keyframe, and what comes out keeps its format, 20 ms of sound at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, assert_never, cast

import av
import numpy as np
import numpy.typing as npt

from .frame import CLOCK_RATE, Codec, EncodedFrame, Kind
from .pattern import OPUS_LOOKAHEAD, SAMPLE_RATE, SLOT
from .worker import Box, Worker


_WAITING_MAX: Final = 256
"""Frames that wait to be decoded: 3 s of 30 pictures and 50 packets a second."""

_DRIFT: Final = SLOT // 2
"""Sound whose timestamps leave the count of its samples by more than 10 ms is cut anew: a frame
of AAC that was lost is 21 ms, the rounding of RTMP's timestamps 0.5 ms."""

_AGAIN: Final = 5 * SAMPLE_RATE
"""Sound of another codec that lies up to this far back was heard already: 5 s, more than a merge
ever goes back. Further back, time itself began anew."""

_FLYING_MAX: Final = 64
"""Decoded pictures and sounds that wait for the loop: at most 22 MB of 640x360."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """
    One decoded picture.

    Attributes:
        timestamp: Media time [ticks of 90 kHz], that of the encoded frame.
        at_s: When it was decoded [s, the loop's clock].
        frame: The picture, as the codec gives it (yuv420p).
    """

    timestamp: int
    at_s: float
    frame: av.VideoFrame


@dataclass(frozen=True, slots=True, kw_only=True)
class Sound:
    """
    20 ms of decoded sound.

    Attributes:
        timestamp: Media time of the first sample [ticks of 48 kHz]: that of the Opus packet; AAC
            is cut where Opus packets would begin, so a change of codec is seamless.
        at_s: When it was decoded [s, the loop's clock].
        frame: The sound: packed s16, stereo, 48 kHz.
        codec: What it was decoded from.
    """

    timestamp: int
    at_s: float
    frame: av.AudioFrame
    codec: Codec = Codec.OPUS


class Decoder:
    """
    Decodes what one viewer receives. The callbacks run in the loop's thread.

    Nothing broken is shown: after an error, or a frame that was dropped because the decoder is
    too slow, pictures go on at the next keyframe. A run-up (`EncodedFrame.is_run_up`) is decoded
    and not shown.

    Args:
        on_picture: Takes each picture; None: video is not decoded.
        on_sound: Takes each sound; None: audio is not decoded.
        on_damage: Says that a keyframe is needed; again with each picture that waits for one,
            so whoever asks for keyframes limits the rate.
    """

    def __init__(
        self,
        on_picture: Callable[[Picture], None] | None,
        on_sound: Callable[[Sound], None] | None,
        *,
        on_damage: Callable[[], None] = lambda: None,
    ) -> None:
        self._on_picture, self._on_sound, self._on_damage = on_picture, on_sound, on_damage
        self._box: Box[EncodedFrame] = Box(_WAITING_MAX)
        self._needs_keyframe = True
        self._codec: Codec | None = None
        self._closed = False
        self._contexts: dict[Kind, tuple[Codec, av.VideoCodecContext | av.AudioCodecContext]] = {}
        self._slots = _Slots()
        self._damaged = False
        self._decoded = self._late = 0  # written by the thread alone
        self._shown = self._refused = 0  # written by the loop alone
        self.errors = 0
        """Encoded frames that a codec refused."""
        self.skipped = 0
        """Pictures that were not decoded for want of a keyframe."""
        self._worker = Worker("decode", self._run, failed=self._fail, wake=self._box.close)
        self._worker.start()

    @property
    def dropped(self) -> int:
        """Frames that were not decoded, or not shown, because this machine was too slow."""
        return self._refused + self._late

    def decode(self, frame: EncodedFrame) -> None:
        """Give one encoded frame, in order of decoding; never waits. In the loop's thread."""
        wanted = self._on_picture if frame.kind is Kind.VIDEO else self._on_sound
        if wanted is None or self._closed:
            return
        if frame.kind is Kind.VIDEO and not frame.keyframe:
            if self._needs_keyframe or frame.codec is not self._codec:
                self._skip()
                return
        if self._box.put(frame):
            if frame.kind is Kind.VIDEO:
                self._needs_keyframe, self._codec = False, frame.codec
            return
        self._refused += 1
        if frame.kind is Kind.VIDEO:
            self._needs_keyframe = True

    async def aclose(self) -> None:
        """
        Stop; what is not decoded yet never will be, and no callback is called any more.

        Idempotent; never raises; at most 2 s.
        """
        self._closed = True
        await self._worker.aclose()

    # --- In the thread ---

    def _run(self) -> None:
        while not self._worker.stopping.is_set():
            frame = self._box.take()
            if frame is None:
                return
            if frame.kind is Kind.VIDEO and self._damaged and not frame.keyframe:
                self._worker.in_loop(self._skip)
                continue
            try:
                shown = self._decode(frame)
            except Exception:  # whatever a stranger's bytes do to a codec: it must not end us
                self._contexts.pop(frame.kind, None)
                self._worker.in_loop(self._hurt, frame.kind)
                if frame.kind is Kind.VIDEO:
                    self._damaged = True
                continue
            if frame.kind is Kind.VIDEO:
                self._damaged = False
            if self._decoded - self._shown >= _FLYING_MAX:
                self._late += 1
                continue
            self._decoded += 1
            self._worker.in_loop(self._show, shown)

    def _decode(self, frame: EncodedFrame) -> list[Picture | Sound]:
        context = self._context(frame)
        packet = av.Packet(frame.data)
        packet.pts = frame.timestamp
        packet.time_base = Fraction(1, CLOCK_RATE[frame.kind])
        # A list per packet: a codec may give none, and H.264 in principle several.
        decoded = cast("list[av.VideoFrame | av.AudioFrame]", context.decode(packet))
        now = time.monotonic()  # noqa: TID251 -- in a thread; it is what loop.time() reads
        shown: list[Picture | Sound] = []
        for out in decoded:
            timestamp = frame.timestamp if out.pts is None else out.pts
            if isinstance(out, av.VideoFrame):
                if not frame.is_run_up:
                    shown.append(Picture(timestamp=timestamp, at_s=now, frame=out))
            else:  # of a run-up too: it may hold the beginning of a slot that was not shown
                slots = self._slots.of(frame.codec, out, timestamp)
                shown += [
                    Sound(timestamp=at, at_s=now, frame=slot, codec=frame.codec)
                    for at, slot in slots
                ]
        return shown

    def _context(self, frame: EncodedFrame) -> av.VideoCodecContext | av.AudioCodecContext:
        known = self._contexts.get(frame.kind)
        if known is not None and known[0] is frame.codec:
            return known[1]
        context: av.VideoCodecContext | av.AudioCodecContext
        match frame.codec:
            case Codec.VP8:
                context = _video_context("libvpx")
            case Codec.H264:
                context = _video_context("h264")
            case Codec.OPUS:
                context = av.CodecContext.create("libopus", "r")
                context.format = "s16"
                context.layout = "stereo"
                context.sample_rate = SAMPLE_RATE
            case Codec.AAC:
                context = av.CodecContext.create("aac", "r")
            case _:
                assert_never(frame.codec)
        self._contexts[frame.kind] = frame.codec, context
        return context

    # --- In the loop ---

    def _show(self, shown: list[Picture | Sound]) -> None:
        self._shown += 1
        if self._closed:
            return
        for one in shown:
            if isinstance(one, Picture) and self._on_picture is not None:
                self._on_picture(one)
            elif isinstance(one, Sound) and self._on_sound is not None:
                self._on_sound(one)

    def _skip(self) -> None:
        if self._closed:
            return
        self.skipped += 1
        self._on_damage()

    def _hurt(self, kind: Kind) -> None:
        if self._closed:
            return
        self.errors += 1
        if kind is Kind.VIDEO:
            self._on_damage()

    def _fail(self, fault: Exception) -> None:
        # Nothing can be decoded any more; the loop's handler reports what nobody expected.
        self._closed = True
        raise fault


def _video_context(name: str) -> av.VideoCodecContext:
    context = cast(av.VideoCodecContext, av.CodecContext.create(name, "r"))
    context.thread_count = 1  # threads by frame would hold back a picture each
    return context


class _Slots:
    """
    Decoded sound in slots of 20 ms, none twice, whatever the codec.

    Opus comes in such slots and passes as it is. AAC is cut where packets of Opus would begin:
    on the grid of those that came before, else at whole multiples of 20 ms. Where AAC came first,
    so is Opus from then on: its packets would begin in the middle of slots.
    """

    def __init__(self) -> None:
        self._codec: Codec | None = None
        self._cuts_all = False
        self._resampler: av.AudioResampler | None = None
        self._left: npt.NDArray[np.int16] = np.empty((0, 2), np.int16)
        self._left_at = 0  # media time of its first sample [ticks]
        self._skip = 0  # samples of what comes that are not shown
        self._phase = 0  # of the grid, modulo a slot
        self._over: int | None = None  # where what was shown ends [ticks]

    def of(
        self, codec: Codec, frame: av.AudioFrame, timestamp: int
    ) -> list[tuple[int, av.AudioFrame]]:
        """Return the slots that are complete with this frame, each with its media time."""
        is_new = codec is not self._codec
        if is_new:
            self._resampler = None
        if self._codec is None:
            self._cuts_all = codec is not Codec.OPUS
        if codec is Codec.OPUS and not self._cuts_all:
            middle = timestamp + SLOT // 2
            if is_new and self._over is not None and 0 < self._over - middle < _AGAIN:
                return []  # over half of it was heard in the other codec
            self._codec, self._phase = codec, timestamp % SLOT
            self._over = timestamp + frame.samples
            return [(timestamp, frame)]
        self._codec = codec
        return self._cut(frame, timestamp - (OPUS_LOOKAHEAD if codec is Codec.OPUS else 0))

    def _cut(self, frame: av.AudioFrame, timestamp: int) -> list[tuple[int, av.AudioFrame]]:
        drift = timestamp - self._left_at - len(self._left)
        if self._resampler is None or abs(drift) > _DRIFT:
            self._begin(timestamp)
        assert self._resampler is not None
        frame.pts = None  # it is counted here, by samples
        parts = [out.to_ndarray().reshape(-1, 2) for out in self._resampler.resample(frame)]
        samples = np.concatenate([self._left, *parts])
        skipped = min(self._skip, len(samples))
        samples, at = samples[skipped:], self._left_at + skipped
        self._skip -= skipped
        slots = []
        while len(samples) >= SLOT:
            slot = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(samples[:SLOT]).reshape(1, -1), format="s16", layout="stereo"
            )
            slot.sample_rate = SAMPLE_RATE
            slot.pts, slot.time_base = at, Fraction(1, SAMPLE_RATE)
            slots.append((at, slot))
            samples, at = samples[SLOT:], at + SLOT
            self._over = at
        self._left, self._left_at = samples, at
        return slots

    def _begin(self, timestamp: int) -> None:
        """Cut anew, from the first place on the grid that was not shown yet."""
        self._resampler = av.AudioResampler(format="s16", layout="stereo", rate=SAMPLE_RATE)
        self._left, self._left_at = self._left[:0], timestamp
        first = timestamp
        if self._over is not None and 0 < self._over - timestamp < _AGAIN:
            first = self._over
        self._skip = first - timestamp + (self._phase - first) % SLOT
