"""hitless.lab.path, and how the relay's lines carry what comes along it"""

import asyncio
import random
import socket

import aioice.ice
import pytest
import virtual_time
from aiortc import RTCSessionDescription
from relay_stage import OFFER, SDP, Client, on_stage

from hitless.lab import netem
from hitless.lab.path import IDLE_S_MAX, Path, candidates, with_candidate


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
        for later_s in (1.0, 3.0, IDLE_S_MAX + 1.0):
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
        path = Path(line.carry, client.getsockname())
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


def test_a_client_with_more_addresses_than_it_may_have_is_not_heard_on_the_rest():
    """Ports of one path are bounded."""

    async def run():
        line = netem.Line("http://127.0.0.1:1", random.Random(3))
        path = Path(line.carry, None)
        path.answered(("127.0.0.1", 9))
        for port in range(1, 20):
            path._from_client(b"x", ("127.0.0.1", port))
        path.close()
        return line.carried["up"], len(path._clients)

    assert (7, 8) == asyncio.run(run())
