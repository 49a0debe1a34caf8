"""hitless.core.slots: of thousands that lost their media at once, each goes in its own moment"""

from dataclasses import replace

import pytest
from unit.core.bench import SESSION, Bench, a_list, opens

from hitless.core import pacing, rendezvous
from hitless.core.events import PlacementTold


NAMES = ("agora", "zegocloud", "webrtc")
ACCEPTED_PER_S = 50.0


def bench(streams, stream="show", **providers):
    """A publisher on air with agora, which carries so many streams."""
    listed = a_list(*NAMES)
    listed = replace(
        listed,
        providers=tuple(
            replace(entry, streams=streams, starts_per_s=ACCEPTED_PER_S)
            for entry in listed.providers
        ),
    )
    made = Bench(listed=listed, **{name: opens() for name in NAMES} | providers)
    made.on_air()
    return made


def moment(streams):
    """Return when the stream's moment is [s after its media was lost]."""
    return pacing.alone_s(rendezvous.key("show"), streams, ACCEPTED_PER_S)


@pytest.mark.parametrize("streams", [0, 1, 45])
def test_as_many_as_the_next_one_accepts_in_a_second_go_at_once(streams):
    """
    Nor does anybody wait where the list says nothing.
    """
    it = bench(streams)
    it.silent("agora")

    assert it.asked == ["zegocloud"]
    assert it.said("failover.waiting") == []


@pytest.mark.parametrize("lose", [Bench.silent, Bench.lost])
def test_of_more_each_waits_for_its_own_moment_and_says_so(lose):
    """
    Whether its leg fell silent or broke.
    """
    it = bench(1000)
    begun_s = it.now
    lose(it, "agora")
    waiting = it.said("failover.waiting", "failover.trying")
    assert waiting == ["failover.waiting zegocloud"]

    it.run(moment(1000) + 1.0)
    assert it.asked_at("zegocloud") == [pytest.approx(begun_s + moment(1000))]
    assert it.moves == ["zegocloud"]


def test_no_leg_is_opened_on_a_mere_doubt_where_many_may_doubt():
    it = bench(1000)
    it.doubted("agora")

    assert it.asked == []


def test_media_that_comes_back_while_it_waits_keeps_it_where_it_is():
    it = bench(1000)
    it.silent("agora")
    it.run(0.5 * moment(1000))
    it.heard("agora")
    it.run(2.0 * moment(1000))

    assert it.asked == []
    assert it.session.provider == "agora"


def test_who_is_told_where_to_go_waits_no_longer():
    """
    The control plane knows more; the second choice is as good as the first.
    """
    it = bench(1000)
    it.silent("agora")
    it.run(0.1)
    it.hear(PlacementTold(session=SESSION, epoch=2, provider="webrtc", because="your turn"))

    assert it.asked == ["webrtc"]


def test_other_numbers_in_the_list_are_no_other_list():
    """
    They change at each poll, and nothing is to move for that.
    """
    it = bench(10)
    entries = tuple(replace(one, streams=11, starts_per_s=7.0) for one in it.listed.providers)
    it.list_is(replace(it.listed, providers=entries))

    assert it.said("list.changed", "migration") == []
    assert it.state.listed.providers[0].streams == 11
