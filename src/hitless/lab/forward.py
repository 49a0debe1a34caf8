"""
Forward media from one publisher to its viewers without opening it.

A `Publisher` takes decrypted RTP of one stream, acknowledges it (receiver reports, NACK) and
hands each packet to the `Outlet` of every viewer, which gives it a payload type, an SSRC, a
sequence number and a timestamp of its own and strips header extensions: like the least
cooperative ordinary SFU, because a client that survives that survives the others.

Sans I/O: bytes come in by method call, leave through a `Wire`, and time is an argument.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Protocol, cast

from aiortc.rtcrtpreceiver import NackGenerator, StreamStatistics
from aiortc.rtp import (
    RTCP_PSFB_FIR,
    RTCP_PSFB_PLI,
    RTCP_RTPFB_NACK,
    RtcpPacket,
    RtcpPsfbPacket,
    RtcpReceiverInfo,
    RtcpRrPacket,
    RtcpRtpfbPacket,
    RtcpSdesPacket,
    RtcpSenderInfo,
    RtcpSourceInfo,
    RtcpSrPacket,
    RtpPacket,
)

from ..media.frame import CLOCK_RATE, Codec, Kind
from .faults import Injected
from .rtp import HEADER, Packet, parse, starts_keyframe


HISTORY: Final = 512
"""Packets kept for retransmission, per track: over 4 s of video at 1 Mbit/s."""
PLI_INTERVAL_S: Final = 0.1
"""Keyframes are asked for at most this often [s], whoever asks."""
PLI_VIEWER_S: Final = 0.0025
"""And no more often than this for each viewer [s]: a keyframe of 30 packets costs the loop
0.3 ms per viewer, so a hundred of them joining one by one would spend it on keyframes."""
PLI_REPEAT_S: Final = 0.3
"""A keyframe that did not come is asked for again after this time [s]."""
REPORT_FIRST_S: Final = 0.1
"""The first receiver report follows the first packet by this time [s]."""
REPORT_S: Final = 0.5
"""Receiver reports follow each other by this time [s]."""
RETRANSMITTED_MAX: Final = 64
"""Packets sent again for one NACK; a viewer that lost more needs a keyframe."""
FAILURES_MAX: Final = 20
"""A viewer to whom this many packets in a row could not be sent is given up."""


class Wire(Protocol):
    """The encrypted way to one peer. Sending never blocks; what does not fit is dropped."""

    def send_rtp(self, packet: bytes) -> None: ...

    def send_rtcp(self, packet: bytes) -> None: ...


class Watcher(Protocol):
    """Somebody who views a publisher, by WebRTC (`Viewer`) or by RTMP."""

    @property
    def packets(self) -> int:
        """Packets, or messages of RTMP, sent to it."""

    @property
    def is_broken(self) -> bool:
        """Whether nothing can be sent to it any more."""

    def detach(self) -> None:
        """End. Idempotent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """
    One kind of media as settled with one peer.

    Attributes:
        kind: Audio or video.
        codec: How it is encoded.
        payload_type: RTP payload type towards or from this peer.
        ssrc: Ours towards this peer: of the packets to a viewer, of the reports to a publisher.
        cname: Our canonical name towards this peer (RFC 3550 section 6.5.1).
    """

    kind: Kind
    codec: Codec
    payload_type: int
    ssrc: int
    cname: str = "stand-in"


