"""
What ten thousand connected clients cost one node, and how soon all of them hear of an event.

    python tests/bench/bench_clients.py [--clients N] [--json FILE]

All watch one stream and report every 10 s; an operator moves the stream several times, and each
client confirms that it followed, one to five seconds later. Beside the time from the order to the
last of them stands what the same bytes take from a bare loop of `send` to as many sockets, in the
same run. The longest pause of the event loop is what another process sees that asks `/livez` a
hundred times a second meanwhile; fan-out, collections and its wait for a core are in it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import resource
import select
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from server_peers import (
    OTHERS,
    Crowd,
    Node,
    Peer,
    answer,
    end,
    folder,
    now_s,
    percentile,
    reply,
    say,
    served,
    spread,
)

from hitless.server.database import open_database
from hitless.server.store_members import Member, Members, Role


ME = str(Path(__file__).resolve())
CLIENTS, MOVES, KEYS, BETWEEN_S, REPORT_S = 10_000, 5, 20, 8.0, 10.0
PROBE_S, FOLLOW_S = 0.01, 4.0


# --- Child roles ---


def play_clients(host: str, port: int, keys: list[str], count: int) -> None:
    """One publisher and many viewers; say when the last of them has heard of each placement."""
    crowd = Crowd(host, port)

    def hello(number: int) -> bytes:
        role = "viewer" if number else "publisher"
        seen = {"stream": "show", "role": role, "epoch": 1, "provider": "one"}
        return say(type="hello", client=f"client-{number}", streams=[seen])

    begun_s = now_s()
    crowd.join(keys, hello, count)
    reply({"connect_s": now_s() - begun_s})
    report = say(
        type="report", stream="show", provider="one", mediaAge=0.03, packetsLost=3,
        jitter=0.004, roundTripTime=0.02, framesPerSecond=30.0,
    )  # fmt: skip
    times: list[float] = []
    confirms: deque[tuple[float, Peer, bytes]] = deque()
    sent, begun_s = 0, now_s()
    while True:
        while sent < (now_s() - begun_s) * count / REPORT_S:
            crowd.peers[sent % count].send(report)
            sent += 1
        while confirms and confirms[0][0] <= now_s():
            _, peer, message = confirms.popleft()
            told = json.loads(message)
            peer.send(say(type="confirm", stream="show", epoch=told["epoch"],
                          provider=told["provider"]))  # fmt: skip
        for peer in crowd.ready(0.001):
            for message in peer.messages():
                if b'"placement"' not in message:
                    continue
                times.append(now_s())
                # Its media has to arrive first, and not everybody's does at once.
                due_s = times[0] + 1.0 + FOLLOW_S * len(times) / count
                confirms.append((due_s, peer, message))
                if len(times) == count:
                    reply({"first_s": times[0], "last_s": times[-1]})
                    times = []


def play_prober(host: str, port: int) -> None:
    """Ask whether the server lives, and for each line that comes say how long it took since."""
    with contextlib.suppress(PermissionError):
        os.nice(-10)  # what is measured is not our own wait for a core
    ask = b"GET /livez HTTP/1.1\r\nHost: bench\r\n\r\n"
    peer, took_s, due_s = Peer(0, host, port), list[float](), now_s()
    while True:
        begun_s = now_s()
        peer.send(ask)
        while not peer.answered():
            pass
        took_s.append(now_s() - begun_s)
        due_s = max(due_s + PROBE_S, now_s())
        if select.select([sys.stdin], [], [], max(0.0, due_s - now_s()))[0]:
            if not sys.stdin.buffer.raw.read(1):  # type: ignore[attr-defined]  # not buffered
                return
            reply(took_s)
            took_s = []


def play_bare(count: int) -> None:
    """Send a placement to many sockets, as fast as a plain loop does; say how long it took."""
    message = json.dumps({"type": "placement", "stream": "show", "epoch": 2, "provider": "one",
                          "because": "moved by an operator"}).encode()  # fmt: skip
    pairs = [socket.socketpair() for _ in range(count // 2)]
    times = []
    for _ in range(5):
        begun_s = now_s()
        for near, _far in pairs:
            near.send(message)
        times.append((now_s() - begun_s) * 2)
        for _, far in pairs:
            far.recv(4096)
    reply(times)


# --- The measurement ---


class Child:
    """A child process that is asked by a byte and answers with a line of JSON."""

    def __init__(self, role: str, told: list[Any]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, ME, "--role", role, "--told", json.dumps(told)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            preexec_fn=lambda: os.sched_setaffinity(0, OTHERS),
        )

    def ask(self) -> Any:
        """Return its answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"?")
        self.process.stdin.flush()
        return answer(self.process)


@contextlib.contextmanager
def child(role: str, *told: Any) -> Iterator[Child]:
    """Run a role beside the server."""
    one = Child(role, list(told))
    try:
        yield one
    finally:
        assert one.process.stdin is not None
        one.process.stdin.close()
        end(one.process)


