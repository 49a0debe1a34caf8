"""hitless.server.hands, hand_sessions, hand_legs: in virtual time, with a client that may lie."""

import asyncio

import pytest
from unit.server.room import APP, WATCHER, Room, news
from virtual_time import run

from hitless import errors
from hitless.client.protocol import (
    Claim,
    Close,
    Confirm,
    Finish,
    Hello,
    LegNews,
    NewPlan,
    Open,
    Over,
    Placement,
    Problem,
    Renew,
    Report,
    Rescue,
    Seen,
    SeenLeg,
    Welcome,
)
from hitless.core.agreement import By
from hitless.core.events import Role
from hitless.core.policy import Policy
from hitless.server.hand_legs import _error, cut
from hitless.server.hand_sessions import LEGS_MAX
from hitless.server.hub import OUTBOX_MAX, STREAMS_MAX


def publisher(stream="show", **more):
    """Return a stream that a client publishes, as it says it in a hello."""
    return Seen(stream=stream, role="publisher", **more)


def viewer(stream="show", **more):
    """Return a stream that a client watches."""
    return Seen(stream=stream, role="viewer", wait_s=600.0, **more)


def kinds(messages):
    """Return what was said, by name."""
    return [type(message).__name__ for message in messages]


def opened(messages):
    """Return which legs were ordered, each with its provider."""
    return [(one.leg, one.provider) for one in messages if isinstance(one, Open)]


def closed(messages):
    """Return which legs were to be closed."""
    return [one.leg for one in messages if isinstance(one, Close)]


def say(hand, leg, provider, state, **more):
    """Say what became of a leg."""
    hand.hear(LegNews(stream="show", leg=leg, provider=provider, state=state, **more))


async def on_air(room, **more):
    """Return a hand that publishes on the first provider."""
    hand = room.hand(publisher(), **more)
    await news(hand)
    say(hand, 1, "one", "live")
    await news(hand)
    return hand


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
    async def main():
        async with Room("one", "two") as room:
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


# --- Clients that lie, flood, or are not what they seem ---


@pytest.mark.parametrize(
    "told",
    [
        {"stream": "show", "leg": 9, "provider": "one"},
        {"stream": "show", "leg": 1, "provider": "two"},
        {"stream": "other", "leg": 1, "provider": "one"},
    ],
    ids=["no such leg", "another provider", "another stream"],
)
def test_news_of_a_leg_that_was_never_ordered_so_changes_nothing(told):
    async def main():
        async with Room("one", "two") as room:
            hand = room.hand(publisher())
            await news(hand)
            lie = LegNews(state="live", **told)
            has = hand.has(lie)
            hand.hear(lie)
            said = await news(hand)
            hand.hear(LegNews(state="failed", error="Refused", **told))
            return has, said, await news(hand), room.placement()

    has, said, after, placement = run(main())
    assert has is False, "it is no evidence either"
    assert [(m.stream, m.leg) for m in said] == [(told["stream"], told["leg"])]
    assert kinds(said) == ["Close"]
    assert after == []
    assert placement == (1, "one", False)


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (Claim(stream="show", base=1, provider="two"), "not-for-hands"),
        (Confirm(stream="show", epoch=1, provider="two"), "not-for-hands"),
        (Finish(stream="other"), "unknown-stream"),
        (Renew(stream="other"), "unknown-stream"),
        (Hello(client="phone", streams=(viewer(),)), "busy"),
        (Hello(client="phone", streams=(viewer(stream=""),)), "bad-stream"),
    ],
)
def test_what_a_hand_may_not_say_is_answered(message, code):
    async def main():
        async with Room("one", "two") as room:
            hand = await on_air(room)
            hand.hear(message)
            return await news(hand), room.placement()

    said, placement = run(main())
    assert [one.code for one in said] == [code]
    assert placement == (1, "one", True)


def test_a_key_for_viewers_publishes_nothing():
    async def main():
        async with Room("one") as room:
            hand = room.hand(publisher(), who=WATCHER)
            return await news(hand), room.store.of

    said, rows = run(main())
    assert said[-1].code == "forbidden"
    assert rows == {}


