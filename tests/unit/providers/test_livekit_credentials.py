"""hitless.providers.livekit: tokens that are minted, given, rejected or taken back."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from canned_media import canned_feed
from livekit_stand_in import KEY, SECRET, Guest, LiveKitServer, livekit
from unit.providers.livekit_runs import BOTH, asked, on_air, run, token_of

from hitless.core.events import Role
from hitless.core.policy import SelfView
from hitless.errors import ConfigError, CredentialsRejected, MediaLost, Refused, Retry
from hitless.media.frame import Kind
from hitless.providers.credential import Access


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
