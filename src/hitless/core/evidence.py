"""
What the evidence on one region of one provider comes to, before its circuit has a say.

Two signs are weighed, of its control side and of media through it; `WORDS` is the whole of that.
Starts that fail while media flows keep new starts away and leave running streams alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

from ..errors import ConfigError
from .circuit import Breaker
from .observation import BECAUSE_MAX, Level, ProbeEnded, QualityReported, Tally, Vote, tally
from .policy import check


class Word(StrEnum):
    """What is concluded about a provider."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    """Usable: running streams stay, new starts may have to go elsewhere (see `share`)."""
    DOWN = "down"
    DISABLED = "disabled"
    """By an operator's word."""
    UNKNOWN = "unknown"
    """Nothing speaks for it or against it."""


class Sign(StrEnum):
    """What one kind of evidence says."""

    GOOD = "good"
    BAD = "bad"
    NONE = "none"
    """Nothing fresh."""


WORDS: Final[Mapping[tuple[Sign, Sign], Word]] = {
    # (control, media): media is the better evidence, in both directions.
    (Sign.GOOD, Sign.GOOD): Word.HEALTHY,
    (Sign.GOOD, Sign.BAD): Word.DOWN,
    (Sign.GOOD, Sign.NONE): Word.HEALTHY,
    (Sign.BAD, Sign.GOOD): Word.DEGRADED,
    (Sign.BAD, Sign.BAD): Word.DOWN,
    (Sign.BAD, Sign.NONE): Word.DOWN,
    (Sign.NONE, Sign.GOOD): Word.HEALTHY,
    (Sign.NONE, Sign.BAD): Word.DOWN,
    (Sign.NONE, Sign.NONE): Word.UNKNOWN,
}


