"""
The server's end of a transcript, played to a remote hand that runs as a program.

It speaks by WebSocket, or by REST, whichever the hand asks for.
"""

import asyncio
import contextlib
import json

from aiohttp import WSMsgType, web
from golden.transcript import check_message, filled, terse, whole


ANSWER_S_MAX = 8.0
QUIET_S = 0.3
"""Nothing more may be said for so long after the last step [s]."""


class Host:
    """
    A server that says what a test tells it to. Use with `async with`.

    Args:
        form: How messages down are said: `whole`, with every default, or `terse`, without.

    Attributes:
        url: Where it is.
        heard: What the hand said, in order; None: it has connected.
    """

    def __init__(self, form):
        self._form = form
        self.heard = asyncio.Queue()
        self._down, self._something = [], asyncio.Event()
        self._socket = None
        self._is_talking = self._is_away = False

    async def __aenter__(self):
        app = web.Application()
        app.router.add_get("/v1/connect", self._connect)
        app.router.add_post("/v1/exchange", self._exchange)
        self._runner = web.AppRunner(app, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(self, *exc):
        self.go()
        await self.lose()
        await self._runner.cleanup()

    async def next(self):
        """Return what the hand says next."""
        async with asyncio.timeout(ANSWER_S_MAX):
            return await self.heard.get()

    async def say(self, message):
        """Say a message to the hand."""
        message = {"whole": whole, "terse": terse}[self._form](message)
        if self._socket is not None:
            await self._socket.send_bytes(json.dumps(message).encode())
        else:
            self._down.append(message)
            self._something.set()

    async def lose(self):
        """Lose the connection."""
        self._is_talking = False
        self._something.set()
        if self._socket is not None:
            self._socket, socket = None, self._socket
            await socket.close()

    def go(self):
        """Be away: whoever connects is refused."""
        self._is_away = True

    def come(self):
        """Be there again."""
        self._is_away = False

    # --- Inside ---

    async def _connect(self, request):
        if self._is_away:
            return web.Response(status=503)
        socket = web.WebSocketResponse(protocols=("hitless.v1",))
        await socket.prepare(request)
        self._socket = socket
        self.heard.put_nowait(None)
        async for message in socket:
            if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                self.heard.put_nowait(json.loads(message.data))
        return socket

    async def _exchange(self, request):
        asked = await request.json()
        for message in asked["messages"]:
            if message["type"] == "hello" and not self._is_away and not self._is_talking:
                self._is_talking = True
                self.heard.put_nowait(None)
            if self._is_talking:
                self.heard.put_nowait(message)
        if not self._is_talking:
            return web.json_response({"success": False}, status=409)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(asked["wait_s"]):
                await self._something.wait()
        self._something.clear()
        said, self._down = self._down, []
        return web.json_response({"success": True, "data": {"messages": said}})


async def play_server(transcript, host, hand):
    """
    Play the server's end to a hand.

    Args:
        transcript: Which.
        host: Whom the hand connects to.
        hand: Its `type(line)` is what a person and an SDK do.
    """
    bound = {}
    for n, step in enumerate(transcript["steps"]):
        ((what, value),) = step.items()
        at = f"step {n} {what}"
        match what:
            case "link" if value == "open":
                host.come()
                assert await host.next() is None, at
            case "link":
                host.go()
                await host.lose()
            case "person":
                hand.type(value)
            case "up":
                check_message(value, await host.next(), bound, at)
            case "down":
                await host.say(_made_up(filled(value, bound)))
            case "elsewhere" if "wait_s" in value:
                await asyncio.sleep(value["wait_s"])
    await asyncio.sleep(QUIET_S)
    assert host.heard.empty(), f"nothing more was to be said: {host.heard.get_nowait()}"


def _made_up(message):
    """Return a message with something in the place of what no step names."""
    if message["type"] != "plan":
        named = {"credential": {"token": "made up"}}
        return {
            k: named.get(k, "made up") if one == "<any>" else one for k, one in message.items()
        }
    plan = message["plan"]
    credentials = {name: {"token": f"for {name}"} for name in plan["order"]}
    seconds = {"credential_s": 3600.0, "outage_s": 21600.0}
    return {"type": "plan", "plan": {**plan, **seconds, "credentials": credentials}}
