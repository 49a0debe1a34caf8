"""hitless.server.timely, over real connections to a real node."""

import asyncio
import contextlib
import json

import aiohttp
import pytest

from hitless.server import timely
from hitless.server.node import NodeConfig
from hitless.server.serve import Address, new_keys, serve


LIMIT_S = 30.0
SLOW_S = 0.5
"""How long a request is waited for here [s]."""

pytestmark = [
    pytest.mark.realtime,
    pytest.mark.filterwarnings(
        "ignore::litestar.exceptions.LitestarDeprecationWarning"  # it speaks of Litestar 3
    ),
]

ASK = b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n"
HEAD = b"POST /v1/start HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"


@pytest.fixture
def go(tmp_path, monkeypatch):
    """Return what runs a test against a server that is not patient."""
    monkeypatch.setattr(timely, "REQUEST_S_MAX", SLOW_S)

    def run(test):
        async def bounded():
            keys = new_keys(0.0)
            ready = asyncio.get_running_loop().create_future()
            config = NodeConfig(database=str(tmp_path / "hitless.db"), name="n1")
            serving = asyncio.create_task(
                serve(config, Address(port=0), keys, lambda url, node: ready.set_result(url))
            )
            try:
                async with asyncio.timeout(LIMIT_S):
                    await asyncio.wait({serving, ready}, return_when=asyncio.FIRST_COMPLETED)
                    if serving.done():
                        serving.result()
                    await test(ready.result(), keys["HITLESS_CLIENT_KEY"])
            finally:
                serving.cancel()
                await asyncio.gather(serving, return_exceptions=True)

        asyncio.run(bounded())

    return run


@contextlib.asynccontextmanager
async def connected(url):
    """Connect as a client that writes what it likes."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


@pytest.mark.parametrize(
    "said",
    [b"", ASK[:20], HEAD + b"Content-Length: 100\r\n\r\n{", ASK + ASK[:20]],
    ids=["nothing", "half a head", "half a body", "half of a second one"],
)
def test_a_request_that_does_not_arrive_is_not_waited_for(said, go):
    """
    Nobody needs a key to send half a request, and each holds a connection.
    """

    async def test(url, key):
        async with connected(url) as (reader, writer):
            writer.write(said)
            begun_s = asyncio.get_running_loop().time()
            answer = await reader.read()  # to the end of the connection
            assert asyncio.get_running_loop().time() - begun_s >= 0.8 * SLOW_S
            assert answer.count(b"HTTP/1.1") == said.count(ASK)

    go(test)


def test_a_body_that_drips_is_cut_however_often_a_byte_comes(go):
    """
    The limit is on the whole of it.
    """

    async def test(url, key):
        async with connected(url) as (reader, writer):
            writer.write(HEAD + b"Content-Length: 1000\r\n\r\n")
            end = asyncio.create_task(reader.read())
            drops = 0
            while not end.done() and drops < 200:
                writer.write(b" ")
                drops += 1
                await asyncio.wait({end}, timeout=SLOW_S / 5)
            assert end.done(), "it is still waited for"
            assert b"200 OK" not in await end

    go(test)


def test_who_comes_to_the_point_is_answered_and_kept(go):
    """
    The limit ends with the request: neither the next one nor a WebSocket is cut by it.
    """

    async def test(url, key):
        headers = {"Authorization": f"Bearer {key}"}
        async with aiohttp.ClientSession(headers=headers) as http:
            socket = await http.ws_connect(f"{url}/v1/connect", protocols=("hitless.v1",))
            await socket.send_json({"type": "hello", "client": "tv"})
            async with connected(url) as (reader, writer):
                for _ in range(3):
                    writer.write(ASK)
                    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
                    assert await reader.readexactly(2) == b"ok"
                    await asyncio.sleep(0.6 * SLOW_S)
            await socket.send_json({"type": "finish", "stream": "nobody's"})
            said = [json.loads((await socket.receive(LIMIT_S)).data) for _ in range(2)]
            assert ["welcome", "problem"] == [one["type"] for one in said]
            await socket.close()

    go(test)
