"""hitless.server.summaries"""

import base64
import json
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from hitless.core.evidence import Rules
from hitless.core.observation import Ballot, JoinEnded, MediaFresh, MediaLost, Vote
from hitless.core.verdict import Standing, judge
from hitless.server.summaries import SAMPLE_MAX, TEXT_MAX, read, sample, write


RULES = Rules()


def after(*reports, now=100.0, standing=None):
    """Return what is known after reports, each made a second after the other."""
    standing = standing or Standing()
    for number, report in enumerate(reports):
        standing, _ = judge(RULES, standing, report, now + number)
    return standing.cases


def who(number, provider="a", region=None, network=None):
    """Return the fields of a client."""
    return {
        "provider": provider,
        "region": region,
        "client": f"client-{number}",
        "stream": f"room-{number}",
        "network": network or f"10.0.{number}.7",
    }


def lost(number, because="stopped", **fields):
    """Return a client that lost its media."""
    return MediaLost(**who(number, **fields), because=because)


def test_what_is_written_is_read_as_it_was_by_another_clock():
    """
    Votes, reasons and regions; times to a tenth of a second.
    """
    cases = after(
        JoinEnded(**who(1), ok=False, because="HTTP 500"),
        lost(2, region="eu"),
        MediaFresh(**who(3, region="us")),
    )

    found = read(write(cases, 103.5), 5000.0)["a"]

    given = {ballot: list(votes.values()) for ballot, votes in cases["a"].votes.items()}
    moved = {
        ballot: [replace(one, at_s=one.at_s - 103.5 + 5000.0) for one in votes]
        for ballot, votes in given.items()
    }
    assert {b: sorted(v, key=lambda one: one.client) for b, v in found.votes.items()} == {
        b: sorted(v, key=lambda one: one.client) for b, v in moved.items()
    }
    assert found.fresh_s == {"us": 5000.0 - 1.5}


def test_no_name_and_no_address_is_in_it():
    """
    Whoever reads the database learns from it who was where of nobody.
    """
    text = write(after(*(lost(n) for n in range(9))), 120.0)

    assert not any(word in text for word in ("client", "room", "10.0."))
    networks = {one.network for one in read(text, 0.0)["a"].votes[Ballot.MEDIA]}
    assert all(0 <= network < 1 << 16 for network in networks)


def test_nothing_is_told_of_whom_nobody_reported():
    """
    A quiet house writes no text that others would have to read.
    """
    assert write(after(), 1.0) == ""
    assert read("", 1.0) == {}


def test_a_text_is_bounded_and_the_worst_is_told_first():
    """
    Sixty providers with regions and long reasons, and of each more clients than are told.
    """
    standing = Standing()
    for provider in range(60):
        for client in range(80):
            region, because = f"region-{client % 30}" + "x" * 100, "w" * 200 + str(client)
            one = lost(client, because, provider=f"p{provider}", region=region)
            if provider == 7 or client % 2:
                standing, _ = judge(RULES, standing, one, 5.0)
    text = write(standing.cases, 6.0)

    assert 0 < len(text) <= TEXT_MAX
    assert "p7" in read(text, 0.0)


def test_a_sample_fails_in_the_share_that_all_of_them_do():
    """
    Whoever reported last is not more likely in it: those that work report again and again.
    """
    votes = {
        number * 2654435761 % (1 << 32): Vote(
            client=number * 2654435761 % (1 << 32), stream=number, network=number,
            region=None, ok=number >= 100, at_s=float(number), because="",
        )
        for number in range(250)
    }  # fmt: skip
    taken = sample(votes, SAMPLE_MAX)

    assert len(taken) == SAMPLE_MAX
    assert 0.3 < sum(not one.ok for one in taken) / SAMPLE_MAX < 0.5


def test_one_network_does_not_push_the_others_out_of_a_sample():
    """
    However many clients it sends; what the others do not need it gets.
    """
    votes = {
        n: Vote(client=n, stream=n, network=1 if n < 240 else n, region=None, ok=True,
                at_s=0.0, because="")
        for n in range(250)
    }  # fmt: skip
    networks = [one.network for one in sample(votes, SAMPLE_MAX)]

    assert len(networks) == SAMPLE_MAX
    assert set(networks) == {1, *range(240, 250)}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=12,
)
PACKED = st.binary(max_size=4).map(lambda some: base64.b64encode(13 * some).decode())
BALLOT = st.fixed_dictionaries({}, optional={"votes": PACKED | st.text() | JSON, "because": JSON})
PLACE = st.fixed_dictionaries(
    {},
    optional={
        "region": JSON,
        "fresh": st.floats(-10, 1e6) | JSON,
        "ballots": st.dictionaries(st.sampled_from([*Ballot, "no"]), BALLOT, max_size=4) | JSON,
    },
)
LIKELY = st.fixed_dictionaries(
    {"form": st.just(1), "providers": st.dictionaries(st.text(max_size=5), st.lists(PLACE))}
)


@given(st.text() | st.builds(json.dumps, JSON) | st.builds(json.dumps, LIKELY))
def test_text_that_anybody_wrote_gives_bounded_votes_or_nothing(text):
    """
    Never an error, and no vote from the future.
    """
    for found in read(text, 50.0).values():
        assert set(found.votes) == set(Ballot)
        for votes in found.votes.values():
            assert len(votes) <= SAMPLE_MAX
            assert all(one.at_s <= 50.0 and "\0" not in one.because for one in votes)
        assert all(at_s <= 50.0 for at_s in found.fresh_s.values())


@given(st.data())
def test_a_text_that_was_cut_or_changed_gives_bounded_votes_or_nothing(data):
    """
    One character, anywhere.
    """
    text = write(after(*(lost(n) for n in range(5)), MediaFresh(**who(9))), 110.0)
    at = data.draw(st.integers(0, len(text) - 1))
    changed = data.draw(
        st.sampled_from([text[:at], text[:at] + "\0" + text[at + 1 :]])
        | st.just(text[:at] + data.draw(st.characters()) + text[at + 1 :])
    )

    for found in read(changed, 50.0).values():
        assert all(len(votes) <= SAMPLE_MAX for votes in found.votes.values())
