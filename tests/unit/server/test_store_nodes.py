"""hitless.server.store_nodes, on both engines"""

import asyncio
from dataclasses import replace

import pytest
from unit.server.stored_streams import audited, go, stored

from hitless.server.database import Sql
from hitless.server.store import Store
from hitless.server.store_nodes import Lease, NodeRow, Point, Step, held
from hitless.server.store_rows import Audit
from hitless.server.store_streams import Claim, Start


pytest_plugins = ("postgres_server",)


AUDIT = Audit(who="n1", what="alert.sent", target="agora", because="a test")


def test_a_node_is_alive_while_it_says_so(engine):
    """
    By the database's clock.
    """

    async def main():
        async with stored(engine) as store:
            await engine.set_clock(store.database, 1000.0)
            await store.nodes.heartbeat("n1", "http://one", "0.1")
            await store.nodes.heartbeat("n2", "http://two", "0.1")
            await engine.set_clock(store.database, 1005.0)
            await store.nodes.heartbeat("n2", "http://two", "0.2", {"agora": "no picture"})
            alive = await store.nodes.alive(5.0), await store.nodes.alive(4.0)
            return alive, await store.nodes.forget(4.0), await store.nodes.alive(99.0)

    (both, one), forgotten, left = go(main())
    assert [node.name for node in both] == ["n1", "n2"]
    assert both[0].down == {}
    down = {"agora": "no picture"}
    n2 = NodeRow(name="n2", url="http://two", version="0.2", down=down, seen_s=1005.0)
    assert one == left == [n2]
    assert forgotten == 1


def test_a_lease_is_taken_over_only_when_it_expired_by_the_databases_clock(engine):
    """
    Then at the next epoch, so that what the older holder still does is fenced.
    """

    async def main():
        async with engine.nodes(2) as databases:
            one, other = (Store(database).leases for database in databases)
            await engine.set_clock(databases[0], 1000.0)
            taken = [await one.take("fleet", "n1", 10.0), await other.take("fleet", "n2", 10.0)]
            await engine.set_clock(databases[0], 1004.0)
            taken.append(await one.take("fleet", "n1", 10.0))
            await engine.set_clock(databases[0], 1013.9)
            taken.append(await other.take("fleet", "n2", 10.0))
            await engine.set_clock(databases[0], 1014.0)
            taken.append(await other.take("fleet", "n2", 10.0))
            taken.append(await one.take("fleet", "n1", 10.0))
            taken.append(await one.take("probes", "n1", 10.0))
            return taken

    assert go(main()) == [
        Lease(name="fleet", node="n1", epoch=1, until_s=1010.0),
        None,
        Lease(name="fleet", node="n1", epoch=1, until_s=1014.0),
        None,
        Lease(name="fleet", node="n2", epoch=2, until_s=1024.0),
        None,
        Lease(name="probes", node="n1", epoch=1, until_s=1010.0 + 14.0),
    ]


def test_a_holder_that_lets_its_lease_expire_gets_it_back_at_the_next_epoch(engine):
    """
    It cannot know whether somebody had it in between.
    """

    async def main():
        async with stored(engine) as store:
            await engine.set_clock(store.database, 1000.0)
            await store.leases.take("fleet", "n1", 10.0)
            await engine.set_clock(store.database, 1010.0)
            return await store.leases.take("fleet", "n1", 10.0)

    assert go(main()).epoch == 2


def test_a_lease_that_is_given_back_is_free_at_once(engine):
    """
    By its holder only: one that lost it has nothing to give back.
    """

    async def main():
        async with stored(engine) as store:
            leases = store.leases
            await engine.set_clock(store.database, 1000.0)
            first = await leases.take("fleet", "n1", 10.0)
            stale = await leases.release(replace(first, epoch=0))
            given = [await leases.release(first), await leases.release(first)]
            return stale, given, await leases.take("fleet", "n2", 10.0)

    stale, given, taken = go(main())
    assert not stale
    assert given == [True, False]
    assert (taken.node, taken.epoch) == ("n2", 2)


