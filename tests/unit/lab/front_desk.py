"""A front before a tiny server, and calls through it."""

import asyncio
import contextlib
import gc
import json
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import WSMsgType, web

from hitless.lab.front import LabFront
from hitless.lab.wire import failure, listening, success


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
        self.sockets = []

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

    async def socket(self):
        """Open a WebSocket that is let go of with the desk."""
        self.sockets.append(await self.session.ws_connect(self.url + "/socket"))
        return self.sockets[-1]

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
            here = Desk(session, url, server)
            try:
                yield here
            finally:
                for socket in here.sockets:
                    await socket.close()
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
        gc.collect()  # what was left open is complained of here, and not in a later test
