"""Where a viewer's media goes: the meter and the file."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from hitless.errors import ConfigError, LocalFault
from hitless.media.aac import AacEncoder
from hitless.media.decoder import Decoder, Picture, Sound
from hitless.media.encoder import PictureEncoder, SoundEncoder, black
from hitless.media.frame import Codec, EncodedFrame, Kind
from hitless.media.pattern import SLOT, TestPicture, TestSound, read_number
from hitless.media.quality import Quality
from hitless.media.sink import FileSink, Meter, Sink, luma
from hitless.media.source import open_feed


SMALL = Quality(width=320, height=180, bitrate_bps=300_000)


def run(test: Callable[[], Coroutine[None, None, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 30))


def stream(*, codec: Codec = Codec.VP8, pictures: int = 30, slots: int = 50) -> list[EncodedFrame]:
    """Encode one second of both kinds, in the order in which it would arrive."""
    encoder, artist = PictureEncoder(codec, SMALL), TestPicture(320, 180)
    frames: list[EncodedFrame | None] = []
    for number in range(pictures):
        picture = av.VideoFrame.from_ndarray(artist.draw(number), format="yuv420p")
        frames.append(
            encoder.encode(picture, number * 3_000, keyframe=number == 15, now=number / 30)
        )
    voice, sound = SoundEncoder(random.Random(1)), TestSound(2)
    frames += [voice.encode(sound.slot(slot), slot * 960, now=slot / 50) for slot in range(slots)]
    return sorted((one for one in frames if one is not None), key=lambda one: one.arrived_s)


async def write(path: Path, frames: list[EncodedFrame]) -> FileSink:
    sink = FileSink(path)
    for frame in frames:
        sink.take(frame)
    await sink.aclose()
    return sink


def read(path: Path) -> tuple[list[int | None], int, list[float], list[float]]:
    """Return the numbers of the pictures, the samples of sound, and the times of both [s]."""
    numbers, samples, seen_s, heard_s = [], 0, [], []
    with av.open(str(path)) as container:
        for frame in container.decode():
            if isinstance(frame, av.VideoFrame):
                numbers.append(read_number(luma(frame)))
                seen_s.append(float(frame.time or 0))
            elif isinstance(frame, av.AudioFrame):
                samples += frame.samples
                heard_s.append(float(frame.time or 0))
    return numbers, samples, seen_s, heard_s


def test_a_meter_reads_every_picture_and_every_slot_of_a_feed() -> None:
    """End to end through the codecs: nothing misread, nothing lost, sound and picture together."""

    async def test() -> None:
        feed = await open_feed("test-picture", quality=SMALL)
        meter, loop = Meter(), asyncio.get_running_loop()
        decoder = Decoder(meter.picture, meter.sound)
        feed.attach(decoder.decode)
        began_s = loop.time()
        await asyncio.sleep(1.5)
        await feed.aclose()
        await decoder.aclose()
        numbers = [shown.number for shown in meter.pictures]
        slots = [shown.number for shown in meter.sounds]
        assert numbers == list(range(len(numbers)))
        assert slots == list(range(len(slots)))
        assert len(numbers) > 40
        assert len(slots) > 68
        reading = meter.reading()
        assert (reading.number, reading.slot) == (numbers[-1], slots[-1])
        assert (reading.unreadable_pictures, reading.unreadable_sounds) == (0, 0)
        report = meter.report(began_s + 0.2, began_s + 1.3)
        assert (report.frames_lost, report.audio_slots_lost) == (0, 0)
        assert report.av_skew_s_max is not None
        assert abs(report.av_skew_s_max) < 0.1

    run(test)


def test_a_meter_forgets_what_is_old() -> None:
    """Its record is bounded in time, and its counts go on."""
    meter, artist = Meter(record_s=10.0), TestPicture(320, 180)
    for number in range(100):
        frame = av.VideoFrame.from_ndarray(artist.draw(number), format="yuv420p")
        meter.picture(Picture(timestamp=0, at_s=number / 5, frame=frame))
    assert [shown.number for shown in meter.pictures] == list(range(49, 100))
    assert meter.reading().pictures == 100


def test_a_meter_counts_what_it_cannot_read() -> None:
    """Black is a picture without a number, not a lost one."""
    meter = Meter()
    meter.picture(Picture(timestamp=0, at_s=0.0, frame=black(SMALL)))
    reading = meter.reading()
    assert (reading.pictures, reading.unreadable_pictures, reading.number) == (1, 1, None)


@pytest.mark.parametrize(
    ("codec", "ending"),
    [(Codec.VP8, "webm"), (Codec.VP8, "mkv"), (Codec.H264, "mkv"), (Codec.H264, "mp4")],
)
def test_a_file_holds_every_frame_as_it_came(tmp_path: Path, codec: Codec, ending: str) -> None:
    """Numbers, sound and times are what was sent; nothing was encoded again."""

    async def test() -> None:
        path = tmp_path / f"watched.{ending}"
        sink = await write(path, stream(codec=codec))
        assert sink.fault is None
        numbers, samples, seen_s, heard_s = read(path)
        assert numbers == list(range(30))
        assert samples == pytest.approx(50 * 960, abs=960)
        assert seen_s == pytest.approx([number / 30 for number in range(30)], abs=0.002)
        assert heard_s == sorted(set(heard_s))

    run(test)


@pytest.mark.parametrize("ending", ["mkv", "mp4"])
def test_a_file_holds_aac_as_it_came(tmp_path: Path, ending: str) -> None:
    """What an RTMP leg brings can be recorded too: H.264 and AAC."""

    async def test() -> None:
        path = tmp_path / f"watched.{ending}"
        voice, sound = AacEncoder(random.Random(1)), TestSound(2)
        frames = stream(codec=Codec.H264, slots=0)
        for slot in range(50):
            frames += voice.encode(sound.slot(slot), slot * SLOT, now=slot / 50)
        sink = await write(path, sorted(frames, key=lambda one: one.arrived_s))
        assert (sink.fault, sink.dropped) == (None, 0)
        numbers, samples, _, heard_s = read(path)
        assert numbers == list(range(30))
        assert samples == 1024 * sum(one.codec is Codec.AAC for one in frames)
        assert heard_s == sorted(set(heard_s))

    run(test)


@pytest.mark.parametrize("cut", range(0, SLOT, 120))
def test_a_meter_reads_aac_wherever_it_is_cut(cut: int) -> None:
    """A viewer's slots of AAC begin anywhere in those of the test sound; one may be lost first."""
    meter, sound = Meter(), TestSound(2)
    whole = np.concatenate([sound.slot(slot) for slot in range(300)])[cut:]
    for place in range(290):
        samples = np.ascontiguousarray(whole[place * SLOT : (place + 1) * SLOT])
        frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="s16", layout="stereo")
        at_s = place / 50
        meter.sound(Sound(timestamp=place * SLOT, at_s=at_s, frame=frame, codec=Codec.AAC))
    slots = [shown.number for shown in meter.sounds]
    assert slots == list(range(slots[0], slots[0] + len(slots)))
    assert len(slots) >= 289
    assert slots[0] in (0, 1)


