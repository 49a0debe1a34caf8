"""
Keep one viewer watching.

Where the stream is, is a fact about the publisher, whom a viewer may be unable to ask. So it
searches: each provider is asked in a loop of its own, so that one that hangs does not slow the
others; the first that brings media wins, and the losers are deleted at once. It never asks the
provider it is watching: still live, that one would win.

A viewer that loses media blames nobody for it: the publisher may have ended or moved. It blames
providers only for what they answer when asked.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from . import attempts, trial
from .attempts import Attempt, Failure
from .events import AskList, Ended, LegAbsent, LegFailed, LegSilent, Outcome, Started
from .placement import Change
from .state import Ask, Leg, Operation, Phase, Purpose, Session
from .turn import Turn, with_leg, without


ASK_INTERVAL_S = 0.05
"""Each provider is asked this often during the first second of a search [s] (DESIGN 4.1)."""
ASK_INTERVAL_S_MAX = 1.0

ASK_AGAIN_S = 1.0
"""A provider whose leg has been silent for this long is asked anew, beside that leg [s]."""

LIST_WAIT_S = 1.0
"""A join waits this long for a fresh list when there is an older one to go by [s]."""

_ATTEMPTS_KEPT = 100


def requested(turn: Turn, s: Session) -> Session:
    """Begin a join: ask for the list first."""
    start = Operation(purpose=Purpose.START, because="a join was asked for", begun_s=turn.now)
    return _ask_list(turn, s, start)


def listed(turn: Turn, s: Session) -> Session:
    """The list was read, or could not be: begin to ask."""
    op = s.operation
    if op is None or op.list_until_s is None:
        return s
    if not turn.active():
        if op.list_asks > turn.policy.max_retries:
            return end(turn, s, Outcome.ALL_FAILED, turn.why_nobody())
        wait_s = attempts.delay_s(turn.policy, op.list_asks, turn.jitter())
        op = replace(op, list_until_s=None, retry_s=turn.now + wait_s)
        return replace(s, operation=op)
    s = replace(s, operation=replace(op, list_until_s=None))
    return search(turn, replace(s, search_s=turn.now, asks={}, wanted=None))


def changed(turn: Turn, s: Session, change: Change) -> Session:
    """The backend's list changed: the publisher will move, so look where it will be."""
    if s.phase is not Phase.ON_AIR or s.follower is not None:
        return s  # with a control plane, it decides
    here = s.provider
    if not turn.active():
        because = "every provider is disabled in the list; a stream on air is not ended for that"
        turn.say("stream.stays", because, session=s, provider=here)
        return s
    if here in change.disabled:
        return migrate(turn, s, None, f"{here} was disabled in the list")
    if change.preferred and change.preferred != here:
        return migrate(turn, s, change.preferred, f"the list now prefers {change.preferred}")
    return s


def migrate(turn: Turn, s: Session, target: str | None, because: str) -> Session:
    """Look for the stream on `target` (None: anywhere else) while still watching here."""
    if s.phase is not Phase.ON_AIR:
        return s
    others = [name for name in turn.eligible() if name != s.provider]
    wanted = frozenset([target] if target else others) - {s.provider or ""}
    if not wanted:
        return s
    turn.say("migration.started", because, session=s, provider=target or others[0])
    s = _stop_asking(turn, s, because)
    op = Operation(purpose=Purpose.MIGRATION, because=because, begun_s=turn.now, target=target)
    return search(turn, replace(s, operation=op, search_s=turn.now, asks={}, wanted=wanted))


def hasten(turn: Turn, s: Session, provider: str) -> Session:
    """Somebody knows where the stream is, or will be in a moment: ask there now."""
    if s.phase is Phase.ON_AIR:
        return migrate(turn, s, provider, f"the stream can be had from {provider}")
    ask = s.asks.get(provider)
    if ask is not None and ask.leg is None:
        s = _with_ask(s, provider, replace(ask, next_s=turn.now))
    if s.search_s is not None and s.phase is not Phase.STARTING:
        s = replace(s, search_s=turn.now)  # often again, as at the beginning
    return search(turn, s)


def failover(turn: Turn, s: Session, because: str) -> Session:
    """The provider we watch is banned now, though its media may flow: look elsewhere."""
    return s if s.operation is not None else migrate(turn, s, None, because)


