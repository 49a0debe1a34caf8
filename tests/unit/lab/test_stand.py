"""hitless.lab.stand: real peers, real media, and the process."""

import asyncio
import json
import os
import signal
import sys
from itertools import pairwise

import aiohttp
import pytest
from aiortc import RTCPeerConnection, RTCSessionDescription
from bench.stand_peers import connected, encode_video, post, publish, publish_offer, view_offer
from speaking_stand import unhurried
from unit.lab.stand_world import BEARER, closed, until

from hitless.lab import sessions


pytest_plugins = ("unit.lab.stand_media",)


@pytest.fixture(autouse=True)
def peers(monkeypatch):
    unhurried(monkeypatch)


# --- Publishing and viewing ---


@pytest.mark.parametrize("codec", ["video/VP8", "video/H264"])
def test_viewers_see_and_hear_what_is_published(run, audio, codec):
    """Stock peers on both sides, in both codecs."""

    async def scenario(world):
        options = {}
        if codec == "video/H264":
            options["video"] = encode_video(30, size=180, codec="libx264")
        await world.publish(codec=codec, **options)
        for _ in range(2):
            viewer = await world.view()
            async with asyncio.timeout(3):
                pictures = [await viewer.tracks["video"].recv() for _ in range(10)]
                sounds = [await viewer.tracks["audio"].recv() for _ in range(10)]
            assert {(p.width, p.height) for p in pictures} == {(320, 180)}
            steps = {b.pts - a.pts for a, b in pairwise(pictures)}
            assert steps == {3000}
            assert {s.samples for s in sounds} == {960}

    run(scenario)


def test_the_answer_is_what_whip_asks_for(run):
    """201, type, relative Location, strong ETag, loopback candidates, and an honest name."""

    async def scenario(world):
        answer = await world.post("/whip/a%20stream%2Fwith%20odd%C3%A4")
        assert answer.status == 201
        assert answer.headers["Content-Type"] == "application/sdp"
        assert answer.headers["Location"].startswith("/whip/a%20stream%2Fwith%20odd%C3%A4/")
        assert answer.headers["ETag"].startswith('"')
        assert answer.headers["Server"] == "hitless-stand-in (agora)"
        hosts = {
            line.split()[4] for line in answer.text.splitlines() if line.startswith("a=candidate")
        }
        assert hosts == {"127.0.0.1"}
        assert "a=recvonly" in answer.text
        assert await world.request("DELETE", answer.headers["Location"]) == 200
        assert await world.request("DELETE", answer.headers["Location"]) == 404

    run(scenario)


def test_a_stream_without_media_is_not_there_yet(run):
    """409 and Retry-After, with no publisher and with one that sends nothing."""

    async def scenario(world):
        answer = await world.post("/whep/s")
        assert (answer.status, answer.headers["Retry-After"]) == (409, "1")
        pc, _ = await publish_offer(world.media["video"], None)
        world.peers.append(pc)
        pc.getSenders()[0].replaceTrack(None)
        answer = await world.post("/whip/s", pc.localDescription.sdp)
        await pc.setRemoteDescription(RTCSessionDescription(answer.text, "answer"))
        await connected(pc)
        await asyncio.sleep(0.2)
        assert (await world.post("/whep/s")).status == 409

    run(scenario)


def test_a_viewer_of_sound_alone_gets_sound_alone(run):
    """What self-views ask for."""

    async def scenario(world):
        await world.publish()
        viewer = await world.view(kinds=("audio",))
        async with asyncio.timeout(3):
            assert (await viewer.tracks["audio"].recv()).samples == 960

    run(scenario)


def test_a_viewer_asks_the_publisher_for_a_keyframe(run):
    """The clip has one keyframe; a viewer that comes later makes it come again."""

    async def scenario(world):
        published = await world.publish()
        await asyncio.sleep(0.2)
        before = published.tracks["video"].rewinds
        viewer = await world.view()
        async with asyncio.timeout(1):
            await viewer.tracks["video"].recv()
        assert published.tracks["video"].rewinds > before

    run(scenario)


def test_ending_the_publisher_ends_its_viewers_at_once(run):
    """By DELETE, and by a DTLS close alone; afterwards the stream is gone."""

    async def scenario(world):
        for by_request in (True, False):
            published = await world.publish()
            viewers = [await world.view() for _ in range(2)]
            await (published.leave(world.http) if by_request else published.pc.close())
            for viewer in viewers:
                await until(closed(viewer.pc), 1.0)
            assert (await world.post("/whep/s")).status == 409

    run(scenario)


