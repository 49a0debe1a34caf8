"""hitless.client.link: in virtual time where the server is played, over a socket where it lies."""

import asyncio
import json
import random
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web
from backend_calls import serving
from virtual_time import run

from hitless.client import protocol
from hitless.client.link import CLOSE_S_MAX, QUEUE_MAX, Ends, Link


LIMIT_S = 10.0
"""A test over a socket that takes longer has failed [s]."""
WELCOME = {"type": "welcome", "node": "n1"}
CLOSED = aiohttp.WSMessage(aiohttp.WSMsgType.CLOSED, None, None)


class Jitter(random.Random):
    """Always waits `share` of what it may, and keeps the limits that it was given [s]."""

    def __init__(self, share=0.0):
        super().__init__(1)
        self.share, self.limits_s = share, []

    def uniform(self, a, b):
        self.limits_s.append((a, b))
        return a + self.share * (b - a)


class Client:
    """Our end of a link: what it heard, and what it says when it is connected."""

    def __init__(self, url="http://server", *, http=None, jitter=None, says=(), timeout_s=1.0):
        self.heard, self.lost, self.welcomes, self.reports = asyncio.Queue(), [], [], []
        self.says = says
        self.jitter = jitter or Jitter()
        self.link = Link(
            url,
            headers={"Authorization": "Bearer s3cr3t"},
            http=http,
            timeout_s=timeout_s,
            rng=self.jitter,
            ends=Ends(
                hello=lambda: protocol.Hello(client="studio"),
                hear=self.heard.put_nowait,
                connected=self._connected,
                lost=self.lost.append,
                report=lambda: self.reports.append(asyncio.get_running_loop().time()),
            ),
        )

    def _connected(self, welcome):
        self.welcomes.append(welcome.node)
        for stream in self.says:
            self.say(stream)

    def say(self, stream):
        self.link.send(protocol.Finish(stream=stream))


# --- A server that is played, in virtual time ---


class Socket:
    """
    A WebSocket whose far side is the test.

    Attributes:
        said: What the client said, its types or streams.
        takes: Cleared, nothing that is sent goes out.
    """

    def __init__(self, *told):
        self.said, self.is_closed = [], False
        self._told = asyncio.Queue()
        self.takes = asyncio.Event()
        self.takes.set()
        for message in told:
            self.tell(message)

    def tell(self, message):
        text = json.dumps(message)
        self._told.put_nowait(aiohttp.WSMessage(aiohttp.WSMsgType.TEXT, text, None))

    def end(self):
        self._told.put_nowait(CLOSED)

    async def send_bytes(self, data):
        await self.takes.wait()
        message = json.loads(data)
        self.said.append(message.get("stream", message["type"]))

    async def receive(self):
        return await self._told.get()

    def __aiter__(self):
        return self

    async def __anext__(self):
        message = await self.receive()
        if message is CLOSED:
            raise StopAsyncIteration
        return message

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        self.is_closed = True


class Network:
    """
    Stands in for aiohttp's session: gives the sockets in their order, and then nothing.

    Attributes:
        tries: When and how the client tried: `(time [s], "socket" | "rest")`.
    """

    def __init__(self, *sockets):
        self.sockets, self.tries = list(sockets), []

    def __call__(self):
        return self

    def _tried(self, how):
        self.tries.append((asyncio.get_running_loop().time(), how))

    async def ws_connect(self, url, **_):
        assert url == "http://server/v1/connect"
        self._tried("socket")
        if not self.sockets:
            raise aiohttp.ClientError("nobody there")
        return self.sockets.pop(0)

    @asynccontextmanager
    async def post(self, url, **_):
        assert url == "http://server/v1/exchange"
        self._tried("rest")
        raise aiohttp.ClientError("nobody there")
        yield


async def turns():
    """Let everybody go on until all wait; no time passes."""
    for _ in range(30):
        await asyncio.sleep(0)


