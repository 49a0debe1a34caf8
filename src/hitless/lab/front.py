"""
The lab's front: a proxy before the server that passes everything on, or misbehaves when told to.

    python -m hitless.lab.front --upstream http://127.0.0.1:8080

Clients of the lab speak with the front, so that the real server can be slow, broken, lying or
away without a line of it knowing. The front listens on loopback only and believes whoever holds
`HITLESS_LAB_TOKEN`. *Near* is the side of the client, *far* the side of the server.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import sys
import weakref
from collections.abc import AsyncIterator, Callable, Sequence
from enum import StrEnum
from typing import Annotated, Any, Final, Literal

import aiohttp
import msgspec
import structlog
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from ..errors import ConfigError
from . import wire
from .tunnel import cut, far_session, passed, tunnel


SLOW_S_MAX: Final = 60.0
HELD_S_MAX: Final = 300.0
"""How long something waits while the server is silently away [s]; then it is cut."""

_HANG_S_MAX = 120.0
_ANSWER_S_MAX = 3600.0  # endless answers end too

_PUBLIC = re.compile(r"/streaming/providers(?:/(?P<name>[^/]+)/health)?/?")

log: Final = structlog.get_logger()

Lie = Callable[[dict[str, Any]], dict[str, Any]]


class Broken(StrEnum):
    """How the two public endpoints misbehave."""

    SERVER_ERROR = "500"
    BAD_JSON = "bad-json"
    HANG = "hang"
    LIE = "lie"
    """Everybody is well, priorities are text, one provider is named twice, one is nowhere."""


class Trouble(msgspec.Struct, frozen=True, kw_only=True):
    """
    What is on, as the control tells and takes it.

    Attributes:
        slow_s: How long an answer of the two public endpoints waits, or of `everything` [s].
        broken: How the two public endpoints misbehave; None: they do not.
        healthy: What health says of a provider in spite of the server.
        upstream: Another server, as a balancer turns to one; None: the first.
        away: True: as if no process were there; `silent`: as if no packet came through.
    """

    slow_s: Annotated[float, msgspec.Meta(ge=0, le=SLOW_S_MAX)] = 0.0
    everything: bool = False
    broken: Broken | None = None
    healthy: Annotated[dict[str, bool], msgspec.Meta(max_length=64)] = {}
    away: bool | Literal["silent"] = False
    upstream: str | None = None


class LabFront:
    """
    The front as an application.

    Args:
        upstream: Base url of the server.
        token: What control calls must bear.
        network: An address that its clients seem to come from; empty: their own.
    """

    def __init__(self, upstream: str, *, token: str, network: str = "") -> None:
        self.trouble = Trouble()
        self._first = upstream.rstrip("/")
        self._token, self._network = token, network
        self._open = asyncio.Event()
        self._open.set()
        self._near: weakref.WeakSet[asyncio.Transport] = weakref.WeakSet()

    @property
    def _upstream(self) -> str:
        return (self.trouble.upstream or self._first).rstrip("/")

    def app(self) -> web.Application:
        """Return the application; it closes with its runner."""
        app = web.Application(
            middlewares=[wire.enveloped, wire.bearing(self._token, under="/control")],
            client_max_size=1 << 16,  # of a control call; what passes is for the server to judge
        )
        app.router.add_get("/control", self._tell)
        app.router.add_patch("/control", self._be_told)
        app.router.add_route("*", "/{path:.*}", self._answer)
        app.on_response_prepare.append(_say_what_it_is)
        app.cleanup_ctx.append(self._connected)
        return app

    async def _connected(self, app: web.Application) -> AsyncIterator[None]:
        async with far_session() as self._session:
            yield

    # --- Being told ---

    async def _tell(self, request: web.Request) -> web.StreamResponse:
        return wire.success(msgspec.to_builtins(self.trouble))

    async def _be_told(self, request: web.Request) -> web.StreamResponse:
        change = await wire.read_change(request, Trouble.__struct_fields__)
        if isinstance(healthy := change.get("healthy"), dict):
            merged = {**self.trouble.healthy, **healthy}
            change["healthy"] = {name: word for name, word in merged.items() if word is not None}
        then = {**msgspec.structs.asdict(self.trouble), **change}
        kept = {name: word for name, word in then.items() if word is not None}
        try:
            self.trouble = msgspec.convert(kept, Trouble)  # null: as it was in the beginning
        except msgspec.ValidationError as exc:
            raise wire.bad_request(str(exc)) from None
        if self.trouble.away is True:
            for transport in self._near - {request.transport}:
                transport.abort()  # as the end of a process does; before anything is let through
        (self._open.clear if self.trouble.away == "silent" else self._open.set)()
        log.info("front.changed", **msgspec.to_builtins(self.trouble))
        return await self._tell(request)

    # --- Passing on ---

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/control" or request.path.startswith("/control/"):
            raise web.HTTPNotFound(text="the front has GET and PATCH of /control")
        if self.trouble.away is True or request.transport is None:
            return cut(request)
        self._near.add(request.transport)
        try:
            await self._pass()
            answer = await self._misbehaving(request)
            await self._pass()
            return answer
        except TimeoutError:
            return cut(request)

    async def _pass(self) -> None:
        """
        Let something through, but not while the server is silently away.

        Raises:
            TimeoutError: It was held for `HELD_S_MAX`: give up, as TCP does in the end.
        """
        if not self._open.is_set():
            async with asyncio.timeout(HELD_S_MAX):
                await self._open.wait()

    async def _misbehaving(self, request: web.Request) -> web.StreamResponse:
        public = _PUBLIC.fullmatch(request.path) if request.method == "GET" else None
        if self.trouble.slow_s and (public or self.trouble.everything):
            await asyncio.sleep(self.trouble.slow_s)
        if public is None:
            if web.WebSocketResponse().can_prepare(request):
                return await self._tunnelled(request)
            return await self._forward(request, None)
        match self.trouble.broken:
            case Broken.SERVER_ERROR:
                return wire.failure(500, "broken", "this server was told to fail")
            case Broken.BAD_JSON:
                return web.Response(text='{"success": tru', content_type="application/json")
            case Broken.HANG:
                await asyncio.sleep(_HANG_S_MAX)
        return await self._forward(request, self._lie(public["name"]))

    def _lie(self, name: str | None) -> Lie | None:
        """Return what to make of the server's answer about a provider, or about all (None)."""
        is_lie = self.trouble.broken is Broken.LIE
        if name is None:
            return _lied if is_lie else None
        healthy = True if is_lie else self.trouble.healthy.get(name)
        return None if healthy is None else lambda data: _judged(data, healthy)

    async def _forward(self, request: web.Request, lie: Lie | None) -> web.StreamResponse:
        headers = self._sent(request)
        if lie:
            headers["Accept-Encoding"] = "identity"
            headers.popall("If-None-Match", None)  # what the client has may be a lie
        near = web.StreamResponse()
        try:
            async with (
                asyncio.timeout(_ANSWER_S_MAX),
                self._session.request(
                    request.method,
                    URL(self._upstream + request.rel_url.raw_path_qs, encoded=True),
                    headers=headers,
                    data=request.content if request.body_exists else None,
                    allow_redirects=False,
                ) as far,
            ):
                await self._pass()
                if lie and far.status == 200:
                    return _spoilt(far, await far.read(), lie)
                near.set_status(far.status, far.reason)
                near.headers.extend(passed(far.headers))
                await near.prepare(request)
                async for part in far.content.iter_any():
                    await self._pass()
                    await near.write(part)
                await near.write_eof()
                return near
        except (aiohttp.ClientError, OSError) as exc:  # TimeoutError is an OSError
            return cut(request) if near.prepared else _unanswered(exc)

    def _sent(self, request: web.Request) -> CIMultiDict[str]:
        headers = passed(request.headers)
        if self._network:
            headers["X-Forwarded-For"] = self._network
        return headers

    async def _tunnelled(self, request: web.Request) -> web.StreamResponse:
        url = URL(self._upstream + request.rel_url.raw_path_qs, encoded=True)
        try:
            return await tunnel(request, url, self._sent(request), self._pass)
        except (aiohttp.ClientError, OSError) as exc:
            return _unanswered(exc)


