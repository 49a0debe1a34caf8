"""A viewer that moves between legs of different codecs, with real encoders and decoders."""

from __future__ import annotations

import asyncio
import functools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import av
import pytest

from hitless.media.aac import AacEncoder
from hitless.media.decoder import Decoder
from hitless.media.encoder import PictureEncoder, SoundEncoder, silence
from hitless.media.frame import Codec, EncodedFrame, Kind
from hitless.media.merge import ALIGN_S, Merge
from hitless.media.pattern import SLOT, TestPicture, TestSound
from hitless.media.quality import Quality
from hitless.media.sink import Meter


SMALL = Quality(width=320, height=180, bitrate_bps=300_000)
SECONDS = 8
KEYFRAMES = {"web": {0, 60, 90, 150, 180}, "rtmp": {0, 62, 100, 151}}
FRAME_S = 1 / 30


@functools.cache
def source(*, is_silent: bool = False) -> dict[str, list[EncodedFrame]]:
    """Encode the same pictures and sound as VP8 and Opus, and as H.264 and AAC."""
    noise, artist, sound = random.Random(1), TestPicture(320, 180), TestSound(2)
    video = {
        "web": PictureEncoder(Codec.VP8, SMALL),
        "rtmp": PictureEncoder(Codec.H264, SMALL),
    }
    opus, aac = SoundEncoder(noise), AacEncoder(noise)
    frames: dict[str, list[EncodedFrame]] = {"web": [], "rtmp": []}
    for number in range(SECONDS * 30):
        picture = av.VideoFrame.from_ndarray(artist.draw(number), format="yuv420p")
        for leg, encoder in video.items():
            keyframe = number in KEYFRAMES[leg]
            made = encoder.encode(picture, number * 3_000, keyframe=keyframe, now=number * FRAME_S)
            assert made is not None
            frames[leg].append(made)
    for slot in range(SECONDS * 50):
        samples = silence() if is_silent else sound.slot(slot)
        packet = opus.encode(samples, slot * SLOT, now=slot / 50)
        assert packet is not None
        frames["web"].append(packet)
        frames["rtmp"] += aac.encode(samples, slot * SLOT, now=slot / 50)
    frames["h264 web"] = [
        *(one for one in frames["rtmp"] if one.kind is Kind.VIDEO),
        *(one for one in frames["web"] if one.kind is Kind.AUDIO),
    ]
    for leg in ("web", "rtmp"):
        frames[f"{leg}, pictures"] = [one for one in frames[leg] if one.kind is Kind.VIDEO]
        frames[f"{leg}, sound"] = [one for one in frames[leg] if one.kind is Kind.AUDIO]
    return frames


@dataclass
class Leg:
    """A leg: what it carries, how late, and from when to when it is open [s]."""

    carries: str
    late_s: float
    from_s: float = 0.0
    to_s: float = float("inf")

    def arrivals(self, number: int, *, is_silent: bool) -> Iterator[tuple[float, EncodedFrame]]:
        """Yield what arrives: with jitter, from a keyframe on, in the leg's own time."""
        rng, newest, has_begun = random.Random(number), 0.0, False
        frames = sorted(source(is_silent=is_silent)[self.carries], key=lambda one: one.arrived_s)
        for frame in frames:
            late_s = self.late_s + 0.008 * rng.random() + 1e-6 * len(frame.data)
            newest = at_s = max(newest, frame.arrived_s + late_s)
            if not self.from_s <= at_s < self.to_s:
                continue
            has_begun |= frame.kind is Kind.VIDEO and frame.keyframe
            if frame.kind is Kind.VIDEO and not has_begun:
                continue
            origin = 1_000_003 if frame.kind is Kind.VIDEO else 70_000_001
            timestamp = frame.timestamp + origin * (number + 1)
            if self.carries.startswith("rtmp"):  # one clock for both kinds, in milliseconds
                tick = 90 if frame.kind is Kind.VIDEO else 48
                timestamp = (round(frame.timestamp / tick) + 12_345 * number) * tick
            yield at_s, replace(frame, timestamp=timestamp, arrived_s=at_s)


