"""
What is known of one provider, and what the reports of clients add to it.

Clients report to the node they are connected with, and nodes tell each other a bounded sample of
what theirs reported (`sharing.py`). Both are votes of the same kind, counted together: whoever
voted at two nodes has one vote, the newer one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, assert_never

from .evidence import Cell, Rules, Verdict
from .observation import (
    NO_VOTES,
    Ballot,
    HeardElsewhere,
    JoinEnded,
    ManyFresh,
    MediaFresh,
    MediaLost,
    QualityReported,
    Report,
    StartEnded,
    Vote,
    Votes,
    cast,
    expired,
    thinned,
    vote_of,
)
from .returning import cooled
from .uptime import History, tried


_NEVER: Final = float("-inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """
    What is known of one provider.

    Attributes:
        cells: Each region's evidence and verdict; None: what belongs to no region.
        votes: What clients reported here last.
        heard: What the clients of other nodes did.
        heard_fresh_s: When media last reached one of those, by region [s].
        verdict: On the provider as a whole.
        history: Its minutes and hours.
        disabled_because: Why an operator disabled it; None: it is not.
        probed_s: When a probe last ended [s].
        answered_s: When a probe was last answered [s].
        unanswered_s: Since when probes are not answered [s]; None: the last one was.
        counted_s: When votes were last counted [s].
    """

    cells: Mapping[str | None, Cell] = field(default_factory=lambda: {None: Cell()})
    votes: Mapping[Ballot, Votes] = field(default_factory=lambda: dict.fromkeys(Ballot, NO_VOTES))
    heard: Mapping[Ballot, Votes] = field(default_factory=lambda: dict.fromkeys(Ballot, NO_VOTES))
    heard_fresh_s: Mapping[str | None, float] = field(default_factory=dict)
    verdict: Verdict = field(default_factory=Verdict)
    history: History = field(default_factory=History)
    disabled_because: str | None = None
    probed_s: float | None = None
    answered_s: float | None = None
    unanswered_s: float | None = None
    counted_s: float = _NEVER

    @property
    def many(self) -> int:
        """How many votes the largest ballot has."""
        return max(len(self.votes[ballot]) + len(self.heard[ballot]) for ballot in Ballot)

    def counted(self, ballot: Ballot) -> list[Vote]:
        """Return the votes of one ballot, of everybody: each client's newest."""
        here, there = self.votes[ballot], self.heard[ballot]
        if not there:
            return list(here.values())
        newest = dict(there)
        for client, one in here.items():
            other = newest.get(client)
            if other is None or other.at_s <= one.at_s:
                newest[client] = one
        return list(newest.values())

    def fresh_s(self, place: str | None) -> float | None:
        """Return when media last reached a client of a region, of any node [s]; None: never."""
        cell = self.cells.get(place)
        found = (cell.fresh_s if cell else None, self.heard_fresh_s.get(place))
        return max((at_s for at_s in found if at_s is not None), default=None)


def place_of(rules: Rules, case: Case, region: str | None) -> str | None:
    """Return where a region's observations belong: beyond `regions_max`, to no region."""
    room = len(case.cells) <= rules.regions_max  # one cell is that of no region
    return region if region in case.cells or room else None


def aged(case: Case, oldest_s: float) -> Case:
    """Return the case without the votes from before `oldest_s` [s]."""
    return replace(
        case,
        votes={ballot: expired(votes, oldest_s) for ballot, votes in case.votes.items()},
        heard={ballot: expired(votes, oldest_s) for ballot, votes in case.heard.items()},
    )


def reported(rules: Rules, case: Case, report: Report, now: float) -> Case:
    """Return the case after the report of one client, made at `now` [s]."""
    place = place_of(rules, case, report.region)
    cell = cooled(rules, case.cells.get(place) or Cell(), now)
    ballot, ok, because = Ballot.MEDIA, True, ""
    match report:
        case StartEnded() | JoinEnded():
            ballot, ok, because = Ballot.STARTS, report.ok, report.because
            case = replace(case, history=tried(case.history, ok, now))
            if isinstance(report, JoinEnded) and ok:
                cell = replace(cell, fresh_s=now)
        case MediaLost():
            ok, because = False, " ".join(filter(None, (report.kind, report.because)))
        case MediaFresh():
            cell = replace(cell, fresh_s=now)
        case QualityReported():
            ballot, because = Ballot.QUALITY, rules.poor_because(report)
            ok = not because
        case _:
            assert_never(report)
    one = vote_of(report, place, ok=ok, because=because, now=now)
    return _voted(rules, case, ballot, (one,), {place: cell})


def many_fresh(rules: Rules, case: Case, many: ManyFresh, now: float) -> Case:
    """Return the case after media reached many clients: as after each of them, in one step."""
    places = {
        region: place_of(rules, case, region) for region in {one.region for one in many.reports}
    }
    cells = {
        place: replace(cooled(rules, case.cells.get(place) or Cell(), now), fresh_s=now)
        for place in places.values()
    }
    votes = [
        vote_of(one, places[one.region], ok=True, because="", now=now) for one in many.reports
    ]
    return _voted(rules, case, Ballot.MEDIA, votes, cells)


def _voted(
    rules: Rules,
    case: Case,
    ballot: Ballot,
    votes: Iterable[Vote],
    cells: Mapping[str | None, Cell],
) -> Case:
    after = cast(case.votes[ballot], votes, rules.votes_max)
    return replace(case, cells={**case.cells, **cells}, votes={**case.votes, ballot: after})


def heard(rules: Rules, case: Case, said: HeardElsewhere, now: float) -> Case:
    """
    Return the case with what clients of other nodes reported, instead of what was heard before.

    What they say is bounded like our own: `votes_max` votes, `regions_max` regions, nothing that
    was seen after `now` [s].
    """
    cells, ballots, fresh_s = dict(case.cells), dict[Ballot, Votes](), dict[str | None, float]()
    case = replace(case, cells=cells)

    def placed(region: str | None) -> str | None:
        place = place_of(rules, case, region)
        cells.setdefault(place, Cell())
        return place

    for region, at_s in said.fresh_s.items():
        place = placed(region)
        fresh_s[place] = max(fresh_s.get(place, _NEVER), min(at_s, now))
    for ballot in Ballot:
        votes: dict[int, Vote] = {}
        for one in sorted(said.votes.get(ballot, ()), key=lambda one: one.at_s):
            votes.pop(one.client, None)
            votes[one.client] = replace(one, region=placed(one.region), at_s=min(one.at_s, now))
        ballots[ballot] = (
            votes if len(votes) <= rules.votes_max else thinned(votes, rules.votes_max)
        )
    return replace(case, heard=ballots, heard_fresh_s=fresh_s)
