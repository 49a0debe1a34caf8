"""Receiving over a bad path: packets are lost and overtake each other."""

from __future__ import annotations

import asyncio
import itertools
import random
from typing import Any

from canned_media import AUDIO_TICKS, VIDEO_TICKS, canned_feed

from hitless.media.frame import EncodedFrame, Kind
from hitless.media.liveness import Liveness
from hitless.media.peer import PublishingPeer, ViewingPeer


def impair(peer: Any, rng: random.Random, *, loss: float, jitter_s: float) -> None:
    """Lose and delay what arrives at a peer, RTP and RTCP alike."""
    connection = peer._ice()._connection
    stock, loop = connection.data_received, asyncio.get_running_loop()

    def received(data: bytes, component: int) -> None:
        if 127 < data[0] < 192:
            if rng.random() >= loss:
                loop.call_later(rng.random() * jitter_s, stock, data, component)
        else:
            stock(data, component)

    connection.data_received = received


async def watch(
    duration_s: float, *, loss: float, jitter_s: float, repairs: bool = True
) -> tuple[list[EncodedFrame], list[str], Any, Any]:
    """Return the frames after the first second, what was judged silent, engine and viewer."""
    loop = asyncio.get_running_loop()
    source, engine = canned_feed()
    frames: list[EncodedFrame] = []
    shared: dict[str, Any] = {"provider": "agora", "loopback": True}
    sending = PublishingPeer(feed=source, operation="publish", liveness=Liveness(), **shared)
    watching = ViewingPeer(
        kinds=frozenset(Kind), take=frames.append, operation="view", liveness=Liveness(), **shared
    )
    if not repairs:

        async def deaf(*_: Any) -> None:
            return None

        for sender in sending.senders:
            sender._retransmit = deaf  # type: ignore[method-assign]
    try:
        await sending.accept(await watching.answer(await sending.offer()))
        rng = random.Random(7)
        for peer in (sending, watching):
            impair(peer, rng, loss=loss, jitter_s=jitter_s)
        deadline = loop.time() + 5
        await asyncio.gather(sending.connected(deadline), watching.connected(deadline))
        await asyncio.sleep(1)
        frames.clear()
        silent = []
        end_s = loop.time() + duration_s
        while loop.time() < end_s:
            await asyncio.sleep(0.02)
            for peer in (sending, watching):
                quiet = peer.liveness.quiet(loop.time())
                if quiet is not None:
                    silent.append(quiet.because)
    finally:
        await sending.aclose()
        await watching.aclose()
        await source.aclose()
    return frames, silent, engine, watching


def test_loss_and_jitter_cost_no_picture_and_look_like_no_silence() -> None:
    """2 % lost, 0-100 ms late, both ways: stock aiortc loses no picture either."""
    frames, silent, _, _ = asyncio.run(watch(8.0, loss=0.02, jitter_s=0.1))
    video = [frame for frame in frames if frame.kind is Kind.VIDEO]
    audio = [frame for frame in frames if frame.kind is Kind.AUDIO]
    steps = [b.timestamp - a.timestamp for a, b in itertools.pairwise(video)]
    assert set(steps) == {VIDEO_TICKS}
    assert max(b.arrived_s - a.arrived_s for a, b in itertools.pairwise(video)) < 0.35
    slots = (audio[-1].timestamp - audio[0].timestamp) // AUDIO_TICKS + 1
    assert len(audio) > 0.94 * slots  # stock: 88 %
    assert all(b.timestamp > a.timestamp for a, b in itertools.pairwise(audio))
    assert silent == []


def test_what_is_never_repaired_is_skipped_to_the_next_keyframe() -> None:
    """A server ignores NACK: nothing that depends on a lost picture; PLI brings it back."""
    frames, silent, engine, watching = asyncio.run(
        watch(6.0, loss=0.02, jitter_s=0.0, repairs=False)
    )
    video = [frame for frame in frames if frame.kind is Kind.VIDEO]
    after_a_gap = [
        b.keyframe
        for a, b in itertools.pairwise(video)
        if b.timestamp - a.timestamp != VIDEO_TICKS
    ]
    assert after_a_gap
    assert all(after_a_gap)
    assert max(b.arrived_s - a.arrived_s for a, b in itertools.pairwise(video)) < 1.2
    assert watching.receivers[1].pli_count >= 1
    assert engine.keyframes_asked >= 1
    assert silent == []
