"""hitless.lab.guard"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psutil
import pytest

from hitless.errors import LocalFault
from hitless.lab.guard import Guard


SLEEPER = [sys.executable, "-I", "-S", "-c", "import time; time.sleep(60)"]
STUBBORN = [
    sys.executable,
    "-I",
    "-S",
    "-c",
    # SIGHUP too: the kernel sends it to a group that lost its last parent with a member stopped.
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "signal.signal(signal.SIGHUP, signal.SIG_IGN);"
    "print('up', flush=True); time.sleep(60)",
]
# A child with a child of its own, as `hitless serve` may have.
PARENT = [
    sys.executable,
    "-I",
    "-S",
    "-c",
    "import subprocess, sys, time;"
    "child = subprocess.Popen([sys.executable, '-I', '-S', '-c', 'import time; time.sleep(60)']);"
    "print(child.pid, flush=True); time.sleep(60)",
]

# What the lab is to the guard: it starts children, one of them stopped, and says who they are.
LAB = """
import asyncio, json, os, signal, sys
from hitless.lab.guard import Guard

signal.signal(signal.SIGQUIT, signal.SIG_DFL)  # whoever runs the tests may ignore it

async def main(argvs):
    guard = Guard()
    await guard.start()
    children, told = [], []
    for argv in argvs:
        child = await guard.spawn(argv, stdout=asyncio.subprocess.PIPE)
        children.append(child)
    for child in children[1:]:
        told.append((await child.stdout.readline()).decode().strip())
    os.kill(children[0].pid, signal.SIGSTOP)
    pids = [guard.pid, *(child.pid for child in children)]
    pids += [int(word) for word in told if word.isdigit()]
    print(json.dumps(pids), flush=True)
    await asyncio.sleep(60)

asyncio.run(main(json.loads(sys.argv[1])))
"""


def is_gone(pid):
    """Whether a process has ended; one that waits for its new parent to notice has."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_until_stopped(pid):
    """Wait until SIGSTOP has reached a process: a signal sent at once could overtake it."""
    for _ in range(500):
        if psutil.Process(pid).status() == psutil.STATUS_STOPPED:
            return
        time.sleep(0.01)
    raise AssertionError(f"process {pid} does not stop")


def left_after(pids, limit_s):
    """Return who is still there after at most `limit_s` [s], and kill them."""
    until_s = time.monotonic() + limit_s  # noqa: TID251 -- no loop runs here
    left = list(pids)
    while left and time.monotonic() < until_s:  # noqa: TID251 -- no loop runs here
        left = [pid for pid in left if not is_gone(pid)]
        time.sleep(0.01)
    for pid in left:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return left


@asynccontextmanager
async def guarding(**how):
    guard = Guard(**how)
    await guard.start()
    try:
        yield guard
    finally:
        await guard.aclose()


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGQUIT])
def test_kill_9_of_the_lab_leaves_no_child_behind_a_stopped_one_included(end):
    """One stopped, one deaf to SIGTERM, one with a child of its own: all gone within 2 s."""
    lab = subprocess.Popen(
        [sys.executable, "-c", LAB, json.dumps([SLEEPER, STUBBORN, PARENT])],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3] / "src")},
    )
    with lab:
        pids = json.loads(lab.stdout.readline())
        assert 5 == len(pids)
        assert not any(is_gone(pid) for pid in pids)
        wait_until_stopped(pids[1])

        lab.send_signal(end)
        lab.wait(timeout=30)

    assert [] == left_after(pids, 2.0)


def test_closing_asks_politely_first():
    """A child that heeds SIGTERM is not killed, and closing does not take the whole grace."""

    async def main():
        loop = asyncio.get_running_loop()
        async with guarding(grace_s=5.0) as guard:
            child = await guard.spawn(SLEEPER)
            stopped = await guard.spawn(SLEEPER)
            stopped.send_signal(signal.SIGSTOP)
            await asyncio.to_thread(wait_until_stopped, stopped.pid)
            began_s = loop.time()
            await guard.aclose()
            await guard.aclose()
            return child.returncode, stopped.returncode, loop.time() - began_s

    polite, stopped, took_s = asyncio.run(main())

    assert (-signal.SIGTERM, -signal.SIGTERM) == (polite, stopped)
    assert took_s < 2.0


