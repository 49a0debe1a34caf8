"""A backup made while the server is written to, as docs/store.md says, and what comes of it."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from e2e.serving import House, add_providers

from hitless.server.clock import wall_s
from hitless.server.serve import new_keys


pytest_plugins = ("postgres_server",)

pytestmark = pytest.mark.realtime

PAGE = Path(__file__).parents[2] / "docs" / "store.md"
LIMIT_S = 90.0
WRITERS = 4

TOKEN = "sesame-open-thyself"
"""The secret of a provider."""


def go(main):
    """Run a test against the clock, bounded."""

    async def bounded():
        async with asyncio.timeout(LIMIT_S):
            return await main

    return asyncio.run(bounded())


def commands(heading):
    """Return the commands that the page gives under a heading, as a script."""
    section = PAGE.read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"```console\n(.+?)```", section, flags=re.DOTALL)
    assert blocks, heading
    return "".join(line[2:] + "\n" for line in "".join(blocks).splitlines())


@dataclass
class Place:
    """
    Where one engine keeps its database, its backup and what is restored from it.

    Attributes:
        engine: `SQLite` or `PostgreSQL`, as the page calls it.
        url: Of the database.
        restored: Of what is restored.
        folder: Where commands are run.
        named: Turns the page's names into ours.
    """

    engine: str
    url: str
    restored: str
    folder: Path
    named: Callable[[str], str]

    async def run(self, verb):
        """Do what the page says, with our names in place of its own."""
        script = "systemctl() { :; }\n" + self.named(commands(f"{verb} {self.engine}"))
        process = await asyncio.create_subprocess_exec(
            "sh", "-euc", script,
            cwd=self.folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        _, said = await process.communicate()
        assert process.returncode == 0, said.decode()


@pytest.fixture
def house(tmp_path):
    """Return where the nodes of this test run."""
    house = House(tmp_path)
    yield house
    house.close()


@pytest.fixture
def place(request, engine, tmp_path):
    """Return a place on each engine in turn; the programs that the page names are needed."""
    is_sqlite = engine.name == "sqlite"
    wanted = ("sqlite3",) if is_sqlite else ("pg_dump", "pg_restore", "createdb")
    missing = [name for name in wanted if shutil.which(name) is None]
    if missing:
        package = "sqlite3" if is_sqlite else "postgresql-client"
        pytest.skip(f"needs {', '.join(missing)} (apt-get install {package})")
    if is_sqlite:
        return sqlite_place(tmp_path)
    return postgres_place(tmp_path, request.getfixturevalue("postgres_server"))


def sqlite_place(folder):
    """Return a place with the folders that the page names."""
    state, backups = folder / "state", folder / "backups"
    state.mkdir()
    backups.mkdir()
    url = f"sqlite:///{state}/hitless.db"

    def named(text):
        return text.replace("/var/lib/hitless", str(state)).replace("/var/backups", str(backups))

    return Place("SQLite", url, url, folder, named)


def postgres_place(folder, server):
    """Return a place on a server of our own."""
    url = asyncio.run(server.new_database())
    restored = url.partition("?")[0].rpartition("/")[2] + "_restored"
    urls = {"hitless": url, "hitless_restored": server.url(restored)}

    def named(text):
        def said(match):
            return shlex.quote(urls.get(match[1]) or server.url(match[1]))

        text = re.sub(r"postgresql://hitless@db\.example\.com/(\w+)", said, text)
        return text.replace(" hitless_restored\n", f" {restored}\n")

    return Place("PostgreSQL", url, urls["hitless_restored"], folder, named)


async def filled(house, url):
    """Return a node with providers, one of them with a secret."""
    node = house.serve(url, "a")
    await add_providers(node, "one", "two")
    secret = {"adapter": "whip", "priority": 3, "secrets": {"token": TOKEN}}
    config = {"url": "https://media.example/whip", "view_url": "https://media.example/v"}
    assert (
        await node.call("POST", "/v1/admin/providers/sealed", secret | {"config": config})
    ).status in (200, 201)
    return node


async def backed_up_under_writes(node, place):
    """Make the backup while streams start; return those acknowledged before it began."""
    acknowledged = {}

    async def starting(who):
        for n in range(1_000_000):
            answer = await node.start(f"s{who}-{n}", client=f"c{who}")
            acknowledged[f"s{who}-{n}"] = answer.data["epoch"]

    writers = [asyncio.create_task(starting(who)) for who in range(WRITERS)]
    try:
        while len(acknowledged) < 200:  # noqa: ASYNC110 -- nobody tells
            await asyncio.sleep(0.01)
        before = dict(acknowledged)
        await place.run("Back up")
        assert len(acknowledged) > len(before), "nothing was written meanwhile"
        assert not any(writer.done() for writer in writers), "a write failed"
    finally:
        for writer in writers:
            writer.cancel()
        await asyncio.gather(*writers, return_exceptions=True)
    return before


async def epochs(node):
    """Return all streams with their epochs."""
    found, following = {}, ""
    while True:
        query = f"&after={following}" if following else ""
        page = (await node.call("GET", f"/v1/streams?limit=1000{query}")).data
        found |= {one["stream"]: one["epoch"] for one in page["streams"]}
        following = page["next"]
        if not following:
            return found


async def checked(house, url, **env):
    """Run `hitless serve --check`; return its exit status and what it said."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HITLESS_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "hitless", "serve", "--check",
        env={**kept, **house.keys, "HITLESS_DATABASE_URL": url, **env},
        cwd=house.folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await process.communicate()
    return process.returncode, said.decode()


