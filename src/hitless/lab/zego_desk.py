"""
The stand-in for ZEGOCLOUD's server API v2.

Written from ZEGOCLOUD's documents as of 2026-08-21, not from a live account: actions, shapes,
codes and limits are theirs, the answers come from the sessions of this stand-in. Failures are
codes inside an answer of HTTP 200; that a failing gateway does the same is unconfirmed, and so
is the code for a nonce that was used before and for a Sequence that does not rise (here: wrong
signature, wrong parameter). `RTMPDispatchV2` gives the stand-in's own RTMP out (`rtmp_door.py`);
that a node knows what was given out, and refuses an address that is too old, is unconfirmed. The
history of streams is not enabled, so one that ended is unknown (41004). Other actions are not
supported here.
"""

from __future__ import annotations

import asyncio
import itertools
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from ..errors import ConfigError
from ..providers.clock import wall_s as system_wall_s
from .account import ZegoAccount
from .desk import Rates, region_of
from .gate import (
    ZEGO_DUPLICATE,
    ZEGO_PLAY_FORBIDDEN,
    ZEGO_PUBLISH_FORBIDDEN,
    Pass,
    Rejected,
)
from .roster import Member
from .sessions import Sessions
from .zego_signed import Failed, Query, Signatures, is_number


ROOMS_MAX, USERS_MAX, PAGE_MAX = 10, 5, 200
SEQUENCE_S: Final = 10.0
"""For so long the Sequence of a stream must rise [s]."""
STREAMS_MAX: Final = 10_000
"""Streams whose Sequence, ban, announcement or address is remembered."""
DISPATCH_S: Final = 2 * 3600.0
"""For so long an address of RTMP may be used from when it was given out [s]."""

_OK, _PARAMETER, _NO_ROOM, _NO_USER, _TOO_MANY = 0, 2, 50001, 50003, 50011
_NO_STREAM, _TWO_USERS, _CLOSED_ROOM = 138, 1012, 5024
_ROOM_RATE, _APP_RATE, _MEDIA_RATE = 207, 206, 30002
_STREAM_ID, _UNKNOWN_STREAM = 30009, 41004
_UNSUPPORTED, _INSIDE, _NOT_ENABLED = 100000007, 100000015, 100000017

