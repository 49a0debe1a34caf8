"""
The lab's small backend: the two endpoints that any backend serves, and ways to make it misbehave.

    python -m hitless.lab.backend --provider agora=http://127.0.0.1:9001 --provider ...

It belongs to the lab and is not for production: it binds to loopback, keeps everything in memory
and believes whoever holds `HITLESS_LAB_TOKEN`. Health is what each stand-in says of itself at
that moment, unless an admin call says otherwise.
"""

from __future__ import annotations

import argparse
import asyncio
import hmac
import json
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import aiohttp
import structlog
from aiohttp import web
from yarl import URL

from ..errors import ConfigError


TOKEN_ENV: Final = "HITLESS_LAB_TOKEN"
HEALTH_S_MAX: Final = 1.0
"""How long a stand-in has to say how it is [s]: a stopped one never answers."""

SLOW_S_MAX: Final = 60.0
_HANG_S_MAX = 120.0
_BODY_BYTES_MAX = 1 << 16

log: Final = structlog.get_logger()

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Broken(StrEnum):
    """How the two endpoints misbehave."""

    SERVER_ERROR = "500"
    BAD_JSON = "bad-json"
    HANG = "hang"
    LIE = "lie"
    """Everybody is well, priorities are text, one provider is named twice, one is nowhere."""


@dataclass(slots=True, kw_only=True)
class _Entry:
    name: str
    url: str
    priority: int
    is_active: bool = True
    healthy: bool | None = None
    """What health says in spite of the stand-in; None: what the stand-in says."""

    def listed(self) -> dict[str, Any]:
        config = {
            "url": f"{self.url}/whip/{{stream}}",
            "adapter": "whip",
            "view_url": f"{self.url}/whep/{{stream}}",
        }
        return {
            "name": self.name,
            "isActive": self.is_active,
            "priority": self.priority,
            "config": config,
        }


class LabBackend:
    """
    The backend as an application.

    Args:
        providers: Base url of each stand-in by name, best first.
        token: What admin calls must bear.
    """

    def __init__(self, providers: Mapping[str, str], *, token: str) -> None:
        self._entries = {
            name: _Entry(name=name, url=url.rstrip("/"), priority=place)
            for place, (name, url) in enumerate(providers.items(), start=1)
        }
        self._token = token
        self._default: str | None = None
        self._slow_s = 0.0
        self._broken: Broken | None = None
        self._session: aiohttp.ClientSession | None = None

    def app(self) -> web.Application:
        """Return the application; it closes with its runner."""
        app = web.Application(
            middlewares=[enveloped, bearing(self._token, under="/admin")],
            client_max_size=_BODY_BYTES_MAX,
        )
        app.router.add_get("/streaming/providers", self._misbehaving(self._list))
        app.router.add_get("/streaming/providers/{name}/health", self._misbehaving(self._health))
        app.router.add_patch("/admin/providers/{name}", self._change_provider)
        app.router.add_patch("/admin/backend", self._change_backend)
        app.on_response_prepare.append(_say_what_it_is)
        app.on_cleanup.append(self._cleanup)
        return app

    def _misbehaving(self, handler: Handler) -> Handler:
        async def answer(request: web.Request) -> web.StreamResponse:
            if self._slow_s:
                await asyncio.sleep(self._slow_s)
            match self._broken:
                case Broken.SERVER_ERROR:
                    return failure(500, "broken", "this backend was told to fail")
                case Broken.BAD_JSON:
                    return web.Response(text='{"success": tru', content_type="application/json")
                case Broken.HANG:
                    await asyncio.sleep(_HANG_S_MAX)
            return await handler(request)

        return answer

    async def _list(self, request: web.Request) -> web.StreamResponse:
        in_order = sorted(self._entries.values(), key=lambda entry: entry.priority)
        data: dict[str, Any] = {"providers": [entry.listed() for entry in in_order]}
        if self._default is not None:
            data["default"] = self._default
        return success(_lied(data) if self._broken is Broken.LIE else data)

    async def _health(self, request: web.Request) -> web.StreamResponse:
        entry = self._entry(request)
        healthy = entry.healthy
        if self._broken is Broken.LIE:
            healthy = True
        elif healthy is None:
            healthy = await self._ask(entry)
        status = "disabled" if not entry.is_active else "active" if healthy else "down"
        return success({"healthy": healthy, "provider": entry.name, "status": status})

    async def _ask(self, entry: _Entry) -> bool:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=HEALTH_S_MAX),
                # A new connection each time: an old one to a killed stand-in would be found
                # broken only by using it.
                connector=aiohttp.TCPConnector(force_close=True),
            )
        try:
            async with self._session.get(entry.url + "/health") as response:
                told = await response.json() if response.status == 200 else None
        except (aiohttp.ClientError, OSError, ValueError):  # TimeoutError is an OSError
            return False
        return isinstance(told, dict) and told.get("healthy") is True

    async def _change_provider(self, request: web.Request) -> web.StreamResponse:
        entry = self._entry(request)
        change = await read_change(request, ("isActive", "priority", "default", "healthy"))
        is_active = change.get("isActive", entry.is_active)
        priority = change.get("priority", entry.priority)
        healthy = change.get("healthy", entry.healthy)
        if not isinstance(is_active, bool):
            raise bad_request("isActive must be true or false")
        if isinstance(priority, bool) or not isinstance(priority, int) or abs(priority) > 10**6:
            raise bad_request("priority must be a whole number from -1000000 to 1000000")
        if healthy is not None and not isinstance(healthy, bool):
            raise bad_request("healthy must be true, false, or null for what the stand-in says")
        if not isinstance(change.get("default", False), bool):
            raise bad_request("default must be true or false")
        entry.is_active, entry.priority, entry.healthy = is_active, priority, healthy
        if change.get("default"):
            self._default = entry.name
        elif "default" in change and self._default == entry.name:
            self._default = None
        is_default = self._default == entry.name
        log.info("provider.changed", provider=entry.name, fields=sorted(change))
        return success({**entry.listed(), "default": is_default, "healthy": entry.healthy})

    async def _change_backend(self, request: web.Request) -> web.StreamResponse:
        change = await read_change(request, ("slow_s", "broken"))
        slow_s = number_within(change, "slow_s", self._slow_s, high=SLOW_S_MAX, or_null=0.0)
        broken = change.get("broken", self._broken)
        words = [str(word) for word in Broken]
        if broken is not None and broken not in words:
            raise bad_request(f"broken must be null or one of {', '.join(words)}")
        self._slow_s, self._broken = slow_s, Broken(broken) if broken is not None else None
        log.info("backend.changed", slow_s=self._slow_s, broken=self._broken)
        return success({"slow_s": self._slow_s, "broken": self._broken})

    def _entry(self, request: web.Request) -> _Entry:
        entry = self._entries.get(request.match_info["name"])
        if entry is None:
            raise web.HTTPNotFound(text="no provider of this name")
        return entry

    async def _cleanup(self, app: web.Application) -> None:
        if self._session is not None:
            await self._session.close()


