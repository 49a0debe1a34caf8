"""Sources: files, cameras, the caller's frames, and what is said when they cannot be used."""

from __future__ import annotations

import asyncio
import os
import traceback
from collections.abc import AsyncIterator, Callable, Coroutine
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from hitless.errors import ConfigError, LocalFault
from hitless.media import caller, recorded
from hitless.media.decoder import Decoder
from hitless.media.feed import Feed
from hitless.media.frame import Codec, EncodedFrame, Kind
from hitless.media.pattern import TestPicture, TestSound
from hitless.media.quality import Quality
from hitless.media.sink import Meter, luma
from hitless.media.source import open_feed


SMALL = Quality(width=320, height=180, bitrate_bps=400_000)


def run(test: Callable[[], Coroutine[None, None, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 20))


def film(
    path: Path,
    *,
    pictures: int = 30,
    slots: int = 50,
    size: tuple[int, int] = (320, 180),
    rate: int = 30,
) -> Path:
    """Write a file of the test picture and the test sound."""
    with av.open(str(path), "w") as container:
        # Both are added before anything is written: FFmpeg aborts on a stream that comes late.
        if pictures:
            video = container.add_stream("mpeg4", rate=rate)
            video.width, video.height, video.pix_fmt = *size, "yuv420p"
            video.bit_rate = 2_000_000
        if slots:
            audio = container.add_stream("pcm_s16le", rate=48_000)
            audio.layout = "mono"
        artist, sound = TestPicture(*size), TestSound(1)
        for number in range(pictures):
            picture = av.VideoFrame.from_ndarray(artist.draw(number), format="yuv420p")
            picture.pts, picture.time_base = number, Fraction(1, rate)
            container.mux(video.encode(picture))
        for slot in range(slots):
            piece = av.AudioFrame.from_ndarray(
                sound.slot(slot).reshape(1, -1), format="s16", layout="mono"
            )
            piece.sample_rate, piece.pts = 48_000, slot * 960
            container.mux(audio.encode(piece))
        if pictures:
            container.mux(video.encode(None))
    return path


async def watch(feed: Feed, seconds: float = 10.0) -> tuple[Meter, list[EncodedFrame]]:
    """Decode a feed until it ends, or for a while, and close it."""
    meter, frames = Meter(), []
    decoder = Decoder(meter.picture, meter.sound)

    def take(frame: EncodedFrame) -> None:
        frames.append(frame)
        decoder.decode(frame)

    feed.attach(take)
    try:
        await asyncio.wait_for(feed.ended(), seconds)
    except TimeoutError:
        pass
    await asyncio.sleep(0.1)
    await feed.aclose()
    await decoder.aclose()
    return meter, frames


def stamps(frames: list[EncodedFrame], kind: Kind) -> list[int]:
    return [frame.timestamp for frame in frames if frame.kind is kind]


def test_a_file_is_played_whole_and_in_time(tmp_path: Path) -> None:
    """Each picture once, each slot of sound once, as fast as it was filmed; then it ends."""

    async def test() -> None:
        loop = asyncio.get_running_loop()
        feed = await open_feed(film(tmp_path / "film.mkv"), quality=SMALL)
        assert feed.kinds == {Kind.VIDEO, Kind.AUDIO}
        began_s = loop.time()
        meter, _ = await watch(feed)
        assert [shown.number for shown in meter.pictures] == list(range(30))
        assert [shown.number for shown in meter.sounds] == list(range(50))
        assert 0.9 < loop.time() - began_s < 1.5
        skew_s = meter.report(began_s, began_s + 1.0).av_skew_s_max
        assert skew_s is not None
        assert abs(skew_s) < 0.05

    run(test)


def test_a_file_repeats_without_a_seam(tmp_path: Path) -> None:
    """Timestamps go on growing at the same pace from lap to lap."""

    async def test() -> None:
        path = film(tmp_path / "film.mkv", pictures=12, slots=20)
        feed = await open_feed(path, quality=SMALL, repeat=True)
        meter, frames = await watch(feed, 1.5)
        video, audio = stamps(frames, Kind.VIDEO), stamps(frames, Kind.AUDIO)
        assert [shown.number for shown in meter.pictures][:30] == [
            *range(12),
            *range(12),
            *range(6),
        ]
        for times, step in ((video, 3_000), (audio, 960)):
            steps = [later - earlier for earlier, later in pairwise(times)]
            assert min(steps) > 0.5 * step
            assert max(steps) < 1.5 * step

    run(test)


@pytest.mark.parametrize(("pictures", "slots"), [(45, 20), (15, 70)])
def test_the_shorter_kind_is_filled_up(tmp_path: Path, pictures: int, slots: int) -> None:
    """Silence, or the last picture, until the other ends: it must not look like a loss."""

    async def test() -> None:
        path = film(tmp_path / "film.mkv", pictures=pictures, slots=slots)
        _, frames = await watch(await open_feed(path, quality=SMALL))
        length_s = max(pictures / 30, slots / 50)
        assert len(stamps(frames, Kind.VIDEO)) == pytest.approx(length_s * 30, abs=2)
        assert len(stamps(frames, Kind.AUDIO)) == pytest.approx(length_s * 50, abs=2)

    run(test)


@pytest.mark.parametrize(("pictures", "slots", "kind"), [(15, 0, Kind.VIDEO), (0, 25, Kind.AUDIO)])
def test_a_feed_has_the_kinds_that_its_file_has(
    tmp_path: Path, pictures: int, slots: int, kind: Kind
) -> None:
    """No silence is made up for a film without sound."""

    async def test() -> None:
        path = film(tmp_path / "film.mkv", pictures=pictures, slots=slots)
        feed = await open_feed(path, quality=SMALL)
        assert feed.kinds == {kind}
        _, frames = await watch(feed)
        assert {frame.kind for frame in frames} == {kind}

    run(test)


def test_a_fast_film_is_sent_at_the_rate_that_was_asked(tmp_path: Path) -> None:
    """Of 60 pictures a second every other one is sent."""

    async def test() -> None:
        path = film(tmp_path / "film.mkv", pictures=60, slots=0, rate=60)
        meter, _ = await watch(await open_feed(path, quality=SMALL))
        assert len(meter.pictures) == pytest.approx(30, abs=2)

    run(test)


def test_a_picture_of_another_shape_gets_black_bars(tmp_path: Path) -> None:
    """4:3 in 16:9 keeps its aspect: black at both sides, the picture in between."""

    async def test() -> None:
        path = film(tmp_path / "film.mkv", pictures=6, slots=0, size=(640, 480))
        feed = await open_feed(path, quality=SMALL)
        shown: list[np.ndarray] = []
        decoder = Decoder(lambda picture: shown.append(luma(picture.frame).copy()), None)
        feed.attach(decoder.decode)
        await feed.ended()
        await asyncio.sleep(0.1)
        await feed.aclose()
        await decoder.aclose()
        last = shown[-1].astype(int)
        assert last.shape == (180, 320)
        assert last[:, :36].max() < 40
        assert last[:, -36:].max() < 40
        assert last[100:140, 60:260].mean() > 50

    run(test)


def _refusals(folder: Path) -> list[tuple[str, str]]:
    (folder / "notes.txt").write_text("not a film at all\n" * 100)
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "noise.mkv").write_bytes(np.random.default_rng(1).bytes(50_000))
    os.mkfifo(folder / "pipe.mkv")
    return [
        ("missing.mp4", "there is no such file"),
        (".", "is a directory"),
        ("notes.txt", "no video"),
        ("empty.mp4", "no video"),
        ("noise.mkv", "no video"),
        ("pipe.mkv", "not a regular file"),
    ]


