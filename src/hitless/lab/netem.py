"""
The lab's network: a relay between one client and everything it talks to, without root.

    python -m hitless.lab.netem --upstream agora=http://127.0.0.1:9001 --upstream ...

Each upstream gets a port of its own here. Requests pass through it, and so does the media that
they arrange: candidates in offers and answers are replaced by UDP ports of the relay, so neither
side ever learns the other's address. Then the path can be made to lose, delay and reorder
datagrams, or to swallow everything, as a network does: nobody gets an answer, not even a no.
Requests are delayed and held up, but never lost: TCP would send them again.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import aiohttp
import structlog
from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from ..errors import ConfigError
from . import wire
from .path import Address, Path, Port, candidates, with_candidate
from .tunnel import passed, tunnel


DELAY_S_MAX: Final = 10.0
IN_FLIGHT_MAX: Final = 4096
"""Delayed datagrams of one line; what comes on top is lost, as in a full router queue."""
PATHS_MAX: Final = 512
"""Arranged paths of one line, and requests at a time; ports and memory stay bounded."""
HELD_S_MAX: Final = 300.0
"""How long a request waits for the network to come back [s]; then its connection is cut."""

_LEAVING_S = 2.0  # a path outlives the DELETE of its session for the last DTLS alert
_BODY_BYTES_MAX = 2 << 20

# Hop-by-hop fields (RFC 9110 section 7.6.1), and those that change with the body.
_NOT_PASSED = frozenset(
    "connection keep-alive proxy-authenticate proxy-authorization te trailer transfer-encoding"
    " upgrade host content-length content-encoding accept-encoding".split()
)

log: Final = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """How the network between the client and one upstream is."""

    loss: float = 0.0
    """Share of datagrams lost, each on its own [0..1]."""
    delay_s_max: float = 0.0
    """Each datagram waits a uniform time up to this [s], so they overtake each other."""
    down: bool = False
    """Nothing comes through; TCP connections are accepted and stall."""


# --- One upstream ---


class Line:
    """The network between the client and one upstream."""

    def __init__(self, upstream: str, rng: random.Random) -> None:
        self.upstream = URL(upstream)
        self.conditions = Conditions()
        self.url = ""
        self.lost = 0
        self.carried = {"up": 0, "down": 0}
        self._rng = rng
        self._up = asyncio.Event()
        self._up.set()
        self._in_flight = 0
        self._requests = 0
        self._paths: set[Path] = set()
        self._origins: Mapping[str, str] = {}
        self._runner: web.AppRunner | None = None
        self._session: aiohttp.ClientSession | None = None

    async def start(self, origins: Mapping[str, str]) -> None:
        """Listen; `origins` are the relay's urls by those of the upstreams, read at each use."""
        self._origins = origins
        app = web.Application(client_max_size=_BODY_BYTES_MAX)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner, self.url = await wire.listening(app, 0)
        self._session = aiohttp.ClientSession(
            skip_auto_headers=("Accept", "Content-Type", "User-Agent"),
            cookie_jar=aiohttp.DummyCookieJar(),
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            timeout=aiohttp.ClientTimeout(total=None),  # `_answer` holds the limit
        )

    async def aclose(self) -> None:
        """Close the port and all paths."""
        self.reap(float("inf"))
        if self._runner is not None and self._session is not None:
            await self._runner.cleanup()
            await self._session.close()

    def change(self, conditions: Conditions) -> None:
        """Make the network so, from now on, for what is under way too."""
        self.conditions = conditions
        (self._up.clear if conditions.down else self._up.set)()

    def carry(self, port: Port, data: bytes, to: Address, way: str) -> None:
        """Send a datagram from `port`, now, later or never; `way` is `up` or `down`."""
        delay_s = self._rng.uniform(0.0, self.conditions.delay_s_max)
        is_lost = self._rng.random() < self.conditions.loss or self.conditions.down
        if is_lost or self._in_flight >= IN_FLIGHT_MAX:
            self.lost += 1
            return
        self._in_flight += 1
        if delay_s:
            asyncio.get_running_loop().call_later(delay_s, self._arrive, port, data, to, way)
        else:
            self._arrive(port, data, to, way)

    def _arrive(self, port: Port, data: bytes, to: Address, way: str) -> None:
        self._in_flight -= 1
        if self.conditions.down:
            self.lost += 1
        else:
            self.carried[way] += 1
            port.send(data, to)

    # --- Requests ---

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        """Pass a request on, and its answer back; whatever goes wrong looks like the network."""
        assert self._session is not None
        if self._requests >= PATHS_MAX:
            return _cut(request)
        self._requests += 1
        path: Path | None = None
        try:
            if web.WebSocketResponse().can_prepare(request):
                await self._pass()
                url = URL(str(self.upstream).rstrip("/") + request.raw_path, encoded=True)
                return await tunnel(request, url, passed(request.headers), self._pass)
            async with asyncio.timeout(HELD_S_MAX):
                await self._pass()
                path, body = self._arranged(request, await request.read())
                async with self._session.request(
                    request.method,
                    URL(str(self.upstream).rstrip("/") + request.raw_path, encoded=True),
                    data=body or None,
                    headers=_passed(request.headers),
                    allow_redirects=False,
                ) as got:
                    answer = self._translated(request, got, await _read(got), path)
                await self._pass()
                return answer
        except (aiohttp.ClientError, OSError, ValueError):  # TimeoutError is an OSError
            return _cut(request)
        finally:
            self._requests -= 1
            if path is not None and path.resource is None:
                self._drop(path)

    async def _pass(self) -> None:
        """Let a request or an answer through: after the delay, and not while we are down."""
        await asyncio.sleep(self._rng.uniform(0.0, self.conditions.delay_s_max))
        await self._up.wait()

    def _arranged(self, request: web.Request, body: bytes) -> tuple[Path | None, bytes]:
        """Return the path that a request opens, and its body with our address in it."""
        self.reap(asyncio.get_running_loop().time())
        if request.method == "DELETE":
            for one in self._paths:
                if one.resource == request.raw_path:
                    one.idle_s_max = _LEAVING_S
        if request.content_type not in ("application/sdp", "application/trickle-ice-sdpfrag"):
            return None, body
        sdp = body.decode("latin-1")  # loses nothing, whatever it is
        if request.method != "POST":
            return None, with_candidate(sdp, None).encode("latin-1")
        if len(self._paths) >= PATHS_MAX:
            raise ValueError("too many paths")
        path = Path(self.carry, next(iter(candidates(sdp)), None))
        self._paths.add(path)
        return path, with_candidate(sdp, path.offered).encode("latin-1")

    def _translated(
        self, request: web.Request, got: aiohttp.ClientResponse, body: bytes, path: Path | None
    ) -> web.StreamResponse:
        """Return the upstream's answer with our addresses in place of its own."""
        headers = _passed(got.headers)
        if location := _replaced(headers.get("Location", ""), self._origins):
            headers["Location"] = location
        text = body.decode("latin-1")
        if got.content_type == "application/json":
            text = _replaced(text, self._origins)
        elif got.content_type == "application/sdp":
            near, at = None, candidates(text)
            if path is not None and at:
                near = path.answered(next((one for one in at if one[0] == "127.0.0.1"), at[0]))
                asked = URL(self.url + request.raw_path, encoded=True)
                path.resource = asked.join(URL(location, encoded=True)).raw_path_qs
            text = with_candidate(text, near)
        return web.Response(status=got.status, body=text.encode("latin-1"), headers=headers)

    def _drop(self, path: Path) -> None:
        self._paths.discard(path)
        path.close()

    def reap(self, now: float) -> None:
        """Close the paths that nobody uses; done at each request, so without a timer."""
        for path in [one for one in self._paths if now - one.used_s > one.idle_s_max]:
            self._drop(path)

    def as_json(self) -> dict[str, Any]:
        """Return conditions and counts."""
        self.reap(asyncio.get_running_loop().time())
        datagrams = {**self.carried, "lost": self.lost, "in_flight": self._in_flight}
        where = {"url": self.url, "upstream": str(self.upstream), "paths": len(self._paths)}
        return {**where, **asdict(self.conditions), "datagrams": datagrams}


