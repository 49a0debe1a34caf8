"""Peers with media: what arrives where, also with a stock peer, and what breaks nothing."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from aiortc import (
    VideoStreamTrack,
)
from canned_media import AUDIO_TICKS, VIDEO_TICKS, canned_feed, pictures
from peer_pair import (
    LIMIT_S,
    connect,
    now,
    of,
    pair,
    settings,
    stock_answer,
    stock_peer,
    until,
    viewer,
)

from hitless.media.frame import Codec, EncodedFrame, Kind
from hitless.media.peer import PublishingPeer, ViewingPeer


@pytest.mark.parametrize("codec", [Codec.VP8, Codec.H264])
def test_frames_arrive_as_they_were_sent(codec: Codec) -> None:
    """Byte for byte, in order, beginning with a keyframe, with growing timestamps."""

    async def main() -> None:
        async with pair(codec=codec) as (source, _, _, _, frames):
            await until(lambda: len(of(Kind.VIDEO, frames)) > 20)
            video, audio = of(Kind.VIDEO, frames), of(Kind.AUDIO, frames)
            assert video[0].keyframe
            assert video[0].codec is codec
            assert all(source.is_own(frame.data) for frame in frames)
            assert {b.timestamp - a.timestamp for a, b in itertools.pairwise(video)} == {
                VIDEO_TICKS
            }
            assert {b.timestamp - a.timestamp for a, b in itertools.pairwise(audio)} == {
                AUDIO_TICKS
            }

    asyncio.run(main())


@pytest.mark.parametrize("codec", [Codec.VP8, Codec.H264])
def test_a_stock_peer_decodes_what_we_publish(codec: Codec) -> None:
    """Interop: aiortc's own receiver and decoder."""

    async def main() -> None:
        source, _ = canned_feed(codec=codec)
        sending, pc = PublishingPeer(feed=source, **settings("publish")), stock_peer()
        tracks = {}
        pc.on("track", lambda track: tracks.__setitem__(track.kind, track))
        try:
            await sending.accept(await stock_answer(pc, await sending.offer()))
            await sending.connected(now() + LIMIT_S)
            async with asyncio.timeout(LIMIT_S):
                picture = await tracks["video"].recv()
                sound = await tracks["audio"].recv()
            assert (picture.width, picture.height) == (320, 180)
            assert sound.sample_rate == 48_000
        finally:
            await sending.aclose()
            await pc.close()
            await source.aclose()

    asyncio.run(main())


def test_we_view_what_a_stock_peer_sends() -> None:
    """Interop: aiortc's own encoder and sender."""

    async def main() -> None:
        frames: list[EncodedFrame] = []
        watching, pc = viewer(frames.append), stock_peer()
        pc.addTransceiver(VideoStreamTrack(), direction="sendonly")
        offer_only_video = ViewingPeer(
            kinds=frozenset({Kind.VIDEO}), take=frames.append, **settings("view")
        )
        try:
            await offer_only_video.accept(await stock_answer(pc, await offer_only_video.offer()))
            await offer_only_video.connected(now() + LIMIT_S)
            await until(lambda: len(frames) > 10)
            assert frames[0].keyframe
            assert frames[0].codec is Codec.VP8
        finally:
            await offer_only_video.aclose()
            await watching.aclose()
            await pc.close()

    asyncio.run(main())


def test_a_taker_that_raises_does_not_close_the_peer() -> None:
    """aiortc would end its receiving task."""

    async def main() -> None:
        source, _ = canned_feed()
        seen = []

        def take(frame: EncodedFrame) -> None:
            seen.append(frame)
            raise RuntimeError("a bug")

        sending, watching = PublishingPeer(feed=source, **settings("publish")), viewer(take)
        await connect(sending, watching)
        await until(lambda: len(seen) > 20)
        assert watching.receivers[0].faults > 5
        await sending.aclose()
        await watching.aclose()
        await source.aclose()

    asyncio.run(main())


def test_a_dead_leg_does_not_stop_a_healthy_one() -> None:
    """A socket closed under aiortc raises inside its sending task."""

    async def main() -> None:
        async with pair() as (source, _, sending, _, frames):
            dead, gone = PublishingPeer(feed=source, **settings("publish")), viewer()
            await connect(dead, gone)
            for protocol in dead._ice()._connection._protocols:
                protocol.transport.abort()
            await asyncio.sleep(0.1)
            count = len(frames)
            await until(lambda: len(frames) > count + 20, 2.0)
            await asyncio.wait_for(dead.aclose(), 2.0)
            await gone.aclose()
            assert sending.connected_s is not None

    asyncio.run(main())


def test_a_keyframe_is_asked_for_on_connecting_and_on_demand() -> None:
    """PLI reaches the feed, and the next keyframe comes back."""

    async def main() -> None:
        async with pair() as (_, engine, sending, watching, frames):
            await until(lambda: len(of(Kind.VIDEO, frames)) > 5)
            await asyncio.sleep(0.2)
            asked, keys = engine.keyframes_asked, sum(f.keyframe for f in of(Kind.VIDEO, frames))
            assert asked >= 1
            watching.request_keyframe()
            await until(lambda: engine.keyframes_asked > asked)
            await until(lambda: sum(f.keyframe for f in of(Kind.VIDEO, frames)) > keys)
            assert sending.senders[1].pli_count >= 1

    asyncio.run(main())


