"""
Where a leg's time lies beside the stream's, found by listening.

Two legs that carry different codecs have no frame in common, and their timestamps have nothing
to do with each other. But they carry the same sound: decoded, the one is found in the other to
a fraction of a millisecond, however much later it comes. Pictures follow from that: how much
later a leg brings things is the same for its pictures and its sound, so the arrival of both,
least delayed, tells the rest to within a few milliseconds, and the frame interval tells it
exactly.

Silence and sounds that repeat at once (a tone) say nothing; then nothing is claimed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import pairwise
from typing import Final, cast

import av
import numpy as np
import numpy.typing as npt

from .frame import CLOCK_RATE, Codec, EncodedFrame, Kind
from .pattern import OPUS_LOOKAHEAD, SAMPLE_RATE


NEEDLE_S: Final = 0.5
"""How much sound is looked for [s]: below that, speech and tunes are found in wrong places."""

EAR_S: Final = 4.0
"""How much sound is remembered [s]: two legs that lie further apart are not aligned."""

_PART: Final = 3
"""Samples that make one of those compared: 16 kHz, where both codecs keep the waveform."""

_ALIKE: Final = 0.7
"""The least correlation that counts; Opus against AAC of the same sound gives over 0.95."""

_UNIQUE: Final = 0.05
"""How much better than anywhere else the best place must be."""

_PEAK: Final = 8
"""Places this near to the best one belong to it: 0.5 ms."""

_LOUD: Final = 30.0
"""The least loudness that is compared: 0.1 % of full scale, above dither and codec noise."""

_LOOKAHEAD: Final = {Codec.OPUS: OPUS_LOOKAHEAD, Codec.AAC: 0}
"""Samples by which decoded sound lies before its timestamp; AAC's timestamps are those of its
samples (`aac.py`)."""

_ENCODING_S: Final = {Codec.OPUS: 0.0, Codec.AAC: 0.044}
"""The least time from a frame's timestamp to its encoding [s]: see `aac.py`; 2112 samples."""

_ROUNDING: Final = SAMPLE_RATE // 400
"""Timestamps that are off by less than this are rounding (RTMP's are whole milliseconds): 2.5 ms.
Sound that was torn apart by that would not be recognised."""

Wave = npt.NDArray[np.float64]
"""Sound, mono."""


