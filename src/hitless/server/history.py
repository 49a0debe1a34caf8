"""
What was measured, by minute and hour: how providers did, what they carried, what that costs.

The leader samples and writes; whoever leads next goes on in the same rows. Between two leaders a
minute may be counted in part. Uptime, errors and latency are those of the leader's own judgement.
"""

from __future__ import annotations

import calendar
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from ..core.uptime import MINUTE_S, Bucket
from .clock import wall_s
from .judging import Judge
from .store import Store
from .store_nodes import Point, Step
from .store_operators import ProviderRow
from .wire import Moment, Usage


SAMPLE_S: Final = 10.0
"""What is carried is counted so often [s]."""
KEEP_S: Final[Mapping[Step, float]] = {Step.MINUTE: 2 * 86_400.0, Step.HOUR: 400 * 86_400.0}
"""Points are kept for so long [s]."""

LATE_S_MAX: Final = 60.0
"""A sample stands for so long at most [s]: while nobody led, nobody knows."""


class History:
    """
    The series of a node.

    Args:
        store: Where the rows are.
        judge: How providers do.
        clock: The loop's clock [s].
    """

    def __init__(self, store: Store, judge: Judge, clock: Callable[[], float]) -> None:
        self._store, self._judge, self._clock = store, judge, clock
        self._sampled_s = float("-inf")
        self._forgot_s = float("-inf")
        self._written: dict[str, int] = {}
        """By provider: the last minute of its judgement that was written."""
        self._heard: dict[str, dict[str, float]] = {}
        """By provider: what this node heard since it wrote last, by measure."""

    def heard(self, name: str, provider: str) -> None:
        """Take note of an event: a leg that is live is one more stream there."""
        if name == "leg.live":
            self._add(provider, streams=1.0)

    def carried(self, provider: str, sent_bytes: float, received_bytes: float) -> None:
        """Take note of what a client sent to a provider, and received from it [byte]."""
        self._add(provider, sent_bytes=sent_bytes, received_bytes=received_bytes)

    def _add(self, provider: str, **measures: float) -> None:
        heard = self._heard.setdefault(provider, {})
        for measure, value in measures.items():
            heard[measure] = heard.get(measure, 0.0) + value

    async def sample(self, providers: Sequence[str], *, is_leader: bool) -> None:
        """
        Write what is to be written; about once a second.

        Args:
            providers: Their names.
            is_leader: Whether it is ours to count what is carried, and to judge.
        """
        now = self._clock()
        passed_s = now - self._sampled_s
        if passed_s < SAMPLE_S:
            return
        self._sampled_s = now
        at_s, sums = wall_s(), dict[str, dict[str, float]]()
        if is_leader and passed_s <= LATE_S_MAX:
            for count in await self._store.streams.counts():
                sums[count.provider] = {
                    "carried_s": count.carried * passed_s,
                    "viewer_s": count.viewers * passed_s,
                }
        heard, self._heard = self._heard, {}
        for provider, measures in heard.items():
            sums.setdefault(provider, {}).update(measures)
        points = [
            Point(step=step, provider=provider, region="", at_s=at_s, values=values)
            for provider, values in sums.items()
            for step in Step
        ]
        for provider in providers if is_leader else ():
            points += self._judged(provider, now, at_s)
        await self._store.series.add(points)
        if now - self._forgot_s >= 3600.0:
            self._forgot_s = now
            for step, kept_s in KEEP_S.items():
                await self._store.series.forget(step, kept_s)

    def _judged(self, provider: str, now: float, at_s: float) -> list[Point]:
        """Return the minutes of a provider's judgement that are over and were not written."""
        this = int(now // MINUTE_S)
        last = self._written.get(provider, this - 1)
        self._written[provider] = this - 1
        return [
            Point(
                step=step,
                provider=provider,
                region="",
                at_s=at_s - (now - bucket.number * MINUTE_S),
                values=_values(bucket),
            )
            for bucket in self._judge.standing.case(provider).history.minutes
            if last < bucket.number < this
            for step in Step
        ]

    # --- Answers ---

    async def moments(self, provider: str, step: Step, since_s: float) -> list[Moment]:
        """Return how a provider did since then [s since 1970], in order of time."""
        points = await self._store.series.between(step, since_s, wall_s() + 1.0, provider=provider)
        return [_moment(point) for point in points]

    async def usage(self, month: str, rows: Mapping[str, ProviderRow]) -> list[Usage]:
        """
        Return what every provider carried in a month of UTC, and what that costs.

        Args:
            month: `2026-11`.
            rows: The providers, for their prices.

        Raises:
            ValueError: It is no month.
        """
        begin, end = month_of(month)
        sums: dict[str, Counter[str]] = {name: Counter() for name in rows}
        for point in await self._store.series.between(Step.HOUR, begin, end):
            sums.setdefault(point.provider, Counter()).update(point.values)
        return [_usage(name, one, rows.get(name)) for name, one in sorted(sums.items())]


def month_of(month: str) -> tuple[float, float]:
    """
    Return when a month of UTC begins and ends [s since 1970].

    Raises:
        ValueError: It is no month.
    """
    begin = time.strptime(month, "%Y-%m")
    end = (begin.tm_year + begin.tm_mon // 12, begin.tm_mon % 12 + 1, 1, 0, 0, 0)
    return float(calendar.timegm(begin)), float(calendar.timegm((*end, 0, 0, 0)))


def _values(bucket: Bucket) -> dict[str, float]:
    names = ("known_s", "up_s", "tries", "errors", "latency_s", "answers")
    return {name: float(getattr(bucket, name)) for name in names}


def _moment(point: Point) -> Moment:
    def share(part: str, whole: str) -> float | None:
        total = point.values.get(whole, 0.0)
        return point.values.get(part, 0.0) / total if total else None

    return Moment(
        at_s=point.at_s,
        uptime=share("up_s", "known_s"),
        error_rate=share("errors", "tries"),
        latency_s=share("latency_s", "answers"),
        streams=point.values.get("carried_s", 0.0) / point.step.length_s,
        viewers=point.values.get("viewer_s", 0.0) / point.step.length_s,
    )


def _usage(name: str, sums: Mapping[str, float], row: ProviderRow | None) -> Usage:
    price = row.price if row is not None and row.price is not None else {}
    publishers, viewers = sums["carried_s"] / 60.0, sums["viewer_s"] / 60.0
    sent, received = sums["sent_bytes"] / 1e9, sums["received_bytes"] / 1e9
    cost, because = _cost(price, publishers + viewers, sent + received)
    currency = price.get("currency")
    return Usage(
        provider=name,
        publisher_minutes=round(publishers, 2),
        viewer_minutes=round(viewers, 2),
        streams=int(sums["streams"]),
        sent_gb=round(sent, 6),
        received_gb=round(received, 6),
        cost=cost,
        currency=currency if isinstance(currency, str) else "",
        because=because,
    )


def _cost(
    price: Mapping[str, object], minutes: float, gigabytes: float
) -> tuple[float | None, str]:
    """Return the cost, None if it cannot be said, and what it rests on, or why there is none."""
    parts, reasons = list[float](), list[str]()
    a_minute, a_gb = price.get("per_minute"), price.get("per_gb")
    if isinstance(a_minute, int | float):
        parts.append(a_minute * minutes)
        reasons.append(f"{a_minute:g} for each minute of a publisher or a viewer")
    if isinstance(a_gb, int | float):
        if minutes and not gigabytes:
            return None, "it is priced by GB, and no client told how many it sent or received"
        parts.append(a_gb * gigabytes)
        reasons.append(f"{a_gb:g} for each GB that clients sent or received")
    if not parts:
        return None, "no price is configured"
    return round(sum(parts), 4), ", ".join(reasons)
