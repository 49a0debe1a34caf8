"""
Other names for clients, streams and networks in what is passed on: the same one for the same.

A verdict rests on who is the same as whom, never on names, so what is judged again under other
names gives the same. Votes know marks of names only (`core.observation.mark`); so does this.
"""

from __future__ import annotations

import collections.abc
import re
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from typing import Any, Final

from ..core.judgement import Entry
from ..core.observation import BECAUSE_MAX, NETWORK_MARKS, Vote, mark
from ..core.verdict import Standing
from .redaction import redacted_text


_MARKS: Final[Mapping[str, int]] = {
    "client": 1 << 32,
    "stream": 1 << 32,
    "network": NETWORK_MARKS,
}
"""The fields that name somebody, and how many marks there are for them."""

_KEPT: Final = frozenset({"provider", "region", "name", "was"})
"""Words of the configuration, and of the program."""

_WORD: Final = re.compile(r"[^\s,;:()\[\]\"'<>=]+")


class Pseudonyms:
    """Those of one incident, numbered as they come."""

    def __init__(self) -> None:
        self._known: dict[str, dict[int, str]] = {kind: {} for kind in _MARKS}
        self._taken: dict[str, set[int]] = {kind: set() for kind in _MARKS}
        self._words: dict[str, str] = {}
        self._texts: dict[str, str] = {}

    def standing(self, standing: Standing) -> Standing:
        """Return a standing with other names, and without a secret in its reasons."""
        found: Standing = self._renamed(standing)
        return found

    def entries(self, entries: Iterable[Entry]) -> list[Entry]:
        """Return entries likewise; before any standing, whose reasons may hold their names."""
        given = list(entries)
        for entry in given:
            self._note(entry.observation)
        return [self._renamed(entry) for entry in given]

    @property
    def has_changed_reasons(self) -> bool:
        """Whether some reason is another one now: then reasons say nothing when compared."""
        return any(text != renamed for text, renamed in self._texts.items())

    def _of(self, kind: str, number: int) -> str:
        """Return the pseudonym of a mark; its own mark is like no other one's here."""
        known, taken = self._known[kind], self._taken[kind]
        while (name := known.get(number)) is None:
            text = f"{kind}-{len(taken) + 1}"
            while (own := mark(text) % _MARKS[kind]) in taken:
                text += "'"
            taken.add(own)
            known[number] = text
        return name

    def _note(self, observation: object) -> None:
        """Take note of the names in an observation: they may stand in a reason of another one."""
        for kind in _MARKS:
            name = getattr(observation, kind, None)
            if isinstance(name, str) and name:
                self._words[name] = self._of(kind, mark(name) % _MARKS[kind])
        if is_dataclass(observation):
            for one in fields(observation):
                inner = getattr(observation, one.name)
                for report in inner if isinstance(inner, list | tuple) else ():
                    self._note(report)

    def _renamed(self, value: Any) -> Any:  # Any: of any type that a record's field has
        if is_dataclass(value) and not isinstance(value, type):
            return replace(value, **{f.name: self._field(f.name, getattr(value, f.name))
                                     for f in fields(value)})  # fmt: skip
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return type(value)(*map(self._field, value._fields, value))
        if isinstance(value, Mapping):
            pairs = ((key, self._renamed(inner)) for key, inner in value.items())
            return {one.client if isinstance(one, Vote) else key: one for key, one in pairs}
        if isinstance(value, collections.abc.Sequence) and not isinstance(value, str):
            return tuple(self._renamed(inner) for inner in value)
        return value

    def _field(self, name: str, value: Any) -> Any:
        if name in _MARKS and isinstance(value, int):
            return mark(self._of(name, value)) % _MARKS[name]
        if not isinstance(value, str) or isinstance(value, Enum) or name in _KEPT:
            return self._renamed(value)
        if name in _MARKS:
            return self._of(name, mark(value) % _MARKS[name])
        return self._text(value)

    def _text(self, text: str) -> str:
        """Return a reason without secrets, names in it replaced; the same for the same."""
        known = self._texts.get(text)
        if known is None:
            bare = redacted_text(text)
            renamed = _WORD.sub(lambda match: self._words.get(match[0], match[0]), bare)
            known = self._texts[text] = renamed[: max(BECAUSE_MAX, len(text))]
        return known
