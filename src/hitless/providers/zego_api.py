"""
ZEGOCLOUD's server API v2, as far as a stream's life needs it.

From ZEGOCLOUD's documents as of 2026-08-21. Failures come as a code inside an answer of HTTP 200;
which status a failing gateway uses is unconfirmed. There is no documented order of hosts to try,
so one call is one attempt. Nothing here was run against a real account yet.

A signature covers neither the action nor its arguments, so a URL that is seen can be abused for
another call for ten minutes: URLs are in no error and no log line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

import msgspec
from aiohttp.abc import AbstractResolver

from ..errors import ConfigError, ContractBroken
from .clock import wall_s as system_wall_s
from .credential import Token
from .quota import Quota
from .rest import checked_origin
from .zego_rest import ZegoRest
from .zego_token import check_account


ROOMS_MAX: Final = 10
USERS_MAX: Final = 5
_REGIONS: Final = ("sha", "hkg", "fra", "lax", "bom", "sgp")
_STREAM = re.compile(r"[A-Za-z0-9_-]{1,256}")
_CLOSED: Final = 41006


class StreamState(StrEnum):
    """What ZEGOCLOUD knows of a stream."""

    ACTIVE = "active"
    CLOSED = "closed"
    """Said only where the history of streams is enabled."""
    UNKNOWN = "unknown"
    """There is no such stream, or there was one too long ago."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomStream:
    """A stream in a room: its id, whose it is, and when it began [s since 1970]."""

    stream: str
    user: str = field(repr=False)
    created_s: float


def checked_stream(stream: str) -> str:
    """
    Return a stream id that ZEGOCLOUD accepts.

    Raises:
        ConfigError: It does not.
    """
    if not _STREAM.fullmatch(stream):
        raise ConfigError(f"stream id {stream[:40]!r}: 1 to 256 of letters, digits, '-' and '_'")
    return stream


