"""One kind of media of several legs, as one: what `merge.py` does for each kind alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from .aac import FRAME
from .align import frame_interval
from .feed import fingerprint
from .frame import CLOCK_RATE, Codec, EncodedFrame, Kind


MATCH_S: Final = 0.5
"""How long a new leg is held for a match while another leg is alive [s]."""
KEYFRAME_ASK_S: Final = 0.3
"""A leg without a match for this long is asked for a keyframe [s]."""
QUIET_S: Final = 0.12
"""Nothing delivered for this long: no leg is alive [s]; over three frame intervals at 30/s."""
PACKET: Final = 960
"""Ticks of one packet of sound: 20 ms at 48 kHz."""
_WINDOW = 600
"""Fingerprints remembered per kind: 20 s of video, 12 s of audio."""
_HELD_MAX = 256
_AGREEING = 2
_CAME = 100
_RECENT = 200
"""Frames by which a leg is aligned: the last of each leg, and of the merged stream."""
_ROUNDING_S = 0.0025
"""By how much timestamps may be off [s]: RTMP's are whole milliseconds."""
_ROUNDING = PACKET // 8
"""The same for sound [ticks]."""


@dataclass(slots=True)
class Side:
    """One kind of one leg."""

    leg: int
    offset: int | None = None
    held: deque[tuple[bytes, EncodedFrame]] = field(
        default_factory=lambda: deque(maxlen=_HELD_MAX)
    )
    came: deque[EncodedFrame] = field(default_factory=lambda: deque(maxlen=_CAME))
    since_s: float | None = None
    asked_s: float = float("-inf")
    guesses: list[int] = field(default_factory=list)
    aim: int | None = None  # the offset, known, while the place to take over has not come
    runs_up: bool = False
    superseded: bool = False


