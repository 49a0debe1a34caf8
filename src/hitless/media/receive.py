"""
Receiving: aiortc's receiver without its decoder, handing out encoded frames.

aiortc's RTCP, statistics, NACK generator and bandwidth estimate stay as they are. Replaced are
the jitter buffer (see `assemble`) and the decoder thread. An exception inside a receiver's
method would silently close the whole peer, so every override is guarded.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final, cast

from aiortc import RTCDtlsTransport
from aiortc.rtcrtpparameters import RTCRtpReceiveParameters
from aiortc.rtcrtpreceiver import NackGenerator, RTCRtpReceiver
from aiortc.rtp import RtpPacket

from .assemble import REPAIR_S, AudioAssembler, VideoAssembler
from .frame import CLOCK_RATE, Codec, EncodedFrame, Kind


Take = Callable[[EncodedFrame], None]
Heard = Callable[[Kind, float], None]

NACK_S: Final = 0.05
"""Time between two requests for the same missing packets [s]."""

PLI_S: Final = 0.3
"""Time between two requests for the same keyframe [s] (facts/media section 2)."""

_PLI_S_MIN: Final = 0.05
_SSRCS_MAX: Final = 16
_HALF, _WHOLE = 1 << 31, 1 << 32

_CODECS: Final = {"vp8": Codec.VP8, "h264": Codec.H264, "opus": Codec.OPUS}

logger = logging.getLogger(__name__)


class _Unwrapper:
    """32-bit RTP timestamps to ones that only grow, also across a change of source."""

    def __init__(self, clock_rate: int) -> None:
        self._clock_rate = clock_rate
        self._last: int | None = None
        self._value = 0
        self._at_s = 0.0

    def unwrap(self, timestamp: int, now: float) -> int:
        if self._last is not None:
            self._value += (timestamp - self._last + _HALF) % _WHOLE - _HALF
        self._last, self._at_s = timestamp, now
        return self._value

    def begin_anew(self, now: float) -> None:
        """Expect timestamps of another origin; the media time in between is the time passed."""
        if self._last is not None:
            self._value += round((now - self._at_s) * self._clock_rate)
            self._last = None


class FrameReceiver(RTCRtpReceiver):
    """
    Encoded frames of one kind from one peer.

    Args:
        kind: Audio or video.
        transport: The peer's DTLS transport.
        take: Is given each frame, in the loop's thread; must not block.
        heard: Is told of each packet that carries media: kind and time [s].
        shown: Whether frames are to be decoded: then lost packets are asked for again, and no
            picture is given away that depends on a lost one. A self-view needs neither.

    Attributes:
        shown: See above.
        repair_s: How long lost packets are waited for before a keyframe is asked for [s].
    """

    def __init__(
        self, kind: Kind, transport: RTCDtlsTransport, *, take: Take, heard: Heard, shown: bool
    ) -> None:
        super().__init__(kind.value, transport)
        # Any: aiortc's private parts are replaced, and mypy does not know mangled names.
        self._inner = cast(Any, self)
        self._media_kind = kind
        self.shown = shown
        self._clock = asyncio.get_running_loop().time
        self._take = take
        self._heard = heard
        self._by_payload_type: dict[int, Codec] = {}
        self._times = _Unwrapper(CLOCK_RATE[kind])
        self._source: int | None = None
        self._old_sources: set[int] = set()
        self._nack_s = self._pli_s = float("-inf")
        self._pli_owed = False
        self.repair_s = REPAIR_S
        self.frames_received = self.keyframes_received = self.bytes_received = 0
        self.nack_count = self.pli_count = self.faults = 0
        self._begin()

    def _begin(self) -> None:
        """Start with empty buffers."""
        self._assembler: VideoAssembler | AudioAssembler
        if self._media_kind is Kind.VIDEO:
            self._assembler = VideoAssembler(
                codec_of=self._by_payload_type.get, complete=self._complete, gated=self.shown
            )
            nacks = NackGenerator() if self.shown else None
            self._inner._RTCRtpReceiver__nack_generator = nacks
        else:
            self._assembler = AudioAssembler(complete=self._complete)
        self._inner._RTCRtpReceiver__jitter_buffer = self._assembler

    # --- What aiortc calls ---

    async def receive(self, parameters: RTCRtpReceiveParameters) -> None:
        """Start, as the stock receiver does, but without a decoder thread."""
        inner = self._inner
        if inner._RTCRtpReceiver__started:
            return
        for codec in parameters.codecs:
            inner._RTCRtpReceiver__codecs[codec.payloadType] = codec
            known = _CODECS.get(codec.name.lower())
            if known is not None and codec.payloadType is not None:
                self._by_payload_type[codec.payloadType] = known
        if parameters.encodings:
            self._source = parameters.encodings[0].ssrc
        cast(Any, self.transport)._register_rtp_receiver(self, parameters)
        inner._RTCRtpReceiver__rtcp_task = asyncio.ensure_future(self._run_rtcp())
        inner._RTCRtpReceiver__started = True
        await self.tick(self._clock())

    async def _handle_rtp_packet(self, packet: RtpPacket, arrival_time_ms: int) -> None:
        try:
            now = self._clock()
            cast(Any, packet)._arrived_s = now
            if packet.payload:  # padding alone is a bandwidth probe, not media
                self._heard(self._media_kind, now)
                self.bytes_received += len(packet.payload)
            if self._follow_source(packet.ssrc, now):
                await super()._handle_rtp_packet(packet, arrival_time_ms)
                await self._ask()
        except Exception:
            self._note_fault()

    async def _handle_rtcp_packet(self, packet: Any) -> None:
        try:
            await super()._handle_rtcp_packet(packet)
        except Exception:
            self._note_fault()

    async def _send_rtcp(self, packet: Any) -> None:
        # A closed socket raises AttributeError inside asyncio; aiortc expects ConnectionError
        # only, and `stop` would then wait for ever for the task that sends reports.
        try:
            await super()._send_rtcp(packet)
        except Exception:
            self._note_fault()

    async def _send_rtcp_nack(self, media_ssrc: int, lost: list[int]) -> None:
        assembler = self._assembler
        if isinstance(assembler, VideoAssembler):
            lost = [sequence for sequence in lost if assembler.is_awaited(sequence)]
        if lost:
            self._nack_s = self._clock()
            self.nack_count += 1
            await super()._send_rtcp_nack(media_ssrc, lost)

    async def _send_rtcp_pli(self, media_ssrc: int) -> None:
        now = self._clock()
        if now - self._pli_s < _PLI_S_MIN:
            self._pli_owed = True  # the next tick sends it
            return
        self._pli_owed = False
        self._pli_s = now
        self.pli_count += 1
        await super()._send_rtcp_pli(media_ssrc)

    def _handle_disconnect(self) -> None:
        self.flush()

    async def stop(self) -> None:
        """Give away what is complete, then stop for good."""
        self.flush()
        await super().stop()

    # --- What the peer calls ---

    async def tick(self, now: float) -> None:
        """Repeat requests, and give up what does not come. Every 50 ms; never raises."""
        try:
            if isinstance(self._assembler, AudioAssembler):
                self._assembler.release(now)
                return
            since_s = self._assembler.missing_since()
            if since_s is not None and now - since_s >= self.repair_s:
                self._assembler.give_up()
                self._pli_owed = self._assembler.wants_keyframe
            elif since_s is not None and now - self._nack_s >= NACK_S and self._source is not None:
                nacks = self._inner._RTCRtpReceiver__nack_generator
                if nacks is not None:
                    await self._send_rtcp_nack(self._source, sorted(nacks.missing))
            await self._ask()
        except Exception:
            self._note_fault()

    async def request_keyframe(self) -> None:
        """Ask the far side for a keyframe (RFC 4585 section 6.3.1). Never raises."""
        self._pli_owed = True
        await self._ask()

    def flush(self) -> None:
        """Give away the frames that are complete, although something before them is missing."""
        try:
            self._assembler.flush()
        except Exception:
            self._note_fault()

    @property
    def kind(self) -> Kind:
        """What is received."""
        return self._media_kind

    @property
    def source(self) -> int | None:
        """SSRC of what is received; None before the first packet of an unannounced source."""
        return self._source

    @property
    def frames_dropped(self) -> int:
        """Frames that were thrown away since the source began."""
        return self._assembler.frames_dropped

    # --- Inside ---

    async def _ask(self) -> None:
        """Send the PLI that is due, if any."""
        if self._source is None or not isinstance(self._assembler, VideoAssembler):
            return
        wanted = self._assembler.wants_keyframe and self._clock() - self._pli_s >= PLI_S
        if wanted or self._pli_owed:
            await self._send_rtcp_pli(self._source)

    def _follow_source(self, ssrc: int, now: float) -> bool:
        """Whether a packet belongs to the present source; a new SSRC begins anew."""
        if ssrc == self._source:
            return True
        if ssrc in self._old_sources:
            return False
        if self.frames_received:
            self.flush()
            self._begin()
            self._times.begin_anew(now)
        if self._source is not None and len(self._old_sources) < _SSRCS_MAX:
            self._old_sources.add(self._source)
        self._source = ssrc
        return True

    def _complete(self, data: bytes, packet: RtpPacket, keyframe: bool) -> None:
        codec = self._by_payload_type.get(packet.payload_type)
        if codec is None:
            return
        now = self._clock()
        frame = EncodedFrame(
            kind=self._media_kind,
            codec=codec,
            data=data,
            timestamp=self._times.unwrap(packet.timestamp, now),
            keyframe=keyframe,
            arrived_s=now,
        )
        self.frames_received += 1
        self.keyframes_received += keyframe
        self._take(frame)

    def _note_fault(self) -> None:
        self.faults += 1
        logger.debug("a received packet could not be handled", exc_info=True)