def test_hello_is_the_first_word_and_nothing_is_kept_before_the_welcome():
    async def main():
        socket = Socket()
        client = Client(http=Network(socket))
        client.link.open()
        await turns()
        client.say("too-early")
        assert (socket.said, client.link.is_connected) == (["hello"], False)
        socket.tell(WELCOME)
        await turns()
        assert client.link.is_connected
        client.say("one")
        client.say("two")
        await turns()
        await client.link.aclose()
        return socket, client

    socket, client = run(main())

    assert socket.said == ["hello", "one", "two"]
    assert (client.welcomes, client.lost, socket.is_closed) == (["n1"], [], True)


def test_what_a_lost_connection_was_to_be_told_is_thrown_away_and_said_anew_from_state():
    async def main():
        first, second = Socket(WELCOME), Socket(WELCOME | {"node": "n2"})
        client = Client(http=Network(first, second), says=["state"])
        client.link.open()
        await turns()
        first.takes.clear()
        client.say("stuck")
        client.say("waits")
        await turns()
        first.end()
        await turns()
        await client.link.aclose()
        return first.said, second.said, client

    first, second, client = run(main())

    assert first == ["hello", "state"]
    assert second == ["hello", "state"]
    assert client.welcomes == ["n1", "n2"]
    assert client.lost == ["the server closed it"]


def test_reconnects_wait_a_random_time_below_a_limit_that_doubles_up_to_ten_seconds():
    async def main():
        network = Network()
        client = Client(http=network, jitter=Jitter(0.5))
        client.link.open()
        await asyncio.sleep(60.0)
        await client.link.aclose()
        return client, network.tries

    client, tries = run(main())
    pauses_s = [b - a for (a, _), (b, _) in zip(tries, tries[1:], strict=False)]

    assert client.jitter.limits_s[:8] == [(0.0, s) for s in (0.5, 1, 2, 4, 8, 10, 10, 10)]
    assert pauses_s[:7] == pytest.approx([0.25, 0.5, 1, 2, 4, 5, 5])
    assert client.lost == []  # what never was is not lost


def test_after_three_tries_in_vain_each_second_one_is_by_rest():
    async def main():
        network = Network()
        client = Client(http=network)
        client.link.open()
        while len(network.tries) < 8:
            await asyncio.sleep(0)
        await client.link.aclose()
        return [how for _, how in network.tries[:8]]

    assert run(main()) == ["socket"] * 3 + ["rest", "socket"] * 2 + ["rest"]


@pytest.mark.parametrize(("lasted_s", "next_s"), [(9.9, 2.0), (10.0, 0.5)])
def test_only_a_connection_that_lasted_begins_the_pauses_anew(lasted_s, next_s):
    """A server that welcomes and dies is no better than one that is away."""

    async def main():
        sockets = [Socket(WELCOME) for _ in range(3)]
        client = Client(http=Network(*sockets))
        client.link.open()
        for socket in sockets[:2]:
            await turns()
            socket.end()
        await turns()
        await asyncio.sleep(lasted_s)
        sockets[2].end()
        await turns()
        await client.link.aclose()
        return client

    client = run(main())

    assert client.jitter.limits_s[:3] == [(0.0, 0.5), (0.0, 1.0), (0.0, next_s)]
    assert len(client.lost) == 3


def test_a_server_that_says_nothing_is_left_after_the_time_limit():
    async def main():
        silent, network = Socket(), Network()
        network.sockets = [silent]
        client = Client(http=network, timeout_s=1.5)
        client.link.open()
        await asyncio.sleep(2.0)
        await client.link.aclose()
        return silent, client, network.tries

    silent, client, tries = run(main())

    assert [at for at, _ in tries[:2]] == pytest.approx([0.0, 1.5])
    assert silent.is_closed
    assert (client.welcomes, client.lost) == ([], [])


def test_what_waits_to_be_sent_is_bounded_and_the_oldest_goes_first():
    async def main():
        socket = Socket(WELCOME)
        client = Client(http=Network(socket))
        client.link.open()
        await turns()
        socket.takes.clear()
        client.say("under way")
        await turns()
        for n in range(QUEUE_MAX + 3):
            client.say(f"{n}")
        socket.takes.set()
        await client.link.aclose()
        return socket.said

    assert run(main()) == ["hello", "under way", *(f"{n}" for n in range(3, QUEUE_MAX + 3))]


