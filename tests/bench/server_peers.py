"""
What the benches of the server share: nodes as processes, and lean clients of theirs.

The clients are one epoll loop over plain sockets with WebSocket frames made by hand (RFC 6455
section 5.2): whatever they cost is not the server's, and ten thousand of them fit a process.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import select
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from hitless.server.serve import new_keys


ROOT = Path(__file__).resolve().parent.parent.parent
CORES = sorted(os.sched_getaffinity(0))
SERVERS, OTHERS = {CORES[0]}, set(CORES[1:]) or {CORES[0]}
"""The server has the first core, whoever measures it the others."""


def now_s() -> float:
    """Return the time [s]; one clock for all processes of this machine."""
    return time.monotonic()  # noqa: TID251 -- no loop here


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """Lend an empty folder on the disk that the project is on: a memory disk makes no fsync."""
    (ROOT / "var").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ROOT / "var", prefix="bench-") as name:
        yield Path(name)


def begin(argv: Sequence[str], cores: set[int], **more: Any) -> subprocess.Popen[bytes]:
    """Start a Python process on these cores; its threads stay there, too."""
    return subprocess.Popen(
        [sys.executable, *argv],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
        **more,
    )


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process of ours: politely, then for good."""
    process.terminate()
    try:
        process.wait(15.0)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(10.0)
    if process.stdout is not None:
        process.stdout.close()


class Node:
    """
    A server that runs: `hitless serve`, or a peer that prints its url in the same way.

    Attributes:
        host, port: Where it listens.
        keys: What it was given, by variable.
        clients: Keys of clients; one may ask 500 times a second, so that many need many.
    """

    def __init__(self, process: subprocess.Popen[bytes], keys: Mapping[str, str]) -> None:
        self.process, self.keys = process, keys
        self.clients = [keys.get("HITLESS_CLIENT_KEY", "none")]
        assert process.stdout is not None
        said = process.stdout.readline()
        assert said, "it does not start"
        url = urlsplit(json.loads(said)["url"])
        self.host, self.port = str(url.hostname), int(url.port or 0)
        self._measured = psutil.Process(process.pid)

    def cpu_s(self) -> float:
        """Return the CPU time of all its threads so far [s]."""
        times = self._measured.cpu_times()
        return float(times.user + times.system)

    def memory(self) -> int:
        """Return the memory that it alone has [byte]."""
        return int(self._measured.memory_full_info().uss)

    def call(self, method: str, path: str, body: object = None, key: str = "") -> Any:
        """Call it once; with the owner's key if no other is given."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=60.0)
        try:
            headers = {"Authorization": f"Bearer {key or self.keys['HITLESS_OWNER_KEY']}"}
            headers["Content-Type"] = "application/json"
            connection.request(method, path, json.dumps(body) if body else None, headers)
            answer = connection.getresponse()
            said = json.loads(answer.read())
        finally:
            connection.close()
        assert answer.status < 300, (method, path, said)
        return said["data"]

    def add_providers(self, *names: str, **more: object) -> None:
        """Add providers that are never asked for media, each with a secret to mint with."""
        for priority, name in enumerate(names, start=1):
            url = f"https://{name}.example/whip"
            body = {
                "adapter": "whip",
                "priority": priority,
                "config": {"url": url, "view_url": url, "probe": "none"},
                "secrets": {"token_secret": "of-a-bench-that-mints-for-nobody"},
                **more,
            }
            self.call("POST", f"/v1/admin/providers/{name}", body)

    def add_clients(self, count: int) -> None:
        """Make more keys of clients."""
        for _ in range(count):
            made = self.call("POST", "/v1/admin/keys", {"role": "client", "name": "bench"})
            self.clients.append(made["key"])


@contextlib.contextmanager
def served(
    where: Path, name: str = "a", *, database: str = "", keys: Mapping[str, str] | None = None,
    cores: set[int] = SERVERS,
) -> Iterator[Node]:  # fmt: skip
    """Run `hitless serve`, as an operator would: nothing is configured but its database."""
    keys = keys or new_keys(0.0)
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HITLESS_")}
    words = ["serve", "--listen", "127.0.0.1:0", "--name", name, "--ready-json"]
    database = database or f"sqlite:///{where / 'hitless.db'}"
    with (where / f"{name}.log").open("ab") as log:
        process = begin(
            ["-m", "hitless", *words], cores, cwd=where, stderr=log,
            env={**kept, **keys, "HITLESS_DATABASE_URL": database},
        )  # fmt: skip
    try:
        yield Node(process, keys)
    finally:
        end(process)


# --- Lean clients ---


def frame(payload: bytes, opcode: int = 1) -> bytes:
    """Return a client's frame; masked with zeros, which every mask may be."""
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", 0x80 | opcode, 0x80 | size)
    else:
        head = struct.pack("!BBH", 0x80 | opcode, 0x80 | 126, size)
    return head + bytes(4) + payload


def say(**message: object) -> bytes:
    """Return a message as a frame."""
    return frame(json.dumps(message, separators=(",", ":")).encode())


