"""`Whip` and servers of known makes: stand-ins that deviate as they do, with real media."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from aiohttp import web
from canned_media import canned_feed
from unit.providers.whip_makes import (
    EVERY,
    BroadcastBox,
    Cloudflare,
    LiveKitIngress,
    LiveKitWhip,
    Make,
    MediaMtx,
    Meetecho,
    Millicast,
    OlderMediaMtx,
    OvenMedia,
    Srs,
    page,
    says,
    serving,
)

from hitless.core.policy import SelfView
from hitless.errors import (
    ContractBroken,
    CredentialsRejected,
    HitlessError,
    MediaLost,
    NotOnAir,
    ProviderError,
    Refused,
    Retry,
    Unreachable,
)
from hitless.media.feed import Feed
from hitless.media.frame import Codec, Kind
from hitless.providers.base import ViewLeg
from hitless.providers.whip import Whip


LIMIT_S = 10.0
"""Every single wait: the machine may be busy."""


def run(kind: type[Make], test: Callable[[Any], Coroutine[Any, Any, None]], **more: Any) -> None:
    """Run a test with a stand-in of its own, bounded; nothing may be left of it."""

    async def main() -> None:
        mine = asyncio.all_tasks()
        async with asyncio.timeout(3 * LIMIT_S), serving(kind, **more) as server:
            await test(server)
        assert [task for task in asyncio.all_tasks() - mine if "server" in task.get_name()] == []

    asyncio.run(main())


async def own_frames(view: ViewLeg, feed: Feed, count: int = 10) -> None:
    """Wait until a viewer got so many frames of a feed."""
    async with asyncio.timeout(LIMIT_S):
        async for frame in view.frames():
            count -= feed.is_own(frame.data)
            if count == 0:
                return


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(LIMIT_S):
        while not condition():  # noqa: ASYNC110 -- conditions are of many kinds
            await asyncio.sleep(0.005)


async def refusal(provider: Whip, *, view: bool = False) -> HitlessError:
    """Publish or view, expect an error, close, return it."""
    feed, _ = canned_feed(Kind.AUDIO)
    try:
        with pytest.raises(HitlessError) as caught:
            await (provider.join_stream("show") if view else provider.start_stream("show", feed))
        return caught.value
    finally:
        await provider.aclose()
        await feed.aclose()


# --- Publish, view, end ---


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.__name__)
def test_a_stream_is_published_viewed_and_ended(kind: type[Make]) -> None:
    """
    Own frames prove it where it can be viewed, receiver reports elsewhere. Nothing is asked for
    that a make does not offer, and nothing is left on air.
    """

    async def test(server: Make) -> None:
        provider, (feed, _) = server.provider(first_media_s=LIMIT_S), canned_feed(Kind.AUDIO)
        leg = await provider.start_stream("show", feed)
        assert ("audio" in leg.liveness._signs) is server.views
        if server.views:
            view = await provider.join_stream("show")
            await own_frames(view, feed)
            await view.aclose()
        await leg.aclose()
        await provider.aclose()
        await until(lambda: not server.sessions and not server.publishers)
        await feed.aclose()
        assert {each.method for each in server.seen} == {"POST", "DELETE"}
        posts = [each for each in server.requests("POST") if not each.path.startswith("/whep/")]
        tokens = {each.headers.get("Authorization") for each in posts}
        assert tokens == {f"Bearer {server.token}" if server.token else None}

    run(kind, test)


@pytest.mark.parametrize(
    ("kind", "paths"),
    [
        (Meetecho, ["/whip/resource/show"]),
        (MediaMtx, ["/show/whep/secret-2", "/show/whip/secret-1"]),
        (OlderMediaMtx, ["/show/whep/secret-2", "/show/whip/secret-1"]),
        (LiveKitWhip, ["/whip/v1/PA_1"]),
        (LiveKitIngress, ["/w/show/1"]),
        (
            Cloudflare,
            [
                "/5ecret0fTheV1ewer/webRTC/play/2",
                "/5ecret0fThePubl1sher/webRTC/publish/1",
            ],
        ),
        (
            Srs,
            [
                "/rtc/v1/whip/?action=delete&token=t0ken&session=2",
                "/rtc/v1/whip/?action=delete&token=t0ken&session=1",
            ],
        ),
        (OvenMedia, ["/app/show/1"]),
        (Millicast, ["/session/2", "/session/1"]),
        (BroadcastBox, ["/api/whep", "/api/whip"]),
    ],
    ids=lambda each: each.__name__ if isinstance(each, type) else "",
)
def test_the_end_goes_where_the_server_said(kind: type[Make], paths: list[str]) -> None:
    """One DELETE for each session, the view's first; with the token, unless to another host."""

    async def test(server: Make) -> None:
        settings = {"first_media_s": LIMIT_S, "self_view": SelfView.OFF}
        provider, (feed, _) = server.provider(**settings), canned_feed(Kind.AUDIO)
        leg = await provider.start_stream("show", feed)
        if server.views:
            await until(lambda: "show" in server.feeds)
            await (await provider.join_stream("show")).aclose()
        await leg.aclose()
        await provider.aclose()
        await feed.aclose()
        ends = server.requests("DELETE")
        assert [each.path for each in ends] == paths
        may = server.token is not None and kind is not Millicast
        token = f"Bearer {server.token}" if may else None
        assert {each.headers.get("Authorization") for each in ends} == {token}

    run(kind, test)


