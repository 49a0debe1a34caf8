"""
Stand-ins for WHIP and WHEP servers of a make: not those servers, but what is known of how they
deviate, as one class for each. Media is real.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

from aiohttp import web
from whip_server import Seen, WhipServer

from hitless.media.peer import Peer
from hitless.providers.whip import Whip


STREAM = "show"
SDP = "application/sdp"
HTML = "<!DOCTYPE html><html><body><pre>Cannot do that</pre></body></html>"


def says(status: int, text: str = "", **headers: str) -> web.Response:
    """Answer in plain words; `_` in a header's name is a hyphen."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return web.Response(status=status, text=text, content_type="text/plain", headers=named)


def page(status: int) -> web.Response:
    """Answer with a page, as frameworks do where they know no route."""
    return web.Response(status=status, text=HTML, content_type="text/html")


@dataclass
class Make(WhipServer):
    """
    What they have in common: sessions that are counted, and a token.

    Attributes:
        whip, whep: Where to publish and to view; None: it says nothing of viewing.
        views: Whether it can be viewed there.
        token: Whom it lets in.
        is_reachable: Whether media gets there as we are; else it needs the relay.
        etag: As its 201 has it.
        link: Its Link header.
        elsewhere: Another host of it, where its sessions are.
    """

    whip: ClassVar[str] = "/whip/{stream}"
    whep: ClassVar[str | None] = None
    views: ClassVar[bool] = True

    token: str | None = "hush"
    link: str | None = None
    is_reachable: bool = True
    elsewhere: str = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.text()
        self.seen.append(Seen(request.method, request.raw_path, dict(request.headers), body))
        if self.intercept is not None and (answer := await self.intercept(request)) is not None:
            return answer
        return await self.answer(request, body)

    async def answer(self, request: web.Request, body: str) -> web.StreamResponse:
        """Answer as this make does."""
        raise NotImplementedError

    # --- Pieces ---

    def knows(self, request: web.Request) -> bool:
        """Whether the request carries the token, if there is one."""
        sent = request.headers.get("Authorization")
        return self.token is None or sent == f"Bearer {self.token}"

    @staticmethod
    def is_offer(request: web.Request, body: str) -> bool:
        """Whether the request brings a description."""
        return request.content_type == SDP and body.startswith("v=0")

    async def enter(self, body: str, *, view: bool, location: str = "") -> web.Response:
        """Answer an offer; `{}` in the location becomes the session's number."""
        if view and STREAM not in self.feeds:
            return says(404, "no such stream")
        made = await (self.view if view else self.publish)(STREAM, body)
        made.headers["Location"] = location.replace("{}", str(self.count))
        if self.link is not None:
            made.headers["Link"] = self.link
        if not self.is_reachable:
            await self.leave(str(self.count))
        return made

    async def leave(self, number: str) -> bool:
        """End a session; tell whether there was one."""
        peer = self.sessions.pop(f"/session/{number}", None)
        if peer is None:
            return False
        for name, publisher in tuple(self.publishers.items()):
            if publisher is peer:
                del self.publishers[name]
                self.feeds.pop(name, None)
        await peer.aclose()
        return True

    async def connect(self, peer: Peer) -> None:
        await super().connect(peer)
        await peer.aclose()
        for path, each in tuple(self.sessions.items()):
            if each is peer:  # its media is gone
                del self.sessions[path]

    def provider(self, **settings: Any) -> Whip:
        """Return the adapter, configured as the documents of this make have it."""
        view = None if self.whep is None else self.url + self.whep
        known = {"url": self.url + self.whip, "view_url": view, "token": self.token}
        return Whip("server", **{**known, **settings})


class Meetecho(Make):
    """simple-whip-server: publishing only, sessions that can be guessed, 403 for everything."""

    whip = "/whip/endpoint/{stream}"
    views = False

    async def answer(self, request: web.Request, body: str) -> web.StreamResponse:
        if request.method == "POST" and request.path == f"/whip/endpoint/{STREAM}":
            if self.publishers:
                return says(403, "Endpoint ID already in use")
            if not self.is_offer(request, body):
                return says(406, "Unsupported content type")
            if not self.knows(request):
                return says(403, "Unauthorized")
            return await self.enter(body, view=False, location=f"/whip/resource/{STREAM}")
        if request.method == "DELETE" and request.path == f"/whip/resource/{STREAM}":
            if not self.sessions:
                return says(404, "Invalid resource ID")
            if not self.knows(request):
                return says(403, "Unauthorized")
            return says(200 if await self.leave(str(self.count)) else 404)
        if request.path.startswith("/whip/endpoint/"):
            return says(404 if request.method == "POST" else 405, "Invalid endpoint ID")
        return page(404)


