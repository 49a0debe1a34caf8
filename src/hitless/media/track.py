"""
What an engine reads from: one kind of one source, frame after frame, each with its media time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import av

from .frame import Kind
from .pattern import SAMPLE_RATE, SLOT, SLOT_S, TestPicture, TestSound
from .quality import Quality


class EndOfTrack(Exception):
    """
    The track is at its end. Between a track and its engine only; never reaches a caller.

    Attributes:
        at_s: Media time at which its last frame is over [s].
    """

    def __init__(self, at_s: float) -> None:
        super().__init__(f"at {at_s:.3f} s")
        self.at_s = at_s


@dataclass(frozen=True, slots=True)
class Item:
    """
    One picture or one slot of sound.

    Attributes:
        time_s: When it is due, in media time since the start of the lap [s].
        make: Makes it: `av.VideoFrame` of any size and format, or int16 [960, 2] at 48 kHz. Not
            called for what is skipped. (Any: the two have no common base.)
    """

    time_s: float
    make: Callable[[], Any]


@dataclass(slots=True)
class Settings:
    """What can change while a feed runs. Written in the loop, read in the threads."""

    quality: Quality
    muted: set[Kind] = field(default_factory=set)
    keyframe: bool = False


class MediaClock:
    """Media time: zero when `start` was called, in step with the loop's clock."""

    def __init__(self) -> None:
        self._time = asyncio.get_running_loop().time
        self._zero_s = self._time()

    def start(self) -> None:
        """Make it zero now."""
        self._zero_s = self._time()

    def now(self) -> float:
        """Return media time [s]. From any thread: `loop.time` only reads the clock."""
        return self._time() - self._zero_s


class Track(Protocol):
    """One kind of one source. Used by one thread; opened before, closed by that thread."""

    def read(self, wait_s: float) -> Item | None:
        """
        Return the next frame; None if there is none within `wait_s` [s].

        Raises:
            EndOfTrack: There are no more.
            LocalFault: The source failed.
        """
        ...

    def rewind(self) -> None:
        """Go back to the beginning. Only asked of a track that has an end."""
        ...

    def close(self) -> None:
        """Release everything. Idempotent."""
        ...


class TestPictures:
    """The test picture, number after number at the quality's rate; without end."""

    __test__ = False  # the name is not a test's

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._artist: TestPicture | None = None
        self._rate = settings.quality.frame_rate
        self._number, self._from_number, self._from_s = 0, 0, 0.0

    def read(self, wait_s: float) -> Item | None:
        rate = self._settings.quality.frame_rate
        due_s = self._from_s + (self._number - self._from_number) / self._rate
        if rate != self._rate:  # counted on from here at the new rate
            self._rate, self._from_number, self._from_s = rate, self._number, due_s
        number = self._number
        self._number += 1
        return Item(due_s, lambda: self._draw(number))

    def _draw(self, number: int) -> av.VideoFrame:
        quality = self._settings.quality
        artist = self._artist
        if artist is None or (artist.width, artist.height) != (quality.width, quality.height):
            artist = self._artist = TestPicture(quality.width, quality.height)
        return av.VideoFrame.from_ndarray(artist.draw(number), format="yuv420p")

    def rewind(self) -> None:
        self._number = self._from_number = 0
        self._from_s = 0.0

    def close(self) -> None:
        pass


class TestSounds:
    """The test sound, slot after slot; without end."""

    __test__ = False  # the name is not a test's

    def __init__(self) -> None:
        self._sound = TestSound(channels=2)
        self._slot = 0

    def read(self, wait_s: float) -> Item | None:
        slot = self._slot
        self._slot += 1
        return Item(slot * SLOT_S, lambda: self._sound.slot(slot))

    def rewind(self) -> None:
        self._slot = 0

    def close(self) -> None:
        pass


_DRIFT_S_MAX: Final = 0.1
"""Sound whose timestamps leave the count of its samples by more than this begins anew."""


class Slicer:
    """Turns sound of any rate, layout and frame size into slots of 20 ms at 48 kHz stereo."""

    def __init__(self) -> None:
        self._resampler: av.AudioResampler | None = None
        self._shape: tuple[str, str, int] | None = None
        self._from_s: float | None = None
        self._given_s = 0.0
        self._slots = 0

    def due_s(self) -> float:
        """Return media time at which sound without timestamps goes on [s]."""
        return (self._from_s or 0.0) + self._given_s

    def slices(self, frame: av.AudioFrame, at_s: float | None) -> Iterator[Item]:
        """
        Yield the slots that are complete with this frame.

        Args:
            frame: Any sound; its own timestamp is not looked at.
            at_s: Media time of its first sample [s]; None: it goes on where the last one ended.
        """
        shape = (frame.format.name, frame.layout.name, frame.sample_rate)
        if self._resampler is None or shape != self._shape:
            self._resampler = av.AudioResampler(
                format="s16", layout="stereo", rate=SAMPLE_RATE, frame_size=SLOT
            )
            self._shape = shape
            if self._from_s is not None and at_s is None:
                at_s = self.due_s()
            self._from_s = None
        at_s = self.due_s() if at_s is None else at_s
        if self._from_s is None or abs(at_s - self.due_s()) > _DRIFT_S_MAX:
            self._from_s, self._given_s, self._slots = at_s, 0.0, 0
        self._given_s += frame.samples / frame.sample_rate
        for out in self._resampler.resample(frame):
            if out.samples == SLOT:
                yield self._item(out)

    def _item(self, out: av.AudioFrame) -> Item:
        samples = out.to_ndarray().reshape(SLOT, 2)
        time_s = (self._from_s or 0.0) + self._slots * SLOT_S
        self._slots += 1
        return Item(time_s, lambda: samples)
