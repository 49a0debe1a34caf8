"""hitless.server.store_operators and .store_rows, on both engines"""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import fields, replace

import pytest

from hitless.server.database import StatementRefused
from hitless.server.store import Store
from hitless.server.store_members import Member
from hitless.server.store_nodes import Lease, Letter, NodeRow
from hitless.server.store_operators import AuditRow, FleetMove, KeyRow, ProviderRow
from hitless.server.store_rows import Audit
from hitless.server.store_streams import StreamRow


pytest_plugins = ("postgres_server",)

LIMIT_S = 30.0

AUDIT = Audit(
    who="alice",
    what="provider.changed",
    target="agora",
    because="a test",
    before={"priority": 1},
    after={"priority": 2, "config": {"region": "eu", "list": [1, None]}},
)


def go(main):
    """Run a test against the clock, bounded."""

    async def bounded():
        async with asyncio.timeout(LIMIT_S):
            return await main

    return asyncio.run(bounded())


@asynccontextmanager
async def stored(engine):
    """Lend a store in which there is nothing yet."""
    async with engine.database() as database:
        yield Store(database)


async def audited(store):
    """Return how many entries the log has."""
    return len(await store.audit.page())


@pytest.mark.parametrize(
    ("table", "row"),
    [
        ("streams", StreamRow),
        ("members", Member),
        ("providers", ProviderRow),
        ("keys", KeyRow),
        ("audit", AuditRow),
        ("nodes", NodeRow),
        ("leases", Lease),
        ("fleet_moves", FleetMove),
        ("outbox", Letter),
    ],
)
def test_every_field_of_a_row_is_a_column(engine, table, row):
    """
    A field without a column would be its default for ever, and nobody would notice.
    """
    names = [field.name for field in fields(row)]

    async def main():
        async with engine.database() as database:
            return await database.read(f"SELECT {', '.join(names)} FROM {table}")

    assert go(main()) == []


def test_settings_are_any_json_and_every_change_is_audited(engine):
    """
    What was put last holds.
    """

    async def main():
        async with stored(engine) as store:
            for name, value in (
                ("frozen", True),
                ("share", 50),
                ("frozen", None),
                ("x", {"y": []}),
            ):
                await store.settings.put(name, value, AUDIT)
            return await store.settings.all(), await audited(store)

    assert go(main()) == ({"frozen": None, "share": 50, "x": {"y": []}}, 4)


# --- Providers ---


AGORA = ProviderRow(
    name="agora",
    adapter="agora",
    is_active=False,
    is_drained=True,
    priority=2,
    config={"app_id": "1", "null": None},
    secret="sealed",
    weight=0.5,
    starts_per_s=200.0,
    price={"minute": 0.01},
)


def test_a_provider_comes_back_as_it_was_put(engine):
    """
    With its revision, and the database's time.
    """

    async def main():
        async with stored(engine) as store:
            await engine.set_clock(store.database, 1000.0)
            put = await store.providers.put(AGORA, AUDIT)
            await store.providers.put(ProviderRow(name="whip", adapter="whip"), AUDIT)
            return put, await store.providers.one("agora"), await store.providers.all()

    put, one, found = go(main())
    assert put == one == replace(AGORA, revision=1, changed_s=1000.0)
    assert [provider.name for provider in found] == ["whip", "agora"], "by priority"


def test_a_change_based_on_an_older_revision_is_not_done(engine):
    """
    Two operators change one provider; the second is told, and the log has one entry.
    """

    async def main():
        async with stored(engine) as store:
            first = await store.providers.put(AGORA, AUDIT)
            one = await store.providers.put(replace(first, priority=7), AUDIT)
            entries = await audited(store)
            refused = [
                await store.providers.put(replace(first, priority=8), AUDIT),
                await store.providers.put(AGORA, AUDIT),
                await store.providers.put(replace(first, name="none"), AUDIT),
                await store.providers.delete("agora", 1, AUDIT),
            ]
            return one, refused, await store.providers.one("agora"), entries, await audited(store)

    one, refused, kept, entries, later = go(main())
    assert (one.revision, one.priority) == (2, 7)
    assert refused == [None, None, None, False]
    assert kept == one
    assert entries == later == 2


def test_a_provider_is_deleted_with_an_entry_in_the_log(engine):
    """
    Once; and it may be added again.
    """

    async def main():
        async with stored(engine) as store:
            await store.providers.put(AGORA, AUDIT)
            deleted = [await store.providers.delete("agora", 1, AUDIT) for _ in range(2)]
            found = await store.providers.one("agora")
            again = await store.providers.put(AGORA, AUDIT)
            return deleted, found, again.revision, await audited(store)

    assert go(main()) == ([True, False], None, 1, 3)


def test_neither_a_sealed_secret_nor_a_hash_is_shown():
    """
    A row ends in a log line or a traceback sooner or later.
    """
    key = KeyRow(id="k", role="owner", hash=b"swordfish", salt=b"swordfish", name="n")

    assert "sealed" not in repr(AGORA)
    assert "swordfish" not in repr(key)


