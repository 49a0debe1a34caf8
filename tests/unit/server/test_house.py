"""What the clients of several nodes report is counted together: judging, summaries, store_nodes"""

import asyncio

import pytest

from hitless.core.evidence import Rules, Word
from hitless.core.observation import JoinEnded, MediaLost, ProbeEnded, Reached
from hitless.server import judging
from hitless.server.database import Sql
from hitless.server.judging import SUMMARY_S, Judge, Told
from hitless.server.store import Store
from hitless.server.summaries import TEXT_MAX, read


pytest_plugins = ("postgres_server",)

LIMIT_S = 60.0


def go(main):
    """Run a test against the clock, bounded."""

    async def bounded():
        async with asyncio.timeout(LIMIT_S):
            return await main

    return asyncio.run(bounded())


class House:
    """
    Nodes on one database, each with a judge and a clock of its own; nothing runs by itself.

    Args:
        engine: The database's.
        databases: A connection of each node.
        rules: How they judge.
    """

    def __init__(self, engine, databases, rules=None):
        self.engine, self.stores = engine, [Store(database) for database in databases]
        self.now_s = 1000.0
        # Each node's loop counts from another moment; only the database's clock is shared.
        self.judges = [
            Judge(rules or Rules(), lambda n=n: self.now_s + 777.0 * n, lambda _: None)
            for n in range(len(databases))
        ]
        for judge in self.judges:
            for name in ("a", "b"):
                judge.allow(name, True, "enabled by an operator")

    def failed(self, node, client, *, stream=None, network=None, ok=False):
        """Let a join of a client of one node end."""
        self.judges[node].observe(
            JoinEnded(
                provider="a",
                client=client,
                stream=stream or f"room of {client}",
                network=network or f"net of {client}",
                ok=ok,
                because="" if ok else "HTTP 500",
            )
        )

    async def passes(self, seconds):
        """Let time pass, for everybody."""
        self.now_s += seconds
        await self.engine.set_clock(self.stores[0].database, self.now_s)
        for judge in self.judges:
            judge.tick()

    async def beats(self, *nodes):
        """Let nodes write their heartbeats, or all of them; then all read what is there."""
        await self.passes(0.0)
        for number in nodes or range(len(self.judges)):
            summary = self.judges[number].summary()
            await self.stores[number].nodes.heartbeat(f"n{number}", "", "0.1", {}, summary)
        await self.read()

    async def read(self):
        """Let all nodes read what the others said."""
        for number, (store, judge) in enumerate(zip(self.stores, self.judges, strict=True)):
            found = await store.nodes.evidence(SUMMARY_S, besides=f"n{number}", chars_max=TEXT_MAX)
            judge.heard(Told(node=o.name, text=o.evidence, age_s=o.age_s) for o in found)

    @property
    def words(self):
        """Return what each node thinks of the provider."""
        return [judge.verdict("a").word for judge in self.judges]

    @property
    def reporters(self):
        """Return how many clients each node knows of that reported."""
        return [judge.verdict("a").reporters for judge in self.judges]


def played(engine, play, **rules):
    """Play something in a house of three nodes, and return what it returns."""

    async def main():
        async with engine.nodes(3) as databases:
            return await play(House(engine, databases, Rules(**rules)))

    return go(main())


def test_one_failing_client_at_each_of_three_nodes_condemns_together(engine):
    """
    No node saw enough by itself.
    """

    async def play(house):
        for node in range(3):
            house.failed(node, f"c{node}")
        alone = house.words
        await house.beats()
        return alone, house.words, house.reporters, house.judges[0].verdict("a").because

    alone, together, reporters, because = played(engine, play)
    assert Word.DOWN not in alone
    assert together == [Word.DOWN] * 3
    assert reporters == [3, 3, 3]
    assert because == "3 of 3 starts fail: HTTP 500"


@pytest.mark.parametrize(
    "same", [{"network": "one office"}, {"stream": "one room"}], ids=["network", "room"]
)
def test_one_network_or_one_room_over_three_nodes_condemns_nobody(engine, same):
    """
    However many nodes its clients are connected with.
    """

    async def play(house):
        for node in range(3):
            for client in range(4):
                house.failed(node, f"c{node}{client}", **same)
        await house.beats()
        return house.words, house.reporters

    words, reporters = played(engine, play)
    assert reporters == [12, 12, 12], "they were heard of"
    assert Word.DOWN not in words


def test_a_client_that_goes_from_node_to_node_has_one_vote(engine):
    """
    Its newest, wherever that was cast.
    """

    async def play(house):
        for node in range(3):
            house.failed(node, "traveller", stream=f"room {node}", network=f"net {node}")
            await house.passes(1.0)
        await house.beats()
        failing = house.words, house.reporters
        house.failed(0, "traveller", ok=True)
        house.failed(1, "c1")
        house.failed(2, "c2")
        await house.beats()
        return failing, house.words, house.reporters

    (words, one), after, three = played(engine, play)
    assert one == [1, 1, 1]
    assert Word.DOWN not in words
    assert three == [3, 3, 3]
    assert Word.DOWN not in after, "two of three fail, and three must"


def test_clients_elsewhere_for_whom_it_works_are_counted_too(engine):
    """
    A node whose few clients all fail does not condemn what works for the whole house.
    """

    async def play(house):
        for client in range(10):
            house.failed(0, f"good {client}", ok=True)
        await house.beats()
        for client in range(3):
            house.failed(1, f"bad {client}")
        return house.words[1], house.judges[1].verdict("a").because

    word, because = played(engine, play)
    assert word is Word.DEGRADED
    assert because == "starts fail for 3 of 13 clients: HTTP 500"


