"""A feed of canned frames on the loop's clock: no encoder, no thread, fit for virtual time."""

import asyncio

from hitless.media.feed import Feed
from hitless.media.frame import CLOCK_RATE, Codec, EncodedFrame, Kind


INTERVAL_S = {Kind.VIDEO: 1 / 30, Kind.AUDIO: 0.02}
CODEC = {Kind.VIDEO: Codec.VP8, Kind.AUDIO: Codec.OPUS}


class CannedEngine:
    """Pushes a distinct frame of each kind at its interval; a keyframe when asked for."""

    def __init__(self, feed, kinds):
        self.feed, self.muted, self.asked = feed, set(), True
        self.tasks = [asyncio.create_task(self._run(kind)) for kind in kinds]

    async def _run(self, kind):
        loop = asyncio.get_running_loop()
        begun_s, number = loop.time(), 0
        while True:
            await asyncio.sleep(max(begun_s + number * INTERVAL_S[kind] - loop.time(), 0))
            key = kind is Kind.AUDIO or self.asked
            if kind is Kind.VIDEO:
                self.asked = False
            self.feed.push(
                EncodedFrame(
                    kind=kind,
                    codec=CODEC[kind],
                    data=f"{kind} {number}".encode(),
                    timestamp=round(number * INTERVAL_S[kind] * CLOCK_RATE[kind]),
                    keyframe=key,
                    arrived_s=loop.time(),
                )
            )
            number += 1

    def request_keyframe(self):
        self.asked = True

    def mute(self, kind, muted):
        (self.muted.add if muted else self.muted.discard)(kind)

    def set_quality(self, **quality):
        self.quality = quality

    async def aclose(self):
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


def canned_feed(kinds=(Kind.VIDEO, Kind.AUDIO)):
    """Return a running feed; close it."""
    feed = Feed({kind: CODEC[kind] for kind in kinds})
    feed.run_by(CannedEngine(feed, kinds))
    return feed


def number_of(frame):
    """Return the number in a canned frame's data."""
    return int(frame.data.split()[1])
