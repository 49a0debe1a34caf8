"""The client's end of a transcript, played against a real server."""

import asyncio
import json

import aiohttp
from golden.transcript import check, check_message, filled


ANSWER_S_MAX = 8.0
QUIET_S = 0.25
"""Nothing more may come for so long after the last step [s]."""

PROVIDERS = ("agora", "zegocloud", "webrtc")


class Server:
    """
    A real server, as clients and an operator reach it.

    Args:
        url: Where it is.
        keys: By the variables that they are configured with.
    """

    def __init__(self, url, keys):
        self.url = url
        self.key, self._owner = keys["HITLESS_CLIENT_KEY"], keys["HITLESS_OWNER_KEY"]
        self._http = aiohttp.ClientSession()
        self._sockets = []

    async def __aenter__(self):
        return self

    async def __aexit__(self, *exc):
        for socket in self._sockets:
            await socket.close()
        await self._http.close()

    async def connect(self, *, key=None):
        """Open a WebSocket as a browser does."""
        protocols = ("hitless.v1", f"bearer.{key or self.key}")
        socket = await self._http.ws_connect(f"{self.url}/v1/connect", protocols=protocols)
        self._sockets.append(socket)
        return socket

    async def ask(self, path, body, *, key=None):
        """Return the status and the answer of a request."""
        headers = {"Authorization": f"Bearer {key or self.key}"}
        url = f"{self.url}{path}"
        async with self._http.post(url, json=body, headers=headers) as response:
            return response.status, await response.json()

    async def call(self, path, body, *, key=None, status=200):
        """Return the answer to a request that goes well, or as it should."""
        found, answer = await self.ask(path, body, key=key)
        assert found == status, answer
        return answer

    async def operate(self, path, body, *, status=200):
        """Return the answer to an operator."""
        return await self.call(f"/v1/admin/{path}", body, key=self._owner, status=status)

    async def add_providers(self):
        """Add what the transcripts are about."""
        for name in PROVIDERS:
            body = {"adapter": "whip", "config": {"url": f"https://{name}.invalid/whip"}}
            await self.operate(f"providers/{name}", body, status=201)


async def heard(socket):
    """Return the next message on a WebSocket; None: it was closed."""
    async with asyncio.timeout(ANSWER_S_MAX):
        message = await socket.receive()
    if message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
        return json.loads(message.data)
    return None


class Rest:
    """
    A conversation by REST, with the manners of a WebSocket: it is welcomed once.

    Args:
        server: Whom to call.
    """

    def __init__(self, server):
        self._server, self._client = server, "nobody"
        self._down, self._is_welcome = [], False
        self.closed = False

    async def close(self):
        """Call no more."""
        self.closed = True

    async def send_str(self, text):
        """Bring a message up, and take down what waits."""
        message = json.loads(text)
        self._client = message.get("client", self._client)
        await self._exchange([message], 0.0)

    async def receive(self):
        """Return the next message down."""
        while not self._down and not self.closed:
            await self._exchange([], 1.0)
        if self._down:
            return aiohttp.WSMessage(aiohttp.WSMsgType.TEXT, json.dumps(self._down.pop(0)), "")
        return aiohttp.WSMessage(aiohttp.WSMsgType.CLOSED, None, "")

    async def _exchange(self, messages, wait_s):
        body = {"client": self._client, "messages": messages, "wait_s": wait_s}
        status, answer = await self._server.ask("/v1/exchange", body)
        if status == 200:
            for message in answer["data"]["messages"]:
                is_again = message["type"] == "welcome" and self._is_welcome
                self._is_welcome = self._is_welcome or message["type"] == "welcome"
                if not is_again:
                    self._down.append(message)
        else:  # it ends with what a WebSocket would end with
            self._down.append({"type": "problem", **answer["error"]})
            self.closed = True


class _Ear:
    """Hears messages, but not what is said again: a placement or an end that is no news."""

    def __init__(self):
        self._epochs, self._over = {}, []

    def is_repeated(self, message):
        """Whether a message is known already; remembers it."""
        match message:
            case {"type": "over"}:
                is_known = message in self._over
                self._over.append(message)
                return is_known
            case {"type": "placement", "stream": stream, "epoch": epoch}:
                pass
            case {"type": "plan", "plan": plan}:
                self.learn(plan)
                return False
            case _:
                return False
        is_known = epoch <= self._epochs.get(stream, 0)
        self._epochs[stream] = epoch
        return is_known

    def learn(self, plan):
        """Remember what a plan says."""
        self._epochs[plan["stream"]] = plan.get("epoch", 0)

    async def hear(self, socket, expected):
        """Return the next message that is news, or that is expected all the same."""
        while True:
            message = await heard(socket)
            kind = {"type": expected["type"], "epoch": expected.get("epoch")}
            if not self.is_repeated(message) or kind.items() <= message.items():
                return message


async def play_client(transcript, server, link):
    """Play the client's end against a real server, by `websocket` or by `rest`."""
    bound, socket, others, ear = {}, None, {}, _Ear()
    for n, step in enumerate(transcript["steps"]):
        ((what, value),) = step.items()
        at = f"step {n} {what}"
        match what:
            case "link" if value == "open":
                socket = await server.connect() if link == "websocket" else Rest(server)
            case "link" if value == "closed":  # by the server
                assert await heard(socket) is None, at
            case "link":
                await socket.close()
            case "call":
                answer = await server.call(value["path"], filled(value["body"], bound))
                check(value["answer"], answer["data"], bound, at)
                ear.learn(answer["data"])
            case "up":
                await socket.send_str(json.dumps(filled(value, bound)))
            case "down":
                check_message(value, await ear.hear(socket, value), bound, at)
            case "elsewhere":
                await _elsewhere(server, value, others)
    if socket is not None and not socket.closed:
        await _stay_quiet(socket, ear)


async def _stay_quiet(socket, ear):
    try:
        async with asyncio.timeout(QUIET_S):
            while ear.is_repeated(message := await heard(socket)):
                pass
    except TimeoutError:
        return
    raise AssertionError(f"nothing more was to come: {message!r}")


async def _elsewhere(server, value, others):
    """Do what an operator, or another client, does."""
    match value:
        case {"operator": path, **body}:
            await server.operate(path, body)
        case {"client": client, "call": path, **body}:
            await server.call(path, {"client": client, **body})
        case {"client": client, "says": messages}:
            if client not in others:
                others[client] = await server.connect()
            for message in messages:
                await others[client].send_str(json.dumps(message))
            await asyncio.sleep(0.3)  # it has been heard, and written
        case {"wait_s": wait_s}:
            await asyncio.sleep(wait_s)
        case _:
            raise AssertionError(f"nobody can do {value}")
