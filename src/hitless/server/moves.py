"""One stream's move: where it can go, and whether its viewers can follow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from .coordinator import WORDS_CHARS_MAX, Rejected
from .providers import Providers
from .quotas import limits_of
from .reach import bearable, can_open, carried, has_adapter
from .store import Store
from .store_members import Reach, Role
from .store_operators import ProviderRow


STARTS_PER_S: Final = 50.0
"""What a provider that says nothing is taken to accept [1/s]."""

MIN_VIEWER_REACH: Final = 0.95
"""A planned move that leaves a larger share of a stream's viewers behind is refused."""


class Moves:
    """
    What an operator's move of one stream is checked by.

    Args:
        store: Where the rows are.
        providers: Where streams can go.
        min_viewer_reach: Share of a stream's viewers that must be able to follow [0..1].
    """

    def __init__(
        self,
        store: Store,
        providers: Providers,
        *,
        min_viewer_reach: float = MIN_VIEWER_REACH,
    ) -> None:
        self._store, self._providers = store, providers
        self._min_reach = min_viewer_reach

    async def other(self, stream: str) -> str:
        """
        Return where a stream can go from where it is: the best that has room, and that its
        publisher and enough of its viewers can open; of two, the one that shares no faults with
        where it is.

        Raises:
            Rejected: Nowhere; says why of each.
        """
        row = await self._store.streams.one(stream)
        here = row.provider if row else ""
        rows = self._providers.rows
        found = [name for name in self._providers.order() if name != here]
        if not found:
            raise Rejected(409, "no-provider", self._providers.why_nobody())
        if here in rows and (domain := limits_of(rows[here]).fault_domain):
            found.sort(key=lambda name: limits_of(rows[name]).fault_domain == domain)
        publishers, viewers = await self._reach_of(stream)
        unfit = {name: self._unfit(rows[name], publishers, viewers) for name in found}
        fit = next((name for name in found if unfit[name] is None), None)
        if fit is None:
            because = "; ".join(str(why) for why in unfit.values())
            raise Rejected(409, "no-provider", because[:WORDS_CHARS_MAX])
        return fit

    async def check_reach(self, stream: str, target: str) -> None:
        """
        Check that `target` has room, and that a stream's publisher and enough of its viewers can
        open it.

        Raises:
            Rejected: It is full, or its publisher or too many viewers cannot; says how many.
        """
        row = self._providers.rows.get(target)
        if row is None:
            raise Rejected(404, "unknown-provider", f"there is no provider {target[:80]!r}")
        # Counted where the rows are: reading ten thousand of them would hold up everybody.
        publishers, viewers = await self._reach_of(stream)
        if (why := self._unfit(row, publishers, viewers)) is None:
            return
        there = await self._store.streams.one(stream)
        if why.code == "unreachable" or there is None or there.provider != target:
            raise why

    async def _reach_of(self, stream: str) -> tuple[Sequence[Reach], Sequence[Reach]]:
        """Return what its publisher and its viewers can open."""
        publishers = await self._store.members.reach_of(stream, Role.PUBLISHER)
        return publishers, await self._store.members.reach_of(stream, Role.VIEWER)

    def _unfit(
        self, row: ProviderRow, publishers: Sequence[Reach], found: Sequence[Reach]
    ) -> Rejected | None:
        """Return why a stream of these clients cannot go to a provider; None: it can."""
        if not all(has_adapter(one, row) for one in publishers):
            says = f"its publisher cannot open {row.name} (adapter {row.adapter})"
            return Rejected(409, "unreachable", says)
        if not all(can_open(one, row) for one in publishers):
            says = f"its publisher cannot open {row.name} for want of codecs"
            says += f": {carried(row, Role.PUBLISHER)}"
            return Rejected(409, "unreachable", says)
        viewers = sum(one.members for one in found)
        lost = [one for one in found if not can_open(one, row)]
        behind = sum(one.members for one in lost)
        if behind > bearable(viewers, self._min_reach):
            says = f"{behind} of {viewers} viewers cannot open {row.name}"
            if by_codecs := sum(one.members for one in lost if has_adapter(one, row)):
                says += f", {by_codecs} for want of codecs: {carried(row, Role.VIEWER)}"
            says += f" (min_viewer_reach = {self._min_reach:g})"
            return Rejected(409, "unreachable", says)
        if why := self._providers.quotas.full(row.name):
            return Rejected(409, "full", f"{why} (max_streams)")
        return None
