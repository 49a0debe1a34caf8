"""
A stand-in for a streaming provider: a small, real WHIP/WHEP server that can be broken on purpose.

`python -m hitless.lab.stand --name agora` is not Agora and says so in every answer. It takes
publishers (RFC 9725) and viewers (draft-ietf-wish-whep) on loopback and forwards RTP without
opening it; `faults.py` lists how it can be broken, by `POST /control/faults`.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import os
import random
import socket
import sys
import urllib.parse
from collections.abc import Awaitable, Callable
from typing import Any, Final

import structlog
from aiohttp import web

from ..errors import ConfigError, ContractBroken, NotOnAir, Refused
from .offer import Offer, read_offer
from .sessions import Sessions
from .wire import TOKEN_ENV, bears, run_process, say_ready, told_to_end


SDP: Final = "application/sdp"
BODY_MAX: Final = 64 * 1024
"""Longest body taken [byte]."""
ACCEPTED_MAX: Final = 8
"""Connections accepted per loop turn."""
BACKLOG: Final = 512
"""Connections that wait to be accepted."""
STREAM_MAX: Final = 200
"""Longest stream id taken [character]."""
HEALTH_HANGS_S: Final = 60.0
"""How long a health check hangs under `health-hangs` [s]; every client gave up before."""
RETRY_AFTER_S: Final = 1
"""Advice with every refusal by fault, and with 409 [s]."""

log: Final = structlog.get_logger()


class Stand:
    """
    The HTTP side of a stand-in.

    Args:
        name: Of the provider it stands in for.
        host: Address it listens on and names in its candidates.
        publish_token: What publishers must show; None: nothing.
        control_token: What the control API wants to see; None: it is closed.
        rng: Numbers of the packets and dice of the faults.
    """

    def __init__(
        self,
        name: str,
        *,
        host: str = "127.0.0.1",
        publish_token: str | None = None,
        control_token: str | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self.name = name
        self.host = host
        self.sessions = Sessions(name, host=host, rng=rng or random.Random())
        self._publish_token = publish_token
        self._control_token = control_token
        self._runner: web.AppRunner | None = None

    async def start(self, port: int = 0) -> str:
        """
        Listen; return the URL.

        Raises:
            ConfigError: The address cannot be had.
        """
        app = web.Application(client_max_size=BODY_MAX)
        app.on_response_prepare.append(self._sign)
        app.add_routes(
            [
                web.post("/whip/{stream}", self._publish),
                web.delete("/whip/{stream}/{secret}", self._unpublish),
                web.options("/whip/{stream}", self._options),
                web.post("/whep/{stream}", self._view),
                web.delete("/whep/{stream}/{secret}", self._unview),
                web.options("/whep/{stream}", self._options),
                web.get("/health", self._health),
                web.get("/control", self._control),
                web.post("/control/faults", self._break),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        try:
            await self._listen(port)
        except OSError as fault:
            await self._runner.cleanup()
            raise ConfigError(f"cannot listen on {self.host}:{port}: {fault.strerror}") from fault
        self.sessions.start()
        return f"http://{self.host}:{self._runner.addresses[0][1]}"

    async def _listen(self, port: int) -> None:
        assert self._runner is not None
        sock = socket.create_server((self.host, port))
        # asyncio accepts as many per loop turn as its backlog says, so that says few; the kernel
        # keeps the others waiting meanwhile, who would else ask again a second later.
        await web.SockSite(self._runner, sock, backlog=ACCEPTED_MAX).start()
        sock.listen(BACKLOG)

    async def aclose(self) -> None:
        """Close every peer, then the socket. Idempotent."""
        await self.sessions.aclose()
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()

    async def _sign(self, request: web.Request, response: web.StreamResponse) -> None:
        response.headers["Server"] = f"hitless-stand-in ({self.name})"

    # --- WHIP and WHEP ---

    async def _publish(self, request: web.Request) -> web.Response:
        return await self._join(request, "refuse-publishers", self.sessions.publish, "sendonly")

    async def _view(self, request: web.Request) -> web.Response:
        return await self._join(request, "refuse-viewers", self.sessions.view, "recvonly")

    async def _join(
        self,
        request: web.Request,
        refusing: str,
        join: Callable[[str, Offer], Awaitable[tuple[str, str]]],
        direction: str,
    ) -> web.Response:
        stream = request.match_info["stream"]
        refusal = await self._refusal(request, refusing, is_publisher=direction == "sendonly")
        if refusal is not None:
            return refusal
        try:
            # Before the offer is read: a crowd that must wait or ask again costs little.
            if direction == "recvonly":
                self.sessions.check_on_air(stream)
            self.sessions.gate.check()
            offer = read_offer(await _text(request), frozenset({direction, "sendrecv"}))
            secret, answer = await join(stream, offer)
        except ConfigError as fault:
            return _say(400, str(fault))
        except ContractBroken as fault:
            return _say(422, fault.because)
        except NotOnAir as fault:
            return _say(409, str(fault), {"Retry-After": str(RETRY_AFTER_S)})
        except Refused as fault:
            return _say(503, fault.because, {"Retry-After": str(RETRY_AFTER_S)})
        path = f"{request.path.split('/')[1]}/{urllib.parse.quote(stream, safe='')}/{secret}"
        return web.Response(
            status=201,
            body=answer.encode(),
            content_type=SDP,
            headers={"Location": f"/{path}", "ETag": f'"{secret[:8]}"'},
        )

    async def _refusal(
        self, request: web.Request, refusing: str, *, is_publisher: bool
    ) -> web.Response | None:
        """Return why a join is refused before anything is looked up, or None."""
        injected = self.sessions.injected
        delay_s = injected.value("slow", "delay_s")
        if delay_s is not None:
            await asyncio.sleep(delay_s)
        if "refuse" in injected or refusing in injected:
            return _say(503, "refused on purpose", {"Retry-After": str(RETRY_AFTER_S)})
        after_s = injected.value("refuse-429", "retry_after_s")
        if after_s is not None:
            return _say(429, "refused on purpose", {"Retry-After": f"{after_s:.0f}"})
        if is_publisher and not self._may(request, self._publish_token):
            return _unauthorized()
        if len(request.match_info["stream"]) > STREAM_MAX:
            return _say(400, f"a stream id has at most {STREAM_MAX} characters")
        if request.content_type != SDP:
            return _say(415, f"Content-Type must be {SDP}", {"Accept-Post": SDP})
        return None

    async def _unpublish(self, request: web.Request) -> web.Response:
        if not self._may(request, self._publish_token):
            return _unauthorized()
        return self._leave(request, is_viewer=False)

    async def _unview(self, request: web.Request) -> web.Response:
        return self._leave(request, is_viewer=True)

    def _leave(self, request: web.Request, *, is_viewer: bool) -> web.Response:
        match = request.match_info
        was_there = self.sessions.end(match["secret"], match["stream"], is_viewer=is_viewer)
        return web.Response(status=200) if was_there else _say(404, "no such session")

    async def _options(self, request: web.Request) -> web.Response:
        return web.Response(status=200, headers={"Accept-Post": SDP})

    # --- Health and control ---

    async def _health(self, request: web.Request) -> web.Response:
        if "health-hangs" in self.sessions.injected:
            await asyncio.sleep(HEALTH_HANGS_S)
        if "health-503" in self.sessions.injected:
            return _say(503, "unhealthy on purpose")
        return web.json_response({"healthy": True, "stand_in": True, "name": self.name})

    async def _control(self, request: web.Request) -> web.Response:
        if not self._controls(request):
            return _unauthorized()
        state = {"name": self.name, "stand_in": True, **self.sessions.as_json()}
        return web.json_response(state)

    async def _break(self, request: web.Request) -> web.Response:
        if not self._controls(request):
            return _unauthorized()
        try:
            order = json.loads(await _text(request))
            if not isinstance(order, dict) or not isinstance(order.get("on"), bool):
                raise ConfigError('give {"fault": NAME, "on": true or false}, and its numbers')
            name, on = str(order.pop("fault", "")), order.pop("on")
            self.sessions.injected.switch(name, on, order)
        except json.JSONDecodeError:
            return _say(400, "the body is not JSON")
        except ConfigError as fault:
            return _say(400, str(fault))
        log.warning("fault.injected" if on else "fault.healed", fault=name, **order)
        return web.json_response({"faults": self.sessions.injected.as_json()})

    def _controls(self, request: web.Request) -> bool:
        return self._control_token is not None and self._may(request, self._control_token)

    def _may(self, request: web.Request, token: str | None) -> bool:
        return token is None or bears(request, token)


async def _text(request: web.Request) -> str:
    """Return the body; what is not UTF-8 is not an offer either."""
    try:
        return (await request.read()).decode()
    except UnicodeDecodeError as fault:
        raise ConfigError("the body is not UTF-8 text") from fault


def _say(status: int, why: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(status=status, text=f"{why}\n", headers=headers)


def _unauthorized() -> web.Response:
    return _say(401, "show a valid token", {"WWW-Authenticate": "Bearer"})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m hitless.lab.stand",
        description="A STAND-IN for a streaming provider, for the lab: a WHIP/WHEP server on "
        "this machine that forwards media and can be broken on purpose. It is not the provider "
        "whose name it bears, and not for production.",
        epilog=f"The control API wants the bearer token in ${TOKEN_ENV}; without it the "
        "API is closed. Example: python -m hitless.lab.stand --name agora --port 8801",
    )
    parser.add_argument("--name", required=True, help="provider it stands in for")
    parser.add_argument("--host", default="127.0.0.1", help="address [default: %(default)s]")
    parser.add_argument("--port", type=int, default=0, help="port [default: any free one]")
    parser.add_argument("--token-env", metavar="NAME", help="variable with the publishers' token")
    parser.add_argument("--quiet", action="store_true", help="log only what is wrong")
    parser.add_argument("--seed", type=int, help="seed of packet numbers and of the fault `loss`")
    return parser


async def serve(options: argparse.Namespace) -> None:
    """
    Serve until SIGTERM or SIGINT.

    Raises:
        ConfigError: The address or the token's variable cannot be used.
    """
    publish_token = None
    if options.token_env is not None:
        publish_token = os.environ.get(options.token_env)
        if not publish_token:
            raise ConfigError(f"--token-env {options.token_env}: that variable is not set")
    stand = Stand(
        options.name,
        host=options.host,
        publish_token=publish_token,
        control_token=os.environ.get(TOKEN_ENV) or None,
        rng=random.Random(options.seed),
    )
    ended = told_to_end()
    url = await stand.start(options.port)
    log.info("stand.listening", name=options.name, url=url, note="a stand-in, for the lab only")
    hello: dict[str, Any] = {
        "name": options.name,
        "url": url,
        "pid": os.getpid(),
        "stand_in": True,
        "publish_url": f"{url}/whip/{{stream}}",
        "view_url": f"{url}/whep/{{stream}}",
    }
    say_ready(hello)
    gc.collect()
    gc.freeze()  # what lives until the end need not be looked at again
    try:
        await ended.wait()
    finally:
        await stand.aclose()
    log.info("stand.ended", name=options.name)


def main(argv: list[str] | None = None) -> int:
    """Run a stand-in; return the exit status: 0 ended as asked, 2 bad input."""
    options = _parser().parse_args(argv)
    level = logging.WARNING if options.quiet else logging.INFO
    return run_process("hitless.lab.stand", lambda: serve(options), level=level)


if __name__ == "__main__":
    sys.exit(main())
