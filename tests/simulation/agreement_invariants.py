"""
What must hold whenever a rule of `hitless.core.agreement` is applied, and once all was said.

The rules come in as `Rules`, so that a test can break one and see it found out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hitless.core import agreement
from hitless.core.agreement import By, Claim, Follower, Order, Placement, Row, Shown
from hitless.core.events import Role


STREAM = "show"

ROUNDS_MAX = 8
"""Once nothing is lost any more, so many rounds of talk must be enough."""


@dataclass(frozen=True)
class Rules:
    """The rules under test."""

    started: Callable[..., Row] = agreement.started
    claimed: Callable[[Row | None, Claim], tuple[Row | None, bool]] = agreement.claimed
    returned: Callable[[Row | None, Shown], Claim | None] = agreement.returned
    told: Callable[[Follower, Placement], tuple[Follower, Order | None]] = agreement.told


class Broken(AssertionError):
    """An invariant does not hold."""


def is_own(row: Row, client: str) -> bool:
    """Return whether a server says `is_own` when it tells a client of this row."""
    return row.by == By.PUBLISHER and row.publisher == client


def shown_by(follower: Follower) -> Shown:
    """Return what a client says when it connects, if what it obeyed last was signed."""
    return Shown(
        client=follower.client,
        role=follower.role,
        epoch=follower.epoch,
        here=follower.here or "",
        signed_epoch=follower.epoch,
        signed_provider=follower.provider or "",
    )


# --- One rule is applied ---


def heard(rules: Rules, was: Follower, row: Row, *, own: bool) -> Follower:
    """
    Return a client after it was told of a placement.

    Raises:
        Broken: It obeys an older one, or goes on though it is fenced.
    """
    said = Placement(
        stream=STREAM,
        epoch=row.epoch,
        provider=row.provider,
        publisher=row.publisher,
        by=By.PUBLISHER if own else By.SERVER,
        because="told",
    )
    now, order = rules.told(was, said)
    if now.epoch < was.epoch or (now != was and row.epoch <= was.epoch):
        raise Broken(f"the {was.client} obeys epoch {row.epoch} after {was.epoch}")
    if order is not None and order.epoch <= was.epoch:
        raise Broken(f"the {was.client} is ordered about by epoch {order.epoch}")
    if was.is_fenced and now != was:
        raise Broken(f"the fenced {was.client} does something")
    if now.is_fenced and now.claim is not None:
        raise Broken(f"the fenced {was.client} claims")
    if row.epoch > was.epoch and not was.is_fenced:
        _obeyed(was, now, row, own=own)
    return now


def _obeyed(was: Follower, now: Follower, row: Row, *, own: bool) -> None:
    if now.epoch != row.epoch:
        raise Broken(f"the {was.client} does not take note of epoch {row.epoch}")
    is_publisher = was.role is Role.PUBLISHER
    if now.is_fenced != (is_publisher and row.publisher != was.client):
        raise Broken(f"the {was.client} heard of {row}: fenced {now.is_fenced}")
    has_moved_on = is_publisher and own and was.alone not in (None, row.provider)
    if has_moved_on and not now.is_fenced and now.here != was.here:
        raise Broken(f"the {was.client} goes back to {now.here}, which it fled from")
    if not has_moved_on and now.here != row.provider:
        raise Broken(f"the {was.client} heard of {row.provider} and is on {now.here}")


def written(rules: Rules, row: Row | None, claim: Claim) -> tuple[Row | None, bool]:
    """
    Return the row after a claim, and whether it is what was claimed.

    Raises:
        Broken: A stale claim won, or an epoch came twice.
    """
    after, is_so = rules.claimed(row, claim)
    if after is None or after == row:
        if is_so and (after is None or after.provider != claim.provider):
            raise Broken(f"{claim} is confirmed, but it is {after}")
        return after, is_so
    known = max(claim.base_epoch, claim.presented_epoch)
    if after.epoch <= known:
        raise Broken(f"epoch {after.epoch} is given out to one that knows epoch {known}")
    if not is_so or after.provider != claim.provider:
        raise Broken(f"{claim} changes the row to {after}")
    if row is not None:
        _won(row, after, claim)
    return after, is_so


def _won(row: Row, after: Row, claim: Claim) -> None:
    if after.epoch <= row.epoch:
        raise Broken(f"epoch {after.epoch} is written over epoch {row.epoch}")
    if claim.presented_epoch > row.epoch:
        return  # the store has lost something: this was signed
    if claim.base_epoch < row.epoch:
        raise Broken(f"based on epoch {claim.base_epoch}, it wins over epoch {row.epoch}")
    if claim.publisher not in (None, row.publisher):
        raise Broken(f"the fenced {claim.publisher} wins over the {row.publisher}")


def taken_over(rules: Rules, row: Row | None, publisher: str, provider: str, seen: int) -> Row:
    """
    Return the row after a start by `publisher`, which shows the signed epoch `seen`.

    Raises:
        Broken: Somebody who follows the stream could not tell that it changed.
    """
    after = rules.started(row, publisher, provider, seen)
    if after.publisher != publisher or after.is_over:
        raise Broken(f"the {publisher} starts it, and it is {after}")
    if after != row and after.epoch <= max(row.epoch if row else 0, seen):
        raise Broken(f"a start is written at epoch {after.epoch} over {row}, {seen} was shown")
    return after


# --- All was said ---


def disagreement(row: Row | None, followers: tuple[Follower, ...]) -> str | None:
    """Return who does not go by the store's row, or None."""
    if row is None or row.is_over:
        return None
    for f in followers:
        if f.epoch == 0 or f.is_fenced:
            continue  # it never came, or is gone
        if f.role is Role.PUBLISHER and row.publisher != f.client:
            return f"the {f.client} still publishes, and the row is {row}"
        if (f.epoch, f.here) != (row.epoch, row.provider):
            return f"the {f.client} is on {f.here}, epoch {f.epoch}, and the row is {row}"
    return None


