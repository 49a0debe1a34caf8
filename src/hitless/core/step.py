"""
The core as one function: events in, effects out.

    state, effects = step(policy, state, event, now)

Perform every effect, in order, before the next call. Call it with `Ticked()` when `wakeup_s(...)`
is reached. Those two rules are the whole contract; a record of (event, now) pairs replays an
incident with the same effects, byte for byte.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Protocol, assert_never

from . import doubting, obeying, placement, publishing, viewing
from .attempts import Failure
from .events import (
    AskList,
    CheckHealth,
    Effect,
    EndRequested,
    ErrorRecorded,
    Event,
    HealthChecked,
    LegAbsent,
    LegDoubted,
    LegExpiring,
    LegFailed,
    LegHeard,
    LegOpened,
    LegSilent,
    LegsReleased,
    ListUnavailable,
    Outcome,
    PlacementTold,
    ProvidersListed,
    RescueTold,
    Role,
    SourceFailed,
    StreamOver,
    StreamRequested,
    SuccessRecorded,
    SwitchRequested,
    Ticked,
)
from .listing import Answer
from .policy import Policy
from .state import Leg, Phase, Session, State
from .turn import Turn


def step(
    policy: Policy, state: State, event: Event, now: float
) -> tuple[State, tuple[Effect, ...]]:
    """Return the state after `event`, and what must be done, in order."""
    turn = Turn(policy, state, max(now, state.now_s))
    _hear(turn, event)
    _leave_the_banned(turn)
    _each(turn, lambda s: _role(s).tick(turn, s))
    _leave_the_banned(turn)  # what was due may have opened a circuit too
    _each(turn, lambda s: obeying.answer(turn, s))
    _monitor(turn, state)
    return turn.done()


def wakeup_s(policy: Policy, state: State) -> float:
    """Return when `step` wants its next `Ticked` [s]; inf: it can wait for an event."""
    if not state.sessions:
        return float("inf")
    turn = Turn(policy, state, state.now_s)
    times = [_role(s).due_s(turn, s) for s in state.sessions.values()]
    if state.poll_s is not None:
        times.append(state.poll_s)
    bans = (standing.breaker for standing in state.standing.values())
    times += [breaker.banned_until_s for breaker in bans if not breaker.admits]
    return min(times)


class _Rules(Protocol):
    """What `publishing` and `viewing` both are: the rules of one role, as a module."""

    def requested(self, turn: Turn, s: Session, /) -> Session: ...
    def listed(self, turn: Turn, s: Session, /) -> Session: ...
    def changed(self, turn: Turn, s: Session, change: placement.Change, /) -> Session: ...
    def migrate(self, turn: Turn, s: Session, target: str | None, because: str, /) -> Session: ...
    def failover(self, turn: Turn, s: Session, because: str, /) -> Session: ...
    def opened(self, turn: Turn, s: Session, leg: Leg, /) -> Session: ...
    def leg_failed(self, turn: Turn, s: Session, leg: Leg, event: LegFailed, /) -> Session: ...
    def silent(self, turn: Turn, s: Session, leg: Leg, event: LegSilent, /) -> Session: ...
    def heard(self, turn: Turn, s: Session, leg: Leg, /) -> Session: ...
    def tick(self, turn: Turn, s: Session, /) -> Session: ...
    def due_s(self, turn: Turn, s: Session, /) -> float: ...
    def end(self, turn: Turn, s: Session, outcome: Outcome, because: str, /) -> Session: ...


def _role(s: Session) -> _Rules:
    return publishing if s.role is Role.PUBLISHER else viewing


def _each(turn: Turn, change: Callable[[Session], Session]) -> None:
    for id in tuple(turn.state.sessions):
        session = turn.state.sessions.get(id)
        if session is not None:
            _put(turn, change(session))


def _put(turn: Turn, s: Session) -> None:
    sessions = {**turn.state.sessions, s.id: s}
    if s.phase is Phase.ENDED:
        del sessions[s.id]
    turn.state = replace(turn.state, sessions=sessions)


def _hear(turn: Turn, event: Event) -> None:  # noqa: C901 -- a flat dispatch, one line an event
    match event:
        case Ticked():
            pass
        case ProvidersListed():
            _list_read(turn, event)
        case ListUnavailable():
            if event.answered:
                turn.answered()
            turn.list_failed = event.because
            turn.say("list.unavailable", event.because)
            _each(turn, lambda s: _role(s).listed(turn, s))
        case HealthChecked():
            _health_checked(turn, event)
        case ErrorRecorded():
            turn.count(event.provider, event.because)
        case SuccessRecorded():
            turn.succeeded(event.provider, "the program says that it works")
        case StreamRequested() if event.session not in turn.state.sessions:
            _put(turn, _begin(turn, event))
        case StreamRequested():
            pass  # said twice
        case SwitchRequested():
            _switch(turn, event)
        case LegOpened() | LegFailed() | LegAbsent() | LegSilent() | LegDoubted() | LegHeard():
            _leg_event(turn, event)
        case LegExpiring():
            _expiring(turn, event)
        case PlacementTold() | LegsReleased() | RescueTold() | StreamOver():
            _control_event(turn, event)
        case SourceFailed():
            _end(turn, event.session, Outcome.LOCAL_FAULT, event.because)
        case EndRequested():
            _end(turn, event.session, Outcome.REQUESTED, event.because)
        case _:
            assert_never(event)


def _leg_event(
    turn: Turn, event: LegOpened | LegFailed | LegAbsent | LegSilent | LegDoubted | LegHeard
) -> None:
    s = turn.state.sessions.get(event.session)
    leg = s.leg(event.leg) if s else None
    if s is None or leg is None:
        return  # late news of a leg we already left
    role = _role(s)
    match event:
        case LegOpened() if leg.live_s is None:
            _put(turn, role.opened(turn, s, leg))
        case LegFailed():
            _put(turn, role.leg_failed(turn, s, leg, event))
        case LegAbsent() if s.role is Role.VIEWER and leg.live_s is None:
            _put(turn, viewing.absent(turn, s, leg, event))
        case LegSilent() if leg.carries:
            _put(turn, role.silent(turn, s, leg, event))
        case LegDoubted() if s.role is Role.PUBLISHER and leg.id == s.on_air and leg.carries:
            _put(turn, doubting.begun(turn, s, event.because))
        case LegHeard() if leg.id == s.on_air and leg.carries:
            _put(turn, doubting.over(turn, s))
        case LegHeard() if leg.live_s is not None and leg.silent_s is not None:
            _put(turn, role.heard(turn, s, leg))
        case LegOpened() | LegAbsent() | LegSilent() | LegDoubted() | LegHeard():
            pass  # said twice, or out of order
        case _:
            assert_never(event)


def _expiring(turn: Turn, event: LegExpiring) -> None:
    """A publisher leaves in time; a viewer whose leg ends finds the stream again by itself."""
    s = turn.state.sessions.get(event.session)
    if s is not None and s.role is Role.PUBLISHER and event.leg == s.on_air:
        _put(turn, publishing.migrate(turn, s, None, event.because))


def _control_event(
    turn: Turn, event: PlacementTold | LegsReleased | RescueTold | StreamOver
) -> None:
    s = turn.state.sessions.get(event.session)
    if s is None:
        return  # it ended meanwhile
    match event:
        case PlacementTold():
            _put(turn, obeying.told(turn, s, event))
        case LegsReleased():
            _put(turn, obeying.released(turn, s, event))
        case RescueTold():
            _put(turn, obeying.rescue(turn, s, event))
        case StreamOver():
            _put(turn, obeying.over(turn, s, event))
        case _:
            assert_never(event)


def _begin(turn: Turn, event: StreamRequested) -> Session:
    session = Session(
        id=event.session,
        stream=event.stream,
        role=event.role,
        moved_s=turn.now,
        wait_until_s=turn.now + event.wait_s,
    )
    return _role(session).requested(turn, session)


def _end(turn: Turn, id: str, outcome: Outcome, because: str) -> None:
    session = turn.state.sessions.get(id)
    if session is not None:
        _put(turn, _role(session).end(turn, session, outcome, because))


def _switch(turn: Turn, event: SwitchRequested) -> None:
    def move(s: Session) -> Session:
        if event.session not in (None, s.id) or s.phase is not Phase.ON_AIR:
            return s
        target = event.provider
        if target is None:
            target = next((n for n in turn.eligible() if n != s.provider), None)
        if target is None:
            turn.say("stream.stays", "there is no other provider", session=s, provider=s.provider)
            return s
        s = replace(s, is_chosen=True, stay=None)  # who asks again is answered again
        return _role(s).migrate(turn, s, target, event.because)

    _each(turn, move)


def _leave_the_banned(turn: Turn) -> None:
    for _ in range(len(turn.standing) + 1):  # each pass opens at least one more circuit
        opened, turn.opened_circuits = turn.opened_circuits, {}
        if not opened:
            return
        for provider, because in opened.items():
            _each(turn, partial(_leave_banned, turn, provider, because))


def _leave_banned(turn: Turn, provider: str, because: str, s: Session) -> Session:
    if s.provider != provider or s.phase is not Phase.ON_AIR:
        return s
    return _role(s).failover(turn, s, because)


def _list_read(turn: Turn, event: ProvidersListed) -> None:
    turn.answered()
    before = turn.state.listed
    turn.state = replace(turn.state, listed=event.listed)
    if event.listed.warnings and (before is None or before.warnings != event.listed.warnings):
        turn.say("list.doubtful", "; ".join(event.listed.warnings))
    change = placement.change(before, event.listed) if before else None
    if change is not None:
        order = ", ".join(placement.order(event.listed)) or "none active"
        turn.say("list.changed", f"in order now: {order}")
        _each(turn, lambda s: _role(s).changed(turn, s, change))
    _each(turn, lambda s: _role(s).listed(turn, s))


def _health_checked(turn: Turn, event: HealthChecked) -> None:
    p, name = turn.policy, event.provider
    flows = event.media_age_s is not None and event.media_age_s <= p.fresh_media_s
    if event.answer is not Answer.UNANSWERED or flows:
        turn.answered()
    before = turn.standing[name]
    standing = replace(before, checked_s=turn.now)
    match event.answer:
        case Answer.HEALTHY:
            turn.standing[name] = replace(standing, is_healthy=True)
            # A ban is served to its end; then a healthy answer is as good a trial as any.
            if not before.has_failed_media and before.breaker.admits:
                if before.failures:
                    turn.say("health.recovered", "its health check passed", provider=name)
                turn.succeeded(name, "its health check passed")
        case Answer.UNHEALTHY:
            turn.standing[name] = replace(standing, is_healthy=False, has_failed_media=False)
            _say_failed_check(turn, event)
            turn.count(name, event.because)
        case Answer.DISABLED:
            turn.standing[name] = replace(standing, is_healthy=False)
            _say_disabled(turn, event)
        case Answer.UNANSWERED if flows and p.media_beats_health:
            turn.standing[name] = standing
            turn.say("health.ignored", event.because, provider=name)
        case Answer.UNANSWERED:
            turn.standing[name] = replace(standing, is_healthy=None, has_failed_media=False)
            _say_failed_check(turn, event)
            poll_s = turn.state.poll_s
            asked_s = turn.now if poll_s is None else poll_s - p.health_interval_s
            failure = Failure(error="Unreachable", because=event.because, answered=flows)
            turn.failed(name, failure, asked_s)
        case Answer.WARNING:
            turn.standing[name] = standing
            turn.say("health.warned", event.because, provider=name)
        case _:
            assert_never(event.answer)


def _say_disabled(turn: Turn, event: HealthChecked) -> None:
    """Only a list that says otherwise makes it worth a word."""
    if turn.state.listed is not None and event.provider in placement.order(turn.state.listed):
        turn.say("health.warned", event.because, provider=event.provider)


def _say_failed_check(turn: Turn, event: HealthChecked) -> None:
    failures = turn.standing[event.provider].failures + 1
    turn.say("health.failed", event.because, provider=event.provider, failures=failures)


def _monitor(turn: Turn, before: State) -> None:
    """Monitoring starts with a stream and stops with the last one."""
    state = turn.state
    if not state.sessions:
        if before.poll_s is not None:
            turn.say("health.monitoring_stopped", "the last stream is over")
        turn.state = replace(state, poll_s=None)
        return
    watched = {s.provider for s in before.sessions.values()}
    for name in sorted({s.provider for s in state.sessions.values() if s.provider} - watched):
        turn.say("health.monitoring_started", "a stream is on air there", provider=name)
    if state.poll_s is None:
        turn.state = replace(state, poll_s=turn.now + turn.policy.health_interval_s)
    elif turn.now >= state.poll_s:
        turn.effects.append(AskList())
        turn.effects.extend(CheckHealth(provider=name) for name in _to_check(turn))
        turn.state = replace(state, poll_s=turn.now + turn.policy.health_interval_s)


def _to_check(turn: Turn) -> list[str]:
    """Return whom to ask for health: who is on air, and who must earn trust again."""
    on_air = {
        leg.provider
        for s in turn.state.sessions.values()
        for leg in s.legs
        if leg.live_s is not None
    }
    doubtful = {
        name
        for name in turn.active()
        if turn.standing[name].failures or not turn.standing[name].breaker.admits
    }
    return sorted(on_air | doubtful, key=lambda name: (name not in on_air, name))
