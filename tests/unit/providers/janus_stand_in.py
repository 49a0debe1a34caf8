"""
A stand-in for Janus's signalling: it answers as it is told to, and carries no media.

Written from Janus's own documentation of its API and of VideoRoom; what a real Janus does is
tested in `interop/test_janus.py`.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web


HANDLE = 77
SESSION = 7

Message = dict[str, Any]


@dataclass
class StandIn:
    """
    Says what Janus would say.

    Attributes:
        url: Its WebSocket.
        core_errors: Code of the core by kind of request: `create`, `attach`, `message` ...
        room_errors: Code of VideoRoom by request: `create`, `join`, `publish` ...
        reason: The words of every error.
        silent: Kinds of request, and requests, that are never answered.
        participants: Who is in the room.
        publishers: Who publishes in it, as said to who joins.
        seen: Every message that came, in order.
        sockets: Those that are open.
        opened: How many were opened at all.
        refuses: HTTP status instead of a WebSocket; 0: none.
    """

    url: str = ""
    core_errors: dict[str, int] = field(default_factory=dict)
    room_errors: dict[str, int] = field(default_factory=dict)
    reason: str = "because"
    silent: set[str] = field(default_factory=set)
    participants: list[Message] = field(default_factory=list)
    publishers: list[Message] = field(default_factory=list)
    seen: list[Message] = field(default_factory=list)
    sockets: list[web.WebSocketResponse] = field(default_factory=list)
    opened: int = 0
    refuses: int = 0

    def requests(self, name: str) -> list[Message]:
        """Return the messages of one kind, or the bodies of one request to VideoRoom."""
        bodies = [each.get("body", {}) for each in self.seen]
        return [each for each in self.seen if each["janus"] == name] + [
            body for body in bodies if body.get("request") == name
        ]

    async def say(self, message: Message | str) -> None:
        """Say something unasked on every socket; a string goes out as it is."""
        for socket in self.sockets:
            text = message if isinstance(message, str) else json.dumps(message)
            await socket.send_str(text)

    async def tell(self, kind: str, **more: Any) -> None:
        """Say something about the handle."""
        await self.say({"janus": kind, "session_id": SESSION, "sender": HANDLE, **more})

    async def tell_room(self, **data: Any) -> None:
        """Say something of VideoRoom's about the handle."""
        await self.tell("event", plugindata={"plugin": "janus.plugin.videoroom", "data": data})

    async def serve(self, request: web.Request) -> web.StreamResponse:
        if self.refuses:
            return web.Response(status=self.refuses)
        socket = web.WebSocketResponse(protocols=("janus-protocol",))
        await socket.prepare(request)
        self.sockets.append(socket)
        self.opened += 1
        try:
            async for news in socket:
                if news.type is aiohttp.WSMsgType.TEXT:
                    await self.answer(socket, json.loads(news.data))
        finally:
            self.sockets.remove(socket)
        return socket

    async def answer(self, socket: web.WebSocketResponse, message: Message) -> None:
        self.seen.append(message)
        kind, transaction = message["janus"], message["transaction"]
        name = message.get("body", {}).get("request", kind)
        if self.silent & {kind, name}:
            return

        async def reply(janus: str, **more: Any) -> None:
            await socket.send_json({"janus": janus, "transaction": transaction, **more})

        if kind in self.core_errors:
            error = {"code": self.core_errors[kind], "reason": self.reason}
            await reply("error", error=error)
        elif kind in ("keepalive", "trickle"):
            await reply("ack")
        elif kind in ("create", "attach"):
            await reply("success", data={"id": SESSION if kind == "create" else HANDLE})
        elif kind == "message":
            await reply("ack")
            data, jsep = await self.room(name, message)
            if name in self.room_errors:
                data = {
                    "videoroom": "event",
                    "error_code": self.room_errors[name],
                    "error": self.reason,
                }
            more = {"sender": HANDLE, "plugindata": {"data": data}}
            await reply("event", **more, **({} if jsep is None else {"jsep": jsep}))
        else:
            await reply("success")

    async def room(self, name: str, message: Message) -> tuple[Message, Message | None]:
        if name == "listparticipants":
            return {"videoroom": "participants", "participants": self.participants}, None
        if name == "join" and message["body"]["ptype"] == "publisher":
            return {"videoroom": "joined", "id": 5, "publishers": self.publishers}, None
        return {"videoroom": "event"}, None


@asynccontextmanager
async def standing_in(**settings: Any) -> AsyncIterator[StandIn]:
    """Run a stand-in on an ephemeral port of the loopback interface."""
    stand_in = StandIn(**settings)
    app = web.Application()
    app.router.add_get("/{path:.*}", stand_in.serve)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    stand_in.url = f"ws://127.0.0.1:{runner.addresses[0][1]}/janus"
    try:
        yield stand_in
    finally:
        await runner.cleanup()
