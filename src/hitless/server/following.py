"""
How far the clients of a stream have followed it, and when its older legs may close.

Signs of life are gathered in memory, the newest of each client, and written together: never one
row for each report.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

from ..client import protocol
from .hub import Connection, Hub
from .store import Store
from .store_members import Seen


RELEASE_PAUSE_S: Final = 0.1
"""Whether all viewers have followed is asked at most this often for one stream [s]."""


class Following:
    """
    Of all streams that somebody is connected for here.

    Args:
        store: Where the rows are.
        hub: Who is connected here.
        own: Runs something in the background, under a name.
    """

    def __init__(
        self,
        store: Store,
        hub: Hub,
        own: Callable[[Coroutine[Any, Any, None], str], None],  # Any: as a coroutine has it
    ) -> None:
        self._store, self._hub, self._own = store, hub, own
        self._releasing: set[str] = set()
        self._signs: dict[tuple[str, str], tuple[int, str]] = {}
        """Of each stream and client: the epoch it obeys, and where it is."""

    def seen(self, connection: Connection, stream: str, epoch: int, provider: str) -> None:
        """Note where a client is; written with many others by `flush`."""
        key = stream, connection.client
        before, _ = self._signs.get(key, (0, ""))
        self._signs[key] = max(epoch, before), provider

    async def flush(self) -> None:
        """Write what was seen, in one transaction."""
        signs, self._signs = self._signs, {}
        if signs:
            await self._store.members.seen([Seen(*who, *what) for who, what in signs.items()])

    def release_soon(self, stream: str) -> None:
        """Ask soon whether the older legs of a stream's publisher may close, if it is here."""
        if stream not in self._releasing and self._hub.clients(stream, "publisher"):
            self._releasing.add(stream)
            self._own(self._release(stream), f"release of {stream}")

    async def _release(self, stream: str) -> None:
        """Tell the publisher that its older legs may close, once every viewer has followed."""
        try:
            await asyncio.sleep(RELEASE_PAUSE_S)
        finally:
            self._releasing.discard(stream)
        await self.flush()
        row = await self._store.streams.one(stream)
        if row is None or not row.is_carried:
            return
        if not await self._store.members.behind(stream, row.epoch, row.rescue_provider):
            message = protocol.Release(stream=stream, epoch=row.epoch)
            self._hub.tell(stream, message, "publisher")
