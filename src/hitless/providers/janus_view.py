"""The view of one feed of a room: of a viewer's, or of a publisher that watches itself."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

from ..errors import ContractBroken, CredentialsRejected, HitlessError, ProviderError, Retry
from ..media.peer import Peer, ViewingPeer
from .janus_handle import Handle, Losable, Message
from .janus_room import Room
from .janus_socket import LEAVE_S, Session


REASON_S: Final = 0.02
"""How long the signalling may take to say why media was closed [s]: both are sent at once."""

Later = Callable[[Coroutine[Any, Any, None]], object]
"""Runs something in the background, owned and bounded by the provider."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offered:
    """What came of a subscription: 201 with Janus's offer, or 403."""

    status: int
    sdp: str = ""


class View:
    """
    A subscription to one feed: a `Viewing`, as WHEP's is one.

    Args:
        session: Carries the signalling; a view with a handle of its own closes it too.
        room: Where the feed is.
        feed: Its number or name.
        new_peer: Makes the peer that receives.
        later: Runs what need not be waited for.
        handle: Attached already; None: one is attached, and only that is given back.
        mids: Of which sections of the feed; none: of all.
        private_id: Our own as a participant, which some rooms want to see.
        trickles: Whether our candidates are sent apart from our answer.
    """

    def __init__(
        self,
        session: Session,
        room: Room,
        feed: int | str,
        new_peer: Callable[[], ViewingPeer],
        *,
        later: Later,
        handle: Handle | None = None,
        mids: tuple[str, ...] = (),
        private_id: int | None = None,
        trickles: bool = False,
    ) -> None:
        self._session, self._room, self._feed = session, room, feed
        self._mids, self._private_id, self._trickles = mids, private_id, trickles
        self._later = later
        self._owns_session = handle is not None
        self._handle = handle
        self._is_closed = False
        self.peer = new_peer()

    async def ask(self, deadline: float) -> Offered:
        """
        Ask once for the feed.

        Raises:
            NotOnAir: It is not there (for a viewer).
            ProviderError: It cannot be had.
        """
        if self._handle is None:
            self._handle = await self._session.attach(deadline)
        body = self._room.subscribe(self._feed, self._mids)
        if self._private_id is not None:
            body["private_id"] = self._private_id
        try:
            _, jsep = await self._handle.request(body, deadline)
        except CredentialsRejected:
            if self._owns_session:
                raise
            return Offered(status=403)  # publishing is allowed here, viewing is not
        return Offered(status=201, sdp=sdp_in(jsep, "offer", self._session))

    @staticmethod
    def is_admitted(offered: Offered) -> bool:
        """Whether we may view."""
        return offered.status == 201

    async def connect(self, offered: Offered, deadline: float) -> None:
        """
        Answer Janus's offer, and connect.

        Raises:
            ProviderError: The answer was not taken, or not connected by `deadline` [s].
        """
        handle = self._attached()
        # Janus may begin DTLS (RFC 5763 section 5 allows either). Where we did, every other join
        # took 1 s more, as if the first greeting came too early and was lost; so, none of 24 did
        # (Janus 1.1.2 on loopback).
        ours = await self.peer.answer(offered.sdp.replace("a=setup:actpass", "a=setup:active"))
        handle.feed_candidates(self.peer.add_candidate)
        candidates: list[Message] = []
        if self._trickles:
            ours, candidates = without_candidates(ours)
        await handle.request({"request": "start"}, deadline, {"type": "answer", "sdp": ours})
        await handle.trickle(candidates, deadline)
        await unless_lost(self.peer.connected(deadline), handle)

    async def lost(self) -> None:
        """See `Leg.lost`."""
        await first_lost(self.peer, self._attached())

    async def aclose(self, *, wait: bool = True) -> None:
        """Close the peer and give back what was attached; in the background unless `wait`."""
        handle = self._handle
        if handle is None or self._is_closed:
            await self.peer.aclose()
            return
        self._is_closed = True
        if wait:
            await asyncio.gather(self.peer.aclose(), self._give_back(handle))
        else:
            self._later(self._give_back(handle))
            await self.peer.aclose()

    async def _give_back(self, handle: Handle) -> None:
        if self._owns_session:
            await self._session.aclose()
        else:
            await handle.detach(asyncio.get_running_loop().time() + LEAVE_S / 2)
        await handle.aclose()

    def _attached(self) -> Handle:
        assert self._handle is not None
        return self._handle


def refusal(offered: Offered, provider: str) -> HitlessError:
    """Return what it means for a viewer not to be admitted; `View.ask` raises all else."""
    return CredentialsRejected(
        "viewing is not allowed", provider=provider, operation="view", retry=Retry.NEXT
    )


def without_candidates(sdp: str) -> tuple[str, list[Message]]:
    """Return a description of ours without its candidates, and these for trickling (RFC 8840)."""
    kept: list[str] = []
    candidates: list[Message] = []
    index, mid = -1, ""
    mids = re.findall(r"^a=mid:(\S+)", sdp, flags=re.MULTILINE)
    for line in sdp.splitlines():
        if line.startswith("m="):
            index += 1
            mid = mids[index] if index < len(mids) else ""
        if line.startswith("a=candidate:"):
            if index == 0:  # all sections share the first one's transport
                candidates.append({"candidate": line[2:], "sdpMid": mid, "sdpMLineIndex": 0})
        elif line != "a=end-of-candidates":
            kept.append(line)
    return "\r\n".join(kept) + "\r\n", candidates


def sdp_in(jsep: Message | None, kind: str, session: Session) -> str:
    """
    Return the description that Janus owes us.

    Raises:
        ContractBroken: There is none, or it is of another type.
    """
    if jsep is None or jsep.get("type") != kind or not isinstance(jsep.get("sdp"), str):
        raise ContractBroken(
            f"it sent no {kind} to negotiate",
            provider=session.provider,
            operation=session.operation,
        )
    return str(jsep["sdp"])


async def unless_lost(work: Coroutine[Any, Any, None], lost: Losable) -> None:
    """Wait for work, but no longer than until `lost` says why it is in vain."""
    tasks = [asyncio.create_task(work), asyncio.create_task(lost.lost())]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def first_lost(peer: Peer, handle: Handle) -> None:
    """
    Wait until the media or the signalling is lost; never returns.

    Raises:
        ProviderError: It happened; in the words of the signalling, which knows why.
    """
    try:
        await unless_lost(peer.lost(), handle)
    except ProviderError:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REASON_S):
                await handle.lost()
        raise
