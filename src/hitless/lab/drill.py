"""
A drill: a planned failure, on real media, with the gap measured.

Each run has a stage of its own. The publisher and the viewer are processes that share nothing but
the stand-ins and the backend; the gap comes from the frame numbers in the picture that the viewer
decodes, never from the code that moved the stream. The baseline is measured in the same run over
a window of the same length; one above 60 ms voids the run, for then the machine was too busy.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ..errors import ConfigError, LocalFault
from .process import Process
from .stage import PROVIDERS, SERVERS, Stage


GAP_S_MAX: Final = 2.0
"""A drill whose stream moved passes with a gap of at most this [s]."""
BASELINE_S_MAX: Final = 0.06
"""A baseline interval above this voids the run [s]."""
WINDOW_S: Final = 4.0
"""How long is measured after the event, and the baseline before it [s]."""
RUN_S_MAX: Final = 180.0
STREAM: Final = "morning-show"

POLICY: Final = {"health_interval_s": 1.0, "overlap_s": 3.0}
"""Drills do not wait 30 s for a poll; everything else has its default."""


@dataclass(slots=True, kw_only=True)
class Result:
    """
    One run of one drill; what `--json` writes. Times in seconds, None where nothing was measured.

    Attributes:
        drill: Its name.
        passed: Right behaviour, and a gap of at most `GAP_S_MAX`.
        attempts: Providers the publisher asked, in order.
        providers: Providers on air, in order, as the viewer saw them.
        stream_id: Under which the viewer watched throughout.
        detect_s: From the event to the publisher's or the viewer's first word of it.
        gap_s: The longest interval between pictures, less one frame interval.
        frames_lost, frames_repeated: Frame numbers never shown, shown again.
        longest_interval_s, baseline_longest_interval_s: Between pictures, with and without event.
        audio_gap_s, audio_slots_lost, audio_slots_repeated: The same for 20 ms slots of sound.
        av_skew_s: How much later the sound came beside the picture, after less before.
        duration_s: Of the whole run.
        because: What was seen, and first of all what was wrong.
    """

    drill: str
    passed: bool = False
    attempts: list[str] = field(default_factory=list)
    providers: list[str] = field(default_factory=list)
    stream_id: str = STREAM
    detect_s: float | None = None
    gap_s: float | None = None
    frames_lost: int | None = None
    frames_repeated: int | None = None
    longest_interval_s: float | None = None
    baseline_longest_interval_s: float | None = None
    audio_gap_s: float | None = None
    audio_slots_lost: int | None = None
    audio_slots_repeated: int | None = None
    av_skew_s: float | None = None
    duration_s: float = 0.0
    because: list[str] = field(default_factory=list)


class Void(Exception):
    """The machine was too busy for this run to say anything."""


class Run:
    """
    One run: a stage, its ends, what is expected of them, and the result.

    Attributes:
        stage: The processes.
        result: What is filled in.
        wrong: What was expected and did not hold.
    """

    def __init__(self, name: str, stage: Stage) -> None:
        self.stage = stage
        self.result = Result(drill=name)
        self.wrong: list[str] = []
        self._loop = asyncio.get_running_loop()

    @property
    def first(self) -> str:
        """The provider of the highest priority."""
        return self.stage.names[0]

    @property
    def second(self) -> str:
        """The next one."""
        return self.stage.names[1]

    @property
    def third(self) -> str:
        """The last one."""
        return self.stage.names[2]

    @property
    def now(self) -> float:
        """The machine's monotonic clock [s]."""
        return self._loop.time()

    # --- Acting ---

    async def publisher(self, *options: str, **more: Any) -> Process:
        """Start a publisher; it begins at once unless `--hold` is among the options."""
        more["policy"] = {**POLICY, **more.get("policy", {})}
        return await self.stage.start_end("publisher", STREAM, *options, **more)

    async def viewer(self, *options: str, **more: Any) -> Process:
        """Start a viewer."""
        more["policy"] = {**POLICY, **more.get("policy", {})}
        return await self.stage.start_end("viewer", STREAM, *options, **more)

    async def on_air(
        self,
        *options: str,
        settle_s: float = WINDOW_S + 1.5,
        urls: Mapping[str, str] | None = None,
        policy: Mapping[str, object] | None = None,
    ) -> tuple[Process, Process]:
        """Start both ends, and return when the viewer has watched for `settle_s` [s]."""
        publisher, viewer = await asyncio.gather(
            self.publisher(*options, policy=policy or {}, urls=urls),
            self.viewer(policy=policy or {}),
        )
        await self.started(publisher)
        await self.started(viewer)
        await asyncio.sleep(settle_s)
        return publisher, viewer

    async def started(self, end: Process, *, limit_s: float = 20.0) -> dict[str, Any]:
        """Wait until an end is on air."""

        def found() -> object:
            over = end.last("over")
            if over is not None:
                raise LocalFault(f"{end.name} is over: {over['error']}: {over['message']}")
            return end.last("started")

        line: dict[str, Any] = await end.until(found, what="start", limit_s=limit_s)
        return line

    async def moved(self, provider: str, *ends: Process, limit_s: float = 10.0) -> None:
        """Wait until these ends are on air with `provider`; a miss is noted."""
        for end in ends:
            try:
                await end.until(
                    lambda end=end: where(end) == provider,  # type: ignore[misc]
                    what=f"move to {provider}",
                    limit_s=limit_s,
                )
            except LocalFault as exc:
                self.wrong.append(str(exc))

    async def told(
        self, end: Process, name: str, *, limit_s: float = 10.0, count: int = 1
    ) -> float:
        """Wait for news; return when it was told [s], or now if it never was (which is noted)."""
        try:
            await end.until(
                lambda: len(end.news(name)) >= count, what=f"news {name}", limit_s=limit_s
            )
        except LocalFault as exc:
            self.wrong.append(str(exc))
            return self.now
        return float(end.news(name)[count - 1]["at_s"])

    async def over(self, end: Process, *, limit_s: float = 20.0) -> dict[str, Any]:
        """Wait until an end's stream is over and return what it said."""
        line: dict[str, Any] = await end.until(
            lambda: end.last("over"), what="end of the stream", limit_s=limit_s
        )
        return line

    # --- Judging ---

    def expect(self, holds: object, because: str) -> None:
        """Note `because` unless `holds`."""
        if not holds:
            self.wrong.append(because)

    def note(self, because: str) -> None:
        """Add to what was seen."""
        self.result.because.append(because)

    async def expect_attempts(self, end: Process, *providers: str) -> None:
        """The attempts of an end were exactly these."""
        if end.last("over") is None:
            await end.ask("status", "status")
        seen = attempts(end)
        if end.name == "publisher":
            self.result.attempts = seen
        wanted = list(providers)
        self.expect(seen == wanted, f"{end.name}'s attempts were {seen}, not {wanted}")

    def expect_nobody_blamed(self, *ends: Process) -> None:
        """No provider has a failure counted against it, at any of these ends, ever."""
        for end in ends:
            blamed = [f"{n['provider']}: {n['because']}" for n in end.news("provider.failed")]
            self.expect(not blamed, f"{end.name} blamed {'; '.join(blamed)}")

    def expect_no_move(self, *ends: Process) -> None:
        """None of these ends moved."""
        for end in ends:
            moves = end.news("failover.succeeded") + end.news("migration.succeeded")
            self.expect(not moves, f"{end.name} moved: {[m['sentence'] for m in moves]}")

    async def measure(
        self,
        viewer: Process,
        event_s: float,
        *,
        window_s: float = WINDOW_S,
        lossless: bool = False,
    ) -> None:
        """
        Measure what the viewer saw from 0.5 s before the event to `window_s` after it.

        Args:
            viewer: Whose picture.
            event_s: When it happened [s].
            window_s: How long after it [s].
            lossless: Whether not one frame or slot may be lost or repeated.

        Raises:
            Void: The baseline says that the machine was too busy.
        """
        await asyncio.sleep(max(0.0, event_s + window_s - self.now))
        from_s, to_s = event_s - 0.5, event_s + window_s
        said = await viewer.ask(
            "measure",
            "measured",
            from_s=from_s,
            to_s=to_s,
            baseline_from_s=from_s - (to_s - from_s),
        )
        report, r = said["report"], self.result
        for name in (
            "gap_s", "frames_lost", "frames_repeated", "longest_interval_s",
            "baseline_longest_interval_s", "audio_gap_s", "audio_slots_lost",
            "audio_slots_repeated", "av_skew_s",
        ):  # fmt: skip
            setattr(r, name, report[name])
        if (r.baseline_longest_interval_s or 0.0) > BASELINE_S_MAX:
            raise Void(f"baseline interval of {r.baseline_longest_interval_s:.3f} s")
        self.expect(report["frames_shown"] > 0, "the viewer saw nothing")
        if lossless:
            for name in ("frames_lost", "frames_repeated", "audio_slots_lost",
                         "audio_slots_repeated"):  # fmt: skip
                self.expect(report[name] == 0, f"{name} is {report[name]}, not 0")

    def detected(self, event_s: float, *ends: Process) -> None:
        """Note when the first of these ends had noticed."""
        words = ("leg.silent", "leg.failed", "failover.started", "stream.off_air")
        times = [
            news["at_s"]
            for end in ends
            for news in end.news()
            if news["name"] in words and news["at_s"] >= event_s
        ]
        self.result.detect_s = min(times) - event_s if times else None


