"""hitless.lab.front"""

import asyncio
import contextlib
import gc
import json
import os
import signal
import subprocess
import sys
import warnings
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import WSMsgType, web

from hitless.client.backend import Backend, BackendUnavailable
from hitless.core.listing import Answer
from hitless.lab import front, tunnel
from hitless.lab.front import LabFront
from hitless.lab.wire import TOKEN_ENV, failure, listening, success


TOKEN = "lab-token-1234"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
LIST = "/streaming/providers"
HEALTH = LIST + "/agora/health"
HEALED = {
    "slow_s": 0.0,
    "everything": False,
    "broken": None,
    "healthy": {},
    "away": False,
    "upstream": None,
}


class Server:
    """A tiny server that tells what reached it."""

    def __init__(self):
        self.requests = []
        self.sockets = set()
        self.ended = asyncio.Queue()
        self.providers = [
            {"name": name, "isActive": True, "priority": place, "config": {}}
            for place, name in enumerate(("agora", "zegocloud"), start=1)
        ]
        self.status = "active"
        self.port = 0
        self.runner = None

    async def start(self):
        app = web.Application(client_max_size=1 << 30)
        app.router.add_get(LIST, self.list)
        app.router.add_get(LIST + "/{name}/health", self.health)
        app.router.add_get("/socket", self.socket)
        app.router.add_get("/locked", self.locked)
        app.router.add_get("/large", self.large)
        app.router.add_get("/torn", self.torn)
        app.router.add_get("/drip", self.drip)
        app.router.add_get("/bare", self.bare)
        app.router.add_route("*", "/{path:.*}", self.echo)
        self.runner, url = await listening(app, self.port)
        self.port = int(url.rsplit(":", 1)[1])
        return url

    async def stop(self):
        for transport in self.sockets:
            transport.abort()
        await self.runner.cleanup()

    async def list(self, request):
        if request.headers.get("If-None-Match"):
            return web.Response(status=304)
        answer = success({"providers": self.providers})
        answer.headers["ETag"] = '"1"'
        answer.enable_compression()
        return answer

    async def health(self, request):
        name = request.match_info["name"]
        if name == "nobody":
            return failure(404, "not-found", "no provider of this name")
        return success({"healthy": True, "provider": name, "status": self.status, "grade": "good"})

    async def echo(self, request):
        self.requests.append(request)
        body = await request.read()
        headers = {"X-Method": request.method, "X-Path": request.raw_path, "Keep-Alive": "max=1"}
        headers |= {"Connection": "X-Hop", "X-Hop": "1", "Set-Cookie": "a=1"}
        answer = web.Response(status=207, reason="So So", body=body, headers=headers)
        answer.headers.add("Set-Cookie", "b=2")
        return answer

    async def locked(self, request):
        answer = failure(403, "forbidden", "no key")
        answer.headers["Retry-After"] = "7"
        return answer

    async def large(self, request):
        return web.Response(body=bytes(300_000), headers={"Content-Type": "text/plain"})

    async def torn(self, request):
        answer = web.StreamResponse()
        await answer.prepare(request)
        await answer.write(b"half")
        request.transport.close()
        return answer

    async def drip(self, request):
        answer = web.StreamResponse()
        await answer.prepare(request)
        with contextlib.suppress(ConnectionError):
            for _ in range(100):
                await answer.write(b".")
                await asyncio.sleep(0.02)
        return answer

    async def bare(self, request):
        return web.Response(status=204)

    async def socket(self, request):
        """Echo; `close N` closes with that code, pings are told, the end is kept."""
        self.requests.append(request)
        socket = web.WebSocketResponse(protocols=("hitless.v2", "hitless.v1"), autoping=False)
        await socket.prepare(request)
        transport = request.transport
        self.sockets.add(transport)
        try:
            await self.talk(socket)
        finally:  # aiohttp cancels the handler of a client that is gone
            self.sockets.discard(transport)
            self.ended.put_nowait(socket.close_code)
        return socket

    async def talk(self, socket):
        async for message in socket:
            match message.type, message.data:
                case WSMsgType.TEXT, "ping me":
                    await socket.ping(b"why")
                case WSMsgType.TEXT, str(text) if text.startswith("close "):
                    await socket.close(code=int(text[6:]), message=b"as told")
                case WSMsgType.TEXT, text:
                    await socket.send_str(text)
                case WSMsgType.BINARY, data:
                    await socket.send_bytes(data)
                case WSMsgType.PING, data:
                    await socket.send_str(f"pinged {data.decode()}")
                    await socket.pong(data)
                case WSMsgType.PONG, data:
                    await socket.send_str(f"ponged {data.decode()}")


