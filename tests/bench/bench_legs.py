"""
What a second leg costs, and how soon a viewer sees the first picture.

    python tests/bench/bench_legs.py [cpu] [join] [--json FILE]

`cpu`: a publisher process with one leg and with two, first ours (one encoder, any number of
legs), then aiortc's own way (one encoder per leg); the same picture, sound, size and bit rate.
`join`: from `join_stream` to the first decoded picture in a warm process, beside a stock aiortc
viewer of the same stand-in, and with a first provider that refuses. All in one run, taking turns,
so that the machine's mood is the same for both.
"""

from __future__ import annotations

import argparse
import asyncio
import fractions
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import aiohttp
import av
import numpy as np
from aioice import ice
from aiortc import MediaStreamTrack, RTCSessionDescription
from aiortc.codecs import vpx
from aiortc.contrib.media import MediaRelay
from aiortc.mediastreams import MediaStreamError
from bench_stand import Role, commands, reply
from stand_peers import connected, new_peer, post, view_offer

from hitless import LiveStreamingProvider, SelfView, Whip
from hitless.lab.stage import Stage
from hitless.media.pattern import TestPicture, TestSound
from hitless.media.source import Quality, open_feed


ME = str(Path(__file__).resolve())
WIDTH, HEIGHT, RATE, BITRATE_BPS = 640, 360, 30, 1_000_000
ROUNDS, WINDOW_S = 3, 4.0
JOINS, REFUSED_JOINS = 20, 10
RUN_S_MAX = 120.0


def whip(name: str, base: str, **options: Any) -> Whip:
    return Whip(name, url=f"{base}/whip/{{stream}}", **options)


# --- Publishers, each a process: `legs N` makes it N legs ---


async def play_ours(bases: list[str]) -> None:
    """One encoder, any number of legs; the self-view only proves each leg."""
    quality = Quality(width=WIDTH, height=HEIGHT, frame_rate=RATE, bitrate_bps=BITRATE_BPS)
    feed = await open_feed("test-picture", quality=quality)
    servers = [whip(f"s{n}", base, self_view=SelfView.START) for n, base in enumerate(bases)]
    legs: list[Any] = []
    reply("ready")
    async for words in commands():
        while len(legs) < int(words[1]):
            legs.append(await servers[len(legs)].start_stream("ours", feed))
        while len(legs) > int(words[1]):
            await legs.pop().aclose()
        reply(len(legs))
    for server in servers:
        await server.aclose()
    await feed.aclose()


class StockPicture(MediaStreamTrack):
    """The same test picture, unencoded, at its pace."""

    kind = "video"

    def __init__(self) -> None:
        super().__init__()
        self._picture, self._number = TestPicture(WIDTH, HEIGHT), 0
        self._begun_s = asyncio.get_running_loop().time()

    async def recv(self) -> av.VideoFrame:
        await _pace(self, self._begun_s + self._number / RATE)
        drawn = self._picture.draw(self._number)
        frame = av.VideoFrame.from_ndarray(drawn, format="yuv420p")
        frame.pts, frame.time_base = self._number * 90_000 // RATE, fractions.Fraction(1, 90_000)
        self._number += 1
        return frame


class StockSound(MediaStreamTrack):
    """The same test sound, unencoded, at its pace."""

    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        self._sound, self._number = TestSound(), 0
        self._begun_s = asyncio.get_running_loop().time()

    async def recv(self) -> av.AudioFrame:
        await _pace(self, self._begun_s + self._number * 0.02)
        samples = np.ascontiguousarray(self._sound.slot(self._number).reshape(1, -1))
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="stereo")
        frame.sample_rate, frame.pts = 48_000, self._number * 960
        frame.time_base = fractions.Fraction(1, 48_000)
        self._number += 1
        return frame


async def _pace(track: MediaStreamTrack, due_s: float) -> None:
    if track.readyState != "live":
        raise MediaStreamError
    await asyncio.sleep(max(0.0, due_s - asyncio.get_running_loop().time()))


