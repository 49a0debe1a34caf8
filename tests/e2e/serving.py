"""
Real nodes, `hitless serve` as processes, for tests that kill, stop and starve them.

All nodes of one test share the keys of a `House`, as nodes of one installation do.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
import psutil

from hitless.server.clock import wall_s
from hitless.server.serve import new_keys


START_S_MAX: Final = 30.0
STOP_S_MAX: Final = 10.0
CALL_S_MAX: Final = 20.0
"""A call that has no answer by then fails its test [s]."""

POLL_S: Final = 0.05


@dataclass
class Answer:
    """
    What a node answered.

    Attributes:
        status: HTTP status.
        body: What it said, decoded where it is JSON.
        took_s: How long it took [s].
    """

    status: int
    body: Any
    took_s: float

    @property
    def data(self) -> Any:
        """What was asked for; fails the test if it was refused."""
        assert self.status in (200, 201), (self.status, self.body)
        return self.body["data"]

    @property
    def code(self) -> str:
        """The word of an error."""
        assert self.status >= 400, (self.status, self.body)
        code: str = self.body["error"]["code"]
        return code


class Served:
    """
    One node that runs.

    Attributes:
        url: Where it listens.
        process: It.
        log: The file with its log lines.
    """

    def __init__(self, process: subprocess.Popen[bytes], log: Path, keys: Mapping[str, str]):
        self.process, self.log, self._keys = process, log, keys
        assert process.stdout is not None
        said = b""
        while not said.rstrip().endswith(b"}"):
            line = process.stdout.readline()
            assert line, f"it does not start: {log.read_text()}"
            said += line
        self.url: str = json.loads(said)["url"]

    async def call(
        self, method: str, path: str, body: object = None, *, key: str = "OWNER"
    ) -> Answer:
        """Call it once, with the owner's key or another one's."""
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(CALL_S_MAX)) as session,
            session.request(
                method, self.url + path, json=body, headers=self._headers(key)
            ) as response,
        ):
            text = await response.text()
            is_json = response.content_type == "application/json"
            said = json.loads(text) if is_json else text
            return Answer(response.status, said, loop.time() - began_s)

    async def start(self, stream: str, client: str = "pub", **more: object) -> Answer:
        """Start a stream."""
        body = {"stream": stream, "client": client, **more}
        return await self.call("POST", "/v1/start", body, key="CLIENT")

    async def join(self, stream: str, client: str) -> Answer:
        """Join a stream."""
        return await self.call(
            "POST", "/v1/join", {"stream": stream, "client": client}, key="CLIENT"
        )

    async def move(self, stream: str, provider: str) -> Answer:
        """Move a stream, as an operator does."""
        return await self.call("POST", "/v1/admin/move", {"stream": stream, "provider": provider})

    async def stream(self, stream: str) -> Answer:
        """Read a stream."""
        return await self.call("GET", f"/v1/stream?stream={stream}")

    async def until_ready(self, is_ready: bool, limit_s: float) -> str:
        """Wait until `/readyz` says that it is ready, or not; return what it said."""
        async with asyncio.timeout(limit_s):
            while True:
                answer = await self.call("GET", "/readyz")
                if (answer.status == 200) is is_ready:
                    return str(answer.body)
                await asyncio.sleep(POLL_S)

    async def until_logged(self, *texts: str, limit_s: float) -> float:
        """Wait until one log line holds all the texts; return how long it took [s]."""
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        while not any(all(text in line for text in texts) for line in self.lines()):
            assert loop.time() < began_s + limit_s, f"not within {limit_s:g} s: {texts}"
            await asyncio.sleep(POLL_S)
        return loop.time() - began_s

    def lines(self) -> list[str]:
        """Return its log lines so far."""
        return self.log.read_text().splitlines()

    @asynccontextmanager
    async def connected(self, client: str, *streams: Mapping[str, object]) -> AsyncIterator[Ear]:
        """Connect a client's WebSocket and say hello with these streams."""
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(
                self.url + "/v1/connect", headers=self._headers("CLIENT"), max_msg_size=1 << 20
            ) as socket,
        ):
            ear = Ear(socket)
            await ear.say(type="hello", client=client, streams=streams)
            await ear.until("welcome", 5.0)
            yield ear

    # --- Trouble ---

    def kill(self) -> None:
        """Kill it at once."""
        self.process.kill()
        self.process.wait(STOP_S_MAX)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, to stop it in its tracks or to let it go on."""
        self.process.send_signal(number)

    @contextmanager
    def full_disk(self, spare_bytes: int = 0) -> Iterator[None]:
        """Let none of its files grow beyond the largest of them now, as a full disk would."""
        folders = {Path(file.path) for file in psutil.Process(self.process.pid).open_files()}
        largest = max((file.stat().st_size for file in folders if file.exists()), default=0)
        pid, kind = self.process.pid, resource.RLIMIT_FSIZE
        _, hard = resource.prlimit(pid, kind)
        resource.prlimit(pid, kind, (largest + spare_bytes, hard))
        try:
            yield
        finally:
            resource.prlimit(pid, kind, (hard, hard))

    def close(self) -> None:
        """End it politely, then for good. Idempotent."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait(STOP_S_MAX)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(STOP_S_MAX)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def _headers(self, key: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._keys[f'HITLESS_{key}_KEY']}"}


