"""
How another terminal reaches a running lab: a loopback API, found through a private file.

The file (readable by its user only) holds the address and a token; it goes when the lab does.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from ..errors import ConfigError, HitlessError, LocalFault
from .stage import Stage
from .wire import bears


_ANSWER_S_MAX = 30.0


def state_file() -> Path:
    """Return where a running lab of this user writes how to reach it."""
    return Path(tempfile.gettempdir()) / f"hitless-lab-{os.getuid()}.json"


class Control:
    """
    The running lab's side.

    Args:
        stage: What is controlled.
        status: Returns what `hitless lab status --json` prints.

    Raises:
        LocalFault: A lab of this user is running already, or the file cannot be written.
    """

    def __init__(self, stage: Stage, status: Callable[[], dict[str, Any]]) -> None:
        self._stage, self._status = stage, status
        self._runner: web.AppRunner | None = None
        self._busy = asyncio.Lock()

    async def start(self) -> None:
        """Listen on a free port and write the file."""
        refuse_second()
        app = web.Application(middlewares=[self._guarded])
        app.router.add_get("/status", self._get_status)
        app.router.add_post("/break", self._post_break)
        app.router.add_post("/heal", self._post_heal)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        told = {"url": f"http://{host}:{port}", "token": self._stage.token, "pid": os.getpid()}
        try:
            path = state_file()
            path.unlink(missing_ok=True)
            number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(number, "w") as file:
                json.dump(told, file)
        except OSError as exc:
            raise LocalFault(f"cannot write {state_file()}: {exc.strerror}") from exc

    async def aclose(self) -> None:
        """Stop listening and remove the file. Idempotent."""
        runner, self._runner = self._runner, None
        if runner is not None:
            state_file().unlink(missing_ok=True)
            await runner.cleanup()

    @web.middleware
    async def _guarded(
        self,
        request: web.Request,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    ) -> web.StreamResponse:
        if not bears(request, self._stage.token):
            return web.json_response({"error": "not your lab"}, status=401)
        try:
            return await handler(request)
        except HitlessError as exc:
            return web.json_response({"error": str(exc)}, status=400)

    async def _get_status(self, request: web.Request) -> web.Response:
        return web.json_response(self._status())

    async def _post_break(self, request: web.Request) -> web.Response:
        body = await request.json()
        async with self._busy:
            await self._stage.break_(body["name"], body["fault"], body.get("numbers"))
        return web.json_response({"broken": self._stage.broken})

    async def _post_heal(self, request: web.Request) -> web.Response:
        body = await request.json()
        async with self._busy:
            await self._stage.heal(body["name"])
        return web.json_response({"broken": self._stage.broken})


def refuse_second() -> None:
    """
    Raise if a lab of this user is running.

    Raises:
        LocalFault: It is; the message says which process, and what to do.
    """
    told = _read()
    if told is not None and _runs(told["pid"]):
        raise LocalFault(
            f"a lab is running already (process {told['pid']}): see `hitless lab status`, or end "
            "it with Ctrl-C in its terminal"
        )


async def call(method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """
    Ask the running lab.

    Raises:
        LocalFault: There is none, or it does not answer.
        ConfigError: It says that what was asked for is impossible.
    """
    told = _read()
    if told is None or not _runs(told["pid"]):
        raise LocalFault("no lab is running: start one with `hitless lab` in another terminal")
    headers = {"Authorization": f"Bearer {told['token']}"}
    limit = aiohttp.ClientTimeout(total=_ANSWER_S_MAX)
    try:
        async with (
            aiohttp.ClientSession(timeout=limit) as http,
            http.request(method, told["url"] + path, json=body, headers=headers) as answer,
        ):
            said: dict[str, Any] = await answer.json()
    except (aiohttp.ClientError, TimeoutError) as exc:
        raise LocalFault(f"the lab does not answer: {type(exc).__name__}") from exc
    if answer.status >= 400:
        raise ConfigError(said.get("error", f"HTTP {answer.status}"))
    return said


def _read() -> dict[str, Any] | None:
    try:
        told: dict[str, Any] = json.loads(state_file().read_text())
        return told if {"url", "token", "pid"} <= told.keys() else None
    except (OSError, ValueError, AttributeError):
        return None


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
