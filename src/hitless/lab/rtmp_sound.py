"""
AAC to Opus: browsers and WebRTC take no AAC, so the sound of a push is encoded again, by PyAV.

What Agora and ZEGOCLOUD do inside is not documented; that clients of their SDKs get Opus of what
was pushed as AAC is an assumption. It is done in the loop:
0.18 ms per packet of 20 ms, measured on one core of 2 (EPYC VM).
"""

from __future__ import annotations

from fractions import Fraction
from typing import Final

import av

from ..media.frame import CLOCK_RATE, Kind


RATE: Final = CLOCK_RATE[Kind.AUDIO]
"""Samples per second of what comes out, and ticks of its clock [Hz]."""
PACKET: Final = RATE // 50
"""Samples of one packet: 20 ms."""
BPS: Final = 96_000
"""Bit rate: 64-128 kbit/s is full-band music in stereo (RFC 7587 section 3.1.1)."""

_DRIFT: Final = PACKET // 2
"""Sound whose time leaves the count of its samples by more than 10 ms begins anew there: RTMP's
milliseconds are off by 0.5 ms at most, a frame of AAC that is missing is 21 ms."""
_MODULUS: Final = 1 << 32


class Transcoder:
    """
    The sound of one push, as packets of Opus of 20 ms, 48 kHz, stereo.

    Attributes:
        errors: Frames that could not be decoded.
    """

    def __init__(self) -> None:
        self._encoder = _encoder()
        self._decoder, self._resampler, self._fifo = _decoder(), _resampler(), av.AudioFifo()
        self._at = 0  # media time of the first sample that waits [ticks]
        self._has_begun = False
        self.errors = 0

    def take(self, adts: bytes, ms: int) -> list[tuple[int, bytes]]:
        """
        Transcode one frame.

        Args:
            adts: AAC with its ADTS header.
            ms: Its time in RTMP [ms, modulo 2^32].

        Returns:
            The packets that are complete with it: media time [ticks of 48 kHz, modulo 2^32], data.
        """
        try:
            parts = self._decoded(adts)
        except (av.FFmpegError, ValueError):  # damaged, or of another form than before
            self.errors += 1
            self._decoder, self._resampler = _decoder(), _resampler()
            return []
        ticks = ms * (RATE // 1000)
        drift = (ticks - self._at - self._fifo.samples + _MODULUS // 2) % _MODULUS - _MODULUS // 2
        if not self._has_begun or abs(drift) > _DRIFT:
            self._has_begun = True
            self._fifo, self._at = av.AudioFifo(), ticks
        for part in parts:
            self._fifo.write(part)
        found = []
        while self._fifo.samples >= PACKET and (slot := self._fifo.read(PACKET)) is not None:
            slot.pts = None
            data = b"".join(bytes(packet) for packet in self._encoder.encode(slot))
            found.append((self._at % _MODULUS, data))
            self._at += PACKET
        return found

    def _decoded(self, adts: bytes) -> list[av.AudioFrame]:
        """Return its samples at 48 kHz, stereo; they are counted, so they have no times."""
        found: list[av.AudioFrame] = []
        for frame in self._decoder.decode(av.Packet(adts)):
            frame.pts = None
            found += self._resampler.resample(frame)
        for frame in found:
            frame.pts = None
        return found


def _decoder() -> av.AudioCodecContext:
    return av.CodecContext.create("aac", "r")


def _resampler() -> av.AudioResampler:
    return av.AudioResampler(format="s16", layout="stereo", rate=RATE)


def _encoder() -> av.AudioCodecContext:
    context = av.CodecContext.create("libopus", "w")
    context.bit_rate, context.sample_rate = BPS, RATE
    context.format, context.layout = "s16", "stereo"
    context.time_base = Fraction(1, RATE)
    context.options = {"application": "audio", "frame_duration": "20", "vbr": "constrained"}
    return context
