"""Publishing and viewing for real: what proves media, and what happens when it stops."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from aiohttp import web
from canned_media import canned_feed
from whip_server import WhipServer, serving

from hitless.core.policy import SelfView
from hitless.errors import LocalFault, MediaLost
from hitless.media.feed import Feed
from hitless.media.frame import Codec, EncodedFrame, Kind
from hitless.media.peer import ViewingPeer
from hitless.providers.base import Leg, ViewLeg
from hitless.providers.conformance import check_provider
from hitless.providers.frame_queue import FRAMES_MAX
from hitless.providers.whip import Whip


def run(test: Callable[[WhipServer], Coroutine[Any, Any, None]], **settings: Any) -> None:
    """Run a test with a server of its own; nothing may be left of it."""

    async def main() -> None:
        mine = asyncio.all_tasks()
        async with serving(**settings) as server:
            await test(server)
        assert [task for task in asyncio.all_tasks() - mine if "agora" in task.get_name()] == []

    asyncio.run(main())


def now() -> float:
    """Return the loop's time [s]."""
    return asyncio.get_running_loop().time()


def whip(server: WhipServer, **settings: Any) -> Whip:
    """Make a provider of a server."""
    return Whip("agora", **{"url": server.url + "/whip/{stream}", **settings})


async def until(condition: Callable[[], Any], limit_s: float = 4.0) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(limit_s):
        while not condition():  # noqa: ASYNC110 -- conditions are of many kinds
            await asyncio.sleep(0.005)


async def publish_fails(server: WhipServer, *kinds: Kind, **settings: Any) -> MediaLost:
    """Publish, expect no proof, and return the error."""
    provider, (feed, _) = whip(server, **settings), canned_feed(*kinds)
    with pytest.raises(MediaLost) as caught:
        await provider.start_stream("show", feed)
    await provider.aclose()
    await feed.aclose()
    assert server.sessions == {}
    return caught.value


def answer_views(status: int) -> Any:
    """Make a server answer the same to every view."""

    async def intercept(request: web.Request) -> web.StreamResponse | None:
        if request.path.startswith("/whep"):
            return web.Response(status=status)
        return None

    return intercept


def test_it_passes_the_conformance_suite() -> None:
    """The public one, on a real server."""

    async def test(server: WhipServer) -> None:
        async def make() -> Whip:
            return whip(server)

        async def feed() -> Feed:
            return canned_feed()[0]

        report = await check_provider(make, feed=feed)
        report.require()

    run(test)


@pytest.mark.parametrize("kinds", [(Kind.AUDIO,), (Kind.VIDEO,), (Kind.AUDIO, Kind.VIDEO)])
@pytest.mark.parametrize("codec", [Codec.VP8, Codec.H264])
def test_a_published_stream_is_proven_and_viewed(kinds: tuple[Kind, ...], codec: Codec) -> None:
    """An own frame came back; the viewer's first picture is a keyframe."""

    async def test(server: WhipServer) -> None:
        provider, (feed, _) = whip(server), canned_feed(*kinds, codec=codec)
        leg = await provider.start_stream("show", feed)
        assert isinstance(leg, Leg)
        assert leg.provider == "agora"
        watched = "audio" if Kind.AUDIO in kinds else "video"
        assert set(leg.liveness._signs) == {"stun", watched}
        view = await provider.join_stream("show")
        assert isinstance(view, ViewLeg)
        seen: list[EncodedFrame] = []

        async def watch() -> None:
            async for frame in view.frames():
                seen.append(frame)  # noqa: PERF401 -- looked at while it grows

        watching = asyncio.create_task(watch())
        await until(lambda: {frame.kind for frame in seen} == set(kinds) and len(seen) > 10)
        video = [frame for frame in seen if frame.kind is Kind.VIDEO]
        assert not video or (video[0].keyframe and video[0].codec is codec)
        assert all(feed.is_own(frame.data) for frame in seen)
        assert any(each["type"] == "inbound-rtp" for each in view.stats())
        assert any(each["type"] == "outbound-rtp" for each in leg.stats())
        await view.aclose()
        await asyncio.wait_for(watching, 1)
        await leg.aclose()
        await provider.aclose()
        await feed.aclose()
        assert server.sessions == {}

    run(test, codec=codec)


def test_a_server_that_forwards_nothing_is_found_out() -> None:
    """It accepts, connects and reports, and viewers would see nothing."""

    async def test(server: WhipServer) -> None:
        begun = now()
        exc = await publish_fails(server)
        assert "not forwarded" in str(exc)
        assert now() - begun < 2.0

    run(test, forwards=False)


def test_a_server_that_drops_the_stream_is_found_out() -> None:
    """409 to every viewer although it accepted the publisher."""

    async def test(server: WhipServer) -> None:
        server.intercept = answer_views(409)
        begun = now()
        exc = await publish_fails(server, first_media_s=0.8)
        assert "cannot be viewed (HTTP 409)" in str(exc)
        assert 0.6 < now() - begun < 1.5
        assert 5 <= len([each for each in server.seen if each.path.startswith("/whep")]) <= 17

    run(test)


