"""The adapter for Janus against a real Janus 1.x, on the loopback interface."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest
from canned_media import canned_feed
from interop import janus

from hitless import Codec, Kind, LiveStreamingProvider, Meter, Quality, SelfView
from hitless.errors import (
    CredentialsRejected,
    HitlessError,
    LocalFault,
    MediaLost,
    NotOnAir,
    ProviderError,
    Refused,
    Retry,
    Unreachable,
)
from hitless.media.feed import Feed
from hitless.providers.conformance import check_provider
from hitless.providers.janus import Janus


pytestmark = pytest.mark.skipif(janus.why_not() is not None, reason=str(janus.why_not()))

LIMIT_S = 20.0
"""Every single wait: the machine may be busy."""

SMALL = Quality(width=320, height=180, frame_rate=30, bitrate_bps=300_000)
KICKED = {
    f"janus: publish failed: {words}"
    for words in (
        "kicked: a newer publisher took the stream, or the room's owner did it",
        "closed by the far side",  # on a busy machine the media may end before the signalling
    )
}
WAYS = [
    pytest.param(full, ours, id=f"{'full' if full else 'half'}-trickle{'-of-both' * ours}")
    for full in (False, True)
    for ours in (False, True)
]
"""Whether Janus trickles its candidates, and whether we do."""


def go(main):
    """Run a test against the clock, bounded."""

    async def bounded():
        async with asyncio.timeout(6 * LIMIT_S):
            await main

    asyncio.run(bounded())


def adapter(server, **options):
    """Return an adapter with patience."""
    return Janus(url=server.url, **{"first_media_s": LIMIT_S, **options})


@asynccontextmanager
async def closing(*things):
    """Close what a test opened, in order."""
    try:
        yield
    finally:
        for thing in things:
            await thing.aclose()


async def own_frames(view, feed, count=10):
    """Wait until a viewer got so many frames of a feed."""
    async with asyncio.timeout(LIMIT_S):
        async for frame in view.frames():
            count -= feed.is_own(frame.data)
            if count == 0:
                return


async def until(condition):
    """Wait for a condition."""
    async with asyncio.timeout(LIMIT_S):
        while not condition():  # noqa: ASYNC110 -- conditions are of many kinds
            await asyncio.sleep(0.01)


async def reason_of_loss(leg, within_s=LIMIT_S):
    """Return why a leg was lost."""
    with pytest.raises(ProviderError) as caught:
        await asyncio.wait_for(leg.lost(), within_s)
    return str(caught.value)


async def refusal_of(awaitable):
    """Return the error that something fails with."""
    with pytest.raises(HitlessError) as caught:
        await awaitable
    return caught.value


def now():
    """Return the loop's time [s]."""
    return asyncio.get_running_loop().time()


# --- Publishing and viewing ---


@pytest.mark.parametrize(("full_trickle", "trickle"), WAYS)
@pytest.mark.parametrize("codec", [Codec.VP8, Codec.H264])
def test_a_stream_is_published_and_viewed(tmp_path, codec, full_trickle, trickle):
    """
    The same frames arrive, pictures from a keyframe on.
    """

    async def main():
        async with janus.running(tmp_path, full_trickle=full_trickle) as server:
            here, there = adapter(server, trickle=trickle), adapter(server, trickle=trickle)
            feed, _ = canned_feed(codec=codec)
            async with closing(here, there, feed):
                leg = await here.start_stream("show", feed)
                view = await there.join_stream("show")
                frames = []
                async with asyncio.timeout(LIMIT_S):
                    async for frame in view.frames():
                        frames.append(frame)
                        if len(frames) == 60:
                            break
                signs = set(leg.liveness._signs)

        assert {codec, Codec.OPUS} == {frame.codec for frame in frames}
        assert next(frame for frame in frames if frame.kind is Kind.VIDEO).keyframe
        assert [] == [frame for frame in frames if not feed.is_own(frame.data)]
        assert {"stun", "audio"} == signs  # the self-view is kept on sound

    go(main())


@pytest.mark.parametrize("codec", [Codec.VP8, Codec.H264])
def test_frame_numbers_arrive(tmp_path, codec):
    """
    From a real encoder to a real decoder, by the library's own front.
    """

    async def main():
        async with janus.running(tmp_path) as server:
            meter = Meter()
            async with (
                LiveStreamingProvider([adapter(server)]) as here,
                LiveStreamingProvider([adapter(server)]) as there,
                here.start_stream("show", "test-picture", quality=SMALL, video_codec=codec),
                there.join_stream("show", sinks=[meter]),
            ):
                await until(lambda: meter.reading().pictures >= 20)
                reading = meter.reading()

        assert reading.number is not None
        assert 0 == reading.unreadable_pictures

    go(main())


