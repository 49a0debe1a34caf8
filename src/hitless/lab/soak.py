"""
A soak: one stream for a long time, with planned moves or on a bad network.

What leaks shows only over many moves, and what moves a stream for no reason only over many
packets. Everything that a process holds is counted every ten seconds, and the counts of the last
part of the run are compared with those of the first part after the warm-up.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final

from ..errors import ConfigError, LocalFault
from .drill import STREAM, Run, where
from .process import Process
from .stage import Stage


POLICY: Final = {"health_interval_s": 1.0, "overlap_s": 3.0}
"""As in the drills: nobody waits 30 s for a poll; everything else has its default."""
LOSS: Final = {"share": 0.02, "delay_s_max": 0.1}
"""The bad network that must not move a stream: 2 % of packets lost, 0-100 ms of jitter."""

SAMPLE_S: Final = 10.0
"""How often everything is counted [s]."""
SETTLE_S: Final = 16.0
"""This long after a move all is as it was [s]: overlap 3 s, kept HTTP connections 15 s."""
MEASURED_S: Final = 8.0
"""Frames are counted from 0.5 s before a move to this long after it [s]: the old leg's end too."""
MOVE_EVERY_S_MIN: Final = SETTLE_S + 1.0
"""Below this a move would begin before all is as it was [s]."""
SECONDS_MIN: Final = 60.0
"""A shorter run has too few counts to compare [s]."""
SECONDS_MAX: Final = 604_800.0
"""A week [s]."""
MOVES_MIN: Final = 8
"""Two of them warm up; then two whole rotations over three stand-ins can be compared."""
WARM_UP_S_MAX: Final = 120.0
"""Caches, pools and the meter's memory are full after this long [s]."""

COUNTS: Final = {"tasks": 1, "threads": 0, "descriptors": 3}
"""By how much the median of a count may grow: a poll comes and goes, and so do HTTP connections
that are kept for 15 to 30 s (measured: 13 to 16 in a publisher). One leaked with each move is
found by the shortest run: its two parts are four moves apart."""
MEMORY_GROWTH_MAX: Final = 0.10
MEMORY_GROWTH_BYTES_MAX: Final = 10 * 2**20
"""Memory is flat if its median grows by less than this share, or by less than these bytes."""
CONSENTS_FAILED_MAX: Final = 5
"""Six missed answers in a row end a leg (aioice's `CONSENT_FAILURES`)."""

_MEMORY_S: Final = 60.0
"""What the viewer remembers [s]: less than the warm-up, so that it does not look like a leak."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """
    What is done: for how long [s], how often it moves [s], and whether packets are lost.

    Raises:
        ConfigError: Too short for anything to be compared.
    """

    seconds: float
    move_every_s: float = 20.0
    loss: bool = False

    def __post_init__(self) -> None:
        shortest_s = SECONDS_MIN if self.loss else max(SECONDS_MIN, MOVES_MIN * self.move_every_s)
        if not shortest_s <= self.seconds <= SECONDS_MAX:
            raise ConfigError(
                f"seconds = {self.seconds:g} is not possible: give {shortest_s:g} to "
                f"{SECONDS_MAX:g}" + ("" if self.loss else f", {MOVES_MIN} moves at least")
            )
        if not MOVE_EVERY_S_MIN <= self.move_every_s <= SECONDS_MAX:
            raise ConfigError(
                f"move_every = {self.move_every_s:g} is not possible: give {MOVE_EVERY_S_MIN:g} s "
                "or more"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """
    What one process held at one moment; None: it cannot be known here.

    Attributes:
        at_s: Since the beginning [s].
        process: Its name.
        tasks, threads, descriptors: Counts.
        memory_bytes: Resident memory [byte].
        is_settled: Whether it was taken just before a move, or none was made: only such are
            compared.
    """

    at_s: float
    process: str
    tasks: int | None
    threads: int | None
    descriptors: int | None
    memory_bytes: int | None
    is_settled: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that must hold, whether it did, and the figures."""

    name: str
    passed: bool
    says: str


