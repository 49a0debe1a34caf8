"""A bounded memory of what happened: pieces, of which the oldest goes as a whole."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final, Generic, Protocol, TypeVar


PIECES: Final = 8
"""In how many pieces the entries are, when they are many."""


class Timed(Protocol):
    """What happened at a time."""

    @property
    def at_s(self) -> float:
        """When [s]."""
        ...


About = TypeVar("About")
Before = TypeVar("Before")
What = TypeVar("What", bound=Timed)


@dataclass(slots=True)
class _Piece(Generic[About, Before, What]):
    begun_s: float
    before: dict[About, Before] = field(default_factory=dict)
    entries: list[tuple[About, What]] = field(default_factory=list)
    weight: int = 0
    before_weight: int = 0


@dataclass(frozen=True, slots=True)
class Span(Generic[About, Before, What]):
    """
    What there is since a moment.

    Attributes:
        before: Of everything that entries are about, what was known before the first of them.
        entries: In order of time, each with what it is about.
    """

    before: dict[About, Before]
    entries: list[tuple[About, What]]


class Ring(Generic[About, Before, What]):
    """
    Entries of the last while, about different things, each begun with what was known before it.

    Args:
        keep_s: How far back [s].
        piece_s: How long a piece is at most [s].
        weight_max: How much is kept. What is added last stays, so one more piece may be there.
    """

    def __init__(self, *, keep_s: float, piece_s: float, weight_max: int) -> None:
        self._keep_s, self._piece_s, self._weight_max = keep_s, piece_s, weight_max
        self._pieces: deque[_Piece[About, Before, What]] = deque()

    @property
    def weight(self) -> int:
        """How much is kept now."""
        return sum(piece.weight + piece.before_weight for piece in self._pieces)

    def add(
        self, about: About, before: Before, entry: What, weight: int, before_weight: int = 0
    ) -> None:
        """
        Keep an entry.

        Args:
            about: What it is about.
            before: What was known of that before; kept once a piece.
            entry: What happened.
            weight, before_weight: How much the two hold.
        """
        pieces, now = self._pieces, entry.at_s
        last = pieces[-1] if pieces else None
        if last is None or now - last.begun_s >= self._piece_s or self._is_full(last):
            last = _Piece(now)
            pieces.append(last)
        if about not in last.before:
            last.before[about] = before
            last.before_weight += before_weight
        last.entries.append((about, entry))
        self.weigh(weight)
        while len(pieces) > 1 and (
            self.weight > self._weight_max or pieces[0].entries[-1][1].at_s < now - self._keep_s
        ):
            pieces.popleft()

    def weigh(self, weight: int) -> None:
        """Say that the last entry holds so much more."""
        self._pieces[-1].weight += weight

    def since(self, since_s: float) -> Span[About, Before, What]:
        """Return what there is since a moment [s], with the rest of that piece."""
        span: Span[About, Before, What] = Span({}, [])
        for piece in self._pieces:
            if piece.entries[-1][1].at_s >= since_s:
                span.before.update({k: v for k, v in piece.before.items() if k not in span.before})
                span.entries.extend(piece.entries)
        return span

    def _is_full(self, piece: _Piece[About, Before, What]) -> bool:
        """Whether its entries are a piece's part; or, with what was before them, half of all."""
        whole = piece.weight + piece.before_weight
        return piece.weight >= self._weight_max / PIECES or whole >= self._weight_max / 2
