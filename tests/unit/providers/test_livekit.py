"""hitless.providers.livekit, against a stand-in of LiveKit's server."""

from __future__ import annotations

import asyncio
import json
import traceback
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import jwt
import pytest
from aiohttp import web
from canned_media import canned_feed
from livekit_stand_in import KEY, SECRET, Guest, LiveKitServer, livekit, serving

from hitless.core.events import Role
from hitless.core.policy import SelfView
from hitless.errors import ConfigError, CredentialsRejected, MediaLost, NotOnAir, Refused, Retry
from hitless.media.feed import Feed
from hitless.media.frame import Codec, Kind
from hitless.providers.clock import wall_s
from hitless.providers.conformance import check_provider
from hitless.providers.credential import Access
from hitless.providers.livekit import ASK_S, TOKEN_S, LiveKit
from hitless.providers.record import Record, State
from hitless.providers.whip_legs import PublishingLeg


LIMIT_S = 60.0
INFO = "X-LiveKit-ClientInfo"
BOTH = ["synthesized-microphone", "synthesized-camera"]


def run(test: Callable[[LiveKitServer], Coroutine[Any, Any, None]], **settings: Any) -> None:
    """Run a test with a stand-in, bounded; nothing may be left of it."""

    async def main() -> None:
        mine = asyncio.all_tasks()
        async with asyncio.timeout(LIMIT_S), serving(**settings) as server:
            await test(server)
        assert [task for task in asyncio.all_tasks() - mine if "livekit" in task.get_name()] == []

    asyncio.run(main())


@asynccontextmanager
async def on_air(
    server: LiveKitServer, *kinds: Kind, **settings: Any
) -> AsyncIterator[tuple[LiveKit, PublishingLeg, Feed]]:
    """Publish `show`."""
    provider, (feed, _) = livekit(server, **settings), canned_feed(*kinds or (Kind.AUDIO,))
    try:
        yield provider, await provider.start_stream("show", feed), feed
    finally:
        await provider.aclose()
        await feed.aclose()


async def until(condition: Callable[[], Any], limit_s: float = 10.0) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(limit_s):
        while not condition():  # noqa: ASYNC110 -- conditions are of many kinds
            await asyncio.sleep(0.005)


def asked(server: LiveKitServer) -> list[dict[str, list[str]]]:
    """Return what each view asked for, in order."""
    infos = [each.headers.get(INFO) for each in server.requests("POST")]
    return [json.loads(info)["subscribedParticipantTrackNames"] for info in infos if info]


def token_of(access: Access, **claims: Any) -> str:
    """Mint what a control plane gives for an access."""
    is_publisher = access.role is Role.PUBLISHER
    video = {
        "roomJoin": True,
        "room": access.stream,
        "canPublish": is_publisher,
        "canSubscribe": not is_publisher,
    }
    identity = "publisher-7" if is_publisher else f"viewer-{id(access)}"
    base = {"iss": KEY, "sub": identity, "exp": 4_000_000_000, "video": video}
    return jwt.encode({**base, **claims}, SECRET, algorithm="HS256")


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


# --- Credentials ---


def test_with_credentials_alone_the_own_stream_can_be_viewed_and_no_other() -> None:
    """Whether others publish cannot be asked without a key, and must be known."""
    accesses: list[Access] = []

    async def credentials(access: Access) -> dict[str, Any]:
        accesses.append(access)
        return {"token": token_of(access)}

    async def test(server: LiveKitServer) -> None:
        async with on_air(server, credentials=credentials) as (provider, leg, feed):
            assert "audio" in leg.liveness._signs
            view = await provider.join_stream("show")
            assert feed.is_own((await anext(view.frames())).data)
            await view.aclose()
            assert asked(server) == [{"publisher-7": BOTH[:1]}] * 2
            with pytest.raises(ConfigError, match="api_key"):
                await provider.join_stream("other")
            await leg.aclose()
            with pytest.raises(ConfigError, match="api_key"):
                await provider.join_stream("show")
        assert not any("/twirp/" in each.path for each in server.seen)

    run(test)

    assert [each.role for each in accesses] == [Role.PUBLISHER, Role.VIEWER, Role.VIEWER]


