"""
What comes of a push: FLV tags to RTP for WHEP viewers, and as they came for players of RTMP.

H.264 is not opened: its units go from the tag into RTP (RFC 6184) byte for byte, parameter sets
before every keyframe. AAC becomes Opus (`rtmp_sound.py`). Times are the tags'; pictures that are
shown in another order than decoded keep their own. A viewer gets sound at once and pictures from
the next keyframe on: RTMP cannot ask a publisher for one, so it may wait as long as they lie
apart. The fault `loss` loses packets towards WHEP viewers only: TCP sends again what was lost.

Which kinds a push has is known from its metadata, or when they come: a viewer that joined before
the other kind was known gets that one not at all.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Protocol

from aiortc import clock
from aiortc.codecs import CODECS
from aiortc.codecs.h264 import H264Encoder
from aiortc.rtcrtpparameters import RTCRtpCodecParameters
from aiortc.rtp import RtcpSenderInfo, RtcpSrPacket

from ..media import amf
from ..media.flv import NotFlv, TagReader
from ..media.frame import CLOCK_RATE, Codec, Kind
from ..media.rtmp_chunks import Message, Type
from .forward import Line
from .offer import Choice
from .rtmp_sound import Transcoder
from .rtp import HEADER


if TYPE_CHECKING:
    from .session import Session

Take = Callable[[bytes], None]
"""Takes one packet."""

REPORT_MS: Final = 1000
"""Media time between two sender reports [ms]: they tell viewers which sound fits which picture."""

_MODULUS: Final = 1 << 32
_CODECS: Final = {Kind.VIDEO: Codec.H264, Kind.AUDIO: Codec.OPUS}
_NAMED: Final = {Kind.VIDEO: "videocodecid", Kind.AUDIO: "audiocodecid"}


class Mouthless:
    """The way back to a publisher by RTMP: it takes no reports and no requests for keyframes."""

    def send_rtp(self, packet: bytes) -> None: ...

    def send_rtcp(self, packet: bytes) -> None: ...


class Sink(Protocol):
    """Where a player's messages go."""

    def send(self, message: Message) -> None:
        """Send one message; never blocks."""


def rtmp_lines(rng: random.Random) -> list[Line]:
    """Return the lines of a push, as if it had been settled: payload types of our own."""
    return [
        Line(kind=kind, codec=codec, payload_type=96 + number, ssrc=rng.getrandbits(32))
        for number, (kind, codec) in enumerate(_CODECS.items())
    ]


@dataclass(slots=True)
class _Track:
    """One kind on its way into RTP."""

    payload_type: int
    ssrc: int
    number: int
    packets: int = 0
    octets: int = 0
    reported_ms: int | None = None


