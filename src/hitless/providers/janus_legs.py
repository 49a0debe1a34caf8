"""The leg that `Janus` publishes on; who views has a `ViewingLeg` with a `View`."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Awaitable
from typing import Any, Final, Protocol

from ..errors import (
    HitlessError,
    LocalFault,
    MediaLost,
    Refused,
    Retry,
)
from ..media.feed import Feed
from ..media.frame import Kind
from ..media.peer import PublishingPeer
from .base import Stats
from .janus_errors import PUBLISHERS_FULL, JanusError
from .janus_handle import Handle, Message, object_of
from .janus_room import Room
from .janus_socket import LEAVE_S, Session
from .janus_view import Later, Offered, first_lost, sdp_in, unless_lost, without_candidates
from .self_view import OwnView
from .whip_legs import BoundedLeg


UNPUBLISH_S: Final = 0.3
"""How long Janus may take to tell viewers of the end [s]; leaving takes up to 1.7 s more."""


class JanusPublishingLeg(BoundedLeg):
    """
    One stream being published.

    Args:
        session: Carries the signalling; closed by the leg.
        room: Where to publish.
        stream: As what.
        peer: Sends the feed.
        feed: The feed; its owner closes it.
        own_view: Makes what proves that the stream is forwarded, given the view of an own feed's
            sections; None: receiver reports must do.
        keep_view: Whether to go on watching after the proof.
        trickles: Whether our candidates are sent apart from our offer.
        later: Runs what need not be waited for.
    """

    def __init__(
        self,
        session: Session,
        room: Room,
        stream: str,
        peer: PublishingPeer,
        *,
        feed: Feed,
        own_view: MakeOwnView | None,
        keep_view: bool,
        trickles: bool,
        later: Later,
    ) -> None:
        super().__init__(peer.provider, peer.liveness)
        self._session, self._room, self._stream = session, room, stream
        self._peer, self._feed = peer, feed
        self._make_own_view, self._keep_view = own_view, keep_view
        self._trickles, self._later = trickles, later
        self._own_view: OwnView[Offered] | None = None
        self._handle: Handle | None = None
        self._is_joined = False

    async def open(self, deadline: float) -> None:
        """
        Publish, and return when the first media is proven. Called once.

        Raises:
            ProviderError: Not by `deadline` [s, the loop's clock], or refused.
            LocalFault: The source gives no frames, or there is no network.
        """
        made = sum(self._feed.frames_made.values())
        handle = self._handle = await self._session.attach(deadline)
        joined = await self._room.enter(handle, deadline)
        self._is_joined = True
        older = self._room.publishers_of(self._stream, joined.get("publishers"))
        mark = 1 + max((each.mark for each in older), default=0)
        answer = await self._publish(handle, mark, older, deadline)
        await unless_lost(self._peer.connected(deadline), handle)
        try:
            await self._prove(joined, answer, deadline)
        except MediaLost as exc:
            if sum(self._feed.frames_made.values()) == made:
                raise LocalFault(f"{self._provider}: the source gives no frames") from exc
            raise
        if older:
            self._later(self._room.kick(handle, older))

    async def lost(self) -> None:
        """See `Leg.lost`."""
        assert self._handle is not None
        await first_lost(self._peer, self._handle)

    def stats(self) -> list[Stats]:
        """See `Leg.stats`."""
        return list(self._peer.stats())

    # --- Inside ---

    async def _publish(
        self, handle: Handle, mark: int, older: list[Any], deadline: float
    ) -> Message:
        """Offer, take the answer, and return what Janus says about our sections."""
        offer, candidates = await self._peer.offer(), list[Message]()
        if self._trickles:
            offer, candidates = without_candidates(offer)
        try:
            data, jsep = await handle.ask(
                self._room.publish(self._stream, mark), deadline, {"type": "offer", "sdp": offer}
            )
        except JanusError as exc:
            if exc.complaint.code == PUBLISHERS_FULL and not exc.complaint.is_core and older:
                await self._room.kick(handle, older)  # the next attempt finds room
                raise Refused(
                    "the room was full of older publishers of this stream; they were asked to go",
                    provider=self._provider,
                    operation="publish",
                    retry=Retry.SAME,
                ) from exc
            raise self._session.error(exc.complaint) from exc
        sdp = sdp_in(jsep, "answer", self._session)
        for kind in declined(sdp):
            raise Refused(
                f"the room takes no {self._feed.codecs[kind]}: allow the codec in the room, or "
                "publish another one",
                provider=self._provider,
                operation="publish",
            )
        await self._peer.accept(sdp)
        handle.feed_candidates(self._peer.add_candidate)
        await handle.trickle(candidates, deadline)
        return data

    async def _prove(self, joined: Message, answer: Message, deadline: float) -> None:
        assert self._handle is not None
        if self._make_own_view is not None:
            self._own_view = self._make_own_view(joined, answer)
            if await self._own_view.prove(deadline):
                if self._keep_view:
                    self._own_view.keep()
                else:
                    await self._own_view.aclose(wait=False)
                return
        signs = [sender.acknowledged for sender in self._peer.senders] + [self._handle.receiving]
        waiting = [asyncio.create_task(sign.wait()) for sign in signs]
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
                "accepted, but neither receiver reports nor Janus acknowledge our packets",
                provider=self._provider,
                operation="publish",
            )

    async def _close(self, wait: bool) -> None:
        work: list[Awaitable[None]] = [self._peer.aclose()]
        if self._own_view is not None:
            work.append(self._own_view.aclose(wait=wait))
        if wait:
            await self._unpublish()
            work.append(self._leave())
        else:
            self._later(self._leave())
        await asyncio.gather(*work)

    async def _unpublish(self) -> None:
        """
        End the stream for its viewers: Janus tells them, as long as the room is there and we
        are in it.
        """
        if self._handle is not None and self._is_joined and not self._handle.is_lost:
            limit_s = asyncio.get_running_loop().time() + UNPUBLISH_S
            with contextlib.suppress(HitlessError, JanusError):
                await self._handle.ask({"request": "unpublish"}, limit_s)

    async def _leave(self) -> None:
        """Leave the room, take it away if nobody else is in it, and end the session."""
        if self._handle is not None:
            if self._is_joined and not self._session.is_lost:
                limit_s = asyncio.get_running_loop().time() + LEAVE_S / 2
                await self._room.unmake(self._handle, limit_s)
            await self._handle.aclose()
        await self._session.aclose()


class MakeOwnView(Protocol):
    """Makes an own view out of what Janus said when we joined and published."""

    def __call__(self, joined: Message, answer: Message) -> OwnView[Offered]: ...


def mids_of(answer: Message, kind: Kind) -> tuple[str, ...]:
    """Return the sections of one kind that Janus lists for a publisher; none: it lists nothing."""
    streams = answer.get("streams")
    known = [object_of(each) for each in streams] if isinstance(streams, list) else []
    return tuple(str(each["mid"]) for each in known if each.get("type") == kind and "mid" in each)


_SECTION: Final = re.compile(r"^m=(audio|video) (\d+) (.*?)(?=^m=|\Z)", re.MULTILINE | re.DOTALL)


def declined(answer: str) -> list[Kind]:
    """Return the kinds that an answer to our offer turns down: port 0, or inactive."""
    return [
        Kind(kind)
        for kind, port, rest in _SECTION.findall(answer)
        if port == "0" or "a=inactive" in rest
    ]
