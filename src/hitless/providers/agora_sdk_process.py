"""Starting the process that holds Agora's native SDK (`agora_sdk_worker.py`)."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from ..errors import ConfigError
from .sdk_process import SdkProcess


INSTALL: Final = "pip install 'hitless[agora-sdk]'"

_WORKER: Final = "hitless.providers.agora_sdk_worker"
_LIBRARY_PATH: Final = "DYLD_LIBRARY_PATH" if sys.platform == "darwin" else "LD_LIBRARY_PATH"


async def begin(provider: str) -> SdkProcess:
    """
    Start the process; whoever does closes it.

    Raises:
        ConfigError: The SDK is not installed.
        LocalFault: No process can be started.
    """
    # The native library's own dependencies lie beside it, says the SDK's README.
    paths = [str(_sdk_folder(provider) / "agora_sdk")]
    if before := os.environ.get(_LIBRARY_PATH):
        paths.append(before)
    return await SdkProcess.begin(provider, _WORKER, {_LIBRARY_PATH: os.pathsep.join(paths)})


def missing(provider: str) -> str:
    """Return what to say where the SDK is not installed."""
    return (
        f"{provider}: viewing Agora from Python needs its native SDK, which is not installed: "
        f"{INSTALL} (Linux), or watch in a browser or phone with Agora's SDK and the plan's "
        "credential, give a whep_url, or view over another provider"
    )


def _sdk_folder(provider: str) -> Path:
    """Return where the SDK is installed, without importing it."""
    spec = find_spec("agora")
    folders = [] if spec is None else list(spec.submodule_search_locations or ())
    if not folders:
        raise ConfigError(missing(provider))
    return Path(folders[0])
