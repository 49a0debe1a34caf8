"""A relay between a client and an upstream that is a real peer, for tests."""

import asyncio
import json
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription

from hitless.lab.netem import Relay
from hitless.lab.wire import listening


TOKEN = "lab-token-1234"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
SDP = {"Content-Type": "application/sdp"}

OFFER = """v=0\r
o=- 1 1 IN IP4 0.0.0.0\r
s=-\r
t=0 0\r
m=audio 9 UDP/TLS/RTP/SAVPF 96\r
a=ice-ufrag:abcd\r
a=candidate:1 1 udp 2130706431 127.0.0.1 5001 typ host\r
a=candidate:2 1 tcp 2130706430 127.0.0.1 9 typ host tcptype active\r
a=candidate:3 1 UDP 2130706429 192.0.2.7 5002 typ srflx raddr 10.0.0.1 rport 7\r
a=candidate:4 1 udp 2130706428 fd00::2 5003 typ host\r
a=candidate:5 1 udp 2130706427 0b1c.local 5004 typ host\r
a=end-of-candidates\r
m=video 9 UDP/TLS/RTP/SAVPF 97\r
a=mid:1\r
a=end-of-candidates\r
"""


class Far:
    """An upstream: a WHIP-like endpoint that echoes a data channel, and some other answers."""

    def __init__(self):
        self.peers, self.offers, self.seen, self.deleted = [], [], [], []
        self.hangs = False
        self.url = ""

    def app(self):
        app = web.Application()
        app.router.add_post("/whip/{stream}", self.publish)
        app.router.add_delete("/whip/{stream}/{secret}", self.delete)
        app.router.add_post("/busy", self.busy)
        app.router.add_get("/list", self.list)
        app.router.add_route("*", "/echo", self.echo)
        return app

    async def publish(self, request):
        offer = await request.text()
        self.offers.append(offer)
        peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.peers.append(peer)

        @peer.on("datachannel")
        def opened(channel):
            channel.on("message", lambda text: channel.send(f"echo {text}"))

        await peer.setRemoteDescription(RTCSessionDescription(offer, "offer"))
        await peer.setLocalDescription(await peer.createAnswer())
        return web.Response(
            status=201,
            text=peer.localDescription.sdp,
            content_type="application/sdp",
            headers={"Location": f"/whip/{request.match_info['stream']}/secret"},
        )

    async def delete(self, request):
        self.deleted.append(request.path)
        return web.Response()

    async def busy(self, request):
        return web.Response(status=409, headers={"Retry-After": "1"})

    async def list(self, request):
        return web.json_response({"url": self.url + "/whip/{stream}", "other": self.url + "9/x"})

    async def echo(self, request):
        self.seen.append((request.method, request.raw_path, dict(request.headers)))
        if self.hangs:
            await asyncio.sleep(60)
        headers = [("Link", "<stun:a>"), ("Link", "<stun:b>"), ("Location", self.url + "/x?y=1")]
        return web.Response(status=207, body=await request.read(), headers=headers)


class Client:
    """A stock peer with a data channel, behind the relay."""

    def __init__(self):
        self.peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.channel = self.peer.createDataChannel("t", ordered=False, maxRetransmits=0)
        self.is_open = asyncio.Event()
        self.heard = asyncio.Queue()
        self.channel.on("open", self.is_open.set)
        self.channel.on("message", self.heard.put_nowait)
        self.answer = ""
        self.location = ""

    async def join(self, session, url):
        await self.peer.setLocalDescription(await self.peer.createOffer())
        sdp = self.peer.localDescription.sdp
        async with session.post(url + "/whip/show", data=sdp, headers=SDP) as response:
            assert 201 == response.status
            self.answer = await response.text()
            self.location = response.headers["Location"]
        await self.peer.setRemoteDescription(RTCSessionDescription(self.answer, "answer"))
        async with asyncio.timeout(5.0):
            await self.is_open.wait()

    async def ask(self, text, limit_s=1.0):
        self.channel.send(text)
        try:
            async with asyncio.timeout(limit_s):
                return await self.heard.get()
        except TimeoutError:
            return None


class Stage:
    """A running relay, its upstream, and calls of its control."""

    def __init__(self, far, relay, session):
        self.far, self.relay, self.session = far, relay, session
        self.line = relay.lines["agora"]

    async def control(self, body, headers=BEARER):
        url = self.relay.url + "/control"
        data = body if isinstance(body, bytes) else json.dumps(body)
        async with self.session.post(url, data=data, headers=headers) as response:
            return response.status, await response.json()


@asynccontextmanager
async def stage():
    """A relay before a living upstream and a dead one."""
    far = Far()
    runner, far.url = await listening(far.app(), 0)
    relay = Relay({"agora": far.url, "dead": "http://127.0.0.1:1"}, token=TOKEN, seed=7)
    await relay.start()
    try:
        async with aiohttp.ClientSession() as session:
            yield Stage(far, relay, session)
    finally:
        await relay.aclose()
        await relay.aclose()
        for peer in far.peers:
            await peer.close()
        await runner.cleanup()


def on_stage(what):
    """Return what `what(stage)` comes to."""

    async def main():
        async with stage() as here:
            return await what(here)

    return asyncio.run(main())
