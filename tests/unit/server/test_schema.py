"""hitless.server.schema"""

import asyncio
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace

import pytest

from hitless.errors import ConfigError
from hitless.server.database import Sql, StatementRefused, open_database
from hitless.server.postgres import Postgres
from hitless.server.schema import MIGRATIONS, Migration, migrate, version_of
from hitless.server.sqlite import Sqlite
from hitless.server.store import Store
from hitless.server.store_members import Member, Role, Seen
from hitless.server.store_nodes import Point, Step
from hitless.server.store_operators import KeyRow, ProviderRow
from hitless.server.store_rows import Audit
from hitless.server.store_streams import Claim, Start


pytest_plugins = ("postgres_server",)

LIMIT_S = 30.0

NEWEST = len(MIGRATIONS)

MORE = Migration(what="one more table", statements=("CREATE TABLE more (id {row_id}, b {bytes})",))

TABLES = (
    "audit", "fleet_moves", "keys", "leases", "members", "nodes", "outbox", "providers", "series",
    "settings", "streams",
)  # fmt: skip

MORE_YET = Migration(
    what="one more column everywhere",
    statements=tuple(f"ALTER TABLE {name} ADD COLUMN mood TEXT DEFAULT 'calm'" for name in TABLES),
)


def go(main):
    """Run a test against the clock, bounded."""

    async def bounded():
        async with asyncio.timeout(LIMIT_S):
            return await main

    return asyncio.run(bounded())


async def untouched(url):
    """Open a database without touching its tables."""
    if url.startswith("sqlite"):
        return await Sqlite.open(url.removeprefix("sqlite:///"))
    return await Postgres.open(url)


async def tables(database):
    """Return the names of the tables."""
    text = "SELECT tablename AS name FROM pg_tables WHERE schemaname = 'public'"
    if database.dialect == "sqlite":
        text = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
    return {row["name"] for row in await database.read(text)}


def test_a_new_database_gets_every_table_once(engine):
    """
    A second start finds nothing to do.
    """

    async def main():
        database = await untouched(await engine.new_url())
        steps = [await migrate(database), await migrate(database)]
        found = await tables(database)
        rows = await database.read("SELECT version, what FROM schema_version ORDER BY version")
        await database.aclose()
        return steps, found, [tuple(row.values()) for row in rows]

    steps, found, rows = go(main())
    assert steps == [NEWEST, 0]
    assert found == {*TABLES, "schema_version"}
    assert rows == [(n, step.what) for n, step in enumerate(MIGRATIONS, start=1)]


def test_an_older_database_is_upgraded_with_what_is_in_it(engine):
    """
    The data of version 1 stay, and the tables of version 2 work.
    """

    async def main():
        url = await engine.new_url()
        database = await untouched(url)
        await migrate(database, MIGRATIONS[:1])
        before = await tables(database)
        await database.write(
            Sql("INSERT INTO settings (name, value, changed_s) VALUES ('a', '1', now_s())"),
            Sql("INSERT INTO leases (name, node, epoch, until_s) VALUES ('fleet', 'n', 41, 0)"),
        )
        await database.aclose()
        database = await open_database(url)
        await database.write(
            Sql(
                "INSERT INTO series (step, provider, region, at_s, measure, value) "
                "VALUES ('minute', 'a', '', 0, 'starts', 1)"
            )
        )
        version = await version_of(database)
        kept = await database.read("SELECT value, epoch FROM settings, leases")
        await database.aclose()
        return before, version, kept

    before, version, kept = go(main())
    assert not {"series", "outbox"} & before
    assert version == NEWEST
    assert kept == [{"value": "1", "epoch": 41}]


def test_tables_that_an_older_program_cannot_work_on_are_refused_and_left_alone(engine):
    """
    An older program that wrote into what it does not know would damage it.
    """
    taken = replace(MORE, oldest=NEWEST + 1)

    async def main():
        url = await engine.new_url()
        database = await untouched(url)
        await migrate(database, (*MIGRATIONS, taken, MORE_YET))
        before = await tables(database)
        with pytest.raises(
            ConfigError, match=f"version {NEWEST + 2}, .* {NEWEST + 1}; this one knows {NEWEST}:"
        ):
            await open_database(url)
        after = await tables(database)
        await database.aclose()
        return before, after

    before, after = go(main())
    assert before == after


