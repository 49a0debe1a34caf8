"""The encoders and the engine that runs them."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable, Coroutine
from itertools import pairwise

import pytest

from hitless.errors import ConfigError, LocalFault
from hitless.media.encoder import PictureEncoder, SoundEncoder, black, silence
from hitless.media.engine import FeedEngine
from hitless.media.feed import Feed
from hitless.media.frame import Codec, EncodedFrame, Kind
from hitless.media.quality import Quality
from hitless.media.source import open_feed
from hitless.media.track import EndOfTrack, Item, MediaClock, Settings, Track


SMALL = Quality(width=320, height=180, bitrate_bps=300_000)


def run(test: Callable[[], Coroutine[None, None, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 20))


async def frames_for(seconds: float, feed: Feed) -> list[EncodedFrame]:
    found: list[EncodedFrame] = []
    detach = feed.attach(found.append)
    await asyncio.sleep(seconds)
    detach()
    return found


def of(kind: Kind, frames: list[EncodedFrame]) -> list[EncodedFrame]:
    return [frame for frame in frames if frame.kind is kind]


@pytest.mark.parametrize("codec", [Codec.VP8, Codec.H264])
def test_the_first_picture_and_each_one_asked_for_are_keyframes(codec: Codec) -> None:
    """One frame out for each in, at once, and a keyframe exactly when it was asked for."""
    encoder = PictureEncoder(codec, SMALL)
    frames = [
        encoder.encode(black(SMALL), index * 3_000, keyframe=index == 7, now=1.5)
        for index in range(12)
    ]
    assert [index for index, frame in enumerate(frames) if frame and frame.keyframe] == [0, 7]
    assert [frame.timestamp for frame in frames if frame] == [i * 3_000 for i in range(12)]
    assert {frame.arrived_s for frame in frames if frame} == {1.5}


def test_h264_is_constrained_baseline_with_its_headers_at_each_keyframe() -> None:
    """Annex B; SPS (profile 66, constraint set 1) and PPS before each IDR picture."""
    encoder = PictureEncoder(Codec.H264, SMALL)
    for index in range(6):
        frame = encoder.encode(black(SMALL), index * 3_000, keyframe=index == 5, now=0.0)
        assert frame is not None
        units = frame.data.replace(b"\x00\x00\x00\x01", b"\x00\x00\x01").split(b"\x00\x00\x01")[1:]
        kinds = {unit[0] & 0x1F for unit in units}
        assert kinds >= ({5, 7, 8} if index in (0, 5) else {1})
        for unit in units:
            if unit[0] & 0x1F == 7:
                assert (unit[1], unit[2] & 0x40) == (66, 0x40)


def test_a_keyframe_comes_every_ten_seconds_by_itself() -> None:
    """So that a recording can be searched."""
    encoder = PictureEncoder(Codec.VP8, SMALL)
    keys = []
    for index in range(310):
        frame = encoder.encode(black(SMALL), index * 3_000, keyframe=False, now=0.0)
        if frame is not None and frame.keyframe:
            keys.append(index)
    assert keys == [0, 300]


def test_no_two_packets_of_silence_are_alike() -> None:
    """Legs are matched by their packets' bytes; in plain silence all would match."""
    encoder = SoundEncoder(random.Random(7))
    packets = [encoder.encode(silence(), slot * 960, now=0.0) for slot in range(200)]
    assert len({packet.data for packet in packets if packet}) == 200


def test_sound_cannot_be_asked_of_the_picture_encoder() -> None:
    """The message names what can be given."""
    with pytest.raises(ConfigError, match="VP8 or H264"):
        PictureEncoder(Codec.OPUS, SMALL)


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({"width": 100}, "width"),
        ({"width": 321}, "even"),
        ({"height": 360.5}, "even"),
        ({"frame_rate": 0}, "frame_rate"),
        ({"frame_rate": float("nan")}, "frame_rate"),
        ({"bitrate_bps": 1}, "bit/s"),
        ({"bitrate_bps": 1e6}, "whole"),
        ({"width": None}, "width"),
        ({"height": "360"}, "height"),
    ],
)
def test_an_impossible_quality_is_named(given: dict[str, object], names: str) -> None:
    """Field, value and limits are in the message."""
    with pytest.raises(ConfigError, match=names):
        Quality(**given)  # type: ignore[arg-type]