def settle(
    rules: Rules, row: Row | None, followers: tuple[Follower, ...]
) -> tuple[Row | None, tuple[Follower, ...]]:
    """
    Return the row and the clients after all was said and heard.

    Raises:
        Broken: They do not agree after `ROUNDS_MAX` rounds, or break a rule on the way.
    """
    known = followers
    for _ in range(ROUNDS_MAX):
        before = (row, known)
        row, known = _round(rules, row, known)
        if (row, known) == before:
            break
    if wrong := disagreement(row, known):
        raise Broken(f"all has been said, but {wrong}")
    return row, known


def _round(
    rules: Rules, row: Row | None, followers: tuple[Follower, ...]
) -> tuple[Row | None, tuple[Follower, ...]]:
    """Let everybody connect and be heard once, and tell everybody what came of it."""
    known = list(followers)
    for n, follower in enumerate(known):
        if not follower.is_fenced and follower.epoch > 0:
            row, known[n] = _connected(rules, row, follower)
    if row is not None:
        for n, f in enumerate(known):
            if f.epoch > 0:
                known[n] = heard(rules, f, row, own=is_own(row, f.client))
    return row, tuple(known)


def _connected(rules: Rules, row: Row | None, f: Follower) -> tuple[Row | None, Follower]:
    """Let one client show what it knows, and claim what it has to."""
    wish = rules.returned(row, shown_by(f))
    if wish is not None:
        row, is_so = written(rules, row, wish)
        if row is not None and f.role is Role.PUBLISHER:
            f = heard(rules, f, row, own=is_so and wish.by is By.PUBLISHER)
    if f.claim is not None:
        row, is_so = written(rules, row, f.claim)
        if row is not None:
            f = heard(rules, f, row, own=is_so)
    return row, f