def upgrade(key: str) -> bytes:
    """Return the request that opens a WebSocket."""
    return (
        "GET /v1/connect HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        f"Sec-WebSocket-Version: 13\r\nAuthorization: Bearer {key}\r\n\r\n"
    ).encode()


def post(path: str, key: str, body: object) -> bytes:
    """Return a POST."""
    data = json.dumps(body, separators=(",", ":"))
    return (
        f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {key}\r\nContent-Length: {len(data)}\r\n\r\n{data}"
    ).encode()


class Peer:
    """
    One end of a connection to a server.

    Attributes:
        socket: It; reads never wait.
        buffer: What came and is not whole yet.
        is_open: Whether the answer to the handshake came.
        at_s: Free for whoever uses it [s].
    """

    __slots__ = ("at_s", "buffer", "is_open", "number", "socket")

    def __init__(self, number: int, host: str, port: int) -> None:
        self.number, self.buffer, self.is_open, self.at_s = number, b"", False, 0.0
        self.socket = socket.create_connection((host, port), timeout=30.0)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, data: bytes) -> None:
        """Send all of it."""
        self.socket.sendall(data)

    def messages(self) -> list[bytes]:
        """Read what is there and return the whole messages; pings are answered."""
        data = self.socket.recv(65536)
        assert data, f"connection {self.number} was closed: {self.buffer!r}"
        data = self.buffer + data
        if not self.is_open:
            head, found, rest = data.partition(b"\r\n\r\n")
            if not found:
                self.buffer = data
                return []
            assert head.startswith(b"HTTP/1.1 101"), head
            self.is_open, data = True, rest
        found_all, at = [], 0
        while len(data) - at >= 2:
            size, start = data[at + 1], at + 2
            if size == 126:
                if len(data) - at < 4:
                    break
                size, start = int.from_bytes(data[at + 2 : at + 4], "big"), at + 4
            if len(data) < start + size:
                break
            opcode, payload = data[at] & 0x0F, data[start : start + size]
            at = start + size
            if opcode == 9:
                self.send(frame(payload, 10))
            elif opcode == 8:
                raise AssertionError(f"connection {self.number} was ended: {payload!r}")
            else:
                found_all.append(payload)
        self.buffer = data[at:]
        return found_all

    def answered(self) -> bool:
        """Read what is there of an HTTP answer; whether it is whole and went well."""
        data = self.socket.recv(65536)
        assert data, f"connection {self.number} was closed: {self.buffer!r}"
        self.buffer += data
        head, found, body = self.buffer.partition(b"\r\n\r\n")
        if not found:
            return False
        size = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n", 1)[0])
        if len(body) < size:
            return False
        assert head[9:10] == b"2", self.buffer
        self.buffer = b""
        return True


class Crowd:
    """Many peers, and one epoll over them."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._epoll = select.epoll()
        self.by_fd: dict[int, Peer] = {}
        self.peers: list[Peer] = []

    def connect(self, count: int) -> list[Peer]:
        """Connect so many more."""
        made = [Peer(len(self.peers) + n, self._host, self._port) for n in range(count)]
        for peer in made:
            self.by_fd[peer.socket.fileno()] = peer
            self._epoll.register(peer.socket.fileno(), select.EPOLLIN)
        self.peers += made
        return made

    def ready(self, wait_s: float) -> list[Peer]:
        """Return those that have something to read, after this time at the latest [s]."""
        return [self.by_fd[fd] for fd, _ in self._epoll.poll(max(wait_s, 0.0), 1024)]

    def until(self, is_done: Callable[[], bool], heard: Callable[[Peer, bytes], None]) -> None:
        """Read messages until something is so; a minute at most."""
        until_s = now_s() + 60.0
        while not is_done():
            assert now_s() < until_s, "no answer for a minute"
            for peer in self.ready(0.1):
                for message in peer.messages():
                    heard(peer, message)

    def join(self, keys: Sequence[str], hello: Callable[[int], bytes], count: int) -> None:
        """Open so many WebSockets and say hello on each; 200 at a time, until all are welcome."""
        welcome = 0

        def heard(_: Peer, message: bytes) -> None:
            nonlocal welcome
            welcome += b'"welcome"' in message

        for at in range(0, count, 200):
            made = self.connect(min(200, count - at))
            for peer in made:
                peer.send(upgrade(keys[peer.number % len(keys)]))
            # Said once the other side is a WebSocket: what comes before would be lost in some.
            self.until(lambda made=made: all(peer.is_open for peer in made), heard)
            for peer in made:
                peer.send(hello(peer.number))
            self.until(lambda at=at, made=made: welcome >= at + len(made), heard)


# --- Figures ---


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that this share of all does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return median, least and most."""
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def answer(process: subprocess.Popen[bytes], limit_s: float = 120.0) -> Any:
    """Return the next line of JSON that a process says; it must within the limit [s]."""
    assert process.stdout is not None
    assert select.select([process.stdout], [], [], limit_s)[0], f"no answer in {limit_s:g} s"
    line = process.stdout.readline()
    assert line, "the process ended instead of answering"
    return json.loads(line)


def reply(figures: object) -> None:
    """Say a line of JSON to whoever started this process."""
    sys.stdout.write(json.dumps(figures) + "\n")
    sys.stdout.flush()
