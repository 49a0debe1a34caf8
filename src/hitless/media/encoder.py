"""
The codecs that we send: VP8 and H.264 for pictures, Opus for sound (AAC: see `aac.py`).

All of them work without delay: one frame in, one encoded frame out. Settings were measured on
the test picture at 640x360, 30 pictures/s and 1 Mbit/s on one core of 2 (EPYC VM): VP8 costs
5.2 % of it at speed -8 and 5.7 % at -6; its denoiser (`noise-sensitivity` 4) would cost 3 % more.
"""

from __future__ import annotations

import os
import random
from fractions import Fraction
from typing import Final, cast

import av
import numpy as np
import numpy.typing as npt
from av.video.frame import PictureType

from ..errors import ConfigError
from .annexb import with_long_start_codes
from .frame import CLOCK_RATE, Codec, EncodedFrame, Kind
from .pattern import SAMPLE_RATE, SLOT
from .quality import Quality


SOUND_BPS: Final = 96_000
"""Bit rate of stereo Opus: 64-128 kbit/s is full-band music (RFC 7587 section 3.1.1)."""

KEYFRAME_S_MAX: Final = 10.0
"""A keyframe comes at least this often, so that a recording can be searched."""

_PICTURE_TIME: Final = Fraction(1, CLOCK_RATE[Kind.VIDEO])
_SOUND_TIME: Final = Fraction(1, CLOCK_RATE[Kind.AUDIO])
_LEVEL_31: Final = 108_000
"""Macroblocks per second of H.264 level 3.1 (ITU-T H.264 table A-1): 1280x720 at 30 a second."""


class PictureEncoder:
    """
    One video encoder.

    Args:
        codec: VP8 or H.264.
        quality: What to encode to; another quality needs another encoder.
    """

    def __init__(self, codec: Codec, quality: Quality) -> None:
        if codec not in (Codec.VP8, Codec.H264):
            raise ConfigError(f"video_codec = {codec!r} is not possible: give VP8 or H264")
        self.codec, self.quality = codec, quality
        name = "libvpx" if codec is Codec.VP8 else "libx264"
        context = cast(av.VideoCodecContext, av.CodecContext.create(name, "w"))
        context.width, context.height = quality.width, quality.height
        context.pix_fmt = "yuv420p"
        context.bit_rate = quality.bitrate_bps
        context.time_base = _PICTURE_TIME
        context.framerate = Fraction(quality.frame_rate).limit_denominator(1001)
        context.gop_size = max(1, round(quality.frame_rate * KEYFRAME_S_MAX))
        context.thread_count = _threads(quality)
        if codec is Codec.VP8:
            context.qmin, context.qmax = 2, 56  # as libwebrtc's VP8 encoder has it
            context.options = _vp8_options(quality)
        else:
            context.profile = "Baseline"
            context.max_b_frames = 0
            context.options = _h264_options(quality)
        self._context = context

    def encode(
        self, picture: av.VideoFrame, timestamp: int, *, keyframe: bool, now: float
    ) -> EncodedFrame | None:
        """
        Encode one picture.

        Args:
            picture: yuv420p of the quality's size; its time and type are overwritten.
            timestamp: Media time [ticks of 90 kHz], more than the last one's.
            keyframe: Whether decoding must be able to begin here.
            now: The loop's clock [s].

        Returns:
            The frame; None if the rate control skipped it.
        """
        picture.pts, picture.time_base = timestamp, _PICTURE_TIME
        picture.pict_type = PictureType.I if keyframe else PictureType.NONE
        packets = self._context.encode(picture)
        if not packets:
            return None
        data = b"".join(bytes(packet) for packet in packets)
        if self.codec is Codec.H264:
            # As it comes back from a provider: RTP carries NAL units without start codes.
            data = with_long_start_codes(data)
        return EncodedFrame(
            kind=Kind.VIDEO,
            codec=self.codec,
            data=data,
            timestamp=timestamp,
            keyframe=packets[0].is_keyframe,
            arrived_s=now,
        )