def test_what_a_holder_does_after_its_lease_was_taken_is_refused(engine):
    """
    Two leaders for a moment: one slept and does not know yet. Its audit entry is undone too.
    """

    async def main():
        async with engine.nodes(2) as databases:
            one, other = (Store(database) for database in databases)
            await engine.set_clock(databases[0], 1000.0)
            await one.streams.start(
                Start(stream="s", group="s", publisher="p", provider="x", node="n1", because="b")
            )
            old = await one.leases.take("fleet", "n1", 10.0)
            moved = [await claimed(one, 1, "y", old)]
            await engine.set_clock(databases[0], 1010.0)
            moved.append(await claimed(one, 2, "x", old))  # nobody has it, and it has expired
            new = await other.leases.take("fleet", "n2", 10.0)
            moved.append(await claimed(one, 2, "x", old))
            moved.append(await claimed(other, 2, "z", new))
            orders = [
                await store.fleet_moves.insert(
                    "x", {"y": 1.0}, by=lease.node, because="b", audit=AUDIT, lease=lease
                )
                for store, lease in ((one, old), (other, new))
            ]
            open_now = [move.by for move in await one.fleet_moves.open()]
            return moved, orders[0], open_now, await audited(one)

    moved, refused, orders, entries = go(main())
    assert moved == [(2, "y", True), (2, "y", False), (2, "y", False), (3, "z", True)]
    assert refused is None
    assert orders == ["n2"]
    assert entries == 3, "two moves and one order"


async def claimed(store, base_epoch, provider, lease):
    """Return where a stream is after the holder of a lease wanted it elsewhere."""
    said = Claim(stream="s", base_epoch=base_epoch, provider=provider, by="server", because="b")
    row, is_done = await store.streams.claim(said, audit=AUDIT, lease=lease)
    return row.epoch, row.provider, is_done


@pytest.mark.realtime
def test_a_lease_is_not_taken_before_what_its_holder_writes_is_done(postgres):
    """
    It expires in the middle of the write: whoever takes it waits for that to be committed.
    """

    async def main():
        async with postgres.nodes(2) as (one, other):
            lease = await Store(one).leases.take("fleet", "n1", 0.3)
            slow = (Sql("SELECT 1"), *held(one, lease), Sql("SELECT pg_sleep(0.6)"))
            writing = asyncio.create_task(one.write(*slow))
            taken, is_done = None, []
            while taken is None:
                taken = await Store(other).leases.take("fleet", "n2", 10.0)
                is_done.append(writing.done())
                await asyncio.sleep(0.01)
            return await writing, taken.epoch, is_done[-1]

    written, epoch, was_done = go(main())
    assert written is not None
    assert (epoch, was_done) == (2, True)


def test_of_many_nodes_that_want_a_lease_at_once_one_gets_it(engine):
    """
    Two leaders for a moment would both move the fleet.
    """

    async def main():
        async with engine.nodes(2) as databases:
            stores = [Store(database) for database in databases]
            return await asyncio.gather(
                *(stores[n % 2].leases.take("fleet", f"n{n}", 10.0) for n in range(20))
            )

    assert len([lease for lease in go(main()) if lease is not None]) == 1


# --- Series ---


def point(at_s, provider="agora", step=Step.MINUTE, **values):
    """Return what was counted."""
    return Point(step=step, provider=provider, region="eu", at_s=at_s, values=values)


def test_what_two_nodes_count_in_one_step_is_added_up(engine):
    """
    Also of both at once; a point is known by when its step began.
    """

    async def main():
        async with engine.nodes(2) as databases:
            one, other = (Store(database).series for database in databases)
            await asyncio.gather(
                *(
                    node.add([point(60.0 + n, starts=1.0)])
                    for n in range(10)
                    for node in (one, other)
                )
            )
            await one.add(
                [point(119.9, starts=0.5, failures=2.0), point(3599.0, step=Step.HOUR, x=1)]
            )
            await one.add([])
            minutes = await other.between(Step.MINUTE, 0.0, 1e6)
            return minutes, await other.between(Step.HOUR, 0.0, 1e6)

    assert go(main()) == (
        [point(60.0, starts=20.5, failures=2.0)],
        [point(0.0, step=Step.HOUR, x=1.0)],
    )