@pytest.mark.parametrize("status", [401, 403, 404, 405, 422, 501])
def test_without_a_view_receiver_reports_are_proof(status: int) -> None:
    """Nothing can be viewed here, which says nothing about the stream."""

    async def test(server: WhipServer) -> None:
        server.intercept = answer_views(status)
        provider, (feed, _) = whip(server), canned_feed(Kind.AUDIO)
        leg = await provider.start_stream("show", feed)
        assert set(leg.liveness._signs) == {"stun"}
        assert leg._peer.senders[0].acknowledged.is_set()
        await leg.aclose()
        await provider.aclose()
        await feed.aclose()

    run(test)


def test_without_reports_and_view_nothing_is_proven() -> None:
    """Connected is not enough."""

    async def test(server: WhipServer) -> None:
        async def silent(peer: ViewingPeer) -> None:
            for receiver in peer.receivers:

                async def nothing(packet: Any) -> None:
                    return None

                receiver._send_rtcp = nothing  # type: ignore[method-assign]

        stock = server.created

        async def created(peer: Any, offer: str, stream: str) -> web.Response:
            answer = await stock(peer, offer, stream)
            await silent(peer)
            return answer

        server.created = created  # type: ignore[method-assign]
        exc = await publish_fails(server, self_view=SelfView.OFF, first_media_s=1.0)
        assert "no receiver report" in str(exc)

    run(test)


def test_a_source_that_gives_nothing_is_nobody_elses_fault() -> None:
    """The encoder is stuck: no provider could do better."""

    async def test(server: WhipServer) -> None:
        provider, feed = whip(server, first_media_s=0.5), Feed({Kind.AUDIO: Codec.OPUS})
        with pytest.raises(LocalFault, match="no frames"):
            await provider.start_stream("show", feed)
        await provider.aclose()

    run(test)


@pytest.mark.parametrize("policy", [SelfView.KEPT, SelfView.START])
def test_a_leg_that_turns_gray_is_known_while_the_self_view_is_kept(policy: SelfView) -> None:
    """Only then: with `start` the path looks fine."""

    async def test(server: WhipServer) -> None:
        provider, (feed, _) = whip(server, self_view=policy), canned_feed()
        leg = await provider.start_stream("show", feed)
        await asyncio.sleep(0.3)
        assert leg.liveness.quiet(now()) is None
        server.forwards = False
        begun = now()
        if policy is SelfView.KEPT:
            await until(lambda: leg.liveness.quiet(now()), 1.0)
            assert now() - begun < 0.4
        else:
            await asyncio.sleep(0.5)
            assert leg.liveness.quiet(now()) is None
        await leg.aclose()
        await provider.aclose()
        await feed.aclose()

    run(test)


def test_frames_of_somebody_else_are_no_sign_of_life() -> None:
    """A server that shows the wrong stream does not forward ours."""

    async def test(server: WhipServer) -> None:
        other, (alien, _) = whip(server), canned_feed(Kind.AUDIO)
        await other.start_stream("other", alien)

        async def intercept(request: web.Request) -> web.StreamResponse | None:
            if request.path == "/whep/show":
                return await server.view("other", await request.text())
            return None

        server.intercept = intercept
        provider, (feed, _) = whip(server), canned_feed(Kind.AUDIO)
        feed.is_own = lambda data: False  # type: ignore[method-assign]  # the canned sound repeats
        with pytest.raises(MediaLost, match="not forwarded"):
            await provider.start_stream("show", feed)
        for each in (other, provider, alien, feed):
            await each.aclose()

    run(test)


def test_a_self_view_that_breaks_by_itself_is_opened_again() -> None:
    """Its end says nothing about the stream."""

    async def test(server: WhipServer) -> None:
        provider, (feed, _) = whip(server), canned_feed(Kind.AUDIO)
        leg = await provider.start_stream("show", feed)
        await server.sessions["/session/2"].aclose()
        quiet = []
        for _ in range(60):
            await asyncio.sleep(0.01)
            quiet.append(leg.liveness.quiet(now()))
        assert not any(quiet)
        assert "audio" in leg.liveness._signs
        await leg.aclose()
        await provider.aclose()
        await feed.aclose()

    run(test)


def test_a_self_view_that_does_not_come_back_is_silence() -> None:
    """After the limit, counted from when it was lost."""

    async def test(server: WhipServer) -> None:
        provider, (feed, _) = whip(server, first_media_s=0.6), canned_feed(Kind.AUDIO)
        leg = await provider.start_stream("show", feed)
        server.intercept = answer_views(409)
        lost_s = now()
        await server.sessions["/session/2"].aclose()
        await asyncio.sleep(0.3)
        assert leg.liveness.quiet(now()) is None
        await until(lambda: leg.liveness.quiet(now()), 2.0)
        quiet = leg.liveness.quiet(now())
        assert quiet is not None
        assert abs(quiet.since_s - lost_s) < 0.1
        server.intercept = None
        await until(lambda: leg.liveness.quiet(now()) is None, 2.0)
        await leg.aclose()
        await provider.aclose()
        await feed.aclose()

    run(test)


