"""
The contract of `base.py`, as one function any adapter author can call.

No pytest needed, so it runs in a plugin's own repository, in a script, or as
`hitless conformance NAME`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from ..errors import ConfigError, HitlessError, NotOnAir, ProviderError, StreamEnded
from ..media.feed import Feed
from ..media.frame import EncodedFrame, Kind
from ..media.source import Quality, open_feed
from .base import Leg, Provider, ViewLeg


LIMIT_S = 10.0
"""Every single wait of the suite ends within this time [s]; for first media within the provider's
own `first_media_s`, if that is longer."""

RULES = {
    "C1": "it has a lower-case name, start_stream, join_stream and aclose",
    "C2": "start_stream returns a leg with its media proven and signs of life",
    "C3": "join_stream returns a leg that brings frames, video beginning with a keyframe",
    "C4": "timestamps grow, per kind",
    "C5": "encoded frames arrive as they were sent",
    "C6": "two viewers get the stream at the same time",
    "C7": "a stream that nobody publishes is NotOnAir",
    "C8": "statistics are webrtc-stats: each has a type and an id",
    "C9": "closing a leg twice is fine, and its viewers learn of the end",
    "C10": "a cancelled start_stream is cancelled, and nobody is on air then",
    "C11": "a cancelled join_stream is cancelled",
    "C12": "closing the provider twice is fine",
}

OF_VIEWERS: Final = ("C3", "C4", "C5", "C6", "C7", "C11")
"""What only a viewer can see."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One rule: whether it is kept, and what was seen otherwise."""

    rule: str
    says: str
    is_kept: bool
    because: str = ""


