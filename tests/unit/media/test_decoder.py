"""A viewer's decoder."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable, Coroutine
from dataclasses import replace

import av
import numpy as np
import pytest

from hitless.media import decoder as decoder_module
from hitless.media.aac import AacEncoder
from hitless.media.decoder import Decoder, Picture, Sound
from hitless.media.encoder import PictureEncoder, SoundEncoder
from hitless.media.frame import Codec, EncodedFrame, Kind
from hitless.media.pattern import SLOT, TestPicture, TestSound, read_number, read_slot
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
        for place, frame in enumerate(frames):
            self.decoder.decode(frame)
            if place % 20 == 19:  # as it would come: no faster than can be decoded
                await self._caught_up()
        await self._caught_up()
        await asyncio.sleep(0.2)

    async def _caught_up(self) -> None:
        for _ in range(2_500):
            if not len(self.decoder._box):
                return
            await asyncio.sleep(0.002)


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


def both_codecs(count: int, keyframe: int) -> tuple[list[EncodedFrame], list[EncodedFrame]]:
    """Encode the same pictures as VP8 and as H.264, this one with a second keyframe."""
    return pictures(count), pictures(count, codec=Codec.H264, keyframes=(keyframe,))


def test_numbers_go_on_where_the_codec_changes_at_a_keyframe_and_back() -> None:
    """A viewer that moves from a VP8 leg to an H.264 leg, and back."""

    async def test() -> None:
        vp8, h264 = both_codecs(40, 10)
        vp8[25:] = pictures(40, keyframes=(25,))[25:]
        screen = Screen()
        await screen.show(vp8[:10] + h264[10:25] + vp8[25:])
        await screen.decoder.aclose()
        assert screen.numbers() == list(range(40))
        assert {one.frame.format.name for one in screen.pictures} == {"yuv420p"}
        assert (screen.damages, screen.decoder.errors, screen.decoder.skipped) == (0, 0, 0)

    run(test)


def test_a_picture_of_another_codec_that_is_no_keyframe_is_not_tried() -> None:
    """The decoder that runs goes on undisturbed, and a keyframe is asked for."""

    async def test() -> None:
        vp8, h264 = both_codecs(20, 10)
        screen = Screen()
        await screen.show(vp8[:8] + h264[8:10] + vp8[8:12])
        await screen.decoder.aclose()
        assert screen.numbers() == list(range(12))
        assert (screen.damages, screen.decoder.skipped, screen.decoder.errors) == (2, 2, 0)

    run(test)


def test_a_run_up_is_decoded_and_not_shown() -> None:
    """What it shows was shown already, by the leg before."""

    async def test() -> None:
        vp8, h264 = both_codecs(30, 10)
        run_up = [replace(frame, is_run_up=True) for frame in h264[10:18]]
        screen = Screen()
        await screen.show(vp8[:18] + run_up + h264[18:])
        await screen.decoder.aclose()
        assert screen.numbers() == list(range(30))

    run(test)


def aac_sounds(count: int, *, later: int = 0) -> list[EncodedFrame]:
    encoder, sound = AacEncoder(random.Random(2)), TestSound(2)
    frames: list[EncodedFrame] = []
    for slot in range(count):
        frames += encoder.encode(sound.slot(slot), slot * SLOT + later, now=0.0)
    return frames


def slots_of(screen: Screen) -> list[int | None]:
    return [
        read_slot(np.asarray(one.frame.to_ndarray().reshape(-1, 2)[:, 0])) for one in screen.sounds
    ]


def test_aac_comes_out_in_the_same_20_ms_slots_as_opus() -> None:
    """Frames of 1024 samples are cut where packets of Opus would begin; every slot reads."""

    async def test() -> None:
        screen = Screen()
        await screen.show(aac_sounds(60))
        await screen.decoder.aclose()
        count = len(screen.sounds)
        assert count >= 55
        assert [one.timestamp for one in screen.sounds] == [i * SLOT for i in range(count)]
        assert slots_of(screen) == list(range(count))
        shapes = {
            (
                one.frame.samples,
                one.frame.format.name,
                one.frame.layout.name,
                one.frame.sample_rate,
            )
            for one in screen.sounds
        }
        assert shapes == {(960, "s16", "stereo", 48_000)}

    run(test)


@pytest.mark.parametrize("later", [0, 300, 7_000])
def test_slots_go_on_where_the_sound_changes_from_opus_to_aac_and_back(later: int) -> None:
    """None twice, none missing, on one grid; what overlaps is not heard again."""

    async def test() -> None:
        opus = [replace(frame, timestamp=frame.timestamp + later) for frame in sounds(100)]
        aac = [one for one in aac_sounds(100, later=later) if one.timestamp >= later + 28 * SLOT]
        aac = [one for one in aac if one.timestamp < later + 60 * SLOT]
        screen = Screen()
        await screen.show(opus[:30] + aac + opus[58:])
        await screen.decoder.aclose()
        assert slots_of(screen) == list(range(100))
        stamps = [one.timestamp for one in screen.sounds]
        assert stamps == [later + slot * SLOT for slot in range(100)]

    run(test)


@pytest.mark.parametrize("later", range(0, SLOT, 160))
def test_no_sound_is_lost_or_repeated_where_it_changes_from_aac_to_opus_and_back(
    later: int,
) -> None:
    """To the sample, wherever slots of AAC were cut in those of the source."""

    async def test() -> None:
        opus = [replace(frame, timestamp=frame.timestamp + later) for frame in sounds(100)]
        aac = aac_sounds(100, later=later)
        before = [one for one in aac if one.timestamp < later + 30 * SLOT]
        after = [one for one in aac if one.timestamp >= later + 58 * SLOT]
        screen = Screen()
        await screen.show(before + opus[28:60] + after)
        await screen.decoder.aclose()
        stamps = [one.timestamp for one in screen.sounds]
        assert stamps == [stamps[0] + place * SLOT for place in range(len(stamps))]
        heard = np.concatenate([one.frame.to_ndarray().reshape(-1, 2) for one in screen.sounds])
        sound = TestSound(2)
        source = np.concatenate([sound.slot(slot) for slot in range(100)])
        for place in range(5, 90):  # each slot of the source is where it belongs
            begun = later + place * SLOT - stamps[0]
            part = heard[begun : begun + SLOT, 0].astype(float)
            near = [
                float(np.dot(part, source[place * SLOT + off : (place + 1) * SLOT + off, 0]))
                for off in range(-160, 161, 4)
            ]
            assert abs(4 * (int(np.argmax(near)) - 40)) <= 8, place

    run(test)


def test_aac_of_another_rate_and_layout_comes_out_like_any_other() -> None:
    """A foreign publisher's 44.1 kHz mono: resampled to the format that the viewer hears."""

    async def test() -> None:
        context = av.CodecContext.create("aac", "w")
        context.format, context.layout, context.sample_rate = "fltp", "mono", 44_100
        context.bit_rate = 64_000
        packets: list[bytes] = []
        time = np.arange(44_100) / 44_100
        wave = (0.3 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)
        for place in range(0, 43 * 1024, 1024):
            sound = av.AudioFrame.from_ndarray(
                wave[None, place : place + 1024], format="fltp", layout="mono"
            )
            sound.sample_rate, sound.pts = 44_100, place
            packets += [bytes(packet) for packet in context.encode(sound)]
        screen = Screen()
        await screen.show(
            [
                EncodedFrame(
                    kind=Kind.AUDIO,
                    codec=Codec.AAC,
                    data=_adts_mono_44100(data),
                    timestamp=round(place * 1024 * 48_000 / 44_100),
                    keyframe=True,
                    arrived_s=0.0,
                )
                for place, data in enumerate(packets)
            ]
        )
        await screen.decoder.aclose()
        stamps = [one.timestamp for one in screen.sounds]
        assert stamps == [place * SLOT for place in range(len(stamps))]
        assert len(stamps) >= 40
        middle = screen.sounds[20].frame.to_ndarray().reshape(-1, 2)
        assert middle.shape == (960, 2)
        assert abs(middle).max() > 5_000

    run(test)


def _adts_mono_44100(data: bytes) -> bytes:
    size = len(data) + 7
    head = 0xFFF1 << 40 | 1 << 38 | 4 << 34 | 1 << 30 | size << 13 | 0x7FF << 2
    return head.to_bytes(7, "big") + data


def test_garbage_in_aac_costs_only_what_it_held() -> None:
    """Sound goes on in its own time."""

    async def test() -> None:
        frames = aac_sounds(60)
        frames[20] = replace(frames[20], data=b"\xff\xf1\x4c\x80" + bytes(40))
        screen = Screen()
        await screen.show(frames)
        await screen.decoder.aclose()
        right = {
            one.timestamp // SLOT
            for one, slot in zip(screen.sounds, slots_of(screen), strict=True)
            if slot == one.timestamp // SLOT
        }
        assert set(range(20)) <= right
        assert set(range(26, 55)) <= right
        assert screen.damages == 0

    run(test)
