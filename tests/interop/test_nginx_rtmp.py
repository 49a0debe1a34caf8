"""RTMP with a real nginx-rtmp, and with FFmpeg on the other side of it."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager

import av
import numpy as np
import pytest
from interop import nginx_rtmp

from hitless import Kind, LiveStreamingProvider, Meter, Quality
from hitless.errors import HitlessError, MediaLost, NotOnAir, Refused, Unreachable
from hitless.media.frame import Codec
from hitless.media.rtmp_watermark import Evidence
from hitless.media.source import open_feed
from hitless.providers.conformance import check_provider
from hitless.providers.rtmp import Rtmp


pytestmark = pytest.mark.skipif(nginx_rtmp.module() is None, reason=nginx_rtmp.WHY_SKIPPED)

LIMIT_S = 30.0
NOTICED_S = 2.0
"""A stopped server is noticed within this time by both sides: 1 s of silence, a ping every
0.25 s, and a busy machine."""

SMALL = Quality(width=320, height=180, frame_rate=30, bitrate_bps=300_000)


def go(main):
    """Run a test against the clock, bounded."""

    async def bounded():
        async with asyncio.timeout(4 * LIMIT_S):
            await main

    asyncio.run(bounded())


@pytest.fixture
def nginx():
    """A server of the test's own."""
    with nginx_rtmp.NginxRtmp() as server:
        yield server


@asynccontextmanager
async def on_air(nginx, **options):
    """Publish a test picture, and lend what is needed."""
    feed = await open_feed("test-picture", quality=SMALL)
    provider = Rtmp(url=nginx.url, **options)
    try:
        yield provider, await provider.start_stream("show", feed), feed
    finally:
        await provider.aclose()
        await feed.aclose()


async def frames_of(view, count):
    """Return the first frames that a viewer gets."""
    frames = []
    async with asyncio.timeout(LIMIT_S):
        async for frame in view.frames():
            frames.append(frame)
            if len(frames) == count:
                break
    return frames


async def loss_of(leg):
    """Wait for the loss of a leg; return why, and when [s]."""
    async with asyncio.timeout(LIMIT_S):
        try:
            await leg.lost()
        except HitlessError as exc:
            return exc, asyncio.get_running_loop().time()


async def silence_of(leg):
    """Wait until a leg is quiet for too long; return what is, and when [s]."""
    clock = asyncio.get_running_loop().time
    async with asyncio.timeout(LIMIT_S):
        while (quiet := leg.liveness.quiet(clock())) is None:  # noqa: ASYNC110 -- no event
            await asyncio.sleep(0.01)
    return quiet, clock()


# --- Carrying ---


def test_it_keeps_the_contract(nginx):
    """
    All twelve rules, on real media.
    """

    async def main():
        async def make():
            return Rtmp(url=nginx.url)

        (await check_provider(make)).require()

    go(main())


@pytest.mark.parametrize("pings", [True, False])
def test_frames_arrive_complete_and_as_they_were_sent(nginx, pings):
    """
    None missing between the first and the last, each with the bytes that were sent.
    """

    async def main():
        sent = []
        async with on_air(nginx, pings=pings) as (provider, leg, feed):
            feed.attach(sent.append, codecs={Kind.VIDEO: Codec.H264, Kind.AUDIO: Codec.AAC})
            view = await provider.join_stream("show")
            frames = await frames_of(view, 300)
            assert "self-view" == leg.proven_by
            expected = Evidence.PONG if pings else Evidence.ACKNOWLEDGEMENT
            assert expected is leg._publisher.evidence
        for kind in Kind:
            arrived = [frame.data for frame in frames if frame.kind is kind]
            made = [frame.data for frame in sent if frame.kind is kind]
            begin = made.index(arrived[0])
            assert made[begin : begin + len(arrived)] == arrived
            assert len(arrived) > 90

    go(main())


