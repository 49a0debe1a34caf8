"""Legs at ZEGOCLOUD whose credential ends in mid-stream: known in advance, and left in time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from aiohttp import web
from canned_media import canned_feed
from control_stand_in import Asked, standing_in
from rtmp_server import serving as rtmp_serving
from rtmp_source import Source
from whip_server import WhipServer
from whip_server import serving as whip_serving

from hitless.client.renewal import renew
from hitless.core.events import LegExpiring, OpenLeg, Role
from hitless.errors import CredentialsRejected, Retry
from hitless.media.feed import Feed
from hitless.providers import zego_token
from hitless.providers.base import Expiring, Leg, ViewLeg
from hitless.providers.clock import wall_s
from hitless.providers.credential import Access
from hitless.providers.expiring_legs import ExpiringLeg
from hitless.providers.tickets import TOKEN_S
from hitless.providers.zego_tickets import Tickets
from hitless.providers.zegocloud import Zegocloud


LIMIT_S = 60.0
APP = 1234567890
SECRET = "9193cc662a4c0ec135ec71fb57194b38"
PLAN_S = 600
ORDER = OpenLeg(session="s", leg=1, provider="zegocloud", because="a test")


def now() -> float:
    """Return the loop's time [s]."""
    return asyncio.get_running_loop().time()


def token(ttl_s: int = PLAN_S) -> str:
    """Mint what a control plane gives."""
    return zego_token.mint(APP, "somebody", SECRET, now_s=wall_s(), ttl_s=ttl_s)


async def plan(access: Access) -> dict[str, Any]:
    """Return what a plan has for a stream."""
    named = {"room_id": "show", "stream_id": "show", "user_id": access.role.value}
    return {"app_id": APP, **named, "token": token()}


def at_whip(test: Callable[[WhipServer, Feed], Coroutine[Any, Any, None]]) -> None:
    """Run a test with a WHIP server and a feed, bounded."""

    async def main() -> None:
        feed, _ = canned_feed()
        async with asyncio.timeout(LIMIT_S), whip_serving() as server:
            try:
                await test(server, feed)
            finally:
                await feed.aclose()

    asyncio.run(main())


def whip(server: WhipServer, **settings: Any) -> Zegocloud:
    """Make an adapter by WHIP and WHEP, with a token04 of a plan as Bearer."""
    known = {
        "app_id": APP,
        "credentials": plan,
        "ingest": "whip",
        "bearer": "token04",
        "whip_url": server.url + "/whip/{stream}",
        "whep_url": server.url + "/whep/{stream}",
    }
    return Zegocloud(**{**known, **settings})


async def ends_of(provider: Zegocloud, feed: Feed) -> list[float | None]:
    """Publish and view, and return in what time either leg ends [s]; None: it does not."""
    legs = (await provider.start_stream("show", feed), await provider.join_stream("show"))
    assert isinstance(legs[0], Leg)
    assert isinstance(legs[1], ViewLeg)
    found: list[float | None] = []
    for leg in legs:
        assert isinstance(leg, Expiring)
        found.append(None if leg.expires_s is None else leg.expires_s - now())
    await provider.aclose()
    return found


# --- Which legs end ---


def test_in_kick_mode_both_legs_end_with_the_tokens_of_their_plan() -> None:
    """The end stands in clear in a token04, so that no secret is needed to know it."""

    async def test(server: WhipServer, feed: Feed) -> None:
        for ends_s in await ends_of(whip(server, kick_mode=True), feed):
            assert ends_s is not None
            assert PLAN_S - LIMIT_S < ends_s <= PLAN_S + 1.0

    at_whip(test)


def test_in_kick_mode_both_legs_end_with_the_tokens_that_were_minted_here() -> None:
    """They last some hours."""

    async def test(server: WhipServer, feed: Feed) -> None:
        minting = {"credentials": None, "server_secret": SECRET, "api_url": server.url}
        for ends_s in await ends_of(whip(server, kick_mode=True, **minting), feed):
            assert ends_s is not None
            assert TOKEN_S - LIMIT_S < ends_s <= TOKEN_S + 1.0

    at_whip(test)