class Outlet:
    """One kind of media on its way to one viewer, in numbers of its own."""

    def __init__(self, line: Line, wire: Wire, rng: random.Random) -> None:
        self.line = line
        self._wire = wire
        self._send = wire.send_rtp
        self._payload_type = line.payload_type
        self._ssrc = line.ssrc
        # In the lower half: a wrap within the first packets breaks the receiver's SRTP.
        self._number = rng.randrange(0x8000)
        self._timestamp = rng.getrandbits(32)
        self._first: int | None = None
        self.failed_in_row = 0
        self.packets = 0
        self.octets = 0

    @property
    def has_started(self) -> bool:
        """Whether the first packet, of a keyframe for video, was sent."""
        return self._first is not None

    def start(self, index: int) -> None:
        """Begin with the packet of this index."""
        self._first = index
        self._number = (self._number - index) & 0xFFFF

    def send(self, index: int, marker: int, timestamp: int, payload: bytes) -> None:
        """Send one packet, unless it is older than the first one."""
        if self._first is None or index < self._first:
            return
        header = HEADER.pack(
            0x80,
            marker | self._payload_type,
            (index + self._number) & 0xFFFF,
            (timestamp + self._timestamp) & 0xFFFFFFFF,
            self._ssrc,
        )
        self._send(header + payload)
        self.packets += 1
        self.octets += len(payload)

    def index_of(self, number: int, newest: int) -> int:
        """Return the index of a packet that the viewer knows by its sequence number."""
        behind = (newest + self._number - number) & 0xFFFF
        return newest - behind

    def report(self, ntp: int, timestamp: int) -> None:
        """Pass a sender report on, in the viewer's timestamps."""
        if self._first is None:
            return
        report = RtcpSrPacket(
            ssrc=self._ssrc,
            sender_info=RtcpSenderInfo(
                ntp_timestamp=ntp,
                rtp_timestamp=(timestamp + self._timestamp) & 0xFFFFFFFF,
                packet_count=self.packets & 0xFFFFFFFF,
                octet_count=self.octets & 0xFFFFFFFF,
            ),
        )
        name = RtcpSourceInfo(ssrc=self._ssrc, items=[(1, self.line.cname.encode())])
        self._wire.send_rtcp(bytes(report) + bytes(RtcpSdesPacket(chunks=[name])))


