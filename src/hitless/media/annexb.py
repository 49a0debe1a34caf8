"""One spelling of H.264's byte stream, so that equal frames are equal bytes everywhere."""

from __future__ import annotations

from aiortc.codecs.h264 import H264Encoder


_START_CODE = b"\x00\x00\x00\x01"


def with_long_start_codes(data: bytes) -> bytes:
    """
    Write each unit of an Annex B frame after a four-byte start code.

    Encoders mix codes of three and four bytes (ITU-T H.264 Annex B allows both). RTP carries the
    units only, and receivers put four bytes before each; a frame spelled otherwise would come
    back as other bytes than were sent, and no self-view or merge would recognise it.
    """
    return b"".join(_START_CODE + unit for unit in H264Encoder._split_bitstream(data))
