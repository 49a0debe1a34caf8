"""hitless.client.link over a socket and by REST, against servers that lie."""

import asyncio
import json
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web
from backend_calls import serving
from link_client import WELCOME, Client

from hitless.client import protocol


LIMIT_S = 10.0
"""A test over a socket that takes longer has failed [s]."""


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

    async def answer(self, request):
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
        async with speaking(server.answer, says=["state"]) as client:
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
        async with speaking(server.answer, says=["state"]) as client:
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
        good, calls, elsewhere = Exchange(), 0, []

        async def answer(request):
            nonlocal calls
            calls += request.path == "/v1/exchange"
            if request.path == "/v1/exchange" and calls == 1:
                return web.Response(status=status, body=body, headers={"Location": "/elsewhere"})
            elsewhere.extend({request.path} - {"/v1/connect", "/v1/exchange"})
            return await good.answer(request)

        async with speaking(answer) as client:
            first = await good.said.get()
            good.down.put_nowait({"type": "release", "stream": "s", "epoch": 3})
            await client.heard.get()
            return first, client.welcomes, client.lost, elsewhere

    assert asyncio.run(main()) == (["hello"], ["n1"], [], [])
