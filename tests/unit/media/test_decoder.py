"""A viewer's decoder."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable, Coroutine
from dataclasses import replace

import av
import pytest

from hitless.media import decoder as decoder_module
from hitless.media.decoder import Decoder, Picture, Sound
from hitless.media.encoder import PictureEncoder, SoundEncoder
from hitless.media.frame import Codec, EncodedFrame
from hitless.media.pattern import TestPicture, TestSound, read_number
from hitless.media.quality import Quality
from hitless.media.sink import luma


SMALL = Quality(width=320, height=180, bitrate_bps=300_000)


def run(test: Callable[[], Coroutine[None, None, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 20))


def pictures(
    count: int, *, codec: Codec = Codec.VP8, keyframes: tuple[int, ...] = ()
) -> list[EncodedFrame]:
    encoder, artist = PictureEncoder(codec, SMALL), TestPicture(320, 180)
    frames = []
    for number in range(count):
        picture = av.VideoFrame.from_ndarray(artist.draw(number), format="yuv420p")
        frame = encoder.encode(picture, number * 3_000, keyframe=number in keyframes, now=0.0)
        assert frame is not None
        frames.append(frame)
    return frames


def sounds(count: int) -> list[EncodedFrame]:
    encoder, sound = SoundEncoder(random.Random(1)), TestSound(2)
    frames = [encoder.encode(sound.slot(slot), slot * 960, now=0.0) for slot in range(count)]
    return [frame for frame in frames if frame is not None]


class Screen:
    """What the decoder showed."""

    def __init__(self) -> None:
        self.pictures: list[Picture] = []
        self.sounds: list[Sound] = []
        self.damages = 0
        self.threads: set[str] = set()
        self.decoder = Decoder(self._picture, self.sounds.append, on_damage=self._damage)

    def _picture(self, picture: Picture) -> None:
        self.threads.add(threading.current_thread().name)
        self.pictures.append(picture)

    def _damage(self) -> None:
        self.damages += 1

    def numbers(self) -> list[int | None]:
        return [read_number(luma(picture.frame)) for picture in self.pictures]

    async def show(self, frames: list[EncodedFrame]) -> None:
        for frame in frames:
            self.decoder.decode(frame)
        await asyncio.sleep(0.2)


@pytest.mark.parametrize("codec", [Codec.VP8, Codec.H264])
def test_each_frame_is_shown_once_with_its_timestamp_in_the_loops_thread(codec: Codec) -> None:
    """One picture out for each in, at once: nothing is held back for reordering."""

    async def test() -> None:
        screen, loop = Screen(), asyncio.get_running_loop()
        before_s = loop.time()
        await screen.show(pictures(20, codec=codec))
        await screen.decoder.aclose()
        assert screen.numbers() == list(range(20))
        assert [one.timestamp for one in screen.pictures] == [i * 3_000 for i in range(20)]
        assert all(before_s <= one.at_s <= loop.time() for one in screen.pictures)
        assert screen.threads == {"MainThread"}
        assert (screen.damages, screen.decoder.errors, screen.decoder.dropped) == (0, 0, 0)

    run(test)


def test_sound_is_decoded_to_48_khz_stereo() -> None:
    """960 samples for each packet, with its timestamp."""

    async def test() -> None:
        screen = Screen()
        await screen.show(sounds(10))
        await screen.decoder.aclose()
        assert [one.timestamp for one in screen.sounds] == [i * 960 for i in range(10)]
        assert {one.frame.samples for one in screen.sounds} == {960}
        assert {one.frame.layout.name for one in screen.sounds} == {"stereo"}

    run(test)


def test_a_picture_before_the_first_keyframe_asks_for_one() -> None:
    """A viewer joins in mid-stream: nothing is shown until decoding can begin."""

    async def test() -> None:
        screen = Screen()
        await screen.show(pictures(10, keyframes=(6,))[3:])
        await screen.decoder.aclose()
        assert screen.numbers() == [6, 7, 8, 9]
        assert screen.damages == 3
        assert screen.decoder.skipped == 3

    run(test)


@pytest.mark.parametrize("codec", [Codec.VP8, Codec.H264])
@pytest.mark.parametrize("garbage", [b"", b"\x00", bytes(range(256)) * 4])
def test_garbage_asks_for_a_keyframe_and_is_never_shown(codec: Codec, garbage: bytes) -> None:
    """After the next keyframe all is well again; the thread survives."""

    async def test() -> None:
        screen = Screen()
        frames = pictures(12, codec=codec, keyframes=(8,))
        frames[4] = replace(frames[4], data=garbage)
        await screen.show(frames)
        await screen.decoder.aclose()
        assert screen.numbers()[:4] == [0, 1, 2, 3]
        assert screen.numbers()[-4:] == [8, 9, 10, 11]
        assert screen.damages >= 1
        assert None not in screen.numbers()

    run(test)


def test_garbage_in_the_sound_costs_only_itself() -> None:
    """The next packet is decoded, and no keyframe is asked for."""

    async def test() -> None:
        screen = Screen()
        frames = sounds(6)
        frames[2] = replace(frames[2], data=b"\xff" * 3)
        await screen.show(frames)
        await screen.decoder.aclose()
        assert [one.timestamp // 960 for one in screen.sounds if one.timestamp != 1920] == [
            0,
            1,
            3,
            4,
            5,
        ]
        assert screen.damages == 0

    run(test)


def test_a_decoder_that_is_too_slow_drops_up_to_the_next_keyframe(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its queue is bounded; what depends on a dropped picture is not shown."""

    async def test() -> None:
        monkeypatch.setattr(decoder_module, "_WAITING_MAX", 4)
        screen = Screen()
        screen.decoder._box.take = _never  # type: ignore[method-assign]
        for frame in pictures(10, keyframes=(8,)):
            screen.decoder.decode(frame)
        assert screen.decoder.dropped >= 1
        assert screen.damages >= 1
        await screen.decoder.aclose()

    run(test)


def _never(wait_s: float | None = None) -> EncodedFrame | None:
    threading.Event().wait(0.3)
    return None


def test_a_kind_that_nobody_wants_is_not_decoded() -> None:
    """A viewer of the sound alone does not pay for pictures."""

    async def test() -> None:
        heard: list[Sound] = []
        decoder = Decoder(None, heard.append)
        for frame in pictures(3) + sounds(3):
            decoder.decode(frame)
        await asyncio.sleep(0.1)
        await decoder.aclose()
        assert len(heard) == 3

    run(test)


def test_nothing_is_shown_after_the_decoder_is_closed() -> None:
    """Not even what was decoded already; closing twice is closing once."""

    async def test() -> None:
        screen = Screen()
        for frame in pictures(20):
            screen.decoder.decode(frame)
        await screen.decoder.aclose()
        shown = len(screen.pictures)
        screen.decoder.decode(pictures(1)[0])
        await screen.decoder.aclose()
        await asyncio.sleep(0.05)
        assert len(screen.pictures) == shown
        assert not [one for one in threading.enumerate() if one.name.startswith("hitless")]

    run(test)


def test_the_codec_may_change_in_mid_stream() -> None:
    """Another leg may carry another codec; it begins with a keyframe."""

    async def test() -> None:
        screen = Screen()
        await screen.show(pictures(5) + pictures(5, codec=Codec.H264))
        await screen.decoder.aclose()
        assert screen.numbers() == [0, 1, 2, 3, 4] * 2

    run(test)