def test_reports_come_as_often_as_the_server_wants_but_not_without_a_pause():
    async def main(report_s, for_s):
        socket = Socket(WELCOME | {"report_s": report_s})
        client = Client(http=Network(socket))
        client.link.open()
        await asyncio.sleep(for_s)
        await client.link.aclose()
        await asyncio.sleep(60.0)
        return client.reports

    assert run(main(10.0, 25.0)) == pytest.approx([10.0, 20.0])
    assert run(main(-1.0, 0.35)) == pytest.approx([0.1, 0.2, 0.3])


def test_whoever_hears_may_fail_and_hears_again_on_the_next_connection(caplog):
    async def main():
        over = {"type": "over", "stream": "show"}
        first, second = Socket(WELCOME, over), Socket(WELCOME, over)
        client = Client(http=Network(first, second))
        heard = []

        def hear(message):
            heard.append(message.stream)
            if len(heard) == 1:
                raise LookupError("a defect")

        client.link._ends = Ends(
            hello=lambda: protocol.Hello(client="studio"),
            hear=hear,
            connected=lambda welcome: None,
            lost=client.lost.append,
            report=lambda: None,
        )
        client.link.open()
        await turns()
        await client.link.aclose()
        return heard, client.lost

    assert run(main()) == (["show", "show"], ["a defect here"])
    assert "hearing the control plane failed" in caplog.text


# --- Closing ---


def test_closing_sends_what_waits():
    async def main():
        socket = Socket(WELCOME)
        client = Client(http=Network(socket))
        client.link.open()
        await turns()
        client.say("farewell")
        await asyncio.gather(client.link.aclose(), client.link.aclose())
        await client.link.aclose()
        client.link.open()
        client.say("too late")
        await turns()
        return socket

    socket = run(main())

    assert (socket.said, socket.is_closed) == (["hello", "farewell"], True)


def test_closing_a_link_that_never_was_open_is_nothing():
    async def main():
        network = Network(Socket(WELCOME))
        client = Client(http=network)
        await client.link.aclose()
        client.link.open()
        await turns()
        return network.tries

    assert run(main()) == []


def test_a_peer_that_takes_nothing_holds_the_end_up_no_longer_than_its_limit():
    async def main():
        socket = Socket(WELCOME)
        client = Client(http=Network(socket))
        client.link.open()
        await turns()
        socket.takes.clear()
        client.say("stuck")
        begun_s = asyncio.get_running_loop().time()
        await client.link.aclose()
        return asyncio.get_running_loop().time() - begun_s, socket

    took_s, socket = run(main())

    assert took_s == pytest.approx(CLOSE_S_MAX)
    assert (socket.said, socket.is_closed) == (["hello"], True)


def test_a_cancelled_end_is_an_end_all_the_same():
    async def main():
        socket = Socket(WELCOME)
        client = Client(http=Network(socket))
        client.link.open()
        await turns()
        socket.takes.clear()
        client.say("farewell")
        ending = asyncio.create_task(client.link.aclose())
        await turns()
        ending.cancel()
        await turns()
        assert not ending.done()
        socket.takes.set()
        await asyncio.wait({ending}, timeout=CLOSE_S_MAX)
        assert ending.cancelled()
        return socket

    socket = run(main())

    assert (socket.said, socket.is_closed) == (["hello", "farewell"], True)


def test_closing_in_a_pause_between_two_tries_ends_at_once():
    async def main():
        client = Client(http=Network(), jitter=Jitter(1.0))
        client.link.open()
        await asyncio.sleep(30.0)
        await client.link.aclose()
        return asyncio.get_running_loop().time()

    assert run(main()) == pytest.approx(30.0)


# --- A server that speaks, over a socket ---


