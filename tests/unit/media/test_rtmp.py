"""RTMP: its bytes, its frames, and whether a hang is noticed; no server but a stand-in."""

from __future__ import annotations

import asyncio
import io
import math

import av
import numpy as np
import pytest
from canned_media import pictures
from hypothesis import given
from hypothesis import strategies as st
from rtmp_server import serving, until
from rtmp_source import Source, sounds

from hitless.errors import (
    ConfigError,
    ContractBroken,
    LocalFault,
    MediaLost,
    ProviderError,
    Unreachable,
)
from hitless.media import amf
from hitless.media.aac import with_adts
from hitless.media.flv import NotFlv, TagReader, TagWriter
from hitless.media.frame import CLOCK_RATE, Codec, Kind
from hitless.media.liveness import Liveness
from hitless.media.rtmp import QUEUE_FRAMES, Evidence, RtmpPlayer, RtmpPublisher
from hitless.media.rtmp_chunks import MESSAGE_MAX, Joiner, Message, NotRtmp, Type, cut
from hitless.media.rtmp_play import _Times
from hitless.media.rtmp_target import target_of


LIMIT_S = 30.0
START = b"\x00\x00\x00\x01"
SPS, PPS, IDR, DELTA = (START + bytes([kind, 66, 192, 30, kind]) for kind in (0x67, 0x68, 5, 1))


def go(main):
    """Run a test against the clock, bounded."""

    async def bounded():
        async with asyncio.timeout(3 * LIMIT_S):
            await main

    asyncio.run(bounded())


# --- Commands ---

VALUES = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(min_size=1, max_size=8), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(st.lists(VALUES, max_size=4))
def test_what_is_said_in_amf_is_understood(values):
    """
    Whatever a command holds.
    """
    assert values == amf.decode(amf.encode(*values))


@given(st.binary(max_size=200))
def test_any_bytes_are_amf_or_are_refused(data):
    """
    A server cannot raise anything else in us.
    """
    try:
        amf.decode(data)
    except amf.NotAmf:
        pass


def test_endless_nesting_is_refused():
    """
    A server cannot exhaust our stack.
    """
    with pytest.raises(amf.NotAmf, match="deep"):
        amf.decode(b"\x0a\x00\x00\x00\x01" * 5000)


# --- Chunks ---


@given(
    st.lists(
        st.tuples(
            st.sampled_from([Type.AUDIO, Type.VIDEO, Type.COMMAND, Type.DATA]),
            st.binary(max_size=9000),
            st.integers(0, 2**32 - 1),
        ),
        max_size=4,
    ),
    st.integers(1, 5000),
)
def test_messages_come_out_as_they_went_in(messages, step):
    """
    However the network cuts them, with times beyond 24 bits as well.
    """
    sent = [
        Message(type=kind, payload=body, timestamp=at, stream=1) for kind, body, at in messages
    ]
    data = cut(Message(type=Type.SET_CHUNK_SIZE, payload=(4096).to_bytes(4)))
    data += b"".join(cut(message) for message in sent)
    joiner, found = Joiner(), []
    for at in range(0, len(data), step):
        found += joiner.feed(data[at : at + step])

    assert sent == found[1:]


def test_short_headers_repeat_what_came_before():
    """
    Formats 1 to 3, with times that add up, as servers write them.
    """
    first = bytes([0x04]) + (1000).to_bytes(3) + (2).to_bytes(3) + b"\x08\x01\x00\x00\x00ab"
    second = bytes([0x44]) + (20).to_bytes(3) + (1).to_bytes(3) + b"\x08c"
    third = bytes([0x84]) + (30).to_bytes(3) + b"d"
    fourth = bytes([0xC4]) + b"e"

    found = Joiner().feed(first + second + third + fourth)

    assert [b"ab", b"c", b"d", b"e"] == [message.payload for message in found]
    assert [1000, 1020, 1050, 1080] == [message.timestamp for message in found]
    assert {(8, 1)} == {(message.type, message.stream) for message in found}