def _knob(default: Any, unit: str, low: float, high: float, says: str) -> Any:
    """Return a field with its limits (Any: of the type of its default, as `field` has it)."""
    limits = {"unit": unit, "low": low, "high": high, "says": says}
    return field(default=default, metadata=limits)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """
    Every number a verdict depends on.

    Raises:
        ConfigError: A value is outside its limits; the message names the field and the limits.
    """

    max_failures: int = _knob(3, "", 1, 100, "probes in a row that fail until they count")
    window_s: float = _knob(60.0, "s", 1, 3600, "how long a client's report counts")
    fail_rate: float = _knob(0.5, "", 0.01, 1, "share of failing reports that condemns")
    poor_rate: float = _knob(0.1, "", 0.01, 1, "share of failing reports that degrades")
    min_clients: int = _knob(3, "", 2, 1000, "clients that must say so, at least")
    min_streams: int = _knob(2, "", 2, 1000, "streams that they must be in, at least")
    min_networks: int = _knob(2, "", 2, 1000, "networks they must come from, at least")
    fresh_s: float = _knob(10.0, "s", 0.1, 300, "a client's media younger than this flows")
    canary_fresh_s: float = _knob(30.0, "s", 0.1, 3600, "the same for the canary's media")
    proof_s: float = _knob(120.0, "s", 1, 86_400, "how long a control probe proves something")
    canary_proof_s: float = _knob(660.0, "s", 1, 86_400, "the same for a canary")
    loss_max: float = _knob(0.1, "", 0, 1, "loss above this is poor quality")
    rtt_s_max: float = _knob(0.8, "s", 0.01, 60, "a round trip above this is poor quality")
    jitter_s_max: float = _knob(0.15, "s", 0.001, 60, "jitter above this is poor quality")
    ban_s: float = _knob(10.0, "s", 0.1, 3600, "first ban; bans double")
    ban_s_max: float = _knob(300.0, "s", 0.1, 86_400, "longest ban")
    step_s: float = _knob(30.0, "s", 0.1, 3600, "how long each step of a return is held")
    steps: tuple[float, ...] = (0.05, 0.25, 0.5, 1.0)
    """Shares of new starts given on the way back; they grow, and the last one is 1."""
    control_interval_s: float = _knob(30.0, "s", 0.05, 3600, "control probes begin so often")
    suspect_interval_s: float = _knob(5.0, "s", 0.05, 3600, "the same while suspect")
    canary_interval_s: float = _knob(300.0, "s", 1, 86_400, "media canaries begin so often")
    canary_suspect_interval_s: float = _knob(15.0, "s", 1, 86_400, "the same while suspect")
    windows_s: tuple[float, ...] = (300.0, 3600.0, 86_400.0)
    """Windows that uptime, error rate and latency are given for [s]; a day at most."""
    grade_window_s: float = _knob(3600.0, "s", 60, 86_400, "what the grade is taken over")
    recount_s: float = _knob(0.2, "s", 0, 60, "many votes are counted so often")
    votes_max: int = _knob(256, "", 8, 10_000, "clients whose last reports are kept")
    regions_max: int = _knob(32, "", 1, 1000, "regions of a provider told apart")
    providers_max: int = _knob(64, "", 1, 10_000, "providers that are judged")

    def __post_init__(self) -> None:
        for knob in fields(self):
            check(knob.name, getattr(self, knob.name), knob.metadata)
        grow = all(a < b for a, b in zip(self.steps, self.steps[1:], strict=False))
        if not self.steps or not grow or self.steps[0] <= 0 or self.steps[-1] != 1:
            raise ConfigError("steps must grow from above 0 to 1")
        if not all(60 <= window_s <= 86_400 for window_s in self.windows_s):
            raise ConfigError("windows_s must each be from 60 to 86400 s")
        if self.ban_s > self.ban_s_max:
            raise ConfigError("ban_s must not exceed ban_s_max")

    def is_sample(self, votes: Tally) -> bool:
        """Whether so many say that it fails that it cannot be one client, room or network."""
        return (
            votes.failing >= self.min_clients
            and votes.streams >= self.min_streams
            and votes.networks >= self.min_networks
        )

    def poor_because(self, report: QualityReported) -> str:
        """Return what is poor about a client's media; empty: nothing."""
        if report.loss is not None and report.loss > self.loss_max:
            return f"loss over {self.loss_max:.0%}"
        if report.rtt_s is not None and report.rtt_s > self.rtt_s_max:
            return f"round trip over {self.rtt_s_max:g} s"
        if report.jitter_s is not None and report.jitter_s > self.jitter_s_max:
            return f"jitter over {self.jitter_s_max:g} s"
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """
    What is thought of a provider, or of one of its regions.

    Attributes:
        word: In a word.
        level: The deepest level it rests on; None: on nothing.
        since_s: Since when the word stands [s].
        because: Why, in words.
        reporters: How many clients reported lately.
        unproven: Levels that nothing fresh proves to work.
        share: Share of new starts it may be given [0..1].
    """

    word: Word = Word.UNKNOWN
    level: Level | None = None
    since_s: float = 0.0
    because: str = "nothing was observed yet"
    reporters: int = 0
    unproven: tuple[Level, ...] = tuple(Level)
    share: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """
    The last probes of one level.

    Attributes:
        failures: How many failed in a row.
        since_s: When the first of them ended [s].
        is_unanswered: Whether none of them was answered at all.
        because: What the last one found.
        ok_s: When one last succeeded [s]; None: never.
        at_s: When the last one ended [s].
    """

    failures: int = 0
    since_s: float = 0.0
    is_unanswered: bool = False
    because: str = ""
    ok_s: float | None = None
    at_s: float = float("-inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """
    One region of one provider.

    Attributes:
        rows: Probes, by level.
        fresh_s: When media last reached one of its clients [s].
        canary_loss: Share of pictures that the last good canary lost [0..1].
        breaker: Whether it is given new starts.
        condemned: What its ban rests on.
        since_s: Votes count from here on: the beginning of its trial [s].
        step: How far it has come back: 0 banned or on trial, else the step of `Rules.steps`.
        step_s: Since when [s].
        verdict: What is thought of it.
    """

    rows: Mapping[Level, Row] = field(default_factory=lambda: MappingProxyType({}))
    fresh_s: float | None = None
    canary_loss: float | None = None
    breaker: Breaker = field(default_factory=Breaker)
    condemned: Level = Level.CONTROL
    since_s: float = float("-inf")
    step: int = 0
    step_s: float = 0.0
    verdict: Verdict = field(default_factory=Verdict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """
    What the evidence on a cell comes to.

    Attributes:
        word, because: What it would be without a circuit, and why.
        level: The deepest level that rests on.
        media: What media says.
        keeps_out: Why new starts should go elsewhere; empty: they need not.
        blamed: What a ban would rest on.
        reporters: Clients that reported.
        unproven: Levels that nothing fresh proves to work.
        is_probed: Whether probes of its own tell of it.
        has_passed: Whether something that works was seen since its trial began.
        is_good: Likewise, since its last step.
        is_calm: Whether nothing at all fails.
    """

    word: Word
    because: str
    level: Level | None
    media: Sign
    keeps_out: str
    blamed: Level
    reporters: int
    unproven: tuple[Level, ...]
    is_probed: bool
    has_passed: bool
    is_good: bool
    is_calm: bool


def row_after(row: Row | None, probe: ProbeEnded, now: float) -> Row:
    """Return a row after one more probe of its level."""
    if probe.ok:
        return Row(because=probe.because[:BECAUSE_MAX], ok_s=now, at_s=now)
    row = row or Row()
    is_first = row.failures == 0
    return Row(
        failures=row.failures + 1,
        since_s=now if is_first else row.since_s,
        is_unanswered=not probe.answered and (is_first or row.is_unanswered),
        because=probe.because[:BECAUSE_MAX],
        ok_s=row.ok_s,
        at_s=now,
    )


def look(
    rules: Rules,
    cell: Cell,
    votes: Sequence[Sequence[Vote]],
    now: float,
    *,
    witness_s: float,
    fresh_s: float | None,
    outer: Cell | None = None,
) -> Seen:
    """
    Weigh the evidence on one cell.

    Args:
        rules: The limits.
        cell: Its probes and its past.
        votes: On starts, media and quality.
        now: When [s].
        witness_s: When another provider last answered [s]; inf: there is no other.
        fresh_s: When media last reached a client [s]; None: never.
        outer: The provider's cell without a region: its control probe serves all regions.
    """
    rows = dict(cell.rows)
    if outer is not None and Level.CONTROL not in rows and Level.CONTROL in outer.rows:
        rows[Level.CONTROL] = outer.rows[Level.CONTROL]
    counted = [[one for one in ballot if one.at_s > cell.since_s] for ballot in votes]
    starts, media, quality = (tally(ballot) for ballot in counted)
    bad = {level for level, row in rows.items() if _is_bad(rules, row, witness_s)}
    proven = {level for level, row in rows.items() if _is_proven(rules, level, row, now)} - bad
    control = _sign(Level.CONTROL in bad, Level.CONTROL in proven)
    is_fresh = fresh_s is not None and now - fresh_s <= rules.fresh_s
    canary = rows.get(Level.END_TO_END) or Row()
    canary_s = now - canary.ok_s if canary.ok_s is not None and not canary.failures else None
    is_canary_fresh = canary_s is not None and canary_s <= rules.canary_fresh_s
    canary_bad = next((level for level in (Level.END_TO_END, Level.INGEST) if level in bad), None)

    flows = is_fresh or is_canary_fresh
    keeps_out, lost, blamed = "", "", Level.END_TO_END
    if _condemns(rules, media):
        lost = f"{media.failing} of {media.clients} clients lost media: {media.because}"
    elif _condemns(rules, starts):
        keeps_out = f"{starts.failing} of {starts.clients} starts fail: {starts.because}"
        lost = "" if flows else keeps_out
    elif canary_bad is not None:
        blamed = canary_bad
        keeps_out = f"canary ({canary_bad}) fails: {rows[canary_bad].because}"
        lost = "" if is_fresh else keeps_out
    media_sign = _sign(bool(lost), flows)
    word = WORDS[control, media_sign]
    if control is Sign.BAD and not lost and not keeps_out:
        blamed, row = Level.CONTROL, rows[Level.CONTROL]
        takes_starts = any(one.ok and one.at_s > row.since_s for one in counted[0])
        if not is_canary_fresh and not takes_starts:
            keeps_out = f"control fails: {row.because}"
    poor = "" if lost else _poor(rules, cell, (starts, media, quality), proven)
    if word in (Word.HEALTHY, Word.UNKNOWN) and (keeps_out or poor):
        word = Word.DEGRADED

    if is_fresh:
        proven |= {Level.END_TO_END, Level.INGEST}
    if Level.END_TO_END in proven:
        proven.add(Level.INGEST)
    deepest = next((level for level in reversed(Level) if level in proven), None)
    recent = _recent(rules, rows, now)
    return Seen(
        word=word,
        because=_because(word, control, rows, deepest, lost=lost, out=keeps_out, poor=poor),
        level=_rests_on(word, control, deepest, blamed, is_lost=bool(lost), is_poor=bool(poor)),
        media=media_sign,
        keeps_out=keeps_out,
        blamed=blamed,
        reporters=len({one.client for ballot in votes for one in ballot}),
        unproven=tuple(level for level in Level if level not in proven),
        is_probed=bool(recent),
        has_passed=_has_passed(cell, recent, counted[0], cell.since_s),
        is_good=_has_passed(cell, recent, counted[0], cell.step_s)
        or (fresh_s is not None and fresh_s > cell.step_s),
        is_calm=not any(row.failures for row in _judging(cell, recent))
        and max(starts.rate, media.rate) < rules.poor_rate,
    )


def _sign(is_bad: bool, is_good: bool) -> Sign:
    return Sign.BAD if is_bad else Sign.GOOD if is_good else Sign.NONE


def _condemns(rules: Rules, votes: Tally) -> bool:
    return rules.is_sample(votes) and votes.rate >= rules.fail_rate


def _is_bad(rules: Rules, row: Row, witness_s: float) -> bool:
    """Whether a level failed often enough, and not because we are cut off."""
    is_theirs = not row.is_unanswered or witness_s > row.since_s
    return row.failures >= rules.max_failures and is_theirs


def _is_proven(rules: Rules, level: Level, row: Row, now: float) -> bool:
    limit_s = rules.proof_s if level is Level.CONTROL else rules.canary_proof_s
    return row.ok_s is not None and now - row.ok_s <= limit_s


def _recent(rules: Rules, rows: Mapping[Level, Row], now: float) -> dict[Level, Row]:
    """Return the levels that are probed."""
    limits = {Level.CONTROL: rules.proof_s}
    return {
        level: row
        for level, row in rows.items()
        if now - row.at_s <= limits.get(level, rules.canary_proof_s)
    }


def _judging(cell: Cell, recent: Mapping[Level, Row]) -> list[Row]:
    """Return the probes that go as deep as what the ban rests on; if none does, all of them."""
    order = list(Level)
    at_least = order.index(cell.condemned)
    deep = [row for level, row in recent.items() if order.index(level) >= at_least]
    return deep or list(recent.values())


def _has_passed(
    cell: Cell, recent: Mapping[Level, Row], starts: Sequence[Vote], since_s: float
) -> bool:
    """Whether something that counts worked after `since_s` [s]: a probe that is deep enough,
    or a client's start."""
    probes = any(
        row.ok_s is not None and row.ok_s > since_s and not row.failures
        for row in _judging(cell, recent)
    )
    return probes or any(one.ok and one.at_s > since_s for one in starts)


def _poor(rules: Rules, cell: Cell, tallies: Sequence[Tally], proven: set[Level]) -> str:
    """Return what is worse than it should be, and no reason for a ban; empty: nothing."""
    for votes, what in zip(tallies, ("starts fail", "lost media", "media is poor"), strict=True):
        if rules.is_sample(votes) and votes.rate >= rules.poor_rate:
            return f"{what} for {votes.failing} of {votes.clients} clients: {votes.because}"
    loss = cell.canary_loss
    if Level.END_TO_END in proven and loss is not None and loss > rules.loss_max:
        return f"the canary lost {loss:.0%} of its pictures"
    return ""


def _rests_on(
    word: Word,
    control: Sign,
    deepest: Level | None,
    blamed: Level,
    *,
    is_lost: bool,
    is_poor: bool,
) -> Level | None:
    """Return the deepest level a word rests on."""
    if word is Word.DOWN:
        return blamed if is_lost else Level.CONTROL
    if is_poor:
        return Level.END_TO_END
    return deepest or (Level.CONTROL if control is Sign.BAD else None)


def _because(
    word: Word,
    control: Sign,
    rows: Mapping[Level, Row],
    deepest: Level | None,
    *,
    lost: str,
    out: str,
    poor: str,
) -> str:
    """Return why it is this word."""
    if word is Word.DOWN:
        why = lost or f"control fails: {rows[Level.CONTROL].because}"
    elif out or poor:
        why = out or poor
    elif control is Sign.BAD:
        why = f"control fails while media flows: {rows[Level.CONTROL].because}"
    else:
        why = {
            Level.CONTROL: "control answers; media is not proven",
            Level.INGEST: "it takes media; forwarding is not proven",
            Level.END_TO_END: "media arrives",
            None: "nothing fresh was observed",
        }[deepest]
    return why[:BECAUSE_MAX]
