"""What a client is given when it starts or joins a stream: where, in which order, with what."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from ..client.protocol import Plan, PlanRequest
from ..core.events import Role as End
from .clock import wall_s
from .keys import Identity
from .minters import Asker
from .plans import CREDENTIAL_S, OUTAGE_S, Mint, PlanFacts, PlanRefused, PlanSigner
from .store_members import Role
from .store_streams import StreamRow


_FIRST_EPOCH: Final = 1
"""A viewer that waits for a stream's very first publisher finds it there."""


class Planner:
    """
    Writes plans, and reads the ones that clients bring back.

    Args:
        signer: Signs them.
        mint: Makes the credentials in them.
        credential_s: How long the credential of the live leg is valid [s].
        outage_s: How long those of stand-by legs are [s].
        slot_s: Returns the moment of a stream that loses its provider, by both and whom it would
            ask then [s after its media was lost].
    """

    def __init__(
        self,
        signer: PlanSigner,
        mint: Mint,
        *,
        slot_s: Callable[[str, str, str], float] = lambda stream, lost, target: 0.0,
        credential_s: float = CREDENTIAL_S,
        outage_s: float = OUTAGE_S,
    ) -> None:
        self._signer, self._mint, self._slot_s = signer, mint, slot_s
        self._credential_s, self._outage_s = credential_s, outage_s

    def presented(self, request: PlanRequest) -> int:
        """Return the signed epoch that a client brought along; 0: none that counts."""
        facts = self.shown(request.stream, request.plan)
        return facts.epoch if facts else 0

    def shown(self, stream: str, token: str) -> PlanFacts | None:
        """Return what a client's token says of a stream with our signature; None: nothing."""
        if not token:
            return None
        try:
            facts = self._signer.verify(token, wall_s())
        except PlanRefused as refused:
            if refused.expired is None:
                return None
            facts = refused.expired  # it may be believed: nobody else can sign
        return facts if facts.stream == stream else None

    def plan(
        self,
        who: Identity,
        request: PlanRequest,
        role: Role,
        row: StreamRow | None,
        order: Sequence[str],
    ) -> Plan:
        """
        Return the plan of one client for one stream.

        Args:
            who: Whose key it showed.
            request: What it asked for.
            role: Which end it is.
            row: The stream; None: nobody publishes it.
            order: Providers to fall back on that it can open, best first.

        Raises:
            MintRefused: This client gets no more credentials.
        """
        here = row.provider if row else ""
        more = (row.rescue_provider,) if row and row.rescue_provider else ()
        whole = tuple(dict.fromkeys(name for name in (here, *order, *more) if name))
        now_s = wall_s()
        facts = PlanFacts(
            stream=request.stream,
            role=End(role.value),
            epoch=row.epoch if row else 0,
            provider=here,
            client=request.client,
            key=who.key,
            issued_s=int(now_s),
            expires_s=int(now_s + self._outage_s),
        )
        return Plan(
            stream=request.stream,
            role="publisher" if role is Role.PUBLISHER else "viewer",
            epoch=facts.epoch,
            provider=here,
            order=whole,
            credentials=self._credentials(who, request, role, whole, now_s, row),
            credential_s=self._credential_s,
            outage_s=self._outage_s,
            slot_s=self._slot(request.stream, whole) if role is Role.PUBLISHER else 0.0,
            token=self._signer.sign(facts),
            because=row.because if row else "nobody publishes it yet",
        )

    def _slot(self, stream: str, order: Sequence[str]) -> float:
        return self._slot_s(stream, order[0], order[1]) if len(order) > 1 else 0.0

    def _credentials(
        self,
        who: Identity,
        request: PlanRequest,
        role: Role,
        order: Sequence[str],
        now_s: float,
        row: StreamRow | None,
    ) -> dict[str, dict[str, Any]]:
        def minted(end: End) -> dict[str, dict[str, Any]]:
            asker = Asker(
                stream=request.stream,
                role=end,
                client=request.client,
                key=who.key,
                epoch=row.epoch if row else _FIRST_EPOCH,
            )
            made = self._mint.mint_all(order, asker, now_s).credentials
            return {name: dict(one.values) for name, one in made.items()}

        if role is Role.VIEWER:
            return minted(End.VIEWER)
        credentials = minted(End.PUBLISHER)
        for name, viewing in minted(End.VIEWER).items():  # it proves a leg by viewing its stream
            own = credentials.get(name)
            if own is not None:
                own |= {
                    f"view_{field}": value
                    for field, value in viewing.items()
                    if field == "token" or own.get(field) != value
                }
        return credentials
