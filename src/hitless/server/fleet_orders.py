"""
Ordering that streams leave a provider: whither, how fast, and whether it may be.

What is ordered is one row; `fleet.py` moves by it. The limits of automatic acts are
`core/rails.py`'s.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ..core import fleet, rails
from ..core.agreement import By
from ..core.evidence import Word
from .coordinator import Rejected, Tell
from .judging import Judge
from .moves import STARTS_PER_S
from .providers import Providers
from .store import Store
from .store_nodes import Lease
from .store_operators import ProviderRow
from .store_rows import Audit
from .store_streams import NodeCount


if TYPE_CHECKING:
    from .wire import Settings

TOPIC: Final = "fleet"
"""What other nodes are woken with."""


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
        live = sum(share.carried for share in shares)
        dark = sum(share.streams for share in shares) - live
        if not dark + live:
            return Ordered(moving=0, staying=0, because=f"{order.source} carries nothing")
        loads = {count.provider: count.streams for count in await self._store.streams.counts()}
        aims = self._targets(order, loads, dark=dark, live=live)
        decision = self._decision(order, sum(loads.values()))
        if not decision.is_allowed or not aims.weights:
            because = aims.because if decision.is_allowed else decision.because
            raise Rejected(409, "no-move", because)
        moving = round(aims.live_share * order.share * live) + dark
        because = f"{order.because}; {aims.because}"
        if order.by is By.SERVER and self._settings().mode == "observe":
            because = f"only observed: {moving} streams would move {aims.because}"
            return Ordered(moving=0, staying=dark + live, because=because)
        plan = self._plan(order, shares, aims, decision)
        audit = Audit(
            who=order.who,
            what="streams.moved",
            target=order.source,
            because=because,
            after={"targets": dict(aims.weights), "streams": moving,
                   "live_per_minute": decision.live_per_minute},
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
            provider=order.source, because=because, moved=moving, stayed=dark + live - moving,
        )  # fmt: skip
        return Ordered(moving=moving, staying=dark + live - moving, because=because)

    def _targets(
        self, order: Order, loads: Mapping[str, int], *, dark: int, live: int
    ) -> rails.Targets:
        """Return where to: the best tier of priority that has room for all, or all tiers."""
        rows = self._providers.rows
        source = rows.get(order.source)
        candidates = {
            name: self._candidate(order, row, loads.get(name, 0)) for name, row in rows.items()
        }
        usable = sorted(
            (row for name, row in rows.items() if candidates[name].is_usable),
            key=lambda row: (row.name != self._providers.default, row.priority),
        )
        tiers = itertools.groupby(
            usable, key=lambda row: (row.name != self._providers.default, row.priority)
        )
        chosen = {source.name: candidates[source.name]} if source is not None else {}
        found = rails.targets(order.source, chosen, dark=dark, live=live)
        for _, tier in tiers:
            chosen |= {row.name: candidates[row.name] for row in tier}
            found = rails.targets(order.source, chosen, dark=dark, live=live)
            if found.weights and not found.staying and not found.over:
                break
        return found

    def _candidate(self, order: Order, row: ProviderRow, streams: int) -> rails.Candidate:
        most, domain = row.config.get("max_streams"), row.config.get("fault_domain")
        is_chosen = not order.target or row.name == order.target
        is_well = self._judge.verdict(row.name).word is not Word.DOWN or bool(order.target)
        return rails.Candidate(
            weight=(row.weight or 1.0) if order.target else row.weight,
            starts_per_s=row.starts_per_s or STARTS_PER_S,
            max_streams=most if isinstance(most, int) else None,
            streams=streams,
            fault_domain=domain if isinstance(domain, str) else "",
            is_usable=row.is_active and not row.is_drained and is_chosen and is_well
            and row.name != order.source,
        )  # fmt: skip

    def _decision(self, order: Order, streams: int) -> rails.Decision:
        active = {name for name, row in self._providers.rows.items() if row.is_active}
        bad = (Word.DOWN, Word.DISABLED)
        return rails.allowed(
            order.source,
            active=active,
            healthy={name for name in active if self._judge.verdict(name).word not in bad},
            streams=streams,
            is_operator=order.by is By.OPERATOR,
            rails=self._rails,
        )  # a freeze is obeyed at every look, and so is a thaw

    def _plan(
        self,
        order: Order,
        shares: Sequence[NodeCount],
        aims: rails.Targets,
        decision: rails.Decision,
    ) -> fleet.FleetMove:
        rows = self._providers.rows
        source = rows.get(order.source)
        configured = {name: rows[name].weight for name in aims.weights}
        return fleet.FleetMove(
            id="",  # the row's
            source=order.source,
            weights=aims.weights,
            configured={**configured, order.source: source.weight if source else 1.0},
            starts_per_s={n: rows[n].starts_per_s or STARTS_PER_S for n in aims.weights},
            shares={
                self._node: fleet.NodeShare(),
                **{
                    share.node: fleet.NodeShare(
                        dark=share.streams - share.carried, live=share.carried
                    )
                    for share in shares
                },
            },
            begun_s=0.0,  # the row's
            live_share=aims.live_share * order.share,
            live_per_minute=decision.live_per_minute,
            because=order.because,
        )
