"""
Sending: one feed's encoded frames over aiortc's sender, without its encoder.

aiortc's RTCP, packet history and retransmission stay as they are. A frame is cut into RTP
payloads once however many legs send it, so a second leg costs headers, encryption and `sendto`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Any, Final, cast
from weakref import WeakKeyDictionary

from aiortc import RTCDtlsTransport, clock
from aiortc.codecs.h264 import H264Encoder
from aiortc.codecs.vpx import Vp8Encoder
from aiortc.rtcrtpparameters import RTCRtpCodecParameters
from aiortc.rtcrtpsender import RTCRtpSender, random_sequence_number
from aiortc.rtp import (
    RTCP_PSFB_FIR,
    RTCP_PSFB_PLI,
    RTCP_RTPFB_NACK,
    RTP_HISTORY_SIZE,
    RtcpPsfbPacket,
    RtcpRrPacket,
    RtcpRtpfbPacket,
    RtcpSrPacket,
    RtpPacket,
)
from aiortc.utils import random16, random32, uint16_add, uint32_add

from .feed import Feed
from .frame import Codec, EncodedFrame, Kind


QUEUE_FRAMES: Final = 64
"""Frames that wait when a path cannot be written to: 2 s of video, 1.3 s of audio. Then video
is dropped up to the next keyframe and audio from its oldest packet on."""

_PICTURE_IDS: Final = 1 << 15  # RFC 7741 section 4.2

logger = logging.getLogger(__name__)


class Packetiser:
    """Cuts each frame of one feed into RTP payloads, once."""

    def __init__(self) -> None:
        self._picture_id = random16() % _PICTURE_IDS
        self._last: dict[Kind, tuple[EncodedFrame, list[bytes]]] = {}

    def payloads(self, frame: EncodedFrame) -> list[bytes]:
        """Return the frame's RTP payloads. Legs ask in turn for the same frame."""
        last = self._last.get(frame.kind)
        if last is not None and last[0] is frame:
            return last[1]
        payloads = self._cut(frame)
        self._last[frame.kind] = frame, payloads
        return payloads

    def _cut(self, frame: EncodedFrame) -> list[bytes]:
        if frame.codec is Codec.OPUS:
            return [frame.data]
        if frame.codec is Codec.H264:
            return H264Encoder._packetize(H264Encoder._split_bitstream(frame.data))
        self._picture_id = (self._picture_id + 1) % _PICTURE_IDS
        return Vp8Encoder._packetize(frame.data, self._picture_id)


_packetisers: WeakKeyDictionary[Feed, Packetiser] = WeakKeyDictionary()


def packetiser_of(feed: Feed) -> Packetiser:
    """Return the one packetiser of a feed; it lives as long as the feed."""
    return _packetisers.setdefault(feed, Packetiser())


