"""What the nodes share among themselves: who is alive, leases, measures, and alerts to deliver."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from .database import Database, Sql
from .store_rows import FORGET_MAX, PAGE_MAX, Audit, Json, audited, count, encoded, first, typed


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRow:
    """
    A node that runs `hitless serve`.

    Attributes:
        name: Its name, another one after each start.
        url: Where other nodes and clients reach it.
        version: The version of hitless it runs.
        down: Providers that it finds down, each with its reason.
        seen_s: When it last said that it lives [s since 1970, the database's clock].
    """

    name: str
    url: str
    version: str
    down: Mapping[str, str]
    seen_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeEvidence:
    """
    What a node says that its clients reported.

    Attributes:
        name: The node's.
        evidence: As `summaries.write` has it, or anything else: whoever reads it checks it.
        age_s: How long ago it was written [s], by the database's clock.
    """

    name: str
    evidence: str
    age_s: float


EVIDENCE_NODES_MAX: Final = 64
"""Nodes whose evidence is read, the newest."""


class Nodes:
    """The table of nodes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def heartbeat(
        self,
        name: str,
        url: str,
        version: str,
        down: Mapping[str, str] | None = None,
        evidence: str = "",
    ) -> None:
        """Say that a node lives, which providers it finds down, and what its clients reported."""
        await self._database.write(
            Sql(
                "INSERT INTO nodes (name, url, version, down, evidence, evidence_s, seen_s) "
                "VALUES ($1, $2, $3, $4, $5, now_s(), now_s()) "
                "ON CONFLICT (name) DO UPDATE SET url = excluded.url, "
                "version = excluded.version, down = excluded.down, evidence = excluded.evidence, "
                "evidence_s = excluded.evidence_s, seen_s = excluded.seen_s",
                (name, url, version, encoded(down or {}), evidence),
            )
        )

    async def evidence(
        self, within_s: float, *, besides: str, chars_max: int
    ) -> list[NodeEvidence]:
        """
        Return what the clients of the other nodes reported, the newest first.

        Args:
            within_s: What was written before that [s] does not count.
            besides: The node that asks.
            chars_max: Longer text is not read at all [character].
        """
        rows = await self._database.read(
            "SELECT name, evidence, now_s() - evidence_s AS age_s FROM nodes "
            "WHERE evidence_s >= now_s() - $1 AND name <> $2 AND evidence <> '' "
            "AND length(evidence) <= $3 ORDER BY evidence_s DESC, name LIMIT $4",
            within_s,
            besides,
            chars_max,
            EVIDENCE_NODES_MAX,
        )
        return [typed(row, NodeEvidence) for row in rows]

    async def alive(self, within_s: float) -> list[NodeRow]:
        """Return the nodes that said so within the last `within_s` [s], by name."""
        rows = await self._database.read(
            "SELECT * FROM nodes WHERE seen_s >= now_s() - $1 ORDER BY name", within_s
        )
        return [typed(row, NodeRow) for row in rows]

    async def forget(self, silent_s: float) -> int:
        """Forget nodes silent for `silent_s` [s]; return how many."""
        return count(
            await self._database.write(
                Sql("DELETE FROM nodes WHERE seen_s < now_s() - $1 RETURNING name", (silent_s,))
            )
        )


# --- Leases ---


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """
    The right of one node to do something alone, for a while.

    Attributes:
        name: What for.
        node: Who has it.
        epoch: Grows whenever it passes to another holder: what it does is fenced by it.
        until_s: When it expires [s since 1970, the database's clock].
    """

    name: str
    node: str
    epoch: int
    until_s: float


_TAKE: Final = """
INSERT INTO leases (name, node, epoch, until_s) VALUES ($1, $2, 1, now_s() + $3)
ON CONFLICT (name) DO UPDATE SET
    epoch = CASE WHEN leases.until_s > now_s() THEN leases.epoch ELSE leases.epoch + 1 END,
    node = excluded.node, until_s = excluded.until_s
WHERE leases.node = excluded.node OR leases.until_s <= now_s()
RETURNING *
"""


def held(database: Database, lease: Lease | None) -> tuple[Sql, ...]:
    """
    Return what undoes a write of a holder that lost its lease; without a lease, nothing.

    A node may sleep between the moment it was given a lease and the moment it acts on it, and
    then there are two that think they have it. The last statement of what it writes, this lets
    only the true holder's be done: nobody can take the lease before that is committed.
    """
    if lease is None:
        return ()
    text = (
        "SELECT epoch FROM leases WHERE name = $1 AND node = $2 AND epoch = $3 AND "
        "until_s > now_s()"
    )
    if database.dialect == "postgresql":  # SQLite has one writer at a time
        text += " FOR SHARE"
    return (Sql(text, (lease.name, lease.node, lease.epoch), must=True),)


class Leases:
    """The table of leases. Only the database's clock counts: the nodes' clocks may differ."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def take(self, name: str, node: str, ttl_s: float) -> Lease | None:
        """
        Take a lease that is free or expired, at the next epoch, or renew our own at the same.

        Args:
            name: What for.
            node: Who.
            ttl_s: For how long from now [s].

        Returns:
            The lease; None: another node has it.
        """
        written = await self._database.write(Sql(_TAKE, (name, node, ttl_s), must=True))
        return first(written, Lease)

    async def release(self, lease: Lease) -> bool:
        """Give a lease back before it expires; False: it was lost already."""
        written = await self._database.write(
            Sql(
                "UPDATE leases SET until_s = 0 WHERE name = $1 AND node = $2 AND epoch = $3 "
                "AND until_s > now_s()",
                (lease.name, lease.node, lease.epoch),
                must=True,
            )
        )
        return written is not None


# --- Series ---


class Step(StrEnum):
    """How long a point of a series stands for."""

    MINUTE = "minute"
    HOUR = "hour"

    @property
    def length_s(self) -> float:
        """Its length [s]."""
        return 60.0 if self is Step.MINUTE else 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """
    What was counted during one step.

    Attributes:
        step: Minute or hour.
        provider: Where.
        region: In which region; '': it has none.
        at_s: When the step began [s since 1970].
        values: Sums by measure; averages are made of a sum and a count.
    """

    step: Step
    provider: str
    region: str
    at_s: float
    values: Mapping[str, float]


class Series:
    """The table of series: one row per step, provider, region and measure."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, points: Sequence[Point]) -> None:
        """Add to what is there, all or nothing. `at_s` may be any moment within the step."""
        said = [
            Sql(
                "INSERT INTO series (step, provider, region, at_s, measure, value) "
                "VALUES ($1, $2, $3, $4, $5, $6) "
                "ON CONFLICT (step, provider, region, at_s, measure) "
                "DO UPDATE SET value = series.value + excluded.value",
                (point.step, point.provider, point.region, _begun_s(point), measure, value),
            )
            # In one order everywhere: two nodes never wait for each other's rows.
            for point in sorted(points, key=lambda p: (p.step, p.provider, p.region, p.at_s))
            for measure, value in sorted(point.values.items())
        ]
        if said:
            await self._database.write(*said)

    async def between(
        self, step: Step, from_s: float, until_s: float, *, provider: str | None = None
    ) -> list[Point]:
        """Return the points that began in [`from_s`, `until_s`), in order of time."""
        text = (
            "SELECT provider, region, at_s, measure, value FROM series "
            "WHERE step = $1 AND at_s >= $2 AND at_s < $3"
        )
        args: tuple[str | float, ...] = (step, from_s, until_s)
        if provider is not None:
            text, args = f"{text} AND provider = $4", (*args, provider)
        rows = await self._database.read(f"{text} ORDER BY at_s, provider, region", *args)
        found: dict[tuple[float, str, str], dict[str, float]] = {}
        for row in (typed(row, _Measured) for row in rows):
            key = (row.at_s, row.provider, row.region)
            found.setdefault(key, {})[row.measure] = row.value
        return [
            Point(step=step, provider=name, region=region, at_s=at_s, values=values)
            for (at_s, name, region), values in found.items()
        ]

    async def forget(self, step: Step, older_s: float) -> int:
        """Forget what is older than `older_s` [s]; return how many rows, a bounded lot a call."""
        return count(
            await self._database.write(
                Sql(
                    "DELETE FROM series WHERE (step, provider, region, at_s, measure) IN (SELECT "
                    "step, provider, region, at_s, measure FROM series WHERE step = $1 "
                    "AND at_s < now_s() - $2 LIMIT $3) RETURNING at_s",
                    (step, older_s, FORGET_MAX),
                )
            )
        )


@dataclass(frozen=True, slots=True)
class _Measured:
    provider: str
    region: str
    at_s: float
    measure: str
    value: float


def _begun_s(point: Point) -> float:
    return point.at_s // point.step.length_s * point.step.length_s


# --- The outbox ---


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """
    An alert to deliver.

    Attributes:
        id: Its number.
        dedup_key: One letter per key, as long as it is remembered.
        target: Where to: the name of a webhook.
        body: What it says.
        tries: How often its delivery failed.
        made_s: When it was put [s since 1970, the database's clock].
        next_s: When to try (again).
    """

    id: int
    dedup_key: str
    target: str
    body: Json
    tries: int
    made_s: float
    next_s: float


class Outbox:
    """The table of alerts to deliver: at least once each, mostly exactly once."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(
        self,
        dedup_key: str,
        target: str,
        body: Json,
        *,
        audit: Audit | None = None,
        wake: str | None = None,
    ) -> bool:
        """Add a letter; False: one with this key is there already, delivered or not."""
        change = Sql(
            "INSERT INTO outbox (dedup_key, target, body, state, tries, made_s, next_s) "
            "VALUES ($1, $2, $3, 'due', 0, now_s(), now_s()) "
            "ON CONFLICT (dedup_key) DO NOTHING RETURNING id",
            (dedup_key, target, encoded(body)),
            must=True,
        )
        return await self._database.write(change, *audited(audit), wake=wake) is not None

    async def due(self, hold_s: float, limit: int = 100) -> list[Letter]:
        """
        Return letters to deliver now, the earliest first, and keep them from others meanwhile.

        Args:
            hold_s: Others get them if we do not report within this [s].
            limit: How many at most.
        """
        written = await self._database.write(
            Sql(
                "UPDATE outbox SET next_s = now_s() + $1 WHERE id IN (SELECT id FROM outbox "
                "WHERE state = 'due' AND next_s <= now_s() ORDER BY next_s, id LIMIT $2) "
                # Said twice: PostgreSQL checks it again after waiting for another node's update.
                "AND state = 'due' AND next_s <= now_s() RETURNING *",
                (hold_s, max(0, min(limit, PAGE_MAX))),
            )
        )
        letters = [typed(row, Letter) for row in written[0]] if written else []
        return sorted(letters, key=lambda letter: letter.id)

    async def done(self, letter: int) -> None:
        """Say that it was delivered."""
        await self._database.write(
            Sql("UPDATE outbox SET state = 'done' WHERE id = $1", (letter,))
        )

    async def failed(self, letter: int, again_s: float | None) -> None:
        """Say that delivery failed; try again in `again_s` [s], or never (None)."""
        await self._database.write(
            Sql(
                "UPDATE outbox SET tries = tries + 1, next_s = now_s() + $2, state = $3 "
                "WHERE id = $1 AND state = 'due'",
                (letter, again_s or 0.0, "due" if again_s is not None else "failed"),
            )
        )

    async def forget(self, older_s: float) -> int:
        """Forget letters put before `older_s` ago [s] that are done or given up; how many."""
        return count(
            await self._database.write(
                Sql(
                    "DELETE FROM outbox WHERE id IN (SELECT id FROM outbox WHERE state <> 'due' "
                    "AND made_s < now_s() - $1 ORDER BY id LIMIT $2) RETURNING id",
                    (older_s, FORGET_MAX),
                )
            )
        )
