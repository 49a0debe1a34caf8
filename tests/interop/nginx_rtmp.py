"""
A real nginx with its RTMP module, for tests: on loopback, in a temporary folder.

Its master and its one worker can be killed and stopped; both are ended by their ids.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Final

import psutil

from hitless.lab.real import free_port
from hitless.lab.real_nginx import WHY_NOT, module, prepare


__all__ = ["WHY_SKIPPED", "NginxRtmp", "module"]


START_S_MAX: Final = 20.0
STOP_S_MAX: Final = 10.0
_TRIES: Final = 5

WHY_SKIPPED: Final = WHY_NOT

_MORE: Final = """
    application strict { live on; idle_streams off; }
    application closed { live on; deny publish all; deny play all; }
    application deaf { live on; record off; }
"""


class NginxRtmp:
    """
    One nginx; a context manager.

    Attributes:
        url: Where to publish and to play: `rtmp://127.0.0.1:PORT/live/{stream}`.
        control_url: Its HTTP control.
        version: What it says of itself.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self.folder = Path(tempfile.mkdtemp(prefix="hitless-nginx-"))
        self.port = 0
        self.control_url = ""
        said = subprocess.run(["nginx", "-v"], capture_output=True, text=True, timeout=10)
        self.version = said.stderr.strip()

    def __enter__(self) -> NginxRtmp:
        try:
            for _ in range(_TRIES):  # a port may be taken between choosing and listening
                if self._start():
                    return self
            raise AssertionError((self.folder / "error.log").read_text())
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        return self.at("live")

    def at(self, app: str) -> str:
        """Return the URL of another application."""
        return f"rtmp://127.0.0.1:{self.port}/{app}/{{stream}}"

    def kill(self) -> None:
        """Kill master and worker as `kill -9` does, the master first: else it starts another."""
        for process in self._processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def freeze(self) -> None:
        """Stop master and worker in their tracks: the kernel goes on taking bytes for them."""
        for process in self._processes():
            process.suspend()

    def thaw(self) -> None:
        """Let them go on."""
        for process in self._processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()

    def drop(self, role: str, stream: str, app: str = "live") -> None:
        """Have the server drop a `publisher` or the `subscriber`s of a stream."""
        url = f"{self.control_url}/drop/{role}?app={app}&name={stream}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            answer.read()

    def publishers(self) -> list[str]:
        """Return the names of the streams that are on air."""
        with urllib.request.urlopen(self.control_url.replace("control", "stat"), timeout=10) as it:
            page = it.read().decode()
        streams = re.findall(r"<stream>\s*<name>(.*?)</name>(.*?)</stream>", page, re.S)
        return [name for name, rest in streams if "<publishing/>" in rest]

    def close(self) -> None:
        """End it and remove its folder. Idempotent."""
        self._stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    # --- Inside ---

    def _processes(self) -> list[psutil.Process]:
        if self._process is None or self._process.poll() is not None:
            return []
        main = psutil.Process(self._process.pid)
        return [main, *main.children(recursive=True)]

    def _start(self) -> bool:
        self.port, http = free_port(), free_port()
        self.control_url = f"http://127.0.0.1:{http}/control"
        command = prepare(self.folder, port=self.port, http_port=http, more=_MORE)
        self._process = subprocess.Popen(
            command.argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        until_s = time.monotonic() + START_S_MAX  # noqa: TID251 -- no loop here
        while time.monotonic() < until_s and self._process.poll() is None:  # noqa: TID251
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return True
            time.sleep(0.02)
        self._stop()
        return False

    def _stop(self) -> None:
        process = self._process
        if process is None:
            return
        everyone = self._processes()
        self.thaw()
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_S_MAX)
        for each in everyone:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
        process.wait(STOP_S_MAX)
        self._process = None
