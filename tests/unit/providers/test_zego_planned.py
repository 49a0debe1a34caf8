"""A publisher at ZEGOCLOUD that has a plan, and no ServerSecret to call the API or sign with."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from canned_media import canned_feed

from hitless import LiveStreamingProvider, Memory
from hitless.providers import zego_token
from hitless.providers.clock import wall_s
from hitless.providers.credential import Access
from hitless.providers.zegocloud import Zegocloud


LIMIT_S = 60.0
APP = 1234567890
SECRET = "9193cc662a4c0ec135ec71fb57194b38"


async def plan(access: Access) -> dict[str, Any]:
    """Return what a plan has: a token04 for the SDKs' clients."""
    token = zego_token.mint(APP, "somebody", SECRET, now_s=wall_s(), ttl_s=600)
    return {"app_id": APP, "room_id": "show", "stream_id": "show", "token": token}


@pytest.mark.parametrize("ingest", ["rtmp", "whip"])
def test_the_stream_starts_on_the_next_provider(ingest: str) -> None:
    """The plan is not the caller's fault; the attempt says what would have to be configured."""

    async def main() -> None:
        zego = Zegocloud(app_id=APP, credentials=plan, ingest=ingest)
        feed, _ = canned_feed()
        async with (
            asyncio.timeout(LIMIT_S),
            LiveStreamingProvider([zego, Memory("agora")]) as live,
            live.start_stream("show", feed) as stream,
        ):
            first = stream.state.attempts[0]
            assert stream.provider == "agora"
        assert first.provider == "zegocloud"
        assert first.failure is not None
        assert "give server_secret" in first.failure.because
        await feed.aclose()

    asyncio.run(main())
