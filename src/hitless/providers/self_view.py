"""
The self-view: a publisher watches its own stream, because only that proves forwarding.

"Connected" and receiver reports are said by the first hop. A subscription to the own stream sees
what viewers see; it asks for sound only (or pictures, if there is no sound), decodes nothing and
asks for nothing twice, so it costs some 4 % of a core (facts/media section 13).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Generic

from ..errors import HitlessError, MediaLost, ProviderError
from ..media.closing import finish
from ..media.feed import Feed
from ..media.frame import EncodedFrame, Kind
from ..media.liveness import Liveness
from ..media.receive import Take
from .subscription import A, Viewing


ASK_S: Final = 0.05
"""Time between two questions whether the stream can be viewed yet [s]."""

OWN_FRAME_S: Final = 0.5
"""Time for an own frame to come back once the view is connected, besides 5 round trips [s]."""

_OWN_FRAME_RTTS: Final = 5
_RTT_S_UNKNOWN: Final = 0.1
_REOPEN_S: Final = 0.1
_REOPEN_S_MAX: Final = 5.0


class OwnView(Generic[A]):
    """
    A publisher's view of its own stream.

    Args:
        provider: Name for errors.
        subscribe: Makes a view for kinds, with a taker of frames.
        feed: What is published; only its own frames count.
        liveness: The publishing leg's; is told of own frames.
        rtt_s: Returns the publishing path's round-trip time [s], or None.
        limit_s: How long a view that was lost may take to come back before that counts as
            silence [s].
    """

    def __init__(
        self,
        *,
        provider: str,
        subscribe: Callable[[frozenset[Kind], Take], Viewing[A]],
        feed: Feed,
        liveness: Liveness,
        rtt_s: Callable[[], float | None],
        limit_s: float,
    ) -> None:
        self.kind = Kind.AUDIO if Kind.AUDIO in feed.kinds else Kind.VIDEO
        self._provider = provider
        self._subscribe = subscribe
        self._feed = feed
        self._liveness = liveness
        self._rtt_s = rtt_s
        self._limit_s = limit_s
        self._clock = asyncio.get_running_loop().time
        self._own_frame = asyncio.Event()
        self._subscription: Viewing[A] | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._is_closed = False
        self._proven = False

    async def prove(self, deadline: float) -> bool:
        """
        Wait until one of our own frames comes back.

        Args:
            deadline: When to give up [s, the loop's clock].

        Returns:
            Whether it did; False: nothing can be viewed here, which proves nothing either way.

        Raises:
            MediaLost: The stream was accepted, but is not forwarded.
        """
        self._own_frame.clear()
        subscription = self._subscription = self._subscribe(frozenset({self.kind}), self._take)
        if not await self._admitted(subscription, deadline):
            await self._leave()
            return False
        limit_s = min(self._own_frame_s(), deadline - self._clock())
        try:
            async with asyncio.timeout(limit_s):
                await self._own_frame.wait()
        except TimeoutError:
            raise self._lost(
                f"accepted, but not forwarded: no own frame came back within {limit_s:.2f} s"
            ) from None
        self._proven = True
        return True

    def keep(self) -> None:
        """Go on watching, and watch again when the view itself is lost."""
        self._keeper = asyncio.create_task(self._keep(), name=f"{self._provider} self-view")

    async def aclose(self, *, wait: bool = True) -> None:
        """Stop watching; expect nothing more. Idempotent; bounded; never raises."""
        self._is_closed = True
        self._liveness.forget(self.kind)
        if self._keeper is not None:
            self._keeper.cancel()
            await finish(self._keeper)
        await self._leave(wait=wait)

    # --- Inside ---

    def _own_frame_s(self) -> float:
        rtt_s = self._rtt_s()
        return OWN_FRAME_S + _OWN_FRAME_RTTS * (_RTT_S_UNKNOWN if rtt_s is None else rtt_s)

    async def _admitted(self, subscription: Viewing[A], deadline: float) -> bool:
        """Ask until we may view, and connect; False: there is nothing to view here at all."""
        begun, never_known, because = self._clock(), True, "no answer"
        while True:
            try:
                answer = await subscription.ask(deadline)
            except ProviderError as exc:
                never_known = False
                if self._clock() < deadline:  # else our own patience ended, which says nothing
                    because = exc.because
            else:
                if subscription.is_admitted(answer):
                    await subscription.connect(answer, deadline)
                    return True
                because = f"HTTP {answer.status}"
                if _is_final(answer.status):
                    return False
                if answer.status != 404:
                    never_known = False
                elif never_known and self._clock() - begun >= self._own_frame_s():
                    # Nobody publishes yet, or no such route: the difference shows with time.
                    return False
            await self._pause(deadline, because)

    async def _pause(self, deadline: float, because: str) -> None:
        """Wait until the next question; raise if there is no time for one."""
        if (next_s := self._clock() + ASK_S) < deadline:
            await asyncio.sleep(ASK_S)
        if max(next_s, self._clock()) >= deadline:
            raise self._lost(f"accepted, but it cannot be viewed ({because})")

    def _take(self, frame: EncodedFrame) -> None:
        if not self._is_closed and self._feed.is_own(frame.data):
            self._liveness.heard(self.kind, frame.arrived_s)
            self._own_frame.set()

    async def _keep(self) -> None:
        while True:
            if self._subscription is not None:
                try:
                    await self._subscription.peer.lost()
                except HitlessError:
                    pass
            # The view broke, not necessarily the stream: expect nothing until it is back.
            self._liveness.forget(self.kind)
            await self._reopen(self._clock())

    async def _reopen(self, lost_s: float) -> None:
        pause_s = _REOPEN_S
        while True:
            await self._leave()
            is_viewable = True
            try:
                is_viewable = await self.prove(self._clock() + self._limit_s)
                if is_viewable:
                    return
            except HitlessError:
                if self._clock() - lost_s >= self._limit_s:
                    # Now it is the stream: silent since the view was lost.
                    self._liveness.heard(self.kind, lost_s)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _REOPEN_S_MAX)

    async def _leave(self, *, wait: bool = False) -> None:
        if self._subscription is not None:
            subscription, self._subscription = self._subscription, None
            await subscription.aclose(wait=wait)

    def _lost(self, because: str) -> MediaLost:
        return MediaLost(because, provider=self._provider, operation="publish")


def _is_final(status: int) -> bool:
    """Whether a refusal to view says nothing of the stream: it will be the same next time."""
    return (status < 500 and status not in (404, 408, 409, 429)) or status == 501
