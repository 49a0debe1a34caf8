"""A stand-in of ZEGOCLOUD's server API beside an RTMP node, and adapters of both."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from aiohttp import web
from control_stand_in import Asked, StandIn
from rtmp_server import RtmpServer
from unit.providers import account_runs
from unit.providers.account_runs import LIMIT_S

from hitless.providers.zego_rest import signature
from hitless.providers.zegocloud import Zegocloud


APP = 1234567890
SECRET = "9193cc662a4c0ec135ec71fb57194b38"
USER = "user-of-a-plan"
SECRETS = (SECRET, USER, "Signature=")


class Console:
    """
    A stand-in of ZEGOCLOUD's server API, in the documented shapes.

    Attributes:
        nodes: Where it sends who pushes or plays; `{stream}` is replaced.
        codes: What it answers instead, by action.
        holders: Who publishes which stream in any room: (stream, user).
        hangs: Actions that are never answered.
    """

    def __init__(self) -> None:
        self.nodes: list[str] = []
        self.codes: dict[str, int] = {}
        self.holders: list[tuple[str, str]] = []
        self.hangs: set[str] = set()
        self.calls: list[tuple[str, dict[str, str]]] = []

    def named(self, action: str) -> list[dict[str, str]]:
        """Return the arguments of the calls of one action, in order."""
        return [arguments for name, arguments in self.calls if name == action]

    async def __call__(self, asked: Asked) -> web.StreamResponse:
        query = dict(asked.query)
        action = query["Action"]
        self.calls.append((action, query))
        if action in self.hangs:
            await asyncio.sleep(LIMIT_S)
        signed = signature(APP, query["SignatureNonce"], SECRET, int(query["Timestamp"]))
        code = self.codes.get(action, 0) if query["Signature"] == signed else 100000005
        body: dict[str, Any] = {"Code": code, "Message": "words", "RequestId": "1"}
        data = self._data(action, query) if code == 0 else None
        return web.json_response(body if data is None else {**body, "Data": data})

    def _data(self, action: str, query: dict[str, str]) -> Any:
        if action == "RTMPDispatchV2":
            return [node.replace("{stream}", query["StreamId"]) for node in self.nodes]
        if action == "DescribeSimpleStreamList":
            return {
                "StreamList": [
                    {"StreamId": stream, "UserId": user, "CreateTime": 1_700_000_000_000}
                    for stream, user in self.holders
                ]
            }
        if action == "DescribeUserNum":
            return {"UserCountList": []}
        return None


class Lab(account_runs.Lab[Console, Zegocloud]):
    """A console, an RTMP node, and adapters of both."""

    secrets = SECRETS

    def __init__(self, api: StandIn, console: Console, rtmp: RtmpServer) -> None:
        super().__init__(api, console, rtmp)
        console.nodes = [rtmp.url.replace("/live/", f"/{APP}/")]

    def zego(self, **settings: Any) -> Zegocloud:
        """Make an adapter of both."""
        known = {"app_id": APP, "server_secret": SECRET, "api_url": self.api.origin}
        self.made.append(Zegocloud(**{**known, **settings}))
        return self.made[-1]


def run(test: Callable[[Lab], Coroutine[Any, Any, None]]) -> None:
    """Run a test with stand-ins of its own, bounded; nothing may be left of it."""
    account_runs.run(Lab, Console(), test, tasks="zego")


def assert_untold(exc: BaseException) -> None:
    """No secret, signature or user in a message, a repr, a cause or a traceback."""
    account_runs.assert_untold(exc, SECRETS)
