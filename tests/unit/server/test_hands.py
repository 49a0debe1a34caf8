"""hitless.server.hands, hand_sessions, hand_legs: in virtual time, with a client that may lie."""

import asyncio

from unit.server.room import (
    Room,
    closed,
    kinds,
    news,
    on_air,
    opened,
    publisher,
    say,
    viewer,
)
from virtual_time import run

from hitless.client.protocol import (
    Finish,
    Hello,
    NewPlan,
    Open,
    Over,
    Placement,
    Problem,
    Rescue,
    SeenLeg,
    Welcome,
)
from hitless.core.agreement import By
from hitless.core.policy import Policy


# --- Publishing ---


def test_a_plan_comes_first_then_the_order_to_open_with_its_credential():
    async def main():
        async with Room("one", "two") as room:
            hand = room.hand(publisher())
            said = await news(hand)
            say(hand, 1, "one", "live")
            more = await news(hand)
            return said, more, room.placement()

    (welcome, plan, order), more, placement = run(main())
    assert (welcome, type(plan)) == (Welcome(node="n1"), NewPlan)
    assert (order.leg, order.provider) == (1, "one")
    assert order.credential == plan.plan.credentials["one"]
    assert more == []
    assert placement == (1, "one", True), "its first media confirms the placement"


def test_silence_opens_the_next_leg_and_keeps_the_silent_one_until_that_is_live():
    async def main():
        async with Room("one", "two") as room:
            hand = await on_air(room)
            say(hand, 1, "one", "silent", because="no packets", mediaAge=0.3)
            before = await news(hand)
            say(hand, 2, "two", "live")
            after = await news(hand)
            return before, after, room.placement()

    before, after, placement = run(main())
    assert (opened(before), closed(before)) == ([(2, "two")], [])
    assert "no packets" in before[0].because
    assert closed(after) == [1]
    assert [(m.epoch, m.is_own) for m in after if isinstance(m, Placement)] == [(2, True)]
    assert placement == (2, "two", True)


def test_a_leg_that_is_heard_again_stays_and_the_next_one_is_not_needed():
    async def main():
        async with Room("one", "two") as room:
            hand = await on_air(room)
            say(hand, 1, "one", "silent", because="no packets")
            await news(hand)
            say(hand, 1, "one", "heard")
            said = await news(hand, 1.0)
            return said, room.placement()

    said, placement = run(main())
    assert closed(said) == [2]
    assert placement == (1, "one", True)


def test_what_cannot_be_reached_is_tried_once_more_then_the_next():
    async def main():
        async with Room("one", "two") as room:
            hand = room.hand(publisher())
            said = await news(hand)
            for leg, provider in ((1, "one"), (2, "one")):
                say(hand, leg, provider, "failed", error="Unreachable", because="timed out")
                said += await news(hand, 3.0)
            return opened(said)

    assert run(main()) == [(1, "one"), (2, "one"), (3, "two")]


def test_a_rejected_credential_is_renewed_once_then_the_next_provider_is_asked():
    """
    However many retries the policy would allow.
    """
    patient = Policy(max_retries=5, same_provider_retries=3)

    async def main():
        async with Room("one", "two", policy=patient) as room:
            hand = room.hand(publisher())
            said = await news(hand)
            for leg in (1, 2):
                say(hand, leg, "one", "failed", error="CredentialsRejected", because="401")
                said += await news(hand, 3.0)
            return said

    said = run(main())
    orders = [one for one in said if isinstance(one, Open)]
    assert opened(said) == [(1, "one"), (2, "one"), (3, "two")]
    assert orders[0].credential != orders[1].credential, "it is a fresh one"


def test_a_move_is_made_before_break_and_at_its_moment():
    """
    A client with media waits for its turn; told again without a delay, it does not.
    """

    async def main():
        async with Room("one", "two", "three") as room:
            hand = await on_air(room)
            move = {"by": By.OPERATOR, "because": "a drain"}
            await room.coordinator.move("show", "two", delay_s=5.0, **move)
            told = await news(hand, 4.9)
            turn = await news(hand, 0.2)
            say(hand, 2, "two", "live")
            await news(hand, 1.0)
            await room.coordinator.move("show", "three", delay_s=500.0, **move)
            await news(hand)
            row = room.store.of["show"]
            hand.send(Placement(stream="show", epoch=row.epoch, provider="three"))
            return told, turn, await news(hand)

    told, turn, hastened = run(main())
    assert kinds(told) == ["Placement"], "the client remembers the epoch meanwhile"
    assert opened(turn) == [(2, "two")]
    assert closed(turn) == [], "make before break"
    assert opened(hastened) == [(3, "three")]
    assert "Placement" not in kinds(hastened), "an epoch is told once"


