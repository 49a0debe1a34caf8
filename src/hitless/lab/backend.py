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
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import aiohttp
import structlog
from aiohttp import web

from . import wire


HEALTH_S_MAX: Final = 1.0
"""How long a stand-in has to say how it is [s]: a stopped one never answers."""

SLOW_S_MAX: Final = 60.0
_HANG_S_MAX = 120.0
_BODY_BYTES_MAX = 1 << 16

log: Final = structlog.get_logger()


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
            middlewares=[wire.enveloped, wire.bearing(self._token, under="/admin")],
            client_max_size=_BODY_BYTES_MAX,
        )
        app.router.add_get("/streaming/providers", self._misbehaving(self._list))
        app.router.add_get("/streaming/providers/{name}/health", self._misbehaving(self._health))
        app.router.add_patch("/admin/providers/{name}", self._change_provider)
        app.router.add_patch("/admin/backend", self._change_backend)
        app.on_response_prepare.append(_say_what_it_is)
        app.on_cleanup.append(self._cleanup)
        return app

    def _misbehaving(self, handler: wire.Handler) -> wire.Handler:
        async def answer(request: web.Request) -> web.StreamResponse:
            if self._slow_s:
                await asyncio.sleep(self._slow_s)
            match self._broken:
                case Broken.SERVER_ERROR:
                    return wire.failure(500, "broken", "this backend was told to fail")
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
        return wire.success(_lied(data) if self._broken is Broken.LIE else data)

    async def _health(self, request: web.Request) -> web.StreamResponse:
        entry = self._entry(request)
        healthy = entry.healthy
        if self._broken is Broken.LIE:
            healthy = True
        elif healthy is None:
            healthy = await self._ask(entry)
        status = "disabled" if not entry.is_active else "active" if healthy else "down"
        return wire.success({"healthy": healthy, "provider": entry.name, "status": status})

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
        change = await wire.read_change(request, ("isActive", "priority", "default", "healthy"))
        is_active = change.get("isActive", entry.is_active)
        priority = change.get("priority", entry.priority)
        healthy = change.get("healthy", entry.healthy)
        if not isinstance(is_active, bool):
            raise wire.bad_request("isActive must be true or false")
        if isinstance(priority, bool) or not isinstance(priority, int) or abs(priority) > 10**6:
            raise wire.bad_request("priority must be a whole number from -1000000 to 1000000")
        if healthy is not None and not isinstance(healthy, bool):
            raise wire.bad_request(
                "healthy must be true, false, or null for what the stand-in says"
            )
        if not isinstance(change.get("default", False), bool):
            raise wire.bad_request("default must be true or false")
        entry.is_active, entry.priority, entry.healthy = is_active, priority, healthy
        if change.get("default"):
            self._default = entry.name
        elif "default" in change and self._default == entry.name:
            self._default = None
        is_default = self._default == entry.name
        log.info("provider.changed", provider=entry.name, fields=sorted(change))
        return wire.success({**entry.listed(), "default": is_default, "healthy": entry.healthy})

    async def _change_backend(self, request: web.Request) -> web.StreamResponse:
        change = await wire.read_change(request, ("slow_s", "broken"))
        slow_s = wire.number_within(change, "slow_s", self._slow_s, high=SLOW_S_MAX, or_null=0.0)
        broken = change.get("broken", self._broken)
        words = [str(word) for word in Broken]
        if broken is not None and broken not in words:
            raise wire.bad_request(f"broken must be null or one of {', '.join(words)}")
        self._slow_s, self._broken = slow_s, Broken(broken) if broken is not None else None
        log.info("backend.changed", slow_s=self._slow_s, broken=self._broken)
        return wire.success({"slow_s": self._slow_s, "broken": self._broken})

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


def main(argv: Sequence[str] | None = None) -> int:
    """Run the backend until SIGTERM; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m hitless.lab.backend",
        description="The lab's backend. Not for production: loopback only, state in memory.",
        epilog=f"Admin calls bear the token that {wire.TOKEN_ENV} holds.",
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
        providers = wire.named_urls(options.provider, "--provider")
        backend = LabBackend(providers, token=wire.lab_token(os.environ))
        runner, url = await wire.listening(backend.app(), options.port)
        log.info("backend.listening", url=url, note="for the lab, not for production")
        try:
            await wire.until_told({"name": "backend", "url": url, "pid": os.getpid()})
        finally:
            await runner.cleanup()

    return wire.run_process("hitless.lab.backend", serve)


if __name__ == "__main__":
    sys.exit(main())
