"""Agora's RTMP ingest, with a real nginx-rtmp in the place of its Media Gateway."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager

import pytest
from interop import nginx_rtmp

from hitless import Quality
from hitless.errors import HitlessError, Unreachable
from hitless.media.source import open_feed
from hitless.providers.agora import Agora
from hitless.providers.rtmp import Rtmp


pytestmark = pytest.mark.skipif(nginx_rtmp.module() is None, reason=nginx_rtmp.WHY_SKIPPED)

LIMIT_S = 60.0
APP = "970CA35de60c44645bbae8a215061b33"
KEY = "key-made-in-the-console"
SMALL = Quality(width=320, height=180, frame_rate=30, bitrate_bps=300_000)


def go(main):
    """Run a test against the clock, bounded."""

    async def bounded():
        async with asyncio.timeout(LIMIT_S):
            await main

    asyncio.run(bounded())


@pytest.fixture
def nginx():
    """A server of the test's own."""
    with nginx_rtmp.NginxRtmp() as server:
        yield server


def unused_port():
    """Return a port where nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@asynccontextmanager
async def publisher(*hosts):
    """Lend an adapter that pushes to these hosts, and a feed."""
    feed = await open_feed("test-picture", quality=SMALL)
    provider = Agora(app_id=APP, stream_key=KEY, ingest_hosts=hosts)
    try:
        yield provider, feed
    finally:
        await provider.aclose()
        await feed.aclose()


def test_a_stream_is_pushed_with_its_key_and_can_be_played(nginx):
    """
    Its key is its name there; the frames arrive as they were sent.
    """

    async def main():
        player = Rtmp(url=nginx.url)
        async with publisher(f"127.0.0.1:{nginx.port}") as (provider, feed):
            leg = await provider.start_stream("show", feed)
            assert "pong" == leg.leg.proven_by
            assert [KEY] == await asyncio.to_thread(nginx.publishers)
            view = await player.join_stream(KEY)
            frames = []
            async for frame in view.frames():
                frames.append(frame)
                if len(frames) == 60:
                    break
            assert all(feed.is_own(frame.data) for frame in frames)
            await player.aclose()
        assert [] == await asyncio.to_thread(nginx.publishers)

    go(main())


def test_the_next_attempt_reaches_the_host_that_is_there(nginx):
    """
    The first host of the region is away.
    """

    async def main():
        hosts = (f"127.0.0.1:{unused_port()}", f"127.0.0.1:{nginx.port}")
        async with publisher(*hosts) as (provider, feed):
            with pytest.raises(Unreachable):
                await provider.start_stream("show", feed)
            leg = await provider.start_stream("show", feed)
            assert leg.provider == "agora"
            assert [KEY] == await asyncio.to_thread(nginx.publishers)

    go(main())


def test_a_kill_is_noticed_and_tells_no_key(nginx):
    """
    The leg is lost at once; the next attempt is refused by the host.
    """

    async def main():
        async with publisher(f"127.0.0.1:{nginx.port}") as (provider, feed):
            leg = await provider.start_stream("show", feed)
            nginx.kill()
            with pytest.raises(HitlessError) as lost:
                await leg.lost()
            with pytest.raises(Unreachable) as refused:
                await provider.start_stream("show", feed)
            for caught in (lost, refused):
                assert KEY not in str(caught.value) + repr(vars(caught.value))

    go(main())
