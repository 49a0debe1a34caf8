"""
A thread with an owner, and the bounded box through which it is given work.

Codecs, files and cameras block, so each has a thread of its own. It is started by its owner,
told to stop by it, and waited for without holding up the loop.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

from .closing import finish


JOIN_S_MAX: Final = 2.0
"""How long the end of a thread is waited for. One that hangs in a driver is left behind: it is
a daemon, touches the loop no more, and does not keep the process alive."""

_Work = TypeVar("_Work")


class Worker:
    """
    One thread.

    Args:
        name: What it does, for the list of threads.
        run: Its work; returns soon after `stopping` is set.
        failed: Called in the loop's thread with what `run` raised, unless it was stopping.
        wake: Called in the loop's thread by `stop`, to wake `run` out of its own waits.
    """

    def __init__(
        self,
        name: str,
        run: Callable[[], None],
        *,
        failed: Callable[[Exception], None],
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._gone: asyncio.Future[None] = self._loop.create_future()
        self._run, self._failed, self._wake = run, failed, wake
        self.stopping = threading.Event()
        self._thread = threading.Thread(target=self._main, name=f"hitless:{name}", daemon=True)

    def start(self) -> None:
        """Start the thread. Once."""
        self._thread.start()

    def in_loop(self, call: Callable[..., None], *args: Any) -> None:
        """Have the loop call something soon. From the thread; nothing if the loop is gone."""
        try:
            self._loop.call_soon_threadsafe(call, *args)
        except RuntimeError:  # the loop is closed: whoever owned us did not wait
            self.stopping.set()

    def stop(self) -> None:
        """Tell the thread to end; do not wait. Idempotent."""
        self.stopping.set()
        self._wake()

    async def aclose(self) -> None:
        """
        Tell the thread to end and wait for it, at most `JOIN_S_MAX`.

        Idempotent; never raises. Cancelled, it still waits and then lets the cancellation pass.
        """
        await close_all(self)

    async def ended(self) -> None:
        """Wait until the thread is at its end, at most `JOIN_S_MAX`. Tells it nothing."""
        if self._thread.ident is None:  # never started
            return
        await asyncio.wait([self._gone], timeout=JOIN_S_MAX)
        if self._gone.done():
            self._thread.join(JOIN_S_MAX)  # it said goodbye: only its last line is left to run

    def _main(self) -> None:
        try:
            self._run()
        except Exception as fault:
            if not self.stopping.is_set():
                self.in_loop(self._failed, fault)
        finally:
            self.in_loop(self._say_goodbye)

    def _say_goodbye(self) -> None:
        if not self._gone.done():
            self._gone.set_result(None)


async def close_all(*workers: Worker) -> None:
    """Tell threads to end, all of them first, and wait; as `Worker.aclose` does."""
    for worker in workers:
        worker.stop()

    async def wait() -> None:
        await asyncio.gather(*(worker.ended() for worker in workers))

    await finish(asyncio.create_task(wait()))


class Box(Generic[_Work]):
    """
    A bounded queue into a thread.

    Full, it refuses: the giver knows what may be lost, the queue does not.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._work: deque[_Work] = deque()
        self._changed = threading.Condition()
        self._closed = False

    def __len__(self) -> int:
        return len(self._work)

    def put(self, work: _Work, *, instead_of_oldest: bool = False) -> bool:
        """
        Put work in, never waiting.

        Returns:
            False if something was lost: `work` itself, or the oldest if that was allowed.
        """
        with self._changed:
            full = len(self._work) >= self._size
            if full and instead_of_oldest:
                self._work.popleft()
            elif full or self._closed:
                return False
            self._work.append(work)
            self._changed.notify()
            return not full

    def take(self, wait_s: float | None = None) -> _Work | None:
        """Take work out; None if none comes within `wait_s` [s; None: until it is closed]."""
        with self._changed:
            self._changed.wait_for(lambda: self._work or self._closed, wait_s)
            return self._work.popleft() if self._work else None

    @property
    def is_over(self) -> bool:
        """Whether it is closed and empty."""
        return self._closed and not self._work

    def close(self) -> None:
        """Take no more work in; what is inside can still be taken out. Idempotent."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
