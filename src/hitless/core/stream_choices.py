"""
What is decided for single streams, each a pure function of a value, and what merely happened.

`Placing` is a claim on one placement: `agreement.claimed` decides it. `Parting` is all that a
group is kept together by, once one of its streams has moved. A server decides by them, keeps
them, and `stream_replay` decides by them again. A `Note` is kept to be told, in its place:
whatever it tells of was decided by what no value holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .agreement import By, Claim, Row, claimed


TOGETHER_S: Final = 2.0
"""Two streams of a group that move within this are one event [s]."""

_LEAD: Final = (By.PUBLISHER, By.OPERATOR)
"""Whose moves the group follows: not those of a start, nor the server's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placing:
    """
    What a move of one stream is decided by.

    Attributes:
        stream: Which.
        row: What was agreed on it at that moment; None: there was nothing.
        claim: What was wanted.
    """

    stream: str
    row: Row | None
    claim: Claim

    def decided(self) -> Placed:
        """Return what becomes of it."""
        row, is_accepted = claimed(self.row, self.claim)
        if row is None:
            return Placed(epoch=0, provider="", is_accepted=False)
        return Placed(epoch=row.epoch, provider=row.provider, is_accepted=is_accepted)


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """Where a stream is after a claim, since which epoch (0: nowhere), and whether that was it."""

    epoch: int
    provider: str
    is_accepted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Companion:
    """
    One stream of a group.

    Attributes:
        stream: Its id.
        provider, by, because: Its placement: where, who put it there, and why.
        changed_s: When that was [s since 1970, the database's clock].
    """

    stream: str
    provider: str
    by: str
    because: str
    changed_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Parting:
    """
    A group of which a stream has moved.

    Attributes:
        streams: All of it that are on, in the order of their ids: of two that part at once, the
            first one leads.
        moved: Which of them has moved.
    """

    streams: tuple[Companion, ...]
    moved: int

    def followed(self) -> Following:
        """Return who goes where, so that they are together again."""
        row = self.streams[self.moved]
        apart = [one for one in self.streams if one.provider != row.provider]
        ahead = [
            one
            for one in self.streams[: self.moved]
            if one.provider != row.provider
            and one.by in _LEAD
            and row.changed_s - one.changed_s < TOGETHER_S
        ]
        leader, late = (ahead[0], [row]) if ahead else (row, apart)
        return Following(
            streams=tuple(one.stream for one in late),
            provider=leader.provider,
            because=f"with {leader.stream} of its group: {leader.because}",
            is_led=not ahead,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Following:
    """
    What a group does after a move.

    Attributes:
        streams: Who is brought along.
        provider: Where to.
        because: Why, in words.
        is_led: By the one that moved; else that one follows another.
    """

    streams: tuple[str, ...]
    provider: str
    because: str
    is_led: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """
    Something that happened.

    Attributes:
        at_s: When [s].
        name: What, in the words of the events: `rescue.opened`.
        provider: At whom; empty: nowhere in particular.
        target: Who else it is about: the provider of an extra leg; empty: nobody.
        move: The fleet move it is about; empty: none.
        stream, client: Whose; None: nobody's.
        because: Why, in words; empty: nothing is known.
    """

    at_s: float
    name: str
    provider: str = ""
    target: str = ""
    move: str = ""
    stream: str | None = None
    client: str | None = None
    because: str = ""
