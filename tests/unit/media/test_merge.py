"""hitless.media.merge"""

import itertools
from dataclasses import replace

import pytest

from hitless.media.frame import CLOCK_RATE, Codec, EncodedFrame, Kind
from hitless.media.merge import MATCH_S, QUIET_S, Merge


INTERVAL_S = {Kind.VIDEO: 1 / 30, Kind.AUDIO: 0.02}
CODEC = {Kind.VIDEO: Codec.VP8, Kind.AUDIO: Codec.OPUS}


class Viewer:
    """A merge that notes what it delivers, and legs that bring frames late, as told."""

    def __init__(self):
        self.shown, self.usable, self.asked = [], [], []
        self.merge = Merge(self.shown.append, self.usable.append, self.asked.append)

    def bring(self, leg, kind, number, *, late_s=0.0, data=None, keyframe=False):
        """Frame `number` of a source that began at 0 s arrives over `leg`."""
        self.merge.take(leg, frame(kind, number, leg, late_s=late_s, data=data, keyframe=keyframe))

    def numbers(self, kind):
        return [int(f.data.split()[-1]) for f in self.shown if f.kind is kind]


def frame(kind, number, leg, *, late_s=0.0, data=None, keyframe=False):
    """A frame with timestamps of the leg's own, as an SFU gives them."""
    media_s = number * INTERVAL_S[kind]
    return EncodedFrame(
        kind=kind,
        codec=CODEC[kind],
        data=data if data is not None else f"{kind} {number}".encode(),
        timestamp=round(media_s * CLOCK_RATE[kind]) + 7919 * leg,
        keyframe=keyframe or kind is Kind.AUDIO,
        arrived_s=media_s + late_s,
    )


def watch(viewer, leg, numbers, *, kind=Kind.VIDEO, first_is_key=True, **more):
    for place, number in enumerate(numbers):
        viewer.bring(leg, kind, number, keyframe=first_is_key and place == 0, **more)


def test_a_viewer_begins_at_a_keyframe():
    """
    What cannot be decoded is not shown, and a keyframe is asked for.
    """
    viewer = Viewer()
    viewer.bring(1, Kind.VIDEO, 5)
    viewer.bring(1, Kind.VIDEO, 6, keyframe=True)
    viewer.bring(1, Kind.VIDEO, 7)

    assert viewer.numbers(Kind.VIDEO) == [6, 7]
    assert viewer.asked == [1]
    assert viewer.usable == [1]


@pytest.mark.parametrize("lead", [-3, -1, 0, 1, 3])
def test_a_second_leg_that_leads_or_lags_costs_no_frame_and_repeats_none(lead):
    """
    Two providers are never equally fast; each frame is shown once all the same.
    """
    viewer = Viewer()
    watch(viewer, 1, range(10))
    new = iter(range(10, 60))
    for number in range(10, 40):
        if lead > 0:  # the new leg is ahead
            for _ in range(lead if number == 10 else 1):
                place = next(new)
                viewer.bring(2, Kind.VIDEO, place, keyframe=place == 10)
        viewer.bring(1, Kind.VIDEO, number, keyframe=number == 10)
        if lead <= 0 and number - 10 >= -lead:
            place = next(new)
            viewer.bring(2, Kind.VIDEO, place, keyframe=place == 10)
    assert viewer.usable == [1, 2]
    viewer.merge.remove(1)
    for number in new:
        viewer.bring(2, Kind.VIDEO, number)

    assert viewer.numbers(Kind.VIDEO) == list(range(60))


@pytest.mark.parametrize("rounded", [1, 2])
def test_a_leg_with_timestamps_in_whole_milliseconds_repeats_nothing(rounded):
    """
    As RTMP has them: the same frame twice would upset the decoder until the next keyframe.
    """
    viewer = Viewer()
    ms = CLOCK_RATE[Kind.VIDEO] // 1000
    for number in range(60):
        legs = (1, 2) if number % 3 else (2, 1)  # now the one is ahead, now the other
        for leg in legs if number >= 10 else (1,):
            one = frame(Kind.VIDEO, number, leg, keyframe=number in (0, 10))
            if leg == rounded:
                one = replace(one, timestamp=round(one.timestamp / ms) * ms)
            viewer.merge.take(leg, one)

    assert viewer.usable == [1, 2]
    assert viewer.numbers(Kind.VIDEO) == list(range(60))


