"""hitless.server.exchange, in virtual time; and once over a real server."""

import asyncio

import pytest
from unit.server.room import APP, WATCHER, Room
from virtual_time import run

from hitless.client.protocol import Placement
from hitless.core.agreement import By
from hitless.core.observation import MediaFresh, StartEnded
from hitless.server import exchange as exchanging
from hitless.server.coordinator import Rejected
from hitless.server.exchange import SILENT_S, WAIT_S_MAX, Exchanges
from hitless.server.hub import OUTBOX_MAX, STREAMS_MAX
from hitless.server.socket import BURST
from hitless.server.wire import Exchange


def hello(*streams, client="studio", **more):
    """Return a hello that publishes these streams at epoch 1."""
    seen = [{"stream": stream, "role": "publisher", "epoch": 1} for stream in streams]
    return {"type": "hello", "client": client, "streams": seen, **more}


class Desk:
    """What clients call, at a node in memory; use with `async with`."""

    def __init__(self):
        self.room = Room("one", "two")
        self.open = Exchanges(self.room)

    async def __aenter__(self):
        await self.room.coordinator.start(APP, request("show"))
        return self

    async def __aexit__(self, *exc):
        await self.room.__aexit__(*exc)
        assert len(self.open) == 0, "conversations end with the node"

    async def call(self, *messages, client="studio", wait_s=0.0, who=APP):
        """Call once; return what is told."""
        asked = Exchange(client=client, messages=list(messages), wait_s=wait_s)
        return await self.open.exchange(who, "192.0.2.1", asked)

    async def refused(self, *messages, **more):
        """Call once; return why it is refused."""
        with pytest.raises(Rejected) as caught:
            await self.call(*messages, **more)
        return caught.value

    async def move(self, provider):
        """Move the stream, as an operator does."""
        await self.room.coordinator.move("show", provider, by=By.OPERATOR, because="a move")


def request(stream, client="studio"):
    """Return what a publisher asks a plan with."""
    from hitless.client.protocol import PlanRequest

    return PlanRequest(stream=stream, client=client)


def test_a_hello_is_welcomed_and_messages_go_up_and_down_by_calls():
    async def main():
        async with Desk() as desk:
            welcome = await desk.call(hello("show"))
            confirm = {"type": "confirm", "stream": "show", "epoch": 1, "provider": "one"}
            live = {"type": "leg", "stream": "show", "provider": "one", "state": "live"}
            report = {"type": "report", "stream": "show", "provider": "one"}
            nothing = await desk.call(live, report, confirm)
            await desk.move("two")
            told = await desk.call()
            return welcome, nothing, told, desk.room.observed, desk.room.placement()

    welcome, nothing, told, observed, placement = run(main())
    assert [one["type"] for one in welcome] == ["welcome"]
    assert nothing == []
    assert [(one["type"], one["epoch"], one["provider"]) for one in told] == [
        ("placement", 2, "two")
    ]
    assert [type(one) for one in observed] == [StartEnded, MediaFresh]
    assert {one.network for one in observed} == {"192.0.2.1"}
    assert placement == (2, "two", False)


def test_a_call_that_waits_is_answered_at_once_when_there_is_something():
    async def main():
        async with Desk() as desk:
            await desk.call(hello("show"))
            began_s = desk.room.loop.time()
            waiting = asyncio.create_task(desk.call(wait_s=20.0))
            await asyncio.sleep(3.0)
            await desk.move("two")
            told = await waiting
            return told[0]["epoch"], desk.room.loop.time() - began_s

    assert run(main()) == (2, 3.0)


@pytest.mark.parametrize(
    ("asked_s", "waits_s"), [(-1.0, 0.0), (0.0, 0.0), (5.0, 5.0), (1e9, WAIT_S_MAX)]
)
def test_no_call_waits_for_longer_than_proxies_do(asked_s, waits_s):
    async def main():
        async with Desk() as desk:
            await desk.call(hello("show"))
            began_s = desk.room.loop.time()
            told = await desk.call(wait_s=asked_s)
            return told, desk.room.loop.time() - began_s

    assert run(main()) == ([], waits_s)