def test_what_cannot_be_played_is_said_in_one_sentence(tmp_path: Path) -> None:
    """What, why and what to try; nothing is left running (see the fixture)."""

    async def test() -> None:
        for name, why in _refusals(tmp_path):
            with pytest.raises(LocalFault, match=why) as refused:
                await open_feed(str(tmp_path / name))
            assert str(tmp_path) in str(refused.value)
            assert "\n" not in str(refused.value)

    run(test)


@pytest.mark.parametrize(
    "source", ["https://ann:geheim@cam.example.com/live?sig=geheim", "rtmp://a.b/app/geheim"]
)
def test_an_address_is_refused_and_not_shown_with_what_opens_it(source: str) -> None:
    """Neither in the sentence nor in what it was raised from."""
    with pytest.raises(LocalFault, match="an address, not a file") as refused:
        asyncio.run(open_feed(source))

    told = traceback.format_exception(type(refused.value), refused.value, None)
    assert "geheim" not in "".join(told)


def test_a_file_that_may_not_be_read_is_a_local_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reason is the system's own."""
    path = film(tmp_path / "film.mkv", pictures=3, slots=0)

    def refuse(*_: object) -> None:  # root may read everything, so `chmod` would not do
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(LocalFault, match="Permission denied"):
        asyncio.run(open_feed(path))


