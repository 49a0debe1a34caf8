"""RTMP: its frames, byte for byte, and their times."""

from __future__ import annotations

import io

import av
import numpy as np
import pytest
from canned_media import pictures
from hypothesis import given
from hypothesis import strategies as st
from rtmp_source import sounds
from unit.media.rtmp_bytes import DELTA, IDR, PPS, SPS, START

from hitless.media.aac import with_adts
from hitless.media.flv import NotFlv, TagReader, TagWriter
from hitless.media.frame import Codec, Kind
from hitless.media.rtmp_chunks import Type
from hitless.media.rtmp_play import _Times


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
