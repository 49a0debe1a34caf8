"""
What the server asks of a database, whichever it is: reads, durable writes, and a wake-up.

One dialect for both: the common subset of SQLite from 3.37 and PostgreSQL from 13, parameters as
`$1`, `$2`, and `now_s()` for the database's own clock [s since 1970].
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from ..errors import ConfigError, HitlessError
from .clock import wall_s


Value = str | int | float | bytes | None
Row = Mapping[str, Value]
Dialect = Literal["sqlite", "postgresql"]

TOPICS_MAX: Final = 1024
"""Topics that may wait for one listener; the same topic waits once. Later ones are dropped."""


class StoreUnavailable(HitlessError):
    """
    The database gave no answer: down, locked, full, or the connection is lost. Try again later.

    A write that ends so was done whole or not at all, and nobody can say which.

    Attributes:
        because: Why, and what to do about it. Never holds the database's URL.
    """

    def __init__(self, because: str) -> None:
        super().__init__(f"the store is unavailable: {because}")
        self.because = because


class StatementRefused(HitlessError):
    """The database is well and refuses this statement: a broken constraint, a bug of ours."""


@dataclass(frozen=True, slots=True)
class Sql:
    """
    One statement.

    Attributes:
        text: The statement.
        args: What `$1`, `$2` ... stand for.
        must: Where it returns (or, without RETURNING, affects) no row, the whole transaction is
            undone and `Database.write` returns None: this is how compare-and-set is said.
        each: It is done once with each of these instead of `args`, which costs less than so many
            statements; it returns the rows of all. Not together with `must`.
    """

    text: str
    args: tuple[Value, ...] = ()
    must: bool = False
    each: tuple[tuple[Value, ...], ...] | None = None


Written = list[list[Row]] | None
"""What a write returned: one list of rows per statement, or None if a `must` found no row."""


class Database(Protocol):
    """A database that is open; its tables are the newest."""

    @property
    def dialect(self) -> Dialect:
        """Which of the two it is."""
        ...

    async def read(self, text: str, *args: Value) -> list[Row]:
        """
        Return the rows of one SELECT. Sees every write that returned before.

        Raises:
            StoreUnavailable: No answer within a few seconds; try again later.
            StatementRefused: A bug of the caller.
        """
        ...

    async def write(self, *statements: Sql, wake: str | None = None) -> Written:
        """
        Do all statements in one transaction, or none of them; durable when this returns.

        A cancelled write was done whole or not at all.

        Args:
            statements: What to do, in order.
            wake: A topic that listeners on every node are told of, if it is done.

        Raises:
            StoreUnavailable: No answer, or too much waits already; it may have been done.
            StatementRefused: A broken constraint or a bug of the caller; nothing was done.
        """
        ...

    async def upgrade(self, *statements: Sql) -> Written:
        """Do as `write` does, for as long as a change of the tables may take."""
        ...

    def woken(self) -> AsyncIterator[str]:
        """
        Return the topics that are woken from now on, until the database is closed.

        At most once, and never relied on: rows are the truth, so poll as well.
        """
        ...

    async def aclose(self) -> None:
        """Finish what was asked for and close. Idempotent."""
        ...


async def open_database(url: str, *, clock: Callable[[], float] = wall_s) -> Database:
    """
    Open the database, create or upgrade its tables, and return it. Close it with `aclose()`.

    Args:
        url: `sqlite:///relative.db`, `sqlite:////absolute.db`, a path, or `postgresql://...`.
        clock: What `now_s()` returns in SQLite [s since 1970]; PostgreSQL has its own.

    Raises:
        ConfigError: No such engine, or the tables are newer than this program.
        StoreUnavailable: It cannot be opened now; the message says what to do.
    """
    from .postgres import Postgres  # both engines are written in terms of this module
    from .schema import migrate
    from .sqlite import Sqlite

    database: Postgres | Sqlite
    if url.startswith(("postgresql://", "postgres://")):
        database = await Postgres.open(url)
    else:
        database = await Sqlite.open(_path(url), clock=clock)
    try:
        await migrate(database)
    except BaseException:
        await database.aclose()
        raise
    return database


def _path(url: str) -> str:
    path = url.removeprefix("sqlite:///")
    if not path or "://" in path or path.startswith(("sqlite:", "file:", ":memory:")):
        # Not quoted: an URL may hold a password.
        raise ConfigError(
            "this database is not possible: give sqlite:///path, a path of a file, or "
            "postgresql://user@host/name"
        )
    return path


class Wakes:
    """The listeners of one database in this process. For the loop's thread only."""

    def __init__(self) -> None:
        self._listeners: weakref.WeakSet[_Listener] = weakref.WeakSet()
        self._is_closed = False

    def listen(self) -> AsyncIterator[str]:
        """Return the topics woken from now on. One that is dropped is forgotten."""
        listener = _Listener()
        listener.is_closed = self._is_closed
        self._listeners.add(listener)
        return listener

    def wake(self, topic: str) -> None:
        """Tell every listener."""
        for listener in self._listeners:
            listener.push(topic)

    def close(self) -> None:
        """End every listener's loop. Idempotent."""
        self._is_closed = True
        for listener in self._listeners:
            listener.is_closed = True
            listener.is_ready.set()


class _Listener(AsyncIterator[str]):
    def __init__(self) -> None:
        self.is_ready = asyncio.Event()
        self.is_closed = False
        self._topics: dict[str, None] = {}

    def push(self, topic: str) -> None:
        if len(self._topics) < TOPICS_MAX:
            self._topics[topic] = None
            self.is_ready.set()

    async def __anext__(self) -> str:
        while not self._topics:
            if self.is_closed:
                raise StopAsyncIteration
            self.is_ready.clear()
            await self.is_ready.wait()
        topic = next(iter(self._topics))
        del self._topics[topic]
        return topic
