"""What `hitless prove` finds out by two publishers of one stream: who stays, how one leaves."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from ..errors import HitlessError, LocalFault, ProviderError, StreamEnded
from ..media.source import Quality, open_feed
from ..providers.base import Leg, Provider
from ..providers.checkup import Finding, Verdict


BOTH_S_MAX: Final = 15.0
"""Two publishers that are on air for so long stay both [s]: lists of providers lag by 10 s."""

QUIET_S_MIN: Final = 1.0
"""A silence that is no pause [s]."""

LEAVE_S_MAX: Final = 2.0
"""Every adapter leaves within this [s]; a second more is this machine's."""

_OPEN_S_MAX: Final = 15.0
_TRIES: Final = 3
_PAUSE_S: Final = 2.0
_LOOK_S: Final = 0.05
_SMALL: Final = Quality(width=320, height=180, frame_rate=15, bitrate_bps=200_000)
_FENCE: Final = (
    "let names carry the epoch: the option channel = '{stream}-{epoch}' at the server; or let "
    "the adapter remove the older one, which may need a credential of the control API"
)


async def two_publishers(
    make: Callable[[], Awaitable[Provider]], stream: str
) -> AsyncIterator[Finding]:
    """
    Yield who stays on air of two publishers of one stream, and how long leaving takes.

    Each has an adapter and a source of its own, as two machines have. Bounded; cancelling leaves
    nothing behind.

    Args:
        make: Returns a fresh provider each time it is awaited.
        stream: A name that nobody else uses.
    """
    async with contextlib.AsyncExitStack() as stack:
        try:
            older = await _publish(make, stream, stack)
        except (HitlessError, TimeoutError) as exc:
            yield Finding(step="publishers", verdict=Verdict.BAD, says=f"the first: {_words(exc)}")
            return
        newer: Leg | None = None
        try:
            newer = await _publish(make, stream, stack, beside=older)
        except (HitlessError, TimeoutError) as exc:
            yield _refused(exc)
        else:
            yield await _who_stays(older, newer)
        yield await _leaving(newer or older)


async def _publish(
    make: Callable[[], Awaitable[Provider]],
    stream: str,
    stack: contextlib.AsyncExitStack,
    *,
    beside: Leg | None = None,
) -> Leg:
    """Publish; the second one asks again, since a first refusal may free its place."""
    feed = await open_feed("test-picture", quality=_SMALL)
    stack.push_async_callback(feed.aclose)
    provider = await make()
    stack.push_async_callback(_closed, provider.aclose)
    limit_s = max(_OPEN_S_MAX, float(getattr(provider, "first_media_s", 0.0)) + 1.0)
    for left in reversed(range(_TRIES if beside is not None else 1)):
        try:
            async with asyncio.timeout(limit_s):
                leg = await provider.start_stream(stream, feed)
        except (ProviderError, TimeoutError):
            if not left:
                raise
            await asyncio.sleep(_PAUSE_S)
        else:
            stack.push_async_callback(_closed, leg.aclose)
            return leg
    raise AssertionError("the last try returns or raises")


async def _closed(close: Callable[[], Awaitable[None]]) -> None:
    """Close, and leave what hangs or fails: what is wrong with leaving is told by `_leaving`."""
    with contextlib.suppress(Exception):
        async with asyncio.timeout(LEAVE_S_MAX + 1.0):
            await close()


def _refused(exc: HitlessError | TimeoutError) -> Finding:
    if isinstance(exc, ProviderError) and exc.answered:
        says = f"a second one is not let in while the first is there: {exc.because}"
        return Finding(step="publishers", verdict=Verdict.GOOD, says=says)
    verdict = Verdict.LEFT_OUT if isinstance(exc, LocalFault) else Verdict.BAD
    return Finding(step="publishers", verdict=verdict, says=f"the second: {_words(exc)}")


async def _who_stays(older: Leg, newer: Leg) -> Finding:
    """Wait until one of them is lost, or silent for a while."""
    loop = asyncio.get_running_loop()
    begun_s = loop.time()
    lost = {leg: asyncio.create_task(_lost(leg)) for leg in (older, newer)}
    since_s: dict[Leg, float] = {}

    def gone_of(*legs: Leg) -> list[Leg]:
        now_s = loop.time()
        for leg in legs:
            if lost[leg].done() or leg.liveness.quiet(now_s) is not None:
                since_s.setdefault(leg, now_s)
            else:
                since_s.pop(leg, None)  # it was a pause
        return [leg for leg in legs if now_s - since_s.get(leg, now_s) >= QUIET_S_MIN]

    try:
        async with asyncio.timeout(BOTH_S_MAX):
            while not (gone := gone_of(older, newer)):  # noqa: ASYNC110 -- silence tells nobody
                await asyncio.sleep(_LOOK_S)
    except TimeoutError:
        says = f"two publish one stream, for {BOTH_S_MAX:g} s and more"
        return Finding(step="publishers", verdict=Verdict.WARNING, says=says, fix=_FENCE)
    finally:
        for task in lost.values():
            task.cancel()
        await asyncio.gather(*lost.values(), return_exceptions=True)
    if newer in gone:
        says = f"the second was let in, and off the air {since_s[newer] - begun_s:.1f} s later"
        return Finding(step="publishers", verdict=Verdict.WARNING, says=says, fix=_FENCE)
    says = f"the second put the first out, which knew within {since_s[older] - begun_s:.1f} s"
    return Finding(step="publishers", verdict=Verdict.GOOD, says=says)


async def _lost(leg: Leg) -> None:
    with contextlib.suppress(ProviderError, StreamEnded):
        await leg.lost()


async def _leaving(leg: Leg) -> Finding:
    loop = asyncio.get_running_loop()
    begun_s = loop.time()
    try:
        async with asyncio.timeout(LEAVE_S_MAX + 1.0):
            await leg.aclose()
    except TimeoutError:
        says = f"a publisher did not leave within {LEAVE_S_MAX:g} s"
        return Finding(step="leaving", verdict=Verdict.BAD, says=says)
    says = f"a publisher left within {loop.time() - begun_s:.2f} s"
    return Finding(step="leaving", verdict=Verdict.GOOD, says=says)


def _words(exc: HitlessError | TimeoutError) -> str:
    return str(exc) or "no media in time"