def test_an_older_program_works_on_newer_tables_that_have_only_more(engine):
    """
    Rolling upgrade: everything the store does, while columns come in the middle of it.
    """

    async def main():
        url = await engine.new_url()
        older = await open_database(url)
        answers = [await acted(Store(older), "before")]
        newer = await untouched(url)
        steps = [await migrate(newer, (*MIGRATIONS, MORE, MORE_YET))]
        answers.append(await acted(Store(older), "between"))
        again = await open_database(url)
        answers.append(await acted(Store(again), "after"))
        steps += [await migrate(again), await version_of(again)]
        for database in (older, newer, again):
            await database.aclose()
        return answers, steps

    answers, steps = go(main())
    assert steps == [2, 0, NEWEST + 2]
    assert answers[0] == answers[1] == answers[2]


async def acted(store, name):
    """Write and read each table, and return what that says but for names and times."""
    audit = Audit(who="ann", what="test", target=name, because="a test")
    provider = ProviderRow(name=name, adapter="whip")
    put = await store.providers.put(provider, audit)
    row = await store.streams.start(
        Start(stream=name, group=name, publisher="p", provider="x", node="n", because="b")
    )
    claimed = await store.streams.claim(
        Claim(stream=name, base_epoch=1, provider="y", by="server", because="b"), audit=audit
    )
    confirmed = await store.streams.confirm(name, 2, "y")
    member = await store.members.join(
        Member(stream=name, client="v", role=Role.VIEWER, node="n", adapters=("whip",))
    )
    await store.members.seen([Seen(name, "v", 2, "y")])
    await store.keys.insert(KeyRow(id=name, role="client", hash=b"h", salt=b"s", name=name))
    await store.settings.put(name, {"a": 1}, audit)
    await store.nodes.heartbeat(name, "http://n", "1")
    lease = await store.leases.take(name, "n", 10.0)
    move = await store.fleet_moves.insert("x", {"y": 1.0}, by="ann", because="b")
    at_s = 60.0
    await store.series.add(
        [Point(step=Step.MINUTE, provider=name, region="", at_s=at_s, values={"starts": 1.0})]
    )
    await store.outbox.put(name, "slack", {"text": "x"})
    letters = [letter.target for letter in await store.outbox.due(0.0) if letter.dedup_key == name]
    ended = await store.streams.end(name, publisher="p", by="p", because="over")
    changed = await store.streams.changed_since(0.0)
    return (
        put.adapter, row.epoch, claimed[0].provider, claimed[1], confirmed.state, member.adapters,
        [(m.epoch_seen, m.provider) for m in await store.members.of_stream(name)],
        (await store.keys.one(name)).hash, (await store.settings.all())[name], lease.epoch,
        [node.url for node in await store.nodes.alive(60.0) if node.name == name],
        [found.plan for found in await store.fleet_moves.open() if found.id == move.id],
        await store.fleet_moves.finish(move.id), letters,
        [dict(p.values) for p in await store.series.between(Step.MINUTE, 0, 99, provider=name)],
        [entry.what for entry in await store.audit.page(target=name)], ended.state,
        [c.streams for c in await store.streams.counts()],
        [one.id for one in changed.rows if one.id == name] == [name],
        await store.providers.delete(name, 1, audit),
    )  # fmt: skip


def test_two_nodes_that_start_at_once_upgrade_once(engine):
    """
    Each step is done by one of them; the other finds it done.
    """

    async def main():
        url = await engine.new_url()
        nodes = await asyncio.gather(*(untouched(url) for _ in range(3)))
        steps = await asyncio.gather(*(migrate(node) for node in nodes))
        rows = await nodes[0].read("SELECT version FROM schema_version ORDER BY version")
        for node in nodes:
            await node.aclose()
        return steps, [row["version"] for row in rows]

    steps, versions = go(main())
    assert sum(steps) == NEWEST
    assert versions == list(range(1, NEWEST + 1))


