"""
Ordering that streams leave a provider: whither, how fast, and whether it may be.

What is ordered is one row; `fleet.py` moves by it. It is decided by `core/fleet_choices.py`, and
the limits of automatic acts are `core/rails.py`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from ..core import fleet, rails, rendezvous
from ..core.agreement import By
from ..core.evidence import Word
from ..core.fleet_choices import Asked, chosen
from .coordinator import Rejected, Tell
from .judging import Judge
from .moves import STARTS_PER_S
from .providers import Providers
from .quotas import limits_of
from .store import Store
from .store_nodes import Lease
from .store_operators import ProviderRow
from .store_rows import Audit
from .store_streams import NodeCount


if TYPE_CHECKING:
    from .wire import Settings

TOPIC: Final = "fleet"
"""What other nodes are woken with."""

COUNTED_MAX: Final = 10_000
"""Of at most so many streams with media the share is counted, not drawn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """
    A wish to empty a provider.

    Attributes:
        source: Whose streams.
        by: An operator, or this server.
        who: For the audit log: a key's id, a node.
        because: Why, in words.
        target: Where to; empty: wherever they can go.
        share: Of the streams with media [0..1].
    """

    source: str
    by: By
    who: str
    because: str
    target: str = ""
    share: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordered:
    """How many streams are on their way, how many stay, and why."""

    moving: int
    staying: int
    because: str


