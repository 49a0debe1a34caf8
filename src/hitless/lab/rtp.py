"""Just enough RTP to forward it: the fixed header, and where a keyframe starts."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from ..media.assemble import begins_frame, has_h264_keyframe
from ..media.frame import Codec


HEADER: Final = struct.Struct(">BBHII")
"""RFC 3550 section 5.1: flags, marker and payload type, number, timestamp, SSRC."""


@dataclass(slots=True)
class Packet:
    """
    One RTP packet, without CSRCs, header extensions and padding.

    Attributes:
        marker: 0x80 or 0, as it stands in the header's second byte.
    """

    payload_type: int
    marker: int
    sequence_number: int
    timestamp: int
    ssrc: int
    payload: bytes


def parse(data: bytes) -> Packet | None:
    """Return the packet, or None if it is damaged."""
    if len(data) < HEADER.size:
        return None
    flags, second, number, timestamp, ssrc = HEADER.unpack_from(data)
    start = HEADER.size + 4 * (flags & 0x0F)
    end = len(data)
    if flags & 0x10:  # a header extension (section 5.3.1)
        if end < start + 4:
            return None
        start += 4 + 4 * int.from_bytes(data[start + 2 : start + 4], "big")
    if flags & 0x20:  # padding; its last byte counts it, itself included (section 5.1)
        end -= data[-1]
    if flags >> 6 != 2 or start > end:
        return None
    return Packet(second & 0x7F, second & 0x80, number, timestamp, ssrc, data[start:end])


def starts_keyframe(codec: Codec, payload: bytes) -> bool:
    """Return whether a decoder can begin with this packet."""
    match codec:
        case Codec.VP8:
            return _starts_vp8_keyframe(payload)
        case Codec.H264:
            return _starts_h264_keyframe(payload)
        case Codec.OPUS | Codec.AAC:
            return True


def _starts_vp8_keyframe(payload: bytes) -> bool:
    """RFC 7741 sections 4.2 and 4.3: start of partition 0, inverse key bit 0."""
    if not payload or payload[0] & 0x17 != 0x10:
        return False
    at = 1
    if payload[0] & 0x80:
        if len(payload) < 3:
            return False
        extended = payload[1]
        at = 2
        if extended & 0x80:
            at += 2 if payload[2] & 0x80 else 1
        at += bool(extended & 0x40) + bool(extended & 0x30)
    return len(payload) > at and not payload[at] & 0x01


def _starts_h264_keyframe(payload: bytes) -> bool:
    """RFC 6184 sections 5.4 to 5.8: an SPS or the start of an IDR slice, packed in any way."""
    return begins_frame(Codec.H264, payload) and has_h264_keyframe(payload)
