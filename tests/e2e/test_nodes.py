"""Real nodes on a real database: killed, asleep, and of two versions."""

import asyncio
import signal

import aiohttp
import pytest
from e2e.nodes import filled, go, questions
from e2e.serving import House

from hitless.server.postgres import Postgres
from hitless.server.schema import MIGRATIONS, Migration, migrate
from hitless.server.sqlite import Sqlite


pytest_plugins = ("postgres_server",)

pytestmark = pytest.mark.realtime

NEWEST = len(MIGRATIONS)

LEASE_S_MAX = 14.0
"""A lease of 10 s, and one heartbeat of whoever waits for it [s]."""

NEXT = Migration(
    what="a test's next version",
    statements=(
        "ALTER TABLE streams ADD COLUMN mood TEXT NOT NULL DEFAULT 'calm'",
        "ALTER TABLE members ADD COLUMN mood TEXT",
        "ALTER TABLE providers ADD COLUMN mood TEXT",
        "ALTER TABLE keys ADD COLUMN mood TEXT",
        "ALTER TABLE nodes ADD COLUMN mood TEXT",
        "ALTER TABLE leases ADD COLUMN mood TEXT",
        "ALTER TABLE audit ADD COLUMN mood TEXT",
        "CREATE TABLE moods (id {row_id}, b {bytes})",
        "CREATE INDEX streams_mood ON streams (mood)",
    ),
)
"""What a next version of the program would bring: every table has one more column."""


@pytest.fixture
def house(tmp_path):
    """Return where the nodes of this test run."""
    house = House(tmp_path)
    yield house
    house.close()


@pytest.fixture
def sqlite_url(tmp_path):
    """Return where a file may lie."""
    return f"sqlite:///{tmp_path}/store.db"


async def untouched(url):
    """Open a database without touching its tables."""
    if url.startswith("sqlite"):
        return await Sqlite.open(url.removeprefix("sqlite:///"))
    return await Postgres.open(url)


# --- Killed ---


def test_kill_9_of_a_node_loses_no_start_that_it_acknowledged(engine, house):
    """
    Each stream whose plan was handed out is there at its epoch when a node serves again.
    """
    acknowledged = {}

    async def starting(node, who):
        for n in range(1_000_000):
            try:
                answer = await node.start(f"s{who}-{n}", client=f"c{who}")
            except aiohttp.ClientError:
                return
            acknowledged[f"s{who}-{n}"] = answer.data["epoch"]

    async def killing(node):
        while len(acknowledged) < 200:  # noqa: ASYNC110 -- nobody tells
            await asyncio.sleep(0.01)
        node.kill()

    async def main():
        url = await engine.new_url()
        node = await filled(house, url)
        await asyncio.gather(killing(node), *(starting(node, who) for who in range(12)))
        node = house.serve(url)
        found = {}
        following = ""
        while True:
            query = f"?limit=1000&after={following}" if following else "?limit=1000"
            page = (await node.call("GET", f"/v1/streams{query}")).data
            found |= {one["stream"]: one["epoch"] for one in page["streams"]}
            following = page["next"]
            if not following:
                return found

    found = go(main())
    assert len(acknowledged) >= 200
    assert acknowledged.items() <= found.items()


def test_kill_9_in_the_middle_of_moves_leaves_each_stream_at_one_placement(engine, house):
    """
    A move that was acknowledged holds; one that was not was done whole or not at all.
    """
    streams = [f"s{n}" for n in range(30)]
    moved = {}

    async def moving(node, stream):
        for epoch in range(2, 1_000):
            provider = ("one", "two")[(epoch + 1) % 2]
            try:
                answer = await node.move(stream, provider)
            except aiohttp.ClientError:
                return
            assert answer.data["moved"] == 1
            moved[stream] = epoch, provider

    async def killing(node):
        while len(moved) < len(streams):  # noqa: ASYNC110 -- nobody tells
            await asyncio.sleep(0.01)
        node.kill()

    async def main():
        url = await engine.new_url()
        node = await filled(house, url)
        await asyncio.gather(*(node.start(stream) for stream in streams))
        await asyncio.gather(killing(node), *(moving(node, stream) for stream in streams))
        node = house.serve(url)
        return [(await node.stream(stream)).data for stream in streams]

    for row in go(main()):
        epoch, provider = moved[row["stream"]]
        assert row["epoch"] in (epoch, epoch + 1)
        assert row["provider"] == ("one", "two")[(row["epoch"] + 1) % 2]
        assert row["epoch"] > epoch or row["provider"] == provider


def test_a_client_hears_within_a_second_of_a_move_made_at_another_node(postgres, house):
    """
    The other node is woken; nobody waits for its poll.
    """

    async def main():
        url = await postgres.new_url()
        a = await filled(house, url, "a")
        b = house.serve(url, "b")
        await a.start("show")
        async with a.connected("pub", {"stream": "show", "role": "publisher", "epoch": 1}) as ear:
            for epoch, provider in ((2, "two"), (3, "one"), (4, "two")):
                await b.move("show", provider)
                await ear.until("placement", 1.0, epoch=epoch, provider=provider)

    go(main())