def test_a_series_is_read_from_one_moment_until_before_another(engine):
    """
    Of one provider, or of all.
    """

    async def main():
        async with stored(engine) as store:
            for at_s in (0.0, 60.0, 120.0):
                await store.series.add([point(at_s, "b", x=1), point(at_s, "a", x=2)])
            found = [
                await store.series.between(Step.MINUTE, 60.0, 120.0),
                await store.series.between(Step.MINUTE, 0.0, 120.0, provider="b"),
            ]
            return [[(p.at_s, p.provider, dict(p.values)) for p in points] for points in found]

    assert go(main()) == [
        [(60.0, "a", {"x": 2.0}), (60.0, "b", {"x": 1.0})],
        [(0.0, "b", {"x": 1.0}), (60.0, "b", {"x": 1.0})],
    ]


def test_old_points_of_one_step_are_forgotten(engine):
    """
    Minutes sooner than hours.
    """

    async def main():
        async with stored(engine) as store:
            await engine.set_clock(store.database, 10_000.0)
            for step in Step:
                await store.series.add([point(0.0, step=step, x=1), point(7200.0, step=step, x=1)])
            count = await store.series.forget(Step.MINUTE, 5_000.0)
            left = [await store.series.between(step, 0.0, 1e6) for step in Step]
            return count, [[p.at_s for p in points] for points in left]

    assert go(main()) == (1, [[7200.0], [0.0, 7200.0]])


# --- The outbox ---


def test_a_letter_is_put_once_per_key(engine):
    """
    Every node notices the same; one tells.
    """

    async def main():
        async with engine.nodes(2) as databases:
            stores = [Store(database) for database in databases]
            put = await asyncio.gather(
                *(
                    stores[n % 2].outbox.put("down:agora", "slack", {"n": [1]}, audit=AUDIT)
                    for n in range(10)
                )
            )
            return put, await stores[0].outbox.due(10.0), await audited(stores[0])

    put, letters, entries = go(main())
    assert sum(put) == 1
    assert [(letter.target, letter.body, letter.tries) for letter in letters] == [
        ("slack", {"n": [1]}, 0)
    ]
    assert entries == 1


def test_a_letter_is_given_to_one_node_and_to_another_if_that_one_is_silent(engine):
    """
    Whoever has it may die before it is delivered.
    """

    async def main():
        async with engine.nodes(2) as databases:
            one, other = (Store(database).outbox for database in databases)
            await engine.set_clock(databases[0], 1000.0)
            for n in range(6):
                await one.put(f"k{n}", "slack", {})
            given = await asyncio.gather(*(box.due(10.0, limit=4) for box in (one, other) * 3))
            keys = [letter.dedup_key for letters in given for letter in letters]
            await engine.set_clock(databases[0], 1009.0)
            early = await other.due(10.0)
            await engine.set_clock(databases[0], 1010.0)
            late = await other.due(10.0, limit=4)
            return sorted(keys), early, [letter.dedup_key for letter in late]

    keys, early, late = go(main())
    assert keys == [f"k{n}" for n in range(6)], "each once"
    assert early == []
    assert len(late) == 4


def test_a_letter_that_fails_is_tried_later_and_at_last_given_up(engine):
    """
    What is done or given up is never due again, and is forgotten after a while.
    """

    async def main():
        async with stored(engine) as store:
            box = store.outbox
            await engine.set_clock(store.database, 1000.0)
            for key in ("done", "failing", "later"):
                await box.put(key, "slack", {})
            done, failing, later = await box.due(10.0)
            await box.done(done.id)
            await box.failed(failing.id, 20.0)
            await box.failed(later.id, 90.0)
            await engine.set_clock(store.database, 1020.0)
            again = await box.due(10.0)
            await box.failed(failing.id, None)
            await box.failed(done.id, 0.0)
            await engine.set_clock(store.database, 1080.0)
            nothing = await box.due(10.0)
            forgotten = await box.forget(60.0), await box.put("done", "slack", {})
            return again, nothing, forgotten, [x.dedup_key for x in await box.due(10.0)]

    again, nothing, forgotten, due = go(main())
    assert [(letter.dedup_key, letter.tries) for letter in again] == [("failing", 1)]
    assert nothing == []
    assert forgotten == (2, True)
    assert due == ["done"]