class SoundEncoder:
    """
    One Opus encoder, 20 ms packets, 48 kHz stereo, never discontinuous (no DTX).

    One bit of noise is added (-90 dB: inaudible), so that even of silence no two packets are
    alike: where two legs carry the same sound, packets are matched by their bytes.

    Args:
        noise: Where that bit comes from; two sources must not share a seed.
    """

    def __init__(self, noise: random.Random) -> None:
        self._noise = noise
        context = av.CodecContext.create("libopus", "w")
        context.bit_rate = SOUND_BPS
        context.format = "s16"
        context.layout = "stereo"
        context.sample_rate = SAMPLE_RATE
        context.time_base = _SOUND_TIME
        context.options = {"application": "audio", "frame_duration": "20", "vbr": "constrained"}
        self._context = context

    def encode(
        self, samples: npt.NDArray[np.int16], timestamp: int, *, now: float
    ) -> EncodedFrame | None:
        """
        Encode 20 ms of sound.

        Args:
            samples: int16 [960, 2] at 48 kHz.
            timestamp: Media time of the first sample [ticks of 48 kHz].
            now: The loop's clock [s].
        """
        noisy = dither(samples, self._noise)
        frame = av.AudioFrame.from_ndarray(noisy.reshape(1, -1), format="s16", layout="stereo")
        frame.sample_rate = SAMPLE_RATE
        frame.pts, frame.time_base = timestamp, _SOUND_TIME
        packets = self._context.encode(frame)
        if not packets:
            return None
        return EncodedFrame(
            kind=Kind.AUDIO,
            codec=Codec.OPUS,
            data=b"".join(bytes(packet) for packet in packets),
            timestamp=timestamp,
            keyframe=True,
            arrived_s=now,
        )


def dither(samples: npt.NDArray[np.int16], noise: random.Random) -> npt.NDArray[np.int16]:
    """Return int16 [n, channel] with the last bit of each sample flipped at random."""
    size = samples.size
    bits = np.unpackbits(np.frombuffer(noise.randbytes((size + 7) // 8), np.uint8), count=size)
    return samples ^ bits.astype(np.int16).reshape(samples.shape)  # cannot overflow


def silence() -> npt.NDArray[np.int16]:
    """Return 20 ms of silence: int16 [960, 2]."""
    return np.zeros((SLOT, 2), np.int16)


def black(quality: Quality) -> av.VideoFrame:
    """Return a black picture of the quality's size, yuv420p."""
    planes = np.full((quality.height * 3 // 2, quality.width), 128, np.uint8)
    planes[: quality.height] = 16  # limited range, ITU-R BT.601
    return av.VideoFrame.from_ndarray(planes, format="yuv420p")


def _threads(quality: Quality) -> int:
    """Return how many threads a picture is worth; they help little below 640x480."""
    return min(2, os.cpu_count() or 1) if quality.width * quality.height > 640 * 480 else 1


def _vp8_options(quality: Quality) -> dict[str, str]:
    """Return the options of live VP8, those of WebRTC encoders; see `ffmpeg -h encoder=libvpx`."""
    bitrate = str(quality.bitrate_bps)
    return {
        "deadline": "realtime",
        "cpu-used": "-8",  # negative: a fixed speed, not one that follows the machine's load
        "lag-in-frames": "0",
        "minrate": bitrate,  # all three alike: constant bit rate
        "maxrate": bitrate,
        "bufsize": bitrate,  # one second
        "overshoot-pct": "15",
        "undershoot-pct": "100",
        "noise-sensitivity": "0",
        "static-thresh": "1",
        "partitions": "0",
    }


def _h264_options(quality: Quality) -> dict[str, str]:
    """Return the options of live constrained-baseline H.264 in Annex B with repeated headers."""
    options = {
        "preset": "superfast",
        "tune": "zerolatency",
        "maxrate": str(quality.bitrate_bps),
        "bufsize": str(quality.bitrate_bps // 2),
        "forced-idr": "1",  # else a forced I picture may be referred past: no entry point
        "x264-params": "scenecut=0:repeat-headers=1:annexb=1",
    }
    blocks = (quality.width + 15) // 16 * ((quality.height + 15) // 16)
    if blocks * quality.frame_rate <= _LEVEL_31 and blocks <= 3_600:
        options["level"] = "31"  # what WebRTC offers as 42e01f (RFC 7742 section 6.2)
    return options