class Desk:
    """Calls through a running front."""

    def __init__(self, session, url, server):
        self.session, self.url, self.server = session, url, server

    async def call(self, path, method="GET", **given):
        async with self.session.request(method, self.url + path, **given) as answer:
            return answer, await answer.read()

    async def data(self, path, **given):
        answer, body = await self.call(path, **given)
        assert 200 == answer.status
        return json.loads(body)["data"]

    async def patch(self, body, headers=BEARER, path="/control"):
        data = body if isinstance(body, bytes) else json.dumps(body)
        answer, told = await self.call(path, "PATCH", data=data, headers=headers)
        return answer.status, json.loads(told)

    async def tell(self, **change):
        status, told = await self.patch(change)
        assert 200 == status, told
        return told["data"]

    async def ended(self):
        """Wait for a WebSocket of the server to end; return its close code."""
        return await asyncio.wait_for(self.server.ended.get(), 2)


@asynccontextmanager
async def desk():
    server = Server()
    upstream = await server.start()
    runner, url = await listening(LabFront(upstream, token=TOKEN).app(), 0)
    try:
        async with aiohttp.ClientSession(auto_decompress=False) as session:
            yield Desk(session, url, server)
    finally:
        await runner.cleanup()
        await server.stop()


def at_desk(what):
    async def main():
        async with asyncio.timeout(10), desk() as here:
            return await what(here)

    try:
        return asyncio.run(main())
    finally:
        with warnings.catch_warnings():  # aiohttp leaves what was cut to the collector
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()


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
        socket = await here.session.ws_connect(here.url + "/socket")
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
        socket = await here.session.ws_connect(here.url + "/socket")
        await socket.close(code=4001)
        return theirs, await here.ended(), socket.close_code

    theirs, ended, answered = at_desk(what)

    assert (WSMsgType.CLOSE, 4009, "as told") == theirs
    assert (4001, 4001) == (ended, answered)


def test_a_client_that_is_gone_is_gone_for_the_server_too():
    """Without a close frame, as it went; the server is not left waiting."""

    async def what(here):
        async with aiohttp.ClientSession() as gone:
            await gone.ws_connect(here.url + "/socket")
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


# --- Being told ---


@pytest.mark.parametrize(
    "headers",
    [{}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}],
)
def test_a_control_call_without_the_token_changes_nothing(headers):
    """401 in the envelope, for reading too, and nothing of it reaches the server."""

    async def what(here):
        patched = await here.patch({"away": True}, headers)
        below, _ = await here.call("/control/else", headers=headers)
        read, _ = await here.call("/control", headers=headers)
        now = await here.data("/control", headers=BEARER)
        return patched, below.status, read.status, now, here.server.requests

    patched, below, read, now, requests = at_desk(what)

    assert [401, 401, 401] == [patched[0], below, read]
    assert TOKEN not in json.dumps(patched[1])
    assert (HEALED, []) == (now, requests)


def test_the_control_itself_is_never_passed_on():
    """Not by another method, nor by another way to write it: the token is in there."""

    async def what(here):
        seen = [(await here.call("/control", "POST", headers=BEARER))[0].status]
        seen.append((await here.call("/control/x", headers=BEARER))[0].status)
        seen.append((await here.call("/%63ontrol/x", headers=BEARER))[0].status)
        return seen, here.server.requests

    assert ([404, 404, 404], []) == at_desk(what)