@asynccontextmanager
async def speaking(answer, **more):
    """Run a stand-in whose handler is `answer`, and a client of it; both are bounded."""
    async with asyncio.timeout(LIMIT_S), serving(answer) as url, aiohttp.ClientSession() as http:
        client = Client(url, http=lambda: http, **more)
        client.link.open()
        try:
            yield client
        finally:
            await client.link.aclose()


async def welcomed(request):
    """Take a WebSocket of which the hello has been heard."""
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    assert json.loads((await socket.receive()).data)["type"] == "hello"
    return socket


UNREADABLE = {
    "no JSON": "<html>",
    "an array": "[]",
    "endlessly deep": "[" * 50_000,
    "no UTF-8": b"\xff\xfe",
    "an unknown type": '{"type": "dance"}',
    "a wrong field": '{"type": "placement", "stream": "s", "epoch": "one", "provider": "a"}',
}
TOO_LONG = json.dumps({"type": "welcome", "node": "n" * protocol.MESSAGE_BYTES_MAX})
NO_WELCOME = UNREADABLE | {"too long": TOO_LONG, "an over": '{"type": "over", "stream": "s"}'}


async def say(socket, said):
    await (socket.send_bytes(said) if isinstance(said, bytes) else socket.send_str(said))


@pytest.mark.parametrize("said", NO_WELCOME.values(), ids=NO_WELCOME)
def test_a_server_that_does_not_say_welcome_is_asked_again(said):
    async def main():
        tries = 0

        async def answer(request):
            nonlocal tries
            tries += 1
            socket = await welcomed(request)
            await say(socket, said if tries == 1 else json.dumps(WELCOME))
            if tries > 1:
                await say(socket, json.dumps({"type": "release", "stream": "s", "epoch": 1}))
            await socket.receive()
            return socket

        async with speaking(answer) as client:
            heard = await client.heard.get()
            assert client.link.is_connected
        return heard, client.lost, tries

    assert asyncio.run(main()) == (protocol.Release(stream="s", epoch=1), [], 2)


def test_a_problem_instead_of_a_welcome_is_heard():
    async def main():
        async def answer(request):
            socket = await welcomed(request)
            await say(socket, '{"type": "problem", "code": "version", "message": "too old"}')
            await socket.close()
            return socket

        async with speaking(answer) as client:
            return await client.heard.get(), client.welcomes

    assert asyncio.run(main()) == (protocol.Problem(code="version", message="too old"), [])


@pytest.mark.parametrize("said", UNREADABLE.values(), ids=UNREADABLE)
def test_what_a_newer_server_says_besides_is_skipped_and_told_of_once(said, caplog):
    async def main():
        async def answer(request):
            socket = await welcomed(request)
            await say(socket, json.dumps(WELCOME))
            await say(socket, said)
            await say(socket, said)
            await say(socket, '{"type": "release", "stream": "s", "epoch": 7, "more": [1]}')
            await socket.receive()
            return socket

        async with speaking(answer) as client:
            return await client.heard.get(), client.lost

    assert asyncio.run(main()) == (protocol.Release(stream="s", epoch=7), [])
    assert caplog.text.count("said what we do not know") == 1


def test_a_message_that_is_too_long_ends_the_connection_and_the_next_one_serves():
    async def main():
        tries = 0

        async def answer(request):
            nonlocal tries
            tries += 1
            socket = await welcomed(request)
            await say(socket, json.dumps(WELCOME))
            if tries == 1:
                await say(socket, TOO_LONG)
            else:
                await say(socket, '{"type": "release", "stream": "s", "epoch": 1}')
            await socket.receive()
            return socket

        async with speaking(answer) as client:
            await client.heard.get()
            return client.lost, client.welcomes

    lost, welcomes = asyncio.run(main())

    assert (len(lost), welcomes) == (1, ["n1", "n1"])
    assert "the connection broke" in lost[0]


# --- By REST ---