async def _until(is_so: Callable[[], bool]) -> None:
    for _ in range(10_000):
        if is_so():
            return
        await asyncio.sleep(0.002)
    raise AssertionError("the decoder hangs")


class Viewer:
    """A merge with its decoder and meter; the older leg is let go when the newer is usable."""

    def __init__(self, *legs: Leg, is_silent: bool = False, keeps: bool = False) -> None:
        self.legs, self.is_silent, self.keeps = legs, is_silent, keeps
        self.frames: list[EncodedFrame] = []
        self.at_s: list[float] = []
        self.usable: list[int] = []
        self.merge = Merge(self._deliver, self.usable.append, lambda leg: None)
        self.meter = Meter()
        self._now = 0.0

    def _deliver(self, frame: EncodedFrame) -> None:
        self.frames.append(replace(frame, arrived_s=self._now))

    def watch(self) -> None:
        """Bring all that arrives to the merge."""
        events = [
            (at_s, number, frame)
            for number, leg in enumerate(self.legs)
            for at_s, frame in leg.arrivals(number, is_silent=self.is_silent)
        ]
        events.sort(key=lambda event: event[:2])
        gone: set[int] = set()
        for at_s, number, frame in events:
            self._now = at_s
            if number in gone:
                continue
            self.merge.take(number, frame)
            older = {leg for leg in self.usable if leg != self.usable[-1]}
            for leg in older - gone if not self.keeps else ():
                self.merge.remove(leg)
                gone.add(leg)

    def decode(self) -> None:
        """Show what was delivered, through a real decoder."""

        async def main() -> None:
            decoder = Decoder(self.meter.picture, self.meter.sound)
            for frame in self.frames:
                decoder.decode(frame)
                await asyncio.sleep(0)
                await _until(lambda: len(decoder._box) < 20)
            await _until(lambda: len(decoder._box) == 0)
            await asyncio.sleep(0.2)
            await decoder.aclose()
            assert (decoder.errors, decoder.dropped, decoder.skipped) == (0, 0, 0)

        asyncio.run(asyncio.wait_for(main(), 60))

    def shown(self, kind: Kind) -> list[EncodedFrame]:
        return [one for one in self.frames if one.kind is kind and not one.is_run_up]

    def longest_s(self) -> float:
        times = [one.arrived_s for one in self.shown(Kind.VIDEO)]
        return max(later - earlier for earlier, later in pairwise(times))

    def numbers(self) -> list[int]:
        return [one.number for one in self.meter.pictures]

    def slots(self) -> list[int]:
        return [one.number for one in self.meter.sounds]

    def codecs(self, kind: Kind) -> list[Codec]:
        """Return the codecs that were shown, one after the other."""
        shown = [one.codec for one in self.shown(kind)]
        return [codec for place, codec in enumerate(shown) if shown[place - 1 : place] != [codec]]


def consecutive(numbers: list[int]) -> bool:
    return numbers == list(range(numbers[0], numbers[0] + len(numbers)))


@pytest.mark.parametrize("late_s", [0.03, 0.25, 1.2])
def test_a_move_to_a_leg_that_is_behind_loses_no_picture_and_repeats_none(late_s: float) -> None:
    """The screen stands still for the difference of the delays, and goes on with the next one."""
    viewer = Viewer(Leg("web", 0.03), Leg("rtmp", late_s, from_s=2.0))
    viewer.watch()
    viewer.decode()
    assert viewer.usable == [0, 1]
    assert viewer.codecs(Kind.VIDEO) == [Codec.VP8, Codec.H264]
    assert viewer.codecs(Kind.AUDIO) == [Codec.OPUS, Codec.AAC]
    assert consecutive(viewer.numbers())
    assert consecutive(viewer.slots())
    assert len(viewer.numbers()) > (SECONDS - late_s) * 30 - 3
    assert viewer.longest_s() < late_s - 0.03 + 2 * FRAME_S