class Ingest:
    """
    The media of one push.

    Args:
        session: Of the publisher.
        take_rtp, take_rtcp: Take what it would send by WebRTC.
        rng: Where its numbers begin.

    Attributes:
        damaged: Tags that could not be understood.
    """

    def __init__(
        self, session: Session, take_rtp: Take, take_rtcp: Take, rng: random.Random
    ) -> None:
        self._session, self._take_rtp, self._take_rtcp = session, take_rtp, take_rtcp
        self._tags = TagReader()
        self._sound = Transcoder()
        self._tracks = {
            kind: _Track(track.line.payload_type, rng.getrandbits(32), rng.randrange(0x8000))
            for kind, track in session.publisher.tracks.items()
        }
        self._parameters = {kind: _parameters(codec) for kind, codec in _CODECS.items()}
        self._origin: tuple[int, int] | None = None  # NTP time of a time of RTMP [ms]
        self._players: set[Player] = set()
        self._metadata: Message | None = None
        self._headers: dict[int, Message] = {}
        self.damaged = 0

    def player(self) -> Player:
        """Return a player of this push; it gets nothing before it is attached."""
        return Player(self._session, self._players, self._head)

    def take(self, message: Message) -> None:
        """Take a message of the publisher. Never raises."""
        try:
            if message.type == Type.DATA:
                self._describe(message)
            elif message.type == Type.AUDIO and len(message.payload) > 1:
                self._hear(message)
            elif message.type == Type.VIDEO and len(message.payload) > 1:
                self._see(message)
        except (NotFlv, amf.NotAmf, struct.error):
            self.damaged += 1

    # --- In ---

    def _describe(self, message: Message) -> None:
        values = amf.decode(message.payload)
        if values[:1] == ["@setDataFrame"]:
            values = values[1:]
        told = next((each for each in values if isinstance(each, Mapping)), None)
        if values[:1] != ["onMetaData"] or told is None:
            return
        for kind, name in _NAMED.items():
            if told.get(name) is not None:
                self._announce(kind)
        payload = amf.encode("onMetaData", told)
        self._metadata = Message(type=Type.DATA, payload=payload, stream=1)
        for player in tuple(self._players):
            player.tell(self._metadata)

    def _announce(self, kind: Kind) -> None:
        if all(each.kind is not kind for each in self._session.choices):
            choice = Choice(kind=kind, direction="recvonly", parameters=self._parameters[kind])
            self._session.choices.append(choice)

    def _see(self, message: Message) -> None:
        body = message.payload
        picture = self._tags.video(body)
        self._announce(Kind.VIDEO)
        self._pass_on(Kind.VIDEO, message, is_header=body[1] == 0, keyframe=body[0] >> 4 == 1)
        if picture is None:
            return
        later_ms = int.from_bytes(body[2:5], signed=True)  # composition time (FLV E.4.3.1)
        units = [unit for unit in H264Encoder._split_bitstream(picture.data) if unit]
        ticks = 90 * (message.timestamp + later_ms) % _MODULUS
        self._send(Kind.VIDEO, H264Encoder._packetize(units), ticks, message.timestamp)

    def _hear(self, message: Message) -> None:
        body = message.payload
        sound = self._tags.audio(body)
        self._announce(Kind.AUDIO)
        self._pass_on(Kind.AUDIO, message, is_header=body[1] == 0, keyframe=True)
        if sound is None:
            return
        for ticks, packet in self._sound.take(sound.data, message.timestamp):
            self._send(Kind.AUDIO, [packet], ticks, message.timestamp)

    # --- Out ---

    def _send(self, kind: Kind, payloads: Iterable[bytes], ticks: int, ms: int) -> None:
        track, cut = self._tracks[kind], list(payloads)
        for number, payload in enumerate(cut, start=1):
            marker = 0x80 if kind is Kind.VIDEO and number == len(cut) else 0
            head = HEADER.pack(
                0x80, marker | track.payload_type, track.number & 0xFFFF, ticks, track.ssrc
            )
            track.number += 1
            track.packets += 1
            track.octets += len(payload)
            self._take_rtp(head + payload)
        if track.reported_ms is None or (ms - track.reported_ms) % _MODULUS >= REPORT_MS:
            track.reported_ms = ms
            self._report(kind, track, ms)

    def _report(self, kind: Kind, track: _Track, ms: int) -> None:
        """Tell viewers when this time of RTMP was, on one clock for both kinds."""
        self._origin = self._origin or (clock.current_ntp_time(), ms)
        since_ms = (ms - self._origin[1] + _MODULUS // 2) % _MODULUS - _MODULUS // 2
        info = RtcpSenderInfo(
            ntp_timestamp=self._origin[0] + since_ms * _MODULUS // 1000,
            rtp_timestamp=ms * (CLOCK_RATE[kind] // 1000) % _MODULUS,
            packet_count=track.packets & 0xFFFFFFFF,
            octet_count=track.octets & 0xFFFFFFFF,
        )
        self._take_rtcp(bytes(RtcpSrPacket(ssrc=track.ssrc, sender_info=info)))

    def _pass_on(self, kind: Kind, message: Message, *, is_header: bool, keyframe: bool) -> None:
        if is_header:
            self._headers[message.type] = message
        for player in tuple(self._players):
            player.take(kind, message, is_header=is_header, keyframe=keyframe)

    def _head(self) -> list[Message]:
        """Return what a player needs first: metadata and sequence headers."""
        return [*filter(None, [self._metadata]), *self._headers.values()]


class Player:
    """
    One viewer by RTMP: the tags of a push as they came.

    Sound at once, pictures from the next keyframe on, also after a fault that held them back.

    Args:
        published: The session that it plays.
        players: Of that push.
        head: Returns what goes first.

    Attributes:
        packets: Messages of media sent.
        pictures: Whether it wants any.
    """

    is_broken = False
    """A connection that takes nothing is cut where it is written to."""

    def __init__(
        self, published: Session, players: set[Player], head: Callable[[], list[Message]]
    ) -> None:
        self._published, self._players, self._head = published, players, head
        self._sink: Sink | None = None
        self._waits = True
        self.packets = 0
        self.pictures = True

    def attach(self, sink: Sink) -> None:
        """Begin, unless the publisher left meanwhile: metadata and sequence headers go first."""
        if self._published.is_closed:
            return
        self._sink = sink
        self._players.add(self)
        self._published.publisher.viewers.add(self)
        for message in self._head():
            self.tell(message)

    def detach(self) -> None:
        """End. Idempotent."""
        self._sink = None
        self._players.discard(self)
        self._published.publisher.viewers.discard(self)

    def tell(self, message: Message) -> None:
        """Send a message on our own stream."""
        if self._sink is not None:
            self._sink.send(replace(message, stream=1))

    def take(self, kind: Kind, message: Message, *, is_header: bool, keyframe: bool) -> None:
        """Send a message of media on, if no fault holds it back."""
        if is_header:
            self.tell(message)
            return
        publisher = self._published.publisher
        is_held = not publisher.forwards(kind)
        if kind is Kind.VIDEO:
            self._waits = is_held or (self._waits and not keyframe)
            is_held = self._waits or not self.pictures
        if is_held:
            return
        self.tell(message)
        self.packets += 1
        publisher.packets_forwarded += 1


def _parameters(codec: Codec) -> RTCRtpCodecParameters:
    """Return what a WebRTC publisher of this codec would have settled."""
    known = (each for kind in CODECS.values() for each in kind)
    fitting = [each for each in known if each.name.lower() == codec.value.lower()]
    return fitting[-1]  # of H.264 constrained baseline, 42e01f, which every browser takes
