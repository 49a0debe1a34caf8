"""One stream's move: where it can go, and whether its viewers can follow."""

from __future__ import annotations

from typing import Final

from .coordinator import Rejected
from .providers import Providers
from .store import Store
from .store_members import Reach, Role


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
        Return where a stream can go from where it is.

        Raises:
            Rejected: Nowhere.
        """
        row = await self._store.streams.one(stream)
        here = row.provider if row else ""
        found = next((name for name in self._providers.order() if name != here), None)
        if found is None:
            raise Rejected(409, "no-provider", self._providers.why_nobody())
        return found

    async def check_reach(self, stream: str, target: str) -> None:
        """
        Check that enough of a stream's viewers can open `target`.

        Raises:
            Rejected: Too many cannot; says how many of how many.
        """
        row = self._providers.rows.get(target)
        if row is None:
            raise Rejected(404, "unknown-provider", f"there is no provider {target[:80]!r}")
        # Counted where the rows are: reading ten thousand of them would hold up everybody.
        found = await self._store.members.reach_of(stream, Role.VIEWER)
        viewers = sum(one.members for one in found)
        behind = sum(one.members for one in found if not _can_open(one, row.adapter))
        if viewers and behind > (1.0 - self._min_reach) * viewers:
            raise Rejected(
                409,
                "unreachable",
                f"{behind} of {viewers} viewers cannot open {target} "
                f"(min_viewer_reach = {self._min_reach:g})",
            )


def _can_open(reach: Reach, adapter: str) -> bool:
    return not reach.adapters or adapter in reach.adapters
