"""The adapter for Janus: its session is kept alive, told of losses, and left in time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import aiohttp
import pytest
from unit.providers.janus_runs import LIMIT_S, now, run, until
from unit.providers.janus_stand_in import HANDLE, SESSION, StandIn
from yarl import URL

from hitless.errors import MediaLost
from hitless.providers.credential import Credential
from hitless.providers.janus_handle import Handle
from hitless.providers.janus_socket import Secrets, Session


async def session_of(stand_in: StandIn, http: aiohttp.ClientSession, **more: Any) -> Session:
    """Open a session."""
    settings: dict[str, Any] = {
        "provider": "janus",
        "operation": "publish",
        "secrets": Secrets(),
        "credential": Credential(None),
        "keepalive_s": 20.0,
    }
    return await Session.open(http, URL(stand_in.url), now() + LIMIT_S, **{**settings, **more})


def with_handle(
    test: Callable[[StandIn, Session, Handle], Coroutine[Any, Any, None]], **more: Any
) -> None:
    """Run a test with a session and a handle."""

    async def main(stand_in: StandIn) -> None:
        async with aiohttp.ClientSession() as http:
            session = await session_of(stand_in, http, **more)
            handle = await session.attach(now() + LIMIT_S)
            try:
                await test(stand_in, session, handle)
            finally:
                await handle.aclose()
                await session.aclose()

    run(main)


def test_it_is_kept_alive() -> None:
    """Janus forgets a session that says nothing for a minute."""

    async def test(stand_in: StandIn, session: Session, handle: Handle) -> None:
        await until(lambda: len(stand_in.requests("keepalive")) >= 3)
        assert all(each["session_id"] == SESSION for each in stand_in.requests("keepalive"))

    with_handle(test, keepalive_s=0.02)


LOSSES = {
    "hangup": ("tell", {"kind": "hangup", "reason": "ICE failed"}, "hung up (ICE failed)"),
    "detached": ("tell", {"kind": "detached"}, "detached"),
    "timeout": ("tell", {"kind": "timeout"}, "timed out"),
    "kicked": ("tell_room", {"leaving": "ok", "reason": "kicked"}, "kicked"),
    "left": ("tell_room", {"leaving": "ok"}, "ended our part"),
    "unpublished": ("tell_room", {"unpublished": "ok"}, "ended our part"),
    "destroyed": ("tell_room", {"videoroom": "destroyed"}, "destroyed"),
    "updated": (
        "tell_room",
        {"videoroom": "updated", "streams": [{"active": False}]},
        "publisher left",
    ),
}


@pytest.mark.parametrize("what", LOSSES)
def test_what_ends_media_is_a_loss(what: str) -> None:
    """And says why."""

    async def test(stand_in: StandIn, session: Session, handle: Handle) -> None:
        how, news, words = LOSSES[what]
        await getattr(stand_in, how)(**news)
        with pytest.raises(MediaLost, match="janus: publish failed") as caught:
            await asyncio.wait_for(handle.lost(), LIMIT_S)
        assert words in str(caught.value)

    with_handle(test)


def test_a_closed_socket_is_a_loss() -> None:
    """It says more than ICE, half a minute earlier."""

    async def test(stand_in: StandIn, session: Session, handle: Handle) -> None:
        await stand_in.sockets[0].close()
        with pytest.raises(MediaLost, match="signalling socket was closed"):
            await asyncio.wait_for(handle.lost(), LIMIT_S)

    with_handle(test)


def test_what_only_tells_of_media_is_no_loss() -> None:
    """Silence may end, and a slow link is none."""

    async def test(stand_in: StandIn, session: Session, handle: Handle) -> None:
        await stand_in.tell("media", type="audio", receiving=True)
        await until(handle.receiving.is_set)
        await stand_in.tell("slowlink", lost=9)
        await stand_in.tell_room(videoroom="updated", streams=[{"active": True}])
        await stand_in.tell_room(videoroom="event", leaving=12345)  # somebody else
        await stand_in.tell("media", type="audio", receiving=False)
        await stand_in.say({"janus": "hangup", "sender": HANDLE + 1})
        await until(lambda: not handle.receiving.is_set())
        assert not handle.is_lost

    with_handle(test)


def test_candidates_wait_for_who_takes_them() -> None:
    """They may come before the description that they belong to is taken."""

    async def test(stand_in: StandIn, session: Session, handle: Handle) -> None:
        await stand_in.tell("trickle", candidate={"candidate": "candidate:1", "sdpMid": "0"})
        await stand_in.tell("trickle", candidate={"candidate": "candidate:2", "sdpMid": "0"})
        await stand_in.tell("media", type="audio", receiving=True)
        await until(handle.receiving.is_set)
        taken: list[str | None] = []

        async def take(line: str | None) -> None:
            taken.append(line)

        handle.feed_candidates(take)
        await stand_in.tell("trickle", candidate={"completed": True})
        await until(lambda: len(taken) == 3)
        assert taken == ["candidate:1", "candidate:2", None]

    with_handle(test)


def test_our_candidates_are_sent_with_their_end() -> None:
    """In one message; no answer is waited for."""

    async def test(stand_in: StandIn, session: Session, handle: Handle) -> None:
        stand_in.silent = {"trickle"}
        await handle.trickle([{"candidate": "candidate:1"}], now() + LIMIT_S)
        await until(lambda: stand_in.requests("trickle"))
        (message,) = stand_in.requests("trickle")
        assert message["candidates"] == [{"candidate": "candidate:1"}, {"completed": True}]
        assert message["handle_id"] == HANDLE

    with_handle(test)


def test_leaving_is_bounded_when_nobody_answers() -> None:
    """The socket is closed all the same."""

    async def test(stand_in: StandIn, session: Session, handle: Handle) -> None:
        stand_in.silent = {"destroy"}
        begun = now()
        await session.aclose()
        await session.aclose()
        assert now() - begun < 4.0  # 2 s by the contract; the machine may be busy
        await until(lambda: not stand_in.sockets)

    with_handle(test)
