"""A real LiveKit server on loopback, if there is one: the environment or PATH names it."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
import socket
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from hitless.errors import ProviderError
from hitless.providers.clock import wall_s
from hitless.providers.livekit import LiveKit
from hitless.providers.livekit_token import mint


PROGRAM = os.environ.get("HITLESS_LIVEKIT_SERVER") or shutil.which("livekit-server")
LIMIT_S = 60.0
KEY, SECRET = "key-of-the-test", "a secret of thirty-two characters or more"

with_server = pytest.mark.skipif(
    PROGRAM is None,
    reason="no livekit-server here: put it on PATH or name it in HITLESS_LIVEKIT_SERVER",
)
with_client = pytest.mark.skipif(
    importlib.util.find_spec("livekit") is None or importlib.util.find_spec("livekit.rtc") is None,
    reason="livekit is not installed: pip install livekit livekit-api",
)


@dataclass
class Server:
    url: str
    child: asyncio.subprocess.Process

    def livekit(self, **settings):
        return LiveKit(**{"url": self.url, "api_key": KEY, "api_secret": SECRET, **settings})


def free_port(kind):
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@asynccontextmanager
async def running(folder):
    """A server of its own, with loopback as its only way to the world."""
    port, media = free_port(socket.SOCK_STREAM), free_port(socket.SOCK_DGRAM)
    config = folder / "livekit.yaml"
    config.write_text(
        f"port: {port}\nbind_addresses: [127.0.0.1]\nkeys: {{{KEY}: {SECRET}}}\n"
        f"rtc: {{udp_port: {media}, tcp_port: 0, node_ip: 127.0.0.1, use_external_ip: false, "
        "enable_loopback_candidate: true, interfaces: {includes: [lo]}}\n"
        "logging: {level: error}\n"
    )
    with (folder / "log").open("wb") as log:
        child = await asyncio.create_subprocess_exec(
            PROGRAM, "--config", str(config), stdout=log, stderr=log
        )
    try:
        server = Server(f"ws://127.0.0.1:{port}", child)
        probe = server.livekit()
        async with asyncio.timeout(LIMIT_S):
            while True:
                try:
                    await probe.check()
                    break
                except ProviderError:
                    await asyncio.sleep(0.1)
        await probe.aclose()
        yield server
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()


def run(test, folder):
    async def main():
        async with asyncio.timeout(3 * LIMIT_S), running(folder) as server:
            await test(server)

    asyncio.run(main())


def token(grants, identity):
    return mint(KEY, SECRET, grants, now_s=wall_s(), ttl_s=600.0, identity=identity)
