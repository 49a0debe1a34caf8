"""hitless.lab.netem"""

import asyncio
import json
import os
import random
import signal
import socket
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import aioice.ice
import pytest
import virtual_time
from aiohttp import web
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from yarl import URL

from hitless.lab import netem
from hitless.lab.backend import TOKEN_ENV, listening
from hitless.lab.netem import Relay, candidates, with_candidate


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
    async def main():
        async with stage() as here:
            return await what(here)

    return asyncio.run(main())


@pytest.fixture
def loopback(monkeypatch):
    """Candidates on 127.0.0.1, which aioice leaves out by itself."""
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda *_, **__: ["127.0.0.1"])


# --- Session descriptions ---


def test_only_udp_over_ipv4_is_where_a_peer_can_be_reached():
    """Names, IPv6 and TCP are left to others."""
    assert [("127.0.0.1", 5001), ("192.0.2.7", 5002)] == candidates(OFFER)
    assert [] == candidates("v=0\r\na=candidate:1 1 udp\r\na=candidate:broken")


def test_one_candidate_takes_the_place_of_all():
    """And the end of candidates stays where there was one."""
    sdp = with_candidate(OFFER, ("127.0.0.1", 6000))

    assert [("127.0.0.1", 6000)] == candidates(sdp)
    audio, video = sdp.split("m=video")
    assert 1 == audio.count("a=candidate") == audio.count("a=end-of-candidates")
    assert "a=candidate" not in video
    assert "a=end-of-candidates" not in video
    assert 1 == sdp.count("a=ice-ufrag:abcd\r\n") == sdp.count("a=mid:1\r\n")


def test_without_an_address_nothing_is_left_of_them_not_even_their_end():
    """Else the far side would give up before the first check arrives."""
    sdp = with_candidate(OFFER, None)

    assert "candidate" not in sdp
    assert len(OFFER.splitlines()) - 7 == len(sdp.splitlines())


# --- Media ---


@pytest.mark.usefixtures("loopback")
def test_two_stock_peers_connect_through_the_relay_and_never_learn_each_other():
    """Checks come from the relay's port, and every datagram goes through it."""

    async def what(here):
        client = Client()
        await client.join(here.session, here.relay.urls["agora"])
        heard = await client.ask("hello")
        far = here.far.peers[0].sctp.transport.transport
        near = client.peer.sctp.transport.transport
        ends = [
            (ice._connection._nominated[1].local_addr, ice._connection._nominated[1].remote_addr)
            for ice in (near, far)
        ]
        counts = here.line.as_json()
        await client.peer.close()
        return heard, ends, candidates(client.answer), candidates(here.far.offers[0]), counts

    heard, ends, answered, offered, counts = on_stage(what)
    (near_local, near_remote), (far_local, far_remote) = ends

    assert "echo hello" == heard
    assert 1 == len(set(answered)) == len(set(offered))
    assert near_remote == answered[0] != far_local
    assert far_remote == offered[0] != near_local
    assert counts["datagrams"]["up"] > 5 < counts["datagrams"]["down"]
    assert 0 == counts["datagrams"]["lost"] == counts["datagrams"]["in_flight"]
    assert 1 == counts["paths"]


@pytest.mark.usefixtures("loopback")
def test_a_client_that_offers_no_address_is_found_by_its_checks():
    """As a browser that hides its addresses; the upstream learns the relay's port."""

    async def what(here):
        client = Client()
        plain = client.peer.setLocalDescription
        await plain(await client.peer.createOffer())
        sdp = with_candidate(client.peer.localDescription.sdp, None)
        url = here.relay.urls["agora"] + "/whip/show"
        async with here.session.post(url, data=sdp, headers=SDP) as response:
            answer = await response.text()
        await client.peer.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        async with asyncio.timeout(5.0):
            await client.is_open.wait()
        heard = await client.ask("hello")
        await client.peer.close()
        return heard, candidates(here.far.offers[0])

    assert ("echo hello", []) == on_stage(what)


@pytest.mark.usefixtures("loopback")
def test_down_swallows_media_and_up_brings_it_back():
    """Both ways, at once, without anybody being told."""

    async def what(here):
        client = Client()
        await client.join(here.session, here.relay.urls["agora"])
        here.relay.change("*", down=True)
        dark = await client.ask("lost", 0.3)
        lost = here.line.lost
        here.relay.change("agora", down=False)
        light = await client.ask("found", 5.0)
        await client.peer.close()
        return dark, lost, light

    dark, lost, light = on_stage(what)

    assert dark is None
    assert lost > 0
    assert light is not None