def test_another_host_that_ends_nothing_ends_with_its_media() -> None:
    """
    Millicast's: it may want the token that we send to the configured host only. Then the far side
    learns by DTLS.
    """

    async def test(server: Make) -> None:
        provider, (feed, _) = server.provider(first_media_s=LIMIT_S), canned_feed(Kind.AUDIO)

        async def intercept(request: web.Request) -> web.StreamResponse | None:
            return says(401) if request.method == "DELETE" else None

        server.intercept = intercept
        leg = await provider.start_stream("show", feed)
        await leg.aclose()
        await provider.aclose()
        await until(lambda: not server.sessions)
        await feed.aclose()

    run(Millicast, test)


# --- No ---


@pytest.mark.parametrize("kind", [Meetecho, MediaMtx, LiveKitWhip, LiveKitIngress, Millicast])
@pytest.mark.parametrize("token", ["another-token", None])
def test_a_wrong_token_is_rejected(kind: type[Make], token: str | None) -> None:
    """By 401 or 403, with a challenge, JSON or plain words, at once or after a pause."""

    async def test(server: Make) -> None:
        exc = await refusal(server.provider(token=token, first_media_s=LIMIT_S))
        assert type(exc) is CredentialsRejected
        assert exc.retry is Retry.NEXT
        assert "another-token" not in str(exc)

    run(kind, test)


def test_a_token_that_can_be_fetched_again_is_fetched_again() -> None:
    """Also when the no came late and as a challenge for something else."""

    async def test(server: Make) -> None:
        tokens = iter(["old-token", server.token])

        async def token() -> str | None:
            return next(tokens)

        provider, (feed, _) = server.provider(token=token), canned_feed(Kind.AUDIO)
        with pytest.raises(CredentialsRejected) as caught:
            await provider.start_stream("show", feed)
        assert caught.value.retry is Retry.SAME
        await provider.start_stream("show", feed)
        await provider.aclose()
        await feed.aclose()

    run(MediaMtx, test)


def test_a_no_that_takes_longer_than_the_attempt_is_no_answer() -> None:
    """MediaMTX pauses before it says no; whoever is in a hurry learns less."""

    async def test(server: Make) -> None:
        exc = await refusal(server.provider(token=None, first_media_s=0.3))
        assert type(exc) is Unreachable
        assert not exc.answered

    run(MediaMtx, test, pause_s=1.0)


