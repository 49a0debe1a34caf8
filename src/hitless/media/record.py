"""A viewer's media into a file: the encoded frames as they came, never transcoded."""

from __future__ import annotations

import io
from collections import deque
from fractions import Fraction
from pathlib import Path
from typing import Final, assert_never

import av
from av.container import OutputContainer
from av.stream import Stream

from ..errors import ConfigError, LocalFault
from .decoder import Picture, Sound
from .frame import CLOCK_RATE, Codec, EncodedFrame, Kind
from .pattern import SAMPLE_RATE
from .worker import Box, Worker


_CAN_HOLD: Final = {
    ".webm": frozenset({Codec.VP8, Codec.OPUS}),
    ".mkv": frozenset(Codec),
    ".mp4": frozenset({Codec.H264, Codec.OPUS, Codec.AAC}),
}

_WAITING_MAX: Final = 1024
"""Frames that wait for the disk: 12 s of 30 pictures and 50 packets a second."""

_HEAD_S: Final = 1.0
"""How long the other kind is waited for: a file's header names all that is in it."""

_KEYFRAME_S: Final = 11.0
"""How long the first keyframe is waited for, once there are pictures."""

_JUMP_S: Final = 1.0
"""Timestamps that leave the clock by more than this begin anew (another leg's do)."""


class FileSink:
    """
    Writes a file: VP8 and Opus into .webm or .mkv, H.264 and Opus or AAC into .mkv or .mp4.

    The first frames decide what the file holds; pictures begin at a keyframe. Timestamps only
    grow, whatever the legs that carry the stream do.

    Args:
        path: Where to; it must not exist yet.
        overwrite: It may exist, and is lost.

    Raises:
        ConfigError: The name does not end in .webm, .mkv or .mp4.
        LocalFault: The file cannot be written: it exists, or no such directory, or no permission.
    """

    wants_decoded = False

    def __init__(self, path: str | Path, *, overwrite: bool = False) -> None:
        self.path = Path(path).expanduser()
        if self.path.suffix.lower() not in _CAN_HOLD:
            raise ConfigError(
                f"path = {str(self.path)!r} is not possible: give a name that ends in "
                ".webm, .mkv or .mp4"
            )
        try:
            with self.path.open("wb" if overwrite else "xb"):
                pass
        except FileExistsError as fault:
            raise LocalFault(
                f"cannot write {self.path}: it exists; give another name or remove it"
            ) from fault
        except OSError as fault:
            raise LocalFault(
                f"cannot write {self.path}: {fault.strerror}; choose another directory"
            ) from fault
        self.fault: LocalFault | None = None
        """Why nothing more is written; None: all is well."""
        self.dropped = 0
        """Frames that the file does not hold: the disk was too slow, or their codec is another."""
        self._needs_keyframe = True
        self._box: Box[EncodedFrame] = Box(_WAITING_MAX)
        self._worker = Worker("write file", self._run, failed=self._fail, wake=self._box.close)
        self._worker.start()

    def take(self, frame: EncodedFrame) -> None:
        if self.fault is not None:
            raise self.fault
        is_video = frame.kind is Kind.VIDEO
        if is_video and self._needs_keyframe and not frame.keyframe:
            return  # before the first keyframe, or after a hole: nobody could decode it
        if self._box.put(frame):
            if is_video:
                self._needs_keyframe = False
        elif not self._worker.stopping.is_set():
            self.dropped += 1
            self._needs_keyframe |= is_video

    def picture(self, picture: Picture) -> None:
        """Do nothing: frames are written as they came."""

    def sound(self, sound: Sound) -> None:
        """Do nothing: packets are written as they came."""

    async def aclose(self) -> None:
        """Write what was taken and close the file; see `fault`. Idempotent; never raises."""
        await self._worker.aclose()

    # --- In the thread ---

    def _run(self) -> None:
        try:
            self._write_all()
        except (av.FFmpegError, ValueError, OSError) as fault:
            self.fault = LocalFault(
                f"cannot write {self.path}: {getattr(fault, 'strerror', None) or fault}; "
                "make room or choose another place"
            )
            self._box.close()

    def _write_all(self) -> None:
        head = self._head()
        if not head:
            return
        with av.open(str(self.path), "w") as container:
            streams = self._streams(container, head)
            container.start_encoding()
            clock = _FileClock(head[0].arrived_s)
            while (frame := head.popleft() if head else self._box.take()) is not None:
                self._write(container, streams, clock, frame)

    def _head(self) -> deque[EncodedFrame]:
        """Take frames until both kinds are known, or long enough to say that one is absent."""
        head: deque[EncodedFrame] = deque()
        while (frame := self._box.take()) is not None:
            head.append(frame)
            kinds = {one.kind for one in head}
            waited_s = frame.arrived_s - head[0].arrived_s
            if len(kinds) == len(Kind) or len(head) >= _WAITING_MAX:
                break
            # `take` holds pictures back until a keyframe, which may be the whole interval away.
            if waited_s > (_HEAD_S if Kind.VIDEO in kinds else _KEYFRAME_S):
                break
        return head

    def _streams(
        self, container: OutputContainer, head: deque[EncodedFrame]
    ) -> dict[Codec, Stream]:
        """Make a stream for each codec of the first frames."""
        streams: dict[Codec, Stream] = {}
        kinds: set[Kind] = set()
        for frame in head:
            if frame.kind in kinds:
                continue
            kinds.add(frame.kind)
            if frame.codec not in _CAN_HOLD[self.path.suffix.lower()]:
                raise ValueError(f"{self.path.suffix} cannot hold {frame.codec}: use .mkv")
            streams[frame.codec] = _stream(container, frame)
        return streams

    def _write(
        self,
        container: OutputContainer,
        streams: dict[Codec, Stream],
        clock: _FileClock,
        frame: EncodedFrame,
    ) -> None:
        stream = streams.get(frame.codec)
        if stream is None:
            self.dropped += 1
            return
        packet = av.Packet(frame.data)
        packet.stream = stream
        packet.time_base = Fraction(1, CLOCK_RATE[frame.kind])
        packet.pts = packet.dts = clock.place(frame)
        packet.is_keyframe = frame.keyframe
        container.mux(packet)

    def _fail(self, fault: Exception) -> None:
        self.fault = LocalFault(f"cannot write {self.path}: {fault}")
        raise fault


