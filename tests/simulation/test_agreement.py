"""
The agreement on where a stream is, exhausted: `agreement_model.py`; and broken on purpose.

How many states were visited is written below the name of each exploration.
"""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
from simulation.agreement_invariants import STREAM, Broken, Rules
from simulation.agreement_model import (
    PROVIDERS,
    TWO_PUBLISHERS,
    TWO_VIEWERS,
    Scope,
    explore,
)

from hitless.core import agreement, obeying
from hitless.core.agreement import By
from hitless.core.events import OpenLeg, PlacementTold, Role
from hitless.core.listing import Listed, ProviderList
from hitless.core.policy import Policy
from hitless.core.state import Leg, Phase, Purpose, Session, State
from hitless.core.turn import Turn


RACED = {
    "a publisher that was stopped found itself fenced",
    "both servers were about to write",
    "a claim was refused",
    "a publisher moved alone, and somebody else was quicker",
}
LOST = {
    "a publisher that was stopped found itself fenced",
    "a claim was refused",
    "the store had lost what a client obeyed",
}

SCOPES = {
    "two publishers, two moves": (Scope(clients=TWO_PUBLISHERS), RACED),
    "two viewers, two moves": (Scope(clients=TWO_VIEWERS), RACED),
    "two publishers, three moves": (Scope(clients=TWO_PUBLISHERS, moves=3), RACED),
    "two viewers, three moves": (Scope(clients=TWO_VIEWERS, moves=3), RACED),
    "two publishers, a loss": (Scope(clients=TWO_PUBLISHERS, moves=1, losses=1), LOST),
    "two viewers, a loss": (Scope(clients=TWO_VIEWERS, moves=1, losses=1), LOST),
}


@pytest.mark.parametrize("name", SCOPES)
def test_everybody_agrees_whatever_happens(name, capsys, record_property):
    """
    One placement an epoch, nobody obeys an older one, who was stopped finds itself fenced, and
    all converge once messages get through: in every state there is.
    """
    scope, remarkable = SCOPES[name]

    done = explore(Rules(), scope)

    record_property("states", done.states)
    with capsys.disabled():
        sys.stdout.write(f"\n{name}: {done.states} states, {done.steps} steps\n")
    assert done.states > 2_000
    assert set(done.facts) >= remarkable, "the model does not meet what it is for"


# --- A session obeys as a follower does ---


def session_of(follower):
    """Return a session on air where this follower is, and the state around it."""
    leg = Leg(
        id=1, provider=follower.here, purpose=Purpose.START, begun_s=0.0, until_s=9.0, live_s=1.0
    )
    session = Session(
        id=follower.client,
        stream=STREAM,
        role=follower.role,
        phase=Phase.ON_AIR,
        epoch=1,
        legs=(leg,),
        on_air=1,
        follower=follower,
        said=follower.here,
    )
    listed = ProviderList(providers=tuple(Listed(name=name) for name in PROVIDERS))
    state = State(now_s=2.0, listed=listed, legs_made=1, sessions={session.id: session})
    return Turn(Policy(), state, 2.0), session


@pytest.mark.parametrize("clients", [TWO_PUBLISHERS, TWO_VIEWERS], ids=" and ".join)
def test_a_session_obeys_like_the_follower_it_holds(clients):
    """
    What the model explores is what runs: each pair of a client and a placement that it met.
    """
    model = explore(Rules(), Scope(clients=clients)).model
    obeyed = 0
    for (before, row, own), after in model.met.items():
        was, said, expected = model.values[before], model.values[row], model.values[after]
        if was.epoch == 0 or was.is_fenced or expected.is_fenced:
            continue  # who is fenced is told that its session is over
        turn, session = session_of(was)
        told = PlacementTold(
            session=session.id,
            epoch=said.epoch,
            provider=said.provider,
            because="told",
            is_own=own,
        )

        now = obeying.told(turn, session, told)

        assert now.follower == expected
        if expected.epoch == was.epoch:
            assert (now, turn.effects) == (session, [])
        elif expected.here != was.here:
            obeyed += 1
            assert [e.provider for e in turn.effects if isinstance(e, OpenLeg)] == [said.provider]
    assert obeyed > 30


# --- Broken on purpose ---


def claimed_whatever_it_is_based_on(row, claim):
    """Compare and set, without the comparison."""
    base = row.epoch if row is not None else claim.base_epoch
    return agreement.claimed(row, replace(claim, base_epoch=base))


def claimed_by_the_last_to_write(row, claim):
    """Compare and set, without the comparison, at the epoch that the claim knows."""
    if row is None or row.is_over:
        return agreement.claimed(row, claim)
    return replace(row, epoch=claim.next_epoch, provider=claim.provider, by=claim.by), True


