"""
A real PostgreSQL server for tests, and both engines of the store as one fixture.

A module that wants them says `pytest_plugins = ("postgres_server",)`.

The server is started when the first test asks for it and ended after the last one; its data lie
in a temporary folder. It speaks over a Unix socket in that folder, so no port is ever taken.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote

import asyncpg
import psutil
import pytest

from hitless.server.clock import wall_s
from hitless.server.database import Database, Sql, open_database


START_S_MAX: Final = 30.0
STOP_S_MAX: Final = 10.0

WHY_SKIPPED: Final = (
    "needs a PostgreSQL server's programs (apt-get install postgresql) and, for root, a user "
    "named postgres or nobody to run them as"
)


class PostgresServer:
    """
    A server of our own.

    Attributes:
        folder: Where its data and its socket lie.
    """

    user = "hitless"
    password = "correct-horse-battery"
    connections_max = 40

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        self._names = itertools.count()
        self._process: subprocess.Popen[bytes] | None = None
        self._as_user = _somebody()
        self.folder = Path(tempfile.mkdtemp(prefix="hitless-pg-"))
        if user := self._as_user.get("user"):
            shutil.chown(self.folder, user, self._as_user["group"])
        pwfile = self.folder / "password"
        pwfile.write_text(self.password)
        self._run("initdb", "--no-sync", "-D", self._data, "-U", self.user, "-E", "UTF8",
                  "--locale=C", "--auth=password", f"--pwfile={pwfile}")  # fmt: skip
        self.start()

    @property
    def _data(self) -> str:
        return str(self.folder / "data")

    def url(self, name: str, *, password: str = password) -> str:
        """Return the URL of a database."""
        return (
            f"postgresql://{self.user}:{password}@/{name}?host={quote(str(self.folder), safe='')}"
        )

    def start(self) -> None:
        """Start the server and wait until it answers."""
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.folder),
            "max_connections": str(self.connections_max),
            "fsync": "off",
            "full_page_writes": "off",
            "autovacuum": "off",
            "shared_buffers": "16MB",
        }
        words = [str(self._programs / "postgres"), "-D", self._data]
        words += [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        if setpriv := shutil.which("setpriv"):  # ends with us, however we end
            words = [setpriv, "--pdeathsig", "INT", *words]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                words, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, **self._as_user,
            )  # fmt: skip
        _wait_for(self._is_ready, START_S_MAX)

    def stop(self) -> None:
        """Stop the server at once, as an operator in a hurry would. Idempotent."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_S_MAX)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop the server's processes in their tracks for a while: it takes bytes, and is mute."""
        assert self._process is not None
        main = psutil.Process(self._process.pid)
        processes = [main, *main.children(recursive=True)]
        for process in processes:
            process.suspend()
        try:
            yield
        finally:
            for process in processes:
                process.resume()

    def close(self) -> None:
        """Stop the server and remove its data. Idempotent."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    async def new_database(self) -> str:
        """Create a database and return its URL."""
        name = f"t{next(self._names)}"
        connection = await asyncpg.connect(self.url("postgres"))
        try:
            await connection.execute(f"CREATE DATABASE {name}")
        finally:
            await connection.close()
        return self.url(name)

    def _is_ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "log").read_text()
        status = self.folder / "data" / "postmaster.pid"  # its eighth line says how it is
        return status.exists() and "ready" in status.read_text()

    def _run(self, program: str, *words: str) -> None:
        done = subprocess.run(
            [str(self._programs / program), *words], cwd=self.folder, stdin=subprocess.DEVNULL,
            capture_output=True, timeout=START_S_MAX, check=False, **self._as_user,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr.decode()


def programs() -> Path:
    """Return the folder of the newest server's programs; skip the test if there is none."""
    found = [Path(path).parent] if (path := shutil.which("postgres")) else []
    found += sorted(
        Path("/usr/lib/postgresql").glob("*/bin"),
        key=lambda folder: [int(number) for number in re.findall(r"\d+", str(folder))],
        reverse=True,
    )
    good = (
        folder for folder in found if all((folder / p).exists() for p in ("postgres", "initdb"))
    )
    folder = next(good, None)
    if folder is None or (os.geteuid() == 0 and not _somebody()):
        pytest.skip(WHY_SKIPPED)
    return folder


