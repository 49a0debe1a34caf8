"""`Rtmp` at a stand-in of a server, with a feed."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

from rtmp_server import serving
from rtmp_source import Source

from hitless.providers.rtmp import Rtmp


LIMIT_S = 30.0

SECRET = "sk_secret-of-mine"


def go(main):
    """Run a test against the clock, bounded."""

    async def bounded():
        async with asyncio.timeout(3 * LIMIT_S):
            await main

    asyncio.run(bounded())


@asynccontextmanager
async def at_stand_in(*kinds, **options):
    """Lend a stand-in, a provider for it, and a feed."""
    async with serving() as server:
        source = Source(*kinds)
        provider = Rtmp(**{"url": server.url, **options, **_urls(server, options)})
        try:
            yield server, provider, source.feed
        finally:
            await provider.aclose()
            await source.feed.aclose()


def _urls(server, options):
    names = [name for name in ("url", "play_url") if options.get(name)]
    return {name: options[name].replace("PORT", str(server.port)) for name in names}
