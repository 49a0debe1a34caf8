"""The legs that `Rtmp` opens: one that publishes, one that views."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Final

from ..errors import LocalFault, MediaLost, NotOnAir
from ..media.feed import Feed, Take
from ..media.frame import EncodedFrame, Kind
from ..media.liveness import PATH, Liveness
from ..media.rtmp import RtmpPlayer, RtmpPublisher
from .base import Stats
from .frame_queue import FrameQueue
from .rtmp_view import OwnPlay
from .whip_legs import AUDIO_ONLY_S, BoundedLeg


ABSENT_S: Final = 1.0
"""A server that let us play and sends nothing for so long [s] has no publisher: nginx-rtmp lets
a player wait for one without a word."""


class RtmpPublishingLeg(BoundedLeg):
    """
    One stream being published.

    Args:
        publisher: Sends the feed.
        provider: Name for errors.
        liveness: The leg's, fed by both.
        feed: The feed; its owner closes it.
        own_view: Proves that the stream is forwarded; None: it is enough that the server takes it.
        keep_view: Whether to go on playing after the proof.
    """

    def __init__(
        self,
        publisher: RtmpPublisher,
        *,
        provider: str,
        liveness: Liveness,
        feed: Feed,
        own_view: OwnPlay | None,
        keep_view: bool,
    ) -> None:
        super().__init__(provider, liveness)
        self._publisher, self._feed = publisher, feed
        self._own_view, self._keep_view = own_view, keep_view
        self.proven_by = ""
        """`self-view`, or the evidence that the server takes our bytes; empty until proven."""

    async def open(self, deadline: float) -> None:
        """
        Publish, and return when the first media is proven. Called once.

        Raises:
            ProviderError: Not by `deadline` [s, the loop's clock], or refused.
            LocalFault: The source gives no frames, or there is no network.
            ConfigError: The source is encoded already, as something RTMP does not carry.
        """
        made = sum(self._feed.frames_made.values())
        await self._publisher.open(deadline)
        try:
            evidence = await self._publisher.proven(deadline)
            self.proven_by = evidence.name.lower()
            if self._own_view is not None:
                await self._see(self._own_view, deadline)
        except MediaLost as exc:
            if sum(self._feed.frames_made.values()) == made:
                raise LocalFault(f"{self._provider}: the source gives no frames") from exc
            raise

    async def lost(self) -> None:
        """See `Leg.lost`."""
        await self._publisher.lost()

    def stats(self) -> list[Stats]:
        """See `Leg.stats`."""
        return list(self._publisher.stats())

    async def _see(self, own_view: OwnPlay, deadline: float) -> None:
        if await before_loss(own_view.prove(deadline), self._publisher):
            self.proven_by = "self-view"
            if self._keep_view:
                own_view.keep()
                return
        await own_view.aclose()

    async def _close(self, wait: bool) -> None:
        work = [self._publisher.aclose()]
        if self._own_view is not None:
            work.append(self._own_view.aclose())
        await asyncio.gather(*work)


class RtmpViewingLeg(BoundedLeg):
    """
    One stream being viewed.

    Args:
        play: Makes the player, given a taker of frames.
        provider: Name for errors.
        liveness: The leg's, fed by the player.
    """

    def __init__(
        self, play: Callable[[Take], RtmpPlayer], *, provider: str, liveness: Liveness
    ) -> None:
        super().__init__(provider, liveness)
        self._player = play(self._take)
        self._clock = asyncio.get_running_loop().time
        self._queue = FrameQueue(self.request_keyframe)
        self._first = asyncio.Event()
        self._audio_s: float | None = None

    async def open(self, deadline: float) -> None:
        """
        View, and return when the first media arrived. Called once.

        Raises:
            NotOnAir: Nobody publishes the stream here.
            ProviderError: Not by `deadline` [s, the loop's clock], or refused.
            LocalFault: There is no network.
        """
        await self._player.open(deadline)
        absent = min(deadline, self._clock() + ABSENT_S)
        if not await self._comes(self._player.is_flowing, absent):
            quiet = self.liveness.quiet(self._clock())
            if quiet is None or quiet.sign != PATH:
                raise NotOnAir(f"{self._provider}: nobody publishes (no media in {ABSENT_S:g} s)")
            raise self._silent("connected, but it answers no more")
        if not await self._comes(self._first, deadline):
            raise self._silent(self._player.fault or "connected, but no keyframe came in time")

    async def lost(self) -> None:
        """See `Leg.lost`."""
        await self._player.lost()

    def stats(self) -> list[Stats]:
        """See `Leg.stats`."""
        return list(self._player.stats())

    def frames(self) -> AsyncIterator[EncodedFrame]:
        """See `ViewLeg.frames`. A reader that falls 6 s behind loses what it did not read."""
        return self._queue.frames()

    def request_keyframe(self) -> None:
        """Do nothing: RTMP has no such request. Publishers of ours send one every second."""

    async def _comes(self, event: asyncio.Event, limit: float) -> bool:
        try:
            async with asyncio.timeout_at(limit):
                await before_loss(event.wait(), self._player)
        except TimeoutError:
            return False
        return True

    def _take(self, frame: EncodedFrame) -> None:
        is_kept = self._queue.put(frame)
        if is_kept and not self._first.is_set() and self._is_first(frame):
            self._first.set()

    def _is_first(self, frame: EncodedFrame) -> bool:
        if frame.kind is Kind.VIDEO:
            return True
        if self._audio_s is None:
            self._audio_s = frame.arrived_s
        return not self._player.has_video and frame.arrived_s - self._audio_s >= AUDIO_ONLY_S

    async def _close(self, wait: bool) -> None:
        await self._player.aclose()
        self._queue.end()

    def _silent(self, because: str) -> MediaLost:
        return MediaLost(because, provider=self._provider, operation="view")


async def before_loss(work: Coroutine[Any, Any, bool], end: RtmpPublisher | RtmpPlayer) -> bool:
    """
    Do some work, unless the connection is lost before it is done.

    Raises:
        ProviderError: It was lost, or what the work raises.
    """
    task = asyncio.ensure_future(work)
    lost = asyncio.ensure_future(end.lost())
    try:
        await asyncio.wait([task, lost], return_when="FIRST_COMPLETED")
        if not task.done():
            lost.result()
        return task.result()
    finally:
        task.cancel()
        lost.cancel()
        await asyncio.gather(task, lost, return_exceptions=True)
