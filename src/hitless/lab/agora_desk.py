"""
The stand-in for Agora's REST API: channel management, and stream keys of the Media Gateway.

Written from Agora's documents as of 2026-07-01, not from a live account: paths, shapes, codes and
limits are theirs, the answers come from the sessions of this stand-in. Every channel is in live
broadcasting mode. Not served, because the documents contradict themselves or because nothing here
could answer truly: PUT of stream keys, mute, templates, and the picture's size in a push (media is
not opened). The documents show a stream key where the list of pushes should be; the list here has
the fields that the reference of one push names.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import re
import secrets
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final
from uuid import uuid4

import msgspec
from aiohttp import web

from ..errors import ConfigError, HitlessError
from ..providers.clock import wall_s as system_wall_s
from .account import AgoraAccount
from .agora_keys import Key, Keys
from .agora_rules import JOIN, Rule, Rules, utc
from .catalogue import AGORA, REGIONS
from .desk import Rates, region_of
from .gate import ALL_KINDS, BANNED, REJECTED, Pass, Rejected
from .roster import Member
from .sessions import Sessions


QUERIES_MAX, OTHERS_MAX = 20, 10
"""Calls of each kind in a second, per account: statistics of channels, and every other API."""
GATEWAY_QUERIES_MAX, GATEWAY_OTHERS_MAX = 100, 50
"""The same for the Media Gateway, per project."""
PUSHES_MAX: Final = 50
"""Streams that are pushed with a key at a time, per project."""
PAGE_DEFAULT, PAGE_MAX = 100, 500
AUDIENCE_MAX: Final = 10_000
CHANNEL_BYTES_MAX: Final = 63

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_QUOTA: Final = "Resources quota limit exceeded."

Serve = Callable[[web.Request], Awaitable[Any]]  # Any: JSON


class Failed(HitlessError):
    """A call that is answered with another status than 200."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


