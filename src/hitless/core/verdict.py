"""
What is thought of each provider, from what was observed of it.

`judge(rules, standing, observation, now)` gives the next standing and the news. Media is better
evidence than an endpoint, in both directions: frames that flow outweigh checks that fail, and a
canary that is published and never seen outweighs an API that answers 200. Who fails is banned
(`circuit.py`: 10 s, doubling to 300 s), tried once, and given new starts back in steps.

If nobody answers our probes, it is us: a silence counts against a provider only if another one
answered after it began.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final, assert_never

from .case import Case, aged, heard, many_fresh, place_of, reported
from .circuit import Breaker, Circuit
from .evidence import Cell, Rules, Verdict, Word, look, row_after
from .observation import (
    Ballot,
    HeardElsewhere,
    JoinEnded,
    Level,
    ManyFresh,
    MediaFresh,
    MediaLost,
    Observation,
    OperatorSaid,
    ProbeEnded,
    QualityReported,
    Report,
    Said,
    StartEnded,
    Ticked,
)
from .returning import cooled, guarded
from .uptime import Grade, Summary, grade_of, passed, summary, tried


PUBLIC: Final[Mapping[Word, tuple[bool, str]]] = {
    Word.HEALTHY: (True, "active"),
    Word.DEGRADED: (True, "degraded"),
    Word.DOWN: (False, "down"),
    Word.DISABLED: (False, "disabled"),
    Word.UNKNOWN: (True, "active"),  # our ignorance is no reason for anybody to move
}
"""What `healthy` and `status` of the public health answer say (DESIGN 7)."""

_COUNTED_AT_ONCE: Final = 32
"""With more votes than this, reports are counted every `recount_s`: counting costs 1 us a vote."""

_NEVER: Final = float("-inf")
_EVER: Final = float("inf")
_REASONS_MAX: Final = 3
"""Regions that are named in one reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """
    All providers; a value. The first standing is `Standing()`.

    Attributes:
        cases: By provider.
        suspect_because: Why the observer is suspected; None: it is not.
    """

    cases: Mapping[str, Case] = field(default_factory=lambda: MappingProxyType({}))
    suspect_because: str | None = None

    def case(self, provider: str) -> Case:
        """Return what is known of a provider; an empty case if nothing is."""
        return self.cases.get(provider) or Case()

    def verdict(self, provider: str, region: str | None = None) -> Verdict:
        """Return the verdict on a provider, or on one of its regions."""
        case = self.case(provider)
        cell = None if region is None else case.cells.get(region)
        return case.verdict if cell is None or case.disabled_because is not None else cell.verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """
    Something changed.

    Attributes:
        name: `verdict.changed`, `share.changed`, `observer.suspected` or `observer.trusted`.
        because: Why, in words.
        provider: Whose; None with the observer's.
        region: Which region; None: the provider as a whole.
        was: The word before; None with the observer's.
        verdict: The verdict now; None with the observer's.
    """

    name: str
    because: str
    provider: str | None = None
    region: str | None = None
    was: Word | None = None
    verdict: Verdict | None = None


def judge(
    rules: Rules, standing: Standing, observation: Observation, now: float
) -> tuple[Standing, tuple[News, ...]]:
    """
    Return the standing after an observation, and what is new.

    Args:
        rules: The limits.
        standing: The standing before.
        observation: What was observed; `Ticked` about once a second, whatever else comes.
        now: When [s]; never less than before.
    """
    match observation:
        case Ticked():
            return _concluded(rules, standing, standing.cases, now)
        case ProbeEnded(own_trouble=True):
            return standing, ()
        case ProbeEnded():
            if not _is_known(rules, standing, observation.provider):
                return standing, ()
            standing, news = _probed(rules, standing, observation, now)
            # An answer of one provider is what the silence of another one is measured by.
            standing, more = _concluded(rules, standing, standing.cases, now)
            return standing, news + more
        case HeardElsewhere() if observation.provider not in standing.cases:
            return standing, ()  # of whom we do not know, nobody tells us
        case _ if not _is_known(rules, standing, observation.provider):
            return standing, ()
        case _:
            after = _after(rules, standing.case(observation.provider), observation, now)
    standing = _with(standing, observation.provider, after)
    is_report = not isinstance(observation, OperatorSaid | HeardElsewhere)
    if is_report and after.many > _COUNTED_AT_ONCE and now - after.counted_s < rules.recount_s:
        return standing, ()
    return _concluded(rules, standing, (observation.provider,), now)


def _after(
    rules: Rules,
    case: Case,
    observation: Report | ManyFresh | HeardElsewhere | OperatorSaid,
    now: float,
) -> Case:
    match observation:
        case OperatorSaid():
            return _ordered(case, observation, now)
        case HeardElsewhere():
            return heard(rules, case, observation, now)
        case ManyFresh():
            return many_fresh(rules, case, observation, now)
        case StartEnded() | JoinEnded() | MediaLost() | MediaFresh() | QualityReported():
            return reported(rules, case, observation, now)
        case _:
            assert_never(observation)


