"""The process that holds Agora's native SDK (`agora_sdk_worker.py`), as seen by the viewer."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from ..errors import ConfigError, LocalFault
from . import agora_sdk_wire as wire
from .agora_sdk_wire import Order
from .agora_tickets import PUBLISHER_UIDS, Ticket


INSTALL: Final = "pip install 'hitless[agora-sdk]'"

LEAVE_S: Final = 1.0
"""How long leaving may take before the process is killed [s]."""

_KILLED_S: Final = 0.5
_WORKER: Final = "hitless.providers.agora_sdk_worker"

_KEPT: Final = ("PATH", "LANG", "LC_ALL", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
"""What of our environment a stranger's library is given: no variable that may hold a secret."""

_LIBRARY_PATH: Final = "DYLD_LIBRARY_PATH" if sys.platform == "darwin" else "LD_LIBRARY_PATH"


class SdkProcess:
    """
    The process of one view. Make it by `begin`; whoever did closes it.

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
    async def begin(cls, provider: str) -> SdkProcess:
        """
        Start it, in a session of its own, so that an interrupt from a terminal is ours alone.

        Raises:
            ConfigError: The SDK is not installed.
            LocalFault: No process can be started.
        """
        where = _sdk_folder(provider)
        folder = tempfile.mkdtemp(prefix="hitless-agora-")
        try:
            process = await asyncio.create_subprocess_exec(
                # -P: what lies in the current folder is no module of ours.
                *(sys.executable, "-P", "-m", _WORKER, folder),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,  # the SDK's own log may show what is secret
                env=_environment(where, folder),
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

    def join(self, app_id: str, ticket: Ticket) -> None:
        """Tell it what to join. What is secret goes through the pipe, and nowhere else."""
        said = {
            "app_id": app_id,
            "channel": ticket.channel,
            "uid": ticket.uid,
            "token": ticket.token,
            "publishers": [PUBLISHER_UIDS[0], PUBLISHER_UIDS[-1]],
        }
        self._tell(Order.JOIN, json.dumps(said).encode())

    def ask_keyframe(self) -> None:
        """Have it ask for a keyframe."""
        self._tell(Order.KEYFRAME)

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


def _sdk_folder(provider: str) -> Path:
    """Return where the SDK is installed, without importing it."""
    spec = find_spec("agora")
    folders = [] if spec is None else list(spec.submodule_search_locations or ())
    if not folders:
        raise ConfigError(missing(provider))
    return Path(folders[0])


def missing(provider: str) -> str:
    """Return what to say where the SDK is not installed."""
    return (
        f"{provider}: viewing Agora from Python needs its native SDK, which is not installed: "
        f"{INSTALL} (Linux), or watch in a browser or phone with Agora's SDK and the plan's "
        "credential, give a whep_url, or view over another provider"
    )


def _environment(sdk: Path, folder: str) -> dict[str, str]:
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    before = os.environ.get(_LIBRARY_PATH)
    # The native library's own dependencies lie beside it, says the SDK's README.
    paths = [str(sdk / "agora_sdk"), *([before] if before else [])]
    return {**kept, "HOME": folder, "TMPDIR": folder, _LIBRARY_PATH: os.pathsep.join(paths)}
