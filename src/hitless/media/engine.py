"""
What runs behind a feed: a thread for each kind that paces, encodes and hands over.

Further codecs are encoded in the same threads, from the same pictures and sound, with the same
timestamps (`encoding.py`).

A frame is due at the engine's start plus its media time, so pictures and sound share one origin
and never drift apart, and a machine that was too slow for a moment catches up. Off by more than
a second (a suspended laptop, a stopped process), what is late is skipped instead.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final

from ..errors import LocalFault
from .encoding import Encoded, Pictures, Sounds, Wanted
from .feed import Feed
from .frame import CLOCK_RATE, Codec, Kind
from .pattern import SLOT_S
from .track import EndOfTrack, Item, MediaClock, Settings, Track
from .worker import Worker, close_all


LATE_S_MAX: Final = 1.0
"""What is later than this is skipped; less is caught up."""

_FLYING_MAX: Final = 64
"""Frames that wait for the loop: 0.8 s of 30 pictures and 50 packets a second; as many again of
further codecs. A loop further behind than that loses pictures, up to the next keyframe."""

_READ_S: Final = 0.1
"""How long a track is waited for before stop and mute are looked at again."""


class FeedEngine:
    """
    The threads that encode the tracks of one source.

    An `Engine` and its `FurtherEncoders` as `Feed` wants them.

    Args:
        feed: Where encoded frames go.
        tracks: What is encoded, by kind. The engine closes them.
        settings: What the tracks were made with; the engine changes it.
        clock: Media time; it starts with the first frame.
        video_codec: The feed's own: VP8 or H.264. Sound's own is Opus.
        repeat: Begin again at the end instead of ending the feed.
        noise: Where the dither of the sound comes from.
        release: Awaited when the engine closes.
    """

    def __init__(
        self,
        feed: Feed,
        tracks: Mapping[Kind, Track],
        *,
        settings: Settings,
        clock: MediaClock,
        video_codec: Codec,
        repeat: bool,
        noise: random.Random,
        release: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._feed, self._settings, self._release = feed, settings, release
        self._lock = threading.Lock()
        self._flying = {"own": 0, "further": 0}
        self._broken: set[Codec] = set()
        self._wanted = Wanted()
        self.dropped = 0
        """Frames that the loop was too far behind to take."""
        laps = _Laps(frozenset(tracks))
        self._running = len(tracks)
        self._workers: list[Worker] = []
        for kind, track in tracks.items():
            line = _Line(
                kind,
                track,
                settings=settings,
                clock=clock,
                laps=laps,
                repeat=repeat,
            )
            worker = Worker(f"encode {kind}", self._body(line), failed=self.fail)
            lost = partial(self._lose, worker)
            if kind is Kind.VIDEO:
                encode = Pictures(settings, video_codec, self._wanted, lost).encode
            else:
                encode = Sounds(settings, noise, self._wanted, lost).encode
            line.run_in(worker, encode, self._deliver)
            self._workers.append(worker)

    def start(self) -> None:
        """Start the threads. Once."""
        for worker in self._workers:
            worker.start()

    # --- As `Engine` ---

    def request_keyframe(self) -> None:
        self._settings.keyframe = True

    def mute(self, kind: Kind, muted: bool) -> None:
        if muted:
            self._settings.muted.add(kind)
        else:
            self._settings.muted.discard(kind)

    def set_quality(
        self,
        *,
        width: int | None = None,
        height: int | None = None,
        frame_rate: float | None = None,
        bitrate_bps: int | None = None,
    ) -> None:
        asked: dict[str, Any] = {  # Any: `replace` takes fields of several types
            "width": width,
            "height": height,
            "frame_rate": frame_rate,
            "bitrate_bps": bitrate_bps,
        }
        given = {name: value for name, value in asked.items() if value is not None}
        self._settings.quality = replace(self._settings.quality, **given)

    # --- As `FurtherEncoders` ---

    def encode_also(self, codecs: frozenset[Codec]) -> None:
        self._wanted.set(codecs)

    # --- As both ---

    async def aclose(self) -> None:
        try:
            await close_all(*self._workers)
        finally:
            if self._release is not None:
                await self._release()

    # --- From the threads ---

    def _body(self, line: _Line) -> Callable[[], None]:
        def run() -> None:
            try:
                line.run()
            finally:
                line.track.close()
            if not line.worker.stopping.is_set():
                line.worker.in_loop(self._one_ended)

        return run

    def _deliver(self, worker: Worker, made: Encoded) -> None:
        frame, lane = made.frame, "own" if made.turn is None else "further"
        is_video = frame.kind is Kind.VIDEO
        with self._lock:
            full = self._flying[lane] >= _FLYING_MAX
            lost = full or (frame.codec in self._broken and not frame.keyframe)
            if lost:
                self.dropped += 1
                if is_video:
                    self._broken.add(frame.codec)
            else:
                self._flying[lane] += 1
                self._broken.discard(frame.codec)
        if lost:
            if is_video and not full:  # while full, the keyframe would be dropped as well
                self._settings.keyframe = True
            return
        worker.in_loop(self._land, made, lane)

    def _lose(self, worker: Worker, codec: Codec, turn: object, fault: Exception) -> None:
        worker.in_loop(self._lost, codec, turn, fault)

    # --- In the loop ---

    def _land(self, made: Encoded, lane: str) -> None:
        with self._lock:
            self._flying[lane] -= 1
        if not self._feed.is_over and self._wanted.is_due(made):
            self._feed.push(made.frame)

    def _lost(self, codec: Codec, turn: object, fault: Exception) -> None:
        if self._wanted.is_turn(codec, turn):
            self._feed.fail_codec(codec, _local(f"the {codec} encoder stopped", fault))

    def _one_ended(self) -> None:
        self._running -= 1
        if self._running == 0:
            self._feed.finish()

    def fail(self, fault: Exception) -> None:
        """Stop everything and end the feed with a fault of its source or of an encoder."""
        for worker in self._workers:
            worker.stop()
        self._feed.finish(_local("the encoder stopped", fault))


def _local(what: str, fault: Exception) -> LocalFault:
    if isinstance(fault, LocalFault):
        return fault
    local = LocalFault(f"{what}: {type(fault).__name__}: {fault}")
    local.__cause__ = fault
    return local


_Encode = Callable[[Any, int], Iterator[Encoded]]
"""(what a track made, or None for filler; timestamp): Any, as pictures and sound have no base."""


class _Line:
    """One track through its encoders. All of it runs in the thread of its worker."""

    def __init__(
        self,
        kind: Kind,
        track: Track,
        *,
        settings: Settings,
        clock: MediaClock,
        laps: _Laps,
        repeat: bool,
    ) -> None:
        self.kind, self.track = kind, track
        self._settings, self._clock, self._laps = settings, clock, laps
        self._repeat = repeat
        self._last_s = float("-inf")
        self._timestamp = -1
        self._allowance, self._asked_s = 1.0, 0.0
        self._skipping = False

    def run_in(
        self, worker: Worker, encode: _Encode, deliver: Callable[[Worker, Encoded], None]
    ) -> None:
        self.worker, self._encode, self._deliver = worker, encode, deliver

    def run(self) -> None:
        base_s, lap = 0.0, 0
        while self._through_track(base_s, lap):
            over_s = self._until_all_end(lap)
            if over_s is None or not self._repeat:
                return
            base_s, lap = over_s, lap + 1
            self.track.rewind()

    @property
    def _step_s(self) -> float:
        return SLOT_S if self.kind is Kind.AUDIO else 1 / self._settings.quality.frame_rate

    def _through_track(self, base_s: float, lap: int) -> bool:
        """Send everything up to the track's end; False if told to stop."""
        while not self.worker.stopping.is_set():
            try:
                item = self.track.read(_READ_S)
            except EndOfTrack as end:
                # Never nothing: a lap without length would be a busy loop.
                self._laps.end(self.kind, lap, max(base_s + end.at_s, base_s + self._step_s))
                return True
            if item is None:
                self._fill_if_muted()
            elif not self._send_when_due(base_s, item):
                return False
        return False

    def _send_when_due(self, base_s: float, item: Item) -> bool:
        due_s = base_s + item.time_s
        late_s = self._clock.now() - due_s
        self._skipping = late_s > (0.0 if self._skipping else LATE_S_MAX)
        if self._skipping or due_s <= self._last_s or not self._is_wanted(due_s):
            return True
        if not self._sleep_until(due_s):
            return False
        self._send(due_s, item.make())
        return True

    def _is_wanted(self, due_s: float) -> bool:
        """Keep pictures to the frame rate, with room for the jitter of one frame."""
        if self.kind is Kind.AUDIO or self._last_s < 0:
            return True
        rate = self._settings.quality.frame_rate
        allowance = min(2.0, self._allowance + (due_s - self._asked_s) * rate)
        self._asked_s = due_s
        self._allowance = allowance - 1 if allowance > 0.999 else allowance
        return allowance > 0.999

    def _until_all_end(self, lap: int) -> float | None:
        """
        Hold the last picture, or silence, until the other kind has ended too.

        A track that is shorter than the other must not look like one that was lost.

        Returns:
            Media time of the end of all [s]; None if told to stop.
        """
        while True:
            over_s = self._laps.over_s(lap)
            if over_s is not None:
                return over_s if self._sleep_until(over_s) else None
            next_s = max(self._last_s + self._step_s, self._clock.now() - LATE_S_MAX, 0.0)
            if not self._sleep_until(next_s):
                return None
            if self._laps.over_s(lap) is None:
                self._send(next_s, None)

    def _fill_if_muted(self) -> None:
        now_s = self._clock.now()
        if self.kind in self._settings.muted and now_s - self._last_s > _READ_S:
            self._send(now_s, None)

    def _send(self, due_s: float, made: Any) -> None:  # Any: see _Encode
        timestamp = round(due_s * CLOCK_RATE[self.kind])
        self._last_s = due_s
        if timestamp <= self._timestamp:
            return
        self._timestamp = timestamp
        for encoded in self._encode(made, timestamp):
            self._deliver(self.worker, encoded)

    def _sleep_until(self, due_s: float) -> bool:
        """Sleep until a media time; False if told to stop."""
        wait_s = due_s - self._clock.now()
        if wait_s <= 0:
            return not self.worker.stopping.is_set()
        return not self.worker.stopping.wait(wait_s)


class _Laps:
    """When each kind came to the end of the source, lap by lap."""

    def __init__(self, kinds: frozenset[Kind]) -> None:
        self._kinds = kinds
        self._lock = threading.Lock()
        self._ends: dict[int, dict[Kind, float]] = {}

    def end(self, kind: Kind, lap: int, at_s: float) -> None:
        with self._lock:
            self._ends.setdefault(lap, {})[kind] = at_s
            self._ends.pop(lap - 2, None)  # no kind is more than one lap behind another

    def over_s(self, lap: int) -> float | None:
        """Return when all kinds had ended [s]; None: one has not."""
        with self._lock:
            ends = self._ends.get(lap, {})
            return max(ends.values()) if len(ends) == len(self._kinds) else None
