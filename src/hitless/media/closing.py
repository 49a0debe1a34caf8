"""Closing things so that a cancelled caller leaves nothing half closed."""

from __future__ import annotations

import asyncio


async def finish(task: asyncio.Task[None]) -> None:
    """
    Wait for a bounded clean-up even while being cancelled; the cancellation follows it.

    Args:
        task: Ends by itself within a limit and never raises.
    """
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as exc:
            cancelled = exc
    if cancelled is not None:
        raise cancelled
