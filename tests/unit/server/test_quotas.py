"""hitless.server.quotas: what providers may still be given, and what obeys it."""

import asyncio
from types import SimpleNamespace

import pytest
from virtual_time import run

from hitless.errors import ConfigError
from hitless.server import quotas as module
from hitless.server.providers import public_config
from hitless.server.quotas import Limits, Quotas, limits_of
from hitless.server.store_operators import ProviderRow


APP = "970CA35de60c44645bbae8a215061b33"


def row(name, adapter="whip", starts_per_s=None, **config):
    """Return a provider's row."""
    return ProviderRow(name=name, adapter=adapter, config=config, starts_per_s=starts_per_s)


# --- Which limits hold ---


@pytest.mark.parametrize(
    ("one", "limits"),
    [
        (row("a", "agora"), Limits(max_streams=50, starts_per_s=10.0, fault_domain="agora")),
        (row("z", "zegocloud"), Limits(starts_per_s=10.0, fault_domain="zegocloud")),
        (row("a", "agora", api_url="http://127.0.0.1:9"), Limits()),
        (row("w", "whip"), Limits()),
        (row("n", "not-installed"), Limits()),
        (
            row("a", "agora", starts_per_s=40.0, max_streams=10**9, fault_domain="eu"),
            Limits(max_streams=10**9, starts_per_s=40.0, fault_domain="eu"),
        ),
        (
            row("w", "whip", starts_per_s=7.0, max_streams=3),
            Limits(max_streams=3, starts_per_s=7.0),
        ),
    ],
)
def test_a_row_goes_before_its_adapter_s_record_and_a_stand_in_has_no_limit(one, limits):
    """
    The record is of the company's own service; an API somewhere else is not theirs.
    """
    assert limits_of(one) == limits


def test_an_outsider_s_adapter_that_cannot_be_imported_has_no_limit(monkeypatch):
    """
    It stops nobody else.
    """

    def broken(adapter):
        raise ConfigError if adapter == "away" else ImportError(adapter)

    monkeypatch.setattr(module, "record_of", broken)
    module._record.cache_clear()
    try:
        assert limits_of(row("a", "away")) == limits_of(row("b", "broken")) == Limits()
    finally:
        module._record.cache_clear()


def test_the_fault_domain_of_the_record_is_public_as_one_of_the_row_is():
    """
    Clients look for another one after a failure.
    """
    assert public_config(row("agora", "agora", app_id=APP))["fault_domain"] == "agora"
    assert "fault_domain" not in public_config(row("whip"))


# --- What is counted ---


class Store:
    """Streams by provider and node, and nodes; it counts how often it is asked."""

    def __init__(self, nodes=1, **carried):
        self.carried, self.nodes_alive, self.asked = carried, nodes, 0
        self.streams = self.nodes = self

    async def shares(self, provider):
        self.asked += 1
        counts = self.carried.get(provider, ())
        await asyncio.sleep(0.01)
        return [SimpleNamespace(streams=count) for count in counts]

    async def alive(self, within_s):
        self.asked += 1
        return [None] * self.nodes_alive


def known(*rows):
    """Return rows by name."""
    return {one.name: one for one in rows}


def up(name):
    """Nobody is down."""
    return False


A, B, C = row("a", max_streams=3), row("b"), row("c", starts_per_s=10.0)


def test_who_is_full_comes_last_and_it_is_told_why():
    """
    All nodes' streams count; one that is there already takes no more room.
    """

    async def main():
        quotas = Quotas(Store(a=(2, 1)))
        await quotas.read(known(A, B))
        return [
            quotas.ordered(("a", "b"), up),
            quotas.ordered(("b", "a"), up),
            quotas.ordered(("a", "b"), up, "a"),
            quotas.ordered(("a",), up),
        ]

    assert run(main()) == [
        (("b", "a"), "a is full: 3 of 3 streams"),
        (("b", "a"), ""),
        (("a", "b"), ""),
        (("a",), "nobody has room: a is full: 3 of 3 streams"),
    ]


def test_who_is_full_comes_even_after_who_is_down():
    """
    A refusal is certain, a doubt is not; who only accepts no more starts now is better than down.
    """

    async def main():
        quotas = Quotas(Store(a=(3,)))
        await quotas.read(known(A, B, C))
        for _ in range(30):
            quotas.placed("c")
        return quotas.ordered(("c", "b", "a"), lambda name: name == "b")

    after, because = run(main())
    assert after == ("c", "b", "a")
    assert because.startswith("nobody has room: c accepts 10 starts a second")


def test_what_this_node_places_counts_until_it_is_counted():
    """
    Also what is placed while the store is being asked.
    """

    async def main():
        store = Store(a=(1,))
        quotas, found = Quotas(store), []
        await quotas.read(known(A))
        quotas.placed("a")
        found.append(quotas.full("a"))
        quotas.placed("a")
        found.append(quotas.full("a"))
        await asyncio.sleep(1.0)
        reading = asyncio.create_task(quotas.read(known(A)))  # the two have ended meanwhile
        await asyncio.sleep(0.005)
        quotas.placed("a")
        await reading
        found.append(quotas.full("a"))
        quotas.placed("a")
        found.append(quotas.full("a"))
        return found

    full = "a is full: 3 of 3 streams"
    assert run(main()) == ["", full, "", full]


def test_it_is_counted_once_a_second_and_only_where_a_limit_is():
    """
    However often the rows are read again; a start asks for nothing.
    """

    async def main():
        store = Store(a=(1,))
        quotas, asked = Quotas(store), []
        for rows, wait_s in (
            (known(B), 5.0),
            (known(A, B), 0.1),
            (known(A, B), 1.0),
            (known(A, B), 0.0),
        ):
            await quotas.read(rows)
            quotas.ordered(("a", "b"), up)
            quotas.placed("a")
            asked.append(store.asked)
            await asyncio.sleep(wait_s)
        return asked

    assert run(main()) == [0, 1, 1, 2]


@pytest.mark.parametrize(("nodes", "least"), [(1, 80), (2, 40), (40, 2)])
def test_starts_are_never_more_in_a_second_than_a_node_s_part_of_what_is_accepted(nodes, least):
    """
    The rest goes to whoever comes next; after a pause only a fifth of a second's at once.
    """

    async def main():
        quotas = Quotas(Store(nodes=nodes))
        await quotas.read(known(B, C))
        at_s, loop = [], asyncio.get_running_loop()
        while loop.time() < 10.0:
            order, because = quotas.ordered(("c", "b"), up)
            assert (order[0] == "c") is not bool(because)
            if order[0] == "c":
                at_s.append(loop.time())
            quotas.placed(order[0])
            await asyncio.sleep(0.01)
        return at_s

    at_s = run(main())
    most = max(sum(begun <= one < begun + 1.0 for one in at_s) for begun in at_s)
    assert most <= max(1, 10 / nodes)
    assert least <= len(at_s) <= 100 / nodes + 1


def test_what_moves_by_itself_holds_starts_back_for_some_seconds_at_most():
    """
    A hundred publishers that claim a provider at once have started: the second is over soon.
    """

    async def main():
        quotas = Quotas(Store())
        await quotas.read(known(B, C))
        for _ in range(1000):
            quotas.placed("c")
        found = []
        for _ in range(2):
            found.append(quotas.ordered(("c", "b"), up)[0][0])
            await asyncio.sleep(1.5)
        return found

    assert run(main()) == ["b", "c"]
