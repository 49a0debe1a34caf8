"""
Viewers that are cut off from a provider which is fine for everybody else.

A viewer that has lost media while its publisher has not gets another way in: the publisher opens
one more leg, on a provider of that viewer's, and the viewer moves there; all others stay. There
is one such leg a stream, and it is closed some time after its last viewer has gone.
"""

from __future__ import annotations

import asyncio
from typing import Final

from ..client import protocol
from ..core.agreement import RESCUE_S
from ..core.stream_choices import Note
from .coordinator import WORDS_CHARS_MAX, Coordinator, Tell, topic
from .hub import Connection, Hub
from .limits import RateLimit
from .providers import Providers
from .reach import can_open
from .store import Store
from .store_members import Role
from .store_streams import StreamRow, StreamState


PATIENCE_S: Final = 0.6
"""A publisher that is moving itself has so long to be heard of before a viewer is rescued [s]."""

RESCUES_PER_S: Final = 0.2
RESCUE_BURST: Final = 10.0
"""Rescues that viewers of one key may ask for: each costs a publisher's uplink."""


class Rescues:
    """The extra legs of this node's streams."""

    def __init__(
        self,
        store: Store,
        hub: Hub,
        providers: Providers,
        coordinator: Coordinator,
        tell: Tell,
    ) -> None:
        self._store, self._hub, self._providers = store, hub, providers
        self._coordinator, self._tell = coordinator, tell
        self._lost: dict[tuple[str, str], str] = {}
        """Who has lost media over which provider, by stream and client."""
        self._open: set[str] = set()
        """Streams of this node's publishers that have an extra leg."""
        self._rate = RateLimit(rate_per_s=RESCUES_PER_S, burst=RESCUE_BURST)

    async def leg_news(self, connection: Connection, news: protocol.LegNews) -> None:
        """A leg changed at a client: it may need help, or need it no more."""
        who = (news.stream, connection.client)
        role = connection.roles.get(news.stream)
        match news.state:
            case "silent" | "failed" if role == "viewer" and who not in self._lost:
                if news.state == "failed" and news.error == "NotOnAir":
                    return
                self._lost[who] = news.provider
                work = self._help(connection, news)
                self._coordinator.own(work, f"rescue of {connection.client}")
            case "silent" | "failed" if role == "publisher":
                self._lost[who] = news.provider
            case "live" | "heard":
                self._lost.pop(who, None)
                self._coordinator.seen(connection, news.stream, 0, news.provider)
            case _:
                pass

    def has_lost(self, stream: str, client: str) -> bool:
        """Whether a client that is connected here says that it has lost media."""
        return (stream, client) in self._lost

    async def sweep(self) -> None:
        """Forget who has gone, and close the extra legs that nobody needs."""
        here = {(stream, c.client) for c in self._hub for stream in c.roles}
        self._lost = {who: at for who, at in self._lost.items() if who in here}
        for stream in tuple(self._open):
            row = await self._store.streams.one(stream)
            if row is None or row.rescue_provider is None:
                self._open.discard(stream)
            elif self._hub.clients(stream, "publisher"):
                await self._keep_or_close(row)

    def opened(self, row: StreamRow) -> None:
        """Note that a stream has an extra leg, and tell its publisher if it is here."""
        if row.rescue_provider is not None and row.id not in self._open:
            if self._hub.clients(row.id, "publisher"):
                self._open.add(row.id)
                because = "viewers are cut off from the provider on air"
                order = protocol.Rescue(
                    stream=row.id, provider=row.rescue_provider, because=because
                )
                self._hub.tell(row.id, order, "publisher")

    async def _help(self, connection: Connection, news: protocol.LegNews) -> None:
        await asyncio.sleep(PATIENCE_S)
        stream = news.stream
        row = await self._store.streams.one(stream)
        is_lost = self._lost.get((stream, connection.client)) == news.provider
        if not is_lost or row is None or row.state is StreamState.ENDED:
            return
        self._lost.pop((stream, connection.client), None)
        is_moving = (stream, row.publisher) in self._lost or row.provider != news.provider
        if is_moving or not row.is_carried:
            return  # the publisher is on its way; everybody will be told where
        extra = await self._choice(row, connection)
        if extra is None:
            where = row.rescue_provider or "any other provider that its publisher can"
            because = f"{connection.client} cannot reach {row.provider}, nor open {where}"
            self._say("rescue.refused", row, because, client=connection.client)
            return
        if self._rate.take(connection.identity.key, asyncio.get_running_loop().time()) > 0:
            because = f"too many rescues for the key {connection.identity.key}"
            self._say("rescue.refused", row, because, client=connection.client)
            return
        because = f"{connection.client} cannot reach {row.provider}: {news.because}"
        because = because[:WORDS_CHARS_MAX]
        after = await self._store.streams.rescue(stream, extra, RESCUE_S, wake=topic(stream))
        if after is None:
            return
        self.opened(after)
        connection.send(protocol.Rescue(stream=stream, provider=extra, because=because))
        self._say("rescue.opened", after, because, client=connection.client, extra=extra)

    async def _choice(self, row: StreamRow, connection: Connection) -> str | None:
        """Return the extra leg's provider, one that both ends can open; None: there is none."""
        members = self._store.members
        viewer = await members.one(row.id, connection.client)
        if (extra := row.rescue_provider) is not None:  # its publisher is there already
            known = self._providers.rows.get(extra)
            is_open = viewer is None or known is None or can_open(viewer, known)
            return extra if is_open else None
        ends = [one for one in (viewer, await members.one(row.id, row.publisher)) if one]
        order, _ = self._providers.with_room(self._providers.order(ends))
        return next((n for n in order if n != row.provider), None)

    async def _keep_or_close(self, row: StreamRow) -> None:
        assert row.rescue_provider is not None
        members = await self._store.members.of_stream(row.id)
        is_used = any(m.role is Role.VIEWER and m.provider == row.rescue_provider for m in members)
        if is_used and row.rescue_provider != row.provider:
            await self._store.streams.rescue(row.id, row.rescue_provider, RESCUE_S)
            return
        is_old = row.rescue_until_s is not None and row.rescue_until_s <= await self._store.now_s()
        if is_old or row.rescue_provider == row.provider:
            await self._store.streams.end_rescue(row.id, wake=topic(row.id))
            because = "nobody needs the extra leg any more"
            self._hub.tell(row.id, protocol.Rescue(stream=row.id, because=because), "publisher")
            self._say("rescue.closed", row, because)

    def _say(
        self, name: str, row: StreamRow, because: str, *, client: str = "", extra: str = ""
    ) -> None:
        """Tell what became of a rescue, and keep a note of it."""
        self._tell(name, row=row, because=because, **({"extra": extra} if extra else {}))
        if self._coordinator.recording is not None:
            note = Note(
                at_s=asyncio.get_running_loop().time(),
                name=name,
                provider=row.provider,
                target=extra or row.rescue_provider or "",
                stream=row.id,
                client=client or None,
                because=because,
            )
            self._coordinator.recording.noted(note)
