"""hitless.lab.stand: each way to be broken, as real peers meet it."""

import asyncio

import aiohttp
import aioice.stun
import pytest
from aiortc import RTCSessionDescription
from speaking_stand import unhurried
from unit.lab.stand_world import until


pytest_plugins = ("unit.lab.stand_media",)


@pytest.fixture(autouse=True)
def peers(monkeypatch):
    unhurried(monkeypatch)


@pytest.mark.parametrize(
    ("fault", "publisher", "viewer"),
    [
        ("refuse", 503, 503),
        ("refuse-publishers", 503, 201),
        ("refuse-viewers", 201, 503),
        ("refuse-429", 429, 429),
    ],
)
def test_refusals_hit_whom_they_should_and_leave_running_media_alone(
    run, fault, publisher, viewer
):
    """Each with a Retry-After; those who watch go on watching."""

    async def scenario(world):
        await world.publish()
        watching = await world.count()
        await world.fault(fault)
        for path, status in (("/whip/other", publisher), ("/whep/s", viewer)):
            answer = await world.post(path)
            assert answer.status == status
            assert ("Retry-After" in answer.headers) is (status != 201)
        watching.reset()
        await until(lambda: watching.packets > 20)
        await world.fault(fault, on=False)
        assert (await world.post("/whep/s")).status == 201

    run(scenario)


def test_slow_answers_late(run):
    """By as much as it was told."""

    async def scenario(world):
        await world.fault("slow", delay_s=0.3)
        loop = asyncio.get_running_loop()
        start_s = loop.time()
        assert (await world.post("/whip/s")).status == 201
        assert loop.time() - start_s >= 0.3

    run(scenario)


def test_gray_ingest_accepts_and_then_nothing(run):
    """201 and healthy, but no STUN answer: the publisher never connects."""

    async def scenario(world):
        await world.fault("gray-ingest")
        pc = await world.offer()
        world.peers.append(pc)
        answer = await world.post("/whip/s", pc.localDescription.sdp)
        assert answer.status == 201
        await pc.setRemoteDescription(RTCSessionDescription(answer.text, "answer"))
        await asyncio.sleep(0.5)
        assert pc.iceConnectionState == "checking"
        assert await world.request("GET", "/health") == 200
        assert (await world.post("/whep/s")).status == 409

    run(scenario)


def test_gray_ingest_in_mid_stream_goes_mute_both_ways(run):
    """No packet, no report, no STUN; healed in time, everything goes on."""

    async def scenario(world):
        published, viewer = await world.publish(), await world.count()
        await world.fault("gray-ingest")
        await asyncio.sleep(0.1)
        viewer.reset()
        before = (await world.state())["streams"][0]["packets_received"]
        connection = published.pc.getTransceivers()[0].receiver.transport.transport._connection
        pair = connection._nominated[1]
        with pytest.raises(aioice.stun.TransactionError):
            await pair.protocol.request(
                connection.build_request(pair, nominate=False),
                pair.remote_addr,
                integrity_key=connection.remote_password.encode(),
                retransmissions=0,
            )
        assert viewer.packets == 0
        assert (await world.state())["streams"][0]["packets_received"] == before
        await world.fault("gray-ingest", on=False)
        await until(lambda: viewer.packets > 20)

    run(scenario)


def test_gray_forwarding_keeps_everybody_and_forwards_nothing(run):
    """The publisher is acknowledged, new viewers are taken, and nobody gets a packet."""

    async def scenario(world):
        published, viewer = await world.publish(), await world.count()
        await world.fault("gray-forwarding")
        await asyncio.sleep(0.1)
        viewer.reset()
        sender = published.pc.getSenders()[0]

        async def acknowledged():
            stats = (await sender.getStats()).values()
            return [s.packetsReceived for s in stats if s.type == "remote-inbound-rtp"]

        await until(lambda: published.tracks["audio"].readyState == "live")
        before = await acknowledged()
        newcomer = await world.view()
        await asyncio.sleep(0.8)
        assert await acknowledged() > before
        assert viewer.packets == 0
        assert newcomer.pc.connectionState == viewer.pc.connectionState == "connected"
        await world.fault("gray-forwarding", on=False)
        async with asyncio.timeout(3):
            await newcomer.tracks["video"].recv()
        assert viewer.packets > 0

    run(scenario)


def test_no_audio_silences_the_sound_only(run):
    """Pictures go on."""

    async def scenario(world):
        await world.publish()
        sound, picture = await world.count(("audio",)), await world.count(("video",))
        await world.fault("no-audio")
        await asyncio.sleep(0.05)
        sound.reset()
        picture.reset()
        await until(lambda: picture.packets > 20)
        assert sound.packets == 0

    run(scenario)


def test_loss_loses_its_share(run):
    """Half towards the viewer, and half of the publisher's sound, for which nobody asks again."""

    async def scenario(world):
        published = await world.publish(video=None)
        viewer = await world.count(("audio",))
        await world.fault("loss", share=0.5, delay_s_max=0.01)
        viewer.reset()
        sent = published.tracks["audio"]._number
        await asyncio.sleep(2.0)
        share = viewer.packets / (published.tracks["audio"]._number - sent)
        assert 0.1 < share < 0.42

    run(scenario)


def test_a_little_loss_is_repaired_on_both_sides(run):
    """2 % and up to 50 ms: a stock viewer still gets pictures in a steady flow."""

    async def scenario(world):
        await world.publish()
        viewer = await world.view()
        await viewer.tracks["video"].recv()
        await world.fault("loss", share=0.02, delay_s_max=0.05)
        async with asyncio.timeout(6):
            pictures = [await viewer.tracks["video"].recv() for _ in range(75)]
        lost = (pictures[-1].pts - pictures[0].pts) // 3000 - 74
        assert lost <= 4

    run(scenario)


def test_health_lies_when_told(run):
    """503, or no answer at all, while media flows."""

    async def scenario(world):
        await world.publish()
        watching = await world.count()
        assert await world.request("GET", "/health") == 200
        await world.fault("health-503")
        assert await world.request("GET", "/health") == 503
        await world.fault("health-hangs")
        with pytest.raises(TimeoutError):
            await world.request("GET", "/health", timeout=aiohttp.ClientTimeout(total=0.2))
        watching.reset()
        await until(lambda: watching.packets > 20)

    run(scenario)


def test_what_control_tells_is_what_happened(run):
    """Streams, viewers, counts, load."""

    async def scenario(world):
        await world.publish()
        viewer = await world.count()
        await until(lambda: viewer.packets > 20)
        state = await world.state()
        (stream,) = state["streams"]
        assert stream["codecs"] == {"audio": "opus", "video": "VP8"}
        assert stream["viewers"][0] >= 20
        assert state["packets_forwarded"] >= 20
        assert state["joins"]["admitted"] == 2
        assert state["consents"] == {"answered": 0, "failed": 0}
        assert 0 <= state["load"]["cpu"] < 1.5

    run(scenario)
