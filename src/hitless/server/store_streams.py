"""
The table of streams, whose placements change by compare-and-set on the epoch.

The rules are DESIGN 4.3's. An epoch never goes back: a database restored from an older copy is
moved past whatever signed epoch a client presents.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from .database import Database, Sql, StoreUnavailable, Value
from .store_nodes import Lease, held
from .store_rows import FORGET_MAX, PAGE_MAX, Audit, Where, audited, count, first, typed
from .stream_rows import (
    Changes,
    Claim,
    NodeCount,
    ProviderCount,
    Start,
    StreamRow,
    StreamState,
    rows_of,
)


__all__ = [  # the table's values are known by its name
    "Changes",
    "Claim",
    "NodeCount",
    "ProviderCount",
    "Start",
    "StreamRow",
    "StreamState",
    "Streams",
]


_RACES_MAX: Final = 8
"""How often a change is tried anew because the row came or went meanwhile."""


_START: Final = """
INSERT INTO streams (id, group_id, state, epoch, provider, is_carried, publisher, node, because,
    by, started_s, changed_s)
VALUES ($1, $2, 'starting', $3, $4, 0, $5, $6, $7, $5, now_s(), now_s())
ON CONFLICT (id) DO UPDATE SET
    epoch = CASE WHEN streams.epoch < excluded.epoch THEN excluded.epoch
        ELSE streams.epoch + 1 END,
    started_s = CASE WHEN streams.state = 'ended' THEN excluded.started_s
        ELSE streams.started_s END,
    group_id = excluded.group_id, state = 'starting', provider = excluded.provider,
    is_carried = 0, publisher = excluded.publisher, node = excluded.node,
    because = excluded.because, by = excluded.by, changed_s = now_s(),
    rescue_provider = NULL, rescue_until_s = NULL
WHERE streams.state = 'ended' OR streams.publisher <> excluded.publisher
    OR streams.epoch + 1 < excluded.epoch
RETURNING *
"""

_CLAIM: Final = """
UPDATE streams SET epoch = $4, publisher = coalesce($8, publisher),
    is_carried = CASE WHEN provider = $5 AND is_carried = 1 THEN 1 ELSE CAST($9 AS BIGINT) END,
    state = CASE WHEN CAST($9 AS BIGINT) = 1 THEN 'live' ELSE state END,
    provider = $5, by = $6, because = $7, changed_s = now_s()
WHERE id = $1 AND state <> 'ended'
    AND (epoch < $3 OR (epoch = $2 AND publisher = coalesce($8, publisher))
        OR (epoch < $2 AND publisher = $8))
RETURNING *
"""

_TAKE_BACK: Final = """
INSERT INTO streams (id, group_id, state, epoch, provider, is_carried, publisher, node, because,
    by, started_s, changed_s)
VALUES ($1, $2, CASE WHEN CAST($9 AS BIGINT) = 1 THEN 'live' ELSE 'starting' END, $3, $4,
    CAST($9 AS BIGINT), $5, $6, $7, $8, now_s(), now_s())