def test_a_keyframe_request_that_the_feed_forgot_is_repeated() -> None:
    """A second leg that connects within 0.1 s of the first must not wait for the next PLI."""

    async def main() -> None:
        async with pair() as (source, engine, _, _, _):
            await asyncio.sleep(0.2)
            frames: list[EncodedFrame] = []
            second, watching = (
                PublishingPeer(feed=source, **settings("publish")),
                viewer(frames.append),
            )
            engine.request_keyframe()
            source._keyframe_s = now() + 0.05  # as if it had just passed one on
            await connect(second, watching)
            await until(lambda: of(Kind.VIDEO, frames), 0.6)
            await second.aclose()
            await watching.aclose()

    asyncio.run(main())


def test_a_frame_is_cut_once_however_many_legs_send_it() -> None:
    """The second leg gets the same list."""

    async def main() -> None:
        source, _ = canned_feed(Kind.AUDIO)
        legs = [PublishingPeer(feed=source, **settings("publish")) for _ in range(2)]
        one, other = (leg.senders[0]._packetiser for leg in legs)
        frame = EncodedFrame(
            kind=Kind.VIDEO,
            codec=Codec.VP8,
            data=pictures()[0],
            timestamp=0,
            keyframe=True,
            arrived_s=0.0,
        )
        assert one.payloads(frame) is other.payloads(frame)
        assert len(one.payloads(frame)) > 1
        for leg in legs:
            await leg.aclose()
        await source.aclose()

    asyncio.run(main())


def test_a_full_queue_drops_video_up_to_the_next_keyframe() -> None:
    """And asks for one; sound loses its oldest packets."""

    async def main() -> None:
        source, engine = canned_feed(Kind.VIDEO)
        leg = PublishingPeer(feed=source, **settings("publish"))
        sender = leg.senders[0]

        def push(number: int, keyframe: bool) -> None:
            sender._take(
                EncodedFrame(
                    kind=Kind.VIDEO,
                    codec=Codec.VP8,
                    data=b"\x00" * 10,
                    timestamp=number,
                    keyframe=keyframe,
                    arrived_s=0.0,
                )
            )

        push(0, True)
        for number in range(1, 70):
            push(number, False)
        assert [frame.timestamp for frame, _ in sender._queue] == []
        push(70, True)
        push(71, False)
        assert [frame.timestamp for frame, _ in sender._queue] == [70, 71]
        assert sender.frames_dropped == 70
        assert engine.keyframes_asked >= 1
        await leg.aclose()
        await source.aclose()

    asyncio.run(main())


def test_both_sides_hear_signs_of_life() -> None:
    """Packets at the viewer; STUN answers at both; all silent after the far side froze."""

    async def main() -> None:
        async with pair() as (_, _, sending, watching, frames):
            await until(lambda: len(frames) > 30)
            assert set(sending.liveness._signs) == {"stun"}
            assert set(watching.liveness._signs) == {"stun", "audio", "video"}
            assert sending.liveness.quiet(now()) is None
            assert sending.rtt_s is not None
            assert 0 < sending.rtt_s < 0.1
            for peer in (sending, watching):
                for protocol in peer._ice()._connection._protocols:
                    protocol.datagram_received = lambda data, addr: None
                    protocol.transport._protocol = protocol
            begun = now()
            await until(
                lambda: sending.liveness.quiet(now()) and watching.liveness.quiet(now()), 1.0
            )
            assert now() - begun < 0.5

    asyncio.run(main())


def test_statistics_use_the_words_of_webrtc_stats() -> None:
    """So that dashboards for browsers read them."""

    async def main() -> None:
        async with pair() as (_, _, sending, watching, frames):
            await until(lambda: sending.senders[0].report is not None)
            sent = {(each["type"], each.get("kind")): each for each in sending.stats()}
            seen = {(each["type"], each.get("kind")): each for each in watching.stats()}
            assert sent["outbound-rtp", "video"]["framesSent"] > 0
            assert sent["remote-inbound-rtp", "audio"]["packetsLost"] == 0
            assert sent["candidate-pair", None]["currentRoundTripTime"] > 0
            assert seen["inbound-rtp", "video"]["framesReceived"] > 0
            assert seen["inbound-rtp", "video"]["pliCount"] >= 1
            assert seen["inbound-rtp", "audio"]["nackCount"] == 0
            assert seen["transport", None]["dtlsState"] == "connected"
            assert all("id" in each for each in (*sending.stats(), *watching.stats()))
            assert len(frames) > 0

    asyncio.run(main())


def test_a_change_of_source_goes_on_with_growing_timestamps() -> None:
    """A server that switches its upstream sends another SSRC with another origin."""

    async def main() -> None:
        async with pair(Kind.AUDIO) as (_, _, sending, _, frames):
            await until(lambda: len(frames) > 10)
            sending.senders[0]._ssrc = 12345
            sending.senders[0]._timestamp_origin = 99
            count = len(frames)
            await until(lambda: len(frames) > count + 10)
            steps = [b.timestamp - a.timestamp for a, b in itertools.pairwise(frames)]
            assert min(steps) > 0
            assert max(steps) < 10 * AUDIO_TICKS

    asyncio.run(main())