def test_a_child_deaf_to_sigterm_is_killed_after_the_grace():
    """Also when it wrote more than anybody read."""

    async def main():
        async with guarding(grace_s=0.2) as guard:
            noisy = [*STUBBORN[:4], STUBBORN[4].replace("'up'", "'up' * 200_000")]
            child = await guard.spawn(STUBBORN, stdout=asyncio.subprocess.PIPE)
            loud = await guard.spawn(noisy, stdout=asyncio.subprocess.PIPE)
            await child.stdout.readline()
            await loud.stdout.readexactly(2)
            began_s = asyncio.get_running_loop().time()
            await guard.aclose()
            took_s = asyncio.get_running_loop().time() - began_s
            return child.returncode, loud.returncode, took_s

    deaf, loud, took_s = asyncio.run(main())

    assert (-signal.SIGKILL, -signal.SIGKILL) == (deaf, loud)
    assert 0.2 <= took_s < 1.5


def test_closing_ends_the_children_of_children():
    """They are in the group by inheritance."""

    async def main():
        async with guarding() as guard:
            child = await guard.spawn(PARENT, stdout=asyncio.subprocess.PIPE)
            return [child.pid, int(await child.stdout.readline()), guard.pid]

    assert [] == left_after(asyncio.run(main()), 1.0)


def test_closing_that_is_cancelled_kills_at_once_and_says_so():
    """Cancellation is not swallowed, and nothing stays."""

    async def main():
        guard = Guard(grace_s=30.0)
        await guard.start()
        child = await guard.spawn(STUBBORN, stdout=asyncio.subprocess.PIPE)
        await child.stdout.readline()
        closing = asyncio.create_task(guard.aclose())
        await asyncio.sleep(0.05)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        return child.returncode, [child.pid, guard.pid]

    code, pids = asyncio.run(main())

    assert -signal.SIGKILL == code
    assert [] == left_after(pids, 0.5)


def test_the_guard_ignores_what_a_terminal_sends():
    """Ctrl-C, a hang-up and a polite kill are for the lab."""

    async def main():
        async with guarding() as guard:
            for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGTSTP):
                os.kill(guard.pid, one)
            await asyncio.sleep(0.1)
            child = await guard.spawn(SLEEPER)
            return is_gone(guard.pid), os.getpgid(child.pid) == guard.pid

    assert (False, True) == asyncio.run(main())


def test_the_lab_notices_when_the_guard_dies():
    """And then nothing more is started, and closing still ends the children."""

    async def main():
        async with guarding() as guard:
            child = await guard.spawn(SLEEPER)
            waiting = asyncio.create_task(guard.lost())
            await asyncio.sleep(0.05)
            assert not waiting.done()
            os.kill(guard.pid, signal.SIGKILL)
            with pytest.raises(LocalFault, match="has ended"):
                await asyncio.wait_for(waiting, 2.0)
            with pytest.raises(LocalFault, match="gone"):
                await guard.spawn(SLEEPER)
            await guard.aclose()
            return child.returncode

    assert asyncio.run(main()) == -signal.SIGTERM


def test_losing_the_guard_by_closing_it_is_no_loss():
    """Whoever waits for the loss is let go."""

    async def main():
        guard = Guard()
        await guard.start()
        waiting = asyncio.create_task(guard.lost())
        await asyncio.sleep(0)
        await guard.aclose()
        await asyncio.wait_for(waiting, 1.0)

    asyncio.run(main())


def test_the_pipe_does_not_leak_into_children():
    """Else a child would keep the guard waiting for an end that never comes."""
    count = "import os; print(len(os.listdir('/dev/fd')) - 1)"

    async def main():
        async with guarding() as guard:
            child = await guard.spawn(
                [sys.executable, "-I", "-S", "-c", count], stdout=asyncio.subprocess.PIPE
            )
            return int(await child.stdout.readline())

    assert 3 == asyncio.run(main())


def test_a_program_that_is_not_there_is_a_local_fault():
    """In words, and the guard goes on."""

    async def main():
        async with guarding() as guard:
            with pytest.raises(LocalFault, match="/no/such/program cannot be started"):
                await guard.spawn(["/no/such/program"])
            return is_gone((await guard.spawn(SLEEPER)).pid)

    assert asyncio.run(main()) is False


def test_an_unstarted_guard_says_so_and_closes():
    """Wrong order is a clear error; closing is always allowed."""

    async def main():
        guard = Guard()
        with pytest.raises(LocalFault, match="start"):
            await guard.spawn(SLEEPER)
        with pytest.raises(LocalFault, match="start"):
            await guard.lost()
        await guard.aclose()

    asyncio.run(main())