class Track:
    """One kind of media as it comes from the publisher."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.ssrc: int | None = None
        self.newest = 0
        self.packets = 0
        self.strangers = 0
        self.statistics = StreamStatistics(CLOCK_RATE[line.kind])
        self.nack = NackGenerator() if line.kind is Kind.VIDEO else None
        self.history: list[tuple[int, int, int, bytes] | None] = [None] * HISTORY
        self.outlets: list[Outlet] = []
        self.report_at_s: float | None = None
        self._sender_report: tuple[int, float] | None = None

    def index(self, number: int) -> int:
        """Return a sequence number unwrapped: it grows for ever, and never below zero."""
        if self.packets == 0:
            self.newest = 0x10000 + number
        step = ((number - self.newest + 0x8000) & 0xFFFF) - 0x8000
        self.newest += max(step, 0)
        return self.newest + min(step, 0)

    def note_sender_report(self, ntp: int, now: float) -> None:
        """Remember a sender report, so that ours let the publisher measure its round trip."""
        self._sender_report = ((ntp >> 16) & 0xFFFFFFFF, now)

    def receiver_report(self, now: float) -> RtcpReceiverInfo | None:
        """Return what we report of this track (RFC 3550 section 6.4.1); None: nothing came."""
        if self.ssrc is None or self.statistics.max_seq is None:
            return None
        middle, since_s = self._sender_report or (0, now)
        return RtcpReceiverInfo(
            ssrc=self.ssrc,
            fraction_lost=self.statistics.fraction_lost,
            packets_lost=self.statistics.packets_lost,
            highest_sequence=self.statistics.cycles + self.statistics.max_seq,
            jitter=self.statistics.jitter,
            lsr=middle,
            dlsr=min(int((now - since_s) * 65536), 0xFFFFFFFF),
        )


class Publisher:
    """
    The media of one publisher, and everybody who views it.

    Args:
        stream: What it publishes.
        wire: The way back to it, for reports.
        lines: What was settled with it, one per kind.
        injected: The faults that are on.
    """

    def __init__(self, stream: str, wire: Wire, lines: Iterable[Line], injected: Injected) -> None:
        self.stream = stream
        self._wire = wire
        self._injected = injected
        self.tracks = {line.kind: Track(line) for line in lines}
        self._by_payload_type = {t.line.payload_type: t for t in self.tracks.values()}
        self.viewers: set[Watcher] = set()
        self.packets_forwarded = 0
        self._pli_s = float("-inf")
        self._is_pli_due = False

    @property
    def is_on_air(self) -> bool:
        """Whether media has arrived."""
        return any(track.packets for track in self.tracks.values())

    # --- From the publisher ---

    def take_rtp(self, data: bytes, now: float) -> None:
        """Take one decrypted RTP packet: acknowledge, remember, forward."""
        packet = parse(data)
        track = self._by_payload_type.get(packet.payload_type) if packet else None
        if packet is None or track is None:
            return
        if track.ssrc is None:
            track.ssrc = packet.ssrc
            track.report_at_s = now + REPORT_FIRST_S
        elif track.ssrc != packet.ssrc:
            track.strangers += 1
            return
        index = track.index(packet.sequence_number)
        track.packets += 1
        track.statistics.add(cast(RtpPacket, packet))  # reads two attributes that ours has too
        track.history[index % HISTORY] = (index, packet.marker, packet.timestamp, packet.payload)
        if track.nack is not None and track.nack.add(cast(RtpPacket, packet)):
            self._ask_again(track)
        if track.outlets and self.forwards(track.line.kind):
            self._forward(track, index, packet)

    def forwards(self, kind: Kind) -> bool:
        """Return whether no fault holds this kind of media back."""
        return self._injected.forwards and not (kind is Kind.AUDIO and self._injected.drops_audio)

    def _forward(self, track: Track, index: int, packet: Packet) -> None:
        is_audio = track.line.kind is Kind.AUDIO
        if is_audio or starts_keyframe(track.line.codec, packet.payload):
            self._is_pli_due = self._is_pli_due and is_audio
            for outlet in track.outlets:
                if not outlet.has_started:
                    outlet.start(index)
        for outlet in track.outlets:
            # One viewer's trouble, whatever it is, must not reach the others.
            try:
                outlet.send(index, packet.marker, packet.timestamp, packet.payload)
                outlet.failed_in_row = 0
            except Exception:
                outlet.failed_in_row += 1
        self.packets_forwarded += len(track.outlets)

    def take_rtcp(self, data: bytes, now: float) -> None:
        """Take one decrypted RTCP packet: sender reports are passed on to the viewers."""
        for packet in _reports(data):
            if not isinstance(packet, RtcpSrPacket):
                continue
            track = next((t for t in self.tracks.values() if t.ssrc == packet.ssrc), None)
            if track is None:
                continue
            info = packet.sender_info
            track.note_sender_report(info.ntp_timestamp, now)
            if self.forwards(track.line.kind):
                for outlet in track.outlets:
                    outlet.report(info.ntp_timestamp, info.rtp_timestamp)

    # --- To the publisher ---

    def tick(self, now: float) -> None:
        """Do what is due: receiver reports, NACKs and keyframe requests again. Every 50 ms."""
        due = [
            t for t in self.tracks.values() if t.report_at_s is not None and t.report_at_s <= now
        ]
        reports = []
        for track in due:
            track.report_at_s = now + REPORT_S
            report = track.receiver_report(now)
            if report is not None:
                reports.append(report)
        if reports:
            ssrc = due[0].line.ssrc
            self._wire.send_rtcp(bytes(RtcpRrPacket(ssrc=ssrc, reports=reports)))
        for track in self.tracks.values():
            if track.nack is not None and track.nack.missing:
                self._ask_again(track)
        if self._is_pli_due or (self._is_waited_for and now - self._pli_s >= PLI_REPEAT_S):
            self.request_keyframe(now)

    @property
    def _is_waited_for(self) -> bool:
        video = self.tracks.get(Kind.VIDEO)
        return (
            video is not None
            and self._injected.forwards
            and not all(outlet.has_started for outlet in video.outlets)
        )

    def request_keyframe(self, now: float) -> None:
        """Ask for a keyframe (RFC 4585 section 6.3.1), now or as soon as the rate allows."""
        video = self.tracks.get(Kind.VIDEO)
        if video is None or video.ssrc is None:
            return
        if now - self._pli_s < max(PLI_INTERVAL_S, PLI_VIEWER_S * len(video.outlets)):
            self._is_pli_due = True
            return
        self._is_pli_due = False
        self._pli_s = now
        request = RtcpPsfbPacket(fmt=RTCP_PSFB_PLI, ssrc=video.line.ssrc, media_ssrc=video.ssrc)
        self._wire.send_rtcp(bytes(request))

    def _ask_again(self, track: Track) -> None:
        if track.nack is None or track.ssrc is None:
            return
        request = RtcpRtpfbPacket(fmt=RTCP_RTPFB_NACK, ssrc=track.line.ssrc, media_ssrc=track.ssrc)
        request.lost = sorted(track.nack.missing)
        self._wire.send_rtcp(bytes(request))


class Viewer:
    """
    One viewer of a publisher.

    Args:
        publisher: Whose media it views.
        wire: The way to the viewer.
        lines: What was settled with it.
        rng: Where its numbers begin.
    """

    def __init__(
        self, publisher: Publisher, wire: Wire, lines: Iterable[Line], rng: random.Random
    ) -> None:
        self.publisher = publisher
        self.outlets = {line.kind: Outlet(line, wire, rng) for line in lines}
        self._by_ssrc = {outlet.line.ssrc: outlet for outlet in self.outlets.values()}

    def attach(self, now: float) -> None:
        """Begin: sound at once, pictures from the next keyframe on, which is asked for."""
        self.publisher.viewers.add(self)
        for kind, outlet in self.outlets.items():
            self.publisher.tracks[kind].outlets.append(outlet)
        if Kind.VIDEO in self.outlets:
            self.publisher.request_keyframe(now)

    def detach(self) -> None:
        """End. Idempotent."""
        self.publisher.viewers.discard(self)
        for kind, outlet in self.outlets.items():
            outlets = self.publisher.tracks[kind].outlets
            if outlet in outlets:
                outlets.remove(outlet)

    @property
    def is_broken(self) -> bool:
        """Whether nothing can be sent to it any more."""
        return any(o.failed_in_row >= FAILURES_MAX for o in self.outlets.values())

    @property
    def packets(self) -> int:
        """Packets sent to it."""
        return sum(outlet.packets for outlet in self.outlets.values())

    def take_rtcp(self, data: bytes, now: float) -> None:
        """Take one decrypted RTCP packet: send again what it lost, ask for what it needs."""
        for packet in _reports(data):
            if isinstance(packet, RtcpRtpfbPacket) and packet.fmt == RTCP_RTPFB_NACK:
                self._send_again(packet)
            elif isinstance(packet, RtcpPsfbPacket) and packet.fmt in (
                RTCP_PSFB_PLI,
                RTCP_PSFB_FIR,
            ):
                self.publisher.request_keyframe(now)

    def _send_again(self, request: RtcpRtpfbPacket) -> None:
        outlet = self._by_ssrc.get(request.media_ssrc)
        if outlet is None or not self.publisher.forwards(outlet.line.kind):
            return
        track = self.publisher.tracks[outlet.line.kind]
        for number in request.lost[:RETRANSMITTED_MAX]:
            kept = track.history[(index := outlet.index_of(number, track.newest)) % HISTORY]
            if kept is not None and kept[0] == index:
                outlet.send(*kept)


def _reports(data: bytes) -> list[object]:
    """Return the packets of a compound; none if it is damaged."""
    try:
        return list(RtcpPacket.parse(data))
    except ValueError:
        return []