def where(end: Process) -> str:
    """Return who is on air at an end, as it last said; empty: nobody."""
    status = end.last("status")
    return status["provider"] if status and status["phase"] == "on_air" else ""


def attempts(end: Process) -> list[str]:
    """Return the providers an end asked, in order."""
    over = end.last("over")
    if over is not None and over["errors"]:
        return [error["provider"] for error in over["errors"]]
    status = end.last("status")
    return list(status["attempts"]) if status else []


def carried(end: Process) -> list[str]:
    """Return the providers that were on air at an end, in order."""
    names: list[str] = []
    for news in end.news():
        if news["name"] in ("stream.on_air", "failover.succeeded", "migration.succeeded"):
            names += [news["provider"]] if names[-1:] != [news["provider"]] else []
    return names


@dataclass(frozen=True, slots=True, kw_only=True)
class Drill:
    """One drill: what happens, what must hold, and how it is done."""

    name: str
    happens: str
    holds: str
    run: Callable[[Run], Awaitable[None]]
    gap_s_max: float
    needs_server: bool
    env: Mapping[str, str]


CATALOGUE: Final[dict[str, Drill]] = {}


def drill(
    name: str,
    happens: str,
    holds: str,
    *,
    gap_s_max: float = GAP_S_MAX,
    needs_server: bool = False,
    env: Mapping[str, str] | None = None,
) -> Callable[[Callable[[Run], Awaitable[None]]], Callable[[Run], Awaitable[None]]]:
    """Put a drill into the catalogue."""

    def add(run: Callable[[Run], Awaitable[None]]) -> Callable[[Run], Awaitable[None]]:
        CATALOGUE[name] = Drill(
            name=name,
            happens=happens,
            holds=holds,
            run=run,
            gap_s_max=gap_s_max,
            needs_server=needs_server,
            env=env or {},
        )
        return run

    return add


