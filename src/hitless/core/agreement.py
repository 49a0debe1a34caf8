"""
On which provider a stream is, agreed between its clients and any number of servers.

The row in the store is the truth, and its epoch fences: `started` and `claimed` say what becomes
of it, and `server/store_streams.py` does the same in one statement of SQL each, so that two
servers never decide on the same row. A client is a `Follower`: whatever reaches it, lost, doubled,
late or out of order, it obeys a placement only if its epoch is greater than the one obeyed last.

A store that has lost what it acknowledged is corrected by its clients: `returned`.

`tests/simulation/test_agreement.py` exhausts these rules for three clients and two servers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from .events import Role


RESCUE_S: Final = 30.0
"""A rescue leg outlives its last viewer so long [s] (DESIGN 4.3)."""


class By(StrEnum):
    """Who wants a stream to be somewhere."""

    PUBLISHER = "publisher"
    """Its client has moved already, on its own evidence."""
    OPERATOR = "operator"
    SERVER = "server"
    """A start, a drain, a disabled provider, a fleet failover."""


# --- In the store ---


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """
    What the store knows of a stream, as far as it is agreed on.

    Attributes:
        epoch: Grows with each change of the placement, from 1.
        provider: Who carries it.
        publisher: The client that sends it; any other that tries is fenced.
        by: Who put it there.
        is_carried: Its publisher says that media flows there.
        is_over: It has ended; only a start brings it back.
    """

    epoch: int
    provider: str
    publisher: str
    by: str
    is_carried: bool = False
    is_over: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """
    The wish to have a stream on `provider`, based on a placement that is known.

    Attributes:
        base_epoch: Of the placement that it is based on.
        provider: Where to.
        by: Who wants it.
        because: Why, in words.
        publisher: The publisher that claims, if it is one.
        presented_epoch: The highest signed epoch that was shown; 0: none.
        is_carried: Whether media flows there already.
    """

    base_epoch: int
    provider: str
    by: str
    because: str = ""
    publisher: str | None = None
    presented_epoch: int = 0
    is_carried: bool = False

    @property
    def next_epoch(self) -> int:
        """Return the epoch of what comes of it: beyond all that its claimant knows."""
        return max(self.base_epoch, self.presented_epoch, 0) + 1


def started(row: Row | None, publisher: str, provider: str, presented_epoch: int = 0) -> Row:
    """
    Return the row after `publisher` wants to send the stream.

    It begins, begins anew, or is taken over from another one, whatever the new one presents.
    A start repeated by its own publisher changes nothing, unless the row is behind.
    """
    epoch = row.epoch if row is not None else 0
    is_own = row is not None and row.publisher == publisher and not row.is_over
    if row is not None and is_own and presented_epoch <= epoch:
        return row
    epoch = max(epoch, presented_epoch, 0) + 1
    return Row(epoch=epoch, provider=provider, publisher=publisher, by=publisher)


def claimed(row: Row | None, claim: Claim) -> tuple[Row | None, bool]:
    """
    Return the row after a claim, and whether it is what was claimed.

    Compare-and-set on the epoch. Two claims are accepted though they are based on another one,
    because the store must have lost something: one that shows a greater signed epoch, and that of
    the row's own publisher on a greater epoch. A claim that is refused although the row is what
    it wanted has been accepted before (its answer was lost), or somebody wanted the same.
    """
    if row is None:
        if claim.publisher is None:
            return None, False
        return _placed(claim, claim.publisher, is_carried=claim.is_carried), True
    if row.is_over:
        return row, False
    is_own = claim.publisher == row.publisher
    is_fresh = claim.base_epoch == row.epoch and (is_own or claim.publisher is None)
    is_ahead = is_own and claim.base_epoch > row.epoch
    if claim.presented_epoch > row.epoch or is_fresh or is_ahead:
        stays = row.is_carried and row.provider == claim.provider
        publisher = claim.publisher or row.publisher
        return _placed(claim, publisher, is_carried=claim.is_carried or stays), True
    is_same = (row.provider, row.publisher) == (claim.provider, claim.publisher or row.publisher)
    return row, is_same and row.epoch in (claim.base_epoch + 1, claim.next_epoch)


def _placed(claim: Claim, publisher: str, *, is_carried: bool) -> Row:
    return Row(
        epoch=claim.next_epoch,
        provider=claim.provider,
        publisher=publisher,
        by=claim.by,
        is_carried=is_carried,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """
    What a client says it knows when it connects.

    Attributes:
        client, role: Who it is.
        epoch: The one it obeyed last; only its word.
        here: The provider it is on; empty: none.
        signed_epoch: The one in the plan it brought along, with our signature; 0: none.
        signed_provider: Whom that plan names.
    """

    client: str
    role: Role
    epoch: int
    here: str
    signed_epoch: int = 0
    signed_provider: str = ""


def returned(row: Row | None, shown: Shown) -> Claim | None:
    """
    Return what has to be claimed for a client that connects, or None: the store knows as much.

    A client ahead of the row obeyed a placement that the store has lost. A publisher brings its
    stream back; a viewer cannot, but the row has to outgrow what it obeyed, or it would obey
    nothing any more. The same holds for an epoch that stands for two placements, one of them
    from before the loss. Only what is signed counts against others than the client itself.
    """
    is_publisher = shown.role is Role.PUBLISHER
    because = "the store had lost it, its clients had not"
    back = Claim(
        base_epoch=shown.epoch,
        provider=shown.here,
        by=By.PUBLISHER,
        because=because,
        publisher=shown.client,
        presented_epoch=shown.signed_epoch,
    )
    if row is None:
        return back if is_publisher and shown.epoch > 0 and shown.here else None
    if row.is_over:
        return None
    is_own = is_publisher and row.publisher == shown.client
    is_ahead = shown.signed_epoch > row.epoch or (is_own and shown.epoch > row.epoch)
    if is_publisher and is_ahead and shown.here:
        return back
    is_other = (is_publisher and not is_own) or shown.signed_provider != row.provider
    if is_ahead or (shown.signed_epoch == row.epoch and is_other):
        return Claim(
            base_epoch=row.epoch,
            provider=row.provider,
            by=By.SERVER,
            because=because,
            presented_epoch=shown.signed_epoch,
        )
    return None


# --- At a client ---


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """
    Where a stream is, as a client is told.

    Attributes:
        stream: Its id.
        epoch, provider, publisher: As in the row.
        by: Who put it there; the publisher's own claim is not obeyed by one that moved on.
        because: Why, in words.
    """

    stream: str
    epoch: int
    provider: str
    publisher: str
    by: By
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """Go to `provider`, make before break; it may turn out to be where the client is."""

    provider: str
    epoch: int
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """Another client publishes the stream: stop sending. What is still sent, nobody watches."""

    epoch: int
    because: str


Order = Move | Stop


@dataclass(frozen=True, slots=True, kw_only=True)
class Follower:
    """
    What a client of a stream knows about where it is.

    Attributes:
        client, role, stream: Who it is. Viewers never claim.
        epoch: The one obeyed last; 0: none yet.
        provider: Where that placement puts the stream; None: none yet.
        alone: Where it went by itself since; None: it is where the placement is.
        because: Why it went there.
        is_fenced: Another publishes the stream now: this one has stopped, for good.
    """

    client: str
    role: Role
    stream: str
    epoch: int = 0
    provider: str | None = None
    alone: str | None = None
    because: str = ""
    is_fenced: bool = False

    @property
    def here(self) -> str | None:
        """Return the provider it is on."""
        return self.alone or self.provider

    @property
    def claim(self) -> Claim | None:
        """
        Return what it has to claim now, or None.

        It is to be sent after each change, when an answer is overdue and after each reconnect:
        as often as it likes, since only the newest own move is claimed, and twice is once.
        """
        if self.alone is None or self.role is not Role.PUBLISHER or self.epoch == 0:
            return None
        return Claim(
            base_epoch=self.epoch,
            provider=self.alone,
            by=By.PUBLISHER,
            because=self.because,
            publisher=self.client,
        )


def told(follower: Follower, placement: Placement) -> tuple[Follower, Order | None]:
    """
    A server told a client about a placement: obey it if it is newer than the one obeyed last.

    A publisher that has moved by itself obeys a newer placement all the same: it lost the race.
    But not its own older claim, accepted while it has moved on, since it would go back to where
    it just fled from: it claims again, on the new epoch.
    """
    f, p = follower, placement
    if f.is_fenced or p.stream != f.stream or p.epoch <= f.epoch:
        return f, None
    is_publisher = f.role is Role.PUBLISHER
    if is_publisher and p.publisher != f.client:
        because = f"another client publishes it since epoch {p.epoch}"
        fenced = replace(f, epoch=p.epoch, provider=p.provider, alone=None, is_fenced=True)
        return fenced, Stop(epoch=p.epoch, because=because)
    if is_publisher and p.by is By.PUBLISHER and f.alone not in (None, p.provider):
        return replace(f, epoch=p.epoch, provider=p.provider), None
    order = Move(provider=p.provider, epoch=p.epoch, because=p.because)
    obeys = replace(f, epoch=p.epoch, provider=p.provider, alone=None, because="")
    return obeys, None if f.here == p.provider else order


def moved_alone(follower: Follower, provider: str, because: str) -> tuple[Follower, Claim | None]:
    """
    A client went to `provider` on its own evidence, which carries media already.

    The newest own move replaces an older one that is not confirmed yet. It is claimed even if it
    leads back to where the placement is: the new epoch outdates an older claim still under way.
    """
    if follower.is_fenced:
        return follower, None
    follower = replace(follower, alone=provider, because=because)
    return follower, follower.claim
