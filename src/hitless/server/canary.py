"""
A media canary: a tiny stream of our own, published over a provider and watched over it.

What an API says of itself proves nothing about frames. A canary costs seconds of media, and it
tells what a viewer would see: whether a picture comes, when, how late, and how many are missing.
Its picture carries its own number, so that a provider which encodes anew is measured as well.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from ..core.observation import Level, ProbeEnded
from ..errors import ConfigError, HitlessError, LocalFault, MediaLost, NotOnAir, ProviderError
from ..media.closing import finish
from ..media.decoder import Decoder
from ..media.feed import Feed
from ..media.source import TEST_PICTURE, open_feed
from ..providers.base import Leg, Provider, ViewLeg
from .sighting import QUALITY, Lateness, Sighting


T = TypeVar("T")
L = TypeVar("L", bound=Leg)

PREFIX: Final = "hitless-canary-"
"""How the ids of its streams begin."""

ASK_AGAIN_S: Final = 0.2
"""A provider that does not know the stream yet is asked again after this time [s]."""

_LEAST_S: Final = 0.05
_MONTH_S: Final = 30 * 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """
    How long a canary may take, and what it must see.

    Attributes:
        publish_s: For media to be proven by the adapter [s].
        view_s: From then on to the first picture [s].
        watch_s: How long it watches after that [s].
        close_s: For everything to be closed [s].
        late_s_max: A failure while our own loop was later than this is ours [s].
        shown_min: Share of pictures, and of sound, that must arrive [0..1].
    """

    publish_s: float = 10.0
    view_s: float = 10.0
    watch_s: float = 3.0
    close_s: float = 3.0
    late_s_max: float = 0.5
    shown_min: float = 0.5

    @property
    def total_s(self) -> float:
        """The longest a run can take, an adapter that hangs included [s]."""
        return self.publish_s + self.view_s + self.watch_s + 4 * self.close_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """
    What a run used.

    Attributes:
        media_s: Seconds of media, of all its legs together [s].
        sent_bytes: Encoded media that was published.
        received_bytes: Encoded media that was viewed.
    """

    media_s: float = 0.0
    sent_bytes: int = 0
    received_bytes: int = 0


USUAL: Final = Cost(media_s=6.4, sent_bytes=60_000, received_bytes=54_000)
"""What an `end_to_end` run costs with the limits as they are, measured over a stand-in: published
for 3.3 s and viewed for 3.1 s, at 146 kbit/s. A self-view of the adapter is not in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryEnded:
    """
    What a run found.

    Attributes:
        probe: The same as an observation.
        publish_s: Time until media was proven to be taken [s]; None: it was not.
        first_media_s: From the beginning of the join to the first picture [s]; None: none came.
        latency_s: From encoder to decoded picture, the median [s].
        loss: Share of pictures that did not arrive [0..1].
        sound_loss: Share of sound that did not arrive [0..1].
        late_s: How late our own loop was at worst [s].
        cost: What it used.
    """

    probe: ProbeEnded
    publish_s: float | None
    first_media_s: float | None
    latency_s: float | None
    loss: float | None
    sound_loss: float | None
    late_s: float
    cost: Cost


def cost_per_month(
    cadence_s: float, price: Mapping[str, object] | None, cost: Cost = USUAL
) -> float | None:
    """
    Return what a canary costs in 30 days, in the currency of the price; None: nobody knows.

    Args:
        cadence_s: How often it runs [s].
        price: `per_minute` of a leg, `per_gb` (10^9 bytes), or both.
        cost: What one run uses.
    """
    if price is None or cadence_s <= 0:
        return None
    uses = {
        "per_minute": cost.media_s / 60,
        "per_gb": (cost.sent_bytes + cost.received_bytes) / 1e9,
    }
    known = [
        amount * uses[unit]
        for unit, amount in price.items()
        if unit in uses and isinstance(amount, int | float) and not isinstance(amount, bool)
    ]
    return sum(known) * _MONTH_S / cadence_s if known else None


class _Own(HitlessError):
    """Our own trouble, in words; never leaves this module."""


