"""
One stream out of several legs: each frame once, in order, the first copy to arrive.

The publisher sends the same encoded frames to every leg, so a frame's content identifies it
whatever a provider does to SSRC, sequence numbers and timestamps. One match tells the offset of a
leg's timestamps; from then on frames are compared by time. Merging happens before the decoder, so
a viewer that moves keeps one decoder and loses nothing.

* Video is matched by its first equal fingerprint. Audio only by fingerprints that occur once on
  both sides, and only when two agree: packets of silence and of pure tones repeat (measured: the
  first equal one is wrong in 48-62 % of joins with speech, unique ones in 0 %).
* Without a live matched leg (after a kill), a keyframe is accepted by the clock.
* A provider that transcodes never matches: after `MATCH_S` the new leg takes over at its next
  keyframe, by the clock.
* A leg of other codecs never matches either, but carries the same sound: it is aligned by that
  (`align.py`) and takes over where the other one is, from a keyframe before that place. What it
  brings from before is only decoded (`EncodedFrame.is_run_up`), so no picture is lost or shown
  twice, and the screen stands still for as long as the new leg is behind the old one. A leg that
  is ahead waits until the old one has come to its first keyframe. Where the sound tells nothing
  for `ALIGN_S`, or there is none, the clock decides, and as much is repeated or skipped as the
  new leg is later or earlier.
* A leg that another one took over from is heard again only when that one falls silent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from .align import NEEDLE_S, Ear, arrival_offset, picture_offset, sound_offset
from .frame import EncodedFrame, Kind
from .merge_kind import MATCH_S, QUIET_S, MergedKind


__all__ = ["ALIGN_S", "MATCH_S", "QUIET_S", "Merge"]

ALIGN_S: Final = 2.0
"""How long a leg of other codecs may take to be aligned and take over [s]: below the 3 s in which
first media must come."""
ALIGN_AGAIN_S: Final = 0.25
"""How often its sound is looked for [s]; once costs some 10 ms."""


@dataclass(slots=True)
class _Search:
    """The search for the place of a leg whose frames cannot match."""

    begun_s: float
    next_s: float
    is_over: bool = False
    stream: Ear = field(default_factory=Ear)
    leg: Ear = field(default_factory=Ear)


class Merge:
    """
    Merge the legs of one viewed stream.

    Args:
        deliver: Called with each frame once, in order per kind, its timestamp in the merged
            stream's own time: ticks since the first frame of any kind arrived. The codec may
            change between two frames: pictures do so at a keyframe, which may be followed by
            others that are a run-up.
        usable: Called once per leg when it could carry the stream alone from here on.
        request_keyframe: Called with the leg that needs one.
    """

    def __init__(
        self,
        deliver: Callable[[EncodedFrame], None],
        usable: Callable[[int], None],
        request_keyframe: Callable[[int], None],
    ) -> None:
        self._tracks = {kind: MergedKind(kind, deliver) for kind in Kind}
        self._usable, self._request_keyframe = usable, request_keyframe
        self._origin_s: float | None = None
        self._searches: dict[int, _Search] = {}
        self._ready: set[int] = set()
        self._first_s: dict[int, float] = {}

    def take(self, leg: int, frame: EncodedFrame) -> None:
        """Take one frame of one leg."""
        if self._origin_s is None:
            self._origin_s = frame.arrived_s
        # A search ends by the clock itself; nobody else is to be quicker.
        patience_s = 2 * ALIGN_S if self._is_sought(leg) else MATCH_S
        if self._tracks[frame.kind].take(leg, frame, self._origin_s, patience_s):
            self._request_keyframe(leg)
        if leg not in self._searches and self._tracks[frame.kind].is_foreign(leg):
            now = frame.arrived_s
            self._searches[leg] = _Search(begun_s=now, next_s=now + NEEDLE_S)
        if self._searches:
            for each, search in tuple(self._searches.items()):
                self._find_place(each, search, frame.arrived_s)
        if leg not in self._ready and self._is_ready(leg, frame.arrived_s):
            self._ready.add(leg)
            self._usable(leg)

    def remove(self, leg: int) -> None:
        """Forget a leg; what was delivered of it stays known."""
        for track in self._tracks.values():
            track.remove(leg)
        self._searches.pop(leg, None)
        self._ready.discard(leg)
        self._first_s.pop(leg, None)

    def _find_place(self, leg: int, search: _Search, now: float) -> None:
        """Align a leg of other codecs, and let it take over where that can be."""
        flowing = [track for track in self._tracks.values() if track.last is not None]
        waiting = [track for track in flowing if not track.accepted(leg)]
        if not waiting:
            del self._searches[leg]
            return
        audio = self._tracks[Kind.AUDIO]
        has_sound = audio.last is not None and leg in audio.sides
        waited_s = now - search.begun_s
        by_the_clock = waited_s > (ALIGN_S if has_sound else MATCH_S)
        hurry = by_the_clock or all(track.is_quiet(now) for track in waiting)
        here = [track for track in waiting if leg in track.sides]
        search.is_over = waited_s > 2 * ALIGN_S or (by_the_clock and not here)
        if len(here) < len(waiting) and not hurry:
            return
        if all(track.sides[leg].aim is None for track in here):
            if now < search.next_s and not audio.accepted(leg):
                return
            search.next_s = now + ALIGN_AGAIN_S
            if by_the_clock:
                self._aim_by_the_clock(leg, here)
            elif not self._aim(leg, search):
                return
        aimed = [track for track in here if track.sides[leg].aim is not None]
        places = [track.place(leg, hurry=hurry) for track in aimed]
        for track, place in zip(aimed, places, strict=True):
            if place is not None and None not in places:  # both kinds at once
                track.take_over(leg, place)

    def _aim(self, leg: int, search: _Search) -> bool:
        """Look for a leg's sound in the stream's, and place its frames by that."""
        audio, video = self._tracks[Kind.AUDIO], self._tracks[Kind.VIDEO]
        side = audio.sides.get(leg)
        if side is None or audio.last is None:
            return False
        sound = side.offset
        if sound is None:
            search.stream.hear(audio.recent)
            search.leg.hear(frame for _, frame in side.held)
            sound = sound_offset(search.stream, search.leg)
        if sound is None:
            return False
        side.aim = sound if side.offset is None else None
        # Who brings the pictures must have brought the sound as well, so that one delay holds
        # for both; a leg whose sound matched is a part of the stream by now.
        leader = video.leader
        if leg in video.sides and not video.accepted(leg) and leader is not None:
            if audio.accepted(leader) and video.accepted(leader):
                both = (audio, video)
                video.sides[leg].aim = picture_offset(
                    sound - (side.offset or 0),
                    {track.kind: track.came(leader) for track in both},
                    {track.kind: track.came(leg) for track in both},
                )
        return True

    def _aim_by_the_clock(self, leg: int, tracks: list[MergedKind]) -> None:
        """Take a leg for as late as the stream is."""
        for track in tracks:
            theirs = track.came(track.leader)
            if theirs:
                track.sides[leg].aim = arrival_offset(theirs, track.came(leg))

    def _is_ready(self, leg: int, now: float) -> bool:
        """All kinds that flow must be accepted, or one of them for `MATCH_S` and none sought."""
        flowing = [track for track in self._tracks.values() if track.last is not None]
        accepted = [track.accepted(leg) for track in flowing]
        if not any(accepted):
            return False
        first_s = self._first_s.setdefault(leg, now)
        return all(accepted) or (now - first_s > MATCH_S and not self._is_sought(leg))

    def _is_sought(self, leg: int) -> bool:
        """Whether the place of a leg is being looked for."""
        search = self._searches.get(leg)
        return search is not None and not search.is_over
