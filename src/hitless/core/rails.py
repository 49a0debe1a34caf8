"""
Where the streams of one provider may go, and what no automatic act may do, however sure it is.

A fleet move that is wrong does more harm than the fault it answers. So it is asked here first:
`targets` never plans more than a provider can take, and `allowed` keeps the last healthy provider
and the pace.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """
    What is known of a provider that streams could go to.

    Attributes:
        weight: As configured; 0: it is given nothing.
        starts_per_s: Starts it accepts and has not promised to another move [1/s].
        max_streams: Most streams at a time; None: no limit is known.
        streams: Streams it has, and those that are on their way to it.
        fault_domain: What it shares its faults with; empty: nothing but itself.
        is_usable: Whether it may be given streams now.
        because: Why it may not, in words.
    """

    weight: float = 1.0
    starts_per_s: float
    max_streams: int | None = None
    streams: int = 0
    fault_domain: str = ""
    is_usable: bool = True
    because: str = ""

    @property
    def room(self) -> float:
        """How many more streams it can take; infinite if no limit is known."""
        return math.inf if self.max_streams is None else max(0, self.max_streams - self.streams)


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """
    Where the streams of a source go.

    Attributes:
        weights: The expected part of the streams for each target, 1 in all; empty: nowhere.
        left_out: Why each other provider is none, in words.
        live_share: The part of the streams with media that can move [0..1].
        staying: How many streams with media stay, since there is no room for them.
        over: How many dark streams go beyond what targets can take: better tried than dark.
        because: The answer in words.
    """

    weights: Mapping[str, float]
    left_out: Mapping[str, str]
    live_share: float
    staying: int
    over: int
    because: str


def targets(source: str, candidates: Mapping[str, Candidate], *, dark: int, live: int) -> Targets:
    """
    Return where the streams of `source` go: by configured weight, within everybody's room.

    The expected load of a target is within its room; the streams of one move spread by hashing,
    so the real one may be a few over (a binomial number), and those are refused and go on.
    Nobody of the source's fault domain is asked unless nobody else has room.

    Args:
        source: The provider to leave.
        candidates: Every provider by name; the source among them tells its fault domain.
        dark: Streams of the source without media; they move whatever the room.
        live: Streams of the source with media; those without room stay.
    """
    left_out = {
        name: why for name, one in candidates.items() if (why := _unfit(source, name, one))
    }
    fit = {name: candidates[name] for name in sorted(candidates) if name not in left_out}
    chosen = _preferred(source, candidates, fit, takes_full=dark > 0)
    left_out |= {
        name: _unpreferred(source, name, candidates) for name in fit if name not in chosen
    }
    room = sum(one.room for one in chosen.values())
    moving = int(min(live, max(0, room - dark))) if chosen else 0
    over = int(max(0, dark - room)) if chosen else 0
    weights = _spread(chosen, dark + moving, over)
    words = ", ".join(f"{name} {part:.0%}" for name, part in weights.items())
    because = f"from {source}: {words or _nobody(source, left_out)}"
    if moving < live:
        because += f"; {live - moving} of {live} with media stay: no room"
    return Targets(
        weights=weights,
        left_out=left_out,
        live_share=moving / live if live else float(bool(chosen)),
        staying=live - moving,
        over=over,
        because=because,
    )


def _nobody(source: str, left_out: Mapping[str, str]) -> str:
    whys = [f"{name}: {why}" for name, why in left_out.items() if name != source]
    return f"nobody to go to ({'; '.join(whys)})" if whys else "nobody to go to"


def _unfit(source: str, name: str, one: Candidate) -> str:
    """Return why it can be no target at all; empty: it can."""
    if name == source:
        return "it is the source"
    if not one.is_usable:
        return one.because or "it may not be given streams now"
    if one.weight <= 0.0:
        return "its weight is 0"
    if one.starts_per_s <= 0.0:
        return "it accepts no starts now"
    return ""


def _preferred(
    source: str,
    candidates: Mapping[str, Candidate],
    fit: Mapping[str, Candidate],
    *,
    takes_full: bool,
) -> dict[str, Candidate]:
    """Return the best non-empty group: room before none, another fault domain before ours."""
    for has_room in (True, False) if takes_full else (True,):
        for is_apart in (True, False):
            group = {
                name: one
                for name, one in fit.items()
                if (one.room > 0) is has_room and _is_apart(source, name, candidates) is is_apart
            }
            if group:
                return group
    return {}


def _unpreferred(source: str, name: str, candidates: Mapping[str, Candidate]) -> str:
    one = candidates[name]
    if one.room <= 0:
        return f"full: {one.streams} of {one.max_streams} streams"
    return f"it shares the fault domain {_domain(name, candidates)} with {source}"


def _is_apart(source: str, name: str, candidates: Mapping[str, Candidate]) -> bool:
    return _domain(name, candidates) != _domain(source, candidates)


def _domain(name: str, candidates: Mapping[str, Candidate]) -> str:
    known = candidates.get(name)
    return known.fault_domain if known is not None and known.fault_domain else name


def _spread(chosen: Mapping[str, Candidate], count: int, over: int) -> dict[str, float]:
    """Return each target's part: by weight, nobody above its room but for what goes over."""
    total = math.fsum(one.weight for one in chosen.values())
    load = {name: over * one.weight / total for name, one in chosen.items()}
    left, unfilled = float(max(count - over, 0 if over else 1)), dict(chosen)
    while unfilled:
        each = left / math.fsum(one.weight for one in unfilled.values())
        full = {name: one.room for name, one in unfilled.items() if one.room <= one.weight * each}
        if not full:
            full = {name: one.weight * each for name, one in unfilled.items()}
        for name, amount in full.items():
            load[name] += amount
            left = max(0.0, left - amount)
            del unfilled[name]
    whole = math.fsum(load.values())
    return {name: amount / whole for name, amount in load.items()} if whole else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rails:
    """
    The limits of automatic acts.

    Attributes:
        share_per_minute: The part of all streams that may be moved while they have media, each
            minute [0..1].
        store_age_s_max: Who has not reached the store for so long makes no fleet move [s]: it
            may not have heard of a freeze.
    """

    share_per_minute: float = 0.1
    store_age_s_max: float = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """
    Whether a fleet move may begin, and how fast.

    Attributes:
        is_allowed: Whether anything may move.
        live_per_minute: So many streams with media may move each minute; 0: none, only dark
            ones; None: as many as the targets accept.
        because: Why, in words.
    """

    is_allowed: bool
    live_per_minute: int | None
    because: str