def test_a_viewer_is_told_when_the_far_side_ends() -> None:
    """At once; frames just stop, and end when the leg is closed."""

    async def test(server: WhipServer) -> None:
        provider, (feed, _) = whip(server), canned_feed()
        leg = await provider.start_stream("show", feed)
        view = await provider.join_stream("show")
        for peer in tuple(server.sessions.values()):
            await peer.aclose()
        for each in (leg, view):
            with pytest.raises(MediaLost, match="closed by the far side"):
                async with asyncio.timeout(1):
                    await each.lost()
        await view.aclose()
        async with asyncio.timeout(1):
            assert [frame async for frame in view.frames()] != []
        await provider.aclose()
        await feed.aclose()

    run(test)


def test_a_publisher_without_pictures_is_viewed_by_ear() -> None:
    """Video was agreed on, but sound for a second without any picture is first media."""

    async def test(server: WhipServer) -> None:
        provider, (feed, _) = whip(server), canned_feed()
        leg = await provider.start_stream("show", feed)
        stock = server.viewer_peer

        def without_pictures(stream: str, kinds: list[Kind]) -> Any:
            peer = stock(stream, kinds)
            for sender in peer.senders:
                if sender.kind == "video":
                    sender._take = lambda frame: None  # type: ignore[method-assign]
            return peer

        server.viewer_peer = without_pictures  # type: ignore[method-assign]
        begun = now()
        view = await provider.join_stream("show")
        assert 0.9 < now() - begun < 1.8
        assert {frame.kind for frame in view._queue._unread} == {Kind.AUDIO}
        await view.aclose()
        await leg.aclose()
        await provider.aclose()
        await feed.aclose()

    run(test)


def test_connected_without_media_is_media_lost() -> None:
    """A viewer needs a picture."""

    async def test(server: WhipServer) -> None:
        provider, (feed, _) = whip(server, first_media_s=0.6), canned_feed()
        await provider.start_stream("show", feed)
        server.forwards = False
        with pytest.raises(MediaLost, match="no media came"):
            await provider.join_stream("show")
        await provider.aclose()
        await feed.aclose()

    run(test)


def test_a_reader_that_falls_behind_goes_on_with_a_keyframe() -> None:
    """The queue is bounded, and no picture is shown that depends on a dropped one."""

    async def test(server: WhipServer) -> None:
        provider, (feed, _) = whip(server), canned_feed()
        await provider.start_stream("show", feed)
        view = await provider.join_stream("show")
        frame = EncodedFrame(
            kind=Kind.VIDEO, codec=Codec.VP8, data=b"x", timestamp=0, keyframe=False, arrived_s=0
        )
        for _ in range(FRAMES_MAX + 5):
            view._take(frame)
        assert len(view._queue._unread) < FRAMES_MAX
        assert frame not in view._queue._unread
        await until(lambda: any(each.kind is Kind.VIDEO for each in view._queue._unread))
        assert next(each for each in view._queue._unread if each.kind is Kind.VIDEO).keyframe
        await provider.aclose()
        await feed.aclose()

    run(test)


@pytest.mark.parametrize("operation", ["publish", "view"])
def test_cancelling_at_any_moment_leaves_nothing(operation: str) -> None:
    """Neither here nor at the server."""

    async def test(server: WhipServer) -> None:
        provider, (feed, _) = whip(server), canned_feed()
        other = whip(server)
        await other.start_stream("other", feed)
        stays = len(server.sessions)
        cancelled = 0
        for step in range(16):
            opening = asyncio.ensure_future(
                provider.start_stream("show", feed)
                if operation == "publish"
                else provider.join_stream("other")
            )
            await asyncio.sleep(0.005 * step)
            opening.cancel()
            await asyncio.wait({opening})
            if opening.cancelled():
                cancelled += 1
                assert provider._legs == set()
            else:
                await opening.result().aclose()
        assert cancelled >= 4
        await until(lambda: len(server.sessions) == stays)
        await provider.aclose()
        await other.aclose()
        await feed.aclose()

    run(test)


def test_closing_the_provider_closes_its_legs() -> None:
    """Twice is fine."""

    async def test(server: WhipServer) -> None:
        provider, (feed, _) = whip(server), canned_feed()
        await provider.start_stream("show", feed)
        await provider.join_stream("show")
        await provider.aclose()
        await provider.aclose()
        assert server.sessions == {}
        await feed.aclose()

    run(test)


def test_a_provider_that_is_not_used_opens_nothing() -> None:
    """No session, no socket, no loop needed."""

    async def main() -> None:
        await Whip(url="https://example.com/whip").aclose()

        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())
