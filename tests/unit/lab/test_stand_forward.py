"""hitless.lab.forward and hitless.lab.rtp: packets in, packets out, no network."""

import random
import struct
from itertools import pairwise

import pytest
from aiortc.rtp import (
    RtcpPacket,
    RtcpPsfbPacket,
    RtcpRrPacket,
    RtcpRtpfbPacket,
    RtcpSenderInfo,
    RtcpSrPacket,
    RtpPacket,
)
from hypothesis import given
from hypothesis import strategies as st

from hitless.lab.faults import Injected
from hitless.lab.forward import Line, Publisher, Viewer
from hitless.lab.rtp import parse, starts_keyframe
from hitless.media.frame import Codec, Kind


KEY, DELTA = b"\x10\x00key", b"\x10\x01delta"  # VP8: start of partition 0, inverse key bit


class Tape:
    """A wire that remembers."""

    def __init__(self):
        self.rtp, self.rtcp = [], []

    def send_rtp(self, packet):
        self.rtp.append(RtpPacket.parse(packet))

    def send_rtcp(self, packet):
        self.rtcp += RtcpPacket.parse(packet)

    def plis(self):
        return [p for p in self.rtcp if isinstance(p, RtcpPsfbPacket)]


class Broken(Tape):
    """A wire that fails."""

    def send_rtp(self, packet):
        raise RuntimeError("out of order")


def line(kind, ssrc=1, payload_type=None):
    codec = Codec.OPUS if kind is Kind.AUDIO else Codec.VP8
    return Line(
        kind=kind,
        codec=codec,
        payload_type=payload_type or (96 if codec == "opus" else 97),
        ssrc=ssrc,
    )


def rtp(number, payload=DELTA, *, timestamp=0, kind=Kind.VIDEO, ssrc=None, marker=0):
    pt, known = (97, 700) if kind is Kind.VIDEO else (96, 600)
    head = struct.pack(">BBHII", 0x80, marker << 7 | pt, number & 0xFFFF, timestamp, ssrc or known)
    return head + payload


@pytest.fixture
def injected():
    return Injected()


@pytest.fixture
def back():
    return Tape()


@pytest.fixture
def publisher(injected, back):
    lines = [line(Kind.AUDIO, ssrc=11), line(Kind.VIDEO, ssrc=12)]
    return Publisher("s", back, lines, injected)


def watch(publisher, wire=None, seed=1, now=0.0):
    wire = wire or Tape()
    lines = [line(Kind.AUDIO, 21, 111), line(Kind.VIDEO, 22, 120)]
    viewer = Viewer(publisher, wire, lines, random.Random(seed))
    viewer.attach(now)
    return viewer, wire


def test_a_viewer_gets_numbers_of_its_own(publisher):
    """Payload type, SSRC, sequence numbers and timestamps differ; order and distance stay."""
    _, one = watch(publisher, seed=1)
    _, two = watch(publisher, seed=2)
    for number in range(65_530, 65_546):  # across the wrap
        publisher.take_rtp(rtp(number, KEY, timestamp=number * 3000, marker=number % 2), 0.0)
    for wire in (one, two):
        assert {(p.payload_type, p.ssrc) for p in wire.rtp} == {(120, 22)}
        steps = [
            (b.sequence_number - a.sequence_number, (b.timestamp - a.timestamp) % 2**32)
            for a, b in pairwise(wire.rtp)
        ]
        assert set(steps) == {(1, 3000)}
        assert [p.marker for p in wire.rtp] == [n % 2 for n in range(16)]
        assert {p.payload for p in wire.rtp} == {KEY}
    assert one.rtp[0].sequence_number != two.rtp[0].sequence_number
    assert one.rtp[0].timestamp != two.rtp[0].timestamp


def test_video_waits_for_a_keyframe_and_sound_does_not(publisher):
    """A decoder cannot begin in the middle."""
    _, wire = watch(publisher)
    publisher.take_rtp(rtp(1, DELTA), 0.0)
    publisher.take_rtp(rtp(1, b"opus", kind=Kind.AUDIO), 0.0)
    assert [p.payload for p in wire.rtp] == [b"opus"]
    publisher.take_rtp(rtp(2, KEY), 0.0)
    publisher.take_rtp(rtp(3, DELTA), 0.0)
    assert [p.payload for p in wire.rtp] == [b"opus", KEY, DELTA]


def test_a_late_packet_from_before_the_keyframe_is_not_forwarded(publisher):
    """It would stand before the viewer's first number."""
    _, wire = watch(publisher)
    publisher.take_rtp(rtp(9, KEY), 0.0)
    publisher.take_rtp(rtp(8, DELTA), 0.0)
    assert [p.payload for p in wire.rtp] == [KEY]


def test_header_extensions_and_padding_are_stripped(publisher):
    """Their ids differ from peer to peer."""
    _, wire = watch(publisher)
    head = struct.pack(">BBHII", 0xB1, 97, 5, 0, 700) + b"csrc"
    publisher.take_rtp(head + struct.pack(">HH", 0xBEDE, 1) + b"\x10x\0\0" + KEY + b"\0\0\3", 0.0)
    assert wire.rtp[0].payload == KEY
    assert wire.rtp[0].csrc == []