@pytest.mark.usefixtures("loopback")
def test_a_path_ends_soon_after_its_session_and_an_idle_one_after_its_limit():
    """The last DTLS alert still passes; no port is left behind."""

    async def what(here):
        first, second = Client(), Client()
        for client in (first, second):
            await client.join(here.session, here.relay.urls["agora"])
        for peer in (*here.far.peers, second.peer):
            await peer.close()
        async with here.session.delete(here.relay.urls["agora"] + first.location) as response:
            assert 200 == response.status
        await first.peer.close()
        now = asyncio.get_running_loop().time()
        counts = []
        for later_s in (1.0, 3.0, netem.IDLE_S_MAX + 1.0):
            here.line.reap(now + later_s)
            counts.append(here.line.as_json()["paths"])
        return counts, here.far.deleted

    counts, deleted = on_stage(what)

    assert ["/whip/show/secret"] == deleted
    # Both sessions have one secret here, so one DELETE ends both paths.
    assert [2, 0, 0] == counts


class Sink:
    """Stands for a port: keeps what was sent."""

    def __init__(self):
        self.got = []

    def send(self, data, to):
        self.got.append(data)


def test_loss_is_the_share_it_was_told_and_a_seed_replays_it():
    """Two per cent of 5 000, the same ones again."""

    async def run(seed):
        line = netem.Line("http://127.0.0.1:1", random.Random(seed))
        line.change(netem.Conditions(loss=0.02))
        sink = Sink()
        for number in range(5_000):
            line.carry(sink, number, ("127.0.0.1", 1), "up")
        return sink.got, line.lost

    first, lost = virtual_time.run(run(1))
    again, _ = virtual_time.run(run(1))
    other, _ = virtual_time.run(run(2))

    assert 60 <= lost <= 140
    assert 5_000 == len(first) + lost
    assert first == again != other


def test_delay_is_uniform_up_to_its_limit_and_datagrams_overtake_each_other():
    """And what waits is bounded: the rest is lost, as in a full queue."""

    async def run():
        loop = asyncio.get_running_loop()
        line = netem.Line("http://127.0.0.1:1", random.Random(3))
        line.change(netem.Conditions(delay_s_max=0.1))
        arrived = []

        class Clocked(Sink):
            def send(self, data, to):
                arrived.append((data, loop.time() - began_s))

        began_s = loop.time()
        for number in range(netem.IN_FLIGHT_MAX + 10):
            line.carry(Clocked(), number, ("127.0.0.1", 1), "down")
        await asyncio.sleep(0.25)
        return arrived, line

    arrived, line = virtual_time.run(run())

    numbers = [number for number, _ in arrived]
    assert 10 == line.lost
    assert netem.IN_FLIGHT_MAX == len(numbers) == line.carried["down"]
    assert numbers != sorted(numbers)
    assert 0 == line._in_flight
    late_s = [at_s for _, at_s in arrived]
    assert 0.048 < sum(late_s) / len(late_s) < 0.052
    assert 0.0 <= min(late_s) < 0.001 < 0.099 < max(late_s) <= 0.1


def test_what_is_under_way_when_the_network_goes_down_is_lost():
    """A black hole takes it all."""

    async def run():
        line = netem.Line("http://127.0.0.1:1", random.Random(3))
        line.change(netem.Conditions(delay_s_max=0.05))
        sink = Sink()
        for number in range(20):
            line.carry(sink, number, ("127.0.0.1", 1), "down")
        line.change(netem.Conditions(delay_s_max=0.05, down=True))
        line.carry(sink, "late", ("127.0.0.1", 1), "down")
        await asyncio.sleep(0.1)
        line.change(netem.Conditions(delay_s_max=0.05, down=True))
        line.carry(sink, "held", ("127.0.0.1", 1), "down")
        line.change(netem.Conditions())
        await asyncio.sleep(0.1)
        return sink.got, line.lost

    got, lost = virtual_time.run(run())

    assert [] == got
    assert 22 == lost


