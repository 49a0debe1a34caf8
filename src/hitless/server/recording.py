"""
The last hour of what this node decided, kept to be decided again: `hitless incident`.

Entries are the values that were judged anyway; a piece of them begins with the standing before
it, which is a value too. The oldest piece goes when there are too many, or it is too old. What
hands did, what was done for the fleet and what for single streams are kept likewise, beside: for
each there is room of its own, so that many reports push out no order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sized
from dataclasses import dataclass, fields, replace
from typing import Any, Final

from ..core import agreement
from ..core.evidence import Rules
from ..core.judgement import Entry, record
from ..core.observation import Observation
from ..core.stream_choices import Companion, Following, Note, Parting, Placed, Placing
from ..core.stream_replay import Moved, Parted, moved_line, note_line, parted_line
from ..core.verdict import News, Standing
from .fleet_recording import FleetExcerpt, FleetRecording
from .hand_recording import HandExcerpt, HandRecording
from .pseudonyms import Pseudonyms
from .ring import Ring
from .stream_rows import Claim, StreamRow, StreamState


KEEP_S: Final = 3_600.0
"""How far back [s]."""
PIECE_S: Final = 300.0
"""How long a piece is at most [s]: pieces go as a whole."""
WEIGHT_MAX: Final = 50_000
"""Reports and other observations that are kept, at some 0.25 kB each: 12 MB."""
STREAMS_WEIGHT_MAX: Final = 20_000
"""Moves of single streams, streams of groups and notes that are kept, at some 0.5 kB each."""


class Recording:
    """
    What one node decided lately.

    Args:
        rules: The limits that are judged by.
        keep_s, piece_s, weight_max: See `KEEP_S`, `PIECE_S`, `WEIGHT_MAX`.

    Attributes:
        hands: The steps of its hands.
        fleet: Orders to leave a provider, what it dealt of them, and when they were over.
        streams: Moves of single streams, groups, and rescues.
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
        self.streams = StreamRecording(keep_s=keep_s, piece_s=piece_s)

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
            `core.judgement` has them, under other names; `hands` as `core.replay`, `fleet` as
            `core.fleet_replay` and `streams` as `core.stream_replay` has it.
        """
        span = self._ring.since(since_s)
        return _Excerpt(
            self._rules,
            span.before.get(None, after),
            [entry for _, entry in span.entries],
            after,
            self.hands.since(since_s),
            self.fleet.since(since_s),
            self.streams.since(since_s),
        )


@dataclass(frozen=True, slots=True)
class _Excerpt:
    rules: Rules
    before: Standing
    entries: list[Entry]
    after: Standing
    hands: HandExcerpt
    fleet: FleetExcerpt
    streams: StreamExcerpt

    def __call__(self) -> dict[str, Any]:
        names = Pseudonyms()
        self.hands.note(names)
        self.fleet.note(names)
        self.streams.note(names)
        entries = names.entries(self.entries)
        before, after = names.standing(self.before), names.standing(self.after)
        said = record(self.rules, before, entries, after)
        hands, fleet = self.hands.lines(names), self.fleet.lines(names)
        streams = self.streams.lines(names)
        return {
            **said,
            "hands": hands,
            "fleet": fleet,
            "streams": streams,
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


# --- Single streams ---


class StreamRecording:
    """
    The last moves of single streams at a node, what groups did after them, and rescues.

    Args:
        keep_s, piece_s, weight_max: See `Ring`.
    """

    def __init__(
        self, *, keep_s: float, piece_s: float, weight_max: int = STREAMS_WEIGHT_MAX
    ) -> None:
        self._ring: Ring[None, None, Moved | Parted | Note] = Ring(
            keep_s=keep_s, piece_s=piece_s, weight_max=weight_max
        )

    @property
    def weight(self) -> int:
        """How much is kept now."""
        return self._ring.weight

    def claimed(
        self, before: StreamRow, claim: Claim, after: StreamRow | None, now: float, *,
        is_accepted: bool,
    ) -> None:  # fmt: skip
        """
        Keep a claim of this node on a placement, made `now` [s].

        Args:
            before: The row that the claim is based on.
            claim: What was wanted.
            after: The row after it; of a claim that was refused, the one that it was refused by.
            now: When [s].
            is_accepted: Whether it is what was claimed.
        """
        found = before if is_accepted else after
        placing = Placing(
            stream=claim.stream,
            row=None if found is None else _agreed(found),
            claim=agreement.Claim(
                base_epoch=claim.base_epoch,
                provider=claim.provider,
                by=claim.by,
                because=claim.because,
            ),
        )
        epoch, provider = (after.epoch, after.provider) if after is not None else (0, "")
        placed = Placed(epoch=epoch, provider=provider, is_accepted=is_accepted)
        self._ring.add(None, None, Moved(at_s=now, placing=placing, placed=placed), 1)

    def parted(self, parting: Parting, following: Following, now: float) -> None:
        """Keep what a group did after one of its streams had moved, `now` [s]."""
        entry = Parted(at_s=now, parting=parting, following=following)
        self._ring.add(None, None, entry, len(parting.streams))

    def noted(self, note: Note) -> None:
        """Keep something that happened."""
        self._ring.add(None, None, note, 1)

    def since(self, since_s: float) -> StreamExcerpt:
        """Return what there is since a moment [s], to be written in a thread."""
        return StreamExcerpt([entry for _, entry in self._ring.since(since_s).entries])


@dataclass(frozen=True, slots=True)
class StreamExcerpt:
    """Moves of single streams, groups and notes, in order of time."""

    entries: list[Moved | Parted | Note]

    def note(self, names: Pseudonyms) -> None:
        """Have every name that reasons may hold be known."""
        for entry in self.entries:
            match entry:
                case Moved():
                    names.note("stream", entry.placing.stream)
                    if entry.placing.row is not None:
                        names.note("client", entry.placing.row.publisher)
                case Parted():
                    for one in entry.parting.streams:
                        names.note("stream", one.stream)
                case Note():
                    names.note("stream", entry.stream or "")
                    names.note("client", entry.client or "")

    def lines(self, names: Pseudonyms) -> dict[str, Any]:
        """Return them as JSON, under other names."""
        moves, groups, notes = [], [], []
        for entry in self.entries:
            match entry:
                case Moved():
                    moves.append(moved_line(_moved(entry, names)))
                case Parted():
                    groups.append(parted_line(_parted(entry, names)))
                case Note():
                    notes.append(note_line(names.renamed(entry)))
        return {"moves": moves, "groups": groups, "notes": notes}


def _agreed(row: StreamRow) -> agreement.Row:
    return agreement.Row(
        epoch=row.epoch,
        provider=row.provider,
        publisher=row.publisher,
        by=row.by,
        is_carried=row.is_carried,
        is_over=row.state is StreamState.ENDED,
    )


def _moved(one: Moved, names: Pseudonyms) -> Moved:
    row, claim = one.placing.row, one.placing.claim
    if row is not None:
        publisher = names.called("client", row.publisher)
        row = replace(row, publisher=publisher, by=_by(row.by, names))
    placing = Placing(
        stream=names.called("stream", one.placing.stream),
        row=row,
        claim=replace(names.renamed(claim), by=_by(claim.by, names)),
    )
    return replace(one, placing=placing)


def _parted(one: Parted, names: Pseudonyms) -> Parted:
    streams = tuple(
        Companion(
            stream=names.called("stream", own.stream),
            provider=own.provider,
            by=_by(own.by, names),
            because=names.renamed(own).because,
            changed_s=own.changed_s,
        )
        for own in one.parting.streams
    )
    following = replace(
        names.renamed(one.following),
        streams=tuple(names.called("stream", name) for name in one.following.streams),
    )
    return replace(one, parting=replace(one.parting, streams=streams), following=following)


def _by(by: str, names: Pseudonyms) -> str:
    """Return who did something: a start is by its publisher, all else by a word."""
    return by if by in tuple(agreement.By) else names.called("client", by)
