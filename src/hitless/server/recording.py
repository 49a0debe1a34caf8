"""
The last hour of what this node decided, kept to be decided again: `hitless incident`.

Entries are the values that were judged anyway; a piece of them begins with the standing before
it, which is a value too. The oldest piece goes when there are too many, or it is too old. What
hands did and what was done for the fleet are kept likewise, beside: for each there is room of
its own, so that many reports push out no order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sized
from dataclasses import dataclass, fields
from typing import Any, Final

from ..core.evidence import Rules
from ..core.judgement import Entry, record
from ..core.observation import Observation
from ..core.verdict import News, Standing
from .fleet_recording import FleetExcerpt, FleetRecording
from .hand_recording import HandExcerpt, HandRecording
from .pseudonyms import Pseudonyms
from .ring import Ring


KEEP_S: Final = 3_600.0
"""How far back [s]."""
PIECE_S: Final = 300.0
"""How long a piece is at most [s]: pieces go as a whole."""
WEIGHT_MAX: Final = 50_000
"""Reports and other observations that are kept, at some 0.25 kB each: 12 MB."""


class Recording:
    """
    What one node decided lately.

    Args:
        rules: The limits that are judged by.
        keep_s, piece_s, weight_max: See `KEEP_S`, `PIECE_S`, `WEIGHT_MAX`.

    Attributes:
        hands: The steps of its hands.
        fleet: Orders to leave a provider, and what it dealt of them.
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
        self._ring: Ring[None, Standing, Entry] = Ring(
            keep_s=keep_s, piece_s=piece_s, weight_max=weight_max
        )
        self.hands = HandRecording(keep_s=keep_s, piece_s=piece_s)
        self.fleet = FleetRecording(keep_s=keep_s, piece_s=piece_s)

    def judged(
        self, before: Standing, observation: Observation, now: float, news: tuple[News, ...]
    ) -> None:
        """Keep one observation, made `now` [s], with the standing before it and what was new."""
        entry = Entry(at_s=now, observation=observation, news=news)
        self._ring.add(None, before, entry, _weight(observation))

    def forgot(self, before: Standing, provider: str, now: float) -> None:
        """Keep that a provider was deleted."""
        self._ring.add(None, before, Entry(at_s=now, provider=provider), 1)

    def excerpt(self, since_s: float, after: Standing) -> Callable[[], dict[str, Any]]:
        """
        Return what returns what there is since a moment, with the rest of that piece.

        Args:
            since_s: From when on [s].
            after: The standing now.

        Returns:
            To be called once, in a thread, for it takes seconds if there is much: JSON values as
            `core.judgement` has them, under other names; `hands` as `core.replay` and `fleet` as
            `core.fleet_replay` has it.
        """
        span = self._ring.since(since_s)
        return _Excerpt(
            self._rules,
            span.before.get(None, after),
            [entry for _, entry in span.entries],
            after,
            self.hands.since(since_s),
            self.fleet.since(since_s),
        )


@dataclass(frozen=True, slots=True)
class _Excerpt:
    rules: Rules
    before: Standing
    entries: list[Entry]
    after: Standing
    hands: HandExcerpt
    fleet: FleetExcerpt

    def __call__(self) -> dict[str, Any]:
        names = Pseudonyms()
        self.hands.note(names)
        self.fleet.note(names)
        entries = names.entries(self.entries)
        before, after = names.standing(self.before), names.standing(self.after)
        said = record(self.rules, before, entries, after)
        hands, fleet = self.hands.lines(names), self.fleet.lines(names)
        return {
            **said,
            "hands": hands,
            "fleet": fleet,
            "has_changed_reasons": names.has_changed_reasons,
        }


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