def test_a_missing_key_may_look_like_a_bad_offer() -> None:
    """Broadcast Box says 400; the advice is in the words."""

    async def test(server: Make) -> None:
        exc = await refusal(server.provider(token=None))
        assert type(exc) is ContractBroken
        assert exc.retry is Retry.NEXT
        assert "Authorization was not set" in str(exc)
        assert "or it wants a token" in str(exc)

    run(BroadcastBox, test)


def test_a_key_for_each_stream_comes_from_the_credentials() -> None:
    """At Broadcast Box the token is all that tells streams apart."""

    async def test(server: Make) -> None:
        async def credentials(access: Any) -> dict[str, Any]:
            return {"token": f"key-of-{access.stream}"}

        provider = server.provider(token=None, credentials=credentials, first_media_s=LIMIT_S)
        feed, _ = canned_feed(Kind.AUDIO)
        await provider.start_stream("show", feed)
        await own_frames(await provider.join_stream("show"), feed)
        await provider.aclose()
        await feed.aclose()

    run(BroadcastBox, test, token="key-of-show")


def test_a_second_publisher_is_told_that_the_stream_is_taken() -> None:
    """Meetecho's: by the same 403 as for a wrong token."""

    async def test(server: Make) -> None:
        first, (feed, _) = server.provider(first_media_s=LIMIT_S), canned_feed(Kind.AUDIO)
        leg = await first.start_stream("show", feed)
        exc = await refusal(server.provider())
        assert isinstance(exc, ProviderError)
        assert exc.retry is Retry.NEXT
        assert "Endpoint ID already in use" in str(exc)
        assert "or the stream is taken" in str(exc)
        assert leg.liveness.quiet(asyncio.get_running_loop().time()) is None
        await first.aclose()
        await feed.aclose()

    run(Meetecho, test)


MEANING: list[tuple[type[Make], web.Response, type, Retry, str]] = [
    (Meetecho, says(404, "Invalid endpoint ID"), Refused, Retry.NEXT, "Invalid endpoint ID"),
    (Meetecho, says(406, "Unsupported content type"), ContractBroken, Retry.NEXT, "Unsupported"),
    (Meetecho, page(400), ContractBroken, Retry.NEXT, "Cannot do that"),
    (Meetecho, says(503, "Janus unavailable"), Refused, Retry.SAME, "Janus unavailable"),
    (MediaMtx, says(400, "invalid Content-Type"), ContractBroken, Retry.NEXT, "Content-Type"),
    (MediaMtx, says(405), Refused, Retry.NEXT, "405"),
    (MediaMtx, says(301, Location="/show/whip/"), ContractBroken, Retry.NEXT, "301"),
    (LiveKitWhip, says(400, "room name cannot be empty"), ContractBroken, Retry.NEXT, "room"),
    (LiveKitWhip, says(500, "could not find node"), Refused, Retry.SAME, "node"),
    (LiveKitWhip, says(503, "no response from servers"), Refused, Retry.SAME, "no response"),
    (Srs, web.json_response({"code": 0, "sdp": "v=0"}), ContractBroken, Retry.NEXT, "HTTP 200"),
    (Srs, web.json_response({"code": 400}, status=400), ContractBroken, Retry.NEXT, "400"),
    (Millicast, says(406, "Accept must have it"), ContractBroken, Retry.NEXT, "Accept"),
    (Millicast, says(429, "too many", Retry_After="3"), Refused, Retry.NEXT, "too many"),
    (BroadcastBox, page(404), Refused, Retry.NEXT, "404"),
]


@pytest.mark.parametrize(
    "case", range(len(MEANING)), ids=[f"{each[0].__name__}-{each[1].status}" for each in MEANING]
)
def test_a_no_means_what_its_class_says(case: int) -> None:
    """Whatever its body is; the words are kept for whoever reads the log."""
    kind, answer, error, retry, words = MEANING[case]

    async def test(server: Make) -> None:
        async def intercept(request: web.Request) -> web.StreamResponse:
            return web.Response(status=answer.status, body=answer.body, headers=answer.headers)

        server.intercept = intercept
        exc = await refusal(server.provider())
        assert type(exc) is error
        assert isinstance(exc, ProviderError)
        assert exc.retry is retry
        assert words in str(exc)
        assert len(server.seen) == 1  # it was not asked twice

    run(kind, test)


