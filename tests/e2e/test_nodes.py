"""Real nodes on a real database, and what goes wrong with both."""

import asyncio
import signal
import sqlite3
from contextlib import asynccontextmanager, contextmanager

import aiohttp
import asyncpg
import pytest
from e2e.serving import House, add_providers

from hitless.server.postgres import Postgres
from hitless.server.schema import MIGRATIONS, Migration, migrate
from hitless.server.sqlite import Sqlite


pytest_plugins = ("postgres_server",)

pytestmark = pytest.mark.realtime

LIMIT_S = 90.0
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


def go(main):
    """Run a test against the clock, bounded."""

    async def bounded():
        async with asyncio.timeout(LIMIT_S):
            return await main

    return asyncio.run(bounded())


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


async def filled(house, url, name="a"):
    """Return a node with two providers."""
    node = house.serve(url, name)
    await add_providers(node, "one", "two")
    return node


async def untouched(url):
    """Open a database without touching its tables."""
    if url.startswith("sqlite"):
        return await Sqlite.open(url.removeprefix("sqlite:///"))
    return await Postgres.open(url)


@asynccontextmanager
async def questions(url):
    """Lend a connection to ask PostgreSQL what a node cannot."""
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


DEAFENED = (
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
    "WHERE query LIKE 'LISTEN%' AND datname = current_database()"
)


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


# --- A database in trouble ---


def test_a_node_that_lost_its_database_takes_a_stream_back_beyond_the_signed_epoch(
    house, sqlite_url, tmp_path
):
    """
    The key that signs plans lies elsewhere; a token that somebody made up counts for nothing.
    """

    async def main():
        node = await filled(house, sqlite_url)
        await node.start("show")
        await node.move("show", "two")
        plan = (await node.start("show")).data
        node.kill()
        for file in tmp_path.glob("store.db*"):
            file.unlink()
        node = await filled(house, sqlite_url)
        back = (await node.start("show", plan=plan["token"])).data
        forged = (await node.start("other", plan=plan["token"][:-4] + "AAAA")).data
        joined = (await node.join("show", "viewer")).data
        return [one["epoch"] for one in (plan, back, joined, forged)]

    assert go(main()) == [2, 3, 3, 1]


def test_a_postgresql_that_hangs_leaves_lists_from_memory_and_is_caught_up_with(
    own_postgres_server, house
):
    """
    For some 6 s here, and for a minute in `test_store_away.py`.
    """

    async def main():
        url = await own_postgres_server.new_database()
        a = await filled(house, url, "a")
        await a.start("show")
        seen = {"stream": "show", "role": "publisher", "epoch": 1}
        async with a.connected("pub", seen) as ear:
            with own_postgres_server.frozen():
                said = await a.until_ready(False, 6.0)
                listed = await a.call("GET", "/streaming/providers")
                health = await a.call("GET", "/streaming/providers/one/health")
                refused = await a.start("other")
                alive = await a.call("GET", "/livez")
            await a.until_ready(True, 10.0)
            await a.move("show", "two")
            await ear.until("placement", 1.0, epoch=2, provider="two")
            started = (await a.start("other")).data
        return said, listed, health, refused, alive, started

    said, listed, health, refused, alive, started = go(main())
    assert said.startswith("degraded: PostgreSQL gave no answer in time")
    assert [one["name"] for one in listed.data["providers"]] == ["one", "two"]
    assert health.data["provider"] == "one"
    assert listed.took_s < 0.5
    assert health.took_s < 0.5
    assert (refused.status, refused.code) == (503, "store-lost")
    assert refused.took_s < 5.0
    assert alive.status == 200
    assert started["epoch"] == 1