def test_a_viewer_that_leaves_takes_nobody_with_it(run):
    """DELETE of a WHEP session."""

    async def scenario(world):
        await world.publish()
        leaver, stayer = await world.view(), await world.count()
        assert await leaver.leave(world.http) == 200
        stayer.reset()
        await until(lambda: stayer.packets > 20)
        assert len((await world.state())["streams"][0]["viewers"]) == 1

    run(scenario)


def test_a_newer_publisher_replaces_the_older_one_when_its_media_arrives(run):
    """The older one and its viewers are closed; the stream goes on."""

    async def scenario(world):
        older = await world.publish()
        watching = await world.view()
        newer = await world.publish()
        await until(closed(older.pc), 1.0)
        await until(closed(watching.pc), 1.0)
        viewer = await world.view()
        async with asyncio.timeout(3):
            await viewer.tracks["video"].recv()
        assert newer.pc.connectionState == "connected"

    run(scenario)


def test_a_newer_publisher_that_never_connects_takes_nothing_away(run):
    """Only media makes a publisher."""

    async def scenario(world):
        older = await world.publish()
        watching = await world.count()
        assert (await world.post("/whip/s")).status == 201
        watching.reset()
        await until(lambda: watching.packets > 20)
        assert older.pc.connectionState == "connected"

    run(scenario)


def test_a_publisher_that_vanishes_is_given_up_with_its_viewers(run, monkeypatch):
    """No packet and no consent check: the limit is 10 s, shortened here."""
    monkeypatch.setattr(sessions, "PUBLISHER_SILENT_S_MAX", 0.4)

    async def scenario(world):
        published = await world.publish()
        viewer = await world.view()
        pair = published.pc.getTransceivers()[0].receiver.transport.transport._connection
        pair._nominated[1].protocol.transport.abort()
        await until(closed(viewer.pc))
        assert (await world.state())["sessions"] == 0

    run(scenario)


def test_one_viewers_trouble_does_not_reach_the_others(run):
    """An exception while sending to one; it is dropped, the other one watches on."""

    async def scenario(world):
        await world.publish()
        one, two = await world.count(), await world.count()
        broken = next(iter(world.stand.sessions._on_air["s"].publisher.viewers))
        for outlet in broken.outlets.values():
            outlet._send = None
        for viewer in (one, two):
            viewer.reset()
        await until(lambda: max(one.packets, two.packets) > 60)
        assert min(one.packets, two.packets) < 5
        assert (await world.state())["sessions"] == 2

    run(scenario)


# --- Bad input ---


def test_bad_input_gets_the_status_it_deserves(run):
    """Wrong type, no SDP, wrong direction, data channels, unknown session, other methods."""

    async def scenario(world):
        await world.publish()
        publisher, viewer = await world.offer(), await view_offer()
        world.peers += [publisher, viewer]
        sending, watching = publisher.localDescription.sdp, viewer.localDescription.sdp
        typed = await post(
            world.http, f"{world.url}/whip/x", sending, {"Content-Type": "text/plain"}
        )
        assert typed.status == 415
        data = RTCPeerConnection()
        data.createDataChannel("x")
        world.peers.append(data)
        channel = (await data.createOffer()).sdp
        no_ice = sending.replace("a=ice-ufrag", "a=x-ufrag")
        for sdp in ("", "v=0", "\0", "m=video 9 RTP 97", watching, channel, no_ice):
            answer = await world.post("/whip/x", sdp or " ")
            assert answer.status == 400, (sdp, answer)
            assert answer.text.count("\n") == 1
        assert (await world.post("/whep/s", sending)).status == 400
        assert (
            await world.request(
                "POST", "/whip/x", data=b"\xff", headers={"Content-Type": "application/sdp"}
            )
            == 400
        )
        assert (await world.post("/whip/x", "v" * 70_000)).status == 413
        assert (await world.post(f"/whip/{'x' * 201}", sending)).status == 400
        assert await world.request("DELETE", "/whip/s/guess") == 404
        session = (await world.post("/whep/s", watching)).headers["Location"]
        assert await world.request("DELETE", session.replace("whep", "whip")) == 404
        assert await world.request("PATCH", session, data="x") == 405
        assert await world.request("GET", "/whip/s") == 405
        assert await world.request("OPTIONS", "/whip/s") == 200
        assert (await world.state())["sessions"] == 2

    run(scenario)


