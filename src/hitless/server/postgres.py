"""
The store for several nodes: PostgreSQL over asyncpg.

A connection on which anything but a plain refusal happened (a timeout, a cancelled caller) is
thrown away: no question is worth waiting for what a server in trouble still has to say. The
URL holds a password, so no error quotes it, nor any text in which asyncpg might.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final, TypeVar

import asyncpg  # type: ignore[import-untyped]

from ..errors import ConfigError
from .database import Dialect, Row, Sql, StatementRefused, StoreUnavailable, Value, Wakes, Written


T = TypeVar("T")

ANSWER_S_MAX: Final = 3.0
"""How long a read or write may take, waiting for a connection included [s]."""

UPGRADE_S_MAX: Final = 600.0
"""How long one change of the tables may take, another node's before it included [s]."""

CONNECTIONS_MAX: Final = 8
"""Connections of one node, one more for waking not counted; the server's default limit is 100."""

ASKED_MAX: Final = 4096
"""Reads and writes that may wait or run; one more is refused at once."""

CONFLICTS_MAX: Final = 5
"""How often a transaction is begun anew because it conflicted with another one."""

IDLE_S_MAX: Final = 5.0
"""The server undoes what a node that froze within a transaction began, and frees its rows [s]."""

GONE_S_MAX: Final = 1.0
"""While tables are changed, a node that was killed is noticed within this [s]."""

LISTEN_S_MIN: Final = 0.1
LISTEN_S_MAX: Final = 5.0
"""The pause before listening again doubles from the one to the other [s]."""

ALIVE_S: Final = 10.0
"""How often the listening connection is asked whether it is alive [s]."""

CHANNEL: Final = "hitless"

_UNTIL_GONE: Final = (
    # Else the server learns that nobody listens when the statement ends, and keeps the locks
    # until then. New in PostgreSQL 14 (its manual, section 20.3.2), and refused where the kernel
    # cannot tell.
    "DO $$ BEGIN PERFORM set_config('client_connection_check_interval', "
    f"'{round(GONE_S_MAX * 1e3)}', true); "
    "EXCEPTION WHEN undefined_object OR invalid_parameter_value THEN NULL; END $$"
)

_AGAIN: Final = (
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    # Another node changed the tables since this connection prepared the statement.
    asyncpg.InvalidCachedStatementError,
)

_FAILURES: Final = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,  # TimeoutError is one
    ValueError,  # an argument or an URL that asyncpg cannot take; UnicodeError is one
)
"""What asyncpg raises, on purpose or not."""

_BECAUSE: Final = {
    "08": "the connection to PostgreSQL is lost: is it running, can this machine reach it?",
    "25": "PostgreSQL is read-only, a standby perhaps: give the URL of the primary",
    "28": "PostgreSQL does not accept our user or password: see the database's URL",
    "3D": "PostgreSQL has no such database: create it, or see the database's URL",
    "40": "PostgreSQL found one conflict after another: try again later",
    "53": "PostgreSQL has no connection, memory or disk left: see its log",
    "53100": "PostgreSQL's disk is full: free some space",
    "53300": "PostgreSQL has no connection left: raise max_connections, or end other clients",
    "55": "PostgreSQL waits for a lock: what else is running there?",
    "57": "PostgreSQL is starting or stopping, or took too long: try again later",
    "58": "PostgreSQL's disk failed: see its log",
    "XX": "PostgreSQL is damaged: see its log",
}
"""By SQLSTATE or its class (PostgreSQL, appendix A); other classes are our own mistakes."""

_UNREACHABLE: Final = "PostgreSQL cannot be reached: is it running, and is the URL right?"
_SLOW: Final = "PostgreSQL gave no answer in time: is it overloaded, or the network broken?"
_CLOSED: Final = "it was closed"


