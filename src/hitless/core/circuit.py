"""
When to stop asking a provider, and when to ask again.

One circuit guards one provider. A circuit is a value: `after()` returns a new one. The table is
the state machine; the diagram in `docs/how-it-decides.md` is drawn from it.

Source: M. Nygard, "Release It!", 2nd ed. (2018), "Circuit Breaker".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final


class Circuit(StrEnum):
    """Whether a provider may be given new streams."""

    CLOSED = "closed"
    """Trusted: streams may start."""
    OPEN = "open"
    """Banned until `Breaker.banned_until_s`."""
    HALF_OPEN = "half_open"
    """On trial: the next result decides."""


class Signal(StrEnum):
    """What can happen to a circuit."""

    SUCCESS = "success"
    FAILURE = "failure"
    """`max_failures` failures in a row, or one failed trial."""
    COOLED = "cooled"
    """The ban has run out."""


TRANSITIONS: Final[Mapping[tuple[Circuit, Signal], Circuit]] = {
    (Circuit.CLOSED, Signal.SUCCESS): Circuit.CLOSED,
    (Circuit.CLOSED, Signal.FAILURE): Circuit.OPEN,
    (Circuit.CLOSED, Signal.COOLED): Circuit.CLOSED,
    # Media that came in spite of the ban (everybody was banned, so it was tried): evidence.
    (Circuit.OPEN, Signal.SUCCESS): Circuit.CLOSED,
    (Circuit.OPEN, Signal.FAILURE): Circuit.OPEN,
    (Circuit.OPEN, Signal.COOLED): Circuit.HALF_OPEN,
    (Circuit.HALF_OPEN, Signal.SUCCESS): Circuit.CLOSED,
    (Circuit.HALF_OPEN, Signal.FAILURE): Circuit.OPEN,
    (Circuit.HALF_OPEN, Signal.COOLED): Circuit.HALF_OPEN,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Breaker:
    """
    The circuit of one provider, with its memory.

    Attributes:
        circuit: Closed, open or half-open.
        bans: How often in a row it was banned; doubles the next ban.
        banned_until_s: When an open circuit goes on trial [s].
    """

    circuit: Circuit = Circuit.CLOSED
    bans: int = 0
    banned_until_s: float = 0.0

    def after(self, signal: Signal, now: float, *, ban_s: float, ban_s_max: float) -> Breaker:
        """
        Return the breaker after `signal`.

        Args:
            signal: What happened.
            now: When [s].
            ban_s: Length of a first ban [s].
            ban_s_max: Longest ban [s].
        """
        target = TRANSITIONS[self.circuit, signal]
        if target is Circuit.OPEN and self.circuit is not Circuit.OPEN:
            length_s = min(ban_s * 2.0**self.bans, ban_s_max)
            return Breaker(circuit=target, bans=self.bans + 1, banned_until_s=now + length_s)
        if target is Circuit.CLOSED and self.circuit is not Circuit.CLOSED:
            return Breaker()
        return replace(self, circuit=target)

    @property
    def admits(self) -> bool:
        """Whether a new stream may be started."""
        return self.circuit is not Circuit.OPEN
