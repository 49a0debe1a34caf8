"""Tracks of frames that the caller makes: an async iterator, read in the loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Final, TypeAlias

import av
import numpy as np
import numpy.typing as npt

from ..errors import LocalFault
from .closing import finish
from .frame import Kind
from .track import EndOfTrack, Item, MediaClock, Settings, Slicer
from .worker import Box


CallersFrame: TypeAlias = "av.VideoFrame | av.AudioFrame | npt.NDArray[np.uint8]"
"""A picture, a piece of sound of any length, or a picture as uint8 [height, width, 3] in BGR."""

FIRST_FRAME_S_MAX: Final = 10.0
"""How long the first frame is waited for."""

_OTHER_KIND_S: Final = 0.5
"""How long after the first frame one of the other kind may come; then the kinds are fixed."""

_EARLY_S: Final = 0.05
"""A frame is taken into a box this long before it is due; until then its maker waits."""

_WAITING_MAX: Final = 24
"""Frames that are kept while the kinds are not known."""

_LIVE: Final = 1.5
"""Frames that come faster than this many times the frame rate are not live, but made on demand."""

_CLOSE_S_MAX: Final = 1.0
"""How long the caller's own clean-up may take."""

_LATE_S, _AHEAD_S = 1.0, 10.0
"""Timestamps this far behind or ahead of the clock are a jump: time is counted anew from there."""