def test_a_client_whose_node_is_killed_goes_on_at_another_one_with_its_plan(postgres, house):
    """
    The same epoch, the same place; and what happens afterwards it hears there.
    """

    async def main():
        url = await postgres.new_url()
        a = await filled(house, url, "a")
        b = house.serve(url, "b")
        plan = (await a.start("show")).data
        seen = {"stream": "show", "role": "publisher", "epoch": 1, "provider": "one"}
        async with a.connected("pub", seen) as ear:
            await a.move("show", "two")
            await ear.until("placement", 1.0, epoch=2)
            a.kill()
            await ear.until_cut(2.0)
        async with b.connected("pub", seen) as ear:  # it missed nothing, and says what it knows
            await ear.until("placement", 1.0, epoch=2, provider="two")
            again = (await b.start("show", plan=plan["token"])).data
            await ear.say(type="claim", stream="show", base=2, provider="one", because="a test")
            await ear.until("placement", 1.0, epoch=3, provider="one", is_own=True)
            await b.move("show", "two")
            await ear.until("placement", 1.0, epoch=4, provider="two")
        return again

    again = go(main())
    assert (again["epoch"], again["provider"]) == (2, "two")


def test_when_the_leader_is_killed_another_node_leads_within_the_lease(postgres, house):
    """
    No stream depends on the dead node meanwhile: the other one moves what it started.
    """

    async def main():
        url = await postgres.new_url()
        a = await filled(house, url, "a")
        await a.until_logged("a took the lease", limit_s=5.0)
        b = house.serve(url, "b")
        await a.start("show")
        a.kill()
        at_once = (await b.move("show", "two")).data
        took_s = await b.until_logged("b took the lease", limit_s=LEASE_S_MAX)
        return at_once, took_s

    at_once, took_s = go(main())
    assert at_once["moved"] == 1
    assert took_s > 3.0, "a lease that another one holds was taken"


def test_a_leader_that_slept_finds_its_lease_taken(postgres, house):
    """
    Two think that they lead for a moment; what the sleeper writes by its lease is refused
    (`test_what_a_holder_does_after_its_lease_was_taken_is_refused`), and it learns of it.
    """

    async def main():
        url = await postgres.new_url()
        a = await filled(house, url, "a")
        await a.until_logged("a took the lease", limit_s=5.0)
        b = house.serve(url, "b")
        a.send(signal.SIGSTOP)
        await b.until_logged("b took the lease", limit_s=LEASE_S_MAX)
        a.send(signal.SIGCONT)
        await a.until_logged("a lost the lease", limit_s=6.0)
        async with questions(url) as ask:
            return await ask.fetch("SELECT node, epoch FROM leases WHERE name = 'fleet'")

    assert [tuple(row) for row in go(main())] == [("b", 2)]


# --- Versions ---


def test_nodes_that_start_at_the_same_moment_make_the_tables_once(engine, house):
    """
    All of them serve then, whoever made the tables.
    """
    names = ("a", "b", "c")

    async def main():
        url = await engine.new_url()
        begun = [(house.begin(url, name), name) for name in names]
        nodes = [house.ready(process, name) for process, name in begun]
        for node in nodes:
            await node.until_ready(True, 5.0)
        database = await untouched(url)
        rows = await database.read("SELECT version FROM schema_version ORDER BY version")
        await database.aclose()
        return [row["version"] for row in rows]

    assert go(main()) == list(range(1, NEWEST + 1))


def test_an_older_node_goes_on_when_a_newer_one_has_changed_the_tables(engine, house):
    """
    Rolling upgrade: it reads and writes beside the newer one, and may even be started again.
    """

    async def main():
        url = await engine.new_url()
        node = await filled(house, url)
        await node.start("before")
        seen = {"stream": "before", "role": "publisher", "epoch": 1}
        async with node.connected("pub", seen) as ear:
            newer = await untouched(url)
            assert await migrate(newer, (*MIGRATIONS, NEXT)) == 1
            await newer.aclose()
            told = await acted(node, "between", ear)
            await node.until_ready(True, 5.0)
        node.close()
        again = house.serve(url, "again")
        async with again.connected("pub", seen) as ear:
            await ear.until("placement", 2.0, epoch=2)
            told += await acted(again, "after", ear)
        return told, [line for n in (node, again) for line in n.lines() if "failed" in line]

    async def acted(node, stream, ear):
        answers = [
            await node.start(stream, client=f"pub-{stream}"),
            await node.join(stream, f"viewer-{stream}"),
            await node.move("before", "two"),
            await node.call("POST", "/v1/admin/providers/one", {"priority": 3}),
            await node.call("POST", "/v1/admin/keys", {"role": "client", "name": "x"}),
            await node.call("GET", "/v1/admin/audit"),
            await node.stream(stream),
            await node.call("PATCH", "/v1/admin/settings", {"is_frozen": False}),
        ]
        await ear.until("placement", 2.0) if stream == "between" else None
        return answers

    answers, failed = go(main())
    assert [answer.status for answer in answers if answer.status not in (200, 201)] == []
    assert failed == []