def opened(turn: Turn, s: Session, leg: Leg) -> Session:
    """The first usable media came over a leg: watch it, and let all others go."""
    turn.answered()
    turn.succeeded(leg.provider, "first media arrived")
    leg = replace(leg, live_s=turn.now)
    s = with_leg(s, leg)
    turn.say("leg.opened", "first media arrived", session=s, provider=leg.provider, leg=leg.id)
    here = s.leg(s.on_air)
    if leg.purpose is Purpose.TRIAL and here is not None and here.carries:
        return s
    return _watch(turn, s, leg)


def absent(turn: Turn, s: Session, leg: Leg, event: LegAbsent) -> Session:
    """The provider knows of no publisher: nobody's fault, no attempt counted."""
    turn.answered()
    s = without(s, leg)
    ask = s.asks.get(leg.provider)
    if ask is None or ask.leg != leg.id:
        return s
    wait_s = _interval_s(turn, s)
    if event.retry_after_s is not None and event.retry_after_s > ASK_INTERVAL_S_MAX:
        wait_s = min(event.retry_after_s, turn.policy.retry_after_s_max)
    # Its leg here is silent: it has been absent for as long as that.
    silences = [old.silent_s for old in s.legs if old.provider == leg.provider]
    since_s = min([at for at in (ask.absent_s, *silences) if at is not None], default=turn.now)
    ask = replace(ask, leg=None, failures=0, absent_s=since_s, next_s=turn.now + wait_s)
    s = _with_ask(s, leg.provider, ask)
    if s.phase is Phase.STARTING:
        s = replace(s, phase=Phase.WAITING, operation=None)
        turn.say("stream.waiting", f"{leg.provider} knows of no publisher", session=s)
    return search(turn, s)


def leg_failed(turn: Turn, s: Session, leg: Leg, event: LegFailed) -> Session:
    """A provider that was asked could not, or the leg we watch is lost."""
    failure = event.failure
    here = leg.id == s.on_air
    s = without(s, leg)
    if leg.live_s is None and failure.is_local and s.phase in (Phase.STARTING, Phase.WAITING):
        return end(turn, s, Outcome.LOCAL_FAULT, failure.because)
    if leg.live_s is None or here:
        turn.say_failed(s, leg, failure)
    if leg.purpose is Purpose.TRIAL and not here:
        return trial.over(turn, s, leg, failure.because, failure)
    if leg.live_s is None:
        return _ask_failed(turn, s, leg, failure)
    if failure.answered:
        turn.answered()
    return _lost(turn, s, failure.because) if here else s


def silent(turn: Turn, s: Session, leg: Leg, event: LegSilent) -> Session:
    """No media just now: search elsewhere, and keep the silent leg."""
    here = leg.id == s.on_air
    s = with_leg(s, replace(leg, silent_s=event.since_s))
    if here:
        turn.say("leg.silent", event.because, session=s, provider=leg.provider, leg=leg.id)
        return _lost(turn, s, event.because)
    if leg.purpose is Purpose.TRIAL:
        return trial.over(turn, turn.close(s, leg, event.because), leg, event.because)
    return s


def heard(turn: Turn, s: Session, leg: Leg) -> Session:
    """The silent leg carries media again: it won."""
    if leg.silent_s is not None:
        turn.excuse(leg.silent_s)
    turn.answered()
    s = with_leg(s, replace(leg, silent_s=None))
    if leg.id != s.on_air:
        return s
    turn.say("leg.heard", "media came back", session=s, provider=leg.provider, leg=leg.id)
    s = _stop_asking(turn, s, f"{leg.provider} carries media again")
    return replace(s, phase=Phase.ON_AIR, operation=None, search_s=None, dark_s=None)


def tick(turn: Turn, s: Session) -> Session:
    """Do what is due."""
    for id in [leg.id for leg in s.legs]:
        leg = s.leg(id)  # what another leg did may have closed or changed it
        if leg is not None and s.phase is not Phase.ENDED:
            s = _leg_due(turn, s, leg)
    if s.phase is not Phase.ENDED:
        s = _over_due(turn, s)
    if s.phase is Phase.ENDED:
        return s
    op = s.operation
    if op is not None and op.retry_s is not None:
        return _ask_list(turn, s, op) if turn.now >= op.retry_s else s
    if op is not None and op.list_until_s is not None:
        return listed(turn, s) if turn.now >= op.list_until_s else s
    if s.phase is Phase.ON_AIR and s.search_s is None:
        ready = trial.proven(turn, s)
        if ready is not None:
            return _watch(turn, s, ready)
        return trial.begin(turn, s)
    return search(turn, s)


