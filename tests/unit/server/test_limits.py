"""hitless.server.limits"""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitless.server.limits import Connections, RateLimit, TooMany, client_of


# --- Rate ---


def test_a_burst_passes_and_what_follows_is_told_when_to_come_again():
    limit = RateLimit(rate_per_s=2.0, burst=3.0)

    assert [limit.take("a", 100.0) for _ in range(3)] == [0.0, 0.0, 0.0]
    assert limit.take("a", 100.0) == pytest.approx(0.5)
    assert limit.take("a", 100.25) == pytest.approx(0.25)


def test_who_waits_as_long_as_told_passes_and_not_much_sooner():
    limit = RateLimit(rate_per_s=3.0, burst=2.0)
    now = 86_400.1
    while not (wait_s := limit.take("a", now)):
        pass

    assert limit.take("a", now + wait_s * 0.99) > 0.0
    assert limit.take("a", now + wait_s) == 0.0


def test_a_refused_request_costs_nothing():
    limit = RateLimit(rate_per_s=1.0, burst=1.0)
    limit.take("a", 0.0)

    waits = [limit.take("a", 0.5) for _ in range(50)]

    assert waits == [0.5] * 50
    assert limit.take("a", 1.0) == 0.0


def test_each_has_a_bucket_of_its_own():
    limit = RateLimit(rate_per_s=1.0, burst=1.0)

    assert limit.take("a", 0.0) == 0.0
    assert limit.take("b", 0.0) == 0.0
    assert limit.take("a", 0.0) > 0.0


def test_what_costs_more_takes_more():
    limit = RateLimit(rate_per_s=1.0, burst=5.0)

    assert limit.take("a", 0.0, tokens=4.0) == 0.0
    assert limit.take("a", 0.0, tokens=2.0) == pytest.approx(1.0)
    assert limit.take("a", 0.0, tokens=1.0) == 0.0


def test_a_bucket_never_holds_more_than_a_burst():
    limit = RateLimit(rate_per_s=10.0, burst=2.0)
    limit.take("a", 0.0)

    taken = [limit.take("a", 1_000.0) == 0.0 for _ in range(5)]

    assert taken == [True, True, False, False, False]


@given(
    rate_per_s=st.floats(0.01, 1_000.0),
    burst=st.floats(1.0, 100.0),
    begun_s=st.floats(0.0, 1e7),
    steps=st.lists(st.tuples(st.floats(0.0, 5.0), st.floats(0.1, 1.0)), max_size=60),
)
def test_nobody_ever_gets_more_than_burst_and_rate_allow(rate_per_s, burst, begun_s, steps):
    """
    In any window: at most a burst, and what came back in the meantime.
    """
    limit = RateLimit(rate_per_s=rate_per_s, burst=burst)
    now, granted = begun_s, []
    for pause_s, tokens in steps:
        now += pause_s
        wait_s = limit.take("a", now, tokens)
        assert 0.0 <= wait_s <= tokens / rate_per_s + 1e-6
        if wait_s == 0.0:
            granted.append((now, tokens))

    for first, (from_s, _) in enumerate(granted):
        taken = 0.0
        for at_s, tokens in granted[first:]:
            taken += tokens
            assert taken <= burst + (at_s - from_s) * rate_per_s + 2e-9 * (1 + now) * rate_per_s


def test_memory_is_bounded_whoever_comes():
    limit = RateLimit(rate_per_s=0.001, burst=5.0, buckets_max=10)

    for number in range(1_000):
        limit.take(f"caller {number}", 0.0)

    assert len(limit) == 10


def test_the_least_recently_used_bucket_is_forgotten_first():
    limit = RateLimit(rate_per_s=0.001, burst=2.0, buckets_max=2)
    for who in ("a", "b", "a", "c"):  # "b" is forgotten
        assert limit.take(who, 0.0) == 0.0

    assert limit.take("a", 0.0) > 0.0
    assert len(limit) == 2


