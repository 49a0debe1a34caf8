"""Frames out of packets: complete at once, in order, and none that depends on a lost one."""

from __future__ import annotations

import pytest
from aiortc.rtp import RtpPacket

from hitless.media.assemble import (
    AudioAssembler,
    VideoAssembler,
    begins_frame,
    has_h264_keyframe,
)
from hitless.media.frame import Codec


VP8 = 97


def packet(
    sequence: int,
    *,
    time: int,
    first: bool = True,
    last: bool = True,
    key: bool = False,
    at: float = 0.0,
) -> RtpPacket:
    """Make one VP8 packet whose data tell its sequence number."""
    data = bytes([0x00 if key else 0x01]) + sequence.to_bytes(2, "big")
    made = RtpPacket(
        payload_type=VP8,
        marker=int(last),
        sequence_number=sequence & 0xFFFF,
        timestamp=time,
        payload=bytes([0x10 if first else 0x00]) + data,
    )
    made._data = data
    made._arrived_s = at
    return made


class Shown:
    """What an assembler gave away."""

    def __init__(self, *, gated: bool = True) -> None:
        self.times: list[int] = []
        self.data: list[bytes] = []
        self.keys: list[bool] = []
        self.video = VideoAssembler(codec_of={VP8: Codec.VP8}.get, complete=self.take, gated=gated)

    def take(self, data: bytes, last: RtpPacket, keyframe: bool) -> None:
        self.times.append(last.timestamp)
        self.data.append(data)
        self.keys.append(keyframe)

    def add(self, *packets: RtpPacket) -> None:
        for each in packets:
            self.video.add(each)


def test_a_picture_is_complete_with_its_marker_packet() -> None:
    """The stock rule waits for the next picture, 33 ms later."""
    shown = Shown()
    shown.add(packet(1, time=0, key=True, last=False), packet(2, time=0, first=False))
    assert shown.times == [0]
    assert shown.keys == [True]
    assert shown.data[0].endswith((2).to_bytes(2, "big"))


def test_a_picture_without_marker_is_complete_with_the_next_one() -> None:
    """Some senders set no marker."""
    shown = Shown()
    shown.add(packet(1, time=0, key=True, last=False), packet(2, time=3000, last=False))
    assert shown.times == [0]


def test_pictures_before_the_first_keyframe_are_held_back() -> None:
    """A decoder cannot begin with them."""
    shown = Shown()
    shown.add(packet(1, time=0), packet(2, time=3000, key=True), packet(3, time=6000))
    assert shown.times == [3000, 6000]


def test_a_self_view_sees_pictures_before_the_first_keyframe() -> None:
    """It decodes nothing."""
    shown = Shown(gated=False)
    shown.add(packet(1, time=0), packet(2, time=3000))
    assert shown.times == [0, 3000]


def test_packets_that_overtook_each_other_are_put_in_order() -> None:
    """Jitter reorders."""
    shown = Shown()
    shown.add(packet(1, time=0, key=True), packet(3, time=6000), packet(4, time=9000))
    assert shown.times == [0]
    shown.add(packet(2, time=3000))
    assert shown.times == [0, 3000, 6000, 9000]


def test_a_packet_that_overtook_the_very_first_one_costs_nothing() -> None:
    """Otherwise jitter while joining would cost the first keyframe."""
    shown = Shown()
    shown.add(packet(12, time=0, first=False, last=False))
    shown.add(packet(11, time=0, key=True, last=False), packet(13, time=0, first=False))
    assert shown.times == [0]


def test_sequence_numbers_wrap() -> None:
    """They have 16 bits."""
    shown = Shown()
    shown.add(*(packet(65530 + n & 0xFFFF, time=n * 3000, key=n == 0) for n in range(12)))
    assert shown.times == [n * 3000 for n in range(12)]


def test_after_a_loss_nothing_is_shown_before_the_next_keyframe() -> None:
    """Never a picture that depends on a lost one."""
    shown = Shown()
    shown.add(packet(1, time=0, key=True), packet(3, time=6000, at=1.0), packet(4, time=9000))
    assert shown.video.missing_since() == 1.0
    shown.video.give_up()
    shown.add(packet(5, time=12000), packet(6, time=15000, key=True), packet(7, time=18000))
    assert shown.times == [0, 15000, 18000]
    assert shown.video.missing_since() is None


def test_a_keyframe_that_is_here_already_is_shown_when_the_loss_is_given_up() -> None:
    """No need to ask for another one."""
    shown = Shown()
    shown.add(packet(1, time=0, key=True), packet(3, time=6000), packet(4, time=9000, key=True))
    shown.video.give_up()
    assert shown.times == [0, 9000]
    assert not shown.video.wants_keyframe


