"""
Keep one published stream on air.

A start is a list of attempts in sequence. On air, silence opens the next leg and keeps the silent
one; the first to carry media wins. A planned move feeds both legs for `overlap_s`. Off air, whole
rounds are tried with growing delays until `give_up_s`. One operation at a time; what is asked for
meanwhile is folded into it, or done after it.
"""

from __future__ import annotations

from dataclasses import replace

from . import attempts, choosing, doubting, slots, trial
from .attempts import Attempt, Failure
from .events import AskList, Ended, LegFailed, LegSilent, Outcome, Started
from .placement import Change
from .state import Leg, Operation, Phase, Purpose, Session, Stay, Suspect
from .turn import Turn, with_leg, without


LIST_WAIT_S = 1.0
"""A start waits this long for a fresh list when there is an older one to go by [s]."""

ROUND_S_MIN = 0.1
"""Off air, the next round begins no sooner [s], whatever the retry delays say."""

BESIDE = frozenset({Purpose.TRIAL, Purpose.RESCUE, Purpose.DOUBT})
"""Legs of these purposes carry media beside the one on air."""

_ATTEMPTS_KEPT = 100


def requested(turn: Turn, s: Session) -> Session:
    """Begin a start: ask for the list first."""
    start = Operation(purpose=Purpose.START, because="a start was asked for", begun_s=turn.now)
    return _ask_list(turn, replace(s, operation=start))


def listed(turn: Turn, s: Session) -> Session:
    """The list was read, or could not be: go on if the operation waited for it."""
    op = s.operation
    if op is not None and op.list_until_s is not None:
        return _advance(turn, replace(s, operation=replace(op, list_until_s=None)))
    active = turn.active()
    if op is None and s.pending is not None and s.follower is not None:
        return _settled(turn, s)  # told of a provider that was not in the list yet
    if s.follower is not None:
        return s  # the control plane decides
    if op is None and s.phase is Phase.ON_AIR and active and s.provider not in active:
        # Not only when it was disabled just now: the move may have found nobody then.
        return migrate(turn, s, None, f"{s.provider} is disabled in the list")
    return s


def changed(turn: Turn, s: Session, change: Change) -> Session:
    """The backend's list changed: move if it prefers another now; `listed` leaves the disabled."""
    s = replace(_withdraw(turn, s, change), stay=None)
    if s.phase not in (Phase.ON_AIR, Phase.RECOVERING, Phase.OFF_AIR):
        return s
    here = s.provider
    if here is None:
        return s  # the round under way goes by the new list anyway
    if not turn.active():
        because = "every provider is disabled in the list; a stream on air is not ended for that"
        turn.say("stream.stays", because, session=s, provider=here)
        return s
    if s.follower is not None:
        return s  # the control plane decides
    if here in change.disabled:
        because = f"{here} was disabled in the list"
        return s if s.operation is None else replace(s, pending=(None, because))
    if change.preferred and change.preferred != here:
        return migrate(turn, s, change.preferred, f"the list now prefers {change.preferred}")
    return s


def migrate(turn: Turn, s: Session, target: str | None, because: str) -> Session:
    """Begin a planned move, or remember it for after the move under way."""
    here = s.leg(s.on_air)
    if s.operation is not None or here is None or not here.carries:
        return replace(s, pending=(target, because))
    if target == here.provider:
        return s
    if target is not None and s.follower is not None and target not in turn.active():
        turn.effects.append(AskList())  # the control plane knows of one that we do not
        return replace(s, pending=(target, because))
    spare = _spare(turn, s, target)
    if spare is not None:
        return _go_on_air(turn, s, spare, Purpose.MIGRATION, because)
    op = Operation(purpose=Purpose.MIGRATION, because=because, begun_s=turn.now, target=target)
    able = choosing.following(turn, s, op)
    if able is None and s.stay == Stay(provider=here.provider, target=target, because=because):
        return _settled(turn, s)  # asked for again at each poll or deal, and told already
    towards = target or able
    if towards is not None:
        turn.say("migration.started", because, session=s, provider=towards)
    return _advance(turn, replace(s, operation=op))


