"""hitless.core.publishing and .viewing, told as transcripts: no list of providers, and why"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from unit.core.bench import Bench, a_list, opens

from hitless.core.events import ListUnavailable, Outcome


BEGINNINGS: tuple[Callable[[Bench], object], ...] = (
    lambda bench: bench.publish(),
    lambda bench: bench.watch(wait_s=60.0),
)

each_role = pytest.mark.parametrize("begin", BEGINNINGS, ids=["publisher", "viewer"])


@each_role
@pytest.mark.parametrize(
    ("told", "why"),
    [
        (ListUnavailable(because="HTTP 401", answered=True), "HTTP 401"),
        (ListUnavailable(because="Connection refused", answered=True), "Connection refused"),
        (None, "no answer within 1 s"),
    ],
    ids=["rejected", "refused", "silent"],
)
def test_an_end_without_a_list_says_why_there_is_none(begin, told, why):
    """
    As the backend gave it: a key that is rejected is no outage.
    """
    bench = Bench({"health_timeout_s": 1.0}, agora=opens())
    bench.listed, bench.unlisted = None, told
    begin(bench)
    bench.run(60.0)

    assert bench.ended is not None
    assert bench.ended.outcome is Outcome.ALL_FAILED
    assert bench.ended.because == f"no provider list to go by: {why}"


@each_role
def test_an_end_with_an_empty_list_says_that_it_is_empty(begin):
    """
    Nobody is disabled, and something was read.
    """
    bench = Bench(None, agora=opens())
    bench.listed = a_list()
    begin(bench)
    bench.run(60.0)

    assert bench.ended is not None
    assert bench.ended.because == "no provider list to go by: it is empty"
