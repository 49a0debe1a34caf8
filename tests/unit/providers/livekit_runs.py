"""Runs of `LiveKit` by WHIP against a stand-in of its server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import jwt
from canned_media import canned_feed
from livekit_stand_in import KEY, SECRET, LiveKitServer, livekit, serving

from hitless.core.events import Role
from hitless.media.feed import Feed
from hitless.media.frame import Kind
from hitless.providers.credential import Access
from hitless.providers.livekit import LiveKit
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