def test_a_camera_that_is_not_there_is_a_local_fault() -> None:
    """Named, with what to do."""
    with pytest.raises(LocalFault, match=r"camera /dev/video97.*plug"):
        asyncio.run(open_feed("/dev/video97"))


def _pretend_camera(monkeypatch: pytest.MonkeyPatch, length_s: float) -> None:
    """Put FFmpeg's test source where the camera's driver would be."""
    picture = f"testsrc=size=320x180:rate=30:duration={length_s}"
    monkeypatch.setattr(
        recorded, "_open_camera", lambda device, quality: av.open(picture, "r", format="lavfi")
    )


def test_a_camera_gives_pictures_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only video, at the camera's own pace."""

    async def test() -> None:
        _pretend_camera(monkeypatch, 60)
        feed = await open_feed("/dev/video0", quality=SMALL)
        assert feed.kinds == {Kind.VIDEO}
        _, frames = await watch(feed, 1.0)
        times = stamps(frames, Kind.VIDEO)
        assert times == sorted(set(times))
        assert 20 <= len(times) <= 36

    run(test)


def test_a_camera_that_vanishes_ends_the_feed_with_a_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A camera has no end: what looks like one is a loss."""

    async def test() -> None:
        _pretend_camera(monkeypatch, 0.3)
        feed = await open_feed("/dev/video0", quality=SMALL)
        with pytest.raises(LocalFault, match="no more pictures"):
            await feed.ended()
        await feed.aclose()

    run(test)


def test_a_film_cut_short_is_played_as_far_as_it_goes(tmp_path: Path) -> None:
    """A damaged end is an end, not a crash."""

    async def test() -> None:
        path = film(tmp_path / "film.mkv")
        data = path.read_bytes()
        path.write_bytes(data[: len(data) * 2 // 3])
        meter, _ = await watch(await open_feed(path, quality=SMALL))
        assert 10 < len(meter.pictures) < 30

    run(test)


def test_a_file_that_vanishes_between_laps_ends_the_feed_with_a_fault(tmp_path: Path) -> None:
    """A source that fails later says so to whoever waits for the end."""

    async def test() -> None:
        path = film(tmp_path / "film.mkv", pictures=10, slots=0)
        feed = await open_feed(path, quality=SMALL, repeat=True)
        path.unlink()
        with pytest.raises(LocalFault, match="no such file"):
            await feed.ended()
        await feed.aclose()

    run(test)


@pytest.mark.parametrize("source", [3, None, b"film.mp4", object()])
def test_a_source_of_no_known_kind_is_refused(source: object) -> None:
    """The message lists what can be given."""
    with pytest.raises(ConfigError, match="test-picture"):
        asyncio.run(open_feed(source))  # type: ignore[arg-type]


async def _arrays(count: int) -> AsyncIterator[np.ndarray]:
    picture = np.zeros((180, 320, 3), np.uint8)
    for number in range(count):
        yuv = av.VideoFrame.from_ndarray(TestPicture(320, 180).draw(number), format="yuv420p")
        picture[:] = yuv.to_ndarray(format="bgr24")
        yield picture


def test_arrays_are_sent_at_the_frame_rate_even_if_they_come_at_once() -> None:
    """A maker that never waits is made to wait; no picture is lost, and the array is copied."""

    async def test() -> None:
        loop = asyncio.get_running_loop()
        feed = await open_feed(_arrays(30), quality=SMALL)
        assert feed.kinds == {Kind.VIDEO}
        began_s = loop.time()
        meter, _ = await watch(feed)
        numbers = [shown.number for shown in meter.pictures]
        assert numbers == sorted(set(numbers))
        assert numbers[-1] == 29
        assert len(numbers) >= 0.9 * (30 - numbers[0])
        assert loop.time() - began_s > 0.8 * len(numbers) / 30

    run(test)


async def _both() -> AsyncIterator[av.VideoFrame | av.AudioFrame]:
    sound, artist = TestSound(1), TestPicture(320, 180)
    for slot in range(45):
        await asyncio.sleep(0)
        piece = av.AudioFrame.from_ndarray(
            sound.slot(slot).reshape(1, -1), format="s16", layout="mono"
        )
        piece.sample_rate, piece.pts, piece.time_base = 48_000, slot * 960, Fraction(1, 48_000)
        yield piece
        if slot % 2 == 0:
            picture = av.VideoFrame.from_ndarray(artist.draw(slot // 2), format="yuv420p")
            picture.pts, picture.time_base = slot * 960, Fraction(1, 48_000)
            yield picture


def test_the_callers_pictures_and_sounds_keep_their_own_time() -> None:
    """Timestamps place them, though all of them come at once."""

    async def test() -> None:
        feed = await open_feed(_both(), quality=SMALL)
        assert feed.kinds == {Kind.VIDEO, Kind.AUDIO}
        meter, frames = await watch(feed)
        assert [shown.number for shown in meter.pictures] == list(range(23))
        assert [shown.number for shown in meter.sounds] == list(range(45))
        audio = stamps(frames, Kind.AUDIO)
        assert audio == [audio[0] + slot * 960 for slot in range(45)]

    run(test)


async def _broken(fault: object) -> AsyncIterator[object]:
    yield np.zeros((90, 160, 3), np.uint8)
    await asyncio.sleep(0.7)
    if isinstance(fault, Exception):
        raise fault
    yield fault
    await asyncio.sleep(5)


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (KeyError("lens"), "KeyError"),
        ("a string", "hold str"),
        (np.zeros((9, 9)), "float64"),
        (None, "NoneType"),
    ],
)
def test_frames_that_go_wrong_end_the_feed_with_a_fault(fault: object, says: str) -> None:
    """The caller's own exception is named; so is what is no frame."""

    async def test() -> None:
        feed = await open_feed(_broken(fault), quality=SMALL)  # type: ignore[arg-type]
        with pytest.raises(LocalFault, match=says):
            await feed.ended()
        await feed.aclose()

    run(test)


