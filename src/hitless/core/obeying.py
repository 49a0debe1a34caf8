"""
What a session does with the placements that a control plane tells it.

A placement is a fact about the stream, shared by all its clients. A publisher saves its stream
first and claims afterwards; whatever comes back has a greater epoch, and is obeyed. So there is
one rule for what to say, looked at after every step: where the leg on air is where the placement
says, confirm it; where it is not, and nothing is under way to get there, claim.
"""

from __future__ import annotations

from dataclasses import replace

from . import agreement, publishing, slots, viewing
from .agreement import By, Follower, Move, Placement
from .events import (
    ClaimPlacement,
    ConfirmPlacement,
    LegsReleased,
    Outcome,
    PlacementTold,
    RescueTold,
    Role,
    StreamOver,
)
from .state import Phase, Purpose, Session
from .turn import Turn, with_leg


def told(turn: Turn, s: Session, event: PlacementTold) -> Session:
    """Go where the placement says, unless a newer one was obeyed already."""
    turn.answered()
    before = s.follower or Follower(client=s.id, role=s.role, stream=s.stream)
    placement = Placement(
        stream=s.stream,
        epoch=event.epoch,
        provider=event.provider,
        publisher=s.id,  # another publisher's placement does not reach us: it ends the session
        by=By.PUBLISHER if event.is_own else By.SERVER,
        because=event.because,
    )
    follower, order = agreement.told(before, placement)
    if follower.epoch == before.epoch:
        return s
    s = replace(s, follower=follower, said=None)
    if not isinstance(order, Move) or s.provider == event.provider:
        return s
    if s.role is Role.PUBLISHER:
        s = slots.hastened(turn, s)
        return s if s.epoch == 0 else publishing.migrate(turn, s, event.provider, event.because)
    if s.phase is Phase.ON_AIR:
        return viewing.migrate(turn, s, event.provider, event.because)
    return viewing.hasten(turn, s, event.provider)


def released(turn: Turn, s: Session, event: LegsReleased) -> Session:
    """Close the legs that were left: everybody has followed."""
    if s.follower is None or s.follower.epoch != event.epoch:
        return s
    for leg in s.legs:
        if leg.close_s is not None:
            s = turn.close(s, leg, "all viewers have followed")
    return s


def rescue(turn: Turn, s: Session, event: RescueTold) -> Session:
    """Open, or close, the one leg for viewers that cannot reach the provider on air."""
    turn.answered()
    if s.role is Role.VIEWER:
        if event.provider is None or s.provider == event.provider:
            return s
        return viewing.hasten(turn, s, event.provider)
    for leg in s.legs:
        is_left = leg.purpose is Purpose.RESCUE and leg.id != s.on_air
        if is_left and leg.provider != event.provider:
            s = turn.close(s, leg, event.because)
    is_there = any(leg.provider == event.provider for leg in s.legs)
    if event.provider is None or is_there or event.provider not in turn.active():
        return s
    return with_leg(s, turn.open(s, event.provider, Purpose.RESCUE, event.because))


def over(turn: Turn, s: Session, event: StreamOver) -> Session:
    """A viewer's stream has ended; a publisher ends its own by itself."""
    turn.answered()
    if s.role is Role.PUBLISHER:
        return s
    return viewing.end(turn, s, Outcome.STREAM_ENDED, event.because)


def answer(turn: Turn, s: Session) -> Session:
    """Tell the control plane where the stream is, if that is news."""
    follower, here = s.follower, s.provider
    if follower is None or here is None or s.phase is not Phase.ON_AIR or s.said == here:
        return s
    if here == follower.provider and follower.alone is None:
        turn.effects.append(ConfirmPlacement(session=s.id, epoch=follower.epoch, provider=here))
        return replace(s, said=here)
    if s.role is Role.VIEWER or s.operation is not None or s.pending is not None:
        return s
    last = next((a.failure for a in reversed(s.attempts) if a.failure is not None), None)
    because = last.because if last else f"{here} carries media"
    follower, claim = agreement.moved_alone(follower, here, because)
    if claim is not None:
        turn.effects.append(
            ClaimPlacement(session=s.id, base=claim.base_epoch, provider=here, because=because)
        )
    return replace(s, follower=follower, said=here)