def allowed(
    source: str,
    *,
    active: Collection[str],
    healthy: Collection[str],
    streams: int,
    promised: int = 0,
    is_operator: bool = False,
    is_frozen: bool = False,
    store_age_s: float = 0.0,
    rails: Rails | None = None,
) -> Decision:
    """
    Return whether the streams of `source` may be moved.

    Args:
        source: Whose streams.
        active: Every provider that is not disabled.
        healthy: Those of them that are believed to be well.
        streams: How many streams there are in all.
        promised: Streams with media that moved in the last minute, or that a move under way may
            move in the next.
        is_operator: A person ordered it: only what is impossible is refused.
        is_frozen: Automatic moves of streams with media are frozen.
        store_age_s: How long ago the store was last reached [s].
        rails: The limits; None: the defaults.
    """
    rails = rails or Rails()
    if why := _forbidden(source, active, healthy, store_age_s, rails, is_operator=is_operator):
        return Decision(is_allowed=False, live_per_minute=0, because=why)
    if is_operator:
        return Decision(is_allowed=True, live_per_minute=None, because="an operator ordered it")
    if is_frozen:
        return Decision(
            is_allowed=True, live_per_minute=0, because="frozen: only streams without media move"
        )
    most = max(1, math.floor(rails.share_per_minute * streams))
    left = max(0, most - promised)
    because = f"at most {most} of {streams} streams a minute, {promised} of them promised"
    return Decision(is_allowed=True, live_per_minute=left, because=because)


def _forbidden(
    source: str,
    active: Collection[str],
    healthy: Collection[str],
    store_age_s: float,
    rails: Rails,
    *,
    is_operator: bool,
) -> str:
    """Return why nothing may move; empty: something may."""
    if store_age_s > rails.store_age_s_max:
        return (
            f"the store was not reached for {store_age_s:.1f} s, "
            f"more than {rails.store_age_s_max:g} s: a freeze may be unheard"
        )
    if not set(active) - {source}:
        return f"there is no active provider but {source}"
    if is_operator:
        return ""
    if not healthy:
        return "every provider looks down: the observer is suspected, nothing moves"
    if not set(healthy) - {source}:
        return f"{source} is the last healthy provider"
    return ""
