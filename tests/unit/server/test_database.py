"""hitless.server.database: one behaviour, two engines"""

import asyncio

import pytest

from hitless.errors import ConfigError
from hitless.server import database as database_module
from hitless.server.database import Sql, StatementRefused, StoreUnavailable, open_database
from hitless.server.postgres import Postgres


pytest_plugins = ("postgres_server",)

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


def test_a_write_returns_its_rows_and_the_next_read_sees_them(engine):
    """
    One list of rows per statement, in order.
    """

    async def main():
        async with engine.database() as database:
            written = await database.write(put("a"), Sql("SELECT 1 AS one"), put("b"))
            return written, await names(database)

    written, found = go(main())
    assert written == [[{"name": "a"}], [{"one": 1}], [{"name": "b"}]]
    assert found == ["a", "b"]


@pytest.mark.parametrize("returning", ["", " RETURNING name"])
def test_a_must_that_finds_no_row_undoes_what_came_before_it(engine, returning):
    """
    Compare-and-set: half a change is none.
    """
    must = Sql(f"UPDATE settings SET value = '2' WHERE name = $1{returning}", ("b",), must=True)

    async def main():
        async with engine.database() as database:
            refused = await database.write(put("a"), must)
            before = await names(database)
            done = await database.write(put("b"), must)
            return refused, before, done, await names(database)

    refused, before, done, after = go(main())
    assert refused is None
    assert before == []
    assert done is not None
    assert after == ["b"]


def test_an_error_in_one_write_undoes_that_one_only(engine):
    """
    Writes that happen to share a commit have nothing to do with each other.
    """

    async def main():
        async with engine.database() as database:
            results = await asyncio.gather(
                database.write(put("a")),
                database.write(put("b"), put("b")),
                database.write(put("c"), Sql("INSERT INTO nowhere VALUES (1)")),
                database.write(put("d")),
                return_exceptions=True,
            )
            return results, await names(database)

    results, found = go(main())
    assert [type(result) for result in results] == [list, StatementRefused, StatementRefused, list]
    assert found == ["a", "d"]


def test_values_come_back_as_they_were(engine):
    """
    Whole numbers of 64 bits, exact times, bytes, texts of any script, nothing.
    """

    async def main():
        async with engine.database() as database:
            await database.write(
                Sql(
                    "INSERT INTO keys (id, role, scope, hash, salt, name, made_s) "
                    "VALUES ($1, $2, $3, $4, $5, $6, $7)",
                    ("größe 日本", "x", None, b"\0\xff", b"", "'; --", 1_795_665_453.3605321),
                ),
                Sql(
                    "INSERT INTO leases (name, node, epoch, until_s) VALUES ('a', 'b', $1, $2)",
                    (2**63 - 1, 7),
                ),
            )
            keys = await database.read("SELECT id, scope, hash, salt, name, made_s FROM keys")
            return keys, await database.read("SELECT epoch, until_s FROM leases")

    keys, leases = go(main())
    assert list(keys[0].values()) == [
        "größe 日本", None, b"\0\xff", b"", "'; --", 1_795_665_453.3605321
    ]  # fmt: skip
    assert leases == [{"epoch": 2**63 - 1, "until_s": 7.0}]


@pytest.mark.parametrize("value", [2**63, "\ud800"])
def test_a_value_that_no_column_holds_is_refused(engine, value):
    """
    A number of more than 64 bits, half a character.
    """
    column = "epoch" if isinstance(value, int) else "node"
    others = {"epoch": "node", "node": "epoch"}[column]
    filler = "1" if others == "epoch" else "'n'"
    text = f"INSERT INTO leases (name, {column}, {others}, until_s) VALUES ('a', $1, {filler}, 0)"

    async def main():
        async with engine.database() as database:
            with pytest.raises(StatementRefused):
                await database.write(put("a"), Sql(text, (value,)))
            await database.write(put("b"))
            return await names(database)

    assert go(main()) == ["b"]


def test_what_is_refused_is_told_without_the_values(engine):
    """
    PostgreSQL would quote the whole row, with all that is secret in it.
    """
    secret = Sql(
        "INSERT INTO keys (id, role, hash, salt, name, made_s) VALUES ($1, NULL, $2, $3, $1, 0)",
        ("swordfish", b"swordfish", b""),
    )

    async def main():
        async with engine.database() as database:
            with pytest.raises(StatementRefused, match="role") as caught:
                await database.write(secret)
            return caught.value

    assert "swordfish" not in str(go(main()))


