"""Meetecho's simple-whip-server, from Debian, in front of a Janus on loopback, for tests."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from interop import debian, janus

from hitless.lab.real import free_port


PACKAGE = "simple-whip-server"
UP_S = 30.0
"""How long it may take to start [s]: under 1 s on an idle machine."""

_TRIES = 3


def root() -> Path | None:
    """Return below what it is, installed or unpacked; None: it is not here."""
    for each in (Path("/"), debian.root_of(PACKAGE)):
        if (each / "usr/share" / PACKAGE / "src/server.js").is_file():
            return each
    return None


def why_not() -> str | None:
    """Return in plain words why it cannot run here; None: it can."""
    if shutil.which("node") is None:
        return "node is not installed here (Debian package nodejs)"
    if root() is None:
        return f"{PACKAGE} is not here: python tests/interop/debian.py {PACKAGE}"
    return janus.why_not()


@dataclass
class Server:
    """
    A running server.

    Attributes:
        url: Where to publish: `http://127.0.0.1:PORT/whip/endpoint/{stream}`.
        process: The process itself, no shell around it.
    """

    base: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def url(self) -> str:
        return f"{self.base}/endpoint/{{stream}}"

    async def create(self, endpoint: str, *, room: int = 1234, token: str | None = None) -> None:
        """Make an endpoint; what is published there is called as it is in the room."""
        body = {"id": endpoint, "room": room, "label": endpoint, "token": token}
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"{self.base}/create", json=body) as answer,
        ):
            assert answer.status == 200, await answer.text()

    async def published(self) -> list[str]:
        """Return the endpoints in use, as the server itself sees it."""
        async with aiohttp.ClientSession() as http, http.get(f"{self.base}/endpoints") as answer:
            return [each["id"] for each in await answer.json() if each["enabled"]]

    def kill(self) -> None:
        """End it at once, as `kill -9` does."""
        self.process.kill()
        self.process.wait(UP_S)


@asynccontextmanager
async def running(
    folder: Path, janus_url: str, *, strict_etags: bool = False
) -> AsyncIterator[Server]:
    """
    Run the server; it is ended and awaited in any case.

    Args:
        folder: Takes a copy of its program beside its configuration, and its log.
        janus_url: The WebSocket of the Janus behind it.
        strict_etags: Whether it looks at entity tags.
    """
    here = root()
    assert here is not None
    program, log = folder / "simple-whip", folder / "simple-whip.log"
    shutil.copytree(here / "usr/share" / PACKAGE / "src", program, ignore=lambda *_: ["config.js"])
    places = [here / "usr/share/nodejs", here / "usr/lib/nodejs"]
    places += (here / "usr/lib").glob("*/nodejs")
    for _ in range(_TRIES):  # a port may be taken between choosing and listening
        port = free_port()
        config = {
            "janus": {"address": janus_url},
            # What it hands to `listen`: a number would be one of all interfaces.
            "port": {"host": "127.0.0.1", "port": port},
            "rest": "/whip",
            "allowTrickle": True,
            "strictETags": strict_etags,
            "iceServers": [],
        }
        (program / "config.js").write_text(f"module.exports = {json.dumps(config)};\n")
        with log.open("wb") as output:
            process = subprocess.Popen(  # noqa: ASYNC220 -- forking takes a millisecond
                ["node", str(program / "server.js")],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ | {"NODE_PATH": os.pathsep.join(map(str, places))},
            )
        server = Server(base=f"http://127.0.0.1:{port}/whip", process=process, log=log)
        try:
            if not await is_up(server):
                continue
            yield server
            return
        finally:
            process.kill()
            process.wait(UP_S)
    raise AssertionError(f"{PACKAGE} did not start: {log.read_text()[-2000:]}")


async def is_up(server: Server) -> bool:
    """Wait until it answers; False: it ended instead."""
    loop = asyncio.get_running_loop()
    until_s = loop.time() + UP_S
    async with aiohttp.ClientSession() as http:
        while loop.time() < until_s and server.process.poll() is None:
            try:
                async with http.get(f"{server.base}/healthcheck") as answer:
                    if answer.status == 200:
                        return True
            except aiohttp.ClientError:
                await asyncio.sleep(0.05)
    return False
