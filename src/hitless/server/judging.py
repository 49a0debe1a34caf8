"""
What this node thinks of each provider, and what it answers about it.

The judging itself is `core/verdict.py`; here observations come in with the time they were made,
and answers go out: the public one, one for people, one for placement. What the clients of other
nodes report is counted with what ours do, so that a verdict rests on the whole house.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from ..core import verdict
from ..core.evidence import Rules, Verdict, Word
from ..core.observation import (
    Ballot,
    HeardElsewhere,
    ManyFresh,
    Observation,
    OperatorSaid,
    Reached,
    Said,
    Ticked,
    Vote,
)
from ..core.verdict import News, Standing
from . import summaries
from .recording import Recording
from .summaries import Summary
from .wire import Health, HealthInFull


RANKS: Final = {
    Word.HEALTHY: 0,
    Word.UNKNOWN: 0,
    Word.DEGRADED: 1,
    Word.DOWN: 2,
    Word.DISABLED: 3,
}
"""In which order providers are given streams; within a rank by priority."""

SUMMARY_S: Final = 7.0
"""What another node's clients reported counts so long after it was written [s]: two heartbeats."""

GATHER_S: Final = 0.05
"""Reports that media arrives are judged together, so long after the first of them [s]."""
GATHERED_MAX: Final = 1024
"""As many of one provider are judged at once, however soon they come."""

Later = Callable[[float, Callable[[], None]], object]
"""Calls something in so many seconds, as a loop's `call_later` does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What another node says of its clients: who, the text, how long ago it wrote that [s]."""

    node: str
    text: str
    age_s: float


@dataclass(frozen=True, slots=True)
class _Heard:
    until_s: float
    said: Mapping[str, Summary]


