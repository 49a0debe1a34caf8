"""hitless.media.feed and hitless.media.liveness"""

import asyncio

import pytest
from virtual_time import run

from hitless import ConfigError, LocalFault
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


class Further:
    """Notes which further codecs were to be encoded; cannot make those in `lacks`."""

    def __init__(self, lacks=()):
        self.asked, self.lacks = [], set(lacks)

    def encode_also(self, codecs):
        if codecs & self.lacks:
            raise LocalFault("this machine cannot encode that")
        self.asked.append(set(codecs))


RTMP = {Kind.VIDEO: Codec.H264, Kind.AUDIO: Codec.AAC}


def made_with(further, kinds=(Kind.VIDEO, Kind.AUDIO)):
    own = {Kind.VIDEO: Codec.VP8, Kind.AUDIO: Codec.OPUS}
    feed = Feed({kind: own[kind] for kind in kinds})
    feed.run_by(Engine(), further=further)
    return feed


def other(number, codec=Codec.H264):
    kind = Kind.VIDEO if codec is Codec.H264 else Kind.AUDIO
    return EncodedFrame(
        kind=kind,
        codec=codec,
        data=b"%s %d" % (codec.encode(), number),
        timestamp=3000 * number,
        keyframe=number == 0,
        arrived_s=0.0,
    )


def test_further_codecs_are_encoded_once_and_only_while_a_leg_takes_them():
    """
    The second leg shares the first one's encoder; the last one to go stops it.
    """

    async def main():
        further = Further()
        feed = made_with(further)
        first, second = [], []
        detach = feed.attach(first.append, codecs=RTMP)
        feed.push(other(0))
        detach_second = feed.attach(second.append, codecs=RTMP)
        feed.push(other(1))
        detach()
        detach()
        feed.push(other(2))
        detach_second()
        feed.push(other(3))
        await feed.aclose()
        return further.asked, first, second

    asked, first, second = run(main())

    assert asked == [{Codec.H264, Codec.AAC}, set()]
    assert first == [other(0), other(1)]
    assert second == [other(1), other(2)]


def test_each_leg_gets_each_kind_in_its_codec_and_no_other():
    """
    A kind that is not named comes in the feed's own codec.
    """

    async def main():
        feed = made_with(Further())
        own, mixed, rtmp = [], [], []
        feed.attach(own.append)
        feed.attach(mixed.append, codecs={Kind.VIDEO: Codec.H264})
        feed.attach(rtmp.append, codecs=RTMP)
        for frame in (picture(0), other(0), other(0, Codec.AAC), other(0, Codec.OPUS)):
            feed.push(frame)
        await feed.aclose()
        return [[frame.codec for frame in taken] for taken in (own, mixed, rtmp)]

    assert run(main()) == [
        [Codec.VP8, Codec.OPUS],
        [Codec.H264, Codec.OPUS],
        [Codec.H264, Codec.AAC],
    ]


def test_naming_the_feeds_own_codecs_costs_no_encoder():
    """
    Nor does a codec of a kind that the source does not have.
    """

    async def main():
        further = Further()
        feed = made_with(further, kinds=[Kind.VIDEO])
        feed.attach(lambda frame: None, codecs={Kind.VIDEO: Codec.VP8, Kind.AUDIO: Codec.AAC})
        await feed.aclose()
        return further.asked

    assert run(main()) == []


def test_frames_are_counted_once_and_known_in_every_codec():
    """
    A further codec makes no more pictures; but each of its frames is the feed's own.
    """

    async def main():
        feed = made_with(Further())
        feed.attach(lambda frame: None, codecs=RTMP)
        feed.push(picture(0))
        feed.push(other(0))
        counted, known = dict(feed.frames_made), feed.is_own(other(0).data)
        await feed.aclose()
        return counted, known

    assert run(main()) == ({Kind.VIDEO: 1, Kind.AUDIO: 0}, True)


def test_frames_that_come_encoded_cannot_be_had_in_another_codec():
    """
    The message says so and names what can be had; nothing is attached.
    """

    async def main():
        feed = made_with(None)
        taken = []
        with pytest.raises(ConfigError, match=r"already encoded, as VP8 and opus"):
            feed.attach(taken.append, codecs=RTMP)
        feed.push(picture(0))
        feed.push(other(0, Codec.OPUS))
        await feed.aclose()
        return taken

    assert run(main()) == []


def test_a_codec_that_this_machine_lacks_is_a_local_fault_and_changes_nothing():
    """
    The leg that asks hears of it; those that are there go on.
    """

    async def main():
        further = Further(lacks=[Codec.AAC])
        feed = made_with(further)
        taken = []
        feed.attach(taken.append, codecs={Kind.VIDEO: Codec.H264})
        with pytest.raises(LocalFault, match="cannot encode"):
            feed.attach(lambda frame: None, codecs=RTMP)
        feed.push(other(0))
        await feed.aclose()
        return further.asked, taken

    assert run(main()) == ([{Codec.H264}], [other(0)])


@pytest.mark.parametrize(("kind", "codec"), [(Kind.VIDEO, Codec.AAC), (Kind.AUDIO, Codec.H264)])
def test_a_codec_of_the_other_kind_is_refused(kind, codec):
    """
    The message names those that fit.
    """

    async def main():
        feed = made_with(Further())
        with pytest.raises(ConfigError, match="give"):
            feed.attach(lambda frame: None, codecs={kind: codec})
        await feed.aclose()

    run(main())


def test_a_further_codec_that_fails_lets_go_its_own_legs_alone():
    """
    They are told once and get nothing more, of the other kind neither; nobody else notices.
    """

    async def main():
        further = Further()
        feed = made_with(further)
        own, rtmp, faults = [], [], []
        feed.attach(own.append)
        detach = feed.attach(rtmp.append, codecs=RTMP, failed=faults.append)
        fault = LocalFault("the H264 encoder stopped")
        feed.fail_codec(Codec.H264, fault)
        feed.fail_codec(Codec.H264, fault)
        for frame in (picture(0), other(1), other(1, Codec.AAC)):
            feed.push(frame)
        detach()
        over = feed.is_over
        await feed.aclose()
        return own, rtmp, faults == [fault], over, further.asked[-1]

    assert run(main()) == ([picture(0)], [], True, False, set())


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