def chosen(names: Sequence[str], *, is_alone: bool = False) -> list[Drill]:
    """
    Return the drills of these names, or all; when alone, all that need no server.

    Raises:
        ConfigError: There is no drill of that name, or one of them cannot be run alone.
    """
    for name in names:
        if name not in CATALOGUE:
            raise ConfigError(f"no drill called {name!r}; there are: {', '.join(CATALOGUE)}")
    found = [CATALOGUE[name] for name in names]
    if is_alone and (needing := [one.name for one in found if one.needs_server]):
        raise ConfigError(f"{', '.join(needing)}: cannot be run alone: it is about the server")
    return found or [one for one in CATALOGUE.values() if not (is_alone and one.needs_server)]


def mix(names: Sequence[str]) -> tuple[str, ...]:
    """
    Return three providers, best first: those named, and stand-ins after them.

    Raises:
        ConfigError: An unknown name, one given twice, or more than three.
    """
    for name in names:
        if name not in (*PROVIDERS, *SERVERS):
            known = ", ".join((*PROVIDERS, *SERVERS))
            raise ConfigError(f"no provider called {name!r} in the lab; there are: {known}")
    if len(set(names)) < len(names) or len(names) > len(PROVIDERS):
        raise ConfigError(f"--providers: give up to {len(PROVIDERS)} names, each once")
    return (*names, *(name for name in PROVIDERS if name not in names))[: len(PROVIDERS)]