def test_a_file_begins_with_a_keyframe(tmp_path: Path) -> None:
    """A recording that starts in mid-stream holds nothing that cannot be shown."""

    async def test() -> None:
        path = tmp_path / "watched.mkv"
        await write(path, [one for one in stream() if one.arrived_s > 0.2])
        numbers, _, _, _ = read(path)
        assert numbers == list(range(15, 30))

    run(test)


@pytest.mark.parametrize("kind", list(Kind))
def test_a_file_may_hold_one_kind_alone(tmp_path: Path, kind: Kind) -> None:
    """The header does not wait for ever for the other one."""

    async def test() -> None:
        path = tmp_path / "watched.webm"
        await write(path, [one for one in stream() if one.kind is kind])
        numbers, samples, _, _ = read(path)
        assert (len(numbers) == 30) is (kind is Kind.VIDEO)
        assert (samples > 0) is (kind is Kind.AUDIO)

    run(test)


def test_time_in_a_file_only_grows_when_a_leg_is_replaced(tmp_path: Path) -> None:
    """Another leg's timestamps have another origin; the hole between them is kept."""

    async def test() -> None:
        path = tmp_path / "watched.webm"
        first = stream()
        second = [
            replace(one, timestamp=one.timestamp + 10_000_000, arrived_s=one.arrived_s + 1.5)
            for one in stream()
        ]
        late = [replace(one, timestamp=0, arrived_s=one.arrived_s + 3.0) for one in stream()]
        sink = await write(path, first + second + late[:10])
        assert sink.fault is None
        _, _, seen_s, heard_s = read(path)
        assert seen_s == sorted(set(seen_s))
        assert heard_s == sorted(heard_s)
        assert seen_s[30] == pytest.approx(1.5, abs=0.05)

    run(test)


