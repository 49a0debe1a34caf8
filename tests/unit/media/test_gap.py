"""The arithmetic of what a viewer saw."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitless.media.gap import GapReport, measure


RATE = 30
PICTURES = [(number, number / RATE) for number in range(300)]
SOUNDS = [(slot, slot / 50 + 0.01) for slot in range(500)]


def report(
    pictures: list[tuple[int, float]] = PICTURES,
    sounds: list[tuple[int, float]] = SOUNDS,
    from_s: float = 2.0,
    to_s: float = 8.0,
    baseline_from_s: float | None = None,
) -> GapReport:
    return measure(pictures, sounds, from_s, to_s, 1 / RATE, baseline_from_s=baseline_from_s)


def test_a_perfect_record_has_no_gap() -> None:
    """Nothing lost, nothing repeated, and the longest interval is one frame's."""
    perfect = report(baseline_from_s=0.0)
    assert perfect.gap_s == pytest.approx(0, abs=1e-9)
    assert perfect.longest_interval_s == pytest.approx(1 / RATE)
    assert perfect.baseline_longest_interval_s == pytest.approx(1 / RATE)
    assert perfect.audio_gap_s == pytest.approx(0, abs=1e-9)
    assert (perfect.frames_shown, perfect.audio_slots_shown) == (181, 300)
    assert (perfect.frames_lost, perfect.frames_repeated) == (0, 0)
    assert (perfect.audio_slots_lost, perfect.audio_slots_repeated) == (0, 0)
    assert perfect.av_skew_s == pytest.approx(0, abs=1e-3)
    assert perfect.av_skew_s_max == pytest.approx(0.01, abs=1e-3)


@given(gone=st.sets(st.integers(70, 230)))
def test_frames_taken_out_are_frames_lost(gone: set[int]) -> None:
    """Exactly as many as were taken out, wherever in the window they were."""
    pictures = [one for one in PICTURES if one[0] not in gone]
    assert report(pictures).frames_lost == len(gone)
    assert report(pictures).frames_repeated == 0


@given(first=st.integers(100, 200), count=st.integers(1, 30))
def test_a_hole_is_as_long_as_what_is_missing(first: int, count: int) -> None:
    """Each lost frame in a row adds one frame interval to the gap; so do slots of sound."""
    pictures = [one for one in PICTURES if not first <= one[0] < first + count]
    sounds = [one for one in SOUNDS if not first + 50 <= one[0] < first + 50 + count]
    holed = report(pictures, sounds)
    assert holed.gap_s == pytest.approx(count / RATE)
    assert holed.longest_interval_s == pytest.approx((count + 1) / RATE)
    assert holed.audio_gap_s == pytest.approx(count * 0.02)
    assert holed.audio_slots_lost == count


@given(again=st.lists(st.integers(70, 230), max_size=20))
def test_frames_shown_again_are_repeated_and_fill_no_gap(again: list[int]) -> None:
    """A repeat is counted, and neither shortens an interval nor makes up for a loss."""
    pictures = list(PICTURES)
    for number in sorted(again, reverse=True):
        pictures.insert(number + 1, (number, number / RATE + 0.01))
    repeated = report(pictures)
    assert repeated.frames_repeated == len(again)
    assert repeated.frames_lost == 0
    assert repeated.longest_interval_s == pytest.approx(1 / RATE)


@given(number=st.integers(70, 220), later=st.integers(1, 9))
def test_a_frame_out_of_order_is_repeated_but_not_lost(number: int, later: int) -> None:
    """It was shown, but the viewer had already seen what came after it."""
    pictures = [one for one in PICTURES if one[0] != number]
    pictures.insert(number + later, (number, (number + later) / RATE + 0.001))
    late = report(pictures)
    assert (late.frames_lost, late.frames_repeated) == (0, 1)
    assert late.gap_s == pytest.approx(1 / RATE)


def test_a_stream_that_never_comes_back_is_dark_until_the_window_ends() -> None:
    """A gap without an end must not read as no gap."""
    ended = report([one for one in PICTURES if one[1] < 5.0])
    assert ended.longest_interval_s == pytest.approx(8.0 - 149 / RATE)


def test_a_window_that_begins_in_the_dark_knows_since_when() -> None:
    """The interval counts whole, from the last picture before the window."""
    pictures = [one for one in PICTURES if not 1.0 <= one[1] < 3.0]
    begun = report(pictures)
    assert begun.longest_interval_s == pytest.approx(90 / RATE - 29 / RATE)
    assert begun.frames_lost == 60


def test_an_empty_record_is_dark_all_the_time() -> None:
    """Nothing shown is the longest gap there can be; skew is unknown."""
    dark = report([], [])
    assert dark.longest_interval_s == 6.0
    assert dark.audio_longest_interval_s == 6.0
    assert (dark.frames_shown, dark.frames_lost, dark.av_skew_s) == (0, 0, None)
    assert dark.av_skew_s_max is None


@given(late_s=st.floats(-2.0, 2.0))
def test_sound_that_comes_later_after_a_move_is_skew(late_s: float) -> None:
    """The change is measured, with its sign; the sound's unknown round of 5.12 s is not."""
    sounds = [(slot + 256, at_s + (late_s if at_s > 5 else 0)) for slot, at_s in SOUNDS]
    skewed = report(sounds=sounds)
    assert skewed.av_skew_s == pytest.approx(late_s, abs=2e-3)


def test_the_baseline_is_another_window() -> None:
    """A hole in the window is not in the baseline, and the other way round."""
    holed = [one for one in PICTURES if one[0] not in range(60, 66)]
    moved = report(holed, from_s=5.0, to_s=7.0, baseline_from_s=1.0)
    assert moved.longest_interval_s == pytest.approx(1 / RATE)
    assert moved.baseline_longest_interval_s == pytest.approx(7 / RATE)


@pytest.mark.parametrize(("from_s", "to_s"), [(1.0, 1.0), (2.0, 1.0)])
def test_an_empty_window_is_refused(from_s: float, to_s: float) -> None:
    """It would be a figure about nothing."""
    with pytest.raises(ValueError, match="window"):
        report(from_s=from_s, to_s=to_s)
