"""RTMP over a connection, and whether a hang is noticed; no server but a stand-in."""

from __future__ import annotations

import asyncio
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rtmp_server import serving, until
from rtmp_source import Source
from unit.media.rtmp_bytes import VALUES

from hitless.errors import (
    ConfigError,
    ContractBroken,
    LocalFault,
    MediaLost,
    ProviderError,
    Unreachable,
)
from hitless.media import amf
from hitless.media.frame import CLOCK_RATE, Codec, Kind
from hitless.media.liveness import Liveness
from hitless.media.rtmp import QUEUE_FRAMES, Evidence, RtmpPlayer, RtmpPublisher
from hitless.media.rtmp_chunks import Message, Type, cut
from hitless.media.rtmp_target import target_of


LIMIT_S = 30.0


def go(main):
    """Run a test against the clock, bounded."""

    async def bounded():
        async with asyncio.timeout(3 * LIMIT_S):
            await main

    asyncio.run(bounded())


# --- Addresses ---


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("rtmp://a.b/live/key", ("a.b", 1935, False, "live", "key", "rtmp://a.b/live")),
        ("rtmps://a.b/x/y/k?t=1/2", ("a.b", 443, True, "x/y", "k?t=1/2", "rtmps://a.b/x/y")),
        ("rtmp://[::1]:99/l/k", ("::1", 99, False, "l", "k", "rtmp://[::1]:99/l")),
    ],
)
def test_an_address_is_taken_apart(url, expected):
    """
    The name is what follows the last slash of the path, with its query.
    """
    found = target_of("url", url)

    assert expected == (found.host, found.port, found.tls, found.app, found.name, found.url)


@pytest.mark.parametrize(
    "url",
    ["http://a/b/c", "rtmp://a/secret", "rtmp://a/b/", "rtmp:///b/c", "rtmp://u:secret@a/b/c",
     "rtmp://a:x/b/c", "rtmp://a/b/se cret", "rtmp://a/b/c#secret", ""],
)  # fmt: skip
def test_an_address_that_cannot_work_is_refused_by_name(url):
    """
    Never quoted: it may hold the key.
    """
    with pytest.raises(ConfigError, match="play_url") as caught:
        target_of("play_url", url)

    assert "secret" not in str(caught.value)
    assert "key" not in repr(target_of("url", "rtmp://a/app/key"))


# --- Over a connection ---

AMF = st.lists(VALUES, max_size=4).map(
    lambda values: amf.encode("onStatus", 0.0, None, *values)
) | st.sampled_from(["_result", "_error", "onStatus"]).map(
    lambda name: amf.encode(name, 1.0, {"level": "error", "code": "NetStream.Play.Failed"})
)


class Ends:
    """A publisher and players of one stream at a stand-in."""

    def __init__(self, server, source):
        self.server, self.source, self.open = server, source, []
        self.clock = asyncio.get_running_loop().time

    def target(self):
        return target_of("url", self.server.url.replace("{stream}", "show"))

    async def publisher(self, **options):
        liveness = Liveness(silence_s=1.0)
        one = RtmpPublisher(
            self.target(), feed=self.source.feed, provider="p", liveness=liveness, **options
        )
        self.open.append(one)
        await one.open(self.clock() + LIMIT_S)
        return one, liveness

    async def player(self, **options):
        frames, liveness = [], Liveness(silence_s=1.0)
        one = RtmpPlayer(
            self.target(), take=frames.append, provider="p", liveness=liveness, **options
        )
        self.open.append(one)
        await one.open(self.clock() + LIMIT_S)
        return one, frames, liveness

    async def aclose(self):
        for one in self.open:
            await one.aclose()
        await self.source.feed.aclose()


class at_stand_in:
    """Lend `Ends` with a running server."""

    def __init__(self, *kinds, **options):
        self.kinds, self.serving = kinds, serving(**options)

    async def __aenter__(self):
        self.ends = Ends(await self.serving.__aenter__(), Source(*self.kinds))
        return self.ends

    async def __aexit__(self, *exc):
        await self.ends.aclose()
        await self.serving.__aexit__(*exc)