def test_a_client_that_was_removed_is_told_so_and_forgotten():
    async def main():
        async with Room("one") as room:
            room.plans.is_refusing = True
            hand = room.hand(publisher())
            return await news(hand), hand.roles

    said, roles = run(main())
    assert (said[-1].code, roles) == ("forbidden", {})


def test_a_removed_client_on_air_gets_no_fresh_credential_for_the_next_leg():
    async def main():
        async with Room("one", "two") as room:
            room.plans.outage_s = 60.0
            hand = await on_air(room)
            room.plans.is_refusing = True
            await asyncio.sleep(40.0)
            say(hand, 1, "one", "silent", because="no packets")
            return await news(hand, 1.0)

    assert "two" not in [provider for _, provider in opened(run(main()))]


def test_more_streams_than_one_connection_may_have_are_refused():
    async def main():
        async with Room("one") as room:
            seen = [viewer(f"show-{n}") for n in range(STREAMS_MAX + 2)]
            hand = room.hand(*seen)
            return await news(hand), len(hand.roles)

    said, count = run(main())
    assert [m.code for m in said if isinstance(m, Problem)] == ["too-many"] * 2
    assert count == STREAMS_MAX


def test_legs_beyond_measure_and_doubled_numbers_are_closed():
    async def main():
        async with Room("one") as room:
            await on_air(room, client="before")
            legs = [SeenLeg(leg=n, provider="one") for n in (1, 1, 0, -3, 1 << 40)]
            legs += [SeenLeg(leg=n, provider="one") for n in range(2, LEGS_MAX + 2)]
            hand = room.hand(viewer(epoch=1, provider="one", legs=tuple(legs)), client="tv")
            return closed(await news(hand))

    assert run(main())[:5] == [1, 0, -3, 1 << 40, LEGS_MAX + 1]


def test_asking_for_plans_again_and_again_makes_one_a_second():
    async def main():
        async with Room("one") as room:
            hand = await on_air(room)
            for _ in range(100):
                hand.hear(Renew(stream="show"))
                await asyncio.sleep(0.01)
            return room.plans.made, kinds(await news(hand))

    made, said = run(main())
    assert made <= 3
    assert set(said) == {"NewPlan"}
    assert len(said) >= 90, "each is answered"


def test_a_client_that_does_not_read_is_cut_with_a_word():
    async def main():
        async with Room("one") as room:
            hand = await on_air(room)
            for n in range(OUTBOX_MAX + 10):
                hand.hear(Finish(stream=f"other-{n}"))
            return hand.cut.is_set(), hand.last_word.code, len(hand.waiting())

    assert run(main()) == (True, "too-slow", OUTBOX_MAX)


def test_reports_and_news_without_end_cost_no_memory():
    async def main():
        async with Room("one", "two") as room:
            hand = await on_air(room)
            for n in range(2000):
                hand.hear(Report(stream="show", provider="one"))
                say(hand, 1, "one", "live")
                say(hand, n + 10, "two", "failed", error="x" * 100)
            return kinds(await news(hand)), len(hand._legs), len(hand._tasks)

    assert run(main()) == ([], 1, 0)


@pytest.mark.parametrize(("told_s", "known_s"), [(-5.0, 0.0), (0.3, 0.3), (1e300, 60.0)])
def test_the_age_of_media_that_a_client_tells_is_bounded(told_s, known_s):
    async def main():
        async with Room("one", "two") as room:
            hand = await on_air(room)
            say(hand, 1, "one", "silent", mediaAge=told_s)
            return hand.driver.media_age_s("one"), opened(await news(hand))

    age_s, orders = run(main())
    assert age_s == pytest.approx(known_s)
    assert (2, "two") in orders


# --- Two of one name ---


def test_the_newer_of_two_connections_of_one_client_stays():
    async def main():
        async with Room("one") as room:
            older = room.hand(client="phone")
            newer = room.hand(client="phone")
            return older.last_word.code, newer.cut.is_set(), list(room.hub) == [newer]

    assert run(main()) == ("replaced", False, True)