def test_a_topic_is_woken_if_and_only_if_the_write_is_done(engine):
    """
    A wake-up for something that was undone would be read before what it speaks of.
    """

    async def main():
        async with engine.database() as database:
            await heard_by(database)
            topics = database.woken()
            nothing = Sql("DELETE FROM settings WHERE name = 'none'", must=True)
            assert await database.write(nothing, wake="undone") is None
            with pytest.raises(StatementRefused):
                await database.write(put("a"), put("a"), wake="failed")
            await database.write(put("b"), wake="done")
            return await anext(topics)

    assert go(main()) == "done"


def test_listeners_end_when_the_database_is_closed(engine):
    """
    Nobody waits for a database that is gone, before it or after.
    """

    async def main():
        async with engine.database() as database:
            waiting = asyncio.create_task(collected(database.woken()))
            await asyncio.sleep(0)
            await database.aclose()
            return await waiting, await collected(database.woken())

    assert go(main()) == ([], [])


def test_a_cancelled_write_is_whole_or_nothing_and_takes_no_other_with_it(engine):
    """
    A client that hangs up is no reason to lose anything.
    """

    async def main():
        async with engine.database() as database:
            writes = [
                asyncio.create_task(database.write(put(f"{n:02}a"), put(f"{n:02}b")))
                for n in range(40)
            ]
            for turns, write in enumerate(writes[::2]):
                for _ in range(turns % 5):
                    await asyncio.sleep(0)
                write.cancel()
            results = await asyncio.gather(*writes, return_exceptions=True)
            await database.write(put("last"))
            return results, await names(database)

    results, found = go(main())
    kept = {name[:2] for name in found if name != "last"}
    assert {name for name in found if name != "last"} == {n + x for n in kept for x in "ab"}
    assert {f"{n:02}" for n in range(40) if isinstance(results[n], list)} <= kept
    assert all(isinstance(results[n], list) for n in range(1, 40, 2))


def test_a_closed_database_says_so(engine):
    """
    Closing twice, or twice at once, is fine; asking later is refused.
    """

    async def main():
        async with engine.database() as database:
            waiting = asyncio.create_task(database.write(put("a")))
            await asyncio.sleep(0)
            await asyncio.gather(database.aclose(), database.aclose())
            await database.aclose()
            assert await waiting == [[{"name": "a"}]]
            for asked in (database.read("SELECT 1"), database.write(put("b"))):
                with pytest.raises(StoreUnavailable, match="closed"):
                    await asked

    go(main())


def test_closing_goes_on_if_it_is_cancelled(engine):
    """
    A second cancelled close leaves no thread and no connection either (conftest would see them).
    """

    async def main():
        async with engine.database() as database:
            await database.read("SELECT 1")
            closing = asyncio.create_task(database.aclose())
            await asyncio.sleep(0)
            closing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await closing
            await database.aclose()

    go(main())


@pytest.mark.parametrize(
    "url",
    [
        "",
        ":memory:",
        "sqlite://",
        "sqlite::memory:",
        "file:store.db",
        "mysql://root:swordfish@there/x",
        "postgresql://root:swordfish@there:badport/x",
        "postgresql://root:swordfish@there/x?sslmode=perhaps",
    ],
)
def test_an_url_of_no_engine_is_refused_and_not_quoted(url):
    """
    It may hold a password.
    """
    with pytest.raises(ConfigError, match=r"postgresql://") as caught:
        go(open_database(url))
    assert "swordfish" not in told(caught.value)


def test_the_same_topic_waits_once_and_too_many_are_dropped():
    """
    A listener that does not listen costs a bounded amount.
    """

    async def main():
        wakes = database_module.Wakes()
        topics = wakes.listen()
        for number in range(2 * database_module.TOPICS_MAX):
            wakes.wake(f"{number}")
            wakes.wake("0")
        wakes.close()
        return await collected(topics)

    assert go(main()) == [str(number) for number in range(database_module.TOPICS_MAX)]


async def collected(topics):
    """Return every topic until the end."""
    return [topic async for topic in topics]


async def heard_by(database):
    """Wait until a node hears the others."""
    if isinstance(database, Postgres):
        await database.listening()


def told(error):
    """Return all that an error and its causes tell, the hidden ones too."""
    texts = []
    while error is not None:
        texts += [str(error), repr(error), repr(vars(error))]
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return " ".join(texts)
