"""hitless.lab.front: what passes, and the process."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest
from aiohttp import WSMsgType
from unit.lab.front_desk import BEARER, LIST, TOKEN, at_desk

from hitless.lab import tunnel
from hitless.lab.wire import TOKEN_ENV


# --- Passing on ---


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PURGE"])
def test_any_method_passes_with_path_body_and_headers(method):
    """And the answer back: status, reason, repeated fields."""

    async def what(here):
        answer, body = await here.call(
            "/a%2Fb/../c?x=%20&y",
            method,
            data=b"some bytes",
            headers={"Authorization": "Bearer key", "X-Own": "1"},
        )
        return answer, body, here.server.requests[0], here.url

    answer, body, got, url = at_desk(what)

    assert (207, "So So", b"some bytes") == (answer.status, answer.reason, body)
    assert method == answer.headers["X-Method"] == got.method
    assert answer.headers["X-Path"].startswith("/")
    assert answer.headers["X-Path"].endswith("c?x=%20&y")
    assert ["a=1", "b=2"] == answer.headers.getall("Set-Cookie")
    assert ("Bearer key", "1") == (got.headers["Authorization"], got.headers["X-Own"])
    assert url.removeprefix("http://") == got.headers["Host"]
    assert "hitless-lab-front (not for production)" == answer.headers["Server"]


def test_fields_of_one_hop_stay_on_their_hop():
    """Those that Connection names too, in both directions."""

    async def what(here):
        hop = {"Connection": "X-Mine, keep-alive", "X-Mine": "1", "TE": "trailers"}
        hop |= {"Keep-Alive": "max=9", "Proxy-Authorization": "Basic x", "X-Goes": "1"}
        answer, _ = await here.call("/echo", headers=hop)
        return answer, here.server.requests[0].headers

    answer, sent = at_desk(what)

    assert "1" == sent["X-Goes"]
    assert not {"X-Mine", "TE", "Keep-Alive", "Proxy-Authorization"} & set(sent)
    assert "close" == sent["Connection"]
    assert not {"X-Hop", "Keep-Alive"} & set(answer.headers)


def test_an_answer_comes_as_the_server_sent_it():
    """Compressed or not, without a body, and for HEAD with the length that it would have."""

    async def what(here):
        packed = await here.call(LIST, headers={"Accept-Encoding": "gzip"})
        plain = await here.call(LIST, headers={"Accept-Encoding": "identity"})
        known = await here.call(LIST, headers={"If-None-Match": '"1"'})
        head = await here.call("/large", "HEAD")
        return packed, plain, known, head, await here.call("/bare"), await here.call("/locked")

    packed, plain, known, head, bare, locked = at_desk(what)

    assert "gzip" == packed[0].headers["Content-Encoding"]
    assert packed[1].startswith(b"\x1f\x8b")
    assert json.loads(plain[1])["success"] is True
    assert (304, b"") == (known[0].status, known[1])
    assert ("300000", b"") == (head[0].headers["Content-Length"], head[1])
    assert (204, b"") == (bare[0].status, bare[1])
    assert (403, "7") == (locked[0].status, locked[0].headers["Retry-After"])
    assert "forbidden" == json.loads(locked[1])["error"]["code"]


def test_bodies_flow_while_they_are_sent():
    """A part arrives before the next one is there."""

    async def what(here):
        async with here.session.get(here.url + "/drip") as answer:
            return await asyncio.wait_for(answer.content.readany(), 1)

    assert at_desk(what).count(b".") < 10


@pytest.mark.parametrize("is_chunked", [False, True])
def test_large_bodies_pass_whole(is_chunked):
    """With their length or in chunks: how much is too much is for the server to say."""
    size = 3 << 20

    async def chunks():
        for _ in range(size >> 18):
            yield bytes(1 << 18)

    async def what(here):
        headers = {} if is_chunked else {"Content-Length": str(size)}
        answer, body = await here.call("/echo", "POST", data=chunks(), headers=headers)
        return answer.status, len(body), here.server.requests[0].headers.get("Content-Length")

    length = None if is_chunked else str(size)
    assert (207, size, length) == at_desk(what)


def test_an_answer_cut_short_is_cut_here_too():
    """Nobody takes half an answer for a whole one."""

    async def what(here):
        with pytest.raises((aiohttp.ClientPayloadError, aiohttp.ClientConnectionError)):
            await here.call("/torn")
        return (await here.call("/echo"))[0].status

    assert 207 == at_desk(what)


def test_a_killed_server_is_a_bad_gateway_until_it_is_back():
    """No old connection is used again; its WebSockets break without a close frame."""

    async def what(here):
        seen = [(await here.call("/echo"))[0].status]
        socket = await here.socket()
        await here.server.stop()
        message = await socket.receive(2)
        answer, body = await here.call("/echo", "POST", data=b"x")
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await here.session.ws_connect(here.url + "/socket")
        await here.server.start()
        seen += [answer.status, refused.value.status, (await here.call("/echo"))[0].status]
        return seen, json.loads(body), message.type

    seen, told, kind = at_desk(what)

    assert [207, 502, 502, 207] == seen
    assert (False, "bad-gateway") == (told["success"], told["error"]["code"])
    assert WSMsgType.CLOSED is kind or WSMsgType.ERROR is kind


# --- WebSockets ---


def test_messages_pings_and_subprotocols_pass_both_ways():
    """Text, bytes, pings with their answers, and what the handshake carries."""

    async def what(here):
        seen = []
        async with here.session.ws_connect(
            here.url + "/socket?since=7",
            protocols=("hitless.v1", "other"),
            headers={"Authorization": "Bearer key"},
            autoping=False,
        ) as socket:
            await socket.send_str("ü")
            seen.append((await socket.receive()).data)
            await socket.send_bytes(bytes(200_000))
            seen.append((await socket.receive()).data)
            await socket.ping(b"here")
            seen += [(m := await socket.receive()).data, (await socket.receive()).type]
            await socket.send_str("ping me")
            seen.append((m := await socket.receive()).type)
            await socket.pong(m.data)
            seen.append((await socket.receive()).data)
            return seen, socket.protocol, here.server.requests[0]

    seen, protocol, got = at_desk(what)

    assert ["ü", bytes(200_000), "pinged here", WSMsgType.PONG] == seen[:4]
    assert [WSMsgType.PING, "ponged why"] == seen[4:]
    assert ("hitless.v1", "/socket?since=7") == (protocol, got.raw_path)
    assert "Bearer key" == got.headers["Authorization"]
    assert "hitless.v1,other" == got.headers["Sec-WebSocket-Protocol"].replace(" ", "")


def test_close_codes_and_reasons_pass_both_ways():
    """From the server with its reason, and from the client."""

    async def what(here):
        async with here.session.ws_connect(here.url + "/socket") as socket:
            await socket.send_str("close 4009")
            theirs = await socket.receive(2)
        assert 4009 == await here.ended()
        socket = await here.socket()
        await socket.close(code=4001)
        return theirs, await here.ended(), socket.close_code

    theirs, ended, answered = at_desk(what)

    assert (WSMsgType.CLOSE, 4009, "as told") == theirs
    assert (4001, 4001) == (ended, answered)


def test_a_client_that_is_gone_is_gone_for_the_server_too():
    """Without a close frame, as it went; the server is not left waiting."""

    async def what(here):
        async with aiohttp.ClientSession() as gone:
            socket = await gone.ws_connect(here.url + "/socket")
        await socket.close()  # with its session closed, nothing is sent
        return await here.ended()

    assert at_desk(what) is None


def test_a_refused_handshake_comes_with_status_and_fields():
    """What says why, and when to come again; its body is lost."""

    async def what(here):
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await here.session.ws_connect(here.url + "/locked")
        return refused.value.status, refused.value.headers["Retry-After"]

    assert (403, "7") == at_desk(what)


def test_a_message_too_long_ends_the_websocket():
    """With 1009 to who sent it."""

    async def what(here):
        async with here.session.ws_connect(here.url + "/socket") as socket:
            with contextlib.suppress(ConnectionError):
                await socket.send_bytes(bytes(tunnel.MESSAGE_BYTES_MAX + 1))
            await here.ended()
            return await socket.receive(2)

    assert at_desk(what).data in (1009, None)  # None: cut before it was read


# --- The process ---


def start(*options, token=TOKEN):
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3] / "src")}
    environ.pop(TOKEN_ENV, None)
    if token:
        environ[TOKEN_ENV] = token
    return subprocess.Popen(
        [sys.executable, "-m", "hitless.lab.front", *options],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_process_says_where_it_listens_and_ends_soon_after_sigterm():
    """Even while somebody waits for an answer that never comes."""

    async def hold(url):
        async with aiohttp.ClientSession() as session:
            change = {"broken": "hang"}
            async with session.patch(url + "/control", json=change, headers=BEARER) as answer:
                assert 200 == answer.status
            held = asyncio.create_task(session.get(url + LIST))
            await asyncio.sleep(0.1)
            process.send_signal(signal.SIGTERM)
            code = await asyncio.to_thread(process.wait, 2.0)
            with pytest.raises(aiohttp.ClientError):
                await held
            return code

    with start("--upstream", "http://127.0.0.1:1") as process:
        ready = json.loads(process.stdout.readline())
        assert (process.pid, "front") == (ready["pid"], ready["name"])
        assert 0 == asyncio.run(hold(ready["url"]))
        log = process.stderr.read()

    assert "not for production" in log
    assert TOKEN not in log


@pytest.mark.parametrize(
    ("options", "token", "says"),
    [
        ([], TOKEN, "--upstream"),
        (["--upstream", "https://example.com"], TOKEN, "give http://127.0.0.1:PORT"),
        (["--upstream", "http://127.0.0.1:1/api"], TOKEN, "give http://127.0.0.1:PORT"),
        (["--upstream", "http://127.0.0.1:1"], "", TOKEN_ENV),
        (["--upstream", "http://127.0.0.1:1", "--port", "99999"], TOKEN, "port 99999"),
    ],
)
def test_a_process_asked_for_something_impossible_says_so_in_one_line(options, token, says):
    """Exit status 2, and nothing is listening."""
    with start(*options, token=token) as process:
        out, err = process.communicate(timeout=10)

    assert (2, "") == (process.returncode, out)
    assert says in err
    assert 1 == len(err.splitlines())