def test_a_newer_call_ends_the_one_that_waits():
    async def main():
        async with Desk() as desk:
            await desk.call(hello("show"))
            first = asyncio.create_task(desk.call(wait_s=20.0))
            await asyncio.sleep(1.0)
            second = asyncio.create_task(desk.call(wait_s=20.0))
            await asyncio.sleep(1.0)
            is_done = first.done()
            await desk.move("two")
            return is_done, await first, [one["epoch"] for one in await second]

    assert run(main()) == (True, [], [2])


def test_messages_that_cannot_be_obeyed_are_answered_in_the_same_call():
    async def main():
        async with Desk() as desk:
            await desk.call(hello("show"))
            strange = {"type": "dance", "stream": "show"}
            deep = {"type": "report", "stream": "show", "provider": "one", "more": nested(900)}
            told = await desk.call({}, strange, {"type": "finish", "stream": "other"}, deep)
            return [(one["type"], one.get("code")) for one in told]

    bad, unknown = ("problem", "bad-message"), ("problem", "unknown-stream")
    assert run(main())[:3] == [bad, bad, unknown]


def nested(depth):
    """Return lists within lists."""
    found = []
    for _ in range(depth):
        found = [found]
    return found


# --- Lost conversations ---


@pytest.mark.parametrize("said", [(), ({"type": "report", "stream": "show", "provider": "one"},)])
def test_without_a_conversation_a_client_is_told_to_say_hello(said):
    async def main():
        async with Desk() as desk:
            rejected = await desk.refused(*said)
            return rejected.status, rejected.code, desk.room.observed

    assert run(main()) == (409, "no-hello", [])


def test_a_conversation_that_nobody_calls_for_is_forgotten():
    async def main():
        async with Desk() as desk:
            await desk.call(hello("show"))
            for _ in range(3):
                await asyncio.sleep(SILENT_S - 1.0)
                await desk.call()
            kept = len(desk.open), len(desk.room.hub)
            await asyncio.sleep(SILENT_S + 0.1)
            left = len(desk.open), len(desk.room.hub)
            return kept, left, (await desk.refused()).code

    assert run(main()) == ((1, 1), (0, 0), "no-hello")


def test_a_hello_begins_the_conversation_anew_and_tells_what_was_missed():
    """
    An answer that is lost on the way is as good as a connection that is.
    """

    async def main():
        async with Desk() as desk:
            await desk.call(hello("show"))
            await desk.move("two")
            await desk.call()  # this answer is lost
            told = await desk.call(hello("show"))
            return [(one["type"], one.get("epoch")) for one in told], len(desk.open)

    assert run(main()) == ([("welcome", None), ("placement", 2)], 1)


def test_a_call_that_is_broken_off_loses_nothing():
    """
    Whatever it had taken is told after the next hello.
    """

    async def main():
        async with Desk() as desk:
            await desk.call(hello("show"))
            waiting = asyncio.create_task(desk.call(wait_s=20.0))
            await asyncio.sleep(1.0)
            waiting.cancel()
            await asyncio.wait({waiting})
            code = (await desk.refused()).code
            await desk.move("two")
            return code, [one["type"] for one in await desk.call(hello("show"))]

    assert run(main()) == ("no-hello", ["welcome", "placement"])


def test_a_conversation_that_broke_the_rules_is_over():
    async def main():
        async with Desk() as desk:
            await desk.call(hello("show"))
            report = {"type": "report", "stream": "show", "provider": "one"}
            rejected = await desk.refused(*[report] * int(BURST + 1))
            await asyncio.sleep(0)
            return rejected.status, rejected.code, (await desk.refused()).code, len(desk.open)

    assert run(main()) == (429, "too-fast", "no-hello", 0)


