"""
What must hold after every step of every client, in transcripts and in random worlds alike.

A `Checker` follows one client: it is shown each step and raises `AssertionError` at the first
one that breaks a rule. It trusts nothing the core says about itself that it can count on its own.
"""

from __future__ import annotations

import itertools
from collections import defaultdict, deque
from dataclasses import dataclass, field

from hitless.core.catalogue import CATALOGUE
from hitless.core.events import (
    Announce,
    CloseLeg,
    Effect,
    Ended,
    EndRequested,
    Event,
    LegAbsent,
    LegFailed,
    OpenLeg,
    Role,
    Started,
    Ticked,
)
from hitless.core.placement import order
from hitless.core.policy import Policy
from hitless.core.state import MOVES, Phase, Purpose, Session, State
from hitless.core.step import step, wakeup_s


STEPS_AT_ONCE_MAX = 6
"""Ticks that may be wanted one after another at one instant: beyond, it is a busy loop."""

ASKS_PER_S_MAX = 24
"""A viewer asks one provider every 50 ms at most; some slack for the edges of the window."""

STRANGERS_MAX = 64
"""Providers that are remembered though no list names them any more."""


@dataclass
class Checker:
    """
    One client that is watched closely.

    Attributes:
        policy, state: The client.
        moves: Every change of phase seen so far.
        open_legs: Legs that were ordered and not yet over: their session and provider.
        started: Sessions whose caller was told to go on.
    """

    policy: Policy
    state: State = field(default_factory=State)
    moves: set[tuple[Phase, Phase]] = field(default_factory=set)
    open_legs: dict[int, tuple[str, str]] = field(default_factory=dict)
    started: set[str] = field(default_factory=set)
    _last_leg: int = 0
    _starts: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    _asks: defaultdict[tuple[str, str], deque[float]] = field(
        default_factory=lambda: defaultdict(deque)
    )
    _ticks: tuple[float, int] = (0.0, 0)

    def step(self, event: Event, now: float) -> tuple[Effect, ...]:
        """Let the client hear `event` at `now` [s] and return what it orders."""
        before = self.state
        self._count_ticks(event, now)
        self.state, effects = step(self.policy, before, event, now)
        if isinstance(event, LegFailed | LegAbsent):
            self._leg_over(before, event)
        for effect in effects:
            self._effect(effect, now)
        for session in self.state.sessions.values():
            self._session(before.sessions.get(session.id), session, effects)
        for id, session in before.sessions.items():
            if id not in self.state.sessions:
                self._gone(session, effects)
        held = {leg.id for s in self.state.sessions.values() for leg in s.legs}
        assert held == set(self.open_legs), "legs held and legs ordered differ"
        if isinstance(event, EndRequested):
            assert event.session not in self.state.sessions, "it was told to end, and did not"
        self._bounded()
        return effects

    def wakeup_s(self) -> float:
        """Return when it wants to be woken [s]."""
        at_s = wakeup_s(self.policy, self.state)
        dark = {Phase.STARTING, Phase.WAITING, Phase.RECOVERING, Phase.OFF_AIR}
        if any(session.phase in dark for session in self.state.sessions.values()):
            assert at_s < float("inf"), "in the dark, and it waits for nothing"
        assert at_s == at_s, "it wants to be woken at no time at all (nan)"
        return at_s

    # --- Rules ---

    def _count_ticks(self, event: Event, now: float) -> None:
        assert now >= self._ticks[0], "the test's own clock runs backwards"
        if isinstance(event, Ticked):
            count = self._ticks[1] + 1 if now == self._ticks[0] else 1
            assert count <= STEPS_AT_ONCE_MAX, f"a busy loop at {now:g} s"
            self._ticks = (now, count)

    def _leg_over(self, before: State, event: LegFailed | LegAbsent) -> None:
        session = before.sessions.get(event.session)
        leg = session.leg(event.leg) if session else None
        if leg is None or session is None:
            return
        if isinstance(event, LegFailed) or (session.role is Role.VIEWER and leg.live_s is None):
            del self.open_legs[event.leg]

    def _effect(self, effect: Effect, now: float) -> None:
        if isinstance(effect, Announce | OpenLeg | CloseLeg | Ended):
            assert effect.because, f"no reason given: {effect}"
        match effect:
            case OpenLeg():
                self._opens(effect, now)
            case CloseLeg():
                assert effect.leg in self.open_legs, f"leg {effect.leg} is closed twice"
                del self.open_legs[effect.leg]
            case Announce():
                entry = CATALOGUE[effect.name]
                for name in ("provider", *effect.fields):
                    value = effect.provider if name == "provider" else effect.fields[name]
                    assert value is not None or f"{{{name}}}" not in entry.sentence, effect
            case Started():
                assert effect.session not in self.started, "started twice"
                self.started.add(effect.session)
            case _:
                pass

    def _opens(self, effect: OpenLeg, now: float) -> None:
        assert effect.leg == self._last_leg + 1, "a leg's number is used again, or skipped"
        self._last_leg = effect.leg
        self.open_legs[effect.leg] = (effect.session, effect.provider)
        assert self.state.listed is not None, "a leg is opened before there is a list"
        assert effect.provider in order(self.state.listed), "a disabled provider is asked"
        away_s = self.state.standing[effect.provider].not_before_s
        assert away_s <= now, f"{effect.provider} asked us to stay away until {away_s:g} s"
        asks = self._asks[effect.session, effect.provider]
        asks.append(now)
        while asks[0] <= now - 1.0:
            asks.popleft()
        assert len(asks) <= ASKS_PER_S_MAX, f"{effect.provider} is asked too often"

    def _session(
        self, before: Session | None, after: Session, effects: tuple[Effect, ...]
    ) -> None:
        was = before.phase if before else Phase.STARTING
        self._moved(after, was, after.phase, effects)
        if before is not None:
            assert after.epoch >= before.epoch, "the epoch shrank"
            changed = after.on_air not in (None, before.on_air)
            assert after.epoch > before.epoch or not changed, "a new leg on air, the old epoch"
        if after.phase is Phase.STARTING:
            opened = [e for e in effects if isinstance(e, OpenLeg) and e.session == after.id]
            self._starts[after.id] += len(opened)
            assert self._starts[after.id] <= 1 + self.policy.max_retries, "too many attempts"
        here = after.leg(after.on_air)
        if after.phase is Phase.ON_AIR:
            assert here is not None, "on air without a leg"
            assert here.carries, "on air, and its leg does not carry media"
        opening = [leg for leg in after.legs if leg.live_s is None]
        trials = [leg for leg in opening if leg.purpose is Purpose.TRIAL]
        assert len(trials) <= 1, "two trials at once"
        doubts = [leg for leg in opening if leg.purpose is Purpose.DOUBT]
        assert len(doubts) <= 1, "two legs on a doubt at once"
        if after.role is Role.PUBLISHER:
            moves = len(opening) - len(trials) - len(doubts)
            assert moves <= 1, "two moves at once"
            needs_operation = after.phase is not Phase.ON_AIR
            assert after.operation is not None or not needs_operation, "stuck without a plan"
        elif after.phase in (Phase.WAITING, Phase.RECOVERING):
            assert after.search_s is not None, "stuck without a search"

    def _moved(self, s: Session, was: Phase, now: Phase, effects: tuple[Effect, ...]) -> None:
        path = [was]
        said = {e.name for e in effects if isinstance(e, Announce) and e.stream == s.stream}
        if was is Phase.STARTING and now is not was and "stream.waiting" in said:
            path.append(Phase.WAITING)
        if was is Phase.ON_AIR and now is Phase.OFF_AIR:  # nobody was left to be asked at all
            assert {"failover.started", "stream.off_air"} <= said
            path.append(Phase.RECOVERING)
        if path[-1] is not now:
            path.append(now)
        for a, b in itertools.pairwise(path):
            assert b in MOVES[a], f"an illegal move: {a} -> {b}"
            self.moves.add((a, b))

    def _gone(self, s: Session, effects: tuple[Effect, ...]) -> None:
        ends = [e for e in effects if isinstance(e, Ended) and e.session == s.id]
        assert len(ends) == 1, "gone without a word, or with two"
        for attempt in ends[0].attempts:
            assert attempt.provider, "an attempt on nobody"
        self._moved(s, s.phase, Phase.ENDED, effects)
        self.started.discard(s.id)  # the next session may have the same name
        self._starts.pop(s.id, None)
        for key in [key for key in self._asks if key[0] == s.id]:
            del self._asks[key]

    def _bounded(self) -> None:
        state = self.state
        listed = {entry.name for entry in state.listed.providers} if state.listed else set()
        assert len(state.doubts) <= 64
        assert len(set(state.standing) - listed) <= STRANGERS_MAX
        for s in state.sessions.values():
            assert len(s.attempts) <= 100
            assert len(s.legs) <= 2 * (len(state.standing) + 1), "legs pile up"
            assert len(s.suspects) <= len(state.standing) + 1, "suspects pile up"
            assert set(s.asks) <= set(state.standing), "asks pile up"
