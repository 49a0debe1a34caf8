"""Runs of the adapter for Janus against its stand-in; nothing may be left of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from canned_media import canned_feed
from unit.providers.janus_stand_in import StandIn, standing_in

from hitless.errors import HitlessError, Retry
from hitless.media.frame import Kind
from hitless.providers.janus import Janus


LIMIT_S = 10.0


def run(test: Callable[[StandIn], Coroutine[Any, Any, None]], **settings: Any) -> None:
    """Run a test with a stand-in of its own; nothing may be left of it."""

    async def main() -> None:
        mine = asyncio.all_tasks()
        async with asyncio.timeout(3 * LIMIT_S), standing_in(**settings) as stand_in:
            await test(stand_in)
        left = [each.get_name() for each in asyncio.all_tasks() - mine]
        assert [name for name in left if "janus" in name] == []

    asyncio.run(main())


def janus(stand_in: StandIn, **settings: Any) -> Janus:
    """Make a provider of a stand-in."""
    return Janus(url=stand_in.url, **settings)


async def publish_fails(stand_in: StandIn, **settings: Any) -> HitlessError:
    """Publish, and return the error."""
    provider, (feed, _) = janus(stand_in, **settings), canned_feed(Kind.AUDIO)
    with pytest.raises(HitlessError) as caught:
        await provider.start_stream("show", feed)
    await provider.aclose()
    await feed.aclose()
    return caught.value


async def view_fails(stand_in: StandIn, **settings: Any) -> HitlessError:
    """View, and return the error."""
    provider = janus(stand_in, **settings)
    with pytest.raises(HitlessError) as caught:
        await provider.join_stream("show")
    await provider.aclose()
    return caught.value


async def until(condition: Callable[[], Any]) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(LIMIT_S):
        while not condition():  # noqa: ASYNC110 -- conditions are of many kinds
            await asyncio.sleep(0.005)


def now() -> float:
    """Return the loop's time [s]."""
    return asyncio.get_running_loop().time()


SAME, NEXT = Retry.SAME, Retry.NEXT
