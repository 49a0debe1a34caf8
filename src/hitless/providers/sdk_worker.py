"""
What the processes that hold a native SDK share: telling without waiting, and ending for certain.

An SDK's callbacks must not wait, its threads may never end, and what it prints goes nowhere.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import BinaryIO, Final

from . import sdk_wire as wire
from .sdk_wire import Order, Word


WAITING_MAX: Final = 512
"""Messages that wait for a viewer that does not read; then all media among them are dropped."""

BYTES_MAX: Final = 16 << 20
"""The same in bytes."""

LEAVE_S: Final = 0.8
"""How long the SDK may take to leave [s]; the leg kills us 0.2 s later."""

_MEDIA: Final = (Word.VIDEO, Word.AUDIO, Word.DROPPED)


class Outbox:
    """
    What is to be told, written by a thread of its own: callbacks never wait for the viewer.

    Args:
        pipe: Where to write.
    """

    def __init__(self, pipe: BinaryIO) -> None:
        self._pipe = pipe
        self._waiting: deque[tuple[Word, bytes]] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._is_over = False
        self._thread = threading.Thread(target=self._write, daemon=True)
        self._thread.start()

    def put(self, kind: Word, body: bytes = b"") -> None:
        """Tell something; never waits."""
        with self._changed:
            if self._is_over:
                return
            if len(self._waiting) >= WAITING_MAX or self._bytes + len(body) > BYTES_MAX:
                kept = [each for each in self._waiting if each[0] not in _MEDIA]
                self._waiting = deque([*kept, (Word.DROPPED, b"")])
                self._bytes = sum(len(each) for _, each in kept)
            self._waiting.append((kind, body))
            self._bytes += len(body)
            self._changed.notify()

    def close(self, limit_s: float) -> None:
        """Write what waits, within a limit [s], and nothing more."""
        with self._changed:
            self._is_over = True
            self._changed.notify()
        self._thread.join(limit_s)

    def _write(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._is_over:
                    self._changed.wait()
                if not self._waiting:
                    return
                kind, body = self._waiting.popleft()
                self._bytes -= len(body)
            try:
                self._pipe.write(wire.message(kind, body))
                self._pipe.flush()
            except OSError:
                return  # the viewer is gone; standard input says so too


def listen(hear: Callable[[tuple[int, bytes] | None], None], limit: int, folder: str) -> None:
    """
    Pass on what the leg says; when it is gone or leaves, see that we end. For a thread.

    Args:
        hear: Takes each order; None: there will be none. It must not wait.
        limit: Longest body of an order [byte].
        folder: Where the SDK could write.
    """
    order: tuple[int, bytes] | None = (0, b"")
    while order is not None and order[0] != Order.LEAVE:
        try:
            order = wire.read(sys.stdin.buffer, limit)
        except (OSError, ValueError):
            order = None
        hear(order)
    time.sleep(LEAVE_S)
    end(None, folder)


def end(outbox: Outbox | None, folder: str) -> None:
    """End at once, whatever threads of the SDK still do."""
    if outbox is not None:
        outbox.close(LEAVE_S)
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)


def private_output() -> BinaryIO:
    """Return what was standard output; what the SDK prints goes nowhere."""
    private = os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    return private
