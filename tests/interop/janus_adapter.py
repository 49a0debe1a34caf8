"""Our adapter at a real Janus, and how tests wait for what it does."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest

from hitless import Quality
from hitless.errors import HitlessError, ProviderError
from hitless.providers.janus import Janus


LIMIT_S = 20.0
"""Every single wait: the machine may be busy."""

SMALL = Quality(width=320, height=180, frame_rate=30, bitrate_bps=300_000)
KICKED = {
    f"janus: publish failed: {words}"
    for words in (
        "kicked: a newer publisher took the stream, or the room's owner did it",
        "closed by the far side",  # on a busy machine the media may end before the signalling
    )
}
WAYS = [
    pytest.param(full, ours, id=f"{'full' if full else 'half'}-trickle{'-of-both' * ours}")
    for full in (False, True)
    for ours in (False, True)
]
"""Whether Janus trickles its candidates, and whether we do."""


def go(main):
    """Run a test against the clock, bounded."""

    async def bounded():
        async with asyncio.timeout(6 * LIMIT_S):
            await main

    asyncio.run(bounded())


def adapter(server, **options):
    """Return an adapter with patience."""
    return Janus(url=server.url, **{"first_media_s": LIMIT_S, **options})


@asynccontextmanager
async def closing(*things):
    """Close what a test opened, in order."""
    try:
        yield
    finally:
        for thing in things:
            await thing.aclose()


async def own_frames(view, feed, count=10):
    """Wait until a viewer got so many frames of a feed."""
    async with asyncio.timeout(LIMIT_S):
        async for frame in view.frames():
            count -= feed.is_own(frame.data)
            if count == 0:
                return


async def until(condition):
    """Wait for a condition."""
    async with asyncio.timeout(LIMIT_S):
        while not condition():  # noqa: ASYNC110 -- conditions are of many kinds
            await asyncio.sleep(0.01)


async def reason_of_loss(leg, within_s=LIMIT_S):
    """Return why a leg was lost."""
    with pytest.raises(ProviderError) as caught:
        await asyncio.wait_for(leg.lost(), within_s)
    return str(caught.value)


async def refusal_of(awaitable):
    """Return the error that something fails with."""
    with pytest.raises(HitlessError) as caught:
        await awaitable
    return caught.value


def now():
    """Return the loop's time [s]."""
    return asyncio.get_running_loop().time()