class MergedKind:
    """One kind of media, merged."""

    def __init__(self, kind: Kind, deliver: Callable[[EncodedFrame], None]) -> None:
        self.kind, self._deliver = kind, deliver
        self.sides: dict[int, Side] = {}
        self.last: EncodedFrame | None = None
        self.recent: deque[EncodedFrame] = deque(maxlen=_RECENT)
        self.leader: int | None = None
        self._heard_s = float("-inf")
        self._seen: dict[bytes, int | None] = {}
        self._order: deque[bytes] = deque()

    def take(self, leg: int, frame: EncodedFrame, origin_s: float, patience_s: float) -> bool:
        """Take a frame; return whether a keyframe should be asked for."""
        side = self.sides.get(leg) or self.sides.setdefault(leg, Side(leg))
        side.came.append(frame)
        if side.offset is not None:
            self._pass(side, side.offset, frame)
            return False
        if self.last is None:
            if frame.keyframe:
                begun = round((frame.arrived_s - origin_s) * CLOCK_RATE[self.kind])
                self._accept(side, begun - frame.timestamp, frame)
            return not frame.keyframe
        side.since_s = frame.arrived_s if side.since_s is None else side.since_s
        side.held.append((fingerprint(frame.data), frame))
        if self._match(side):
            return False
        waited_s = frame.arrived_s - side.since_s
        alone = self.is_quiet(frame.arrived_s)
        if frame.keyframe and side.aim is None:
            if alone or (waited_s > patience_s and not side.superseded):
                self._by_the_clock(leg, side, frame, alone)
                return False
        if self.kind is not Kind.VIDEO or (side.superseded and not alone):
            return False
        if side.aim is not None:
            wants = not any(one.keyframe for _, one in side.held)
        else:
            wants = alone or waited_s > max(KEYFRAME_ASK_S, patience_s - MATCH_S)
        if wants and frame.arrived_s - side.asked_s > KEYFRAME_ASK_S:
            side.asked_s = frame.arrived_s
            return True
        return False

    def is_quiet(self, now: float) -> bool:
        """Whether no leg is alive."""
        return now - self._heard_s > QUIET_S

    def came(self, leg: int | None) -> list[EncodedFrame]:
        """Return the last frames of a leg, in the stream's time if that is known of it."""
        side = self.sides.get(leg) if leg is not None else None
        if side is None:
            return []
        offset = side.offset or 0
        return [replace(frame, timestamp=frame.timestamp + offset) for frame in side.came]

    def accepted(self, leg: int) -> bool:
        side = self.sides.get(leg)
        return side is not None and side.offset is not None

    def is_foreign(self, leg: int) -> bool:
        """Whether a leg waits with frames in another codec than the stream's."""
        side = self.sides.get(leg)
        if side is None or side.offset is not None or side.superseded or self.last is None:
            return False
        return bool(side.held) and side.held[-1][1].codec is not self.last.codec

    def remove(self, leg: int) -> None:
        self.sides.pop(leg, None)

    # --- Legs that were aligned ---

    def place(self, leg: int, *, hurry: bool) -> int | None:
        """
        Return which of the held frames an aimed leg can take over from; None: wait.

        Args:
            leg: Its side has an aim.
            hurry: Do not wait until the stream has come to its first keyframe.
        """
        side, last = self.sides[leg], self.last
        assert last is not None
        assert side.aim is not None
        reach = last.timestamp - side.aim + self._length(last) + self._slack(last)
        keys = [place for place, (_, frame) in enumerate(side.held) if frame.keyframe]
        reached = [place for place in keys if side.held[place][1].timestamp <= reach]
        if not reached:
            return keys[0] if keys and hurry else None
        # AAC is whole only after the frame before it; two, as packets of the two differ.
        return max(0, reached[-1] - 2) if self.kind is Kind.AUDIO else reached[-1]

    def take_over(self, leg: int, place: int) -> None:
        """Go on with an aimed leg from one of its held frames, and with no other."""
        side = self.sides[leg]
        assert side.aim is not None
        held, side.held = list(side.held)[place:], deque(maxlen=0)
        self._supersede(leg)
        side.offset, side.aim, side.runs_up = side.aim, None, True
        for _, frame in held:
            self._pass(side, side.offset, frame)

    def _supersede(self, leg: int) -> None:
        """Hear no other leg from here on, unless this one falls silent."""
        for other, side in self.sides.items():
            if other == leg:
                side.superseded = False
            elif side.offset is not None:
                self.sides[other] = Side(other, superseded=True)

    def _length(self, frame: EncodedFrame) -> int:
        """Return how long a frame lasts [ticks]; of a picture, about."""
        if self.kind is Kind.VIDEO:
            return frame_interval(list(self.recent)[-30:]) or CLOCK_RATE[Kind.VIDEO] // 30
        return FRAME if frame.codec is Codec.AAC else PACKET

    def _slack(self, frame: EncodedFrame) -> int:
        """Return by how much less two timestamps mean the same moment [ticks]."""
        return self._length(frame) // 2 if self.kind is Kind.VIDEO else _ROUNDING

    def _is_known(self, side: Side, frame: EncodedFrame, common: int) -> bool:
        """Whether all that a frame shows was shown."""
        last = self.last
        if last is None or common <= last.timestamp:
            return last is not None
        if not side.runs_up:
            # Two legs of the same frames, one of them rounded: it is the last one once more.
            is_other = side.leg != self.leader
            return is_other and common <= last.timestamp + _ROUNDING_S * CLOCK_RATE[self.kind]
        if self.kind is Kind.VIDEO:
            return common <= last.timestamp + self._slack(last)
        over = last.timestamp + self._length(last)
        return common + self._length(frame) <= over + _ROUNDING

    # --- Legs that match, or are alone ---

    def _match(self, side: Side) -> bool:
        """Look for held frames among the delivered ones; on success pass on the newer ones."""
        if self.kind is Kind.VIDEO:
            for mark, frame in side.held:
                common = self._seen.get(mark)
                if common is not None:
                    self._release(side, common - frame.timestamp)
                    return True
            return False
        marks = [mark for mark, _ in side.held]
        side.guesses = [
            common - frame.timestamp
            for mark, frame in side.held
            if (common := self._seen.get(mark)) is not None and marks.count(mark) == 1
        ]
        for guess in side.guesses:
            if side.guesses.count(guess) >= _AGREEING:
                self._release(side, guess)
                return True
        return False

    def _by_the_clock(self, leg: int, side: Side, frame: EncodedFrame, alone: bool) -> None:
        assert self.last is not None
        passed = (frame.arrived_s - self.last.arrived_s) * CLOCK_RATE[self.kind]
        if self.kind is Kind.AUDIO:  # on the grid of packets, so that both legs name a slot alike
            ticks = round(passed / PACKET) * PACKET
        else:
            ticks = max(round(passed), 1)
        offset = self.last.timestamp + ticks - frame.timestamp
        side.held.clear()
        is_foreign = frame.codec is not self.last.codec
        if is_foreign or (not alone and self.kind is Kind.VIDEO):
            self._supersede(leg)
        self._accept(side, offset, frame)

    def _release(self, side: Side, offset: int) -> None:
        side.offset, side.superseded, side.aim = offset, False, None
        held, side.held = side.held, deque(maxlen=0)
        for _, frame in held:
            self._pass(side, offset, frame)

    def _accept(self, side: Side, offset: int, frame: EncodedFrame) -> None:
        side.offset, side.superseded = offset, False
        self._pass(side, offset, frame)

    def _pass(self, side: Side, offset: int, frame: EncodedFrame) -> None:
        common = frame.timestamp + offset
        if self._is_known(side, frame, common):
            if side.runs_up:
                self._heard_s = frame.arrived_s
                self._note(fingerprint(frame.data), common)
                self._deliver(replace(frame, timestamp=common, is_run_up=True))
            return
        side.runs_up = False
        frame = replace(frame, timestamp=common)
        self.last, self.leader = frame, side.leg
        self._heard_s = frame.arrived_s
        self.recent.append(frame)
        self._note(fingerprint(frame.data), common)
        self._deliver(frame)
        for other in tuple(self.sides.values()):
            if other.offset is None and other.held:
                self._match(other)

    def _note(self, mark: bytes, common: int) -> None:
        if mark in self._seen:
            # Video: the later one is meant. Audio: it repeats, so it identifies nothing.
            self._seen[mark] = common if self.kind is Kind.VIDEO else None
            return
        self._seen[mark] = common
        self._order.append(mark)
        if len(self._order) > _WINDOW:
            self._seen.pop(self._order.popleft(), None)