def test_the_end_closes_the_legs_before_it_is_told_and_is_stored():
    async def main():
        async with Room("one", "two") as room:
            hand = await on_air(room)
            hand.hear(Finish(stream="show", because="the show is over"))
            said = await news(hand)
            return said, room.store.of["show"].state, hand.roles

    said, state, roles = run(main())
    assert kinds(said) == ["Close", "Over"]
    assert said[1].outcome == "requested"
    assert (state, roles) == ("ended", {})


def test_a_stream_that_is_finished_while_its_plan_is_made_never_opens():
    async def main():
        async with Room("one") as room:
            hand = room.hand(publisher())
            hand.hear(Finish(stream="show"))
            said = await news(hand)
            return said, room.store.of["show"].state

    said, state = run(main())
    assert opened(said) == []
    assert kinds(said)[-1] == "Over"
    assert state == "ended"


def test_a_stream_that_is_begun_again_waits_for_the_last_words_of_the_one_before():
    async def main():
        async with Room("one") as room:
            hand = await on_air(room)
            hand.hear(Finish(stream="show"))
            hand.hear(Hello(client="phone", hands=True, streams=(publisher(),)))
            said = await news(hand, 1.0)
            return kinds(said), room.placement()

    said, placement = run(main())
    assert said == ["Close", "Over", "NewPlan", "Open"]
    assert placement[0] == 2


def test_a_publisher_that_was_replaced_closes_its_legs_and_is_over():
    async def main():
        async with Room("one") as room:
            hand = await on_air(room)
            room.hand(publisher(), client="spare")
            said = await news(hand)
            return said, room.store.of["show"].publisher

    said, publisher_now = run(main())
    assert kinds(said) == ["Close", "Over"]
    assert "another client publishes it" in said[1].because
    assert publisher_now == "spare"


# --- Watching ---


def test_a_viewer_opens_nothing_until_somebody_publishes():
    async def main():
        async with Room("one", "two") as room:
            tv = room.hand(viewer(), client="tv")
            waiting = await news(tv, 60.0)
            await on_air(room)
            return waiting, await news(tv, 1.0)

    waiting, after = run(main())
    assert kinds(waiting) == ["Welcome", "NewPlan"]
    assert waiting[1].plan.epoch == 0
    assert opened(after)[0] == (1, "one")


def test_a_viewer_that_waits_is_not_sent_away_by_the_end_of_the_stream_before():
    """
    Ends may be told again, and are about the epoch they name.
    """

    async def main():
        async with Room("one") as room:
            tv = room.hand(viewer(), client="tv")
            await news(tv)
            tv.send(Over(stream="show", because="the show before", epoch=7))
            waited = await news(tv, 1.0)
            await on_air(room)
            say(tv, 1, "one", "live")
            await news(tv, 1.0)
            await room.coordinator.end("show", None, "the operator ends it")
            return waited, await news(tv, 1.0)

    waited, after = run(main())
    assert waited == []
    assert kinds(after) == ["Close", "Over"]
    assert after[1].outcome == "stream_ended"


def test_a_viewer_that_loses_media_stays_with_whoever_carries_it_next():
    async def main():
        async with Room("one", "two") as room:
            await on_air(room)
            tv = room.hand(viewer(), client="tv")
            await news(tv)
            say(tv, 1, "one", "live")
            await news(tv)
            say(tv, 1, "one", "silent", because="no packets")
            said = await news(tv, 1.0)
            say(tv, 2, "two", "live")
            return said, await news(tv, 1.0)

    said, after = run(main())
    assert (2, "two") in opened(said)
    assert 1 in closed(after)
    assert 2 not in closed(after)


def test_an_order_to_rescue_viewers_opens_one_more_leg_and_leaves_the_one_on_air():
    async def main():
        async with Room("one", "two") as room:
            hand = await on_air(room)
            hand.send(Rescue(stream="show", provider="two", because="tv cannot reach one"))
            began = await news(hand)
            say(hand, 2, "two", "live")
            both = await news(hand, 60.0)
            hand.send(Rescue(stream="show", because="nobody needs it any more"))
            return began, both, closed(await news(hand)), room.placement()

    began, both, after, placement = run(main())
    assert opened(began) == [(2, "two")]
    assert both == []
    assert after == [2]
    assert placement == (1, "one", True)


# --- Coming back ---


