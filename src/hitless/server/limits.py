"""
How often and how many: token buckets and places for connections, in bounded memory.

Pure: no clock, no task. Who is limited is any text: the id of a key, or `client_of(address)`.
"""

from __future__ import annotations

import ipaddress
import math
from collections import OrderedDict
from typing import Final

from ..errors import HitlessError


BUCKETS_MAX: Final = 100_000
"""Buckets of one limit; some 20 MB when full."""

_WHO_CHARS_MAX: Final = 64
_IPV6_PREFIX: Final = 64
"""What one customer is given at least (RFC 6177 section 2): all of it is one caller."""


def client_of(address: str) -> str:
    """Return whom an address stands for: IPv4 itself, of IPv6 the /64 network it is in."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:_WHO_CHARS_MAX]
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((found, _IPV6_PREFIX), strict=False))


class RateLimit:
    """
    A token bucket each, kept as the one time at which it will be full again (GCRA; ITU-T I.371).

    Full buckets need no memory, and of the others the least recently used is forgotten when there
    are too many. Whoever wants his own forgotten must come from that many addresses, which would
    give him as many buckets anyway.

    Args:
        rate_per_s: Tokens that come back each second [1/s].
        burst: Tokens in a full bucket.
        buckets_max: Most buckets that are remembered.

    Raises:
        ValueError: A limit that is not positive, or a burst that cannot pay one request.
    """

    def __init__(self, *, rate_per_s: float, burst: float, buckets_max: int = BUCKETS_MAX) -> None:
        if not (0.0 < rate_per_s < math.inf and 1.0 <= burst < math.inf and buckets_max > 0):
            raise ValueError("rate_per_s > 0, burst >= 1 and buckets_max >= 1 are needed")
        self._token_s = 1.0 / rate_per_s
        self._burst = burst
        self._burst_s = burst * self._token_s
        self._buckets_max = buckets_max
        self._full_at_s: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_at_s)

    def take(self, who: str, now: float, tokens: float = 1.0) -> float:
        """
        Take tokens out of a bucket, if they are there.

        Args:
            who: Whose bucket.
            now: Time of the loop [s].
            tokens: How many; what costs more than others takes more.

        Returns:
            0: taken. More: nothing was taken; ask again after so long [s].

        Raises:
            ValueError: More than a full bucket holds, or not positive.
        """
        if not 0.0 < tokens <= self._burst:
            raise ValueError(f"tokens must be above 0 and at most {self._burst:g}")
        full_at_s = max(self._full_at_s.get(who, now), now) + tokens * self._token_s
        wait_s = full_at_s - now - self._burst_s
        # Sums of floats may miss the last bit: a whole burst must pass, as it was promised.
        if wait_s > 1e-9 * (1.0 + abs(now)):
            if who in self._full_at_s:
                self._full_at_s.move_to_end(who)  # who insists is not forgotten for it
            return wait_s
        self._full_at_s[who] = full_at_s
        self._full_at_s.move_to_end(who)
        self._forget(now)
        return 0.0

    def _forget(self, now: float) -> None:
        """Drop up to two of the oldest if they are full again, and what is too many."""
        for _ in range(2):
            oldest = next(iter(self._full_at_s))
            if self._full_at_s[oldest] > now and len(self._full_at_s) <= self._buckets_max:
                return
            del self._full_at_s[oldest]


class TooMany(HitlessError):
    """
    No place for one more connection.

    Attributes:
        because: Which limit, in words; names nobody.
    """

    def __init__(self, because: str) -> None:
        super().__init__(because)
        self.because = because


class Connections:
    """
    Counts what is open at the same time.

    Args:
        each_max: Most of one key or address.
        all_max: Most in all.

    Raises:
        ValueError: A limit below 1.
    """

    def __init__(self, *, each_max: int, all_max: int) -> None:
        if each_max < 1 or all_max < 1:
            raise ValueError("each_max and all_max must be at least 1")
        self._each_max = each_max
        self._all_max = all_max
        self._open: dict[str, int] = {}
        self._all = 0

    def __len__(self) -> int:
        return self._all

    def admit(self, who: str) -> Place:
        """
        Return a place, to be released when the connection ends.

        Raises:
            TooMany: No place is left, for this one or for anybody.
        """
        count = self._open.get(who, 0)
        if count >= self._each_max:
            raise TooMany(f"{self._each_max} connections of one caller are open already")
        if self._all >= self._all_max:
            raise TooMany(f"{self._all_max} connections are open already")
        self._open[who] = count + 1
        self._all += 1
        return Place(self, who)

    def _leave(self, who: str) -> None:
        self._all -= 1
        if self._open[who] == 1:
            del self._open[who]  # bounded by what is open, not by who ever came
        else:
            self._open[who] -= 1


class Place:
    """One connection's place; a context manager, or `release()`."""

    __slots__ = ("_connections", "_who")

    def __init__(self, connections: Connections, who: str) -> None:
        self._connections: Connections | None = connections
        self._who = who

    def __enter__(self) -> Place:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Give the place back. Idempotent."""
        connections, self._connections = self._connections, None
        if connections is not None:
            connections._leave(self._who)
