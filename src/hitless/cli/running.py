"""What commands that run for long share: an orderly end, and a look at the source beforehand."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Final

from ..errors import ConfigError, LocalFault
from ..media.address import is_address, shown


_TEST_PICTURE: Final = "test-picture"
"""As `hitless.media.source` has it; importing that would cost half a second here."""

_CAMERA: Final = "/dev/video"
"""Not opened twice: what is wrong with one may be gone a second later."""


def check_source(source: str) -> None:
    """
    Refuse a source that is not there or holds no media, before anything is started.

    Raises:
        ConfigError: It is neither the test picture, nor a device, nor a file that can be played.
    """
    is_there = os.path.exists(source)  # False for a name that is too long
    if source == _TEST_PICTURE or (
        is_there and os.access(source, os.R_OK) and not Path(source).is_dir()
    ):
        if source != _TEST_PICTURE and not source.startswith(_CAMERA):
            _check_file(source)
        return
    why = "cannot be read" if is_there else "is not there"
    if not is_there and is_address(source):
        why = "is an address, and nothing is fetched from the network"
    raise ConfigError(
        f"source {shown(source)} {why}: give {_TEST_PICTURE}, a file, or a camera such as "
        "/dev/video0"
    )


def _check_file(source: str) -> None:
    from ..media.source import check_file  # here: see above

    try:
        check_file(source)
    except LocalFault as exc:  # bad input, since the user named it and nothing runs yet
        raise ConfigError(str(exc)) from exc


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
