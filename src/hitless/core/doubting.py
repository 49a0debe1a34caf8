"""
Open the next leg before silence is certain: it takes as long as the rest of the silence does.

Half of the limit without media is no silence yet, and mostly none at all; whoever waits for all of
it has lost that time. So a publisher opens the next leg beside the one on air, at most every
`PAUSE_S` and more seldom each time it was needless. If silence comes, that leg is there or nearly
so; if media comes back, it is closed, and nobody is blamed.
"""

from __future__ import annotations

from dataclasses import replace

from . import choosing, slots
from .state import Leg, Operation, Phase, Purpose, Session
from .turn import Turn, with_leg


PAUSE_S = 30.0
"""Between two needless legs; it doubles [s]."""
PAUSE_S_MAX = 600.0


def begun(turn: Turn, s: Session, because: str) -> Session:
    """The leg on air may be about to be silent: open the next one beside it."""
    is_busy = s.operation is not None or s.phase is not Phase.ON_AIR
    if is_busy or not turn.policy.opens_on_doubt or turn.now < s.doubt_s:
        return s
    if any(leg.purpose is Purpose.DOUBT and leg.id != s.on_air for leg in s.legs):
        return s
    op = Operation(purpose=Purpose.FAILOVER, because=because, begun_s=turn.now)
    provider = choosing.following(turn, s, op)
    if provider is None or slots.wait_s(turn, s, provider):  # many may doubt at once
        return s
    turn.say("leg.doubted", because, session=s, provider=s.provider)
    pause_s = min(PAUSE_S * 2.0**s.doubts, PAUSE_S_MAX)
    s = replace(s, doubt_s=turn.now + pause_s, doubts=min(s.doubts + 1, 30))
    return with_leg(s, turn.open(s, provider, Purpose.DOUBT, because))


def over(turn: Turn, s: Session) -> Session:
    """Media came back: the leg beside is needless."""
    for leg in s.legs:
        if leg.purpose is Purpose.DOUBT and leg.id != s.on_air:
            s = turn.close(s, leg, f"{s.provider} carries media after all")
    return s


def opening(turn: Turn, s: Session) -> Leg | None:
    """Return the leg that was begun on a doubt and is not open yet, if it can be used."""
    active = turn.active()
    for leg in s.legs:
        if leg.purpose is Purpose.DOUBT and leg.live_s is None and leg.provider in active:
            return leg
    return None