def test_pictures_and_sound_come_at_their_pace_from_one_origin() -> None:
    """Timestamps tell media time: 3000 ticks a picture, 960 a packet, and both began at 0."""

    async def test() -> None:
        feed = await open_feed("test-picture", quality=SMALL)
        frames = await frames_for(1.0, feed)
        await feed.aclose()
        video, audio = of(Kind.VIDEO, frames), of(Kind.AUDIO, frames)
        assert 20 <= len(video) <= 32  # a busy machine delays the last ones
        assert 35 <= len(audio) <= 52
        assert [frame.timestamp for frame in video] == [i * 3_000 for i in range(len(video))]
        assert [frame.timestamp for frame in audio] == [i * 960 for i in range(len(audio))]
        zeros = [frame.arrived_s - frame.timestamp / 90_000 for frame in video]
        zeros += [frame.arrived_s - frame.timestamp / 48_000 for frame in audio]
        assert max(zeros) - min(zeros) < 0.5
        assert not any(frame.keyframe for frame in video[1:])

    run(test)


def test_a_keyframe_that_a_leg_asks_for_comes_within_a_few_frames() -> None:
    """A viewer that joins must not wait for the ten seconds."""

    async def test() -> None:
        feed = await open_feed("test-picture", quality=SMALL)
        await frames_for(0.3, feed)
        feed.request_keyframe()
        frames = of(Kind.VIDEO, await frames_for(0.3, feed))
        await feed.aclose()
        assert any(frame.keyframe for frame in frames[:3])
        assert sum(frame.keyframe for frame in frames) == 1

    run(test)


def test_muted_kinds_keep_flowing() -> None:
    """Mute is never silence on the wire, and ends without a seam in the timestamps."""

    async def test() -> None:
        feed = await open_feed("test-picture", quality=SMALL)
        frames = await frames_for(0.4, feed)
        detach = feed.attach(frames.append)
        feed.mute(Kind.VIDEO, True)
        feed.mute(Kind.AUDIO, True)
        await asyncio.sleep(0.6)
        muted = of(Kind.VIDEO, frames)[-5:]
        feed.mute(Kind.VIDEO, False)
        feed.mute(Kind.AUDIO, False)
        await asyncio.sleep(0.4)
        detach()
        await feed.aclose()
        steps = {Kind.VIDEO: 3_000, Kind.AUDIO: 960}
        for kind, step in steps.items():
            stamps = [frame.timestamp for frame in of(kind, frames)]
            assert stamps == list(range(0, len(stamps) * step, step))
            assert len(stamps) > 1.0 * (30 if kind is Kind.VIDEO else 50)
        assert max(len(frame.data) for frame in muted) < 200  # black costs next to nothing

    run(test)


def test_a_new_quality_begins_with_a_keyframe_and_keeps_the_time() -> None:
    """The size changes in mid-stream; the timestamps go on."""

    async def test() -> None:
        feed = await open_feed("test-picture", quality=SMALL)
        frames = await frames_for(0.3, feed)
        detach = feed.attach(frames.append)
        feed.set_quality(width=640, height=360, frame_rate=15.0)
        await asyncio.sleep(0.8)
        detach()
        await feed.aclose()
        video = of(Kind.VIDEO, frames)
        sizes = [int.from_bytes(frame.data[6:8], "little") for frame in video if frame.keyframe]
        assert sizes == [320, 640]
        stamps = [frame.timestamp for frame in video]
        assert stamps == sorted(set(stamps))
        assert stamps[-1] - stamps[-2] == 6_000

    run(test)


def test_an_impossible_new_quality_changes_nothing() -> None:
    """The caller hears of it, the stream does not."""

    async def test() -> None:
        feed = await open_feed("test-picture", quality=SMALL)
        with pytest.raises(ConfigError, match="width"):
            feed.set_quality(width=3)
        frames = of(Kind.VIDEO, await frames_for(0.3, feed))
        await feed.aclose()
        assert len(frames) > 5

    run(test)


def test_closing_twice_at_once_and_cancelled_leaves_no_thread() -> None:
    """`aclose` finishes even if the one who waits is cancelled."""

    async def test() -> None:
        feed = await open_feed("test-picture", quality=SMALL)
        await frames_for(0.1, feed)
        closing = asyncio.create_task(feed.aclose())
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        assert not [one for one in threading.enumerate() if one.name.startswith("hitless")]
        await feed.aclose()
        assert feed.is_over

    run(test)


