"""What operators see and change: settings, providers, keys, fleet moves and the audit log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .database import Database, Sql
from .store_nodes import Lease, held
from .store_rows import (
    FORGET_MAX,
    PAGE_MAX,
    Audit,
    Json,
    Where,
    audited,
    count,
    encoded,
    first,
    typed,
)


class Settings:
    """The table of settings: one JSON value per name."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self) -> dict[str, Json]:
        """Return every setting that was ever put."""
        rows = await self._database.read("SELECT name, value FROM settings ORDER BY name")
        return {row.name: row.value for row in (typed(row, _Setting) for row in rows)}

    async def put(self, name: str, value: Json, audit: Audit, *, wake: str | None = None) -> None:
        """Set one."""
        change = Sql(
            "INSERT INTO settings (name, value, changed_s) VALUES ($1, $2, now_s()) "
            "ON CONFLICT (name) DO UPDATE SET value = excluded.value, changed_s = now_s()",
            (name, encoded(value)),
        )
        await self._database.write(change, *audited(audit), wake=wake)


@dataclass(frozen=True, slots=True)
class _Setting:
    name: str
    value: Json


# --- Providers ---


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderRow:
    """
    A provider as operators configure it.

    Attributes:
        name: Its name.
        adapter: The adapter that speaks with it.
        is_active: Whether it may carry streams.
        is_drained: Whether its streams are moved elsewhere and none is added.
        priority: Lowest first.
        config: What is public.
        secret: What is not, sealed; never shown.
        weight: Its share among providers of one priority.
        starts_per_s: How many starts it accepts [1/s]; None: not known.
        price: What it costs, in the words of the configuration; None: not known.
        revision: Grows with each change; `Providers.put` expects the one that was read.
        changed_s: When it was changed [s since 1970, the database's clock].
    """

    name: str
    adapter: str
    is_active: bool = True
    is_drained: bool = False
    priority: int = 1
    config: Mapping[str, Json] = field(default_factory=dict)
    secret: str | None = field(default=None, repr=False)
    weight: float = 1.0
    starts_per_s: float | None = None
    price: Mapping[str, Json] | None = None
    revision: int = 0
    changed_s: float = 0.0


class Providers:
    """The table of providers. Every change is audited."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self) -> list[ProviderRow]:
        """Return them by priority, then by name."""
        rows = await self._database.read("SELECT * FROM providers ORDER BY priority, name")
        return [typed(row, ProviderRow) for row in rows]

    async def one(self, name: str) -> ProviderRow | None:
        """Return one; None: there is none."""
        rows = await self._database.read("SELECT * FROM providers WHERE name = $1", name)
        return typed(rows[0], ProviderRow) if rows else None

    async def put(
        self, provider: ProviderRow, audit: Audit, *, wake: str | None = None
    ) -> ProviderRow | None:
        """
        Add a provider (`revision` 0) or change the one that was read at `revision`.

        Returns:
            It as it is now; None: somebody else added, changed or deleted it meanwhile, and
            nothing was done.
        """
        args = (
            provider.name,
            provider.adapter,
            int(provider.is_active),
            int(provider.is_drained),
            provider.priority,
            encoded(provider.config),
            provider.secret,
            provider.weight,
            provider.starts_per_s,
            None if provider.price is None else encoded(provider.price),
        )
        if provider.revision == 0:
            change = Sql(_ADD_PROVIDER, args, must=True)
        else:
            change = Sql(_CHANGE_PROVIDER, (*args, provider.revision), must=True)
        return first(await self._database.write(change, *audited(audit), wake=wake), ProviderRow)

    async def delete(
        self, name: str, revision: int, audit: Audit, *, wake: str | None = None
    ) -> bool:
        """Delete the one that was read at `revision`; False: it is gone or changed since."""
        change = Sql(
            "DELETE FROM providers WHERE name = $1 AND revision = $2", (name, revision), must=True
        )
        return await self._database.write(change, *audited(audit), wake=wake) is not None


_ADD_PROVIDER = """
INSERT INTO providers (name, adapter, is_active, is_drained, priority, config, secret, weight,
    starts_per_s, price, revision, changed_s)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 1, now_s())
ON CONFLICT (name) DO NOTHING
RETURNING *
"""

_CHANGE_PROVIDER = """
UPDATE providers SET adapter = $2, is_active = $3, is_drained = $4, priority = $5, config = $6,
    secret = $7, weight = $8, starts_per_s = $9, price = $10, revision = revision + 1,
    changed_s = now_s()