@pytest.mark.parametrize("late_s", [0.03, 0.25, 0.9])
def test_a_move_to_a_leg_that_is_ahead_waits_until_the_old_one_is_there(late_s: float) -> None:
    """No picture is lost or repeated, and the screen does not stand still."""
    viewer = Viewer(Leg("rtmp", late_s), Leg("web", 0.03, from_s=1.9))
    viewer.watch()
    viewer.decode()
    assert viewer.usable == [0, 1]
    assert viewer.codecs(Kind.VIDEO) == [Codec.H264, Codec.VP8]
    assert viewer.codecs(Kind.AUDIO) == [Codec.AAC, Codec.OPUS]
    assert consecutive(viewer.numbers())
    assert consecutive(viewer.slots())
    assert viewer.longest_s() < 2 * FRAME_S


def test_there_and_back_again_loses_nothing() -> None:
    """The third leg has the codecs of the first; the second one does not stand in its way."""
    viewer = Viewer(Leg("web", 0.03), Leg("rtmp", 0.3, from_s=2.0), Leg("web", 0.05, from_s=4.9))
    viewer.watch()
    viewer.decode()
    assert viewer.usable == [0, 1, 2]
    assert viewer.codecs(Kind.VIDEO) == [Codec.VP8, Codec.H264, Codec.VP8]
    assert consecutive(viewer.numbers())
    assert consecutive(viewer.slots())
    assert viewer.numbers()[-1] == SECONDS * 30 - 1


def test_timestamps_only_grow_and_keep_their_pace_over_a_change_of_codec() -> None:
    """What was decoded only aside; RTMP's own whole milliseconds are all that is uneven."""
    viewer = Viewer(Leg("web", 0.03), Leg("rtmp", 0.25, from_s=2.0))
    viewer.watch()
    pictures = [one.timestamp for one in viewer.shown(Kind.VIDEO)]
    assert all(abs(b - a - 3_000) <= 180 for a, b in pairwise(pictures))
    sounds = [one.timestamp for one in viewer.shown(Kind.AUDIO)]
    assert all(0 < b - a <= 2 * SLOT for a, b in pairwise(sounds))


def test_a_run_up_begins_at_a_keyframe_and_is_told_from_what_is_shown() -> None:
    """Whoever decodes the frames can leave out the pictures that were shown already."""
    viewer = Viewer(Leg("web", 0.03), Leg("rtmp", 0.25, from_s=2.0))
    viewer.watch()
    video = [one for one in viewer.frames if one.kind is Kind.VIDEO]
    first = next(place for place, one in enumerate(video) if one.codec is Codec.H264)
    assert video[first].keyframe
    assert video[first].is_run_up
    assert not any(one.is_run_up for one in video[:first])
    shown = [one.is_run_up for one in video[first:]]
    assert shown == sorted(shown, reverse=True)


def test_in_silence_the_clock_decides_and_as_much_is_repeated_as_the_leg_is_behind() -> None:
    """Nothing tells where the new leg is: it is taken for as late as the old one."""
    viewer = Viewer(Leg("web", 0.03), Leg("rtmp", 0.35, from_s=2.0), is_silent=True)
    viewer.watch()
    viewer.decode()
    assert viewer.usable == [0, 1]
    numbers = viewer.numbers()
    back = [earlier - later for earlier, later in pairwise(numbers) if later != earlier + 1]
    assert len(back) == 1
    assert back[0] + 1 == pytest.approx(0.32 / FRAME_S, abs=2)
    assert viewer.longest_s() < 3 * FRAME_S


