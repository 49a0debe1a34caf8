"""Real nodes when their database is in trouble."""

import asyncio
import sqlite3
from contextlib import contextmanager

import pytest
from e2e.nodes import filled, go, questions
from e2e.serving import House


pytest_plugins = ("postgres_server",)

pytestmark = pytest.mark.realtime


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


DEAFENED = (
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
    "WHERE query LIKE 'LISTEN%' AND datname = current_database()"
)


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
