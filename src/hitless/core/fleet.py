"""
A fleet move: one small event from which each node works out its own streams, and when.

The event names the source, the targets with their weights and rates, and how many streams each
node has there. Which target a stream goes to is `rendezvous.place_next`, when it goes is `pacing`:
nothing is asked of other nodes, and nothing is sent per stream.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from ..errors import ConfigError
from .pacing import Slots, Times, reserve, slot_s
from .rendezvous import Constraint, Keys, draw, place, place_next


_ROOM: Final = "room:"
"""Salt of the draw that says which streams with media may move."""

_RESOLUTION_S: Final = 1e-6
"""Times of this century, in seconds since 1970, are no finer than 0.24 us [s]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeShare:
    """
    How many of the affected streams a node has when the event is made.

    Attributes:
        dark: Those without media.
        live: Those with media.
    """

    dark: int = 0
    live: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetMove:
    """
    The event. The same bytes for every node, however many streams it moves.

    Exactly one of `source` and `returning` is given: streams leave a provider, or those that
    belong to a recovered one come back to it.

    A node that dies takes its slots along, and whoever gets its streams moves them in its own: a
    new event with the shares as they are then, begun later, replaces the older one.

    Attributes:
        id: Of the move.
        source: Whose streams leave; its weight is 0 or absent.
        returning: Who gets back the streams, and no others, that belong to it.
        weights: Leaving: the targets, by head-room. Returning: all providers by `configured`,
            those that are down too (their streams are still theirs), but the climbing one.
        configured: Leaving: the weights that streams are placed by when nothing is wrong, the
            source's among them. Returning: not needed.
        starts_per_s: What each target accepts from this move [1/s]; moves that run at the same
            time share what it accepts.
        shares: The affected streams of each node. They need not be exact: see `pacing`. A node
            that has none takes part too, in case it is given some.
        begun_s: When it began, by a clock that all nodes can read [s].
        live_share: The part of the streams with media that may move [0..1], by their own hash.
        live_per_minute: Most streams with media to move per minute, over all nodes; 0: only
            dark ones move; None: as many as the targets accept.
        because: Why, in words.

    Raises:
        ConfigError: The event contradicts itself; the message says how.
    """

    id: str
    source: str | None = None
    returning: str | None = None
    weights: Mapping[str, float]
    configured: Mapping[str, float] = field(default_factory=dict)
    starts_per_s: Mapping[str, float]
    shares: Mapping[str, NodeShare]
    begun_s: float
    live_share: float = 1.0
    live_per_minute: int | None = None
    because: str

    def __post_init__(self) -> None:
        if (self.source is None) is (self.returning is None):
            raise ConfigError(f"fleet move {self.id}: give either source or returning")
        if self.source is not None and self.weights.get(self.source):
            raise ConfigError(f"fleet move {self.id}: {self.source} cannot be its own target")
        if self.source is not None and not self.configured:
            raise ConfigError(f"fleet move {self.id}: give the configured weights")
        if self.returning is not None and not self.weights.get(self.returning):
            raise ConfigError(f"fleet move {self.id}: {self.returning} has no weight to return to")
        for name in self.targets:
            rate = self.starts_per_s.get(name, 0.0)
            if not (math.isfinite(rate) and rate > 0.0):
                raise ConfigError(f"fleet move {self.id}: starts_per_s of {name} must be above 0")

    @property
    def targets(self) -> tuple[str, ...]:
        """Who is given streams, in the order of their names."""
        if self.returning is not None:
            return (self.returning,)
        return tuple(sorted(name for name, weight in self.weights.items() if weight > 0.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Moving:
    """
    One stream of this node, as a fleet move sees it.

    Attributes:
        id: The stream.
        key: `rendezvous.key` of its id, or of its group's id, which keeps a group together.
        provider: Who carries it now.
        has_media: Whether anybody sees it; of a group: all of it.
        can_open: The providers that its clients can open; None: all.
    """

    id: str
    key: int
    provider: str
    has_media: bool
    can_open: frozenset[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """
    One stream's move.

    Attributes:
        stream: Its id.
        target: Where it goes.
        at_s: When, by the clock of `FleetMove.begun_s` [s].
    """

    stream: str
    target: str
    at_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Deal:
    """
    What one node does about a fleet move.

    Attributes:
        moves: Which stream goes where and when, soonest first.
        held: How many affected streams do not move, by reason.
    """

    moves: tuple[Due, ...]
    held: Mapping[str, int]


def due(
    move: FleetMove,
    streams: Iterable[Moving],
    *,
    node: str,
    now_s: float,
    is_frozen: bool = False,
) -> Deal:
    """
    Deal a node's own slots to its own streams.

    Dark streams have the first slots. Streams with media begin when the slots reserved for the
    dark streams of every node are over, and go no faster than `live_per_minute`. No slot is dealt
    whose time has come by `now_s` (but the very first, at the very beginning), and a stream whose
    move is done is no longer at its source: so the deal may be made again at any time, with
    whatever streams there are then (after a thaw, when clients of a dead node came over, when a
    stream went dark). The newer deal replaces the older one.

    It costs some 6 us a stream: a node with very many does it in a thread.

    Of a return only streams with media take part: a dark one is already looking for a leg.

    Args:
        move: The event.
        streams: The streams that this node owns and may act on.
        node: This node, as in `FleetMove.shares`; a node that is not there moves nothing.
        now_s: The time now, by the clock of `FleetMove.begun_s` [s].
        is_frozen: Streams with media stay.
    """
    held: Counter[str] = Counter()
    affected = sorted(
        (stream for stream in streams if _is_affected(move, stream)),
        key=lambda stream: (stream.key, stream.id),
    )
    if node not in move.shares:
        return Deal(moves=(), held={f"{node} has no share of this move": len(affected)})
    placed = _placed(move, affected, held)
    live = [item for item in placed if item[0].has_media]
    dark = [item for item in placed if not item[0].has_media]
    if move.returning is not None:
        held["dark: it looks for a leg by itself"] += len(dark)
        dark = []
    live = _free_to_go(move, live, held, is_frozen=is_frozen)
    elapsed_s = now_s - move.begun_s
    moves = _dealt(move, dark, live, node, elapsed_s + _RESOLUTION_S if elapsed_s > 0.0 else 0.0)
    moves.sort(key=lambda one: (one.at_s, one.stream))
    return Deal(moves=tuple(moves), held={why: count for why, count in held.items() if count})


def share_for(keys: Keys, count: int) -> float:
    """
    Return the `FleetMove.live_share` by which `count` of these streams with media may move.

    Those of one group share a key and go together, so it may be more: see `going`. It lies
    between two draws: a draw itself would tell a stream's key to whoever reads the plan.

    Args:
        keys: Of each stream, as `Moving.key`.
        count: How many; beyond the number of keys: all.
    """
    if count <= 0:
        return 0.0
    drawn = np.sort(draw(keys, _ROOM))
    above = drawn[drawn > drawn[min(count, len(keys)) - 1]] if len(keys) else drawn
    return float((drawn[-len(above) - 1] + above[0]) / 2.0) if len(above) else 1.0


def going(keys: Keys, live_share: float) -> int:
    """Return how many of these streams with media may move by a `FleetMove.live_share`."""
    return int(np.count_nonzero(draw(keys, _ROOM) <= live_share))


def _is_affected(move: FleetMove, stream: Moving) -> bool:
    if move.source is not None:
        return stream.provider == move.source
    return stream.provider != move.returning


def _placed(
    move: FleetMove, affected: Sequence[Moving], held: Counter[str]
) -> list[tuple[Moving, str]]:
    """Return each stream with its target, in the order given; count those that have none."""
    everybody, classes, of = frozenset(move.weights), dict[frozenset[str], int](), []
    for stream in affected:
        can_open = everybody if stream.can_open is None else stream.can_open
        of.append(classes.setdefault(can_open, len(classes)))
    constraint = Constraint(can_open=tuple(classes), classes=np.array(of, np.int64))
    keys = np.array([stream.key for stream in affected], np.uint64)
    if move.source is not None:
        answer = place_next(keys, move.source, move.configured, move.weights, constraint)
    else:
        answer = place(keys, move.weights, constraint)
    placed = []
    for stream, at in zip(affected, answer.index.tolist(), strict=True):
        if at < 0:
            held["its clients can open no target"] += 1
        elif move.returning is None or answer.names[at] == move.returning:
            placed.append((stream, answer.names[at]))
    return placed


def _free_to_go(
    move: FleetMove,
    live: Sequence[tuple[Moving, str]],
    held: Counter[str],
    *,
    is_frozen: bool,
) -> list[tuple[Moving, str]]:
    """Return the streams with media that may move; count the others."""
    if is_frozen:
        held["frozen"] += len(live)
        return []
    if move.live_per_minute is not None and move.live_per_minute <= 0:
        held["only streams without media move"] += len(live)
        return []
    drawn = draw(np.array([stream.key for stream, _ in live], np.uint64), _ROOM)
    free = [item for item, at in zip(live, drawn.tolist(), strict=True) if at <= move.live_share]
    held["no room at the targets"] += len(live) - len(free)
    return free


def _dealt(
    move: FleetMove,
    dark: Sequence[tuple[Moving, str]],
    live: Sequence[tuple[Moving, str]],
    node: str,
    elapsed_s: float,
) -> list[Due]:
    """Return the moves of a node's streams, whose order here is their order of moving."""
    nodes = sorted(move.shares)
    slots = _slots(move, nodes, node)
    wanted = _wanted(move, slots, len(live), elapsed_s)
    moves = []
    for target, own in slots.items():
        first = [stream for stream, to in dark if to == target]
        then = [at for at, (_, to) in enumerate(live) if to == target]
        numbers = np.arange(len(first), dtype=np.int64) + own.first(np.array([elapsed_s]))
        # A stream with media has the first own slot that is free when its turn has come.
        count = np.arange(len(then), dtype=np.int64)
        free = own.first(wanted[then])
        if len(first):
            free = np.maximum(free, numbers[-1] + 1)
        numbers = np.concatenate([numbers, np.maximum.accumulate(free - count) + count])
        times_s = (own.at_s(numbers) + move.begun_s).tolist()
        names = [stream.id for stream in first] + [live[at][0].id for at in then]
        moves += [
            Due(stream=name, target=target, at_s=at_s)
            for name, at_s in zip(names, times_s, strict=True)
        ]
    return moves


def _slots(move: FleetMove, nodes: Sequence[str], node: str) -> dict[str, Slots]:
    """Return the node's slots at each target. No two nodes may sum otherwise: hence `fsum`."""
    shares = [move.shares[name] for name in nodes]
    whole = math.fsum(move.weights[name] for name in move.targets)
    dark = [0 if move.returning is not None else share.dark for share in shares]
    return {
        target: Slots(
            starts_per_s=move.starts_per_s[target],
            node=nodes.index(node),
            shares=[max(1, share.dark + share.live) for share in shares],
            reserved=reserve(dark, move.weights[target] / whole),
        )
        for target in move.targets
    }


def _wanted(move: FleetMove, slots: Mapping[str, Slots], count: int, elapsed_s: float) -> Times:
    """
    Return from when on each of the node's `count` streams with media may move; it grows.

    The cap has slots of its own, dealt to the nodes like a target's: over all nodes and targets
    there are at most `live_per_minute` of them in a minute.
    """
    live_s = max(
        (
            float(slot_s(np.array(sum(own.reserved)), own.starts_per_s))
            for own in slots.values()
            if any(own.reserved)
        ),
        default=0.0,
    )
    if move.live_per_minute is None or not slots or not count:
        return np.full(count, max(live_s, elapsed_s))
    any_own = next(iter(slots.values()))
    cap = Slots(starts_per_s=move.live_per_minute / 60.0, node=any_own.node, shares=any_own.shares)
    first = cap.first(np.array([elapsed_s - live_s]))
    return live_s + cap.at_s(first + np.arange(count, dtype=np.int64))
