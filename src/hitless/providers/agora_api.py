"""
Agora's REST API, as far as a stream's life needs it: who is there, who must go, where to push.

From Agora's documents as of 2026-07-01 (channel management, Media Gateway). Agora advises not to
hang a main flow of control on the channel management API: its lists lag, and may miss entries.
Nothing here was run against a real account yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import quote

from aiohttp.abc import AbstractResolver

from ..errors import ConfigError
from .agora_answers import (
    Channel,
    Channels,
    ChannelsBody,
    KeyBody,
    OnlineBody,
    OnlineStream,
    Privilege,
    RuleBody,
    StreamKey,
    Users,
    UsersBody,
)
from .agora_hosts import BACK_OFF_S, Hosts, hosts_of, region_of
from .agora_rest import ATTEMPT_S, CALL_S, OTHER, QUERY, AgoraRest, Call, until
from .credential import Token
from .quota import Quota


BAN_S_MIN: Final = 10
BAN_S_MAX: Final = 86_430
PAGE_MAX: Final = 500

_NAME_BYTES_MAX: Final = 512


class AgoraApi:
    """
    Calls Agora's REST API for one project, within the limits of its account.

    Retries go through the hosts in Agora's order, with its pauses, and only as far as the
    deadline allows. A start of a stream must not wait for that, because the caller has a retry
    loop of its own: it passes `once`.

    Args:
        name: Provider name for errors.
        app_id: The project's App ID.
        customer_id: Id of the REST credential.
        customer_secret: Its secret, or what fetches it; fetched again after a rejection, once.
        region: Where streams are pushed to: `na`, `eu`, `ap` or `cn`.
        hosts: REST hosts; None: Agora's for the region. A stand-in's are given here.
        quota: Share it among clients of the same account; None: one of its own.
        back_off_s: Pauses between attempts [s].
        attempt_s: Longest attempt [s].
        resolver: Finds addresses of host names; None: the system does.

    Raises:
        ConfigError: An id, the region or a host cannot be used.
    """

    def __init__(
        self,
        name: str = "agora",
        *,
        app_id: str,
        customer_id: str,
        customer_secret: Token,
        region: str,
        hosts: Hosts | None = None,
        quota: Quota | None = None,
        back_off_s: tuple[float, ...] = BACK_OFF_S,
        attempt_s: float = ATTEMPT_S,
        resolver: AbstractResolver | None = None,
    ) -> None:
        if not app_id.isalnum():
            raise ConfigError("app_id: the App ID of Agora's console has letters and digits only")
        self._app_id = app_id
        self._region = region_of(region)
        self._rest = AgoraRest(
            name,
            customer_id=customer_id,
            customer_secret=customer_secret,
            hosts=hosts or hosts_of(region),
            quota=quota,
            back_off_s=back_off_s,
            attempt_s=attempt_s,
            resolver=resolver,
        )
        self._key_method: str | None = None

    # --- Who is there ---

    async def channels(
        self,
        *,
        page: int = 0,
        page_size: int = 100,
        deadline: float | None = None,
        once: bool = False,
    ) -> Channels:
        """
        Return one page of the project's channels; `page_size` 1 is the cheapest health check.

        Args:
            page: Which page, from 0.
            page_size: Channels on it, 1 to 500.
            deadline: When to give up [s, the loop's clock]; None: in 20 s.
            once: Whether to make one attempt only.

        Raises:
            ProviderError: It did not answer, or not with that; `retry` says what to do next.
            LocalFault: This machine has no network.
        """
        if page < 0 or not 1 <= page_size <= PAGE_MAX:
            raise ValueError(f"page from 0, page_size from 1 to {PAGE_MAX}")
        call = Call(
            method="GET",
            path=f"/dev/v1/channel/{self._app_id}",
            operation="channels",
            kind=QUERY,
            query={"page_no": str(page), "page_size": str(page_size)},
            once=once,
        )
        data = (await self._rest.answer(call, ChannelsBody, deadline)).data
        found = tuple(Channel(name=c.channel_name, users=c.user_count) for c in data.channels)
        return Channels(channels=found, total=data.total_size)

    async def users(
        self,
        channel: str,
        *,
        hosts_only: bool = False,
        deadline: float | None = None,
        once: bool = False,
    ) -> Users:
        """
        Return who is in a channel; `hosts_only` works in live broadcasting only.

        Raises:
            ProviderError: It did not answer, or not with that.
            LocalFault: This machine has no network.
        """
        path = f"/dev/v1/channel/user/{self._app_id}/{_escaped(channel)}"
        path += "/hosts_only" if hosts_only else ""
        call = Call(method="GET", path=path, operation="users", kind=QUERY, once=once)
        data = (await self._rest.answer(call, UsersBody, deadline)).data
        if not data.channel_exist:
            return Users(exists=False)
        return Users(
            exists=True,
            is_live=data.mode == 2,
            hosts=tuple(map(str, data.broadcasters if data.mode == 2 else data.users)),
            audience=tuple(map(str, data.audience)),
        )

    # --- Who must go ---

    async def ban(
        self,
        *,
        channel: str | None,
        uid: int | None,
        privileges: Sequence[Privilege] = (Privilege.JOIN,),
        for_s: int = 0,
        deadline: float | None = None,
        once: bool = False,
    ) -> int:
        """
        Make a rule that takes privileges away, and return its id.

        Args:
            channel: Where; None: in all of the project's channels.
            uid: Whose, an integer id; None: everybody's in `channel`.
            privileges: What is taken away; `JOIN` kicks out.
            for_s: For how long [s], 10 to 86430; 0: kick once, and they may come back.
            deadline: When to give up [s, the loop's clock]; None: in 20 s.
            once: Whether to make one attempt only. An attempt whose answer was lost may have
                made a rule, which ends by itself.

        Raises:
            ConfigError: The rule would hit everybody everywhere, or cannot be made.
            ProviderError: It did not answer, or not with that.
            LocalFault: This machine has no network.
        """
        if channel is None and uid is None:
            raise ConfigError("a ban needs a channel or a uid")
        if channel == "" or uid == 0 or not privileges:
            raise ConfigError("a ban needs a real channel, a uid that is not 0, and privileges")
        if for_s != 0 and not BAN_S_MIN <= for_s <= BAN_S_MAX:
            raise ConfigError(f"a ban lasts {BAN_S_MIN} to {BAN_S_MAX} s, or 0: kick once")
        rule: dict[str, Any] = {  # Any: JSON
            "appid": self._app_id,
            "time_in_seconds": for_s,
            "privileges": [each.value for each in privileges],
        }
        rule |= {} if channel is None else {"cname": channel}
        rule |= {} if uid is None else {"uid": uid}
        call = Call(
            method="POST",
            path="/dev/v1/kicking-rule",
            operation="ban",
            json=rule,
            once=once,
            attempt_s=CALL_S,
            unsaid=() if uid is None else (str(uid),),
        )
        return (await self._rest.answer(call, RuleBody, deadline)).id

    # --- Media Gateway: pushing from Python ---

    async def create_stream_key(
        self,
        channel: str,
        uid: str,
        *,
        expires_after_s: int,
        deadline: float | None = None,
        once: bool = True,
    ) -> StreamKey:
        """
        Return a new key to push `channel` with, as `uid`.

        POST is tried first and PUT if the server does not know that: Agora's quickstart says
        PUT, its reference POST (unconfirmed). If the caller is cancelled, a key that is made
        nevertheless is deleted. One whose answer was lost ends after `expires_after_s`.

        Args:
            channel: Where it goes.
            uid: As whom; not "0".
            expires_after_s: How long it may be used [s], 1 and more.
            deadline: When to give up [s, the loop's clock]; None: in 20 s.
            once: Whether to make one attempt only; it belongs to a start.

        Raises:
            ConfigError: A key without an end, or for nobody.
            Refused: The project has no Media Gateway (403), or all its streams are used (429).
            ProviderError: It did not answer, or not with that.
            LocalFault: This machine has no network.
        """
        if expires_after_s < 1:
            raise ConfigError("expires_after_s: a stream key must end, so 1 s and more")
        if not channel or uid in ("", "0"):
            raise ConfigError("a stream key needs a channel and a uid that is not 0")
        settings = {"channel": channel, "uid": uid, "expiresAfter": expires_after_s}
        call = self._gateway("POST", "streamkeys", "create_stream_key", once=once)
        call.json = {"settings": settings}
        call.unsaid = (uid,)

        async def create() -> StreamKey:
            answer = (await self._created(call, deadline)).data
            return StreamKey(
                key=answer.streamKey, channel=channel, uid=uid, expires_after_s=expires_after_s
            )

        return await self._rest.calls.or_undone(create(), lambda made: self.delete_key(made.key))

    async def delete_key(
        self, key: str, *, deadline: float | None = None, once: bool = False
    ) -> None:
        """
        Delete a stream key; one that is gone already is fine. What it pushes now goes on.

        Raises:
            ProviderError: It did not answer, or not with that.
            LocalFault: This machine has no network.
        """
        path = f"streamkeys/{_escaped(key)}"
        call = self._gateway("DELETE", path, "delete_key", once=once, is_absent_fine=True)
        call.unsaid = (key,)
        await self._rest.done(call, deadline)

    async def online_streams(
        self, channel: str | None = None, *, deadline: float | None = None, once: bool = False
    ) -> tuple[OnlineStream, ...]:
        """
        Return what is pushed now into a channel; None: into all of the project's.

        Agora's page shows another answer here than its reference (a stream key): what has no
        `sid` is left out.

        Raises:
            ProviderError: It did not answer, or not with that.
            LocalFault: This machine has no network.
        """
        call = self._gateway("GET", "online-streams", "online_streams", kind=QUERY, once=once)
        call.query = {} if channel is None else {"channel": channel}
        data = (await self._rest.answer(call, OnlineBody, deadline)).data
        return tuple(
            OnlineStream(sid=o.sid, channel=o.channel, uid=str(o.uid), bitrate_bps=o.bitrate)
            for o in (data if isinstance(data, list) else [data])
            if o.sid
        )

    async def force_disconnect(
        self, key: str, sid: str, *, deadline: float | None = None, once: bool = False
    ) -> None:
        """
        End a push: delete its key, then its session, else the encoder would connect again.

        Both gone already is fine.

        Raises:
            ProviderError: It did not answer, or not with that.
            LocalFault: This machine has no network.
        """
        await self.delete_key(key, deadline=deadline, once=once)
        path = f"online-streams/{_escaped(sid)}"
        call = self._gateway("DELETE", path, "force_disconnect", once=once, is_absent_fine=True)
        call.unsaid = (key, sid)
        await self._rest.done(call, deadline)

    async def aclose(self) -> None:
        """End calls under way and close connections. Idempotent; bounded; never raises."""
        await self._rest.calls.aclose()

    # --- Inside ---

    def _gateway(
        self,
        method: str,
        path: str,
        operation: str,
        *,
        once: bool,
        kind: str = OTHER,
        is_absent_fine: bool = False,
    ) -> Call:
        base = f"/{self._region}/v1/projects/{self._app_id}/rtls/ingress"
        return Call(
            method=method,
            path=f"{base}/{path}",
            operation=operation,
            kind=kind,
            once=once,
            is_absent_fine=is_absent_fine,
            is_gateway=True,
        )

    async def _created(self, call: Call, deadline: float | None) -> KeyBody:
        end = until(deadline)
        if self._key_method is not None:
            call.method = self._key_method
            return await self._rest.answer(call, KeyBody, end)
        sent = await self._rest.send(call, end)
        if sent.reply.status in (404, 405):
            call.method = "PUT"
            sent = await self._rest.send(call, end)
        answer = self._rest.judged(sent, call, KeyBody)
        self._key_method = call.method
        return answer


def _escaped(name: str) -> str:
    """
    Return a name as one part of a path.

    Raises:
        ConfigError: It is empty, or would change the path.
    """
    if name in ("", ".", "..") or len(name.encode("utf-8", "replace")) > _NAME_BYTES_MAX:
        raise ConfigError(
            f"a channel, key or session has 1 to {_NAME_BYTES_MAX} bytes, not . or .."
        )
    return quote(name, safe="")