def test_numbers_in_the_picture_are_read_from_end_to_end(nginx):
    """
    Through the whole library: published, viewed, decoded; none lost, none repeated.
    """

    async def main():
        meter = Meter()
        async with (
            LiveStreamingProvider([Rtmp(url=nginx.url)]) as here,
            LiveStreamingProvider([Rtmp(url=nginx.url)]) as there,
            here.start_stream("show", "test-picture", quality=SMALL) as stream,
            there.join_stream("show", sinks=[meter]) as view,
        ):
            await asyncio.sleep(2.0)
            clock = asyncio.get_running_loop().time
            begin_s = clock()
            await asyncio.sleep(3.0)
            report = meter.report(begin_s, clock())
            assert "rtmp" == stream.provider == view.provider
            reading = meter.reading()
        assert reading.number is not None
        assert reading.slot is not None
        assert 0 == reading.unreadable_pictures
        assert report.frames_shown >= 60
        assert report.audio_slots_shown >= 100
        assert (0, 0) == (report.frames_lost, report.frames_repeated)
        assert (0, 0) == (report.audio_slots_lost, report.audio_slots_repeated)

    go(main())


def play_with_ffmpeg(url):
    """Return how many pictures and sounds FFmpeg's own client decodes."""
    counts = {"video": 0, "audio": 0}
    with av.open(url, timeout=(10, 10)) as film:
        for packet in film.demux():
            for _ in packet.decode():
                counts[packet.stream.type] += 1
            if min(counts.values()) >= 30:
                return counts
    return counts


def test_ffmpeg_plays_what_we_publish(nginx):
    """
    Another client than ours.
    """

    async def main():
        async with on_air(nginx):
            url = nginx.url.replace("{stream}", "show")
            counts = await asyncio.to_thread(play_with_ffmpeg, url)
        assert min(counts.values()) >= 30

    go(main())


def publish_with_ffmpeg(url, running):
    """Publish pictures and sound with FFmpeg's own client until told to stop."""
    with av.open(url, "w", format="flv", timeout=(10, 10)) as out:
        video = out.add_stream("libx264", rate=30, options={"tune": "zerolatency", "g": "15"})
        video.width, video.height, video.pix_fmt = 320, 180, "yuv420p"
        audio = out.add_stream("aac", rate=48_000, layout="stereo")
        number = 0
        while running():
            shade = np.full((180, 320, 3), number * 7 % 256, np.uint8)
            out.mux(video.encode(av.VideoFrame.from_ndarray(shade, format="rgb24")))
            tone = np.sin(np.arange(1600) / 9 + number).astype(np.float32) * 0.2
            sound = av.AudioFrame.from_ndarray(
                np.stack([tone, tone]), format="fltp", layout="stereo"
            )
            sound.sample_rate, sound.pts = 48_000, number * 1600
            out.mux(audio.encode(sound))
            number += 1
            running.wait(1 / 30)


class Running:
    """Says whether to go on; callable from a thread."""

    def __init__(self):
        self.stop = threading.Event()

    def __call__(self):
        return not self.stop.is_set()

    def wait(self, limit_s):
        self.stop.wait(limit_s)


def test_we_view_what_ffmpeg_publishes(nginx):
    """
    Its keyframes are given their parameters, and every frame can be decoded.
    """

    async def main():
        running = Running()
        provider = Rtmp(url=nginx.url)
        url = nginx.url.replace("{stream}", "film")
        publishing = asyncio.create_task(asyncio.to_thread(publish_with_ffmpeg, url, running))
        try:
            async with asyncio.timeout(LIMIT_S):
                while True:
                    try:
                        view = await provider.join_stream("film")
                        break
                    except NotOnAir:
                        continue
            frames = await frames_of(view, 120)
        finally:
            running.stop.set()
            await publishing
            await provider.aclose()
        decoders = {
            Kind.VIDEO: av.CodecContext.create("h264", "r"),
            Kind.AUDIO: av.CodecContext.create("aac", "r"),
        }
        shown = dict.fromkeys(Kind, 0)
        for frame in frames:
            shown[frame.kind] += len(decoders[frame.kind].decode(av.Packet(frame.data)))
        assert shown[Kind.VIDEO] >= sum(frame.kind is Kind.VIDEO for frame in frames) - 5
        assert shown[Kind.AUDIO] >= sum(frame.kind is Kind.AUDIO for frame in frames) - 5
        for kind in Kind:
            times = [frame.timestamp for frame in frames if frame.kind is kind]
            assert times == sorted(set(times))

    go(main())


# --- Failing ---


