"""Where a leg's time lies beside the stream's."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest

from hitless.media.aac import AacEncoder
from hitless.media.align import Ear, frame_interval, picture_offset, sound_offset
from hitless.media.encoder import SoundEncoder, silence
from hitless.media.frame import CLOCK_RATE, Codec, EncodedFrame, Kind
from hitless.media.pattern import SLOT, TestSound


APART = 777_777
"""By how much the timestamps of the two legs differ [ticks of 48 kHz]."""

Slots = Callable[[int], np.ndarray]


def both(slots: Slots, count: int = 200) -> tuple[list[EncodedFrame], list[EncodedFrame]]:
    """Encode the same sound as Opus, and as AAC with other timestamps."""
    noise = random.Random(1)
    opus, aac = SoundEncoder(noise), AacEncoder(noise)
    first: list[EncodedFrame] = []
    second: list[EncodedFrame] = []
    for slot in range(count):
        samples = slots(slot)
        frame = opus.encode(samples, slot * SLOT, now=0.0)
        assert frame is not None
        first.append(frame)
        second += aac.encode(samples, slot * SLOT + APART, now=0.0)
    return first, second


def ear(frames: list[EncodedFrame]) -> Ear:
    made = Ear()
    made.hear(frames)
    return made


def rumble() -> Slots:
    """Return noise in which low frequencies prevail, as in speech and music."""
    steps = np.cumsum(np.random.default_rng(1).normal(0, 1, 200 * SLOT))
    steps -= np.convolve(steps, np.ones(SLOT) / SLOT, "same")
    whole = (steps / np.abs(steps).max() * 12_000).astype(np.int16)
    return lambda slot: np.repeat(whole[slot * SLOT : (slot + 1) * SLOT, None], 2, axis=1)


def tone() -> Slots:
    wave = (8_000 * np.sin(2 * np.pi * 450 * np.arange(SLOT) / 48_000)).astype(np.int16)
    return lambda slot: np.repeat(wave[:, None], 2, axis=1)


@pytest.mark.parametrize("slots", [TestSound(2).slot, rumble()], ids=["test sound", "rumble"])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [((0, 150), (60, 100)), ((0, 150), (90, 135)), ((0, 100), (50, 180)), ((40, 80), (40, 70))],
    ids=["far behind", "behind", "ahead", "just joined"],
)
def test_a_leg_is_placed_to_a_quarter_of_a_millisecond_whatever_its_codec(
    slots: Slots, ours: tuple[int, int], theirs: tuple[int, int]
) -> None:
    """Whichever of the two is the stream, and whichever is behind."""
    opus, aac = both(slots)
    offset = sound_offset(ear(opus[slice(*ours)]), ear(aac[slice(*theirs)]))
    back = sound_offset(ear(aac[slice(*theirs)]), ear(opus[slice(*ours)]))
    assert offset == pytest.approx(-APART, abs=12)
    assert back == pytest.approx(APART, abs=12)


@pytest.mark.parametrize(
    ("slots", "theirs"),
    [
        (lambda slot: silence(), slice(50, 100)),
        (tone(), slice(50, 100)),
        (TestSound(2).slot, slice(110, 180)),
        (TestSound(2).slot, slice(50, 70)),
    ],
    ids=["silence", "a tone", "nothing in common", "too short"],
)
def test_nothing_is_claimed_where_the_sound_does_not_tell(slots: Slots, theirs: slice) -> None:
    """A wrong place is worse than none: the clock decides then."""
    opus, aac = both(slots)
    assert sound_offset(ear(opus[:100]), ear(aac[theirs])) is None


def test_timestamps_in_milliseconds_do_not_tear_the_sound_apart() -> None:
    """RTMP rounds them: what lies within rounding is taken as continuous."""
    opus, aac = both(TestSound(2).slot)
    listening = Ear()
    listening.hear(_at(frame, round(frame.timestamp / 48) * 48) for frame in aac[60:100])
    assert sound_offset(ear(opus[:150]), listening) == pytest.approx(-APART, abs=36)


def test_garbage_is_not_heard_and_does_no_harm() -> None:
    """A stranger's bytes cost themselves only."""
    opus, aac = both(TestSound(2).slot)
    listening = Ear()
    listening.hear(_at(frame, frame.timestamp, data=b"\xff\xf1rubbish") for frame in aac[:50])
    assert listening.wave() is None
    listening.hear(aac[60:100])
    assert sound_offset(ear(opus[:150]), listening) == pytest.approx(-APART, abs=12)


def _at(frame: EncodedFrame, timestamp: int, *, data: bytes | None = None) -> EncodedFrame:
    return EncodedFrame(
        kind=frame.kind,
        codec=frame.codec,
        data=frame.data if data is None else data,
        timestamp=timestamp,
        keyframe=True,
        arrived_s=frame.arrived_s,
    )


def media(
    kind: Kind, codec: Codec, count: int, *, zero: int, late_s: float, seed: int
) -> list[EncodedFrame]:
    """Return frames of a leg that brings them `late_s` late, with up to 8 ms of jitter."""
    rng = random.Random(seed)
    interval_s = {Kind.VIDEO: 1 / 30, Kind.AUDIO: 0.02}[kind]
    return [
        EncodedFrame(
            kind=kind,
            codec=codec,
            data=b"",
            timestamp=zero + round(number * interval_s * CLOCK_RATE[kind]),
            keyframe=True,
            arrived_s=100 + number * interval_s + late_s + 0.008 * rng.random(),
        )
        for number in range(count)
    ]


@pytest.mark.parametrize("late_s", [0.0, 0.23, 1.7])
def test_pictures_are_placed_to_the_frame_from_the_sound_and_the_arrival(late_s: float) -> None:
    """Timestamps of pictures and sound have nothing to do with each other on either leg."""
    stream = {
        Kind.VIDEO: media(Kind.VIDEO, Codec.VP8, 90, zero=5_000, late_s=0.03, seed=1),
        Kind.AUDIO: media(Kind.AUDIO, Codec.OPUS, 150, zero=70_000, late_s=0.03, seed=2),
    }
    leg = {
        Kind.VIDEO: media(Kind.VIDEO, Codec.H264, 60, zero=9_000_000, late_s=late_s, seed=3),
        Kind.AUDIO: media(Kind.AUDIO, Codec.OPUS, 90, zero=123, late_s=late_s, seed=4),
    }
    assert picture_offset(70_000 - 123, stream, leg) == 5_000 - 9_000_000


def test_without_frames_of_both_kinds_pictures_are_not_placed() -> None:
    """A leg of pictures alone has no sound to go by."""
    both_kinds = {
        Kind.VIDEO: media(Kind.VIDEO, Codec.VP8, 9, zero=0, late_s=0.0, seed=1),
        Kind.AUDIO: media(Kind.AUDIO, Codec.OPUS, 9, zero=0, late_s=0.0, seed=1),
    }
    assert picture_offset(0, both_kinds, {**both_kinds, Kind.VIDEO: []}) is None


def test_only_a_steady_rate_has_a_frame_interval() -> None:
    """A screen share has no grid that pictures could be placed on."""
    steady = media(Kind.VIDEO, Codec.VP8, 30, zero=0, late_s=0.0, seed=1)
    assert frame_interval(steady) == 3_000
    assert frame_interval(steady[:3]) is None
    assert frame_interval([one for place, one in enumerate(steady) if place % 3]) is None