def test_a_loop_that_is_behind_loses_frames_and_gets_a_keyframe() -> None:
    """The line from thread to loop is bounded, and decoding can go on after a hole."""

    async def test() -> None:
        feed = await open_feed("test-picture", quality=SMALL)
        frames = await frames_for(0.2, feed)
        detach = feed.attach(frames.append)
        time.sleep(1.5)  # noqa: ASYNC251 -- the loop is to hang
        await asyncio.sleep(0.5)
        detach()
        await feed.aclose()
        video = of(Kind.VIDEO, frames)
        holes = [
            index
            for index in range(1, len(video))
            if video[index].timestamp - video[index - 1].timestamp > 3_000
        ]
        assert holes
        assert all(video[index].keyframe for index in holes)
        assert video[-1].timestamp > 1.9 * 90_000

    run(test)


class _Script(Track):
    """A track that gives silence at given times, then ends or fails."""

    def __init__(self, times: list[float], fault: Exception | None = None) -> None:
        self._times, self._fault, self._at = times, fault, 0
        self.closed = False

    def read(self, wait_s: float) -> Item | None:
        if self._at < len(self._times):
            self._at += 1
            return Item(self._times[self._at - 1], silence)
        if self._fault is not None:
            raise self._fault
        raise EndOfTrack(self._times[-1] + 0.02)

    def rewind(self) -> None:
        self._at = 0

    def close(self) -> None:
        self.closed = True


def _engine_of(track: Track, *, repeat: bool = False) -> tuple[Feed, FeedEngine]:
    feed = Feed({Kind.AUDIO: Codec.OPUS})
    engine = FeedEngine(
        feed,
        {Kind.AUDIO: track},
        settings=Settings(SMALL),
        clock=MediaClock(),
        video_codec=Codec.VP8,
        repeat=repeat,
        noise=random.Random(1),
    )
    feed.run_by(engine)
    return feed, engine


def test_a_source_that_fails_later_ends_the_feed_with_its_fault() -> None:
    """Nobody else is blamed: the fault is local, and what was sent before was delivered."""

    async def test() -> None:
        track = _Script([0.0, 0.02], LocalFault("the camera is gone"))
        feed, engine = _engine_of(track)
        engine.start()
        with pytest.raises(LocalFault, match="camera is gone"):
            await feed.ended()
        assert feed.frames_made[Kind.AUDIO] == 2
        await feed.aclose()
        assert track.closed

    run(test)


def test_an_encoder_that_dies_is_a_local_fault() -> None:
    """A surprise in the thread reaches whoever waits for the end."""

    async def test() -> None:
        feed, engine = _engine_of(_Script([0.0], RuntimeError("boom")))
        engine.start()
        with pytest.raises(LocalFault, match="RuntimeError: boom"):
            await feed.ended()
        await feed.aclose()

    run(test)


def test_a_track_that_repeats_goes_on_in_time() -> None:
    """The second lap begins where the first ended, to the slot."""

    async def test() -> None:
        feed, engine = _engine_of(_Script([0.0, 0.02, 0.04]), repeat=True)
        engine.start()
        frames = await frames_for(0.3, feed)
        await feed.aclose()
        stamps = [frame.timestamp for frame in frames]
        assert stamps == list(range(0, len(stamps) * 960, 960))
        assert len(stamps) > 9

    run(test)


def test_what_is_late_by_more_than_a_second_is_skipped() -> None:
    """After a stop the stream goes on with the present, not with what it missed."""

    class Suspended(MediaClock):
        jump_s = 0.0

        def now(self) -> float:
            return super().now() + self.jump_s

    async def test() -> None:
        feed = Feed({Kind.AUDIO: Codec.OPUS})
        clock = Suspended()
        engine = FeedEngine(
            feed,
            {Kind.AUDIO: _Script([slot / 50 for slot in range(1_000)])},
            settings=Settings(SMALL),
            clock=clock,
            video_codec=Codec.VP8,
            repeat=False,
            noise=random.Random(1),
        )
        feed.run_by(engine)
        clock.start()
        engine.start()
        before = await frames_for(0.1, feed)
        clock.jump_s = 5.0
        after = await frames_for(0.2, feed)
        await feed.aclose()
        assert len(before) + len(after) < 30
        steps = [
            later.timestamp - earlier.timestamp for earlier, later in pairwise(before + after)
        ]
        assert min(steps) == 960
        assert max(steps) > 4.5 * 48_000

    run(test)