class Postgres:
    """
    A PostgreSQL database as a `Database`. Belongs to the loop that opened it.

    Args:
        url: `postgresql://user:password@host:port/name`.
        answer_s_max: How long a read or write may take [s].
    """

    def __init__(self, url: str, *, answer_s_max: float = ANSWER_S_MAX) -> None:
        self._answer_s_max = answer_s_max
        self._wakes = Wakes()
        self._asked = 0
        self._is_closed = False
        self._is_listening = asyncio.Event()
        settings = {
            "application_name": "hitless",
            "statement_timeout": str(round(answer_s_max * 1e3)),
            "idle_in_transaction_session_timeout": str(round(IDLE_S_MAX * 1e3)),
        }
        self._connect: Callable[[], Coroutine[Any, Any, Any]] = partial(
            asyncpg.connect, url, timeout=answer_s_max, server_settings=settings
        )
        self._pool = asyncpg.create_pool(
            url,
            min_size=0,
            max_size=CONNECTIONS_MAX,
            timeout=answer_s_max,
            server_settings=settings,
            reset=_as_it_is,
        )
        self._listener: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, url: str, *, answer_s_max: float = ANSWER_S_MAX) -> Postgres:
        """
        Open the database as it is; `schema.migrate` sees to the tables.

        Raises:
            ConfigError: The URL cannot be read.
            StoreUnavailable: No answer; the message says what to do.
        """
        database = cls(url, answer_s_max=answer_s_max)
        try:
            await database._pool
            await database.read("SELECT 1")
            database._listener = asyncio.create_task(database._listen(), name="listen")
        except (StatementRefused, ValueError, asyncpg.InterfaceError):
            await database.aclose()
            raise ConfigError(
                "the database's URL cannot be read: give postgresql://user:password@host/name"
            ) from None
        except BaseException:
            await database.aclose()
            raise
        return database

    @property
    def dialect(self) -> Dialect:
        """PostgreSQL."""
        return "postgresql"

    async def read(self, text: str, *args: Value) -> list[Row]:
        """Return the rows of one SELECT. See `Database.read`."""

        async def work(connection: Any) -> list[Row]:
            return [dict(record) for record in await connection.fetch(text, *args)]

        return await self._answered(work, self._answer_s_max)

    async def write(self, *statements: Sql, wake: str | None = None) -> Written:
        """Do all statements in one transaction, or none of them. See `Database.write`."""
        work = partial(_transact, statements=statements, wake=wake)
        return await self._answered(work, self._answer_s_max)

    async def upgrade(self, *statements: Sql) -> Written:
        """
        Do as `write` does, for as long as a change of the tables may take.

        If this process is killed, the server undoes it within about `GONE_S_MAX`; before
        PostgreSQL 14, when the statement ends that it is at.
        """
        settings = (Sql("SET LOCAL statement_timeout = 0"), Sql(_UNTIL_GONE))
        work = partial(_transact, statements=(*settings, *statements), wake=None)
        written = await self._answered(work, UPGRADE_S_MAX)
        return written if written is None else written[len(settings) :]

    def woken(self) -> AsyncIterator[str]:
        """Return the topics that any node wakes from now on."""
        return self._wakes.listen()

    async def listening(self) -> None:
        """Wait until wake-ups of other nodes are heard. Without this they merely come later."""
        await self._is_listening.wait()

    async def aclose(self) -> None:
        """Let what was asked end, and close. Idempotent; bounded; goes on if cancelled."""
        if self._closing is None:
            self._is_closed = True
            self._wakes.close()
            self._closing = asyncio.create_task(self._close(), name="close the store")
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        if self._listener is not None:
            self._listener.cancel()
            await asyncio.wait({self._listener})
        # asyncpg: a pool that cannot be closed in order has been terminated when this returns.
        with contextlib.suppress(*_FAILURES):
            async with asyncio.timeout(self._answer_s_max):
                await self._pool.close()

    # --- Asking, bounded ---

    async def _answered(self, work: Callable[[Any], Coroutine[Any, Any, T]], limit_s: float) -> T:
        if self._is_closed:
            raise StoreUnavailable(_CLOSED)
        if self._asked >= ASKED_MAX:
            raise StoreUnavailable(f"more than {ASKED_MAX} questions wait already: try later")
        self._asked += 1
        try:
            async with asyncio.timeout(limit_s):
                for again in range(CONFLICTS_MAX):
                    try:
                        async with self._connection() as connection:
                            return await work(connection)
                    except _AGAIN:
                        await asyncio.sleep(0.01 * 2**again)
            raise StoreUnavailable(_BECAUSE["40"])
        except _FAILURES as exc:
            raise _translate(exc, is_closed=self._is_closed) from None
        finally:
            self._asked -= 1

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Any]:
        """Lend a connection of the pool; Any: asyncpg has no types."""
        connection = await self._pool.acquire()
        is_good = False
        try:
            yield connection
            is_good = True
        except asyncpg.PostgresError:
            is_good = True  # an answer, if a bad one: the transaction was undone
            raise
        finally:
            if not is_good:
                connection.terminate()  # at once: giving it back would wait for the server
            await self._pool.release(connection)

    # --- Waking ---

    async def _listen(self) -> None:
        pause_s = LISTEN_S_MIN
        while True:
            connection = None
            try:
                connection = await self._connect()
                lost = asyncio.Event()
                connection.add_termination_listener(lambda _, lost=lost: lost.set())
                await connection.add_listener(CHANNEL, self._heard)
                self._is_listening.set()
                pause_s = LISTEN_S_MIN
                while not lost.is_set():
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(lost.wait(), ALIVE_S)
                    await connection.execute("SELECT 1", timeout=self._answer_s_max)
            except _FAILURES:
                pass  # polling goes on meanwhile, and who asks is told what is wrong
            finally:
                self._is_listening.clear()
                if connection is not None:
                    connection.terminate()
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, LISTEN_S_MAX)

    def _heard(self, connection: object, process: int, channel: str, topic: str) -> None:
        self._wakes.wake(topic)


