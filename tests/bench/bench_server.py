"""
What a client's report and a stream's start cost the server.

    python tests/bench/bench_server.py [report] [start] [--json FILE]

`report`: CPU of the server for each report, which clients send over their WebSockets to `hitless
serve`, and as a POST to a minimal FastAPI + pydantic service on uvicorn, with each of its two
parsers of HTTP; the three take turns in one run, at the same pace. Less what each costs idle.
`start`: `POST /v1/start` against SQLite (each in the database, flushed to the disk, before it is
answered; a plan with credentials for three providers): how many a second, the server on one core,
and how long each takes at half of that. The load is a process of its own, on the other cores.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hmac
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from server_peers import (
    OTHERS,
    SERVERS,
    Crowd,
    Node,
    Peer,
    answer,
    begin,
    end,
    folder,
    now_s,
    percentile,
    post,
    reply,
    say,
    served,
    spread,
)


ME = str(Path(__file__).resolve())
PROVIDERS = ("agora", "livekit", "zegocloud")
CLIENTS, REPORTS_PER_S, REPORT_S, ROUNDS = 500, 2000.0, 3.0, 5
STARTS_AT_ONCE, START_S, KEYS = 48, 6.0, 40
REPORT = {
    "type": "report", "stream": "show", "provider": "agora", "mediaAge": 0.031,
    "packetsLost": 3, "jitter": 0.0042, "roundTripTime": 0.0213, "framesPerSecond": 29.97,
}  # fmt: skip


# --- The peer ---


def play_fastapi(parser: str, key: str) -> None:
    """Take reports by POST, as a small service would: a key, a validated body, an answer."""
    import uvicorn
    from fastapi import FastAPI, Header, HTTPException
    from pydantic import BaseModel

    class Report(BaseModel):
        stream: str
        provider: str
        mediaAge: float = 0.0
        packetsLost: float = 0.0
        jitter: float = 0.0
        roundTripTime: float = 0.0
        framesPerSecond: float = 0.0

    class Taken(BaseModel):
        success: bool

    app, seen = FastAPI(), {}
    # The annotations are texts here, and looked up among the globals.
    globals().update(Report=Report, Taken=Taken, Header=Header)

    @app.post("/report")
    async def report(report: Report, authorization: str = Header()) -> Taken:
        if not hmac.compare_digest(authorization, f"Bearer {key}"):
            raise HTTPException(401)
        seen[report.stream] = report
        return Taken(success=True)

    async def run() -> None:
        config = uvicorn.Config(
            app, port=0, http=parser, access_log=False, log_config=None, lifespan="off",
            timeout_keep_alive=600,  # its clients never have to connect anew
        )  # fmt: skip
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve())
        while not server.started:  # noqa: ASYNC110 -- uvicorn has no event for it
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        reply({"url": f"http://127.0.0.1:{port}"})
        await serving

    asyncio.run(run())


# --- The load ---


def play_reports(told: dict[str, Any]) -> None:
    """Report over many connections at a pace; for each line that comes, one round of it."""
    crowd = Crowd(told["host"], told["port"])
    is_socket = told["way"] == "socket"

    def hello(number: int) -> bytes:
        streams = [{"stream": "show", "role": "viewer", "epoch": 1, "provider": "agora"}]
        return say(type="hello", client=f"viewer-{number}", streams=streams)

    if is_socket:
        crowd.join([told["key"]], hello, CLIENTS)
        data = say(**REPORT)
    else:
        crowd.connect(CLIENTS)
        data = post("/report", told["key"], {k: v for k, v in REPORT.items() if k != "type"})
    reply("ready")
    for _ in sys.stdin:
        sent = report_round(crowd, data, is_socket=is_socket)
        if is_socket:  # all are taken once each connection has answered what came last
            settle(crowd)
        reply({"reports": sent + (len(crowd.peers) if is_socket else 0)})


def settle(crowd: Crowd) -> None:
    """Ask on each connection what is refused, and wait until all are."""
    heard = 0

    def hear(_: Peer, message: bytes) -> None:
        nonlocal heard
        heard += b'"problem"' in message

    for peer in crowd.peers:
        peer.send(say(type="renew", stream="show"))
    crowd.until(lambda: heard == len(crowd.peers), hear)


def report_round(crowd: Crowd, data: bytes, *, is_socket: bool) -> int:
    """Send reports at the pace, one client after the other; return how many."""
    begun_s, sent, waiting = now_s(), 0, 0
    idle = list(crowd.peers)
    while sent < REPORTS_PER_S * REPORT_S or waiting:
        due = min(int((now_s() - begun_s) * REPORTS_PER_S), int(REPORTS_PER_S * REPORT_S))
        while sent < due and idle:
            peer = idle.pop(0)
            peer.send(data)
            sent += 1
            if is_socket:
                idle.append(peer)
            else:
                waiting += 1
        for peer in crowd.ready(0.0005):
            if is_socket:
                peer.messages()
            elif peer.answered():
                waiting -= 1
                idle.append(peer)
    return sent


def play_starts(told: dict[str, Any]) -> None:
    """Start streams: as many as it can take, or so many a second; say what each took."""
    crowd = Crowd(told["host"], told["port"])
    idle = crowd.connect(STARTS_AT_ONCE)
    keys, rate = told["keys"], told["rate"]
    begun_s, sent, late, took_s = now_s(), 0, 0, []
    due_s: list[float] = []
    while True:
        passed_s = now_s() - begun_s
        if passed_s > told["seconds"] and len(idle) == len(crowd.peers):
            break
        if rate:  # an open loop: what is due waits for a connection, and its time counts from then
            while sent + len(due_s) < min(passed_s, told["seconds"]) * rate:
                due_s.append(begun_s + (sent + len(due_s)) / rate)
                late += not idle
        while idle and passed_s <= told["seconds"] and (due_s or not rate):
            peer = idle.pop(0)
            name = f"{told['name']}-{sent}"
            body = {"stream": name, "client": f"studio-{name}", "adapters": ["whip"]}
            peer.at_s = due_s.pop(0) if rate else now_s()
            peer.send(post("/v1/start", keys[sent % len(keys)], body))
            sent += 1
        for peer in crowd.ready(0.0005):
            if peer.answered():
                took_s.append(now_s() - peer.at_s)
                idle.append(peer)
    reply({"starts": sent, "seconds": now_s() - begun_s, "late": late, "took_s": took_s})


# --- The measurements ---


@contextlib.contextmanager
def fastapi(parser: str) -> Iterator[Node]:
    """Run the peer, with this parser of HTTP."""
    process = begin([ME, "--role", "fastapi", "--told", json.dumps([parser, "key"])], SERVERS)
    try:
        yield Node(process, {"HITLESS_CLIENT_KEY": "key"})
    finally:
        end(process)


@contextlib.contextmanager
def load(role: str, told: Mapping[str, Any]) -> Iterator[Any]:
    """Run a load beside the server."""
    process = subprocess.Popen(
        [sys.executable, ME, "--role", role, "--told", json.dumps(told)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        preexec_fn=lambda: os.sched_setaffinity(0, OTHERS),
    )
    try:
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        end(process)


def report() -> dict[str, Any]:
    """CPU for each report, three ways that take turns [s]."""
    figures: dict[str, Any] = {"clients": CLIENTS, "reports_per_s": REPORTS_PER_S}
    with contextlib.ExitStack() as stack:
        node = stack.enter_context(served(stack.enter_context(folder())))
        node.add_providers(*PROVIDERS)
        started = {"stream": "show", "client": "studio"}
        node.call("POST", "/v1/start", started, node.clients[0])
        nodes = {"socket": node}
        nodes |= {name: stack.enter_context(fastapi(name)) for name in ("h11", "httptools")}
        loads = {}
        for way, one in nodes.items():
            told = {"host": one.host, "port": one.port, "way": way, "key": one.clients[0]}
            loads[way] = stack.enter_context(load("reports", told))
            answer(loads[way])
        idle = {way: idle_share(one) for way, one in nodes.items()}
        spent: dict[str, list[float]] = {way: [] for way in nodes}
        for _ in range(ROUNDS):
            for way, one in nodes.items():
                begun_s, cpu_s = now_s(), one.cpu_s()
                loads[way].stdin.write(b"go\n")
                loads[way].stdin.flush()
                count = answer(loads[way])["reports"]
                cpu_s = one.cpu_s() - cpu_s - idle[way] * (now_s() - begun_s)
                spent[way].append(cpu_s / count)
    figures |= {"idle_share": idle, "cpu_s": {way: spread(each) for way, each in spent.items()}}
    ours = statistics.median(spent["socket"])
    figures["ratio"] = {
        way: statistics.median(spent[way]) / ours for way in nodes if way != "socket"
    }
    return figures


def idle_share(node: Node, seconds: float = 4.0) -> float:
    """Return the share of a core that a server takes while nobody asks [0..1]."""
    time.sleep(0.5)
    cpu_s = node.cpu_s()
    time.sleep(seconds)
    return (node.cpu_s() - cpu_s) / seconds


def start() -> dict[str, Any]:
    """Starts a second, and how long they take at half of it."""
    with folder() as where, served(where) as node:
        node.add_providers(*PROVIDERS)
        node.add_clients(KEYS)
        told = {"host": node.host, "port": node.port, "keys": node.clients, "seconds": START_S}
        run_starts(node, {**told, "name": "warm", "rate": 0.0, "seconds": 2.0})
        full = [run_starts(node, {**told, "name": f"f{n}", "rate": 0.0}) for n in range(3)]
        rate = statistics.median(one["per_s"] for one in full)
        halves = [run_starts(node, {**told, "name": f"h{n}", "rate": rate / 2}) for n in range(3)]
    return {
        "per_s": spread([one["per_s"] for one in full]),
        "cpu_s": spread([one["cpu_s"] for one in full]),
        "full_p99_s": spread([one["p99_s"] for one in full]),
        "half_per_s": rate / 2,
        "half_p50_s": spread([one["p50_s"] for one in halves]),
        "half_p99_s": spread([one["p99_s"] for one in halves]),
        "half_late": sum(one["late"] for one in halves),
    }


def run_starts(node: Node, told: Mapping[str, Any]) -> dict[str, float]:
    """Run one load of starts and return its figures."""
    cpu_s = node.cpu_s()
    with load("starts", told) as process:
        found = answer(process)
    return {
        "per_s": found["starts"] / found["seconds"],
        "cpu_s": (node.cpu_s() - cpu_s) / found["starts"],
        "p50_s": percentile(found["took_s"], 0.5),
        "p99_s": percentile(found["took_s"], 0.99),
        "late": found["late"],
    }


def table(figures: dict[str, Any]) -> str:
    """Return the figures as people read them."""
    lines = [f"{'':<52}{'median':>9}{'least':>9}{'most':>9}{'ratio':>9}"]

    def line(name: str, of: Mapping[str, float], scale: float, ratio: float | None = None) -> None:
        three = "".join(f"{scale * of[k]:>9.1f}" for k in ("median", "least", "most"))
        lines.append(f"{name:<52}{three}" + (f"{ratio:>9.1f}" if ratio else ""))

    if found := figures.get("report"):
        line("CPU of a report, our WebSocket [us]", found["cpu_s"]["socket"], 1e6)
        for way in ("h11", "httptools"):
            name = f"the same by POST to FastAPI on {way} [us]"
            line(name, found["cpu_s"][way], 1e6, found["ratio"][way])
    if found := figures.get("start"):
        line("starts a second, server on one core", found["per_s"], 1.0)
        line("CPU of a start [us]", found["cpu_s"], 1e6)
        line(f"99 of 100 starts within, {found['half_per_s']:.0f} a second [ms]",
             found["half_p99_s"], 1e3)  # fmt: skip
        line("half of them within [ms]", found["half_p50_s"], 1e3)
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[1])
    parser.add_argument("what", nargs="*", default=[], help="report, start")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--role", help=argparse.SUPPRESS)
    parser.add_argument("--told", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    match options.role:
        case "fastapi":
            return play_fastapi(*options.told)
        case "reports":
            return play_reports(options.told)
        case "starts":
            return play_starts(options.told)
    measurements = {"report": report, "start": start}
    figures = {}
    for name in options.what or measurements:
        figures[name] = measurements[name]()
    sys.stdout.write(table(figures))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