def test_otherwise_a_session_outlasts_its_token() -> None:
    """It is ZEGOCLOUD's default; a planned move would be a gap for nothing."""

    async def test(server: WhipServer, feed: Feed) -> None:
        assert await ends_of(whip(server), feed) == [None, None]

    at_whip(test)


def test_a_session_by_the_signed_address_ends_with_it() -> None:
    """Unconfirmed, so that it is not relied on that it goes on."""

    async def test(server: WhipServer, feed: Feed) -> None:
        async def shorten(request: web.Request) -> web.StreamResponse | None:
            if request.method == "POST" and request.path.startswith("/whip/v1/"):
                return await server.publish("show", await request.text())
            return None

        server.intercept = shorten
        signed = {"bearer": "signed", "whip_url": server.url, "api_url": server.url}
        provider = whip(server, credentials=None, server_secret=SECRET, whep_url=None, **signed)
        leg = await provider.start_stream("show", feed)
        assert isinstance(leg, ExpiringLeg)
        assert leg.expires_s is not None
        assert TOKEN_S - LIMIT_S < leg.expires_s - now() <= TOKEN_S + 1.0
        await provider.aclose()

    at_whip(test)


def test_a_push_by_rtmp_does_not_end() -> None:
    """There is no credential in a node's address, nor of the room's users in a push."""

    async def main() -> None:
        source = Source()
        async with asyncio.timeout(LIMIT_S), rtmp_serving() as rtmp:

            async def console(asked: Asked) -> web.StreamResponse:
                nodes = [rtmp.url.replace("/live/", f"/{APP}/").replace("{stream}", "show")]
                return web.json_response(
                    {"Code": 0, "Message": "", "RequestId": "", "Data": nodes}
                )

            async with standing_in(console) as api:
                provider = Zegocloud(
                    app_id=APP, server_secret=SECRET, api_url=api.origin, kick_mode=True
                )
                leg = await provider.start_stream("show", source.feed)
                assert not isinstance(leg, Expiring)
                await provider.aclose()
            await source.feed.aclose()

    asyncio.run(main())


# --- What becomes of them ---


def test_a_leg_that_ends_leads_to_a_planned_move() -> None:
    """Before its end: an open session takes no new credential, and says so with every try."""

    async def test(server: WhipServer, feed: Feed) -> None:
        provider = whip(server, kick_mode=True)
        leg = await provider.start_stream("show", feed)
        assert isinstance(leg, ExpiringLeg)
        with pytest.raises(CredentialsRejected, match="no new credential") as caught:
            await leg.renew()
        assert caught.value.retry is Retry.NEXT
        leg.expires_s = now() + 0.8
        told: list[Any] = []
        await asyncio.wait_for(renew(ORDER, leg, told.append), LIMIT_S)
        assert [type(event) for event in told] == [LegExpiring]
        assert "no new credential" in told[0].because
        assert token() not in told[0].because
        await provider.aclose()

    at_whip(test)


# --- When a token ends ---


@pytest.mark.parametrize(
    "text", ["", "t", "04", "04AAAA", "03" + "A" * 80, "04ü", "04" + "A" * 41]
)
def test_a_token_that_cannot_be_read_has_no_known_end(text: str) -> None:
    """It may be of another kind: the servers judge it."""

    async def other(access: Access) -> dict[str, Any]:
        return {"app_id": APP, "stream_id": "show", "token": text}

    async def main() -> None:
        tickets = Tickets(
            "zegocloud", app_id=APP, server_secret=None, credentials=other,
            stream_name="{stream}", user="publisher",
        )  # fmt: skip
        access = Access(provider="zegocloud", stream="show", role=Role.VIEWER)
        assert (await tickets.ticket(access)).ends_s is None

    assert zego_token.ends_s(text) is None
    asyncio.run(main())


def test_the_end_of_a_token_is_read_without_its_secret() -> None:
    """As the verifier reads it."""
    made = zego_token.mint(APP, "somebody", SECRET, now_s=1_700_000_000, ttl_s=90)
    assert zego_token.ends_s(made) == zego_token.read(made, SECRET).expires_s == 1_700_000_090