@pytest.mark.parametrize("operation", ["publish", "view"])
@pytest.mark.parametrize("given", ["minted", "expired"])
def test_a_rejected_token_means_the_next_provider_and_is_not_repeated(
    operation: str, given: str
) -> None:
    """LiveKit's NotAllowed: expired, forged or revoked look the same, and no renewal follows."""
    accesses: list[Access] = []

    async def expired(access: Access) -> dict[str, Any]:
        accesses.append(access)
        return {"token": token_of(access, exp=1)}

    async def test(server: LiveKitServer) -> None:
        more: dict[str, Any] = {"api_key": KEY, "api_secret": "x" * 40}
        if given == "expired":
            more = {"api_key": KEY, "api_secret": SECRET, "credentials": expired}
            server.guests["show"] = [Guest("ann", {Kind.AUDIO: "mic"})]
        provider, (feed, _) = livekit(server, **more), canned_feed(Kind.AUDIO)
        asking: dict[str, Callable[[], Coroutine[Any, Any, Any]]] = {
            "publish": lambda: provider.start_stream("show", feed),
            "view": lambda: provider.join_stream("show"),
        }
        with pytest.raises(CredentialsRejected) as caught:
            await asking[operation]()
        await provider.aclose()
        await feed.aclose()
        told = "".join(traceback.format_exception(caught.value))
        assert caught.value.retry is Retry.NEXT
        assert "eyJ" not in told
        assert len([each for each in server.seen if each.path == "/whip/v1"]) <= 1

    run(test)

    assert [each.renew for each in accesses] == ([False] if given == "expired" else [])


def test_who_was_put_out_learns_that_and_gets_no_fresh_token_by_itself() -> None:
    """What comes next is decided above, by whoever gives out credentials."""

    async def test(server: LiveKitServer) -> None:
        async with on_air(server, self_view=SelfView.OFF) as (_, leg, _):
            minted = len(server.requests("POST"))
            await server.remove("show", "publisher")
            with pytest.raises(MediaLost):
                async with asyncio.timeout(10.0):
                    await leg.lost()
            await asyncio.sleep(0.3)
            after = [each.path for each in server.requests("POST")[minted:]]
            assert "/whip/v1" not in after

    run(test)


def test_a_secret_can_be_fetched_and_its_absence_is_no_secret() -> None:
    """From a vault, for every token."""
    fetched = 0

    async def secret() -> str:
        nonlocal fetched
        fetched += 1
        return SECRET

    async def none() -> str | None:
        raise RuntimeError(SECRET)

    async def test(server: LiveKitServer) -> None:
        async with on_air(server, api_secret=secret) as (provider, _, _):
            view = await provider.join_stream("show")
            await view.aclose()
        assert fetched >= 3
        provider, (feed, _) = livekit(server, api_secret=none), canned_feed(Kind.AUDIO)
        for operation in (
            provider.start_stream("show", feed),
            provider.join_stream("show"),
            provider.check(),
        ):
            with pytest.raises(CredentialsRejected) as caught:
                await operation
            assert caught.value.retry is Retry.NEXT
            assert SECRET not in str(caught.value)
        await provider.aclose()
        await feed.aclose()

    run(test)


def test_checking_asks_for_health_and_for_the_key() -> None:
    """Without a key only the first."""

    async def nothing(access: Access) -> dict[str, Any]:
        return {}

    async def test(server: LiveKitServer) -> None:
        for more in ({}, {"credentials": nothing}):
            provider = livekit(server, **more)
            await provider.check()
            await provider.aclose()
        assert [each.path for each in server.seen] == [
            "/",
            "/twirp/livekit.RoomService/ListRooms",
            "/",
        ]
        provider = livekit(server, api_secret="x" * 40)
        with pytest.raises(CredentialsRejected):
            await provider.check()
        server.health = (406, "Not Ready")
        with pytest.raises(Refused, match="not ready"):
            await provider.check()
        await provider.aclose()

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
