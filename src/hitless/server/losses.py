"""What share of its packets a client loses, by the counts in its reports."""

from __future__ import annotations

from typing import Final

from ..client import protocol
from .hub import STREAMS_MAX


PACKETS_MIN: Final = 100.0
"""Of fewer packets no share is told: a single one would be more than a percent of them."""

_PACKETS_MAX: Final = float((1 << 53) - 1)
"""Up to here no difference of floats is off, and no lie becomes one that is no number."""


class Losses:
    """Remembers the counts of one connection, stream by stream, from one report to the next."""

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last: dict[str, tuple[str, float, float]] = {}

    def share(self, report: protocol.Report) -> float | None:
        """
        Return the share of packets that were lost since it could be told last [0..1].

        None: it cannot be told now, because the client does not count them, this is its first
        report from there, its leg is another one (a count went back), or there were too few yet.

        Args:
            report: Each that comes, in order; clients may say anything.
        """
        stream, received = report.stream, float(report.packetsReceived)
        last = self._last.pop(stream, None)
        if not received:
            return None
        lost = min(max(report.packetsLost, 0.0), _PACKETS_MAX)
        if len(self._last) >= STREAMS_MAX:  # names of streams that it has left since
            self._last.clear()
        self._last[stream] = report.provider, lost, received
        if last is None or last[0] != report.provider or received < last[2]:
            return None
        lost = max(lost - last[1], 0.0)  # what came late is lost no more: RFC 3550, A.3
        total = lost + (received - last[2])
        if total < PACKETS_MIN:
            self._last[stream] = last
            return None
        return lost / total