def test_a_client_that_is_too_far_behind_is_told_so_and_begins_anew():
    async def main():
        async with Desk() as desk:
            await desk.call(hello("show"))
            (connection,) = desk.room.hub.clients("show")
            for epoch in range(OUTBOX_MAX + 1):
                connection.send(Placement(stream="show", epoch=epoch, provider="one"))
            code = (await desk.refused()).code
            return code, [one["type"] for one in await desk.call(hello("show"))]

    assert run(main()) == ("too-slow", ["welcome"])


# --- Whose conversation ---


def test_nobody_goes_on_with_the_conversation_of_another_key():
    async def main():
        async with Desk() as desk:
            await desk.call(hello("show"))
            await desk.move("two")
            stranger = await desk.refused(who=WATCHER)
            their_own = await desk.call(hello(), who=WATCHER)
            told = await desk.call()
            return (
                stranger.code,
                [one["type"] for one in their_own],
                [one["epoch"] for one in told],
            )

    assert run(main()) == ("no-hello", ["welcome"], [2])


@pytest.mark.parametrize(
    ("message", "client", "status", "code"),
    [
        (hello("show"), "other", 400, "bad-client"),
        ({"type": "hello"}, "studio", 400, "bad-client"),
        (hello(client=""), "", 400, "bad-client"),
        (hello(client="x" * 101), "x" * 101, 400, "bad-client"),
        (hello("show", version="one"), "studio", 400, "bad-message"),
        (hello(*[f"s{n}" for n in range(int(BURST) + 1)]), "studio", 429, "too-fast"),
    ],
    ids=["another client", "nameless", "empty", "too long", "no version", "floods"],
)
def test_a_hello_that_cannot_be_is_refused_and_leaves_nothing(message, client, status, code):
    async def main():
        async with Desk() as desk:
            rejected = await desk.refused(message, client=client)
            return rejected.status, rejected.code, len(desk.open), len(desk.room.hub)

    assert run(main()) == (status, code, 0, 0)


def test_a_hello_while_the_store_is_away_is_refused_and_may_be_said_again():
    async def main():
        async with Desk() as desk:
            desk.room.store.is_up = False
            rejected = await desk.refused(hello("show"))
            left = len(desk.open), len(desk.room.hub)
            desk.room.store.is_up = True
            return rejected.status, rejected.code, left, len(await desk.call(hello("show")))

    assert run(main()) == (503, "store-lost", (0, 0), 1)


def test_streams_that_are_too_many_are_refused_by_name():
    async def main():
        async with Desk() as desk:
            told = await desk.call(hello(*[f"s{n}" for n in range(STREAMS_MAX + 1)]))
            return [(one["stream"], one["code"]) for one in told if one["type"] == "problem"]

    *rest, last = run(main())
    assert last == (f"s{STREAMS_MAX}", "too-many")
    assert {code for _, code in rest} <= {"unknown-stream"}  # nobody has started them


def test_no_more_conversations_than_a_node_can_hold(monkeypatch):
    """
    Those that are there go on.
    """
    monkeypatch.setattr(exchanging, "CONVERSATIONS_MAX", 2)

    async def main():
        async with Desk() as desk:
            for client in ("a", "b"):
                await desk.call(hello(client=client), client=client)
            refused = await desk.refused(hello(client="c"), client="c")
            again = await desk.call(hello(client="a"), client="a")
            return refused.status, refused.code, len(again)

    assert run(main()) == (503, "too-many", 1)


def test_a_call_that_waits_ends_when_its_conversation_is_cut():
    async def main():
        async with Desk() as desk:
            await desk.call(hello("show"))
            waiting = asyncio.create_task(desk.call(wait_s=20.0))
            await asyncio.sleep(1.0)
            began_s = desk.room.loop.time()
            for connection in desk.room.hub:
                connection.cut.set()
            await waiting
            return desk.room.loop.time() - began_s

    assert run(main()) == 0.0