def test_media_that_flows_at_another_node_keeps_running_streams_where_they_are(engine):
    """
    Starts fail here; what runs there is proof that not everything is down.
    """

    async def play(house):
        house.judges[0].gather("a", Reached("viewer", "show", "home"))
        await house.beats()
        words = []
        for _ in range(2):
            for client in range(3):
                house.failed(1, f"bad {client}")
            words.append(house.words[1])
            await house.passes(11.0)  # nothing of it is fresh any more, and the ban is over
        return tuple(words)

    assert played(engine, play) == (Word.DEGRADED, Word.DOWN)


def test_a_node_that_fell_silent_does_not_count(engine):
    """
    By the database's clock, whether its row is read again or the store does not answer.
    """

    async def play(house):
        for node in range(2):
            house.failed(node, f"c{node}")
        await house.beats(0, 1)
        await house.passes(SUMMARY_S - 0.5)
        await house.read()
        late = house.reporters[2]
        await house.passes(1.0)
        unread = house.reporters[2]  # nobody had to read anything for that
        await house.read()
        house.failed(2, "c2")
        return late, unread, house.reporters[2], house.words

    late, unread, after, words = played(engine, play)
    assert (late, unread, after) == (2, 0, 1)
    assert Word.DOWN not in words


OLDER = """
INSERT INTO nodes (name, url, version, down, seen_s) VALUES ($1, '', '0.1', '{}', now_s())
ON CONFLICT (name) DO UPDATE SET seen_s = excluded.seen_s
"""
"""How a program of version 2 of the tables says that it lives."""


def test_a_node_that_went_back_to_an_older_program_does_not_count(engine):
    """
    That renews its heartbeat and leaves the evidence of the newer one beside it.
    """

    async def play(house):
        house.failed(0, "c0")
        await house.beats(0)
        before = house.reporters[1]
        await house.passes(SUMMARY_S + 1.0)
        await house.stores[0].database.write(Sql(OLDER, ("n0",)))
        alive = [node.name for node in await house.stores[1].nodes.alive(3.0)]
        await house.read()
        return before, alive, house.reporters[1]

    assert played(engine, play) == (1, ["n0"], 0)


@pytest.mark.parametrize(
    "text",
    ["{", "null", '{"form":1}', '{"form":2,"providers":{}}', "x" * (TEXT_MAX + 1),
     '{"form":1,"providers":{"a":[{"ballots":{"starts":["AAAA"]}}]}}',
     '{"form":1,"providers":{"a":[{"fresh":-5.0}]}}',
     '{"form":1,"providers":{"unknown":[{"fresh":1.0}]}}'],
)  # fmt: skip
def test_a_summary_without_sense_costs_nothing(engine, text):
    """
    The others are counted as if that node said nothing.
    """

    async def play(house):
        house.failed(0, "c0")
        await house.beats(0)
        await house.stores[1].nodes.heartbeat("n1", "", "0.1", {}, text)
        await house.read()
        cases = [sorted(judge.standing.cases) for judge in house.judges]
        return house.reporters[2], cases

    assert played(engine, play) == (1, [["a", "b"]] * 3)


def test_what_was_heard_stays_first_hand(engine):
    """
    A node tells what its own clients reported, never what it heard: nothing echoes.
    """

    async def play(house):
        house.failed(0, "c0")
        await house.beats()
        await house.beats()
        return [len(read(judge.summary(), 0.0)) for judge in house.judges]

    assert played(engine, play) == [1, 0, 0]


def test_reports_that_media_arrives_are_judged_together_and_soon():
    """
    In 50 ms, and before whatever else is observed; a thousand at once do not wait for that.
    """
    timers, told = [], []
    judge = Judge(
        Rules(), lambda: 5.0, told.append, later=lambda delay_s, act: timers.append((delay_s, act))
    )
    judge.allow("a", True, "")

    for number in range(3):
        judge.gather("a", Reached(f"c{number}", "show", f"n{number}"))
    assert (len(timers), judge.verdict("a").word) == (1, Word.UNKNOWN)
    delay_s, act = timers[0]
    assert delay_s <= 0.05
    act()
    assert (judge.verdict("a").word, judge.verdict("a").reporters) == (Word.HEALTHY, 3)

    judge.gather("a", Reached("c9", "show", "n9"))
    judge.observe(
        MediaLost(provider="a", client="c9", stream="show", network="n9", because="stopped")
    )
    (votes,) = [v for v in judge.standing.case("a").votes.values() if v]
    assert [one.ok for one in votes.values()].count(False) == 1, "the loss came after the report"

    for number in range(judging.GATHERED_MAX):
        judge.gather("b", Reached(f"c{number}", "show", f"n{number}"))
    assert judge.verdict("b").word is Word.HEALTHY


def test_a_house_where_somebody_fails_is_contested_until_that_is_old(engine):
    """
    Then heartbeats are quicker.
    """

    async def play(house):
        seen = [house.judges[1].is_contested]
        house.failed(0, "c0")
        seen.append(house.judges[1].is_contested)
        await house.beats()
        seen.append(house.judges[1].is_contested)
        await house.passes(61.0)
        return [*seen, house.judges[0].is_contested, house.judges[1].is_contested]

    assert played(engine, play) == [False, False, True, False, False]


def test_probes_are_each_nodes_own(engine):
    """
    They are first-hand, and say so by `down`; only what clients report is added up.
    """

    async def play(house):
        for _ in range(3):
            for provider, ok in (("b", True), ("a", False)):
                house.judges[0].observe(ProbeEnded(provider=provider, ok=ok, because="HTTP 503"))
        await house.beats()
        return house.words

    assert played(engine, play) == [Word.DOWN, Word.UNKNOWN, Word.UNKNOWN]
