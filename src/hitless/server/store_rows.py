"""How rows become values and values become rows; the audit entry that every change can carry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import msgspec

from .database import Row, Sql, Value, Written


T = TypeVar("T")

Json = Any
"""What JSON may hold: anything."""

PAGE_MAX: Final = 5_000
"""Rows of one read."""

FORGET_MAX: Final = 1_000
"""Rows that one call forgets: a bound on how long others wait for the writer."""

_JSON: Final = frozenset(
    {"adapters", "after", "before", "body", "codecs", "config", "down", "plan", "price", "value"}
)
"""Columns that hold JSON as text, whatever the table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """
    Who changed what, and why. Handed to a change, it lands in the same transaction or not at all.

    Attributes:
        who: A key's name, or the node that decided by itself.
        what: The act, `provider.changed`.
        target: What it was done to: a provider, a stream, a setting.
        before: What it was; None: it was not there.
        after: What it became; None: it is gone.
        because: Why, in words.
    """

    who: str
    what: str
    target: str
    because: str
    before: Mapping[str, Json] | None = None
    after: Mapping[str, Json] | None = None


def audited(*entries: Audit | None) -> tuple[Sql, ...]:
    """Return what writes these entries."""
    each = tuple(
        (
            entry.who,
            entry.what,
            entry.target,
            None if entry.before is None else encoded(entry.before),
            None if entry.after is None else encoded(entry.after),
            entry.because,
        )
        for entry in entries
        if entry is not None
    )
    text = (
        "INSERT INTO audit (at_s, who, what, target, before, after, because) "
        "VALUES (now_s(), $1, $2, $3, $4, $5, $6)"
    )
    return (Sql(text, each=each),) if each else ()


def first(written: Written, kind: type[T]) -> T | None:
    """Return the first row of the first statement; None: it was not done."""
    return typed(written[0][0], kind) if written and written[0] else None


def count(written: Written) -> int:
    """Return how many rows the first statement returned."""
    return len(written[0]) if written else 0


def encoded(value: object) -> str:
    """Return JSON, the same text for the same value."""
    return msgspec.json.encode(value, order="deterministic").decode()


def typed(row: Row, kind: type[T]) -> T:
    """Return a row as a dataclass; columns it does not name belong to a newer program."""
    found = {name: _decoded(name, value) for name, value in row.items()}
    return msgspec.convert(found, kind, builtin_types=(bytes,))


def _decoded(name: str, value: Value) -> object:
    if isinstance(value, str) and name in _JSON:
        return msgspec.json.decode(value)
    return bool(value) if name.startswith("is_") else value


class Where:
    """The conditions of one SELECT, each with its parameters."""

    def __init__(self) -> None:
        self._said: list[str] = []
        self.args: list[Value] = []

    def add(self, condition: str, value: Value) -> None:
        """Add `condition`, in which `{}` stands for `value`; None: there is no such condition."""
        if value is not None:
            self._said.append(condition.format(self.number(value)))

    def say(self, condition: str) -> None:
        """Add a condition that has no parameter."""
        self._said.append(condition)

    def number(self, value: Value) -> str:
        """Take one more parameter and return what stands for it."""
        self.args.append(value)
        return f"${len(self.args)}"

    @property
    def text(self) -> str:
        """`WHERE ...`, or nothing."""
        return f"WHERE {' AND '.join(self._said)}" if self._said else ""
