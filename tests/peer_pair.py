"""Peers of ours and stock ones, connected with each other, for tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiortc import (
    RTCBundlePolicy,
    RTCConfiguration,
    RTCPeerConnection,
    RTCSessionDescription,
)
from canned_media import canned_feed

from hitless.media.frame import EncodedFrame, Kind
from hitless.media.liveness import Liveness
from hitless.media.peer import Peer, PublishingPeer, ViewingPeer


LIMIT_S = 5.0


def now() -> float:
    """Return the loop's time [s]."""
    return asyncio.get_running_loop().time()


def settings(operation: str, **more: Any) -> dict[str, Any]:
    """Return what every peer is told."""
    return {
        "provider": "agora",
        "operation": operation,
        "liveness": Liveness(),
        "loopback": True,
        **more,
    }


def viewer(take: Any = lambda frame: None, **more: Any) -> ViewingPeer:
    """Make a peer that wants everything."""
    return ViewingPeer(kinds=frozenset(Kind), take=take, **settings("view", **more))


async def connect(one: Peer, other: Peer) -> None:
    """Connect two of our peers."""
    await one.accept(await other.answer(await one.offer()))
    deadline = now() + LIMIT_S
    await asyncio.gather(one.connected(deadline), other.connected(deadline))


@asynccontextmanager
async def pair(
    *kinds: Kind, **feed: Any
) -> AsyncIterator[tuple[Any, Any, Any, Any, list[EncodedFrame]]]:
    """Run a feed, its publishing peer, and a viewing peer that keeps what it gets."""
    source, engine = canned_feed(*kinds, **feed)
    frames: list[EncodedFrame] = []
    sending = PublishingPeer(feed=source, **settings("publish"))
    watching = viewer(frames.append)
    try:
        await connect(sending, watching)
        yield source, engine, sending, watching, frames
    finally:
        await sending.aclose()
        await watching.aclose()
        await source.aclose()


async def until(condition: Any, limit_s: float = LIMIT_S) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(limit_s):
        while not condition():  # noqa: ASYNC110 -- conditions are of many kinds
            await asyncio.sleep(0.005)


def of(kind: Kind, frames: list[EncodedFrame]) -> list[EncodedFrame]:
    """Return the frames of one kind."""
    return [frame for frame in frames if frame.kind is kind]


async def stock_answer(pc: RTCPeerConnection, offer: str) -> str:
    """Answer as stock aiortc does, on loopback."""
    await pc.setRemoteDescription(RTCSessionDescription(sdp=offer, type="offer"))
    ice = pc.getTransceivers()[0].receiver.transport.transport._connection
    stock = ice.get_component_candidates

    async def gather(component: int, addresses: list[str]) -> Any:
        return await stock(component=component, addresses=["127.0.0.1"])

    ice.get_component_candidates = gather
    await pc.setLocalDescription(await pc.createAnswer())
    return pc.localDescription.sdp


def stock_peer() -> RTCPeerConnection:
    """Make a stock peer."""
    return RTCPeerConnection(
        RTCConfiguration(iceServers=[], bundlePolicy=RTCBundlePolicy.MAX_BUNDLE)
    )
