"""
H.264 and AAC as RTMP carries them: the bodies of FLV tags (Adobe, "FLV 10.1", annex E).

A decoder's configuration travels apart from the frames, in a sequence header. Units of H.264 are
written with their lengths (ISO/IEC 14496-15) instead of start codes, AAC without ADTS headers.
What a `TagWriter` made, a `TagReader` gives back byte for byte, so frames match by content.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from .annexb import with_long_start_codes
from .frame import CLOCK_RATE, Kind


ADTS_HEADER: Final = 7
SAMPLES: Final = 1024
"""Samples of one AAC frame (ISO/IEC 14496-3 section 4.5.2.1.1)."""

_START_CODE: Final = b"\x00\x00\x00\x01"
_SPS, _PPS, _DELIMITER = 7, 8, 9
_AVC, _AAC = 7, 10
_SOUND: Final = _AAC << 4 | 0x0F  # AAC is always marked as 44 kHz, 16 bit, stereo (E.4.2.1)
_KEYFRAME, _INTERFRAME = 1, 2
_RATES: Final = (
    96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000,
    7_350,
)  # fmt: skip
_AAC_LC: Final = 2
_SBR: Final = (5, 29)


class NotFlv(ValueError):
    """A tag that cannot be understood; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """
    What is in one tag.

    Attributes:
        data: A frame: H.264 in Annex B, or AAC with its ADTS header.
        keyframe: Whether decoding can begin here; True for audio.
        ticks: Its length [ticks of the kind's clock rate]; 0 if it does not say (video).
    """

    data: bytes
    keyframe: bool
    ticks: float = 0.0


class TagWriter:
    """Makes tag bodies of encoded frames, with a sequence header where one is due."""

    def __init__(self) -> None:
        self._avc = b""
        self._aac = b""

    def video(self, data: bytes, *, keyframe: bool) -> list[bytes]:
        """
        Return the tag bodies of one picture in Annex B.

        Returns:
            Nothing while no sequence header could be made: keyframes carry what it is made of.
        """
        units = _units(data)
        found = []
        if keyframe and (header := _avc_configuration(units)) and header != self._avc:
            self._avc = header
            found.append(struct.pack(">BBxxx", _KEYFRAME << 4 | _AVC, 0) + header)
        if not self._avc:
            return []
        kind = _KEYFRAME if keyframe else _INTERFRAME
        lengths = b"".join(struct.pack(">I", len(unit)) + unit for unit in units)
        return [*found, struct.pack(">BBxxx", kind << 4 | _AVC, 1) + lengths]

    def audio(self, data: bytes) -> list[bytes]:
        """
        Return the tag bodies of one ADTS frame.

        Raises:
            NotFlv: It has no ADTS header.
        """
        header, begin = _aac_configuration(data)
        found = []
        if header != self._aac:
            self._aac = header
            found.append(bytes([_SOUND, 0]) + header)
        return [*found, bytes([_SOUND, 1]) + data[begin:]]


class TagReader:
    """Makes encoded frames of tag bodies."""

    def __init__(self) -> None:
        self._parameters: list[bytes] = []
        self._length_size = 4
        self._adts: tuple[int, int, int] | None = None
        self.has_video = False
        """Whether the far side sends pictures, or said that it will."""

    def video(self, body: bytes) -> Body | None:
        """
        Return the picture of a tag; None if it holds none, or none that can be decoded yet.

        Raises:
            NotFlv: It is damaged, or no H.264.
        """
        if len(body) < 5:
            return None
        if body[0] & 0x80 or body[0] & 0x0F != _AVC:
            raise NotFlv("its video is no H.264")
        self.has_video = True
        if body[1] == 0:
            self._parameters, self._length_size = _read_avc_configuration(body[5:])
            return None
        if body[1] != 1 or not self._parameters:
            return None
        units = self._cut(body[5:])
        if not units:
            return None
        types = [unit[0] & 0x1F for unit in units]
        keyframe = body[0] >> 4 == _KEYFRAME
        if keyframe and not (_SPS in types and _PPS in types):
            units = [unit for unit in units if unit[0] & 0x1F not in (_SPS, _PPS)]
            begin = int(types[0] == _DELIMITER)  # it stays first (ITU-T H.264 7.4.1.2.3)
            units[begin:begin] = self._parameters
        return Body(data=b"".join(_START_CODE + unit for unit in units), keyframe=keyframe)

    def audio(self, body: bytes) -> Body | None:
        """
        Return the sound of a tag; None if it holds none, or none that can be decoded yet.

        Raises:
            NotFlv: It is damaged, or no AAC that ADTS can express.
        """
        if len(body) < 2:
            return None
        if body[0] >> 4 != _AAC:
            raise NotFlv("its audio is no AAC")
        if body[1] == 0:
            self._adts = _read_aac_configuration(body[2:])
            return None
        if self._adts is None or len(body) == 2:
            return None
        rate = _RATES[self._adts[1]]
        data = _adts_header(*self._adts, len(body) - 2) + body[2:]
        return Body(data=data, keyframe=True, ticks=SAMPLES * CLOCK_RATE[Kind.AUDIO] / rate)

    def _cut(self, data: bytes) -> list[bytes]:
        units, at = [], 0
        while at < len(data):
            length = int.from_bytes(data[at : at + self._length_size])
            at += self._length_size
            if length > len(data) - at:
                raise NotFlv("a unit of H.264 is longer than its tag")
            if length:
                units.append(data[at : at + length])
            at += length
        return units


