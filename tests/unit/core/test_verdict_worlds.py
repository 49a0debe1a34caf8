"""hitless.core.verdict: what holds in every random world."""

from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from unit.core.observations import RULES, TICK, probe, who

from hitless.core import verdict
from hitless.core.circuit import Circuit
from hitless.core.evidence import Word
from hitless.core.observation import (
    JoinEnded,
    Level,
    MediaFresh,
    MediaLost,
    OperatorSaid,
    ProbeEnded,
    QualityReported,
    Said,
    StartEnded,
)
from hitless.core.verdict import Standing, judge


PROVIDERS = st.sampled_from(["a", "b", "c"])
REGIONS = st.sampled_from([None, "eu", "us"])
LEVELS = st.sampled_from(list(Level))


@st.composite
def reports(draw, clients=None, streams=None, networks=None):
    """Return any report; of given clients, rooms or networks only."""
    number = draw(st.integers(0, 9) if clients is None else clients)
    fields = who(
        number,
        stream=None if streams is None else draw(streams),
        network=None if networks is None else draw(networks),
        provider=draw(PROVIDERS),
        region=draw(REGIONS),
    )
    kind = draw(st.sampled_from([StartEnded, JoinEnded, MediaLost, MediaFresh, QualityReported]))
    if kind in (StartEnded, JoinEnded):
        return kind(**fields, ok=draw(st.booleans()), because="")
    return (
        kind(**fields, loss=draw(st.floats(0, 1))) if kind is QualityReported else kind(**fields)
    )


PROBES = st.builds(
    ProbeEnded,
    provider=PROVIDERS,
    region=REGIONS,
    level=LEVELS,
    ok=st.booleans(),
    because=st.just("seen"),
    answered=st.booleans(),
    own_trouble=st.booleans(),
)
ORDERS = st.builds(
    OperatorSaid, provider=PROVIDERS, word=st.sampled_from(list(Said)), because=st.just("asked")
)


def worlds(*observations):
    """Return worlds: what is observed, each some time after the last."""
    waits = st.sampled_from([0.0, 0.3, 1.0, 5.0, 12.0, 31.0, 70.0, 400.0])
    return st.lists(st.tuples(waits, st.one_of(*observations, st.just(TICK))), max_size=60)


def unfold(world, rules=RULES):
    """Yield (now, observation, standing, news) after each observation."""
    standing, now = Standing(), 0.0
    for wait_s, one in world:
        now += wait_s
        standing, news = judge(rules, standing, one, now)
        yield now, one, standing, news


def words_of(standing):
    """Return every word that stands."""
    return {
        found.word
        for case in standing.cases.values()
        for found in (case.verdict, *(cell.verdict for cell in case.cells.values()))
    }


ONE = {
    "client": reports(clients=st.just(1)),
    "room": reports(streams=st.just("one")),
    "network": reports(networks=st.just("one")),
}


@pytest.mark.parametrize("one", ONE)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_one_client_room_or_network_never_condemns(one, data):
    """
    Whatever it sends, however often, and however well the probes do.
    """
    well = PROBES.filter(lambda probe: probe.ok)
    for _, _, standing, _ in unfold(data.draw(worlds(ONE[one], well))):
        assert not words_of(standing) & {Word.DOWN}
        assert all(
            cell.breaker.circuit is Circuit.CLOSED
            for case in standing.cases.values()
            for cell in case.cells.values()
        )


_REFUSED = ProbeEnded(provider="a", level=Level.CONTROL, ok=False, because="seen", answered=False)


@example(  # its only region is down by that, and media reaches a client that tells of none
    [
        (0.0, StartEnded(**who(0, provider="a", region="eu"), ok=False, because="")),
        (0.0, _REFUSED),
        (0.0, _REFUSED),
        (0.3, _REFUSED),
        (0.0, JoinEnded(**who(0, provider="a"), ok=True, because="")),
    ]
)
@given(
    worlds(reports(clients=st.integers(0, 1)), PROBES.filter(lambda p: p.level is Level.CONTROL))
)
@settings(max_examples=100, deadline=None)
def test_failed_control_probes_never_make_it_unhealthy_while_media_is_fresh(world):
    """
    In any order, in any region, before and after bans.
    """
    fresh_s = {}
    for now, one, standing, _ in unfold(world):
        if isinstance(one, MediaFresh) or (isinstance(one, JoinEnded) and one.ok):
            fresh_s[one.provider, one.region] = now
        for name in standing.cases:
            whole_s = fresh_s.get((name, None), float("-inf"))
            if now - whole_s <= RULES.fresh_s and not isinstance(one, (MediaLost, StartEnded)):
                if one is TICK or getattr(one, "provider", None) == name:
                    assert verdict.public_answer(standing, name)[0]


@given(worlds(reports(), PROBES, ORDERS))
@settings(max_examples=150, deadline=None)
def test_every_verdict_is_sound(world):
    """
    It says why, since when and on what; news tell every change; bans are bounded; it is the same
    again.
    """
    words = {}
    for now, _, standing, news in unfold(world):
        for told in news:
            assert told.because
            if told.name == "verdict.changed":
                assert words.get((told.provider, told.region), Word.UNKNOWN) is told.was
                words[told.provider, told.region] = told.verdict.word
        for name, case in standing.cases.items():
            assert words.get((name, None), Word.UNKNOWN) is case.verdict.word
            for place, cell in case.cells.items():
                found = cell.verdict
                assert found.because
                assert found.since_s <= now
                assert found.word is not Word.DISABLED
                assert found.word is Word.UNKNOWN or found.level is not None
                assert found.word is not Word.DOWN or found.share == 0
                assert found.share in (0.0, 1.0, *RULES.steps)
                assert cell.breaker.banned_until_s <= now + RULES.ban_s_max
                if place is not None:
                    assert words.get((name, place), Word.UNKNOWN) is found.word
    again = [standing for *_, standing, _ in unfold(world)]
    assert again == [standing for *_, standing, _ in unfold(world)]


@given(worlds(PROBES.map(lambda p: replace(p, ok=False, answered=False, own_trouble=False))))
@settings(max_examples=60, deadline=None)
def test_silence_alone_never_condemns_one_of_several(world):
    """
    Nobody answers: the observer is suspected.
    """
    seen = [(0.0, probe(True, name)) for name in "abc"]
    for _, _, standing, _ in unfold(seen + world):
        assert Word.DOWN not in words_of(standing)
