"""hitless.core.placement"""

from collections import defaultdict

from unit.core.bench import a_list

from hitless.core import placement
from hitless.core.circuit import Breaker, Circuit
from hitless.core.health import Standing
from hitless.core.listing import Listed, ProviderList


def standing(**known):
    """Return what is known of each provider, with good marks for the rest."""
    return defaultdict(Standing, known)


BANNED = Standing(breaker=Breaker(circuit=Circuit.OPEN, banned_until_s=100.0))


def test_the_lowest_priority_number_comes_first_and_ties_keep_the_list_order():
    """
    As the backend wrote it.
    """
    listed = ProviderList(
        providers=(
            Listed(name="c", priority=2),
            Listed(name="b", priority=1),
            Listed(name="a", priority=1),
        )
    )

    assert placement.order(listed) == ("b", "a", "c")


def test_a_disabled_default_is_no_default():
    """
    The first active one is.
    """
    listed = a_list("a", "b", disabled=("a",), default="a")

    assert placement.order(listed) == ("b",)


def test_the_banned_come_last():
    """
    Better a doubtful provider than none.
    """
    known = standing(a=BANNED)

    assert placement.eligible(a_list("a", "b"), known, 0.0) == ("b", "a")


def test_who_asked_us_to_stay_away_is_left_alone_until_then():
    """
    Even when nobody else is left.
    """
    known = standing(a=Standing(not_before_s=10.0))

    assert placement.eligible(a_list("a"), known, 9.0) == ()
    assert placement.eligible(a_list("a"), known, 10.0) == ("a",)


def test_an_unchanged_order_is_no_change():
    """
    Whatever else the backend says differently.
    """
    before = a_list("a", "b")
    after = ProviderList(providers=(Listed(name="a", priority=5), Listed(name="b", priority=7)))

    assert placement.change(before, after) is None


def test_a_new_first_choice_is_preferred():
    """
    And a change further down prefers nobody.
    """
    first = placement.change(a_list("a", "b", "c"), a_list("b", "a", "c"))
    below = placement.change(a_list("a", "b", "c"), a_list("a", "c", "b"))

    assert first is not None
    assert first.preferred == "b"
    assert below is not None
    assert below.preferred is None


def test_who_is_no_longer_active_is_disabled():
    """
    Taken off the list or switched off: the same.
    """
    change = placement.change(a_list("a", "b", "c"), a_list("a", "b", disabled=("b",)))

    assert change is not None
    assert change.disabled == {"b", "c"}
    assert change.preferred is None
