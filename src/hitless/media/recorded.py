"""Tracks of files and cameras, read with FFmpeg."""

from __future__ import annotations

import os
import stat
import sys
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Final, cast

import av
from av.container import InputContainer
from av.stream import Disposition

from ..errors import LocalFault
from .address import is_address, shown
from .frame import Kind
from .quality import Quality
from .track import EndOfTrack, Item, MediaClock, Settings, Slicer


_BAD_PACKETS_MAX: Final = 50
"""Damaged packets in a row that are skipped before a file counts as unreadable."""

_CAMERA_S_MAX: Final = 5.0
"""How long a camera may take to open or to give a picture [s]."""

_STEP_S: Final = 0.04
"""Length of a picture whose file does not tell: 25 a second."""


class FileTrack:
    """
    One kind of a file. Each kind reads the file for itself, so neither waits for the other.

    Raises:
        LocalFault: It is not a file, cannot be read, or holds nothing of this kind.
    """

    def __init__(self, path: Path, kind: Kind) -> None:
        self._path, self._kind = path, kind
        self._ready: deque[Item] = deque()
        self._container: InputContainer | None = None
        self._open()
        try:
            self._fill_ready()  # proves that it can be decoded, before anything else starts
            if not self._ready:
                raise LocalFault(f"cannot play {path}: its {kind} is empty; try another file")
        except LocalFault:
            self.close()
            raise

    def read(self, wait_s: float) -> Item | None:
        if not self._ready:
            self._fill_ready()
        if not self._ready:
            raise EndOfTrack(self._end_s)
        return self._ready.popleft()

    def rewind(self) -> None:
        self.close()
        self._open()

    def close(self) -> None:
        self._ready.clear()
        if self._container is not None:
            self._container.close()
            self._container = None

    def _open(self) -> None:
        # Opened anew for each lap rather than sought: not every format can be sought.
        self._container = open_file(self._path)
        found = streams(self._container)
        if self._kind not in found:
            self.close()
            raise LocalFault(f"cannot play {self._path}: it holds no {self._kind}")
        # Both kinds count from the file's own beginning, which keeps them in step.
        self._origin_s = (self._container.start_time or 0) / av.time_base
        self._packets = self._container.demux(found[self._kind])
        self._slicer = Slicer()
        self._end_s = 0.0
        self._bad = 0

    def _fill_ready(self) -> None:
        """Decode until something is ready, or the file is at its end."""
        while not self._ready:
            try:
                packet = next(self._packets, None)
                if packet is None:
                    return
                for frame in packet.decode():
                    self._take(cast("av.VideoFrame | av.AudioFrame", frame))
                    self._bad = 0
            except av.EOFError:
                return
            except av.InvalidDataError as fault:
                self._bad += 1
                if self._bad > _BAD_PACKETS_MAX:
                    raise LocalFault(f"cannot play {self._path}: it is damaged") from fault
            except av.FFmpegError as fault:
                raise LocalFault(f"cannot read {self._path}: {fault.strerror}") from fault

    def _take(self, frame: av.VideoFrame | av.AudioFrame) -> None:
        at_s = None if frame.time is None else frame.time - self._origin_s
        if isinstance(frame, av.AudioFrame):
            self._ready.extend(self._slicer.slices(frame, at_s))
            self._end_s = self._slicer.due_s()
            return
        time_s = self._end_s if at_s is None else at_s
        length_s = float(frame.duration * (frame.time_base or Fraction(0))) or _STEP_S
        self._end_s = max(self._end_s, time_s + length_s)
        self._ready.append(Item(time_s, lambda: frame))