def failover(turn: Turn, s: Session, because: str) -> Session:
    """Begin an unplanned move, or turn the move under way into one."""
    here = s.leg(s.on_air)
    if here is None or not here.carries:
        dark_s = turn.now if s.dark_s is None else s.dark_s
        phase = Phase.RECOVERING if s.phase is Phase.ON_AIR else s.phase
        s = replace(s, phase=phase, dark_s=dark_s)
    op = s.operation
    if op is None or op.purpose is not Purpose.FAILOVER:
        turn.say("failover.started", because, session=s, provider=s.provider)
    spare = _spare(turn, s, None)
    if spare is not None:
        turn.say("failover.trying", because, session=s, provider=spare.provider)
        return _go_on_air(turn, s, spare, Purpose.FAILOVER, because)
    if op is None:
        op = Operation(purpose=Purpose.FAILOVER, because=because, begun_s=turn.now)
        early = doubting.opening(turn, s)
        if early is not None:
            turn.say("failover.trying", because, session=s, provider=early.provider)
            s = with_leg(s, replace(early, purpose=Purpose.FAILOVER))
            return replace(s, operation=replace(op, leg=early.id))
        next_one = choosing.following(turn, s, op)
        wait_s = slots.wait_s(turn, s, next_one) if s.dark_s is not None else 0.0
        if wait_s:
            turn.say("failover.waiting", because, session=s, provider=next_one, wait_s=wait_s)
            return replace(s, operation=replace(op, retry_s=turn.now + wait_s))
        return _advance(turn, replace(s, operation=op))
    if op.purpose is Purpose.FAILOVER:
        return s
    op = replace(op, purpose=Purpose.FAILOVER, because=because, target=None, retry_s=None)
    s = replace(s, operation=op)
    return s if op.leg is not None else _advance(turn, s)


def opened(turn: Turn, s: Session, leg: Leg) -> Session:
    """First media is proven on a leg."""
    turn.answered()
    turn.succeeded(leg.provider, "first media is proven")
    leg = replace(leg, live_s=turn.now)
    s = with_leg(s, leg)
    turn.say("leg.opened", "first media is proven", session=s, provider=leg.provider, leg=leg.id)
    op, here = s.operation, s.leg(s.on_air)
    is_beside = leg.purpose in BESIDE
    if is_beside and here is not None and here.carries:
        return s
    if is_beside and op is not None:  # the first to carry media wins
        return _go_on_air(turn, s, leg, op.purpose, op.because)
    if op is None or op.leg != leg.id:
        return turn.close(s, leg, "it is no longer needed")
    return _go_on_air(turn, s, leg, op.purpose, op.because)


def leg_failed(turn: Turn, s: Session, leg: Leg, event: LegFailed) -> Session:
    """A leg could not be opened, or is lost for good."""
    failure = event.failure
    here = leg.id == s.on_air
    s = without(s, leg)
    if leg.purpose is Purpose.DOUBT and not here:
        return s  # nobody waits for it
    if leg.live_s is None or here:
        turn.say_failed(s, leg, failure)
    if leg.purpose is Purpose.TRIAL and not here:
        return trial.over(turn, s, leg, failure.because, failure)
    if leg.purpose is Purpose.RESCUE and not here:
        return s
    if leg.live_s is None:
        return _attempt_failed(turn, s, leg, failure)
    if failure.answered:
        turn.answered()
    if not here:
        return s
    if not failure.blames_nobody:
        s = _suspect(turn, s, leg, failure.because, turn.now)
    return failover(turn, s, failure.because)