class Ear:
    """Decodes the sound of one leg and remembers the last seconds of it."""

    def __init__(self) -> None:
        self._codec: Codec | None = None
        self._context: av.AudioCodecContext | None = None
        self._heard: deque[tuple[int, Wave]] = deque()
        self._last: int | None = None

    def hear(self, frames: Iterable[EncodedFrame]) -> None:
        """
        Listen to those of these frames that are new, in order of time; damage is skipped.

        A frame costs 0.05 ms.
        """
        for frame in frames:
            if self._last is not None and frame.timestamp <= self._last:
                continue
            self._last = frame.timestamp
            try:
                wave = self._decode(frame)
            except Exception:  # a stranger's bytes: nothing is heard of them
                self._context = None
                continue
            at = frame.timestamp - _LOOKAHEAD.get(frame.codec, 0)
            if self._heard:
                follows = self._heard[-1][0] + len(self._heard[-1][1])
                at = follows if abs(at - follows) < _ROUNDING else at
            self._heard.append((at, wave))
        oldest = (self._last or 0) - round(EAR_S * SAMPLE_RATE)
        while self._heard and self._heard[0][0] < oldest:
            self._heard.popleft()

    def wave(self) -> tuple[int, Wave] | None:
        """Return the media time of the first sample [ticks of 48 kHz], and it at 16 kHz."""
        if not self._heard:
            return None
        begin = self._heard[0][0]
        last, piece = self._heard[-1]
        whole = np.zeros(last - begin + len(piece))
        for at, piece in self._heard:
            whole[at - begin : at - begin + len(piece)] = piece
        return begin, whole[: len(whole) // _PART * _PART].reshape(-1, _PART).mean(axis=1)

    def _decode(self, frame: EncodedFrame) -> Wave:
        if self._context is None or frame.codec is not self._codec:
            name = {Codec.OPUS: "libopus", Codec.AAC: "aac"}[frame.codec]
            self._context = cast(av.AudioCodecContext, av.CodecContext.create(name, "r"))
            self._codec = frame.codec
            if frame.codec is Codec.OPUS:
                self._context.format = "s16"
                self._context.layout = "stereo"
                self._context.sample_rate = SAMPLE_RATE
        parts = []
        for out in self._context.decode(av.Packet(frame.data)):
            if out.sample_rate != SAMPLE_RATE:
                raise ValueError("sound of another rate is not compared")
            samples = out.to_ndarray().astype(np.float64)
            if samples.shape[0] == 1:  # packed
                samples = samples.reshape(out.samples, -1).T
            elif out.format.name == "fltp":
                samples = samples * 32_768
            parts.append(samples.mean(axis=0))
        return np.concatenate(parts) if parts else np.empty(0)


def sound_offset(stream: Ear, leg: Ear) -> int | None:
    """
    Return what to add to a leg's timestamps of sound to get the stream's [ticks of 48 kHz].

    The leg may be behind the stream or ahead of it. Costs 5 ms.

    Returns:
        The offset, right to 0.25 ms; None if the sounds have nothing in common yet, or too
        little happens in them to tell.
    """
    ours, theirs = stream.wave(), leg.wave()
    if ours is None or theirs is None:
        return None
    (ours_at, ours_wave), (theirs_at, theirs_wave) = ours, theirs
    size = round(NEEDLE_S * SAMPLE_RATE / _PART)
    if min(len(ours_wave), len(theirs_wave)) < size:
        return None
    # The leg is behind: its sound lies in what the stream had. Else the other way round.
    place = _find(theirs_wave[-size:], ours_wave)
    if place is not None:
        return ours_at + place * _PART - (theirs_at + (len(theirs_wave) - size) * _PART)
    place = _find(ours_wave[-size:], theirs_wave)
    if place is not None:
        return ours_at + (len(ours_wave) - size) * _PART - (theirs_at + place * _PART)
    return None


def picture_offset(
    sound: int, stream: dict[Kind, list[EncodedFrame]], leg: dict[Kind, list[EncodedFrame]]
) -> int | None:
    """
    Return what to add to a leg's timestamps of pictures to get the stream's [ticks of 90 kHz].

    Args:
        sound: The same for its sound [ticks of 48 kHz].
        stream: The last seconds of each kind as the stream had them, at least one frame each.
        leg: The same of the leg.

    Returns:
        The offset, on the grid of the stream's pictures if it has one; None without frames.
    """
    if not all(side.get(kind) for side in (stream, leg) for kind in Kind):
        return None
    rate = CLOCK_RATE[Kind.VIDEO]
    # Of both: arrival = media time + the leg's delay; the least delayed frame tells it.
    apart_s = (
        sound / CLOCK_RATE[Kind.AUDIO] + _base_s(stream[Kind.AUDIO]) - _base_s(leg[Kind.AUDIO])
    )
    offset = round((apart_s - _base_s(stream[Kind.VIDEO]) + _base_s(leg[Kind.VIDEO])) * rate)
    return _on_grid(offset, stream[Kind.VIDEO], leg[Kind.VIDEO])


def arrival_offset(stream: list[EncodedFrame], leg: list[EncodedFrame]) -> int:
    """
    Return what to add to a leg's timestamps of one kind if it is as late as the stream is.

    Args:
        stream: The last frames of the stream; at least one.
        leg: The same of the leg.

    Returns:
        The offset [ticks], on the grid of the stream's pictures if they have one.
    """
    kind = leg[-1].kind
    offset = round((_base_s(leg) - _base_s(stream)) * CLOCK_RATE[kind])
    return _on_grid(offset, stream, leg) if kind is Kind.VIDEO else offset


def _on_grid(offset: int, stream: list[EncodedFrame], leg: list[EncodedFrame]) -> int:
    """Return the offset nearest to this one that puts a leg's pictures where the stream's lie."""
    interval = frame_interval(stream)
    if interval is None:
        return offset
    off_grid = leg[-1].timestamp + offset - stream[-1].timestamp
    return offset - (off_grid + interval // 2) % interval + interval // 2


def frame_interval(pictures: list[EncodedFrame]) -> int | None:
    """Return the interval of pictures that come at a steady rate [ticks]; None: they do not."""
    times = [picture.timestamp for picture in pictures]
    steps = sorted(later - earlier for earlier, later in pairwise(times))
    if len(steps) < 5:
        return None
    median = steps[len(steps) // 2]
    near = sum(abs(step - median) <= CLOCK_RATE[Kind.VIDEO] // 500 for step in steps)
    return median if near >= 0.9 * len(steps) else None


def _base_s(frames: list[EncodedFrame]) -> float:
    """Return when media time zero would have been encoded, by the least delayed frame [s]."""
    return min(
        one.arrived_s - one.timestamp / CLOCK_RATE[one.kind] - _ENCODING_S.get(one.codec, 0.0)
        for one in frames
    )


def _find(needle: Wave, hay: Wave) -> int | None:
    """Return where a piece of sound lies in another one, if it does and only there."""
    size, places = len(needle), len(hay) - len(needle) + 1
    if places < 1 or np.sqrt(np.mean(needle**2)) < _LOUD:
        return None
    length = 1 << (len(hay) + size - 1).bit_length()
    spectrum = np.fft.rfft(hay, length) * np.conj(np.fft.rfft(needle, length))
    product = np.fft.irfft(spectrum, length)[:places]
    energy = np.concatenate([[0.0], np.cumsum(hay**2)])
    norms = np.sqrt(np.maximum(energy[size:] - energy[:-size], size * _LOUD**2))
    likeness = product / (norms * np.sqrt(np.sum(needle**2)))
    best = int(likeness.argmax())
    peak = likeness[best]
    likeness[max(0, best - _PEAK) : best + _PEAK + 1] = -1.0
    if peak < _ALIKE or (places > 2 * _PEAK + 1 and likeness.max() > peak - _UNIQUE):
        return None
    return best