@pytest.mark.parametrize("kind", list(Kind))
def test_a_stream_of_one_kind_is_carried(tmp_path, kind):
    """
    Nobody waits for the other one.
    """

    async def main():
        async with janus.running(tmp_path) as server:
            provider, (feed, _) = adapter(server), canned_feed(kind)
            async with closing(provider, feed):
                leg = await provider.start_stream("show", feed)
                view = await provider.join_stream("show")
                await own_frames(view, feed)
                signs = set(leg.liveness._signs)
        assert {"stun", kind.value} == signs

    go(main())


@pytest.mark.parametrize("full_trickle", [False, True])
def test_it_keeps_the_contract(tmp_path, full_trickle):
    """
    The conformance suite, with candidates in the description and after it.
    """

    async def main():
        async with janus.running(tmp_path, full_trickle=full_trickle) as server:

            async def make():
                return adapter(server, first_media_s=8.0)

            return await check_provider(make)

    asyncio.run(main()).require()


def test_without_a_self_view_acknowledgements_are_proof(tmp_path):
    """
    Receiver reports, or Janus saying that media arrives.
    """

    async def main():
        async with janus.running(tmp_path) as server:
            provider, (feed, _) = adapter(server, self_view=SelfView.OFF), canned_feed()
            async with closing(provider, feed):
                leg = await provider.start_stream("show", feed)
                assert {"stun"} == set(leg.liveness._signs)
                await until(leg._handle.receiving.is_set)

    go(main())


def test_a_source_without_frames_is_our_own_fault(tmp_path):
    """
    Janus is not blamed for it.
    """

    async def main():
        async with janus.running(tmp_path) as server:
            provider = adapter(server, first_media_s=3.0)
            feed = Feed({Kind.AUDIO: Codec.OPUS})
            async with closing(provider, feed):
                exc = await refusal_of(provider.start_stream("show", feed))
                assert isinstance(exc, LocalFault)

    go(main())


# --- Rooms ---


def test_a_stream_has_a_room_while_somebody_publishes_it(tmp_path):
    """
    Hidden, protected, and gone with the last publisher.
    """

    async def main():
        async with janus.running(tmp_path) as server:
            provider = adapter(server, room_secret="tidy", room_pin="1234")
            feed, _ = canned_feed(Kind.AUDIO)
            number = provider._room_of("show").id
            async with closing(provider, feed), janus.asking(server) as asker:

                async def exists():
                    return (await asker.room({"request": "exists", "room": number}))["exists"]

                leg = await provider.start_stream("show", feed)
                assert await exists()
                assert [] == (await asker.room({"request": "list"}))["list"]
                destroyed = await asker.room({"request": "destroy", "room": number})
                assert 429 == destroyed["error_code"]  # not without the secret
                await leg.aclose()
                assert not await exists()

    go(main())


def test_streams_that_share_a_room_are_told_apart(tmp_path):
    """
    By what publishers say in their display. The room is nobody's to take away.
    """
    lines = 'publishers = 6, secret = "other"'

    async def main():
        async with janus.running(tmp_path, room=lines) as server:
            provider = adapter(server, room=1234)
            (one, _), (two, _) = canned_feed(Kind.AUDIO), canned_feed(Kind.VIDEO)
            async with closing(provider, one, two), janus.asking(server) as asker:
                first = await provider.start_stream("one", one)
                await provider.start_stream("two", two)
                view = await provider.join_stream("two")
                await own_frames(view, two)
                await first.aclose()
                assert isinstance(await refusal_of(provider.join_stream("one")), NotOnAir)
                assert (await asker.room({"request": "exists", "room": 1234}))["exists"]

    go(main())


def test_a_server_whose_rooms_have_names_is_served(tmp_path):
    """
    `string_ids`: the room bears the stream's id.
    """

    async def main():
        async with janus.running(tmp_path, string_ids=True) as server:
            provider, (feed, _) = adapter(server, string_ids=True), canned_feed(Kind.AUDIO)
            async with closing(provider, feed):
                await provider.start_stream("my show", feed)
                view = await provider.join_stream("my show")
                await own_frames(view, feed)

    go(main())


def test_a_codec_that_the_room_forbids_is_refused_in_words(tmp_path):
    """
    Another provider may take it; this room never will.
    """
    lines = 'publishers = 6, videocodec = "vp8"'

    async def main():
        async with janus.running(tmp_path, room=lines) as server:
            provider, (feed, _) = adapter(server, room=1234), canned_feed(codec=Codec.H264)
            async with closing(provider, feed):
                exc = await refusal_of(provider.start_stream("show", feed))
                assert isinstance(exc, Refused)
                assert exc.retry is Retry.NEXT
                assert "the room takes no H264" in str(exc)

    go(main())


def test_a_room_that_is_not_there_is_said_to_the_publisher(tmp_path):
    """
    A viewer waits: it may come.
    """

    async def main():
        async with janus.running(tmp_path) as server:
            provider, (feed, _) = adapter(server, room=1234), canned_feed(Kind.AUDIO)
            async with closing(provider, feed):
                exc = await refusal_of(provider.start_stream("show", feed))
                assert isinstance(exc, Refused)
                assert "426" in str(exc)
                assert isinstance(await refusal_of(provider.join_stream("show")), NotOnAir)

    go(main())