@dataclass
class MediaMtx(Make):
    """MediaMTX: an entity tag that is none, a Basic challenge, and a no that takes its time."""

    whip = "/{stream}/whip"
    whep = "/{stream}/whep"
    etag: str | None = "*"
    pause_s: float = 0.3
    """Its deliberate pause before a no [s]; how long the real one is, is not known here."""

    def where(self, kind: str) -> str:
        """Return the Location of a session."""
        return f"/{STREAM}/{kind}/secret-{{}}"

    async def answer(self, request: web.Request, body: str) -> web.StreamResponse:
        kind, _, secret = request.path.removeprefix(f"/{STREAM}/").partition("/secret-")
        if not self.knows(request):
            await asyncio.sleep(self.pause_s)
            return says(401, "", WWW_Authenticate='Basic realm="mediamtx"')
        if request.method == "POST" and kind in ("whip", "whep") and not secret:
            if not self.is_offer(request, body):
                return says(400, "invalid Content-Type")
            return await self.enter(body, view=kind == "whep", location=self.where(kind))
        if request.method == "DELETE" and secret:
            return says(200 if await self.leave(secret) else 404)
        return says(405)


class OlderMediaMtx(MediaMtx):
    """An older one: Location without a slash in front, and no PATCH without If-Match."""

    def where(self, kind: str) -> str:
        return f"{kind}/secret-{{}}"

    async def answer(self, request: web.Request, body: str) -> web.StreamResponse:
        if request.method == "PATCH" and "If-Match" not in request.headers:
            return says(428)
        return await super().answer(request, body)


@dataclass
class LiveKitWhip(Make):
    """LiveKit's own WHIP: the stream is in the token, the tag is unquoted, the relay escaped."""

    whip = "/whip/v1"
    views = False  # not by WHEP
    etag: str | None = "ufragUfrag"
    link: str | None = (
        '<turn:turn.example.net:443%3Ftransport=tcp>; rel="ice-server"; username="u"; '
        'credential="relay-pass"; credential-type="password"'
    )

    async def answer(self, request: web.Request, body: str) -> web.StreamResponse:
        if not request.path.startswith("/whip/v1"):
            return says(404, "404 page not found")
        if not self.knows(request):
            return web.json_response({"error": "invalid authorization token"}, status=401)
        if request.method == "POST" and request.path == "/whip/v1":
            return await self.enter(body, view=False, location="/whip/v1/PA_{}")
        if request.method == "PATCH" and "If-Match" not in request.headers:
            return says(428)
        number = request.path.rpartition("PA_")[2]
        return says(200 if request.method == "DELETE" and await self.leave(number) else 404)


class LiveKitIngress(Make):
    """LiveKit Ingress: no PATCH of any kind."""

    whip = "/w/{stream}"
    views = False

    async def answer(self, request: web.Request, body: str) -> web.StreamResponse:
        if request.method == "PATCH":
            return says(405)
        if not self.knows(request):
            return says(401)
        if request.method == "POST" and request.path == f"/w/{STREAM}":
            return await self.enter(body, view=False, location=f"/w/{STREAM}/{{}}")
        if request.method == "DELETE":
            return says(200 if await self.leave(request.path.rpartition("/")[2]) else 404)
        return says(404)


@dataclass
class Cloudflare(Make):
    """Cloudflare Stream: the credential is in the URL, and H.264 is one profile only."""

    whip = "/5ecret0fThePubl1sher/webRTC/publish"
    whep = "/5ecret0fTheV1ewer/webRTC/play"
    token: str | None = None

    async def answer(self, request: web.Request, body: str) -> web.StreamResponse:
        if request.method == "POST" and request.path in (self.whip, self.whep):
            video = body.partition("m=video")[2]
            first = video.partition("profile-level-id=")[2][:6]
            if "H264/90000" in video and first != "42e01f":
                return says(400, "unsupported profile")
            view = request.path == self.whep
            made = await self.enter(body, view=view, location=f"{request.path}/{{}}")
            draft = "draft-murillo-whep-01" if view else "draft-ietf-wish-whip-06"
            made.headers["protocol-version"] = draft
            return made
        if request.method == "DELETE":
            return says(200 if await self.leave(request.path.rpartition("/")[2]) else 404)
        return says(404, f"{request.path} is not known here")