class CameraTrack:
    """
    A camera: `/dev/video0`, by Video4Linux on Linux and by AVFoundation on macOS.

    Raises:
        LocalFault: There is none, it is busy, or it gives no pictures.
    """

    def __init__(self, device: str, settings: Settings, clock: MediaClock) -> None:
        self._device, self._clock = device, clock
        self._offset_s: float | None = None
        self._container = _open_camera(device, settings.quality)
        self._frames: Iterator[av.VideoFrame] = self._container.decode(video=0)
        try:
            self._next()
        except LocalFault:
            self.close()
            raise

    def read(self, wait_s: float) -> Item | None:
        frame = self._next()
        now_s = self._clock.now()
        if frame.time is None:
            return Item(now_s, lambda: frame)
        # The camera's own clock paces, ours places: its stamps jitter less than their arrival.
        if self._offset_s is None or abs(frame.time + self._offset_s - now_s) > 0.2:
            self._offset_s = now_s - frame.time
        return Item(frame.time + self._offset_s, lambda: frame)

    def rewind(self) -> None:
        pass  # it has no end

    def close(self) -> None:
        self._container.close()

    def _next(self) -> av.VideoFrame:
        try:
            frame = next(self._frames, None)
        except (av.FFmpegError, ValueError) as fault:
            raise LocalFault(f"the camera {self._device} is gone: {fault}; plug it in") from fault
        if frame is None:
            raise LocalFault(f"the camera {self._device} gives no more pictures; plug it in again")
        return frame


def open_file(path: Path) -> InputContainer:
    """
    Open a media file.

    Raises:
        LocalFault: Missing, not a regular file, not readable, or not media; it says which.
    """
    advice = "give a video or sound file, a camera such as /dev/video0, or test-picture"
    # Beforehand: an error of the system would hold the address, with the password in it.
    if is_address(str(path)) and not os.path.exists(path):
        raise LocalFault(f"cannot play {shown(str(path))}: it is an address, not a file; {advice}")
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise LocalFault(f"cannot play {path}: it is a directory; name a file in it")
        if not stat.S_ISREG(mode):  # a pipe would block for ever
            raise LocalFault(f"cannot play {path}: it is not a regular file; {advice}")
        with path.open("rb"):
            pass
    except FileNotFoundError as fault:
        raise LocalFault(f"cannot play {path}: there is no such file; {advice}") from fault
    except OSError as fault:
        raise LocalFault(f"cannot play {path}: {fault.strerror}; {advice}") from fault
    try:
        # Only files: a playlist must not make us fetch from the network.
        container = av.open(f"file:{path}", "r", options={"protocol_whitelist": "file"})
    except (av.FFmpegError, ValueError) as fault:
        raise LocalFault(
            f"cannot play {path}: FFmpeg finds no video or sound in it; {advice}"
        ) from fault
    # "tty" is FFmpeg's last guess for any text: it would be shown as pictures of letters.
    if container.format.name == "tty" or not streams(container):
        container.close()
        raise LocalFault(f"cannot play {path}: it holds no video and no sound; {advice}")
    return container


def streams(
    container: InputContainer,
) -> dict[Kind, av.VideoStream | av.AudioStream]:
    """Return the first stream of each kind that can be decoded; cover pictures do not count."""
    found: dict[Kind, av.VideoStream | av.AudioStream] = {}
    for video in container.streams.video:
        is_cover = Disposition.attached_pic in video.disposition
        if video.codec_context is not None and not is_cover:
            found.setdefault(Kind.VIDEO, video)
    for audio in container.streams.audio:
        if audio.codec_context is not None:
            found.setdefault(Kind.AUDIO, audio)
    return found


def is_camera(source: str) -> bool:
    """Whether a source names a camera."""
    return source.startswith("/dev/video")


def _open_camera(device: str, quality: Quality) -> InputContainer:
    options = {
        "video_size": f"{quality.width}x{quality.height}",
        "framerate": f"{quality.frame_rate:g}",
    }
    number = device.removeprefix("/dev/video")
    is_mac = sys.platform == "darwin"
    if is_mac and not number.isdigit():
        raise LocalFault(f"there is no camera {device}: give /dev/video0 for the first one")
    if not is_mac and not Path(device).exists():
        raise LocalFault(f"there is no camera {device}: plug one in, or try /dev/video0")
    form = "avfoundation" if is_mac else "v4l2"
    # A camera that cannot give this size or rate says so; it is asked again for what it likes.
    for wanted in (options, {}):
        try:
            return av.open(
                number if is_mac else device,
                "r",
                format=form,
                options=wanted,
                timeout=(_CAMERA_S_MAX, _CAMERA_S_MAX),
            )
        except (av.FFmpegError, ValueError) as fault:
            last = fault
    raise LocalFault(
        f"cannot open the camera {device}: {last}; close what uses it, allow access to it, "
        "or try another one"
    ) from last