async def _as_it_is(connection: object) -> None:
    """Leave a connection as it comes back: nothing here changes its settings."""


async def _transact(connection: Any, *, statements: tuple[Sql, ...], wake: str | None) -> Written:
    """
    Do one transaction.

    Raises:
        asyncpg.PostgresError: The server answered; the transaction is undone.
    """
    # Cancelled on the way, it is undone by closing the connection: see `_connection`.
    if len(statements) == 1 and wake is None:  # a transaction of its own, in one round trip
        rows, is_done = await _do(connection, statements[0])
        return [rows] if is_done else None
    await connection.execute("BEGIN")
    found: list[list[Row]] = []
    try:
        for sql in statements:
            rows, is_done = await _do(connection, sql)
            if not is_done:
                await connection.execute("ROLLBACK")
                return None
            found.append(rows)
        if wake is not None:
            # In the same transaction: heard if and only if it is done.
            await connection.fetch("SELECT pg_notify($1, $2)", CHANNEL, wake)
        await connection.execute("COMMIT")
    except Exception:
        if not connection.is_closed():
            await connection.execute("ROLLBACK")
        raise
    return found


async def _do(connection: Any, sql: Sql) -> tuple[list[Row], bool]:
    """Return the rows, and whether the transaction may go on."""
    if sql.each is not None:  # all of them in one round trip
        return [dict(record) for record in await connection.fetchmany(sql.text, sql.each)], True
    if sql.must and "RETURNING" not in sql.text.upper():
        status: str = await connection.execute(sql.text, *sql.args)  # such as `UPDATE 1`
        return [], not status.endswith(" 0")
    rows: list[Row] = [dict(record) for record in await connection.fetch(sql.text, *sql.args)]
    return rows, bool(rows) or not sql.must


def _translate(exc: Exception, *, is_closed: bool) -> StoreUnavailable | StatementRefused:
    """Return what to raise. Only the server's message about a statement is ever quoted."""
    if is_closed:
        return StoreUnavailable(_CLOSED)
    match exc:
        case asyncpg.PostgresError():
            state = exc.sqlstate or "XX000"
            because = _BECAUSE.get(state) or _BECAUSE.get(state[:2])
            if because is None:
                # Its first line: the details quote the row, and with it what is secret there.
                said = str(exc.args[0]) if exc.args else type(exc).__name__
                return StatementRefused(f"PostgreSQL refuses the statement ({state}): {said}")
            return StoreUnavailable(because)
        case TimeoutError():
            return StoreUnavailable(_SLOW)
        case OSError() | asyncpg.InternalClientError():
            return StoreUnavailable(_UNREACHABLE)
        case ValueError():  # asyncpg.DataError is one
            return StatementRefused(f"PostgreSQL cannot take a value: {type(exc).__name__}")
    return StoreUnavailable(_BECAUSE["08"])
