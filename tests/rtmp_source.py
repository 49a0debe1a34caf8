"""A feed of H.264 and AAC that was encoded beforehand, for tests of RTMP."""

from __future__ import annotations

import asyncio
import functools

import av
import numpy as np
from canned_media import pictures

from hitless.media.aac import with_adts
from hitless.media.feed import Feed
from hitless.media.frame import CLOCK_RATE, Codec, EncodedFrame, Kind


@functools.cache
def sounds(count):
    """Encode sound that is different in every frame: ADTS frames."""
    encoder = av.CodecContext.create("aac", "w")
    encoder.sample_rate, encoder.format, encoder.layout = 48_000, "fltp", "stereo"
    noise, found = np.random.default_rng(3), []
    while len(found) < count:
        samples = noise.uniform(-0.2, 0.2, (2, 1024)).astype(np.float32)
        sound = av.AudioFrame.from_ndarray(samples, format="fltp", layout="stereo")
        sound.sample_rate = 48_000
        found += [with_adts(bytes(packet)) for packet in encoder.encode(sound)]
    return found[:count]


class Source:
    """A feed of H.264 and AAC in real time, encoded beforehand."""

    def __init__(self, *kinds):
        codecs = {Kind.VIDEO: Codec.H264, Kind.AUDIO: Codec.AAC}
        self.feed = Feed({kind: codecs[kind] for kind in kinds or Kind})
        self.feed.run_by(self)
        self.asked = True
        self.keyframes_asked = 0
        self.sound, self.picture = sounds(50), pictures(Codec.H264)
        self.task = asyncio.create_task(self._run())

    def request_keyframe(self):
        self.asked, self.keyframes_asked = True, self.keyframes_asked + 1

    async def aclose(self):
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    async def _run(self):
        loop, shown = asyncio.get_running_loop(), 0
        begun = loop.time()
        ends = {kind: 0 for kind in self.feed.kinds}
        while True:
            kind = min(ends, key=lambda each: ends[each] / CLOCK_RATE[each])
            at = ends[kind]
            await asyncio.sleep(max(begun + at / CLOCK_RATE[kind] - loop.time(), 0))
            if kind is Kind.VIDEO:
                shown = 0 if self.asked else (shown + 1) % len(self.picture)
                self.asked, data, ends[kind] = False, self.picture[shown], at + 3000
            else:
                data, ends[kind] = self.sound[at // 1024 % len(self.sound)], at + 1024
            self.feed.push(
                EncodedFrame(
                    kind=kind,
                    codec=self.feed.codecs[kind],
                    data=data,
                    timestamp=at,
                    keyframe=kind is Kind.AUDIO or shown == 0,
                    arrived_s=loop.time(),
                )
            )