async def play_stock(bases: list[str]) -> None:
    """aiortc's own way: the source is drawn once (MediaRelay), and encoded by each peer."""
    vpx.DEFAULT_BITRATE = BITRATE_BPS
    relay, sources = MediaRelay(), (StockPicture(), StockSound())
    legs: list[Any] = []
    reply("ready")
    async with aiohttp.ClientSession() as http:
        async for words in commands():
            while len(legs) < int(words[1]):
                pc, base = new_peer(), bases[len(legs)]
                for source in sources:
                    pc.addTransceiver(relay.subscribe(source), "sendonly")
                await pc.setLocalDescription(await pc.createOffer())
                answer = await post(http, f"{base}/whip/stock", pc.localDescription.sdp)
                await pc.setRemoteDescription(RTCSessionDescription(answer.text, "answer"))
                await connected(pc)
                legs.append((pc, base + answer.headers["Location"]))
            while len(legs) > int(words[1]):
                pc, url = legs.pop()
                await http.delete(url)
                await pc.close()
            reply(len(legs))


# --- Viewers, in one warm process ---


class First:
    """Resolves at the first decoded picture."""

    wants_decoded = True

    def __init__(self) -> None:
        self.at_s: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    def take(self, frame: Any) -> None:
        pass

    def picture(self, picture: Any) -> None:
        if not self.at_s.done():
            self.at_s.set_result(picture.at_s)

    def sound(self, sound: Any) -> None:
        pass

    async def aclose(self) -> None:
        pass


async def join_ours(bases: list[str]) -> float:
    """Return the time from `join_stream` to the first picture [s], best server first."""
    servers = [whip(f"s{n}", base) for n, base in enumerate(bases)]
    async with LiveStreamingProvider(servers) as live:
        first, begun_s = First(), asyncio.get_running_loop().time()
        async with asyncio.timeout(10), live.join_stream("ours", sinks=[first]):
            return await first.at_s - begun_s


async def join_stock(base: str) -> float:
    """Return the same time of a stock aiortc peer [s]."""
    async with aiohttp.ClientSession() as http, asyncio.timeout(10):
        begun_s = asyncio.get_running_loop().time()
        pc = await view_offer()
        answer = await post(http, f"{base}/whep/ours", pc.localDescription.sdp)
        await pc.setRemoteDescription(RTCSessionDescription(answer.text, "answer"))
        tracks = {t.kind: t.receiver.track for t in pc.getTransceivers()}
        await tracks["video"].recv()
        took_s = asyncio.get_running_loop().time() - begun_s
        await http.delete(base + answer.headers["Location"])
        await pc.close()
        return took_s


async def play_viewers(bases: list[str]) -> None:
    """Join again and again: `ours`, `stock`, `refused` (the first server says 503)."""
    good, refusing = bases
    await join_ours([good])
    await join_stock(good)
    reply("ready")
    async for (what,) in commands():
        took_s = {
            "ours": lambda: join_ours([good]),
            "stock": lambda: join_stock(good),
            "refused": lambda: join_ours([refusing, good]),
        }[what]()
        reply(await took_s)
        await asyncio.sleep(0.05)


# --- Measurements ---


async def start(role: str, bases: list[str]) -> Role:
    started = await Role.start([ME, "--role", role, *bases], first_core=False)
    assert await started.ask() == "ready"
    return started


async def cpu(stage: Stage) -> dict[str, Any]:
    """CPU of a publisher's process with one leg and with two [share of a core]."""
    bases = [stage.urls[name] for name in stage.names]
    figures: dict[str, Any] = {}
    for way in ("ours", "stock"):
        role = await start(way, bases)
        shares: dict[int, list[float]] = {1: [], 2: []}
        try:
            for _ in range(ROUNDS):
                for legs in shares:
                    await role.ask(f"legs {legs}")
                    await asyncio.sleep(0.7)  # the self-view, and the keyframe it asked for
                    before_s, since_s = role.cpu_s(), asyncio.get_running_loop().time()
                    await asyncio.sleep(WINDOW_S)
                    took_s = asyncio.get_running_loop().time() - since_s
                    shares[legs].append((role.cpu_s() - before_s) / took_s)
        finally:
            await role.stop()
        one, two = (statistics.median(shares[legs]) for legs in (1, 2))
        figures[way] = {
            "one_leg": one,
            "two_legs": two,
            "second_leg_points": 100 * (two - one),
            "all": shares,
        }
    ours, stock = figures["ours"], figures["stock"]
    figures["ratio_one_leg"] = ours["one_leg"] / stock["one_leg"]
    figures["ratio_two_legs"] = ours["two_legs"] / stock["two_legs"]
    return figures