def forget(standing: Standing, provider: str) -> Standing:
    """Return the standing without a provider that was deleted."""
    kept = {name: case for name, case in standing.cases.items() if name != provider}
    return replace(standing, cases=kept)


# --- Answers ---


def public_answer(standing: Standing, provider: str) -> tuple[bool, str]:
    """Return `healthy` and `status` of the public health answer."""
    return PUBLIC[standing.case(provider).verdict.word]


def share(standing: Standing, provider: str, region: str | None = None) -> float:
    """Return which share of new starts a provider may be given there [0..1]."""
    whole, there = standing.verdict(provider), standing.verdict(provider, region)
    return min(whole.share, there.share)


def windows(rules: Rules, standing: Standing, provider: str, now: float) -> tuple[Summary, ...]:
    """Return uptime, error rate and latency of a provider over each of `windows_s`."""
    case = standing.case(provider)
    history = passed(case.history, _is_up(case), now)
    return tuple(summary(history, window_s, now) for window_s in rules.windows_s)


def grade(rules: Rules, standing: Standing, provider: str, now: float) -> Grade:
    """Return how a provider does, in a word for people."""
    case = standing.case(provider)
    if case.disabled_because is not None:
        return Grade.DISABLED
    rows = [row for cell in case.cells.values() for row in cell.rows.values()]
    in_a_row = max((row.failures for row in rows), default=0)
    # Failures that nobody else's answer confirms are as likely ours.
    is_ours = standing.suspect_because is not None
    if case.verdict.word is Word.DOWN or (in_a_row >= rules.max_failures and not is_ours):
        return Grade.CRITICAL
    history = passed(case.history, _is_up(case), now)
    return grade_of(summary(history, rules.grade_window_s, now))


# --- Taking observations ---


def _is_known(rules: Rules, standing: Standing, provider: str) -> bool:
    """Whether a provider is, or can still be, among those that are judged."""
    return provider in standing.cases or len(standing.cases) < rules.providers_max


def _with(standing: Standing, provider: str, case: Case) -> Standing:
    return replace(standing, cases={**standing.cases, provider: case})


def _probed(
    rules: Rules, standing: Standing, probe: ProbeEnded, now: float
) -> tuple[Standing, tuple[News, ...]]:
    case = standing.case(probe.provider)
    place = place_of(rules, case, probe.region)
    cell = cooled(rules, case.cells.get(place) or Cell(), now)
    answered = probe.ok or probe.answered
    rows = {**cell.rows, probe.level: row_after(cell.rows.get(probe.level), probe, now)}
    loss = probe.loss if probe.level is Level.END_TO_END and probe.ok else cell.canary_loss
    silent_s = case.unanswered_s if case.unanswered_s is not None else now
    case = replace(
        case,
        cells={**case.cells, place: replace(cell, rows=rows, canary_loss=loss)},
        probed_s=now,
        answered_s=now if answered else case.answered_s,
        unanswered_s=None if answered else silent_s,
    )
    standing, news = _observer(_with(standing, probe.provider, case))
    if probe.ok or answered or standing.suspect_because is None:
        case = standing.case(probe.provider)
        latency_s = probe.latency_s if probe.level is Level.CONTROL and probe.ok else None
        history = tried(case.history, probe.ok, now, latency_s=latency_s)
        standing = _with(standing, probe.provider, replace(case, history=history))
    return standing, news


def _observer(standing: Standing) -> tuple[Standing, tuple[News, ...]]:
    """Suspect the observer while none of several providers answers it; trust it after that."""
    probed = _compared(standing)
    is_blind = len(probed) > 1 and all(case.unanswered_s is not None for case in probed)
    if is_blind == (standing.suspect_because is not None):
        return standing, ()
    if is_blind:
        because = f"none of {len(probed)} providers answers: it may be our own network"
        news = News(name="observer.suspected", because=because)
        return replace(standing, suspect_because=because), (news,)
    # What was counted meanwhile was ours, but for those that were condemned before.
    cases = {name: _absolved(case) for name, case in standing.cases.items()}
    news = News(name="observer.trusted", because="a provider answers again")
    return replace(standing, cases=cases, suspect_because=None), (news,)


def _absolved(case: Case) -> Case:
    cells = {
        place: cell
        if cell.breaker.circuit is not Circuit.CLOSED
        else replace(
            cell,
            rows={
                level: replace(row, failures=0) if row.is_unanswered else row
                for level, row in cell.rows.items()
            },
        )
        for place, cell in case.cells.items()
    }
    return replace(case, cells=cells)


def _ordered(case: Case, order: OperatorSaid, now: float) -> Case:
    match order.word:
        case Said.DISABLED:
            return replace(case, disabled_because=order.because)
        case Said.ENABLED:
            return replace(case, disabled_because=None)
        case Said.MENDED:
            cells = {
                place: replace(
                    cell,
                    rows={at: replace(row, failures=0) for at, row in cell.rows.items()},
                    breaker=Breaker(),
                    since_s=now,
                    step=0,
                )
                for place, cell in case.cells.items()
            }
            return replace(case, cells=cells)
        case _:
            assert_never(order.word)


