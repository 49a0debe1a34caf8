"""What the stage needs of a real server that stands in a stand-in's place; ports and processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import socket
import subprocess
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple, Protocol

from ..errors import ConfigError, LocalFault
from .process import START_S_MAX, Process


_ADMIN_FOLDERS: Final = ("/usr/sbin", "/usr/local/sbin")
"""Where Debian has servers; a user's PATH leaves them out."""

_PS_S_MAX: Final = 5.0
_PORTS: Final = range(20_000, 32_000)
_TRIES: Final = 50
_LOOK_S: Final = 0.05


class Command(NamedTuple):
    """How a server is started in the foreground: arguments, and what is added to our variables."""

    argv: list[str]
    env: dict[str, str]


class Real(Protocol):
    """
    A real server of the stage.

    Attributes:
        adapter: Which adapter speaks to it.
        url: Where it is published to.
        options: What that adapter needs besides the name; nothing in it is secret.
        control_url: Answers GET while it is up.
    """

    adapter: str

    @property
    def url(self) -> str: ...

    @property
    def options(self) -> Mapping[str, Any]: ...

    @property
    def control_url(self) -> str: ...

    def prepare(self) -> Command:
        """Write its configuration, and return how it is started. Blocks for up to a second."""
        ...

    async def is_up(self) -> bool:
        """Whether it takes publishers and players now; bounded, never raises."""
        ...

    async def inject(self, fault: str, on: bool, streams: Iterable[str]) -> None:
        """
        Turn a fault that stand-ins have on or off. Idempotent.

        Args:
            fault: Its name.
            on: Whether to break or to heal.
            streams: The ids that may be on air; read again and again while it is on.

        Raises:
            ConfigError: This server cannot be made to fail in that way.
            LocalFault: It did not do as it was told.
        """
        ...

    async def aclose(self) -> None:
        """End what runs beside the server's own process. Idempotent; bounded."""
        ...


async def until_up(real: Real, process: Process) -> None:
    """
    Wait until a server takes publishers and players.

    Raises:
        LocalFault: It ended instead, or it was not up in time.
    """
    clock = asyncio.get_running_loop().time
    until_s = clock() + START_S_MAX
    while not await real.is_up():
        if process.is_over:
            raise LocalFault(f"{process.name} ended before it was up")
        if clock() > until_s:
            raise LocalFault(f"{process.name}: not up within {START_S_MAX:g} s")
        await asyncio.sleep(_LOOK_S)


def not_possible(fault: str, server: str, possible: Iterable[str]) -> ConfigError:
    """Return what to raise for a fault that only stand-ins can have."""
    return ConfigError(
        f"{fault} cannot be injected in a real {server}: it can have killed, hang, "
        f"{', '.join(possible)}; a stand-in can have all faults"
    )


def where_is(program: str) -> str | None:
    """Return the path of a program, those for administrators included; None: not installed."""
    folders = [os.environ.get("PATH", os.defpath), *_ADMIN_FOLDERS]
    return shutil.which(program, path=os.pathsep.join(folders))


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """
    Return a port of the loopback interface that nobody uses now.

    It is below those that kernels give to sockets which ask for any, so nobody takes it by chance
    before the server listens.

    Raises:
        LocalFault: None was found.
    """
    for _ in range(_TRIES):
        port = _PORTS.start + secrets.randbelow(len(_PORTS))
        with socket.socket(socket.AF_INET, kind) as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise LocalFault("no free port was found on the loopback interface")


def family(pid: int) -> list[int]:
    """
    Return a process and its children, the parent first: it would start killed ones again.

    Raises:
        LocalFault: `ps` did not answer.
    """
    try:
        said = subprocess.run(
            ["ps", "-A", "-o", "pid=,ppid="],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PS_S_MAX,
            text=True,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as exc:
        raise LocalFault(f"ps did not answer: {type(exc).__name__}") from exc
    pairs = [line.split() for line in said.stdout.splitlines()]
    return [pid, *(int(child) for child, parent in pairs if int(parent) == pid)]