def due_s(turn: Turn, s: Session) -> float:
    """Return when `tick` has something to do [s]; inf: only when something happens."""
    times = [_over_s(turn, s)]
    op = s.operation
    if op is not None:
        times += [at for at in (op.retry_s, op.list_until_s) if at is not None]
    if s.search_s is not None:
        times += [at for at, _ in _askable(turn, s)]
    else:
        times.append(trial.due_s(turn, s))
    for leg in s.legs:
        if leg.live_s is None:
            times.append(leg.until_s)
        else:
            times.append(turn.silent_until_s(leg))
    return min(times)


def search(turn: Turn, s: Session) -> Session:
    """Ask every provider whose turn it is."""
    if s.search_s is None:
        return s
    for at_s, name in _askable(turn, s):
        if at_s > turn.now:
            continue
        ask = s.asks.get(name) or Ask(next_s=turn.now)
        purpose = s.operation.purpose if s.operation else Purpose.START
        because = s.operation.because if s.operation else "waiting for a publisher"
        leg = turn.open(s, name, purpose, because)
        begun_s = turn.now if ask.begun_s is None else ask.begun_s
        s = _with_ask(with_leg(s, leg), name, replace(ask, leg=leg.id, begun_s=begun_s))
    if s.phase is Phase.STARTING and not s.legs and not _askable(turn, s):
        return end(turn, s, Outcome.ALL_FAILED, "every attempt failed")
    return s


def end(turn: Turn, s: Session, outcome: Outcome, because: str) -> Session:
    """Close every leg and say how it ended."""
    for leg in s.legs:
        s = turn.close(s, leg, because)
    is_fault = outcome in (Outcome.ALL_FAILED, Outcome.LOCAL_FAULT, Outcome.NOT_ON_AIR)
    turn.say("stream.failed" if is_fault else "stream.ended", because, session=s)
    turn.effects.append(Ended(session=s.id, outcome=outcome, because=because, attempts=s.attempts))
    return replace(s, phase=Phase.ENDED, operation=None, search_s=None, asks={})


# --- Inside ---


def _askable(turn: Turn, s: Session) -> list[tuple[float, str]]:
    """Return when each provider may be asked next [s], best provider first."""
    busy = {leg.provider for leg in s.legs if leg.silent_s is None}
    order: Iterable[str] = turn.active()
    if s.wanted is not None and s.phase is Phase.ON_AIR:
        order = [name for name in order if name in s.wanted]
    if s.phase is Phase.STARTING:
        return _staggered(turn, s, busy)
    silent = {
        leg.provider: leg.silent_s + ASK_AGAIN_S for leg in s.legs if leg.silent_s is not None
    }
    times = []
    for name in order:
        ask = s.asks.get(name)
        at_s = ask.next_s if ask is not None else turn.now
        at_s = max(at_s, turn.standing[name].not_before_s, silent.get(name, at_s))
        if name not in busy:
            times.append((at_s, name))
    return times


def _staggered(turn: Turn, s: Session, busy: set[str]) -> list[tuple[float, str]]:
    """
    A join asks in order: the next one when the one before cannot, or is slow to answer.

    At most `1 + max_retries` attempts in all, so a stranger's refusal is not asked for ever.
    """
    spent = sum(1 for attempt in s.attempts if attempt.failure is not None)
    left = 1 + turn.policy.max_retries - spent - len(busy)
    times: list[tuple[float, str]] = []
    turn_s = turn.now if s.search_s is None else s.search_s
    unspent = [n for n in turn.active() if n not in s.asks or not s.asks[n].is_spent]
    told = s.follower.provider if s.follower else None
    unspent.sort(key=lambda name: name != told)
    for name in [n for n in unspent if turn.trusts(n)] or unspent:
        ask = s.asks.get(name) or Ask(next_s=turn_s)
        away_s = turn.standing[name].not_before_s
        if name not in busy:
            times.append((max(ask.next_s, turn_s, away_s), name))
        if ask.begun_s is None and away_s <= turn.now:
            break  # nobody behind it has a turn before it was asked
        turn_s = turn_s if ask.begun_s is None else ask.begun_s + turn.policy.hedge_s
    return sorted(times, key=lambda time: time[0])[: max(left, 0)]


