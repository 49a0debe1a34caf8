"""Views of a stream: what legs and self-views ask of one, and the one that is a WHEP session."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

from yarl import URL

from ..errors import ContractBroken
from ..media.peer import ViewingPeer
from ..media.sdp import is_offer
from .signalling import Answer, Signalling


class Verdict(Protocol):
    """What a server said when it was asked for a view: HTTP's status, or what means the same."""

    @property
    def status(self) -> int: ...


A = TypeVar("A", bound=Verdict)


class Viewing(Protocol[A]):
    """A view of one stream. Asked until it is admitted, connected once, always closed."""

    @property
    def peer(self) -> ViewingPeer:
        """What receives; another one after `connect`, if the server prefers to offer itself."""

    async def ask(self, deadline: float) -> A:
        """Ask once, until `deadline` [s, the loop's clock]; see `is_admitted`."""

    def is_admitted(self, answer: A, /) -> bool:
        """Whether an answer is a yes."""

    async def connect(self, answer: A, deadline: float, /) -> None:
        """Connect by an answer that is a yes, until `deadline` [s, the loop's clock]."""

    async def lost(self) -> None:
        """See `Leg.lost`; only after `connect`."""

    async def aclose(self, *, wait: bool = True) -> None:
        """Give everything back, in the background unless `wait`. Idempotent; bounded."""


class Subscription:
    """
    A view of one stream at one WHEP endpoint.

    Args:
        signalling: Speaks HTTP.
        url: The WHEP endpoint of the stream.
        new_peer: Makes a peer; called again when the server prefers to offer itself.
    """

    def __init__(
        self, signalling: Signalling, url: URL, new_peer: Callable[[], ViewingPeer]
    ) -> None:
        self._signalling = signalling
        self._url = url
        self._new_peer = new_peer
        self._offer: str | None = None
        self._created: list[Answer] = []
        self.peer = new_peer()

    async def ask(self, deadline: float) -> Answer:
        """
        Ask once, with the same offer every time; return the answer, whatever its status.

        Raises:
            ProviderError: No usable answer came.
            LocalFault: This machine has no network.
        """
        if self._offer is None:
            self._offer = await self.peer.offer()
        answer = await self._signalling.create(
            "view", self._url, self._offer, deadline, self.headers(self._offer)
        )
        if self.is_admitted(answer):
            self._created.append(answer)
        return answer

    def headers(self, offer: str) -> Mapping[str, str]:
        """Return more headers to ask with; WHEP needs none."""
        return {}

    @staticmethod
    def is_admitted(answer: Answer) -> bool:
        """Whether an answer is a yes: 201, or 406 with the server's counter-offer."""
        return answer.status == 201 or (answer.status == 406 and answer.sdp is not None)

    async def connect(self, answer: Answer, deadline: float) -> None:
        """
        Connect by an answer that admits us.

        Raises:
            ContractBroken: Its description is missing, unusable, or without a Location.
            MediaLost: Not connected by `deadline` [s, the loop's clock].
        """
        peer = self.peer
        if answer.sdp is None or answer.session is None:
            lacks = "session description" if answer.sdp is None else "usable Location"
            raise ContractBroken(
                f"HTTP {answer.status} without a {lacks}",
                provider=peer.provider,
                operation=peer.operation,
            )
        if answer.status == 406 or is_offer(answer.sdp):
            # The counter-offer of WHEP; older servers put it into a 201.
            await peer.aclose()
            self.peer = peer = self._new_peer()
            ours = await peer.answer(answer.sdp)
            await self._signalling.patch(peer.operation, answer, ours, deadline)
        else:
            await peer.accept(answer.sdp)
        await peer.connected(deadline)

    async def lost(self) -> None:
        """See `Leg.lost`."""
        await self.peer.lost()

    async def aclose(self, *, wait: bool = True) -> None:
        """Close the peer and end the session, in the background unless `wait`. Idempotent."""
        created, self._created = self._created, []
        if wait:
            ended = [self._signalling.delete(answer) for answer in created]
            await asyncio.gather(self.peer.aclose(), *ended)
            return
        for answer in created:
            self._signalling.delete_later(answer)
        await self.peer.aclose()
