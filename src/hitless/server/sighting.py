"""What a canary sees of its own stream, and whether this machine was able to look."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from statistics import median
from typing import Final

from ..core.observation import Level
from ..media.decoder import Picture
from ..media.frame import CLOCK_RATE, EncodedFrame, Kind
from ..media.gap import SOUND_INTERVAL_S
from ..media.quality import Quality
from ..media.sink import Meter


QUALITY: Final = Quality(width=160, height=90, frame_rate=10, bitrate_bps=50_000)
"""The smallest picture whose number is readable; its sound costs another 96 kbit/s. Measured: of
60 pictures and 300 slots, encoded and decoded again, every one was read."""

_LOOK_S: Final = 0.05
_BEHIND: Final = 64
"""Pictures whose time of making is remembered: 6 s of them."""

_RECORD_S: Final = 60.0
_FORGIVEN: Final = 2
"""Pictures that may be on their way when watching ends."""


class Lateness:
    """Measures how late the event loop is, from its making until `stop()`."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._worst_s = 0.0
        self._due_s = self._loop.time() + _LOOK_S
        self._handle = self._loop.call_at(self._due_s, self._look)

    def stop(self) -> float:
        """Stop measuring and return the worst [s]. Idempotent."""
        self._worst_s = max(self._worst_s, self._loop.time() - self._due_s)
        self._due_s = float("inf")
        self._handle.cancel()
        return self._worst_s

    def _look(self) -> None:
        now = self._loop.time()
        self._worst_s = max(self._worst_s, now - self._due_s)
        self._due_s = now + _LOOK_S
        self._handle = self._loop.call_at(self._due_s, self._look)


@dataclass(slots=True, kw_only=True)
class Sighting:
    """
    What one run saw so far; times are the loop's [s].

    Attributes:
        level: How deep it goes.
        meter: Reads the numbers.
        shown: Set when the first picture is seen.
        publish_s: Time until media was proven to be taken [s].
        joined_s: When the join began.
        first_s: When the first picture was seen.
        ended_s: When watching ended.
        media_s: Seconds of media of all legs [s].
        sent_bytes: Encoded media that was made.
        received_bytes: Encoded media that came back.
    """

    level: Level
    meter: Meter = field(
        default_factory=lambda: Meter(frame_rate=QUALITY.frame_rate, record_s=_RECORD_S)
    )
    shown: asyncio.Event = field(default_factory=asyncio.Event)
    publish_s: float | None = None
    joined_s: float | None = None
    first_s: float | None = None
    ended_s: float | None = None
    media_s: float = 0.0
    sent_bytes: int = 0
    received_bytes: int = 0
    _made_s: dict[int, float] = field(default_factory=dict)
    _late_s: dict[int, float] = field(default_factory=dict)

    def sent(self, frame: EncodedFrame) -> None:
        """Note a frame that was made, and when a picture was."""
        self.sent_bytes += len(frame.data)
        if frame.kind is Kind.VIDEO:
            number = round(frame.timestamp * QUALITY.frame_rate / CLOCK_RATE[Kind.VIDEO])
            self._made_s[number] = frame.arrived_s
            self._made_s.pop(number - _BEHIND, None)

    def picture(self, picture: Picture) -> None:
        """Take one decoded picture."""
        readable = len(self.meter.pictures)
        self.meter.picture(picture)
        if len(self.meter.pictures) == readable:
            return
        newest = self.meter.pictures[-1]
        if self.first_s is None:
            self.first_s = newest.at_s
        made_s = self._made_s.get(newest.number)
        if made_s is not None:
            self._late_s.setdefault(newest.number, newest.at_s - made_s)
        self.shown.set()

    def used(self, media_s: float) -> None:
        """Note how long a leg carried media [s]."""
        self.media_s += media_s

    @property
    def first_media_s(self) -> float | None:
        """From the beginning of the join to the first picture [s]."""
        if self.first_s is None or self.joined_s is None:
            return None
        return self.first_s - self.joined_s

    @property
    def latency_s(self) -> float | None:
        """From encoder to decoded picture, the median [s]."""
        return median(self._late_s.values()) if self._late_s else None

    def shares(self) -> tuple[float, float]:
        """Return which share of the pictures and of the sound came while watching [0..1]."""
        if self.first_s is None or self.ended_s is None or self.ended_s <= self.first_s:
            return 0.0, 0.0
        report = self.meter.report(self.first_s, self.ended_s)
        # What stops coming leaves no number behind that tells of it: it is counted by time too.
        due_s = self.ended_s - self.first_s - _FORGIVEN / QUALITY.frame_rate
        pictures = max(report.frames_shown + report.frames_lost, due_s * QUALITY.frame_rate, 1.0)
        slots = max(
            report.audio_slots_shown + report.audio_slots_lost, due_s / SOUND_INTERVAL_S, 1.0
        )
        return report.frames_shown / pictures, report.audio_slots_shown / slots

    def words(self) -> str:
        """Return what was seen, for people."""
        said = [f"published in {self.publish_s or 0:.2f} s"]
        if self.first_media_s is not None:
            said.append(f"seen {self.first_media_s:.2f} s after joining")
            said.append(f"{1 - self.shares()[0]:.0%} lost")
        if self.latency_s is not None:
            said.append(f"{self.latency_s:.2f} s late")
        return ", ".join(said)