def _lied(data: dict[str, Any]) -> dict[str, Any]:
    """Spoil a list in every way that a careful reader survives, keeping the order."""
    providers = [{**entry, "priority": str(entry["priority"])} for entry in data["providers"]]
    del providers[-1]["isActive"]
    nobody = {"name": "nowhere", "isActive": "true", "priority": "high", "config": None}
    return {"providers": [*providers, providers[0], nobody, None], "default": "no-such-provider"}


async def _say_what_it_is(request: web.Request, response: web.StreamResponse) -> None:
    response.headers["Server"] = "hitless-lab-backend (not for production)"


# --- The wire of everything in the lab that is told what to do over HTTP ---


def success(data: Mapping[str, Any]) -> web.Response:
    """Return an answer in the envelope."""
    return web.json_response({"success": True, "data": data})


def failure(status: int, code: str, message: str) -> web.Response:
    """Return an error in the envelope."""
    error = {"code": code, "message": message}
    return web.json_response({"success": False, "error": error}, status=status)


def bad_request(message: str) -> web.HTTPBadRequest:
    """Return what to raise when an admin call makes no sense."""
    return web.HTTPBadRequest(text=message)


@web.middleware
async def enveloped(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Put every HTTP error, unknown paths included, into the envelope."""
    try:
        return await handler(request)
    except web.HTTPException as exc:
        code = exc.reason.lower().replace(" ", "-")
        answer = failure(exc.status, code, exc.text or exc.reason)
        if "Allow" in exc.headers:
            answer.headers["Allow"] = exc.headers["Allow"]
        return answer


def bearing(token: str, *, under: str) -> Any:
    """Return a middleware that lets only `Authorization: Bearer <token>` pass below a path."""
    # Any: aiohttp types middlewares as Callable[..., Awaitable] behind a private alias.
    expected = f"Bearer {token}".encode()

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path == under or request.path.startswith(under + "/"):
            given = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
            if not hmac.compare_digest(given, expected):
                return failure(401, "unauthorized", f"send Authorization: Bearer ${TOKEN_ENV}")
        return await handler(request)

    return check


async def read_change(request: web.Request, known: Collection[str]) -> dict[str, Any]:
    """
    Return the object that a call sends.

    Raises:
        HTTPBadRequest: Not a JSON object, empty, or with an unknown field, which is named.
    """
    try:
        change = json.loads(await request.read())
    except (ValueError, RecursionError):
        raise bad_request("send a JSON object") from None
    if not isinstance(change, dict):
        raise bad_request("send a JSON object")
    unknown = sorted(set(change) - set(known))
    if unknown or not change:
        what = f"unknown field {ascii(unknown[0])[:60]}" if unknown else "nothing to change"
        raise bad_request(f"{what}: known are {', '.join(known)}")
    return change


def number_within(
    change: Mapping[str, Any],
    name: str,
    now: float,
    *,
    high: float,
    or_null: float | None = None,
) -> float:
    """
    Return a number of a change, 0 to `high`; `now` if it is not changed, `or_null` for null.

    Raises:
        HTTPBadRequest: Naming the field and its limits.
    """
    value = change.get(name, now)
    if value is None and or_null is not None:
        return or_null
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= high:
        raise bad_request(f"{name} must be a number from 0 to {high:g}")
    return float(value)


# --- A process of the lab ---


def named_urls(words: Sequence[str], option: str) -> dict[str, str]:
    """
    Read `NAME=URL` words of the command line, in order.

    Raises:
        ConfigError: None given, a name twice, or something that is not a loopback http url.
    """
    urls: dict[str, str] = {}
    for word in words:
        name, _, text = word.partition("=")
        try:
            url = URL(text)
            is_good = url.scheme == "http" and url.host == "127.0.0.1" and bool(url.explicit_port)
        except ValueError:
            is_good = False
        if not name or not is_good:
            raise ConfigError(f"{option} {word!a}: give NAME=http://127.0.0.1:PORT")
        if name in urls:
            raise ConfigError(f"{option}: {name} is given twice")
        urls[name] = text.rstrip("/")
    if not urls:
        raise ConfigError(f"give at least one {option} NAME=http://127.0.0.1:PORT")
    return urls


def lab_token(environ: Mapping[str, str]) -> str:
    """
    Return the lab's token.

    Raises:
        ConfigError: The environment has none.
    """
    token = environ.get(TOKEN_ENV, "")
    if not token or not token.isascii() or not token.isprintable():
        raise ConfigError(f"set {TOKEN_ENV} to a secret of printable characters")
    return token


async def until_told(ready: Mapping[str, Any]) -> None:
    """Print one line of JSON that says where we listen, and wait for SIGTERM or SIGINT."""
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    sys.stdout.write(json.dumps(ready) + "\n")
    sys.stdout.flush()
    await told.wait()


async def listening(app: web.Application, port: int) -> tuple[web.AppRunner, str]:
    """Serve on loopback; return the runner, to be cleaned up by the caller, and the url."""
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.2)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
    except (OSError, OverflowError) as exc:
        await runner.cleanup()
        raise ConfigError(f"port {port} cannot be had: give a free one, or 0") from exc
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}"


def run_process(name: str, main: Callable[[], Awaitable[None]]) -> int:
    """Run a process of the lab to its end; return its exit status, 2 for bad input."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))

    async def run() -> None:
        await main()

    try:
        asyncio.run(run())
    except ConfigError as exc:
        sys.stderr.write(f"{name}: {exc}\n")
        return 2
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the backend until SIGTERM; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m hitless.lab.backend",
        description="The lab's backend. Not for production: loopback only, state in memory.",
        epilog=f"Admin calls bear the token that {TOKEN_ENV} holds.",
    )
    parser.add_argument("--port", type=int, default=0, help="0: any free one (default)")
    parser.add_argument(
        "--provider",
        action="append",
        default=[],
        metavar="NAME=URL",
        help="a stand-in, best first",
    )
    options = parser.parse_args(argv)

    async def serve() -> None:
        providers = named_urls(options.provider, "--provider")
        backend = LabBackend(providers, token=lab_token(os.environ))
        runner, url = await listening(backend.app(), options.port)
        log.info("backend.listening", url=url, note="for the lab, not for production")
        try:
            await until_told({"name": "backend", "url": url, "pid": os.getpid()})
        finally:
            await runner.cleanup()

    return run_process("hitless.lab.backend", serve)


if __name__ == "__main__":
    sys.exit(main())
