"""
How a recovered provider gets its streams back: in steps, each of which must prove itself.

At each step its weight is a part of the configured one. By rendezvous hashing the streams of a
step are among those of the next, and all of them are streams that it had before: nobody else's
stream moves, and none moves twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, assert_never


STEPS: Final = (0.05, 0.25, 0.5, 1.0)
"""The parts of its weight that a recovered provider is given, one after the other."""


class Evidence(StrEnum):
    """How a provider does while its streams come back."""

    GOOD = "good"
    """Its media flows and its starts succeed."""
    POOR = "poor"
    """It goes wrong, or nothing is known: no reason to give it more."""
    DOWN = "down"
    """It failed again, or was disabled: its streams leave."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Climb:
    """
    How far a recovered provider has come back.

    Attributes:
        step: How many of `STEPS` it was given; 0: none yet.
        since_s: Since when it has been doing well on this step [s].
    """

    step: int = 0
    since_s: float = 0.0

    @property
    def share(self) -> float:
        """The part of its configured weight that counts now [0..1]."""
        return STEPS[self.step - 1] if self.step else 0.0

    def after(self, evidence: Evidence, now: float, *, step_s: float) -> Climb:
        """
        Return the climb after one look.

        It rises one step at most, after `step_s` of good evidence without a break, the first
        step at once (the circuit's trial was its proof); it stands still while things are poor,
        and begins anew after a fall.

        Args:
            evidence: How the provider does.
            now: When [s].
            step_s: How long each step must prove itself [s].
        """
        match evidence:
            case Evidence.DOWN:
                return Climb(since_s=now)
            case Evidence.POOR:
                return Climb(step=self.step, since_s=now)
            case Evidence.GOOD:
                is_due = self.step == 0 or now - self.since_s >= step_s
                if is_due and self.step < len(STEPS):
                    return Climb(step=self.step + 1, since_s=now)
                return self
            case _:
                assert_never(evidence)
