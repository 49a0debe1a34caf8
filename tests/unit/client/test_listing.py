"""hitless.client.listing, as whoever asks a backend sees it"""

import asyncio

import pytest
from backend_calls import SECRET, check, entry, listing, read, says, why_unavailable
from hypothesis import given, settings
from hypothesis import strategies as st

from hitless.client.backend import Backend, BackendUnavailable
from hitless.client.listing import WARNINGS_MAX
from hitless.core.listing import Answer, Listed


# --- The list ---


def test_a_good_list_is_read_in_order_of_priority_and_ties_keep_their_place():
    """Lowest number first; equal numbers as the backend wrote them; no warning."""
    got = read(
        listing(
            entry("late", 9),
            entry("one", 1),
            entry("also-one", 1, isActive=False),
            entry("ZegoCloud", 0, config={"adapter": "zego"}),
            default="one",
        )
    )

    assert ["ZegoCloud", "one", "also-one", "late"] == [p.name for p in got.providers]
    assert [True, True, False, True] == [p.is_active for p in got.providers]
    assert {"adapter": "zego"} == got.providers[0].config
    assert "one" == got.default
    assert () == got.warnings


@pytest.mark.parametrize(
    ("priority", "order", "warns"),
    [
        ("2", ["first", "odd", "third"], False),
        (" 2 ", ["first", "odd", "third"], False),
        (2.5, ["first", "odd", "third"], False),
        (-1, ["odd", "first", "third"], False),
        ("high", ["first", "third", "odd"], True),
        (None, ["first", "third", "odd"], True),
        (True, ["first", "third", "odd"], True),
        ([], ["first", "third", "odd"], True),
        ("nan", ["first", "third", "odd"], True),
        (10**400, ["first", "third", "odd"], True),
        (1e300, ["first", "third", "odd"], False),
    ],
)
def test_a_priority_that_is_text_counts_and_one_that_says_nothing_comes_last(
    priority, order, warns
):
    """Numbers in any clothes are numbers; everything else is last, with a warning."""
    got = read(listing(entry("odd", priority), entry("first", 1), entry("third", 3)))

    assert order == [p.name for p in got.providers]
    assert warns == bool(got.warnings)


@pytest.mark.parametrize(
    ("written", "is_active"),
    [("true", True), ("false", False), (0, False), (1, True), (None, True), ({}, True)],
)
def test_what_cannot_be_read_as_disabled_stays_active_and_is_warned_about(written, is_active):
    """Garbage must not take a provider off the list."""
    got = read(listing(entry("agora", isActive=written)))

    assert is_active is got.providers[0].is_active
    assert "isActive" in got.warnings[0]


def test_garbage_beside_good_entries_costs_warnings_only():
    """Wrong types, missing fields, duplicates and an unknown default."""
    got = read(
        listing(
            None,
            7,
            {"priority": 1},
            {"name": 5},
            {"name": " "},
            {"name": ".."},
            {"name": "x" * 201},
            {"name": "a\nb"},
            entry("agora", 2, config="nope"),
            entry("agora", 1),
            {"name": "zegocloud"},
            default="nowhere",
        )
    )

    assert ["agora", "zegocloud"] == [p.name for p in got.providers]
    assert {} == got.providers[0].config
    assert 2 == got.providers[0].priority
    assert got.default is None
    assert all("\n" not in warning for warning in got.warnings)
    for part in ("entry 1 ", "entry 8 ", "twice", "config", "nowhere", "isActive", "priority"):
        assert any(part in warning for warning in got.warnings), part


def test_warnings_are_bounded():
    """A list of garbage does not flood the log."""
    got = read(listing(entry("agora"), *[None] * 500))

    assert WARNINGS_MAX + 1 == len(got.warnings)
    assert "and 480 more" == got.warnings[-1]


def test_an_empty_list_is_a_list_with_a_warning():
    """Nobody left is an answer; whoever asked decides."""
    got = read(listing())

    assert ((), ("the list is empty",)) == (got.providers, got.warnings)