@dataclass(slots=True, kw_only=True)
class Report:
    """What a soak found; what `--json` writes."""

    plan: Plan
    checks: list[Check] = field(default_factory=list)
    moves: int = 0
    frames_lost: int = 0
    frames_repeated: int = 0
    audio_slots_lost: int = 0
    longest_interval_s: float = 0.0
    silences: dict[str, int] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    duration_s: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether everything that must hold did."""
        return bool(self.checks) and all(check.passed for check in self.checks)

    def as_json(self) -> dict[str, Any]:
        """Return everything, for `--json`."""
        return {"passed": self.passed, **asdict(self)}


async def soak(plan: Plan, folder: Path, tell: Callable[[str], None]) -> Report:
    """
    Run a soak and judge it. Bounded; cancelling ends every process.

    Args:
        plan: What is done.
        folder: Where records and logs go; it exists.
        tell: Called with each line of progress.
    """
    report = Report(plan=plan)
    loop = asyncio.get_running_loop()
    begun_s = loop.time()
    async with Stage(folder) as stage:
        group = stage.group
        run = _Soak(stage, report, tell)
        try:
            async with asyncio.timeout(plan.seconds + 120.0):
                await run.run()
        except LocalFault as exc:
            report.checks.append(Check(name="on air", passed=False, says=str(exc)))
        except TimeoutError:
            says = f"it did not end within {plan.seconds + 120:g} s"
            report.checks.append(Check(name="on air", passed=False, says=says))
    left = await _in_group(group)
    says = "none outlived the soak" if not left else f"{left} outlived the soak"
    report.checks.append(Check(name="processes left", passed=not left, says=says))
    report.duration_s = round(loop.time() - begun_s, 3)
    return report


class _Soak:
    """One soak under way."""

    def __init__(self, stage: Stage, report: Report, tell: Callable[[str], None]) -> None:
        self.stage, self.report, self.plan, self.tell = stage, report, report.plan, tell
        self._loop = asyncio.get_running_loop()
        self._run = Run("soak", stage)
        self._begun_s = self._moved_s = self._loop.time()
        self._processes: list[int] = []
        self._measured_s: float | None = None

    async def run(self) -> None:
        """Do what is planned, then judge."""
        self.publisher, self.viewer = await asyncio.gather(
            *(
                self.stage.start_end(role, STREAM, f"--remember-s={_MEMORY_S:g}", policy=POLICY)
                for role in ("publisher", "viewer")
            )
        )
        for end in (self.publisher, self.viewer):
            await self._run.started(end)
        if self.plan.loss:
            for name in self.stage.names:
                await self.stage.break_(name, "loss", LOSS)
        self._begun_s = self._loop.time()
        self.tell(f"on air with {where(self.publisher)}; {self._plan_in_words()}")
        await self._follow()
        await self._judge()

    def _plan_in_words(self) -> str:
        if self.plan.loss:
            return f"{LOSS['share']:.0%} of packets lost, up to {LOSS['delay_s_max']:g} s late"
        return f"a move every {self.plan.move_every_s:g} s for {self.plan.seconds:g} s"

    async def _follow(self) -> None:
        """Count, move and measure, each at its time."""
        end_s = self._begun_s + self.plan.seconds
        sample_s = self._begun_s + SAMPLE_S
        move_s = float("inf") if self.plan.loss else self._begun_s + self.plan.move_every_s
        while True:
            measure_s = self._measured_s or float("inf")
            due_s = min(end_s, sample_s, move_s, measure_s)
            await asyncio.sleep(max(0.0, due_s - self._loop.time()))
            for process in (self.publisher, self.viewer):
                if over := process.last("over"):
                    raise LocalFault(f"{process.name} is over: {over['message']}")
            if due_s == measure_s:
                await self._measure()
            elif due_s in (end_s, move_s):
                await self._sample(is_settled=True)
                sample_s = due_s + SAMPLE_S
                if due_s == end_s:
                    return
                # No move so late that all would not be as it was at the end.
                is_last = move_s + SETTLE_S > end_s
                if not is_last:
                    await self._move()
                move_s = float("inf") if is_last else move_s + self.plan.move_every_s
            elif due_s == sample_s:
                await self._sample(is_settled=self.plan.loss)
                sample_s += SAMPLE_S

    # --- Moving ---

    async def _move(self) -> None:
        names = self.stage.names
        here = where(self.publisher)
        target = names[(names.index(here) + 1) % len(names)] if here in names else names[0]
        self.report.moves += 1
        self._moved_s = self._loop.time()
        self._measured_s = self._moved_s + MEASURED_S
        await self.stage.list_as(target, priority=-self.report.moves)
        await self._run.moved(target, self.publisher, self.viewer, limit_s=MEASURED_S - 2.0)

    async def _measure(self) -> None:
        self._measured_s = None
        window = {"from_s": self._moved_s - 0.5, "to_s": self._moved_s + MEASURED_S}
        said = await self.viewer.ask("measure", "measured", **window)
        told, report = said["report"], self.report
        report.frames_lost += told["frames_lost"]
        report.frames_repeated += told["frames_repeated"]
        report.audio_slots_lost += told["audio_slots_lost"]
        report.longest_interval_s = max(report.longest_interval_s, told["longest_interval_s"])
        if told["frames_lost"] or told["frames_repeated"]:
            self.tell(
                f"move {report.moves} to {where(self.viewer)}: {told['frames_lost']} frames lost, "
                f"{told['frames_repeated']} repeated"
            )

    # --- Counting ---

    async def _sample(self, *, is_settled: bool) -> None:
        at_s = self._loop.time() - self._begun_s
        taken: list[Sample] = []
        for process in self._watched():
            if process in (self.publisher, self.viewer):
                held = (await process.ask("status", "status"))["resources"]
            else:
                held = await holdings(process.pid)
            taken.append(
                Sample(
                    at_s=round(at_s, 1),
                    process=process.name,
                    tasks=held.get("tasks"),
                    threads=held.get("threads"),
                    descriptors=held.get("descriptors"),
                    memory_bytes=held.get("memory_bytes"),
                    is_settled=is_settled,
                )
            )
        self.report.samples += taken
        self._processes.append(await _in_group(self.stage.group))
        figures = "  ".join(_figures(sample) for sample in taken)
        self.tell(f"{at_s:5.0f} s  {where(self.viewer) or 'OFF AIR':<10} {figures}")

    def _watched(self) -> list[Process]:
        stands = [self.stage.stands[name] for name in self.stage.names]
        return [self.publisher, self.viewer, *stands]

    # --- Judging ---

    async def _judge(self) -> None:
        ends = (self.publisher, self.viewer)
        self.report.silences = {end.name: len(end.news("leg.silent")) for end in ends}
        self._check("on air", all(map(where, ends)), "both ends are on air at the end")
        if self.plan.loss:
            moved = [
                f"{end.name}: {news['sentence']} ({news['because']})"
                for end in ends
                for name in ("failover.succeeded", "migration.succeeded", "stream.off_air")
                for news in end.news(name)
            ]
            silent = ", ".join(f"{name} {n}" for name, n in self.report.silences.items())
            told = f"none; a silence was suspected: {silent} times"
            self._check("false moves", not moved, "; ".join(moved) or told)
        else:
            await self._judge_moves(ends)
        names = [process.name for process in self._watched()]
        self.report.checks += judge_counts(self.report.samples, self.plan, names)
        counts = self._processes
        steady = bool(counts) and counts[-1] <= counts[0]
        self._check("processes", steady, f"{counts[:1]} at first, {counts[-1:]} at last")

    async def _judge_moves(self, ends: Sequence[Process]) -> None:
        report = self.report
        missed = self._run.wrong
        done = f"{report.moves} ordered, {len(missed)} missed"
        self._check("moves", report.moves and not missed, "; ".join([done, *missed]))
        self._check(
            "frames",
            not report.frames_lost and not report.frames_repeated,
            f"{report.frames_lost} lost, {report.frames_repeated} repeated over all moves; "
            f"{report.audio_slots_lost} slots of sound lost; longest interval "
            f"{report.longest_interval_s:.3f} s",
        )
        states = [await self.stage.state(name) for name in self.stage.names]
        answered = sum(state["consents"]["answered"] for state in states)
        failed = max(state["consents"]["failed"] for state in states)
        lost = [news["because"] for end in ends for news in end.news("failover.started")]
        self._check(
            "consent",
            not lost and failed <= CONSENTS_FAILED_MAX,
            f"{answered} answered, at most {failed} failed at one stand-in; no leg was lost"
            if not lost
            else "; ".join(lost),
        )

    def _check(self, name: str, holds: object, says: str) -> None:
        self.report.checks.append(Check(name=name, passed=bool(holds), says=says))


def judge_counts(samples: Sequence[Sample], plan: Plan, names: Sequence[str]) -> list[Check]:
    """Judge whether anything grew in these processes; what cannot be compared does not pass."""
    early, late = compared(samples, plan)
    checks = []
    for figure in (*COUNTS, "memory_bytes"):
        pairs = {name: change(early, late, name, figure) for name in names}
        known = {name: pair for name, pair in pairs.items() if pair is not None}
        grew = [name for name, pair in known.items() if has_grown(figure, *pair)]
        if figure == "memory_bytes":
            known = {name: (was / 2**20, now / 2**20) for name, (was, now) in known.items()}
            says = _pairs(known, grew, " MiB")
        else:
            says = _pairs(known, grew)
        name = figure.removesuffix("_bytes")
        checks.append(Check(name=name, passed=bool(known) and not grew, says=says))
    return checks


def has_grown(figure: str, was: float, now: float) -> bool:
    """Whether a figure grew by more than it may."""
    if figure in COUNTS:
        return now - was > COUNTS[figure]
    return now - was > max(MEMORY_GROWTH_MAX * was, MEMORY_GROWTH_BYTES_MAX)


def compared(samples: Sequence[Sample], plan: Plan) -> tuple[list[Sample], list[Sample]]:
    """
    Return the first part of the samples after the warm-up, and the last part.

    Each is a quarter of what is left, but at least one rotation over all providers, for what a
    stand-in holds depends on whether it carries the stream; at most half.
    """
    warm_s = min(WARM_UP_S_MAX, plan.seconds / 4)
    settled = [sample for sample in samples if sample.is_settled and sample.at_s >= warm_s]
    moments = sorted({sample.at_s for sample in settled})
    rotation = 1 if plan.loss else 3
    count = min(len(moments) // 2, max(len(moments) // 4, rotation))
    first, last = moments[:count], moments[len(moments) - count :]
    return [s for s in settled if s.at_s in first], [s for s in settled if s.at_s in last]


def change(
    early: Sequence[Sample], late: Sequence[Sample], process: str, figure: str
) -> tuple[float, float] | None:
    """Return the medians of a figure of a process, early and late; None: not known here."""
    medians = []
    for part in (early, late):
        values = [getattr(sample, figure) for sample in part if sample.process == process]
        known = [value for value in values if value is not None]
        if not known:
            return None
        medians.append(float(median(known)))
    return medians[0], medians[1]


async def holdings(pid: int) -> dict[str, int]:
    """
    Return what a process holds, as seen from outside: threads, descriptors, memory [byte].

    Without /proc (macOS) only its memory is known; without the process, nothing.
    """
    folder = Path(f"/proc/{pid}")
    try:
        return {
            "threads": len(os.listdir(folder / "task")),
            "descriptors": len(os.listdir(folder / "fd")),
            "memory_bytes": int((folder / "statm").read_text().split()[1])
            * os.sysconf("SC_PAGE_SIZE"),
        }
    except OSError:
        told = (await _ps("-o", "rss=", "-p", str(pid))).split()
    return {"memory_bytes": int(told[0]) * 1024} if told else {}


async def _in_group(group: int) -> int:
    """Return how many processes are in a process group."""
    lines = (await _ps("-A", "-o", "pgid=,stat=")).splitlines()
    told = [line.split() for line in lines if line.strip()]
    return sum(int(pgid) == group and not stat.startswith("Z") for pgid, stat, *_ in told)


async def _ps(*options: str) -> str:
    child = await asyncio.create_subprocess_exec(
        "ps", *options, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        said, _ = await asyncio.wait_for(child.communicate(), 5.0)
    except TimeoutError:
        raise LocalFault("ps did not answer within 5 s") from None
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    return said.decode(errors="replace")


def _figures(sample: Sample) -> str:
    known = [
        f"{value}{unit}"
        for value, unit in (
            (sample.tasks, "t"),
            (sample.threads, "th"),
            (sample.descriptors, "fd"),
            ((sample.memory_bytes or 0) // 2**20, "M"),
        )
        if value is not None
    ]
    return f"{sample.process} {'/'.join(known)}"


def _pairs(pairs: dict[str, tuple[float, float]], bad: Sequence[str], unit: str = "") -> str:
    if not pairs:
        return "nothing to compare: not known on this system, or the run was too short"
    return ", ".join(
        f"{name} {was:.4g} -> {now:.4g}{unit}{' (GREW)' if name in bad else ''}"
        for name, (was, now) in pairs.items()
    )