@dataclass(slots=True, kw_only=True)
class Report:
    """
    What the suite found, in the order of the rules.

    Attributes:
        provider: Its name.
        findings: One for each rule that was tried.
        left_out: Rules that cannot be tried with this provider.
    """

    provider: str = ""
    findings: list[Finding] = field(default_factory=list)
    left_out: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every rule is kept that was not left out."""
        tried = len(RULES) - len(self.left_out)
        return len(self.findings) == tried and all(f.is_kept for f in self.findings)

    def require(self) -> None:
        """
        Raise unless every rule is kept.

        Raises:
            AssertionError: Naming each rule that is broken.
        """
        broken = [f"{f.rule} ({f.says}): {f.because}" for f in self.findings if not f.is_kept]
        if not self.passed:
            raise AssertionError(f"{self.provider}: " + "; ".join(broken or ["it did not finish"]))


async def check_provider(
    make: Callable[[], Awaitable[Provider]],
    *,
    feed: Callable[[], Awaitable[Feed]] | None = None,
    stream: str = "hitless-conformance",
    carries_frames: bool = True,
    views: bool = True,
) -> Report:
    """
    Check a provider against the contract. Bounded in time; leaves nothing behind.

    Args:
        make: Returns a fresh, working provider each time it is awaited.
        feed: Returns a fresh running feed; None: a small test picture.
        stream: Prefix of the stream ids that are used.
        carries_frames: Whether it forwards our encoded frames untouched; False for one that
            transcodes, which need not keep C5.
        views: Whether streams can be viewed by it; False for an ingest whose viewers use
            something else: the rules about viewers are left out, and nobody sees what it forwards.

    Returns:
        One finding per rule; `require()` turns broken ones into an AssertionError.
    """
    report = Report(left_out=() if views else OF_VIEWERS)
    provider = await make()
    source = await (feed or _test_picture)()
    suite = _Suite(report, provider, source, stream, carries_frames=carries_frames, views=views)
    try:
        async with asyncio.timeout(12 * LIMIT_S):
            await suite.run()
    except TimeoutError:
        suite.note("C12", f"the suite did not end within {12 * LIMIT_S:g} s")
    finally:
        await source.aclose()
        because = await _closed(provider)
    if because and not any(finding.rule == "C12" for finding in report.findings):
        suite.note("C12", because)
    return report


async def _closed(provider: Provider) -> str:
    """Close a provider and return what is wrong with that."""
    try:
        async with asyncio.timeout(LIMIT_S):
            await provider.aclose()
    except TimeoutError:
        return f"aclose took more than {LIMIT_S:g} s"
    except Exception as exc:
        return f"aclose raised {type(exc).__name__}: {exc}"
    return ""


async def _left(leg: Leg) -> str:
    """Close a leg twice and return what is wrong with that."""
    try:
        async with asyncio.timeout(LIMIT_S):
            await leg.aclose()
            await leg.aclose()
    except TimeoutError:
        return f"aclose of a leg took more than {LIMIT_S:g} s"
    except Exception as exc:
        return f"aclose of a leg raised {type(exc).__name__}: {exc}"
    return ""


async def _test_picture() -> Feed:
    quality = Quality(width=320, height=180, frame_rate=15, bitrate_bps=200_000)
    return await open_feed("test-picture", quality=quality)


class _Suite:
    def __init__(
        self,
        report: Report,
        provider: Provider,
        feed: Feed,
        stream: str,
        *,
        carries_frames: bool,
        views: bool,
    ) -> None:
        self.report, self.provider, self.feed, self.stream = report, provider, feed, stream
        self.carries_frames, self.views = carries_frames, views
        first_media_s = getattr(provider, "first_media_s", 0.0)
        self.limit_s = max(LIMIT_S, float(first_media_s) + 1.0)

    def note(self, rule: str, because: str = "") -> None:
        """Record a rule: kept unless there is a reason against it."""
        self.report.findings.append(
            Finding(rule=rule, says=RULES[rule], is_kept=not because, because=because)
        )

    async def run(self) -> None:
        name = getattr(self.provider, "name", "")
        self.report.provider = name
        good = isinstance(self.provider, Provider) and name and name == name.lower()
        self.note("C1", "" if good else f"got {self.provider!r} with name {name!r}")
        if not good:
            return
        leg = await self._publish()
        if leg is None:
            return
        try:
            await (self._watch(leg) if self.views else self._leave(leg))
        finally:
            await leg.aclose()
        await self._ends()

    async def _publish(self) -> Leg | None:
        try:
            async with asyncio.timeout(self.limit_s):
                leg = await self.provider.start_stream(self.stream, self.feed)
        except (HitlessError, TimeoutError) as exc:
            self.note("C2", f"{type(exc).__name__}: {exc}")
            return None
        alive = isinstance(leg, Leg) and await _until(
            lambda: (
                leg.liveness.last_media_s() is not None or leg.liveness.deadline_s() is not None
            )
        )
        self.note("C2", "" if alive else "it is not a Leg, or liveness never heard anything")
        return leg

    async def _watch(self, leg: Leg) -> None:
        views: list[ViewLeg] = []
        try:
            for _ in range(2):
                async with asyncio.timeout(self.limit_s):
                    views.append(await self.provider.join_stream(self.stream))
            first, second = [await _some_frames(view, self.feed.kinds) for view in views]
            self._judge_frames(views[0], first)
            self.note("C6", "" if second else "the second viewer got nothing")
            self._judge_stats(leg, *views)
            await self._closing(leg, views[0])
        except (HitlessError, TimeoutError) as exc:
            self.note("C3", f"{type(exc).__name__}: {exc}")
        finally:
            for view in views:
                await view.aclose()

    async def _leave(self, leg: Leg) -> None:
        """What can be said of a leg that nobody views."""
        self._judge_stats(leg)
        self.note("C9", await _left(leg))

    def _judge_stats(self, *legs: Leg) -> None:
        stats = [entry for one in legs for entry in one.stats()]
        sound = stats and all("type" in entry and "id" in entry for entry in stats)
        self.note("C8", "" if sound else f"got {stats[:2]!r}")

    def _judge_frames(self, view: ViewLeg, frames: list[EncodedFrame]) -> None:
        kinds = {frame.kind for frame in frames}
        video = [frame for frame in frames if frame.kind is Kind.VIDEO]
        because = "" if isinstance(view, ViewLeg) else "it is not a ViewLeg"
        if kinds != self.feed.kinds:
            because = f"kinds that came: {sorted(kinds) or 'none'}"
        elif video and not video[0].keyframe:
            because = "video began without a keyframe"
        self.note("C3", because)
        for kind in kinds:
            stamps = [frame.timestamp for frame in frames if frame.kind is kind]
            if sorted(set(stamps)) != stamps:
                self.note("C4", f"{kind} timestamps: {stamps[:10]}")
                break
        else:
            self.note("C4")
        foreign = [frame for frame in frames if not self.feed.is_own(frame.data)]
        changed = self.carries_frames and foreign
        self.note("C5", f"{len(foreign)} of {len(frames)} were changed" if changed else "")

    async def _closing(self, leg: Leg, view: ViewLeg) -> None:
        if because := await _left(leg):
            self.note("C9", because)
            return
        ended = asyncio.ensure_future(view.lost())
        try:
            loop = asyncio.get_running_loop()
            knows = await _until(
                lambda: ended.done() or view.liveness.quiet(loop.time()) is not None
            )
            self.note("C9", "" if knows else f"its viewer noticed nothing for {LIMIT_S:g} s")
        finally:
            ended.cancel()
            await asyncio.gather(ended, return_exceptions=True)

    async def _ends(self) -> None:
        if self.views:
            self.note("C7", await self._is_absent(self.stream))
        starting = asyncio.ensure_future(
            _as_coroutine(self.provider.start_stream(self.stream + "-2", self.feed))
        )
        await asyncio.sleep(0.005)
        because = await _cancelled(starting)
        if self.views:
            self.note("C10", because or await self._is_absent(self.stream + "-2"))
            joining = asyncio.ensure_future(_as_coroutine(self.provider.join_stream(self.stream)))
            await asyncio.sleep(0)
            self.note("C11", await _cancelled(joining))
        else:
            self.note("C10", because)
        self.note("C12", await _closed(self.provider) or await _closed(self.provider))

    async def _is_absent(self, stream: str) -> str:
        """Return what is wrong unless `stream` is, or soon is, not on air."""
        loop = asyncio.get_running_loop()
        until_s, seen = loop.time() + LIMIT_S, ""
        while loop.time() < until_s:
            try:
                async with asyncio.timeout(2 * LIMIT_S):
                    view = await self.provider.join_stream(stream)
            except NotOnAir:
                return ""
            except ConfigError as exc:
                return f"{type(exc).__name__}: {exc}"  # asked again, it says the same
            except (ProviderError, StreamEnded, TimeoutError) as exc:
                seen = f"{type(exc).__name__}: {exc}"
            else:
                await view.aclose()
                seen = "it let a viewer in"
            await asyncio.sleep(0.2)
        return seen


async def _as_coroutine(wanted: Awaitable[Leg]) -> Leg:
    return await wanted


async def _cancelled(task: asyncio.Task[Leg]) -> str:
    """Cancel a task and return what is wrong unless that cancelled it."""
    if task.done():  # it was quicker than the suite: nothing to cancel
        if not task.cancelled() and task.exception() is None:
            await task.result().aclose()
        return ""
    task.cancel()
    await asyncio.wait([task], timeout=LIMIT_S)
    if not task.done():
        return f"it went on for {LIMIT_S:g} s"
    return "" if task.cancelled() else "it swallowed the cancellation"


async def _until(condition: Callable[[], object]) -> bool:
    """Wait until `condition()` holds; return whether it did in time."""
    loop = asyncio.get_running_loop()
    until_s = loop.time() + LIMIT_S
    while loop.time() < until_s:
        if condition():
            return True
        await asyncio.sleep(0.02)
    return False


async def _some_frames(view: ViewLeg, kinds: frozenset[Kind]) -> list[EncodedFrame]:
    """Return the first frames of a leg: ten of each kind, or what came in time."""
    frames: list[EncodedFrame] = []
    try:
        async with asyncio.timeout(LIMIT_S):
            async for frame in view.frames():
                frames.append(frame)
                if all(sum(f.kind is kind for f in frames) >= 10 for kind in kinds):
                    break
    except TimeoutError:
        pass  # what is missing is judged by the caller
    return frames