def test_strangers_on_the_upstream_side_are_not_heard():
    """Only the address that the answer named may send to the client, and it may be early."""

    async def run():
        loop = asyncio.get_running_loop()
        line = netem.Line("http://127.0.0.1:1", random.Random(3))
        sockets = [socket.socket(type=socket.SOCK_DGRAM) for _ in range(3)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
            one.setblocking(False)
        client, far, stranger = sockets
        path = netem.Path(line, client.getsockname())
        try:
            stranger.sendto(b"too early", path.offered)
            far.sendto(b"overtook the answer", path.offered)
            await asyncio.sleep(0.05)
            near = path.answered(far.getsockname())
            stranger.sendto(b"strange", path.offered)
            far.sendto(b"welcome", path.offered)
            client.sendto(b"hello", near)
            async with asyncio.timeout(5.0):
                early = await loop.sock_recv(client, 100)
                at_client = await loop.sock_recv(client, 100)
                at_far, source = await loop.sock_recvfrom(far, 100)
            return early, at_client, at_far, source == path.offered
        finally:
            path.close()
            path.close()
            for one in sockets:
                one.close()

    assert (b"overtook the answer", b"welcome", b"hello", True) == asyncio.run(run())


# --- Requests ---


def test_a_request_passes_whole_and_its_answer_with_our_addresses():
    """Method, path, query, body and headers; repeated headers; Location and JSON rewritten."""

    async def what(here):
        url = here.relay.urls["agora"]
        headers = {"Authorization": "Bearer whip", "X-One": "1", "Content-Type": "text/plain"}
        at = URL(url + "/echo?a=%2F&b", encoded=True)
        async with here.session.patch(at, data=b"\xff\0x", headers=headers) as r:
            told = (r.status, await r.read(), r.headers.getall("Link"), r.headers["Location"])
        async with here.session.get(url + "/list") as r:
            listed = await r.json()
        return url, here.far, told, listed

    url, far, told, listed = on_stage(what)

    method, path, headers = far.seen[0]
    assert ("PATCH", "/echo?a=%2F&b") == (method, path)
    assert "Bearer whip" == headers["Authorization"]
    assert "text/plain" == headers["Content-Type"]
    assert (207, b"\xff\0x", ["<stun:a>", "<stun:b>"], url + "/x?y=1") == told
    assert {"url": url + "/whip/{stream}", "other": far.url + "9/x"} == listed


def test_candidates_that_come_later_do_not_pass_either():
    """A trickling client, or one that answers a counter-offer, is found by its checks."""

    async def what(here):
        url = here.relay.urls["agora"] + "/echo"
        async with here.session.patch(url, data=OFFER, headers=SDP) as response:
            return await response.text(), here.line.as_json()["paths"]

    sdp, paths = on_stage(what)

    assert with_candidate(OFFER, None) == sdp
    assert 0 == paths


def test_a_client_with_more_addresses_than_it_may_have_is_not_heard_on_the_rest():
    """Ports of one path are bounded."""

    async def run():
        line = netem.Line("http://127.0.0.1:1", random.Random(3))
        path = netem.Path(line, None)
        path.answered(("127.0.0.1", 9))
        for port in range(1, 20):
            path._from_client(b"x", ("127.0.0.1", port))
        path.close()
        return line.carried["up"], len(path._clients)

    assert (7, 8) == asyncio.run(run())


def test_a_refused_offer_leaves_no_path():
    """A viewer that asks twenty times a second must not eat the ports."""

    async def what(here):
        url = here.relay.urls["agora"] + "/busy"
        for _ in range(5):
            async with here.session.post(url, data=OFFER, headers=SDP) as response:
                assert (409, "1") == (response.status, response.headers["Retry-After"])
        return here.line.as_json()["paths"]

    assert 0 == on_stage(what)


def test_down_accepts_connections_and_answers_when_the_network_is_back():
    """New ones stall and old ones stall; a client that leaves is not passed on later."""

    async def what(here):
        loop = asyncio.get_running_loop()
        url = here.relay.urls["agora"] + "/echo"
        async with here.session.get(url) as response:
            assert 207 == response.status
        here.relay.change("*", down=True)
        kept = asyncio.create_task(here.session.get(url))
        async with aiohttp.ClientSession() as other:
            with pytest.raises(TimeoutError):
                await other.get(url, timeout=aiohttp.ClientTimeout(total=0.2))
            began_s = loop.time()
            stalled = asyncio.create_task(other.get(url))
            await asyncio.sleep(0.2)
            assert not kept.done()
            assert not stalled.done()
            here.relay.change("*", down=False)
            for task in (kept, stalled):
                async with await task as response:
                    assert 207 == response.status
        return loop.time() - began_s, len(here.far.seen)

    took_s, passed = on_stage(what)

    assert took_s >= 0.2
    assert 3 == passed


def test_an_answer_that_comes_while_down_stalls_too():
    """The upstream has answered; the client does not hear of it before the network is back."""

    async def what(here):
        here.relay.change("agora", delay_s_max=0.0)
        url = here.relay.urls["agora"] + "/echo"
        here.far.hangs = True
        asking = asyncio.create_task(here.session.get(url))
        await asyncio.sleep(0.1)
        here.relay.change("agora", down=True)
        await asyncio.sleep(0.1)
        assert not asking.done()
        asking.cancel()
        await asyncio.wait({asking})
        await asyncio.sleep(0.1)
        return here.line._requests

    assert 0 == on_stage(what)


def test_an_upstream_that_is_dead_is_a_connection_that_is_cut():
    """No answer is invented: a 502 would be a provider that answers."""

    async def what(here):
        with pytest.raises(aiohttp.ClientConnectionError):
            await here.session.post(
                here.relay.urls["dead"] + "/whip/show", data=OFFER, headers=SDP
            )
        return here.relay.lines["dead"].as_json()["paths"]

    assert 0 == on_stage(what)


# --- Control ---


def test_control_changes_one_line_or_all_and_tells_the_state():
    """What is not named stays as it was."""

    async def what(here):
        first = await here.control({"target": "agora", "loss": 0.02, "delay_s_max": 0.1})
        second = await here.control({"target": "*", "down": True})
        third = await here.control({"target": "agora", "loss": 0, "down": False})
        async with here.session.get(here.relay.url + "/control", headers=BEARER) as response:
            return first, second, third, await response.json()

    first, second, third, told = on_stage(what)

    def conditions(answer, name):
        return tuple(answer["data"][name][key] for key in ("loss", "delay_s_max", "down"))

    assert (0.02, 0.1, False) == conditions(first[1], "agora")
    assert (0.0, 0.0, False) == conditions(first[1], "dead")
    assert (0.02, 0.1, True) == conditions(second[1], "agora")
    assert (0.0, 0.0, True) == conditions(second[1], "dead")
    assert (0.0, 0.1, False) == conditions(third[1], "agora")
    assert third[1] == told


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}])
def test_control_without_the_token_changes_nothing(headers):
    """401, reading included."""

    async def what(here):
        status, _ = await here.control({"target": "*", "down": True}, headers)
        async with here.session.get(here.relay.url + "/control", headers=headers) as response:
            return status, response.status, here.line.conditions.down

    assert (401, 401, False) == on_stage(what)


