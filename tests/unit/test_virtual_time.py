"""The tests' own clock: what it must catch."""

from __future__ import annotations

import asyncio
import time

import pytest
from virtual_time import run


def test_an_hour_costs_nothing():
    """
    The clock starts at 0 and jumps to the next timer.
    """

    async def main():
        await asyncio.sleep(3600.0)
        return asyncio.get_running_loop().time()

    begun_s = time.perf_counter()

    assert 3600.0 == run(main())
    assert time.perf_counter() - begun_s < 2.0


def test_timers_fire_in_order_at_their_times():
    """
    Two tasks interleave as they would in real time.
    """

    async def main():
        seen = []

        async def tick(name, every_s, times):
            for _ in range(times):
                await asyncio.sleep(every_s)
                seen.append((name, asyncio.get_running_loop().time()))

        await asyncio.gather(tick("a", 2.0, 2), tick("b", 3.0, 1))
        return seen

    assert [("a", 2.0), ("b", 3.0), ("a", 4.0)] == run(main())


def test_a_deadlock_fails():
    """
    Everybody waits and no timer is set.
    """

    async def main():
        await asyncio.Event().wait()

    with pytest.raises(AssertionError, match="deadlock"):
        run(main())


def test_time_without_end_fails():
    """
    A loop that waits for what never comes is found by its virtual length.
    """

    async def main():
        while True:  # noqa: ASYNC110 -- what must be caught
            await asyncio.sleep(10.0)

    with pytest.raises(AssertionError, match="limit of 600 s"):
        run(main(), limit_s=600.0)


def test_spinning_fails(monkeypatch):
    """
    A loop that never waits is found by its turns.
    """
    monkeypatch.setattr("virtual_time._TURNS_MAX", 1000)

    async def main():
        while True:  # noqa: ASYNC110 -- what must be caught
            await asyncio.sleep(0)

    with pytest.raises(AssertionError, match="spins without end at 0 s"):
        run(main())


def test_a_task_left_behind_fails_and_is_named():
    """
    No task without an owner.
    """
    kept = []

    async def nap():
        await asyncio.sleep(60.0)

    async def main():
        kept.append(asyncio.create_task(nap(), name="orphan"))

    with pytest.raises(AssertionError, match=r"tasks left behind: orphan \(.*nap\)"):
        run(main())
    assert kept[0].cancelled()


def test_a_failure_that_nobody_asked_about_fails():
    """
    A task that dies alone is an error, not a line on standard error.
    """

    async def fail():
        raise ValueError("nobody asked")

    async def main():
        task = asyncio.create_task(fail())
        await asyncio.sleep(1.0)
        del task
        await asyncio.sleep(1.0)

    with pytest.raises(AssertionError, match="nobody asked"):
        run(main())


def test_threads_are_waited_for_while_the_clock_stands_still():
    """
    A jump past a thread's answer would make every deadline pass.
    """

    async def main():
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(0.001):
            await asyncio.to_thread(time.sleep, 0.05)
        return loop.time()

    assert run(main()) < 0.001


def test_what_main_raises_comes_out():
    """
    The loop adds nothing to it.
    """

    async def main():
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        run(main())