_STREAM: Final = re.compile(r"[A-Za-z0-9_-]{1,256}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """
    One action.

    Attributes:
        serve: Answers it.
        per_s: Calls in a second, per App ID.
        each_s: Time between two calls about one room [s]; 0: no such limit.
        is_media: Whether its codes are those of media; else those of rooms.
    """

    serve: Callable[[Query], Any]  # Any: JSON
    per_s: int
    each_s: float = 0.0
    is_media: bool = False


class ZegoDesk:
    """
    Serves the API of one App ID; see `Desk`.

    Args:
        account: Whose.
        sessions: What it answers from.
        wall_s: Returns the time of the wall clock [s].

    Attributes:
        rtmp_url: Of its nodes, without application and stream; None: RTMP is not enabled.
    """

    def __init__(
        self,
        account: ZegoAccount,
        sessions: Sessions,
        *,
        wall_s: Callable[[], float] = system_wall_s,
    ) -> None:
        self._roster, self._injected = sessions.roster, sessions.injected
        self._wall_s = wall_s
        self._app_id = str(account.app_id)
        self._rates = Rates()
        self._signatures = Signatures(account, wall_s)
        self._numbers = itertools.count(1)
        self._sequences: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self._forbidden: OrderedDict[str, None] = OrderedDict()
        self._withdrawn: OrderedDict[str, None] = OrderedDict()
        self._announced: OrderedDict[tuple[str, str], tuple[str, float]] = OrderedDict()
        self._dispatched: OrderedDict[tuple[str, str], float] = OrderedDict()
        self.rtmp_url: str | None = None
        self._actions = {
            "DescribeUserNum": Action(serve=self._user_num, per_s=10),
            "DescribeUserList": Action(serve=self._user_list, per_s=200, each_s=1.0),
            "DescribeSimpleStreamList": Action(serve=self._stream_list, per_s=50, each_s=10.0),
            "KickoutUser": Action(serve=self._kick, per_s=50),
            "CloseRoom": Action(serve=self._close, per_s=1),
            "AddStream": Action(serve=self._add, per_s=10),
            "DeleteStream": Action(serve=self._delete, per_s=10),
            "DescribeRTCStreamState": Action(serve=self._state, per_s=40, is_media=True),
            "ForbidRTCStream": Action(serve=self._forbid, per_s=20, is_media=True),
            "ResumeRTCStream": Action(serve=self._resume, per_s=20, is_media=True),
            "RTMPDispatchV2": Action(serve=self._dispatch, per_s=40, is_media=True),
        }

    def check(self, who: Pass, stream: str, *, publishes: bool) -> None:
        """See `Desk.check`."""
        if stream in self._forbidden:
            code = ZEGO_PUBLISH_FORBIDDEN if publishes else ZEGO_PLAY_FORBIDDEN
            raise Rejected("the backend forbids this stream", code=code, status=403)
        if publishes and self._roster.is_haunted(stream):
            raise Rejected("the stream has a publisher", code=ZEGO_DUPLICATE, status=409)

    def routes(self) -> Iterable[web.RouteDef]:
        """See `Desk.routes`."""
        yield web.get("/", self._answer)
        yield web.post("/", self._answer)

    # --- Every call ---

    async def _answer(self, request: web.Request) -> web.Response:
        try:
            if self._injected.is_down(region_of(request, self._injected)):
                return web.Response(status=503, text="its region is down, on purpose\n")
        except ConfigError as fault:
            return web.Response(status=400, text=f"{fault}\n")
        query: dict[str, list[str]] = {}
        for name, value in request.query.items():
            query.setdefault(name.removesuffix("[]"), []).append(value)
        body: dict[str, Any] = {"Code": _OK, "Message": "success"}
        try:
            data = self._admit(query).serve(query)
            if data is not None:
                body["Data"] = data
        except Failed as failed:
            body = {"Code": failed.code, "Message": failed.message}
        body["RequestId"] = str(int(self._wall_s() * 1e6) * 1000 + next(self._numbers) % 1000)
        return web.json_response(body)

    def _admit(self, query: Query) -> Action:
        self._signatures.check(query)
        name, now = query["Action"][0], asyncio.get_running_loop().time()
        action = self._actions.get(name)
        if action is None:
            raise Failed(_UNSUPPORTED, "Unsupported Action.")
        if "api-500" in self._injected:
            raise Failed(_INSIDE, "Gateway internal error.")
        is_spent = "rate-limited" in self._injected
        if is_spent or not self._rates.take(name, limit=action.per_s, now=now):
            raise Failed(
                _MEDIA_RATE if action.is_media else _APP_RATE, "Request QPS too high, limited."
            )
        if action.each_s:
            room = _one(query, "RoomId")
            if not self._rates.take(
                f"{name} each", limit=1, now=now, within_s=action.each_s, subject=room
            ):
                raise Failed(_ROOM_RATE, "Room request QPS too high, limited.")
        return action

    # --- Rooms ---

    def _user_num(self, query: Query) -> Any:
        rooms = query.get("RoomId", [])
        if not 1 <= len(rooms) <= ROOMS_MAX or not all(rooms):
            raise Failed(_PARAMETER, f"RoomId[]: give 1 to {ROOMS_MAX} rooms.")
        return {
            "UserCountList": [
                {"RoomId": room, "UserCount": len(self._users(room)), "AdminUserCount": 0}
                for room in rooms
            ]
        }

    def _user_list(self, query: Query) -> Any:
        room, limit = _one(query, "RoomId"), query.get("Limit", [str(PAGE_MAX)])[0]
        mode, marker = query.get("Mode", ["0"])[0], query.get("Marker", [""])[0]
        if not is_number(limit) or int(limit) > PAGE_MAX or mode not in ("0", "1"):
            raise Failed(_PARAMETER, "Input parameter error.")
        if marker and not is_number(marker):
            raise Failed(_PARAMETER, "Input parameter error.")
        users = self._users(room)[:: -1 if mode == "1" else 1]
        start = int(marker or 0)
        end = start + int(limit)
        return {
            "Marker": str(end) if end < len(users) and end > start else "",
            "UserList": [
                {"UserId": user, "UserName": user, "UserRole": 0} for user in users[start:end]
            ],
        }

    def _stream_list(self, query: Query) -> Any:
        room = _one(query, "RoomId")
        found = {
            each.stream: (each.who.user, each.who.came_s)
            for each in self._roster.members(room)
            if each.is_publisher and each.is_on_air and each.sid not in self._withdrawn
        }
        found |= self._announcements(room)
        streams = [
            {
                "StreamId": stream,
                "UserId": user,
                "UserName": user,
                "CreateTime": int(since_s * 1000),
                "StreamNumberId": number,
            }
            for number, (stream, (user, since_s)) in enumerate(found.items(), start=1)
        ]
        return {"StreamList": streams}

    def _kick(self, query: Query) -> Any:
        room, users = self._room(query, _NO_ROOM), query.get("UserId", [])
        if not users or not all(users):
            raise Failed(_PARAMETER, "Input parameter error.")
        if len(users) > USERS_MAX:
            raise Failed(_TOO_MANY, "User list length too long.")
        gone = self._roster.kick(
            lambda each: each.who.room == room and each.who.user in users, "kicked by the API"
        )
        if not gone:
            raise Failed(_NO_USER, "Failed to find User online information.")
        return None

    def _close(self, query: Query) -> Any:
        room = self._room(query, _CLOSED_ROOM)
        self._roster.kick(lambda each: each.who.room == room, "its room was closed by the API")
        return None

    def _add(self, query: Query) -> Any:
        room, stream, user = self._room(query, 104), _stream(query), _one(query, "UserId")
        live = [m for m in self._roster.members(room) if m.is_publisher and m.stream == stream]
        others = {each.who.user for each in live} - {user}
        known = self._announcements(room).get(stream)
        if others or (known is not None and known[0] != user):
            raise Failed(_TWO_USERS, "Multiple users operating on the same Stream.")
        self._announced[room, stream] = (user, self._wall_s())
        _bound(self._announced)
        return None

    def _delete(self, query: Query) -> Any:
        room, stream, user = self._room(query, 104), _stream(query), _one(query, "UserId")
        known = self._announcements(room).get(stream)
        if known is not None and known[0] == user:
            del self._announced[room, stream]
            return None
        for each in self._roster.members(room):
            if each.is_publisher and (each.stream, each.who.user) == (stream, user):
                self._withdrawn[each.sid] = None  # only from the list: its media goes on
                _bound(self._withdrawn)
                return None
        raise Failed(_NO_STREAM, "Stream information does not exist.")

    def _room(self, query: Query, missing: int) -> str:
        room = _one(query, "RoomId")
        if not self._roster.members(room):
            raise Failed(missing, "Room does not exist.")
        return room

    def _users(self, room: str) -> list[str]:
        members = sorted(self._roster.members(room), key=lambda each: each.who.came_s)
        return list(dict.fromkeys(each.who.user for each in members))

    def _announcements(self, room: str) -> dict[str, tuple[str, float]]:
        """Return what was announced in a room; with the last user, that ends too."""
        every = self._announced.items()
        found = {stream: told for (where, stream), told in every if where == room}
        if found and not self._roster.members(room):
            for stream in found:
                del self._announced[room, stream]
            return {}
        return found

    # --- Media ---

    def _state(self, query: Query) -> Any:
        member = self._publisher(_stream(query))
        self._in_order(query)
        if member is None:
            raise Failed(_UNKNOWN_STREAM, "Query failed, StreamId does not exist.")
        return {"create_time": str(int(member.who.came_s)), "close_time": ""}

    def _forbid(self, query: Query) -> Any:
        stream = _stream(query)
        self._in_order(query)
        self._forbidden[stream] = None
        _bound(self._forbidden)
        self._roster.kick(lambda each: each.stream == stream, "its stream is forbidden by the API")
        return None

    def _resume(self, query: Query) -> Any:
        self._in_order(query)
        self._forbidden.pop(_stream(query), None)
        return None

    def _dispatch(self, query: Query) -> Any:
        stream, kind = _stream(query), _one(query, "Type")
        if kind not in ("push", "pull"):
            raise Failed(_PARAMETER, "Input parameter error: Type.")
        self._in_order(query)
        if self.rtmp_url is None:
            raise Failed(_NOT_ENABLED, "App has not enabled this service.")
        self._dispatched[stream, kind] = self._wall_s() + DISPATCH_S
        self._dispatched.move_to_end((stream, kind))
        _bound(self._dispatched)
        return [f"{self.rtmp_url}/{self._app_id}/{stream}"]

    def dispatched(self, app: str, stream: str, *, publishes: bool) -> Pass:
        """
        Return the pass of who comes by RTMP; it has no user and no room, as `AddStream` tells.

        Raises:
            Rejected: The address was not given out, or too long ago; or the stream is taken.
        """
        until_s = self._dispatched.get((stream, "push" if publishes else "pull"), 0.0)
        if app != self._app_id or self._wall_s() >= until_s:
            raise Rejected("ask RTMPDispatchV2 for an address, and use it within 2 h")
        if publishes and self._roster.publisher(stream) is not None:
            raise Rejected("the stream has a publisher", code=ZEGO_DUPLICATE, status=409)
        return Pass(region=self._injected.home, key=f"{app}/{stream}")

    def _publisher(self, stream: str) -> Member | None:
        member = self._roster.publisher(stream)
        return member if member is not None and member.is_on_air else None

    def _in_order(self, query: Query) -> None:
        stream, text = _stream(query), query.get("Sequence", [""])[0]
        now = asyncio.get_running_loop().time()
        if not is_number(text):
            raise Failed(_PARAMETER, "Parameter error: Sequence.")
        last, since = self._sequences.get(stream, (-1, now - SEQUENCE_S))
        if now - since < SEQUENCE_S and int(text) <= last:
            raise Failed(_PARAMETER, "Parameter error: Sequence must rise.")
        self._sequences[stream] = (int(text), now)
        self._sequences.move_to_end(stream)
        _bound(self._sequences)


def _one(query: Query, name: str) -> str:
    value = query.get(name, [""])[0]
    if not value:
        raise Failed(_PARAMETER, f"Input parameter error: {name}.")
    return value


def _stream(query: Query) -> str:
    stream = _one(query, "StreamId")
    if not _STREAM.fullmatch(stream):
        raise Failed(_STREAM_ID, "Invalid StreamId, Stream name is not standard.")
    return stream


def _bound(table: OrderedDict[Any, Any]) -> None:
    while len(table) > STREAMS_MAX:
        table.popitem(last=False)
