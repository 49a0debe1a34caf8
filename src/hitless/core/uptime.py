"""
How a provider did over minutes and hours: a fixed number of buckets, whatever happens.

Time counts as up, down or not known, by the verdict that stood; tries count as they end.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final


MINUTE_S: Final = 60.0
HOUR_S: Final = 3600.0
MINUTES: Final = 60
HOURS: Final = 24
"""Buckets kept; longer histories are for the store."""

UNKNOWN_S: Final = 120.0
"""Nobody looked for longer than this [s]: what came before stood for so long, then nothing."""

EXCELLENT: Final = 0.99
GOOD: Final = 0.95
ERRORS_MAX: Final = 0.1


class Grade(StrEnum):
    """How a provider does, in a word for people."""

    EXCELLENT = "excellent"
    """99 % up and more, and under 10 % errors."""
    HEALTHY = "healthy"
    """95 % up and more, and under 10 % errors."""
    WARNING = "warning"
    """Less than that."""
    CRITICAL = "critical"
    """It fails now: `max_failures` in a row."""
    DISABLED = "disabled"
    UNKNOWN = "unknown"
    """Nothing was observed in this window."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """
    One minute or hour.

    Attributes:
        number: Which, counted from the clock's zero.
        known_s: For how long a verdict stood [s].
        up_s: For how long of that it was not down [s].
        tries: Probes, starts and joins that ended.
        errors: How many of them failed.
        latency_s: Sum of the answer times of control probes [s].
        answers: How many those are.
    """

    number: int
    known_s: float = 0.0
    up_s: float = 0.0
    tries: int = 0
    errors: int = 0
    latency_s: float = 0.0
    answers: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """
    The last minutes and hours of one provider.

    Attributes:
        until_s: Up to when time is counted [s]; None: nothing was counted yet.
        minutes: Buckets of a minute, the oldest first; empty ones are left out.
        hours: Buckets of an hour, likewise.
    """

    until_s: float | None = None
    minutes: tuple[Bucket, ...] = ()
    hours: tuple[Bucket, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """
    What a window held; None: nothing of the kind was observed in it.

    Attributes:
        window_s: How long it is [s].
        uptime: Share of the known time that it was up [0..1].
        error_rate: Share of the tries that failed [0..1].
        latency_s: Mean answer time of control probes [s].
        tries: How many probes, starts and joins ended.
    """

    window_s: float
    uptime: float | None
    error_rate: float | None
    latency_s: float | None
    tries: int


def passed(history: History, is_up: bool | None, now: float) -> History:
    """Return the history up to `now` [s]; `is_up`: what stood since, None: not known."""
    until_s = history.until_s
    if until_s is None or is_up is None or now <= until_s:
        return replace(history, until_s=now if until_s is None else max(now, until_s))
    end_s = min(now, until_s + UNKNOWN_S)
    minutes, hours = history.minutes, history.hours
    at_s = until_s
    while at_s < end_s:  # at most UNKNOWN_S / MINUTE_S + 1 times
        next_s = min(end_s, (at_s // MINUTE_S + 1) * MINUTE_S)
        part_s = next_s - at_s
        part = Bucket(number=0, known_s=part_s, up_s=part_s if is_up else 0.0)
        minutes = _added(minutes, at_s, MINUTE_S, MINUTES, part)
        hours = _added(hours, at_s, HOUR_S, HOURS, part)
        at_s = next_s
    return History(until_s=now, minutes=minutes, hours=hours)


def tried(history: History, ok: bool, now: float, *, latency_s: float | None = None) -> History:
    """Return the history with one more try that ended at `now` [s]."""
    one = Bucket(
        number=0,
        tries=1,
        errors=0 if ok else 1,
        latency_s=latency_s or 0.0,
        answers=0 if latency_s is None else 1,
    )
    return replace(
        history,
        minutes=_added(history.minutes, now, MINUTE_S, MINUTES, one),
        hours=_added(history.hours, now, HOUR_S, HOURS, one),
    )


def summary(history: History, window_s: float, now: float) -> Summary:
    """Return what the last `window_s` [s] held, to the minute; beyond an hour, to the hour."""
    in_minutes = window_s <= MINUTE_S * MINUTES
    length_s = MINUTE_S if in_minutes else HOUR_S
    first = int((now - window_s) // length_s) + 1
    held = [b for b in (history.minutes if in_minutes else history.hours) if b.number >= first]
    known_s = sum(b.known_s for b in held)
    tries = sum(b.tries for b in held)
    answers = sum(b.answers for b in held)
    return Summary(
        window_s=window_s,
        uptime=sum(b.up_s for b in held) / known_s if known_s else None,
        error_rate=sum(b.errors for b in held) / tries if tries else None,
        latency_s=sum(b.latency_s for b in held) / answers if answers else None,
        tries=tries,
    )


def grade_of(held: Summary) -> Grade:
    """Return the grade of a window, whatever the provider does at this moment."""
    if held.uptime is None and held.error_rate is None:
        return Grade.UNKNOWN
    uptime = 1.0 if held.uptime is None else held.uptime
    if (held.error_rate or 0.0) >= ERRORS_MAX or uptime < GOOD:
        return Grade.WARNING
    return Grade.EXCELLENT if uptime >= EXCELLENT else Grade.HEALTHY


def _added(
    buckets: tuple[Bucket, ...], at_s: float, length_s: float, kept: int, more: Bucket
) -> tuple[Bucket, ...]:
    """Add to the bucket of `at_s`, which is the last one or a new one."""
    number = int(at_s // length_s)
    last = buckets[-1] if buckets else None
    if last is None or number > last.number:
        fresh = replace(more, number=number)
        return (*(b for b in buckets if b.number > number - kept), fresh)
    merged = Bucket(
        number=last.number,
        known_s=last.known_s + more.known_s,
        up_s=last.up_s + more.up_s,
        tries=last.tries + more.tries,
        errors=last.errors + more.errors,
        latency_s=last.latency_s + more.latency_s,
        answers=last.answers + more.answers,
    )
    return (*buckets[:-1], merged)
