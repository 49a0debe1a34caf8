"""
An event loop whose clock jumps to the next timer instead of waiting.

Every test that sleeps runs on it, so a ten-minute outage costs milliseconds and always unfolds
the same way. Nothing is patched: our code reads time only through the loop. Sockets and pipes
have no place here: the clock would jump past their answers. Threads are waited for in real time
while the clock stands still.

A run fails when it deadlocks, when it passes its limit of virtual time, when it spins without
the clock moving, when it leaves a task behind, and when a task fails and nobody asks it why.

Idea: trio.testing.MockClock (autojump).
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, Final, TypeVar


T = TypeVar("T")

THREAD_S_MAX: Final = 10.0
"""A thread that the loop waits for may take this long [s, real time]."""

_TURNS_MAX: Final = 1_000_000
"""Turns of the loop at one and the same time: some 10 s of spinning."""


class _JumpingSelector(selectors.DefaultSelector):
    """A selector that never waits: it moves its own clock instead."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.limit_s = float("inf")
        self.threads = 0
        self._turns = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            self._turns += 1
            assert self._turns < _TURNS_MAX, f"the loop spins without end at {self.now:g} s"
            return ready
        self._turns = 0
        if self.threads:
            ready = super().select(THREAD_S_MAX)
            assert ready, f"a thread gave no answer for {THREAD_S_MAX:g} s of real time"
            return ready
        assert timeout is not None, "deadlock: every task waits and no timer is set"
        assert self.now + timeout <= self.limit_s, (
            f"virtual time would pass its limit of {self.limit_s:g} s: what is still waited for?"
        )
        self.now += timeout
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """
    The loop; `time()` starts at 0.

    Attributes:
        complaints: What the loop's exception handler was told.
    """

    def __init__(self, *, limit_s: float = float("inf")) -> None:
        self._jumping = _JumpingSelector()
        self._jumping.limit_s = limit_s
        self.complaints: list[str] = []
        super().__init__(self._jumping)
        self.set_exception_handler(self._complain)

    def time(self) -> float:
        return self._jumping.now

    def run_in_executor(  # type: ignore[override]  # the answer's type is the caller's affair
        self, executor: Executor | None, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        answer = super().run_in_executor(executor, func, *args)
        self._jumping.threads += 1
        answer.add_done_callback(self._thread_answered)
        return answer

    async def shutdown_default_executor(self, *args: Any) -> None:
        self._jumping.threads += 1
        try:
            await super().shutdown_default_executor(*args)
        finally:
            self._jumping.threads -= 1

    def _thread_answered(self, _: object) -> None:
        self._jumping.threads -= 1

    def _complain(self, _: object, context: dict[str, Any]) -> None:
        self.complaints.append(f"{context['message']}: {context.get('exception')!r}")


def run(main: Coroutine[Any, Any, T], *, limit_s: float = 86_400.0) -> T:
    """
    Run `main` to completion in virtual time and return its result.

    Args:
        main: What to run.
        limit_s: It fails when virtual time would pass this [s].
    """
    loop = VirtualTimeLoop(limit_s=limit_s)
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        result = runner.run(_alone(main))
    assert not loop.complaints, "; ".join(loop.complaints)
    return result


async def _alone(main: Coroutine[Any, Any, T]) -> T:
    result = await main
    await asyncio.sleep(0)  # what ends in the same turn is no leak
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not left, "tasks left behind: " + ", ".join(sorted(map(_whose, left)))
    return result


def _whose(task: asyncio.Task[Any]) -> str:
    return f"{task.get_name()} ({getattr(task.get_coro(), '__qualname__', task.get_coro())})"
