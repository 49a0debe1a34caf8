"""hitless.server.direct and hitless.server.garbage."""

import asyncio
import contextlib
import gc
import json

import aiohttp
import pytest
from websockets.server import ServerProtocol

from hitless.client.protocol import Placement, decode_down
from hitless.server import garbage, serve
from hitless.server.direct import AT_ONCE_S, Departures, Direct, frame, way_of
from hitless.server.hub import OUTBOX_MAX, Connection, Hub
from hitless.server.keys import Identity, KeyRole
from hitless.server.node import NodeConfig
from hitless.server.socket import Client


KINDS = (Connection, Direct, ServerProtocol, Client)
"""What a connection is made of."""

WHO = Identity(key="k1", role=KeyRole.CLIENT, scope=None, name="")


class Way:
    """A way out that takes what it is given, while it has room."""

    def __init__(self):
        self.sent, self.has_room, self.flow = [], True, None

    def say(self, framed):
        self.sent.append(framed)


def told(epoch):
    """Return a message."""
    return Placement(stream="show", epoch=epoch, provider="one")


async def turns():
    """Let the loop turn."""
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("size", "head"),
    [(125, b"\x82\x7d"), (126, b"\x82\x7e\x00\x7e"), (1 << 16, b"\x82\x7f" + b"\0\0\0\0\0\1\0\0")],
)
def test_a_frame_has_the_shortest_head_that_says_its_length(size, head):
    """
    RFC 6455 section 5.2.
    """
    assert frame(bytes(size)) == head + bytes(size)


def test_what_many_are_sent_is_made_once_and_reaches_all_in_order():
    """
    Two messages to a thousand: two frames, each of them the same object everywhere.
    """

    async def test():
        departures, ways = Departures(), [Way() for _ in range(1000)]
        connections = [Connection(f"c{n}", WHO) for n in range(1000)]
        for connection, way in zip(connections, ways, strict=True):
            connection.leave_by(way, departures)
        for message in (told(2), told(3)):
            for connection in connections:
                connection.send(message)
        async with asyncio.timeout(5.0):
            while any(len(way.sent) < 2 for way in ways):  # noqa: ASYNC110 -- nobody tells
                await asyncio.sleep(AT_ONCE_S / 10)
        assert {tuple(decode_down(one[2:]).epoch for one in way.sent) for way in ways} == {(2, 3)}
        assert len({id(way.sent[0]) for way in ways}) == 1

    asyncio.run(test())


def test_a_client_without_room_keeps_its_messages_until_it_has_and_is_cut_when_too_many_wait():
    """
    Nobody else waits for it.
    """

    async def test():
        departures, slow, quick = Departures(), Way(), Way()
        slow.has_room = False
        one, other = Connection("slow", WHO), Connection("quick", WHO)
        one.leave_by(slow, departures)
        other.leave_by(quick, departures)
        one.send(told(2))
        other.send(told(2))
        await turns()
        assert (len(slow.sent), len(quick.sent)) == (0, 1)
        slow.has_room = True
        slow.flow()
        await turns()
        assert len(slow.sent) == 1
        slow.has_room = False
        for epoch in range(OUTBOX_MAX + 1):
            one.send(told(epoch))
        assert one.cut.is_set()
        assert one.last_word.code == "too-slow"

    asyncio.run(test())


def test_a_server_that_has_no_short_way_is_no_trouble():
    """
    A scope of any ASGI server.
    """
    assert way_of({"type": "websocket"}) is None
    assert way_of({"extensions": {"hitless.direct": "of somebody else"}}) is None


@contextlib.asynccontextmanager
async def running(folder):
    """Run a server and lend its url, its node and a client's key."""
    keys = serve.new_keys(0.0)
    ready = asyncio.get_running_loop().create_future()
    config = NodeConfig(database=str(folder / "hitless.db"), name="n1")
    serving = asyncio.create_task(
        serve.serve(config, serve.Address(port=0), keys, lambda *one: ready.set_result(one))
    )
    try:
        await asyncio.wait({serving, ready}, return_when=asyncio.FIRST_COMPLETED)
        url, node = ready.result()
        yield url, node, keys["HITLESS_CLIENT_KEY"]
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


@contextlib.asynccontextmanager
async def connected(url, key):
    """Lend a WebSocket that was welcomed, with a stream that is refused nothing."""
    headers = {"Authorization": f"Bearer {key}"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.ws_connect(f"{url}/v1/connect") as socket,
    ):
        seen = [{"stream": "show", "role": "viewer"}]
        await socket.send_json({"type": "hello", "client": "phone", "streams": seen})
        assert json.loads((await socket.receive()).data)["type"] == "welcome"
        yield socket


@pytest.mark.realtime
@pytest.mark.filterwarnings("ignore::litestar.exceptions.LitestarDeprecationWarning")
@pytest.mark.parametrize("way", [Direct, "websockets-sansio"])
def test_a_report_is_heard_and_a_question_answered_in_order_on_either_way(
    way, tmp_path, monkeypatch
):
    """
    Reports overtake nothing, and nothing overtakes them.
    """
    monkeypatch.setattr(serve, "Direct", way)

    async def test():
        async with asyncio.timeout(20.0), running(tmp_path) as (url, node, key):
            heard = []
            seen = node.coordinator.seen
            monkeypatch.setattr(
                node.coordinator, "seen", lambda *said: (heard.append(said[3]), seen(*said))
            )
            async with connected(url, key) as socket:
                for number in range(20):
                    report = {"type": "report", "stream": "show", "provider": f"p{number}"}
                    await socket.send_json(report)
                    await socket.send_json({"type": "renew", "stream": "show"})
                for number in range(20):
                    answer = json.loads((await socket.receive()).data)
                    assert answer["code"] == "not-here"
                    assert len(heard) > number
            assert heard == [f"p{number}" for number in range(20)]

    asyncio.run(test())


@pytest.mark.realtime
@pytest.mark.filterwarnings("ignore::litestar.exceptions.LitestarDeprecationWarning")
def test_a_connection_that_ended_is_gone_without_a_collection(tmp_path):
    """
    What is set aside is never looked at: a circle in it would stay for ever.
    """

    async def test():
        async with asyncio.timeout(20.0), running(tmp_path) as (url, node, key):
            for _ in range(3):
                async with connected(url, key):
                    pass
            while len(node.hub):  # noqa: ASYNC110 -- nobody tells
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)  # the sockets are closed after that
            return [one for one in gc.get_objects() if isinstance(one, KINDS)]

    gc.collect()
    gc.disable()
    try:
        assert asyncio.run(test()) == []
    finally:
        gc.enable()


def test_new_connections_are_set_aside_and_looked_at_again_when_most_have_gone(monkeypatch):
    """
    And everything is as it was when the server ends.
    """
    done = []
    for name in ("freeze", "unfreeze", "collect"):
        monkeypatch.setattr(gc, name, lambda name=name: done.append(name))
    monkeypatch.setattr(garbage, "LOOK_S", 0.001)

    async def test():
        hub = Hub()
        keeping = asyncio.create_task(garbage.keep_short(hub))
        await asyncio.sleep(0.02)
        assert done == ["collect", "freeze"]
        connections = [Connection(f"c{n}", WHO) for n in range(garbage.STEP)]
        for connection in connections:
            hub.add(connection)
        await asyncio.sleep(0.02)
        assert done[2:] == ["freeze"]
        for connection in connections:
            hub.remove(connection)
        await asyncio.sleep(0.02)
        assert done[3:] == ["unfreeze", "collect", "freeze"]
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        assert done[6:] == ["unfreeze"]

    asyncio.run(test())