@pytest.mark.parametrize(
    ("body", "names"),
    [
        (b"{", "JSON object"),
        ({"loss": 0.1}, "target"),
        ({"target": "nobody", "loss": 0.1}, "agora, dead"),
        ({"target": ["agora"], "loss": 0.1}, "target"),
        ({"target": "agora"}, "a change"),
        ({"target": "agora", "down": True, "lost": 1}, "lost"),
        ({"target": "agora", "down": True, "loss": 1.1}, "loss"),
        ({"target": "agora", "down": True, "loss": "0.1"}, "loss"),
        ({"target": "agora", "down": True, "loss": None}, "loss"),
        ({"target": "agora", "down": True, "delay_s_max": -1}, "delay_s_max"),
        ({"target": "agora", "down": True, "delay_s_max": 11}, "10"),
        ({"target": "agora", "loss": 0.5, "down": 1}, "down"),
    ],
)
def test_control_that_makes_no_sense_is_told_so_and_changes_nothing(body, names):
    """400, naming the field."""

    async def what(here):
        return await here.control(body), here.line.conditions

    (status, told), conditions = on_stage(what)

    assert 400 == status
    assert names in told["error"]["message"]
    assert netem.Conditions() == conditions


# --- The process ---


def start(*options):
    source = str(Path(__file__).parents[3] / "src")
    return subprocess.Popen(
        [sys.executable, "-m", "hitless.lab.netem", *options],
        env={**os.environ, "PYTHONPATH": source, TOKEN_ENV: TOKEN},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_process_says_where_it_listens_and_ends_soon_after_sigterm():
    """Even while it is down and somebody waits."""

    async def hold(ready):
        async with aiohttp.ClientSession() as session:
            body = {"target": "*", "down": True}
            control = ready["url"] + "/control"
            async with session.post(control, json=body, headers=BEARER) as response:
                assert 200 == response.status
            held = asyncio.create_task(session.get(ready["upstreams"]["agora"] + "/"))
            await asyncio.sleep(0.1)
            process.send_signal(signal.SIGTERM)
            code = await asyncio.to_thread(process.wait, 2.0)
            with pytest.raises(aiohttp.ClientError):
                await held
            return code

    with start("--upstream", "agora=http://127.0.0.1:1", "--seed", "5") as process:
        ready = json.loads(process.stdout.readline())
        assert (process.pid, 5) == (ready["pid"], ready["seed"])
        assert 0 == asyncio.run(hold(ready))
        assert TOKEN not in process.stderr.read()


@pytest.mark.parametrize(
    "options", [[], ["--upstream", "x"], ["--upstream", "*=http://127.0.0.1:1"]]
)
def test_a_process_asked_for_something_impossible_says_so_in_one_line(options):
    """Exit status 2, and nothing is listening."""
    with start(*options) as process:
        out, err = process.communicate(timeout=10)

    assert (2, "", 1) == (process.returncode, out, len(err.splitlines()))
    assert "--upstream" in err