class Exchange:
    """
    A stand-in that takes no WebSocket, and keeps a conversation by REST.

    Attributes:
        said: What the client said, call by call that brought something.
        headers: Of the calls.
        down: What it is told next, by a call that waits for it.
        is_forgetful: The next call of the conversation is answered with 409.
    """

    def __init__(self):
        self.said, self.headers = asyncio.Queue(), []
        self.down = asyncio.Queue()
        self.is_forgetful = False
        self._newer = asyncio.Event()

    async def __call__(self, request):
        if request.path != "/v1/exchange":
            return web.Response(status=426)
        self.headers.append(request.headers.get("Authorization"))
        body = await request.json()
        assert body["client"] == "studio"
        said = [one.get("stream", one["type"]) for one in body["messages"]]
        self._newer.set()  # a newer call ends one that waits
        self._newer = newer = asyncio.Event()
        if said == ["hello"]:
            self.said.put_nowait(said)
            return self._tells([WELCOME])
        if self.is_forgetful:
            self.is_forgetful = False
            return web.Response(status=409)
        if said:
            self.said.put_nowait(said)
            return self._tells([])
        waits = [asyncio.create_task(self.down.get()), asyncio.create_task(newer.wait())]
        try:
            await asyncio.wait(waits, timeout=body["wait_s"], return_when="FIRST_COMPLETED")
            return self._tells([waits[0].result()] if waits[0].done() else [])
        finally:
            for wait in waits:
                wait.cancel()

    def _tells(self, messages):
        return web.json_response({"data": {"messages": messages}})


def test_where_no_websocket_comes_through_both_ways_go_by_rest():
    async def main():
        server = Exchange()
        async with speaking(server, says=["state"]) as client:
            said = [await server.said.get(), await server.said.get()]
            client.say("one")
            client.say("two")
            said.append(await server.said.get())
            server.down.put_nowait({"type": "release", "stream": "s", "epoch": 3})
            heard = await client.heard.get()
            client.say("farewell")
        said.append(await server.said.get())
        return said, heard, client, server

    said, heard, client, server = asyncio.run(main())

    assert said == [["hello"], ["state"], ["one", "two"], ["farewell"]]
    assert heard == protocol.Release(stream="s", epoch=3)
    assert (client.welcomes, client.lost) == (["n1"], [])
    assert set(server.headers) == {"Bearer s3cr3t"}


def test_a_conversation_that_the_server_lost_begins_anew():
    async def main():
        server = Exchange()
        async with speaking(server, says=["state"]) as client:
            said = [await server.said.get(), await server.said.get()]
            server.is_forgetful = True
            client.say("lost")
            said += [await server.said.get(), await server.said.get()]
            return said, client.welcomes, client.lost

    said, welcomes, lost = asyncio.run(main())

    assert said == [["hello"], ["state"]] * 2
    assert (welcomes, len(lost)) == (["n1", "n1"], 1)


BAD_ANSWERS = {
    "an error": (503, b"{}"),
    "no JSON": (200, b"<html>"),
    "endlessly deep": (200, b"[" * 50_000),
    "no messages": (200, b'{"data": {}}'),
    "nothing": (200, b'{"data": {"messages": []}}'),
    "no welcome": (200, b'{"data": {"messages": [{"type": "over", "stream": "s"}]}}'),
    "a redirect": (307, b""),
}


@pytest.mark.parametrize(("status", "body"), BAD_ANSWERS.values(), ids=BAD_ANSWERS)
def test_a_rest_answer_without_a_welcome_is_no_conversation(status, body):
    async def main():
        good, calls = Exchange(), 0

        async def answer(request):
            nonlocal calls
            calls += request.path == "/v1/exchange"
            if request.path == "/v1/exchange" and calls == 1:
                return web.Response(status=status, body=body, headers={"Location": "/elsewhere"})
            assert request.path != "/elsewhere"
            return await good(request)

        async with speaking(answer) as client:
            first = await good.said.get()
            good.down.put_nowait({"type": "release", "stream": "s", "epoch": 3})
            await client.heard.get()
            return first, client.welcomes, client.lost

    assert asyncio.run(main()) == (["hello"], ["n1"], [])
