"""
The last hour of what this node judged, kept to be judged again: `hitless incident`.

Entries are the values that were judged anyway; a piece of them begins with the standing before
it, which is a value too. The oldest piece goes when there are too many, or it is too old.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sized
from dataclasses import dataclass, field, fields
from typing import Any, Final

from ..core.evidence import Rules
from ..core.judgement import Entry, record
from ..core.observation import Observation
from ..core.verdict import News, Standing
from .pseudonyms import Pseudonyms


KEEP_S: Final = 3_600.0
"""How far back [s]."""
PIECE_S: Final = 300.0
"""How long a piece is at most [s]: pieces go as a whole."""
WEIGHT_MAX: Final = 50_000
"""Reports and other observations that are kept, at some 0.25 kB each: 12 MB."""
PIECES: Final = 8
"""In how many pieces they are, when they are many."""


@dataclass(slots=True)
class _Piece:
    before: Standing
    begun_s: float
    entries: list[Entry] = field(default_factory=list)
    weight: int = 0


class Recording:
    """
    A ring of pieces.

    Args:
        rules: The limits that are judged by.
        keep_s, piece_s, weight_max: See `KEEP_S`, `PIECE_S`, `WEIGHT_MAX`.
    """

    def __init__(
        self,
        rules: Rules,
        *,
        keep_s: float = KEEP_S,
        piece_s: float = PIECE_S,
        weight_max: int = WEIGHT_MAX,
    ) -> None:
        self._rules = rules
        self._keep_s, self._piece_s, self._weight_max = keep_s, piece_s, weight_max
        self._pieces: deque[_Piece] = deque()

    def judged(
        self, before: Standing, observation: Observation, now: float, news: tuple[News, ...]
    ) -> None:
        """Keep one observation, made `now` [s], with the standing before it and what was new."""
        entry = Entry(at_s=now, observation=observation, news=news)
        self._add(before, entry, _weight(observation))

    def forgot(self, before: Standing, provider: str, now: float) -> None:
        """Keep that a provider was deleted."""
        self._add(before, Entry(at_s=now, provider=provider), 1)

    def excerpt(self, since_s: float, after: Standing) -> Callable[[], dict[str, Any]]:
        """
        Return what returns what there is since a moment, with the rest of that piece.

        Args:
            since_s: From when on [s].
            after: The standing now.

        Returns:
            To be called once, in a thread, for it takes seconds if there is much: JSON values as
            `core.judgement` has them, under other names.
        """
        pieces = [piece for piece in self._pieces if piece.entries[-1].at_s >= since_s]
        before = pieces[0].before if pieces else after
        entries = [entry for piece in pieces for entry in piece.entries]
        return _Excerpt(self._rules, before, entries, after)

    def _add(self, before: Standing, entry: Entry, weight: int) -> None:
        pieces, now = self._pieces, entry.at_s
        last = pieces[-1] if pieces else None
        if (
            last is None
            or now - last.begun_s >= self._piece_s
            or last.weight >= self._weight_max / PIECES
        ):
            last = _Piece(before, now)
            pieces.append(last)
        last.entries.append(entry)
        last.weight += weight
        while len(pieces) > 1 and (
            sum(piece.weight for piece in pieces) > self._weight_max
            or pieces[0].entries[-1].at_s < now - self._keep_s
        ):
            pieces.popleft()


@dataclass(frozen=True, slots=True)
class _Excerpt:
    rules: Rules
    before: Standing
    entries: list[Entry]
    after: Standing

    def __call__(self) -> dict[str, Any]:
        names = Pseudonyms()
        entries = names.entries(self.entries)
        before, after = names.standing(self.before), names.standing(self.after)
        said = record(self.rules, before, entries, after)
        return {**said, "has_changed_reasons": names.has_changed_reasons}


def _weight(observation: Observation) -> int:
    """Return how much an observation holds: those of many clients hold a list of them."""
    found = 1
    for one in fields(observation):
        inner = getattr(observation, one.name)
        if isinstance(inner, Mapping):
            found += sum(len(part) for part in inner.values() if isinstance(part, Sized))
        elif isinstance(inner, list | tuple):
            found += len(inner)
    return found
