"""hitless.server.store_streams, on both engines: starting, ending and reading"""

import asyncio
from dataclasses import replace

import pytest
from unit.server.stored_streams import AUDIT, audited, claim, go, placement, start, stored, viewer

from hitless.server.store import Store
from hitless.server.store_members import Role
from hitless.server.store_streams import ProviderCount, StreamState


pytest_plugins = ("postgres_server",)


# --- Streams: starting and ending ---


def test_a_new_stream_begins_behind_whatever_epoch_was_presented(engine):
    """
    A database that was lost must not tell clients an epoch that they obeyed long ago.
    """

    async def main():
        async with stored(engine) as store:
            return [
                await store.streams.start(start(stream=f"s{epoch}", presented_epoch=epoch))
                for epoch in (-5, 0, 41)
            ]

    rows = go(main())
    assert [row.epoch for row in rows] == [1, 1, 42]
    assert {row.state for row in rows} == {StreamState.STARTING}
    assert not any(row.is_carried for row in rows)


def test_a_start_repeated_by_its_publisher_changes_nothing(engine):
    """
    Its answer got lost; it asks again, perhaps of another node with another opinion.
    """

    async def main():
        async with stored(engine) as store:
            first = await store.streams.start(start(), audit=AUDIT)
            again = await store.streams.start(start(provider="webrtc"), audit=AUDIT)
            return first, again, await audited(store)

    first, again, entries = go(main())
    assert again == first
    assert entries == 1


def test_another_publisher_takes_over_at_the_next_epoch(engine):
    """
    The older one is fenced; the stream is the same one.
    """

    async def main():
        async with stored(engine) as store:
            await engine.set_clock(store.database, 1000.0)
            await store.streams.start(start())
            await store.streams.confirm("show", 1, "agora")
            await store.streams.rescue("show", "webrtc", 30.0)
            await engine.set_clock(store.database, 1001.0)
            return await store.streams.start(start("other", "webrtc", node="n2"))

    row = go(main())
    assert placement(row) == (2, "webrtc")
    assert (row.publisher, row.node, row.is_carried) == ("other", "n2", False)
    assert row.rescue_provider is None
    assert (row.started_s, row.changed_s) == (1000.0, 1001.0)


def test_an_ended_stream_begins_anew_at_the_next_epoch(engine):
    """
    The same id, tomorrow: viewers that remember yesterday's epoch obey.
    """

    async def main():
        async with stored(engine) as store:
            await engine.set_clock(store.database, 1000.0)
            await store.streams.start(start())
            ended = await store.streams.end("show", publisher="pub", by="pub", because="over")
            await engine.set_clock(store.database, 1001.0)
            return ended, await store.streams.start(start())

    ended, row = go(main())
    assert (ended.state, ended.epoch, ended.because) == (StreamState.ENDED, 1, "over")
    assert (row.state, row.epoch, row.started_s) == (StreamState.STARTING, 2, 1001.0)


@pytest.mark.parametrize("publisher", ["pub", "other"])
def test_a_row_behind_a_presented_epoch_jumps_past_it(engine, publisher):
    """
    The database was restored from an older copy: its epochs are the past of its clients.
    """

    async def main():
        async with stored(engine) as store:
            await store.streams.start(start())
            return await store.streams.start(start(publisher, presented_epoch=7))

    assert go(main()).epoch == 8


def test_only_its_publisher_or_an_operator_ends_a_stream(engine):
    """
    A publisher that was fenced cannot end what is no longer its own.
    """

    async def main():
        async with stored(engine) as store:
            await store.streams.start(start())
            ends = [
                await store.streams.end("show", publisher=who, by="x", because="y", audit=AUDIT)
                for who in ("other", None, None)
            ]
            unknown = await store.streams.end("none", publisher=None, by="x", because="y")
            return [row is not None for row in ends], unknown, await audited(store)

    assert go(main()) == ([False, True, False], None, 1)


# --- Streams: reading ---


def test_a_node_that_heard_no_wake_up_finds_what_changed(engine):
    """
    A lost NOTIFY costs a moment: rows are the truth.
    """

    async def main():
        async with engine.nodes(2) as (here, there):
            one, other = Store(here), Store(there)
            await engine.set_clock(here, 1000.0)
            await one.streams.start(start())
            await one.streams.start(start(stream="still"))
            first = await other.streams.changed_since(0.0)
            await engine.set_clock(here, 1010.0)
            await one.streams.claim(claim(1))  # wakes nobody
            second = await other.streams.changed_since(first.at_s - 3.0)
            return first, second, await other.streams.changed_since(second.at_s)

    first, second, third = go(main())
    assert [row.id for row in first.rows] == ["show", "still"]
    assert first.at_s == 1000.0
    assert [(row.id, row.epoch) for row in second.rows if row.changed_s > 1005] == [("show", 2)]
    assert [row.id for row in third.rows] == ["show"], "a change at that very moment is seen again"