class AgoraDesk:
    """
    Serves the API of one account; see `Desk`.

    Args:
        account: Whose.
        sessions: What it answers from.
        keys: Stream keys, which its gate accepts.
        wall_s: Returns the time of the wall clock [s].
    """

    def __init__(
        self,
        account: AgoraAccount,
        sessions: Sessions,
        keys: Keys,
        *,
        wall_s: Callable[[], float] = system_wall_s,
    ) -> None:
        self._account, self._sessions, self._keys = account, sessions, keys
        self._roster, self._injected = sessions.roster, sessions.injected
        self._rules = Rules(wall_s)
        self._rates = Rates()
        sessions.withheld = self._rules.withheld
        said = f"{account.customer_id}:{account.customer_secret}".encode()
        self._basic = b"Basic " + base64.b64encode(said)

    def check(self, who: Pass, stream: str, *, publishes: bool) -> None:
        """See `Desk.check`."""
        if "join-rejected" in self._injected:
            raise Rejected("join rejected, on purpose", code=REJECTED, status=503)
        if self._rules.may_not_join(who):
            raise Rejected("banned by a rule", code=BANNED, status=403)
        if not publishes:
            return
        if self._rules.withheld(who) >= ALL_KINDS:
            raise Rejected("banned from publishing by a rule", code=BANNED, status=403)
        if self._roster.is_haunted(stream):
            raise Rejected("in the channel already", code=REJECTED, status=409)
        if who.key is not None and len(self._pushes()) >= PUSHES_MAX:
            raise Rejected(_QUOTA, status=429)

    def routes(self) -> Iterable[web.RouteDef]:
        """See `Desk.routes`."""
        of_channels, rules = "/dev/v1/channel", "/dev/v1/kicking-rule"
        gateway = "/{region}/v1/projects/{app_id}/rtls/ingress"
        for path, serve in (
            ("/{app_id}", self._channels),
            ("/user/{app_id}/{channel}", self._users),
            ("/user/{app_id}/{channel}/hosts_only", self._hosts),
            ("/user/property/{app_id}/{uid}/{channel}", self._user),
        ):
            yield web.get(of_channels + path, self._serving(serve, QUERIES_MAX))
        for method, served in (
            ("POST", self._ban),
            ("GET", self._bans),
            ("PUT", self._rebanned),
            ("DELETE", self._unban),
        ):
            yield web.route(method, rules, self._serving(served, OTHERS_MAX))
        for method, path, call, limit in (
            ("POST", "/streamkeys", self._make_key, GATEWAY_OTHERS_MAX),
            ("GET", "/streamkeys/{key}", self._key, GATEWAY_QUERIES_MAX),
            ("DELETE", "/streamkeys/{key}", self._delete_key, GATEWAY_OTHERS_MAX),
            ("GET", "/online-streams", self._online, GATEWAY_QUERIES_MAX),
            ("GET", "/online-streams/{sid}", self._push, GATEWAY_QUERIES_MAX),
            ("DELETE", "/online-streams/{sid}", self._disconnect, GATEWAY_OTHERS_MAX),
        ):
            yield web.route(method, gateway + path, self._serving(call, limit, is_gateway=True))

    # --- Every call ---

    def _serving(
        self, serve: Serve, limit: int, *, is_gateway: bool = False
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        kind = serve.__name__

        async def answer(request: web.Request) -> web.Response:
            headers = {"X-Request-ID": _request_id(request), "X-Resource-ID": uuid4().hex}
            try:
                self._admit(request, kind, limit, is_gateway=is_gateway)
                body = await serve(request)
            except Failed as failed:
                if failed.status == 401:
                    headers = {}  # documented: no request's id then
                return web.json_response(
                    {"message": failed.message}, status=failed.status, headers=headers
                )
            return web.json_response(body, headers=headers)

        return answer

    def _admit(self, request: web.Request, kind: str, limit: int, *, is_gateway: bool) -> None:
        shown = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
        region = request.match_info.get("region", "")
        try:
            where = {region_of(request, self._injected), region}
        except ConfigError as fault:
            raise Failed(400, str(fault)) from None
        if any(self._injected.is_down(each) for each in where if each):
            raise Failed(503, "Service unavailable temporarily. Retry with the back-off strategy.")
        if not hmac.compare_digest(shown, self._basic):
            raise Failed(401, "Invalid authentication credentials.")
        if "api-500" in self._injected:
            raise Failed(500, "Internal error. Contact us to help fix it.")
        now = asyncio.get_running_loop().time()
        is_spent = "rate-limited" in self._injected
        if is_spent or not self._rates.take(kind, limit=limit, now=now):
            raise Failed(429, "Request rate limit exceeded.")
        if is_gateway and region not in REGIONS[AGORA]:
            raise Failed(400, "Invalid region.")
        if "app_id" in request.match_info:
            self._check_app(request.match_info["app_id"], is_gateway=is_gateway)

    def _check_app(self, app_id: object, *, is_gateway: bool = False) -> None:
        if app_id == self._account.app_id:
            return
        if is_gateway:
            raise Failed(400, "invalid appid.")
        raise Failed(401, "incorrect App ID")

    async def _object(self, request: web.Request) -> dict[str, Any]:
        if request.content_type != "application/json":
            raise Failed(415, "Content-Type must be application/json")
        try:
            return msgspec.json.decode(await request.read(), type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise Failed(400, "Invalid Body.") from None

    # --- Who is there ---

    async def _channels(self, request: web.Request) -> Any:
        page, size = _number(request, "page_no", 0), _number(request, "page_size", PAGE_DEFAULT)
        if page < 0 or not 1 <= size <= PAGE_MAX:
            raise Failed(400, f"page_no from 0, page_size from 1 to {PAGE_MAX}")
        users: dict[str, set[str]] = {}
        for member in self._roster.members():
            users.setdefault(member.who.room, set()).add(member.who.user)
        shown = list(users.items())[page * size : (page + 1) * size]
        channels = [{"channel_name": name, "user_count": len(who)} for name, who in shown]
        return {"success": True, "data": {"channels": channels, "total_size": len(users)}}

    async def _users(self, request: web.Request) -> Any:
        return self._who_is_in(request, hosts_only="hosts_only" in request.query)

    async def _hosts(self, request: web.Request) -> Any:
        return self._who_is_in(request, hosts_only=True)

    def _who_is_in(self, request: web.Request, *, hosts_only: bool) -> Any:
        members = self._roster.members(request.match_info["channel"])
        if not members:
            return {"success": True, "data": {"channel_exist": False}}
        hosts = {m.who.user: None for m in members if m.is_publisher}
        data: dict[str, Any] = {
            "channel_exist": True,
            "mode": 2,
            "broadcasters": [_uid(user) for user in hosts],
        }
        if not hosts_only:
            audience = {m.who.user: None for m in members if m.who.user not in hosts}
            data["audience"] = [_uid(user) for user in audience][:AUDIENCE_MAX]
            data["audience_total"] = len(audience)
        return {"success": True, "data": data}

    async def _user(self, request: web.Request) -> Any:
        uid = request.match_info["uid"]
        if not isinstance(_uid(uid), int):
            raise Failed(400, "Invalid 'uid' format.")
        found = [m for m in self._roster.members(request.match_info["channel"])]
        found = [m for m in found if m.who.user == uid]
        if not found:
            return {"success": True, "data": {"in_channel": False}}
        data = {
            "in_channel": True,
            "uid": _uid(uid),
            "join": int(min(m.who.came_s for m in found)),
            "role": 2 if any(m.is_publisher for m in found) else 3,
            "platform": 0,  # others
        }
        return {"success": True, "data": data}

    # --- Who must go ---

    async def _ban(self, request: web.Request) -> Any:
        body = await self._object(request)
        self._check_app(body.get("appid"))
        try:
            rule, lasts = self._rules.make(body)
        except ConfigError as fault:
            raise Failed(400, str(fault)) from None
        self._put_offline(rule, lasts=lasts)
        return {"status": "success", "id": rule.number}

    async def _bans(self, request: web.Request) -> Any:
        self._check_app(request.query.get("appid"))
        rules = [rule.as_json(self._account.app_id) for rule in self._rules.all()]
        return {"status": "success", "rules": rules}

    async def _rebanned(self, request: web.Request) -> Any:
        body = await self._object(request)
        self._check_app(body.get("appid"))
        try:
            rule = self._rules.change(body.get("id"), body)
        except ConfigError as fault:
            raise Failed(400, str(fault)) from None
        if rule is None:
            raise Failed(404, "no such rule")
        self._put_offline(rule, lasts=rule.until_s > rule.changed_s)
        return {"status": "success", "result": {"id": rule.number, "ts": utc(rule.until_s)}}

    async def _unban(self, request: web.Request) -> Any:
        body = await self._object(request)
        self._check_app(body.get("appid"))
        number = body.get("id")
        if not self._rules.delete(number):
            raise Failed(404, "no such rule")
        return {"status": "success", "id": number}

    def _put_offline(self, rule: Rule, *, lasts: bool) -> None:
        # A rule about publishing that lasts leaves people in; one that does not, kicks once.
        if JOIN in rule.privileges or not lasts:
            self._roster.kick(lambda member: rule.means(member.who), "kicked by a ban rule")

    # --- Media Gateway ---

    async def _make_key(self, request: web.Request) -> Any:
        settings = (await self._object(request)).get("settings")
        if not isinstance(settings, dict):
            raise Failed(400, "Invalid settings.")
        channel, uid = settings.get("channel"), settings.get("uid", "")
        for_s = settings.get("expiresAfter")
        if not isinstance(channel, str) or not 0 < len(channel.encode()) <= CHANNEL_BYTES_MAX:
            raise Failed(400, "Invalid 'channel' format.")
        if not isinstance(uid, str) or len(uid.encode()) > 255:
            raise Failed(400, "Invalid 'uid' format.")
        if not isinstance(for_s, int) or isinstance(for_s, bool) or for_s < 0:
            raise Failed(400, "Invalid 'expiresAfter' format.")
        if "templateId" in settings:
            raise Failed(404, "Stream template not found.")
        most = self._injected.value("quota", "streams_max")
        if most is not None and len(self._roster.streams()) >= most:
            raise Failed(429, _QUOTA)
        key = self._keys.make(
            region=request.match_info["region"],
            channel=channel,
            uid=str(_uid(uid)),
            expires_after_s=for_s,
        )
        return {"status": "success", "data": _key_as_json(key)}

    async def _key(self, request: web.Request) -> Any:
        return {"status": "success", "data": _key_as_json(self._find_key(request))}

    async def _delete_key(self, request: web.Request) -> Any:
        self._keys.delete(self._find_key(request).text)
        return {"status": "success"}

    def _find_key(self, request: web.Request) -> Key:
        key = self._keys.find(request.match_info["key"])
        if key is None or key.region != request.match_info["region"]:
            raise Failed(404, "Resource not found and destroyed.")
        return key

    async def _online(self, request: web.Request) -> Any:
        channel, region = request.query.get("channel"), request.match_info["region"]
        found = [m for m in self._pushes(region) if channel in (None, m.who.room)]
        return {"status": "success", "data": [self._push_as_json(member) for member in found]}

    async def _push(self, request: web.Request) -> Any:
        return {"status": "success", "data": self._push_as_json(self._find_push(request))}

    async def _disconnect(self, request: web.Request) -> Any:
        sid = self._find_push(request).sid
        self._roster.kick(lambda member: member.sid == sid, "disconnected by the API")
        return {"status": "success"}

    def _find_push(self, request: web.Request) -> Member:
        for member in self._pushes(request.match_info["region"]):
            if member.sid == request.match_info["sid"]:
                return member
        raise Failed(404, "Resource not found and destroyed.")

    def _pushes(self, region: str | None = None) -> list[Member]:
        return [
            member
            for member in self._roster.members()
            if member.who.key is not None and region in (None, member.who.region)
        ]

    def _push_as_json(self, member: Member) -> Any:
        begun = utc(member.who.came_s).replace("T", " ").rstrip("Z")
        return {
            "sid": member.sid,
            "channel": member.who.room,
            "uid": member.who.user,
            "status": "Running" if member.is_on_air else "Started",
            "beginAt": begun,
        }


def _key_as_json(key: Key) -> Any:
    return {
        "streamKey": key.text,
        "channel": key.channel,
        "uid": key.uid,
        "expiresAfter": key.expires_after_s,
        "createdAt": str(int(key.created_s)),
    }


def _uid(text: str) -> int | str:
    """Return a uid as Agora reads it: up to 32 bits it is a number, `0123` is 123."""
    if text.isascii() and text.isdigit() and len(text) <= 255 and int(text) < 1 << 32:
        return int(text)
    return text


def _number(request: web.Request, name: str, default: int) -> int:
    text = request.query.get(name, str(default))
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise Failed(400, f"Invalid '{name}' format.")
    return int(text)


def _request_id(request: web.Request) -> str:
    said = request.headers.get("X-Request-ID", "")
    return said if _REQUEST_ID.fullmatch(said) else secrets.token_hex(16)
