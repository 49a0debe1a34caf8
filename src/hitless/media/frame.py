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
    """
    Codecs we encode and decode.

    By their RTP names (RFC 7741, RFC 6184, RFC 7587). AAC is AAC-LC (ISO/IEC 14496-3), 48 kHz
    stereo, what RTMP carries; no leg of ours carries it in RTP.
    """

    VP8 = "VP8"
    H264 = "H264"
    OPUS = "opus"
    AAC = "AAC"


CODECS: Final = {
    Kind.AUDIO: frozenset({Codec.OPUS, Codec.AAC}),
    Kind.VIDEO: frozenset({Codec.VP8, Codec.H264}),
}
"""The codecs of each kind."""

CLOCK_RATE: Final = {Kind.AUDIO: 48_000, Kind.VIDEO: 90_000}
"""
Clock rates [Hz]: the RTP ones of Opus (RFC 7587 section 4.1) and of VP8 and H.264 (90 kHz). AAC
counts in 48 kHz too, so that the sound of one feed has one clock whatever its codec.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedFrame:
    """
    One picture or one packet of sound, encoded: 20 ms of Opus, 1024 samples (21.3 ms) of AAC.

    Attributes:
        kind: Audio or video.
        codec: How `data` is encoded.
        data: The frame as the decoder wants it; H.264 in Annex B, AAC as one ADTS frame.
        timestamp: Media time [ticks of `CLOCK_RATE[kind]`], unwrapped and growing; its origin is
            arbitrary but constant for one feed (publisher) or one leg (viewer).
        keyframe: Whether decoding can begin here; always True for audio.
        arrived_s: When it was encoded (publisher) or complete (viewer) [s, the loop's clock].
        is_run_up: Whether it is only there to be decoded, for those that follow: what it shows
            was shown already. Only a merge makes such frames, where a leg of another codec
            takes over; their timestamps lie before the last one's.
    """

    kind: Kind
    codec: Codec
    data: bytes
    timestamp: int
    keyframe: bool
    arrived_s: float
    is_run_up: bool = False
