"""
What a stand-in costs, and whether a crowd at the door disturbs those inside.

    python tests/bench/bench_stand.py [steady] [bursts] [flood] [default] [--json FILE]

`steady`: 100 viewers of one stream of 1 Mbit/s, the stand-in on one core. `bursts`: 10 times
100 joins at once, while 5 permanent viewers watch for pauses. `flood`: 400 at once, which is
more than a core can serve. `default`: a few viewers behind
aiortc's own way, which decodes and encodes (MediaRelay), for comparison in the same run.
The stand-in has the first core, everything else the others, where the system allows it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import aiohttp
import psutil
from aiohttp import web
from aioice import ice
from aiortc import RTCSessionDescription
from aiortc.contrib.media import MediaRelay
from stand_peers import LightViewer, count_consents, encode_audio, encode_video, new_peer, publish


TOKEN = "bench"
ME = str(Path(__file__).resolve())
STREAM = "bench"
PERMANENT = 5


class Role:
    """A child process that takes one command per line and answers each with a line of JSON."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    @classmethod
    async def start(cls, argv: list[str], *, first_core: bool, nice: int = 0) -> Role:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "HITLESS_LAB_TOKEN": TOKEN},
        )
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else []
        if len(cores) > 1:
            os.sched_setaffinity(process.pid, {cores[0]} if first_core else set(cores[1:]))
        if nice:
            psutil.Process(process.pid).nice(nice)
        return cls(process)

    async def ask(self, command: str = "", limit_s: float = 120.0) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        if command:
            self.process.stdin.write(f"{command}\n".encode())
        async with asyncio.timeout(limit_s):
            line = await self.process.stdout.readline()
        assert line, f"the process ended instead of answering {command!r}"
        return json.loads(line)

    def cpu_s(self) -> float:
        times = psutil.Process(self.process.pid).cpu_times()
        return float(times.user + times.system)

    async def stop(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        try:
            await asyncio.wait_for(self.process.wait(), 5.0)
        except TimeoutError:
            self.process.kill()
            await self.process.wait()


# --- Child roles ---


def reply(answer: Any) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


async def commands() -> Any:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := (await reader.readline()).decode().split():
        yield line


async def report(viewers: list[LightViewer]) -> None:
    """Keep the viewers' receiver reports going, spread over each second."""
    while True:
        for viewer in tuple(viewers):
            with contextlib.suppress(ConnectionError):
                await viewer.report()
            await asyncio.sleep(1 / max(len(viewers), 1))
        await asyncio.sleep(0.01)


async def play_watchers(base: str) -> None:
    """The publisher and the permanent viewers."""
    async with aiohttp.ClientSession() as http:
        published = await publish(http, base, STREAM, video=encode_video(), audio=encode_audio())
        viewers = [LightViewer() for _ in range(PERMANENT)]
        consents = [{"answered": 0, "failed": 0}, *(viewer.consents for viewer in viewers)]
        transport = published.pc.getTransceivers()[0].receiver.transport.transport
        count_consents(transport._connection._nominated[1].protocol, consents[0])
        await asyncio.sleep(0.3)
        for viewer in viewers:
            await viewer.join(http, base, STREAM)
        reporting = asyncio.create_task(report(viewers))
        reply("ready")
        async for command in commands():
            if command[0] == "reset":
                for viewer in viewers:
                    viewer.reset()
                for track in published.tracks.values():
                    track.longest_s = 0.0
                published.tracks["video"].rewinds = 0
            reply(
                {
                    "packets": [viewer.packets for viewer in viewers],
                    "pauses_s": [viewer.pause_s for viewer in viewers],
                    "publisher_pause_s": published.tracks["audio"].longest_s,
                    "keyframes": published.tracks["video"].rewinds,
                    "consents": {
                        key: sum(each[key] for each in consents) for key in ("answered", "failed")
                    },
                    "states": [v.pc.connectionState for v in viewers]
                    + [published.pc.connectionState],
                }
            )
        reporting.cancel()


async def play_crowd(base: str) -> None:
    """Viewers that come and go together."""
    viewers: list[LightViewer] = []
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as http:
        loop = asyncio.get_running_loop()
        reporting = asyncio.create_task(report(viewers))

        async def join_one(viewer: LightViewer, limit_s: float) -> float | None:
            start_s = loop.time()
            try:
                async with asyncio.timeout(limit_s):
                    await viewer.join(http, base, STREAM)
            except TimeoutError:
                await viewer.pc.close()
                return None
            viewers.append(viewer)
            return loop.time() - start_s

        reply("ready")
        async for command in commands():
            if command[0] == "join":
                count, limit_s = int(command[1]), float(command[2])
                comers = [LightViewer() for _ in range(count)]
                took = await asyncio.gather(*(join_one(each, limit_s) for each in comers))
                took = [each for each in took if each is not None]
                reply(
                    {
                        "in": len(took),
                        "refusals": sum(v.refusals for v in comers),
                        "refusals_most": max(v.refusals for v in comers),
                        "connect_s_most": max(v.connect_s for v in comers),
                        "median_s": statistics.median(took),
                        "all_in_s": max(took),
                    }
                )
            elif command[0] == "count":
                for viewer in viewers:
                    viewer.reset()
                start_s = loop.time()
                await asyncio.sleep(float(command[1]))
                took_s = loop.time() - start_s
                reply(
                    {
                        "packets_per_s": [v.packets / took_s for v in viewers],
                        "pauses_s": [v.pause_s for v in viewers],
                    }
                )
            elif command[0] == "leave":
                await asyncio.gather(*(viewer.leave(http) for viewer in viewers))
                viewers.clear()
                reply("left")
        reporting.cancel()


async def play_default() -> None:
    """aiortc's own way to serve many viewers: decode once, encode for each."""
    relay, peers, tracks = MediaRelay(), [], {}

    async def answer(pc: Any, request: web.Request) -> web.Response:
        await pc.setLocalDescription(await pc.createAnswer())
        peers.append(pc)
        return web.Response(
            status=201, text=pc.localDescription.sdp, headers={"Location": "/session"}
        )

    async def whip(request: web.Request) -> web.Response:
        pc = new_peer()
        pc.on("track", lambda track: tracks.__setitem__(track.kind, track))
        await pc.setRemoteDescription(RTCSessionDescription(await request.text(), "offer"))
        return await answer(pc, request)

    async def whep(request: web.Request) -> web.Response:
        pc = new_peer()
        for kind in ("audio", "video"):
            pc.addTrack(relay.subscribe(tracks[kind]))
        await pc.setRemoteDescription(RTCSessionDescription(await request.text(), "offer"))
        return await answer(pc, request)

    app = web.Application()
    app.add_routes([web.post("/whip/{stream}", whip), web.post("/whep/{stream}", whep)])
    app.add_routes([web.delete("/session", lambda request: web.Response())])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    reply({"url": f"http://127.0.0.1:{runner.addresses[0][1]}"})
    await asyncio.Event().wait()


# --- The measurements ---


async def measured(server: Role, crowd: Role, seconds: float) -> dict[str, Any]:
    """Count for a while; return the server's share of a core and what each viewer got."""
    cpu_s = server.cpu_s()
    counted = await crowd.ask(f"count {seconds}")
    rates = counted["packets_per_s"]
    return {
        "viewers": len(rates),
        "cpu": (server.cpu_s() - cpu_s) / seconds,
        "packets_per_s": {
            "least": min(rates),
            "median": statistics.median(rates),
            "most": max(rates),
        },
        "crowd_pause_s": max(counted["pauses_s"]),
    }


async def start_all(server: list[str]) -> tuple[Role, Role, Role, str]:
    stand = await Role.start(server, first_core=True)
    url = (await stand.ask())["url"]
    watchers = await Role.start([ME, "--role", "watchers", "--url", url], first_core=False)
    await watchers.ask()
    crowd = await Role.start([ME, "--role", "crowd", "--url", url], first_core=False, nice=10)
    await crowd.ask()
    return stand, watchers, crowd, url


async def control(url: str) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with aiohttp.ClientSession() as http, http.get(f"{url}/control", headers=headers) as got:
        state: dict[str, Any] = await got.json()
        return state


STAND = ["-m", "hitless.lab.stand", "--name", "bench", "--quiet"]


async def steady(seconds: float = 10.0, count: int = 100) -> dict[str, Any]:
    """100 viewers of one stream."""
    *started, url = await start_all(STAND)
    stand, watchers, crowd = started
    try:
        await asyncio.sleep(1.0)
        alone = stand.cpu_s()
        await asyncio.sleep(3.0)
        alone = (stand.cpu_s() - alone) / 3.0
        joined = await crowd.ask(f"join {count} 60")
        await asyncio.sleep(1.5)
        await watchers.ask("reset")
        result = await measured(stand, crowd, seconds)
        seen = await watchers.ask("report")
        more = result["cpu"] - alone
        return {
            **result,
            "cpu_with_5_viewers": alone,
            "cpu_per_viewer": more / count,
            "pause_s": max(seen["pauses_s"]),
            "publisher_pause_s": seen["publisher_pause_s"],
            "joined": joined,
            "load": (await control(url))["load"],
        }
    finally:
        for role in started:
            await role.stop()


async def bursts(times: int = 10, count: int = 100) -> dict[str, Any]:
    """Bursts of joins; do the permanent viewers notice?"""
    *started, url = await start_all(STAND)
    _, watchers, crowd = started
    rows = []
    try:
        await asyncio.sleep(2.0)
        await watchers.ask("reset")
        await asyncio.sleep(5.0)
        quiet = await watchers.ask("report")
        start_s = asyncio.get_running_loop().time()
        for number in range(times):
            await watchers.ask("reset")
            joined = await crowd.ask(f"join {count} 60")
            await asyncio.sleep(3.0)
            seen = await watchers.ask("report")
            state = await control(url)
            rows.append(
                {
                    **joined,
                    "pause_s": max(seen["pauses_s"]),
                    "publisher_pause_s": seen["publisher_pause_s"],
                    "keyframes": seen["keyframes"],
                    "lag_s_worst": state["load"]["lag_s_worst"],
                }
            )
            sys.stderr.write(f"burst {number + 1}: {json.dumps(rows[-1])}\n")
            await crowd.ask("leave")
            await asyncio.sleep(1.0)
        return {
            "bursts": rows,
            "seconds": asyncio.get_running_loop().time() - start_s,
            "quiet_pause_s": max(quiet["pauses_s"]),
            "pause_s": max(row["pause_s"] for row in rows),
            "publisher_pause_s": max(row["publisher_pause_s"] for row in rows),
            "all_in_s": max(row["all_in_s"] for row in rows),
            "refused": state["joins"]["refused"],
            "consents_of_stand": state["consents"],
            "consents_of_permanent": seen["consents"],
            "states": seen["states"],
        }
    finally:
        for role in started:
            await role.stop()


async def flood(count: int = 400, seconds: float = 20.0) -> dict[str, Any]:
    """More viewers than a core can serve come at once and insist for a while."""
    *started, url = await start_all(STAND)
    stand, watchers, crowd = started
    try:
        await asyncio.sleep(2.0)
        await watchers.ask("reset")
        joined = await crowd.ask(f"join {count} {seconds}")
        after = await measured(stand, crowd, 10.0)
        seen = await watchers.ask("report")
        state = await control(url)
        return {
            "asked": count,
            "joined": joined,
            "after": after,
            "pause_s": max(seen["pauses_s"]),
            "publisher_pause_s": seen["publisher_pause_s"],
            "states": seen["states"],
            "consents_of_stand": state["consents"],
            "consents_of_permanent": seen["consents"],
            "load": state["load"],
            "receive_queue": state["streams"][0]["receive_queue"],
        }
    finally:
        for role in started:
            await role.stop()


async def default(seconds: float = 5.0) -> dict[str, Any]:
    """The same stream through aiortc's own way."""
    *started, _ = await start_all([ME, "--role", "default"])
    server, _, crowd = started
    rows = []
    try:
        for more in (0, 2, 2):
            if more:
                await crowd.ask(f"join {more} 60")
            await asyncio.sleep(2.0)
            cpu_s = server.cpu_s()
            await asyncio.sleep(seconds)
            rows.append((server.cpu_s() - cpu_s) / seconds)
        return {"cpu": rows, "viewers": [PERMANENT + n for n in (0, 2, 4)]}
    finally:
        for role in started:
            await role.stop()


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1] if __doc__ else None)
    parser.add_argument("what", nargs="*", default=[], help="steady, bursts, flood, default")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--role", help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role:
        ice.get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"]
        role = {"watchers": play_watchers, "crowd": play_crowd}.get(options.role)
        await (role(options.url) if role else play_default())
        return
    measurements = {"steady": steady, "bursts": bursts, "flood": flood, "default": default}
    figures = {}
    for name in options.what or measurements:
        figures[name] = await asyncio.wait_for(measurements[name](), 600)
        sys.stdout.write(f"{name}: {json.dumps(figures[name], indent=1)}\n")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
