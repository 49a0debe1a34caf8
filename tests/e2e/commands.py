"""Commands as a user gives them, and what they start."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil


HITLESS = str(Path(sys.executable).with_name("hitless"))
POLL_S = 0.05


@dataclass
class Home:
    """
    A place where a lab neither meets other tests nor one that a person runs.

    Attributes:
        path: The temporary folder, and where commands are run.
    """

    path: Path

    @property
    def env(self) -> dict[str, str]:
        """The environment of commands here."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith("HITLESS_")}
        return {**kept, "TMPDIR": str(self.path), "PYTHONUNBUFFERED": "1"}

    def run(self, *words: str, limit_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            [HITLESS, *words],
            env=self.env,
            cwd=self.path,
            capture_output=True,
            text=True,
            timeout=limit_s,
            check=False,
        )

    @contextmanager
    def running(self, *words: str, stdout: int | None = None) -> Iterator[Running]:
        """Run a command beside the test; it is killed at the end if it still runs."""
        out, err = self.path / f"{words[0]}.out", self.path / f"{words[0]}.err"
        with out.open("ab") as out_file, err.open("ab") as err_file:
            process = subprocess.Popen(
                [HITLESS, *words],
                env=self.env,
                cwd=self.path,
                stdin=subprocess.DEVNULL,
                stdout=out_file if stdout is None else stdout,
                stderr=err_file if stdout is None else stdout,
            )
        running = Running(process, out, err)
        try:
            yield running
        finally:
            if process.poll() is None:
                process.kill()
            process.wait(10)
            running.all_gone_within(10)


@dataclass
class Running:
    """A command that runs, and what it started."""

    process: subprocess.Popen[bytes]
    out: Path
    err: Path
    family: Sequence[psutil.Process] = ()

    def said(self) -> str:
        """Return all that it said so far."""
        return self.out.read_text() + self.err.read_text()

    def until_said(self, text: str, limit_s: float = 60.0) -> None:
        """Wait until it said something."""
        until_s = clock() + limit_s
        while text not in self.said():
            assert self.process.poll() is None, f"it ended: {self.said()}"
            assert clock() < until_s, f"no {text!r} within {limit_s:g} s: {self.said()}"
            time.sleep(POLL_S)
        self.note_family()

    def note_family(self) -> None:
        """Remember what it started; once it is gone nobody could tell."""
        self.family = psutil.Process(self.process.pid).children(recursive=True)

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self.note_family()
        self.process.send_signal(signal.SIGINT)

    def ended_within(self, limit_s: float) -> int:
        """Return its exit status; fail if it takes longer."""
        return self.process.wait(limit_s)

    def all_gone_within(self, limit_s: float) -> list[str]:
        """Return what is left, after that long, of all that it started."""
        until_s = clock() + limit_s
        while (left := [one for one in self.family if runs(one)]) and clock() < until_s:
            time.sleep(POLL_S)
        return [f"{one.pid} {' '.join(one.cmdline()[:4])}" for one in left if runs(one)]


def runs(process: psutil.Process) -> bool:
    """Whether a process still runs; a zombie does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def clock() -> float:
    """Return the time [s]."""
    return time.monotonic()  # noqa: TID251 -- no loop here


def one_line(text: str) -> str:
    """Return the one line that a refused command says."""
    lines = text.strip().splitlines()
    assert len(lines) == 1, text
    return lines[0]
