"""A feed of frames that were encoded beforehand, for tests that need real media and no encoder."""

from __future__ import annotations

import asyncio
import contextlib
import fractions
import functools

import av
import numpy as np

from hitless.media.annexb import with_long_start_codes
from hitless.media.feed import Feed
from hitless.media.frame import Codec, EncodedFrame, Kind


FRAME_RATE = 30
AUDIO_TICKS = 960
VIDEO_TICKS = 3000


@functools.cache
def pictures(
    codec: Codec = Codec.VP8, count: int = 90, size: tuple[int, int] = (320, 180)
) -> list[bytes]:
    """Encode one keyframe and `count - 1` pictures that depend on it."""
    width, height = size
    name = "libvpx" if codec is Codec.VP8 else "libx264"
    encoder = av.CodecContext.create(name, "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.bit_rate, encoder.gop_size = 1_000_000, 3000
    encoder.time_base = fractions.Fraction(1, FRAME_RATE)
    encoder.framerate = fractions.Fraction(FRAME_RATE)
    if codec is Codec.VP8:
        encoder.options = {
            "deadline": "realtime",
            "cpu-used": "-6",
            "lag-in-frames": "0",
            "minrate": "1000000",
            "maxrate": "1000000",
        }
    else:
        encoder.options = {"tune": "zerolatency", "profile": "baseline"}
    noise = np.random.default_rng(1)
    found = []
    for number in range(count):
        shade = np.full((height, width, 3), (number * 5) % 256, dtype=np.uint8)
        rows = height // 12
        shade[:rows] = noise.integers(0, 255, (rows, width, 1), dtype=np.uint8)
        picture = av.VideoFrame.from_ndarray(shade, format="bgr24").reformat(format="yuv420p")
        picture.pts = number
        found += [bytes(packet) for packet in encoder.encode(picture)]
    return found if codec is Codec.VP8 else [with_long_start_codes(each) for each in found]


@functools.cache
def sounds(count: int = 100) -> list[bytes]:
    """Encode `count` packets of 20 ms, every one different."""
    encoder = av.CodecContext.create("libopus", "w")
    encoder.sample_rate, encoder.format, encoder.layout = 48_000, "s16", "stereo"
    encoder.bit_rate, encoder.time_base = 64_000, fractions.Fraction(1, 48_000)
    noise = np.random.default_rng(2)
    found = []
    for number in range(count):
        samples = noise.integers(-8000, 8000, (1, AUDIO_TICKS * 2), dtype=np.int16)
        sound = av.AudioFrame.from_ndarray(samples, format="s16", layout="stereo")
        sound.sample_rate, sound.pts = 48_000, number * AUDIO_TICKS
        found += [bytes(packet) for packet in encoder.encode(sound)]
    return found


class CannedEngine:
    """Pushes the canned frames in real time; a keyframe asked for begins the pictures anew."""

    def __init__(self, feed: Feed, video: list[bytes]) -> None:
        self._feed, self._video = feed, video
        self.keyframes_asked = 0
        self._next_picture = 0
        self.pictures_sent = 0
        self._tasks = [asyncio.create_task(self._run(kind)) for kind in feed.kinds]

    def request_keyframe(self) -> None:
        self.keyframes_asked += 1
        self._next_picture = 0

    def mute(self, kind: Kind, muted: bool) -> None:
        pass

    def set_quality(self, **_: object) -> None:
        pass

    async def aclose(self) -> None:
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _run(self, kind: Kind) -> None:
        loop = asyncio.get_running_loop()
        start, number = loop.time(), 0
        interval_s = 1 / FRAME_RATE if kind is Kind.VIDEO else 0.02
        while True:
            if kind is Kind.VIDEO:
                index = self._next_picture % len(self._video)
                self._next_picture = index + 1
                data, ticks, keyframe = self._video[index], VIDEO_TICKS, index == 0
                self.pictures_sent += 1
            else:
                data, ticks, keyframe = sounds()[number % len(sounds())], AUDIO_TICKS, True
            self._feed.push(
                EncodedFrame(
                    kind=kind,
                    codec=self._feed.codecs[kind],
                    data=data,
                    timestamp=number * ticks,
                    keyframe=keyframe,
                    arrived_s=loop.time(),
                )
            )
            number += 1
            await asyncio.sleep(max(0, start + number * interval_s - loop.time()))


def canned_feed(
    *kinds: Kind, codec: Codec = Codec.VP8, size: tuple[int, int] = (320, 180)
) -> tuple[Feed, CannedEngine]:
    """Start a feed of both kinds, or of those named. Closed by the caller."""
    wanted = kinds or (Kind.AUDIO, Kind.VIDEO)
    every = {Kind.AUDIO: Codec.OPUS, Kind.VIDEO: codec}
    feed = Feed({kind: every[kind] for kind in wanted})
    engine = CannedEngine(feed, pictures(codec, size=size) if Kind.VIDEO in wanted else [])
    feed.run_by(engine)
    return feed, engine
