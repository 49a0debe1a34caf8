"""From one version of the tables to the next: real nodes, old and new, on one database."""

from __future__ import annotations

import asyncio
import os
import re
import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing

import asyncpg
import pytest
from e2e.serving import House, add_providers

from hitless.server.keys import KeyRole, make_key
from hitless.server.postgres import Postgres
from hitless.server.schema import MIGRATIONS, Migration, migrate, version_of
from hitless.server.sqlite import Sqlite
from hitless.server.store import Store
from hitless.server.store_members import Member, Role
from hitless.server.store_operators import KeyRow, ProviderRow
from hitless.server.store_rows import Audit
from hitless.server.store_streams import Claim, Start


pytest_plugins = ("postgres_server",)

pytestmark = pytest.mark.realtime

LIMIT_S = 90.0
NEWEST = len(MIGRATIONS)

TABLES = tuple(
    name
    for step in MIGRATIONS
    for text in step.statements
    for name in re.findall(r"CREATE TABLE (\w+)", text)
)

MORE = (
    *(f"ALTER TABLE {name} ADD COLUMN mood TEXT NOT NULL DEFAULT 'calm'" for name in TABLES),
    "CREATE TABLE moods (id {row_id}, b {bytes})",
    "CREATE INDEX streams_mood ON streams (mood)",
)
"""What the next version of the program brings: every table has one more column."""

SLOWLY = {
    "sqlite": "INSERT INTO moods (id) WITH RECURSIVE n (x) AS "
    "(SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 1000000000) SELECT x FROM n",
    "postgres": "SELECT pg_sleep(5)",
}
"""What keeps a step under way until its node is killed; PostgreSQL sees that when it is done."""


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


async def tables(url):
    """Return the version of the tables, and whether those of the next version are there."""
    database = await untouched(url)
    try:
        version = await version_of(database)
        text = "SELECT tablename AS name FROM pg_tables WHERE schemaname = 'public'"
        if database.dialect == "sqlite":
            text = "SELECT name FROM sqlite_master WHERE type = 'table'"
        found = {row["name"] for row in await database.read(text)}
        row = (await database.read("SELECT * FROM streams LIMIT 1"))[0]
        return version, "moods" in found, "mood" in row
    finally:
        await database.aclose()


