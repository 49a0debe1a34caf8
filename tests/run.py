"""
Run a suite step by step: `python tests/run.py check | test | bench`.

A step that fails or exceeds its time does not stop the next ones; the summary at the end has one
line for each, says what was left out and why, and the exit status is 1 if any step failed.
Standard library only, so that it runs whatever state the environment is in.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final


ROOT: Final = Path(__file__).resolve().parent.parent
BIN: Final = Path(sys.executable).parent
RESULTS: Final = ROOT / "var" / "results"

STOP_S_MAX: Final = 10.0
"""A step that is told to stop may take this long [s] before it is killed."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """
    One command.

    Attributes:
        name: One word.
        command: The command; its first word is looked up beside this Python.
        limit_s: It fails when it takes longer [s].
        env: What its environment has besides ours.
    """

    name: str
    command: Sequence[str]
    limit_s: float = 300.0
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Result:
    """How a step ended: empty `fault` means well; how long it took [s]; what it skipped."""

    step: Step
    fault: str
    took_s: float
    skipped: Mapping[str, int]


def pytest(name: str, *args: str, limit_s: float = 300.0, worlds: int | None = None) -> Step:
    """Return the step that runs the tests in `tests/NAME`, simulated ones in so many worlds."""
    return Step(
        name=name,
        command=(
            "python", "-m", "pytest", "-rfEs", f"tests/{name}", *args,
            f"--junitxml={RESULTS / name}.xml",
        ),
        limit_s=limit_s,
        env={"HITLESS_WORLDS": str(worlds), "HITLESS_SCHEDULES": str(worlds)} if worlds else {},
    )  # fmt: skip


def check(worlds: int, *unit: str) -> list[Step]:
    """Return what `make check` runs, with so many simulated worlds and these words for pytest."""
    return [
        Step(name="format", command=("ruff", "format", "--check", "--quiet", ".")),
        Step(name="lint", command=("ruff", "check", "--quiet", ".")),
        Step(name="types", command=("mypy",)),
        Step(name="layers", command=("lint-imports", "--no-cache")),
        Step(name="docs", command=("python", "docs/make.py", "--check")),
        pytest("unit", "-n", "2", *unit, limit_s=600.0),
        pytest("simulation", "-n", "2", limit_s=1200.0, worlds=worlds),
    ]


def everything() -> list[Step]:
    """Return what `make test` runs; what measures runs alone, for two would spoil each other."""
    drills = ("hitless", "drill", "--runs", "1", "--json")
    return [
        Step(name="tools", command=("python", "tests/tools.py")),
        *check(10_000),
        pytest("conformance", "-n", "2"),
        pytest("interop", "-n", "2", "--dist", "loadfile", limit_s=600.0),
        pytest("e2e", "-n", "2", "--dist", "loadfile", limit_s=900.0),
        Step(name="drills", command=(*drills, "var/drills.json"), limit_s=1500.0),
        Step(name="alone", command=(*drills, "var/alone.json", "--alone", *ALONE), limit_s=900.0),
        Step(name="loss", command=("hitless", "soak", "--loss", "--seconds", "60"), limit_s=180.0),
        Step(name="soak", command=("hitless", "soak", "--seconds", "180"), limit_s=360.0),
    ]


ALONE: Final = (
    "start-with-failed-provider",
    "start-with-disabled-default",
    "all-providers-down",
    "all-providers-disabled",
    "join-with-failed-provider",
    "viewer-before-publisher",
    "stream-ends",
    "provider-killed",
    "provider-hangs",
    "gray-ingest",
    "gray-forwarding",
    "errors-recorded",
    "health-failures",
    "provider-disabled",
    "health-check-lies",
    "backend-switch",
    "next-stream-after-switch",
    "all-providers-die",
    "recovery",
    "own-network-down",
)
"""Drills that are run without the server too; the two longest are left out for time."""


def benches() -> list[Step]:
    """Return one step for each bench."""
    return [
        Step(name=path.stem.removeprefix("bench_"), command=("python", str(path)), limit_s=900.0)
        for path in sorted((ROOT / "tests" / "bench").glob("bench_*.py"))
    ]


SUITES: Final[Mapping[str, tuple[Callable[[], list[Step]], Sequence[str]]]] = {
    "check": (
        lambda: check(1000, "-m", "not realtime"),
        (
            "unit tests of media, adapters and the lab: they run in real time (make test)",
            "conformance, interop, e2e, drills, loss and soak: they take minutes (make test)",
        ),
    ),
    "test": (
        everything,
        (
            "drills: 1 run of each, not 5, for time (make drill ARGS='--runs 5')",
            "alone: not flapping and local-fault, for time (hitless drill --alone)",
            "loss: 1 minute, not 10, for time (hitless soak --loss --seconds 600)",
            "soak: 3 minutes, not 30, for time (make soak)",
            "bench: figures are for reading and never pass or fail (make bench)",
        ),
    ),
    "bench": (benches, ()),
}
"""Name -> its steps, and what it leaves out and why."""


def main(words: Sequence[str]) -> int:
    """Run the suite that is asked for and return the exit status."""
    if len(words) != 1 or words[0] not in SUITES:
        say(f"run.py: say which suite: {', '.join(SUITES)}")
        return 2
    make, left_out = SUITES[words[0]]
    steps = make()
    results: list[Result] = []
    try:
        for number, step in enumerate(steps, start=1):
            say(f"\n[{number}/{len(steps)}] {step.name}: {' '.join(step.command)}")
            results.append(run(step))
    except KeyboardInterrupt:
        say("\nstopped")
        left_out = (*left_out, *(f"{s.name}: stopped before it" for s in steps[len(results) :]))
    summarize(results, left_out)
    is_whole = len(results) == len(steps) and bool(steps)
    return 0 if is_whole and not any(result.fault for result in results) else 1


def run(step: Step) -> Result:
    """Run one step to its end or its limit; nothing of its process group outlives it."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    record = RESULTS / f"{step.name}.xml"
    record.unlink(missing_ok=True)
    first, *rest = step.command
    begun_s = time.monotonic()  # noqa: TID251 -- no loop here
    try:
        process = subprocess.Popen(
            [str(BIN / first), *rest],
            cwd=ROOT,
            env={**os.environ, **step.env, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )
    except OSError as exc:
        return Result(step=step, fault=f"cannot start: {exc.strerror}", took_s=0.0, skipped={})
    try:
        status = process.wait(step.limit_s)
        fault = "" if status == 0 else f"exit status {status}"
    except subprocess.TimeoutExpired:
        fault = f"longer than its limit of {step.limit_s:g} s"
    finally:
        stop(process)
    took_s = time.monotonic() - begun_s  # noqa: TID251 -- no loop here
    return Result(step=step, fault=fault, took_s=took_s, skipped=Counter(skips(record)))


def stop(process: subprocess.Popen[bytes]) -> None:
    """End what is left of a step: politely, then for good."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_S_MAX)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def skips(record: Path) -> Iterator[str]:
    """Yield the reason of each skipped test in a JUnit record."""
    with contextlib.suppress(OSError, ElementTree.ParseError):
        for skipped in ElementTree.parse(record).iter("skipped"):
            yield skipped.get("message") or "no reason given"


def summarize(results: Sequence[Result], left_out: Sequence[str]) -> None:
    """Write one line for each step, and what was left out."""
    say("\nSummary")
    for result in results:
        verdict = f"FAILED ({result.fault})" if result.fault else "ok"
        say(f"  {result.step.name:<12} {result.took_s:7.1f} s  {verdict}")
    skipped = [
        f"{result.step.name}: {count} skipped: {reason}"
        for result in results
        for reason, count in result.skipped.items()
    ]
    if left_out or skipped:
        say("Left out")
        for line in (*left_out, *skipped):
            say(f"  {line}")
    failed = sum(bool(result.fault) for result in results)
    took_s = sum(result.took_s for result in results)
    say(f"{len(results) - failed} of {len(results)} steps ok in {took_s:.0f} s")


def say(text: str) -> None:
    """Write a line now: the steps write to the same place."""
    print(text, flush=True)  # noqa: T201 -- its whole job


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