def claimed_by_any_publisher(row, claim):
    """The epoch is compared, who publishes is not."""
    if row is not None and claim.publisher is not None:
        claim = replace(claim, publisher=row.publisher)
    return agreement.claimed(row, claim)


def claimed_at_the_same_epoch(row, claim):
    """The placement changes, its epoch does not."""
    after, is_so = agreement.claimed(row, claim)
    return (replace(after, epoch=row.epoch) if row and after != row else after), is_so


def claimed_and_always_confirmed(row, claim):
    """A claimant that lost the race is told that it won."""
    return agreement.claimed(row, claim)[0], True


def started_at_the_same_epoch(row, publisher, provider, presented_epoch=0):
    """A stream is taken over, and its epoch stays."""
    after = agreement.started(row, publisher, provider, presented_epoch)
    return replace(after, epoch=row.epoch) if row else after


def started_by_nobody_else(row, publisher, provider, presented_epoch=0):
    """A start by another publisher leaves the stream with the first."""
    return row or agreement.started(row, publisher, provider, presented_epoch)


def told_by_anybody(follower, placement):
    """A client obeys whatever it hears."""
    return agreement.told(replace(follower, epoch=0), placement)


def told_twice(follower, placement):
    """A client obeys an epoch that is equal to its own."""
    return agreement.told(replace(follower, epoch=max(0, follower.epoch - 1)), placement)


def told_that_another_publishes(follower, placement):
    """A publisher goes on although another one publishes the stream."""
    return agreement.told(follower, replace(placement, publisher=follower.client))


def told_its_own_older_claim(follower, placement):
    """A publisher that has moved on goes back to what it had claimed before."""
    return agreement.told(follower, replace(placement, by=By.SERVER))


def told_while_it_insists(follower, placement):
    """A publisher that has moved by itself obeys nobody."""
    after, order = agreement.told(follower, placement)
    return (follower, None) if follower.alone and follower.claim else (after, order)


def told_without_noting_it(follower, placement):
    """A client goes where it is told and forgets the epoch."""
    after, order = agreement.told(follower, placement)
    return replace(after, epoch=follower.epoch or after.epoch), order


def never_returned(row, shown):
    """A store that has lost something is not corrected."""


def returned_by_publishers_only(row, shown):
    """A viewer that is ahead of the store obeys nothing any more."""
    return agreement.returned(row, shown) if shown.role is Role.PUBLISHER else None


def returned_at_what_was_shown(row, shown):
    """A stream comes back at the epoch that was obeyed before the loss, not beyond it."""
    claim = agreement.returned(row, shown)
    if claim is None:
        return None
    return replace(claim, base_epoch=claim.base_epoch - 1, presented_epoch=0)


RACING = Scope()
LOSING = Scope(clients=TWO_VIEWERS, moves=1, losses=1)

BROKEN = {
    claimed_whatever_it_is_based_on: ("claimed", RACING),
    claimed_by_the_last_to_write: ("claimed", RACING),
    claimed_by_any_publisher: ("claimed", Scope(moves=2, losses=1)),
    claimed_at_the_same_epoch: ("claimed", RACING),
    claimed_and_always_confirmed: ("claimed", RACING),
    started_at_the_same_epoch: ("started", RACING),
    started_by_nobody_else: ("started", RACING),
    told_by_anybody: ("told", RACING),
    told_twice: ("told", RACING),
    told_that_another_publishes: ("told", RACING),
    told_its_own_older_claim: ("told", RACING),
    told_while_it_insists: ("told", RACING),
    told_without_noting_it: ("told", RACING),
    never_returned: ("returned", LOSING),
    returned_by_publishers_only: ("returned", LOSING),
    returned_at_what_was_shown: ("returned", LOSING),
}


@pytest.mark.parametrize("rule", BROKEN, ids=lambda rule: rule.__name__)
def test_a_broken_rule_is_found_out(rule):
    """
    A model that nothing can fail proves nothing; the error is the shortest way to the trouble.
    """
    kind, scope = BROKEN[rule]

    with pytest.raises(Broken, match="it is on air"):
        explore(Rules(**{kind: rule}), scope)


def test_a_trace_tells_what_happened_step_by_step():
    """
    The first line is how it began, the last one what is wrong.
    """
    with pytest.raises(Broken) as found:
        explore(Rules(told=told_twice), Scope())

    first, *between, last = str(found.value).splitlines()
    assert first == "it is on air"
    assert len(between) <= 3
    assert "obeys epoch" in last
