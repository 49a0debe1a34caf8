"""Legs of other codecs than the feed's own: one more encode, while one of them is there."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Coroutine
from itertools import pairwise

import pytest

from hitless.errors import LocalFault
from hitless.media import encoding
from hitless.media.decoder import Decoder
from hitless.media.feed import Feed
from hitless.media.frame import Codec, EncodedFrame, Kind
from hitless.media.quality import Quality
from hitless.media.sink import Meter
from hitless.media.source import open_feed


SMALL = Quality(width=320, height=180, bitrate_bps=300_000)
RTMP = {Kind.VIDEO: Codec.H264, Kind.AUDIO: Codec.AAC}


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


def encoders_made(monkeypatch: pytest.MonkeyPatch) -> list[Codec]:
    """Return a list that grows with each encoder that an engine makes."""
    made: list[Codec] = []

    class Pictures(encoding.PictureEncoder):
        def __init__(self, codec: Codec, quality: Quality) -> None:
            made.append(codec)
            super().__init__(codec, quality)

    class Aac(encoding.AacEncoder):
        def __init__(self, noise: random.Random) -> None:
            made.append(Codec.AAC)
            super().__init__(noise)

    monkeypatch.setattr(encoding, "PictureEncoder", Pictures)
    monkeypatch.setattr(encoding, "AacEncoder", Aac)
    return made


def test_legs_of_two_codecs_get_every_picture_and_every_slot() -> None:
    """VP8 and Opus, H.264 and AAC: all numbers of one source, with the same timestamps."""

    async def test() -> None:
        feed = await open_feed("test-picture", quality=SMALL)
        taken: dict[str, list[EncodedFrame]] = {"own": [], "rtmp": []}
        meters = {"own": Meter(), "rtmp": Meter()}
        decoders = {leg: Decoder(one.picture, one.sound) for leg, one in meters.items()}

        def take(leg: str, frame: EncodedFrame) -> None:
            taken[leg].append(frame)
            decoders[leg].decode(frame)

        feed.attach(lambda frame: take("own", frame))
        feed.attach(lambda frame: take("rtmp", frame), codecs=RTMP)
        await asyncio.sleep(2.0)
        feed.request_keyframe()
        await asyncio.sleep(0.5)
        made = feed.frames_made
        await feed.aclose()
        await asyncio.sleep(0.2)
        for decoder in decoders.values():
            await decoder.aclose()
            assert (decoder.errors, decoder.skipped) == (0, 0)

        for leg, meter in meters.items():
            numbers = [shown.number for shown in meter.pictures]
            slots = [shown.number for shown in meter.sounds]
            assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), leg
            assert slots == list(range(slots[0], slots[0] + len(slots))), leg
            assert (len(numbers) > 55, len(slots) > 85) == (True, True), leg
            reading = meter.reading()
            assert (reading.unreadable_pictures, reading.unreadable_sounds) == (0, 0), leg
        assert {frame.codec for frame in taken["own"]} == {Codec.VP8, Codec.OPUS}
        assert {frame.codec for frame in taken["rtmp"]} == {Codec.H264, Codec.AAC}
        video = {leg: of(Kind.VIDEO, frames) for leg, frames in taken.items()}
        stamps = {leg: [one.timestamp for one in frames] for leg, frames in video.items()}
        begun = stamps["own"].index(stamps["rtmp"][0])  # the engine may be some pictures ahead
        both = zip(stamps["own"][begun:], stamps["rtmp"], strict=False)
        assert all(own == further for own, further in both)
        assert video["rtmp"][0].keyframe
        for frames in video.values():  # one at the beginning, and the one that was asked for
            assert sum(frame.keyframe for frame in frames) == 2
        assert (
            len(
                {
                    [one for one in frames if one.keyframe][-1].timestamp
                    for frames in video.values()
                }
            )
            == 1
        )
        assert made[Kind.VIDEO] == len(video["own"])
        assert all(feed.is_own(frame.data) for frame in taken["rtmp"][-20:])

    run(test)


def test_a_leg_that_comes_later_begins_with_a_keyframe_of_its_own() -> None:
    """Its encoder begins with one; the feed's own legs are not made to pay for it."""

    async def test() -> None:
        feed = await open_feed("test-picture", quality=SMALL)
        own: list[EncodedFrame] = []
        feed.attach(own.append)
        await asyncio.sleep(0.4)
        frames: list[EncodedFrame] = []
        detach = feed.attach(frames.append, codecs=RTMP)
        await asyncio.sleep(0.4)
        detach()
        again: list[EncodedFrame] = []
        detach = feed.attach(again.append, codecs=RTMP)  # at once: before a picture was encoded
        await asyncio.sleep(0.4)
        detach()
        await feed.aclose()
        for taken in (frames, again):
            video = of(Kind.VIDEO, taken)
            assert video[0].keyframe
            assert not any(frame.keyframe for frame in video[1:])
            assert video[0].timestamp > 0
        assert [frame.timestamp for frame in of(Kind.VIDEO, own) if frame.keyframe] == [0]
        stamps = {frame.timestamp for frame in of(Kind.VIDEO, own)}
        assert {frame.timestamp for frame in of(Kind.VIDEO, frames + again)} <= stamps

    run(test)


