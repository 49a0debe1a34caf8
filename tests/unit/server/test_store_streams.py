"""hitless.server.store_streams, on both engines"""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from hitless.server.store import Store
from hitless.server.store_members import Member, Role
from hitless.server.store_rows import Audit
from hitless.server.store_streams import Claim, ProviderCount, Start, StreamState


pytest_plugins = ("postgres_server",)

LIMIT_S = 30.0

AUDIT = Audit(
    who="alice", what="tested", target="show", because="a test", before={"a": 1}, after=None
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


def start(publisher="pub", provider="agora", **more):
    """Say that a stream is started."""
    said = {"stream": "show", "group": "show", "node": "n1", "because": "it began", **more}
    return Start(publisher=publisher, provider=provider, **said)


def claim(base_epoch, provider="webrtc", **more):
    """Say that a placement is claimed."""
    said = {"stream": "show", "by": "server", "because": "it is better", **more}
    return Claim(base_epoch=base_epoch, provider=provider, **said)


def viewer(client, **more):
    """Return a viewer of the show."""
    said = {"stream": "show", "role": Role.VIEWER, "node": "n1", "provider": "agora", **more}
    return Member(client=client, **said)


def placement(row):
    """Return what there is to agree on."""
    return row.epoch, row.provider


async def audited(store):
    """Return how many entries the log has."""
    return len(await store.audit.page())


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


# --- Streams: agreeing ---


def test_a_claim_on_the_current_epoch_is_accepted_and_an_older_one_is_told_the_current(engine):
    """
    Compare-and-set; the refused one learns what to obey.
    """

    async def main():
        async with stored(engine) as store:
            await store.streams.start(start())
            await store.streams.confirm("show", 1, "agora")
            won = await store.streams.claim(claim(1), audit=AUDIT)
            lost = await store.streams.claim(claim(1, "zegocloud"), audit=AUDIT)
            early = await store.streams.claim(claim(3, "zegocloud"), audit=AUDIT)
            return won, lost, early, await audited(store)

    (won, is_won), (lost, is_lost), (early, is_early), entries = go(main())
    assert is_won
    assert placement(won) == (2, "webrtc")
    assert (won.is_carried, won.by, won.because) == (False, "server", "it is better")
    assert (lost, is_lost) == (won, False)
    assert (early, is_early) == (won, False)
    assert entries == 1


def test_of_many_claims_on_one_epoch_exactly_one_is_accepted(engine):
    """
    Servers, a publisher and an operator, all at once, from two nodes.
    """

    async def main():
        async with engine.nodes(2) as databases:
            stores = [Store(database) for database in databases]
            await stores[0].streams.start(start())
            answers = await asyncio.gather(
                *(
                    stores[n % 2].streams.claim(claim(1, f"p{n}"), audit=AUDIT, wake="x")
                    for n in range(30)
                )
            )
            return answers, await stores[0].streams.one("show"), await audited(stores[0])

    answers, row, entries = go(main())
    winners = [answer for answer, is_accepted in answers if is_accepted]
    assert winners == [row]
    assert {placement(answer) for answer, _ in answers} == {(2, row.provider)}
    assert entries == 1


def test_a_claim_that_is_repeated_is_confirmed_and_changes_nothing(engine):
    """
    Its answer got lost. Whoever wants the same is content as well.
    """

    async def main():
        async with stored(engine) as store:
            await store.streams.start(start())
            said = claim(1, by="publisher", publisher="pub")
            answers = [await store.streams.claim(said, audit=AUDIT) for _ in range(2)]
            answers.append(await store.streams.claim(claim(1), audit=AUDIT))
            return answers, await audited(store)

    answers, entries = go(main())
    assert answers == [answers[0]] * 3
    assert answers[0][1]
    assert entries == 1


def test_a_claim_of_a_fenced_publisher_is_refused_whatever_epoch_it_knows(engine):
    """
    Epochs are no secret: the one that was fenced may have heard the newest.
    """

    async def main():
        async with stored(engine) as store:
            await store.streams.start(start("old"))
            now = await store.streams.start(start("new"))
            fenced = [
                await store.streams.claim(claim(base, publisher="old", by="publisher"))
                for base in (1, 2)
            ]
            same = claim(1, "agora", publisher="old", by="publisher")
            return now, [*fenced, await store.streams.claim(same)]

    now, answers = go(main())
    assert answers == [(now, False)] * 3


def test_a_claim_on_a_stream_that_is_over_is_refused(engine):
    """
    Only a start brings it back.
    """

    async def main():
        async with stored(engine) as store:
            await store.streams.start(start())
            ended = await store.streams.end("show", publisher=None, by="x", because="y")
            repeated = claim(0, "agora", publisher="pub", by="publisher")
            answers = [await store.streams.claim(c) for c in (claim(1), repeated)]
            return ended, answers, await store.streams.confirm("show", 1, "agora")

    ended, answers, confirmed = go(main())
    assert answers == [(ended, False)] * 2
    assert confirmed is None


def test_an_unknown_stream_is_taken_back_by_its_publisher_only(engine):
    """
    The database was lost. Nobody else's word brings a stream into being.
    """

    async def main():
        async with stored(engine) as store:
            nobody = await store.streams.claim(claim(5))
            said = claim(5, presented_epoch=7, publisher="pub", by="publisher", is_carried=True)
            taken = await store.streams.claim(said)
            again = await store.streams.claim(said)
            late = await store.streams.claim(claim(5, "agora"))
            based = await store.streams.claim(
                claim(9, stream="other", publisher="pub", group="duo", node="n7")
            )
            return nobody, taken, again, late, based

    nobody, (taken, is_taken), again, (late, is_late), (based, _) = go(main())
    assert nobody == (None, False)
    assert is_taken
    assert placement(taken) == (8, "webrtc")
    assert (taken.publisher, taken.group_id) == ("pub", "show")
    assert (taken.state, taken.is_carried) == (StreamState.LIVE, True)
    assert again == (taken, True)
    assert (late, is_late) == (taken, False)
    assert (based.epoch, based.group_id, based.node) == (10, "duo", "n7")


def test_a_claim_with_a_signed_epoch_beyond_the_row_outgrows_both(engine):
    """
    The database was restored from an older copy, in which even the publisher was another.
    """

    async def main():
        async with stored(engine) as store:
            await store.streams.start(start("old"))
            unsigned = await store.streams.claim(claim(9, publisher="pub"))
            signed = await store.streams.claim(claim(9, publisher="pub", presented_epoch=6))
            return unsigned, signed

    (unsigned, is_unsigned), (signed, is_signed) = go(main())
    assert (placement(unsigned), is_unsigned) == ((1, "agora"), False)
    assert (placement(signed), is_signed) == ((10, "webrtc"), True)
    assert signed.publisher == "pub"


def test_media_is_confirmed_for_the_current_placement_only(engine):
    """
    A confirmation that comes late speaks of a leg that nobody watches any more.
    """

    async def main():
        async with stored(engine) as store:
            await store.streams.start(start())
            wrong = [
                await store.streams.confirm("show", 2, "agora"),
                await store.streams.confirm("show", 1, "webrtc"),
                await store.streams.confirm("none", 1, "agora"),
            ]
            await engine.set_clock(store.database, 1000.0)
            right = await store.streams.confirm("show", 1, "agora")
            await engine.set_clock(store.database, 1001.0)
            again = await store.streams.confirm("show", 1, "agora")
            await store.streams.claim(claim(1))
            return wrong, right, again, await store.streams.confirm("show", 1, "agora")

    wrong, right, again, late = go(main())
    assert wrong == [None] * 3
    assert (right.is_carried, right.state) == (True, StreamState.LIVE)
    assert again == right, "what is so already is no change"
    assert late is None


@pytest.mark.parametrize(
    ("provider", "says_so", "expected"),
    [("agora", False, True), ("webrtc", False, False), ("webrtc", True, True)],
)
def test_a_placement_is_carried_where_media_flow_already(engine, provider, says_so, expected):
    """
    Where it was anyway, or where its publisher went before it claimed.
    """

    async def main():
        async with stored(engine) as store:
            await store.streams.start(start())
            await store.streams.confirm("show", 1, "agora")
            row, _ = await store.streams.claim(claim(1, provider, is_carried=says_so))
            return row

    assert go(main()).is_carried is expected


def test_a_stream_has_one_extra_leg_at_a_time(engine):
    """
    It may be kept for longer; another one only when it has run out, by the database's clock.
    """

    async def main():
        async with stored(engine) as store:
            streams = store.streams
            await streams.start(start())
            await engine.set_clock(store.database, 1000.0)
            first = await streams.rescue("show", "webrtc", 30.0)
            await engine.set_clock(store.database, 1010.0)
            kept = await streams.rescue("show", "webrtc", 30.0)
            await engine.set_clock(store.database, 1039.0)
            refused = await streams.rescue("show", "zegocloud", 30.0, audit=AUDIT)
            await engine.set_clock(store.database, 1040.0)
            other = await streams.rescue("show", "zegocloud", 30.0, audit=AUDIT)
            over, again = await streams.end_rescue("show"), await streams.end_rescue("show")
            return first, kept, refused, other, over, again, await audited(store)

    first, kept, refused, other, over, again, entries = go(main())
    assert (first.rescue_provider, first.rescue_until_s) == ("webrtc", 1030.0)
    assert kept.rescue_until_s == 1040.0
    assert refused is None
    assert other.rescue_provider == "zegocloud"
    assert (over.rescue_provider, over.rescue_until_s, again) == (None, None, None)
    assert entries == 1


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