# --- Concluding ---


def _concluded(
    rules: Rules, standing: Standing, touched: Iterable[str], now: float
) -> tuple[Standing, tuple[News, ...]]:
    """Return the standing with new verdicts on some providers, and what changed."""
    cases, news = dict(standing.cases), list[News]()
    for name in tuple(touched):
        cases[name], more = _concluded_one(rules, standing, name, now)
        news += more
    return replace(standing, cases=cases), tuple(news)


def _concluded_one(
    rules: Rules, standing: Standing, name: str, now: float
) -> tuple[Case, list[News]]:
    case = standing.cases[name]
    case = replace(
        aged(case, now - rules.window_s),
        history=passed(case.history, _is_up(case), now),
        counted_s=now,
    )
    witness_s = _witness_s(standing, name)
    ballots = [case.counted(ballot) for ballot in Ballot]
    whole = case.cells.get(None) or Cell()
    cells: dict[str | None, Cell] = {}
    for place, cell in case.cells.items():
        if place is not None:
            here = cooled(rules, cell, now)
            votes = [[v for v in b if v.region == place] for b in ballots]
            seen = look(
                rules,
                here,
                votes,
                now,
                witness_s=witness_s,
                fresh_s=case.fresh_s(place),
                outer=whole,
            )
            cells[place] = guarded(rules, here, seen, now)
    # The whole is what no region accounts for by itself: one bad region is not everywhere.
    down = {place for place, cell in cells.items() if cell.verdict.word is Word.DOWN}
    known = [case.fresh_s(place) for place in (None, *cells) if place not in down]
    fresh_s = max((at_s for at_s in known if at_s is not None), default=None)
    here = cooled(rules, whole, now)
    votes = [[v for v in b if v.region not in down] for b in ballots]
    seen = look(rules, here, votes, now, witness_s=witness_s, fresh_s=fresh_s)
    cells[None] = guarded(rules, here, seen, now)

    news = [
        told
        for place, cell in cells.items()
        if place is not None
        for told in _told(name, place, (case.cells.get(place) or Cell()).verdict, cell.verdict)
    ]
    verdict = _overall(case, cells, now)
    news += _told(name, None, case.verdict, verdict)
    return replace(case, cells=cells, verdict=verdict), news


def _told(provider: str, region: str | None, was: Verdict, now: Verdict) -> list[News]:
    news = News(
        name="verdict.changed",
        because=now.because,
        provider=provider,
        region=region,
        was=was.word,
        verdict=now,
    )
    told = [news] if was.word is not now.word else []
    return told if was.share == now.share else [*told, replace(news, name="share.changed")]


def _witness_s(standing: Standing, name: str) -> float:
    """Return when anybody else last answered [s]; inf: there is nobody else to compare with."""
    others = [case.answered_s for case in _compared(standing, but=name)]
    return max((at_s for at_s in others if at_s is not None), default=_NEVER if others else _EVER)


def _compared(standing: Standing, *, but: str = "") -> list[Case]:
    """Return those whose silence or answer tells of our own network."""
    return [
        case
        for name, case in standing.cases.items()
        if name != but and case.probed_s is not None and case.disabled_because is None
    ]


def _overall(case: Case, cells: Mapping[str | None, Cell], now: float) -> Verdict:
    """Return the verdict on a provider as a whole."""
    whole = cells[None].verdict
    named = {place: cell.verdict for place, cell in cells.items() if place is not None}
    found = whole
    judged = [place for place, one in named.items() if one.word is not Word.UNKNOWN]
    down = sorted(place for place in judged if named[place].word is Word.DOWN)
    hurt = down or sorted(place for place in judged if named[place].word is Word.DEGRADED)
    if case.disabled_because is not None:
        found = replace(whole, word=Word.DISABLED, because=case.disabled_because, share=0.0)
    elif whole.word is Word.DOWN:
        pass
    elif hurt:
        because = "; ".join(f"{place}: {named[place].because}" for place in hurt[:_REASONS_MAX])
        word, given = Word.DEGRADED, whole.share
        if len(down) == len(judged) and Level.END_TO_END in whole.unproven:
            word, given = Word.DOWN, 0.0
        level = named[hurt[0]].level
        found = replace(whole, word=word, because=because[:200], share=given, level=level)
    elif whole.word is Word.UNKNOWN and judged:
        found = replace(named[judged[0]], share=whole.share)
    since_s = case.verdict.since_s if case.verdict.word is found.word else now
    return replace(found, since_s=since_s)


def _is_up(case: Case) -> bool | None:
    """Return whether time counts as up now; None: it counts as nothing."""
    match case.verdict.word:
        case Word.HEALTHY | Word.DEGRADED:
            return True
        case Word.DOWN:
            return False
        case Word.DISABLED | Word.UNKNOWN:
            return None
        case _:
            assert_never(case.verdict.word)