def silent(turn: Turn, s: Session, leg: Leg, event: LegSilent) -> Session:
    """A leg carries no media just now: open the next one and keep this one."""
    here = leg.id == s.on_air
    s = with_leg(s, replace(leg, silent_s=event.since_s))
    if here:
        s = replace(s, doubts=0)
        turn.say("leg.silent", event.because, session=s, provider=leg.provider, leg=leg.id)
        s = _suspect(turn, s, leg, event.because, event.since_s)
        return failover(turn, s, event.because)
    if leg.purpose is Purpose.TRIAL:
        return trial.over(turn, turn.close(s, leg, event.because), leg, event.because)
    is_needless = leg.close_s is not None or leg.purpose is Purpose.RESCUE
    return turn.close(s, leg, event.because) if is_needless else s


def heard(turn: Turn, s: Session, leg: Leg) -> Session:
    """A silent leg carries media again: it won; whatever was being opened is let go."""
    if leg.id == s.on_air and leg.silent_s is not None:
        turn.excuse(leg.silent_s)
    turn.answered()
    s = with_leg(s, replace(leg, silent_s=None))
    if leg.id != s.on_air:
        return s
    turn.say("leg.heard", "media came back", session=s, provider=leg.provider, leg=leg.id)
    s = replace(s, phase=Phase.ON_AIR, suspects=(), dark_s=None, rounds=0)
    s = doubting.over(turn, s)
    if not turn.trusts(leg.provider):
        return s  # banned meanwhile: the move goes on
    opening = s.leg(s.operation.leg) if s.operation else None
    if opening is not None:
        s = turn.close(s, opening, f"{leg.provider} carries media again")
    return _settled(turn, replace(s, operation=None))


def tick(turn: Turn, s: Session) -> Session:
    """Do what is due."""
    for id in [leg.id for leg in s.legs]:
        leg = s.leg(id)  # what another leg did may have closed or changed it
        if leg is not None and s.phase is not Phase.ENDED:
            s = _leg_due(turn, s, leg)
    op = s.operation
    if op is not None and s.phase is not Phase.ENDED:
        s = _operation_due(turn, s, op)
    if s.phase is Phase.OFF_AIR and turn.now >= _give_up_s(turn, s):
        because = f"nobody carried it for {turn.policy.give_up_s:g} s (give_up_s)"
        return end(turn, s, Outcome.ALL_FAILED, because)
    if s.phase is Phase.ON_AIR and s.operation is None:
        ready = trial.proven(turn, s)
        if ready is not None:
            because = f"{ready.provider} proved media for {turn.policy.return_after_s:g} s"
            return _go_on_air(turn, s, ready, Purpose.MIGRATION, because)
        s = trial.begin(turn, s)
    return s


def due_s(turn: Turn, s: Session) -> float:
    """Return when `tick` has something to do [s]; inf: only when something happens."""
    times = []
    op = s.operation
    if op is None:
        times.append(trial.due_s(turn, s))
    else:
        times += [at for at in (op.retry_s, op.list_until_s) if at is not None]
        if op.purpose is Purpose.START:
            times.append(op.begun_s + turn.policy.start_s_max)
    for leg in s.legs:
        if leg.live_s is None:
            times.append(leg.until_s)
        elif leg.close_s is not None:
            times.append(leg.close_s)
        else:
            times.append(turn.silent_until_s(leg))
    if s.phase is Phase.OFF_AIR:
        times.append(_give_up_s(turn, s))
    return min(times, default=float("inf"))


def end(turn: Turn, s: Session, outcome: Outcome, because: str) -> Session:
    """Close every leg and say how it ended."""
    for leg in s.legs:
        s = turn.close(s, leg, because)
    failures = (s.operation.tried if s.operation else ()) or _in_vain(s)
    is_fault = outcome not in (Outcome.REQUESTED, Outcome.STREAM_ENDED)
    turn.say("stream.failed" if is_fault else "stream.ended", because, session=s)
    turn.effects.append(Ended(session=s.id, outcome=outcome, because=because, attempts=failures))
    return replace(s, phase=Phase.ENDED, operation=None)


