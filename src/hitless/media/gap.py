"""
What a viewer saw and heard, as figures. Pure arithmetic: no I/O, no clock.

A record is what was shown, in the order in which it was shown: the number of each picture (or
the slot of each sound) and the time. Everything is judged over a window, and an interval that
touches the window counts whole: a window that begins in the dark still knows for how long.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Final, NamedTuple


SOUND_INTERVAL_S: Final = 0.02
"""One slot of the test sound."""

_ROUND_S: Final = 256 * SOUND_INTERVAL_S
"""The test sound tells slots modulo 256, so skew is known modulo 5.12 s."""

_SKEW_WINDOW_S: Final = 1.0
"""Skew is the median over this long."""


class Shown(NamedTuple):
    """One picture or one slot of sound that was shown."""

    number: int
    """Its number, which only grows."""
    at_s: float
    """When [s]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GapReport:
    """
    What a window held.

    Attributes:
        gap_s: The longest interval between new pictures, less one frame interval [s]: what a
            viewer missed (DESIGN section 1). 0 for a perfect stream.
        longest_interval_s: The longest interval between new pictures [s].
        baseline_longest_interval_s: The same over another window of the same length [s]; None
            if none was given.
        frames_shown: New pictures.
        frames_lost: Numbers between the first and the last that were never shown.
        frames_repeated: Pictures shown again or out of order.
        audio_gap_s: As `gap_s`, for slots of sound [s].
        audio_longest_interval_s: As `longest_interval_s`, for slots of sound [s].
        audio_slots_shown: New slots.
        audio_slots_lost: As `frames_lost`, for slots of sound.
        audio_slots_repeated: As `frames_repeated`, for slots of sound.
        av_skew_s: How much later the sound came, beside the picture, at the end of the window
            than at its beginning [s]; None without both kinds at both ends.
        av_skew_s_max: The largest skew in any second [s], sign kept, + is sound later than
            picture; None without both kinds.
    """

    gap_s: float
    longest_interval_s: float
    baseline_longest_interval_s: float | None
    frames_shown: int
    frames_lost: int
    frames_repeated: int
    audio_gap_s: float
    audio_longest_interval_s: float
    audio_slots_shown: int
    audio_slots_lost: int
    audio_slots_repeated: int
    av_skew_s: float | None
    av_skew_s_max: float | None


def measure(
    pictures: Iterable[Shown | tuple[int, float]],
    sounds: Iterable[Shown | tuple[int, float]],
    from_s: float,
    to_s: float,
    frame_interval_s: float,
    *,
    baseline_from_s: float | None = None,
) -> GapReport:
    """
    Judge what was shown between `from_s` and `to_s` [s].

    Args:
        pictures: The record of the pictures, in the order shown; may reach beyond the window.
        sounds: The record of the slots of sound, likewise.
        from_s: Where the window begins [s].
        to_s: Where it ends [s].
        frame_interval_s: One frame interval of the source [s].
        baseline_from_s: Where a window without any event begins [s]; it is as long.

    Raises:
        ValueError: The window is empty, or the frame interval is not positive.
    """
    if not to_s > from_s or not frame_interval_s > 0:
        raise ValueError("a window ends after it begins, and a frame takes time")
    seen = [Shown(*one) for one in pictures]
    heard = [Shown(*one) for one in sounds]
    picture = _tally(seen, from_s, to_s)
    sound = _tally(heard, from_s, to_s)
    baseline_s = None
    if baseline_from_s is not None:
        baseline_to_s = baseline_from_s + to_s - from_s
        baseline_s = _tally(seen, baseline_from_s, baseline_to_s).longest_s
    change_s, largest_s = _skews(seen, heard, from_s, to_s, frame_interval_s)
    return GapReport(
        gap_s=max(0.0, picture.longest_s - frame_interval_s),
        longest_interval_s=picture.longest_s,
        baseline_longest_interval_s=baseline_s,
        frames_shown=picture.shown,
        frames_lost=picture.lost,
        frames_repeated=picture.repeated,
        audio_gap_s=max(0.0, sound.longest_s - SOUND_INTERVAL_S),
        audio_longest_interval_s=sound.longest_s,
        audio_slots_shown=sound.shown,
        audio_slots_lost=sound.lost,
        audio_slots_repeated=sound.repeated,
        av_skew_s=change_s,
        av_skew_s_max=largest_s,
    )


@dataclass(frozen=True, slots=True)
class _Tally:
    longest_s: float
    shown: int
    lost: int
    repeated: int


def _tally(record: Sequence[Shown], from_s: float, to_s: float) -> _Tally:
    """Count one kind over a window, from the last new one before it to the first one after."""
    new: list[Shown] = []
    numbers: set[int] = set()
    shown = repeated = 0
    highest: int | None = None
    for one in record:
        inside = from_s <= one.at_s <= to_s
        if highest is not None and one.number <= highest:
            repeated += inside
            numbers.add(one.number)  # out of order is not lost
            continue
        highest = one.number
        numbers.add(one.number)
        shown += inside
        if one.at_s < from_s:
            new = [one]
        elif inside or not new or new[-1].at_s <= to_s:
            new.append(one)

    # With nothing shown before or after the window, its own ends are all that is known.
    times = [one.at_s for one in new]
    if not times or times[0] > from_s:
        times.insert(0, from_s)
    if times[-1] < to_s:
        times.append(to_s)
    longest_s = max(later - earlier for earlier, later in pairwise(times))
    lost = 0
    if new:
        first, last = new[0].number, new[-1].number
        lost = last - first + 1 - sum(first <= number <= last for number in numbers)
    return _Tally(longest_s=longest_s, shown=shown, lost=lost, repeated=repeated)


def _skews(
    pictures: Sequence[Shown],
    sounds: Sequence[Shown],
    from_s: float,
    to_s: float,
    frame_interval_s: float,
) -> tuple[float | None, float | None]:
    """Return the change of the skew over the window, and the largest skew in it [s]."""
    span_s = min(_SKEW_WINDOW_S, to_s - from_s)
    first = _skew(pictures, sounds, from_s, from_s + span_s, frame_interval_s)
    last = _skew(pictures, sounds, to_s - span_s, to_s, frame_interval_s)
    change_s = None if first is None or last is None else _fold(last - first)
    known = [
        skew_s
        for second in range(int((to_s - from_s) / span_s))
        if (
            skew_s := _skew(
                pictures,
                sounds,
                from_s + second * span_s,
                from_s + (second + 1) * span_s,
                frame_interval_s,
            )
        )
        is not None
    ]
    return change_s, max(known, key=abs, default=None)


def _skew(
    pictures: Sequence[Shown],
    sounds: Sequence[Shown],
    from_s: float,
    to_s: float,
    frame_interval_s: float,
) -> float | None:
    """Return by how much sound is shown later than the picture of the same media time [s]."""
    picture_delay_s = _delay(pictures, from_s, to_s, frame_interval_s)
    sound_delay_s = _delay(sounds, from_s, to_s, SOUND_INTERVAL_S)
    if picture_delay_s is None or sound_delay_s is None:
        return None
    return _fold(sound_delay_s - picture_delay_s)


def _delay(record: Sequence[Shown], from_s: float, to_s: float, interval_s: float) -> float | None:
    """Return the median of (time shown - media time) [s], on an arbitrary origin."""
    delays = [one.at_s - one.number * interval_s for one in record if from_s <= one.at_s <= to_s]
    return median(delays) if delays else None


def _fold(skew_s: float) -> float:
    return (skew_s + _ROUND_S / 2) % _ROUND_S - _ROUND_S / 2