async def perform(
    one: Drill,
    *,
    providers: Sequence[str] = PROVIDERS,
    is_alone: bool = False,
    voids_max: int = 2,
) -> Result:
    """
    Run a drill once, on a stage of its own. A void run is repeated at most `voids_max` times.
    One that needs what real servers do not have (the relay, most faults of stand-ins) fails, and
    its first reason says so.

    With `is_alone` its ends use the server's list and health only, and decide without it.

    Cancelling ends every process.

    Raises:
        ConfigError: A real server is not installed; the message says what to install.
    """
    for attempt in range(voids_max + 1):
        result, void = await _perform(one, providers, is_alone)
        if not void:
            return result
        result.because.insert(0, f"void: {void}")
        if attempt == voids_max:
            break
    return result


async def _perform(one: Drill, providers: Sequence[str], is_alone: bool) -> tuple[Result, str]:
    loop = asyncio.get_running_loop()
    begun_s, void = loop.time(), ""
    with tempfile.TemporaryDirectory(prefix="hitless-drill-") as folder:
        run: Run | None = None
        try:
            async with (
                asyncio.timeout(RUN_S_MAX),
                Stage(Path(folder), providers, is_alone=is_alone, env=one.env) as stage,
            ):
                run = Run(one.name, stage)
                try:
                    await one.run(run)
                except Void as exc:
                    void = str(exc)
                except LocalFault as exc:
                    run.wrong.append(str(exc))
                except ConfigError as exc:  # a fault that a real server cannot have, the relay
                    run.wrong.append(f"cannot be run on {', '.join(providers)}: {exc}")
                _carried(run)
        except TimeoutError:
            void_result = run.result if run else Result(drill=one.name)
            void_result.because.append(f"it did not end within {RUN_S_MAX:g} s")
            return void_result, ""
        result = run.result
    gap_s = result.gap_s
    if gap_s is not None and gap_s > one.gap_s_max:
        run.wrong.append(f"the gap is {gap_s:.3f} s, more than {one.gap_s_max:g} s")
    result.because = run.wrong + result.because
    result.passed = not run.wrong and not void
    result.duration_s = round(loop.time() - begun_s, 3)
    return result, void


def _carried(run: Run) -> None:
    ends = {process.name: process for process in run.stage.processes}
    viewer, publisher = ends.get("viewer"), ends.get("publisher")
    if viewer is not None and not run.result.providers:
        run.result.providers = carried(viewer)
    if publisher is not None and not run.result.attempts:
        run.result.attempts = attempts(publisher)


@contextlib.contextmanager
def machine_lock(tell: Callable[[str], None]) -> Iterator[None]:
    """
    Hold the machine for measuring: one run at a time, whoever runs it.

    It waits without an event loop, so that Ctrl-C ends the waiting.

    Args:
        tell: Called with a sentence if somebody else holds it.
    """
    path = Path(tempfile.gettempdir()) / "hitless-drill.lock"
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            tell("waiting for another drill or soak on this machine: they measure alone")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield  # closing the file lets go


async def perform_all(
    drills: Sequence[Drill],
    runs: int,
    *,
    providers: Sequence[str] = PROVIDERS,
    is_alone: bool = False,
) -> AsyncIterator[tuple[Drill, int, Result]]:
    """Yield each result as it comes, drill by drill."""
    for one in drills:
        for number in range(runs):
            yield one, number, await perform(one, providers=providers, is_alone=is_alone)
