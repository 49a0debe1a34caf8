"""
A real LiveKit server on loopback: WHIP, viewing by WHIP, RoomService, failures.

Needs the program `livekit-server` (or its path in HITLESS_LIVEKIT_SERVER); no package registry
has it, so that most machines skip this. Run with 1.13.0, built from its source.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import asynccontextmanager

import aiohttp
import pytest
from canned_media import canned_feed
from interop.livekit_server import LIMIT_S, run, token, with_client, with_server

from hitless.errors import (
    CredentialsRejected,
    HitlessError,
    MediaLost,
    NotOnAir,
    Retry,
)
from hitless.media.frame import Codec, Kind
from hitless.providers.conformance import check_provider
from hitless.providers.livekit_token import publisher_grants, viewer_grants


pytestmark = [pytest.mark.realtime, with_server]

# A process of its own: the client leaves threads of its native library behind.
CLIENT = """
import asyncio, os, sys
from livekit import rtc

async def publish(room):
    source, sound = rtc.VideoSource(320, 180), rtc.AudioSource(48000, 2)
    for make, name, what, kind in (
        (rtc.LocalVideoTrack.create_video_track, "cam", source, rtc.TrackSource.SOURCE_CAMERA),
        (rtc.LocalAudioTrack.create_audio_track, "mic", sound, rtc.TrackSource.SOURCE_MICROPHONE),
    ):
        options = rtc.TrackPublishOptions(source=kind, simulcast=False)
        await room.local_participant.publish_track(make(name, what), options)
    print("publishing", flush=True)
    picture, number = bytearray(320 * 180 * 4), 0
    while True:
        number += 1
        picture[number % len(picture)] = number % 256
        source.capture_frame(rtc.VideoFrame(320, 180, rtc.VideoBufferType.RGBA, picture))
        frame = rtc.AudioFrame(os.urandom(960 * 4), 48000, 2, 960)
        await sound.capture_frame(frame)
        await asyncio.sleep(0.01)

async def watch(room, tracks):
    track = await tracks.get()
    while track.kind != rtc.TrackKind.KIND_VIDEO:
        track = await tracks.get()
    async for event in rtc.VideoStream(track):
        print("seen", event.frame.width, event.frame.height, flush=True)
        return

async def main(url, what):
    room, tracks = rtc.Room(), asyncio.Queue()
    room.on("track_subscribed", lambda track, publication, who: tracks.put_nowait(track))
    await room.connect(url, sys.stdin.readline().strip())
    await (publish(room) if what == "publish" else watch(room, tracks))
    os._exit(0)

asyncio.run(main(*sys.argv[1:]))
"""


@asynccontextmanager
async def client(server, what, shown):
    """LiveKit's own client in a room, until the block ends; what it prints."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", CLIENT, server.url, what),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        child.stdin.write(shown.encode() + b"\n")
        await child.stdin.drain()
        yield child.stdout
    finally:
        if child.returncode is None:
            child.kill()
        child.stdin.close()
        await child.communicate()


@pytest.mark.parametrize("codec", [Codec.VP8, Codec.H264])
def test_a_real_server_keeps_the_contract(codec, tmp_path):
    """Encoded frames arrive as they were sent."""

    async def test(server):
        async def make():
            return server.livekit(video_codec=codec)

        async def feed():
            return canned_feed(codec=codec)[0]

        report = await check_provider(make, feed=feed)
        report.require()

    run(test, tmp_path)


def test_a_real_server_says_no_and_its_token_is_not_repeated(tmp_path):
    """A wrong secret; it repeats the token in its answer."""

    async def test(server):
        provider, (feed, _) = server.livekit(api_secret="x" * 40), canned_feed(Kind.AUDIO)
        for asking in (
            provider.start_stream("show", feed),
            provider.join_stream("show"),
            provider.check(),
        ):
            with pytest.raises(CredentialsRejected) as caught:
                await asking
            assert caught.value.retry is Retry.NEXT
            assert "eyJ" not in str(caught.value)
        await provider.aclose()
        await feed.aclose()

    run(test, tmp_path)


