"""
Control probes of servers that have no HTTP API: Janus by its WebSocket, RTMP by its connect.

Both begin as a leg does, over a connection of its own to an address that was judged, and stop
before any media. See `own_control` for what becomes of the answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import aiohttp

from ..errors import HitlessError, LocalFault, Refused, Unreachable
from ..media.liveness import Liveness
from ..media.rtmp_session import RtmpSession
from ..media.rtmp_target import Target, target_of
from ..providers.credential import Credential
from ..providers.janus_socket import KEEPALIVE_S, Secrets, Session
from ..providers.quota import Quota
from .addresses import PinnedConnector
from .api_control import ROOM, Judged, text_of
from .prober import TIMEOUT_S, as_http
from .store_operators import ProviderRow


_ADDRESSES_MAX: Final = 4
"""Of so many addresses of one name each is tried in turn, for its share of the time."""


class Janus:
    """
    Opens a session and attaches to VideoRoom, as every leg does first.

    A Janus that is drained takes no new session, and one without the plugin no handle.
    """

    def __init__(
        self, row: ProviderRow, secrets: Mapping[str, str], quota: Quota, judged: Judged
    ) -> None:
        self._name, self._judged = row.name, judged
        self._url = as_http(text_of(row, "url"))

    async def ask(self, deadline: float) -> str:
        """See `own_control.Asks`."""
        target = await self._judged.check(self._url)
        async with aiohttp.ClientSession(
            connector=PinnedConnector(target),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),
            headers={"User-Agent": "hitless"},
        ) as http:
            session = await Session.open(
                http,
                target.url,
                deadline,
                provider=self._name,
                operation="probe",
                secrets=Secrets(),
                credential=Credential(None),
                keepalive_s=KEEPALIVE_S,
            )
            try:
                await session.attach(deadline)
            finally:
                await session.aclose()
        return "it opens a session with VideoRoom"

    def is_theirs(self, refused: Refused) -> bool:
        """See `own_control.Asks`."""
        return True  # what is about our secrets has an error of its own

    async def aclose(self) -> None:
        """See `own_control.Asks`."""


class Rtmp:
    """
    Connects, shakes hands, and has the application accept us; no stream's name is said.

    So a stream key is neither needed nor proven. An application that refuses us refuses all.
    """

    def __init__(
        self, row: ProviderRow, secrets: Mapping[str, str], quota: Quota, judged: Judged
    ) -> None:
        self._name, self._judged = row.name, judged
        url = text_of(row, "url").replace("{stream}", ROOM).replace("{key}", ROOM)
        self._target = target_of("url", url)

    async def ask(self, deadline: float) -> str:
        """See `own_control.Asks`."""
        host = f"[{self._target.host}]" if ":" in self._target.host else self._target.host
        found = await self._judged.check(f"http://{host}:{self._target.port}")
        addresses = found.addresses[:_ADDRESSES_MAX]
        failed: HitlessError | None = None
        for left, address in zip(range(len(addresses), 0, -1), addresses, strict=True):
            now = asyncio.get_running_loop().time()
            try:
                await self._greet(replace(self._target, address=address),
                                  now + (deadline - now) / left)  # fmt: skip
                return "its application takes a connection"
            except (Unreachable, LocalFault) as exc:  # no IPv6 here, say: others may do
                if failed is None or isinstance(failed, LocalFault):
                    failed = exc
        assert failed is not None
        raise failed

    async def _greet(self, target: Target, deadline: float) -> None:
        session = RtmpSession(
            target,
            provider=self._name,
            operation="probe",
            liveness=Liveness(silence_s=TIMEOUT_S, one_kind_s=TIMEOUT_S),
            path_silence_s=TIMEOUT_S,
            take=lambda message: None,
            status=lambda status: None,
            pings=False,
        )
        try:
            await session.open(deadline)
        finally:
            await session.aclose()

    def is_theirs(self, refused: Refused) -> bool:
        """See `own_control.Asks`."""
        return True

    async def aclose(self) -> None:
        """See `own_control.Asks`."""
