"""The lab's stand-ins for Agora and ZEGOCLOUD as processes, pushed to and played from by RTMP."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from fractions import Fraction

import av
import numpy as np
import pytest
from rtmp_server import until
from speaking_stand import AGORA, ZEGO

from hitless import Kind, LiveStreamingProvider, Meter, Quality
from hitless.errors import (
    CredentialsRejected,
    HitlessError,
    MediaLost,
    NotOnAir,
    Refused,
    Unreachable,
)
from hitless.lab.account import ACCOUNT_ENV
from hitless.media.frame import Codec
from hitless.media.source import open_feed
from hitless.providers.agora import Agora
from hitless.providers.conformance import check_provider
from hitless.providers.zegocloud import Zegocloud


LIMIT_S = 90.0
UNHURRIED = """
import sys
from hitless.lab import admission
from hitless.lab.stand import main
for limit in ("CPU_MAX", "CPU_PACED", "LAG_S_MAX", "BEHIND_S_MAX"):
    setattr(admission, limit, 100.0)
sys.exit(main(sys.argv[1:]))
"""
"""A stand-in that refuses nobody because this machine is busy with something else."""
SMALL = Quality(width=320, height=180, frame_rate=30, bitrate_bps=300_000)


def go(main):
    """Run a test against the clock, bounded."""

    async def bounded():
        async with asyncio.timeout(LIMIT_S):
            await main

    asyncio.run(bounded())


class Server:
    """A stand-in in a process of its own."""

    def __init__(self, process, hello):
        self.process, self.url, self.rtmp_url = process, hello["url"], hello["rtmp_url"]

    def signal(self, number):
        self.process.send_signal(number)

    def agora(self, **settings):
        """Return an adapter that pushes by RTMP and views by WHEP."""
        known = asdict(AGORA) | {
            "region": "eu",
            "api_url": self.url,
            "ingest_hosts": (self.rtmp_url.removeprefix("rtmp://"),),
            "whep_url": f"{self.url}/whep/{{stream}}",
        }
        return Agora(**(known | settings))

    def zegocloud(self, **settings):
        """Return an adapter that pushes and plays by RTMP, wherever it is told to."""
        return Zegocloud(**(asdict(ZEGO) | {"api_url": self.url} | settings))


@asynccontextmanager
async def standing(speaks, *arguments) -> AsyncIterator[Server]:
    """Lend a stand-in that speaks a provider's language."""
    account = {"agora": AGORA, "zegocloud": ZEGO}[speaks]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", UNHURRIED,
        "--name", speaks, "--speaks", speaks, "--quiet", "--seed", "1",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | {ACCOUNT_ENV: json.dumps(asdict(account))},
    )  # fmt: skip
    try:
        hello = json.loads(await asyncio.wait_for(process.stdout.readline(), 30))
        yield Server(process, hello)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@asynccontextmanager
async def publishing(provider, **options):
    """Publish the test picture; lend the leg and its feed."""
    feed = await open_feed("test-picture", quality=SMALL, **options)
    try:
        yield await provider.start_stream("show", feed), feed
    finally:
        await provider.aclose()
        await feed.aclose()


async def some_frames(view, count=30):
    """Return the first frames that a viewer gets, until there are so many of both kinds."""
    frames, seen = [], dict.fromkeys(Kind, 0)
    async for frame in view.frames():
        frames.append(frame)
        seen[frame.kind] += 1
        if min(seen.values()) >= count:
            return frames
    raise AssertionError("they ended")


def in_order(shown):
    """Return the numbers of what was shown, of which none came twice or late."""
    numbers = [each.number for each in shown]
    assert numbers == sorted(set(numbers))
    return numbers


def test_what_is_pushed_to_agora_is_seen_and_heard_by_a_viewer_of_its_whep():
    """
    Pictures are read by their numbers, sound by its slots, after it was Opus and AAC.
    """

    async def main():
        async with standing("agora") as server:
            meter = Meter()
            async with (
                LiveStreamingProvider([server.agora()]) as here,
                LiveStreamingProvider([server.agora()]) as there,
                here.start_stream("show", "test-picture", quality=SMALL),
                there.join_stream("show", sinks=[meter], wait_s=30.0),
            ):
                await until(lambda: len(meter.pictures) >= 90 and len(meter.sounds) >= 150, 40)
        for numbers in (in_order(meter.pictures), in_order(list(meter.sounds)[5:])):
            # A machine that is busy with something else skips some; a stream in pieces has few.
            assert len(numbers) >= 0.5 * (numbers[-1] - numbers[0])

    go(main())


