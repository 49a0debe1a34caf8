"""Times, durations and texts, as operators write them and as they read them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

import click

from .output import emit_table


_UNITS_S: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_DURATION: Final = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)([smhd])")


def duration(text: str) -> float:
    """Return a time such as `45s`, `30m`, `1h` or `30d` [s]; a type of click's options."""
    match = _DURATION.fullmatch(text)
    if match is None or float(match[1]) == 0:
        raise click.BadParameter(f"{text!r} is no time: write 45s, 30m, 1h or 30d")
    return float(match[1]) * _UNITS_S[match[2]]


def moment(at_s: float) -> str:
    """Return a time of the wall clock [s since 1970] as this machine's clocks show it."""
    return datetime.fromtimestamp(at_s).strftime("%Y-%m-%d %H:%M:%S")


def ago(duration_s: float | None) -> str:
    """Return a duration [s] in its two greatest units; None: nobody knows."""
    if duration_s is None:
        return "-"
    seconds = round(duration_s)
    for unit, below in (("d", "h"), ("h", "m"), ("m", "s")):
        whole, rest = divmod(seconds, int(_UNITS_S[unit]))
        if whole:
            return f"{whole} {unit} {rest // int(_UNITS_S[below])} {below}"
    return f"{seconds} s"


def percent(share: float | None) -> str:
    """Return a share [0..1] as a percentage; None: nobody knows."""
    return "-" if share is None else f"{100 * share:.2f} %"


def count(number: int, word: str) -> str:
    """Return `1 stream`, `2 streams`."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def clean(text: str) -> str:
    """Return a text without what would move a terminal's cursor or colour what follows."""
    return "".join(one if one.isprintable() else " " for one in text)


def say(text: str) -> None:
    """Write a line that has a server's words in it, cleaned."""
    click.echo(clean(text))


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write rows in columns, cleaned: a server's words may come from elsewhere."""
    emit_table(head, [[clean(str(cell)) for cell in row] for row in rows])


def facts(rows: Iterable[tuple[str, object]]) -> None:
    """Write names and values, one pair a line, the values below each other."""
    pairs = list(rows)
    width = max((len(name) for name, _ in pairs), default=0)
    for name, value in pairs:
        click.echo(f"{name.ljust(width)}  {clean(str(value))}".rstrip())