def _units(data: bytes) -> list[bytes]:
    # A start code cannot occur inside a unit (ITU-T H.264 section 7.4.1).
    return [unit for unit in with_long_start_codes(data).split(_START_CODE) if unit]


def _avc_configuration(units: list[bytes]) -> bytes:
    """Return an AVCDecoderConfigurationRecord (ISO/IEC 14496-15 section 5.3.3.1), or nothing."""
    sps = [unit for unit in units if unit[0] & 0x1F == _SPS]
    pps = [unit for unit in units if unit[0] & 0x1F == _PPS]
    if not sps or not pps or len(sps[0]) < 4:
        return b""
    record = bytes([1, *sps[0][1:4], 0xFF, 0xE0 | len(sps)])
    record += b"".join(struct.pack(">H", len(unit)) + unit for unit in sps)
    return record + bytes([len(pps)]) + b"".join(struct.pack(">H", len(u)) + u for u in pps)


def _read_avc_configuration(data: bytes) -> tuple[list[bytes], int]:
    """Return the parameter sets, and how long the length of a unit is [bytes]."""
    if len(data) < 7 or data[0] != 1:
        raise NotFlv("a sequence header of video that cannot be read")
    found: list[bytes] = []
    at = 5
    for mask in (0x1F, 0xFF):
        count = data[at] & mask if at < len(data) else 0
        at += 1
        for _ in range(count):
            length = int.from_bytes(data[at : at + 2])
            unit = data[at + 2 : at + 2 + length]
            if not unit or len(unit) < length:
                raise NotFlv("a sequence header of video that is cut off")
            found.append(unit)
            at += 2 + length
    return found, (data[4] & 3) + 1


def _aac_configuration(data: bytes) -> tuple[bytes, int]:
    """Return an AudioSpecificConfig (ISO/IEC 14496-3 section 1.6.2.1), and where sound begins."""
    if len(data) <= ADTS_HEADER or data[0] != 0xFF or data[1] & 0xF6 != 0xF0:
        raise NotFlv("sound without an ADTS header")
    profile = (data[2] >> 6) + 1
    rate = data[2] >> 2 & 0xF
    channels = (data[2] & 1) << 2 | data[3] >> 6
    begin = ADTS_HEADER if data[1] & 1 else ADTS_HEADER + 2  # a checksum follows
    return struct.pack(">H", profile << 11 | rate << 7 | channels << 3), begin


def _read_aac_configuration(data: bytes) -> tuple[int, int, int]:
    """Return object type, index of the sampling rate, and channels."""
    bits = int.from_bytes(data[:8].ljust(8, b"\x00"))
    kind, rate, channels = bits >> 59, bits >> 55 & 0xF, bits >> 51 & 0xF
    if len(data) < 2:
        raise NotFlv("a sequence header of audio that is cut off")
    if kind in _SBR:
        kind = _AAC_LC  # the base layer is what ADTS tells of
    if not 1 <= kind <= 4 or rate >= len(_RATES) or not 1 <= channels <= 7:
        raise NotFlv("its AAC cannot be written as ADTS")
    return kind, rate, channels


def _adts_header(kind: int, rate: int, channels: int, length: int) -> bytes:
    """Return the header of one frame as FFmpeg writes it (ISO/IEC 13818-7 section 6.2)."""
    whole = length + ADTS_HEADER
    if whole >= 1 << 13:
        raise NotFlv("an AAC frame that is too long")
    fields = 0xFFF1 << 40 | (kind - 1) << 38 | rate << 34 | channels << 30
    return (fields | whole << 13 | 0x7FF << 2).to_bytes(ADTS_HEADER)
