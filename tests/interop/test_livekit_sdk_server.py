"""
`LiveKit(media="sdk")` against a real LiveKit server on loopback, with the real package.

Needs the program `livekit-server`, as `test_livekit_server.py` does, and the package `livekit`.
Run with 1.13.0 and 1.2.1.
"""

from __future__ import annotations

import asyncio
import signal

import psutil
import pytest
from canned_media import canned_feed
from interop.livekit_server import run, token, with_client, with_server

from hitless.errors import CredentialsRejected, MediaLost, NotOnAir, Retry, Unreachable
from hitless.media.align import Ear, sound_offset
from hitless.media.frame import Codec, Kind
from hitless.media.quality import Quality
from hitless.media.source import open_feed
from hitless.providers.conformance import check_provider
from hitless.providers.livekit_token import viewer_grants


pytestmark = [pytest.mark.realtime, with_server, with_client]

NOTICED_S = 5.0
"""A machine that does other work besides; alone it took 0.65 s, and 2.7 s without pictures."""

CLOSED_S = 3.0
SMALL = Quality(width=320, height=180, bitrate_bps=300_000)


async def some(view, count=20):
    """The first frames of a view: `count` of each kind."""
    frames, left = [], dict.fromkeys(Kind, count)
    async for frame in view.frames():
        frames.append(frame)
        left[frame.kind] -= 1
        if max(left.values()) <= 0:
            return frames


@pytest.mark.parametrize("codec", [Codec.VP8, Codec.H264])
def test_the_package_keeps_the_contract(codec, tmp_path):
    """Both ways by it; frames are encoded anew."""

    async def test(server):
        async def make():
            return server.livekit(media="sdk", video_codec=codec)

        async def feed():
            return canned_feed(codec=codec)[0]

        report = await check_provider(make, feed=feed, carries_frames=False)
        report.require()

    run(test, tmp_path)


@pytest.mark.parametrize("codec", [Codec.VP8, Codec.H264])
def test_what_it_publishes_is_seen_by_whip_and_by_itself(codec, tmp_path):
    """Pictures as they were encoded, where nothing decodes them; sound is encoded anew."""

    async def test(server):
        feed, _ = canned_feed(codec=codec)
        ways = {way: server.livekit(media=way, video_codec=codec) for way in ("sdk", "whip")}
        leg = await ways["sdk"].start_stream("show", feed)
        found = {way: await some(await ways[way].join_stream("show")) for way in ways}
        own = {
            (way, kind): [feed.is_own(each.data) for each in frames if each.kind is kind]
            for way, frames in found.items()
            for kind in Kind
        }
        assert all(own["whip", Kind.VIDEO])
        assert not any(own["whip", Kind.AUDIO] + own["sdk", Kind.AUDIO] + own["sdk", Kind.VIDEO])
        assert {each.codec for each in found["sdk"]} == {codec, Codec.AAC}
        assert {each.codec for each in found["whip"]} == {codec, Codec.OPUS}
        assert leg.liveness.last_media_s() is None  # the path alone: see the record
        for provider in ways.values():
            await provider.aclose()
        await feed.aclose()

    run(test, tmp_path)