def test_a_leg_that_a_client_comes_back_with_is_taken_up_as_it_is():
    async def main():
        async with Room("one", "two") as room:
            hand = await on_air(room)
            await room.cut(hand)
            leg = SeenLeg(leg=1, provider="one")
            back = room.hand(publisher(epoch=1, provider="one", plan="signed:1", legs=(leg,)))
            said = await news(back, 60.0)
            say(back, 1, "one", "silent", because="no packets")
            return said, await news(back)

    said, after = run(main())
    assert kinds(said) == ["Welcome", "NewPlan"]
    assert opened(after) == [(2, "two")], "it is ours again"


def test_a_client_that_was_moved_while_it_was_away_moves_make_before_break():
    async def main():
        async with Room("one", "two") as room:
            hand = await on_air(room)
            await room.cut(hand)
            await room.coordinator.move("show", "two", by=By.OPERATOR, because="a move")
            leg = SeenLeg(leg=1, provider="one")
            back = room.hand(publisher(epoch=1, provider="one", legs=(leg,)))
            before = await news(back, 1.0)
            say(back, 2, "two", "live")
            after = await news(back, 90.0)
            return before, after, room.placement()

    before, after, placement = run(main())
    assert (opened(before), closed(before)) == ([(2, "two")], [])
    assert closed(after) == [1]
    assert placement == (2, "two", True)


def test_a_client_that_went_on_from_its_plan_has_that_agreed():
    async def main():
        async with Room("one", "two") as room:
            hand = await on_air(room)
            await room.cut(hand)
            leg = SeenLeg(leg=7, provider="two")
            back = room.hand(publisher(epoch=1, provider="two", legs=(leg,)))
            said = await news(back, 1.0)
            say(back, 7, "two", "failed", error="MediaLost", because="gone")
            return said, opened(await news(back)), room.placement()

    said, after, placement = run(main())
    assert [m.is_own for m in said if isinstance(m, Placement)] == [True]
    assert opened(said) == []
    assert placement == (2, "two", True)
    assert after == [(8, "one")], "numbers that the client has used are not given again"


def test_a_client_with_media_goes_on_while_the_store_is_away_and_gets_its_plan_later():
    async def main():
        async with Room("one", "two") as room:
            hand = await on_air(room)
            await room.cut(hand)
            room.store.is_up = False
            leg = SeenLeg(leg=1, provider="one")
            back = room.hand(publisher(epoch=1, provider="one", legs=(leg,)))
            away = await news(back, 30.0)
            room.store.is_up = True
            return away, await news(back, 11.0)

    away, after = run(main())
    assert kinds(away) == ["Welcome"]
    assert kinds(after) == ["NewPlan"]


def test_one_that_begins_while_the_store_is_away_is_told_to_try_again_and_may():
    async def main():
        async with Room("one") as room:
            room.store.is_up = False
            hand = room.hand(publisher())
            refused = await news(hand)
            room.store.is_up = True
            hand.hear(Hello(client="phone", hands=True, streams=(publisher(),)))
            return refused, await news(hand)

    refused, after = run(main())
    assert [m.code for m in refused if isinstance(m, Problem)] == ["unavailable"]
    assert kinds(after) == ["NewPlan", "Open"]


def test_an_end_that_cannot_be_stored_is_stored_when_the_client_has_gone():
    async def main():
        async with Room("one") as room:
            hand = await on_air(room)
            room.store.is_up = False
            hand.hear(Finish(stream="show"))
            await news(hand)
            await room.cut(hand)
            await asyncio.sleep(20.0)
            room.store.is_up = True
            await asyncio.sleep(11.0)
            return room.store.of["show"].state

    assert run(main()) == "ended"


def test_an_end_that_can_never_be_stored_is_given_up():
    """
    Nothing tries for ever: the row ends by the silence of its publisher.
    """

    async def main():
        async with Room("one") as room:
            hand = await on_air(room)
            room.store.is_up = False
            hand.hear(Finish(stream="show"))
            await asyncio.sleep(600.0)
            left = [t.get_name() for t in asyncio.all_tasks() if "end of" in t.get_name()]
            return left

    assert run(main()) == []


def test_a_placement_that_comes_before_the_plan_is_told_after_it():
    """
    The plan is the first that a client hears of a stream; what is newer follows.
    """

    async def main():
        async with Room("one", "two") as room:
            making = asyncio.Event()
            start = room.store.start

            async def slowly(*args, **more):
                row = await start(*args, **more)
                await making.wait()
                return row

            room.store.start = slowly
            hand = room.hand(publisher())
            await asyncio.sleep(0.1)
            await room.coordinator.move("show", "two", by=By.OPERATOR, because="a move")
            early = await news(hand)
            making.set()
            return early, await news(hand)

    early, after = run(main())
    assert kinds(early) == ["Welcome"]
    assert kinds(after) == ["NewPlan", "Placement", "Open"]
    assert after[2].provider == "two"
