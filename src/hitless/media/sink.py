"""Where a viewer's media goes: into a meter that counts it, or into a file (`record.py`)."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final, Protocol

import av
import numpy as np
import numpy.typing as npt

from .decoder import Picture, Sound
from .frame import Codec, EncodedFrame
from .gap import SOUND_INTERVAL_S, GapReport, Shown, measure
from .pattern import SLOT, Luma, SlotReader, read_number
from .record import FileSink


__all__ = ["FileSink", "Meter", "Reading", "Sink", "luma"]

RECORD_S: Final = 600.0
"""A meter remembers ten minutes: some 48 000 entries of 30 pictures and 50 slots a second."""

_PICTURES_PER_S_MAX, _SLOTS_PER_S_MAX = 60, 60


class Sink(Protocol):
    """
    Takes what a viewer receives. All calls come in the loop's thread and must not block.

    Attributes:
        wants_decoded: Whether `picture` and `sound` are wanted; if not, nothing is decoded.
    """

    wants_decoded: bool

    def take(self, frame: EncodedFrame) -> None:
        """
        Take one frame as it arrived.

        Raises:
            LocalFault: This machine cannot keep it (a full disk).
        """
        ...

    def picture(self, picture: Picture) -> None:
        """Take one decoded picture."""
        ...

    def sound(self, sound: Sound) -> None:
        """Take 20 ms of decoded sound."""
        ...

    async def aclose(self) -> None:
        """Finish what was taken. Idempotent; never raises; bounded."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What the newest pictures and sounds said; None: nothing readable came yet."""

    number: int | None
    slot: int | None
    pictures: int
    sounds: int
    unreadable_pictures: int
    unreadable_sounds: int


class Meter:
    """
    Reads the numbers of the test picture and the slots of the test sound, and remembers them.

    Args:
        frame_rate: Pictures per second of the source [1/s].
        record_s: How long it remembers [s].
    """

    wants_decoded = True

    def __init__(self, *, frame_rate: float = 30.0, record_s: float = RECORD_S) -> None:
        self.frame_interval_s = 1 / frame_rate
        self._record_s = record_s
        self._slots = SlotReader()
        self._before: Sound | None = None
        self._back = 0
        self._began_as_aac = False
        self.pictures: deque[Shown] = deque(maxlen=int(record_s * _PICTURES_PER_S_MAX))
        """Each readable picture, in the order shown."""
        self.sounds: deque[Shown] = deque(maxlen=int(record_s * _SLOTS_PER_S_MAX))
        """Each readable slot, in the order heard, counted on without wrapping."""
        self._seen = self._heard = self._unreadable_pictures = self._unreadable_sounds = 0

    def take(self, frame: EncodedFrame) -> None:
        """Do nothing: a meter judges what is shown, not what arrives."""

    def picture(self, picture: Picture) -> None:
        self._seen += 1
        number = read_number(luma(picture.frame))
        if number is None:
            self._unreadable_pictures += 1
            return
        if not self.pictures and not self.sounds:
            # The sound only tells slots modulo 256; the picture tells which round it is.
            due = round(number * self.frame_interval_s / SOUND_INTERVAL_S)
            self._slots.expect(due, picture.at_s)
        self.pictures.append(Shown(number, picture.at_s))
        self._forget(self.pictures, picture.at_s)

    def sound(self, sound: Sound) -> None:
        self._heard += 1
        before, self._before = self._before, sound
        if before is None:
            self._began_as_aac = sound.codec is Codec.AAC
        slot = self._slots.read(self._samples(sound, before), sound.at_s)
        if slot is None and self._is_cut_anywhere(sound):
            self._back = SLOT // 2 - self._back  # and from now on
            slot = self._slots.read(self._samples(sound, before), sound.at_s)
        if slot is None:
            self._unreadable_sounds += 1
            return
        self.sounds.append(Shown(slot, sound.at_s))
        self._forget(self.sounds, sound.at_s)

    def _is_cut_anywhere(self, sound: Sound) -> bool:
        """Whether it need not begin where a slot of the test sound does: see `Decoder`."""
        return sound.codec is Codec.AAC or self._began_as_aac

    def _samples(self, sound: Sound, before: Sound | None) -> npt.NDArray[np.int16]:
        """
        Return one channel of a sound.

        Cut in the middle of the test sound's slots, these cannot be told apart; half a slot back
        they can.
        """
        samples = _mono(sound)
        if not self._is_cut_anywhere(sound):
            self._back = 0
        if self._back == 0 or before is None or before.timestamp != sound.timestamp - SLOT:
            return samples
        return np.concatenate([_mono(before)[-self._back :], samples[: -self._back]])

    def reading(self) -> Reading:
        """Return the newest numbers and the counts since the beginning."""
        return Reading(
            number=self.pictures[-1].number if self.pictures else None,
            slot=self.sounds[-1].number if self.sounds else None,
            pictures=self._seen,
            sounds=self._heard,
            unreadable_pictures=self._unreadable_pictures,
            unreadable_sounds=self._unreadable_sounds,
        )

    def report(
        self, from_s: float, to_s: float, *, baseline_from_s: float | None = None
    ) -> GapReport:
        """Judge a window of the record [s, the loop's clock]; see `hitless.media.gap.measure`."""
        return measure(
            self.pictures,
            self.sounds,
            from_s,
            to_s,
            self.frame_interval_s,
            baseline_from_s=baseline_from_s,
        )

    async def aclose(self) -> None:
        """Do nothing: the record stays readable."""

    def _forget(self, record: deque[Shown], now: float) -> None:
        while record and record[0].at_s < now - self._record_s:
            record.popleft()


def _mono(sound: Sound) -> npt.NDArray[np.int16]:
    return sound.frame.to_ndarray().reshape(-1, 2)[:, 0].astype(np.int16)


def luma(frame: av.VideoFrame) -> Luma:
    """Return the brightness of a yuv420p picture, uint8 [height, width]; a view, not a copy."""
    plane = frame.planes[0]
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
    return rows[: frame.height, : frame.width]
