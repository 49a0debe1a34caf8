"""Calls of `Whip` against the test server, for tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from aiohttp import web
from canned_media import canned_feed
from whip_server import Handler, WhipServer, serving

from hitless.errors import (
    HitlessError,
)
from hitless.media.frame import Kind
from hitless.providers.whip import Whip


def run(test: Callable[[WhipServer], Coroutine[Any, Any, None]]) -> None:
    """Run a test with a server of its own."""

    async def main() -> None:
        async with serving() as server:
            await test(server)

    asyncio.run(main())


def whip(server: WhipServer, **settings: Any) -> Whip:
    """Make a provider of a server."""
    return Whip("agora", **{"url": server.url + "/whip/{stream}", **settings})


async def failing(provider: Whip, operation: str = "publish") -> HitlessError:
    """Try once, expect an error, close, return it."""
    feed, _ = canned_feed(Kind.AUDIO)
    try:
        opening = (
            provider.start_stream("show", feed)
            if operation == "publish"
            else provider.join_stream("show")
        )
        with pytest.raises(HitlessError) as caught:
            await opening
        return caught.value
    finally:
        await provider.aclose()
        await feed.aclose()


def always(status: int, text: str = "", **headers: str) -> Handler:
    """Make a server answer the same to everything."""

    async def intercept(request: web.Request) -> web.StreamResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        kind = {} if "Content-Type" in named else {"content_type": "text/plain"}
        return web.Response(status=status, text=text, headers=named, **kind)  # type: ignore[arg-type]

    return intercept


async def publish(server: WhipServer, **settings: Any) -> None:
    """Publish once and end."""
    provider, (feed, _) = whip(server, **settings), canned_feed(Kind.AUDIO)
    try:
        leg = await provider.start_stream("show", feed)
        await leg.aclose()
    finally:
        await provider.aclose()
        await feed.aclose()
