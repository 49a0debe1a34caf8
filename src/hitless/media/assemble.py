"""
From RTP packets to encoded frames, with as little waiting as is safe.

The two buffers here are aiortc's `JitterBuffer` with another rule for when a frame is complete.
The stock rule waits for the first packet of the next frame (33 ms at 30 frames/s) and, for audio,
for four frames (80 ms). Here a picture is complete with its marker packet (RFC 3550 section 5.1)
and an audio packet is a frame by itself (RFC 7587 section 4.2).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

from aiortc.jitterbuffer import JitterBuffer
from aiortc.rtp import RtpPacket
from aiortc.utils import uint16_add, uint16_gt

from .frame import Codec


Complete = Callable[[bytes, RtpPacket, bool], None]
"""Called with a frame's data, its last packet and whether decoding can begin with it."""

REPAIR_S: Final = 0.3
"""How long retransmission may take before a picture is given up [s]: three tries at 50 ms RTT."""

_VIDEO_PACKETS: Final = 512
_AUDIO_PACKETS: Final = 32
_EARLIER_PACKETS: Final = 32
_HOLD_S: Final = 0.06
_HOLD_S_MAX: Final = 0.12
_HOLD_DECAY: Final = (
    0.999  # per packet: back to the shortest hold some 10 s after the last late one
)

_H264_IDR, _H264_SPS, _H264_STAP_A, _H264_FU_A = 5, 7, 24, 28  # RFC 6184 section 5.2


def has_h264_keyframe(payload: bytes) -> bool:
    """Whether an RTP payload carries a slice of an IDR picture or parameters (RFC 6184)."""
    if len(payload) < 2:
        return False
    kind = payload[0] & 0x1F
    if kind == _H264_FU_A:
        kind = payload[1] & 0x1F
    elif kind == _H264_STAP_A:
        position = 1
        while position + 2 < len(payload):
            if payload[position + 2] & 0x1F in (_H264_IDR, _H264_SPS):
                return True
            position += 2 + int.from_bytes(payload[position : position + 2], "big")
        return False
    return kind in (_H264_IDR, _H264_SPS)


def begins_frame(codec: Codec, payload: bytes) -> bool:
    """
    Whether a payload can be the first of a picture.

    VP8: start of partition 0 (RFC 7741 section 4.2). H.264: not the middle of a fragmented unit;
    a later unit of the same picture cannot be told apart here.
    """
    if len(payload) < 2:
        return False
    if codec is Codec.VP8:
        return bool(payload[0] & 0x10) and not payload[0] & 0x07
    if codec is Codec.H264 and payload[0] & 0x1F == _H264_FU_A:
        return bool(payload[1] & 0x80)
    return True


def begins_keyframe(codec: Codec, payload: bytes, data: bytes) -> bool:
    """Whether a payload begins a picture that decoding can start with."""
    if not begins_frame(codec, payload):
        return False
    if codec is Codec.VP8:
        return bool(data) and not data[0] & 0x01  # RFC 7741 section 4.3: P is the inverse key bit
    return has_h264_keyframe(payload)