class Canary:
    """
    Publishes and views a stream of its own over one provider, again each time it is run.

    Args:
        provider: The adapter; it is not closed.
        level: How deep to go; `INGEST` publishes only. `CONTROL` is no matter of media.
        region: What observations say of it.
        limits: Times and shares.
        rng: Where the ids of its streams come from.
    """

    def __init__(
        self,
        provider: Provider,
        *,
        level: Level = Level.END_TO_END,
        region: str | None = None,
        limits: Limits = Limits(),
        rng: random.Random,
    ) -> None:
        if level is Level.CONTROL:
            raise ConfigError("level = control is not possible for a canary: it needs media")
        self._provider, self._level, self._region = provider, level, region
        self._limits, self._rng = limits, rng
        self._strays: set[asyncio.Future[Any]] = set()

    async def run(self) -> CanaryEnded:
        """
        Run once. Bounded by `Limits.total_s`; safe under cancellation; raises nothing else.

        A provider whose adapter cannot view (`ConfigError`) is judged by what it takes.
        """
        seen = Sighting(level=self._level)
        lateness = Lateness()
        because, answered, is_ours = "", True, False
        stream = f"{PREFIX}{self._rng.getrandbits(64):016x}"
        try:
            async with AsyncExitStack() as stack:
                await self._go(stream, seen, stack)
        except ProviderError as exc:
            because, answered = f"{exc.operation}: {exc.because}", exc.answered
        except (LocalFault, ConfigError, _Own) as exc:
            because, is_ours = str(exc), True
        except HitlessError as exc:
            because = str(exc)
        except Exception as exc:  # an adapter may be anybody's; its text may hold a secret
            because, is_ours = f"the adapter failed: {type(exc).__name__}", True
        finally:
            late_s = lateness.stop()
        if because and late_s > self._limits.late_s_max:
            because, is_ours = f"our own loop was {late_s:.2f} s late: {because}", True
        return self._ended(seen, because, answered=answered, is_ours=is_ours, late_s=late_s)

    async def aclose(self) -> None:
        """Let go of what an adapter that hangs still holds. Idempotent; bounded; never raises."""
        strays = tuple(self._strays)
        for stray in strays:
            stray.cancel()
        if strays:
            await asyncio.wait(strays, timeout=self._limits.close_s)

    # --- Inside ---

    async def _go(self, stream: str, seen: Sighting, stack: AsyncExitStack) -> None:
        loop, limits = asyncio.get_running_loop(), self._limits
        feed = await open_feed(TEST_PICTURE, quality=QUALITY)
        stack.push_async_callback(_closed, feed.aclose, limits.close_s)
        stack.callback(feed.attach(seen.sent))
        begun_s = loop.time()
        leg = await self._opened(
            self._provider.start_stream(stream, feed), "publish", limits.publish_s
        )
        published_s = loop.time()
        seen.publish_s = published_s - begun_s
        stack.callback(lambda: seen.used(loop.time() - begun_s))
        stack.push_async_callback(_closed, leg.aclose, limits.close_s)
        if self._level is Level.END_TO_END:
            view = await self._joined(stream, seen, published_s + limits.view_s)
            if view is not None:
                joined_s = loop.time()
                stack.callback(lambda: seen.used(loop.time() - joined_s))
                stack.push_async_callback(_closed, view.aclose, limits.close_s)
                await self._watched(seen, feed, leg, view, published_s + limits.view_s, stack)
                return
            seen.level = Level.INGEST
        await _lost_or(asyncio.sleep(limits.watch_s), leg)
        quiet = leg.liveness.quiet(loop.time())
        _require_source(feed, loop.time())
        if quiet is not None:
            raise HitlessError(f"published, and then {quiet.because}")

    async def _joined(self, stream: str, seen: Sighting, until_s: float) -> ViewLeg | None:
        """Join, asking again while the stream is not known there; None: the adapter cannot."""
        loop = asyncio.get_running_loop()
        seen.joined_s = loop.time()
        while True:
            left_s = max(until_s - loop.time(), _LEAST_S)
            try:
                return await self._opened(self._provider.join_stream(stream), "view", left_s)
            except ConfigError:
                return None
            except NotOnAir:
                if loop.time() + ASK_AGAIN_S >= until_s:
                    raise HitlessError("published, and unknown to viewers") from None
            await asyncio.sleep(ASK_AGAIN_S)

    async def _opened(self, opening: Awaitable[L], operation: str, limit_s: float) -> L:
        """Wait for a leg; one that comes too late, from an adapter that hangs, is closed."""
        task = asyncio.ensure_future(opening)
        try:
            await asyncio.wait({task}, timeout=limit_s)
            if task.cancelled():
                raise _Own("the adapter cancelled itself")
            if task.done():
                return task.result()
        except asyncio.CancelledError:
            await finish(asyncio.create_task(self._abandoned(task)))
            raise
        await finish(asyncio.create_task(self._abandoned(task)))
        because, name = f"no media within {limit_s:.1f} s", self._provider.name
        raise MediaLost(because, provider=name, operation=operation, answered=False)

    async def _abandoned(self, task: asyncio.Future[L]) -> None:
        """Cancel an opening, and close what it brings all the same. Bounded; never raises."""
        task.cancel()
        await asyncio.wait({task}, timeout=self._limits.close_s)
        if task.done():
            await self._close_stray(task)
            return
        closing = asyncio.create_task(self._close_stray(task), name="canary: stray leg")
        self._strays |= {task, closing}
        closing.add_done_callback(lambda _: self._strays.difference_update((task, closing)))

    async def _close_stray(self, task: asyncio.Future[L]) -> None:
        await asyncio.wait({task})
        if not task.cancelled() and task.exception() is None:
            await _closed(task.result().aclose, self._limits.close_s)

    async def _watched(
        self,
        seen: Sighting,
        feed: Feed,
        leg: Leg,
        view: ViewLeg,
        until_s: float,
        stack: AsyncExitStack,
    ) -> None:
        """Watch until the end; raise what is wrong with what was seen."""
        loop, limits = asyncio.get_running_loop(), self._limits
        decoder = Decoder(seen.picture, seen.meter.sound, on_damage=view.request_keyframe)
        stack.push_async_callback(decoder.aclose)
        pumping = asyncio.create_task(_pumped(seen, view, decoder), name="canary: frames")
        try:
            view.request_keyframe()
            left_s = max(until_s - loop.time(), _LEAST_S)
            await _lost_or(asyncio.wait_for(seen.shown.wait(), left_s), leg, view)
            await _lost_or(asyncio.sleep(limits.watch_s), leg, view)
        except TimeoutError:
            _require_source(feed, loop.time())
            if decoder.dropped:
                raise _Own("this machine is too slow to decode its canary") from None
            came = f"{seen.received_bytes} bytes came" if seen.received_bytes else "nothing came"
            raise HitlessError(f"published, and no picture seen: {came}") from None
        finally:
            seen.ended_s = loop.time()
            pumping.cancel()
            await asyncio.gather(pumping, return_exceptions=True)
        _require_source(feed, loop.time())
        if decoder.dropped:
            raise _Own("this machine is too slow to decode its canary")
        pictures, sounds = seen.shares()
        for what, share in (("pictures", pictures), ("sound", sounds)):
            if share < limits.shown_min:
                raise HitlessError(f"published, and only {share:.0%} of its {what} arrive")

    def _ended(
        self, seen: Sighting, because: str, *, answered: bool, is_ours: bool, late_s: float
    ) -> CanaryEnded:
        loss = sound_loss = None
        if seen.first_s is not None:
            loss, sound_loss = (1 - share for share in seen.shares())
        probe = ProbeEnded(
            provider=self._provider.name,
            region=self._region,
            level=seen.level,
            ok=not because,
            because=because or seen.words(),
            latency_s=seen.latency_s,
            first_media_s=seen.first_media_s,
            loss=loss,
            answered=answered or seen.publish_s is not None,
            own_trouble=is_ours,
        )
        return CanaryEnded(
            probe=probe,
            publish_s=seen.publish_s,
            first_media_s=seen.first_media_s,
            latency_s=seen.latency_s,
            loss=loss,
            sound_loss=sound_loss,
            late_s=late_s,
            cost=Cost(
                media_s=seen.media_s,
                sent_bytes=seen.sent_bytes,
                received_bytes=seen.received_bytes,
            ),
        )


