"""
The store in one file: SQLite, one writer, group commit.

Every write waits in one queue. A thread takes all that wait, each into a SAVEPOINT of its own,
and commits them together: one fsync serves hundreds, and an error in one undoes only that one.
The queue lives in the loop's thread, so nothing here needs a lock.

Source: SQLite, "Write-Ahead Logging" and "PRAGMA synchronous" (FULL: what is committed outlives
a loss of power), https://sqlite.org/wal.html, https://sqlite.org/pragma.html.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

from .clock import wall_s
from .database import Dialect, Row, Sql, StatementRefused, StoreUnavailable, Value, Wakes, Written


T = TypeVar("T")

WRITES_MAX: Final = 4096
"""Writes that may wait; one more is refused at once."""

READS_MAX: Final = 1024
"""Reads that may wait or run; one more is refused at once."""

GROUP_MAX: Final = 256
"""Writes of one commit: bounds how long the first of them waits for the last."""

READERS: Final = 4
"""Threads that read, each with a connection of its own."""

LOCKED_S_MAX: Final = 2.0
"""How long another process may hold the file before a write gives up [s]."""

_LOCKED_POLL_S: Final = 0.01

_WAL_BYTES_MAX: Final = 64 << 20
"""What the journal shrinks to after a burst."""

_NUMBERS: Final = tuple(str(number) for number in range(1, 32_767))
"""Names of parameters: SQLite takes `$1` for a parameter named 1."""

_BECAUSE: Final = {
    sqlite3.SQLITE_BUSY: "the file is locked by another process: end that one",
    sqlite3.SQLITE_LOCKED: "the file is locked by another process: end that one",
    sqlite3.SQLITE_FULL: "the disk is full: free some space",
    sqlite3.SQLITE_READONLY: "the file is read-only: let this user write to it and its folder",
    sqlite3.SQLITE_PERM: "the file is read-only: let this user write to it and its folder",
    sqlite3.SQLITE_CORRUPT: "the file is damaged: restore the newest backup",
    sqlite3.SQLITE_NOTADB: "the file is no SQLite database: give another, or restore a backup",
    sqlite3.SQLITE_CANTOPEN: "the file cannot be opened: is its folder there, and may we write?",
    sqlite3.SQLITE_IOERR: "the disk failed: see the system's log",
    sqlite3.SQLITE_PROTOCOL: "the file is locked by another process: end that one",
    sqlite3.SQLITE_NOMEM: "this machine has no memory left",
}

_Result = Written | StoreUnavailable | StatementRefused


@dataclass(frozen=True, slots=True, eq=False)
class _Write:
    statements: Sequence[Sql]
    wake: str | None
    answer: asyncio.Future[Written]


class Sqlite:
    """
    A SQLite file as a `Database`. Belongs to the loop that opened it.

    Args:
        path: The file; created if it is not there, for this user only.
        clock: What `now_s()` returns [s since 1970].
        locked_s_max: How long another process may hold the file before a write gives up [s].
        writes_max: Writes that may wait.
    """

    def __init__(
        self,
        path: str,
        *,
        clock: Callable[[], float] = wall_s,
        locked_s_max: float = LOCKED_S_MAX,
        writes_max: int = WRITES_MAX,
    ) -> None:
        self._connect = partial(_connect, path, clock, locked_s_max)
        self._writes_max = writes_max
        self._loop = asyncio.get_running_loop()
        self._wakes = Wakes()
        self._waiting: deque[_Write] = deque()
        self._writer = ThreadPoolExecutor(1, "hitless-sqlite-writer")
        self._readers = ThreadPoolExecutor(READERS, "hitless-sqlite-reader")
        self._connection: sqlite3.Connection | None = None
        self._idle_readers: list[sqlite3.Connection] = []
        self._running = 0
        self._is_writing = False
        self._is_closed = False
        self._ended: asyncio.Future[None] = self._loop.create_future()

    @classmethod
    async def open(
        cls,
        path: str,
        *,
        clock: Callable[[], float] = wall_s,
        locked_s_max: float = LOCKED_S_MAX,
        writes_max: int = WRITES_MAX,
    ) -> Sqlite:
        """
        Open the file as it is; `schema.migrate` sees to the tables.

        Raises:
            StoreUnavailable: It cannot be opened; the message says what to do.
        """
        database = cls(path, clock=clock, locked_s_max=locked_s_max, writes_max=writes_max)
        try:
            await database._run(database._writer, partial(_create, path))
            await database._run(database._writer, database._open)
        except BaseException:
            await database.aclose()
            raise
        return database

    @property
    def dialect(self) -> Dialect:
        """SQLite."""
        return "sqlite"

    async def read(self, text: str, *args: Value) -> list[Row]:
        """Return the rows of one SELECT. See `Database.read`."""
        self._check_open()
        if self._running >= READS_MAX:
            raise StoreUnavailable(f"more than {READS_MAX} reads wait already: try again later")
        return await self._run(self._readers, partial(self._read, text, args))

    async def write(self, *statements: Sql, wake: str | None = None) -> Written:
        """
        Do all statements in one transaction, or none of them. See `Database.write`.

        One that is cancelled while it waits is done all the same.
        """
        self._check_open()
        if len(self._waiting) >= self._writes_max:
            raise StoreUnavailable(
                f"more than {self._writes_max} writes wait already: the disk is too slow, or "
                "another process holds the file"
            )
        write = _Write(statements, wake, self._loop.create_future())
        self._waiting.append(write)
        self._write_next()
        return await write.answer

    async def upgrade(self, *statements: Sql) -> Written:
        """Do as `write` does; it takes as long as it takes."""
        return await self.write(*statements)

    def woken(self) -> AsyncIterator[str]:
        """Return the topics woken in this process from now on."""
        return self._wakes.listen()

    async def aclose(self) -> None:
        """Do the writes that wait and close the file. Idempotent; goes on if cancelled."""
        if not self._is_closed:
            self._is_closed = True
            self._wakes.close()
            self._end_if_idle()
        await asyncio.shield(self._ended)

    # --- The loop's side ---

    def _check_open(self) -> None:
        if self._is_closed:
            raise StoreUnavailable("it was closed")

    def _write_next(self) -> None:
        if self._is_writing or not self._waiting or self._connection is None:
            return
        group = [self._waiting.popleft() for _ in range(min(len(self._waiting), GROUP_MAX))]
        self._is_writing = True
        work = partial(_commit, self._connection, group)
        done = self._loop.run_in_executor(self._writer, work)
        done.add_done_callback(partial(self._written, group))

    def _written(self, group: Sequence[_Write], done: asyncio.Future[list[_Result]]) -> None:
        self._is_writing = False
        is_done = False
        for write, result in zip(group, done.result(), strict=True):
            if isinstance(result, Exception):
                if not write.answer.done():  # done already: who waited was cancelled
                    write.answer.set_exception(result)
                continue
            is_done = True
            if not write.answer.done():
                write.answer.set_result(result)
            if write.wake is not None and result is not None:
                self._wakes.wake(write.wake)
        if self._is_closed and not is_done:
            self._give_up()  # closing stays bounded while another process holds the file
        self._write_next()
        self._end_if_idle()

    def _give_up(self) -> None:
        while self._waiting:
            write = self._waiting.popleft()
            if not write.answer.done():
                write.answer.set_exception(StoreUnavailable("it was closed"))

    async def _run(self, threads: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        """Run in a thread, to its end even if the caller is cancelled."""
        self._running += 1
        done = self._loop.run_in_executor(threads, partial(_attempt, work))
        done.add_done_callback(self._ran)
        result = await asyncio.shield(done)
        if isinstance(result, _Failed):
            raise result.error
        return result

    def _ran(self, _: object) -> None:
        self._running -= 1
        self._end_if_idle()

    def _end_if_idle(self) -> None:
        is_idle = not self._is_writing and not self._waiting and not self._running
        if self._is_closed and is_idle and not self._ended.done():
            self._running += 1  # once only
            done = self._loop.run_in_executor(self._writer, self._close_connections)
            done.add_done_callback(self._end)

    def _end(self, _: object) -> None:
        self._writer.shutdown()  # both are idle: this takes no time
        self._readers.shutdown()
        if not self._ended.done():
            self._ended.set_result(None)

    # --- The threads' side ---

    def _open(self) -> None:
        self._connection = self._connect()  # kept here: the caller may be cancelled by now

    def _read(self, text: str, args: tuple[Value, ...]) -> list[Row]:
        # list.pop and append are atomic; there are never more connections than threads.
        try:
            connection = self._idle_readers.pop()
        except IndexError:
            connection = self._connect()
            connection.execute("PRAGMA query_only = ON")
        try:
            return connection.execute(text, _bound(args)).fetchall()
        finally:
            self._idle_readers.append(connection)

    def _close_connections(self) -> None:
        opened = [*self._idle_readers, self._connection]
        for connection in opened:
            # The last one to close moves the journal into the file; a full disk only delays that.
            if connection is not None:
                with contextlib.suppress(sqlite3.Error):
                    connection.close()


@dataclass(frozen=True, slots=True)
class _Failed:
    error: Exception


def _attempt(work: Callable[[], T]) -> T | _Failed:
    """Return an error instead of raising it: nobody may be left to hear of it."""
    try:
        return work()
    except Exception as exc:
        return _Failed(_translate(exc))


def _create(path: str) -> None:
    # Only where there is none: closing a second descriptor of an open database would drop the
    # locks of the first (https://sqlite.org/howtocorrupt.html, section 2.2).
    if not os.path.lexists(path):
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


def _connect(path: str, clock: Callable[[], float], locked_s_max: float) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path,
        timeout=0.0,  # see `_use_wal`
        isolation_level=None,  # we say BEGIN and COMMIT ourselves
        check_same_thread=False,  # a connection is used by one thread at a time
        cached_statements=256,
    )
    try:
        connection.row_factory = _as_mapping
        connection.create_function("now_s", 0, clock)
        _use_wal(connection, locked_s_max)
        connection.execute(f"PRAGMA busy_timeout = {round(locked_s_max * 1e3)}").fetchall()
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES_MAX}").fetchall()
    except BaseException:
        connection.close()
        raise
    return connection


def _use_wal(connection: sqlite3.Connection, locked_s_max: float) -> None:
    # Of two processes that change the mode of a new file at once SQLite refuses one without
    # waiting, whatever its timeout is: so the waiting is done here.
    for _ in range(round(locked_s_max / _LOCKED_POLL_S)):
        with contextlib.suppress(sqlite3.OperationalError):
            connection.execute("PRAGMA journal_mode = WAL").fetchall()
            return
        time.sleep(_LOCKED_POLL_S)
    connection.execute("PRAGMA journal_mode = WAL").fetchall()


def _as_mapping(cursor: sqlite3.Cursor, row: tuple[Value, ...]) -> Row:
    return {column[0]: value for column, value in zip(cursor.description, row, strict=True)}


def _bound(args: tuple[Value, ...]) -> dict[str, Value]:
    return dict(zip(_NUMBERS, args, strict=False))


def _commit(connection: sqlite3.Connection, group: Sequence[_Write]) -> list[_Result]:
    """Write a group and return what became of each, in order. Never raises."""
    try:
        connection.execute("BEGIN IMMEDIATE")
        results = [_apply(connection, write.statements) for write in group]
        connection.execute("COMMIT")
    except Exception as exc:  # whatever it is, everybody who waits must hear of it
        if connection.in_transaction:  # a full disk may have ended it already
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
        return [_translate(exc) for _ in group]
    return results


def _apply(connection: sqlite3.Connection, statements: Sequence[Sql]) -> _Result:
    """
    Do one write inside the group's transaction.

    Raises:
        sqlite3.Error: The file or the disk fails, and with it the whole group.
    """
    connection.execute("SAVEPOINT one")
    result: _Result = []
    try:
        result = _do(connection, statements)
    except Exception as exc:
        error = _translate(exc)
        if isinstance(error, StoreUnavailable):
            raise
        result = error
    if not isinstance(result, list):
        connection.execute("ROLLBACK TO one")
    connection.execute("RELEASE one")
    return result


def _do(connection: sqlite3.Connection, statements: Sequence[Sql]) -> Written:
    found: list[list[Row]] = []
    for sql in statements:
        rows: list[Row] = []
        for args in (sql.args,) if sql.each is None else sql.each:
            cursor = connection.execute(sql.text, _bound(args))
            rows += cursor.fetchall()
        if sql.must and not rows and cursor.rowcount <= 0:
            return None
        found.append(rows)
    return found


def _translate(exc: Exception) -> StoreUnavailable | StatementRefused:
    """Return what to raise for an error of SQLite, of the disk, or of a value."""
    error: StoreUnavailable | StatementRefused
    match exc:
        case sqlite3.Error():
            code = getattr(exc, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
            if because := _BECAUSE.get(code):
                error = StoreUnavailable(because)
            else:
                error = StatementRefused(f"SQLite refuses the statement: {exc}")
        case OSError():
            error = StoreUnavailable(f"the file cannot be created: {exc.strerror}")
        case _:
            error = StatementRefused(f"SQLite cannot take a value: {type(exc).__name__}")
    error.__cause__ = exc
    return error
