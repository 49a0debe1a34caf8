"""Who sends or watches a stream, on which node, and when it was last heard of."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final

import msgspec

from .database import Database, Sql
from .store_rows import FORGET_MAX, Where, count, encoded, typed


SEEN_MAX: Final = 1_024
"""Members of one statement of `Members.seen`; more take more statements of one transaction."""


_AT_ONCE: Final = 200
"""Rows that are read where they are asked for: less than 1 ms."""


class Role(StrEnum):
    """What a member of a stream does."""

    PUBLISHER = "publisher"
    VIEWER = "viewer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """
    A client of a stream.

    Attributes:
        stream: The stream.
        client: The client's id.
        role: Whether it sends or watches.
        node: The node it talks with.
        adapters: What it can open, by the adapters' names.
        codecs: What it can decode or encode.
        epoch_seen: The newest epoch it obeys; 0: none.
        provider: Where it is; None: nowhere yet.
        joined_s: When it joined [s since 1970, the database's clock].
        seen_s: When it was last heard of.
    """

    stream: str
    client: str
    role: Role
    node: str
    adapters: tuple[str, ...] = ()
    codecs: tuple[str, ...] = ()
    epoch_seen: int = 0
    provider: str | None = None
    joined_s: float = 0.0
    seen_s: float = 0.0


@dataclass(frozen=True, slots=True, order=True)
class Seen:
    """A sign of life of a member: the epoch it obeys, and where it is ('': nowhere yet)."""

    stream: str
    client: str
    epoch: int
    provider: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """
    How many members of a stream can open the same providers.

    Attributes:
        stream, role: Of these members.
        adapters, codecs: What they can open; empty: everything.
        members: How many they are.
    """

    stream: str
    role: Role
    adapters: tuple[str, ...]
    codecs: tuple[str, ...]
    members: int


class Members:
    """The table of members."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def join(self, member: Member) -> Member:
        """Add a member, or renew what is known of it; the times given are ignored."""
        written = await self._database.write(
            Sql(
                "INSERT INTO members (stream, client, role, node, adapters, codecs, epoch_seen, "
                "provider, joined_s, seen_s) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, now_s(), "
                "now_s()) ON CONFLICT (stream, client) DO UPDATE SET role = excluded.role, "
                "node = excluded.node, adapters = excluded.adapters, codecs = excluded.codecs, "
                "epoch_seen = CASE WHEN members.epoch_seen > excluded.epoch_seen "
                "THEN members.epoch_seen ELSE excluded.epoch_seen END, "
                "provider = coalesce(excluded.provider, members.provider), "
                "seen_s = excluded.seen_s RETURNING *",
                (
                    member.stream,
                    member.client,
                    member.role,
                    member.node,
                    encoded(member.adapters),
                    encoded(member.codecs),
                    member.epoch_seen,
                    member.provider,
                ),
            )
        )
        assert written, "an upsert without WHERE returns its row"
        return typed(written[0][0], Member)

    async def leave(self, stream: str, client: str) -> bool:
        """Remove a member; False: it was not there."""
        written = await self._database.write(
            Sql("DELETE FROM members WHERE stream = $1 AND client = $2", (stream, client), True)
        )
        return written is not None

    async def seen(self, signs: Sequence[Seen]) -> None:
        """Note signs of life, all in one transaction. Those of nobody are ignored."""
        # The newest sign of each, in one order everywhere: two nodes never wait for each other.
        newest = [*{(sign.stream, sign.client): sign for sign in sorted(signs)}.values()]
        lots = [newest[at : at + SEEN_MAX] for at in range(0, len(newest), SEEN_MAX)]
        if lots:
            await self._database.write(*(_seen(lot) for lot in lots))

    async def of_stream(self, stream: str) -> list[Member]:
        """Return a stream's members by client."""
        return await self._where("stream = $1 ORDER BY client", stream)

    async def one(self, stream: str, client: str) -> Member | None:
        """Return a member; None: it is not there."""
        found = await self._where("stream = $1 AND client = $2", stream, client)
        return found[0] if found else None

    async def behind(self, stream: str, epoch: int, besides: str | None = None) -> int:
        """
        Return how many viewers of a stream obey no epoch as new as this one yet.

        Args:
            stream: Which.
            epoch: Of its placement.
            besides: Who is at this provider does not count; None: everybody does.
        """
        rows = await self._database.read(
            "SELECT count(*) AS behind FROM members WHERE stream = $1 AND role = 'viewer' "
            "AND epoch_seen < $2 AND (provider IS NULL OR provider <> $3)",
            stream,
            epoch,
            besides or "",
        )
        return int(rows[0]["behind"] or 0)

    async def of_node(self, node: str) -> list[Member]:
        """Return the members that talk with a node, by stream and client."""
        return await self._where("node = $1 ORDER BY stream, client", node)

    async def reach(self, provider: str) -> list[Reach]:
        """
        Return what the members of a provider's streams can open, where that is limited.

        Of its publishers only the one that publishes now, as `reach_of` does.
        """
        rows = await self._database.read(
            "SELECT members.stream, role, adapters, codecs, count(*) AS members "
            "FROM members JOIN streams ON streams.id = members.stream "
            "WHERE streams.provider = $1 AND streams.state <> 'ended' "
            "AND (role <> 'publisher' OR client = streams.publisher) AND members.stream IN "
            "(SELECT stream FROM members WHERE adapters <> '[]' OR codecs <> '[]') "
            "GROUP BY members.stream, role, adapters, codecs",
            provider,
        )
        return [typed(row, Reach) for row in rows]

    async def reach_of(self, stream: str, role: Role) -> list[Reach]:
        """
        Return what the members of one stream can open, those that can open anything, too.

        Of its publishers only the one that publishes now: one that was replaced is fenced.
        """
        rows = await self._database.read(
            "SELECT stream, role, adapters, codecs, count(*) AS members FROM members "
            "WHERE stream = $1 AND role = $2 AND (role <> 'publisher' OR client = "
            "(SELECT publisher FROM streams WHERE streams.id = members.stream)) "
            "GROUP BY stream, role, adapters, codecs ORDER BY adapters, codecs",
            stream,
            role,
        )
        return [typed(row, Reach) for row in rows]

    async def forget(self, silent_s: float) -> int:
        """Forget members not seen for `silent_s` [s]; return how many, a bounded lot a call."""
        written = await self._database.write(
            Sql(
                "DELETE FROM members WHERE (stream, client) IN (SELECT stream, client "
                "FROM members WHERE seen_s < now_s() - $1 LIMIT $2) AND seen_s < now_s() - $1 "
                "RETURNING client",
                (silent_s, FORGET_MAX),
            )
        )
        return count(written)

    async def _where(self, condition: str, *values: str) -> list[Member]:
        rows = await self._database.read(f"SELECT * FROM members WHERE {condition}", *values)
        if len(rows) <= _AT_ONCE:
            return [_member(row) for row in rows]
        # Ten thousand take 30 ms: in a thread, so that the loop turns meanwhile.
        return await asyncio.to_thread(lambda: [_member(row) for row in rows])


def _member(row: Mapping[str, Any]) -> Member:  # Any: a column's value, by its name
    """Return a row as `typed` does, in a quarter of its time: a stream has thousands of them."""
    return Member(
        stream=row["stream"],
        client=row["client"],
        role=Role(row["role"]),
        node=row["node"],
        adapters=_words(row["adapters"]),
        codecs=_words(row["codecs"]),
        epoch_seen=row["epoch_seen"],
        provider=row["provider"],
        joined_s=row["joined_s"],
        seen_s=row["seen_s"],
    )


@lru_cache(maxsize=1024)
def _words(text: str) -> tuple[str, ...]:
    return msgspec.json.decode(text, type=tuple[str, ...])


def _seen(signs: Sequence[Seen]) -> Sql:
    where = Where()
    # 1, 2, 4 ... rows, the last one repeated: few texts, so both engines keep them prepared.
    size = 1 << (len(signs) - 1).bit_length()
    padded = [*signs, *itertools.repeat(signs[-1], size - len(signs))]
    rows = ", ".join(
        f"({where.number(sign.stream)}, {where.number(sign.client)}, "
        f"CAST({where.number(sign.epoch)} AS BIGINT), {where.number(sign.provider)})"
        for sign in padded
    )
    # Both dialects name the columns of VALUES column1, column2 ...
    return Sql(
        "UPDATE members SET seen_s = now_s(), "
        "epoch_seen = CASE WHEN members.epoch_seen < column3 THEN column3 "
        "ELSE members.epoch_seen END, provider = coalesce(nullif(column4, ''), provider) "
        f"FROM (VALUES {rows}) AS sign WHERE stream = column1 AND client = column2",
        tuple(where.args),
    )