def test_frames_of_a_codec_that_the_file_does_not_hold_are_counted(tmp_path: Path) -> None:
    """A file's codecs are those of its first frames."""

    async def test() -> None:
        path = tmp_path / "watched.mkv"
        sink = await write(path, stream() + stream(codec=Codec.H264, slots=0))
        assert sink.fault is None
        assert sink.dropped == 30
        assert read(path)[0] == list(range(30))

    run(test)


@pytest.mark.parametrize("name", ["watched", "watched.avi", "watched.txt"])
def test_an_ending_that_is_not_known_is_refused(tmp_path: Path, name: str) -> None:
    """With the list of those that are; nothing is written."""
    with pytest.raises(ConfigError, match=r"\.webm, \.mkv or \.mp4"):
        FileSink(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_file_that_cannot_be_written_is_a_local_fault(tmp_path: Path) -> None:
    """No such directory, or it is one; said at once, not at the first frame."""
    (tmp_path / "folder.mkv").mkdir()
    for path in (tmp_path / "none" / "watched.mkv", tmp_path / "folder.mkv"):
        with pytest.raises(LocalFault, match="cannot write"):
            FileSink(path)


def test_a_file_that_exists_is_not_overwritten_unless_asked(tmp_path: Path) -> None:
    """Yesterday's recording is not lost by a repeated command."""

    async def test() -> None:
        path = tmp_path / "watched.mkv"
        path.write_bytes(b"yesterday")
        with pytest.raises(LocalFault, match="it exists"):
            FileSink(path)
        assert path.read_bytes() == b"yesterday"
        await FileSink(path, overwrite=True).aclose()
        assert path.read_bytes() == b""

    run(test)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has /dev/full")
def test_a_full_disk_is_a_local_fault(tmp_path: Path) -> None:
    """Raised to the one who gives the next frame, and kept on the sink."""

    async def test() -> None:
        path = tmp_path / "watched.mkv"
        path.symlink_to("/dev/full")
        sink = FileSink(path, overwrite=True)
        for frame in stream():
            sink.take(frame)
        await sink.aclose()
        assert "No space left" in str(sink.fault)
        with pytest.raises(LocalFault, match="No space left"):
            sink.take(stream(pictures=1, slots=0)[0])

    run(test)


def test_webm_cannot_hold_h264(tmp_path: Path) -> None:
    """Said when the first frames show it, with what can."""

    async def test() -> None:
        sink = await write(tmp_path / "watched.webm", stream(codec=Codec.H264))
        assert isinstance(sink.fault, LocalFault)
        assert "use .mkv" in str(sink.fault)

    run(test)


def test_both_are_sinks(tmp_path: Path) -> None:
    """A meter wants decoded media, a file does not."""

    async def test() -> None:
        sinks: list[Sink] = [Meter(), FileSink(tmp_path / "watched.webm")]
        assert [sink.wants_decoded for sink in sinks] == [True, False]
        for sink in sinks:
            await sink.aclose()
            await sink.aclose()

    run(test)