def test_further_encoders_are_made_once_for_all_legs_and_are_gone_after_the_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A feed whose legs all take its own codecs never makes one."""

    async def test() -> None:
        made = encoders_made(monkeypatch)
        feed = await open_feed("test-picture", quality=SMALL)
        await frames_for(0.3, feed)
        assert made == [Codec.VP8]
        first: list[EncodedFrame] = []
        second: list[EncodedFrame] = []
        leave_first = feed.attach(first.append, codecs=RTMP)
        leave_second = feed.attach(second.append, codecs=RTMP)
        await asyncio.sleep(0.4)
        assert sorted(made) == sorted([Codec.VP8, Codec.H264, Codec.AAC])
        assert first == second
        assert first
        leave_first()
        taken = len(first)
        await asyncio.sleep(0.3)
        assert (len(first), len(second) > taken) == (taken, True)
        leave_second()
        taken = len(second)
        pushed: list[EncodedFrame] = []
        push = feed.push
        monkeypatch.setattr(feed, "push", lambda frame: (pushed.append(frame), push(frame)))
        await asyncio.sleep(0.4)
        await feed.aclose()
        assert len(second) == taken
        assert {frame.codec for frame in pushed} == {Codec.VP8, Codec.OPUS}
        assert sorted(made) == sorted([Codec.VP8, Codec.H264, Codec.AAC])

    run(test)


def test_mute_and_quality_reach_the_further_encoders() -> None:
    """Black and silence, and another size from a keyframe on, in every codec."""

    async def test() -> None:
        feed = await open_feed("test-picture", quality=SMALL)
        meter = Meter()
        sizes: list[int] = []
        decoder = Decoder(
            lambda picture: (sizes.append(picture.frame.width), meter.picture(picture))[1],
            meter.sound,
        )
        frames: list[EncodedFrame] = []
        feed.attach(lambda frame: (frames.append(frame), decoder.decode(frame))[1], codecs=RTMP)
        await asyncio.sleep(0.6)
        feed.set_quality(width=640, height=360)
        await asyncio.sleep(0.6)
        feed.mute(Kind.VIDEO, True)
        feed.mute(Kind.AUDIO, True)
        await asyncio.sleep(0.8)
        await feed.aclose()
        await asyncio.sleep(0.2)
        await decoder.aclose()
        video, audio = of(Kind.VIDEO, frames), of(Kind.AUDIO, frames)
        assert sorted(set(sizes)) == [320, 640]
        assert sum(frame.keyframe for frame in video) == 2
        assert all(b.timestamp - a.timestamp == 3_000 for a, b in pairwise(video))
        assert all(b.timestamp - a.timestamp == 1_024 for a, b in pairwise(audio))
        reading = meter.reading()
        assert reading.unreadable_pictures > 5
        assert reading.unreadable_sounds > 5
        numbers = [shown.number for shown in meter.pictures]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))

    run(test)


def test_a_further_encoder_that_dies_takes_nobody_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its legs hear why; the feed's own frames go on, and the next leg may try again."""

    class Broken(encoding.AacEncoder):
        def encode(self, *_: object, **__: object) -> list[EncodedFrame]:
            raise RuntimeError("boom")

    async def test() -> None:
        feed = await open_feed("test-picture", quality=SMALL)
        faults: list[LocalFault] = []
        taken: list[EncodedFrame] = []
        with monkeypatch.context() as broken:
            broken.setattr(encoding, "AacEncoder", Broken)
            feed.attach(taken.append, codecs=RTMP, failed=faults.append)
            await asyncio.sleep(0.5)
        assert [str(fault) for fault in faults] == ["the AAC encoder stopped: RuntimeError: boom"]
        assert len(of(Kind.VIDEO, taken)) < 5
        assert len(await frames_for(0.3, feed)) > 10
        again: list[EncodedFrame] = []
        feed.attach(again.append, codecs=RTMP)
        await asyncio.sleep(0.4)
        assert {frame.codec for frame in again} == {Codec.H264, Codec.AAC}
        assert not feed.is_over
        await feed.aclose()

    run(test)


def test_a_codec_that_ffmpeg_lacks_is_said_when_a_leg_asks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing changes for anybody else."""

    async def test() -> None:
        monkeypatch.setitem(encoding.ENCODERS, Codec.H264, "no-such-encoder")
        feed = await open_feed("test-picture", quality=SMALL)
        with pytest.raises(LocalFault, match="cannot encode H264"):
            feed.attach(lambda frame: None, codecs=RTMP)
        assert len(await frames_for(0.3, feed)) > 10
        await feed.aclose()

    run(test)


def test_a_loop_that_is_behind_breaks_each_codec_at_a_keyframe_of_its_own() -> None:
    """A picture lost in one codec is not taken for lost in the other."""

    async def test() -> None:
        feed = await open_feed("test-picture", quality=SMALL)
        taken: list[EncodedFrame] = []
        feed.attach(taken.append)
        feed.attach(taken.append, codecs=RTMP)
        await asyncio.sleep(0.3)
        time.sleep(1.5)  # noqa: ASYNC251 -- the loop is to hang
        await asyncio.sleep(0.6)
        await feed.aclose()
        for codec in (Codec.VP8, Codec.H264):
            video = [frame for frame in taken if frame.codec is codec]
            holes = [b for a, b in pairwise(video) if b.timestamp - a.timestamp > 3_000]
            assert holes, codec
            assert all(frame.keyframe for frame in holes), codec

    run(test)
