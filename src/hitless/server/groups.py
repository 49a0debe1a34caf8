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

_LEAD: Final = (By.PUBLISHER, By.OPERATOR)
"""Whose moves the group follows: not those of a start, nor our own."""

_ROUNDS_MAX: Final = 4


async def carrier(group: str, stream: str, store: Store) -> str:
    """Return who carries the others of a stream's group; empty: nobody, or it has no others."""
    if group == stream:
        return ""
    found = await store.streams.page(group=group, is_on=True, limit=2)
    return next((one.provider for one in found if one.id != stream), "")


async def bring_along(row: StreamRow, store: Store, coordinator: Coordinator) -> None:
    """
    Streams of one group move together; of two that part at once the first id leads.

    The others follow to where `row` is by now: it may have moved on since, here or at another
    node, also while they follow, so it is looked at again until nobody is left behind.
    """
    for _ in range(_ROUNDS_MAX):
        group = {one.id: one for one in await store.streams.page(group=row.group_id, is_on=True)}
        row = group.pop(row.id, row)
        apart = [one for one in group.values() if one.provider != row.provider]
        ahead = [
            one
            for one in apart
            if one.id < row.id and one.by in _LEAD and row.changed_s - one.changed_s < TOGETHER_S
        ]
        leader = min(ahead, key=lambda one: one.id, default=row)
        because = f"with {leader.id} of its group: {leader.because}"
        for one in [row] if ahead else apart:
            with contextlib.suppress(HitlessError):  # it ended, went elsewhere, or no store
                await coordinator.move(
                    one.id, leader.provider, by=By.SERVER, because=because, is_alone=True
                )
        if ahead or not apart:
            return
