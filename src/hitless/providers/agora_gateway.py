"""
Pushing into Agora's Media Gateway: stream keys, ingest hosts, and who else publishes.

A key is made once per channel and uid and kept for the next attempts and for a stream that comes
back, so that a move back costs no call. One that nobody uses is deleted after `KEEP_S`, in the
background; what cannot be deleted ends by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from ..errors import ConfigError, HitlessError, MediaLost, StreamEnded
from .agora_answers import StreamKey
from .agora_api import AgoraApi
from .agora_tickets import PUBLISHER_UIDS, Ticket
from .chores import Chores
from .credential import Credential, Token
from .rest import secret_of
from .rota import Rota


KEEP_S: Final = 300.0
"""How long the key of a stream that left is kept [s]."""

KEYS_MAX: Final = 1000
"""Keys at a time; of those that nobody uses the oldest goes first."""

CALL_S_MAX: Final = 4.0
"""Longest wait for a key [s]: it is a part of the time to first media."""

LEAVE_S: Final = 1.0
"""How long deleting keys may hold back closing [s]."""

CONFIRM_S: Final = 0.5
"""Time between two looks for a stream in the gateway's list [s]."""

REMOVED_MAX: Final = 5
"""Older publishers put out per start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """
    Where one attempt pushes to.

    Attributes:
        host: Ingest host, with a port if it is not 1935.
        key: Stream key.
        ends_s: When the key ends [s, the loop's clock]; None: not known.
    """

    host: str
    key: str = field(repr=False)
    ends_s: float | None

    @property
    def url(self) -> str:
        """The RTMP address, with a place for the key."""
        return f"rtmp://{self.host}/live/{{key}}"


@dataclass(slots=True, kw_only=True)
class _Kept:
    key: StreamKey
    ends_s: float
    idle_s: float
    users: int = 0


class Gateway:
    """
    The Media Gateway of one project.

    Args:
        name: Provider name for errors.
        api: Makes keys and puts publishers out; None: there is no REST credential.
        stream_key: A key made in the console instead, or what fetches it.
        hosts: Ingest hosts, the first choice first.
        key_s: How long a key lasts [s].
        chores: Owns what is done in the background.
    """

    def __init__(
        self,
        name: str,
        *,
        api: AgoraApi | None,
        stream_key: Token | None,
        hosts: Sequence[str],
        key_s: float,
        chores: Chores,
    ) -> None:
        self.api = api
        self.rota = Rota()
        self._name, self._hosts, self._key_s, self._chores = name, tuple(hosts), key_s, chores
        self._given = None if stream_key is None else Credential(stream_key)
        self._is_text = isinstance(stream_key, str)
        self._keys: dict[tuple[str, str], _Kept] = {}
        self._sweep: asyncio.TimerHandle | None = None
        self._is_closed = False

    @property
    def can_renew(self) -> bool:
        """Whether a key that was rejected can be replaced."""
        return not self._is_text

    async def place(self, ticket: Ticket, *, renew: bool) -> Place:
        """
        Return where to push a channel to: one host, and its key.

        A key of the configuration goes before one of a plan, and that before one of the API.

        Raises:
            ConfigError: There is neither a key nor a credential to make one with.
            ProviderError: No key could be had; `retry` says what to do next.
            LocalFault: This machine has no network.
        """
        host = self.rota.choose(self._hosts)
        deadline = asyncio.get_running_loop().time() + CALL_S_MAX
        if self._given is not None:
            if renew:
                self._given.rejected("publish", await self._given.value())
            key = await secret_of(
                self._given, provider=self._name, operation="publish", deadline=deadline
            )
            return Place(host=host, key=key, ends_s=None)
        if ticket.stream_key is not None:
            return Place(host=host, key=ticket.stream_key, ends_s=ticket.ends_s)
        if self.api is None:
            raise ConfigError(
                f"{self._name}: to publish from Python give customer_id and customer_secret "
                "(Agora's console, RESTful API), or a stream_key of the Media Gateway"
            )
        kept = await self._kept(
            self.api, ticket.channel, ticket.uid, renew=renew, deadline=deadline
        )
        return Place(host=host, key=kept.key.key, ends_s=kept.ends_s)

    def used(self, channel: str, uid: str) -> None:
        """Note that a leg uses the key of a channel."""
        kept = self._keys.get((channel, uid))
        if kept is not None:
            kept.users += 1

    def released(self, channel: str, uid: str) -> None:
        """Note that a leg does not use it any more; see `KEEP_S`."""
        kept = self._keys.get((channel, uid))
        if kept is not None:
            kept.users = max(kept.users - 1, 0)
            kept.idle_s = asyncio.get_running_loop().time()
            self._sweep_later()

    def free(self, channel: str, uid: str) -> None:
        """Put out, in the background, whoever holds the gateway's place for our uid."""
        kept = self._keys.pop((channel, uid), None)
        if kept is not None:
            self._chores.begin("disconnect", self._disconnect(kept.key))

    async def confirm(self, channel: str, uid: str, deadline: float) -> None:
        """
        Wait until the gateway lists a stream; return as well where it cannot be asked.

        Raises:
            MediaLost: Not by `deadline` [s, the loop's clock].
        """
        if self.api is None or self._given is not None:
            return
        loop = asyncio.get_running_loop()
        while True:
            try:
                online = await self.api.online_streams(channel, deadline=deadline, once=True)
            except HitlessError:
                return  # a limit, or its API is down: that says nothing of the stream
            if any(each.uid == uid for each in online):
                return
            if loop.time() + CONFIRM_S >= deadline:
                raise MediaLost(
                    "its kernel takes our bytes, but the gateway lists no such stream",
                    provider=self._name,
                    operation="publish",
                )
            await asyncio.sleep(CONFIRM_S)

    # --- Exactly one publisher ---

    async def put_out_older(self, channel: str, uid: str, proven: asyncio.Event) -> None:
        """
        Note who publishes in a channel, and kick them, once each, when our media is proven.

        Who comes after us is not touched: it may be the one that was moved here next. Only uids
        of publishers are (`PUBLISHER_UIDS`): a guest on the stage stays. Agora's lists lag, so an
        older publisher may be overlooked; the next start looks again.

        Raises:
            ProviderError: It could not be done.
            LocalFault: This machine has no network.
        """
        before = await self._hosts_in(channel)
        older = {each for each in before if each != uid and _is_publisher(each)}
        await proven.wait()
        if older:
            await self._kick(channel, older & await self._hosts_in(channel))

    async def put_out(self, channel: str, uid: str, *, others: bool) -> None:
        """
        Kick who publishes in a channel that we are not in: our uid, and other publishers if told.

        Raises:
            ProviderError: It could not be done.
            LocalFault: This machine has no network.
        """
        found = {each for each in await self._hosts_in(channel) if _is_publisher(each)}
        await self._kick(channel, found if others else found & {uid})

    async def aclose(self) -> None:
        """Delete the keys as far as `LEAVE_S` goes, and let go of the API. Never raises."""
        self._is_closed = True
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        if self.api is None:
            return
        deadline = asyncio.get_running_loop().time() + LEAVE_S
        keys, self._keys = [kept.key for kept in self._keys.values()], {}
        await asyncio.gather(*(self._delete(key, deadline) for key in keys))
        await self.api.aclose()

    # --- Inside ---

    async def _kept(
        self, api: AgoraApi, channel: str, uid: str, *, renew: bool, deadline: float
    ) -> _Kept:
        loop = asyncio.get_running_loop()
        kept = self._keys.get((channel, uid))
        if kept is not None:
            if not renew and kept.ends_s - loop.time() > self._key_s / 2:
                return kept
            del self._keys[channel, uid]
            if not kept.users:
                self._retire(kept.key)
        key = await api.create_stream_key(
            channel, uid, expires_after_s=int(self._key_s), deadline=deadline
        )
        now = loop.time()
        made = _Kept(key=key, ends_s=now + self._key_s, idle_s=now)
        if self._is_closed:
            await self._delete(key, now + LEAVE_S)
            raise StreamEnded(f"{self._name}: publish failed: it was closed")
        self._keys[channel, uid] = made
        self._sweep_later()
        if len(self._keys) > KEYS_MAX:
            idle = [where for where, each in self._keys.items() if not each.users]
            if len(idle) > 1:
                self._retire(self._keys.pop(idle[0]).key)
        return made

    def _sweep_later(self) -> None:
        if self._sweep is None and not self._is_closed:
            self._sweep = asyncio.get_running_loop().call_later(KEEP_S, self._swept)

    def _swept(self) -> None:
        self._sweep = None
        now = asyncio.get_running_loop().time()
        for where, kept in tuple(self._keys.items()):
            if not kept.users and now - kept.idle_s >= KEEP_S:
                del self._keys[where]
                self._retire(kept.key)
        if any(not kept.users for kept in self._keys.values()):
            self._sweep_later()

    def _retire(self, key: StreamKey) -> None:
        assert self.api is not None
        self._chores.begin("delete key", self.api.delete_key(key.key))

    async def _hosts_in(self, channel: str) -> set[str]:
        assert self.api is not None
        found = await self.api.users(channel, hosts_only=True, once=True)
        return set(found.hosts) if found.exists and found.is_live else set()

    async def _kick(self, channel: str, uids: set[str]) -> None:
        assert self.api is not None
        for each in sorted(uids)[:REMOVED_MAX]:
            await self.api.ban(channel=channel, uid=int(each), for_s=0, once=True)

    async def _disconnect(self, key: StreamKey) -> None:
        assert self.api is not None
        online = await self.api.online_streams(key.channel)
        mine = [each.sid for each in online if each.uid == key.uid]
        if not mine:
            await self.api.delete_key(key.key)
        for sid in mine:
            await self.api.force_disconnect(key.key, sid)

    async def _delete(self, key: StreamKey, deadline: float) -> None:
        assert self.api is not None
        try:
            await self.api.delete_key(key.key, deadline=deadline, once=True)
        except HitlessError:
            pass  # it ends by itself


def _is_publisher(uid: str) -> bool:
    return uid.isascii() and uid.isdecimal() and int(uid[:10]) in PUBLISHER_UIDS
