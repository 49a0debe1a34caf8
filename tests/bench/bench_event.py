"""
How soon the last client of two nodes hears that a provider's streams go elsewhere.

    python tests/bench/bench_event.py [--streams N] [--json FILE]

Two nodes on PostgreSQL, half of the streams and of the clients at each, one publisher and one
viewer a stream. Two ways, which take turns in one run: an operator's order for the whole provider
(one row, one wake-up; each node works out its own streams), and, beside it, one change and one
NOTIFY for each stream, eight at a time, of which the same nodes then tell their clients. The
targets accept what comes: nothing here is paced by them. Clients confirm 3 s after they heard.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
from server_peers import (
    OTHERS,
    Crowd,
    Peer,
    answer,
    end,
    folder,
    now_s,
    reply,
    say,
    served,
    spread,
)

from hitless.server.database import Sql, open_database
from hitless.server.serve import new_keys
from hitless.server.store_streams import Start, Streams


sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from postgres_server import PostgresServer, programs


ME = str(Path(__file__).resolve())
STREAMS, ROUNDS, AT_ONCE, SETTLE_S, FOLLOW_S = 1000, 4, 8, 8.0, 3.0


def play_clients(host: str, port: int, keys: list[str], names: list[str]) -> None:
    """A publisher and a viewer of each stream; say each time when the last had heard."""
    crowd = Crowd(host, port)

    def hello(number: int) -> bytes:
        role = ("publisher", "viewer")[number % 2]
        seen = {"stream": names[number // 2], "role": role, "epoch": 1, "provider": "one"}
        return say(type="hello", client=f"{role}-{names[number // 2]}", streams=[seen])

    crowd.join(keys, hello, 2 * len(names))
    reply("ready")
    epoch, moved, last_s = 1, set[int](), 0.0
    confirms: deque[tuple[float, Peer, dict[str, Any]]] = deque()
    while True:
        while confirms and confirms[0][0] <= now_s():
            _, peer, told = confirms.popleft()
            peer.send(say(type="confirm", stream=told["stream"], epoch=told["epoch"],
                          provider=told["provider"]))  # fmt: skip
        for peer in crowd.ready(0.01):
            for message in peer.messages():
                if b'"placement"' not in message:
                    continue
                told = json.loads(message)
                if told["epoch"] == epoch + 1 and peer.number not in moved:  # it may be told twice
                    moved.add(peer.number)
                    last_s = now_s()
                # Its media has to arrive first.
                confirms.append((now_s() + FOLLOW_S, peer, told))
        if len(moved) == 2 * len(names):
            reply({"last_s": last_s})
            epoch, moved = epoch + 1, set()


@contextlib.contextmanager
def clients(*told: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Run the clients of one node."""
    process = subprocess.Popen(
        [sys.executable, ME, "--role", "clients", "--told", json.dumps(told)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        preexec_fn=lambda: os.sched_setaffinity(0, OTHERS),
    )
    try:
        yield process
    finally:
        end(process)


async def add_streams(url: str, names: dict[str, list[str]]) -> None:
    """Put the streams into the database, live on their first provider."""
    database = await open_database(url)
    try:
        streams = Streams(database)
        for node, own in names.items():
            for at in range(0, len(own), 500):
                await asyncio.gather(
                    *(
                        streams.start(Start(stream=name, group=name, publisher=f"publisher-{name}",
                                            provider="one", node=node, because="bench"))
                        for name in own[at : at + 500]
                    )
                )  # fmt: skip
        await database.write(Sql("UPDATE streams SET is_carried = 1, state = 'live'"))
    finally:
        await database.aclose()


async def move_each(url: str, names: list[str], provider: str) -> float:
    """Move each stream by a change and a NOTIFY of its own; return when it began [s]."""
    pool = await asyncpg.create_pool(url, min_size=AT_ONCE, max_size=AT_ONCE)
    try:
        waiting = list(reversed(names))
        begun_s = now_s()

        async def work() -> None:
            async with pool.acquire() as connection:
                while waiting:
                    name = waiting.pop()
                    async with connection.transaction():
                        await connection.execute(
                            "UPDATE streams SET epoch = epoch + 1, provider = $2, by = 'server', "
                            "because = 'bench', changed_s = now_s() WHERE id = $1",
                            name, provider,
                        )  # fmt: skip
                        await connection.execute(
                            "SELECT pg_notify('hitless', $1)", f"stream:{name}"
                        )

        await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    finally:
        await pool.close()
    return begun_s


def measure(count: int) -> dict[str, Any]:
    """Return the times from the event to the last client [s], and their ratio."""
    names = {node: [f"{node}-{n}" for n in range(count // 2)] for node in ("a", "b")}
    keys, one_s, each_s = new_keys(0.0), list[float](), list[float]()
    with contextlib.ExitStack() as stack:
        server = PostgresServer(programs())
        stack.callback(server.close)
        url = asyncio.run(server.new_database())
        where = stack.enter_context(folder())
        cores = set(os.sched_getaffinity(0))
        nodes = [
            stack.enter_context(served(where, name, database=url, keys=keys, cores=cores))
            for name in names
        ]
        nodes[0].add_providers("one", "two", starts_per_s=1e6)
        nodes[0].add_clients(10)
        time.sleep(1.5)  # the other node has heard of the keys
        asyncio.run(add_streams(url, names))
        crowds = [
            stack.enter_context(clients(node.host, node.port, nodes[0].clients, own))
            for node, own in zip(nodes, names.values(), strict=True)
        ]
        for crowd in crowds:
            answer(crowd)
        every = [name for pair in zip(*names.values(), strict=True) for name in pair]
        for number in range(2 * ROUNDS):
            source, target = (("one", "two"), ("two", "one"))[number % 2]
            time.sleep(SETTLE_S)
            # Twice the one, twice the other: each way goes to each provider.
            if number // 2 % 2:
                begun_s, into = asyncio.run(move_each(url, every, target)), each_s
            else:
                begun_s, into = now_s(), one_s
                order = {"source": source, "provider": target}
                nodes[0].call("POST", "/v1/admin/move", order)
            into.append(max(answer(crowd)["last_s"] for crowd in crowds) - begun_s)
            sys.stderr.write(f"round {number}: {into[-1]:.3f} s\n")
    return {
        "streams": count,
        "one_s": spread(one_s),
        "each_s": spread(each_s),
        "ratio": statistics.median(each_s) / statistics.median(one_s),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[1])
    parser.add_argument("--streams", type=int, default=STREAMS, help="how many")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--role", help=argparse.SUPPRESS)
    parser.add_argument("--told", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if options.role:
        play_clients(*options.told)
        return
    figures = measure(options.streams)
    sys.stdout.write(f"{'event to the last client [s]':<52}{'median':>9}{'least':>9}{'most':>9}\n")
    for name, what in (("one_s", "one order for all"), ("each_s", "one NOTIFY for each")):
        three = "".join(f"{figures[name][k]:>9.3f}" for k in ("median", "least", "most"))
        sys.stdout.write(f"{what:<52}{three}\n")
    sys.stdout.write(f"{'ratio':<52}{figures['ratio']:>9.1f}\n")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
