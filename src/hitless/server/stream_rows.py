"""What the table of streams holds, what is wanted of it, and what it answers: values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, Final


class StreamState(StrEnum):
    """What a stream's row says of it."""

    STARTING = "starting"
    """It has a publisher, and no placement of it ever carried media."""
    LIVE = "live"
    """A placement carried media."""
    ENDED = "ended"
    """It is over; a start begins it anew at the next epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamRow:
    """
    A stream. Its placement is (`id`, `epoch`, `provider`).

    Attributes:
        id: The stream's id.
        group_id: Streams of one group move together.
        state: Whether it begins, lives or is over.
        epoch: Grows with every change of the placement.
        provider: Who carries it.
        is_carried: Whether its publisher says that media flows there.
        publisher: The client that may publish it; another one is fenced.
        node: The node that answered its publisher.
        because: Why it was placed there, or why it ended.
        by: Who did that.
        started_s: When it began [s since 1970, the database's clock], as are all times here.
        changed_s: When this row changed.
        rescue_provider: Who carries the one extra leg for viewers cut off from `provider`.
        rescue_until_s: When that leg may be closed.
    """

    id: str
    group_id: str
    state: StreamState
    epoch: int
    provider: str
    is_carried: bool
    publisher: str
    node: str
    because: str
    by: str
    started_s: float
    changed_s: float
    rescue_provider: str | None
    rescue_until_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """
    A publisher wants to send a stream.

    Attributes:
        stream: Its id.
        group: Whom it moves with.
        publisher: The client.
        provider: Where the stream is placed, if this start places it.
        node: Who answers.
        because: Why there, in words.
        presented_epoch: The highest epoch with our signature that the client showed; 0: none.
    """

    stream: str
    group: str
    publisher: str
    provider: str
    node: str
    because: str
    presented_epoch: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """
    Somebody wants a placement, on the evidence of an epoch it saw.

    Attributes:
        stream: Its id.
        base_epoch: The epoch the wish is based on.
        provider: Where to.
        by: Who wants it: a client, a node, an operator.
        because: Why, in words.
        presented_epoch: The highest epoch with our signature that was shown; 0: none.
        publisher: The client that publishes, if it is the one that claims: it is refused where
            another one publishes now, and takes back a stream that is unknown here.
        is_carried: Whether media flows there already: a publisher moves first and claims then.
        group: The group of a stream taken back; the stream itself if not given.
        node: Who answers.
    """

    stream: str
    base_epoch: int
    provider: str
    by: str
    because: str
    presented_epoch: int = 0
    publisher: str | None = None
    is_carried: bool = False
    group: str | None = None
    node: str = ""

    @property
    def taken_back_at(self) -> int:
        """The epoch at which a stream that was lost goes on."""
        return max(self.base_epoch, self.presented_epoch, 0) + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """
    What changed.

    Attributes:
        rows: Streams, the earliest change first.
        at_s: Ask from here next time, less an overlap for writes that were under way.
    """

    rows: tuple[StreamRow, ...]
    at_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderCount:
    """
    How much a provider carries.

    Attributes:
        provider: Its name.
        streams: Streams placed there that are not over.
        carried: Those of them whose publisher says that media flows.
        viewers: Viewers that were last seen there.
    """

    provider: str
    streams: int
    carried: int
    viewers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeCount:
    """
    How many streams of a provider one node answers for.

    Attributes:
        node: Its name.
        streams: Those that are not over.
        carried: Those of them whose publisher says that media flows.
    """

    node: str
    streams: int
    carried: int


_FIELDS: Final = tuple(field.name for field in fields(StreamRow))


def _stream(row: Mapping[str, Any]) -> StreamRow:  # Any: a column's value, by its name
    """Return a row as `typed` does, in a third of its time."""
    found = {name: row[name] for name in _FIELDS}
    found["state"] = StreamState(found["state"])
    found["is_carried"] = bool(found["is_carried"])
    return StreamRow(**found)


def rows_of(rows: Sequence[Mapping[str, Any]]) -> list[StreamRow]:
    """Return rows of the table as values."""
    return [_stream(row) for row in rows]
