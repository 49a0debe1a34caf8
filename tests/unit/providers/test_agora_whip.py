"""`Agora`: WHIP and WHEP with an AccessToken2, at stand-ins only."""

from __future__ import annotations

import traceback
from typing import Any

import pytest
from aiohttp import web
from canned_media import canned_feed
from unit.providers.account_runs import LIMIT_S, at_whip, now
from unit.providers.agora_console import APP, CERTIFICATE, KEY, SECRET
from whip_server import WhipServer

from hitless.core.events import Role
from hitless.errors import CredentialsRejected, Retry
from hitless.media.feed import Feed
from hitless.providers import agora_token
from hitless.providers.agora import Agora
from hitless.providers.agora_tickets import TOKEN_S
from hitless.providers.base import Expiring
from hitless.providers.clock import wall_s
from hitless.providers.conformance import check_provider
from hitless.providers.credential import Access


def guard(server: WhipServer, *, refused: set[str] | None = None) -> list[tuple[str, str]]:
    """Make a server let in who shows a token for that channel and role; note who came."""
    came: list[tuple[str, str]] = []

    async def intercept(request: web.Request) -> web.StreamResponse | None:
        if request.method != "POST":
            return None
        verb, channel = request.path.split("/")[1:3]
        bearer = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if refused is not None and bearer in refused:
            return web.Response(status=401)
        try:
            token = agora_token.read(bearer, CERTIFICATE)
        except agora_token.AgoraTokenRefused:
            return web.Response(status=401)
        uid = token.services[0].names[1]
        wanted = (
            agora_token.Privilege.PUBLISH_VIDEO if verb == "whip" else agora_token.Privilege.JOIN
        )
        if token.app_id != APP or not token.may(wanted, channel, uid, wall_s()):
            return web.Response(status=403)
        came.append((verb, uid))
        return None

    server.intercept = intercept
    return came


def whip(server: WhipServer, **settings: Any) -> Agora:
    """Make an adapter of a WHIP server."""
    known = {
        "app_id": APP,
        "certificate": CERTIFICATE,
        "ingest": "whip",
        "whip_url": server.url + "/whip/{stream}",
        "whep_url": server.url + "/whep/{stream}",
    }
    return Agora(**{**known, **settings})


def test_it_keeps_the_contract_by_whip() -> None:
    """The public suite, against a stand-in that verifies every token."""

    async def test(server: WhipServer) -> None:
        came = guard(server)

        async def make() -> Agora:
            return whip(server)

        async def feed() -> Feed:
            return canned_feed()[0]

        report = await check_provider(make, feed=feed)
        report.require()
        assert {verb for verb, _ in came} == {"whip", "whep"}

    at_whip(test)


def test_the_publisher_is_always_the_same_user_and_every_viewer_another() -> None:
    """The second of one uid puts out the first; viewers are never in the publishers' range."""

    async def test(server: WhipServer) -> None:
        came = guard(server)
        provider, (feed, _) = whip(server, uid=5), canned_feed()
        leg = await provider.start_stream("show", feed)
        views = [await provider.join_stream("show") for _ in range(2)]
        assert {uid for verb, uid in came if verb == "whip"} == {"5"}
        viewers = [int(uid) for verb, uid in came if verb == "whep"]
        assert len(set(viewers)) == 3  # its own view, and two others
        assert all(uid >= 1 << 16 for uid in viewers)
        for one in (leg, *views):
            assert isinstance(one, Expiring)
            assert one.expires_s is not None
            assert abs(one.expires_s - now() - TOKEN_S) < LIMIT_S
        await provider.aclose()
        await feed.aclose()

    at_whip(test)


def test_a_plan_says_channel_and_token_and_is_renewed_once() -> None:
    """A token that is rejected is asked for anew, and with it the channel's name."""

    async def test(server: WhipServer) -> None:
        old = token_for("show-1", Role.PUBLISHER)
        came = guard(server, refused={old})
        asked: list[Access] = []

        async def plan(access: Access) -> dict[str, Any]:
            asked.append(access)
            epoch = 2 if access.renew or access.role is Role.VIEWER else 1
            channel = f"show-{epoch}"
            token = old if epoch == 1 else token_for(channel, access.role)
            return {"app_id": APP, "channel": channel, "uid": 9, "token": token, "epoch": epoch}

        provider = whip(server, certificate=None, credentials=plan)
        feed, _ = canned_feed()
        with pytest.raises(CredentialsRejected) as caught:
            await provider.start_stream("show", feed)
        assert caught.value.retry is Retry.SAME
        assert old not in "".join(traceback.format_exception(caught.value))
        leg = await provider.start_stream("show", feed)
        assert leg.expires_s is not None
        assert abs(leg.expires_s - now() - 600) < LIMIT_S
        assert [access.stream for access in asked] == ["show"] * len(asked)
        assert [access.renew for access in asked if access.role is Role.PUBLISHER] == [False, True]
        assert ("whip", "9") in came
        assert "show-2" in server.feeds
        await provider.aclose()
        await feed.aclose()

    at_whip(test)


def token_for(channel: str, role: Role) -> str:
    """Mint what a control plane gives."""
    service = agora_token.rtc(channel, 9, role, 600)
    return agora_token.mint(APP, CERTIFICATE, [service], now_s=wall_s(), ttl_s=600)


async def _broken_plan(access: Access) -> dict[str, Any]:
    raise RuntimeError(f"with {SECRET} inside")


def test_a_function_that_fails_tells_no_secret() -> None:
    """Only the type of its error is told."""

    async def test(server: WhipServer) -> None:
        feed, _ = canned_feed()
        for provider in (
            whip(server, credentials=_broken_plan),
            Agora(app_id=APP, stream_key=KEY, credentials=_broken_plan),
        ):
            with pytest.raises(CredentialsRejected, match="RuntimeError") as caught:
                await provider.start_stream("show", feed)
            assert SECRET not in str(caught.value) + repr(vars(caught.value))
            await provider.aclose()
        await feed.aclose()

    at_whip(test)