# --- Requests and answers ---


def _unanswered(exc: Exception) -> web.Response:
    """Say what kind of error it was, not its text: that may hold headers."""
    return wire.failure(502, "bad-gateway", f"the server did not answer: {type(exc).__name__}")


async def _say_what_it_is(request: web.Request, response: web.StreamResponse) -> None:
    response.headers["Server"] = "hitless-lab-front (not for production)"


def _spoilt(far: aiohttp.ClientResponse, body: bytes, lie: Lie) -> web.Response:
    """Return an answer with a lie for its data; one that has none, as it is."""
    try:
        told = msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        told = {}
    if isinstance(told.get("data"), dict):
        body = msgspec.json.encode({**told, "data": lie(told["data"])})
    return web.Response(body=body, headers=passed(far.headers, "content-length", "etag"))


def _judged(data: dict[str, Any], healthy: bool) -> dict[str, Any]:
    if data.get("status") != "disabled":
        data = {**data, "status": "active" if healthy else "down"}
    return {**data, "healthy": healthy}


def _lied(data: dict[str, Any]) -> dict[str, Any]:
    """Spoil a list in every way that a careful reader survives, keeping the order."""
    providers = [{**entry, "priority": str(entry["priority"])} for entry in data["providers"]]
    if providers:
        providers[-1].pop("isActive", None)
    nobody = {"name": "nowhere", "isActive": "true", "priority": "high", "config": None}
    return {"providers": [*providers, *providers[:1], nobody, None], "default": "no-such-provider"}


# --- The process ---


def main(argv: Sequence[str] | None = None) -> int:
    """Run the front until SIGTERM; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m hitless.lab.front",
        description="Misbehaves before a server. Not for production: loopback only.",
    )
    parser.add_argument("--upstream", default="", metavar="URL", help="of the server")
    parser.add_argument("--network", default="", help="address its clients seem to come from")
    parser.add_argument("--port", type=int, default=0, help="0: any free one (default)")
    options = parser.parse_args(argv)

    async def serve() -> None:
        if not re.fullmatch(r"http://127\.0\.0\.1:[1-9][0-9]{0,4}/?", options.upstream):
            raise ConfigError(f"--upstream {options.upstream!a}: give http://127.0.0.1:PORT")
        front = LabFront(
            options.upstream, token=wire.lab_token(os.environ), network=options.network
        )
        runner, url = await wire.listening(front.app(), options.port)
        log.info("front.listening", url=url, note="for the lab, not for production")
        try:
            await wire.until_told({"name": "front", "url": url, "pid": os.getpid()})
        finally:
            await runner.cleanup()

    return wire.run_process("hitless.lab.front", serve)


if __name__ == "__main__":
    sys.exit(main())
