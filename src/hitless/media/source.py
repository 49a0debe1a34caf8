"""Where a stream comes from: the test picture, a file, a camera, or the caller's frames."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterable, AsyncIterator
from pathlib import Path
from typing import Final, TypeAlias

from ..errors import ConfigError, LocalFault
from .caller import CallersFrame, Pump
from .engine import FeedEngine
from .feed import Feed
from .frame import Codec, Kind
from .quality import Quality
from .recorded import CameraTrack, FileTrack, is_camera, open_file, streams
from .track import MediaClock, Settings, TestPictures, TestSounds, Track


__all__ = ["TEST_PICTURE", "Quality", "Source", "check_file", "open_feed"]

TEST_PICTURE: Final = "test-picture"
"""The source that needs nothing: a moving picture with its number, and a sound with its time."""

Source: TypeAlias = "str | Path | AsyncIterable[CallersFrame] | AsyncIterator[CallersFrame]"


async def open_feed(
    source: Source,
    *,
    quality: Quality = Quality(),  # noqa: B008 -- frozen
    video_codec: Codec = Codec.VP8,
    repeat: bool = False,
) -> Feed:
    """
    Open a source and begin to encode it in real time.

    Pictures are scaled to the quality's size with their aspect kept (black bars), sound becomes
    Opus in stereo. Every source is decoded before it is encoded, so a leg can ask for any other
    codec: see `Feed.attach`. What the source does not have (no sound in the file, none from a
    camera) the feed does not have either: see `Feed.kinds`. A source that fails later ends the
    feed with a `LocalFault`; a file that ends, or an iterator, ends it without one.

    Args:
        source: `test-picture`; a file; a camera (`/dev/video0`, on macOS too: the first one); or
            frames: `av.VideoFrame` and `av.AudioFrame`, placed by their timestamps, or uint8
            [height, width, 3] in BGR, placed by their arrival. The kinds of an iterator are
            those that come within 0.5 s of its first frame.
        quality: What pictures are encoded to.
        video_codec: VP8 or H264: the feed's own, encoded whether a leg takes it or not.
        repeat: Play a file again and again.

    Returns:
        A running feed. The caller closes it.

    Raises:
        LocalFault: It cannot be opened; the message says what, why, and what to try.
        ConfigError: The arguments cannot work.
    """
    if video_codec not in (Codec.VP8, Codec.H264):
        raise ConfigError(f"video_codec = {video_codec!r} is not possible: give VP8 or H264")
    settings, clock = Settings(quality), MediaClock()
    pump = None
    if isinstance(source, str) and source == TEST_PICTURE:
        tracks: dict[Kind, Track] = {Kind.VIDEO: TestPictures(settings), Kind.AUDIO: TestSounds()}
    elif isinstance(source, str | Path):
        tracks = await _in_thread(str(source), settings, clock)
    elif isinstance(source, AsyncIterable):
        if repeat:
            raise ConfigError("repeat = True is not possible with frames from the caller")
        pump = Pump(aiter(source), settings, clock)
        await pump.open()
        tracks = dict(pump.tracks)
    else:
        raise ConfigError(
            f"source = {source!r} is not possible: give test-picture, a file, a camera such as "
            "/dev/video0, or an async iterator of frames"
        )

    codecs = {Kind.VIDEO: video_codec, Kind.AUDIO: Codec.OPUS}
    feed = Feed({kind: codecs[kind] for kind in Kind if kind in tracks})
    engine = FeedEngine(
        feed,
        tracks,
        settings=settings,
        clock=clock,
        video_codec=video_codec,
        repeat=repeat,
        noise=random.Random(),
        release=pump.aclose if pump is not None else None,
    )
    feed.run_by(engine, further=engine)
    clock.start()
    engine.start()
    if pump is not None:
        pump.start(engine.fail)
    return feed


def check_file(source: str) -> None:
    """
    Open a file as a feed would, decode the beginning of each kind and close it. Blocks.

    Raises:
        LocalFault: It cannot be played; the message says what, why, and what to try.
    """
    for track in _open_file(source).values():
        track.close()


async def _in_thread(source: str, settings: Settings, clock: MediaClock) -> dict[Kind, Track]:
    """Open a file or a camera in a thread; if cancelled, what it opens late is closed there."""
    abandoned = False

    def opened() -> dict[Kind, Track]:
        tracks = _open(source, settings, clock)
        if abandoned:
            for track in tracks.values():
                track.close()
        return tracks

    opening = asyncio.get_running_loop().run_in_executor(None, opened)
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        abandoned = True
        opening.add_done_callback(_forget)
        raise


def _forget(opening: asyncio.Future[dict[Kind, Track]]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        for track in opening.result().values():
            track.close()


def _open(source: str, settings: Settings, clock: MediaClock) -> dict[Kind, Track]:
    if is_camera(source):
        return {Kind.VIDEO: CameraTrack(source, settings, clock)}
    return _open_file(source)


def _open_file(source: str) -> dict[Kind, Track]:
    path = Path(source).expanduser()
    tracks: dict[Kind, Track] = {}
    try:
        with open_file(path) as container:
            kinds = list(streams(container))
        for kind in kinds:
            tracks[kind] = FileTrack(path, kind)
    except LocalFault:
        for track in tracks.values():
            track.close()
        raise
    return tracks
