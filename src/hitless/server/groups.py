"""Streams of one group (co-hosts of a show) move together."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from ..core.agreement import By
from ..errors import HitlessError
from .store import Store
from .store_streams import StreamRow


if TYPE_CHECKING:
    from .coordinator import Coordinator

TOGETHER_S: Final = 2.0
"""Two streams of a group that move within this are one event [s]."""


async def bring_along(row: StreamRow, store: Store, coordinator: Coordinator) -> None:
    """Streams of one group move together; of two that part at once the first id leads."""
    others = await store.streams.page(group=row.group_id, is_on=True)
    apart = [one for one in others if one.provider != row.provider]
    ahead = [
        one
        for one in apart
        if one.id < row.id and one.by != By.SERVER and row.changed_s - one.changed_s < TOGETHER_S
    ]
    leader = min(ahead, key=lambda one: one.id, default=row)
    because = f"with {leader.id} of its group: {leader.because}"
    for one in [row] if ahead else apart:
        with contextlib.suppress(HitlessError):  # it ended, went elsewhere, or the store is away
            await coordinator.move(
                one.id, leader.provider, by=By.SERVER, because=because, is_alone=True
            )