def test_what_changed_while_a_node_could_not_reach_postgresql_is_told_afterwards(
    own_postgres_server, house
):
    """
    A restart of PostgreSQL: connections are lost, wake-ups too; rows are not.
    """

    async def main():
        url = await own_postgres_server.new_database()
        a = await filled(house, url, "a")
        await a.start("show")
        seen = {"stream": "show", "role": "publisher", "epoch": 1}
        async with a.connected("pub", seen) as ear:
            own_postgres_server.stop()
            said = await a.until_ready(False, 6.0)
            own_postgres_server.start()
            async with questions(url) as ask:  # as another node would, but nobody is woken
                await ask.execute(
                    "UPDATE streams SET epoch = 2, provider = 'two', changed_s = now_s()"
                )
            await ear.until("placement", 6.0, epoch=2, provider="two")
            await a.until_ready(True, 5.0)
        return said

    assert "PostgreSQL" in go(main())


def test_a_lost_wake_up_is_made_good_by_the_poll(postgres, house):
    """
    The listening connection is ended again and again; rows are the truth.
    """

    async def deafen(url):
        async with questions(url) as ask:
            while True:
                await ask.execute(DEAFENED)
                await asyncio.sleep(0.02)

    async def main():
        url = await postgres.new_url()
        a = await filled(house, url, "a")
        b = house.serve(url, "b")
        await a.start("show")
        deafening = asyncio.create_task(deafen(url))
        async with a.connected("pub", {"stream": "show", "role": "publisher", "epoch": 1}) as ear:
            for epoch, provider in ((2, "two"), (3, "one")):
                await b.move("show", provider)
                await ear.until("placement", 2.0, epoch=epoch, provider=provider)
        deafening.cancel()
        await asyncio.wait({deafening})

    go(main())


@contextmanager
def held(url):
    """Hold a SQLite file as a program that writes does."""
    connection = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        connection.close()


async def refused_and_recovered(node, trouble, because):
    """Return what of the streams that were acknowledged before, during and after is there."""
    acknowledged, refused = {}, []
    for n in range(20):
        acknowledged[f"before-{n}"] = (await node.start(f"before-{n}")).data["epoch"]
    with trouble:
        said, *answers = await asyncio.gather(
            node.until_ready(False, 10.0), *(node.start(f"during-{n}" * 20) for n in range(9))
        )
        for n, answer in enumerate(answers):
            if answer.status == 200:
                acknowledged[f"during-{n}" * 20] = answer.data["epoch"]
            else:
                refused.append(answer)
        listed = await node.call("GET", "/streaming/providers")
        read = await node.stream("before-0")
    await node.until_ready(True, 10.0)
    for n in range(20):
        acknowledged[f"after-{n}"] = (await node.start(f"after-{n}")).data["epoch"]
    assert said.startswith("degraded: ")
    assert because in said
    assert refused, "nothing was wrong"
    assert {(answer.status, answer.code) for answer in refused} == {(503, "store-lost")}
    assert all(because in answer.body["error"]["message"] for answer in refused), refused[0].body
    assert len(listed.data["providers"]) == 2
    assert read.data["epoch"] == 1, "readers are not in its way"
    return acknowledged


async def epochs(node):
    """Return all streams with their epochs."""
    page = (await node.call("GET", "/v1/streams?limit=1000")).data
    return {one["stream"]: one["epoch"] for one in page["streams"]}


@pytest.mark.parametrize("trouble", ["locked", "full"])
def test_a_file_that_cannot_be_written_is_told_and_loses_nothing(house, sqlite_url, trouble):
    """
    Another process holds it, or the disk is full: 503, and well again when that has passed.
    """

    async def main():
        node = await filled(house, sqlite_url)
        if trouble == "locked":
            wrong, because = held(sqlite_url), "locked by another process"
        else:
            wrong, because = node.full_disk(), "disk"
        acknowledged = await refused_and_recovered(node, wrong, because)
        node.kill()
        return acknowledged, await epochs(house.serve(sqlite_url))

    acknowledged, found = go(main())
    assert acknowledged.items() <= found.items()


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
