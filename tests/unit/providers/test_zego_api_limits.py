"""ZEGOCLOUD's server API: its limits, a call that is cancelled, and the end."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web
from control_calls import (
    asked_of_what_nobody_waits_for,
    assert_a_cancelled_call_ends_its_connection,
)
from control_stand_in import Answering, Asked, Noting, answers, hanging
from unit.providers.zego_api_calls import CALLS, STREAMS, USER, ask, client_of, reply

from hitless.errors import Refused, StreamEnded
from hitless.providers.zego_api import ZegoApi
from hitless.providers.zego_codes import ACTIONS
from hitless.providers.zego_rest import LIMITS, TEST_LIMITS


# --- Limits, cancellation, the end ---


def test_the_limits_are_the_documented_ones() -> None:
    """Per App ID and action, [1/s]; lower in the test environment."""
    assert {action: limit.per_s for action, limit in LIMITS.items()} == {
        "DescribeUserNum": 10,
        "DescribeSimpleStreamList": 50,
        "DescribeRTCStreamState": 40,
        "KickoutUser": 50,
        "ForbidRTCStream": 20,
        "ResumeRTCStream": 20,
        "AddStream": 10,
        "DeleteStream": 10,
        "RTMPDispatchV2": 40,
    }
    assert {action for action, limit in LIMITS.items() if limit.each_s == 10} == {
        "DescribeSimpleStreamList"
    }
    assert set(LIMITS) == set(TEST_LIMITS) == set(ACTIONS)
    assert all(TEST_LIMITS[action].per_s <= LIMITS[action].per_s for action in LIMITS)


def test_a_burst_of_calls_stays_within_the_limit_of_its_action() -> None:
    """Twenty-five announcements: no second sends more than ten."""
    quota = Noting("zegocloud", LIMITS)

    async def use(api: ZegoApi) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.gather(
            *(api.add_stream("a", USER, f"s{n}", deadline=loop.time() + 60) for n in range(25))
        )

    _, asked = ask(answers(reply()), use, quota=quota)
    assert len(asked) == len(quota.times) == 25
    assert max(sum(at <= each < at + 1 for each in quota.times) for at in quota.times) <= 10


def test_a_room_is_listed_once_in_ten_seconds() -> None:
    """Who cannot wait so long is told when, and nothing is asked."""

    async def use(api: ZegoApi) -> None:
        loop = asyncio.get_running_loop()
        await api.streams("a")
        await api.streams("b")
        with pytest.raises(Refused, match="our own limit") as caught:
            await api.streams("a", deadline=loop.time() + 1.0)
        assert 5.0 < (caught.value.retry_after_s or 0.0) < 12.0
        assert caught.value.answered is False

    _, asked = ask(answers(reply(0, STREAMS)), use)
    assert [dict(each.query)["RoomId"] for each in asked] == ["a", "b"]


@pytest.mark.parametrize(("code", "is_held"), [(206, True), (207, False)])
def test_too_many_calls_are_answered_by_silence(code: int, is_held: bool) -> None:
    """Nobody asks that action for a second; a limit of one room holds nobody else."""
    quota = Noting("zegocloud", LIMITS)

    async def use(api: ZegoApi) -> None:
        loop = asyncio.get_running_loop()
        with pytest.raises(Refused, match="too many calls") as caught:
            await api.kick_out("a", [USER])
        assert caught.value.retry_after_s == 1.0
        if is_held:
            with pytest.raises(Refused, match="our own limit"):
                await api.kick_out("b", [USER], deadline=loop.time() + 0.5)
        else:
            await api.kick_out("b", [USER])
        await api.delete_stream("a", USER, "show")

    _, asked = ask(answers(reply(code), reply()), use, quota=quota)
    assert len(asked) == (2 if is_held else 3)
    assert quota.held == (["KickoutUser"] if is_held else [])


@pytest.mark.parametrize("action", sorted(set(CALLS) - {"AddStream"}))
def test_a_cancelled_call_ends_its_connection(action: str) -> None:
    """At once, on both sides."""
    assert_a_cancelled_call_ends_its_connection(client_of, CALLS[action])


def test_a_stream_that_is_announced_for_nobody_is_withdrawn() -> None:
    """The caller was cancelled while ZEGOCLOUD worked."""

    def when(go_on: asyncio.Event) -> Answering:
        async def answering(asked: Asked) -> web.StreamResponse:
            if dict(asked.query)["Action"] == "AddStream":
                await go_on.wait()
            return web.json_response(reply()[1])

        return answering

    asked = asked_of_what_nobody_waits_for(client_of, when, CALLS["AddStream"])
    assert [dict(each.query)["Action"] for each in asked] == ["AddStream", "DeleteStream"]


def test_a_closed_client_asks_nothing() -> None:
    """And closing twice is nothing."""

    async def use(api: ZegoApi) -> None:
        await api.aclose()
        await api.aclose()
        await api.kick_out("a", [USER])

    exc, asked = ask(hanging, use)
    assert isinstance(exc, StreamEnded)
    assert asked == []
