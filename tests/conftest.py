"""Fixtures shared by every suite: nothing a test started may outlive it."""

from __future__ import annotations

import contextlib
import gc
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psutil
import pytest
from hypothesis import settings


settings.register_profile("here", deadline=None)  # a busy machine is no finding
settings.load_profile("here")

GRACE_S: Final = 1.0
"""How long what is ending already may take to end after its test [s]."""

_FD_FOLDER: Final = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """
    Fail the test that leaves a thread, a child process, a socket or an open file behind.
    """
    before = threads() | children() | descriptors()
    yield
    left = (threads() | children() | descriptors()) - before
    until_s = time.monotonic() + GRACE_S  # noqa: TID251 -- no loop here
    while left and time.monotonic() < until_s:  # noqa: TID251 -- no loop here
        gc.collect()  # a socket in a cycle of garbage is closed by whoever collects it
        time.sleep(0.01)
        left = (threads() | children() | descriptors()) - before
    if left:
        pytest.fail("left behind: " + ", ".join(sorted(left)))


def threads() -> set[str]:
    """Return the threads of this process."""
    return {f"thread {thread.name} ({thread.ident})" for thread in threading.enumerate()}


def children() -> set[str]:
    """Return the child processes of this process."""
    if hasattr(os, "waitid"):  # asks the kernel in a microsecond; macOS has it since Python 3.13
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            return _named_children()
        return set()
    return _named_children()


def descriptors() -> set[str]:
    """Return the open file descriptors of this process, each with what it stands for."""
    found = set()
    for name in os.listdir(_FD_FOLDER):
        with contextlib.suppress(OSError):  # the one that listed the folder is closed again
            status = os.fstat(int(name))
            what = f"{status.st_mode:o}, {status.st_dev}:{status.st_ino}"
            with contextlib.suppress(OSError):
                what = os.readlink(f"{_FD_FOLDER}/{name}")
            found.add(f"descriptor {name} ({what})")
    return found


def _named_children() -> set[str]:
    found = set()
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):
            found.add(f"process {child.pid} ({child.name()})")
    return found


REALTIME: Final = ("unit/media", "unit/providers", "unit/lab")
"""Suites with real encoders, sockets and processes; `make check` leaves them to `make test`."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """
    Mark what runs in real time.
    """
    here = Path(__file__).parent
    for item in items:
        folder = item.path.parent.relative_to(here).as_posix()
        if folder.startswith(REALTIME):
            item.add_marker("realtime")
