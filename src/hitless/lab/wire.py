"""
What the lab's small HTTP processes share: how they are told what to do, and how they run.

Answers stand in the envelope of the two public endpoints, `{"success": ..., "data": ...}`. All of
it is for the lab: loopback only, and whoever holds `HITLESS_LAB_TOKEN` is believed.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import signal
import sys
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, Final

import structlog
from aiohttp import web
from yarl import URL

from ..errors import ConfigError


TOKEN_ENV: Final = "HITLESS_LAB_TOKEN"
CLIENT_KEY_ENV: Final = "HITLESS_CLIENT_KEY"
"""Where an end of the lab finds its key for the server."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


# --- Calls and answers ---


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


def bears(request: web.Request, token: str) -> bool:
    """Whether a request carries `Authorization: Bearer <token>`; compared in constant time."""
    given = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
    return hmac.compare_digest(given, f"Bearer {token}".encode())


def bearing(token: str, *, under: str) -> Any:
    """Return a middleware that lets only `Authorization: Bearer <token>` pass below a path."""
    # Any: aiohttp types middlewares as Callable[..., Awaitable] behind a private alias.

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path == under or request.path.startswith(under + "/"):
            if not bears(request, token):
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
    told = told_to_end()
    say_ready(ready)
    await told.wait()


def told_to_end() -> asyncio.Event:
    """Return what SIGTERM or SIGINT sets, from now on."""
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    return told


def say_ready(ready: Mapping[str, Any]) -> None:
    """Print one line of JSON that says where we listen."""
    sys.stdout.write(json.dumps(ready) + "\n")
    sys.stdout.flush()


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


def run_process(
    name: str, main: Callable[[], Awaitable[None]], *, level: int = logging.INFO
) -> int:
    """Run a process of the lab to its end; return its exit status, 2 for bad input."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    structlog.configure(
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(level),
    )

    async def run() -> None:
        await main()

    try:
        asyncio.run(run())
    except ConfigError as exc:
        sys.stderr.write(f"{name}: {exc}\n")
        return 2
    return 0
