"""hitless.server.store_streams, on both engines: agreeing"""

import asyncio

import pytest
from unit.server.stored_streams import AUDIT, audited, claim, go, placement, start, stored

from hitless.server.store import Store
from hitless.server.store_streams import StreamState


pytest_plugins = ("postgres_server",)


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
