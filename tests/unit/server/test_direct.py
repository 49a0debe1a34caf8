"""hitless.server.direct and hitless.server.garbage."""

import asyncio
import contextlib
import gc
import itertools
import json

import aiohttp
import pytest
import uvicorn
from hypothesis import given, settings
from hypothesis import strategies as st
from uvicorn.server import ServerState
from websockets.server import ServerProtocol

from hitless.client.protocol import Placement, decode_down
from hitless.server import garbage, serve
from hitless.server.direct import AT_ONCE_S, Departures, Direct, frame, rest, way_of, whole
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


def test_new_connections_are_set_aside_and_looked_at_again_when_nearly_all_have_gone(monkeypatch):
    """
    And everything is as it was when the server ends.
    """
    done, survived, threshold = [], [0], gc.get_threshold()
    for name in ("freeze", "unfreeze", "collect"):
        monkeypatch.setattr(gc, name, lambda name=name: done.append(name))
    monkeypatch.setattr(gc, "get_count", lambda: (0, 0, survived.pop() if survived else 0))
    monkeypatch.setattr(garbage, "LOOK_S", 0.001)

    async def came_of(change):
        done.clear()
        change()
        await asyncio.sleep(0.02)
        return list(done)

    async def test():
        hub = Hub()
        keeping = asyncio.create_task(garbage.keep_short(hub))
        assert await came_of(lambda: None) == ["collect", "freeze"]
        assert gc.get_threshold()[:2] == threshold[:2]
        assert gc.get_threshold()[2] > 1_000_000
        connections = [Connection(f"c{n}", WHO) for n in range(2 * garbage.STEP)]

        def come():
            for connection in connections:
                hub.add(connection)

        def go(count):
            for _ in range(count):
                hub.remove(connections.pop())

        assert await came_of(come) == ["freeze"]
        survived.append(garbage.SURVIVED)
        assert await came_of(lambda: None) == ["collect", "freeze"]
        assert await came_of(lambda: go(garbage.STEP)) == []
        assert await came_of(lambda: go(1)) == ["unfreeze", "collect", "freeze"]
        assert await came_of(lambda: go(garbage.STEP - 1)) == []
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        assert done == ["unfreeze"]
        assert gc.get_threshold() == threshold

    asyncio.run(test())


# --- Whole frames ---


def client_frame(payload, opcode=1, *, mask=b"\x11\x22\x33\x44", is_last=True):
    """Return a client's frame."""
    head = bytes([opcode | (0x80 if is_last else 0)])
    size = len(payload)
    if size < 126:
        head += bytes([0x80 | size])
    elif size < 1 << 16:
        head += bytes([0xFE]) + size.to_bytes(2, "big")
    else:
        head += bytes([0xFF]) + size.to_bytes(8, "big")
    masked = bytes(byte ^ mask[n % 4] for n, byte in enumerate(payload))
    return head + mask + masked


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535])
def test_a_message_that_is_one_whole_frame_is_taken_out_of_it(size):
    """
    And of anything more or less than that nothing.
    """
    payload = bytes(range(256)) * 256
    data = client_frame(payload[:size], 2)

    assert whole(data) == payload[:size]
    assert rest(data) == b""
    assert rest(data + data[:3]) == data[:3]
    for other in (data[:-1], data + b"\0", b"", bytes([data[0] & 0x7F]) + data[1:]):
        assert whole(other) is None
    assert whole(client_frame(payload[:size], 9)) is None, "a ping is none"
    assert whole(frame(payload[:size])) is None, "a client masks what it says"


class Transport(asyncio.Transport):
    """Takes what is written and counts pauses."""

    def __init__(self):
        super().__init__()
        self.written = b""

    def write(self, data):
        self.written += data

    def pause_reading(self):
        pass

    def resume_reading(self):
        pass

    def is_closing(self):
        return False

    def close(self):
        pass


REQUEST = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


async def spoken(chunks):
    """Return what is heard of these bytes, in order; what is not about now, by uvicorn's queue."""
    heard = []

    async def app(scope, receive, send):
        await receive()
        way_of(scope).hear = lambda data: b"now" in data and not heard.append(data)
        await send({"type": "websocket.accept"})
        while (event := await receive())["type"] == "websocket.receive":
            heard.append(event.get("bytes") or event["text"].encode())

    config = uvicorn.Config(app, log_config=None, ws="none", ws_max_size=1 << 17)
    config.load()
    state = ServerState()
    way = Direct(config, state, {}, asyncio.get_running_loop())
    way.connection_made(Transport())
    way.data_received(REQUEST)
    await turns()
    for chunk in chunks:
        way.data_received(chunk)
        await turns()
    way.connection_lost(None)
    await asyncio.gather(*state.tasks)
    return heard


MESSAGES = st.lists(
    st.tuples(
        st.sampled_from([b"now", b"later"]),
        st.binary(max_size=200),
        st.integers(1, 3),
        st.booleans(),
    ),
    max_size=8,
)


@given(MESSAGES, st.lists(st.integers(1, 400), min_size=1, max_size=8))
@settings(max_examples=60, deadline=None)
def test_however_the_bytes_are_cut_each_message_is_heard_once_and_in_order(messages, sizes):
    """
    Whole frames, several at once, parts of them, messages in several frames, and pings between.
    """
    data, expected = b"", []
    for word, more, parts, with_ping in messages:
        payload = word + more
        expected.append(payload)
        step = -(-len(payload) // parts)
        pieces = [payload[at : at + step] for at in range(0, len(payload), step)]
        for number, piece in enumerate(pieces):
            is_last = number == len(pieces) - 1
            data += client_frame(piece, 0 if number else 2, is_last=is_last)
            if with_ping:
                data += client_frame(b"ping", 9)
    chunks, at = [], 0
    for size in itertools.cycle(sizes):
        if at >= len(data):
            break
        chunks.append(data[at : at + size])
        at += size

    assert asyncio.run(spoken(chunks)) == expected


def test_each_frame_that_comes_alone_is_heard_without_the_machinery(monkeypatch):
    """
    That is what makes it cheap; after a part of a frame it is so again.
    """
    parsed = []
    receive = ServerProtocol.receive_data
    monkeypatch.setattr(
        ServerProtocol,
        "receive_data",
        lambda self, data: (parsed.append(data), receive(self, data)),
    )
    one = client_frame(b"now 1")

    heard = asyncio.run(spoken([one, one[:4], one[4:], one, client_frame(b"later"), one]))

    assert heard == [b"now 1", b"now 1", b"now 1", b"later", b"now 1"]
    assert parsed == [REQUEST, one[:4], one[4:], client_frame(b"later")]
