"""A stand-in of a control API on loopback: it records what it is asked, and answers as told."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from hitless.providers.quota import Limit, Quota


@dataclass
class Asked:
    """One request as it arrived."""

    method: str
    host: str
    path: str
    query: list[tuple[str, str]]
    headers: dict[str, str]
    body: Any  # Any: JSON
    request: web.Request


Answering = Callable[[Asked], Awaitable[web.StreamResponse]]


@dataclass
class StandIn:
    """
    The stand-in itself.

    Attributes:
        origin: Where it listens.
        port: On which port.
        answering: What it does with a request.
        asked: What came, in order.
        left: Requests whose client went away before the answer.
    """

    origin: str = ""
    port: int = 0
    answering: Answering | None = None
    asked: list[Asked] = field(default_factory=list)
    left: int = 0

    def named(self, name: str) -> str:
        """Return its origin under another name (see `Names`)."""
        return f"http://{name}.localhost:{self.port}"

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Note a request and answer it."""
        content = await request.read()
        asked = Asked(
            method=request.method,
            host=(request.host or "").partition(":")[0],
            path=request.raw_path.partition("?")[0],
            query=list(request.query.items()),
            headers=dict(request.headers),
            body=await request.json() if content else None,
            request=request,
        )
        self.asked.append(asked)
        assert self.answering is not None
        try:
            return await self.answering(asked)
        except asyncio.CancelledError:
            self.left += 1
            raise


@asynccontextmanager
async def standing_in(answering: Answering) -> AsyncIterator[StandIn]:
    """Run a stand-in on a free port of loopback."""
    stand_in = StandIn(answering=answering)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", stand_in.handle)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    stand_in.port = runner.addresses[0][1]
    stand_in.origin = f"http://127.0.0.1:{stand_in.port}"
    try:
        yield stand_in
    finally:
        await runner.cleanup()


class Names(AbstractResolver):
    """
    Resolves every name to loopback.

    Args:
        missing: First labels of names that are not found.
    """

    def __init__(self, *missing: str) -> None:
        self.missing = set(missing)
        self.asked: list[str] = []

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return loopback, or fail as the system does."""
        self.asked.append(host)
        if host.partition(".")[0] in self.missing:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        found: ResolveResult = {
            "hostname": host,
            "host": "127.0.0.1",
            "port": port,
            "family": socket.AF_INET,
            "proto": 0,
            "flags": socket.AI_NUMERICHOST,
        }
        return [found]

    async def close(self) -> None:
        """Nothing to close."""


class Noting(Quota):
    """
    A quota that notes when each call was let through, and which kinds were held.

    When a call arrives depends on how busy the machine is.

    Attributes:
        times: When each was let through [s, the loop's clock].
        held: Which kinds were held, in order.
    """

    def __init__(self, provider: str, limits: Mapping[str, Limit]) -> None:
        super().__init__(provider, limits)
        self.times: list[float] = []
        self.held: list[str] = []

    async def take(
        self, kind: str, *, operation: str, deadline: float, subject: str | None = None
    ) -> None:
        """Wait as any quota does."""
        await super().take(kind, operation=operation, deadline=deadline, subject=subject)
        self.times.append(asyncio.get_running_loop().time())

    def hold(self, kind: str, for_s: float) -> None:
        """Hold as any quota does."""
        super().hold(kind, for_s)
        self.held.append(kind)


def answers(*replies: web.StreamResponse | tuple[int, Any]) -> Answering:
    """Answer with each in turn, the last for ever; a pair is a status and JSON."""
    left = list(replies)

    async def answering(asked: Asked) -> web.StreamResponse:
        reply = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(reply, tuple):
            return web.json_response(reply[1], status=reply[0])
        return reply

    return answering


def raw(body: bytes, status: int = 200, **headers: str) -> Answering:
    """Answer with these bytes."""

    async def answering(asked: Asked) -> web.StreamResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(body=body, status=status, headers=named)

    return answering


async def hanging(asked: Asked) -> web.StreamResponse:
    """Never answer."""
    await asyncio.sleep(60)
    raise AssertionError("it was waited for")


async def trickling(asked: Asked) -> web.StreamResponse:
    """Answer with a byte now and a byte then, and no end."""
    response = web.StreamResponse()
    await response.prepare(asked.request)
    while True:
        await response.write(b" ")
        await asyncio.sleep(0.01)
