"""Streams of one group (co-hosts of a show) move together."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from ..core.agreement import By
from ..core.stream_choices import Companion, Parting
from ..errors import HitlessError
from .store import Store
from .store_streams import StreamRow


if TYPE_CHECKING:
    from .coordinator import Coordinator

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
        row = group.setdefault(row.id, row)
        names = sorted(group)
        parting = Parting(
            streams=tuple(_companion(group[name]) for name in names), moved=names.index(row.id)
        )
        found = parting.followed()
        if found.streams and coordinator.recording is not None:
            coordinator.recording.parted(parting, found, asyncio.get_running_loop().time())
        for stream in found.streams:
            with contextlib.suppress(HitlessError):  # it ended, went elsewhere, or no store
                await coordinator.move(
                    stream, found.provider, by=By.SERVER, because=found.because, is_alone=True
                )
        if not found.is_led or not found.streams:
            return


def _companion(row: StreamRow) -> Companion:
    return Companion(
        stream=row.id,
        provider=row.provider,
        by=row.by,
        because=row.because,
        changed_s=row.changed_s,
    )
