"""
One call of `step`: the working copy of what is changing, and the effects so far.

Mutable only while a step runs; nothing outside `core` sees it. Blame is decided here: a failure
that somebody answered counts at once, one that nobody answered waits until anybody answers, and
is dropped when it turns out to be our own network.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from . import health, placement
from .attempts import Failure
from .circuit import Circuit
from .events import Announce, CloseLeg, Effect, OpenLeg
from .health import Standing
from .listing import Listed
from .policy import Policy
from .state import Leg, Purpose, Session, State, Suspect


_MASK = (1 << 64) - 1
_DOUBTS_MAX = 64
_DOUBT_S = 60.0
"""An unanswered failure older than this is forgotten when somebody answers at last [s]."""
_STRANGERS_MAX = 64
"""Providers that are no longer listed and still remembered."""


class Turn:
    """What one step changes."""

    def __init__(self, policy: Policy, state: State, now: float) -> None:
        self.policy, self.now = policy, now
        self.state = state
        self.effects: list[Effect] = []
        self.standing: defaultdict[str, Standing] = defaultdict(Standing, state.standing)
        self.opened_circuits: dict[str, str] = {}
        self.list_failed: str | None = None
        for name in list(self.standing):
            self._set(name, health.cooled(policy, self.standing[name], now), "the ban ran out")

    def done(self) -> tuple[State, tuple[Effect, ...]]:
        """Return the state after this step, and the effects in order."""
        listed = self.state.listed
        known = {entry.name for entry in listed.providers} if listed else set()
        strangers = [name for name in self.standing if name not in known]
        for name in strangers[: max(0, len(strangers) - _STRANGERS_MAX)]:
            del self.standing[name]
        state = replace(self.state, now_s=self.now, standing=dict(self.standing))
        return state, tuple(self.effects)

    # --- Chance ---

    def jitter(self) -> float:
        """Return a number in [0, 1): splitmix64 of the seed and a counter (Steele et al. 2014)."""
        self.state = replace(self.state, draws=self.state.draws + 1)
        z = (self.state.seed + self.state.draws * 0x9E3779B97F4A7C15) & _MASK
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
        return ((z ^ (z >> 31)) >> 11) / float(1 << 53)

    # --- Telling and ordering ---

    def say(
        self,
        name: str,
        because: str,
        *,
        session: Session | None = None,
        provider: str | None = None,
        **fields: str | int | float | None,
    ) -> None:
        """Announce `name`."""
        if session is not None:
            fields = {"role": session.role.value, "epoch": session.epoch, **fields}
        stream = session.stream if session else None
        self.effects.append(
            Announce(name=name, because=because, stream=stream, provider=provider, fields=fields)
        )

    def say_failed(self, session: Session, leg: Leg, failure: Failure) -> None:
        """Announce that a leg could not be opened, or is lost."""
        self.say(
            "leg.failed",
            failure.because,
            session=session,
            provider=leg.provider,
            leg=leg.id,
            error=failure.error,
        )

    def open(self, session: Session, provider: str, purpose: Purpose, because: str) -> Leg:
        """Order a leg and return it; the caller puts it into the session."""
        number = self.state.legs_made + 1
        self.state = replace(self.state, legs_made=number)
        self.effects.append(
            OpenLeg(session=session.id, leg=number, provider=provider, because=because)
        )
        self.say("leg.opening", because, session=session, provider=provider, leg=number)
        return Leg(
            id=number,
            provider=provider,
            purpose=purpose,
            begun_s=self.now,
            until_s=self.now + self.first_media_s(provider),
        )

    def close(self, session: Session, leg: Leg, because: str) -> Session:
        """Order the end of a leg and return the session without it."""
        self.effects.append(CloseLeg(session=session.id, leg=leg.id, because=because))
        self.say("leg.closed", because, session=session, provider=leg.provider, leg=leg.id)
        return without(session, leg)

    def first_media_s(self, provider: str) -> float:
        """Return how long a leg of `provider` may take to prove media [s]."""
        limit = self._config(provider).get("first_media_s")
        if isinstance(limit, int | float) and 0 < limit <= 60:
            return float(limit)
        return self.policy.first_media_s

    def fault_domain(self, provider: str) -> str:
        """Return what fails together with `provider`; itself, if nobody says."""
        domain = self._config(provider).get("fault_domain")
        return domain if isinstance(domain, str) and domain else provider

    def carried(self, provider: str) -> int:
        """Return how many streams the list says that a provider carries; 0: it does not say."""
        found = self._entry(provider)
        return found.streams if found is not None else 0

    def starts_per_s(self, provider: str) -> float:
        """Return how many starts the list says that one accepts [1/s]; 0: it does not say."""
        found = self._entry(provider)
        return found.starts_per_s if found is not None else 0.0

    def _config(self, provider: str) -> Mapping[str, Any]:
        found = self._entry(provider)
        return found.config if found is not None else {}

    def _entry(self, provider: str) -> Listed | None:
        listed = self.state.listed
        entries = (entry for entry in listed.providers if entry.name == provider) if listed else ()
        return next(iter(entries), None)

    # --- Whom to ask ---

    def eligible(self) -> tuple[str, ...]:
        """Return whom a stream may be given to now, best first and the banned last."""
        listed = self.state.listed
        return placement.eligible(listed, self.standing, self.now) if listed else ()

    def trusts(self, provider: str) -> bool:
        """Whether it is not banned."""
        return self.standing[provider].breaker.admits

    def active(self) -> tuple[str, ...]:
        """Return all that are not disabled, best first."""
        return placement.order(self.state.listed) if self.state.listed else ()

    def why_nobody(self) -> str:
        """Say why nobody is active."""
        listed = self.state.listed
        if listed is None:
            # Told by the event of this very step; without one it was asked for in vain.
            why = self.list_failed or f"no answer within {self.policy.health_timeout_s:g} s"
            return f"no provider list to go by: {why}"
        names = ", ".join(entry.name for entry in listed.providers)
        return (
            f"every provider is disabled: {names}"
            if names
            else "no provider list to go by: it is empty"
        )

    def silent_until_s(self, leg: Leg) -> float:
        """
        Return when a silent leg is given up [s]; inf: not as things stand.

        Until somebody else answers it may be our own network; then it would come back by itself.
        """
        since_s = leg.silent_s
        if since_s is None or self.state.network_lost_s is not None:
            return float("inf")
        if self.state.answered_s < since_s:
            return float("inf")
        return max(since_s + self.policy.silent_leg_s, self.state.blameless_until_s)

    # --- Blame ---

    def answered(self) -> None:
        """Somebody outside answered: doubts become failures, or our network is back."""
        if self.state.network_lost_s is not None:
            grace_s = self.now + self.policy.network_grace_s
            self.say("network.back", f"after {self.now - self.state.network_lost_s:.1f} s")
            self.state = replace(
                self.state, network_lost_s=None, doubts=(), blameless_until_s=grace_s
            )
        doubts = self.state.doubts
        self.state = replace(self.state, answered_s=self.now, doubts=())
        for doubt in doubts:
            if self.now - doubt.since_s <= _DOUBT_S:
                self.count(doubt.provider, doubt.because)

    def excuse(self, since_s: float) -> None:
        """Drop the doubts noted since then: it was our own path that failed."""
        doubts = tuple(doubt for doubt in self.state.doubts if doubt.since_s < since_s)
        self.state = replace(self.state, doubts=doubts)

    def failed(self, provider: str, failure: Failure, begun_s: float) -> None:
        """
        Note the failure of what began at `begun_s`.

        It counts at once if anybody answered since then, and is a doubt otherwise. When nobody
        is left who is not in doubt, it is our own network.
        """
        if failure.retry_after_s is not None:
            away_s = min(failure.retry_after_s, self.policy.retry_after_s_max)
            standing = replace(self.standing[provider], not_before_s=self.now + away_s)
            self.standing[provider] = standing
        if failure.answered:
            self.answered()
        if failure.answered or self.state.answered_s > begun_s:
            self.count(provider, failure.because)
            return
        doubt = Suspect(provider=provider, because=failure.because, since_s=self.now)
        doubts = (*self.state.doubts, doubt)[-_DOUBTS_MAX:]
        self.state = replace(self.state, doubts=doubts)
        silent = {doubt.provider for doubt in doubts}
        if self.active() and silent.issuperset(self.active()):
            self.network_is_lost(f"no answer from {', '.join(sorted(silent))}")

    def convict(self, suspect: Suspect) -> None:
        """Blame a provider for the media it lost while another could carry it."""
        self.count(suspect.provider, suspect.because, lived_s=suspect.lived_s)

    def count(self, provider: str, because: str, *, lived_s: float | None = None) -> None:
        """Count one failure against `provider`, unless nobody is to blame just now."""
        if self.now < self.state.blameless_until_s or self.state.network_lost_s is not None:
            return
        after = health.failed(
            self.policy, self.standing[provider], because, self.now, lived_s=lived_s
        )
        if self.standing[provider].breaker.admits:  # of a banned one that is no news
            self.say("provider.failed", because, provider=provider, failures=after.failures)
        self._set(provider, after, because)

    def succeeded(self, provider: str, because: str) -> None:
        """Note a success that counts."""
        after = health.succeeded(self.policy, self.standing[provider], self.now)
        self._set(provider, after, because)

    def network_is_lost(self, because: str) -> None:
        """Conclude that our own network is down: nobody is blamed for what comes of it."""
        if self.state.network_lost_s is None:
            self.state = replace(self.state, network_lost_s=self.now, doubts=())
            self.say("network.lost", because)

    def _set(self, provider: str, after: Standing, because: str) -> None:
        before = self.standing[provider].breaker
        self.standing[provider] = after
        if after.breaker.circuit is before.circuit:
            return
        match after.breaker.circuit:
            case Circuit.OPEN:
                ban_s = round(after.breaker.banned_until_s - self.now, 3)
                self.say("circuit.opened", because, provider=provider, ban_s=ban_s)
                self.opened_circuits[provider] = because
            case Circuit.HALF_OPEN:
                self.say("circuit.half_opened", because, provider=provider)
            case Circuit.CLOSED:
                self.say("circuit.closed", because, provider=provider)


def with_leg(session: Session, leg: Leg) -> Session:
    """Return the session with `leg` added, or put in the place of the one with its number."""
    if session.leg(leg.id) is None:
        return replace(session, legs=(*session.legs, leg))
    return replace(session, legs=tuple(leg if old.id == leg.id else old for old in session.legs))


def without(session: Session, leg: Leg) -> Session:
    """Return the session without `leg`."""
    on_air = None if session.on_air == leg.id else session.on_air
    legs = tuple(old for old in session.legs if old.id != leg.id)
    return replace(session, legs=legs, on_air=on_air)
