"""hitless.server.hands with clients that lie, flood, vanish, or have one name, in virtual time."""

import asyncio

import pytest
from unit.server.room import (
    APP,
    WATCHER,
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

from hitless import errors
from hitless.client.protocol import (
    Claim,
    Confirm,
    Finish,
    Hello,
    LegNews,
    Placement,
    Problem,
    Renew,
    Report,
    SeenLeg,
)
from hitless.core.events import Role
from hitless.core.policy import Policy
from hitless.server.hand_legs import _error, cut
from hitless.server.hand_sessions import LEGS_MAX
from hitless.server.hub import OUTBOX_MAX, STREAMS_MAX


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
    found = _error(
        "one", Role.PUBLISHER, LegNews(stream="s", provider="one", state="failed", **told)
    )

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
