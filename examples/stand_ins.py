"""Three WHIP servers to try things on: the lab's stand-ins, each a process of its own."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from hitless.lab.stage import Stage


# The examples print the news themselves; a program without logging would show warnings twice.
logging.getLogger("hitless").addHandler(logging.NullHandler())


class StandIns:
    """
    The servers.

    Attributes:
        urls: The WHIP endpoint of each by name, best first.
    """

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.urls = {name: stage.urls[name] + "/whip/{stream}" for name in stage.names}

    async def kill(self, name: str) -> None:
        """End the process of one with SIGKILL."""
        await self._stage.break_(name, "killed")


@asynccontextmanager
async def stand_ins() -> AsyncIterator[StandIns]:
    """Start the servers, and end them afterwards."""
    with tempfile.TemporaryDirectory(prefix="hitless-example-") as folder:
        async with Stage(Path(folder), has_accounts=False) as stage:
            yield StandIns(stage)