class VideoAssembler(JitterBuffer):
    """
    Whole pictures, in order, none that depends on a lost one.

    Args:
        codec_of: Names the codec of a payload type, or None.
        complete: Is given each picture.
        gated: Whether pictures are held back until a keyframe, at the start and after a loss.

    Attributes:
        wants_keyframe: Whether nothing can be shown before the next keyframe.
    """

    _origin: Any  # Any: the stock class hangs attributes on packets and so do we
    _packets: list[Any]

    def __init__(
        self, *, codec_of: Callable[[int], Codec | None], complete: Complete, gated: bool = True
    ) -> None:
        super().__init__(capacity=_VIDEO_PACKETS, is_video=True)
        self._codec_of = codec_of
        self._complete = complete
        self._gated = gated
        self._began = False
        self._newest: int | None = None
        self._missing_s: float | None = None
        self.wants_keyframe = gated
        self.frames_dropped = 0

    def add(self, packet: RtpPacket) -> tuple[bool, None]:
        """Take one packet; tell whether so much was thrown away that a keyframe is needed."""
        sequence = packet.sequence_number
        if self._newest is None or uint16_gt(sequence, self._newest):
            self._newest = sequence
        if not self._began and self._origin is not None:
            # Packets that overtook the very first one: without this, jitter on joining would
            # cost the first keyframe.
            if 0 < uint16_add(self._origin, -sequence) <= _EARLIER_PACKETS:
                self._origin = sequence
        flag, _ = super().add(packet)
        if self._newest is None:
            self._newest = sequence
        return flag, None

    def remove(self, count: int) -> None:
        if count == self._capacity:  # the sender began anew, far away from where it was
            self._lose()
            self._newest = None
        super().remove(count)

    def smart_remove(self, count: int) -> bool:
        self._lose()
        return bool(super().smart_remove(count))

    def missing_since(self) -> float | None:
        """Return since when the oldest missing packet is awaited [s]; None: nothing is."""
        return self._missing_s

    def is_awaited(self, sequence: int) -> bool:
        """Whether a missing packet could still complete something."""
        return self._origin is None or not uint16_gt(self._origin, sequence)

    def give_up(self) -> None:
        """Stop waiting for what is missing: go on with the next keyframe that is here, if any."""
        if self._origin is None or self._newest is None:
            return
        self._lose()
        count = 1
        while uint16_gt(self._newest, uint16_add(self._origin, count - 1)):
            packet = self._packets[uint16_add(self._origin, count) % self._capacity]
            if packet is not None and self._is_keyframe_start(packet):
                break
            count += 1
        super().remove(count)
        self._remove_frame(self._newest)

    def flush(self) -> None:
        """Give away what can still be shown: nothing more will arrive."""
        if self._missing_s is not None:
            self.give_up()

    def _lose(self) -> None:
        if self._gated:
            self.wants_keyframe = True

    def _is_keyframe_start(self, packet: Any) -> bool:
        codec = self._codec_of(packet.payload_type)
        return (
            codec is not None
            and bool(packet.payload)
            and begins_keyframe(codec, packet.payload, packet._data)
        )

    def _remove_frame(self, sequence_number: int) -> None:
        while (packets := self._next_frame()) is not None:
            super().remove(len(packets))
            self._began = True
            self._judge(packets)

    def _next_frame(self) -> list[Any] | None:
        """Return the packets of the oldest picture if all are here; note what is missing."""
        packets: list[Any] = []
        self._missing_s = None
        for count in range(self._capacity):
            sequence = uint16_add(self._origin, count)
            packet = self._packets[sequence % self._capacity]
            if packet is None:
                self._note_missing(sequence)
                return None
            if packets and packet.timestamp != packets[0].timestamp:
                return packets  # a sender that sets no marker, or padding after it
            packets.append(packet)
            if packet.marker:
                return packets
        return None

    def _note_missing(self, sequence: int) -> None:
        while self._newest is not None and uint16_gt(self._newest, sequence):
            sequence = uint16_add(sequence, 1)
            packet = self._packets[sequence % self._capacity]
            if packet is not None:
                self._missing_s = packet._arrived_s  # known to be missing since then
                return

    def _judge(self, packets: list[Any]) -> None:
        packets = [packet for packet in packets if packet.payload]
        if not packets:
            return  # padding that a bandwidth probe left behind
        data = b"".join(packet._data for packet in packets)
        codec = self._codec_of(packets[0].payload_type)
        if codec is None:
            return
        if not begins_frame(codec, packets[0].payload):
            self._lose()
            self.frames_dropped += 1
            return
        if codec is Codec.VP8:
            keyframe = not data[0] & 0x01
        else:
            keyframe = any(has_h264_keyframe(packet.payload) for packet in packets)
        if self.wants_keyframe and not keyframe:
            self.frames_dropped += 1
            return
        self.wants_keyframe = False
        self._complete(data, packets[-1], keyframe)


class AudioAssembler(JitterBuffer):
    """
    Audio packets in order, each given away at once unless an earlier one is missing.

    A gap is held open for 60 ms; when packets come too late for that, up to 120 ms, and less
    again when they no longer do.
    """

    _origin: Any  # Any: see `VideoAssembler`
    _packets: list[Any]

    def __init__(self, *, complete: Complete) -> None:
        super().__init__(capacity=_AUDIO_PACKETS)
        self._complete = complete
        self._hold_s = _HOLD_S
        self._given_up: OrderedDict[int, float] = OrderedDict()
        self.frames_dropped = 0

    def add(self, packet: Any) -> tuple[bool, None]:
        """Take one packet."""
        since = self._given_up.pop(packet.sequence_number, None)
        if since is not None:
            self._hold_s = min(_HOLD_S_MAX, max(self._hold_s, packet._arrived_s - since + 0.01))
        else:
            self._hold_s = max(_HOLD_S, self._hold_s * _HOLD_DECAY)
        super().add(packet)
        self.release(packet._arrived_s)
        return False, None

    def release(self, now: float) -> None:
        """Give away what need not wait any longer."""
        while self._origin is not None:
            packet = self._packets[self._origin % self._capacity]
            if packet is not None:
                self.remove(1)
                if packet._data:
                    self._complete(packet._data, packet, True)
                continue
            gap = self._gap()
            if gap is None or now - gap[1] < self._hold_s:
                return
            self._skip(*gap)

    def flush(self) -> None:
        """Give away everything: nothing more will arrive."""
        self.release(float("inf"))

    def _gap(self) -> tuple[int, float] | None:
        """Return how many packets are missing and since when that is known [s]."""
        for count in range(1, self._capacity):
            packet = self._packets[uint16_add(self._origin, count) % self._capacity]
            if packet is not None:
                return count, min(held._arrived_s for held in self._packets if held is not None)
        return None

    def _skip(self, count: int, since_s: float) -> None:
        for step in range(count):
            self._given_up[uint16_add(self._origin, step)] = since_s
            self.frames_dropped += 1
        while len(self._given_up) > self._capacity:
            self._given_up.popitem(last=False)
        self.remove(count)

    def _remove_frame(self, sequence_number: int) -> None:
        return None  # `add` gives packets away itself, because it knows the time