def _require_source(feed: Feed, now: float) -> None:
    """
    Say so if our own encoder gave nothing.

    Raises:
        _Own: It did not.
    """
    if feed.is_over or not feed.is_producing(now, within_s=1.0):
        raise _Own("our own encoder gives no frames")


async def _pumped(seen: Sighting, view: ViewLeg, decoder: Decoder) -> None:
    async for frame in view.frames():
        seen.received_bytes += len(frame.data)
        decoder.decode(frame)


async def _lost_or(waiting: Coroutine[Any, Any, T], *legs: Leg) -> None:
    """
    Wait, unless a leg is lost meanwhile.

    Raises:
        HitlessError: Why it was lost.
        TimeoutError: What was waited for did not come.
    """
    first = asyncio.ensure_future(waiting)
    tasks: set[asyncio.Future[Any]] = {first, *(asyncio.ensure_future(leg.lost()) for leg in legs)}
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in sorted(done, key=lambda one: one is first):  # a loss says why nothing came
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _closed(close: Callable[[], Coroutine[Any, Any, None]], limit_s: float) -> None:
    """Close something of an adapter: bounded, and to the end even while being cancelled."""

    async def closing() -> None:
        task = asyncio.ensure_future(close())
        await asyncio.wait({task}, timeout=limit_s)
        if not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=_LEAST_S)
        elif not task.cancelled():
            task.exception()  # retrieved: closing never raises, by contract

    await finish(asyncio.create_task(closing()))
