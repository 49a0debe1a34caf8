"""
What a node's clients reported lately, as short text that every other node reads.

It stands beside the node's heartbeat, in the same write: of each provider and kind of report a
bounded sample of votes, and when media last arrived in each region. A vote is 13 bytes of marks
(`core/observation.py`): no name, no address. The sample is drawn by the clients' marks, which
have nothing to do with what they say, so it fails in the same share as all of them; one network
gets no more places in it than another that has as many clients.

Text that makes no sense counts as none: it costs what reading it costs, which is bounded, too.
"""

from __future__ import annotations

import base64
import itertools
import struct
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from ..core.case import Case
from ..core.observation import BECAUSE_MAX, Ballot, Vote, Votes


SAMPLE_MAX: Final = 64
"""Votes of one ballot that are told: a share of a half is met within 0.06 (one sigma)."""
TEXT_MAX: Final = 1 << 16
"""Longest text [character]; five providers, everything full, take 18 000."""

_FORM: Final = 1
"""Another number is another form, of another version: it counts as nothing."""
_VOTE: Final = struct.Struct(">IIHH?")  # client, room, network, age [0.1 s], ok
_AGE_MAX: Final = (1 << 16) - 1
_REGIONS_MAX: Final = 32
_PROVIDERS_MAX: Final = 64

_NO_NUL: Final = r"^[^\u0000]*$"
"""What PostgreSQL cannot store (its manual, section 8.3) comes no further: reasons are kept."""
Name = Annotated[str, Meta(max_length=200, pattern=_NO_NUL)]


class _Ballot(msgspec.Struct, frozen=True, omit_defaults=True):
    """Votes, packed; and what most of those that fail say."""

    votes: Annotated[str, Meta(max_length=2 * SAMPLE_MAX * _VOTE.size)]
    because: Annotated[str, Meta(max_length=BECAUSE_MAX, pattern=_NO_NUL)] = ""


class _Place(msgspec.Struct, frozen=True, omit_defaults=True):
    """One region of one provider: what was voted, and how long ago media arrived [s]."""

    region: Name | None = None
    fresh: Annotated[float, Meta(ge=0, le=86_400)] | None = None
    ballots: dict[Ballot, _Ballot] = {}


class _Text(msgspec.Struct, frozen=True):
    form: int
    providers: Annotated[
        dict[Name, Annotated[list[_Place], Meta(max_length=_REGIONS_MAX + 1)]],
        Meta(max_length=_PROVIDERS_MAX),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """
    What the clients of one node, or of several, reported of one provider.

    Attributes:
        votes: By ballot.
        fresh_s: When media last reached one of them, by region [s].
    """

    votes: Mapping[Ballot, list[Vote]] = field(default_factory=lambda: {b: [] for b in Ballot})
    fresh_s: dict[str | None, float] = field(default_factory=dict)


_decode: Final = msgspec.json.Decoder(_Text).decode


def write(cases: Mapping[str, Case], now: float) -> str:
    """
    Return what was reported here, as text of at most `TEXT_MAX`.

    Where that is not enough for all providers, those with the fewest failing votes are left out.

    Args:
        cases: What is known of each provider.
        now: When that is [s], by the clock of their times.
    """
    places = {name: _places(case, now) for name, case in cases.items()}
    told = {name: found for name, found in places.items() if found}
    worst = sorted(told, key=lambda name: -_failing(cases[name]))[:_PROVIDERS_MAX]
    while worst:
        text = msgspec.json.encode(_Text(_FORM, {name: told[name] for name in worst})).decode()
        if len(text) <= TEXT_MAX:
            return text
        worst = worst[: len(worst) // 2]
    return ""


def read(text: str, at_s: float) -> dict[str, Summary]:
    """
    Return what a text says of each provider; of one that makes no sense, nothing.

    Args:
        text: What `write` returned, perhaps; anybody may have changed it since.
        at_s: When it was written [s], by our own clock.
    """
    if not text or len(text) > TEXT_MAX:
        return {}
    try:
        found = _decode(text)
        if found.form != _FORM:
            return {}
        return {name: _summary(places, at_s) for name, places in found.providers.items()}
    except (msgspec.MsgspecError, ValueError, RecursionError, struct.error):
        return {}


def sample(votes: Votes, size: int) -> list[Vote]:
    """Return so many votes at most: by mark, and no more of a network than is fair."""
    if len(votes) <= size:
        return list(votes.values())
    left = Counter(one.network for one in votes.values())
    fair = max(1, size // len(left))
    # Places that small networks do not need go to the large ones.
    spare = size - sum(min(count, fair) for count in left.values())
    taken, over, seen = list[Vote](), list[Vote](), Counter[int]()
    for _, one in sorted(votes.items()):
        seen[one.network] += 1
        (taken if seen[one.network] <= fair else over).append(one)
    return [*taken, *over[: max(spare, 0)]][:size]


def _places(case: Case, now: float) -> list[_Place]:
    by_region: dict[str | None, dict[Ballot, list[Vote]]] = {}
    for ballot in Ballot:
        for one in sample(case.votes[ballot], SAMPLE_MAX):
            by_region.setdefault(one.region, {}).setdefault(ballot, []).append(one)
    fresh = {
        region: round(max(now - cell.fresh_s, 0.0), 3)
        for region, cell in case.cells.items()
        if cell.fresh_s is not None and now - cell.fresh_s <= 86_400
    }
    regions = [*dict.fromkeys([*by_region, *fresh])][: _REGIONS_MAX + 1]
    return [
        _Place(
            region=region,
            fresh=fresh.get(region),
            ballots={
                ballot: _Ballot(_packed(votes, now), _because(votes))
                for ballot, votes in by_region.get(region, {}).items()
            },
        )
        for region in regions
        if region is None or len(region) <= 200
    ]


def _packed(votes: Iterable[Vote], now: float) -> str:
    rows = (
        _VOTE.pack(
            one.client,
            one.stream,
            one.network,
            min(max(round((now - one.at_s) * 10), 0), _AGE_MAX),
            one.ok,
        )
        for one in votes
    )
    return base64.b64encode(b"".join(rows)).decode()


def _because(votes: Iterable[Vote]) -> str:
    reasons = Counter(one.because for one in votes if not one.ok)
    return reasons.most_common(1)[0][0] if reasons else ""


def _failing(case: Case) -> int:
    return sum(not one.ok for votes in case.votes.values() for one in votes.values())


def _summary(places: Iterable[_Place], at_s: float) -> Summary:
    found = Summary()
    for place in places:
        if place.fresh is not None:
            found.fresh_s[place.region] = at_s - place.fresh
        for ballot, said in place.ballots.items():
            rows = _VOTE.iter_unpack(base64.b64decode(said.votes, validate=True))
            room = SAMPLE_MAX - len(found.votes[ballot])  # all regions together, as it was drawn
            for client, stream, network, age, ok in itertools.islice(rows, max(room, 0)):
                found.votes[ballot].append(
                    Vote(
                        client=client,
                        stream=stream,
                        network=network,
                        region=place.region,
                        ok=ok,
                        at_s=at_s - age / 10,
                        because="" if ok else said.because,
                    )
                )
    return found
