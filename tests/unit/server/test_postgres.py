"""hitless.server.postgres, against a real server"""

import asyncio
import contextlib
import signal
import subprocess
import sys
import textwrap

import asyncpg
import pytest

from hitless.server import postgres as module
from hitless.server.database import Sql, StoreUnavailable, open_database
from hitless.server.postgres import CONNECTIONS_MAX, Postgres
from hitless.server.schema import MIGRATIONS, Migration, migrate


pytest_plugins = ("postgres_server",)

pytestmark = pytest.mark.realtime

LIMIT_S = 30.0


def go(main):
    """Run a test against the clock, bounded."""

    async def bounded():
        async with asyncio.timeout(LIMIT_S):
            return await main

    return asyncio.run(bounded())


def put(name, value="1"):
    """Say that a setting is written."""
    return Sql(
        "INSERT INTO settings (name, value, changed_s) VALUES ($1, $2, now_s()) RETURNING name",
        (name, value),
    )


async def names(database):
    """Return the names of the settings that are there."""
    rows = await database.read("SELECT name FROM settings ORDER BY name")
    return [row["name"] for row in rows]


def told(error):
    """Return all that an error and its causes tell, the hidden ones too."""
    texts = []
    while error is not None:
        texts += [str(error), repr(error), repr(vars(error))]
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return " ".join(texts)


async def asked(database, limit_s):
    """Return what a read and a write are told, each within a limit [s]."""
    told = []
    for question in (database.read("SELECT 1"), database.write(put("a"), put("b"), wake="x")):
        async with asyncio.timeout(limit_s):
            try:
                told.append(await question)
            except StoreUnavailable as exc:
                told.append(str(exc))
    return told


def test_a_server_that_stops_is_named_and_found_again_when_it_starts(own_postgres_server):
    """
    Questions fail at once meanwhile; afterwards they are answered, and wake-ups are heard again.
    """

    async def main():
        database = await open_database(await own_postgres_server.new_database())
        await database.listening()
        topics = database.woken()
        reading = asyncio.create_task(database.read("SELECT pg_sleep(20)"))
        await asyncio.sleep(0.1)
        own_postgres_server.stop()
        with pytest.raises(StoreUnavailable):
            await reading
        meanwhile = await asked(database, 2.0) + await asked(database, 2.0)
        own_postgres_server.start()
        await database.write(put("c"))
        await database.listening()
        await database.write(put("d"), wake="back")
        topic = await anext(topics)
        found = await names(database)
        await database.aclose()
        return meanwhile, topic, found

    meanwhile, topic, found = go(main())
    assert all("PostgreSQL" in text for text in meanwhile), meanwhile
    assert topic == "back"
    assert found == ["c", "d"]


def test_a_server_that_hangs_costs_a_bounded_time(postgres, postgres_server):
    """
    It takes our bytes and never answers: not a connection, not a question, not a goodbye.
    """

    async def main():
        url = await postgres.empty_url()
        database = await Postgres.open(url, answer_s_max=0.3)
        await database.listening()
        with postgres_server.frozen():
            meanwhile = await asked(database, 2.0)
            with pytest.raises(StoreUnavailable, match="in time"):
                async with asyncio.timeout(2.0):
                    await Postgres.open(url, answer_s_max=0.3)
        afterwards = await asked(database, 3.0)
        with postgres_server.frozen():
            async with asyncio.timeout(2.0):
                await database.aclose()
        return meanwhile, afterwards

    meanwhile, afterwards = go(main())
    assert all("no answer in time" in text for text in meanwhile), meanwhile
    assert [type(rows) for rows in afterwards] == [list, list]


def test_a_lost_listening_connection_comes_back(postgres):
    """
    An administrator, a firewall or a restart ended it; wake-ups are heard again within moments.
    """

    async def main():
        async with postgres.database() as database:
            await database.listening()
            await database.read(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE query LIKE 'LISTEN%' AND datname = current_database()"
            )
            topics = database.woken()
            heard = asyncio.ensure_future(anext(topics))
            await database.write(put("a"), wake="back")  # lost, most likely
            for _ in range(100):
                await asyncio.wait({heard}, timeout=0.02)
                if heard.done():
                    break
                await database.write(Sql("SELECT 1"), wake="back")
            topic = await heard
            return topic

    assert go(main()) == "back"


def test_one_node_wakes_another(postgres):
    """
    That is what NOTIFY is for.
    """

    async def main():
        async with postgres.nodes(2) as (one, other):
            await other.listening()
            topics = other.woken()
            await one.write(put("a"), wake="streams")
            return await anext(topics)

    assert go(main()) == "streams"


@pytest.mark.parametrize(
    ("name", "password", "because"),
    [
        ("postgres", "swordfish", "user or password"),
        ("nowhere", None, "no such database"),
    ],
)
def test_a_wrong_url_says_what_is_wrong_and_not_the_password(
    postgres_server, name, password, because
):
    """
    Neither in the message nor in any cause of it.
    """
    secret = password or postgres_server.password
    url = postgres_server.url(name, password=secret)

    with pytest.raises(StoreUnavailable, match=because) as caught:
        go(open_database(url))
    assert secret not in told(caught.value)


def test_a_server_that_is_not_there_is_named_and_its_url_is_not(tmp_path):
    """
    Nobody listens: that is known at once.
    """
    url = f"postgresql://hitless:swordfish@/x?host={tmp_path}"

    with pytest.raises(StoreUnavailable, match="cannot be reached") as caught:
        go(open_database(url))
    assert "swordfish" not in told(caught.value)