async def join(stage: Stage) -> dict[str, Any]:
    """Time to the first picture in a warm process [s]: ours, stock, and after a refusal."""
    good, refusing = (stage.urls[name] for name in stage.names)
    await stage.break_(stage.names[1], "refuse-viewers")
    publisher = await start("ours", [good])
    viewers = None
    took_s: dict[str, list[float]] = {"ours": [], "stock": [], "refused": []}
    try:
        await publisher.ask("legs 1")
        await asyncio.sleep(1.0)
        viewers = await start("viewers", [good, refusing])
        for turn in range(JOINS):
            for what, times_s in took_s.items():
                if what != "refused" or turn < REFUSED_JOINS:
                    times_s.append(await viewers.ask(what))
    finally:
        for role in (publisher, viewers):
            if role is not None:
                await role.stop()
    figures: dict[str, Any] = {
        what: {
            "n": len(times_s),
            "median_s": statistics.median(times_s),
            "max_s": max(times_s),
            "all_s": times_s,
        }
        for what, times_s in took_s.items()
    }
    median_s = {what: figures[what]["median_s"] for what in took_s}
    figures["refusal_costs_s"] = median_s["refused"] - median_s["ours"]
    figures["ratio"] = median_s["ours"] / median_s["stock"]
    return figures


def table(figures: dict[str, Any]) -> str:
    """Return the figures as people read them."""
    lines = []
    if cost := figures.get("cpu"):
        lines.append(f"{'publisher, CPU of a core':<28}{'1 leg':>9}{'2 legs':>9}{'second':>9}")
        for way in ("ours", "stock"):
            one, two = cost[way]["one_leg"], cost[way]["two_legs"]
            points = cost[way]["second_leg_points"]
            lines.append(f"{way:<28}{one:>9.1%}{two:>9.1%}{points:>+6.1f} pt")
        ratios = cost["ratio_one_leg"], cost["ratio_two_legs"]
        lines.append(f"{'ours / stock':<28}{ratios[0]:>9.2f}{ratios[1]:>9.2f}")
    if joins := figures.get("join"):
        lines.append(f"{'join to first picture [s]':<28}{'n':>9}{'median':>9}{'max':>9}")
        for what in ("ours", "stock", "refused"):
            one = joins[what]
            lines.append(f"{what:<28}{one['n']:>9}{one['median_s']:>9.3f}{one['max_s']:>9.3f}")
        lines.append(f"{'ours / stock':<37}{joins['ratio']:>9.2f}")
        lines.append(f"{'a refusal first costs [s]':<37}{joins['refusal_costs_s']:>9.3f}")
    return "\n".join(lines) + "\n"


async def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[1])
    parser.add_argument("what", nargs="*", default=[], help="cpu, join")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--role", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role:
        ice.get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"]
        play = {"ours": play_ours, "stock": play_stock, "viewers": play_viewers}[options.role]
        await play(options.what)
        return
    measurements = {"cpu": cpu, "join": join}
    figures = {}
    with tempfile.TemporaryDirectory(prefix="hitless-bench-") as folder:
        async with (
            asyncio.timeout(RUN_S_MAX),
            Stage(Path(folder), ("agora", "zegocloud"), has_accounts=False) as stage,
        ):
            for name in options.what or measurements:
                figures[name] = await measurements[name](stage)
    sys.stdout.write(table(figures))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