def test_frames_arrive_as_they_were_sent():
    """
    Every one, in order per kind, video from a keyframe on, on one time line.
    """

    async def main():
        async with at_stand_in() as ends:
            await ends.publisher()
            player, frames, liveness = await ends.player()
            await until(lambda: len(frames) > 150)
            assert all(ends.source.feed.is_own(frame.data) for frame in frames)
            assert {Kind.AUDIO, Kind.VIDEO} == set(liveness._signs) - {"stun"}
            stats = player.stats()
        video = [frame for frame in frames if frame.kind is Kind.VIDEO]
        audio = [frame for frame in frames if frame.kind is Kind.AUDIO]
        assert video[0].keyframe
        assert {1024} == set(np.diff([frame.timestamp for frame in audio]).tolist())
        assert np.abs(np.diff([frame.timestamp for frame in video]) - 3000).max() <= 90
        skew_s = [frame.timestamp / CLOCK_RATE[frame.kind] - frame.arrived_s for frame in frames]
        assert max(skew_s) - min(skew_s) < 5
        assert ["transport", "inbound-rtp", "inbound-rtp"] == [entry["type"] for entry in stats]

    go(main())


@pytest.mark.parametrize("kind", list(Kind))
def test_one_kind_is_enough(kind):
    """
    Nobody waits for the other one.
    """

    async def main():
        async with at_stand_in(kind) as ends:
            publisher, _ = await ends.publisher()
            await publisher.proven(ends.clock() + LIMIT_S)
            _, frames, _ = await ends.player()
            await until(lambda: len(frames) > 20)
            assert {kind} == {frame.kind for frame in frames}

    go(main())


@pytest.mark.parametrize(
    ("pongs", "acknowledges", "evidence"),
    [
        (True, True, Evidence.PONG),
        (False, True, Evidence.ACKNOWLEDGEMENT),
        (False, False, Evidence.KERNEL),
    ],
)
def test_the_best_witness_of_a_server_counts(pongs, acknowledges, evidence):
    """
    A server that takes bytes is alive for us, whatever it says of them; one that hangs is not.
    """

    async def main():
        async with at_stand_in(receive_buffer=8192) as ends:
            ends.server.pongs, ends.server.acknowledges = pongs, acknowledges
            publisher, liveness = await ends.publisher()
            assert publisher.evidence <= await publisher.proven(ends.clock() + LIMIT_S)
            await until(lambda: publisher.evidence is evidence)
            for _ in range(20):
                await asyncio.sleep(0.1)
                assert liveness.quiet(ends.clock()) is None
            ends.server.reads.clear()
            begun = ends.clock()
            await until(lambda: liveness.quiet(ends.clock()) is not None)
            assert "stun" == liveness.quiet(ends.clock()).sign
            assert ends.clock() - begun < 10
            closing = ends.clock()
            await publisher.aclose()
            assert ends.clock() - closing < 2

    go(main())


def test_a_server_that_hangs_costs_frames_and_no_memory():
    """
    What it does not take is dropped, and goes on with a keyframe.
    """

    async def main():
        async with at_stand_in(receive_buffer=8192) as ends:
            publisher, _ = await ends.publisher()
            _, frames, _ = await ends.player()
            await until(lambda: len(frames) > 20)
            ends.server.reads.clear()

            def dropped():
                return sum(entry.get("framesDropped", 0) for entry in publisher.stats())

            await until(lambda: dropped() > 20, LIMIT_S)
            assert len(publisher._unsent) <= QUEUE_FRAMES
            ends.server.reads.set()
            seen = len(frames)
            await until(lambda: len(frames) > seen + 150, LIMIT_S)
            video = [frame for frame in frames if frame.kind is Kind.VIDEO]
            holes = np.diff([frame.timestamp for frame in video])
            (hole,) = np.nonzero(holes > 4000)[0]
            assert video[hole + 1].keyframe

    go(main())


def test_a_publisher_asks_for_a_keyframe_now_and_then():
    """
    Viewers cannot, so their wait for the first picture is bounded here.
    """

    async def main():
        async with at_stand_in() as ends:
            await ends.publisher(keyframe_s=0.3)
            await until(lambda: ends.source.keyframes_asked >= 4)

    go(main())


def test_a_feed_without_pictures_yet_is_not_proven():
    """
    It says that there was no keyframe to begin with.
    """

    async def main():
        async with at_stand_in(Kind.VIDEO) as ends:
            await ends.source.aclose()
            publisher, _ = await ends.publisher()
            with pytest.raises(MediaLost, match="keyframe"):
                await publisher.proven(ends.clock() + 0.3)

    go(main())