def _interval_s(turn: Turn, s: Session) -> float:
    """Every 50 ms for the first second of a search, then growing to 1 s."""
    age_s = turn.now - (turn.now if s.search_s is None else s.search_s)
    if age_s < 1.0:
        return ASK_INTERVAL_S
    return min(ASK_INTERVAL_S_MAX, ASK_INTERVAL_S * age_s**2)


def _ask_failed(turn: Turn, s: Session, leg: Leg, failure: Failure) -> Session:
    ask = s.asks.get(leg.provider)
    if ask is None or ask.leg != leg.id:
        return s
    if failure.error != "MediaLost" and not failure.blames_nobody:
        turn.failed(leg.provider, failure, leg.begun_s)
    joining = s.phase is Phase.STARTING
    if joining:
        tried = Attempt(provider=leg.provider, leg=leg.id, failure=failure)
        s = replace(s, attempts=(*s.attempts, tried)[-_ATTEMPTS_KEPT:])
    failures = ask.failures + 1
    wait_s = attempts.delay_s(turn.policy, failures - 1, turn.jitter())
    if not joining:
        wait_s = max(wait_s, ASK_INTERVAL_S)
    advised_s = failure.retry_after_s or 0.0
    is_first = all(attempt.provider == leg.provider for attempt in s.attempts)
    again = failure.asks_again and is_first and failures <= turn.policy.same_provider_retries
    ask = replace(
        ask,
        leg=None,
        failures=failures,
        absent_s=None,
        next_s=turn.now + max(wait_s, min(advised_s, turn.policy.retry_after_s_max)),
        is_spent=joining and not again,
    )
    return search(turn, _with_ask(s, leg.provider, ask))


def _lost(turn: Turn, s: Session, because: str) -> Session:
    """The leg we watch is silent or gone: search everywhere else."""
    if s.phase is not Phase.ON_AIR:
        return search(turn, s)
    s = replace(s, phase=Phase.RECOVERING, dark_s=turn.now, wanted=None)
    for other in s.legs:
        if other.id != s.on_air and other.purpose is Purpose.TRIAL and other.carries:
            return _watch(turn, replace(s, operation=None), other)
    turn.say("failover.started", because, session=s, provider=s.provider)
    op = Operation(purpose=Purpose.FAILOVER, because=because, begun_s=turn.now)
    return search(turn, replace(s, operation=op, search_s=turn.now, asks=_carry_over(s)))


def _carry_over(s: Session) -> dict[str, Ask]:
    """A planned search that turns into a rescue keeps its asks under way, and forgets the rest."""
    return {name: ask for name, ask in s.asks.items() if ask.leg is not None}


def _watch(turn: Turn, s: Session, leg: Leg) -> Session:
    is_first = s.epoch == 0
    op = s.operation
    planned = Purpose.MIGRATION if s.phase is Phase.ON_AIR else Purpose.FAILOVER
    purpose = op.purpose if op else Purpose.START if is_first else planned
    because = op.because if op else "it was found there"
    recovering_s = None if s.dark_s is None else round(turn.now - s.dark_s, 6)
    failed_over = any(a.failure and a.provider != leg.provider for a in s.attempts)
    attempt = Attempt(provider=leg.provider, leg=leg.id)
    s = replace(
        with_leg(s, replace(leg, purpose=purpose)),
        phase=Phase.ON_AIR,
        epoch=s.epoch + 1,
        on_air=leg.id,
        attempts=(*s.attempts, attempt)[-_ATTEMPTS_KEPT:],
        operation=None,
        search_s=None,
        asks={},
        wanted=None,
        dark_s=None,
        moved_s=turn.now,
        trial_s=turn.now + turn.policy.ban_s,  # it rests before the next move that is not needed
        is_chosen=s.is_chosen and purpose is Purpose.MIGRATION,
    )
    for old in s.legs:
        if old.id != leg.id:
            s = turn.close(s, old, f"found on {leg.provider}")
    if is_first:
        turn.say("stream.on_air", because, session=s, provider=leg.provider)
        turn.effects.append(Started(session=s.id))
    if purpose is Purpose.MIGRATION:
        turn.say("migration.succeeded", because, session=s, provider=leg.provider)
    elif purpose is Purpose.FAILOVER or (is_first and failed_over):
        turn.say(
            "failover.succeeded",
            because,
            session=s,
            provider=leg.provider,
            recovering_s=recovering_s,
        )
    return s