def test_a_step_that_fails_leaves_the_tables_as_they_were(engine):
    """
    Half a step would be no version at all.
    """
    bad = Migration(what="broken", statements=(*MORE.statements, "CREATE TABLE settings (x TEXT)"))

    async def main():
        database = await untouched(await engine.new_url())
        await migrate(database)
        with pytest.raises(StatementRefused):
            await migrate(database, (*MIGRATIONS, bad))
        version, found = await version_of(database), await tables(database)
        done = await migrate(database, (*MIGRATIONS, MORE))
        await database.aclose()
        return version, found, done

    version, found, done = go(main())
    assert version == NEWEST
    assert "more" not in found
    assert done == 1


def test_both_dialects_are_told_the_same_but_for_a_few_words(engine):
    """
    Numbers of rows count up, and bytes are bytes, whatever they are called.
    """

    async def main():
        database = await untouched(await engine.new_url())
        await migrate(database, (MORE,))
        said = Sql("INSERT INTO more (b) VALUES ($1) RETURNING *", (b"\0x",))
        rows = [(await database.write(said))[0][0] for _ in range(2)]
        await database.aclose()
        return rows

    assert go(main()) == [{"id": 1, "b": b"\0x"}, {"id": 2, "b": b"\0x"}]


KILLED = """
    import asyncio, sys, time
    from hitless.server.schema import MIGRATIONS, Migration, migrate
    from hitless.server.sqlite import Sqlite

    url, pause = sys.argv[1:]
    statements = [
        "CREATE TABLE more (id {row_id})",
        "INSERT INTO more (id) VALUES (1)",
        "UPDATE settings SET value = '2'",
    ]
    statements.insert(int(pause), "SELECT now_s()")
    STEP = Migration(what="killed", statements=tuple(statements))

    def said():
        # Now the step is under way: the transaction is open, and some of it is done.
        global asked
        asked += 1
        if asked == 2:  # the first is the time in the row of schema_version
            print("in the middle", flush=True)
            time.sleep(60)
        return 0.0

    async def main():
        global asked
        asked = 0
        database = await Sqlite.open(url.removeprefix("sqlite:///"), clock=said)
        await migrate(database, (*MIGRATIONS, STEP))

    asyncio.run(main())
"""


@pytest.mark.realtime
@pytest.mark.parametrize("pause", range(4))
def test_kill_9_in_the_middle_of_a_step_leaves_the_old_tables(tmp_path, pause):
    """
    Wherever in the step it happens; the next start does the step anew.
    """
    url = f"sqlite:///{tmp_path}/store.db"
    program = tmp_path / "upgrade.py"
    program.write_text(textwrap.dedent(KILLED))

    async def before():
        database = await open_database(url)
        await database.write(
            Sql("INSERT INTO settings (name, value, changed_s) VALUES ('a', '1', 0)")
        )
        await database.aclose()

    go(before())
    with subprocess.Popen(
        [sys.executable, program, url, str(pause)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "in the middle\n"
        process.send_signal(signal.SIGKILL)

    async def after():
        database = await open_database(url)
        version, found = await version_of(database), await tables(database)
        values = await database.read("SELECT value FROM settings")
        done = await migrate(database, (*MIGRATIONS, MORE))
        await database.aclose()
        return version, "more" in found, values, done

    assert go(after()) == (NEWEST, False, [{"value": "1"}], 1)


@pytest.mark.realtime
def test_a_node_killed_in_the_middle_of_a_step_holds_up_no_other(postgres):
    """
    PostgreSQL undoes the step and gives the lock to the node that waits for it.
    """
    slow = Migration(what="slow", statements=(*MORE.statements, "SELECT pg_sleep(60)"))

    async def main():
        url = await postgres.new_url()
        await (await open_database(url)).aclose()
        killed, other = await Postgres.open(url), await Postgres.open(url)
        slowly = asyncio.create_task(migrate(killed, (*MIGRATIONS, slow)))
        asked = "SELECT count(*) AS n FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)'"
        while not (await other.read(asked))[0]["n"]:  # noqa: ASYNC110 -- it tells nobody
            await asyncio.sleep(0.01)
        waiting = asyncio.create_task(migrate(other, (*MIGRATIONS, MORE)))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        await other.read(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE query = 'SELECT pg_sleep(60)'"
        )
        done = await waiting
        await asyncio.gather(slowly, return_exceptions=True)
        rows = await other.read("SELECT what FROM schema_version ORDER BY version DESC")
        await killed.aclose()
        await other.aclose()
        return done, rows[0]["what"]

    assert go(main()) == (1, MORE.what)
