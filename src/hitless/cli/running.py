"""What commands that run for long share: an orderly end, and a look at the source beforehand."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Final

from ..errors import ConfigError


_TEST_PICTURE: Final = "test-picture"
"""As `hitless.media.source` has it; importing that would cost half a second here."""


def check_source(source: str) -> None:
    """
    Refuse a source that is not there, before anything is started.

    Raises:
        ConfigError: It is neither the test picture nor a readable file or device.
    """
    path = Path(source)
    if source == _TEST_PICTURE or (
        path.exists() and os.access(path, os.R_OK) and not path.is_dir()
    ):
        return
    why = "cannot be read" if path.exists() else "is not there"
    raise ConfigError(
        f"source {source!r} {why}: give {_TEST_PICTURE}, a file, or a camera such as /dev/video0"
    )


def run_until_interrupted(work: Coroutine[Any, Any, None]) -> None:
    """
    Run until done, or until SIGINT, SIGTERM or SIGHUP, after which all is released in order.

    Raises:
        KeyboardInterrupt: It was interrupted.
    """

    async def main() -> bool:
        loop, task = asyncio.get_running_loop(), asyncio.ensure_future(work)
        told: list[int] = []

        def stop(number: int) -> None:
            if not told:  # a second Ctrl-C changes nothing: it is being released already
                task.cancel()
            told.append(number)

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, stop, number)
        with contextlib.suppress(asyncio.CancelledError):
            await task
        return bool(told)

    if asyncio.run(main()):
        raise KeyboardInterrupt
