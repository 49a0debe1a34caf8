"""The test picture and the test sound: what is drawn is read, through real codecs."""

from __future__ import annotations

import random
from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hitless.media.encoder import PictureEncoder, SoundEncoder
from hitless.media.frame import Codec
from hitless.media.pattern import SLOT, SlotReader, TestPicture, TestSound, read_number, read_slot
from hitless.media.quality import Quality
from hitless.media.sink import luma


@given(number=st.integers(0, 2**24 - 1))
@settings(max_examples=50, deadline=None)
def test_every_number_that_is_drawn_is_read(number: int) -> None:
    """Without a codec in between there is no way to misread."""
    assert read_number(TestPicture(320, 180).draw(number)[:180]) == number


@pytest.mark.parametrize("codec", [Codec.VP8, Codec.H264])
@pytest.mark.parametrize("bitrate_bps", [300_000, 2_000_000])
@pytest.mark.parametrize("size", [(320, 180), (640, 360), (1280, 720)])
def test_numbers_survive_the_codec(codec: Codec, bitrate_bps: int, size: tuple[int, int]) -> None:
    """None misread and none unreadable, at any size and bit rate that we promise."""
    width, height = size
    quality = Quality(width=width, height=height, bitrate_bps=bitrate_bps)
    encoder, artist = PictureEncoder(codec, quality), TestPicture(width, height)
    decoder = av.CodecContext.create("libvpx" if codec is Codec.VP8 else "h264", "r")
    decoder.thread_count = 1
    numbers, read = list(range(1_000_000, 1_000_045)), []
    for index, number in enumerate(numbers):
        picture = av.VideoFrame.from_ndarray(artist.draw(number), format="yuv420p")
        frame = encoder.encode(picture, index * 3_000, keyframe=False, now=0.0)
        assert frame is not None
        read += [read_number(luma(shown)) for shown in decoder.decode(av.Packet(frame.data))]
    assert read == numbers


def test_a_number_survives_scaling() -> None:
    """A provider or a browser that scales the picture does not break the count."""
    picture = av.VideoFrame.from_ndarray(TestPicture(1280, 720).draw(77_777), format="yuv420p")
    assert read_number(luma(picture.reformat(width=640, height=360))) == 77_777


@pytest.mark.parametrize("level", [0, 16, 128, 235, 255])
def test_an_even_picture_has_no_number(level: int) -> None:
    """Black, as a muted camera sends it, must not read as number 0."""
    assert read_number(np.full((360, 640), level, np.uint8)) is None


def test_noise_has_no_number() -> None:
    """A CRC of 8 bits alone would let one picture in 256 pass."""
    noise = np.random.default_rng(1)
    pictures = (noise.integers(0, 256, (90, 160), np.uint8) for _ in range(2_000))
    assert all(read_number(picture) is None for picture in pictures)


def test_a_tiny_picture_has_no_number() -> None:
    """What is too small to hold the cells is refused, not misread."""
    assert read_number(np.zeros((8, 8), np.uint8)) is None


def test_the_picture_moves() -> None:
    """Two pictures a second apart differ in a good part of what lies below the strip."""
    artist = TestPicture(640, 360)
    first = artist.draw(0)[40:360].astype(int)
    assert (abs(artist.draw(15)[40:360] - first) > 8).mean() > 0.2


@pytest.mark.parametrize("channels", [1, 2])
def test_slots_survive_opus(channels: int) -> None:
    """All 256 slots are read, twice round, and every packet is unlike all others."""
    sound, encoder = TestSound(channels), SoundEncoder(random.Random(1))
    decoder = av.CodecContext.create("libopus", "r")
    decoder.format, decoder.layout, decoder.sample_rate = "s16", "stereo", 48_000
    read, packets = [], set()
    for slot in range(512):
        samples = np.broadcast_to(sound.slot(slot), (SLOT, 2))
        frame = encoder.encode(samples, slot * SLOT, now=0.0)
        assert frame is not None
        packets.add(frame.data)
        packet = av.Packet(frame.data)
        packet.time_base = Fraction(1, 48_000)
        decoded = decoder.decode(packet)
        read += [read_slot(out.to_ndarray().reshape(-1, 2)[:, 0]) for out in decoded]
    assert read == [slot % 256 for slot in range(512)]
    assert len(packets) >= 511


def test_the_sound_does_not_click() -> None:
    """No step from slot to slot is larger than the steepest of the tones themselves."""
    sound = TestSound(1)
    wave = np.concatenate([sound.slot(slot)[:, 0] for slot in range(300)]).astype(int)
    inside = max(
        int(abs(np.diff(sound.slot(slot)[:, 0].astype(int))).max()) for slot in range(256)
    )
    assert abs(np.diff(wave)).max() <= inside


@pytest.mark.parametrize("samples", [SLOT, SLOT - 1, 0])
def test_silence_and_scraps_have_no_slot(samples: int) -> None:
    """Muted sound is no slot, and neither is a packet of another length."""
    assert read_slot(np.zeros(samples, np.int16)) is None


def test_noise_has_no_slot() -> None:
    """Loud noise has no tone that dominates both groups."""
    noise = np.random.default_rng(2)
    packets = [noise.integers(-8_000, 8_000, SLOT).astype(np.int16) for _ in range(500)]
    assert sum(read_slot(packet) is not None for packet in packets) == 0


def _heard(slot: int) -> np.ndarray[tuple[int], np.dtype[np.int16]]:
    return np.roll(TestSound(1).slot(slot)[:, 0], 312)  # as late as Opus makes it


def test_a_reader_counts_on_past_256() -> None:
    """Rounds are counted by time, also across a gap of two seconds and with jitter."""
    reader, jitter = SlotReader(), random.Random(3)
    slots = [slot for slot in range(2_000) if not 700 <= slot < 800]
    read = [reader.read(_heard(slot), slot * 0.02 + jitter.uniform(0, 0.3)) for slot in slots]
    assert read == slots


def test_a_reader_that_was_told_the_time_is_absolute() -> None:
    """The round of the first slot comes from the picture."""
    reader = SlotReader()
    reader.expect(10_000, 50.0)
    assert reader.read(_heard(10_010), 50.3) == 10_010