@pytest.mark.parametrize(
    ("body", "names"),
    [
        (b"{", "JSON object"),
        ([], "JSON object"),
        ({}, "nothing to change"),
        ({"slow": 1}, "'slow': known are slow_s, everything, broken, healthy, away"),
        ({"slow_s": -1}, "slow_s"),
        ({"slow_s": 61}, "60"),
        ({"slow_s": float("nan")}, "slow_s"),
        ({"everything": 1}, "everything"),
        ({"broken": "a bit"}, "broken"),
        ({"broken": []}, "broken"),
        ({"healthy": True}, "healthy"),
        ({"healthy": {"agora": "no"}}, "healthy"),
        ({"healthy": {"agora": 0}}, "healthy"),
        ({"healthy": {str(n): True for n in range(65)}}, "64"),
        ({"away": 1}, "away"),
        ({"away": "loud"}, "away"),
        (b" " * 100_000, "65536"),
    ],
)
def test_a_control_call_that_makes_no_sense_is_told_so_and_changes_nothing(body, names):
    """Naming the field, and the fields beside it are left as they were."""

    async def what(here):
        told = await here.patch({"slow_s": 1, **body} if isinstance(body, dict) and body else body)
        return told, await here.data("/control", headers=BEARER)

    (status, told), now = at_desk(what)

    assert status in (400, 413)
    assert names in told["error"]["message"]
    assert HEALED == now


def test_null_is_as_it_was_in_the_beginning():
    """Each field alone."""

    async def what(here):
        await here.tell(slow_s=1, everything=True, broken="hang", healthy={"agora": False})
        slow = await here.tell(everything=None, broken=None, healthy=None, away=None)
        return slow, await here.tell(slow_s=None)

    assert ({**HEALED, "slow_s": 1.0}, HEALED) == at_desk(what)


def test_it_breaks_in_every_way_and_heals():
    """As the client of any backend sees it: 500, bad JSON, nothing at all, and lies."""

    async def what(here):
        patient, hasty = Backend(here.url), Backend(here.url, timeout_s=0.3)
        seen = {}
        for broken in ("500", "bad-json", "hang"):
            assert broken == (await here.tell(broken=broken))["broken"]
            backend = hasty if broken == "hang" else patient
            with pytest.raises(BackendUnavailable) as caught:
                await backend.list_providers()
            check = await backend.check_health("agora")
            assert Answer.UNANSWERED is check.answer
            seen[broken] = (caught.value.because, check.because)
            assert 207 == (await here.call("/echo"))[0].status
        await here.tell(broken="lie", healthy={"agora": False})
        known = {"If-None-Match": '"1"', "Accept-Encoding": "gzip"}
        answer, body = await here.call(LIST, headers=known)
        seen["raw"] = (answer.status, "ETag" in answer.headers, json.loads(body))
        seen["lie"] = await patient.list_providers()
        seen["lied"] = await patient.check_health("agora")
        seen["unknown"] = await patient.check_health("nobody")
        here.server.providers = []
        seen["empty"] = (await here.data(LIST))["default"]
        await here.tell(broken=None)
        seen["healed"] = await here.data(LIST, headers={"Accept-Encoding": "identity"})
        await patient.aclose()
        await hasty.aclose()
        return seen

    seen = at_desk(what)

    assert ("HTTP 500", "HTTP 500") == seen["500"]
    assert ("bad JSON", "bad JSON") == seen["bad-json"]
    assert ("Connection timeout", "Connection timeout") == seen["hang"]
    status, has_etag, raw = seen["raw"]
    assert (200, False) == (status, has_etag)
    assert ["1", "2", "1", "high"] == [p["priority"] for p in raw["data"]["providers"][:4]]
    assert raw["data"]["providers"][4] is None
    assert ["agora", "zegocloud", "nowhere"] == [p.name for p in seen["lie"].providers]
    assert len(seen["lie"].warnings) >= 5
    assert Answer.HEALTHY is seen["lied"].answer
    assert "HTTP 404" == seen["unknown"].because
    assert "no-such-provider" == seen["empty"]
    assert {"providers": []} == seen["healed"]


def test_slow_holds_the_two_endpoints_back_or_everything():
    """Control calls are never slow."""

    async def what(here):
        clock = asyncio.get_running_loop().time

        async def took_s(path):
            began_s = clock()
            await here.call(path, headers=BEARER)
            return clock() - began_s

        await here.tell(slow_s=0.25)
        some = [await took_s(path) for path in (LIST, HEALTH, "/echo")]
        await here.tell(everything=True)
        every = [await took_s("/echo"), await took_s("/control")]
        await here.tell(slow_s=None)
        return some, every, await took_s(HEALTH)

    (listed, health, other), (slow, control), healed = at_desk(what)

    assert min(listed, health, slow) >= 0.25
    assert max(other, control, healed) < 0.25


