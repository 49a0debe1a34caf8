"""Work beside the critical path of a leg: owned, bounded, and when it fails nobody's fault."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, Final

from ..errors import HitlessError
from ..media.closing import finish


CHORE_S: Final = 20.0
"""How long one may take [s]: a call of a control API with its retries."""

CHORES_MAX: Final = 256
"""Chores at a time; one more is left out, for calls are limited and nothing depends on it."""

logger = logging.getLogger(__name__)


class Chores:
    """
    The chores of one provider.

    Args:
        provider: Name for logs and tasks.
    """

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closed = False

    def begin(
        self, what: str, work: Coroutine[Any, Any, None], *, limit_s: float | None = CHORE_S
    ) -> asyncio.Task[None] | None:
        """
        Begin one, and return it to who may want to cancel it; None: there are too many.

        Args:
            what: For the log.
            work: Raises no more than `HitlessError`.
            limit_s: Longest time [s]; None: it ends by itself, or when its provider closes.
        """
        if self._is_closed or len(self._tasks) >= CHORES_MAX:
            work.close()
            return None
        task = asyncio.create_task(self._run(what, work, limit_s), name=f"{self._provider} {what}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: work.close())  # cancelled before it began
        return task

    async def aclose(self) -> None:
        """Cancel all of them and begin no more. Idempotent; safe under cancellation."""
        self._is_closed = True
        for task in tuple(self._tasks):
            task.cancel()
            await finish(task)

    async def _run(
        self, what: str, work: Coroutine[Any, Any, None], limit_s: float | None
    ) -> None:
        try:
            async with asyncio.timeout(limit_s):
                await work
        except (HitlessError, TimeoutError) as exc:
            logger.debug("%s: %s was not done: %s", self._provider, what, exc)
