"""
One stay in a LiveKit room by the `livekit` package; see `livekit_sdk_worker.py`.

What the SDK gives for sound goes on when no packets come: signs of life are therefore read from
its statistics, packet counts every `POLL_S`; packets whose pictures are not shown are none.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
from collections.abc import Coroutine
from typing import Any, Final

from . import sdk_wire as wire
from .sdk_wire import Fault, Sign, Word
from .sdk_worker import LEAVE_S, Outbox


POLL_S: Final = 0.1
"""Time between two looks at the statistics [s]: one takes 1 to 15 ms (measured, 2 cores)."""

_STATS_S: Final = 1.0
"""How long one look may take [s]."""

_KINDS: Final = {"audio": Sign.AUDIO, "video": Sign.VIDEO}


class Stay:
    """
    One stay in one room.

    Args:
        outbox: Where to tell what happens.
    """

    def __init__(self, outbox: Outbox) -> None:
        self.rtc: Any = importlib.import_module("livekit.rtc")  # Any: not installed everywhere
        self.outbox, self.room = outbox, self.rtc.Room()
        self.clock = asyncio.get_running_loop().time
        self._counts: dict[tuple[str, str], int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.room.on("reconnecting", lambda: self.fail(Fault.AGAIN))
        self.room.on("disconnected", lambda reason: self.fail(Fault.REASON, int(reason)))

    def fail(self, what: Fault, number: int = 0) -> None:
        """Say that it is over."""
        self.outbox.put(Word.FAILED, wire.FAILED.pack(what, number))

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something besides, until the process ends; if it breaks, all is over."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._is_done)

    async def enter(self, said: dict[str, Any]) -> None:
        """Join; what is published by others is not subscribed to by itself."""
        rtc = self.rtc
        self.outbox.put(Word.READY)
        try:
            await self.room.connect(
                said["url"], said["token"], rtc.RoomOptions(auto_subscribe=False)
            )
        except rtc.ConnectError as exc:
            # Its words may hold the token: only what they mean is passed on.
            self.fail(Fault.DENIED if _is_denied(exc.message) else Fault.AWAY)
            raise Over from None
        self.outbox.put(Word.CONNECTED, self.room.local_participant.sid.encode())

    async def watch_signs(self) -> None:
        """Tell of signs of life, as long as there are any."""
        while True:
            found = 0
            # It may hang, or not be connected: silence says the rest.
            with contextlib.suppress(TimeoutError, RuntimeError):
                async with asyncio.timeout(_STATS_S):
                    stats = await self.room.get_rtc_stats()
                for each in (*stats.publisher_stats, *stats.subscriber_stats):
                    found |= self._signs(each)
            if found:
                self.outbox.put(Word.SIGNS, wire.SIGNS.pack(self.clock(), found))
            await asyncio.sleep(POLL_S)

    async def serve(self, order: int, body: bytes) -> None:
        """Obey one order; extended by each direction."""

    async def leave(self) -> None:
        """Leave the room."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LEAVE_S):
                await self.room.disconnect()

    def _is_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.fail(Fault.TROUBLE)

    def _signs(self, each: Any) -> int:
        """Return the signs of life in one entry of the statistics."""
        match each.WhichOneof("stats"):
            case "inbound_rtp":
                sign = _KINDS.get(each.inbound_rtp.stream.kind, 0)
                return sign if self._grew(each, each.inbound_rtp.received.packets_received) else 0
            case "remote_inbound_rtp":
                # The far side's receiver report: its time is that of its arrival.
                sign = _KINDS.get(each.remote_inbound_rtp.stream.kind, 0)
                return sign if self._grew(each, each.remote_inbound_rtp.rtc.timestamp) else 0
            case "transport":
                came = each.transport.transport.packets_received
                return Sign.PATH if self._grew(each, came) else 0
            case _:
                return 0

    def _grew(self, each: Any, count: int) -> bool:
        entry = getattr(each, each.WhichOneof("stats"))
        key = (each.WhichOneof("stats"), entry.rtc.id)
        before, self._counts[key] = self._counts.get(key, 0), count
        return count > before


class Over(Exception):
    """It was said already that it is over."""


def _is_denied(words: str) -> bool:
    """Whether the SDK's words for a failed join mean that the token was not taken."""
    return any(each in words.lower() for each in ("401", "403", "unauthorized", "not allowed"))
