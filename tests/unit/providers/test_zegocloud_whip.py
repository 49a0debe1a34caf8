"""`Zegocloud`: WHIP and WHEP with tokens, its own and those of a plan."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from aiohttp import web
from canned_media import canned_feed
from unit.providers.account_runs import LIMIT_S, at_whip
from unit.providers.zego_console import APP, SECRET, USER, assert_untold
from whip_server import WhipServer

from hitless.core.events import Role
from hitless.errors import CredentialsRejected, Retry
from hitless.media.feed import Feed
from hitless.providers import zego_token
from hitless.providers.clock import wall_s
from hitless.providers.conformance import check_provider
from hitless.providers.credential import Access
from hitless.providers.zego_tickets import TOKEN_S
from hitless.providers.zego_whip import bearer
from hitless.providers.zegocloud import Zegocloud


def guard(server: WhipServer) -> list[tuple[str, str]]:
    """Make a server let in who shows a token04 for that stream and role; note who came."""
    came: list[tuple[str, str]] = []

    async def intercept(request: web.Request) -> web.StreamResponse | None:
        if request.method != "POST":
            return None
        verb, stream = request.path.split("/")[1:3]
        text = request.headers.get("Authorization", "").removeprefix("Bearer ")
        try:
            token = zego_token.read(text, SECRET)
        except zego_token.ZegoTokenRefused:
            return web.Response(status=401)
        is_allowed = (
            token.may_publish(stream, stream, wall_s())
            if verb == "whip"
            else token.may_login(stream, wall_s())
        )
        if token.app_id != APP or not is_allowed:
            return web.Response(status=403)
        came.append((verb, token.user_id))
        return None

    server.intercept = intercept
    return came


def whip(server: WhipServer, **settings: Any) -> Zegocloud:
    """Make an adapter of a WHIP server that takes a token04."""
    known = {
        "app_id": APP,
        "server_secret": SECRET,
        "ingest": "whip",
        "bearer": "token04",
        "whip_url": server.url + "/whip/{stream}",
        "whep_url": server.url + "/whep/{stream}",
        "api_url": server.url,
    }
    return Zegocloud(**{**known, **settings})


def without_api(server: WhipServer, **settings: Any) -> Zegocloud:
    """Make one that calls no server API: a plan brings its tokens."""

    async def plan(access: Access) -> dict[str, Any]:
        allowed = zego_token.privileges_of(access.role, room_id="show-7", stream_id="show-7")
        user = f"{access.role.value}-{USER}"
        token = zego_token.mint(
            APP,
            user,
            SECRET,
            now_s=wall_s(),
            ttl_s=600,
            payload=zego_token.payload_of(allowed),
        )
        named = {"room_id": "show-7", "stream_id": "show-7", "user_id": user}
        return {"app_id": APP, **named, "token": token, "epoch": 7}

    return whip(server, **{"server_secret": None, "credentials": plan, **settings})


def test_it_keeps_the_contract_by_whip() -> None:
    """The public suite, against a stand-in that verifies every token."""

    async def test(server: WhipServer) -> None:
        came = guard(server)

        async def make() -> Zegocloud:
            return whip(server)

        async def feed() -> Feed:
            return canned_feed()[0]

        report = await check_provider(make, feed=feed)
        report.require()
        assert {verb for verb, _ in came} == {"whip", "whep"}

    at_whip(test)


def test_a_plan_says_stream_and_token() -> None:
    """It is published under the plan's name, which carries the epoch."""

    async def test(server: WhipServer) -> None:
        came = guard(server)
        provider, (feed, _) = without_api(server), canned_feed()
        await provider.start_stream("show", feed)
        view = await provider.join_stream("show")
        frame = await anext(view.frames())
        assert feed.is_own(frame.data)
        assert set(server.feeds) == {"show-7"}
        assert set(came) == {("whip", f"publisher-{USER}"), ("whep", f"viewer-{USER}")}
        await provider.aclose()
        await feed.aclose()

    at_whip(test)