class Releases(House):
    """Nodes of this program, and of one that knows one more version of the tables."""

    def newer(self, url, name, *statements):
        """Begin to start a node of the next release, whose step does these statements."""
        program = f"""
            from hitless.server import schema

            step = schema.Migration(what="a test's next version", statements={statements!r})
            schema.migrate.__defaults__ = ((*schema.MIGRATIONS, step),)

            from hitless.cli import main

            main()
        """
        file = self.folder / "newer.py"
        file.write_text(textwrap.dedent(program))
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, file, *WORDS, "--name", name, "--ready-json"],
                env=self.env(url),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
            )

    def serve_newer(self, url, name):
        """Start a node of the next release and wait until it serves."""
        return self.ready(self.newer(url, name, *MORE), name)

    def refused(self, url, *more):
        """Run `hitless serve` to its end; it is not expected to serve."""
        return subprocess.run(
            [sys.executable, "-m", "hitless", *WORDS, *more],
            env=self.env(url),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    def env(self, url):
        """Return the environment of a node."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith("HITLESS_")}
        return {**kept, **self.keys, "HITLESS_DATABASE_URL": url}


WORDS = ("serve", "--listen", "127.0.0.1:0", "--open-list")


@pytest.fixture
def releases(tmp_path):
    """Return where the nodes of this test run."""
    releases = Releases(tmp_path)
    yield releases
    releases.close()


async def epochs(node):
    """Return all streams with their epochs."""
    page = (await node.call("GET", "/v1/streams?limit=1000")).data
    return {one["stream"]: one["epoch"] for one in page["streams"]}


def test_every_step_only_adds_or_says_which_programs_can_go_on():
    """
    A rolling upgrade rests on it: an older node works on, beside a newer one.
    """
    adds = re.compile(
        r"CREATE (TABLE|INDEX) \w+ |"
        r"ALTER TABLE \w+ ADD COLUMN \w+ (?!.*NOT NULL(?!.*DEFAULT))",
        re.DOTALL,
    )
    taking = [
        step.what
        for step in MIGRATIONS
        if step.oldest == 1 and not all(adds.match(text.strip()) for text in step.statements)
    ]

    assert taking == []
    assert not adds.match("ALTER TABLE streams ADD COLUMN mood TEXT NOT NULL")
    assert not adds.match("DROP TABLE streams")
    assert all(adds.match(text) for text in MORE)


# --- An older database ---


async def written_by_an_older_program(url):
    """Make the tables of all steps but the last, and write what a server had; return a key."""
    database = await untouched(url)
    await migrate(database, MIGRATIONS[:-1])
    assert await version_of(database) == NEWEST - 1
    store = Store(database)
    audit = Audit(who="ann", what="stream.moved", target="show", because="viewers saw blocks")
    config = {"url": "https://media.example/whip", "view_url": "https://media.example/v"}
    for priority, name in enumerate(("one", "two"), start=1):
        row = ProviderRow(name=name, adapter="whip", priority=priority, config=config)
        await store.providers.put(row, audit)
    for name in ("show", "other"):
        await store.streams.start(
            Start(stream=name, group=name, publisher="pub", provider="one", node="a", because="b")
        )
    await store.streams.claim(
        Claim(stream="show", base_epoch=1, provider="two", by="operator", because="blocks"),
        audit=audit,
    )
    await store.members.join(Member(stream="show", client="v", role=Role.VIEWER, node="a"))
    made = make_key(KeyRole.CLIENT, now_s=0.0, name="app")
    known = made.stored
    key = KeyRow(id=known.id, role="client", hash=known.hash, salt=known.salt, name="app")
    await store.keys.insert(key)
    await store.settings.put("is_frozen", True, audit)
    await database.aclose()
    return made.text


def test_a_server_upgrades_an_older_database_and_keeps_all_that_was_in_it(engine, releases):
    """
    Providers, placements, keys, settings and the audit log; and it can work with them.
    """

    async def main():
        url = await engine.new_url()
        releases.keys["HITLESS_APP_KEY"] = await written_by_an_older_program(url)
        node = releases.serve(url)
        known = {
            "epochs": await epochs(node),
            "show": (await node.stream("show")).data["provider"],
            "settings": (await node.call("GET", "/v1/admin/settings")).data,
            "audit": (await node.call("GET", "/v1/admin/audit?target=show")).data,
            "providers": (await node.call("GET", "/streaming/providers")).data["providers"],
        }
        joined = await node.call("POST", "/v1/join", {"stream": "show", "client": "w"}, key="APP")
        moved = (await node.move("show", "one")).data["moved"]
        await node.until_ready(True, 5.0)
        node.close()
        failed = [line for line in node.lines() if "failed" in line or "error" in line]
        return known, joined.data["epoch"], moved, (await tables(url))[0], failed

    known, joined, moved, version, failed = go(main())
    assert known["epochs"] == {"show": 2, "other": 1}
    assert known["show"] == "two"
    assert known["settings"]["is_frozen"] is True
    assert "viewers saw blocks" in str(known["audit"])
    assert [one["name"] for one in known["providers"]] == ["one", "two"]
    assert (joined, moved, version) == (2, 1, NEWEST)
    assert failed == []


# --- Old beside new ---


def test_nodes_are_upgraded_one_after_the_other_while_streams_start_and_move(postgres, releases):
    """
    The new one changes the tables under the old one, which goes on, hears of its moves, and is
    replaced in the end; nothing acknowledged is lost.
    """
    acknowledged, done = {}, asyncio.Event()

    async def starting(nodes):
        for n in range(1_000_000):
            for who, node in enumerate(tuple(nodes)):
                answer = await node.start(f"s{n}-{who}", client=f"c{who}")
                acknowledged[f"s{n}-{who}"] = answer.data["epoch"]
            if done.is_set():
                return

    async def main():
        url = await postgres.new_url()
        a = releases.serve(url, "a")
        await add_providers(a, "one", "two")
        await a.start("show")
        before = await tables(url)
        nodes = [a]
        writer = asyncio.create_task(starting(nodes))
        seen = {"stream": "show", "role": "publisher", "epoch": 1}
        async with a.connected("pub", seen) as ear:
            b = await asyncio.to_thread(releases.serve_newer, url, "b")
            nodes.append(b)
            for node, epoch, provider in ((b, 2, "two"), (a, 3, "one"), (b, 4, "two")):
                await node.move("show", provider)
                await ear.until("placement", 2.0, epoch=epoch, provider=provider)
            nodes.remove(a)
            after = await tables(url)
            count = len(acknowledged)
            while len(acknowledged) < count + 2:  # noqa: ASYNC110 -- nobody tells
                await asyncio.sleep(0.01)
            await asyncio.to_thread(a.close)
        again = await asyncio.to_thread(releases.serve_newer, url, "a")
        async with again.connected("pub", seen) as ear:
            await ear.until("placement", 2.0, epoch=4, provider="two")
            await b.move("show", "one")
            await ear.until("placement", 2.0, epoch=5, provider="one")
        done.set()
        await writer
        found = {}
        for name in acknowledged:
            found[name] = (await again.stream(name)).data["epoch"]
        failed = [line for n in (a, b, again) for line in n.lines() if "failed" in line]
        return before, after, found, failed

    before, after, found, failed = go(main())
    assert before == (NEWEST, False, False)
    assert after == (NEWEST + 1, True, True)
    assert len(acknowledged) > 5
    assert found == acknowledged
    assert failed == []


# --- A newer database ---


def test_tables_that_are_too_new_are_refused_in_one_sentence(engine, releases):
    """
    Status 2, nothing served, nothing changed, and neither a trace nor the database's URL.
    """
    taken = Migration(
        what="takes something away",
        statements=("ALTER TABLE streams RENAME COLUMN because TO why",),
        oldest=NEWEST + 1,
    )

    async def main():
        url = await engine.new_url()
        await written_by_an_older_program(url)
        newer = await untouched(url)
        await migrate(newer, (*MIGRATIONS, taken))
        await newer.aclose()
        refused = [
            await asyncio.to_thread(releases.refused, url, *more) for more in ((), ("--check",))
        ]
        newer = await untouched(url)
        rows = await newer.read("SELECT id, why FROM streams ORDER BY id")
        version = await version_of(newer)
        await newer.aclose()
        return refused, [row["id"] for row in rows], version

    refused, streams, version = go(main())
    for done in refused:
        assert done.returncode == 2
        (said,) = done.stderr.splitlines()
        assert f"tables of version {NEWEST + 1}" in said
        assert f"this one knows {NEWEST}: start the newer hitless, or restore" in said
        assert "Traceback" not in done.stderr
        assert "postgresql://" not in done.stderr
    assert streams == ["other", "show"]
    assert version == NEWEST + 1


# --- Killed ---


async def in_the_middle(url):
    """Wait until the step is under way: its transaction has done something and goes on."""
    while not await is_under_way(url):  # noqa: ASYNC110 -- nobody tells
        await asyncio.sleep(0.05)
    await asyncio.sleep(0.3)  # what comes before the long statement is short


async def given_up(url):
    """Wait until the database has noticed that whoever did the step is gone."""
    while await is_under_way(url):  # noqa: ASYNC110 -- nobody tells
        await asyncio.sleep(0.05)


async def is_under_way(url):
    """Whether somebody changes the tables now."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"), timeout=0.0)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                return True
            return False
    connection = await asyncpg.connect(url)
    try:
        asked = "SELECT count(*) FROM pg_stat_activity WHERE query = $1 AND state = 'active'"
        return await connection.fetchval(asked, SLOWLY["postgres"]) > 0
    finally:
        await connection.close()


def test_kill_9_in_the_middle_of_an_upgrade_leaves_it_not_begun(engine, releases):
    """
    The old program still serves what it had; and the new one, started again, does the whole step.
    """

    async def main():
        url = await engine.new_url()
        await written_by_an_older_program(url)
        old = releases.serve(url, "old")
        old.close()
        process = releases.newer(url, "killed", *MORE, SLOWLY[engine.name])
        try:
            await in_the_middle(url)
            assert process.poll() is None, "it ended by itself"
        finally:
            process.kill()
            await asyncio.to_thread(process.wait, 10)
            process.stdout.close()
        await given_up(url)
        killed = await tables(url)
        old = releases.serve(url, "old")
        before = await epochs(old)
        old.close()
        new = await asyncio.to_thread(releases.serve_newer, url, "new")
        await new.move("other", "two")
        return killed, before, await epochs(new), await tables(url)

    killed, before, after, upgraded = go(main())
    assert killed == (NEWEST, False, False)
    assert before == {"show": 2, "other": 1}
    assert after == {"show": 2, "other": 2}
    assert upgraded == (NEWEST + 1, True, True)