def test_one_broken_viewer_does_not_disturb_the_others(publisher):
    """Whatever is raised for one viewer stays with it, and it is given up in the end."""
    broken, _ = watch(publisher, Broken())
    _, wire = watch(publisher)
    for number in range(25):
        publisher.take_rtp(rtp(number, KEY), 0.0)
    assert len(wire.rtp) == 25
    assert broken.is_broken


def test_a_lost_packet_is_sent_again_under_its_old_number(publisher):
    """NACK is answered out of the history."""
    viewer, wire = watch(publisher)
    for number in range(100):
        publisher.take_rtp(rtp(number, KEY + bytes([number]), timestamp=number), 0.0)
    lost = wire.rtp[40]
    wire.rtp.clear()
    nack = RtcpRtpfbPacket(fmt=1, ssrc=5, media_ssrc=22, lost=[lost.sequence_number])
    viewer.take_rtcp(bytes(nack), 0.0)
    (again,) = wire.rtp
    assert (again.sequence_number, again.timestamp, again.payload) == (
        lost.sequence_number,
        lost.timestamp,
        lost.payload,
    )


def test_a_packet_that_left_the_history_is_not_sent_again(publisher):
    """Nor another one in its place."""
    viewer, wire = watch(publisher)
    for number in range(600):
        publisher.take_rtp(rtp(number, KEY), 0.0)
    first = wire.rtp[0].sequence_number
    wire.rtp.clear()
    viewer.take_rtcp(bytes(RtcpRtpfbPacket(fmt=1, ssrc=5, media_ssrc=22, lost=[first])), 0.0)
    assert wire.rtp == []


def test_a_hole_is_asked_for_at_once_and_again_until_it_is_filled(publisher, back):
    """NACK upstream, repeated with every tick."""
    publisher.take_rtp(rtp(1), 0.0)
    publisher.take_rtp(rtp(4), 0.0)
    publisher.tick(0.05)
    nacks = [p for p in back.rtcp if isinstance(p, RtcpRtpfbPacket)]
    assert [n.lost for n in nacks] == [[2, 3], [2, 3]]
    assert {(n.ssrc, n.media_ssrc) for n in nacks} == {(12, 700)}
    publisher.take_rtp(rtp(2), 0.05)
    publisher.take_rtp(rtp(3), 0.05)
    back.rtcp.clear()
    publisher.tick(0.06)
    assert not [p for p in back.rtcp if isinstance(p, RtcpRtpfbPacket)]


def test_a_new_viewer_asks_for_a_keyframe_and_again_until_it_comes(publisher, back):
    """At once, then every 300 ms."""
    publisher.take_rtp(rtp(1), 10.0)
    watch(publisher, now=10.0)
    assert len(back.plis()) == 1
    assert (back.plis()[0].ssrc, back.plis()[0].media_ssrc) == (12, 700)
    for tick in range(1, 14):
        publisher.tick(10.0 + tick * 0.05)
    assert len(back.plis()) == 3
    publisher.take_rtp(rtp(2, KEY), 10.65)
    for tick in range(14, 30):
        publisher.tick(10.0 + tick * 0.05)
    assert len(back.plis()) == 3


def test_keyframes_are_asked_for_ten_times_a_second_at_most(publisher, back):
    """However many viewers ask, and the last one is not forgotten."""
    publisher.take_rtp(rtp(1, KEY), 0.0)
    viewer, _ = watch(publisher, now=0.0)
    publisher.take_rtp(rtp(2, KEY), 0.0)
    pli = bytes(RtcpPsfbPacket(fmt=1, ssrc=5, media_ssrc=22))
    back.rtcp.clear()
    for step in range(100):
        now = 1.0 + step / 100
        viewer.take_rtcp(pli, now)
        publisher.tick(now)
    assert 9 <= len(back.plis()) <= 11


def test_receiver_reports_come_soon_and_every_half_second(publisher, back):
    """A publisher without a self-view reads from them that it is heard."""
    for number in (1, 2, 4):
        publisher.take_rtp(rtp(number, KEY), 5.0)
    for tick in range(1, 25):
        publisher.tick(5.0 + tick * 0.05)
    reports = [p for p in back.rtcp if isinstance(p, RtcpRrPacket)]
    assert len(reports) == 3
    assert reports[0].reports[0].ssrc == 700
    assert reports[0].reports[0].highest_sequence == 4
    assert reports[0].reports[0].packets_lost == 1


