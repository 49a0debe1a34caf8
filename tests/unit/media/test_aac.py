"""AAC: frames that describe themselves, in the time of the sound."""

from __future__ import annotations

import itertools
import random

import av
import numpy as np
import pytest

from hitless.media.aac import AUDIO_SPECIFIC_CONFIG, FRAME, AacEncoder, with_adts, without_adts
from hitless.media.encoder import silence
from hitless.media.frame import Codec, EncodedFrame
from hitless.media.pattern import SLOT, TestSound, read_slot


BEGIN = 96_000
"""Media time at which the sound of these tests begins [ticks]: a feed runs when a leg comes."""


def encoded(slots: int, *, skip: range = range(0)) -> list[EncodedFrame]:
    """Encode the test sound, slot after slot, without those in `skip`."""
    encoder, sound = AacEncoder(random.Random(1)), TestSound(2)
    frames: list[EncodedFrame] = []
    for slot in range(slots):
        if slot not in skip:
            frames += encoder.encode(sound.slot(slot), BEGIN + slot * SLOT, now=slot / 50)
    return frames


def decoded(frames: list[EncodedFrame]) -> np.ndarray:
    """Return one channel of what a stock decoder makes of them, int16, from the first frame on."""
    context = av.CodecContext.create("aac", "r")
    sounds = [out for frame in frames for out in context.decode(av.Packet(frame.data))]
    assert {(one.sample_rate, one.layout.name) for one in sounds} == {(48_000, "stereo")}
    whole = np.concatenate([one.to_ndarray()[0] for one in sounds])
    return (whole * 32_767).astype(np.int16)


def test_each_frame_is_an_adts_frame_of_1024_samples_that_a_stock_decoder_understands() -> None:
    """It needs no header from elsewhere; timestamps begin with the sound and grow by 1024."""
    frames = encoded(100)
    assert [frame.timestamp for frame in frames] == [
        BEGIN + place * FRAME for place in range(len(frames))
    ]
    assert {frame.codec for frame in frames} == {Codec.AAC}
    assert all(frame.keyframe for frame in frames)
    assert len(decoded(frames)) == len(frames) * FRAME
    assert len(frames) * FRAME > 100 * SLOT - 3 * FRAME


def test_the_sound_lies_where_its_timestamps_say() -> None:
    """Every slot of 20 ms reads at its own place: nothing smears into the next one."""
    samples = decoded(encoded(200))
    slots = [
        read_slot(samples[place * SLOT : (place + 1) * SLOT])
        for place in range(len(samples) // SLOT)
    ]
    assert slots == list(range(len(slots)))


def test_a_frame_comes_44_to_64_ms_after_its_slot_was_given() -> None:
    """The price of AAC, which `align.py` reckons with."""
    late = [frame.arrived_s - (frame.timestamp - BEGIN) / 48_000 for frame in encoded(200)]
    assert min(late) == pytest.approx(0.044, abs=0.0005)
    assert max(late) < 0.064


def test_a_frame_that_went_through_rtmp_comes_back_as_the_same_bytes() -> None:
    """RTMP carries it without its header, which depends on its length alone."""
    for frame in encoded(20):
        raw = without_adts(frame.data)
        assert raw == frame.data[7:]
        assert with_adts(raw) == frame.data


def test_the_header_for_rtmp_is_what_the_encoder_itself_would_write() -> None:
    """AAC-LC, 48 kHz, stereo."""
    context = av.CodecContext.create("aac", "w")
    context.format, context.layout, context.sample_rate = "fltp", "stereo", 48_000
    context.open()
    assert context.extradata is not None
    assert context.extradata[:2] == AUDIO_SPECIFIC_CONFIG


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff\xf1", b"\x00" * 20, with_adts(b"12345") + b"6", with_adts(b"12345")[:-1]],
)
def test_what_is_no_adts_frame_is_refused(data: bytes) -> None:
    """Too short, no syncword, or not exactly one frame."""
    with pytest.raises(ValueError, match="ADTS"):
        without_adts(data)


def test_what_is_longer_than_a_frame_can_be_is_refused() -> None:
    """Its length has 13 bits."""
    assert len(with_adts(bytes(8184))) == 8191
    with pytest.raises(ValueError, match="8185 bytes"):
        with_adts(bytes(8185))


def test_no_two_frames_of_silence_are_alike() -> None:
    """Legs are matched by their packets' bytes; in plain silence all would match."""
    encoder = AacEncoder(random.Random(7))
    frames = [
        frame for slot in range(200) for frame in encoder.encode(silence(), slot * SLOT, now=0.0)
    ]
    assert len(frames) > 180
    assert len({frame.data for frame in frames}) == len(frames)


def test_a_short_hole_in_the_sound_is_filled_with_silence() -> None:
    """A muted source may give nothing for 0.1 s at a time: the frames go on without a hole."""
    frames = encoded(100, skip=range(40, 45))
    assert [frame.timestamp for frame in frames] == [
        BEGIN + place * FRAME for place in range(len(frames))
    ]
    samples = decoded(frames)
    assert read_slot(samples[39 * SLOT : 40 * SLOT]) == 39
    assert read_slot(samples[42 * SLOT : 43 * SLOT]) is None
    assert read_slot(samples[46 * SLOT : 47 * SLOT]) == 46


def test_after_a_long_hole_the_sound_begins_anew_in_its_own_time() -> None:
    """What was suspended for seconds is not filled with them."""
    frames = encoded(300, skip=range(50, 250))
    steps = [later.timestamp - earlier.timestamp for earlier, later in itertools.pairwise(frames)]
    assert sum(step != FRAME for step in steps) == 1
    assert frames[steps.index(max(steps)) + 1].timestamp == BEGIN + 250 * SLOT


def test_sound_that_overlaps_what_was_given_is_cut() -> None:
    """A source whose timestamps jump back by less than a slot is not heard twice."""
    encoder, sound = AacEncoder(random.Random(1)), TestSound(2)
    frames: list[EncodedFrame] = []
    for slot in range(50):
        frames += encoder.encode(sound.slot(slot), slot * SLOT, now=0.0)
    for slot in range(49, 100):  # 15 ms of slot 49 were given already, under other timestamps
        frames += encoder.encode(sound.slot(slot), slot * SLOT + 240, now=0.0)
    assert [frame.timestamp for frame in frames] == [place * FRAME for place in range(len(frames))]
    assert len(frames) * FRAME <= 100 * SLOT + 240
