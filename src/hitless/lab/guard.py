"""
Nothing that the lab starts outlives it: not after Ctrl-C, and not after `kill -9` of the lab.

The guard is a tiny process that leads a process group of its own; every child of the lab is
started in that group. The guard reads from a pipe whose write end only the lab holds. When the
lab ends, in whatever way, the kernel closes the pipe, and the guard sends SIGKILL to its group,
itself included. SIGKILL reaches stopped processes too, and grandchildren are in the group by
inheritance (unless they leave it by `setsid`).

No child slips through between fork and group: between fork and exec a new child holds a copy of
the write end, so the guard cannot see the end of the pipe before the child has joined the group
(CPython's `child_exec` calls `setpgid` first, and closes the pipe at exec).

The group is not the terminal's foreground group, so Ctrl-C reaches the lab alone, which can end
its children in order; that is also why children have no terminal to read from.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Final

from ..errors import LocalFault


START_S_MAX: Final = 5.0
"""An interpreter without site-packages starts in some 20 ms; a loaded machine takes longer."""

_KILLED_S_MAX = 2.0
"""How long the kernel may take to end what was sent SIGKILL."""

# A program of its own, given as text: `python -m hitless...` would import the package, which
# costs 0.3 s and tens of megabytes. SIGHUP and SIGCONT are what the kernel sends to a group
# whose last parent ended while a member was stopped (POSIX, "orphaned process group").
_PROGRAM = """
import os, signal
for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGTSTP", "SIGTTIN", "SIGTTOU"):
    signal.signal(getattr(signal, name), signal.SIG_IGN)
os.write(1, b"ready")
os.close(1)
while os.read(0, 64):
    pass
os.killpg(0, signal.SIGKILL)
"""

Stream = int | IO[bytes] | None


class Guard:
    """
    Starts processes that end with us. One per lab; `start()` first, `aclose()` last.

    Args:
        grace_s: How long children have after SIGTERM before SIGKILL [s].
    """

    def __init__(self, *, grace_s: float = 2.0) -> None:
        self._grace_s = grace_s
        self._guard: asyncio.subprocess.Process | None = None
        self._held: int | None = None
        self._children: set[asyncio.subprocess.Process] = set()
        self._ended: asyncio.Task[int] | None = None
        self._closing: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        """Process id of the guard, which is the id of the group too."""
        if self._guard is None:
            raise LocalFault("the guard is not running: call start() first")
        return self._guard.pid

    async def start(self) -> None:
        """
        Start the guard and wait until it stands.

        Raises:
            LocalFault: No process could be started, or it said nothing in time.
        """
        if self._closing is not None:
            raise LocalFault("the lab's guard was closed: make another one")
        if self._guard is not None:
            return
        watched, held = os.pipe()  # neither is inherited by other children (PEP 446)
        try:
            guard = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-I", "-S", "-c", _PROGRAM),
                stdin=watched,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                process_group=0,
            )
        except OSError as exc:
            os.close(held)
            raise LocalFault(f"the lab's guard cannot be started: {exc.strerror}") from exc
        except asyncio.CancelledError:
            os.close(held)  # the guard, if it came to be, reads the end and goes
            raise
        finally:
            os.close(watched)
        self._guard, self._held = guard, held
        self._ended = asyncio.create_task(guard.wait(), name="guard.ended")
        assert guard.stdout is not None
        try:
            async with asyncio.timeout(START_S_MAX):
                await guard.stdout.readexactly(5)
        except (TimeoutError, asyncio.IncompleteReadError) as exc:
            await self.aclose()
            raise LocalFault(f"the lab's guard did not stand within {START_S_MAX:g} s") from exc
        except asyncio.CancelledError:
            await self.aclose()
            raise

    async def spawn(
        self,
        argv: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stdin: Stream = asyncio.subprocess.DEVNULL,
        stdout: Stream = None,
        stderr: Stream = None,
        limit: int = 1 << 16,
    ) -> asyncio.subprocess.Process:
        """
        Start a process in the guard's group; it ends at the latest when we do.

        Args:
            argv: Program and arguments.
            env: Its whole environment; None: ours.
            cwd: Its directory; None: ours.
            stdin: As in `asyncio.create_subprocess_exec`; there is no terminal to read from.
            stdout: Likewise; None: ours.
            stderr: Likewise; None: ours.
            limit: Longest line of a pipe that can be read [byte].

        Raises:
            LocalFault: The program cannot be started, or the guard is gone.
        """
        if self._closing is not None or (self._ended is not None and self._ended.done()):
            raise LocalFault("the lab's guard is gone: nothing more can be started")
        try:
            child = await asyncio.create_subprocess_exec(
                *argv,
                env=env,
                cwd=cwd,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                limit=limit,
                process_group=self.pid,
            )
        except OSError as exc:
            raise LocalFault(f"{argv[0]} cannot be started: {exc.strerror}") from exc
        self._children = {one for one in self._children if one.returncode is None} | {child}
        if self._closing is not None:  # closed while this one was on its way
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            raise LocalFault("the lab's guard is gone: nothing more can be started")
        return child

    async def lost(self) -> None:
        """
        Wait until the guard has ended without being told to. Cancelling is safe.

        From then on nobody kills the children if we are killed: close, and say so.

        Raises:
            LocalFault: It has. Returns normally only after `aclose()`.
        """
        if self._ended is None:
            raise LocalFault("the guard is not running: call start() first")
        await asyncio.wait({self._ended})
        if self._closing is None:
            raise LocalFault(f"the lab's guard (process {self.pid}) has ended: it was killed")

    async def aclose(self) -> None:
        """
        End all children and the guard: SIGTERM, after `grace_s` SIGKILL to the whole group.

        Idempotent; never raises; when cancelled, the rest is killed at once.
        """
        if self._guard is None:
            return
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(), name="guard.close")
        try:
            await asyncio.shield(self._closing)
        except asyncio.CancelledError:
            self._kill_group()
            await asyncio.wait({self._closing}, timeout=_KILLED_S_MAX)
            raise

    async def _close(self) -> None:
        assert self._guard is not None
        assert self._ended is not None
        for child in self._children:
            # Not `child.send_signal`: it polls, and would take the status from asyncio's watcher.
            if child.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child.pid, signal.SIGTERM)
                    os.kill(child.pid, signal.SIGCONT)  # a stopped one would not see SIGTERM
        await _gone(self._children, self._grace_s)
        self._kill_group()  # grandchildren too, of whom we know nothing
        await _gone({*self._children, self._guard}, _KILLED_S_MAX)
        if self._held is not None:
            os.close(self._held)
            self._held = None
        for process in (*self._children, self._guard):
            # asyncio gives no public way to drop a pipe unread; it would warn at exit.
            process._transport.close()  # type: ignore[attr-defined]
        await asyncio.wait({self._ended}, timeout=_KILLED_S_MAX)

    def _kill_group(self) -> None:
        # Once everybody is gone and reaped, the number of the group may be somebody else's.
        known = (*self._children, self._guard)
        if any(process is not None and process.returncode is None for process in known):
            # PermissionError: macOS, when all that is left of the group are zombies.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)


async def _gone(processes: Iterable[asyncio.subprocess.Process], limit_s: float) -> None:
    """Wait until all have ended, at most `limit_s` [s]."""
    clock = asyncio.get_running_loop().time
    until_s = clock() + limit_s
    # Polled, because asyncio tells of the end of a process only when its pipes have ended too.
    while any(one.returncode is None for one in processes) and clock() < until_s:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
