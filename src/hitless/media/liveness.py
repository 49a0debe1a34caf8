"""
Whether media flows, measured and not believed.

A leg reports each sign of life under a name (`audio`, `video`, `stun`); `Liveness` knows how
long each of them may be quiet. It keeps no timer and reads no clock: whoever holds it asks
`quiet(now)` and sleeps until `deadline_s()`.

Limits (DESIGN 4.2; measured in a series with 2 % loss and 0-100 ms of jitter, where the longest
quiet was 56 ms for RTP and 146 ms for STUN answers): media max(200 ms, 3 frame intervals), STUN
max(250 ms, 4 pings + RTT + 4 RTTVar). One kind that is quiet while another flows is judged more
slowly (`one_kind_s`), because a source may be the cause.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


PATH: Final = "stun"
"""The sign of life that tells of the path and not of media."""


@dataclass(slots=True)
class _Sign:
    last_s: float
    limit_s: float
    interval_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Quiet:
    """What has been quiet for too long, since when [s], and in words."""

    sign: str
    since_s: float
    because: str


class Liveness:
    """
    The signs of life of one leg.

    Args:
        silence_s: Shortest silence of all media that counts [s].
        one_kind_s: Shortest silence of one kind while another flows that counts [s].
        path_words: What it means that the sign of the path is missing.
    """

    def __init__(
        self,
        *,
        silence_s: float = 0.2,
        one_kind_s: float = 1.5,
        path_words: str = "STUN checks unanswered",
    ) -> None:
        self.silence_s, self._path_words = silence_s, path_words
        self.one_kind_s = one_kind_s
        self._signs: dict[str, _Sign] = {}

    def heard(self, sign: str, now: float, *, limit_s: float | None = None) -> None:
        """
        Note a sign of life.

        Args:
            sign: `audio`, `video` or `stun`.
            now: When [s].
            limit_s: How long it may be quiet from now on [s]; None: learnt from its intervals.
        """
        known = self._signs.get(sign)
        if known is None:
            self._signs[sign] = _Sign(last_s=now, limit_s=limit_s or self.silence_s)
            return
        interval_s = now - known.last_s
        known.last_s = now
        if limit_s is not None:
            known.limit_s = limit_s
            return
        if interval_s < 1e-4:
            return  # packets of one frame
        # Rises at once with a slower source, falls slowly: a screen share at 2 fps is not silent.
        smooth = known.interval_s or interval_s
        known.interval_s = max(interval_s, 0.95 * smooth) if interval_s < 1.0 else smooth
        known.limit_s = max(self.silence_s, 3 * known.interval_s)

    def forget(self, sign: str) -> None:
        """Stop expecting a sign (a self-view that was closed on purpose)."""
        self._signs.pop(sign, None)

    def last_media_s(self) -> float | None:
        """Return when media of any kind was last heard [s]; None: never."""
        return max((s.last_s for name, s in self._signs.items() if name != PATH), default=None)

    def quiet(self, now: float) -> Quiet | None:
        """Return what has been quiet for too long at `now`, the worst first, or None."""
        late = {
            name: sign for name, sign in self._signs.items() if now - sign.last_s > sign.limit_s
        }
        if PATH in late:
            return self._words(PATH, now, self._path_words)
        media = [name for name in self._signs if name != PATH]
        if media and all(name in late for name in media):
            newest = max(media, key=lambda name: late[name].last_s)
            return self._words(newest, now, "no media")
        for name in sorted(set(media) & set(late)):
            if now - late[name].last_s > max(self.one_kind_s, late[name].limit_s):
                return self._words(name, now, f"no {name}")
        return None

    def doubt(self, now: float) -> str | None:
        """Return why media may be about to be silent: half of every limit is over; or None."""
        at_s = self.doubt_s()
        if at_s is None or now <= at_s:
            return None
        newest = max(sign.last_s for name, sign in self._signs.items() if name != PATH)
        return f"no media for {now - newest:.2f} s"

    def doubt_s(self) -> float | None:
        """Return the earliest time at which there can be doubt [s]; None: never."""
        return max(
            (s.last_s + 0.5 * s.limit_s for name, s in self._signs.items() if name != PATH),
            default=None,
        )

    def deadline_s(self) -> float | None:
        """Return the earliest time at which `quiet` can change its mind [s]; None: never."""
        return min((s.last_s + s.limit_s for s in self._signs.values()), default=None)

    def _words(self, name: str, now: float, what: str) -> Quiet:
        sign = self._signs[name]
        because = f"{what} for {now - sign.last_s:.2f} s (limit {sign.limit_s:.2f} s)"
        return Quiet(sign=name, since_s=sign.last_s, because=because)
