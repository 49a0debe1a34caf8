"""hitless.server.leg_names: what a stream is called at a provider."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitless import ConfigError
from hitless.server.leg_names import NAME_CHARS_MAX, LegNames


def test_the_longest_template_still_leaves_room_for_every_stream():
    names = LegNames("x" * 13 + "{stream}-{epoch}")

    assert len(names.name("s" * 256, 2**53 - 1)) == NAME_CHARS_MAX
    assert names.name("s" * 34, 1) == "x" * 13 + "s" * 34 + "-1"


@given(
    st.sampled_from(["{stream}-{epoch}", "{stream}", "a1-{stream}1x1{epoch}9"]),
    st.text(min_size=1, max_size=256),
    st.integers(0, 2**53 - 1),
)
def test_every_stream_has_a_name_that_every_provider_takes(template, stream, epoch):
    name = LegNames(template).name(stream, epoch)

    assert 0 < len(name) <= NAME_CHARS_MAX
    assert set(name) <= set(string.ascii_letters + string.digits + "-_")


streams = st.text("a1-_h", min_size=1, max_size=5) | st.text(min_size=1, max_size=60)
legs = st.tuples(streams, st.integers(0, 120))


@given(st.sampled_from(["{stream}-{epoch}", "{stream}1_1{epoch}"]), legs, legs)
def test_two_legs_never_share_a_name(template, one, other):
    names = LegNames(template)

    assert (names.name(*one) == names.name(*other)) == (one == other)


def test_a_stream_cannot_be_called_like_the_digest_of_another():
    names = LegNames("{stream}")
    digested = names.name("a stream", 0)

    assert digested.startswith("h_")
    assert names.name(digested, 0) != digested
    assert names.name("h_", 0) != "h_"


def test_a_plain_name_stays_what_it_is():
    assert LegNames().name("show-1", 7) == "show-1-7"
    assert LegNames("{stream}").name("Show_1", 7) == "Show_1"


@pytest.mark.parametrize(
    "channel",
    [
        None,
        7,
        "",
        "show",
        "{epoch}",
        "{stream}{epoch}",
        "{stream}12{epoch}",
        "{epoch}-{stream}",
        "{stream}-{stream}",
        "{stream}-{epoch}-{epoch}",
        "{stream!r}",
        "{stream:>9}",
        "{}",
        "{stream}/{epoch}",
        "{stream} {epoch}",
        "{stream}\n",
        "x" * 31 + "{stream}",
        "x" * 14 + "{stream}-{epoch}",
    ],
)
def test_a_name_that_could_not_be_told_apart_or_be_used_is_refused(channel):
    with pytest.raises(ConfigError, match=r"^channel: "):
        LegNames(channel)
