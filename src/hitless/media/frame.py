"""
Encoded frames: what a source gives, what every leg carries, what a viewer merges and decodes.

The same value travels from the encoder to every leg, so a provider that does not transcode
hands back identical bytes, and a frame's content identifies it wherever it arrives.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    """The two kinds of media."""

    AUDIO = "audio"
    VIDEO = "video"


class Codec(StrEnum):
    """Codecs we encode and decode, by their RTP names (RFC 7741, RFC 6184, RFC 7587)."""

    VP8 = "VP8"
    H264 = "H264"
    OPUS = "opus"


CLOCK_RATE: Final = {Kind.AUDIO: 48_000, Kind.VIDEO: 90_000}
"""RTP clock rates [Hz] of Opus (RFC 7587 section 4.1) and of VP8 and H.264 (90 kHz)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedFrame:
    """
    One picture or one 20 ms packet of sound, encoded.

    Attributes:
        kind: Audio or video.
        codec: How `data` is encoded.
        data: The frame as the decoder wants it; H.264 in Annex B.
        timestamp: Media time [ticks of `CLOCK_RATE[kind]`], unwrapped and growing; its origin is
            arbitrary but constant for one feed (publisher) or one leg (viewer).
        keyframe: Whether decoding can begin here; always True for audio.
        arrived_s: When it was encoded (publisher) or complete (viewer) [s, the loop's clock].
    """

    kind: Kind
    codec: Codec
    data: bytes
    timestamp: int
    keyframe: bool
    arrived_s: float