def test_a_server_without_free_connections_is_named_so(postgres, postgres_server):
    """
    Other clients took them all.
    """

    async def main():
        url = await postgres.empty_url()
        taken = []
        with contextlib.suppress(asyncpg.TooManyConnectionsError):
            for _ in range(postgres_server.connections_max + 1):
                taken.append(await asyncpg.connect(url))  # noqa: PERF401 -- until it fails
        assert len(taken) <= postgres_server.connections_max
        with pytest.raises(StoreUnavailable, match="raise max_connections"):
            await open_database(url)
        for connection in taken:
            await connection.close()
        await (await open_database(url)).aclose()

    go(main())


def test_two_writes_that_wait_for_each_other_both_end(postgres):
    """
    PostgreSQL undoes one of them; it is done anew.
    """
    soon = Sql("SET LOCAL deadlock_timeout = '20ms'")
    pause = Sql("SELECT pg_sleep(0.1)")

    def touch(name):
        return Sql("UPDATE settings SET value = value || '+' WHERE name = $1", (name,))

    async def main():
        async with postgres.database() as database:
            await database.write(put("a", ""), put("b", ""))
            await asyncio.gather(
                database.write(soon, touch("a"), pause, touch("b")),
                database.write(soon, touch("b"), pause, touch("a")),
            )
            rows = await database.read("SELECT value FROM settings")
            return [row["value"] for row in rows]

    assert go(main()) == ["++", "++"]


def test_a_node_goes_on_when_another_one_changes_the_tables(postgres_server):
    """
    Rolling upgrade: what this node prepared no longer fits, so it prepares anew.
    """
    read = Sql("SELECT * FROM settings")

    async def main():
        database = await open_database(await postgres_server.new_database())
        await database.write(put("a"), read)
        await database.write(Sql("ALTER TABLE settings ADD COLUMN more TEXT"))
        written = await database.write(put("b"), read)
        await database.aclose()
        return written

    assert {row["more"] for row in go(main())[1]} == {None}


def test_a_node_frozen_within_a_transaction_frees_its_rows(postgres):
    """
    The server ends what a silent node began; the limit is set for every connection.
    """

    async def main():
        async with postgres.database() as database:
            limits = await database.read(
                "SELECT current_setting('idle_in_transaction_session_timeout') AS idle, "
                "current_setting('statement_timeout') AS statement"
            )
            return limits

    assert go(main()) == [{"idle": "5s", "statement": "3s"}]


def test_more_questions_than_connections_wait_their_turn(postgres):
    """
    The pool is small; who waits is answered all the same.
    """

    async def main():
        async with postgres.database() as database:
            await asyncio.gather(*(database.write(put(f"{n:03}")) for n in range(200)))
            connections = await database.read(
                "SELECT count(*) AS n FROM pg_stat_activity WHERE datname = current_database()"
            )
            found = await names(database)
            return connections[0]["n"], len(found)

    connections, found = go(main())
    assert connections <= CONNECTIONS_MAX + 1
    assert found == 200


# --- Changing the tables ---

SLOW_S = 60
"""How long the statement takes in which a node is killed [s]; far longer than a test may."""

NEW = "client_connection_check_interval"
CHECKED = f"SELECT current_setting('{NEW}', true) AS checked"

UPGRADING = """
    import asyncio, sys
    from hitless.server.postgres import Postgres
    from hitless.server.schema import MIGRATIONS, Migration, migrate

    url, pause = sys.argv[1:]
    STEP = Migration(what="killed", statements=("CREATE TABLE more (id BIGINT)", pause))

    async def main():
        await migrate(await Postgres.open(url), (*MIGRATIONS, STEP))

    asyncio.run(main())
"""


def test_a_node_killed_by_kill_9_while_it_changes_the_tables_holds_up_no_other(postgres, tmp_path):
    """
    The server notices within moments, undoes the step and gives the lock to the next node.
    """
    program = tmp_path / "upgrading.py"
    program.write_text(textwrap.dedent(UPGRADING))
    pause = f"SELECT pg_sleep({SLOW_S})"
    step = Migration(what="the next node's", statements=("CREATE TABLE other (id BIGINT)",))

    async def main():
        url = await postgres.new_url()
        next_node = await open_database(url)
        asked = "SELECT count(*) AS n FROM pg_stat_activity WHERE query = $1"
        command = [sys.executable, program, url, pause]
        with subprocess.Popen(command) as killed:  # noqa: ASYNC220 -- it returns at once
            try:
                while not (await next_node.read(asked, pause))[0]["n"]:
                    assert killed.poll() is None
                    await asyncio.sleep(0.01)
                waiting = asyncio.create_task(migrate(next_node, (*MIGRATIONS, step)))
                await asyncio.wait({waiting}, timeout=2 * module.GONE_S_MAX)
                assert not waiting.done(), "two nodes changed the tables at once"
            finally:
                killed.send_signal(signal.SIGKILL)
        done = await waiting  # bounded by `go`, far below SLOW_S
        tables = await next_node.read(
            "SELECT tablename FROM pg_tables WHERE tablename IN ('more', 'other')"
        )
        await next_node.aclose()
        return done, [row["tablename"] for row in tables]

    assert go(main()) == (1, ["other"])


def test_a_setting_that_an_older_server_does_not_know_is_left_out_quietly(postgres, monkeypatch):
    """
    Tables are changed all the same, in one transaction; other settings stay as they were.
    """

    async def main():
        async with postgres.database() as database:
            known = await database.upgrade(Sql(CHECKED))
            monkeypatch.setattr(module, "_UNTIL_GONE", module._UNTIL_GONE.replace(NEW, "new_one"))
            unknown = await database.upgrade(Sql(CHECKED))
            after = await database.read(CHECKED)
            return [rows[0]["checked"] for rows in (known[0], unknown[0], after)]

    assert go(main()) == ["1s", "0", "0"]