def test_a_real_server_puts_out_the_first_of_two_publishers(tmp_path):
    """One identity; an older one named by its epoch goes by RemoveParticipant."""

    async def test(server):
        (feed, _), loop = canned_feed(), asyncio.get_running_loop()

        async def older(access):
            grants = publisher_grants(access.stream)
            if access.role == "viewer":
                grants = viewer_grants(access.stream)
            return {"token": token(grants, f"publisher-3{'v' * (access.role == 'viewer')}")}

        providers = [server.livekit(credentials=older), server.livekit(), server.livekit()]
        legs = [await provider.start_stream("show", feed) for provider in providers]
        for leg in legs[:2]:
            begun_s = loop.time()
            with pytest.raises(MediaLost, match="closed by the far side"):
                async with asyncio.timeout(10):
                    await leg.lost()
            assert loop.time() - begun_s < 10
        assert legs[2].liveness.quiet(loop.time()) is None
        people = await providers[2]._service().participants("show")
        assert [each.identity for each in people if each.tracks] == ["publisher"]
        for provider in providers:
            await provider.aclose()
        await feed.aclose()

    run(test, tmp_path)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_real_server_that_dies_or_hangs_is_noticed_by_both_sides(how, tmp_path):
    """In a fraction of a second, and closing is bounded."""

    async def test(server):
        provider, (feed, _), loop = server.livekit(), canned_feed(), asyncio.get_running_loop()
        legs = [await provider.start_stream("show", feed), await provider.join_stream("show")]
        await asyncio.sleep(1.0)
        server.child.send_signal(how)
        begun_s = loop.time()
        while not all(leg.liveness.quiet(loop.time()) for leg in legs):
            assert loop.time() - begun_s < 10
            await asyncio.sleep(0.005)
        begun_s = loop.time()
        await provider.aclose()
        await feed.aclose()
        assert loop.time() - begun_s < 10

    run(test, tmp_path)


def test_a_real_server_that_is_gone_leaves_a_viewer_with_an_error(tmp_path):
    """Nothing hangs, and it is no stream without a publisher."""

    async def test(server):
        provider = server.livekit()
        with pytest.raises(NotOnAir):
            await provider.join_stream("show")
        server.child.kill()
        await server.child.wait()
        await asyncio.sleep(0.5)
        with pytest.raises(HitlessError) as caught:
            await provider.join_stream("show")
        assert not isinstance(caught.value, NotOnAir)
        await provider.aclose()

    run(test, tmp_path)


@with_client
def test_a_client_of_livekit_sees_what_we_publish(tmp_path):
    """With a viewer's token of ours."""

    async def test(server):
        provider, (feed, _) = server.livekit(), canned_feed()
        await provider.start_stream("show", feed)
        async with client(server, "watch", token(viewer_grants("show"), "ann")) as told:
            async with asyncio.timeout(LIMIT_S / 2):
                assert await told.readline() == b"seen 320 180\n"
        await provider.aclose()
        await feed.aclose()

    run(test, tmp_path)


@with_client
def test_we_see_what_a_client_of_livekit_publishes(tmp_path):
    """With a publisher's token of ours, under whatever names its tracks have."""

    async def test(server):
        async with client(server, "publish", token(publisher_grants("show"), "bob")) as told:
            async with asyncio.timeout(LIMIT_S / 2):
                assert await told.readline() == b"publishing\n"
            provider, kinds = server.livekit(), set()
            async with asyncio.timeout(LIMIT_S / 2):
                while True:
                    try:
                        view = await provider.join_stream("show")
                        break
                    except HitlessError:
                        await asyncio.sleep(0.3)
                async for frame in view.frames():
                    kinds.add(frame.kind)
                    if kinds == {Kind.AUDIO, Kind.VIDEO}:
                        break
            await provider.aclose()

    run(test, tmp_path)


def test_the_health_of_a_real_server_is_what_its_source_says(tmp_path):
    """200 OK at the root, 404 elsewhere."""

    async def test(server):
        async with aiohttp.ClientSession() as http:
            for path, status in (("/", 200), ("/health", 404)):
                async with http.get(server.url.replace("ws", "http", 1) + path) as answer:
                    assert answer.status == status

    run(test, tmp_path)
