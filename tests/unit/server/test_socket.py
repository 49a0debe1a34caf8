"""hitless.server.socket, over a real socket, a real node and a real file."""

import asyncio
import contextlib
import json

import aiohttp
import pytest
from golden import play, transcript

from hitless.server import socket as sockets
from hitless.server.allowance import BYTES_PER_S_MAX
from hitless.server.node import NodeConfig
from hitless.server.serve import Address, new_keys, serve
from hitless.server.store_rows import Audit


LIMIT_S = 30.0

pytestmark = [
    pytest.mark.realtime,
    pytest.mark.filterwarnings(
        "ignore::litestar.exceptions.LitestarDeprecationWarning"  # it speaks of Litestar 3
    ),
]


@contextlib.asynccontextmanager
async def running(folder):
    """Run a server with the providers of the transcripts."""
    keys = new_keys(0.0)
    ready = asyncio.get_running_loop().create_future()
    config = NodeConfig(database=str(folder / "hitless.db"), name="n1")
    serving = asyncio.create_task(
        serve(config, Address(port=0), keys, lambda url, node: ready.set_result((url, node)))
    )
    try:
        await asyncio.wait({serving, ready}, return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            serving.result()
        url, node = ready.result()
        async with play.Server(url, keys) as server:
            await server.add_providers()
            server.node = node
            yield server
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


def go(folder, test):
    """Run a test against a server, bounded."""

    async def bounded():
        async with asyncio.timeout(LIMIT_S), running(folder) as server:
            await test(server)

    asyncio.run(bounded())


# --- Transcripts ---


@pytest.mark.parametrize("link", ["websocket", "rest"])
@pytest.mark.parametrize("name", transcript.names())
def test_the_server_keeps_to_the_transcript(name, link, tmp_path):
    """
    Every message of it, in its order, and not one more.
    """
    steps = transcript.read(name)

    async def test(server):
        await play.play_client(steps, server, link)

    go(tmp_path, test)


# --- Who may speak, and how ---


def hello(*streams, client="studio", role="publisher", **more):
    """Return a hello with these streams, of which nothing is known yet."""
    seen = [{"stream": stream, "role": role} for stream in streams]
    return {"type": "hello", "client": client, "streams": seen, **more}


async def say(socket, message):
    """Say a message as text."""
    await socket.send_str(json.dumps(message))


async def welcomed(server, *streams, key=None, **more):
    """Return a WebSocket that was welcomed."""
    socket = await server.connect(key=key)
    await say(socket, hello(*streams, **more))
    assert (await play.heard(socket))["type"] == "welcome"
    return socket


async def last_word(socket):
    """Return the code of the problem that a connection ends with, and the code of its end."""
    code = (await play.heard(socket))["code"]
    assert await play.heard(socket) is None, "nothing follows the last word"
    return code, socket.close_code


def test_a_browser_shows_its_key_as_a_subprotocol_and_a_program_in_a_header(tmp_path):
    """
    The key is never said back.
    """

    async def test(server):
        socket = await server.connect()
        assert socket.protocol == "hitless.v1"
        headers = {"Authorization": f"Bearer {server.key}"}
        async with aiohttp.ClientSession(headers=headers) as session:
            async with session.ws_connect(f"{server.url}/v1/connect") as plain:
                assert plain.protocol is None
                await plain.send_bytes(json.dumps(hello()).encode())
                assert (await play.heard(plain))["type"] == "welcome"

    go(tmp_path, test)


@pytest.mark.parametrize("key", ["hk_no_such", "nonsense"])
def test_a_key_that_opens_nothing_is_told_so_after_the_handshake(key, tmp_path):
    """
    A page in a browser cannot read the answer to a handshake.
    """

    async def test(server):
        assert await last_word(await server.connect(key=key)) == ("bad-key", 1008)

    go(tmp_path, test)


@pytest.mark.parametrize(
    ("first", "code"),
    [
        (json.dumps({"type": "finish", "stream": "news"}), "no-hello"),
        (json.dumps(hello(client="")), "bad-client"),
        (json.dumps(hello(*[f"s{n}" for n in range(600)])), "too-fast"),
        ("[]", "bad-message"),
        ("{", "bad-message"),
        (b'{"type":"hello","client":"\xff"}', "bad-message"),
        ('{"type":"hello","client":"a","more":' + "[" * 9000 + "]" * 9000 + "}", "bad-message"),
        (json.dumps(hello(client="a", more="x" * 70_000)), "too-long"),
    ],
    ids=["another", "nameless", "many", "array", "broken", "not UTF-8", "deep", "long"],
)
def test_what_is_no_hello_ends_the_connection_with_a_word(first, code, tmp_path):
    async def test(server):
        socket = await server.connect()
        send = socket.send_bytes if isinstance(first, bytes) else socket.send_str
        await send(first)
        assert await last_word(socket) == (code, 1008)
        assert len(server.node.hub) == 0

    go(tmp_path, test)


@pytest.mark.parametrize("is_hand", [False, True], ids=["client", "hand"])
def test_bytes_of_a_report_are_counted_up_to_what_a_line_can_carry(is_hand, tmp_path):
    """
    A number that is none, or of a provider that is none, counts nothing.
    """
    said = [
        {"provider": "agora", "bytesSent": 1_000, "bytesReceived": 50},
        {"provider": "agora"},
        {"provider": "nobody", "bytesSent": 1_000},
        {"provider": "agora", "bytesSent": -1},
        {"provider": "agora", "bytesSent": 1 << 60},
        {"provider": "webrtc", "bytesSent": (1 << 53) - 1, "bytesReceived": (1 << 53) - 1},
    ]

    async def test(server):
        told = []
        server.node.history.carried = lambda *counted: told.append(counted)
        begun_s = server.node.loop.time()
        async with asyncio.timeout(10.0):
            socket = await welcomed(server, "show", hands=is_hand)
            await asyncio.sleep(0.1)
            for one in said:
                await say(socket, {"type": "report", "stream": "show", **one})
            while len(told) < 2:  # noqa: ASYNC110 -- nobody tells
                await asyncio.sleep(0.01)
        line = (server.node.loop.time() - begun_s) * BYTES_PER_S_MAX
        assert told[0] == ("agora", 1_000, 50)
        provider, sent, received = told[1]
        assert provider == "webrtc"
        assert 0 < sent + received <= line

    go(tmp_path, test)


def test_who_says_nothing_is_not_waited_for(monkeypatch, tmp_path):
    monkeypatch.setattr(sockets, "HELLO_S_MAX", 0.2)

    async def test(server):
        assert await last_word(await server.connect()) == ("no-hello", 1008)

    go(tmp_path, test)


@pytest.mark.parametrize(
    "message",
    [b"\xff\xfe", b"", b"[]", b'{"type":"report","more":' + b"[" * 9000 + b"]" * 9000 + b"}"],
    ids=["not UTF-8", "empty", "array", "deep"],
)
def test_what_cannot_be_read_later_is_a_problem_and_no_end(message, tmp_path):
    """
    So is a type that an older server does not know; fields that it does not know mean nothing.
    """

    async def test(server):
        socket = await welcomed(server)
        await socket.send_bytes(message)
        assert (await play.heard(socket))["code"] == "bad-message"
        await say(socket, {"type": "finish", "stream": "x", "of_version_2": {"a": [1]}})
        assert (await play.heard(socket))["code"] == "unknown-stream"

    go(tmp_path, test)


@pytest.mark.parametrize(
    ("flood", "code"),
    [
        ([{"type": "report", "stream": "a", "provider": "b", "x": "y" * 70_000}], "too-long"),
        ([{"type": "leg", "stream": "a", "provider": "b", "state": "live"}] * 700, "too-fast"),
        ([hello(*[f"s{n}" for n in range(60)])] * 10, "too-fast"),
    ],
    ids=["long", "many", "streams"],
)
def test_who_says_too_much_is_cut_with_a_word(flood, code, tmp_path):
    async def test(server):
        socket = await welcomed(server)
        for message in flood:
            await say(socket, message)
        heard = []
        while (message := await play.heard(socket)) is not None:
            heard.append(message)
        assert heard[-1]["code"] == code
        assert socket.close_code == 1008
        assert len(server.node.hub) == 0

    go(tmp_path, test)


def test_a_client_that_connects_twice_keeps_its_newer_connection(tmp_path):
    """
    The older one is told why; a client of the same name and another key is somebody else.
    """

    async def test(server):
        made = await server.operate("keys", {"role": "viewer-client"}, status=201)
        older = await welcomed(server)
        newer = await welcomed(server)
        assert await last_word(older) == ("replaced", 1008)
        stranger = await welcomed(server, key=made["data"]["key"])
        await say(newer, {"type": "finish", "stream": "x"})
        await say(stranger, {"type": "finish", "stream": "x"})
        assert (await play.heard(newer))["code"] == "unknown-stream"
        assert (await play.heard(stranger))["code"] == "unknown-stream"
        assert len(server.node.hub) == 2

    go(tmp_path, test)


def test_a_key_for_viewers_cannot_say_that_it_publishes(tmp_path):
    async def test(server):
        made = await server.operate("keys", {"role": "viewer-client"}, status=201)
        socket = await welcomed(server, "news", key=made["data"]["key"])
        problem = await play.heard(socket)
        assert (problem["code"], problem["stream"]) == ("forbidden", "news")

    go(tmp_path, test)


@pytest.mark.parametrize("is_hand", [False, True])
def test_a_key_for_one_stream_is_told_that_another_is_not_its_own(is_hand, tmp_path):
    """
    Its role is right: that is not what is wrong.
    """

    async def test(server):
        body = {"role": "publisher", "scope": "mine"}
        made = await server.operate("keys", body, status=201)
        socket = await welcomed(server, "news", key=made["data"]["key"], hands=is_hand)
        problem = await play.heard(socket)
        assert (problem["code"], problem["stream"]) == ("forbidden", "news")
        assert problem["message"] == "this key may not do that: it is for another stream"

    go(tmp_path, test)


def test_who_is_connected_with_a_key_that_is_revoked_is_sent_away(tmp_path):
    """
    Within the second in which every node reads the keys; those of other keys stay.
    """

    async def test(server):
        body = {"role": "viewer-client", "scope": "news"}
        key = (await server.operate("keys", body, status=201))["data"]
        goes = await welcomed(server, key=key["key"], client="tv")
        stays = await welcomed(server, client="tv")
        audit = Audit(who="a test", what="key.revoked", target=key["id"], because="it left")
        assert await server.node.store.keys.revoke(key["id"], audit=audit)
        assert await last_word(goes) == ("bad-key", 1008)
        await say(stays, {"type": "finish", "stream": "news"})
        assert (await play.heard(stays))["code"] == "unknown-stream"

    go(tmp_path, test)


def test_a_client_that_goes_leaves_nothing_here(tmp_path):
    """
    A hand in the middle of an order, too.
    """

    async def test(server):
        socket = await welcomed(server, "news", client="phone", hands=True)
        assert (await play.heard(socket))["type"] == "plan"
        await socket.close()
        await asyncio.sleep(0.5)
        assert len(server.node.hub) == 0
        left = {t.get_name() for t in asyncio.all_tasks() if "hand" in t.get_name()}
        assert left == set()

    go(tmp_path, test)


def test_a_node_that_stops_ends_its_conversations_at_once(tmp_path):
    async def test(server):
        socket = await welcomed(server)
        await server.call("/v1/exchange", {"client": "tv", "messages": [hello(client="tv")]})
        longer = asyncio.create_task(server.ask("/v1/exchange", {"client": "tv", "wait_s": 20.0}))
        await asyncio.sleep(0.1)
        for connection in server.node.hub:
            connection.cut.set()
        assert await play.heard(socket) is None
        assert (await longer)[0] == 200

    go(tmp_path, test)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"client": "tv"}, "no-hello"),
        ({"client": "tv", "messages": [hello(client="other")]}, "bad-client"),
        ({"client": "tv", "messages": "hello"}, "bad-request"),
        ({}, "bad-request"),
    ],
)
def test_a_call_that_makes_no_sense_is_refused(body, code, tmp_path):
    async def test(server):
        status, answer = await server.ask("/v1/exchange", body)
        assert status in (400, 409)
        assert answer["error"]["code"] == code

    go(tmp_path, test)
