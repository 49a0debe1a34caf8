"""
Never run, only type-checked: what users may write, as they would write it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, assert_type

import numpy as np

from hitless import (
    AllProvidersFailed,
    Backend,
    Codec,
    Kind,
    LiveStream,
    LiveStreamingProvider,
    LiveView,
    Memory,
    Meter,
    News,
    Policy,
    ProviderError,
    ProviderStatus,
    Quality,
    Retry,
    ReturnPolicy,
    SelfView,
    StreamingProviderManager,
    Whip,
    check_provider,
)
from hitless.media.decoder import Picture, Sound
from hitless.media.feed import Feed
from hitless.media.frame import EncodedFrame
from hitless.media.source import open_feed
from hitless.providers.base import Leg, Provider, ViewLeg


one: Provider = Memory("one")
server: Provider = Whip("webrtc", url="https://example.com/whip/{stream}", token="secret")
several: Provider = LiveStreamingProvider([Memory("a"), Memory("b")])
nested: Provider = LiveStreamingProvider([one, several], name="nested")


async def entered() -> None:
    async with LiveStreamingProvider([one, Memory("two")]) as live:
        async with live.start_stream("show", "camera.mp4", repeat=True) as stream:
            assert_type(stream, LiveStream)
            leg: Leg = stream
            await leg.aclose()
            await stream.failover_to_next_provider()
            await stream.switch_provider("two", "an operator")
            stream.mute(Kind.AUDIO)
            stream.set_quality(width=1280, height=720, frame_rate=25.0, bitrate_bps=2_000_000)
            async for news in stream:
                assert_type(news, News)
                print(news, news.name, news.because)  # noqa: T201 -- as a user would


async def awaited() -> None:
    live = LiveStreamingProvider([one], policy=Policy(max_retries=5, self_view=SelfView.START))
    stream = await live.start_stream("show", Path("camera.mp4"), video_codec=Codec.H264)
    assert_type(stream, LiveStream)
    assert_type(live.active_provider, str | None)
    assert_type(live.current_stream, str | None)
    assert_type(live.is_streaming, bool)
    assert_type(live.error, str | None)
    assert_type(live.providers, tuple[ProviderStatus, ...])
    assert_type(live.stats(), list[Mapping[str, Any]])
    assert_type(await live.refresh_provider(), str)
    live.record_streaming_error("the player froze")
    await live.end_stream()
    await live.leave_stream("show")
    await stream.aclose()
    await live.aclose()


async def watched(live: LiveStreamingProvider) -> None:
    meter = Meter()
    async with live.join_stream("show", wait_s=60.0, sinks=[meter, Path("show.webm")]) as view:
        assert_type(view, LiveView)
        leg: ViewLeg = view
        leg.request_keyframe()
        async for frame in view.frames():
            assert_type(frame, EncodedFrame)
        async for picture in view.pictures():
            assert_type(picture, Picture)
        async for sound in view.sounds():
            assert_type(sound, Sound)
    assert_type(meter.report(0.0, 4.0).gap_s, float)


async def frames_of_the_caller(live: LiveStreamingProvider) -> None:
    async def frames() -> AsyncIterator[np.ndarray[Any, Any]]:
        yield np.zeros((360, 640, 3), np.uint8)

    await live.start_stream("show", frames(), quality=Quality(width=640, height=360))
    feed = await open_feed("test-picture")
    assert_type(feed, Feed)
    await live.start_stream("another", feed)


async def from_a_backend() -> None:
    async def credentials(name: str) -> Mapping[str, Any]:
        return {"token": f"secret of {name}"}

    async def headers() -> Mapping[str, str]:
        return {"Authorization": "Bearer secret"}

    async def supplied() -> Sequence[Provider]:
        return [one, server]

    LiveStreamingProvider(backend=Backend("https://example.com"), credentials=credentials)
    LiveStreamingProvider([one], backend=Backend("https://example.com", headers=headers))
    LiveStreamingProvider(supplied)


async def errors(live: LiveStreamingProvider) -> None:
    try:
        await live.start_stream("show", "camera.mp4")
    except AllProvidersFailed as failed:
        for error in failed.exceptions:
            if isinstance(error, ProviderError):
                assert_type(error.provider, str)
                assert_type(error.retry, Retry)
                assert_type(error.retry_after_s, float | None)


async def the_manager(manager: StreamingProviderManager) -> None:
    assert_type(await manager.fetch_active_provider(), str)
    await manager.switch_provider("zegocloud", "an operator")
    await manager.failover_to_next_provider()
    manager.record_streaming_error("the player froze")


async def the_suite() -> None:
    async def make() -> Provider:
        return Memory()

    report = await check_provider(make)
    assert_type(report.passed, bool)
    report.require()


policy = Policy(return_policy=ReturnPolicy.RETURN, return_after_s=3)
