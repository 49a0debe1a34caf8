"""
A stand-in for a streaming provider: a small, real WHIP/WHEP server that can be broken on purpose.

`python -m hitless.lab.stand --name agora` is not Agora and says so in every answer. It takes
publishers (RFC 9725) and viewers (draft-ietf-wish-whep) on loopback and forwards RTP without
opening it; `faults.py` lists how it can be broken, by `POST /control/faults`. With `--speaks` it
wants credentials as that provider makes them, serves its control API (`gate.py`, `*_desk.py`) and
takes RTMP as well (`rtmp_*.py`): H.264 reaches WHEP viewers as it came, AAC as Opus, and at
ZEGOCLOUD's stand-in both reach players of RTMP as they came.
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
from dataclasses import replace
from typing import Any, Final

import structlog
from aiohttp import web

from ..errors import ConfigError, ContractBroken, NotOnAir, Refused
from ..providers.clock import wall_s as system_wall_s
from .account import ACCOUNT_ENV, Account, AgoraAccount, account_of, spoken
from .agora_desk import AgoraDesk
from .agora_keys import Keys
from .answers import rejection, say, text_of, unauthorized
from .catalogue import REGIONS, WHIP
from .desk import Desk, NoDesk, region_of
from .faults import Injected
from .gate import AgoraGate, Gate, OpenGate, Pass, Rejected, ZegoGate
from .offer import Offer, read_offer
from .rtmp_door import RtmpDoor
from .rtmp_reception import Addresses, KeyAddresses, NodeAddresses, Reception
from .sessions import Sessions
from .wire import TOKEN_ENV, bears, run_process, say_ready, told_to_end
from .zego_desk import ZegoDesk


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
        publish_token: What publishers must show; None: nothing. Not with an account.
        account: Whose credentials it wants and whose API it serves; None: it speaks WHIP alone.
        wall_s: Returns the time of the wall clock [s].
        control_token: What the control API wants to see; None: it is closed.
        rng: Numbers of the packets and dice of the faults.

    Attributes:
        rtmp_url: Where RTMP is taken, without application and name, once started; None: nowhere.
    """

    def __init__(
        self,
        name: str,
        *,
        host: str = "127.0.0.1",
        publish_token: str | None = None,
        account: Account | None = None,
        wall_s: Callable[[], float] = system_wall_s,
        control_token: str | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self.name = name
        self.host = host
        self.injected = Injected(spoken(account))
        self.sessions = Sessions(
            name, host=host, rng=rng or random.Random(), injected=self.injected
        )
        self._gate, self._desk, addresses = _sides(account, publish_token, self.sessions, wall_s)
        self._door: RtmpDoor | None = None
        if addresses is not None:
            reception = Reception(self, addresses, self.sessions)
            self._door = RtmpDoor(reception, self.injected, host=host)
        self.rtmp_url: str | None = None
        self.sessions.removes = self._gate.removes
        self._control_token = control_token
        self._wall_s = wall_s
        self._runner: web.AppRunner | None = None

    async def start(self, port: int = 0, rtmp_port: int = 0) -> str:
        """
        Listen, with an account also for RTMP; return the URL.

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
                *self._desk.routes(),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        try:
            await self._listen(port)
        except OSError as fault:
            await self._runner.cleanup()
            raise ConfigError(f"cannot listen on {self.host}:{port}: {fault.strerror}") from fault
        if self._door is not None:
            try:
                self.rtmp_url = await self._door.start(rtmp_port)
            except ConfigError:
                await self._runner.cleanup()
                raise
            if isinstance(self._desk, ZegoDesk):
                self._desk.rtmp_url = self.rtmp_url
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
        """Close every peer, then the sockets. Idempotent."""
        if self._door is not None:
            await self._door.aclose()
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
        join: Callable[[str, Offer, Pass], Awaitable[tuple[str, str]]],
        direction: str,
    ) -> web.Response:
        stream = request.match_info["stream"]
        refused = await self.refused(refusing)
        if refused is not None:
            status, after_s = refused
            return say(status, "refused on purpose", {"Retry-After": f"{after_s:.0f}"})
        try:
            who = self._admit(request, stream, publishes=direction == "sendonly")
            refusal = self._objection(request)
            if refusal is not None:
                return refusal
            # Before the offer is read: a crowd that must wait or ask again costs little.
            if direction == "recvonly":
                self.sessions.check_on_air(stream)
            self.sessions.gate.check()
            offer = read_offer(await text_of(request), frozenset({direction, "sendrecv"}))
            secret, answer = await join(stream, offer, who)
            try:  # again: a rule may have been made meanwhile
                self.check(who, stream, publishes=direction == "sendonly")
            except Rejected:
                self.sessions.end(secret, stream, is_viewer=direction == "recvonly")
                raise
        except Rejected as fault:
            is_plain = self.injected.speaks == WHIP and fault.status == 401
            return unauthorized() if is_plain else rejection(fault, self.injected.speaks)
        except ConfigError as fault:
            return say(400, str(fault))
        except ContractBroken as fault:
            return say(422, fault.because)
        except NotOnAir as fault:
            return say(409, str(fault), {"Retry-After": str(RETRY_AFTER_S)})
        except Refused as fault:
            return say(503, fault.because, {"Retry-After": str(RETRY_AFTER_S)})
        path = f"{request.path.split('/')[1]}/{urllib.parse.quote(stream, safe='')}/{secret}"
        return web.Response(
            status=201,
            body=answer.encode(),
            content_type=SDP,
            headers={"Location": f"/{path}", "ETag": f'"{secret[:8]}"'},
        )

    async def refused(self, refusing: str) -> tuple[int, float] | None:
        """
        Wait if `slow` is on; return how a join is refused before anything is looked up, or None.

        Args:
            refusing: The fault that refuses only those.

        Returns:
            HTTP status, and after what time to ask again [s].
        """
        injected = self.injected
        delay_s = injected.value("slow", "delay_s")
        if delay_s is not None:
            await asyncio.sleep(delay_s)
        if "refuse" in injected or refusing in injected:
            return 503, RETRY_AFTER_S
        after_s = injected.value("refuse-429", "retry_after_s")
        return None if after_s is None else (429, after_s)

    def _admit(self, request: web.Request, stream: str, *, publishes: bool) -> Pass:
        """
        Return what the credential of a join allows.

        Raises:
            Rejected: It may not join.
            ConfigError: It names a region that the provider has not.
        """
        region = region_of(request, self.injected)
        self.check_region(region)
        shown = request.headers.get("Authorization", "")
        who = self._gate.admit(shown, stream, publishes=publishes, region=region)
        return self.let_in(who, stream, request.remote or "", publishes=publishes)

    def check_region(self, region: str) -> None:
        """
        Refuse whoever joins where `region-down` is on.

        Raises:
            Rejected: It is.
        """
        if self.injected.is_down(region):
            raise Rejected(f"region {region} is down, on purpose", status=503)

    def let_in(self, who: Pass, stream: str, address: str, *, publishes: bool) -> Pass:
        """
        Return the pass of somebody whose credential is good, with when and from where it came.

        Raises:
            Rejected: It may not join: banned, blocked, or no more streams.
        """
        who = replace(who, address=address, came_s=self._wall_s())
        self.check(who, stream, publishes=publishes)
        most = self.injected.value("quota", "streams_max")
        if publishes and most is not None:
            streams = self.sessions.roster.streams()
            if stream not in streams and len(streams) >= most:
                raise Rejected("no more streams at a time, on purpose", status=429)
        return who

    def check(self, who: Pass, stream: str, *, publishes: bool) -> None:
        """See `Desk.check`; asked again once somebody is in: a rule may be new."""
        self._desk.check(who, stream, publishes=publishes)

    def _objection(self, request: web.Request) -> web.Response | None:
        """Return what is wrong with the form of a join, or None."""
        if len(request.match_info["stream"]) > STREAM_MAX:
            return say(400, f"a stream id has at most {STREAM_MAX} characters")
        if request.content_type != SDP:
            return say(415, f"Content-Type must be {SDP}", {"Accept-Post": SDP})
        return None

    async def _unpublish(self, request: web.Request) -> web.Response:
        return self._leave(request, is_viewer=False)

    async def _unview(self, request: web.Request) -> web.Response:
        return self._leave(request, is_viewer=True)

    def _leave(self, request: web.Request, *, is_viewer: bool) -> web.Response:
        match, shown = request.match_info, request.headers.get("Authorization", "")
        if not self._gate.may_leave(shown, match["stream"], publishes=not is_viewer):
            return unauthorized()
        was_there = self.sessions.end(match["secret"], match["stream"], is_viewer=is_viewer)
        return web.Response(status=200) if was_there else say(404, "no such session")

    async def _options(self, request: web.Request) -> web.Response:
        return web.Response(status=200, headers={"Accept-Post": SDP})

    # --- Health and control ---

    async def _health(self, request: web.Request) -> web.Response:
        if "health-hangs" in self.injected:
            await asyncio.sleep(HEALTH_HANGS_S)
        if "health-503" in self.injected:
            return say(503, "unhealthy on purpose")
        return web.json_response({"healthy": True, "stand_in": True, "name": self.name})

    async def _control(self, request: web.Request) -> web.Response:
        if not self._controls(request):
            return unauthorized()
        state: dict[str, Any] = {
            "name": self.name,
            "stand_in": True,
            "speaks": self.injected.speaks,
            "rtmp_url": self.rtmp_url,
        }
        state |= self.sessions.as_json()
        return web.json_response(state)

    async def _break(self, request: web.Request) -> web.Response:
        if not self._controls(request):
            return unauthorized()
        try:
            order = json.loads(await text_of(request))
            if not isinstance(order, dict) or not isinstance(order.get("on"), bool):
                raise ConfigError('give {"fault": NAME, "on": true or false}, and its numbers')
            name, on = str(order.pop("fault", "")), order.pop("on")
            self.injected.switch(name, on, order)
        except json.JSONDecodeError:
            return say(400, "the body is not JSON")
        except ConfigError as fault:
            return say(400, str(fault))
        log.warning("fault.injected" if on else "fault.healed", fault=name, **order)
        return web.json_response({"faults": self.injected.as_json()})

    def _controls(self, request: web.Request) -> bool:
        return self._control_token is not None and bears(request, self._control_token)


def _sides(
    account: Account | None,
    publish_token: str | None,
    sessions: Sessions,
    wall_s: Callable[[], float],
) -> tuple[Gate, Desk, Addresses | None]:
    """Return what looks at credentials, what serves the control API, and what RTMP leads to."""
    injected = sessions.injected
    if account is None:
        return OpenGate(publish_token, injected), NoDesk(), None
    if publish_token is not None:
        raise ConfigError("publishers show a token of the account, so give no other one")
    if isinstance(account, AgoraAccount):
        keys = Keys(wall_s)
        gate = AgoraGate(account, keys, injected, wall_s=wall_s)
        desk = AgoraDesk(account, sessions, keys, wall_s=wall_s)
        return gate, desk, KeyAddresses(gate)
    nodes = ZegoDesk(account, sessions, wall_s=wall_s)
    return ZegoGate(account, injected, wall_s=wall_s), nodes, NodeAddresses(nodes)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m hitless.lab.stand",
        description="A STAND-IN for a streaming provider, for the lab: a WHIP/WHEP server "
        "(with an account it takes RTMP as well) on this machine that forwards media and can be "
        "broken on purpose. It is not the provider whose name it bears, and not for production.",
        epilog=f"The control API wants the bearer token in ${TOKEN_ENV}; without it the "
        "API is closed. Example: python -m hitless.lab.stand --name agora --port 8801",
    )
    parser.add_argument("--name", required=True, help="provider it stands in for")
    parser.add_argument("--host", default="127.0.0.1", help="address [default: %(default)s]")
    parser.add_argument("--port", type=int, default=0, help="port [default: any free one]")
    parser.add_argument("--token-env", metavar="NAME", help="variable with the publishers' token")
    parser.add_argument(
        "--speaks",
        choices=tuple(REGIONS),
        default=WHIP,
        help="whose credentials it wants and whose control API it serves; the account is the "
        f"JSON in ${ACCOUNT_ENV} [default: %(default)s: neither]",
    )
    parser.add_argument(
        "--rtmp-port",
        type=int,
        default=0,
        help="port of RTMP, which it takes with an account [default: any free one]",
    )
    parser.add_argument("--quiet", action="store_true", help="log only what is wrong")
    parser.add_argument("--seed", type=int, help="seed of packet numbers and of the fault `loss`")
    return parser


async def serve(options: argparse.Namespace) -> None:
    """
    Serve until SIGTERM or SIGINT.

    Raises:
        ConfigError: The address, the token's variable or the account cannot be used.
    """
    publish_token = None
    if options.rtmp_port and options.speaks == WHIP:
        raise ConfigError("--rtmp-port needs --speaks: RTMP is taken with an account only")
    if options.token_env is not None:
        publish_token = os.environ.get(options.token_env)
        if not publish_token:
            raise ConfigError(f"--token-env {options.token_env}: that variable is not set")
    stand = Stand(
        options.name,
        host=options.host,
        publish_token=publish_token,
        account=account_of(options.speaks, os.environ),
        control_token=os.environ.get(TOKEN_ENV) or None,
        rng=random.Random(options.seed),
    )
    ended = told_to_end()
    url = await stand.start(options.port, options.rtmp_port)
    log.info("stand.listening", name=options.name, url=url, note="a stand-in, for the lab only")
    hello: dict[str, Any] = {
        "name": options.name,
        "url": url,
        "pid": os.getpid(),
        "stand_in": True,
        "publish_url": f"{url}/whip/{{stream}}",
        "view_url": f"{url}/whep/{{stream}}",
    }
    if options.speaks != WHIP:
        hello |= {"speaks": options.speaks, "api_url": url, "rtmp_url": stand.rtmp_url}
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