# --- Exactly one publisher ---


def test_a_newer_publisher_removes_the_older_one(tmp_path):
    """
    Off the critical path, with the room's secret; who comes then sees the newer one.
    """

    async def main():
        async with janus.running(tmp_path) as server:
            secret = {"room_secret": "tidy"}
            old, new, viewer = (adapter(server, **secret) for _ in range(3))
            (before, _), (after, _) = canned_feed(Kind.AUDIO), canned_feed(Kind.VIDEO)
            async with closing(old, new, viewer, before, after):
                older = await old.start_stream("show", before)
                watching = await viewer.join_stream("show")
                await new.start_stream("show", after)
                assert await reason_of_loss(older) in KICKED
                await until(lambda: watching.liveness.quiet(now()))  # Janus does not tell it
                await own_frames(await viewer.join_stream("show"), after)
                await older.aclose()  # must not take the room of the newer one with it
                await own_frames(await viewer.join_stream("show"), after)

    go(main())


def test_viewers_choose_the_newest_of_two_publishers(tmp_path):
    """
    Where the older one cannot be removed, nobody watches it.
    """
    lines = 'publishers = 6, secret = "not ours"'

    async def main():
        async with janus.running(tmp_path, room=lines) as server:
            old, new, viewer = (adapter(server, room=1234) for _ in range(3))
            (before, _), (after, _) = canned_feed(Kind.AUDIO), canned_feed(Kind.VIDEO)
            async with closing(old, new, viewer, before, after):
                older = await old.start_stream("show", before)
                await new.start_stream("show", after)
                for _ in range(3):
                    await own_frames(await viewer.join_stream("show"), after)
                assert not older._handle.is_lost

    go(main())


def test_a_room_full_of_older_publishers_is_made_room_in(tmp_path):
    """
    The attempt fails, the next one on the same provider does not.
    """
    lines = 'publishers = 1, secret = "ours"'

    async def main():
        async with janus.running(tmp_path, room=lines) as server:
            old, new = (adapter(server, room=1234, room_secret="ours") for _ in range(2))
            (before, _), (after, _) = canned_feed(Kind.AUDIO), canned_feed(Kind.AUDIO)
            async with closing(old, new, before, after):
                await old.start_stream("show", before)
                exc = await refusal_of(new.start_stream("show", after))
                assert isinstance(exc, Refused)
                assert exc.retry is Retry.SAME
                await new.start_stream("show", after)

    go(main())


# --- Credentials ---


@pytest.mark.parametrize(
    ("asks", "gives"),
    [
        ({"api_secret": "right"}, {"api_secret": "wrong-api-secret"}),
        ({"api_secret": "right"}, {}),
        ({"token_secret": "right"}, {"token": janus.signed_token("wrong-token")}),
        ({"token_secret": "right"}, {"token": janus.signed_token("right", valid_s=-60)}),
        ({"token_secret": "right"}, {}),
        ({"admin_key": "right"}, {"admin_key": "wrong-admin-key"}),
        ({"admin_key": "right"}, {}),
        ({"room": 'publishers = 6, pin = "right"'}, {"room": 1234, "room_pin": "wrong-pin"}),
        ({"room": 'publishers = 6, pin = "right"'}, {"room": 1234}),
    ],
    ids=[
        "api-secret",
        "no-api-secret",
        "token",
        "expired-token",
        "no-token",
        "admin-key",
        "no-admin-key",
        "pin",
        "no-pin",
    ],
)
def test_a_wrong_secret_is_rejected(tmp_path, asks, gives):
    """
    Whoever asks for it; and it is not repeated in the error.
    """

    async def main():
        async with janus.running(tmp_path, **asks) as server:
            provider, (feed, _) = adapter(server, **gives), canned_feed(Kind.AUDIO)
            async with closing(provider, feed):
                exc = await refusal_of(provider.start_stream("show", feed))
                assert isinstance(exc, CredentialsRejected)
                assert exc.retry is Retry.NEXT
                assert not any(str(each) in str(exc) for each in gives.values() if each != 1234)

    go(main())


def test_the_right_secrets_open_everything(tmp_path):
    """
    API secret, signed token, admin key, room secret and PIN at once.
    """

    async def main():
        asks = {"api_secret": "core", "admin_key": "rooms"}
        async with janus.running(tmp_path, token_secret="signs", **asks) as server:
            gives = {"token": janus.signed_token("signs"), **asks}
            provider = adapter(server, room_secret="tidy", room_pin="1234", **gives)
            stranger = adapter(server, room_pin="4321", **gives)
            feed, _ = canned_feed(Kind.AUDIO)
            async with closing(provider, stranger, feed):
                await provider.start_stream("show", feed)
                await own_frames(await provider.join_stream("show"), feed)
                exc = await refusal_of(stranger.join_stream("show"))
                assert isinstance(exc, CredentialsRejected)

    go(main())


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