def test_timestamps_go_on_across_legs():
    """
    The decoder and the file see one stream with one time base.
    """
    viewer = Viewer()
    watch(viewer, 1, range(20))
    for number in range(20, 30):
        viewer.bring(1, Kind.VIDEO, number, keyframe=number == 20)
        viewer.bring(2, Kind.VIDEO, number, keyframe=number == 20)
    viewer.merge.remove(1)
    watch(viewer, 2, range(30, 40), first_is_key=False)

    steps = {b.timestamp - a.timestamp for a, b in itertools.pairwise(viewer.shown)}

    assert steps == {3000}


def test_after_a_kill_a_keyframe_is_taken_by_the_clock():
    """
    Nothing can match a leg that is gone: the new one goes on after the time that passed.
    """
    viewer = Viewer()
    watch(viewer, 1, range(10))
    viewer.bring(2, Kind.VIDEO, 22)
    viewer.bring(2, Kind.VIDEO, 23, keyframe=True)
    viewer.bring(2, Kind.VIDEO, 24)

    assert viewer.numbers(Kind.VIDEO) == [*range(10), 23, 24]
    assert viewer.shown[10].timestamp - viewer.shown[9].timestamp == pytest.approx(
        14 * 3000, abs=2
    )
    assert 2 in viewer.usable


def test_audio_is_matched_only_where_two_packets_agree():
    """
    Silence repeats itself: one equal packet proves nothing.
    """
    viewer = Viewer()
    for number in range(10):
        viewer.bring(1, Kind.AUDIO, number, data=b"silence 0")
    for number in range(10, 20):
        viewer.bring(1, Kind.AUDIO, number)
    viewer.bring(2, Kind.AUDIO, 9, data=b"silence 0", late_s=0.21)
    assert viewer.usable == [1]
    viewer.bring(2, Kind.AUDIO, 18, late_s=0.03)
    assert viewer.usable == [1]
    viewer.bring(2, Kind.AUDIO, 19, late_s=0.03)

    assert viewer.usable == [1, 2]

    viewer.merge.remove(1)
    watch(viewer, 2, range(20, 25), kind=Kind.AUDIO)

    assert viewer.numbers(Kind.AUDIO) == [0] * 10 + list(range(10, 25))


def test_in_silence_audio_is_taken_by_the_clock_and_keeps_its_place():
    """
    Where nothing identifies a packet, its arrival does; no slot is played twice.
    """
    viewer = Viewer()
    for number in range(60):
        viewer.bring(1, Kind.AUDIO, number, data=b"silence 0")
        if number >= 20:
            viewer.bring(2, Kind.AUDIO, number, data=b"silence 0", late_s=0.002)

    assert 2 in viewer.usable
    assert len(viewer.shown) == 60


def test_a_provider_that_transcodes_takes_over_at_a_keyframe():
    """
    Frames that never match are not interleaved with the others.
    """
    viewer = Viewer()
    waited = round(MATCH_S / INTERVAL_S[Kind.VIDEO]) + 2
    for number in range(waited + 20):
        viewer.bring(1, Kind.VIDEO, number, keyframe=number == 0)
        if number > 0:
            key = number in (1, waited + 5)
            viewer.bring(2, Kind.VIDEO, number, data=b"other %d" % number, keyframe=key)

    taken = [f.data.split()[0] for f in viewer.shown]

    assert viewer.usable == [1, 2]
    assert taken[-10:] == [b"other"] * 10
    assert taken.index(b"other") == taken.count(b"video")
    assert 2 in viewer.asked


def test_a_leg_is_usable_only_when_every_kind_that_flows_is_found_on_it():
    """
    The old leg is closed when the new one is usable: sound must not be lost for the picture.
    """
    viewer = Viewer()
    for number in range(30):
        viewer.bring(1, Kind.VIDEO, number, keyframe=number == 0)
        viewer.bring(1, Kind.AUDIO, number)
    viewer.bring(1, Kind.VIDEO, 30, keyframe=True)
    viewer.bring(2, Kind.VIDEO, 30, keyframe=True)
    assert viewer.usable == [1]
    for number in (28, 29):
        viewer.bring(2, Kind.AUDIO, number, late_s=0.01)

    assert viewer.usable == [1, 2]


def test_a_short_pause_does_not_make_the_clock_decide():
    """
    As long as the other leg lives, a match is waited for.
    """
    viewer = Viewer()
    watch(viewer, 1, range(10))
    pause = int(QUIET_S / INTERVAL_S[Kind.VIDEO]) - 1
    viewer.bring(2, Kind.VIDEO, 9 + pause, keyframe=True)

    assert viewer.usable == [1]