async def add_members(path: Path, count: int) -> None:
    """Note the viewers in the database, as their `POST /v1/join` did before."""
    database = await open_database(f"sqlite:///{path}")
    try:
        members = Members(database)
        for at in range(1, count, 1000):
            await asyncio.gather(
                *(
                    members.join(Member(stream="show", client=f"client-{number}",
                                        role=Role.VIEWER, node="a", adapters=("whip",)))
                    for number in range(at, min(at + 1000, count))
                )
            )  # fmt: skip
    finally:
        await database.aclose()


def measure(count: int) -> dict[str, Any]:
    """Return all figures."""
    with folder() as where, served(where) as node:
        node.add_providers("one", "two")
        node.add_clients(KEYS)
        node.call("POST", "/v1/start", {"stream": "show", "client": "client-0"}, node.clients[0])
        asyncio.run(add_members(where / "hitless.db", count))
        return measure_node(node, count)


def measure_node(node: Node, count: int) -> dict[str, Any]:
    """Connect everybody, move the stream again and again, and look how long it all takes."""
    with child("prober", node.host, node.port) as prober:
        time.sleep(1.0)
        prober.ask()
        before, cpu_s = node.memory(), node.cpu_s()
        # The publisher's name belongs to one key, as everybody's does.
        with child("clients", node.host, node.port, node.clients, count) as clients:
            connect_s = answer(clients.process)["connect_s"]
            connect_cpu_s = node.cpu_s() - cpu_s
            connecting = prober.ask()
            time.sleep(3.0)
            memory = (node.memory() - before) / count
            last_s, first_s, pauses = [], [], []
            prober.ask()
            cpu_s = node.cpu_s()
            time.sleep(REPORT_S)  # each client reports once
            steady, steady_cpu = prober.ask(), (node.cpu_s() - cpu_s) / REPORT_S
            for number in range(MOVES):
                begun_s = now_s()
                target = ("two", "one")[number % 2]
                node.call("POST", "/v1/admin/move", {"stream": "show", "provider": target})
                told = answer(clients.process)
                first_s.append(told["first_s"] - begun_s)
                last_s.append(told["last_s"] - begun_s)
                time.sleep(BETWEEN_S)
                pauses.append(max(prober.ask()))
            after = (node.memory() - before) / count
    with child("bare", count) as bare:
        bare_s = answer(bare.process)
    return {
        "clients": count,
        "connect_s": connect_s,
        "connect_cpu_s": connect_cpu_s / count,
        "connect_pause_s": max(connecting),
        "client_bytes": memory,
        "client_bytes_after": after,
        "steady_cpu": steady_cpu,
        "steady_pause_s": max(steady),
        "steady_p99_s": percentile(steady, 0.99),
        "first_s": spread(first_s),
        "last_s": spread(last_s),
        "bare_s": spread(bare_s),
        "pause_s": spread(pauses),
    }


def table(figures: dict[str, Any]) -> str:
    """Return the figures as people read them."""
    count = figures["clients"]
    head = f"{count:,} clients of one node"
    lines = [f"{head:<52}{'median':>9}{'least':>9}{'most':>9}{'ratio':>9}"]

    def line(name: str, of: dict[str, float], scale: float, ratio: str = "") -> None:
        three = "".join(f"{scale * of[k]:>9.1f}" for k in ("median", "least", "most"))
        lines.append(f"{name:<52}{three}{ratio:>9}")

    def one(name: str, value: float) -> None:
        lines.append(f"{name:<52}{value:>9.1f}")

    one("memory of a client [KiB]", figures["client_bytes"] / 1024)
    one("the same after all the moves [KiB]", figures["client_bytes_after"] / 1024)
    one("CPU of a connect [us]", 1e6 * figures["connect_cpu_s"])
    one("CPU while all report [% of a core]", 100 * figures["steady_cpu"])
    ratio = figures["last_s"]["median"] / figures["bare_s"]["median"]
    line("from a move to the last client [ms]", figures["last_s"], 1e3, f"{ratio:.1f}")
    line("from a move to the first client [ms]", figures["first_s"], 1e3)
    line("the same bytes by a bare loop of send [ms]", figures["bare_s"], 1e3)
    line("longest pause around a move [ms]", figures["pause_s"], 1e3)
    one("longest pause while all report [ms]", 1e3 * figures["steady_pause_s"])
    one("longest pause while all connect [ms]", 1e3 * figures["connect_pause_s"])
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[1])
    parser.add_argument("--clients", type=int, default=CLIENTS, help="how many")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--role", help=argparse.SUPPRESS)
    parser.add_argument("--told", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    match options.role:
        case "clients":
            return play_clients(*options.told)
        case "prober":
            return play_prober(*options.told)
        case "bare":
            return play_bare(*options.told)
    figures = measure(min(options.clients, most - 1000))
    sys.stdout.write(table(figures))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
