"""Legs of LiveKit through the process of its package, with the stand-in of the package inside."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from canned_media import canned_feed
from livekit_stand_in import KEY, SECRET

from hitless.media.feed import Feed
from hitless.media.frame import EncodedFrame, Kind
from hitless.providers.base import Leg, ViewLeg
from hitless.providers.clock import wall_s
from hitless.providers.credential import Access
from hitless.providers.livekit import LiveKit
from hitless.providers.livekit_token import mint, publisher_grants, viewer_grants


LIMIT_S = 60.0
STAND_IN = Path(__file__).parent / "livekit_sdk_stand_in"
CLOSED_S = 5.0
"""Leaving takes 2 s at most; twice that and more on a machine that is too busy to tell."""


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the stand-in where the package would be installed."""
    monkeypatch.syspath_prepend(str(STAND_IN))
    monkeypatch.setenv("PYTHONPATH", str(STAND_IN))


async def planned(access: Access) -> dict[str, Any]:
    """Return what a plan says: a token, and no key."""
    is_viewer = access.role == "viewer"
    grants = viewer_grants(access.stream) if is_viewer else publisher_grants(access.stream)
    name = "viewer" if is_viewer else "publisher"
    return {"token": mint(KEY, SECRET, grants, now_s=wall_s(), ttl_s=60.0, identity=name)}


def by_sdk(**settings: Any) -> LiveKit:
    """Return a provider that needs no server."""
    return LiveKit(
        **{"url": "ws://127.0.0.1:9", "credentials": planned, "media": "sdk", **settings}
    )


def run(test: Callable[[LiveKit], Coroutine[Any, Any, None]], **settings: Any) -> None:
    """Run a test, bounded."""

    async def main() -> None:
        provider = by_sdk(**settings)
        try:
            async with asyncio.timeout(LIMIT_S):
                await test(provider)
        finally:
            await provider.aclose()

    asyncio.run(main())


def watching(test: Callable[[ViewLeg], Coroutine[Any, Any, None]], room: str, **to: Any) -> None:
    """Run a test with a view of a room."""

    async def main(provider: LiveKit) -> None:
        await test(await provider.join_stream(room))

    run(main, **to)


def publishing(
    test: Callable[[Any, Feed, Any], Coroutine[Any, Any, None]], room: str, *kinds: Kind
) -> None:
    """Run a test with a leg that publishes to a room."""

    async def main(provider: LiveKit) -> None:
        feed, engine = canned_feed(*kinds)
        try:
            await test(await provider.start_stream(room, feed), feed, engine)
        finally:
            await feed.aclose()

    run(main)


def failing(error: type[BaseException], room: str, **settings: Any) -> Any:
    """Return the error that a view of a room ends with."""
    found: list[BaseException] = []

    async def main(provider: LiveKit) -> None:
        with pytest.raises(error) as caught:
            await provider.join_stream(room)
        found.append(caught.value)

    run(main, **settings)
    return found[0]


async def first(leg: ViewLeg, count: int, kind: Kind | None = None) -> list[EncodedFrame]:
    """Return the next frames of a leg."""
    frames: list[EncodedFrame] = []
    async for frame in leg.frames():
        if kind in (None, frame.kind):
            frames.append(frame)
        if len(frames) >= count:
            break
    return frames


async def until(condition: Callable[[], Any]) -> None:
    """Wait for a condition, bounded by the test."""
    while not condition():  # noqa: ASYNC110 -- conditions are of many kinds
        await asyncio.sleep(0.01)


async def leaving_s(leg: Leg) -> float:
    """Close a leg; return how long that took [s]."""
    clock = asyncio.get_running_loop().time
    begun_s = clock()
    await leg.aclose()
    return clock() - begun_s