def test_an_aborted_message_is_forgotten():
    """
    Abort (section 5.4.2) drops what came of it, and the next one is whole.
    """
    begun = bytes([0x04]) + bytes(3) + (200).to_bytes(3) + b"\x08\x01\x00\x00\x00" + bytes(128)
    abort = bytes([0x02]) + bytes(3) + (4).to_bytes(3) + b"\x02" + bytes(4) + (4).to_bytes(4)
    whole = bytes([0x04]) + bytes(3) + (1).to_bytes(3) + b"\x08\x01\x00\x00\x00x"

    found = Joiner().feed(begun + abort + whole)

    assert [b"x"] == [message.payload for message in found if message.type == Type.AUDIO]


@pytest.mark.parametrize(
    "data",
    [
        bytes([0xC4]) + b"abc",
        bytes([0x04]) + bytes(3) + (MESSAGE_MAX + 1).to_bytes(3) + b"\x08" + bytes(4),
        bytes([0x02]) + bytes(3) + (4).to_bytes(3) + b"\x01" + bytes(8),
    ],
    ids=["no beginning", "too large", "chunks of nothing"],
)
def test_what_breaks_the_rules_is_refused(data):
    """
    At once, before memory is spent on it.
    """
    with pytest.raises(NotRtmp):
        Joiner().feed(data)


@given(st.binary(max_size=400))
def test_any_bytes_are_chunks_or_are_refused(data):
    """
    A server cannot raise anything else in us.
    """
    try:
        Joiner().feed(data)
    except NotRtmp:
        pass


# --- Frames ---


def through(writer, reader, data, *, keyframe):
    """Carry one picture as a server does."""
    found = [reader.video(body) for body in writer.video(data, keyframe=keyframe)]
    return [body for body in found if body is not None]


def test_pictures_come_back_byte_for_byte():
    """
    So a self-view and a merge know them again.
    """
    writer, reader = TagWriter(), TagReader()
    for number, data in enumerate(pictures(Codec.H264)):
        (body,) = through(writer, reader, data, keyframe=number == 0)
        assert data == body.data
        assert (number == 0) is body.keyframe


@given(st.binary(min_size=1, max_size=1500))
def test_sound_comes_back_byte_for_byte(raw):
    """
    The header that RTMP leaves out is made again.
    """
    writer, reader = TagWriter(), TagReader()
    header, frame = map(reader.audio, writer.audio(with_adts(raw)))

    assert header is None
    assert with_adts(raw) == frame.data
    assert 1024 == frame.ticks


def test_a_picture_waits_for_what_its_decoder_needs():
    """
    Nothing is sent before a keyframe told the parameters, and they are told once.
    """
    writer = TagWriter()

    assert [] == writer.video(DELTA, keyframe=False)
    assert [0, 1] == [body[1] for body in writer.video(SPS + PPS + IDR, keyframe=True)]
    assert [1] == [body[1] for body in writer.video(SPS + PPS + IDR, keyframe=True)]
    assert [0, 1] == [body[1] for body in writer.video(SPS + PPS + b"\0" + IDR, keyframe=True)][:2]


def test_keyframes_of_others_are_given_their_parameters():
    """
    Other publishers tell them in the header only; after a delimiter, before the picture.
    """
    writer, reader = TagWriter(), TagReader()
    header, _ = writer.video(SPS + PPS + IDR, keyframe=True)
    reader.video(header)
    delimiter = START + b"\x09\xf0"
    units = [unit for unit in (delimiter[4:], IDR[4:])]
    body = b"\x17\x01\0\0\0" + b"".join(len(unit).to_bytes(4) + unit for unit in units)

    assert delimiter + SPS + PPS + IDR == reader.video(body).data


@given(st.binary(max_size=64), st.booleans())
def test_any_tag_is_read_or_refused(data, video):
    """
    A damaged tag costs itself, not the leg.
    """
    reader = TagReader()
    for body in (data, b"\x17\x00\0\0\0" + data, b"\x17\x01\0\0\0" + data, b"\xaf\x00" + data):
        try:
            (reader.video if video else reader.audio)(body)
        except NotFlv:
            pass