# --- Inside ---


def _ask_list(turn: Turn, s: Session) -> Session:
    assert s.operation is not None
    turn.effects.append(AskList())
    known = turn.state.listed is not None
    wait_s = (
        min(LIST_WAIT_S, turn.policy.health_timeout_s) if known else turn.policy.health_timeout_s
    )
    op = replace(
        s.operation,
        list_until_s=turn.now + wait_s,
        list_asks=s.operation.list_asks + 1,
        retry_s=None,
    )
    return replace(s, operation=op)


def _advance(turn: Turn, s: Session, *, waited: bool = False) -> Session:
    """No leg is being opened: open the next one, wait before a retry, or conclude."""
    op = s.operation
    assert op is not None
    if op.purpose is Purpose.START and not turn.active():
        return _nobody_listed(turn, s, op, waited=waited)
    choice = choosing.following(turn, s, op)
    if choice is None:
        return _exhausted(turn, s, op)
    last = op.tried[-1] if op.tried else None
    if last is not None and last.provider == choice and not waited:
        retries = sum(1 for attempt in op.tried if attempt.provider == choice) - 1
        wait_s = attempts.delay_s(turn.policy, retries, turn.jitter())
        asked_s = last.failure.retry_after_s if last.failure else None
        return replace(s, operation=replace(op, retry_s=turn.now + max(wait_s, asked_s or 0.0)))
    if op.purpose is Purpose.FAILOVER or (last is not None and last.provider != choice):
        if op.purpose is Purpose.START and len({a.provider for a in op.tried}) == 1:
            turn.say("failover.started", op.because, session=s, provider=op.tried[0].provider)
        turn.say("failover.trying", op.because, session=s, provider=choice)
    leg = turn.open(s, choice, op.purpose, op.because)
    return with_leg(replace(s, operation=replace(op, leg=leg.id, retry_s=None)), leg)


def _nobody_listed(turn: Turn, s: Session, op: Operation, *, waited: bool) -> Session:
    if waited:
        return _ask_list(turn, s)
    if op.list_asks > turn.policy.max_retries:
        return end(turn, s, Outcome.ALL_FAILED, turn.why_nobody())
    wait_s = attempts.delay_s(turn.policy, op.list_asks, turn.jitter())
    return replace(s, operation=replace(op, retry_s=turn.now + wait_s))


def _attempt_failed(turn: Turn, s: Session, leg: Leg, failure: Failure) -> Session:
    op = s.operation
    if op is None or op.leg != leg.id:
        return s
    tried = (*op.tried, Attempt(provider=leg.provider, leg=leg.id, failure=failure))
    op = replace(op, leg=None, tried=tried)
    s = replace(s, operation=op)
    if op.purpose is Purpose.START and failure.blames_nobody:
        return end(turn, s, Outcome.LOCAL_FAULT, failure.because)
    if not failure.blames_nobody:
        turn.failed(leg.provider, failure, leg.begun_s)
    return _advance(turn, s)


def _exhausted(turn: Turn, s: Session, op: Operation) -> Session:
    """Every candidate was tried in vain."""
    if op.purpose is Purpose.START:
        return _start_failed(turn, s, op)
    here = s.leg(s.on_air)
    if here is not None and here.carries:
        because = f"{op.because}, but no other provider can take it now"
        stay = Stay(provider=here.provider, target=op.target, because=op.because)
        s = _remember(replace(s, operation=None, suspects=(), stay=stay), op.tried)
        turn.say("stream.stays", because, session=s, provider=here.provider)
        return _settled(turn, s)
    since_s = min((suspect.since_s for suspect in s.suspects), default=op.begun_s)
    if op.tried and turn.state.answered_s < since_s:
        turn.network_is_lost(f"no answer from {', '.join(a.provider for a in op.tried)}")
    elif turn.state.network_lost_s is None:
        for suspect in s.suspects:
            turn.convict(suspect)
        s = _remember(replace(s, suspects=()), op.tried)
    if s.phase is not Phase.OFF_AIR:
        s = replace(s, phase=Phase.OFF_AIR, rounds=0)
        turn.say("stream.off_air", op.because, session=s)
    grown_s = turn.policy.retry_delay_s * 2.0 ** min(s.rounds, 30)
    wait_s = min(turn.policy.retry_delay_s_max, grown_s) * (0.5 + 0.5 * turn.jitter())
    wait_s = max(wait_s, ROUND_S_MIN)
    op = replace(op, purpose=Purpose.FAILOVER, target=None, retry_s=turn.now + wait_s)
    return replace(s, operation=replace(op, tried=(), leg=None), rounds=s.rounds + 1)