def _passed(headers: CIMultiDictProxy[str]) -> CIMultiDict[str]:
    """Return the fields that go on, repeated ones too (`Link` may be there many times)."""
    return CIMultiDict((k, v) for k, v in headers.items() if k.lower() not in _NOT_PASSED)


def _replaced(text: str, origins: Mapping[str, str]) -> str:
    """Put the relay's origins in place of the upstreams', never a prefix of another port."""
    for origin, ours in origins.items():
        text = re.sub(re.escape(origin) + r"(?!\d)", ours, text)
    return text


def _cut(request: web.Request) -> web.Response:
    """Cut the connection: a relay that answered by itself would be a provider that answers."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=502)  # goes nowhere; aiohttp wants something to send


async def _read(got: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for part in got.content.iter_any():
        body += part
        if len(body) > _BODY_BYTES_MAX:
            raise ValueError("the upstream's answer is longer than the relay takes")
    return bytes(body)


# --- The relay ---


class Relay:
    """
    One network per upstream, told what to do over HTTP.

    Args:
        upstreams: Base url by name.
        token: What control calls must bear.
        seed: Replays the same losses and delays for the same datagrams.
    """

    def __init__(self, upstreams: Mapping[str, str], *, token: str, seed: int = 0) -> None:
        self.lines = {n: Line(u, random.Random(f"{seed}:{n}")) for n, u in upstreams.items()}
        self.url = ""
        self._token = token
        self._runner: web.AppRunner | None = None
        self._closing: asyncio.Task[None] | None = None

    @property
    def urls(self) -> dict[str, str]:
        """Where the client finds each upstream."""
        return {name: line.url for name, line in self.lines.items()}

    async def start(self, port: int = 0) -> None:
        """
        Listen: control on `port`, each upstream on a port of its own.

        Raises:
            ConfigError: The port cannot be had.
        """
        guard = wire.bearing(self._token, under="/control")
        app = web.Application(middlewares=[wire.enveloped, guard])
        app.router.add_get("/control", self._tell)
        app.router.add_post("/control", self._be_told)
        origins: dict[str, str] = {}
        try:
            self._runner, self.url = await wire.listening(app, port)
            for line in self.lines.values():
                await line.start(origins)
                origins[str(line.upstream.origin())] = line.url
        except BaseException:
            await self.aclose()
            raise

    def change(self, target: str, **conditions: Any) -> None:
        """Change `loss`, `delay_s_max` or `down` of one line, or of all of them (`*`)."""
        for name, line in self.lines.items():
            if target in (name, "*"):
                line.change(replace(line.conditions, **conditions))

    async def aclose(self) -> None:
        """Close everything. Idempotent; never raises; goes on when cancelled."""
        self._closing = self._closing or asyncio.create_task(self._close(), name="netem.close")
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        closings = [line.aclose() for line in self.lines.values()]
        if self._runner is not None:
            closings.append(self._runner.cleanup())
        await asyncio.gather(*closings, return_exceptions=True)

    async def _tell(self, request: web.Request) -> web.StreamResponse:
        return wire.success({name: line.as_json() for name, line in self.lines.items()})

    async def _be_told(self, request: web.Request) -> web.StreamResponse:
        told = await wire.read_change(request, ("target", "loss", "delay_s_max", "down"))
        target = told.pop("target", None)
        if not isinstance(target, str) or target not in {*self.lines, "*"} or not told:
            raise wire.bad_request(f"give a target (*, {', '.join(self.lines)}) and a change")
        for name, high in (("loss", 1.0), ("delay_s_max", DELAY_S_MAX)):
            wire.number_within(told, name, 0.0, high=high)
        if not isinstance(told.get("down", False), bool):
            raise wire.bad_request("down must be true or false")
        self.change(target, **told)
        log.info("network.changed", target=target, **told)
        return await self._tell(request)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the relay until SIGTERM; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m hitless.lab.netem",
        description="The lab's network on loopback. POST /control bears $HITLESS_LAB_TOKEN.",
    )
    parser.add_argument("--port", type=int, default=0, help="of the control; 0: any free one")
    parser.add_argument("--upstream", action="append", default=[], metavar="NAME=URL")
    parser.add_argument("--seed", type=int, default=0, help="replays the same losses and delays")
    options = parser.parse_args(argv)

    async def serve() -> None:
        upstreams = wire.named_urls(options.upstream, "--upstream")
        if "*" in upstreams:
            raise ConfigError("--upstream: * means all of them and names none")
        relay = Relay(upstreams, token=wire.lab_token(os.environ), seed=options.seed)
        await relay.start(options.port)
        log.info("network.listening", url=relay.url, note="for the lab, not for production")
        try:
            ready = {"name": "netem", "url": relay.url, "pid": os.getpid(), "seed": options.seed}
            await wire.until_told({**ready, "upstreams": relay.urls})
        finally:
            await relay.aclose()

    return wire.run_process("hitless.lab.netem", serve)


if __name__ == "__main__":
    sys.exit(main())