def test_pictures_pass_agora_byte_for_byte_and_sound_becomes_opus():
    """
    So a merge matches the pictures of an RTMP leg with those of any other.
    """

    async def main():
        async with standing("agora") as server, publishing(server.agora()) as (leg, feed):
            assert leg.leg.proven_by == "pong"
            viewer = server.agora()
            frames = await some_frames(await viewer.join_stream("show"))
            await viewer.aclose()
            pictures = [each for each in frames if each.kind is Kind.VIDEO]
            assert all(feed.is_own(each.data) for each in pictures)
            assert {each.codec for each in frames} == {Codec.H264, Codec.OPUS}

    go(main())


def test_a_key_that_is_over_or_deleted_is_refused_as_a_credential():
    """
    The adapter would fetch another one; a given one cannot be replaced.
    """

    async def main():
        async with standing("agora") as server:
            maker = server.agora()
            short = await maker._gateway.api.create_stream_key("show", "7", expires_after_s=1)
            gone = await maker._gateway.api.create_stream_key("show", "7", expires_after_s=60)
            await maker._gateway.api.delete_key(gone.key)
            await maker.aclose()
            await asyncio.sleep(1.1)
            for key in (short.key, gone.key):
                with pytest.raises(CredentialsRejected) as caught:
                    async with publishing(server.agora(stream_key=key)):
                        pass
                assert key not in str(caught.value) + repr(vars(caught.value))

    go(main())


@pytest.mark.parametrize("way", ["disconnect", "ban"])
def test_the_api_ends_a_push(way):
    """
    The publisher loses its leg; the key that was deleted with it lets nobody in again.
    """

    async def main():
        async with standing("agora") as server:
            provider = server.agora()
            async with publishing(provider) as (leg, feed):
                api = provider._gateway.api
                (online,) = await api.online_streams("show")
                (kept,) = provider._gateway._keys.values()
                if way == "disconnect":
                    await api.force_disconnect(kept.key.key, online.sid)
                else:
                    await api.ban(channel="show", uid=int(online.uid), for_s=60)
                with pytest.raises(MediaLost, match="agora"):
                    await asyncio.wait_for(leg.lost(), 5)
                assert [] == list(await api.online_streams("show"))
                with pytest.raises(CredentialsRejected):
                    await provider.start_stream("show", feed)

    go(main())


@pytest.mark.parametrize("speaks", ["agora", "zegocloud"])
def test_a_killed_stand_in_is_noticed_at_once(speaks):
    """
    And the next attempt is refused.
    """

    async def main():
        async with standing(speaks) as server:
            provider = getattr(server, speaks)()
            async with publishing(provider) as (leg, feed):
                server.signal(signal.SIGKILL)
                with pytest.raises(MediaLost):
                    await asyncio.wait_for(leg.lost(), 2)
                with pytest.raises(Unreachable):
                    await provider.start_stream("show", feed)

    go(main())


@pytest.mark.parametrize("speaks", ["agora", "zegocloud"])
def test_a_stopped_stand_in_is_noticed_by_its_publisher(speaks):
    """
    Its kernel goes on taking bytes; the watermark of pongs stands still.
    """

    async def main():
        async with standing(speaks) as server, publishing(getattr(server, speaks)()) as (leg, _):
            loop = asyncio.get_running_loop()
            assert (leg.leg if speaks == "agora" else leg).proven_by == "pong"
            await asyncio.sleep(1.0)
            await until(lambda: leg.liveness.quiet(loop.time()) is None, 5)
            server.signal(signal.SIGSTOP)
            # 0.8 to 1.0 s on a machine that is not busy with something else
            await until(lambda: leg.liveness.quiet(loop.time()) is not None, 6)
            server.signal(signal.SIGCONT)
            await until(lambda: leg.liveness.quiet(loop.time()) is None, 5)

    go(main())


def test_zegocloud_is_pushed_to_and_played_from_by_rtmp():
    """
    Sound and pictures come back byte for byte, from addresses that were asked for.
    """

    async def main():
        async with standing("zegocloud") as server, publishing(server.zegocloud()) as (_, feed):
            viewer = server.zegocloud()
            frames = await some_frames(await viewer.join_stream("show"))
            await viewer.aclose()
            assert all(feed.is_own(each.data) for each in frames)
            assert {each.codec for each in frames} == {Codec.H264, Codec.AAC}

    go(main())


def test_zegocloud_is_pushed_to_by_rtmp_and_viewed_by_whep():
    """
    With a token04 as Bearer, which is the stand-in's own way.
    """

    async def main():
        async with standing("zegocloud") as server, publishing(server.zegocloud()) as (_, feed):
            viewer = server.zegocloud(whep_url=f"{server.url}/whep/{{stream}}", bearer="token04")
            frames = await some_frames(await viewer.join_stream("show"))
            await viewer.aclose()
            pictures = [each for each in frames if each.kind is Kind.VIDEO]
            assert all(feed.is_own(each.data) for each in pictures)

    go(main())


