"""
How often one account may call a provider's control API: token buckets that make callers wait.

A provider's "20 calls a second" is kept in any window of a second, not on average: a bucket of b
tokens that is refilled at r per second lets less than b + r calls through in a second, so b and
r share the limit between them.
"""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ..errors import Refused, Retry
from .headers import RETRY_AFTER_S_MAX


MARGIN: Final = 0.9
"""The part of a limit that is used [0..1]; calls arrive less evenly than they were sent."""

SUBJECTS_MAX: Final = 10_000
"""Rooms or channels whose own limit is remembered, per kind of call; some 5 MB when full."""

_BURST_SHARE: Final = 0.2
"""The part of a second's calls that may come at once [0..1]; the rest is refilled evenly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """
    What a provider allows for one kind of call.

    Attributes:
        per_s: Calls of the account [1/s].
        each_s: Time between two calls about the same room or channel [s]; 0: no such limit.
    """

    per_s: float
    each_s: float = 0.0


class Quota:
    """
    The calls of one account. Share it among all clients of that account in this process.

    Args:
        provider: Name for errors.
        limits: What each kind of call is allowed.

    Raises:
        ValueError: A limit that is not positive.
    """

    def __init__(self, provider: str, limits: Mapping[str, Limit]) -> None:
        self._provider = provider
        self._limits = dict(limits)
        self._whole = {kind: _Bucket(limit.per_s) for kind, limit in limits.items()}
        self._each: dict[str, OrderedDict[str, _Bucket]] = {kind: OrderedDict() for kind in limits}

    async def take(
        self, kind: str, *, operation: str, deadline: float, subject: str | None = None
    ) -> None:
        """
        Wait until one more call may be made; first come, first served.

        Cancelling gives back what was taken. Nobody waits who would wait in vain: who cannot be
        served by the deadline is told so at once.

        Args:
            kind: Which kind of call; one of `limits`.
            operation: What for, for the error.
            deadline: When the caller gives up [s, the loop's clock].
            subject: The room or channel that it is about, if that has a limit of its own.

        Raises:
            Refused: It would be later than `deadline`; `retry_after_s` says when to ask again.
        """
        buckets = [self._whole[kind]]
        if subject is not None and self._limits[kind].each_s > 0:
            buckets.insert(0, self._bucket_of(kind, subject))
        now = asyncio.get_running_loop().time()
        wait_s = max(bucket.wait_s(now, ahead=bucket.waiting) for bucket in buckets)
        if now + wait_s > deadline:
            raise self._refused(kind, operation, wait_s)
        taken: dict[_Bucket, float] = {}
        try:
            async with asyncio.timeout_at(deadline):
                for bucket in buckets:
                    taken[bucket] = await bucket.take()
        except BaseException as exc:
            for bucket, full_at_s in taken.items():
                bucket.give_back(full_at_s)
            if not isinstance(exc, TimeoutError):
                raise
            wait_s = max(bucket.wait_s(deadline, ahead=bucket.waiting) for bucket in buckets)
            raise self._refused(kind, operation, wait_s) from None

    def hold(self, kind: str, for_s: float) -> None:
        """Let nobody through for so long [s, at most 300]: the provider said that it is enough."""
        now = asyncio.get_running_loop().time()
        bucket = self._whole[kind]
        bucket.held_until_s = max(bucket.held_until_s, now + min(for_s, RETRY_AFTER_S_MAX))

    def _bucket_of(self, kind: str, subject: str) -> _Bucket:
        known = self._each[kind]
        bucket = known.pop(subject, None)
        if bucket is None:
            bucket = _Bucket(1.0 / self._limits[kind].each_s)
        known[subject] = bucket
        if len(known) > SUBJECTS_MAX:
            # The oldest that nobody waits for: its next call may then come too early once.
            idle = next((name for name, each in known.items() if not each.waiting), subject)
            if idle != subject:
                del known[idle]
        return bucket

    def _refused(self, kind: str, operation: str, wait_s: float) -> Refused:
        limit = self._limits[kind]
        each = f", one in {limit.each_s:g} s for each room" if limit.each_s else ""
        return Refused(
            f"our own limit for {kind} is used up ({limit.per_s:g} calls a second{each})",
            provider=self._provider,
            operation=operation,
            retry=Retry.NEXT,
            retry_after_s=min(wait_s, RETRY_AFTER_S_MAX),
            answered=False,
        )


class _Bucket:
    """Tokens, kept as the one time at which it will be full again (GCRA; ITU-T I.371)."""

    def __init__(self, per_s: float) -> None:
        if not 0.0 < per_s < math.inf:
            raise ValueError("a limit must be more than 0 calls a second")
        usable = MARGIN * per_s
        self._burst = 1 + math.floor(_BURST_SHARE * usable)
        self._token_s = 1.0 / (usable - (self._burst - 1))
        self._full_at_s = -math.inf
        self._turn = asyncio.Lock()  # first come, first served
        self.held_until_s = -math.inf
        self.waiting = 0

    def wait_s(self, now: float, *, ahead: int = 0) -> float:
        """Return when a token is there for somebody with `ahead` others before them [s]."""
        full_at_s = max(self._full_at_s, now)
        # When held, those ahead are let through at once and then one by one.
        held_s = self.held_until_s - now
        if held_s > 0:
            held_s += max(0, ahead + 1 - self._burst) * self._token_s
        wait_s = max(full_at_s - now + (ahead + 1 - self._burst) * self._token_s, held_s)
        # Sums of floats may miss the last bit, and no timer could wait for that.
        return wait_s if wait_s > 1e-9 * (1.0 + abs(now)) else 0.0

    async def take(self) -> float:
        """Wait for a token, take it, and return what `give_back` wants to know."""
        loop = asyncio.get_running_loop()
        self.waiting += 1
        try:
            async with self._turn:
                while (wait_s := self.wait_s(loop.time())) > 0:  # noqa: ASYNC110 -- until a time
                    await asyncio.sleep(wait_s)
                self._full_at_s = max(self._full_at_s, loop.time()) + self._token_s
                return self._full_at_s
        finally:
            self.waiting -= 1

    def give_back(self, full_at_s: float) -> None:
        """Put back a token that was not used, unless another was taken since."""
        if self._full_at_s == full_at_s:
            self._full_at_s -= self._token_s
