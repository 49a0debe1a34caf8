"""A real Janus on the loopback interface, with a configuration of its own, for tests."""

from __future__ import annotations

import asyncio
import base64
import hmac
import os
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from hitless.lab.real import free_port
from hitless.lab.real_janus import prepare, why_not


__all__ = ["Asker", "Server", "asking", "running", "signed_token", "why_not"]

UP_S = 30.0
"""How long Janus may take to start [s]: 1.5 s on an idle machine."""


@dataclass
class Server:
    """
    A running Janus.

    Attributes:
        url: Its WebSocket.
        process: The process itself, no shell around it.
    """

    url: str
    process: subprocess.Popen[bytes]
    log: Path

    def kill(self) -> None:
        """End it at once, as `kill -9` does."""
        self.process.kill()
        self.process.wait(UP_S)

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Hang it, as SIGSTOP does, and let it go on afterwards."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)


@asynccontextmanager
async def running(
    folder: Path,
    *,
    full_trickle: bool = False,
    api_secret: str = "",
    token_secret: str = "",
    admin_key: str = "",
    room: str = "",
    string_ids: bool = False,
) -> AsyncIterator[Server]:
    """
    Run a Janus; it is ended and awaited in any case.

    Args:
        folder: Takes configuration, shim and log.
        full_trickle: Whether its candidates follow its descriptions.
        api_secret: Asked of every request.
        token_secret: Signs the tokens that every request needs then.
        admin_key: Asked of whoever creates rooms.
        room: Lines of the room 1234; empty: there is none.
        string_ids: Whether rooms and participants have names instead of numbers.
    """
    port = free_port()
    command = prepare(
        folder,
        port=port,
        media_port=free_port(socket.SOCK_DGRAM),
        full_trickle=full_trickle,
        api_secret=api_secret,
        token_secret=token_secret,
        admin_key=admin_key,
        room=room,
        string_ids=string_ids,
    )
    log = folder / "janus.log"
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: ASYNC220 -- forking takes a millisecond
            command.argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | command.env,
        )
    server = Server(url=f"ws://127.0.0.1:{port}", process=process, log=log)
    try:
        await until_up(server)
        yield server
    finally:
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.wait(UP_S)


def signed_token(secret: str, *, valid_s: int = 600) -> str:
    """Return a token as Janus's documentation of signed tokens has it, for VideoRoom."""
    expires = int(time.time()) + valid_s  # noqa: TID251 -- a token is minted
    data = f"{expires},janus,janus.plugin.videoroom"
    signature = hmac.digest(secret.encode(), data.encode(), "sha1")
    return f"{data}:{base64.b64encode(signature).decode()}"


async def until_up(server: Server) -> None:
    """Wait until the WebSocket answers; fail with the log when Janus ends instead."""
    loop = asyncio.get_running_loop()
    until_s = loop.time() + UP_S
    async with aiohttp.ClientSession() as http:
        while loop.time() < until_s:
            if server.process.poll() is not None:
                break
            try:
                async with http.ws_connect(server.url, protocols=("janus-protocol",)):
                    return
            except aiohttp.ClientError:
                await asyncio.sleep(0.05)
    raise AssertionError(f"Janus did not start: {server.log.read_text()[-2000:]}")


@dataclass
class Asker:
    """A client of the plainest kind, to look into Janus from outside the adapter."""

    socket: aiohttp.ClientWebSocketResponse
    more: dict[str, object]
    session: int = 0
    handle: int = 0
    count: int = 0

    async def ask(self, message: dict[str, object]) -> dict[str, object]:
        """Send one request and return its answer."""
        self.count += 1
        transaction = f"asker-{self.count}"
        if self.session:
            message = {**message, "session_id": self.session}
        await self.socket.send_json({**message, **self.more, "transaction": transaction})
        async with asyncio.timeout(UP_S):
            while True:
                answer = await self.socket.receive_json()
                if answer.get("transaction") == transaction and answer["janus"] != "ack":
                    return answer

    async def room(self, body: dict[str, object]) -> dict[str, object]:
        """Ask VideoRoom and return what it says."""
        answer = await self.ask({"janus": "message", "handle_id": self.handle, "body": body})
        return answer["plugindata"]["data"]  # type: ignore[index]


@asynccontextmanager
async def asking(server: Server, **more: object) -> AsyncIterator[Asker]:
    """Attach to VideoRoom as somebody else."""
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(server.url, protocols=("janus-protocol",)) as websocket,
    ):
        asker = Asker(websocket, more)
        asker.session = (await asker.ask({"janus": "create"}))["data"]["id"]  # type: ignore[index]
        attached = await asker.ask({"janus": "attach", "plugin": "janus.plugin.videoroom"})
        asker.handle = attached["data"]["id"]  # type: ignore[index]
        yield asker
        await asker.ask({"janus": "destroy"})