class Judge:
    """
    The standing of all providers.

    Args:
        rules: The limits.
        clock: The loop's clock [s].
        tell: Called with each piece of news: a verdict that changed, the observer suspected.
        later: Lets reports be judged together; without it each is judged as it comes.

    Attributes:
        rules: The limits.
        standing: All that is known.
        recording: What was judged lately.
        elsewhere: Providers that other nodes find down, each with its reason.
        is_held: Moves are frozen, or only observed: clients that leave whoever is said to be
            unhealthy are not told to, either; `grade` and `because` say what is thought.
    """

    def __init__(
        self,
        rules: Rules,
        clock: Callable[[], float],
        tell: Callable[[News], None],
        *,
        later: Later | None = None,
    ) -> None:
        self.rules, self._clock, self._tell, self._later = rules, clock, tell, later
        self.standing = Standing()
        self.recording = Recording(rules)
        self.is_held = False
        self.elsewhere: Mapping[str, str] = {}
        self._gathered: dict[str, list[Reached]] = {}
        self._heard: dict[str, _Heard] = {}

    def observe(self, observation: Observation) -> None:
        """Take one observation into account, as made now; what was gathered comes before it."""
        if self._gathered:
            self.judge_gathered()
        self._observe(observation)

    def gather(self, provider: str, reached: Reached) -> None:
        """Take a report that media reached a client into account, with others, in `GATHER_S`."""
        if not self._gathered and self._later is not None:
            self._later(GATHER_S, self.judge_gathered)
        clients = self._gathered.setdefault(provider, [])
        clients.append(reached)
        if self._later is None or len(clients) >= GATHERED_MAX:
            self.judge_gathered()

    def judge_gathered(self) -> None:
        """Judge what was gathered now. Idempotent."""
        gathered, self._gathered = self._gathered, {}
        for provider, reports in gathered.items():
            self._observe(ManyFresh(provider=provider, reports=reports))

    def _observe(self, observation: Observation) -> None:
        before, now = self.standing, self._clock()
        self.standing, news = verdict.judge(self.rules, before, observation, now)
        self.recording.judged(before, observation, now, news)
        for one in news:
            self._tell(one)

    def tick(self) -> None:
        """Let time pass: reports grow old, bans run out, nodes fall silent."""
        self._forget_silent()
        self.observe(Ticked())

    # --- The whole house ---

    def summary(self) -> str:
        """Return what our clients reported, for the other nodes; see `summaries`."""
        self.judge_gathered()
        return summaries.write(self.standing.cases, self._clock())

    def heard(self, told: Iterable[Told]) -> None:
        """
        Count what the clients of all other nodes reported, instead of what was told before.

        Args:
            told: What each of them says; what is older than `SUMMARY_S`, or makes no sense, is
                nothing.
        """
        now, before = self._clock(), self._heard
        self._heard = {
            one.node: _Heard(now + SUMMARY_S - one.age_s, said)
            for one in told
            if 0.0 <= one.age_s < SUMMARY_S and (said := summaries.read(one.text, now - one.age_s))
        }
        self._count_heard(before)

    def _forget_silent(self) -> None:
        before, now = self._heard, self._clock()
        self._heard = {node: one for node, one in before.items() if one.until_s > now}
        if len(self._heard) < len(before):
            self._count_heard(before)

    def _count_heard(self, before: Mapping[str, _Heard]) -> None:
        names = {name for one in (*before.values(), *self._heard.values()) for name in one.said}
        for provider in sorted(names & self.standing.cases.keys()):
            votes: dict[Ballot, list[Vote]] = {ballot: [] for ballot in Ballot}
            fresh_s: dict[str | None, float] = {}
            for one in self._heard.values():
                said = one.said.get(provider)
                if said is not None:
                    for ballot in Ballot:
                        votes[ballot] += said.votes[ballot]
                    for region, at_s in said.fresh_s.items():
                        fresh_s[region] = max(fresh_s.get(region, at_s), at_s)
            self.observe(HeardElsewhere(provider=provider, votes=votes, fresh_s=fresh_s))

    @property
    def is_contested(self) -> bool:
        """Whether some client of any node says that something fails."""
        cases = self.standing.cases.values()
        ballots = [ballot for case in cases for held in (case.votes, case.heard)
                   for ballot in held.values()]  # fmt: skip
        return any(not one.ok for ballot in ballots for one in ballot.values())

    # --- Answers ---

    def allow(self, provider: str, is_active: bool, because: str) -> None:
        """Say whether operators let it be used."""
        word = Said.ENABLED if is_active else Said.DISABLED
        self.observe(OperatorSaid(provider=provider, word=word, because=because))

    def forget(self, provider: str) -> None:
        """Forget a provider that is gone."""
        self.recording.forgot(self.standing, provider, self._clock())
        self.standing = verdict.forget(self.standing, provider)

    def verdict(self, provider: str) -> Verdict:
        """Return what is thought of it: here, or that it is down by what another node saw."""
        own, because = self.standing.verdict(provider), self.elsewhere.get(provider)
        if because is None or own.word in (Word.DOWN, Word.DISABLED):
            return own
        return replace(own, word=Word.DOWN, because=because, share=0.0)

    def down(self) -> dict[str, str]:
        """Return the providers that are down by what was seen here, each with its reason."""
        found = {name: self.standing.verdict(name) for name in self.standing.cases}
        return {name: one.because for name, one in found.items() if one.word is Word.DOWN}

    def rank(self, provider: str) -> int:
        """Return its rank for placement; lowest first."""
        return RANKS[self.verdict(provider).word]

    def share(self, provider: str) -> float:
        """Return which share of new starts it may be given [0..1]: it comes back in steps."""
        return min(verdict.share(self.standing, provider), self.verdict(provider).share)

    def health(self, provider: str) -> Health:
        """Return what everybody may know of it."""
        word = self.verdict(provider).word
        if self.is_held and word is Word.DOWN:
            word = Word.DEGRADED
        healthy, status = verdict.PUBLIC[word]
        return msgspec.convert(
            {"healthy": healthy, "provider": provider, "status": status}, Health
        )

    def health_in_full(self, provider: str) -> HealthInFull:
        """Return what callers with a key may know of it."""
        now = self._clock()
        public, found = self.health(provider), self.verdict(provider)
        case = self.standing.case(provider)
        rows = [row.failures for cell in case.cells.values() for row in cell.rows.values()]
        window = verdict.windows(self.rules, self.standing, provider, now)[0]
        return HealthInFull(
            healthy=public.healthy,
            provider=provider,
            status=public.status,
            grade=verdict.grade(self.rules, self.standing, provider, now).value,
            because=found.because,
            level=found.level.value if found.level else "",
            unproven=[level.value for level in found.unproven],
            failures=max(rows, default=0),
            latency_s=window.latency_s,
            uptime=window.uptime,
            error_rate=window.error_rate,
            checked_ago_s=None if case.probed_s is None else round(now - case.probed_s, 3),
            reporters=found.reporters,
        )
