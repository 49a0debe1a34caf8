"""The process that holds a provider's native SDK, as seen by the leg."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Mapping
from typing import Any, Final

from ..errors import LocalFault
from . import sdk_wire as wire
from .sdk_wire import Order


LEAVE_S: Final = 1.0
"""How long leaving may take before the process is killed [s]."""

UNSENT_MAX: Final = 1 << 20
"""Media that wait for a process that does not read [byte]: a second of 8 Mbit/s."""

_KILLED_S: Final = 0.5

_KEPT: Final = (
    *("PATH", "LANG", "LC_ALL", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR"),
)
"""What of our environment a stranger's library is given: no variable that may hold a secret."""


class SdkProcess:
    """
    The process of one leg. Make it by `begin`; whoever did closes it.

    Args:
        process: The process.
        folder: Where it may write.
    """

    def __init__(self, process: asyncio.subprocess.Process, folder: str) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process, self._folder = process, folder
        self._input, self._output = process.stdin, process.stdout

    @classmethod
    async def begin(
        cls, provider: str, worker: str, environment: Mapping[str, str] | None = None
    ) -> SdkProcess:
        """
        Start it, in a session of its own, so that an interrupt from a terminal is ours alone.

        Args:
            provider: Name for errors.
            worker: The module to run.
            environment: Variables that it is given besides.

        Raises:
            LocalFault: No process can be started.
        """
        folder = tempfile.mkdtemp(prefix="hitless-sdk-")
        try:
            process = await asyncio.create_subprocess_exec(
                # -P: what lies in the current folder is no module of ours.
                *(sys.executable, "-P", "-m", worker, folder),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,  # the SDK's own log may show what is secret
                env={**_kept(), "HOME": folder, "TMPDIR": folder, **(environment or {})},
                cwd=folder,
                start_new_session=True,
            )
        except BaseException as exc:
            shutil.rmtree(folder, ignore_errors=True)
            if isinstance(exc, OSError):
                raise LocalFault(f"{provider}: no process can be started for the SDK") from exc
            raise
        return cls(process, folder)

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    def join(self, said: Mapping[str, Any]) -> None:
        """Tell it what to join. What is secret goes through the pipe, and nowhere else."""
        self._tell(Order.JOIN, json.dumps(dict(said)).encode())

    def ask_keyframe(self) -> None:
        """Have it ask for a keyframe."""
        self._tell(Order.KEYFRAME)

    def renew(self, token: str) -> None:
        """Give it a new token, through the pipe as the first one."""
        self._tell(Order.RENEW, token.encode())

    def send(self, order: Order, body: bytes) -> bool:
        """Give it media to publish; False: it does not keep up, they were not given."""
        if self._input.transport.get_write_buffer_size() > UNSENT_MAX:
            return False
        self._tell(order, body)
        return True

    async def heard(self) -> tuple[int, bytes] | None:
        """
        Return what it says next; None: it says nothing more, ever.

        Raises:
            ValueError: It said something longer than is allowed.
        """
        try:
            kind, length = wire.HEAD.unpack(await self._output.readexactly(wire.HEAD.size))
            if length > wire.BODY_MAX:
                raise ValueError(f"a message of {length} bytes")
            return kind, await self._output.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    async def outcome(self) -> str:
        """Return how it ended, in words; it said its last."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_KILLED_S):
                code = await self._process.wait()
                return f"signal {-code}" if code < 0 else f"status {code}"
        return "it still runs"

    async def aclose(self) -> None:
        """Have it leave, kill it if it does not. Never raises; at most 2 s. Once."""
        self._tell(Order.LEAVE)
        self._input.close()
        if not await self._ends(LEAVE_S):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
            await self._ends(_KILLED_S)
        # Nothing public closes its pipes; a busy machine may not have ended it by now.
        self._process._transport.close()  # type: ignore[attr-defined]
        shutil.rmtree(self._folder, ignore_errors=True)

    # --- Inside ---

    async def _ends(self, limit_s: float) -> bool:
        """Wait for its end, reading on: a pipe that is full would keep it from ending."""
        try:
            async with asyncio.timeout(limit_s):
                while await self._output.read(1 << 16):
                    pass
                await self._process.wait()
        except TimeoutError:
            return False
        return True

    def _tell(self, order: Order, body: bytes = b"") -> None:
        if not self._input.is_closing():
            self._input.write(wire.message(order, body))


def _kept() -> dict[str, str]:
    return {name: os.environ[name] for name in _KEPT if name in os.environ}