def test_the_same_name_under_another_key_is_somebody_else():
    async def main():
        async with Room("one") as room:
            hand = await on_air(room, client="phone")
            other = room.hand(viewer(), client="phone", who=WATCHER)
            await news(other)
            clients = room.hub.clients("show")
            return hand.cut.is_set(), other.cut.is_set(), len(clients), len(room.hub)

    assert run(main()) == (False, False, 2, 2)


# --- Nothing is left ---


@pytest.mark.parametrize("phase", ["begins", "opens", "on air", "moves", "waits", "store away"])
def test_nothing_of_a_hand_outlives_its_connection(phase):
    """
    Whatever it is at; a second end changes nothing, and nothing is said after it.
    """

    async def main():
        async with Room("one", "two") as room:
            hand = room.hand(viewer() if phase == "waits" else publisher())
            if phase != "begins":
                await news(hand)
            if phase in ("on air", "moves", "store away"):
                say(hand, 1, "one", "live")
                await news(hand)
            if phase in ("moves", "store away"):
                room.store.is_up = phase == "moves"
                say(hand, 1, "one", "silent")
                await news(hand)
            if phase == "store away":
                say(hand, 2, "two", "live")
                await news(hand)
            hand.waiting()
            began_s = room.loop.time()
            await room.cut(hand)
            took_s = room.loop.time() - began_s
            left = [t.get_name() for t in asyncio.all_tasks() if "hand" in t.get_name()]
            await hand.aclose()
            hand.send(Placement(stream="show", epoch=9, provider="two"))
            say(hand, 1, "one", "heard")
            return took_s, left, hand.waiting(), len(room.hub)

    took_s, left, said, connected = run(main())
    assert took_s < Policy().close_s_max + 1.0
    assert (left, said, connected) == ([], [], 0)


# --- Words ---


@pytest.mark.parametrize(
    ("told", "kind", "retry"),
    [
        ({"error": "Unreachable"}, errors.Unreachable, errors.Retry.SAME),
        ({"error": "Refused"}, errors.Refused, errors.Retry.NEXT),
        ({"error": "Refused", "retry": "same"}, errors.Refused, errors.Retry.SAME),
        ({"error": "CredentialsRejected"}, errors.CredentialsRejected, errors.Retry.SAME),
        ({"error": "MediaLost"}, errors.MediaLost, errors.Retry.NEXT),
        ({"error": "ContractBroken"}, errors.ContractBroken, errors.Retry.NEXT),
        ({"error": "SdkError 1027"}, errors.ProviderError, errors.Retry.NEXT),
        ({"error": "__class__"}, errors.ProviderError, errors.Retry.NEXT),
        ({}, errors.ProviderError, errors.Retry.NEXT),
    ],
)
def test_what_failed_at_a_client_is_what_an_adapter_would_raise(told, kind, retry):
    found = _error("one", Role.PUBLISHER, LegNews(stream="s", provider="one", state="failed", **told))

    assert (type(found), found.retry) == (kind, retry)


def test_faults_of_a_client_blame_nobody_and_absence_is_for_viewers():
    def found(error, role):
        news = LegNews(stream="s", provider="one", state="failed", error=error, retry_after_s=2.0)
        return _error("one", role, news)

    assert type(found("LocalFault", Role.PUBLISHER)) is errors.LocalFault
    assert found("NotOnAir", Role.VIEWER).retry_after_s == 2.0
    assert type(found("NotOnAir", Role.PUBLISHER)) is errors.ProviderError


def test_a_leg_that_the_client_closed_by_itself_has_lost_its_media():
    news = LegNews(stream="s", provider="one", state="closed")

    assert type(_error("one", Role.VIEWER, news)) is errors.MediaLost


def test_words_from_outside_are_one_short_line():
    assert cut(" two\nlines\x1b[31m ") == "two lines [31m"
    assert len(cut("x" * 10_000)) == 300
    assert APP.key  # the room's own key is one