def test_other_codecs_are_refused_by_name():
    """
    HEVC by the enhanced header, VP6, and MP3.
    """
    for body in (b"\x90hvc1\0", b"\x14\x01\0\0\0\0"):
        with pytest.raises(NotFlv, match=r"no H\.264"):
            TagReader().video(body)
    with pytest.raises(NotFlv, match="no AAC"):
        TagReader().audio(b"\x2f\x01\0")


def flv_file(tags):
    """Return a file of tags: (type, time [ms], body)."""
    data = b"FLV\x01\x05\x00\x00\x00\x09\x00\x00\x00\x00"
    for kind, at, body in tags:
        head = bytes([kind]) + len(body).to_bytes(3) + at.to_bytes(3) + bytes(4)
        data += head + body + (11 + len(body)).to_bytes(4)
    return data


def test_ffmpeg_decodes_what_we_write():
    """
    Another reader than ours: every picture and every sound.
    """
    writer, tags = TagWriter(), []
    for number, data in enumerate(pictures(Codec.H264, 30)):
        bodies = writer.video(data, keyframe=number == 0)
        tags += [(Type.VIDEO, number * 33, body) for body in bodies]
    for number, data in enumerate(sounds(40)):
        tags += [(Type.AUDIO, number * 21, body) for body in writer.audio(data)]
    tags.sort(key=lambda tag: tag[1])

    with av.open(io.BytesIO(flv_file(tags)), format="flv") as film:
        frames = list(film.decode())

    assert 30 == sum(isinstance(frame, av.VideoFrame) for frame in frames)
    assert 40 == sum(isinstance(frame, av.AudioFrame) for frame in frames)


def test_we_read_what_ffmpeg_writes():
    """
    Another writer than ours: FFmpeg's muxer, fed with the same frames.
    """
    film = io.BytesIO()
    with av.open(film, "w", format="flv") as out:
        video = out.add_stream("libx264", rate=30, options={"tune": "zerolatency"})
        video.width, video.height, video.pix_fmt = 320, 180, "yuv420p"
        for number in range(30):
            shade = np.full((180, 320, 3), number * 7 % 256, np.uint8)
            out.mux(video.encode(av.VideoFrame.from_ndarray(shade, format="rgb24")))
        out.mux(video.encode())
    data, at, reader, decoder = (
        film.getvalue(),
        13,
        TagReader(),
        av.CodecContext.create("h264", "r"),
    )
    shown = keyframes = 0
    while at + 11 < len(data):
        size = int.from_bytes(data[at + 1 : at + 4])
        body = reader.video(data[at + 11 : at + 11 + size]) if data[at] == Type.VIDEO else None
        if body is not None:
            keyframes += body.keyframe
            shown += len(decoder.decode(av.Packet(body.data)))
        at += 15 + size

    assert 30 == shown + len(decoder.decode(None))
    assert keyframes >= 1


# --- Times ---


def test_times_go_on_when_milliseconds_wrap():
    """
    After 49.7 days on air.
    """
    times = _Times(Kind.VIDEO)
    found = [times.ticks(ms % 2**32, 0, 0.0) for ms in (2**32 - 40, 2**32, 2**32 + 40)]

    assert [3600, 3600] == np.diff(found).tolist()


def test_sound_is_put_back_on_its_grid():
    """
    Milliseconds cannot tell 21.33 ms; a hole is kept.
    """
    times = _Times(Kind.AUDIO)
    exact = [number * 1024 for number in range(100) if number != 50]
    found = [times.ticks(round(at / 48), 1024, at / 48_000) for at in exact]

    assert np.abs(np.diff(found) - np.diff(exact)).max() <= 48
    assert {1024} == set(np.diff(found)[:49].tolist()) == set(np.diff(found)[51:].tolist())


def test_times_grow_when_another_publisher_begins_anew():
    """
    Its clock starts at zero; ours goes on by the time that passed.
    """
    times = _Times(Kind.VIDEO)
    found = [times.ticks(ms, 0, now) for ms, now in ((50_000, 1.0), (50_033, 1.033), (0, 2.033))]

    assert 90_000 == pytest.approx(found[2] - found[1], abs=90)
    assert found == sorted(set(found))


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
