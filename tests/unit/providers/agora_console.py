"""A stand-in of Agora's REST API beside an RTMP server, and adapters of both."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from aiohttp import web
from control_stand_in import Asked
from unit.providers import account_runs
from unit.providers.account_runs import LIMIT_S

from hitless.providers.agora import Agora


APP = "970CA35de60c44645bbae8a215061b33"
CERTIFICATE = "5CFd2fd1755d40ecb72977518be15d3b"
CUSTOMER = "customer-of-ours"
SECRET = "s3cr3t-of-the-customer"
KEY = "key-made-in-the-console"
SECRETS = (CERTIFICATE, SECRET, KEY, "made-key")
INGRESS = f"/v1/projects/{APP}/rtls/ingress/"


class Console:
    """
    A stand-in of Agora's REST API, in the documented shapes.

    Attributes:
        hosts: Uids that publish in any channel.
        online: Uids that are pushed now.
        status: What it answers instead, by what is asked for.
        hangs: What is never answered.
    """

    def __init__(self) -> None:
        self.hosts: list[int] = []
        self.online: list[str] = []
        self.status: dict[str, int] = {}
        self.hangs: set[str] = set()
        self.calls: list[tuple[str, str, Any]] = []

    def named(self, name: str) -> list[tuple[str, str, Any]]:
        """Return the calls of one kind, in order."""
        return [call for call in self.calls if call[0] == name]

    async def __call__(self, asked: Asked) -> web.StreamResponse:
        name = self._name(asked)
        self.calls.append((name, asked.path, asked.body))
        if name in self.hangs:
            await asyncio.sleep(LIMIT_S)
        if name in self.status:
            return web.json_response({"message": "no"}, status=self.status[name])
        return web.json_response({"status": "success", **self._said(name)})

    def _name(self, asked: Asked) -> str:
        what = asked.path.split(INGRESS)[-1] if INGRESS in asked.path else asked.path
        kind = (
            what.split("/")[0]
            or {"channel": "channels", "kicking-rule": "ban"}[what.split("/")[3]]
        )
        if what.endswith("hosts_only"):
            kind = "hosts"
        return f"{asked.method} {kind}"

    def _said(self, name: str) -> dict[str, Any]:
        online = [
            {"sid": f"sid-{uid}", "channel": "show", "uid": uid, "bitrate": 1.0}
            for uid in self.online
        ]
        return {
            "GET channels": {"data": {"channels": [], "total_size": 3}},
            "GET hosts": {"data": {"channel_exist": True, "mode": 2, "broadcasters": self.hosts}},
            "POST ban": {"id": 7},
            "POST streamkeys": {"data": {"streamKey": f"made-key-{len(self.named(name))}"}},
            "GET online-streams": {"data": online},
        }.get(name, {})


class Lab(account_runs.Lab[Console, Agora]):
    """A console, an RTMP server, and adapters of both."""

    secrets = SECRETS

    def agora(self, **settings: Any) -> Agora:
        """Make an adapter of both, with a REST credential unless told otherwise."""
        known = {
            "app_id": APP,
            "customer_id": CUSTOMER,
            "customer_secret": SECRET,
            "region": "eu",
            "api_url": self.api.origin,
            "ingest_hosts": (f"127.0.0.1:{self.rtmp.port}",),
        }
        self.made.append(Agora(**{**known, **settings}))
        return self.made[-1]

    def with_key(self, **settings: Any) -> Agora:
        """Make an adapter without a REST credential."""
        given = {"customer_id": None, "customer_secret": None, "stream_key": KEY}
        return self.agora(**{**given, **settings})


def run(test: Callable[[Lab], Coroutine[Any, Any, None]]) -> None:
    """Run a test with stand-ins of its own, bounded; nothing may be left of it."""
    account_runs.run(Lab, Console(), test, tasks="agora")


def assert_untold(exc: BaseException) -> None:
    """No secret in a message, a repr, a cause or a traceback."""
    account_runs.assert_untold(exc, SECRETS)