def test_frames_that_never_begin_are_not_waited_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The wait has a limit, and the iterator is closed."""
    monkeypatch.setattr(caller, "FIRST_FRAME_S_MAX", 0.2)
    closed = []

    async def never() -> AsyncIterator[av.VideoFrame]:
        try:
            await asyncio.sleep(60)
            yield av.VideoFrame(160, 90)
        finally:
            closed.append(True)

    with pytest.raises(LocalFault, match="did not begin"):
        asyncio.run(open_feed(never()))
    assert closed


def test_frames_cannot_repeat() -> None:
    """An iterator has no beginning to go back to."""
    with pytest.raises(ConfigError, match="repeat"):
        asyncio.run(open_feed(_arrays(1), repeat=True))


def test_opus_is_no_video_codec() -> None:
    """Refused before anything opens."""
    with pytest.raises(ConfigError, match="video_codec"):
        asyncio.run(open_feed("test-picture", video_codec=Codec.OPUS))


def test_a_muted_caller_that_gives_no_frames_still_sends_black() -> None:
    """A camera switched off while muted must not look like a loss."""

    async def test() -> None:
        stop = asyncio.Event()

        async def switched_off() -> AsyncIterator[np.ndarray]:
            yield np.full((90, 160, 3), 200, np.uint8)
            await stop.wait()

        feed = await open_feed(switched_off(), quality=SMALL)
        frames: list[EncodedFrame] = []
        feed.attach(frames.append)
        await asyncio.sleep(0.3)
        before = len(frames)
        feed.mute(Kind.VIDEO, True)
        await asyncio.sleep(0.7)
        stop.set()
        await feed.aclose()
        assert len(frames) - before >= 4

    run(test)
