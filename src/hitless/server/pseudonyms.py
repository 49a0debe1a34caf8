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
from typing import Any, Final, TypeVar

from ..core.agreement import Follower
from ..core.judgement import Entry
from ..core.observation import BECAUSE_MAX, NETWORK_MARKS, Vote, mark
from ..core.state import Session
from ..core.verdict import Standing
from .redaction import redacted, redacted_text


_Value = TypeVar("_Value")

_MARKS: Final[Mapping[str, int]] = {
    "client": 1 << 32,
    "stream": 1 << 32,
    "network": NETWORK_MARKS,
}
"""The fields that name somebody, and how many marks there are for them."""

_SESSIONS: Final = frozenset({(Session, "id"), (Follower, "client")})
"""Where the core has the name of a session, which a hand calls as its stream."""

_KEPT: Final = frozenset(
    {"provider", "region", "name", "was", "source", "returning", "default", "target", "alone",
     "said", "fault_domain", "error", "role"}
)  # fmt: skip
"""Words of the configuration, and of the program."""

_WORD: Final = re.compile(r"[^\s,;:()\[\]\"'<>=]+")


class Pseudonyms:
    """Those of one incident, numbered as they come."""

    def __init__(self) -> None:
        self._known: dict[str, dict[int, str]] = {kind: {} for kind in _MARKS}
        self._taken: dict[str, set[int]] = {kind: set() for kind in _MARKS}
        self._words: dict[str, str] = {}
        self._phrases: list[str] = []
        self._texts: dict[str, str] = {}
        self._owners: dict[str, str] = {}
        self._doubles: dict[tuple[str, str], str] = {}

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

    def note(self, kind: str, name: str) -> None:
        """Take note of the name of a client, stream or network: it may stand in a reason."""
        if name and name not in self._words:
            self._words[name] = self.called(kind, name)
            if _WORD.fullmatch(name) is None:
                self._phrases.append(name)
                self._phrases.sort(key=len, reverse=True)  # one may be part of another

    def called(self, kind: str, name: str) -> str:
        """Return the pseudonym of a name, and another one for each other name."""
        found = self._of(kind, mark(name) % _MARKS[kind])
        if self._owners.setdefault(found, name) == name:
            return found
        double = f"{found}+{len(self._doubles) + 1}"  # two names of one mark
        return self._doubles.setdefault((kind, name), double)

    def renamed(self, value: _Value) -> _Value:
        """
        Return a value of the core with other names, and without a secret.

        After all names that it may hold were noted: see `note`.
        """
        found: _Value = self._renamed(value)
        return found

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
            if isinstance(name, str):
                self.note(kind, name)
        if is_dataclass(observation):
            for one in fields(observation):
                inner = getattr(observation, one.name)
                for report in inner if isinstance(inner, list | tuple) else ():
                    self._note(report)

    def _renamed(self, value: Any) -> Any:  # Any: of any type that a record's field has
        if is_dataclass(value) and not isinstance(value, type):
            return replace(value, **{
                f.name: self._field("stream" if (type(value), f.name) in _SESSIONS else f.name,
                                    getattr(value, f.name))
                for f in fields(value)
            })  # fmt: skip
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return type(value)(*map(self._field, value._fields, value))
        if isinstance(value, Mapping):
            pairs = ((key, self._renamed(inner)) for key, inner in value.items())
            return {_key(key, one): one for key, one in pairs}
        if isinstance(value, collections.abc.Sequence) and not isinstance(value, str):
            return tuple(self._renamed(inner) for inner in value)
        return value

    def _field(self, name: str, value: Any) -> Any:
        name = "stream" if name == "session" else name
        if name in _MARKS and isinstance(value, int):
            return mark(self._of(name, value)) % _MARKS[name]
        if name == "config":
            return redacted(value)
        if name == "fields":  # of an announcement: numbers, and words of the program
            return value
        if name == "warnings":
            return tuple(map(self._text, value))
        if name == "pending" and value is not None:
            return value[0], self._text(value[1])
        if not isinstance(value, str) or isinstance(value, Enum) or name in _KEPT:
            return self._renamed(value)
        if name in _MARKS:
            return self._of(name, mark(value) % _MARKS[name])
        return self._text(value)

    def _word(self, word: str) -> str:
        bare = word.rstrip(".!?")  # at the end of a sentence, if no name ends like that
        found = self._words.get(word)
        return self._words.get(bare, bare) + word[len(bare) :] if found is None else found

    def _text(self, text: str) -> str:
        """Return a reason without secrets, names in it replaced; the same for the same."""
        known = self._texts.get(text)
        if known is None:
            bare = redacted_text(text)
            for phrase in self._phrases:
                bare = bare.replace(phrase, self._words[phrase])
            renamed = _WORD.sub(lambda match: self._word(match[0]), bare)
            known = self._texts[text] = renamed[: max(BECAUSE_MAX, len(text))]
        return known


def _key(key: Any, value: Any) -> Any:
    """Return what a value is filed under, now that it has another name."""
    if isinstance(value, Vote):
        return value.client
    return value.id if isinstance(value, Session) else key
