"""hitless.server.sqlite"""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from virtual_time import run as run_in_virtual_time

from hitless.server import sqlite as sqlite_module
from hitless.server.database import Sql, StoreUnavailable, open_database
from hitless.server.schema import migrate
from hitless.server.sqlite import Sqlite


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


@pytest.fixture
def path(tmp_path):
    """Return where the file may lie."""
    return str(tmp_path / "store.db")


async def opened(path, **options):
    """Open a SQLite file with the newest tables."""
    database = await Sqlite.open(path, **options)
    await migrate(database)
    return database


def test_two_hundred_writers_share_a_few_commits(path, monkeypatch):
    """
    One fsync serves many: that is what lets a disk take a thousand starts a second.
    """
    said = []
    connect = sqlite_module._connect

    def traced(*args):
        connection = connect(*args)
        connection.set_trace_callback(said.append)
        return connection

    monkeypatch.setattr(sqlite_module, "_connect", traced)

    async def main():
        database = await opened(path)
        said.clear()
        await asyncio.gather(*(database.write(put(f"{n:03}")) for n in range(200)))
        commits = said.count("COMMIT")
        found = await names(database)
        await database.aclose()
        return commits, found

    commits, found = go(main())
    assert found == [f"{n:03}" for n in range(200)]
    assert commits == 2, "the first alone, and all that waited for it together"


def test_a_file_is_durable_and_private(path):
    """
    Committed means on the disk; sealed secrets and hashes are for our user only.
    """

    async def main():
        database = await opened(path)
        synchronous = await database.write(Sql("PRAGMA synchronous"))
        journal = await database.read("PRAGMA journal_mode")
        await database.aclose()
        return (
            synchronous,
            journal,
            os.stat(path).st_mode & 0o777,
            os.listdir(os.path.dirname(path)),
        )

    synchronous, journal, mode, files = go(main())
    assert synchronous == [[{"synchronous": 2}]]
    assert journal == [{"journal_mode": "wal"}]
    assert mode == 0o600
    assert files == ["store.db"]


def test_a_file_that_another_process_holds_is_named_so(path):
    """
    After the limit, and only until the other one lets go.
    """

    async def main():
        database = await opened(path, locked_s_max=0.05)
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="locked by another process"):
            await database.write(put("a"))
        assert await names(database) == []  # readers are not in its way
        other.execute("COMMIT")
        other.close()
        await database.write(put("b"))
        found = await names(database)
        await database.aclose()
        return found

    assert go(main()) == ["b"]


def test_who_makes_a_file_at_the_same_moment_is_waited_for(path):
    """
    SQLite refuses to change the mode of a file that is being written, and does not wait.
    """

    async def main():
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        opening = asyncio.create_task(Sqlite.open(path))
        await asyncio.sleep(0.1)
        other.execute("COMMIT")
        other.close()
        await (await opening).aclose()
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("PRAGMA journal_mode = DELETE")
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="locked by another process"):
            await Sqlite.open(path, locked_s_max=0.05)
        other.close()

    go(main())


def test_closing_is_bounded_while_another_process_holds_the_file(path):
    """
    Thousands of writes would wait for the lock; the first one that fails speaks for all.
    """

    async def main():
        database = await opened(path, locked_s_max=0.1)
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        writes = [
            asyncio.create_task(database.write(put(f"{n}")))
            for n in range(sqlite_module.WRITES_MAX)
        ]
        await asyncio.sleep(0)
        began_s = asyncio.get_running_loop().time()
        await database.aclose()
        took_s = asyncio.get_running_loop().time() - began_s
        results = await asyncio.gather(*writes, return_exceptions=True)
        other.close()
        return took_s, {type(result) for result in results}

    took_s, kinds = go(main())
    assert took_s < 1.0, "sixteen groups would wait sixteen times 0.1 s"
    assert kinds == {StoreUnavailable}


def test_more_writes_than_may_wait_are_refused_at_once(path):
    """
    A queue that only grows would answer nobody.
    """

    async def main():
        database = await opened(path, writes_max=10)
        results = await asyncio.gather(
            *(database.write(put(f"{n:02}")) for n in range(20)), return_exceptions=True
        )
        found = await names(database)
        await database.aclose()
        return results, found

    results, found = go(main())
    assert [type(result) for result in results] == [list] * 11 + [StoreUnavailable] * 9
    assert "10 writes wait" in str(results[-1])
    assert found == [f"{n:02}" for n in range(11)]


