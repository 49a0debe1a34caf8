"""
What this node thinks of each provider, and what it answers about it.

The judging itself is `core/verdict.py`; here observations come in with the time they were made,
and answers go out: the public one, one for people, one for placement.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

import msgspec

from ..core import verdict
from ..core.evidence import Rules, Verdict, Word
from ..core.observation import Observation, OperatorSaid, Said, Ticked
from ..core.verdict import News, Standing
from .wire import Health, HealthInFull


RANKS: Final = {
    Word.HEALTHY: 0,
    Word.UNKNOWN: 0,
    Word.DEGRADED: 1,
    Word.DOWN: 2,
    Word.DISABLED: 3,
}
"""In which order providers are given streams; within a rank by priority."""


class Judge:
    """
    The standing of all providers.

    Args:
        rules: The limits.
        clock: The loop's clock [s].
        tell: Called with each piece of news: a verdict that changed, the observer suspected.

    Attributes:
        rules: The limits.
        standing: All that is known.
        elsewhere: Providers that other nodes find down, each with its reason.
        is_held: Moves are frozen, or only observed: clients that leave whoever is said to be
            unhealthy are not told to, either; `grade` and `because` say what is thought.
    """

    def __init__(
        self, rules: Rules, clock: Callable[[], float], tell: Callable[[News], None]
    ) -> None:
        self.rules, self._clock, self._tell = rules, clock, tell
        self.standing = Standing()
        self.is_held = False
        self.elsewhere: Mapping[str, str] = {}

    def observe(self, observation: Observation) -> None:
        """Take one observation into account, as made now."""
        self.standing, news = verdict.judge(self.rules, self.standing, observation, self._clock())
        for one in news:
            self._tell(one)

    def tick(self) -> None:
        """Let time pass: reports grow old, bans run out."""
        self.observe(Ticked())

    def allow(self, provider: str, is_active: bool, because: str) -> None:
        """Say whether operators let it be used."""
        word = Said.ENABLED if is_active else Said.DISABLED
        self.observe(OperatorSaid(provider=provider, word=word, because=because))

    def forget(self, provider: str) -> None:
        """Forget a provider that is gone."""
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
