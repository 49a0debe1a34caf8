"""`Agora` and `Zegocloud` with the lab's stand-ins, which verify tokens and serve the APIs."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from canned_media import canned_feed
from speaking_stand import AGORA, ZEGO, unhurried, until

from hitless.errors import CredentialsRejected, Refused, Retry
from hitless.lab.account import Account
from hitless.lab.stand import Stand
from hitless.media.feed import Feed
from hitless.providers.agora import Agora
from hitless.providers.checkup import Verdict
from hitless.providers.conformance import check_provider
from hitless.providers.zegocloud import Zegocloud


LIMIT_S = 60.0


def agora(url: str, **settings: Any) -> Agora:
    """Make an adapter of a stand-in for Agora: WHIP, and its REST API."""
    known = {
        "app_id": AGORA.app_id,
        "certificate": AGORA.certificate,
        "customer_id": AGORA.customer_id,
        "customer_secret": AGORA.customer_secret,
        "api_url": url,
        "ingest": "whip",
        "whip_url": url + "/whip/{stream}",
        "whep_url": url + "/whep/{stream}",
    }
    return Agora(**{**known, **settings})


def zego(url: str, **settings: Any) -> Zegocloud:
    """Make an adapter of a stand-in for ZEGOCLOUD: WHIP, and its server API."""
    known = {
        "app_id": ZEGO.app_id,
        "server_secret": ZEGO.server_secret,
        "api_url": url,
        "ingest": "whip",
        "bearer": "token04",
        "whip_url": url + "/whip/{stream}",
        "whep_url": url + "/whep/{stream}",
    }
    return Zegocloud(**{**known, **settings})


Make = Callable[..., Agora | Zegocloud]

BOTH = pytest.mark.parametrize(("account", "make"), [(AGORA, agora), (ZEGO, zego)])


@pytest.fixture(autouse=True)
def _unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    unhurried(monkeypatch)


def run(account: Account, test: Callable[[Stand, str], Coroutine[Any, Any, None]]) -> None:
    """Run a test with a stand-in of an account, bounded."""

    async def main() -> None:
        stand = Stand("it", account=account, rng=random.Random(1))
        url = await stand.start()
        try:
            async with asyncio.timeout(LIMIT_S):
                await test(stand, url)
        finally:
            await stand.aclose()

    asyncio.run(main())


@BOTH
def test_it_keeps_the_contract(account: Account, make: Make) -> None:
    """The public suite, with real tokens and the API behind it."""

    async def test(stand: Stand, url: str) -> None:
        async def made() -> Agora | Zegocloud:
            return make(url)

        async def feed() -> Feed:
            return canned_feed()[0]

        report = await check_provider(made, feed=feed)
        report.require()

    run(account, test)


@BOTH
@pytest.mark.parametrize("fault", ["token-expired", "token-invalid"])
def test_a_token_that_is_not_taken_is_renewed_once(
    account: Account, make: Make, fault: str
) -> None:
    """The next attempt shows a fresh one, and is let in when the fault is over."""

    async def test(stand: Stand, url: str) -> None:
        provider, (feed, _) = make(url), canned_feed()
        stand.injected.switch(fault, True, {})
        with pytest.raises(CredentialsRejected) as caught:
            await provider.start_stream("show", feed)
        assert caught.value.retry is Retry.SAME
        stand.injected.switch(fault, False, {})
        leg = await provider.start_stream("show", feed)
        await leg.aclose()
        await provider.aclose()
        await feed.aclose()

    run(account, test)


@BOTH
def test_a_provider_that_has_no_room_says_so(account: Account, make: Make) -> None:
    """429 leads to the next provider."""

    async def test(stand: Stand, url: str) -> None:
        provider, (feed, _) = make(url), canned_feed()
        stand.injected.switch("quota", True, {"streams_max": 1})
        await provider.start_stream("one", feed)
        with pytest.raises(Refused) as caught:
            await provider.start_stream("two", feed)
        assert caught.value.retry is Retry.NEXT
        await provider.aclose()
        await feed.aclose()

    run(account, test)


@BOTH
def test_a_checkup_finds_the_account(account: Account, make: Make) -> None:
    """And with a wrong secret, that it is wrong."""

    async def test(stand: Stand, url: str) -> None:
        provider = make(url)
        found = [one async for one in provider.checkup()]
        assert not [one for one in found if one.verdict is Verdict.BAD]
        assert [one.step for one in found if one.verdict is Verdict.WARNING] == ["trap"]
        await provider.aclose()
        wrong = {"customer_secret": "x" * 32} if account is AGORA else {"server_secret": "x" * 32}
        provider = make(url, **wrong)
        found = [one async for one in provider.checkup()]
        assert "control API" in [one.step for one in found if one.verdict is Verdict.BAD]
        await provider.aclose()

    run(account, test)


@BOTH
def test_a_zombie_publisher_is_put_out_for_the_next_attempt(account: Account, make: Make) -> None:
    """It holds the stream; the attempt that met it has failed, and had it thrown out."""

    async def test(stand: Stand, url: str) -> None:
        provider, (feed, _) = make(url), canned_feed()
        stand.injected.switch("zombie-publisher", True, {})
        leg = await provider.start_stream("show", feed)
        await leg.aclose()
        await until(lambda: stand.sessions.roster.is_haunted("show"))
        with pytest.raises(Refused) as caught:
            await provider.start_stream("show", feed)
        assert caught.value.retry is Retry.NEXT
        await until(lambda: not stand.sessions.roster.is_haunted("show"))
        await asyncio.sleep(2.0)  # a forbidden stream is allowed again
        leg = await provider.start_stream("show", feed)
        stand.injected.switch("zombie-publisher", False, {})
        await leg.aclose()
        await provider.aclose()
        await feed.aclose()

    run(account, test)


@BOTH
def test_nobody_is_put_out_by_a_start_that_found_no_room(account: Account, make: Make) -> None:
    """Who is on air is all that there is."""

    async def test(stand: Stand, url: str) -> None:
        older, newer = make(url), make(url)
        feeds = [canned_feed()[0] for _ in range(2)]
        await older.start_stream("show", feeds[0])
        stand.injected.switch("refuse-publishers", True, {})
        with pytest.raises(Refused):
            await newer.start_stream("show", feeds[1])
        await asyncio.sleep(1.0)
        assert [each.stream for each in stand.sessions.on_air] == ["show"]
        for provider, feed in zip((older, newer), feeds, strict=True):
            await provider.aclose()
            await feed.aclose()

    run(account, test)
