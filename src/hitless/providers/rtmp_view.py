"""
The self-view of an RTMP publisher: it plays its own stream, because only that proves forwarding.

It asks for sound only where there is sound (a server may send pictures all the same), decodes
nothing, and counts a frame only if its bytes are those that were sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from ..errors import HitlessError, MediaLost, NotOnAir, ProviderError
from ..media.closing import finish
from ..media.feed import Feed, Take
from ..media.frame import EncodedFrame, Kind
from ..media.liveness import Liveness
from ..media.rtmp import RtmpPlayer


OWN_FRAME_S: Final = 1.0
"""Time for an own frame to come back, besides 5 round trips and, without sound, the time between
two keyframes [s]. Measured on loopback with nginx-rtmp: 0.05 to 0.3 s."""

_OWN_FRAME_RTTS: Final = 5
_RTT_S_UNKNOWN: Final = 0.1
_ASK_S: Final = 0.2
_REOPEN_S: Final = 0.1
_REOPEN_S_MAX: Final = 5.0


class OwnPlay:
    """
    A publisher's view of its own stream.

    Args:
        provider: Name for errors.
        play: Makes a player, given a taker of frames and whether pictures are wanted.
        feed: What is published; only its own frames count.
        liveness: The publishing leg's; is told of own frames.
        rtt_s: Returns the publishing path's round-trip time [s], or None.
        keyframe_s: Longest time between two keyframes [s].
        limit_s: How long a view that was lost may take to come back before that counts as
            silence [s].
    """

    def __init__(
        self,
        *,
        provider: str,
        play: Callable[[Take, bool], RtmpPlayer],
        feed: Feed,
        liveness: Liveness,
        rtt_s: Callable[[], float | None],
        keyframe_s: float,
        limit_s: float,
    ) -> None:
        self.kind = Kind.AUDIO if Kind.AUDIO in feed.kinds else Kind.VIDEO
        self._provider, self._play, self._feed = provider, play, feed
        self._liveness, self._rtt_s, self._limit_s = liveness, rtt_s, limit_s
        self._patience_s = OWN_FRAME_S + (keyframe_s if self.kind is Kind.VIDEO else 0.0)
        self._clock = asyncio.get_running_loop().time
        self._own_frame = asyncio.Event()
        self._player: RtmpPlayer | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._is_closed = False

    async def prove(self, deadline: float) -> bool:
        """
        Wait until one of our own frames comes back.

        Args:
            deadline: When to give up [s, the loop's clock].

        Returns:
            Whether it did; False: nothing can be played here, which proves nothing either way.

        Raises:
            MediaLost: The stream was accepted, but is not forwarded.
        """
        self._own_frame.clear()
        rtt_s = self._rtt_s()
        limit_s = self._patience_s + _OWN_FRAME_RTTS * (_RTT_S_UNKNOWN if rtt_s is None else rtt_s)
        limit = min(deadline, self._clock() + limit_s)
        try:
            while not await self._comes_back(limit):
                if self._clock() + _ASK_S >= limit:
                    raise self._lost(f"no own frame came back within {limit_s:.1f} s")
                await asyncio.sleep(_ASK_S)
        except ProviderError as exc:
            if not exc.answered:
                raise self._lost(exc.because) from exc
            if isinstance(exc, MediaLost):
                raise
            await self._leave()
            return False
        return True

    def keep(self) -> None:
        """Go on playing, and play again when the view itself is lost."""
        self._keeper = asyncio.create_task(self._keep(), name=f"{self._provider} self-view")

    async def aclose(self) -> None:
        """Stop playing; expect nothing more. Idempotent; bounded; never raises."""
        self._is_closed = True
        self._liveness.forget(self.kind)
        if self._keeper is not None:
            self._keeper.cancel()
            await finish(self._keeper)
        await self._leave()

    # --- Inside ---

    async def _comes_back(self, limit: float) -> bool:
        """Play once; False: it says that nobody publishes, or ended the view again."""
        await self._leave()
        player = self._player = self._play(self._take, self.kind is Kind.VIDEO)
        lost = seen = None
        try:
            await player.open(limit)
            lost = asyncio.ensure_future(player.lost())
            seen = asyncio.ensure_future(self._own_frame.wait())
            timeout = max(limit - self._clock(), 0)
            await asyncio.wait([lost, seen], timeout=timeout, return_when="FIRST_COMPLETED")
            return self._own_frame.is_set()
        except NotOnAir:
            return False
        finally:
            for task in (lost, seen):
                if task is not None:
                    task.cancel()
                    await asyncio.gather(task, return_exceptions=True)

    def _take(self, frame: EncodedFrame) -> None:
        is_ours = frame.kind is self.kind and self._feed.is_own(frame.data)
        if is_ours and not self._is_closed:
            self._liveness.heard(self.kind, frame.arrived_s)
            self._own_frame.set()

    async def _keep(self) -> None:
        while True:
            if self._player is not None:
                try:
                    await self._player.lost()
                except HitlessError:
                    pass
            # The view broke, not necessarily the stream: expect nothing until it is back.
            self._liveness.forget(self.kind)
            await self._reopen(self._clock())

    async def _reopen(self, lost_s: float) -> None:
        pause_s = _REOPEN_S
        while True:
            try:
                if await self.prove(self._clock() + self._limit_s):
                    return
            except HitlessError:
                if self._clock() - lost_s >= self._limit_s:
                    # Now it is the stream: silent since the view was lost.
                    self._liveness.heard(self.kind, lost_s)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _REOPEN_S_MAX)

    def _lost(self, because: str) -> MediaLost:
        return MediaLost(
            f"accepted, but not forwarded: {because}", provider=self._provider, operation="publish"
        )

    async def _leave(self) -> None:
        if self._player is not None:
            player, self._player = self._player, None
            await player.aclose()