def test_a_leg_that_is_further_ahead_than_can_be_waited_for_takes_over_by_the_clock() -> None:
    """What the old leg did not bring any more is skipped, once."""
    viewer = Viewer(Leg("rtmp", 1.9), Leg("web", 0.03, from_s=2.9))
    viewer.watch()
    viewer.decode()
    assert viewer.usable == [0, 1]
    numbers = viewer.numbers()
    holes = [later - earlier - 1 for earlier, later in pairwise(numbers) if later != earlier + 1]
    assert len(holes) == 1
    assert holes[0] == pytest.approx(1.87 / FRAME_S, abs=2)
    first = next(one for one in viewer.shown(Kind.VIDEO) if one.codec is Codec.VP8)
    assert first.arrived_s == pytest.approx(2.9 + ALIGN_S, abs=0.3)


def test_after_a_kill_the_other_codec_is_taken_at_its_keyframe() -> None:
    """There is nothing to wait for: no search holds up a viewer in the dark."""
    viewer = Viewer(Leg("web", 0.03, to_s=2.3), Leg("rtmp", 0.05, from_s=3.0))
    viewer.watch()
    viewer.decode()
    assert viewer.usable == [0, 1]
    first = next(one for one in viewer.shown(Kind.VIDEO) if one.codec is Codec.H264)
    assert first.arrived_s == pytest.approx(100 * FRAME_S + 0.05, abs=0.02)
    assert all(b > a for a, b in pairwise(viewer.numbers()))


def test_two_legs_that_both_stay_do_not_take_turns() -> None:
    """The older one is only heard again when the newer one falls silent, from a keyframe on."""
    viewer = Viewer(Leg("web", 0.03), Leg("rtmp", 0.25, from_s=2.0, to_s=5.5), keeps=True)
    viewer.watch()
    viewer.decode()
    assert viewer.codecs(Kind.VIDEO) == [Codec.VP8, Codec.H264, Codec.VP8]
    assert viewer.codecs(Kind.AUDIO) == [Codec.OPUS, Codec.AAC, Codec.OPUS]
    back = [one for one in viewer.shown(Kind.VIDEO) if one.codec is Codec.VP8][-1]
    assert back.arrived_s > 7.9
    assert all(b > a for a, b in pairwise(viewer.numbers()))


@pytest.mark.parametrize(("first_s", "second_s"), [(0.03, 0.2), (0.2, 0.03), (0.9, 0.03)])
def test_where_only_the_pictures_differ_the_sound_that_matches_tells_the_place(
    first_s: float, second_s: float
) -> None:
    """VP8 and H.264, both over WebRTC with the same packets of Opus."""
    viewer = Viewer(Leg("web", first_s), Leg("h264 web", second_s, from_s=2.0))
    viewer.watch()
    viewer.decode()
    assert viewer.usable == [0, 1]
    assert viewer.codecs(Kind.VIDEO) == [Codec.VP8, Codec.H264]
    assert consecutive(viewer.numbers())
    assert consecutive(viewer.slots())
    assert viewer.longest_s() < max(0.0, second_s - first_s) + 2 * FRAME_S


def test_without_sound_pictures_change_over_by_the_clock_and_the_screen_does_not_stand_still() -> (
    None
):
    """What was held while a match was waited for is the run-up: no keyframe is waited for."""
    viewer = Viewer(Leg("web, pictures", 0.1), Leg("rtmp, pictures", 0.1, from_s=2.0))
    viewer.watch()
    viewer.decode()
    assert viewer.usable == [0, 1]
    assert viewer.codecs(Kind.VIDEO) == [Codec.VP8, Codec.H264]
    assert consecutive(viewer.numbers())
    assert viewer.longest_s() < 2 * FRAME_S


def test_a_leg_without_pictures_is_usable_at_last() -> None:
    """It is waited for, as long as a search may take, and no longer."""
    viewer = Viewer(Leg("web", 0.03), Leg("rtmp, sound", 0.05, from_s=2.0), keeps=True)
    viewer.watch()
    assert viewer.usable == [0, 1]
    assert viewer.codecs(Kind.AUDIO) == [Codec.OPUS, Codec.AAC]
    first = next(one for one in viewer.shown(Kind.AUDIO) if one.codec is Codec.AAC)
    assert 2.0 < first.arrived_s < 2.0 + ALIGN_S + 0.5