class Orders:
    """
    Writes fleet moves.

    Args:
        store: Where the rows are.
        providers: Where streams can go.
        judge: How providers are.
        node: Name of this node.
        settings: What holds for the whole server.
        tell: Hears every event.
        limits: Of automatic moves; None: the defaults.
    """

    def __init__(
        self,
        *,
        store: Store,
        providers: Providers,
        judge: Judge,
        node: str,
        settings: Callable[[], Settings],
        tell: Tell,
        limits: rails.Rails | None = None,
    ) -> None:
        self._store, self._providers, self._judge = store, providers, judge
        self._node, self._settings, self._tell = node, settings, tell
        self._rails = limits

    async def followed(
        self, before: Sequence[str], who: str, because: str, *, is_preference: bool
    ) -> None:
        """
        Order what a change by an operator means to move.

        Args:
            before: The order of the providers before the change.
            who: For the audit log.
            because: Why, in words.
            is_preference: A priority or the default was changed: streams go to whoever is first
                now. Not when a provider is enabled again or drained no more: what is on air
                stays.
        """
        after = self._providers.order()
        leaving = [Order(source=gone, by=By.OPERATOR, who=who, because=because)
                   for gone in before if gone not in after]  # fmt: skip
        if is_preference and after and (not before or before[0] != after[0]):
            leaving += [
                Order(source=other, by=By.OPERATOR, who=who, because=because, target=after[0])
                for other in after[1:]
            ]
        for order in leaving:
            try:
                await self.order(order)
            except Rejected as rejected:
                self._tell("move.refused", provider=order.source, because=rejected.because)

    async def order(self, order: Order, lease: Lease | None = None) -> Ordered:
        """
        Empty a provider; the nodes are told, and move their own streams from now on.

        Args:
            order: What is wanted.
            lease: What it is ordered by, if by this server.

        Raises:
            Rejected: It must not be, or there is nowhere to go; says why.
        """
        shares = await self._store.streams.shares(order.source)
        count = sum(share.streams for share in shares)
        if not count:
            return Ordered(moving=0, staying=0, because=f"{order.source} carries nothing")
        loads = {count.provider: count.streams for count in await self._store.streams.counts()}
        asked = self._asked(order, shares, loads)
        found = chosen(asked)
        now = asyncio.get_running_loop().time()
        self._judge.recording.fleet.ordered(asked, found, now)
        if found.plan is None:
            raise Rejected(409, "no-move", found.because)
        plan, moving = await self._counted(found.plan, found.moving)
        because = f"{order.because}; {found.because}"
        if order.by is By.SERVER and self._settings().mode == "observe":
            because = f"only observed: {moving} streams would move {found.because}"
            return Ordered(moving=0, staying=count, because=because)
        audit = Audit(
            who=order.who,
            what="streams.moved",
            target=order.source,
            because=because,
            after={"targets": dict(plan.weights), "streams": moving,
                   "live_per_minute": plan.live_per_minute},
        )  # fmt: skip
        for other in await self._store.fleet_moves.open():
            if other.source == order.source:  # the newer one replaces it
                await self._store.fleet_moves.finish(other.id)
        row = await self._store.fleet_moves.insert(
            order.source, plan, by=order.by, because=order.because,
            audit=audit, wake=TOPIC, lease=lease,
        )  # fmt: skip
        if row is None:
            raise Rejected(409, "no-lease", "another node leads now")
        self._tell(
            "streams.moved",
            provider=order.source, because=because, moved=moving, stayed=count - moving,
        )  # fmt: skip
        return Ordered(moving=moving, staying=count - moving, because=because)

    async def _counted(self, plan: fleet.FleetMove, moving: int) -> tuple[fleet.FleetMove, int]:
        """
        Return the plan with the share by which that many streams move, and how many do.

        A hash says which streams are in a share, so of a few more or less would move than was
        said. Of more than `COUNTED_MAX` with media the difference is under 1 %, and nobody reads
        them all.
        """
        live = sum(share.live for share in plan.shares.values())
        if plan.live_share >= 1.0 or live > COUNTED_MAX:
            return plan, moving
        found: list[int] = []
        dark, after = 0, None
        while rows := await self._store.streams.page(
            provider=plan.source, is_on=True, after=after
        ):
            after = rows[-1].id
            found += [rendezvous.key(row.group_id) for row in rows if row.is_carried]
            dark += sum(not row.is_carried for row in rows)
        keys = np.array(found, np.uint64)
        plan = replace(plan, live_share=fleet.share_for(keys, moving - dark))
        return plan, fleet.going(keys, plan.live_share) + dark

    def _asked(self, order: Order, shares: Sequence[NodeCount], loads: Mapping[str, int]) -> Asked:
        """Return all that the order is decided by."""
        rows = self._providers.rows
        active = sorted(name for name, row in rows.items() if row.is_active)
        bad = (Word.DOWN, Word.DISABLED)
        of_nodes = {
            share.node: fleet.NodeShare(dark=share.streams - share.carried, live=share.carried)
            for share in shares
        }
        return Asked(
            source=order.source,
            is_operator=order.by is By.OPERATOR,
            because=order.because,
            share=order.share,
            default=self._providers.default,
            priorities={name: row.priority for name, row in rows.items()},
            candidates={
                name: self._candidate(order, row, loads.get(name, 0)) for name, row in rows.items()
            },
            configured={name: row.weight for name, row in rows.items()},
            shares={self._node: fleet.NodeShare(), **of_nodes},
            active=tuple(active),
            healthy=tuple(name for name in active if self._judge.verdict(name).word not in bad),
            streams=sum(loads.values()),
            rails=self._rails,
        )

    def _candidate(self, order: Order, row: ProviderRow, streams: int) -> rails.Candidate:
        limits = limits_of(row)
        because = self._why_not(order, row)
        return rails.Candidate(
            weight=(row.weight or 1.0) if order.target else row.weight,
            starts_per_s=limits.starts_per_s or STARTS_PER_S,
            max_streams=limits.max_streams,
            streams=streams,
            fault_domain=limits.fault_domain,
            is_usable=not because,
            because=because,
        )

    def _why_not(self, order: Order, row: ProviderRow) -> str:
        """Return why a provider is no target, whatever room it has; empty: it may be one."""
        if row.name == order.source:
            return "it is the source"
        if order.target and row.name != order.target:
            return f"{order.target} was asked for"
        if not row.is_active:
            return "it is disabled"
        if row.is_drained:
            return "it is drained"
        is_down = self._judge.verdict(row.name).word is Word.DOWN
        return "it is down" if is_down and not order.target else ""