def _ask_list(turn: Turn, s: Session, op: Operation) -> Session:
    turn.effects.append(AskList())
    wait_s = turn.policy.health_timeout_s
    if turn.state.listed is not None:
        wait_s = min(LIST_WAIT_S, wait_s)
    until_s = turn.now + wait_s
    op = replace(op, retry_s=None, list_until_s=until_s, list_asks=op.list_asks + 1)
    return replace(s, operation=op)


def _stop_asking(turn: Turn, s: Session, because: str) -> Session:
    for leg in s.legs:
        if leg.live_s is None:
            s = turn.close(s, leg, because)
    return replace(s, asks={}, wanted=None)


def _with_ask(s: Session, name: str, ask: Ask) -> Session:
    return replace(s, asks={**s.asks, name: ask})


def _leg_due(turn: Turn, s: Session, leg: Leg) -> Session:
    if leg.live_s is None and turn.now >= leg.until_s:
        because = f"no first media within {turn.first_media_s(leg.provider):g} s"
        failure = Failure(error="MediaLost", because=because, answered=False)
        turn.close(s, leg, because)
        return leg_failed(turn, s, leg, LegFailed(session=s.id, leg=leg.id, failure=failure))
    if trial.is_pointless(turn, leg) and leg.id != s.on_air:
        return turn.close(s, leg, f"{leg.provider} is banned or disabled: the trial is pointless")
    if turn.now >= turn.silent_until_s(leg):
        return turn.close(s, leg, f"silent for {turn.policy.silent_leg_s:g} s (silent_leg_s)")
    return s


def _absent_everywhere_s(turn: Turn, s: Session) -> float | None:
    """Return since when every provider that may be asked says that nobody publishes, or None."""
    trusted = [name for name in turn.active() if turn.trusts(name)]
    since = [s.asks[name].absent_s if name in s.asks else None for name in trusted]
    known = [at for at in since if at is not None]
    return max(known) if known and len(known) == len(since) else None


def _over_s(turn: Turn, s: Session) -> float:
    """Return when a search ends without success, as things stand [s]."""
    p = turn.policy
    op, begun_s = s.operation, s.search_s
    match s.phase:
        case Phase.STARTING if op is not None:
            return op.begun_s + p.start_s_max
        case Phase.WAITING:
            # However short the wait: everybody is asked once before it is called off.
            heard = all(n in s.asks and s.asks[n].is_heard for n in turn.active())
            last_s = s.moved_s + p.start_s_max
            return s.wait_until_s if heard else max(s.wait_until_s, last_s)
        case Phase.ON_AIR if begun_s is not None:
            return begun_s + p.overlap
        case Phase.RECOVERING if begun_s is not None:
            since_s = _absent_everywhere_s(turn, s)
            gone_s = float("inf") if since_s is None else since_s + p.end_grace_s
            return min(gone_s, begun_s + p.give_up_s)
        case _:
            return float("inf")


def _over_due(turn: Turn, s: Session) -> Session:
    if turn.now < _over_s(turn, s):
        return s
    p = turn.policy
    match s.phase:
        case Phase.STARTING:
            because = f"no media within {p.start_s_max:g} s (start_s_max)"
            return end(turn, s, Outcome.ALL_FAILED, because)
        case Phase.WAITING:
            return end(turn, s, Outcome.NOT_ON_AIR, "nobody published it in time (wait_s)")
        case Phase.ON_AIR:
            because = s.operation.because if s.operation else ""
            turn.say(
                "stream.stays",
                f"{because}, but the stream is not there",
                session=s,
                provider=s.provider,
            )
            return replace(_stop_asking(turn, s, because), operation=None, search_s=None)
        case _:
            because = f"absent from every provider for {p.end_grace_s:g} s (end_grace_s)"
            if _absent_everywhere_s(turn, s) is None:
                because = f"not found again within {p.give_up_s:g} s (give_up_s)"
            return end(turn, s, Outcome.STREAM_ENDED, because)
