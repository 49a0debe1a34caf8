"""Where in time frames lie that came through a provider's SDK."""

from __future__ import annotations

from typing import Final


DRIFT_S: Final = 1.0
"""Timestamps that leave the time of arrival by more than this [s] begin anew there."""

_PULL: Final = 0.01
"""What part of their distance from arrival pictures are moved with each: the publisher's clock
and ours differ by up to 180 ms an hour (50 ppm)."""

_EVEN_S: Final = 0.02
"""Presentation times of sound that differ by less from its length [s] are rounding."""

_STEP_S_MAX: Final = 10.0


class Line:
    """
    The times of one kind's frames [s]: those of their arrival, but as even as they were made.

    Args:
        even: Whether each follows on the one before without a hole (sound).
    """

    def __init__(self, *, even: bool) -> None:
        self._even = even
        self._at_s: float | None = None
        self._shown_ms, self._lasts_s, self._came_s = 0, 0.0, 0.0

    def place(self, came_s: float, shown_ms: int, lasts_s: float) -> float:
        """
        Return where a frame lies: later than all before it.

        Args:
            came_s: When it came [s].
            shown_ms: Its presentation time [ms]; 0 or less: not known.
            lasts_s: How long it lasts [s]; 0: not known.
        """
        at_s = came_s
        if self._at_s is not None:
            at_s = self._at_s + self._step_s(came_s, shown_ms)
            if abs(at_s - came_s) > DRIFT_S:
                at_s = came_s
            elif not self._even:
                at_s += _PULL * (came_s - at_s)
            at_s = max(at_s, self._at_s + 0.001)
        self._at_s, self._came_s = at_s, came_s
        self._shown_ms, self._lasts_s = shown_ms, lasts_s
        return at_s

    def _step_s(self, came_s: float, shown_ms: int) -> float:
        """Return how long after the last frame this one lies [s]."""
        step_s = self._lasts_s if self._even else came_s - self._came_s
        if shown_ms > 0 and self._shown_ms > 0:
            shown_s = (shown_ms - self._shown_ms) / 1000
            if 0 < shown_s < _STEP_S_MAX and not (self._even and abs(shown_s - step_s) < _EVEN_S):
                step_s = shown_s
        return step_s
