"""
Fleet moves as JSON, and decided again: orders to leave a provider, what a node dealt, and ends.

A deal is kept as the difference to the one before it: which streams were gone, and which had come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

from ..errors import ConfigError
from .fleet import Deal, FleetMove, Moving
from .fleet_choices import Asked, Chosen, Dealing, Ending, chosen
from .judgement import Rejudged, as_compared
from .plain import plain, value_of


_Made = TypeVar("_Made", Chosen, Deal, str)

SAME_S: Final = 1e-5
"""Slots this near are the same [s]: a cube root may end otherwise on another machine, and times
of this century are no finer than 0.24 us."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordered:
    """One order: when [s], what it was decided by, and what came of it."""

    at_s: float
    asked: Asked
    chosen: Chosen


@dataclass(frozen=True, slots=True, kw_only=True)
class Dealt:
    """
    One deal of a move.

    Attributes:
        at_s: When [s].
        dealing: What it was dealt by; its streams are empty here.
        gone: Ids of streams that were there at the deal before, and are not now.
        come: Streams that are new since, or changed.
        deal: What was done.
    """

    at_s: float
    dealing: Dealing
    gone: tuple[str, ...]
    come: tuple[Moving, ...]
    deal: Deal


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The end of a move: when [s], of which, what it was decided by, and why it is over."""

    at_s: float
    move: str
    ending: Ending
    over: str


def order_line(one: Ordered) -> dict[str, Any]:
    """Return an order as JSON."""
    return {"at_s": one.at_s, "asked": plain(one.asked), "chosen": plain(one.chosen)}


def move_lines(move: str, before: Iterable[Moving], deals: Iterable[Dealt]) -> dict[str, Any]:
    """
    Return the deals of one move as JSON.

    Args:
        move: Its id.
        before: The streams of the deal before the first one here; none: there was none.
        deals: In their order; a plan is written when it is another one than before.
    """
    lines, plan = list[dict[str, Any]](), None
    for one in deals:
        dealing, changed = one.dealing, {}
        if dealing.plan != plan:
            plan = dealing.plan
            changed = {"plan": plain(plan)}
        lines.append(
            {
                "at_s": one.at_s,
                **changed,
                "node": dealing.node,
                "now_s": dealing.now_s,
                "until_s": dealing.until_s,
                "is_frozen": dealing.is_frozen,
                "gone": list(one.gone),
                "come": [_stream_line(stream) for stream in one.come],
                **_deal_line(one.deal),
            }
        )
    return {"move": move, "before": [_stream_line(one) for one in before], "deals": lines}


def end_line(one: Ended) -> dict[str, Any]:
    """Return the end of a move as JSON."""
    return {"at_s": one.at_s, "move": one.move, "ending": plain(one.ending), "over": one.over}


def reordered(lines: Any, *, has_changed_reasons: bool) -> list[Rejudged]:
    """
    Decide recorded orders again.

    Raises:
        ConfigError: They are none.
    """
    found, seen = [], as_compared(has_changed_reasons=has_changed_reasons)
    for line in _items(lines):
        asked: Asked = value_of(Asked, line.get("asked"))
        told, now = line.get("chosen"), plain(_decided(partial(chosen, asked)))
        found.append(
            Rejudged(
                at_s=value_of(float, line.get("at_s")),
                kind="FleetOrdered",
                fields={"provider": asked.source, "because": asked.because},
                told=[told] if isinstance(told, dict) else [],
                now=[now],
                is_same=seen(told) == seen(now),
            )
        )
    return found


def reended(lines: Any) -> list[Rejudged]:
    """
    Decide again why recorded moves were over.

    Raises:
        ConfigError: They are none.
    """
    found = []
    for line in _items(lines):
        ending: Ending = value_of(Ending, line.get("ending"))
        told, now = value_of(str, line.get("over")), _decided(ending.over)
        found.append(
            Rejudged(
                at_s=value_of(float, line.get("at_s")),
                kind="FleetEnded",
                fields={"provider": ending.plan.source, "move": line.get("move")},
                told=[{"over": told}],
                now=[{"over": now}],
                is_same=told == now,
            )
        )
    return found


def redealt(lines: Any) -> list[Rejudged]:
    """
    Deal the recorded moves again.

    Raises:
        ConfigError: They are none.
    """
    return [one for move in _items(lines) for one in _redealt(move)]


def _redealt(move: Mapping[str, Any]) -> Iterable[Rejudged]:
    streams = {one.id: one for one in map(_stream, _list(move.get("before")))}
    plan: FleetMove | None = None
    for line in _items(move.get("deals")):
        if "plan" in line:
            plan = value_of(FleetMove, line["plan"])
        if plan is None:
            raise ConfigError("a recorded fleet move has no plan")
        for name in _list(line.get("gone")):
            streams.pop(value_of(str, name), None)
        streams |= {one.id: one for one in map(_stream, _list(line.get("come")))}
        dealing = Dealing(
            plan=plan,
            streams=tuple(streams.values()),
            node=value_of(str, line.get("node")),
            now_s=value_of(float, line.get("now_s")),
            until_s=value_of(float, line.get("until_s")),
            is_frozen=value_of(bool, line.get("is_frozen")),
        )
        told, now = _told(line), _deal_line(_decided(dealing.dealt))
        about = {"provider": plan.source or plan.returning, "move": move.get("move"),
                 "streams": len(streams)}  # fmt: skip
        yield Rejudged(
            at_s=value_of(float, line.get("at_s")),
            kind="FleetDealt",
            fields=about,
            told=[told],
            now=[now],
            is_same=_is_same_deal(told, now),
        )


def _decided(decide: Callable[[], _Made]) -> _Made:
    try:
        return decide()
    except (ArithmeticError, LookupError, TypeError, ValueError) as exc:
        because = f"a fleet move of the recording contradicts itself: {type(exc).__name__}"
        raise ConfigError(because) from None


def _is_same_deal(told: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    if sorted(told["held"]) != sorted(now["held"]) or len(told["moves"]) != len(now["moves"]):
        return False
    pairs = zip(sorted(told["moves"]), sorted(now["moves"]), strict=True)
    return all(a[:2] == b[:2] and abs(a[2] - b[2]) <= SAME_S for a, b in pairs)


def _deal_line(deal: Deal) -> dict[str, Any]:
    return {
        "moves": [[one.stream, one.target, one.at_s] for one in deal.moves],
        "held": plain(deal.held),
    }


def _told(line: Mapping[str, Any]) -> dict[str, Any]:
    moves = [
        [value_of(str, stream), value_of(str, target), value_of(float, at_s)]
        for stream, target, at_s in _rows(line.get("moves"), 3)
    ]
    held = [[value_of(str, why), value_of(int, n)] for why, n in _rows(line.get("held"), 2)]
    return {"moves": moves, "held": held}


def _stream_line(one: Moving) -> list[Any]:
    """Return a stream in few characters, there are many; its key as digits, all of which last."""
    can_open = None if one.can_open is None else sorted(one.can_open)
    return [one.id, f"{one.key:016x}", one.provider, one.has_media, can_open]


def _stream(line: Any) -> Moving:
    ((id, key, provider, has_media, can_open),) = _rows([line], 5)
    try:
        number = int(value_of(str, key), 16)
    except ValueError:
        number = -1
    if not 0 <= number < 1 << 64:
        raise ConfigError("what was recorded is no stream of a fleet move")
    return Moving(
        id=value_of(str, id),
        key=number,
        provider=value_of(str, provider),
        has_media=value_of(bool, has_media),
        can_open=None if can_open is None else frozenset(value_of(tuple[str, ...], can_open)),
    )


def _items(lines: Any) -> list[Mapping[str, Any]]:
    found = _list(lines)
    if not all(isinstance(line, dict) for line in found):
        raise ConfigError("a fleet move of the recording is none")
    return found


def _rows(lines: Any, width: int) -> list[list[Any]]:
    found = _list(lines)
    if not all(isinstance(line, list) and len(line) == width for line in found):
        raise ConfigError("a fleet move of the recording is none")
    return found


def _list(lines: Any) -> list[Any]:
    if not isinstance(lines, list):
        raise ConfigError("the recording has no list of its fleet moves")
    return lines