class CallersTrack:
    """One kind of the caller's frames, from the loop to the engine's thread."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        # Pictures: 8 of 640x360 are 3 MB. Sound: a second of 20 ms frames.
        self._box: Box[tuple[float, Any]] = Box(8 if kind is Kind.VIDEO else 50)
        self._slicer = Slicer()
        self._ready: list[Item] = []
        self._end_s = 0.0

    def put(self, frame: Any, time_s: float) -> None:
        """Give one frame, due at `time_s`. In the loop; the oldest one gives way if full."""
        self._box.put((time_s, frame), instead_of_oldest=True)

    def end(self) -> None:
        """Say that no more frames come. In the loop."""
        self._box.close()

    def read(self, wait_s: float) -> Item | None:
        if self._ready:
            return self._ready.pop(0)
        work = self._box.take(wait_s)
        if work is None:
            if self._box.is_over:
                raise EndOfTrack(self._end_s)
            return None
        time_s, frame = work
        if self._kind is Kind.VIDEO:
            self._end_s = time_s
            return Item(time_s, lambda: frame)
        self._ready = list(self._slicer.slices(frame, time_s))
        self._end_s = time_s + frame.samples / frame.sample_rate
        return self._ready.pop(0) if self._ready else None

    def rewind(self) -> None:
        pass  # an iterator has no beginning to go back to; `open_feed` refuses `repeat`

    def close(self) -> None:
        self._box.close()


class Pump:
    """
    Reads the caller's frames and places them in media time.

    `av` frames are placed by their timestamps, or by arrival if they have none; arrays by
    arrival, at the quality's rate at most: a maker that never waits is made to wait.

    Raises:
        LocalFault: (from `open`) no frame came, or something else than a frame.
    """

    def __init__(
        self, source: AsyncIterator[CallersFrame], settings: Settings, clock: MediaClock
    ) -> None:
        self._source, self._settings, self._clock = source, settings, clock
        self._waiting: list[tuple[Kind, Any]] = []
        self._offset_s: float | None = None
        self._sound_s: float | None = None
        self._next_array_s = 0.0
        self._asked: asyncio.Future[CallersFrame] | None = None
        self._task: asyncio.Task[None] | None = None
        self.tracks: dict[Kind, CallersTrack] = {}

    async def open(self) -> frozenset[Kind]:
        """Wait for the first frames, and return which kinds there are."""
        try:
            await self._look_ahead()
        except BaseException:
            await self.aclose()
            raise
        self.tracks = {kind: CallersTrack(kind) for kind, _ in self._waiting}
        return frozenset(self.tracks)

    async def _look_ahead(self) -> None:
        """Read until both kinds have come, or long enough to say that one does not."""
        loop = asyncio.get_running_loop()
        first_s, deadline_s = 0.0, loop.time() + FIRST_FRAME_S_MAX
        while len({kind for kind, _ in self._waiting}) < 2 and len(self._waiting) < _WAITING_MAX:
            self._asked = asyncio.ensure_future(anext(self._source))
            done, _ = await asyncio.wait([self._asked], timeout=deadline_s - loop.time())
            if not done:
                break
            try:
                self._waiting.append(_sorted(self._asked.result()))
            except StopAsyncIteration:
                break
            except LocalFault:
                raise
            except Exception as fault:
                raise _raised(fault) from fault
            if len(self._waiting) == 1:
                first_s = loop.time()
                deadline_s = first_s + _OTHER_KIND_S
        if not self._waiting:
            raise LocalFault(
                f"the caller's frames did not begin within {FIRST_FRAME_S_MAX:g} s, or ended "
                "before the first; yield the first one sooner"
            )
        in_time = (loop.time() - first_s) * self._settings.quality.frame_rate * _LIVE
        if len(self._waiting) < in_time:
            # They come live: what waited meanwhile is old, and would delay all that follows.
            self._waiting = list({kind: (kind, frame) for kind, frame in self._waiting}.values())

    def start(self, failed: Callable[[Exception], None]) -> None:
        """Go on reading, in a task; `failed` hears of what the iterator raises."""
        self._task = asyncio.create_task(self._run(failed), name="hitless:callers-frames")

    async def aclose(self) -> None:
        """Stop reading and close the iterator. Idempotent; never raises; bounded."""
        await finish(asyncio.create_task(self._close()))

    async def _close(self) -> None:
        for running in (self._task, self._asked):
            if running is not None and not running.done():
                running.cancel()
                await asyncio.wait([running], timeout=_CLOSE_S_MAX)
        close = getattr(self._source, "aclose", None)
        if close is not None:
            try:
                await asyncio.wait_for(close(), _CLOSE_S_MAX)
            except Exception:
                return

    async def _run(self, failed: Callable[[Exception], None]) -> None:
        try:
            for kind, frame in self._waiting:
                await self._place(kind, frame)
            self._waiting.clear()
            while True:
                # The look ahead may have left a question open; it must not be asked twice.
                if self._asked is None or self._asked.done():
                    self._asked = asyncio.ensure_future(anext(self._source))
                kind, frame = _sorted(await self._asked)
                await self._place(kind, frame)
        except StopAsyncIteration:
            for track in self.tracks.values():
                track.end()
        except Exception as fault:
            failed(fault if isinstance(fault, LocalFault) else _raised(fault))

    async def _place(self, kind: Kind, frame: Any) -> None:  # Any: a frame of either kind
        time_s = self._time_s(kind, frame)
        early_s = time_s - self._clock.now() - _EARLY_S
        # Even with nothing to wait for, a maker that never waits must not starve the loop.
        await asyncio.sleep(max(0.0, early_s))
        if track := self.tracks.get(kind):
            track.put(frame, time_s)

    def _time_s(self, kind: Kind, frame: Any) -> float:  # Any: as above
        now_s = self._clock.now()
        if frame.time is not None:
            offset_s = self._offset_s
            if offset_s is None or not -_LATE_S < frame.time + offset_s - now_s < _AHEAD_S:
                offset_s = self._offset_s = now_s - frame.time
            return float(frame.time + offset_s)
        if kind is Kind.AUDIO:  # counted in samples: arrival would tear it
            due_s = self._sound_s
            if due_s is None or due_s < now_s - _LATE_S:
                due_s = now_s
            self._sound_s = due_s + frame.samples / frame.sample_rate
            return due_s
        step_s = 1 / self._settings.quality.frame_rate
        due_s = max(self._next_array_s, now_s)
        # One that was late may be followed at once by the next: a camera's jitter costs nothing.
        self._next_array_s = max(self._next_array_s + step_s, now_s)
        return due_s


def _sorted(frame: Any) -> tuple[Kind, Any]:  # Any: it is the caller's, and may be anything
    """Return the kind of what the caller gave, arrays made into pictures (copied)."""
    if isinstance(frame, av.AudioFrame):
        return Kind.AUDIO, frame
    if isinstance(frame, av.VideoFrame):
        return Kind.VIDEO, frame
    is_array = isinstance(frame, np.ndarray)
    if is_array and frame.dtype == np.uint8 and frame.ndim == 3 and frame.shape[2] == 3:
        return Kind.VIDEO, av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="bgr24")
    got = f"{frame.dtype} {list(frame.shape)}" if is_array else type(frame).__name__
    raise LocalFault(
        f"the caller's frames hold {got}; give av.VideoFrame, av.AudioFrame, "
        "or uint8 [height, width, 3] in BGR"
    )


def _raised(fault: Exception) -> LocalFault:
    local = LocalFault(f"the caller's frames ended in {type(fault).__name__}: {fault}")
    local.__cause__ = fault
    return local