def _start_failed(turn: Turn, s: Session, op: Operation) -> Session:
    """Nobody is left to be asked now: wait for a Retry-After that ends in time, or give up."""
    if op.tried:
        return end(turn, s, Outcome.ALL_FAILED, "every attempt failed")
    again_s = min(turn.standing[name].not_before_s for name in turn.active())
    if again_s >= op.begun_s + turn.policy.start_s_max:
        because = "every provider asked us to stay away (Retry-After)"
        return end(turn, s, Outcome.ALL_FAILED, because)
    return replace(s, operation=replace(op, retry_s=again_s))


def _go_on_air(turn: Turn, s: Session, leg: Leg, purpose: Purpose, because: str) -> Session:
    """`leg` counts from now on; the one before closes, after `overlap_s` if it carries media."""
    before, is_first, op = s.leg(s.on_air), s.epoch == 0, s.operation
    for suspect in s.suspects:
        if suspect.provider != leg.provider:
            turn.convict(suspect)
    tried = op.tried if op else ()
    recovering_s = None if s.dark_s is None else round(turn.now - s.dark_s, 6)
    s = _remember(s, (*tried, Attempt(provider=leg.provider, leg=leg.id)))
    s = replace(
        with_leg(s, replace(leg, close_s=None, purpose=purpose)),
        phase=Phase.ON_AIR,
        epoch=s.epoch + 1,
        on_air=leg.id,
        operation=None,
        suspects=(),
        rounds=0,
        dark_s=None,
        stay=None,
        moved_s=turn.now,
        trial_s=turn.now + turn.policy.ban_s,  # it rests before the next move that is not needed
        is_chosen=s.is_chosen and purpose is Purpose.MIGRATION,
    )
    s = _let_go(turn, s, leg, before)
    if is_first:
        turn.say("stream.on_air", because, session=s, provider=leg.provider)
        turn.effects.append(Started(session=s.id))
    if purpose is Purpose.MIGRATION:
        turn.say("migration.succeeded", because, session=s, provider=leg.provider)
    elif purpose is Purpose.FAILOVER or any(a.provider != leg.provider for a in tried):
        turn.say(
            "failover.succeeded",
            because,
            session=s,
            provider=leg.provider,
            recovering_s=recovering_s,
        )
    return _settled(turn, s)


def _let_go(turn: Turn, s: Session, leg: Leg, before: Leg | None) -> Session:
    """Close what the new leg on air makes needless; one that carries media stays for a while."""
    for old in s.legs:
        if old.id == leg.id:
            continue
        if before is not None and old.id == before.id and old.carries:
            s = with_leg(s, replace(old, close_s=turn.now + turn.policy.overlap))
        elif old.close_s is None and old.purpose is not Purpose.RESCUE:
            s = turn.close(s, old, f"replaced by {leg.provider}")
    return s


def _spare(turn: Turn, s: Session, target: str | None) -> Leg | None:
    """Return a leg beside the one on air that carries media already, on an active provider."""
    spares = (leg for leg in s.legs if leg.id != s.on_air and leg.carries)
    active = turn.active()
    wanted = [leg for leg in spares if leg.provider in active and target in (None, leg.provider)]
    return min(wanted, key=lambda leg: active.index(leg.provider), default=None)


