"""hitless.core.replay"""

import dataclasses
import json
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitless.core.attempts import Failure
from hitless.core.events import Event, HealthChecked, ProvidersListed, StreamRequested, Ticked
from hitless.core.listing import Listed, ProviderList
from hitless.core.policy import Policy, ReturnPolicy
from hitless.core.replay import VERSION, begin, decode, encode, header, replay
from hitless.errors import ConfigError


finite = st.floats(allow_nan=False, allow_infinity=False)
words = st.text(max_size=20)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | finite | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=5,
)
listed = st.builds(Listed, config=st.dictionaries(words, json_values, max_size=3))
SPECIAL = {
    float: finite,
    str: words,
    Listed: listed,
    ProviderList: st.builds(
        ProviderList,
        providers=st.lists(listed, max_size=4).map(tuple),
        warnings=st.lists(words, max_size=3).map(tuple),
    ),
    Failure: st.builds(Failure, retry_after_s=st.none() | finite),
}
for kind, strategy in SPECIAL.items():
    st.register_type_strategy(kind, strategy)


@pytest.mark.parametrize("kind", get_args(Event), ids=lambda kind: kind.__name__)
def test_every_event_survives_the_trip_through_json(kind):
    """
    The same value, at the same time, of the same types.
    """

    @given(event=st.from_type(kind), now=finite)
    def trip(event, now):
        line = json.loads(json.dumps(encode(event, now)))
        again, at_s = decode(line)

        assert (again, at_s) == (event, now)
        assert repr(again) == repr(event)

    trip()


@given(
    seed=st.integers(0, 2**64 - 1),
    overlap_s=st.none() | st.floats(0, 3600),
    returns=st.sampled_from(list(ReturnPolicy)),
    retries=st.integers(0, 20),
)
def test_a_header_survives_the_trip_through_json(seed, overlap_s, returns, retries):
    """
    Policy and seed decide what is replayed.
    """
    policy = Policy(overlap_s=overlap_s, return_policy=returns, max_retries=retries)
    line = json.loads(json.dumps(header(policy, seed)))

    assert begin(line) == (policy, seed)
    assert repr(begin(line)[0]) == repr(policy)


@pytest.mark.parametrize(
    "line",
    [
        {},
        {"at_s": 1.0},
        {"at_s": 1.0, "event": "Exploded"},
        {"at_s": "soon", "event": "Ticked"},
        {"at_s": 1.0, "event": "Ticked", "colour": "red"},
        {"at_s": 1.0, "event": "LegOpened", "session": "s"},
        {"at_s": 1.0, "event": "StreamRequested", "session": "s", "stream": "x", "role": "spy"},
    ],
)
def test_a_line_that_is_no_event_is_refused(line):
    """
    With a clear error and nothing done.
    """
    with pytest.raises(ConfigError, match="not an event"):
        decode(line)


def test_a_record_of_another_version_is_refused():
    """
    Rather than replayed wrongly.
    """
    line = header(Policy(), 1) | {"hitless": VERSION + 1}

    with pytest.raises(ConfigError, match="version"):
        list(replay([line]))


def test_an_empty_record_is_refused():
    """
    There is no first line to go by.
    """
    with pytest.raises(ConfigError, match="empty"):
        list(replay([]))


def test_a_replay_yields_each_event_with_its_effects():
    """
    In order, with the state after each.
    """
    request = StreamRequested(session="s", stream="show", role="publisher")
    lines = [header(Policy(), 7), encode(request, 1.0), encode(Ticked(), 2.0)]

    steps = list(replay(lines))

    assert [now for now, _, _, _ in steps] == [1.0, 2.0]
    assert [type(effect).__name__ for effect in steps[0][2]] == ["AskList"]
    assert "s" in steps[1][3].sessions


def test_optional_fields_may_be_left_out_of_a_line():
    """
    A record of an older minor version lacks what was added since.
    """
    line = {"at_s": 1.0, "event": "HealthChecked", "provider": "agora", "answer": "healthy"}
    event, _ = decode(line)

    assert isinstance(event, HealthChecked)
    assert dataclasses.asdict(event)["media_age_s"] is None


def test_a_list_is_restored_as_values():
    """
    Tuples again, not lists.
    """
    event = ProvidersListed(listed=ProviderList(providers=(Listed(name="a"),)))
    again, _ = decode(json.loads(json.dumps(encode(event, 0.0))))

    assert isinstance(again, ProvidersListed)
    assert hash(again.listed.warnings) == hash(())
    assert again.listed.providers[0].name == "a"