def test_a_stream_id_that_is_taken_at_zegocloud_refuses_the_later_publisher_once():
    """
    The holder is put out through the API, so that the next attempt finds it free.
    """

    async def main():
        async with standing("zegocloud") as server, publishing(server.zegocloud()) as (old, feed):
            newer = server.zegocloud()
            with pytest.raises(Refused):
                await newer.start_stream("show", feed)
            with pytest.raises(HitlessError):
                await asyncio.wait_for(old.lost(), 5)
            await asyncio.sleep(1.0)  # its ban is lifted again
            await newer.start_stream("show", feed)
            await newer.aclose()

    go(main())


def test_the_port_of_rtmp_can_be_given():
    """
    Else it is any free one; the line that the process says first tells it.
    """

    async def main():
        with socket.create_server(("127.0.0.1", 0)) as sock:
            port = sock.getsockname()[1]
        async with standing("agora", "--rtmp-port", str(port)) as server:
            assert server.rtmp_url == f"rtmp://127.0.0.1:{port}"
            async with publishing(server.agora()) as (leg, _):
                assert leg.provider == "agora"

    go(main())


def test_nobody_is_on_air_before_somebody_pushes():
    """
    A player is told so, and is not blamed on the provider.
    """

    async def main():
        async with standing("zegocloud") as server:
            viewer = server.zegocloud()
            with pytest.raises(NotOnAir):
                await viewer.join_stream("show")
            await viewer.aclose()

    go(main())


def test_ffmpeg_pushes_and_plays():
    """
    A client that shares nothing with the stand-in: B-frames, and sound of 44.1 kHz in mono.
    """

    async def main():
        async with standing("zegocloud") as server:
            provider = server.zegocloud(whep_url=f"{server.url}/whep/{{stream}}", bearer="token04")
            (push_url,) = await provider.api.rtmp_urls("show")
            (pull_url,) = await provider.api.rtmp_urls("show", is_push=False)
            pushed = asyncio.create_task(asyncio.to_thread(ffmpeg_pushes, push_url, 6.0))
            await asyncio.sleep(1.0)
            frames = await some_frames(await provider.join_stream("show"))
            decoded = await asyncio.to_thread(ffmpeg_plays, pull_url, 25)
            await pushed
            await provider.aclose()
        assert decoded["video"] >= 25
        assert decoded["audio"] >= 25
        sounds = [each.timestamp for each in frames if each.kind is Kind.AUDIO]
        assert {0} == {(late - early) % 960 for early, late in itertools.pairwise(sounds)}

    go(main())


def ffmpeg_pushes(url, seconds):
    """Push a grey picture and a tone, in real time. In a thread."""
    with av.open(url, "w", format="flv") as out:
        options = {"preset": "ultrafast", "g": "25", "bf": "2"}
        video = out.add_stream("libx264", rate=25, options=options)
        video.width, video.height, video.pix_fmt = 320, 180, "yuv420p"
        audio = out.add_stream("aac", rate=44_100, layout="mono")
        begun_s, heard = time.monotonic(), 0  # noqa: TID251 -- in a thread
        for number in range(int(seconds * 25)):
            shade = np.full((270, 320), (number * 7) % 256, np.uint8)
            picture = av.VideoFrame.from_ndarray(shade, format="yuv420p")
            picture.pts, picture.time_base = number, Fraction(1, 25)
            out.mux(video.encode(picture))
            while heard < (number + 1) * 44_100 / 25:
                tone = np.sin(2 * np.pi * 1000 * (heard + np.arange(1024)) / 44_100)
                sound = av.AudioFrame.from_ndarray(
                    tone.astype(np.float32)[None] / 4, format="fltp", layout="mono"
                )
                sound.sample_rate, sound.pts, sound.time_base = 44_100, heard, Fraction(1, 44_100)
                out.mux(audio.encode(sound))
                heard += 1024
            due_s = begun_s + (number + 1) / 25
            time.sleep(max(0.0, due_s - time.monotonic()))  # noqa: TID251 -- in a thread


def ffmpeg_plays(url, count):
    """Return how many of each kind were decoded, once there are so many of both. In a thread."""
    decoded = {"video": 0, "audio": 0}
    with av.open(url, timeout=10) as film:
        for packet in film.demux():
            decoded[packet.stream.type] += len(packet.decode())
            if min(decoded.values()) >= count:
                break
    return decoded


@pytest.mark.parametrize(("speaks", "carries_frames"), [("agora", False), ("zegocloud", True)])
def test_the_adapter_keeps_the_contract_by_rtmp(speaks, carries_frames):
    """
    The public suite, against the process. Agora's sound is encoded again on the way to WHEP.
    """

    async def main():
        async with standing(speaks) as server:

            async def make():
                return getattr(server, speaks)()

            (await check_provider(make, carries_frames=carries_frames)).require()

    go(main())
