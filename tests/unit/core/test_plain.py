"""hitless.core.plain: values as JSON and back."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

import pytest

from hitless import ConfigError
from hitless.core.plain import plain, value_of


class Colour(StrEnum):
    RED = "red"


class Pair(NamedTuple):
    left: str
    right: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    at_s: float = float("-inf")
    colour: Colour = Colour.RED


@dataclass(frozen=True, slots=True, kw_only=True)
class Outer:
    name: str
    count: int = 0
    is_it: bool = False
    inner: Inner | None = None
    by_place: Mapping[str | None, Inner] = field(default_factory=dict)
    votes: Mapping[Colour, Mapping[int, Inner]] = field(default_factory=dict)
    steps: tuple[float, ...] = ()
    pairs: Sequence[Pair] = ()


FULL = Outer(
    name="a",
    count=3,
    is_it=True,
    inner=Inner(at_s=0.1 + 0.2),
    by_place={"fra": Inner(at_s=float("inf")), None: Inner()},
    votes={Colour.RED: {7: Inner(at_s=1e-300), 3: Inner()}},
    steps=(0.05, 1.0),
    pairs=(Pair("x"), Pair("y", 2.5)),
)


@pytest.mark.parametrize("value", [FULL, Outer(name="")])
def test_what_comes_back_is_equal_and_in_the_same_order(value):
    back = value_of(Outer, json.loads(json.dumps(plain(value), allow_nan=False)))

    assert back == value
    assert list(back.by_place) == list(value.by_place)
    assert [list(inner) for inner in back.votes.values()] == [
        list(inner) for inner in value.votes.values()
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"name": 1},
        {"name": None},
        {"count": 1.5},
        {"count": True},
        {"is_it": 0},
        {"inner": []},
        {"inner": {"at_s": "soon"}},
        {"inner": {"colour": "blue"}},
        {"by_place": {"a": 1}},
        {"by_place": [["a"]]},
        {"steps": 3},
        {"steps": "inf"},
        {"steps": [True]},
        {"pairs": [["x", 1.0, 2.0]]},
        {"more": 1},
    ],
    ids=str,
)
def test_what_is_of_another_type_is_refused_and_not_quoted(change):
    with pytest.raises(ConfigError, match="recorded is no Outer") as caught:
        value_of(Outer, {**plain(FULL), **change})

    assert "soon" not in str(caught.value)
    assert "blue" not in str(caught.value)


@pytest.mark.parametrize("data", [None, [], "x", 3, {"count": 1}], ids=str)
def test_what_is_no_record_at_all_is_refused(data):
    with pytest.raises(ConfigError):
        value_of(Outer, data)


def test_a_list_in_a_list_without_end_is_refused():
    deep = []
    for _ in range(100_000):
        deep = [deep]

    with pytest.raises(ConfigError):
        value_of(Outer, {"name": "a", "steps": deep})