def test_a_view_by_it_is_aligned_by_its_sound(tmp_path):
    """So a viewer moves between it and WHIP without losing or repeating pictures."""

    async def test(server):
        feed = await open_feed("test-picture", quality=SMALL)
        whip, sdk = server.livekit(), server.livekit(media="sdk")
        await whip.start_stream("show", feed)
        ears = {whip: Ear(), sdk: Ear()}

        async def hear(provider):
            view = await provider.join_stream("show")
            async for frame in view.frames():
                if frame.kind is Kind.AUDIO:
                    ears[provider].hear([frame])

        tasks = [asyncio.create_task(hear(provider)) for provider in ears]
        while sound_offset(*ears.values()) is None:
            await asyncio.sleep(1.0)
            assert not any(task.done() for task in tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for provider in (sdk, whip):
            await provider.aclose()
        await feed.aclose()

    run(test, tmp_path)


def test_it_sees_what_whip_publishes_and_that_it_ends(tmp_path):
    """A publisher that leaves is known at once, by the server's word."""

    async def test(server):
        (feed, _), whip, sdk = canned_feed(), server.livekit(), server.livekit(media="sdk")
        leg = await whip.start_stream("show", feed)
        view = await sdk.join_stream("show")
        assert {frame.kind for frame in await some(view)} == set(Kind)
        await leg.aclose()
        with pytest.raises(MediaLost, match="is gone"):
            async with asyncio.timeout(NOTICED_S):
                await view.lost()
        for provider in (sdk, whip):
            await provider.aclose()
        await feed.aclose()

    run(test, tmp_path)


@pytest.mark.parametrize("kinds", [(), (Kind.AUDIO,)])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_server_that_dies_or_hangs_is_noticed_by_both_sides(how, kinds, tmp_path):
    """A hang by our clock, as the package says nothing; closing is bounded, nothing is left."""

    async def test(server):
        provider, (feed, _) = server.livekit(media="sdk"), canned_feed(*kinds)
        loop = asyncio.get_running_loop()
        legs = [await provider.start_stream("show", feed), await provider.join_stream("show")]
        await asyncio.sleep(2.0)
        lost = [asyncio.ensure_future(leg.lost()) for leg in legs]
        server.child.send_signal(how)
        begun_s = loop.time()
        while not all(
            ended.done() or leg.liveness.quiet(loop.time())
            for leg, ended in zip(legs, lost, strict=True)
        ):
            assert loop.time() - begun_s < NOTICED_S
            await asyncio.sleep(0.005)
        if how == signal.SIGKILL:
            async with asyncio.timeout(NOTICED_S):
                found = await asyncio.gather(*lost, return_exceptions=True)
            assert all("reconnecting is not waited for" in str(each) for each in found)
        for each in lost:
            each.cancel()
        for leg in legs:
            begun_s = loop.time()
            await leg.aclose()
            assert loop.time() - begun_s < CLOSED_S
            assert not psutil.pid_exists(leg.pid)
        await provider.aclose()
        await feed.aclose()

    run(test, tmp_path)


def test_a_wrong_token_and_an_empty_room_are_told_apart(tmp_path):
    """By the package's words, which are not repeated."""

    async def test(server):
        feed, _ = canned_feed(Kind.AUDIO)

        async def forged(access):
            return {"token": token(viewer_grants(access.stream), "ann")[:-4] + "AAAA"}

        async def good(access):
            return {"token": token(viewer_grants(access.stream), "ann")}

        rejected = server.livekit(media="sdk", credentials=forged, api_key=None, api_secret=None)
        for asking in (rejected.start_stream("show", feed), rejected.join_stream("show")):
            with pytest.raises(CredentialsRejected) as caught:
                await asking
            assert caught.value.retry is Retry.NEXT
            assert "eyJ" not in str(caught.value)
        await rejected.aclose()
        planned = server.livekit(media="sdk", credentials=good, api_key=None, api_secret=None)
        with pytest.raises(NotOnAir):
            await planned.join_stream("show")
        server.child.kill()
        await server.child.wait()
        with pytest.raises(Unreachable):
            await planned.join_stream("show")
        await planned.aclose()
        await feed.aclose()

    run(test, tmp_path)


def test_the_second_of_two_publishers_puts_out_the_first(tmp_path):
    """One identity, the other one by WHIP."""

    async def test(server):
        (feed, _), sdk, whip = canned_feed(), server.livekit(media="sdk"), server.livekit()
        first = await sdk.start_stream("show", feed)
        second = await whip.start_stream("show", feed)
        with pytest.raises(MediaLost, match="same identity"):
            async with asyncio.timeout(NOTICED_S):
                await first.lost()
        third = await sdk.start_stream("show", feed)
        with pytest.raises(MediaLost, match="closed by the far side"):
            async with asyncio.timeout(2 * NOTICED_S):
                await second.lost()
        assert third.session.startswith("PA_")
        for provider in (sdk, whip):
            await provider.aclose()
        await feed.aclose()

    run(test, tmp_path)
