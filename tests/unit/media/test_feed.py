"""hitless.media.feed and hitless.media.liveness"""

import asyncio

import pytest
from virtual_time import run

from hitless import LocalFault
from hitless.media.feed import KEYFRAME_INTERVAL_S, Feed
from hitless.media.frame import Codec, EncodedFrame, Kind
from hitless.media.liveness import PATH, Liveness


class Engine:
    """Notes when a keyframe was asked for."""

    def __init__(self):
        self.asked, self.is_closed = [], False

    def request_keyframe(self):
        self.asked.append(round(asyncio.get_running_loop().time(), 3))

    async def aclose(self):
        self.is_closed = True


def made():
    feed, engine = Feed({Kind.VIDEO: Codec.VP8}), Engine()
    feed.run_by(engine)
    return feed, engine


def picture(number):
    return EncodedFrame(
        kind=Kind.VIDEO,
        codec=Codec.VP8,
        data=b"%d" % number,
        timestamp=3000 * number,
        keyframe=number == 0,
        arrived_s=0.0,
    )


def test_keyframe_requests_are_limited_and_none_is_forgotten():
    """
    Ten legs that ask at once get one keyframe now; who asks right after gets the next one.
    """

    async def main():
        feed, engine = made()
        for _ in range(10):
            feed.request_keyframe()
        await asyncio.sleep(KEYFRAME_INTERVAL_S / 2)
        feed.request_keyframe()
        await asyncio.sleep(1.0)
        await feed.aclose()
        return engine.asked, engine.is_closed

    assert run(main()) == ([0.0, KEYFRAME_INTERVAL_S], True)


def test_every_leg_gets_the_same_frame_and_a_detached_one_gets_no_more():
    async def main():
        feed, _ = made()
        first, second = [], []
        detach = feed.attach(first.append)
        feed.attach(second.append)
        feed.push(picture(0))
        detach()
        feed.push(picture(1))
        await feed.aclose()
        return first, second

    first, second = run(main())

    assert first == [picture(0)]
    assert second == [picture(0), picture(1)]


def test_a_feed_knows_its_own_recent_frames_and_forgets_old_ones():
    async def main():
        feed, _ = made()
        for number in range(2000):
            feed.push(picture(number))
        known = feed.is_own(b"1999"), feed.is_own(b"0"), feed.is_own(b"somebody else's")
        await feed.aclose()
        return known

    assert run(main()) == (True, False, False)


def test_a_source_that_fails_is_told_to_whoever_waits():
    async def main():
        feed, _ = made()
        feed.finish(LocalFault("the camera is gone"))
        feed.finish()
        with pytest.raises(LocalFault, match="the camera is gone"):
            await feed.ended()
        await feed.aclose()

    run(main())


def test_a_slow_source_is_not_silent():
    """
    A screen share with two pictures a second is judged by its own pace.
    """
    liveness = Liveness()
    for number in range(10):
        liveness.heard("video", 0.5 * number)

    assert liveness.quiet(4.5 + 1.4) is None
    assert liveness.quiet(4.5 + 1.6) is not None


def test_one_kind_that_stops_is_judged_more_slowly_than_all():
    liveness = Liveness()
    for number in range(200):
        liveness.heard("audio", 0.02 * number)
        if number < 100:
            liveness.heard("video", 0.02 * number)

    assert liveness.quiet(2.0 + 1.0) is None
    assert liveness.quiet(3.99).sign == "video"
    assert liveness.quiet(4.4).because.startswith("no media")


def test_a_dead_path_is_known_before_anything_else():
    liveness = Liveness()
    liveness.heard(PATH, 0.0, limit_s=0.25)
    liveness.heard("audio", 0.0)

    assert liveness.quiet(0.26).sign == PATH
    assert liveness.deadline_s() == pytest.approx(0.2)
    assert liveness.last_media_s() == 0.0
