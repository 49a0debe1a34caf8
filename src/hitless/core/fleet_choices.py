"""
The three decisions of a fleet move, each a pure function of a value.

`Asked` is all that an order to leave a provider is decided by: whither the streams go, how many,
how fast, or why none may. `Dealing` is all that a node deals its own streams by. `Ending` is all
that tells when a move is over. A server decides by them, keeps them, and `fleet_replay` decides by
them again.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

from . import fleet, rails
from .fleet import Deal, FleetMove, Moving, NodeShare
from .rails import Candidate, Decision, Rails, Targets


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """
    What is known when streams are ordered to leave a provider.

    Attributes:
        source: Whose streams.
        is_operator: A person ordered it, not this server.
        because: Why, in words.
        share: Of the streams with media [0..1].
        default: Who comes before all priorities; None: nobody.
        priorities: Of every provider, the lowest first.
        candidates: Every provider; the source among them tells its fault domain.
        configured: The weight of every provider, as configured.
        shares: The streams of the source that each node has; the ordering node is there too.
        active: Who is not disabled, in the order of their names.
        healthy: Who of them is believed to be well.
        streams: How many streams there are in all.
        rails: The limits of automatic moves; None: the defaults.
    """

    source: str
    is_operator: bool
    because: str
    share: float
    default: str | None
    priorities: Mapping[str, int]
    candidates: Mapping[str, Candidate]
    configured: Mapping[str, float]
    shares: Mapping[str, NodeShare]
    active: tuple[str, ...]
    healthy: tuple[str, ...]
    streams: int
    rails: Rails | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """
    What came of it.

    Attributes:
        plan: The move; None: nothing may move, or there is nowhere to go. Its `id` and `begun_s`
            are the store's to say.
        moving, staying: How many streams.
        because: Whither, or why not, in words.
    """

    plan: FleetMove | None
    moving: int
    staying: int
    because: str


def chosen(asked: Asked) -> Chosen:
    """Return whither the streams go, and how fast; or why they stay."""
    live = sum(share.live for share in asked.shares.values())
    dark = sum(share.dark for share in asked.shares.values())
    aims = _targets(asked, dark=dark, live=live)
    decision = rails.allowed(
        asked.source,
        active=asked.active,
        healthy=asked.healthy,
        streams=asked.streams,
        is_operator=asked.is_operator,
        rails=asked.rails,
    )  # a freeze is obeyed at every look, and so is a thaw
    if not decision.is_allowed or not aims.weights:
        because = aims.because if decision.is_allowed else decision.because
        return Chosen(plan=None, moving=0, staying=dark + live, because=because)
    moving = math.floor(aims.live_share * asked.share * live + 0.5) + dark  # half of one is one
    plan = _plan(asked, aims, decision)
    staying = dark + live - moving
    return Chosen(plan=plan, moving=moving, staying=staying, because=aims.because)


def _targets(asked: Asked, *, dark: int, live: int) -> Targets:
    """Return where to: the best tier of priority that has room for all, or all tiers."""

    def rank(name: str) -> tuple[bool, int]:
        return name != asked.default, asked.priorities[name]

    candidates = asked.candidates
    tried = {  # those that can be none are told of, each with its reason
        name: one for name, one in candidates.items() if name == asked.source or not one.is_usable
    }
    found = rails.targets(asked.source, tried, dark=dark, live=live)
    usable = sorted((name for name, one in candidates.items() if one.is_usable), key=rank)
    for _, tier in itertools.groupby(usable, key=rank):
        tried |= {name: candidates[name] for name in tier}
        found = rails.targets(asked.source, tried, dark=dark, live=live)
        if found.weights and not found.staying and not found.over:
            break
    return found


def _plan(asked: Asked, aims: Targets, decision: Decision) -> FleetMove:
    configured = {name: asked.configured[name] for name in aims.weights}
    return FleetMove(
        id="",  # the row's
        source=asked.source,
        weights=aims.weights,
        configured={**configured, asked.source: asked.configured.get(asked.source, 1.0)},
        starts_per_s={name: asked.candidates[name].starts_per_s for name in aims.weights},
        shares=asked.shares,
        begun_s=0.0,  # the row's
        live_share=aims.live_share * asked.share,
        live_per_minute=decision.live_per_minute,
        because=asked.because,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Dealing:
    """
    What a node deals its own streams by, once.

    Attributes:
        plan: The move.
        streams: Those that this node answers for and may move.
        node: This node.
        now_s: Slots from then on are dealt, by the clock of `FleetMove.begun_s` [s].
        until_s: Slots up to then are; the next look has the others [s].
        is_frozen: Streams with media stay.
    """

    plan: FleetMove
    streams: tuple[Moving, ...]
    node: str
    now_s: float
    until_s: float
    is_frozen: bool

    def dealt(self) -> Deal:
        """Return which streams move until then; some 6 us a stream."""
        deal = fleet.due(
            self.plan, self.streams, node=self.node, now_s=self.now_s, is_frozen=self.is_frozen
        )
        moves = itertools.takewhile(lambda one: one.at_s < self.until_s, deal.moves)
        return Deal(moves=tuple(moves), held=deal.held)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """
    What tells whether a move is over.

    Attributes:
        plan: The move.
        is_operator: A person ordered it, not this server.
        streams: How many its source still has.
        is_well: Its source is known, and nothing speaks for leaving it any more.
        unusable: Targets that are gone, disabled or drained.
        down: Targets that are believed to be down.
        now_s: By the clock of `FleetMove.begun_s` [s].
        spare_s: A move that has had its time and this [s] is over, whoever stayed.
    """

    plan: FleetMove
    is_operator: bool
    streams: int
    is_well: bool
    unusable: tuple[str, ...]
    down: tuple[str, ...]
    now_s: float
    spare_s: float

    def over(self) -> str:
        """Return why the move is over, in words; empty: it is not."""
        source = self.plan.source or ""
        if not self.streams:
            return f"{source} is empty"
        if self.is_well and not self.is_operator:
            return f"{source} is not down any more: the rest stays"
        for name in self.plan.targets:
            if name in self.unusable:
                return f"{name} cannot be used any more"
            if name in self.down and not self.is_operator:
                return f"{name} is down, too"
        if self.now_s - self.plan.begun_s > _length_s(self.plan) + self.spare_s:
            return f"{self.streams} streams stay with {source}"
        return ""


def _length_s(plan: FleetMove) -> float:
    """Return how long a move takes if every stream goes [s]."""
    live = sum(share.live for share in plan.shares.values())
    dark = sum(share.dark for share in plan.shares.values())
    by_target_s = max(
        (live + dark) * plan.weights[name] / plan.starts_per_s[name] for name in plan.targets
    )
    if not plan.live_per_minute:
        return by_target_s
    return by_target_s + 60.0 * live / plan.live_per_minute