def test_a_packet_that_comes_after_it_was_given_up_is_ignored() -> None:
    """It must not bring back what was skipped."""
    shown = Shown()
    shown.add(packet(1, time=0, key=True), packet(3, time=6000))
    shown.video.give_up()
    shown.add(packet(2, time=3000), packet(4, time=9000, key=True))
    assert shown.times == [0, 9000]


def test_padding_is_no_picture() -> None:
    """Bandwidth probes carry a sequence number and nothing else."""
    shown = Shown()
    probe = RtpPacket(payload_type=VP8, sequence_number=2, timestamp=0)
    probe._data, probe._arrived_s = b"", 0.0
    shown.add(packet(1, time=0, key=True), probe, packet(3, time=3000))
    assert shown.times == [0, 3000]


def test_a_sender_that_begins_anew_is_followed_from_its_next_keyframe() -> None:
    """It restarted with other sequence numbers."""
    shown = Shown()
    shown.add(packet(20000, time=0, key=True), packet(10000, time=50))
    assert shown.video.wants_keyframe
    shown.add(packet(10001, time=100), packet(10002, time=3100, key=True))
    assert shown.times == [0, 3100]


def test_flushing_gives_away_what_can_still_be_shown() -> None:
    """The peer is gone; a complete keyframe behind a gap is worth showing."""
    shown = Shown()
    shown.add(packet(1, time=0, key=True), packet(3, time=6000, key=True), packet(4, time=9000))
    shown.video.flush()
    assert shown.times == [0, 6000, 9000]


@pytest.mark.parametrize(
    ("payload", "is_key"),
    [
        (bytes([0x65, 1]), True),
        (bytes([0x67, 1]), True),
        (bytes([0x41, 1]), False),
        (bytes([0x7C, 0x85, 1]), True),
        (bytes([0x5C, 0x81, 1]), False),
        (bytes([0x78, 0, 2, 0x67, 1, 0, 2, 0x68, 1]), True),
        (bytes([0x58, 0, 2, 0x41, 1, 0, 2, 0x41, 1]), False),
    ],
)
def test_h264_keyframes_are_recognised_in_every_packing(payload: bytes, is_key: bool) -> None:
    """Single units, fragments and aggregates (RFC 6184 section 5.2)."""
    assert has_h264_keyframe(payload) is is_key


def test_the_middle_of_a_fragmented_unit_begins_no_frame() -> None:
    """Its first fragment was lost."""
    assert not begins_frame(Codec.H264, bytes([0x7C, 0x05]))
    assert begins_frame(Codec.H264, bytes([0x7C, 0x85]))


class Heard:
    """What an audio assembler gave away."""

    def __init__(self) -> None:
        self.sequences: list[int] = []
        self.audio = AudioAssembler(complete=self.take)

    def take(self, data: bytes, last: RtpPacket, keyframe: bool) -> None:
        self.sequences.append(last.sequence_number)

    def add(self, sequence: int, at: float) -> None:
        made = RtpPacket(sequence_number=sequence, timestamp=sequence * 960, payload=b"x")
        made._data, made._arrived_s = b"x", at
        self.audio.add(made)


def test_sound_is_not_delayed_in_the_ordinary_case() -> None:
    """A packet is a frame; the stock buffer waits for four."""
    heard = Heard()
    for n in range(5):
        heard.add(n, n * 0.02)
        assert heard.sequences[-1] == n


def test_sound_waits_60_ms_for_a_missing_packet() -> None:
    """And then goes on without it."""
    heard = Heard()
    heard.add(0, 0.0)
    heard.add(2, 0.04)
    heard.add(3, 0.06)
    assert heard.sequences == [0]
    heard.add(4, 0.08)
    heard.add(5, 0.1)
    assert heard.sequences == [0, 2, 3, 4, 5]


def test_sound_that_comes_late_in_time_is_played_in_order() -> None:
    """Reordered, not lost."""
    heard = Heard()
    heard.add(0, 0.0)
    heard.add(2, 0.04)
    heard.add(1, 0.05)
    assert heard.sequences == [0, 1, 2]


def test_sound_that_keeps_coming_late_is_waited_for_longer() -> None:
    """Up to 120 ms."""
    heard = Heard()
    heard.add(0, 0.0)
    heard.add(2, 0.04)
    heard.audio.release(0.101)
    heard.add(1, 0.13)
    heard.add(4, 0.14)
    heard.audio.release(0.22)
    assert heard.sequences == [0, 2]
    heard.audio.release(0.27)
    assert heard.sequences == [0, 2, 4]


def test_flushing_gives_away_all_sound() -> None:
    """Nothing more will arrive."""
    heard = Heard()
    heard.add(0, 0.0)
    heard.add(3, 0.04)
    heard.add(9, 0.04)
    heard.audio.flush()
    assert heard.sequences == [0, 3, 9]