def _withdraw(turn: Turn, s: Session, change: Change) -> Session:
    """Stop asking a provider that was disabled meanwhile."""
    op = s.operation
    opening = s.leg(op.leg) if op else None
    if op is None or opening is None or opening.provider not in change.disabled:
        return s
    s = turn.close(s, opening, f"{opening.provider} was disabled in the list")
    return _advance(turn, replace(s, operation=replace(op, leg=None)))


def _settled(turn: Turn, s: Session) -> Session:
    """An operation ended well: do what was asked for meanwhile."""
    if s.pending is None:
        return s
    target, because = s.pending
    s = replace(s, pending=None)
    still = target in turn.active() if target else s.provider not in turn.active()
    return migrate(turn, s, target, because) if still and target != s.provider else s


def _suspect(turn: Turn, s: Session, leg: Leg, because: str, since_s: float) -> Session:
    live_s = since_s if leg.live_s is None else leg.live_s
    lived_s = max(0.0, since_s - live_s)
    suspect = Suspect(provider=leg.provider, because=because, since_s=since_s, lived_s=lived_s)
    others = tuple(old for old in s.suspects if old.provider != leg.provider)
    return replace(s, suspects=(*others, suspect))


def _remember(s: Session, tried: tuple[Attempt, ...]) -> Session:
    return replace(s, attempts=(*s.attempts, *tried)[-_ATTEMPTS_KEPT:])


def _in_vain(s: Session) -> tuple[Attempt, ...]:
    """Return the attempts since the last that succeeded."""
    good = [n for n, attempt in enumerate(s.attempts) if attempt.failure is None]
    return s.attempts[good[-1] + 1 :] if good else s.attempts


def _give_up_s(turn: Turn, s: Session) -> float:
    return (turn.now if s.dark_s is None else s.dark_s) + turn.policy.give_up_s


def _leg_due(turn: Turn, s: Session, leg: Leg) -> Session:
    if leg.live_s is None and turn.now >= leg.until_s:
        because = f"no first media within {turn.first_media_s(leg.provider):g} s"
        failure = Failure(error="MediaLost", because=because, answered=False)
        turn.close(s, leg, because)
        return leg_failed(turn, s, leg, LegFailed(session=s.id, leg=leg.id, failure=failure))
    if leg.close_s is not None and turn.now >= leg.close_s:
        return turn.close(s, leg, "viewers had overlap_s to follow")
    if trial.is_pointless(turn, leg) and leg.id != s.on_air:
        return turn.close(s, leg, f"{leg.provider} is banned or disabled: the trial is pointless")
    if turn.now >= turn.silent_until_s(leg):
        return turn.close(s, leg, f"silent for {turn.policy.silent_leg_s:g} s (silent_leg_s)")
    return s


def _operation_due(turn: Turn, s: Session, op: Operation) -> Session:
    if op.purpose is Purpose.START and turn.now >= op.begun_s + turn.policy.start_s_max:
        because = f"not on air within {turn.policy.start_s_max:g} s (start_s_max)"
        opening = s.leg(op.leg)
        if opening is not None:
            failure = Failure(error="MediaLost", because=because, answered=False)
            late = Attempt(provider=opening.provider, leg=opening.id, failure=failure)
            s = turn.close(s, opening, because)
            s = replace(s, operation=replace(op, tried=(*op.tried, late), leg=None))
        return end(turn, s, Outcome.ALL_FAILED, because)
    if op.list_until_s is not None and turn.now >= op.list_until_s:
        return _advance(turn, replace(s, operation=replace(op, list_until_s=None)))
    if op.retry_s is not None and turn.now >= op.retry_s:
        return _advance(turn, replace(s, operation=replace(op, retry_s=None)), waited=True)
    return s
