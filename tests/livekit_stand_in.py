"""
A stand-in for a LiveKit server, for tests: WHIP with its tokens, and RoomService.

Not LiveKit: what it answers was read in the source of livekit-server 1.13 and compared with one
that ran. It looks at tokens, and misbehaves when told to.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import jwt
from aiohttp import web
from whip_server import Seen, WhipServer

from hitless.media.frame import Kind
from hitless.media.peer import Peer
from hitless.providers.livekit import LiveKit


KEY = "key-of-the-test"
SECRET = "a secret of thirty-two characters or more"
NAMES = {Kind.AUDIO: "synthesized-microphone", Kind.VIDEO: "synthesized-camera"}
WAIT_S = 3.0
"""How long who asks for a track that is not there waits for a 503 [s]."""


@dataclass
class Guest:
    """
    A participant that is in a room without media.

    Attributes:
        identity: From its token.
        names: The names of the tracks that it says it publishes.
        joined_ms: When it came [ms].
    """

    identity: str
    names: dict[Kind, str] = field(default_factory=dict)
    joined_ms: int = 0
    sid: str = "PA_guest"


@dataclass
class LiveKitServer(WhipServer):
    """
    Rooms, each with publishers and viewers.

    Attributes:
        health: Status and text of `GET /`.
        twirp: Answers of RoomService that are given instead, by method: status, headers, text.
        guests: Participants without media, by room.
        claims: The claims of every token that was shown, in order.
        who: Room, identity and whether it publishes, by session.
        removed: Whom RoomService removed.
        waited: How often somebody asked for tracks that were not there.
    """

    health: tuple[int, str] = (200, "OK")
    twirp: dict[str, tuple[int, dict[str, str], str]] = field(default_factory=dict)
    guests: dict[str, list[Guest]] = field(default_factory=dict)
    claims: list[dict[str, Any]] = field(default_factory=list)
    who: dict[str, tuple[str, str, bool]] = field(default_factory=dict)
    removed: list[str] = field(default_factory=list)
    waited: int = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.text()
        self.seen.append(Seen(request.method, request.raw_path, dict(request.headers), body))
        if self.intercept is not None:
            answer = await self.intercept(request)
            if answer is not None:
                return answer
        if request.path == "/":
            return web.Response(status=self.health[0], text=self.health[1])
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        try:
            claims = jwt.decode(
                token, SECRET, algorithms=["HS256"], issuer=KEY, options={"require": ["exp"]}
            )
        except jwt.PyJWTError as exc:
            # The real one repeats the token too.
            return web.Response(status=401, text=f"invalid token: {token}, error: {exc}")
        self.claims.append(claims)
        if request.path.startswith("/twirp/livekit.RoomService/"):
            return await self.service(request.path.rsplit("/", 1)[1], claims, json.loads(body))
        return await self.whip(request, claims, body)

    # --- WHIP ---

    async def whip(
        self, request: web.Request, claims: dict[str, Any], body: str
    ) -> web.StreamResponse:
        video = claims["video"]
        if not video.get("roomJoin"):
            return web.json_response({"error": "no permissions to access the room"}, status=401)
        if not claims.get("sub"):
            return web.json_response({"error": "identity cannot be empty"}, status=400)
        if request.method == "DELETE":
            was_there = await self.leave(request.path)
            return web.Response(status=200 if was_there else 404)
        room, identity = video["room"], claims["sub"]
        for path, who in tuple(self.who.items()):
            if who[:2] == (room, identity):
                await self.leave(path)
        if video["canPublish"]:
            answer = await self.publish(room, body)
        else:
            wanted = json.loads(request.headers.get("X-LiveKit-ClientInfo", "{}"))
            if not await self.there(room, wanted.get("subscribedParticipantTrackNames", {})):
                return web.json_response({"error": "no response from servers"}, status=503)
            answer = await self.view(room, body)
        self.who[answer.headers["Location"]] = (room, identity, video["canPublish"])
        return answer

    async def there(self, room: str, wanted: dict[str, list[str]]) -> bool:
        """Return whether the wanted tracks are there; like the real one, wait in vain if not."""
        known = {
            (each["identity"], track["name"])
            for each in self.participants(room)
            for track in each["tracks"]
        }
        if {(who, name) for who, names in wanted.items() for name in names} <= known:
            return bool(wanted)
        self.waited += 1
        await asyncio.sleep(WAIT_S)
        return False

    def register(self, peer: Peer) -> str:
        self.count += 1
        path = f"/whip/v1/PA_{self.count}"
        self.sessions[path] = peer
        return path

    async def leave(self, path: str) -> bool:
        """Put out whoever has this session; return whether there was one."""
        peer = self.sessions.pop(path, None)
        room = self.who.pop(path, ("", "", False))[0]
        if peer is None:
            return False
        if self.publishers.get(room) is peer:
            del self.publishers[room]
            self.feeds.pop(room, None)
        await peer.aclose()
        return True

    # --- RoomService ---

    async def service(
        self, method: str, claims: dict[str, Any], body: dict[str, Any]
    ) -> web.StreamResponse:
        if method in self.twirp:
            status, headers, text = self.twirp[method]
            return web.Response(status=status, headers=headers, text=text)
        video, room = claims["video"], body.get("room", "")
        admits = {
            "ListRooms": video.get("roomList"),
            "DeleteRoom": video.get("roomCreate"),
            "ListParticipants": video.get("roomAdmin") and video.get("room") == room,
            "RemoveParticipant": video.get("roomAdmin") and video.get("room") == room,
        }
        if method not in admits:
            return self.no(404, "bad_route")
        if not admits[method]:
            return self.no(401, "unauthenticated")
        if method == "ListRooms":
            return web.json_response({"rooms": self.rooms()})
        if method == "ListParticipants":
            return web.json_response({"participants": self.participants(room)})
        if method == "RemoveParticipant":
            return await self.remove(room, body["identity"])
        paths = [path for path, who in self.who.items() if who[0] == room]
        for path in paths:
            await self.leave(path)
        return web.json_response({}) if paths else self.no(404, "not_found")

    @staticmethod
    def no(status: int, code: str) -> web.Response:
        return web.json_response({"code": code, "msg": "words of the server"}, status=status)

    def rooms(self) -> list[dict[str, Any]]:
        names = {who[0] for who in self.who.values()} | set(self.guests)
        return [
            {"name": name, "sid": f"RM_{name}", "num_participants": len(self.participants(name))}
            for name in sorted(names)
        ]

    def participants(self, room: str) -> list[dict[str, Any]]:
        found = [
            self.participant(each.sid, each.identity, each.joined_ms, each.names)
            for each in self.guests.get(room, [])
        ]
        for path, (where, identity, publishes) in self.who.items():
            if where == room:
                number = int(path.rsplit("_", 1)[1])
                feed = self.feeds.get(room) if publishes else None
                names = {kind: NAMES[kind] for kind in feed.kinds} if feed else {}
                sid = path.rsplit("/", 1)[1]
                found.append(self.participant(sid, identity, 1_000_000 + number, names))
        return found

    @staticmethod
    def participant(
        sid: str, identity: str, joined_ms: int, names: dict[Kind, str]
    ) -> dict[str, Any]:
        tracks = [
            {"sid": f"TR_{name}", "type": kind.value.upper(), "name": name, "muted": False}
            for kind, name in names.items()
        ]
        return {
            "sid": sid,
            "identity": identity,
            "state": "ACTIVE",
            "tracks": tracks,
            "joined_at": str(joined_ms // 1000),
            "joined_at_ms": str(joined_ms),
        }

    async def remove(self, room: str, identity: str) -> web.Response:
        before = len(self.removed)
        for each in tuple(self.guests.get(room, [])):
            if each.identity == identity:
                self.guests[room].remove(each)
                self.removed.append(identity)
        for path, who in tuple(self.who.items()):
            if who[:2] == (room, identity):
                await self.leave(path)
                self.removed.append(identity)
        return web.json_response({}) if len(self.removed) > before else self.no(404, "not_found")


@asynccontextmanager
async def serving(**settings: Any):
    """Run a stand-in on an ephemeral port of the loopback interface."""
    server = LiveKitServer(etag="ufrag-unquoted", **settings)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        await server.aclose()
        await runner.cleanup()


def livekit(server: LiveKitServer, **settings: Any) -> LiveKit:
    """Make a provider of a stand-in, with its key unless credentials are given."""
    if "credentials" not in settings:
        settings = {"api_key": KEY, "api_secret": SECRET, **settings}
    return LiveKit(**{"url": server.url.replace("http", "ws"), **settings})