def test_a_backup_made_under_writes_is_whole_and_a_server_starts_on_it(house, place):
    """
    Streams acknowledged before it are there, keys open, secrets can be read; and a stream that
    went on after the backup goes on beyond what its client knows.
    """

    async def main():
        node = await filled(house, place.url)
        made = (await node.call("POST", "/v1/admin/keys", {"role": "client", "name": "x"})).data
        await node.start("show")
        await node.move("show", "two")
        before = await backed_up_under_writes(node, place)
        for provider in ("one", "two", "one"):
            await node.move("show", provider)
        plans = [(await node.start(name)).data for name in ("show", "late")]
        node.kill()
        await place.run("Restore")
        check = await checked(house, place.restored)

        house.keys["HITLESS_MADE_KEY"] = made["key"]
        node = house.serve(place.restored, "b")
        await node.until_ready(True, 5.0)
        found = await epochs(node)
        back = [(await node.start(plan["stream"], plan=plan["token"])).data for plan in plans]
        moved = (await node.move("show", "two")).data["moved"]
        let_in = await node.call("POST", "/v1/join", {"stream": "show", "client": "v"}, key="MADE")
        return before, found, plans, back, moved, let_in, check

    before, found, plans, back, moved, let_in, (status, said) = go(main())
    assert before.items() <= found.items()
    assert found["show"] == 2
    assert "late" not in found
    assert [plan["epoch"] for plan in plans] == [5, 1]
    assert [plan["epoch"] for plan in back] == [6, 2]
    assert moved == 1
    assert (let_in.status, let_in.data["epoch"], let_in.data["provider"]) == (200, 7, "two")
    assert status == 0, said
    assert "sealed (whip): active" in said
    assert TOKEN not in said


def test_keys_of_another_installation_are_told_from_the_right_ones(house, place):
    """
    Without the vault's key the check says which secrets are lost; without the plans' key no
    plan from before counts.
    """
    other = new_keys(wall_s())

    async def main():
        node = await filled(house, place.url)
        await node.start("show")
        await place.run("Back up")
        await node.move("show", "two")
        plan = (await node.start("show")).data
        node.kill()
        await place.run("Restore")
        vault = await checked(house, place.restored, HITLESS_VAULT_KEY=other["HITLESS_VAULT_KEY"])
        house.keys["HITLESS_PLAN_KEY"] = other["HITLESS_PLAN_KEY"]
        node = house.serve(place.restored, "b")
        again = (await node.start("show", plan=plan["token"])).data
        return vault, plan["epoch"], again["epoch"]

    (status, said), was, is_now = go(main())
    assert status == 2, said
    assert "sealed cannot be used: give the secrets anew" in said
    assert TOKEN not in said
    assert (was, is_now) == (2, 1)


def test_the_database_holds_no_key_and_no_secret_that_can_be_read(house, place):
    """
    Whoever finds a backup has neither the keys of the server nor what providers are paid with.
    """
    named = {name: key.split("_", 2)[-1] for name, key in house.keys.items()}

    async def main():
        node = await filled(house, place.url)
        made = (await node.call("POST", "/v1/admin/keys", {"role": "client", "name": "x"})).data
        named["MADE"] = made["key"].split("_", 2)[2]
        await node.start("show")
        await place.run("Back up")
        node.close()

    go(main())
    text = readable(place)
    assert "https://media.example/whip" in text
    assert [name for name, secret in named.items() if secret in text] == []
    assert TOKEN not in text


def readable(place):
    """Return a backup as text; nobody else on this machine may read the file."""
    (backup,) = (*place.folder.glob("backups/*"), *place.folder.glob("hitless.dump"))
    assert backup.stat().st_mode & 0o077 == 0
    if place.engine == "SQLite":
        with closing(sqlite3.connect(backup)) as connection:
            return "\n".join(connection.iterdump())
    words = ("pg_restore", "--file=-", backup)
    return subprocess.run(words, capture_output=True, text=True, timeout=30, check=True).stdout


def test_a_publisher_that_only_reconnects_takes_an_older_copy_past_what_it_obeyed(tmp_path):
    """
    It says hello with a signed epoch of 4 to a copy that knows the first.
    """
    house = House(tmp_path)

    async def main():
        node = house.serve(f"sqlite:///{tmp_path}/a.db", "a")
        await add_providers(node, "one", "two")
        await node.start("show")
        with sqlite3.connect(tmp_path / "a.db") as copied:
            copied.execute(f"VACUUM INTO '{tmp_path}/b.db'")
        copied.close()
        for provider in ("two", "one", "two"):
            await node.move("show", provider)
        plan = (await node.start("show")).data
        node.kill()
        node = house.serve(f"sqlite:///{tmp_path}/b.db", "b")
        seen = {
            "stream": "show",
            "role": "publisher",
            "epoch": 4,
            "provider": "two",
            "plan": plan["token"],
        }
        async with node.connected("pub", seen) as ear:
            told = await ear.until("placement", 5.0)
            await node.move("show", "one")
            then = await ear.until("placement", 5.0)
        return plan["epoch"], told, then

    try:
        epoch, told, then = go(main())
    finally:
        house.close()
    assert epoch == 4
    assert (told["epoch"], told["provider"]) == (5, "two")
    assert (then["epoch"], then["provider"]) == (6, "one")
