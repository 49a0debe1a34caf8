"""hitless.providers.livekit, against a stand-in of LiveKit's server."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web
from canned_media import canned_feed
from livekit_stand_in import KEY, SECRET, Guest, LiveKitServer, livekit
from unit.providers.livekit_runs import BOTH, INFO, LIMIT_S, asked, on_air, run, until

from hitless.core.policy import SelfView
from hitless.errors import ConfigError, MediaLost, NotOnAir, Refused
from hitless.media.feed import Feed
from hitless.media.frame import Codec, Kind
from hitless.providers.clock import wall_s
from hitless.providers.conformance import check_provider
from hitless.providers.livekit import ASK_S, TOKEN_S, LiveKit
from hitless.providers.record import Record, State


# --- What it carries ---


@pytest.mark.parametrize("codec", [Codec.VP8, Codec.H264])
def test_it_passes_the_conformance_suite(codec: Codec) -> None:
    """The public one; the same was run against the real server."""

    async def test(server: LiveKitServer) -> None:
        async def make() -> LiveKit:
            return livekit(server, video_codec=codec)

        async def feed() -> Feed:
            return canned_feed(codec=codec)[0]

        report = await check_provider(make, feed=feed)
        report.require()

    run(test, codec=codec)


def test_a_stream_is_a_room_and_everybody_gets_a_token_of_its_own() -> None:
    """The publisher always as the same one, each view as another one."""

    async def test(server: LiveKitServer) -> None:
        async with on_air(server, self_view=SelfView.START) as (provider, _, feed):
            for _ in range(2):
                view = await provider.join_stream("show")
                frame = await anext(view.frames())
                assert feed.is_own(frame.data)
                await view.aclose()
        joins = [each for each in server.claims if each["video"].get("roomJoin")]
        publishers = [each for each in joins if each["video"]["canPublish"]]
        viewers = [each for each in joins if not each["video"]["canPublish"]]
        assert {each["video"]["room"] for each in joins} == {"show"}
        assert {each["sub"] for each in publishers} == {"publisher"}
        assert len({each["sub"] for each in viewers}) == 3
        assert not any(each["video"]["canSubscribe"] for each in publishers)
        assert all(abs(each["exp"] - wall_s() - TOKEN_S) < LIMIT_S for each in joins)

    run(test)


def test_a_publisher_sees_itself_by_the_track_that_it_watches() -> None:
    """A name that nobody publishes would make the server wait without end."""

    async def test(server: LiveKitServer) -> None:
        async with on_air(server, Kind.AUDIO, Kind.VIDEO) as (provider, leg, _):
            assert "audio" in leg.liveness._signs
            assert asked(server) == [{"publisher": BOTH[:1]}]
            view = await provider.join_stream("show")
            assert asked(server)[1:] == [{"publisher": BOTH}]
            await view.aclose()

    run(test)


def test_a_publisher_that_looked_too_early_looks_again() -> None:
    """The server never answers a view of a track that was not there when it was asked."""

    async def test(server: LiveKitServer) -> None:
        async def intercept(request: web.Request) -> web.StreamResponse | None:
            if INFO in request.headers and len(asked(server)) == 1:
                await asyncio.sleep(LIMIT_S)
            return None

        server.intercept = intercept
        async with on_air(server) as (_, leg, _):
            assert "audio" in leg.liveness._signs
            assert asked(server) == [{"publisher": BOTH[:1]}] * 2

    run(test)


def test_a_viewer_who_finds_one_kind_looks_again_for_the_other() -> None:
    """A publisher that has just come adds its tracks one by one, and no answer is given twice."""

    async def test(server: LiveKitServer) -> None:
        async def refuse(request: web.Request) -> web.StreamResponse | None:
            if request.path == "/whip/v1":
                return web.Response(status=503)
            if len(server.seen) == 2:
                server.guests["show"] = [Guest("ann", {Kind.AUDIO: "mic", Kind.VIDEO: "cam"})]
            return None

        server.intercept = refuse
        server.guests["show"] = [Guest("ann", {Kind.AUDIO: "mic"})]
        provider = livekit(server)
        with pytest.raises(Refused):
            await provider.join_stream("show")
        assert asked(server) == [{"ann": ["mic", "cam"]}]
        await provider.aclose()

    run(test)


def test_a_viewer_asks_for_the_tracks_that_are_there() -> None:
    """Whoever publishes them, and whatever they are called: phones and browsers name them."""

    async def test(server: LiveKitServer) -> None:
        async def refuse(request: web.Request) -> web.StreamResponse | None:
            return web.Response(status=503) if request.path == "/whip/v1" else None

        server.intercept = refuse  # no media is behind a guest
        provider = livekit(server)
        server.guests["show"] = [
            Guest("ann", {Kind.AUDIO: "mic"}, joined_ms=1),
            Guest("bob", {Kind.VIDEO: "cam"}, joined_ms=3),
            Guest("carl", {}, joined_ms=4),
        ]
        with pytest.raises(Refused):
            await provider.join_stream("show")
        server.guests["show"] += [Guest("publisher-2", {Kind.VIDEO: "old"}, joined_ms=1)]
        with pytest.raises(Refused):
            await provider.join_stream("show")
        assert asked(server) == [{"bob": ["cam"]}, {"publisher-2": ["old"]}]
        await provider.aclose()

    run(test)


def test_a_stream_that_nobody_publishes_is_no_request_to_view() -> None:
    """However many wait for it: four questions a second at most, and none that hangs there."""

    async def test(server: LiveKitServer) -> None:
        provider = livekit(server)
        server.guests["show"] = [Guest("carl")]
        for _ in range(10):
            with pytest.raises(NotOnAir) as caught:
                await provider.join_stream("show")
            assert caught.value.retry_after_s == ASK_S
        assert [each.path for each in server.seen] == [
            "/twirp/livekit.RoomService/ListParticipants"
        ]
        await asyncio.sleep(1.1 * ASK_S)
        with pytest.raises(NotOnAir):
            await provider.join_stream("show")
        assert len(server.seen) == 2
        await provider.aclose()

    run(test)


# --- One publisher ---


def test_a_second_publisher_puts_out_the_first() -> None:
    """The server does it, since both have one identity (DUPLICATE_IDENTITY)."""

    async def test(server: LiveKitServer) -> None:
        async with on_air(server) as (_, first, _), on_air(server) as (provider, _, feed):
            with pytest.raises(MediaLost, match="closed by the far side"):
                async with asyncio.timeout(10.0):
                    await first.lost()
            view = await provider.join_stream("show")
            assert feed.is_own((await anext(view.frames())).data)
            await view.aclose()
        assert server.removed == []

    run(test)


def test_an_older_publisher_named_by_its_epoch_is_removed_in_the_background() -> None:
    """Nobody else is: neither who came later, nor who has another name, nor who only watches."""

    async def test(server: LiveKitServer) -> None:
        server.guests["show"] = [
            Guest("publisher-3", {Kind.AUDIO: "mic"}, joined_ms=1),
            Guest("publisher-9", {Kind.AUDIO: "mic"}, joined_ms=9_000_000),
            Guest("publisher-2", {}, joined_ms=1),
            Guest("publishers-cat", {Kind.AUDIO: "mic"}, joined_ms=1),
        ]
        async with on_air(server) as (_, leg, _):
            await until(lambda: server.removed)
            await asyncio.sleep(0.1)
            assert server.removed == ["publisher-3"]
            assert leg.liveness.quiet(asyncio.get_running_loop().time()) is None

    run(test)


@pytest.mark.parametrize("answer", ["hangs", "refuses"])
def test_removing_an_older_publisher_is_no_condition_of_being_on_air(answer: str) -> None:
    """It is off the way of the start, and closing ends it."""

    async def test(server: LiveKitServer) -> None:
        async def intercept(request: web.Request) -> web.StreamResponse | None:
            if "/twirp/" not in request.path:
                return None
            if answer == "hangs":
                await asyncio.sleep(LIMIT_S)
            return web.Response(status=500)

        server.intercept = intercept
        begun_s = asyncio.get_running_loop().time()
        async with on_air(server) as (_, leg, _):
            await until(lambda: any("/twirp/" in each.path for each in server.seen))
            assert leg.liveness.last_media_s() is not None
        assert asyncio.get_running_loop().time() - begun_s < 15.0

    run(test)


# --- Configuration ---


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"url": "ftp://example.com"}, "url"),
        ({"url": "ws://example.com"}, "url"),
        ({"url": "wss://user:secret@example.com"}, "url"),
        ({"whip_url": "http://example.com/whip/v1"}, "url"),
        ({"name": "Live Kit"}, "name"),
        ({"api_key": None, "api_secret": None}, "credentials"),
        ({"api_secret": None}, "api_secret"),
        ({"api_key": None}, "api_key"),
        ({"api_secret": "short"}, "api_secret"),
        ({"identity": ""}, "identity"),
    ],
)
def test_settings_that_cannot_work_are_named(settings: dict[str, Any], names: str) -> None:
    """Before anything opens, and without what is secret."""
    usual = {"url": "wss://example.com", "api_key": KEY, "api_secret": SECRET}

    with pytest.raises(ConfigError, match=names) as caught:
        LiveKit(**{**usual, **settings})

    assert "secret@" not in str(caught.value)
    assert "short" not in str(caught.value).replace("shorter", "")


@pytest.mark.parametrize(
    ("settings", "endpoint"),
    [
        ({"url": "wss://example.com"}, "https://example.com/whip/v1"),
        ({"url": "https://example.com/"}, "https://example.com/whip/v1"),
        ({"url": "ws://127.0.0.1:7880"}, "http://127.0.0.1:7880/whip/v1"),
        ({"url": "ws://lan", "allow_http": True}, "http://lan/whip/v1"),
        (
            {"url": "wss://example.com", "whip_url": "https://other.example.com/w"},
            "https://other.example.com/w",
        ),
    ],
)
def test_the_address_for_its_sdks_is_the_one_of_whip_too(
    settings: dict[str, Any], endpoint: str
) -> None:
    """One address in the configuration is enough."""
    provider = LiveKit(api_key=KEY, api_secret=SECRET, **settings)

    assert str(provider._whip._url) == endpoint
    assert str(provider._whip._view_url) == endpoint
    assert SECRET not in repr(provider)


def test_closing_twice_is_fine() -> None:
    """Also before anything was opened."""

    async def test(server: LiveKitServer) -> None:
        provider = livekit(server)
        await provider.aclose()
        await provider.aclose()

    run(test)


def test_its_record_names_a_test_or_a_reason_for_every_claim() -> None:
    """Nothing that was not run is called done."""
    record = LiveKit.RECORD

    assert isinstance(record, Record)
    claims = [*record.speaks, *record.survives]
    assert all(claim.note for claim in claims)
    assert all("tests/" in claim.note for claim in claims if claim.state is State.DONE)
