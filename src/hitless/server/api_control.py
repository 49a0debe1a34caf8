"""
Control APIs over HTTPS that prove a credential: Agora's, LiveKit's and ZEGOCLOUD's.

Each is asked for the cheapest thing that needs the credential: a list of one channel, one room,
or the users of a room that nobody is in. See `own_control` for what becomes of the answers.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from typing import Any, Final

from aiohttp.abc import AbstractResolver, ResolveResult

from ..errors import ConfigError, Refused, Retry
from ..providers.agora_api import AgoraApi
from ..providers.agora_hosts import Hosts
from ..providers.clock import wall_s
from ..providers.livekit_api import RoomService
from ..providers.livekit_token import Grants, check_key, mint
from ..providers.quota import Quota
from ..providers.whip import checked_url
from ..providers.zego_api import ZegoApi
from .addresses import (
    Allowed,
    ResolvedTarget,
    Resolver,
    TargetUnresolved,
    check_target,
    resolved,
)
from .prober import TIMEOUT_S, as_http
from .store_operators import ProviderRow


API_URL: Final = "api_url"
"""Option of Agora and ZEGOCLOUD: the API is somewhere else, at a stand-in."""

ROOM: Final = "hitless-canary"
"""Room that is asked about; nobody is in it."""

_TOKEN_S: Final = 60.0
"""How long the token of one call to LiveKit lasts [s]."""


class Judged(AbstractResolver):
    """
    Finds addresses as the system does, and gives out those that may be connected to.

    Args:
        allow_private: Networks that may be asked besides the public ones; True: everything.
        resolver: Finds the addresses of a name; None: the system's.
    """

    def __init__(self, allow_private: Allowed = (), resolver: Resolver | None = None) -> None:
        self._allow_private, self._resolver = allow_private, resolver

    async def check(self, url: str) -> ResolvedTarget:
        """
        Return where an http or https URL leads; see `addresses.check_target`.

        Raises:
            TargetRefused: One of its addresses may not be connected to.
        """
        return await check_target(
            url, self._resolver, allow_private=self._allow_private, timeout_s=TIMEOUT_S
        )

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """See `AbstractResolver.resolve`."""
        try:
            target = await self.check(f"https://{host}:{port or 443}")
        except TargetUnresolved as exc:  # as the system says it: the next host is asked then
            raise socket.gaierror(socket.EAI_NONAME, exc.because) from None
        return resolved(target, host, port)

    async def close(self) -> None:
        """Nothing to close."""


def text_of(row: ProviderRow, name: str) -> str:
    """
    Return a provider's option that must be a text.

    Raises:
        ConfigError: It is missing, or none.
    """
    value = row.config.get(name)
    if not isinstance(value, str):
        raise ConfigError(f"{name} must be a text")
    return value


class Agora:
    """Asks for one channel of the project, at Agora's hosts in their documented order."""

    def __init__(
        self, row: ProviderRow, secrets: Mapping[str, str], quota: Quota, judged: Judged
    ) -> None:
        config: Mapping[str, Any] = row.config  # Any: an adapter's own options
        self._origin = text_of(row, API_URL) if API_URL in config else None
        self._judged, hosts = judged, None
        if (origin := self._origin) is not None:
            hosts = Hosts(
                primary=origin, alternate=origin, adjacent=origin, adjacent_alternate=origin
            )
        self._api = AgoraApi(
            row.name,
            app_id=config.get("app_id", ""),
            customer_id=secrets["customer_id"],
            customer_secret=secrets["customer_secret"],
            region=config.get("region", "na"),
            hosts=hosts,
            quota=quota,
            resolver=judged,
        )

    async def ask(self, deadline: float) -> str:
        """See `own_control.Asks`."""
        if self._origin is not None:  # a plain address is not looked up, so it is judged here
            await self._judged.check(self._origin)
        await self._api.channels(page_size=1, deadline=deadline)
        return "its API takes the REST credential"

    def is_theirs(self, refused: Refused) -> bool:
        """See `own_control.Asks`."""
        return True  # 5xx; what is about our account has errors of its own

    async def aclose(self) -> None:
        """See `own_control.Asks`."""
        await self._api.aclose()


class Zegocloud:
    """Counts the users of a room that does not exist: 0, and the signature is proven."""

    def __init__(
        self, row: ProviderRow, secrets: Mapping[str, str], quota: Quota, judged: Judged
    ) -> None:
        config: Mapping[str, Any] = row.config  # Any: an adapter's own options
        self._origin = text_of(row, API_URL) if API_URL in config else None
        self._judged = judged
        self._api = ZegoApi(
            row.name,
            app_id=config.get("app_id", 0),
            server_secret=secrets["server_secret"],
            region=config.get("region"),
            base=self._origin,
            quota=quota,
            resolver=judged,
        )

    async def ask(self, deadline: float) -> str:
        """See `own_control.Asks`."""
        if self._origin is not None:  # a plain address is not looked up, so it is judged here
            await self._judged.check(self._origin)
        await self._api.user_counts([ROOM], deadline=deadline)
        return "its API takes our signature"

    def is_theirs(self, refused: Refused) -> bool:
        """See `own_control.Asks`."""
        # An error inside, or a gateway that is away; else something is not enabled for us.
        return refused.retry is Retry.SAME or refused.retry_after_s is not None

    async def aclose(self) -> None:
        """See `own_control.Asks`."""
        await self._api.aclose()


class LiveKit:
    """Asks for a room that does not exist, over a connection of its own: the key is proven."""

    def __init__(
        self, row: ProviderRow, secrets: Mapping[str, str], quota: Quota, judged: Judged
    ) -> None:
        self._name, self._judged = row.name, judged
        self._url = checked_url("url", as_http(text_of(row, "url")), row.config.get("allow_http"))
        self._key, self._secret = secrets["api_key"], secrets["api_secret"]
        check_key(self._key, self._secret)

    async def ask(self, deadline: float) -> str:
        """See `own_control.Asks`."""
        await self._judged.check(str(self._url))  # a plain address is not looked up
        rooms = RoomService(
            self._name,
            self._url,
            self._token,
            call_s=max(0.0, deadline - asyncio.get_running_loop().time()),
            resolver=self._judged,
        )
        try:
            await rooms.rooms(ROOM)
        except Refused as exc:
            if rooms.held:
                return f"it answers: {exc.because}"
            raise
        finally:
            await rooms.aclose()
        return "its API takes the API key"

    def is_theirs(self, refused: Refused) -> bool:
        """See `own_control.Asks`."""
        return True  # 5xx; what is about our key has an error of its own

    async def aclose(self) -> None:
        """See `own_control.Asks`."""

    async def _token(self, grants: Grants) -> str:
        return mint(self._key, self._secret, grants, now_s=wall_s(), ttl_s=_TOKEN_S)
