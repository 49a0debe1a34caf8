"""A small WHIP and WHEP server for tests: it forwards, and it misbehaves when told to."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from hitless.errors import HitlessError
from hitless.media.feed import Feed
from hitless.media.frame import Codec, EncodedFrame, Kind
from hitless.media.liveness import Liveness
from hitless.media.peer import Peer, PublishingPeer, ViewingPeer
from hitless.media.sdp import kinds_in


Handler = Callable[[web.Request], Awaitable[web.StreamResponse | None]]


@dataclass
class Seen:
    """One request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: str


@dataclass
class WhipServer:
    """
    Forwards one publisher to any number of viewers.

    Attributes:
        intercept: Is asked first about every request; None from it means: as usual.
        forwards: Whether frames reach viewers.
        location: Makes a Location header out of a path.
    """

    url: str = ""
    intercept: Handler | None = None
    forwards: bool = True
    location: Callable[[str], str] = lambda path: path
    etag: str | None = '"one"'
    seen: list[Seen] = field(default_factory=list)
    sessions: dict[str, Peer] = field(default_factory=dict)
    feeds: dict[str, Feed] = field(default_factory=dict)
    codec: Codec = Codec.VP8
    publishers: dict[str, Peer] = field(default_factory=dict)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    count: int = 0

    def requests(self, method: str) -> list[Seen]:
        """Return the requests of one method."""
        return [each for each in self.seen if each.method == method]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.text()
        self.seen.append(Seen(request.method, request.raw_path, dict(request.headers), body))
        if self.intercept is not None:
            answer = await self.intercept(request)
            if answer is not None:
                return answer
        if request.method == "DELETE":
            peer = self.sessions.pop(request.path, None)
            if peer is not None:
                await peer.aclose()
                self.feeds = {
                    name: feed
                    for name, feed in self.feeds.items()
                    if self.publishers.get(name) is not peer
                }
            return web.Response(status=200 if peer else 404)
        verb, stream = request.path.split("/")[1:3]
        if verb == "whip":
            return await self.publish(stream, body)
        if stream not in self.feeds:
            return web.Response(status=409, headers={"Retry-After": "1"})
        return await self.view(stream, body)

    async def publish(self, stream: str, offer: str) -> web.Response:
        kinds = kinds_in(offer)
        codecs = {Kind.AUDIO: Codec.OPUS, Kind.VIDEO: self.codec}
        feed = Feed({kind: codecs[kind] for kind in kinds})

        def take(frame: EncodedFrame) -> None:
            if self.publishers.get(stream) is peer:
                self.feeds[stream] = feed
            feed.push(frame)

        peer = ViewingPeer(
            kinds=frozenset(kinds),
            take=take,
            provider="server",
            operation="ingest",
            liveness=Liveness(),
            loopback=True,
            video_codec=self.codec,
        )
        self.publishers[stream] = peer
        feed.run_by(_Upstream(peer))  # type: ignore[arg-type]
        return await self.created(peer, offer, stream)

    async def view(self, stream: str, offer: str) -> web.Response:
        return await self.created(self.viewer_peer(stream, kinds_in(offer)), offer, stream)

    def viewer_peer(self, stream: str, kinds: list[Kind]) -> PublishingPeer:
        whole = self.feeds[stream]
        part = Feed({kind: codec for kind, codec in whole.codecs.items() if kind in kinds})
        part.run_by(_Onward(whole))  # type: ignore[arg-type]

        def take(frame: EncodedFrame) -> None:
            if frame.kind in part.kinds and self.forwards:
                part.push(frame)

        whole.attach(take)
        return PublishingPeer(
            feed=part, provider="server", operation="forward", liveness=Liveness(), loopback=True
        )

    async def created(self, peer: Peer, offer: str, stream: str) -> web.Response:
        answer = await peer.answer(offer)
        self.tasks.append(asyncio.create_task(self.connect(peer)))
        headers = {"Location": self.location(self.register(peer))}
        if self.etag is not None:
            headers["ETag"] = self.etag
        return web.Response(
            status=201, text=answer, content_type="application/sdp", headers=headers
        )

    def register(self, peer: Peer) -> str:
        self.count += 1
        path = f"/session/{self.count}"
        self.sessions[path] = peer
        return path

    async def connect(self, peer: Peer) -> None:
        try:
            await peer.connected(asyncio.get_running_loop().time() + 5)
            await peer.lost()
        except HitlessError:
            for name, publisher in tuple(self.publishers.items()):
                if publisher is peer:
                    del self.publishers[name]
                    self.feeds.pop(name, None)

    async def aclose(self) -> None:
        for peer in tuple(self.sessions.values()):
            await peer.aclose()
        for task in self.tasks:
            task.cancel()


class _Upstream:
    def __init__(self, peer: ViewingPeer) -> None:
        self._peer = peer

    def request_keyframe(self) -> None:
        self._peer.request_keyframe()


class _Onward:
    def __init__(self, feed: Feed) -> None:
        self._feed = feed

    def request_keyframe(self) -> None:
        self._feed.request_keyframe()


@asynccontextmanager
async def serving(**settings: Any):
    """Run a server on an ephemeral port of the loopback interface."""
    server = WhipServer(**settings)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    server.url = f"http://127.0.0.1:{port}"
    try:
        yield server
    finally:
        await server.aclose()
        await runner.cleanup()