class _FileClock:
    """Places frames in the time of the file: their own intervals, and never backwards."""

    def __init__(self, zero_s: float) -> None:
        self._zero_s = zero_s
        self._offset: dict[Kind, int] = {}
        self._last: dict[Kind, int] = {}

    def place(self, frame: EncodedFrame) -> int:
        """Return the time of a frame [ticks of its clock]."""
        rate = CLOCK_RATE[frame.kind]
        arrived = max(0, round((frame.arrived_s - self._zero_s) * rate))
        offset = self._offset.get(frame.kind)
        if offset is None or abs(frame.timestamp + offset - arrived) > _JUMP_S * rate:
            offset = self._offset[frame.kind] = arrived - frame.timestamp
        last = self._last.get(frame.kind, -rate)
        # Files count in milliseconds: a smaller step would be none.
        placed = max(frame.timestamp + offset, last + rate // 1000, 0)
        self._last[frame.kind] = placed
        return placed


def _stream(container: OutputContainer, frame: EncodedFrame) -> Stream:
    """Add the stream that a first frame asks for."""
    match frame.codec:
        case Codec.VP8:
            width, height = _vp8_size(frame.data)
            return container.add_mux_stream("libvpx", width=width, height=height)
        case Codec.H264:
            # FFmpeg's own parser reads the parameter sets, which the file's header repeats.
            with av.open(io.BytesIO(frame.data), "r", format="h264") as parsed:
                return container.add_stream_from_template(parsed.streams.video[0])
        case Codec.OPUS:
            # Through an encoder that never encodes: it writes the OpusHead of RFC 7845.
            sound = container.add_stream("libopus", rate=SAMPLE_RATE)
            sound.codec_context.layout = "stereo"
            return sound
        case Codec.AAC:
            # From the header of the ADTS frame; the file's own is put right at its end.
            with av.open(io.BytesIO(frame.data), "r", format="aac") as parsed:
                return container.add_stream_from_template(parsed.streams.audio[0])
        case _:
            assert_never(frame.codec)


def _vp8_size(keyframe: bytes) -> tuple[int, int]:
    """Return width and height [pixel] of a VP8 keyframe (RFC 6386 section 9.1)."""
    if len(keyframe) < 10 or keyframe[3:6] != b"\x9d\x01\x2a":
        raise ValueError("the first VP8 frame is not a keyframe")
    width = int.from_bytes(keyframe[6:8], "little") & 0x3FFF
    height = int.from_bytes(keyframe[8:10], "little") & 0x3FFF
    return width, height