@dataclass
class Ear:
    """A client's WebSocket."""

    socket: aiohttp.ClientWebSocketResponse

    async def say(self, **message: object) -> None:
        """Say one message."""
        await self.socket.send_str(json.dumps(message))

    async def until(self, kind: str, limit_s: float, **like: object) -> dict[str, Any]:
        """Hear until a message of a kind with these fields comes; fail after the limit [s]."""
        heard = []
        try:
            async with asyncio.timeout(limit_s):
                while True:
                    got = await self.socket.receive()
                    assert got.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY), got
                    message: dict[str, Any] = json.loads(got.data)
                    heard.append(message)
                    if message["type"] == kind and like.items() <= message.items():
                        return message
        except TimeoutError:
            raise AssertionError(f"no {kind} {like} within {limit_s} s, but {heard}") from None

    async def until_cut(self, limit_s: float) -> None:
        """Wait until the node is gone."""
        async with asyncio.timeout(limit_s):
            while not self.socket.closed:
                await self.socket.receive()


@dataclass
class House:
    """
    The nodes of one test; ended with it.

    Attributes:
        folder: Where logs and files lie.
        keys: What all nodes are given.
    """

    folder: Path
    keys: dict[str, str] = field(default_factory=lambda: new_keys(wall_s()))
    nodes: list[Served] = field(default_factory=list)

    def begin(self, database: str, name: str, *, port: int = 0) -> subprocess.Popen[bytes]:
        """Begin to start a node, on any port or on this one; `ready` waits for it."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith("HITLESS_")}
        words = ["serve", "--listen", f"127.0.0.1:{port}", "--name", name]
        words += ["--ready-json", "--open-list"]
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "hitless", *words],
                env={**kept, **self.keys, "HITLESS_DATABASE_URL": database},
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
            )

    def ready(self, process: subprocess.Popen[bytes], name: str) -> Served:
        """Wait until a node serves."""
        try:
            node = Served(process, self.folder / f"{name}.log", self.keys)
        except BaseException:
            process.kill()
            process.wait(STOP_S_MAX)
            assert process.stdout is not None
            process.stdout.close()
            raise
        self.nodes.append(node)
        return node

    def serve(self, database: str, name: str = "a", *, port: int = 0) -> Served:
        """Start a node and wait until it serves."""
        return self.ready(self.begin(database, name, port=port), name)

    def close(self) -> None:
        """End all nodes. Idempotent."""
        for node in self.nodes:
            node.close()


async def add_providers(node: Served, *names: str) -> None:
    """Add providers that nobody will ever reach."""
    for priority, name in enumerate(names, start=1):
        body = {
            "adapter": "whip",
            "priority": priority,
            "config": {"url": "https://media.example/whip", "view_url": "https://media.example/v"},
        }
        answer = await node.call("POST", f"/v1/admin/providers/{name}", body)
        assert answer.data["name"] == name
