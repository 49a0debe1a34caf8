"""A control plane that is played by the test, and a client that stands where the test says."""

import asyncio
import json

from aiohttp import web
from backend_calls import serving

from hitless.client.control import ControlPlane
from hitless.core.agreement import Follower
from hitless.core.events import Announce, Role
from hitless.core.state import Leg, Phase, Purpose, Session
from hitless.providers.credential import Access


KEY = "s3cr3t-k3y"
LIMIT_S = 10.0
"""A test that takes longer has failed [s]."""


class Server:
    """
    A control plane that is played by the test.

    Attributes:
        url: Where it is.
        asked: Requests for plans: path, headers, body.
        answers: What they are answered with, in their order; then with `plan()`.
        said: What it heard, over all connections.
        report_s: How often it wants reports.
        is_away: Whether it takes no WebSocket.
        socket: The newest one; None: none yet.
    """

    def __init__(self):
        self.url, self.asked, self.answers = "", [], []
        self.said = asyncio.Queue()
        self.report_s, self.is_away = 60.0, False
        self.socket = None

    async def answer(self, request):
        if request.path == "/v1/connect":
            return await self._connect(request)
        if request.path not in ("/v1/start", "/v1/join"):
            return web.Response(status=404)
        body = await request.json()
        self.asked.append((request.path, dict(request.headers), body))
        if not self.answers:
            return plan(body["stream"], "publisher" if "start" in request.path else "viewer")
        answer = self.answers.pop(0)
        return await answer(request) if callable(answer) else answer

    async def _connect(self, request):
        if self.is_away:
            return web.Response(status=503)
        self.socket = socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            heard = json.loads(message.data)
            if heard["type"] == "hello" and "known" not in socket:
                socket["known"] = True
                await socket.send_json(
                    {"type": "welcome", "node": "n1", "report_s": self.report_s}
                )
            self.said.put_nowait(heard)
        return socket

    async def say(self, kind, **fields):
        await self.socket.send_json({"type": kind, "stream": "show", **fields})

    async def drop(self):
        """End the connection there is."""
        await self.socket.close()

    async def heard(self, kind):
        """Return the next message of this kind, and pass by all others."""
        while (message := await self.said.get())["type"] != kind:
            pass
        return message

    async def greeted(self, stream="show"):
        """Wait until a hello names this stream, and return how."""
        while True:
            for seen in (await self.heard("hello")).get("streams", ()):
                if seen["stream"] == stream:
                    return seen


def plan(stream="show", role="publisher", *, token="t1", **more):
    """Return a plan as the wire has it."""
    data = {
        "stream": stream,
        "role": role,
        "epoch": 1,
        "provider": "agora",
        "order": ["agora", "webrtc"],
        "credentials": {
            "agora": {"token": token, "view_token": f"view-{token}"},
            "webrtc": {"token": f"w-{token}"},
        },
        "token": "signed",
        **more,
    }
    return web.json_response({"success": True, "data": data})


def says_no(status, code="", message="no"):
    """Return a refusal as the wire has it."""
    return web.json_response({"error": {"code": code, "message": message}}, status=status)


class Client:
    """What a driver is to a control plane: sessions that stand where the test says."""

    def __init__(self, url, **more):
        self.control = ControlPlane(url, client="studio", **{"key": KEY, **more})
        self.posted, self.news = asyncio.Queue(), []
        self.lost, self.connected = asyncio.Event(), asyncio.Event()
        self.sessions, self.age_s = {}, None
        self.control.attach(
            post=self.posted.put_nowait,
            tell=self._tell,
            look=self.sessions.get,
            media_age_s=lambda provider: self.age_s,
        )

    def _tell(self, news):
        self.news.append(news)
        if news.name == "control.lost":
            self.lost.set()
        if news.name == "control.connected":
            self.connected.set()

    def stands(
        self, session="s", *, on="agora", phase=Phase.ON_AIR, epoch=1, placed=None, **alone
    ):
        """Let a session stand on a provider, where the placement of `epoch` put it or alone."""
        role = alone.pop("role", Role.PUBLISHER)
        leg = Leg(id=1, provider=on or "", purpose=Purpose.START, begun_s=0.0, until_s=1.0)
        follower = Follower(
            client=session, role=role, stream="show", epoch=epoch, provider=placed or on, **alone
        )
        self.sessions[session] = Session(
            id=session,
            stream="show",
            role=role,
            phase=phase,
            legs=(leg,) if on else (),
            on_air=1 if on else None,
            follower=follower if epoch else None,
        )

    async def publishes(self, server, session="s", **stands):
        """Begin to publish, and wait until the server knows of it."""
        got = await self.control.begin(session, "show", Role.PUBLISHER)
        await server.greeted()
        await self.connected.wait()
        self.stands(session, **stands)
        return got

    async def watches(self, server, session="v", **stands):
        """Begin to watch, and wait until the server knows of it."""
        got = await self.control.begin(session, "show", Role.VIEWER)
        await server.greeted()
        await self.connected.wait()
        self.stands(session, role=Role.VIEWER, **stands)
        return got


def go(test, **more):
    """Run a test with a control plane and a client of it, bounded."""

    async def main():
        server = Server()
        async with asyncio.timeout(LIMIT_S), serving(server.answer) as server.url:
            client = Client(server.url, **more)
            try:
                return await test(server, client)
            finally:
                await client.control.aclose()

    return asyncio.run(main())


def access(provider="agora", role=Role.PUBLISHER, *, stream="show", renew=False):
    return Access(provider=provider, stream=stream, role=role, renew=renew)


def leg_news(name, *, role=Role.PUBLISHER, provider="agora", **fields):
    return Announce(
        name=name,
        because="it did",
        stream="show",
        provider=provider,
        fields={"role": role.value, "leg": 1, **fields},
    )