@pytest.mark.parametrize("kind", [each for each in EVERY if each.views])
def test_nobody_on_air_is_not_the_servers_fault(kind: type[Make]) -> None:
    """404 or 409: the viewer waits."""

    async def test(server: Make) -> None:
        assert type(await refusal(server.provider(), view=True)) is NotOnAir

    run(kind, test)


def test_where_nothing_can_be_viewed_a_viewer_is_told_so() -> None:
    """LiveKit's own WHIP: there is no WHEP beside it, so nobody is on air there."""

    async def test(server: Make) -> None:
        assert type(await refusal(server.provider(), view=True)) is NotOnAir
        assert server.seen[0].path == "/whep/v1"

    run(LiveKitWhip, test)


# --- Credentials ---


@pytest.mark.parametrize("view", [False, True])
def test_a_credential_in_the_url_is_not_told(view: bool) -> None:
    """Cloudflare's: neither by us, nor if the server repeats it."""

    async def test(server: Make) -> None:
        provider = server.provider(
            url=server.url + "/5ecret0fNobody/webRTC/publish",
            view_url=server.url + "/5ecret0fNobody/webRTC/play",
        )
        assert "5ecret" not in repr(provider)
        assert "5ecret" not in "".join(provider.endpoints())
        exc = await refusal(provider, view=view)
        assert server.seen[0].path.startswith("/5ecret0fNobody/")
        assert "404" in str(exc)
        assert "5ecret" not in str(exc)

    run(Cloudflare, test)


def test_h264_is_offered_as_the_profile_that_everybody_takes() -> None:
    """Cloudflare takes constrained baseline 3.1 only, so it comes first."""

    async def test(server: Make) -> None:
        feed, _ = canned_feed(codec=Codec.H264)
        provider = server.provider(first_media_s=LIMIT_S, video_codec=Codec.H264)
        await provider.start_stream("show", feed)
        await own_frames(await provider.join_stream("show"), feed)
        await provider.aclose()
        await feed.aclose()

    run(Cloudflare, test, codec=Codec.H264)


# --- Relays and other links ---


@pytest.mark.parametrize(
    ("kind", "urls"),
    [
        (OvenMedia, "turn:relay.example.net:3478?transport=tcp"),
        (LiveKitWhip, "turn:turn.example.net:443?transport=tcp"),
    ],
)
def test_a_relay_that_only_the_answer_names_is_used_by_the_next_attempt(
    kind: type[Make], urls: str
) -> None:
    """By TCP, from an address that may be escaped; the first attempt says to try again."""

    async def test(server: Make) -> None:
        provider, (feed, _) = server.provider(first_media_s=0.8), canned_feed(Kind.AUDIO)
        with pytest.raises(MediaLost) as caught:
            await provider.start_stream("show", feed)
        assert caught.value.retry is Retry.SAME
        assert not caught.value.answered
        assert "relay-pass" not in repr(caught.value) + repr(provider._learnt)
        far = provider._url.with_host("example.com")  # loopback needs no relay
        settings = provider._settings("publish", far, provider._liveness())
        (relay,) = settings["ice_servers"]
        assert (relay.urls, relay.username, relay.credential) == (urls, "u", "relay-pass")
        await provider.aclose()
        await feed.aclose()

    run(kind, test, is_reachable=False)


def test_links_to_something_else_are_no_relays() -> None:
    """Broadcast Box names its events, without a scheme."""

    async def test(server: Make) -> None:
        provider, (feed, _) = server.provider(first_media_s=LIMIT_S), canned_feed(Kind.AUDIO)
        await provider.start_stream("show", feed)
        assert provider._learnt == ()
        await provider.aclose()
        await feed.aclose()
        assert {each.method for each in server.seen} == {"POST", "DELETE"}

    run(BroadcastBox, test)