WHERE name = $1 AND revision = $11
RETURNING *
"""


# --- Keys ---


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRow:
    """
    A key, of which only a hash is kept.

    Attributes:
        id: Its public part.
        role: What it may do.
        scope: The one stream it is for; None: any.
        hash: What its secret part is compared with.
        salt: What was hashed with it.
        name: What people call it.
        made_s: When it was made [s since 1970, the database's clock].
        expires_s: From when on it is not accepted; None: never.
        revoked_s: When it was revoked; None: it was not.
    """

    id: str
    role: str
    hash: bytes = field(repr=False)
    salt: bytes = field(repr=False)
    name: str
    scope: str | None = None
    made_s: float = 0.0
    expires_s: float | None = None
    revoked_s: float | None = None


class Keys:
    """The table of keys."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def insert(
        self, key: KeyRow, *, audit: Audit | None = None, wake: str | None = None
    ) -> bool:
        """Add a key, made now; False: its id is taken."""
        change = Sql(
            "INSERT INTO keys (id, role, scope, hash, salt, name, made_s, expires_s) "
            "VALUES ($1, $2, $3, $4, $5, $6, now_s(), $7) ON CONFLICT (id) DO NOTHING",
            (key.id, key.role, key.scope, key.hash, key.salt, key.name, key.expires_s),
            must=True,
        )
        return await self._database.write(change, *audited(audit), wake=wake) is not None

    async def all(self) -> list[KeyRow]:
        """Return the keys, the newest first, revoked ones too."""
        rows = await self._database.read("SELECT * FROM keys ORDER BY made_s DESC, id")
        return [typed(row, KeyRow) for row in rows]

    async def one(self, key: str) -> KeyRow | None:
        """Return the key of an id; None: there is none."""
        rows = await self._database.read("SELECT * FROM keys WHERE id = $1", key)
        return typed(rows[0], KeyRow) if rows else None

    async def revoke(
        self, key: str, *, audit: Audit | None = None, wake: str | None = None
    ) -> bool:
        """Revoke a key for good; False: there is none, or it was revoked before."""
        change = Sql(
            "UPDATE keys SET revoked_s = now_s() WHERE id = $1 AND revoked_s IS NULL",
            (key,),
            must=True,
        )
        return await self._database.write(change, *audited(audit), wake=wake) is not None


# --- Fleet moves ---


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetMove:
    """
    One order for many streams: away from `source`; each node works out its own share.

    Attributes:
        id: Its number.
        source: The provider to leave.
        plan: Where to, how fast: a `core.fleet.FleetMove` as JSON.
        by: Who ordered it.
        because: Why, in words.
        state: `open` or `done`.
        begun_s: When it was ordered [s since 1970, the database's clock].
        ended_s: When it was finished; None: it is open.
    """

    id: int
    source: str
    plan: Mapping[str, Json]
    by: str
    because: str
    state: str
    begun_s: float
    ended_s: float | None


class FleetMoves:
    """The table of fleet moves."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def insert(
        self,
        source: str,
        plan: object,
        *,
        by: str,
        because: str,
        audit: Audit | None = None,
        wake: str | None = None,
        lease: Lease | None = None,
    ) -> FleetMove | None:
        """Order a move; None: by a `lease` that is lost."""
        change = Sql(
            "INSERT INTO fleet_moves (source, plan, begun_s, by, because, state) "
            "VALUES ($1, $2, now_s(), $3, $4, 'open') RETURNING *",
            (source, encoded(plan), by, because),
        )
        said = (change, *audited(audit), *held(self._database, lease))
        return first(await self._database.write(*said, wake=wake), FleetMove)

    async def open(self) -> list[FleetMove]:
        """Return the moves that are not finished, the earliest first."""
        rows = await self._database.read(
            "SELECT * FROM fleet_moves WHERE state = 'open' ORDER BY id"
        )
        return [typed(row, FleetMove) for row in rows]

    async def finish(
        self, move: int, *, audit: Audit | None = None, wake: str | None = None
    ) -> bool:
        """Say that a move is over; False: it was already, or there is none."""
        change = Sql(
            "UPDATE fleet_moves SET state = 'done', ended_s = now_s() "
            "WHERE id = $1 AND state = 'open'",
            (move,),
            must=True,
        )
        return await self._database.write(change, *audited(audit), wake=wake) is not None


# --- The audit log ---


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRow:
    """An entry of the log: an `Audit` with its number and time [s since 1970]."""

    id: int
    at_s: float
    who: str
    what: str
    target: str
    before: Mapping[str, Json] | None
    after: Mapping[str, Json] | None
    because: str


class AuditLog:
    """The table of what was done, by whom and why. Entries are never changed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def append(self, entries: Sequence[Audit]) -> None:
        """Add entries, all or none; for acts that change no row, such as a refused move."""
        if entries:
            await self._database.write(*audited(*entries))

    async def page(
        self,
        *,
        target: str | None = None,
        who: str | None = None,
        since_s: float | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> list[AuditRow]:
        """
        Return entries, the newest first.

        Args:
            target: Only what was done to this.
            who: Only what this one did.
            since_s: Only what was done at or after [s since 1970].
            before: Only entries with a lower number: the next page.
            limit: How many at most, and never more than `PAGE_MAX`.
        """
        where = Where()
        where.add("target = {}", target)
        where.add("who = {}", who)
        where.add("at_s >= {}", since_s)
        where.add("id < {}", before)
        text = f"SELECT * FROM audit {where.text} ORDER BY id DESC LIMIT "
        text += where.number(max(0, min(limit, PAGE_MAX)))
        return [typed(row, AuditRow) for row in await self._database.read(text, *where.args)]

    async def forget(self, older_s: float) -> int:
        """Forget entries older than `older_s` [s]; return how many, a bounded lot a call."""
        return count(
            await self._database.write(
                Sql(
                    "DELETE FROM audit WHERE id IN (SELECT id FROM audit "
                    "WHERE at_s < now_s() - $1 ORDER BY id LIMIT $2) RETURNING id",
                    (older_s, FORGET_MAX),
                )
            )
        )
