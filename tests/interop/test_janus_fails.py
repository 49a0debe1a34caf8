"""The adapter for Janus when a real Janus 1.x fails, and that nothing is left behind."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest
from canned_media import canned_feed
from interop import janus
from interop.janus_adapter import (
    LIMIT_S,
    adapter,
    closing,
    go,
    now,
    own_frames,
    reason_of_loss,
    refusal_of,
    until,
)

from hitless import Kind
from hitless.errors import MediaLost, NotOnAir, Retry, Unreachable


pytestmark = pytest.mark.skipif(janus.why_not() is not None, reason=str(janus.why_not()))


# --- When Janus fails ---


@asynccontextmanager
async def on_air(server, **options):
    """Publish and view; yield both legs, the viewer's in use."""
    provider, (feed, _) = adapter(server, **options), canned_feed()
    async with closing(provider, feed):
        leg = await provider.start_stream("show", feed)
        view = await provider.join_stream("show")
        await own_frames(view, feed)
        yield provider, feed, leg, view


def test_a_killed_janus_is_noticed_at_once(tmp_path):
    """
    By the signalling socket; ICE alone takes half a minute. A new attempt finds nobody.
    """

    async def main():
        async with (
            janus.running(tmp_path) as server,
            on_air(server) as (provider, feed, leg, view),
        ):
            server.kill()
            begun = now()
            reasons = await asyncio.gather(reason_of_loss(leg), reason_of_loss(view))
            took_s = now() - begun
            exc = await refusal_of(provider.start_stream("again", feed))
        assert all("signalling socket was closed" in each for each in reasons)
        assert took_s < 5.0
        assert isinstance(exc, Unreachable)
        assert exc.answered

    go(main())


def test_a_stopped_janus_is_noticed_by_its_silence(tmp_path):
    """
    Silence is no loss: the legs stay, and media comes back by itself.
    """

    async def main():
        async with (
            janus.running(tmp_path) as server,
            on_air(server) as (_, feed, leg, view),
        ):
            with server.stopped():
                await until(lambda: leg.liveness.quiet(now()) and view.liveness.quiet(now()))
                assert not leg._handle.is_lost
                assert not view._subscription._handle.is_lost
                impatient = adapter(server, first_media_s=0.5)
                exc = await refusal_of(impatient.start_stream("again", feed))
                await impatient.aclose()
                assert isinstance(exc, Unreachable)
                assert exc.retry is Retry.SAME
                assert not exc.answered
            await until(lambda: not (leg.liveness.quiet(now()) or view.liveness.quiet(now())))

    go(main())


def test_leaving_a_stopped_janus_is_bounded(tmp_path):
    """
    A provider that hangs cannot hold the stream: 2 s by the contract, more on a busy machine.
    """

    async def main():
        async with (
            janus.running(tmp_path) as server,
            on_air(server) as (provider, _, leg, view),
        ):
            with server.stopped():
                for thing in (leg, view, provider):
                    begun = now()
                    await thing.aclose()
                    assert now() - begun < 4.0

    go(main())


def test_leaving_tells_the_viewers(tmp_path):
    """
    They need not wait for silence, though the room is gone as well.
    """

    async def main():
        async with (
            janus.running(tmp_path) as server,
            on_air(server) as (_, _, leg, view),
        ):
            losing = asyncio.create_task(reason_of_loss(view))
            await asyncio.sleep(0)
            await leg.aclose()
            assert "the publisher left" in await losing
            for thing in (leg, view):
                await thing.aclose()
                await reason_of_loss(thing)

    go(main())


def test_what_an_administrator_ends_is_lost(tmp_path):
    """
    A room that is destroyed takes its publisher off the air, and it says so.
    """

    async def main():
        async with (
            janus.running(tmp_path) as server,
            on_air(server) as (provider, _, leg, _),
            janus.asking(server) as asker,
        ):
            await asker.room({"request": "destroy", "room": provider._room_of("show").id})
            reason = await reason_of_loss(leg)
        assert "destroyed" in reason or "closed by the far side" in reason or "hung up" in reason

    go(main())


# --- Nothing is left ---


def test_a_cancelled_start_leaves_nobody_on_air(tmp_path):
    """
    At whatever moment it is cancelled.
    """

    async def main():
        async with janus.running(tmp_path) as server, janus.asking(server) as asker:
            provider, (feed, _) = adapter(server), canned_feed(Kind.AUDIO)
            number = provider._room_of("show").id
            async with closing(provider, feed):
                for pause_s in (0.0, 0.002, 0.005, 0.01, 0.02, 0.04, 0.08):
                    starting = asyncio.create_task(provider.start_stream("show", feed))
                    await asyncio.sleep(pause_s)
                    starting.cancel()
                    await asyncio.wait({starting})
                    if not starting.cancelled():  # it was quicker
                        await starting.result().aclose()

                async def gone():
                    room = await asker.room({"request": "exists", "room": number})
                    return not room["exists"]

                async with asyncio.timeout(LIMIT_S):
                    while not await gone():  # noqa: ASYNC110 -- another process is asked
                        await asyncio.sleep(0.05)
                assert isinstance(await refusal_of(provider.join_stream("show")), NotOnAir)

    go(main())


def test_a_closed_provider_leaves_no_task_and_no_session(tmp_path):
    """
    Legs that nobody closed included, and sessions kept for a next question.
    """

    async def main():
        async with janus.running(tmp_path) as server:
            mine = asyncio.all_tasks()
            provider, (feed, engine) = adapter(server), canned_feed(Kind.AUDIO)
            await provider.start_stream("show", feed)
            await provider.join_stream("show")
            await refusal_of(provider.join_stream("nothing"))
            await provider.aclose()
            await feed.aclose()
            await asyncio.sleep(0.2)
            left = asyncio.all_tasks() - mine
            async with janus.asking(server) as asker:
                listed = await asker.room(
                    {"request": "exists", "room": provider._room_of("show").id}
                )
            assert engine.pictures_sent == 0
        assert set() == left
        assert not listed["exists"]

    go(main())


def test_a_silent_stream_is_not_forwarded_and_that_is_found_out(tmp_path):
    """
    The self-view, not the connection, is what proves a stream: here the moderator muted it.
    """

    async def main():
        async with (
            janus.running(tmp_path) as server,
            on_air(server) as (provider, _, leg, view),
            janus.asking(server) as asker,
        ):
            muting = {"request": "moderate", "room": provider._room_of("show").id, "mute": True}
            number = int(view._subscription._feed)
            for mid in ("0", "1"):
                await asker.room({**muting, "id": number, "mid": mid})
            await until(lambda: leg.liveness.quiet(now()) and view.liveness.quiet(now()))
            assert leg.liveness.quiet(now()).sign == "audio"

    go(main())


def test_it_says_that_nothing_came_back(tmp_path):
    """
    A stream that is accepted and not forwarded is no success.
    """

    async def main():
        async with janus.running(tmp_path) as server:
            provider, (feed, _) = adapter(server, first_media_s=4.0), canned_feed(Kind.AUDIO)
            feed.is_own = lambda data: False
            async with closing(provider, feed):
                exc = await refusal_of(provider.start_stream("show", feed))
                assert isinstance(exc, MediaLost)
                assert "not forwarded" in str(exc)

    go(main())