# --- Keys ---


def test_keys_are_kept_until_they_are_revoked_and_remembered_then(engine):
    """
    An id is given once; revoking twice is revoking once.
    """
    key = KeyRow(
        id="k1", role="publisher", scope="show", hash=b"\0\1", salt=b"s", name="cam", expires_s=9e9
    )

    async def main():
        async with stored(engine) as store:
            await engine.set_clock(store.database, 1000.0)
            added = [await store.keys.insert(key, audit=AUDIT) for _ in range(2)]
            await engine.set_clock(store.database, 1001.0)
            await store.keys.insert(replace(key, id="k2", scope=None, expires_s=None))
            found = await store.keys.all()
            await engine.set_clock(store.database, 1002.0)
            revoked = [await store.keys.revoke("k1", audit=AUDIT) for _ in range(2)]
            one, none = await store.keys.one("k1"), await store.keys.one("k3")
            return added, found, revoked, one, none, await audited(store)

    added, found, revoked, one, none, entries = go(main())
    assert added == revoked == [True, False]
    assert found == [
        replace(key, id="k2", scope=None, expires_s=None, made_s=1001.0),
        replace(key, made_s=1000.0),
    ]
    assert one == replace(key, made_s=1000.0, revoked_s=1002.0)
    assert none is None
    assert entries == 2


# --- Fleet moves ---


def test_a_fleet_move_is_open_until_it_is_finished(engine):
    """
    One row, whatever the number of streams.
    """

    async def main():
        async with stored(engine) as store:
            moves = store.fleet_moves
            await engine.set_clock(store.database, 1000.0)
            first = await moves.insert("agora", {"webrtc": 0.5}, by="alice", because="drain")
            other = await moves.insert("whip", {}, by="n1", because="down", audit=AUDIT)
            before = await moves.open()
            done = [await moves.finish(first.id, audit=AUDIT) for _ in range(2)]
            return first, other, before, done, await moves.open(), await audited(store)

    first, other, before, done, after, entries = go(main())
    assert (first.source, first.plan, first.by, first.because) == (
        "agora", {"webrtc": 0.5}, "alice", "drain"
    )  # fmt: skip
    assert (first.state, first.begun_s, first.ended_s) == ("open", 1000.0, None)
    assert before == [first, other]
    assert done == [True, False]
    assert after == [other]
    assert entries == 2


# --- The audit log ---


def test_an_entry_comes_back_as_it_was_written(engine):
    """
    Before, after and because included, at the database's time.
    """

    async def main():
        async with stored(engine) as store:
            await engine.set_clock(store.database, 1000.0)
            await store.audit.append([AUDIT])
            await store.audit.append([])
            return await store.audit.page()

    (entry,) = go(main())
    assert entry == AuditRow(
        id=entry.id, at_s=1000.0, who=AUDIT.who, what=AUDIT.what, target=AUDIT.target,
        before=AUDIT.before, after=AUDIT.after, because=AUDIT.because,
    )  # fmt: skip


def test_the_log_is_read_newest_first_by_target_person_and_time(engine):
    """
    In pages.
    """

    async def main():
        async with stored(engine) as store:
            for n in range(6):
                await engine.set_clock(store.database, 1000.0 + n)
                entry = replace(AUDIT, what=f"{n}", target="ab"[n % 2], who="xyz"[n % 3])
                await store.audit.append([entry])
            log = store.audit.page
            newest = (await log(limit=2))[-1].id
            pages = [
                await log(),
                await log(limit=2),
                await log(before=newest, limit=2),
                await log(target="a"),
                await log(who="y"),
                await log(since_s=1004.0),
                await log(target="b", who="z", since_s=1001.0),
            ]
            return ["".join(entry.what for entry in page) for page in pages]

    assert go(main()) == ["543210", "54", "32", "420", "41", "54", "5"]


def test_an_audit_entry_lands_with_its_change_or_not_at_all(engine):
    """
    A log that tells of what did not happen is worse than none.
    """
    broken = replace(AUDIT, who=None)

    async def main():
        async with stored(engine) as store:
            with pytest.raises(StatementRefused):
                await store.settings.put("frozen", True, broken)
            with pytest.raises(StatementRefused):
                await store.audit.append([AUDIT, broken])
            return await store.settings.all(), await audited(store)

    assert go(main()) == ({}, 0)


def test_old_entries_are_forgotten(engine):
    """
    The log does not grow for ever.
    """

    async def main():
        async with stored(engine) as store:
            for at_s in (1000.0, 1050.0):
                await engine.set_clock(store.database, at_s)
                await store.audit.append([AUDIT])
            return await store.audit.forget(20.0), [e.at_s for e in await store.audit.page()]

    assert go(main()) == (1, [1050.0])