def test_more_reads_than_may_wait_are_refused_at_once(path, monkeypatch):
    """
    The same holds for reads.
    """
    monkeypatch.setattr(sqlite_module, "READS_MAX", 10)

    async def main():
        database = await opened(path)
        results = await asyncio.gather(
            *(database.read("SELECT 1") for n in range(12)), return_exceptions=True
        )
        await database.aclose()
        return results

    kinds = [type(result) for result in go(main())]
    assert kinds == [list] * 10 + [StoreUnavailable] * 2


def test_a_full_disk_is_named_and_passes(path):
    """
    Nothing of the write is kept, and the next one works once there is space.
    """

    async def main():
        database = await opened(path)
        pages = await database.read("PRAGMA page_count")
        await database.write(Sql(f"PRAGMA max_page_count = {pages[0]['page_count'] + 1}"))
        with pytest.raises(StoreUnavailable, match="disk is full"):
            await database.write(put("a"), put("b", "x" * 100_000))
        before = await names(database)
        await database.write(Sql("PRAGMA max_page_count = 100000"))
        await database.write(put("b", "x" * 100_000))
        after = await names(database)
        await database.aclose()
        return before, after

    assert go(main()) == ([], ["b"])


def test_a_read_only_file_is_named_so(path):
    """
    Somebody mounted it so, or changed its owner.
    """

    async def main():
        database = await opened(path)
        await database.write(Sql("PRAGMA query_only = ON"))
        with pytest.raises(StoreUnavailable, match="read-only: let this user write"):
            await database.write(put("a"))
        await database.aclose()

    go(main())


@pytest.mark.parametrize(
    ("content", "because"),
    [
        (None, "cannot be created"),
        (b"this is no database, but it is long enough to look like one" * 100, "no SQLite"),
    ],
)
def test_a_file_that_cannot_be_opened_says_what_to_do(tmp_path, content, because):
    """
    No folder, or something else of that name.
    """
    path = tmp_path / "folder" / "store.db"
    if content:
        path.parent.mkdir()
        path.write_bytes(content)

    with pytest.raises(StoreUnavailable, match=because):
        go(open_database(f"sqlite:///{path}"))


def test_a_damaged_file_is_named_so(path):
    """
    Pages in the middle were overwritten.
    """

    async def fill():
        database = await opened(path)
        await database.write(*(put(f"{n}", "x" * 1000) for n in range(200)))
        await database.aclose()

    go(fill())
    content = Path(path).read_bytes()
    Path(path).write_bytes(content[:4096] + b"\xa5" * (len(content) - 4096))

    with pytest.raises(StoreUnavailable, match="restore"):
        go(open_database(path))


def test_virtual_time_stands_still_while_the_disk_works(path):
    """
    Tests of whatever uses the store may sleep for hours.
    """

    async def main():
        database = await opened(path)
        await asyncio.gather(*(database.write(put(f"{n}")) for n in range(20)))
        await asyncio.sleep(3600)
        found = await names(database)
        await database.aclose()
        return len(found), asyncio.get_running_loop().time()

    assert run_in_virtual_time(main()) == (20, 3600)


@pytest.mark.realtime
def test_kill_9_loses_nothing_that_was_acknowledged(path, tmp_path):
    """
    What the process said it had written is there, and nothing is there by half.
    """
    program = tmp_path / "writer.py"
    program.write_text(
        textwrap.dedent("""
            import asyncio, sys
            from hitless.server.database import Sql, open_database

            SAID = "INSERT INTO settings (name, value, changed_s) VALUES ($1, '1', now_s())"

            async def main():
                database = await open_database(sys.argv[1])
                async def write(who):
                    for n in range(1_000_000):
                        name = f"{who}-{n}"
                        await database.write(Sql(SAID, (name + "a",)), Sql(SAID, (name + "b",)))
                        print(name, flush=True)
                await asyncio.gather(*(write(who) for who in range(20)))

            asyncio.run(main())
        """)
    )
    with subprocess.Popen(
        [sys.executable, program, path], stdout=subprocess.PIPE, text=True
    ) as process:
        acknowledged = {process.stdout.readline().strip() for _ in range(300)}
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read()
    acknowledged |= {line for line in rest.split("\n")[:-1] if line}

    async def found():
        database = await open_database(path)
        try:
            return set(await names(database))
        finally:
            await database.aclose()

    names_found = go(found())
    assert len(acknowledged) >= 300
    assert {f"{name}{half}" for name in acknowledged for half in "ab"} <= names_found
    assert {name[:-1] + "a" for name in names_found} | {
        name[:-1] + "b" for name in names_found
    } == names_found
