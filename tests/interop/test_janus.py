"""The adapter for Janus against a real Janus 1.x, on the loopback interface."""

from __future__ import annotations

import asyncio

import pytest
from canned_media import canned_feed
from interop import janus
from interop.janus_adapter import (
    KICKED,
    LIMIT_S,
    SMALL,
    WAYS,
    adapter,
    closing,
    go,
    now,
    own_frames,
    reason_of_loss,
    refusal_of,
    until,
)

from hitless import Codec, Kind, LiveStreamingProvider, Meter, SelfView
from hitless.errors import CredentialsRejected, LocalFault, NotOnAir, Refused, Retry
from hitless.media.feed import Feed
from hitless.providers.base import Expiring
from hitless.providers.conformance import check_provider


pytestmark = pytest.mark.skipif(janus.why_not() is not None, reason=str(janus.why_not()))


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
                leg = await provider.start_stream("show", feed)
                view = await provider.join_stream("show")
                await own_frames(view, feed)
                exc = await refusal_of(stranger.join_stream("show"))
                assert isinstance(exc, CredentialsRejected)
                for each in (leg, view):  # the token ends after 600 s, and both must be gone then
                    assert isinstance(each, Expiring)
                    assert 500 < each.expires_s - asyncio.get_running_loop().time() <= 600

    go(main())