def test_sender_reports_are_passed_on_in_the_viewers_timestamps(publisher):
    """So that a viewer can put sound and picture together."""
    _, wire = watch(publisher)
    publisher.take_rtp(rtp(1, KEY, timestamp=1000), 0.0)
    info = RtcpSenderInfo(ntp_timestamp=77, rtp_timestamp=4000, packet_count=9, octet_count=9)
    publisher.take_rtcp(bytes(RtcpSrPacket(ssrc=700, sender_info=info)), 0.0)
    (report,) = [p for p in wire.rtcp if isinstance(p, RtcpSrPacket)]
    assert report.ssrc == 22
    assert report.sender_info.ntp_timestamp == 77
    assert (report.sender_info.rtp_timestamp - wire.rtp[0].timestamp) % 2**32 == 3000
    assert report.sender_info.packet_count == 1


def test_gray_forwarding_acknowledges_and_forwards_nothing(publisher, back, injected):
    """Not media, not reports, not what was lost; and nobody asks for keyframes in vain."""
    viewer, wire = watch(publisher)
    publisher.take_rtp(rtp(1, KEY), 0.0)
    number = wire.rtp[0].sequence_number
    wire.rtp.clear()
    injected.switch("gray-forwarding", True, {})
    publisher.take_rtp(rtp(2, KEY), 0.0)
    viewer.take_rtcp(bytes(RtcpRtpfbPacket(fmt=1, ssrc=5, media_ssrc=22, lost=[number])), 0.0)
    publisher.tick(1.0)
    assert wire.rtp == []
    assert [p for p in back.rtcp if isinstance(p, RtcpRrPacket)]
    injected.switch("gray-forwarding", False, {})
    publisher.take_rtp(rtp(3, DELTA), 0.0)
    assert len(wire.rtp) == 1


def test_no_audio_drops_sound_only(publisher, injected):
    """Pictures go on."""
    _, wire = watch(publisher)
    injected.switch("no-audio", True, {})
    publisher.take_rtp(rtp(1, b"opus", kind=Kind.AUDIO), 0.0)
    publisher.take_rtp(rtp(1, KEY), 0.0)
    assert [p.payload for p in wire.rtp] == [KEY]


def test_a_stranger_in_the_publishers_session_is_not_forwarded(publisher):
    """One SSRC per kind."""
    _, wire = watch(publisher)
    publisher.take_rtp(rtp(1, KEY), 0.0)
    publisher.take_rtp(rtp(2, KEY, ssrc=999), 0.0)
    assert len(wire.rtp) == 1


@given(st.binary(max_size=64))
def test_no_packet_whatsoever_is_an_exception(data):
    """What a publisher or viewer sends is never trusted."""
    publisher = Publisher("s", Tape(), [line(Kind.VIDEO)], Injected())
    viewer = Viewer(publisher, Tape(), [line(Kind.VIDEO, 22)], random.Random(1))
    viewer.attach(0.0)
    publisher.take_rtp(data, 0.0)
    publisher.take_rtp(b"\x80\x61" + data, 0.0)
    publisher.take_rtcp(data, 0.0)
    viewer.take_rtcp(data, 0.0)
    for codec in Codec:
        starts_keyframe(codec, data)


@given(
    st.integers(0, 127), st.booleans(), st.integers(0, 65535), st.binary(min_size=1, max_size=40)
)
def test_parsing_agrees_with_aiortc(payload_type, marker, number, payload):
    """The library's own writer is the reference."""
    packet = RtpPacket(
        payload_type=payload_type,
        marker=int(marker),
        sequence_number=number,
        ssrc=7,
        payload=payload,
    )
    ours = parse(packet.serialize())
    assert ours is not None
    assert (ours.payload_type, bool(ours.marker), ours.sequence_number, ours.payload) == (
        payload_type,
        marker,
        number,
        payload,
    )


@pytest.mark.parametrize(
    ("payload", "starts"),
    [
        (b"\x67sps", True),
        (b"\x65idr", True),
        (b"\x41slice", False),
        (b"\x7c\x85", True),  # FU-A, start of an IDR
        (b"\x7c\x05", False),  # its middle
        (b"\x78\x00\x02\x67a\x00\x02\x68b", True),  # STAP-A with SPS and PPS
        (b"\x78\x00\x02\x41a\x00\x02\x41b", False),
        (b"\x78", False),
    ],
)
def test_h264_keyframes_are_found_in_every_packing(payload, starts):
    """RFC 6184: single NAL, STAP-A, FU-A."""
    assert starts_keyframe(Codec.H264, payload) is starts


@pytest.mark.parametrize(
    ("payload", "starts"),
    [
        (b"\x10\x00", True),
        (b"\x10\x01", False),
        (b"\x00\x00", False),  # not the start of a partition
        (b"\x11\x00", False),  # another partition
        (b"\x90\x80\x05\x00", True),  # 7-bit picture id
        (b"\x90\x80\x85\x05\x00", True),  # 15-bit picture id
        (b"\x90\xf0\x85\x05\x01\x20\x00", True),  # all extensions
        (b"\x90\x80", False),
    ],
)
def test_vp8_keyframes_are_found_behind_every_descriptor(payload, starts):
    """RFC 7741 section 4."""
    assert starts_keyframe(Codec.VP8, payload) is starts
