"""Which of several hosts is asked next: the first choice, unless it failed a moment ago."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Final


LEFT_ALONE_S: Final = 60.0
"""How long a host that failed is left alone [s], while there is another."""

_KNOWN_MAX: Final = 64


class Rota:
    """
    Remembers which hosts failed, for a while.

    One attempt asks one host; the next attempt, which is the core's, asks the next one.
    """

    def __init__(self) -> None:
        self._failed_s: dict[str, float] = {}

    def choose(self, hosts: Sequence[str]) -> str:
        """Return the first that did not fail lately, or the one whose failure is oldest."""
        now = asyncio.get_running_loop().time()
        for host in hosts:
            if now - self._failed_s.get(host, -math.inf) >= LEFT_ALONE_S:
                return host
        return min(hosts, key=lambda host: self._failed_s[host])

    def failed(self, host: str) -> None:
        """Note that a host did not do."""
        self._failed_s.pop(host, None)
        self._failed_s[host] = asyncio.get_running_loop().time()
        if len(self._failed_s) > _KNOWN_MAX:
            del self._failed_s[next(iter(self._failed_s))]

    def worked(self, host: str) -> None:
        """Note that it did."""
        self._failed_s.pop(host, None)
