"""How many bytes a client is believed: so many a second, so that no lie is worth much."""

from __future__ import annotations

from typing import Final


BYTES_PER_S_MAX: Final = 12_500_000.0
"""
Of one stream of a connection [byte/s]: 100 Mbit/s, some five times what UHD television takes.

One that lies all month makes its provider look dearer by 33 TB a stream at most, and no sum of
floats loses a byte before 2^53 of them.
"""

KEPT_S_MAX: Final = 600.0
"""What was not used is kept for so long [s]: reports may be late."""


class Allowance:
    """
    What one connection may still tell of.

    Args:
        now: When it began [s].
    """

    __slots__ = ("_at_s", "_room")

    def __init__(self, now: float) -> None:
        self._at_s, self._room = now, 0.0

    def believed(self, told: tuple[int, int], streams: int, now: float) -> tuple[float, float]:
        """
        Return how much of two counts is believed, both in the same proportion [byte].

        Args:
            told: What the client says that it sent and received [byte].
            streams: How many streams the connection has.
            now: Time of the loop [s].
        """
        rate = BYTES_PER_S_MAX * max(streams, 1)
        self._room = min(self._room + (now - self._at_s) * rate, KEPT_S_MAX * rate)
        self._at_s = now
        total = sum(told)
        share = min(1.0, self._room / total) if total else 0.0
        self._room -= share * total
        return told[0] * share, told[1] * share