def test_what_changed_is_read_whole_however_much_it_is(engine, monkeypatch):
    """
    In pages, also when thousands of streams changed at one moment.
    """
    monkeypatch.setattr("hitless.server.store_streams.PAGE_MAX", 10)

    async def main():
        async with stored(engine) as store:
            await engine.set_clock(store.database, 1000.0)
            names = [f"s{n:02}" for n in range(35)]
            await asyncio.gather(*(store.streams.start(start(stream=name)) for name in names))
            changes = await store.streams.changed_since(1000.0)
            return names, [row.id for row in changes.rows]

    names, found = go(main())
    assert found == names


def test_streams_are_listed_in_pages_by_state_provider_and_group(engine):
    """
    By id, so that a page can go on where the last one stopped.
    """

    async def main():
        async with stored(engine) as store:
            streams = store.streams
            for n in range(6):
                await streams.start(
                    start(stream=f"s{n}", provider="ab"[n % 2], group="xyz"[n % 3])
                )
            await streams.confirm("s2", 1, "a")
            await streams.end("s4", publisher=None, by="x", because="y")
            pages = [
                await streams.page(),
                await streams.page(limit=2),
                await streams.page(after="s3", limit=1),
                await streams.page(provider="a"),
                await streams.page(group="y"),
                await streams.page(state=StreamState.LIVE),
                await streams.page(state=StreamState.STARTING, provider="a", after="s0"),
                await streams.page(limit=0),
            ]
            return ["".join(row.id[1] for row in page) for page in pages]

    assert go(main()) == ["012345", "01", "4", "024", "14", "2", "", ""]


def test_what_each_provider_carries_is_counted(engine):
    """
    Streams that are over do not count, nor viewers that are nowhere yet, nor publishers.
    """

    async def main():
        async with stored(engine) as store:
            for n in range(4):
                await store.streams.start(start(stream=f"s{n}", provider="ab"[n % 2]))
            await store.streams.confirm("s0", 1, "a")
            await store.streams.end("s3", publisher=None, by="x", because="y")
            for n, provider in enumerate(["a", "c", "c", None]):
                await store.members.join(viewer(f"v{n}", provider=provider))
            await store.members.join(replace(viewer("p", provider="a"), role=Role.PUBLISHER))
            return await store.streams.counts()

    assert go(main()) == [
        ProviderCount(provider="a", streams=2, carried=1, viewers=1),
        ProviderCount(provider="b", streams=1, carried=0, viewers=0),
        ProviderCount(provider="c", streams=0, carried=0, viewers=2),
    ]


def test_only_streams_long_over_are_forgotten(engine):
    """
    One that is on is never forgotten, however old it is.
    """

    async def main():
        async with stored(engine) as store:
            for at_s, name in ((1000.0, "old"), (1000.0, "on"), (1050.0, "new")):
                await engine.set_clock(store.database, at_s)
                await store.streams.start(start(stream=name))
                if name != "on":
                    await store.streams.end(name, publisher=None, by="x", because="y")
            await engine.set_clock(store.database, 1100.0)
            count = await store.streams.forget(60.0)
            return count, [row.id for row in await store.streams.page()]

    assert go(main()) == (1, ["new", "on"])


def test_many_claims_are_one_transaction_and_each_is_won_or_lost_by_itself(engine):
    """
    What somebody moved meanwhile stays where it is; the rest goes.
    """

    async def main():
        async with stored(engine) as store:
            for name in ("c", "a", "b"):
                await store.streams.start(start(stream=name))
            await store.streams.claim(claim(1, "zegocloud", stream="b"))
            moved = await store.streams.claim_all(
                [claim(1, "webrtc", stream=name) for name in ("c", "b", "a", "nobody")]
            )
            none = await store.streams.claim_all([])
            return moved, none, {row.id: placement(row) for row in await store.streams.page()}

    moved, none, rows = go(main())
    assert [row.id for row in moved] == ["a", "c"]
    assert none == []
    assert rows == {"a": (2, "webrtc"), "b": (2, "zegocloud"), "c": (2, "webrtc")}