def test_health_can_be_overridden_by_provider():
    """What else health says stays; null ends one override, or all."""

    async def what(here):
        first = await here.tell(healthy={"agora": False, "zegocloud": True})
        down = await here.data(HEALTH)
        here.server.status = "disabled"
        disabled = await here.data(HEALTH)
        here.server.status = "down"
        up = await here.data(LIST + "/zegocloud/health")
        here.server.status = "active"
        second = await here.tell(healthy={"agora": None})
        healed = await here.data(HEALTH)
        third = await here.tell(healthy=None)
        return first["healthy"], down, disabled, up, second["healthy"], healed, third

    first, down, disabled, up, second, healed, third = at_desk(what)

    assert {"agora": False, "zegocloud": True} == first
    assert {
        "healthy": False,
        "provider": "agora",
        "status": "down",
        "grade": "good",
    } == down
    assert (False, "disabled") == (disabled["healthy"], disabled["status"])
    assert (True, "active") == (up["healthy"], up["status"])
    assert {"zegocloud": True} == second
    assert (True, "active") == (healed["healthy"], healed["status"])
    assert HEALED == third


# A connection that is cut in the middle of an answer is left to the collector by aiohttp.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_away_drops_everything_at_once_until_it_is_back():
    """WebSockets without a close frame, answers under way, and each new request."""

    async def what(here):
        socket = await here.session.ws_connect(here.url + "/socket")
        drip = await here.session.get(here.url + "/drip")
        await drip.content.readany()
        assert (await here.tell(away=True))["away"] is True
        message = await socket.receive(1)
        with pytest.raises(aiohttp.ClientError):
            await drip.read()
        drip.close()  # what was cut is let go of, or it is complained of when it is collected
        await socket.close()
        for path in (LIST, "/echo", "/socket"):
            with pytest.raises(aiohttp.ClientConnectionError):
                await here.call(path)
        ended = await here.ended()
        reached = len(here.server.requests)
        await here.tell(away=False)
        back = (await here.call("/echo"))[0].status
        again = await here.session.ws_connect(here.url + "/socket")
        await again.send_str("again")
        return message, ended, reached, back, (await again.receive(1)).data

    message, ended, reached, back, again = at_desk(what)

    assert message.type in (WSMsgType.CLOSED, WSMsgType.ERROR)
    assert (None, 1) == (ended, reached)  # cut
    assert (207, "again") == (back, again)


def test_silently_away_nothing_is_answered_and_what_waits_arrives_later():
    """WebSockets stay open and carry nothing."""

    async def what(here):
        socket = await here.session.ws_connect(here.url + "/socket")
        await here.call("/echo")
        assert "silent" == (await here.tell(away="silent"))["away"]
        waiting = [
            asyncio.create_task(here.call("/echo")),
            asyncio.create_task(here.call(LIST)),
            asyncio.create_task(socket.receive()),
        ]
        await socket.send_str("kept")
        done, _ = await asyncio.wait(waiting, timeout=0.25)
        reached = len(here.server.requests)
        await here.tell(away=False)
        (echo, _), (listed, _), message = await asyncio.gather(*waiting)
        return done, reached, (echo.status, listed.status, message.data)

    assert (set(), 2, (207, 200, "kept")) == at_desk(what)


def test_what_was_held_too_long_is_cut(monkeypatch):
    """As TCP gives up in the end, without an answer; silence can turn into away, too."""
    monkeypatch.setattr(front, "HELD_S_MAX", 0.1)

    async def what(here):
        socket = await here.session.ws_connect(here.url + "/socket")
        await here.tell(away="silent")
        await socket.send_str("lost")
        with pytest.raises(aiohttp.ClientConnectionError):
            await here.call("/echo")
        message = await socket.receive(1)
        await socket.close()
        monkeypatch.setattr(front, "HELD_S_MAX", 60)
        held = asyncio.create_task(here.call("/echo"))
        await asyncio.sleep(0.05)
        await here.tell(away=True)
        with pytest.raises(aiohttp.ClientConnectionError):
            await held
        return message, len(here.server.requests)

    message, reached = at_desk(what)

    assert message.type in (WSMsgType.CLOSED, WSMsgType.ERROR)
    assert 1 == reached


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