def test_a_codec_that_cannot_be_forwarded_is_refused(run, audio):
    """422: a publisher without opus, a viewer without the publisher's codec."""

    async def scenario(world):
        publisher = await world.offer()
        world.peers.append(publisher)
        deaf = publisher.localDescription.sdp.replace("opus/48000", "speex/48000")
        assert (await world.post("/whip/s", deaf)).status == 422
        await world.publish(video=encode_video(30, size=180, codec="libx264"), codec="video/H264")
        viewer = await view_offer()
        world.peers.append(viewer)
        blind = viewer.localDescription.sdp.replace("H264/90000", "AV1/90000")
        await until(lambda: "s" in world.stand.sessions._on_air)
        assert (await world.post("/whep/s", blind)).status == 422

    run(scenario)


def test_a_publisher_shows_its_token(run):
    """401 without or with a wrong one, for POST and DELETE; viewers need none."""

    async def scenario(world):
        assert (await world.post("/whip/s")).status == 401
        assert (await world.post("/whip/s", Authorization="Bearer wrong")).status == 401
        published = await world.publish(headers={"Authorization": "Bearer right"})
        assert await published.leave(world.http) == 401
        assert (await world.post("/whep/s")).status in (201, 409)

    run(scenario, publish_token="right")


def test_the_control_api_wants_its_own_token_and_clear_orders(run):
    """401 without; 400 with one line that says what is wrong; nothing changes."""

    async def scenario(world):
        for headers in ({}, {"Authorization": "Bearer wrong"}):
            assert await world.request("GET", "/control", headers=headers) == 401
            assert await world.request("POST", "/control/faults", headers=headers) == 401
        for body in (
            "{",
            "[]",
            '{"fault": "slow"}',
            '{"fault": "slwo", "on": true}',
            '{"fault": "slow", "on": true, "delay_s": 1e9}',
            '{"fault": "killed", "on": true}',
        ):
            status = await world.request("POST", "/control/faults", data=body, headers=BEARER)
            assert status == 400, body
        assert (await world.state())["faults"] == {}

    run(scenario)


# --- The process ---


async def start(*arguments, **environment):
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "hitless.lab.stand",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_process_says_where_it_listens_and_ends_within_a_second(number, video, audio):
    """One line of JSON; its peers are closed on the way out."""

    async def scenario():
        process = await start("--name", "agora", "--seed", "1", HITLESS_LAB_TOKEN="control")
        try:
            hello = json.loads(await asyncio.wait_for(process.stdout.readline(), 10))
            assert (hello["name"], hello["pid"], hello["stand_in"]) == ("agora", process.pid, True)
            async with aiohttp.ClientSession() as http:
                published = await publish(http, hello["url"], "s", video=video, audio=audio)
                loop = asyncio.get_running_loop()
                start_s = loop.time()
                process.send_signal(number)
                _, errors = await asyncio.wait_for(process.communicate(), 5)
                assert loop.time() - start_s < 1.0
                await until(closed(published.pc), 1.0)
                await published.pc.close()
            assert process.returncode == 0
            assert b"Traceback" not in errors
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--name", "x", "--host", "192.0.2.1"), b"cannot listen on 192.0.2.1:0"),
        (("--name", "x", "--token-env", "NO_SUCH"), b"NO_SUCH: that variable is not set"),
        (("--name", "x", "--rtmp-port", "1"), b"--rtmp-port needs --speaks"),
        ((), b"--name"),
    ],
)
def test_bad_arguments_end_the_process_with_status_2(arguments, says):
    """And a clear line."""

    async def scenario():
        process = await start(*arguments)
        output, errors = await asyncio.wait_for(process.communicate(), 10)
        assert process.returncode == 2
        assert says in errors
        assert output == b""

    asyncio.run(scenario())


def test_help_says_that_it_is_a_stand_in():
    """Nobody shall take it for the provider."""

    async def scenario():
        process = await start("--help")
        output, _ = await asyncio.wait_for(process.communicate(), 10)
        assert b"STAND-IN" in output

    asyncio.run(scenario())