def test_a_token_of_another_secret_is_rejected() -> None:
    """Once more with a new one, then the next provider; it is not told."""

    async def test(server: WhipServer) -> None:
        guard(server)
        provider = whip(server, server_secret="x" * 32)
        feed, _ = canned_feed()
        with pytest.raises(CredentialsRejected) as caught:
            await provider.start_stream("show", feed)
        assert_untold(caught.value)
        assert "x" * 32 not in str(caught.value)
        await provider.aclose()
        await feed.aclose()

    at_whip(test)


def test_the_documented_address_and_bearer_belong_to_one_request() -> None:
    """Unconfirmed at ZEGOCLOUD: this is what its page describes, and no more."""

    async def test(server: WhipServer) -> None:
        async def shorten(request: web.Request) -> web.StreamResponse | None:
            if request.method == "POST" and request.path.startswith("/whip/v1/"):
                body = await request.text()
                return await server.publish(request.path.split("/")[4], body)
            return None

        server.intercept = shorten
        provider = whip(server, bearer="signed", whip_url=server.url, whep_url=None)
        feed, _ = canned_feed()
        leg = await provider.start_stream("show", feed)
        sent = server.requests("POST")[0]
        parts = urlsplit(sent.path)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        assert parts.path == f"/whip/v1/{APP}/show"
        assert (query["userId"], query["zgVer"]) == ("publisher", "v1")
        assert abs(int(query["zgExpired"]) - wall_s() - TOKEN_S) < LIMIT_S
        expected = bearer(
            app_id=APP,
            stream="show",
            expires_s=int(query["zgExpired"]),
            nonce=query["zgNonce"],
            key=SECRET,
        )
        assert sent.headers["Authorization"] == f"Bearer {expected}"
        await leg.aclose()
        again = await provider.start_stream("show", feed)
        assert server.requests("POST")[-1].path != sent.path
        assert server.requests("DELETE")[0].path.startswith("/session/")
        await again.aclose()
        await provider.aclose()
        await feed.aclose()

    at_whip(test)


def test_publishing_by_the_documented_whip_needs_the_secret() -> None:
    """A plan's token04 is not what that endpoint takes."""

    async def test(server: WhipServer) -> None:
        provider = without_api(server, bearer="signed", whip_url=server.url)
        feed, _ = canned_feed()
        with pytest.raises(CredentialsRejected, match="server_secret"):
            await provider.start_stream("show", feed)
        assert server.seen == []
        await provider.aclose()
        await feed.aclose()

    at_whip(test)


def test_a_plan_for_another_project_is_no_plan() -> None:
    """Its stream would be somewhere else."""

    async def plan(access: Access) -> dict[str, Any]:
        return {"app_id": APP + 1, "stream_id": "show", "token": "t"}

    async def test(server: WhipServer) -> None:
        provider = whip(server, credentials=plan)
        feed, _ = canned_feed()
        with pytest.raises(CredentialsRejected, match="App ID") as caught:
            await provider.start_stream("show", feed)
        assert caught.value.retry is Retry.NEXT
        assert server.seen == []
        await provider.aclose()
        await feed.aclose()

    at_whip(test)


def test_roles_that_are_asked_for_reach_the_plan_as_they_are() -> None:
    """A publisher's own view is a viewer's access."""

    async def test(server: WhipServer) -> None:
        guard(server)
        asked: list[tuple[str, Role]] = []
        inner = without_api(server)
        known = inner.tickets._credentials
        assert known is not None

        async def plan(access: Access) -> dict[str, Any]:
            asked.append((access.stream, access.role))
            return dict(await known(access))

        provider = without_api(server, credentials=plan)
        feed, _ = canned_feed()
        await provider.start_stream("show", feed)
        assert asked == [("show", Role.PUBLISHER), ("show", Role.VIEWER)]
        await provider.aclose()
        await feed.aclose()

    at_whip(test)
