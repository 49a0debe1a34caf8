"""
How much a provider may be given: what its row says, else what its adapter's record says.

Where the quota of a company is used up, its next answer is a no; so new streams go elsewhere
first. What a provider carries is read from the store once a second, for those with a limit only,
and what this node places meanwhile is added: a start asks the store for nothing more. Within that
second other nodes may place a few more than fit; the provider refuses those, and they go on.
"""

from __future__ import annotations

import asyncio
import functools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ..core.pacing import MARGIN
from ..providers.record import Quotas as Stated
from ..providers.record import Record, record_of
from .api_control import API_URL
from .store import Store
from .store_operators import ProviderRow


READ_S: Final = 1.0
"""What is carried is read so often [s]."""
NODE_ALIVE_S: Final = 10.0
"""A node that was heard of within this shares what a provider accepts [s]."""

_BURST_SHARE: Final = 0.2
"""The part of a second's starts that may come at once [0..1]; the rest is refilled evenly."""
_DEBT_S: Final = 1.0
"""What was started without asking (publishers that move by themselves) counts for so long [s]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """
    What holds for a provider.

    Attributes:
        max_streams: Most streams at a time; None: no limit is known.
        starts_per_s: Starts it accepts [1/s]; None: no limit is known.
        fault_domain: What it shares its faults with; empty: nothing but itself.
    """

    max_streams: int | None = None
    starts_per_s: float | None = None
    fault_domain: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Hindrance:
    """Why a provider should not be given one more stream now: in words, and whether for long."""

    because: str
    is_full: bool


def limits_of(row: ProviderRow) -> Limits:
    """
    Return the limits of a provider.

    A record tells of a company's own service. A row whose API is somewhere else (a stand-in's)
    is given none of its limits, and whatever a row says goes before.
    """
    record = None if API_URL in row.config else _record(row.adapter)
    stated = record.quotas if record is not None else Stated()
    usual = record.fault_domain if record is not None else ""
    most, domain = row.config.get("max_streams"), row.config.get("fault_domain")
    return Limits(
        max_streams=most if isinstance(most, int) else stated.max_streams,
        starts_per_s=stated.starts_per_s if row.starts_per_s is None else row.starts_per_s,
        fault_domain=domain if isinstance(domain, str) and domain else usual,
    )


@functools.cache
def _record(adapter: str) -> Record | None:
    try:
        return record_of(adapter)
    except Exception:  # not installed, or an outsider's package that cannot be imported
        return None


class Quotas:
    """
    What providers may still be given, as this node knows it.

    Args:
        store: Where it is counted what they carry.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._limits: Mapping[str, Limits] = {}
        self._rows: Mapping[str, ProviderRow] = {}
        self._carried: Counter[str] = Counter()
        self._placed: Counter[str] = Counter()
        """What this node placed since it was counted last."""
        self._nodes = 1
        self._read_s = -math.inf
        self._full_at_s: dict[str, float] = {}
        """When the bucket of a provider's starts is full again (GCRA; ITU-T I.371)."""

    async def read(self, rows: Mapping[str, ProviderRow]) -> None:
        """
        Learn the limits of these providers, and count what they carry; at most once a second.

        Raises:
            StoreUnavailable: The store does not answer; what was known stays.
        """
        now = asyncio.get_running_loop().time()
        if rows == self._rows and now - self._read_s < READ_S:
            return
        if rows != self._rows:
            await asyncio.to_thread(_learn, {row.adapter for row in rows.values()})
            found = {name: limits_of(row) for name, row in rows.items()}
            self._limits = {
                name: one
                for name, one in found.items()
                if one.max_streams is not None or one.starts_per_s is not None
            }
            self._rows = rows
        self._read_s = now
        for name, one in self._limits.items():
            if one.max_streams is not None:
                placed = self._placed[name]
                shares = await self._store.streams.shares(name)
                self._carried[name] = sum(share.streams for share in shares)
                self._placed[name] -= placed
        if any(one.starts_per_s is not None for one in self._limits.values()):
            self._nodes = max(1, len(await self._store.nodes.alive(NODE_ALIVE_S)))

    def ordered(
        self, order: Sequence[str], is_down: Callable[[str], bool], here: str = ""
    ) -> tuple[tuple[str, ...], str]:
        """
        Return an order with those last that have no room, and why its first one is another now.

        One that is full comes after all others. One that accepts no more starts now comes after
        all that are not down. Nobody is left out: better refused there than not asked.

        Args:
            order: Providers, best first.
            is_down: Whether one is believed to be down.
            here: Where the stream is already, which takes no more room there; empty: nowhere.
        """
        if not self._limits or not order:
            return tuple(order), ""
        now = asyncio.get_running_loop().time()
        found = {name: self._hindrance(name, now) for name in order if name != here}

        def turn(name: str) -> tuple[bool, bool, bool]:
            why = found.get(name)
            return why is not None and why.is_full, is_down(name), why is not None

        after = tuple(sorted(order, key=turn))
        is_hindered = found.get(after[0]) is not None
        passed = order if is_hindered else order[: order.index(after[0])]
        whys = "; ".join(why.because for name in passed if (why := found.get(name)))
        return after, f"nobody has room: {whys}" if is_hindered else whys

    def full(self, name: str) -> str:
        """Return why a provider has no room for one more stream; empty: it has."""
        why = self._hindrance(name, math.inf)
        return why.because if why is not None and why.is_full else ""

    def placed(self, name: str) -> None:
        """Take note that one more stream goes to a provider now."""
        limits = self._limits.get(name)
        if limits is None:
            return
        self._placed[name] += 1
        if limits.starts_per_s is not None:
            now = asyncio.get_running_loop().time()
            token_s, burst = self._bucket(limits.starts_per_s)
            full_at_s = max(self._full_at_s.get(name, now), now) + token_s
            self._full_at_s[name] = min(full_at_s, now + burst * token_s + _DEBT_S)

    @property
    def nodes(self) -> int:
        """How many nodes share what a provider accepts, where any says how much that is."""
        return self._nodes

    # --- Inside ---

    def _hindrance(self, name: str, now: float) -> _Hindrance | None:
        """Return why a provider should not be given one more stream now; None: it may."""
        limits = self._limits.get(name)
        if limits is None:
            return None
        has = self._carried[name] + self._placed[name]
        if limits.max_streams is not None and has >= limits.max_streams:
            because = f"{name} is full: {has} of {limits.max_streams} streams"
            return _Hindrance(because=because, is_full=True)
        if limits.starts_per_s is not None:
            token_s, burst = self._bucket(limits.starts_per_s)
            if self._full_at_s.get(name, now) - now > (burst - 1) * token_s * (1 + 1e-9):
                because = f"{name} accepts {limits.starts_per_s:g} starts a second"
                return _Hindrance(because=because, is_full=False)
        return None

    def _bucket(self, starts_per_s: float) -> tuple[float, int]:
        """Return how long a token takes [s], and how many there are: never more in a second."""
        share = MARGIN * starts_per_s / self._nodes
        burst = 1 + math.floor(_BURST_SHARE * share)
        return 1.0 / (share - (burst - 1)), burst


def _learn(adapters: Iterable[str]) -> None:
    """Import adapters for their records: it may take a tenth of a second, so not on the loop."""
    for adapter in adapters:
        _record(adapter)
