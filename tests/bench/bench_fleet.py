"""
What placing a whole fleet costs.

    python tests/bench/bench_fleet.py [--streams N] [--json FILE]

One million streams over five providers: keys, placement, the streams of the provider that leaves,
and one node's part of a fleet move. Beside it the same hash in plain Python, loop by loop, over
a sample of the same streams in the same run, taking turns; every answer of the two is compared.
CPU time, so that a busy machine says the same.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hitless.core.fleet import FleetMove, Moving, NodeShare, due
from hitless.core.rendezvous import Keys, key, keys_of, place, place_next


STREAMS, SAMPLE, ROUNDS = 1_000_000, 50_000, 5
WEIGHTS = {"agora": 35.0, "janus": 5.0, "livekit": 20.0, "webrtc": 10.0, "zegocloud": 30.0}
REST = {name: weight for name, weight in WEIGHTS.items() if name != "agora"}
ACCEPTS = {"janus": 5_000.0, "livekit": 20_000.0, "webrtc": 8_000.0, "zegocloud": 20_000.0}


def place_plain(keys: list[int], weights: dict[str, float]) -> list[str]:
    """The recipe of `hitless.core.rendezvous`, one stream after the other."""
    salts = [(name, key(f"provider:{name}"), weight) for name, weight in sorted(weights.items())]
    log, mask = math.log, 2**64 - 1
    chosen = []
    for number in keys:
        best, name_of_best = math.inf, ""
        for name, salt, weight in salts:
            z = number ^ salt
            z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
            z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
            z ^= z >> 31
            cost = -log(((z >> 11) + 0.5) * 2.0**-53) / weight
            if cost < best:
                best, name_of_best = cost, name
        chosen.append(name_of_best)
    return chosen


def took_s(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return the CPU time of one call [s], and its answer."""
    begun_s = time.process_time()
    answer = work()
    return time.process_time() - begun_s, answer


def placement(ids: list[str]) -> dict[str, Any]:
    """Times [s], the ratio to plain Python, and what moves when a provider leaves and returns."""
    keys_s, keys = took_s(lambda: keys_of(ids))
    sample = keys[:SAMPLE].tolist()
    ours_s, plain_s, one_s = [], [], []
    for _ in range(ROUNDS):
        spent_s, whole = took_s(lambda: place(keys, WEIGHTS))
        ours_s.append(spent_s)
        spent_s, plain = took_s(lambda: place_plain(sample, WEIGHTS))
        plain_s.append(spent_s * len(keys) / SAMPLE)
        own = keys[whole.index == whole.names.index("agora")]
        spent_s, _ = took_s(lambda own=own: place_next(own, "agora", WEIGHTS, REST))
        one_s.append(spent_s)
    figures = {
        "streams": len(keys),
        "keys_s": keys_s,
        "place_s": statistics.median(ours_s),
        "all_s": ours_s,
        "plain_s": statistics.median(plain_s),
        "next_streams": len(own),
        "next_s": statistics.median(one_s),
        "differ": sum(whole.name(n) != name for n, name in enumerate(plain)),
    }
    return figures | {"ratio": figures["plain_s"] / figures["place_s"]} | moved(keys)


def moved(keys: Keys) -> dict[str, Any]:
    """How many streams move when a provider leaves and comes back, and how many needlessly."""
    whole, without = place(keys, WEIGHTS), place(keys, REST)
    before = np.array(whole.names)[whole.index]
    during = np.array(without.names)[without.index]
    again = place(keys, WEIGHTS).index
    parts = {name: weight / sum(WEIGHTS.values()) for name, weight in WEIGHTS.items()}
    return {
        "share_error_points": max(
            abs(100 * (count / len(keys) - parts[name])) for name, count in whole.counts().items()
        ),
        "moved": int(np.sum(before != during)),
        "needless": int(np.sum((before != during) & (before != "agora")))
        + int(np.sum(again != whole.index)),
    }


def fleet_move(ids: list[str]) -> dict[str, Any]:
    """One node's part of a move, half of the affected streams its own: times [s] and pace."""
    keys = keys_of(ids)
    whole = place(keys, WEIGHTS)
    streams = [
        Moving(id=one, key=number, provider="agora", has_media=True)
        for one, number, at in zip(ids, keys.tolist(), whole.index.tolist(), strict=True)
        if whole.names[at] == "agora"
    ]
    nodes = {"n0": streams[::2], "n1": streams[1::2]}
    move = FleetMove(
        id="bench",
        source="agora",
        weights=REST,
        configured=WEIGHTS,
        starts_per_s=ACCEPTS,
        shares={name: NodeShare(live=len(own)) for name, own in nodes.items()},
        begun_s=0.0,
        because="bench",
    )
    spent, moves = [], []
    for name, own in nodes.items():
        one_s, deal = took_s(lambda name=name, own=own: due(move, own, node=name, now_s=0.0))
        spent.append(one_s)
        moves += deal.moves
    peaks = {}
    for target, limit in ACCEPTS.items():
        bins = np.bincount([int(one.at_s / 0.1) for one in moves if one.target == target])
        peaks[target] = float(bins.max()) / (limit * 0.1)
    return {
        "streams": len(moves),
        "node_s": max(spent),
        "last_s": max(one.at_s for one in moves),
        "peak": max(peaks.values()),
    }


def table(figures: dict[str, Any]) -> str:
    """Return the figures as people read them."""
    placed, move = figures["placement"], figures["move"]
    name = f"place {placed['streams']:,} streams, 5 providers"
    lines = [
        f"{'CPU [s]':<44}{'hitless':>9}{'python':>9}{'ratio':>9}",
        f"{name:<44}{placed['place_s']:>9.3f}{placed['plain_s']:>9.3f}{placed['ratio']:>9.1f}",
        f"{'keys from ids, once a stream':<44}{placed['keys_s']:>9.3f}",
        f"{'place the ' + format(placed['next_streams'], ',') + ' that leave one':<44}"
        f"{placed['next_s']:>9.3f}",
        f"{'answers that differ from plain Python':<44}{placed['differ']:>9}",
        f"{'largest error of a share [points]':<44}{placed['share_error_points']:>9.3f}",
        f"{'moved when one leaves':<44}{placed['moved']:>9}",
        f"{'moved needlessly, there and back':<44}{placed['needless']:>9}",
        f"{'a node deals ' + format(move['streams'] // 2, ',') + ' moves':<44}"
        f"{move['node_s']:>9.3f}",
        f"{'last move after [s]':<44}{move['last_s']:>9.2f}",
        f"{'fullest 100 ms of a target / its limit':<44}{move['peak']:>9.2f}",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[1])
    parser.add_argument("--streams", type=int, default=STREAMS, help="how many streams")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    ids = [f"stream-{number}" for number in range(max(options.streams, SAMPLE))]
    figures = {"placement": placement(ids), "move": fleet_move(ids)}
    sys.stdout.write(table(figures))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