class FeedSender(RTCRtpSender):
    """
    Carries one kind of a feed's frames to one peer, from when it is connected.

    Args:
        kind: Audio or video.
        transport: The peer's DTLS transport.
        feed: Where the frames come from; it is not closed.

    Attributes:
        acknowledged: Set when the far side's receiver reports say that our packets arrive.
    """

    def __init__(self, kind: Kind, transport: RTCDtlsTransport, feed: Feed) -> None:
        super().__init__(kind.value, transport)
        # Any: aiortc's private parts are used, and mypy does not know mangled names.
        self._inner = cast(Any, self)
        self._media_kind = kind
        self._feed = feed
        self._packetiser = packetiser_of(feed)
        self._queue: deque[tuple[EncodedFrame, list[bytes]]] = deque()
        self._wake = asyncio.Event()
        self._skipping = kind is Kind.VIDEO
        self._keyframe_owed = kind is Kind.VIDEO
        self._sequence = random_sequence_number()
        self._timestamp_origin = random32()
        self.acknowledged = asyncio.Event()
        self.report: Any = None
        self.frames_sent = self.frames_dropped = 0
        self.nack_count = self.pli_count = self.fir_count = self.retransmitted = self.faults = 0

    # --- What aiortc calls ---

    async def _run_rtp(self, codec: RTCRtpCodecParameters) -> None:
        """Take the place of the stock loop that pulls from a track and encodes."""
        inner = self._inner
        inner._RTCRtpSender__rtp_started.set()
        detach = self._feed.attach(self._take)
        if self._media_kind is Kind.VIDEO:
            self._feed.request_keyframe()
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._queue:
                    await self._send_frame(codec, *self._queue.popleft())
        except (asyncio.CancelledError, ConnectionError):
            pass  # the peer tells its owner; `stop` below must find the loop at its end
        except Exception:
            # A closed socket raises AttributeError inside asyncio. It ends this leg only.
            self._note_fault()
        finally:
            detach()
            self._queue.clear()
            inner._RTCRtpSender__rtp_exited.set()

    async def _handle_rtcp_packet(self, packet: Any) -> None:
        try:
            if isinstance(packet, RtcpRrPacket | RtcpSrPacket):
                self._note_reports(packet.reports)
            elif isinstance(packet, RtcpRtpfbPacket) and packet.fmt == RTCP_RTPFB_NACK:
                self.nack_count += 1
            elif isinstance(packet, RtcpPsfbPacket) and packet.fmt == RTCP_PSFB_PLI:
                self.pli_count += 1
            elif isinstance(packet, RtcpPsfbPacket) and packet.fmt == RTCP_PSFB_FIR:
                self.fir_count += 1
            await super()._handle_rtcp_packet(packet)
        except Exception:
            self._note_fault()

    async def _retransmit(self, sequence_number: int) -> None:
        self.retransmitted += 1
        await super()._retransmit(sequence_number)

    def _send_keyframe(self) -> None:
        if self._media_kind is Kind.VIDEO:
            self._keyframe_owed = True
            self._feed.request_keyframe()

    async def _send_rtcp(self, packets: list[Any]) -> None:
        # See FrameReceiver._send_rtcp: anything raised here would make `stop` wait for ever.
        try:
            await super()._send_rtcp(packets)
        except Exception:
            self._note_fault()

    # --- Inside ---

    def _take(self, frame: EncodedFrame) -> None:
        if frame.kind is not self._media_kind:
            return
        payloads = self._packetiser.payloads(frame)
        if frame.kind is Kind.VIDEO and not self._is_wanted(frame):
            self.frames_dropped += 1
            return
        if len(self._queue) >= QUEUE_FRAMES:
            self._make_room(frame)
            if self._skipping:
                return
        self._queue.append((frame, payloads))
        self._wake.set()

    def _is_wanted(self, frame: EncodedFrame) -> bool:
        if frame.keyframe:
            self._keyframe_owed = self._skipping = False
        elif self._keyframe_owed:
            # A feed passes on ten requests a second and forgets the others: ask again.
            self._feed.request_keyframe()
        return not self._skipping

    def _make_room(self, frame: EncodedFrame) -> None:
        if self._media_kind is Kind.AUDIO:
            self._queue.popleft()
            self.frames_dropped += 1
            return
        self.frames_dropped += len(self._queue) + (not frame.keyframe)
        self._queue.clear()
        self._skipping = self._keyframe_owed = not frame.keyframe

    async def _send_frame(
        self, codec: RTCRtpCodecParameters, frame: EncodedFrame, payloads: list[bytes]
    ) -> None:
        inner = self._inner
        timestamp = uint32_add(self._timestamp_origin, frame.timestamp & 0xFFFFFFFF)
        for index, payload in enumerate(payloads, start=1):
            packet = RtpPacket(
                payload_type=cast(int, codec.payloadType),
                marker=int(index == len(payloads)),
                sequence_number=self._sequence,
                timestamp=timestamp,
                ssrc=self._ssrc,
                payload=payload,
            )
            packet.extensions.mid = inner._RTCRtpSender__mid
            inner._RTCRtpSender__rtp_history[self._sequence % RTP_HISTORY_SIZE] = packet
            extensions = inner._RTCRtpSender__rtp_header_extensions_map
            await inner.transport._send_rtp(packet.serialize(extensions))
            self._sequence = uint16_add(self._sequence, 1)
            inner._RTCRtpSender__octet_count += len(payload)
            inner._RTCRtpSender__packet_count += 1
        inner._RTCRtpSender__ntp_timestamp = clock.current_ntp_time()
        inner._RTCRtpSender__rtp_timestamp = timestamp
        self.frames_sent += 1

    def _note_reports(self, reports: list[Any]) -> None:
        for report in reports:
            if report.ssrc != self._ssrc:
                continue
            self.report = report
            sent: int = self._inner._RTCRtpSender__packet_count
            newest = report.highest_sequence & 0xFFFF
            behind = uint16_add(uint16_add(self._sequence, -1), -newest)
            if behind < sent and report.fraction_lost < 255:
                self.acknowledged.set()

    def _note_fault(self) -> None:
        self.faults += 1
        logger.debug("a leg could not send", exc_info=True)
