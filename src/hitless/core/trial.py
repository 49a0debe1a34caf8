"""
Going back: a recovered provider proves itself beside the leg on air before a stream returns.

Only under `return_policy = return`, only to a provider that ranks better, and only while its
penalty for failing on air has decayed: a provider that flaps is left alone (after BGP route flap
damping, RFC 2439). The trial leg carries media for `return_after_s`, then the stream moves; after
a relapse, for longer than it lasted last time.

A failed trial may be our own network: the provider is blamed once the leg on air has carried
media for `fresh_media_s` more.
"""

from __future__ import annotations

from dataclasses import replace

from .attempts import Failure
from .events import Role
from .policy import ReturnPolicy
from .state import Leg, Phase, Purpose, Session, Suspect
from .turn import Turn, with_leg


SUPPRESSED = 1.5
"""A penalty from here on forbids a return: one failure on air (1.0) does not, a second does."""

OUTLIVE = 1.5
"""A trial must last so many times as long as the short spell before the last failure."""


def candidate(turn: Turn, s: Session) -> str | None:
    """Return the provider the stream should go back to, if it would be tried now."""
    here = s.provider
    if turn.policy.return_policy is not ReturnPolicy.RETURN or here is None or s.is_chosen:
        return None
    taken = {leg.provider for leg in s.legs} | {suspect.provider for suspect in s.suspects}
    for name in _better(turn, here):
        standing = turn.standing[name]
        sound = standing.breaker.admits and standing.is_healthy is not False
        if name not in taken and sound and turn.now >= _ready_s(turn, name):
            return name
    return None


def _better(turn: Turn, here: str) -> tuple[str, ...]:
    active = turn.active()
    return active[: active.index(here)] if here in active else active


def _ready_s(turn: Turn, name: str) -> float:
    """Return when its penalty has decayed and its Retry-After has passed [s]."""
    standing = turn.standing[name]
    return max(standing.calm_s(turn.policy, SUPPRESSED), standing.not_before_s)


def begin(turn: Turn, s: Session) -> Session:
    """Blame whom a failed trial convicted by now, and open a trial leg if one is due."""
    s = _convict(turn, s)
    if turn.now < s.trial_s or any(
        leg.purpose is Purpose.TRIAL for leg in s.legs if leg.id != s.on_air
    ):
        return s
    name = candidate(turn, s)
    if name is None:
        return s
    because = f"{name} ranks better and is not banned (return_policy = return)"
    turn.say("trial.started", because, session=s, provider=name)
    leg = turn.open(s, name, Purpose.TRIAL, because)
    return with_leg(replace(s, trial_s=turn.now + turn.policy.ban_s), leg)


def proven(turn: Turn, s: Session) -> Leg | None:
    """Return the trial leg that has carried media for long enough, or None."""
    for leg in s.legs:
        if leg.purpose is Purpose.TRIAL and leg.carries and turn.now >= _proven_s(turn, leg):
            return leg
    return None


def _proven_s(turn: Turn, leg: Leg) -> float:
    """
    Return when a trial leg has proved itself [s].

    If it failed so soon last time that `return_after_s` proves little, it must outlive that.
    """
    standing, return_s = turn.standing[leg.provider], turn.policy.return_after_s
    spell_s = OUTLIVE * standing.lived_s if standing.lived_s < 2 * return_s else 0.0
    live_s = leg.begun_s if leg.live_s is None else leg.live_s
    return live_s + max(return_s, spell_s, standing.relapse_s)


def is_pointless(turn: Turn, leg: Leg) -> bool:
    """Whether a trial leg can lead nowhere: its provider is disabled or banned by now."""
    banned = not turn.standing[leg.provider].breaker.admits
    return leg.purpose is Purpose.TRIAL and (banned or leg.provider not in turn.active())


def over(
    turn: Turn, s: Session, leg: Leg, because: str, failure: Failure | None = None
) -> Session:
    """
    A trial ended badly: its provider is not tried again soon, and may be to blame.

    A viewer blames nobody for lost media (the publisher may have left), only for a refusal.
    """
    turn.say("trial.failed", because, session=s, provider=leg.provider)
    s = replace(s, trial_s=turn.now + turn.policy.ban_s)
    if failure is not None and failure.blames_nobody:
        return s
    if s.role is Role.VIEWER:
        if failure is not None and leg.live_s is None and failure.error != "MediaLost":
            turn.failed(leg.provider, failure, leg.begun_s)
        return s
    lived_s = 0.0 if leg.live_s is None else turn.now - leg.live_s
    suspect = Suspect(provider=leg.provider, because=because, since_s=turn.now, lived_s=lived_s)
    return replace(s, suspects=(*s.suspects, suspect))


def _convict(turn: Turn, s: Session) -> Session:
    """The leg on air lived on: so it was not our network that failed the trial."""
    guilty = [suspect for suspect in s.suspects if turn.now >= _convicted_s(turn, suspect)]
    if not guilty:
        return s
    for suspect in guilty:
        turn.convict(suspect)
    return replace(s, suspects=tuple(old for old in s.suspects if old not in guilty))


def _convicted_s(turn: Turn, suspect: Suspect) -> float:
    return suspect.since_s + turn.policy.fresh_media_s


def due_s(turn: Turn, s: Session) -> float:
    """Return when a trial must be begun or has been passed [s]; inf: never as things stand."""
    here = s.provider
    if turn.policy.return_policy is not ReturnPolicy.RETURN or s.phase is not Phase.ON_AIR:
        return float("inf")
    times = [_convicted_s(turn, suspect) for suspect in s.suspects]
    trials = [leg for leg in s.legs if leg.purpose is Purpose.TRIAL and leg.id != s.on_air]
    if trials:
        times += [_proven_s(turn, leg) for leg in trials if leg.carries]
    elif candidate(turn, s) is not None:
        times.append(s.trial_s)
    elif here is not None and not s.is_chosen:
        waits = [_ready_s(turn, name) for name in _better(turn, here)]
        waits += [turn.standing[name].breaker.banned_until_s for name in _better(turn, here)]
        times += [at for at in waits if at > turn.now]
    return min(times, default=float("inf"))