@pytest.mark.parametrize(
    ("body", "because"),
    [
        ({"success": False, "error": {"code": "x", "message": "y"}}, "success is not true"),
        ({"success": "true", "data": {"providers": []}}, "success is not true"),
        ({"success": 1, "data": {"providers": []}}, "success is not true"),
        ({"data": {"providers": []}}, "success is not true"),
        ({"success": True}, "data is not an object"),
        ({"success": True, "data": []}, "data is not an object"),
        ({"success": True, "data": {}}, "not a list"),
        ({"success": True, "data": {"providers": {"agora": {}}}}, "not a list"),
        ({"success": True, "data": {"providers": [None, 1]}}, "no entry"),
        ([], "not an object"),
        (None, "not an object"),
    ],
)
def test_a_wrong_shape_is_no_list(body, because):
    """So that the last good list is kept."""
    fault = why_unavailable(says(body))

    assert because in fault.because
    assert fault.answered


# --- Health ---


@pytest.mark.parametrize(
    ("data", "answer", "because"),
    [
        ({"healthy": True, "status": "active"}, Answer.HEALTHY, "active"),
        ({"healthy": True}, Answer.HEALTHY, "healthy"),
        ({"healthy": False, "status": "down"}, Answer.UNHEALTHY, "unhealthy: down"),
        ({"healthy": False, "status": SECRET}, Answer.UNHEALTHY, "unhealthy"),
        ({"healthy": False}, Answer.UNHEALTHY, "unhealthy"),
        ({"healthy": "true"}, Answer.UNANSWERED, "bad answer: healthy is not true or false"),
        ({"healthy": 1}, Answer.UNANSWERED, "bad answer: healthy is not true or false"),
        ({"healthy": None}, Answer.UNANSWERED, "bad answer: healthy is not true or false"),
        ({}, Answer.UNANSWERED, "bad answer: healthy is not true or false"),
    ],
)
def test_health_is_exact_about_booleans(data, answer, because):
    """`healthy: false` is an order; a word in its place is no answer at all."""
    got = check(says({"success": True, "data": data}))

    assert (answer, because) == (got.answer, got.because)
    assert "agora" == got.provider
    assert got.latency_s is not None
    assert 0 < got.latency_s < 2


# --- Any JSON at all ---

any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["name", "isActive", "priority", "config", "providers", "default"])
            | st.text(max_size=4),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


class Canned(Backend):
    """A backend whose answer is given, so that thousands of answers cost no socket."""

    def __init__(self, body):
        super().__init__("https://example.com")
        self._body = body

    async def _get(self, path):
        return self._body


@settings(max_examples=300, deadline=None)
@given(any_json)
def test_any_json_gives_a_list_or_backend_unavailable(body):
    """Nothing else is ever raised, by the list or by a check."""

    async def main():
        for told in (body, {"success": True, "data": body}, listing(body, default=body)):
            backend = Canned(told)
            try:
                got = await backend.list_providers()
            except BackendUnavailable:
                pass
            else:
                names = [p.name for p in got.providers]
                assert len(set(names)) == len(names)
                assert got.default is None or got.default in names
                assert sorted(p.priority for p in got.providers) == [
                    p.priority for p in got.providers
                ]
            assert (await backend.check_health("agora")).answer in Answer

    asyncio.run(main())


@settings(max_examples=200, deadline=None)
@given(st.lists(any_json, max_size=6), st.lists(any_json, max_size=6))
def test_a_good_entry_survives_any_garbage_around_it(before, after):
    """Active, with its priority and config, whatever stands beside it."""
    good = entry("agora", 5, config={"url": "https://example.com"})

    got = asyncio.run(Canned(listing(*before, good, *after)).list_providers())

    kept = [p for p in got.providers if p.name == "agora"]
    assert [Listed(name="agora", priority=5, config={"url": "https://example.com"})] == kept