def test_a_dead_encoder_ends_the_leg_here():
    """
    It is a fault of this machine; no server is blamed.
    """

    async def main():
        async with at_stand_in() as ends:
            publisher, _ = await ends.publisher()
            ends.source.feed.fail_codec(Codec.H264, LocalFault("the encoder died"))
            with pytest.raises(LocalFault, match="encoder died"):
                async with asyncio.timeout(LIMIT_S):
                    await publisher.lost()

    go(main())


def test_a_publisher_that_left_ends_the_view():
    """
    The server says so; the stream may go on elsewhere, so it is a loss and not its end.
    """

    async def main():
        async with at_stand_in() as ends:
            publisher, _ = await ends.publisher()
            player, frames, _ = await ends.player()
            await until(lambda: frames)
            await publisher.aclose()
            with pytest.raises(MediaLost, match="ended the stream"):
                async with asyncio.timeout(LIMIT_S):
                    await player.lost()
            assert "deleteStream" in [name for name, _ in ends.server.seen]

    go(main())


def test_what_does_not_speak_rtmp_is_a_broken_contract():
    """
    A web server on that port, say; nothing is left open.
    """

    async def main():
        async def answer(reader, writer):
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            await reader.read()
            writer.close()

        listener = await asyncio.start_server(answer, "127.0.0.1", 0)
        try:
            port = listener.sockets[0].getsockname()[1]
            target = target_of("url", f"rtmp://127.0.0.1:{port}/live/show")
            player = RtmpPlayer(target, take=print, provider="p", liveness=Liveness())
            with pytest.raises(ContractBroken, match="does not speak RTMP"):
                await player.open(asyncio.get_running_loop().time() + LIMIT_S)
            await player.aclose()
        finally:
            listener.close()

    go(main())


@given(st.lists(st.tuples(st.sampled_from(list(Type)), st.binary(max_size=40) | AMF), max_size=5))
def test_whatever_a_server_says_is_taken_or_breaks_the_contract(said):
    """
    Nothing else is raised, and nothing hangs: any type of message with any body.
    """

    async def main():
        async with serving() as server:
            target = target_of("url", f"rtmp://127.0.0.1:{server.port}/live/show")
            server.publishers["show"] = None
            player = RtmpPlayer(target, take=lambda _: None, provider="p", liveness=Liveness())
            clock = asyncio.get_running_loop().time
            try:
                await player.open(clock() + LIMIT_S)
                data = b"".join(cut(Message(type=kind, payload=body)) for kind, body in said)
                player._session.data_received(data)
                await asyncio.sleep(0)
                player._session.ping()
                async with asyncio.timeout(0.0):
                    await player.lost()
            except (ProviderError, TimeoutError):
                pass
            finally:
                await player.aclose()

    go(main())


@pytest.mark.parametrize("number", [math.nan, math.inf, -1.0, 0.0, 2.0**40, "1", None])
def test_a_stream_that_is_no_number_breaks_the_contract(number):
    """
    What createStream gives is used in every message.
    """

    async def main():
        async with at_stand_in() as ends:
            ends.server.created = number
            with pytest.raises(ContractBroken, match="createStream"):
                await ends.player()

    go(main())


def test_a_server_that_accepts_and_is_mute_is_not_reached():
    """
    Within the deadline; the message says where it stood.
    """

    async def main():
        async with at_stand_in() as ends:
            ends.server.shakes = False
            player = RtmpPlayer(ends.target(), take=print, provider="p", liveness=Liveness())
            with pytest.raises(Unreachable, match="handshake") as caught:
                await player.open(ends.clock() + 0.5)
            assert not caught.value.answered
            await player.aclose()
            await player.aclose()

    go(main())


def test_a_damaged_picture_costs_the_pictures_that_need_it():
    """
    The view goes on with the next keyframe.
    """

    async def main():
        async with at_stand_in(Kind.VIDEO) as ends:
            await ends.publisher(keyframe_s=0.5)
            player, frames, _ = await ends.player()
            await until(lambda: len(frames) > 5)
            damaged = Message(type=Type.VIDEO, payload=b"\x27\x01\0\0\0\0\0\xff\xffx", stream=1)
            ends.server.players["show"][0].send(damaged)
            await until(lambda: player.fault is not None)
            seen = len(frames)
            await until(lambda: len(frames) > seen)
            assert frames[seen].keyframe
            assert math.isfinite(frames[seen].timestamp)

    go(main())