def _somebody() -> dict[str, object]:
    """Return as whom to run it: the server refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    import pwd

    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    return {}


def _wait_for(is_so, limit_s: float) -> None:
    until_s = time.monotonic() + limit_s  # noqa: TID251 -- no loop here
    while not is_so():
        assert time.monotonic() < until_s, "PostgreSQL does not start"  # noqa: TID251
        time.sleep(0.01)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """The one server of this test process."""
    server = PostgresServer(programs())
    yield server
    server.close()


@pytest.fixture
def own_postgres_server() -> Iterator[PostgresServer]:
    """A server that this test may stop, start and break."""
    server = PostgresServer(programs())
    yield server
    server.close()


# --- Both engines ---


class Engine:
    """
    One of the two engines.

    Attributes:
        name: `sqlite` or `postgres`.
        at_s: What the database's clock of SQLite shows [s]; None: the real time.
    """

    def __init__(self, folder: Path, server: PostgresServer | None) -> None:
        self._folder = folder
        self._server = server
        self._numbers = itertools.count()
        self._made: str | None = None
        self.name = "sqlite" if server is None else "postgres"
        self.at_s: float | None = None

    async def empty_url(self) -> str:
        """Return the URL of a database with the newest tables, all of them empty."""
        if self._made is None:
            self._made = await self.new_url()
            await (await self.open(self._made)).aclose()
        if self._server is None:
            url = await self.new_url()
            shutil.copyfile(_path(self._made), _path(url))
            return url
        connection = await asyncpg.connect(self._made)  # emptied: a new one would take 0.2 s
        try:
            tables = await connection.fetch(
                "SELECT tablename FROM pg_tables WHERE schemaname = 'public' "
                "AND tablename <> 'schema_version'"
            )
            await connection.execute(";".join(f"DELETE FROM {name}" for (name,) in tables))
        finally:
            await connection.close()
        return self._made

    async def new_url(self) -> str:
        """Return the URL of a database that has no tables."""
        if self._server is not None:
            return await self._server.new_database()
        return f"sqlite:///{self._folder}/{next(self._numbers)}.db"

    async def open(self, url: str) -> Database:
        """Open a database as a node does."""
        return await open_database(url, clock=self._clock)

    @asynccontextmanager
    async def database(self) -> AsyncIterator[Database]:
        """Lend a database with the newest tables, all of them empty."""
        async with self.nodes(1) as (database,):
            yield database

    @asynccontextmanager
    async def nodes(self, count: int) -> AsyncIterator[list[Database]]:
        """Lend one empty database, opened as often as there are nodes."""
        self.at_s = None
        url = await self.empty_url()
        opened = [await self.open(url) for _ in range(count)]
        try:
            yield opened
        finally:
            self.at_s = None
            for database in opened:
                await database.aclose()

    async def set_clock(self, database: Database, at_s: float) -> None:
        """Stop the database's clock at a time [s]; the next `nodes` have the real one again."""
        self.at_s = at_s
        if self._server is not None:
            await database.write(
                Sql(
                    "CREATE OR REPLACE FUNCTION now_s() RETURNS DOUBLE PRECISION LANGUAGE sql "
                    f"VOLATILE AS 'SELECT CAST({at_s!r} AS DOUBLE PRECISION)'"
                )
            )

    def _clock(self) -> float:
        return wall_s() if self.at_s is None else self.at_s


def _path(url: str) -> str:
    return url.removeprefix("sqlite:///")


@pytest.fixture(
    scope="session", params=["sqlite", pytest.param("postgres", marks=pytest.mark.realtime)]
)
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """Each engine in turn; PostgreSQL only where it is installed."""
    is_sqlite = request.param == "sqlite"
    server = None if is_sqlite else request.getfixturevalue("postgres_server")
    return Engine(tmp_path_factory.mktemp("databases"), server)


@pytest.fixture(scope="session")
def postgres(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """PostgreSQL alone, for what only a server does."""
    return Engine(tmp_path_factory.mktemp("databases"), postgres_server)
