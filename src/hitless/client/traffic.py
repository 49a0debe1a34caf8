"""What the legs of a client carried, for its reports: the growth of webrtc-stats counters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from ..providers.base import Leg, Stats
from .telemetry import log


_WHOLE_MAX: Final = (1 << 53) - 1
"""What JSON carries exactly (RFC 8259 section 6)."""


class Traffic:
    """Remembers what it was asked about, so that no byte is told twice."""

    def __init__(self) -> None:
        self._told: dict[int, tuple[int, int]] = {}

    def taken(self, legs: Mapping[int, Leg], which: Iterable[int]) -> tuple[int, int]:
        """
        Return what some legs sent and received since they were asked about last [byte].

        Args:
            legs: All that are open, by number; others are forgotten.
            which: Numbers of those that are asked about.
        """
        self._told = {number: told for number, told in self._told.items() if number in legs}
        sent = received = 0
        for number in which:
            leg = legs.get(number)
            if leg is None:
                continue
            before, now = self._told.get(number, (0, 0)), _counted(leg)
            if now is None:
                continue
            # A counter that went back began anew: a leg may change its transport.
            sent += now[0] - before[0] if now[0] >= before[0] else now[0]
            received += now[1] - before[1] if now[1] >= before[1] else now[1]
            self._told[number] = now
        return min(sent, _WHOLE_MAX), min(received, _WHOLE_MAX)


def _counted(leg: Leg) -> tuple[int, int] | None:
    """Return how many bytes a leg sent and received in all; None: it does not say."""
    try:
        stats = leg.stats()
        # W3C webrtc-stats: a transport counts headers and repetitions too, as whoever bills does.
        transports = [one for one in stats if one.get("type") == "transport"]
        return _sum(transports or stats, "bytesSent"), _sum(transports or stats, "bytesReceived")
    except Exception:  # whatever an adapter does in there: a report is no reason to end
        log.exception("the statistics of a leg failed", provider=leg.provider)
        return None


def _sum(stats: Iterable[Stats], name: str) -> int:
    values = (one.get(name) for one in stats)
    return sum(value for value in values if isinstance(value, int) and value > 0)