def test_who_insists_while_refused_is_not_forgotten_for_it():
    limit = RateLimit(rate_per_s=0.001, burst=1.0, buckets_max=2)
    limit.take("a", 0.0)
    limit.take("b", 0.0)
    assert limit.take("a", 0.0) > 0.0

    limit.take("c", 0.0)

    assert limit.take("a", 0.0) > 0.0


def test_buckets_that_are_full_again_are_forgotten():
    limit = RateLimit(rate_per_s=1.0, burst=1.0)
    for number in range(100):
        limit.take(f"caller {number}", 0.0)

    for number in range(100):
        limit.take(f"later {number}", 10.0 + 2.0 * number)

    assert len(limit) <= 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"rate_per_s": 0.0},
        {"rate_per_s": float("inf")},
        {"rate_per_s": float("nan")},
        {"burst": 0.5},
        {"burst": float("nan")},
        {"buckets_max": 0},
    ],
)
def test_limits_that_mean_nothing_are_refused(wrong):
    with pytest.raises(ValueError, match="are needed"):
        RateLimit(**{"rate_per_s": 1.0, "burst": 1.0, **wrong})


@pytest.mark.parametrize("tokens", [0.0, -1.0, 5.1, float("nan")])
def test_what_no_bucket_could_ever_pay_is_a_mistake(tokens):
    with pytest.raises(ValueError, match="at most 5"):
        RateLimit(rate_per_s=1.0, burst=5.0).take("a", 0.0, tokens)


# --- Whose address ---


@pytest.mark.parametrize(
    ("address", "who"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:aaaa::1", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("/run/hitless.sock", "/run/hitless.sock"),
        ("x" * 10_000, "x" * 64),
    ],
)
def test_an_address_stands_for_one_caller(address, who):
    assert client_of(address) == who


@given(st.one_of(st.text(), st.ip_addresses().map(str)))
def test_any_address_stands_for_somebody_in_few_characters(address):
    assert len(client_of(address)) <= 64


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_one_network_of_ipv6_is_one_caller(one, other):
    addresses = (ipaddress.IPv6Address((0x2A00 << 112) + end) for end in (one, other))

    assert len({client_of(str(address)) for address in addresses}) == 1


# --- Connections ---


def test_one_caller_has_only_so_many_connections_while_others_come():
    connections = Connections(each_max=2, all_max=10)
    places = [connections.admit("a") for _ in range(2)]

    with pytest.raises(TooMany, match="2 connections of one caller") as caught:
        connections.admit("a")
    assert "'a'" not in str(caught.value)
    connections.admit("b")
    places[0].release()
    connections.admit("a")

    assert len(connections) == 3


def test_there_are_only_so_many_connections_in_all():
    connections = Connections(each_max=2, all_max=3)
    for who in ("a", "b", "c"):
        connections.admit(who)

    with pytest.raises(TooMany, match="3 connections are open already"):
        connections.admit("d")
    assert len(connections) == 3


def test_a_refused_connection_takes_no_place():
    connections = Connections(each_max=1, all_max=1)
    place = connections.admit("a")
    for who in ("a", "b"):
        with pytest.raises(TooMany):
            connections.admit(who)

    place.release()

    connections.admit("b")
    assert len(connections) == 1


def test_a_place_is_given_back_once_however_often_it_is_released():
    connections = Connections(each_max=2, all_max=2)
    place, _ = connections.admit("a"), connections.admit("a")

    place.release()
    place.release()

    assert len(connections) == 1


def test_a_place_is_given_back_when_its_block_fails():
    connections = Connections(each_max=1, all_max=1)

    with pytest.raises(OSError, match="lost"), connections.admit("a"):
        raise OSError("lost")

    assert len(connections) == 0


def test_whoever_left_takes_no_memory():
    connections = Connections(each_max=1, all_max=1)
    for number in range(100):
        connections.admit(f"caller {number}").release()

    assert connections._open == {}


@pytest.mark.parametrize("limits", [(0, 1), (1, 0)])
def test_a_limit_that_lets_nobody_in_is_refused(limits):
    with pytest.raises(ValueError, match="at least 1"):
        Connections(each_max=limits[0], all_max=limits[1])
