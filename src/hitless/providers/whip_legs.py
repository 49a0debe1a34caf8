"""The legs that `Whip` opens: one that publishes, one that views."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from typing import Final, Generic

from yarl import URL

from ..errors import ContractBroken, HitlessError, LocalFault, MediaLost
from ..media.closing import finish
from ..media.feed import Feed
from ..media.frame import EncodedFrame, Kind
from ..media.liveness import Liveness
from ..media.peer import PublishingPeer
from ..media.receive import Take
from ..media.sdp import is_offer
from .base import Stats
from .frame_queue import FrameQueue
from .self_view import OwnView
from .signalling import Answer, Signalling
from .subscription import A, Viewing


AUDIO_ONLY_S: Final = 1.0
"""Sound for so long without any picture [s] counts as first media, though video was agreed on:
the publisher sends none."""


class BoundedLeg(ABC):
    """What both legs share: closing once, bounded, also under cancellation."""

    def __init__(self, provider: str, liveness: Liveness) -> None:
        self._provider = provider
        self._liveness = liveness
        self._closing: asyncio.Task[None] | None = None
        self._when_closed: Callable[[], None] = lambda: None

    @property
    def provider(self) -> str:
        """Name of the provider that carries this leg."""
        return self._provider

    @property
    def liveness(self) -> Liveness:
        """Signs of life on the loop's clock."""
        return self._liveness

    def when_closed(self, tell: Callable[[], None]) -> None:
        """Name whom to tell that nothing is left to close."""
        self._when_closed = tell

    async def aclose(self, *, wait: bool = True) -> None:
        """
        Release everything. Idempotent; never raises; at most 2 s; safe under cancellation.

        Args:
            wait: Whether to wait until the provider knows; else it is told in the background.
        """
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(wait), name=f"{self._provider} close")
            self._closing.add_done_callback(lambda _: self._when_closed())
        await finish(self._closing)

    @abstractmethod
    async def _close(self, wait: bool) -> None: ...


class PublishingLeg(BoundedLeg):
    """
    One stream being published.

    Args:
        signalling: Speaks HTTP.
        url: The WHIP endpoint of the stream.
        peer: Sends the feed.
        feed: The feed; its owner closes it.
        own_view: Proves that the stream is forwarded; None: receiver reports must do.
        keep_view: Whether to go on watching after the proof.

    Attributes:
        answer: What our offer was answered with; None: nothing yet.
    """

    def __init__(
        self,
        signalling: Signalling,
        url: URL,
        peer: PublishingPeer,
        *,
        feed: Feed,
        own_view: OwnView[Answer] | None,
        keep_view: bool,
    ) -> None:
        super().__init__(peer.provider, peer.liveness)
        self._signalling = signalling
        self._url = url
        self._peer = peer
        self._feed = feed
        self._own_view = own_view
        self._keep_view = keep_view
        self.answer: Answer | None = None

    async def open(self, deadline: float) -> None:
        """
        Publish, and return when the first media is proven. Called once.

        Raises:
            ProviderError: Not by `deadline` [s, the loop's clock], or refused.
            LocalFault: The source gives no frames, or there is no network.
        """
        offer = await self._peer.offer()
        made = sum(self._feed.frames_made.values())
        answer = await self._signalling.create("publish", self._url, offer, deadline)
        if answer.status != 201:
            raise self._signalling.refusal(answer, "publish")
        self.answer = answer
        if answer.sdp is None or is_offer(answer.sdp):
            raise self._broken("201 without an answer to our offer")
        if answer.session is None:
            raise self._broken("201 without a usable Location")
        await self._peer.accept(answer.sdp)
        await self._peer.connected(deadline)
        try:
            await self._prove(deadline)
        except MediaLost as exc:
            if sum(self._feed.frames_made.values()) == made:
                raise LocalFault(f"{self._provider}: the source gives no frames") from exc
            raise

    async def lost(self) -> None:
        """See `Leg.lost`."""
        await self._peer.lost()

    def stats(self) -> list[Stats]:
        """See `Leg.stats`."""
        return list(self._peer.stats())

    async def _prove(self, deadline: float) -> None:
        if self._own_view is not None and await self._own_view.prove(deadline):
            if self._keep_view:
                self._own_view.keep()
            else:
                await self._own_view.aclose(wait=False)
            return
        waiting = [
            asyncio.create_task(sender.acknowledged.wait()) for sender in self._peer.senders
        ]
        try:
            limit_s = deadline - asyncio.get_running_loop().time()
            done, _ = await asyncio.wait(
                waiting, timeout=max(limit_s, 0), return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            for task in waiting:
                task.cancel()
        if not done:
            raise MediaLost(
                "accepted, but no receiver report acknowledges our packets",
                provider=self._provider,
                operation="publish",
            )

    async def _close(self, wait: bool) -> None:
        work = [self._peer.aclose()]
        if self._own_view is not None:
            work.append(self._own_view.aclose(wait=wait))
        if self.answer is not None:
            if wait:
                work.append(self._signalling.delete(self.answer))
            else:
                self._signalling.delete_later(self.answer)
        await asyncio.gather(*work)

    def _broken(self, because: str) -> ContractBroken:
        return ContractBroken(because, provider=self._provider, operation="publish")


class ViewingLeg(BoundedLeg, Generic[A]):
    """
    One stream being viewed.

    Args:
        subscribe: Makes the view, given a taker of frames.
        refusal: Returns the error that an answer means which is no yes.

    Attributes:
        answer: What admitted us; None: nothing yet.
    """

    def __init__(
        self, subscribe: Callable[[Take], Viewing[A]], refusal: Callable[[A], HitlessError]
    ) -> None:
        self._subscription = subscribe(self._take)
        peer = self._subscription.peer
        super().__init__(peer.provider, peer.liveness)
        self._refusal = refusal
        self.answer: A | None = None
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
        answer = await self._subscription.ask(deadline)
        if not self._subscription.is_admitted(answer):
            raise self._refusal(answer)
        self.answer = answer
        await self._subscription.connect(answer, deadline)
        try:
            async with asyncio.timeout_at(deadline):
                await self._first.wait()
        except TimeoutError:
            raise MediaLost(
                "connected, but no media came in time", provider=self._provider, operation="view"
            ) from None

    async def lost(self) -> None:
        """See `Leg.lost`."""
        await self._subscription.lost()

    def stats(self) -> list[Stats]:
        """See `Leg.stats`."""
        return list(self._subscription.peer.stats())

    def frames(self) -> AsyncIterator[EncodedFrame]:
        """See `ViewLeg.frames`. A reader that falls 6 s behind loses what it did not read."""
        return self._queue.frames()

    def request_keyframe(self) -> None:
        """See `ViewLeg.request_keyframe`."""
        self._subscription.peer.request_keyframe()

    def _take(self, frame: EncodedFrame) -> None:
        is_kept = self._queue.put(frame)
        if is_kept and not self._first.is_set() and self._is_first(frame):
            self._first.set()

    def _is_first(self, frame: EncodedFrame) -> bool:
        if frame.kind is Kind.VIDEO or Kind.VIDEO not in self._subscription.peer.kinds:
            return True
        if self._audio_s is None:
            self._audio_s = frame.arrived_s
        pictures = sum(
            each.bytes_received
            for each in self._subscription.peer.receivers
            if each.kind is Kind.VIDEO
        )
        return not pictures and frame.arrived_s - self._audio_s >= AUDIO_ONLY_S

    async def _close(self, wait: bool) -> None:
        await self._subscription.aclose(wait=wait)  # gives away what is complete
        self._queue.end()
