"""
The fleet moves of a node, kept to be decided again: what was ordered, what it dealt, and the end.

When a move began here, and since when it is no more open, was decided elsewhere, or just happened:
of that there are notes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from ..core.fleet import Deal, Due, FleetMove, Moving
from ..core.fleet_choices import Asked, Chosen, Dealing, Ending
from ..core.fleet_replay import Dealt, Ended, Ordered, end_line, move_lines, order_line
from ..core.stream_choices import Note
from ..core.stream_replay import note_line
from .pseudonyms import Pseudonyms
from .ring import Ring
from .stand_in_keys import Named, stand_ins


WEIGHT_MAX: Final = 60_000
"""Streams that are kept in all deals, at some 0.2 kB each, and orders and ends, at 1 kB."""

_ORDER_WEIGHT: Final = 8


@dataclass(frozen=True, slots=True)
class _TooMany:
    at_s: float
    move: str
    streams: int


@dataclass(frozen=True, slots=True, eq=False)
class _Run:
    """Deals of a move that follow each other; after one that is not kept, others begin."""

    move: str


_Streams = Mapping[str, Moving]


class FleetRecording:
    """
    The last orders and deals of a node, and when its moves began and were over.

    A deal of more than a sixth of `weight_max` streams is not kept, but counted: comparing it with
    the one before takes some 1 us a stream, in the loop.

    Args:
        keep_s, piece_s, weight_max: See `Ring`.
    """

    def __init__(self, *, keep_s: float, piece_s: float, weight_max: int = WEIGHT_MAX) -> None:
        self._ring: Ring[_Run | None, _Streams, Ordered | Dealt | Ended | Note | _TooMany] = Ring(
            keep_s=keep_s, piece_s=piece_s, weight_max=weight_max
        )
        self._streams_max = weight_max // 6
        self._open: dict[str, str] = {}
        """By move that began here: its source."""
        self._last: dict[str, tuple[_Run, FleetMove, _Streams]] = {}

    @property
    def weight(self) -> int:
        """How much is kept now."""
        return self._ring.weight

    def ordered(self, asked: Asked, chosen: Chosen, now: float) -> None:
        """Keep an order to leave a provider, decided `now` [s], and what came of it."""
        self._ring.add(None, {}, Ordered(at_s=now, asked=asked, chosen=chosen), _ORDER_WEIGHT)

    def begun(self, move: str, source: str, because: str, now: float) -> None:
        """Note that this node takes part in a move from `now` on [s]."""
        self._open[move] = source
        note = Note(at_s=now, name="move.begun", move=move, provider=source, because=because)
        self._ring.add(None, {}, note, 1)

    def ended(self, move: str, ending: Ending, over: str, now: float) -> None:
        """Keep that a move was found to be over, `now` [s], and why."""
        entry = Ended(at_s=now, move=move, ending=ending, over=over)
        self._ring.add(None, {}, entry, _ORDER_WEIGHT)

    def dealt(self, move: str, dealing: Dealing, deal: Deal, now: float) -> None:
        """Keep what was dealt of a move, `now` [s]."""
        if len(dealing.streams) > self._streams_max:
            self._last.pop(move, None)
            self._ring.add(None, {}, _TooMany(now, move, len(dealing.streams)), 1)
            return
        run, plan, before = self._last.get(move) or (_Run(move), dealing.plan, {})
        if plan != dealing.plan:
            plan = dealing.plan
        # A stream that stayed is the object it was: what is kept is not kept twice.
        streams = {one.id: before[one.id] if before.get(one.id) == one else one
                   for one in dealing.streams}  # fmt: skip
        self._last[move] = run, plan, streams
        entry = Dealt(
            at_s=now,
            dealing=replace(dealing, plan=plan, streams=()),
            gone=tuple(name for name in before if name not in streams),
            come=tuple(one for name, one in streams.items() if before.get(name) is not one),
            deal=deal,
        )
        weight = 1 + len(entry.come) + len(entry.gone) + len(deal.moves)
        self._ring.add(run, before, entry, weight, len(before))

    def keep(self, moves: Collection[str], now: float) -> None:
        """
        Only these moves are open, `now` [s]: note that the others are over.

        What the next deal of those would be compared with is forgotten.
        """
        for move in [move for move in self._open if move not in moves]:
            note = Note(at_s=now, name="move.over", move=move, provider=self._open.pop(move))
            self._ring.add(None, {}, note, 1)
        self._last = {move: last for move, last in self._last.items() if move in moves}

    def since(self, since_s: float) -> FleetExcerpt:
        """Return what there is since a moment [s], to be written in a thread."""
        span = self._ring.since(since_s)
        orders, left_out, runs = list[Ordered](), list[_TooMany](), dict[_Run, list[Dealt]]()
        ends, notes = list[Ended](), list[Note]()
        for run, entry in span.entries:
            match entry:
                case Ordered():
                    orders.append(entry)
                case Ended():
                    ends.append(entry)
                case Note():
                    notes.append(entry)
                case _TooMany():
                    left_out.append(entry)
                case Dealt() if run is not None:
                    runs.setdefault(run, []).append(entry)
        deals = []
        for run, (first, *rest) in runs.items():
            left = {*first.gone, *(one.id for one in first.come)}  # nothing was dealt of these
            before = tuple(one for one in span.before[run].values() if one.id not in left)
            deals.append((run.move, before, [replace(first, gone=()), *rest]))
        return FleetExcerpt(orders, deals, left_out, ends, notes)


@dataclass(frozen=True, slots=True)
class FleetExcerpt:
    """
    Orders; deals of moves, each with the streams before them; deals that were too large; ends of
    moves; notes.
    """

    orders: list[Ordered]
    deals: list[tuple[str, tuple[Moving, ...], list[Dealt]]]
    left_out: list[_TooMany]
    ends: list[Ended]
    notes: list[Note]

    def note(self, names: Pseudonyms) -> None:
        """Have every name that reasons may hold be known."""
        for _, before, deals in self.deals:
            for stream in (*before, *(one for deal in deals for one in deal.come)):
                names.note("stream", stream.id)

    def lines(self, names: Pseudonyms) -> dict[str, Any]:
        """Return them as JSON, under other names and keys."""
        left_out = [{"at_s": one.at_s, "move": one.move, "streams": one.streams}
                    for one in self.left_out]  # fmt: skip
        orders = [order_line(names.renamed(one)) for one in self.orders]
        rest = {  # numbers of moves, and reasons with nothing but providers, are as they were
            "ends": [end_line(replace(one, ending=names.renamed(one.ending)))
                     for one in self.ends],
            "notes": [note_line(replace(names.renamed(one), move=one.move))
                      for one in self.notes],
        }  # fmt: skip
        keys = stand_ins(list(self._seen()), np.random.default_rng())
        if keys is None:  # rather nothing than a name
            left_out += [{"at_s": one.at_s, "move": move, "streams": len(one.come)}
                         for move, _, deals in self.deals for one in deals]  # fmt: skip
            return {"orders": orders, "moves": [], "left_out": left_out, **rest}
        moves = []
        for move, before, deals in self.deals:
            plans: dict[int, FleetMove] = {}
            others = [_other(deal, names, keys, plans) for deal in deals]
            moves.append(move_lines(move, [_stream(one, names, keys) for one in before], others))
        return {"orders": orders, "moves": moves, "left_out": left_out, **rest}

    def _seen(self) -> Iterator[tuple[FleetMove, list[Moving]]]:
        """Yield each plan with every stream that was dealt by it."""
        for _, before, deals in self.deals:
            streams, plan = {one.id: one for one in before}, None
            seen: dict[Moving, None] = {}
            for deal in deals:
                for name in deal.gone:
                    streams.pop(name, None)
                streams |= {one.id: one for one in deal.come}
                if plan is not None and deal.dealing.plan is not plan:
                    yield plan, list(seen)
                    seen = {}
                if deal.dealing.plan is not plan:
                    plan = deal.dealing.plan
                    seen |= dict.fromkeys(streams.values())
                seen |= dict.fromkeys(deal.come)
            if plan is not None:
                yield plan, list(seen)


def _stream(one: Moving, names: Pseudonyms, keys: Mapping[Named, int]) -> Moving:
    return replace(one, id=names.called("stream", one.id), key=keys[one.key, one.id])


def _other(
    one: Dealt, names: Pseudonyms, keys: Mapping[Named, int], plans: dict[int, FleetMove]
) -> Dealt:
    plan = one.dealing.plan
    if id(plan) not in plans:
        plans[id(plan)] = names.renamed(plan)
    moves = tuple(Due(stream=names.called("stream", due.stream), target=due.target, at_s=due.at_s)
                  for due in one.deal.moves)  # fmt: skip
    return Dealt(
        at_s=one.at_s,
        dealing=replace(one.dealing, plan=plans[id(plan)]),
        gone=tuple(names.called("stream", name) for name in one.gone),
        come=tuple(_stream(stream, names, keys) for stream in one.come),
        deal=Deal(moves=moves, held=one.deal.held),
    )