ON CONFLICT (id) DO NOTHING
RETURNING *
"""


class Streams:
    """
    The table of streams.

    Every change takes an `audit` entry and a topic to `wake`; both happen only if it does.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def start(
        self, start: Start, *, audit: Audit | None = None, wake: str | None = None
    ) -> StreamRow:
        """
        Begin a stream, begin it anew, or take it over from another publisher at the next epoch.

        Its own publisher, asking again, gets the row as it is.
        """
        said = Sql(
            _START,
            (
                start.stream,
                start.group,
                max(start.presented_epoch, 0) + 1,
                start.provider,
                start.publisher,
                start.node,
                start.because,
            ),
            must=True,
        )
        for _ in range(_RACES_MAX):
            row = first(await self._database.write(said, *audited(audit), wake=wake), StreamRow)
            row = row or await self.one(start.stream)
            if row and row.publisher == start.publisher and row.state is not StreamState.ENDED:
                return row
        raise StoreUnavailable("the stream starts and ends too often: try again")

    async def one(self, stream: str) -> StreamRow | None:
        """Return a stream; None: there is none."""
        rows = await self._database.read("SELECT * FROM streams WHERE id = $1", stream)
        return typed(rows[0], StreamRow) if rows else None

    async def page(
        self,
        *,
        state: StreamState | None = None,
        provider: str | None = None,
        group: str | None = None,
        node: str | None = None,
        is_on: bool = False,
        after: str | None = None,
        limit: int = PAGE_MAX,
    ) -> list[StreamRow]:
        """
        Return streams by id, those behind `after`, at most `limit` (and `PAGE_MAX`).

        `is_on`: only those that have not ended.
        """
        where = Where()
        where.add("state = {}", state)
        where.add("provider = {}", provider)
        where.add("group_id = {}", group)
        where.add("node = {}", node)
        if is_on:
            where.say("state <> 'ended'")
        where.add("id > {}", after)
        text = f"SELECT * FROM streams {where.text} ORDER BY id LIMIT "
        text += where.number(max(0, min(limit, PAGE_MAX)))
        return [typed(row, StreamRow) for row in await self._database.read(text, *where.args)]

    async def claim(
        self,
        claim: Claim,
        *,
        audit: Audit | None = None,
        wake: str | None = None,
        lease: Lease | None = None,
    ) -> tuple[StreamRow | None, bool]:
        """
        Change a placement, if nobody did since the epoch that the claim is based on.

        Args:
            claim: Who wants what.
            audit: What the log says.
            wake: Whom to wake.
            lease: What it is done by; a node that lost it is refused.

        Returns:
            The placement as it is now, and whether it is what was claimed: now, by the same
            claim before (its answer got lost), or because somebody else wanted the same. A
            refused claimant obeys that placement. None: an unknown stream, not taken back.
        """
        change = Sql(_CLAIM, _claimed_by(claim), must=True)
        said = (change, *audited(audit), *held(self._database, lease))
        for _ in range(_RACES_MAX):
            row = first(await self._database.write(*said, wake=wake), StreamRow)
            if row is not None:
                return row, True
            row = await self.one(claim.stream)
            if row is None and claim.publisher is not None:
                row = await self._take_back(claim, audit, wake)
                if row is None:
                    continue  # somebody else was quicker: the claim meets that row
                return row, True
            if lease is None and row is not None and _is_accepted(claim, row):
                continue  # it came between the two looks
            return row, row is not None and _is_repeated(claim, row)
        raise StoreUnavailable("the stream comes and goes too often: try again")

    async def claim_all(
        self, claims: Sequence[Claim], *, wake: str | None = None
    ) -> list[StreamRow]:
        """
        Change many placements in one transaction, each if nobody did since its epoch.

        Returns:
            Those that were changed, in the order of their ids; the others were refused.
        """
        # In one order everywhere: two nodes never wait for each other's rows.
        ordered = sorted(claims, key=lambda claim: claim.stream)
        each = tuple(_claimed_by(claim) for claim in ordered)
        written = await self._database.write(Sql(_CLAIM, each=each), wake=wake)
        return [typed(row, StreamRow) for rows in written or () for row in rows]

    async def _take_back(
        self, claim: Claim, audit: Audit | None, wake: str | None
    ) -> StreamRow | None:
        said = Sql(
            _TAKE_BACK,
            (
                claim.stream,
                claim.group or claim.stream,
                claim.taken_back_at,
                claim.provider,
                claim.publisher,
                claim.node,
                claim.because,
                claim.by,
                int(claim.is_carried),
            ),
            must=True,
        )
        return first(await self._database.write(said, *audited(audit), wake=wake), StreamRow)

    async def confirm(
        self, stream: str, epoch: int, provider: str, *, wake: str | None = None
    ) -> StreamRow | None:
        """Say that media flows there; None: that is no longer the placement. Idempotent."""
        change = Sql(
            "UPDATE streams SET is_carried = 1, state = 'live', changed_s = now_s() "
            "WHERE id = $1 AND epoch = $2 AND provider = $3 AND state <> 'ended' "
            "AND is_carried = 0 RETURNING *",
            (stream, epoch, provider),
            must=True,
        )
        if row := first(await self._database.write(change, wake=wake), StreamRow):
            return row
        row = await self.one(stream)
        is_so = row and row.is_carried and (row.epoch, row.provider) == (epoch, provider)
        return row if is_so else None

    async def end(
        self,
        stream: str,
        *,
        publisher: str | None,
        by: str,
        because: str,
        audit: Audit | None = None,
        wake: str | None = None,
    ) -> StreamRow | None:
        """
        End a stream.

        Args:
            stream: Its id.
            publisher: The client that ends it; only its current publisher may. None: an operator.
            by: Who.
            because: Why, in words.
            audit: What the log says.
            wake: Whom to wake.

        Returns:
            Its row; None: unknown, over already, or another client publishes it.
        """
        text = (
            "UPDATE streams SET state = 'ended', is_carried = 0, by = $2, because = $3, "
            "rescue_provider = NULL, rescue_until_s = NULL, changed_s = now_s() "
            "WHERE id = $1 AND state <> 'ended'"
        )
        args: tuple[str, ...] = (stream, by, because)
        if publisher is not None:
            text, args = f"{text} AND publisher = $4", (*args, publisher)
        change = Sql(f"{text} RETURNING *", args, must=True)
        return first(await self._database.write(change, *audited(audit), wake=wake), StreamRow)

    async def rescue(
        self,
        stream: str,
        provider: str,
        for_s: float,
        *,
        audit: Audit | None = None,
        wake: str | None = None,
    ) -> StreamRow | None:
        """
        Ask for the one extra leg of a stream, or keep it for longer.

        Args:
            stream: Its id.
            provider: Who carries the extra leg.
            for_s: How long from now [s], by the database's clock.
            audit: What the log says.
            wake: Whom to wake.

        Returns:
            Its row; None: no such stream, or another provider carries an extra leg already.
        """
        change = Sql(
            "UPDATE streams SET rescue_provider = $2, rescue_until_s = now_s() + $3, "
            "changed_s = now_s() WHERE id = $1 AND state <> 'ended' AND (rescue_provider IS NULL "
            "OR rescue_provider = $2 OR rescue_until_s <= now_s()) RETURNING *",
            (stream, provider, for_s),
            must=True,
        )
        return first(await self._database.write(change, *audited(audit), wake=wake), StreamRow)

    async def end_rescue(
        self, stream: str, *, audit: Audit | None = None, wake: str | None = None
    ) -> StreamRow | None:
        """Say that the extra leg is no longer needed; None: there was none."""
        change = Sql(
            "UPDATE streams SET rescue_provider = NULL, rescue_until_s = NULL, "
            "changed_s = now_s() WHERE id = $1 AND rescue_provider IS NOT NULL RETURNING *",
            (stream,),
            must=True,
        )
        return first(await self._database.write(change, *audited(audit), wake=wake), StreamRow)

    async def changed_since(self, at_s: float) -> Changes:
        """
        Return every stream whose row changed at or after `at_s` [s, the database's clock].

        Ask with `Changes.at_s` less the longest write (3 s): applying a row twice is harmless,
        because epochs only grow.
        """
        now = await self._database.read("SELECT now_s() AS now_s")
        rows: list[StreamRow] = []
        after: tuple[float, str] = (at_s, "")
        while True:
            found = await self._database.read(
                "SELECT * FROM streams WHERE (changed_s, id) > ($1, $2) "
                "ORDER BY changed_s, id LIMIT $3",
                *after,
                PAGE_MAX,
            )
            # Thousands begin in a second: in a thread, so that the loop turns meanwhile.
            rows += await asyncio.to_thread(rows_of, found)
            if len(found) < PAGE_MAX:
                return Changes(rows=tuple(rows), at_s=float(now[0]["now_s"] or 0.0))
            after = (rows[-1].changed_s, rows[-1].id)

    async def counts(self) -> list[ProviderCount]:
        """Return what each provider carries, by name."""
        rows = await self._database.read(
            "SELECT provider, CAST(sum(streams) AS BIGINT) AS streams, "
            "CAST(sum(carried) AS BIGINT) AS carried, CAST(sum(viewers) AS BIGINT) AS viewers "
            "FROM (SELECT provider, 1 AS streams, is_carried AS carried, 0 AS viewers "
            "FROM streams WHERE state <> 'ended' UNION ALL "
            "SELECT provider, 0, 0, 1 FROM members WHERE role = 'viewer' "
            "AND provider IS NOT NULL) AS counted GROUP BY provider ORDER BY provider"
        )
        return [typed(row, ProviderCount) for row in rows]

    async def placed(self) -> dict[str, int]:
        """Return how many streams that are not over are placed at each provider, by name."""
        rows = await self._database.read(
            "SELECT provider, count(*) AS streams FROM streams WHERE state <> 'ended' "
            "GROUP BY provider"
        )
        return {str(row["provider"]): int(row["streams"] or 0) for row in rows}

    async def shares(self, provider: str) -> list[NodeCount]:
        """Return how many streams of a provider each node answers for, by node."""
        rows = await self._database.read(
            "SELECT node, count(*) AS streams, CAST(sum(is_carried) AS BIGINT) AS carried "
            "FROM streams WHERE provider = $1 AND state <> 'ended' GROUP BY node ORDER BY node",
            provider,
        )
        return [typed(row, NodeCount) for row in rows]

    async def answer(self, stream: str, publisher: str, node: str) -> None:
        """Say that `node` answers a stream's publisher now: it has come over. Idempotent."""
        change = Sql(
            "UPDATE streams SET node = $3 WHERE id = $1 AND publisher = $2 AND node <> $3",
            (stream, publisher, node),
        )
        await self._database.write(change)

    async def forget(self, ended_s: float) -> int:
        """Forget streams that ended `ended_s` ago [s] or before; how many, a bounded lot."""
        written = await self._database.write(
            Sql(
                "DELETE FROM streams WHERE id IN (SELECT id FROM streams WHERE state = 'ended' "
                "AND changed_s < now_s() - $1 LIMIT $2) AND state = 'ended' RETURNING id",
                (ended_s, FORGET_MAX),
            )
        )
        return count(written)


def _claimed_by(claim: Claim) -> tuple[Value, ...]:
    """Return what `_CLAIM` takes."""
    return (
        claim.stream,
        claim.base_epoch,
        claim.presented_epoch,
        claim.taken_back_at,
        claim.provider,
        claim.by,
        claim.because,
        claim.publisher,
        int(claim.is_carried),
    )


def _is_accepted(claim: Claim, row: StreamRow) -> bool:
    """Whether `_CLAIM` takes this row."""
    is_own = claim.publisher == row.publisher
    is_fresh = claim.base_epoch == row.epoch and (is_own or claim.publisher is None)
    is_ahead = is_own and claim.base_epoch > row.epoch
    is_on = row.state is not StreamState.ENDED
    return is_on and (claim.presented_epoch > row.epoch or is_fresh or is_ahead)


def _is_repeated(claim: Claim, row: StreamRow) -> bool:
    """Whether the placement is what the claim would have made of it."""
    return (
        row.state is not StreamState.ENDED
        and (row.provider, row.publisher) == (claim.provider, claim.publisher or row.publisher)
        and row.epoch in (claim.base_epoch + 1, claim.taken_back_at)
    )