@dataclass
class Srs(Make):
    """SRS: everything is in the query, the Location's too, and it names WHIP for views as well."""

    whip = "/rtc/v1/whip/?app=live&stream={stream}"
    whep = "/rtc/v1/whep/?app=live&stream={stream}"
    token: str | None = None
    etag: str | None = None

    async def answer(self, request: web.Request, body: str) -> web.StreamResponse:
        kind = request.path.removeprefix("/rtc/v1/")
        if kind not in ("whip/", "whep/"):
            return says(404)
        if request.method == "DELETE" and request.query.get("action") == "delete":
            known = kind == "whip/" and request.query.get("token") == "t0ken"
            return says(200 if known and await self.leave(request.query["session"]) else 404)
        if request.method != "POST":  # GET gives a wrong error
            return web.json_response({"code": 100, "message": "unexpected"}, status=200)
        if "app" not in request.query or "stream" not in request.query:
            return web.json_response({"code": 400}, status=400)
        ends = "/rtc/v1/whip/?action=delete&token=t0ken&session={}"
        return await self.enter(body, view=kind == "whep/", location=ends)


@dataclass
class OvenMedia(Make):
    """OvenMediaEngine over TCP: reachable by its relay only, which it names in Link only."""

    whip = "/app/{stream}?direction=whip&transport=tcp"
    views = False
    token: str | None = None
    etag: str | None = None
    link: str | None = (
        '<turn:relay.example.net:3478?transport=tcp>; rel="ice-server"; '
        'credential-type="password"; username="u"; credential="relay-pass"'
    )

    async def answer(self, request: web.Request, body: str) -> web.StreamResponse:
        if request.method == "POST" and request.query.get("direction") == "whip":
            return await self.enter(body, view=False, location=f"/app/{STREAM}/{{}}")
        if request.method == "DELETE":
            return says(200 if await self.leave(request.path.rpartition("/")[2]) else 404)
        return says(404)


@dataclass
class Millicast(Make):
    """Millicast: its director sends to another host, errors are text, and Accept must say so."""

    whip = "/api/whip/{stream}?codec=vp8&sourceId=main"
    whep = "/api/whep/{stream}"

    async def answer(self, request: web.Request, body: str) -> web.StreamResponse:
        accepted = request.headers.get("Accept", "")
        if request.method == "POST" and not (SDP in accepted and "text/plain" in accepted):
            return says(406, "Accept must have application/sdp and text/plain")
        if request.method == "DELETE":  # on the other host
            return says(200 if await self.leave(request.path.rpartition("/")[2]) else 404)
        if not self.knows(request):
            return says(401, "publishing token is not valid")
        view = request.path.startswith("/api/whep/")
        return await self.enter(body, view=view, location=self.elsewhere + "/session/{}")


@dataclass
class BroadcastBox(Make):
    """Broadcast Box: the token is the stream's key, one Location for all, and no DELETE."""

    whip = "/api/whip"
    whep = "/api/whep"
    link: str | None = (
        '<127.0.0.1:1/api/sse/1>; rel="urn:ietf:params:whep:ext:core:server-sent-events"; '
        'events="layers", <127.0.0.1:1/api/layer/1>; rel="urn:ietf:params:whep:ext:core:layer"'
    )
    etag: str | None = None

    async def answer(self, request: web.Request, body: str) -> web.StreamResponse:
        if request.path not in (self.whip, self.whep):
            return page(404)
        if not self.knows(request):
            return says(400, "Authorization was not set")
        if not body.startswith("v=0"):  # the same for every method
            return says(400, "EOF")
        view = request.path == self.whep
        return await self.enter(body, view=view, location=request.path)


EVERY: tuple[type[Make], ...] = (
    Meetecho,
    MediaMtx,
    OlderMediaMtx,
    LiveKitWhip,
    LiveKitIngress,
    Cloudflare,
    Srs,
    OvenMedia,
    Millicast,
    BroadcastBox,
)


@asynccontextmanager
async def serving(kind: type[Make], **settings: Any) -> AsyncIterator[Make]:
    """Run one on two ephemeral ports of the loopback interface: its own, and its other host."""
    server = kind(**settings)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    for _ in range(2):
        await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url, server.elsewhere = (
        f"http://127.0.0.1:{address[1]}" for address in runner.addresses
    )
    try:
        yield server
    finally:
        await server.aclose()
        await runner.cleanup()