def test_a_kill_is_noticed_at_once_by_both_sides(nginx):
    """
    And the next attempt is refused by the host.
    """

    async def main():
        async with on_air(nginx) as (provider, leg, feed):
            view = await provider.join_stream("show")
            killed_s = asyncio.get_running_loop().time()
            nginx.kill()
            for exc, at_s in await asyncio.gather(loss_of(leg), loss_of(view)):
                assert isinstance(exc, MediaLost)
                assert at_s - killed_s < NOTICED_S
            with pytest.raises(Unreachable, match="refused"):
                await provider.start_stream("again", feed)

    go(main())


@pytest.mark.parametrize("pings", [True, False])
def test_a_stopped_server_is_noticed_by_both_sides(nginx, pings):
    """
    Its kernel goes on taking bytes, and no write fails; closing does not wait for it.
    """

    async def main():
        async with on_air(nginx, pings=pings) as (provider, leg, _):
            view = await provider.join_stream("show")
            await asyncio.sleep(1.0)
            clock = asyncio.get_running_loop().time
            assert leg.liveness.quiet(clock()) is None
            assert view.liveness.quiet(clock()) is None
            stopped_s = clock()
            nginx.freeze()
            try:
                found = await asyncio.gather(silence_of(leg), silence_of(view))
                closing_s = clock()
                await asyncio.gather(leg.aclose(), view.aclose())
                assert clock() - closing_s < 2
            finally:
                nginx.thaw()
        for quiet, at_s in found:
            assert at_s - stopped_s < NOTICED_S, quiet

    go(main())


def test_a_stopped_server_lets_nobody_in(nginx):
    """
    Its kernel accepts the connection; that is no answer.
    """

    async def main():
        provider = Rtmp(url=nginx.url, first_media_s=1.0)
        nginx.freeze()
        try:
            with pytest.raises(Unreachable, match="timeout") as caught:
                await provider.join_stream("show")
        finally:
            nginx.thaw()
            await provider.aclose()
        assert not caught.value.answered

    go(main())


def test_a_server_that_drops_the_publisher_ends_both_legs(nginx):
    """
    As its operator does through its control page.
    """

    async def main():
        async with on_air(nginx) as (provider, leg, _):
            view = await provider.join_stream("show")
            await asyncio.to_thread(nginx.drop, "publisher", "show")
            for exc, _ in await asyncio.gather(loss_of(leg), loss_of(view)):
                assert isinstance(exc, MediaLost)

    go(main())


@pytest.mark.parametrize("app", ["nosuch", "closed"])
@pytest.mark.parametrize("operation", ["publish", "view"])
def test_an_application_that_does_not_let_us_in_has_refused(nginx, app, operation):
    """
    Unknown, or closed to us: it hangs up, and no other attempt there would help.
    """

    async def main():
        feed = await open_feed("test-picture", quality=SMALL)
        provider = Rtmp(url=nginx.at(app))
        opening = (
            provider.start_stream("show", feed)
            if operation == "publish"
            else provider.join_stream("show")
        )
        try:
            with pytest.raises(Refused, match="closed the connection in answer to"):
                await opening
        finally:
            await provider.aclose()
            await feed.aclose()

    go(main())


@pytest.mark.parametrize("pings", [True, False])
@pytest.mark.parametrize("app", ["live", "strict"])
def test_a_stream_that_nobody_publishes_is_not_on_air(nginx, app, pings):
    """
    Whether nginx-rtmp lets players wait (its default) or tells them.
    """

    async def main():
        provider = Rtmp(url=nginx.at(app), pings=pings)
        try:
            with pytest.raises(NotOnAir):
                await provider.join_stream("show")
        finally:
            await provider.aclose()

    go(main())


def test_a_name_that_is_taken_is_refused(nginx):
    """
    A publisher that was not noticed to be gone, or another one of the same name.
    """

    async def main():
        async with on_air(nginx) as (provider, _, feed):
            with pytest.raises(Refused, match="already"):
                await provider.start_stream("show", feed)
            assert ["show"] == await asyncio.to_thread(nginx.publishers)

    go(main())


def test_a_stream_that_was_closed_is_off_the_air(nginx):
    """
    The server knows at once, and so does its viewer.
    """

    async def main():
        async with on_air(nginx) as (provider, leg, _):
            view = await provider.join_stream("show")
            await leg.aclose()
            exc, _ = await loss_of(view)
            assert isinstance(exc, MediaLost)
            assert [] == await asyncio.to_thread(nginx.publishers)

    go(main())
