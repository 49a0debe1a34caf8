"""Which reports of clients are looked at closely: as many each second as tell enough."""

from __future__ import annotations

from typing import Final


PER_S: Final = 4.0
"""Reports of each provider that are taken [1/s]: in the minute for which a vote counts, about as
many as votes are kept. To look at one costs more than to hear it."""

_PROVIDERS_MAX: Final = 256


class Samples:
    """
    Takes reports at an even pace, those of each provider by themselves.

    Whose report is taken depends on when it comes, and on nothing that is in it: so the share of
    bad ones among those taken is that among all.
    """

    def __init__(self) -> None:
        self._next_s: dict[str, float] = {}

    def takes(self, provider: str, now: float) -> bool:
        """
        Return whether this report is one of those that are taken.

        Args:
            provider: One that there is; clients may say anything.
            now: When it came [s].
        """
        if now < self._next_s.get(provider, now):
            return False
        if len(self._next_s) >= _PROVIDERS_MAX:  # names of those that were deleted since
            self._next_s.clear()
        self._next_s[provider] = now + 1.0 / PER_S
        return True