class ZegoApi:
    """
    Calls ZEGOCLOUD's server API for one App ID, within its limits.

    Args:
        name: Provider name for errors.
        app_id: The App ID.
        server_secret: The ServerSecret, or what fetches it; fetched again after a rejection, once.
        region: Nearest entry: `sha`, `hkg`, `fra`, `lax`, `bom` or `sgp`; None: wherever the
            common host leads.
        base: Origin of the API instead; a stand-in's is given here.
        is_test: Whether to send `IsTest`, and what; None: do not (projects after 2021-11-16).
        quota: Share it among clients of the same App ID; None: one of its own.
        wall_s: Time since 1970 [s]; ZEGOCLOUD accepts 10 min of difference.
        resolver: Finds addresses of host names; None: the system does.

    Raises:
        ConfigError: The App ID, the ServerSecret, the region or the base cannot be used.
    """

    def __init__(
        self,
        name: str = "zegocloud",
        *,
        app_id: int,
        server_secret: Token,
        region: str | None = None,
        base: str | None = None,
        is_test: bool | None = None,
        quota: Quota | None = None,
        wall_s: Callable[[], float] = system_wall_s,
        resolver: AbstractResolver | None = None,
    ) -> None:
        if not 0 < app_id < 2**32:
            raise ConfigError("app_id: the App ID of ZEGOCLOUD's console is a number")
        if isinstance(server_secret, str):
            check_account(app_id, server_secret)
        if region is not None and region not in _REGIONS:
            raise ConfigError(f"region = {region[:20]!r}: ZEGOCLOUD has {', '.join(_REGIONS)}")
        host = "rtc-api" if region is None else f"rtc-api-{region}"
        self._name = name
        self._wall_s = wall_s
        self._rest = ZegoRest(
            name,
            app_id=app_id,
            server_secret=server_secret,
            base=checked_origin("base", base or f"https://{host}.zego.im"),
            is_test=is_test,
            quota=quota,
            wall_s=wall_s,
            resolver=resolver,
        )
        self._last_sequence = 0

    # --- Who is there ---

    async def user_counts(
        self, rooms: Sequence[str], *, deadline: float | None = None
    ) -> dict[str, int]:
        """
        Return how many users are in each of up to 10 rooms; 0 where there is no such room.

        On a fixed room name it is the cheapest health check of API and credentials.

        Raises:
            ProviderError: It did not answer, or not with that; `retry` says what to do next.
            LocalFault: This machine has no network.
        """
        if not 1 <= len(rooms) <= ROOMS_MAX:
            raise ValueError(f"1 to {ROOMS_MAX} rooms")
        arguments = [("RoomId[]", room) for room in rooms]
        data = await self._rest.data("DescribeUserNum", arguments, _CountsData, deadline)
        counts = {each.RoomId: each.UserCount for each in data.UserCountList}
        return {room: counts.get(room, 0) for room in rooms}

    async def streams(self, room: str, *, deadline: float | None = None) -> tuple[RoomStream, ...]:
        """
        Return the streams of a room; none if there is no such room. Once in 10 s per room.

        The list lags: a publisher that died stays in it for up to some 100 s.

        Raises:
            Refused: It was asked for this room a moment ago, and the deadline is too near.
            ProviderError: It did not answer, or not with that.
            LocalFault: This machine has no network.
        """
        action = "DescribeSimpleStreamList"
        answer = await self._rest.call(
            action, [("RoomId", room)], deadline, subject=room, is_absent_fine=True
        )
        if answer.code != 0:
            return ()
        data = self._rest.decoded(answer, action, _StreamsData)
        return tuple(
            RoomStream(stream=s.StreamId, user=s.UserId, created_s=s.CreateTime / 1000)
            for s in data.StreamList
        )

    async def stream_state(self, stream: str, *, deadline: float | None = None) -> StreamState:
        """
        Return whether media of a stream arrives at ZEGOCLOUD's servers.

        Raises:
            ProviderError: It did not answer, or not with that.
            LocalFault: This machine has no network.
        """
        arguments = [("StreamId", checked_stream(stream)), ("Sequence", self._sequence())]
        answer = await self._rest.call(
            "DescribeRTCStreamState", arguments, deadline, is_absent_fine=True
        )
        if answer.code == 0:
            return StreamState.ACTIVE
        return StreamState.CLOSED if answer.code == _CLOSED else StreamState.UNKNOWN

    # --- Who must go ---

    async def kick_out(
        self, room: str, users: Sequence[str], *, deadline: float | None = None
    ) -> None:
        """
        Throw up to 5 users out of a room, which ends what they publish. Gone already is fine.

        They may come back unless the stream is forbidden as well.

        Raises:
            ProviderError: It did not answer, or not with a success.
            LocalFault: This machine has no network.
        """
        if not 1 <= len(users) <= USERS_MAX:
            raise ValueError(f"1 to {USERS_MAX} users")
        arguments = [("RoomId", room), *(("UserId[]", user) for user in users)]
        await self._rest.call(
            "KickoutUser", arguments, deadline, unsaid=tuple(users), is_absent_fine=True
        )

    async def forbid_stream(self, stream: str, *, deadline: float | None = None) -> None:
        """
        Stop a stream and let nobody publish it, until `resume_stream`.

        Raises:
            ProviderError: It did not answer, or not with a success.
            LocalFault: This machine has no network.
        """
        await self._switch("ForbidRTCStream", stream, deadline)

    async def resume_stream(self, stream: str, *, deadline: float | None = None) -> None:
        """
        Let a stream be published again.

        Raises:
            ProviderError: It did not answer, or not with a success.
            LocalFault: This machine has no network.
        """
        await self._switch("ResumeRTCStream", stream, deadline)

    # --- Streams that come by RTMP or WHIP ---

    async def add_stream(
        self, room: str, user: str, stream: str, *, deadline: float | None = None
    ) -> None:
        """
        Announce a stream to a room; it moves no media, and makes no room.

        If the caller is cancelled, a stream that is announced nevertheless is withdrawn.

        Args:
            room: Which; somebody must be in it.
            user: As whose; not one who is in the room, else it ends with that user.
            stream: Its id.
            deadline: When to give up [s, the loop's clock]; None: in 10 s.

        Raises:
            Refused: There is no such room, or another user has the stream.
            ProviderError: It did not answer, or not with a success.
            LocalFault: This machine has no network.
        """
        arguments = [("RoomId", room), ("UserId", user), ("StreamId", checked_stream(stream))]

        adding = self._rest.call("AddStream", arguments, deadline, unsaid=(user,))
        await self._rest.calls.or_undone(adding, lambda _: self.delete_stream(room, user, stream))

    async def delete_stream(
        self, room: str, user: str, stream: str, *, deadline: float | None = None
    ) -> None:
        """
        Withdraw a stream from a room; it stops no media. Gone already is fine.

        Raises:
            ProviderError: It did not answer, or not with a success.
            LocalFault: This machine has no network.
        """
        arguments = [("RoomId", room), ("UserId", user), ("StreamId", checked_stream(stream))]
        await self._rest.call(
            "DeleteStream", arguments, deadline, unsaid=(user,), is_absent_fine=True
        )

    async def rtmp_urls(
        self,
        stream: str,
        *,
        is_push: bool = True,
        client_ip: str | None = None,
        deadline: float | None = None,
    ) -> tuple[str, ...]:
        """
        Return where to push a stream to, or to play it from, over RTMP.

        Ask anew each time: a node is good for two hours. ZEGOCLOUD's support must enable it.

        Args:
            stream: Its id; unique in the whole App ID, or the later publisher fails.
            is_push: Whether to publish; else to play.
            client_ip: IPv4 address of who will connect; None: not said.
            deadline: When to give up [s, the loop's clock]; None: in 10 s.

        Raises:
            Refused: There is no node, or RTMP is not enabled.
            ProviderError: It did not answer, or not with that.
            LocalFault: This machine has no network.
        """
        arguments = [
            ("StreamId", checked_stream(stream)),
            ("Sequence", self._sequence()),
            ("Type", "push" if is_push else "pull"),
        ]
        arguments += [] if client_ip is None else [("ClientIP", client_ip)]
        found = await self._rest.data("RTMPDispatchV2", arguments, list[str], deadline)
        if not found or not all(url.startswith("rtmp://") for url in found):
            raise ContractBroken(
                "an answer without a node", provider=self._name, operation="RTMPDispatchV2"
            )
        return tuple(found)

    async def aclose(self) -> None:
        """End calls under way and close connections. Idempotent; bounded; never raises."""
        await self._rest.calls.aclose()

    # --- Inside ---

    async def _switch(self, action: str, stream: str, deadline: float | None) -> None:
        arguments = [("StreamId", checked_stream(stream)), ("Sequence", self._sequence())]
        await self._rest.call(action, arguments, deadline)

    def _sequence(self) -> str:
        """Return a number that grows with every call: for one stream it must, for 10 s."""
        self._last_sequence = max(self._last_sequence + 1, int(self._wall_s() * 1000))
        return str(self._last_sequence)


# --- Answers, as documented ---


class _CountBody(msgspec.Struct):
    RoomId: str
    UserCount: int


class _CountsData(msgspec.Struct):
    UserCountList: list[_CountBody]


class _StreamBody(msgspec.Struct):
    StreamId: str
    UserId: str = ""
    CreateTime: int = 0


class _StreamsData(msgspec.Struct):
    StreamList: list[_StreamBody]
