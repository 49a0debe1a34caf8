"""Ten thousand publishers lose their provider at one moment, and nobody can tell them anything."""

from collections import Counter
from dataclasses import replace

from hitless.core.events import (
    LegOpened,
    LegSilent,
    OpenLeg,
    ProvidersListed,
    Role,
    StreamRequested,
    Ticked,
)
from hitless.core.listing import Listed, ProviderList
from hitless.core.policy import Policy
from hitless.core.state import State
from hitless.core.step import step, wakeup_s


STREAMS, ACCEPTED_PER_S = 10_000, 250.0
LISTED = ProviderList(
    providers=(
        Listed(name="agora", priority=1, streams=STREAMS, starts_per_s=ACCEPTED_PER_S),
        Listed(name="zegocloud", priority=2, starts_per_s=ACCEPTED_PER_S),
    )
)
ON_AIR_S, LOST_S = 1.0, 5.0
POLICY = replace(Policy(), health_interval_s=3600.0)


def asked_s(number):
    """Return when a publisher asks the next provider [s after its media was lost]."""
    state, now, opened = State(seed=number), 0.0, None
    queue = [
        StreamRequested(session="s", stream=f"show-{number}", role=Role.PUBLISHER),
        ProvidersListed(listed=LISTED),
    ]
    for _ in range(100):
        event = queue.pop(0) if queue else Ticked()
        state, effects = step(POLICY, state, event, now)
        for effect in effects:
            if not isinstance(effect, OpenLeg):
                continue
            if opened is not None:
                assert effect.provider == "zegocloud"
                return now - LOST_S
            opened = effect.leg
            queue.append(LegOpened(session="s", leg=opened))
        if queue:
            continue
        if now < LOST_S:
            now = LOST_S
            queue.append(
                LegSilent(session="s", leg=opened, because="silent", since_s=LOST_S - 0.2)
            )
        else:
            now = max(now, wakeup_s(POLICY, state))
    raise AssertionError("it never asks")


def test_the_next_one_is_offered_no_more_starts_in_any_second_than_it_accepts():
    """
    All are served in the end, and not in ten times the time that it takes at best.
    """
    moments = sorted(map(asked_s, range(STREAMS)))

    assert len(moments) == STREAMS
    busiest, first = 0, 0
    for last, at_s in enumerate(moments):
        while moments[first] <= at_s - 1.0:
            first += 1
        busiest = max(busiest, last - first + 1)
    assert busiest <= ACCEPTED_PER_S
    assert max(Counter(map(int, moments)).values()) > 0.5 * ACCEPTED_PER_S, "needlessly slow"
    assert moments[-1] < 3.0 * STREAMS / ACCEPTED_PER_S
