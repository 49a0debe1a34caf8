"""Legs of LiveKit through the process of its package, with the stand-in of the package inside."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from canned_media import canned_feed
from livekit_stand_in import KEY, SECRET
from sdk_runs import Runs

from hitless.media.feed import Feed
from hitless.media.frame import Kind
from hitless.providers.clock import wall_s
from hitless.providers.credential import Access
from hitless.providers.livekit import LiveKit
from hitless.providers.livekit_token import mint, publisher_grants, viewer_grants


STAND_IN = Path(__file__).parent / "livekit_sdk_stand_in"


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


LEGS = Runs(by_sdk)
using, watching, failing = LEGS.using, LEGS.watching, LEGS.failing


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

    using(main)
