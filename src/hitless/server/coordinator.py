"""
Starting, joining, moving and ending streams: rows first, then everybody is told.

A placement changes only by compare-and-set in the store (`core/agreement.py`); whoever wins, all
clients that are connected here hear of it at once, and those of other nodes from their own node,
which reads what changed. Nothing here waits for a client.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ..client import protocol
from ..client.protocol import PlanRequest
from ..core.agreement import By
from ..errors import HitlessError
from . import groups, returning
from .following import Following
from .hub import Connection, Hub
from .keys import Identity, Permission
from .notices import fenced, placement, unknown
from .planner import Planner
from .providers import Providers
from .recording import StreamRecording
from .store import Store
from .store_members import Member, Role
from .store_rows import Audit
from .store_streams import Claim, Start, StreamRow, StreamState


CLIENT_CHARS_MAX: Final = 100
STREAM_CHARS_MAX: Final = 200
WORDS_CHARS_MAX: Final = 300
"""Longest `because` of a client that is kept."""

MANY_TOPIC: Final = "streams"
"""What other nodes are woken with when many streams changed."""

_ANNOUNCED_SPARE: Final = 1024
_AT_ONCE: Final = 500

Tell = Callable[..., None]
"""Called with an event's name and fields: for log, metrics and webhooks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A stream, the epoch it is known at, where it is to go, and how long to wait [s]."""

    stream: str
    epoch: int
    provider: str
    delay_s: float = 0.0


class Rejected(HitlessError):
    """
    A call cannot be done.

    Attributes:
        status: HTTP status.
        code: A word for programs.
        because: A sentence that says what to do.
    """

    def __init__(self, status: int, code: str, because: str) -> None:
        super().__init__(because)
        self.status, self.code, self.because = status, code, because


class Coordinator:
    """
    All that happens to streams at this node.

    Args:
        store: Where the rows are.
        hub: Who is connected here.
        providers: Where streams can go.
        planner: Writes plans.
        node: Name of this node.
        tell: Hears every event.
        recording: Where single moves are kept; None: nowhere.

    Attributes:
        seen: Notes where a client is, as `Following.seen` does.
    """

    def __init__(
        self,
        *,
        store: Store,
        hub: Hub,
        providers: Providers,
        planner: Planner,
        node: str,
        tell: Tell,
        recording: StreamRecording | None = None,
    ) -> None:
        self._store, self._hub, self._providers = store, hub, providers
        self._planner, self._node, self._tell, self.recording = planner, node, tell, recording
        self._tasks: set[asyncio.Task[None]] = set()
        self._following = Following(store, hub, self.own)
        self.seen = self._following.seen
        self._announced: dict[str, int] = {}
        """The newest epoch that was told here, of streams that somebody here is connected for."""

    # --- Plans ---

    async def start(self, who: Identity, request: PlanRequest) -> protocol.Plan:
        """
        Give a publisher its plan; the row exists when this returns.

        Raises:
            Rejected: The key may not publish it, the request makes no sense, or nobody can
                carry it.
        """
        _check(who, Permission.PUBLISH, request)
        group = request.group or request.stream
        beside = await groups.carrier(group, request.stream, self._store)
        member = self._member(Role.PUBLISHER, request)
        order = self._providers.order([member], group, beside)
        if not order:
            raise Rejected(409, "no-provider", self._providers.why_nobody([member]))
        is_on_air = request.provider in self._providers.rows
        before = await self._store.streams.one(request.stream)
        known = before if before is not None and before.state is not StreamState.ENDED else None
        order, passed = self._providers.with_room(order, known.provider if known else "")
        provider = request.provider if is_on_air else order[0]
        because = f"a start was asked for{passed and f'; {passed}'}"
        if known is None or known.publisher != request.client:
            self._providers.quotas.placed(provider)  # before it is written: others ask meanwhile
        row = await self._store.streams.start(
            Start(
                stream=request.stream,
                group=group,
                publisher=request.client,
                provider=provider,
                node=self._node,
                because="it is on air there" if is_on_air else because[:WORDS_CHARS_MAX],
                presented_epoch=self._planner.presented(request),
            ),
            wake=topic(request.stream),
        )
        await self._store.members.join(member)
        if before is None or row.epoch != before.epoch:
            self._stop_others(row)
            self._announce(row, skip=request.client)
            self._tell("stream.started", row=row, because=row.because)
        return self._planner.plan(who, request, Role.PUBLISHER, row, order)

    async def join(self, who: Identity, request: PlanRequest) -> protocol.Plan:
        """
        Give a viewer its plan; of epoch 0 while nobody publishes.

        Raises:
            Rejected: The key may not watch it, or the request makes no sense.
        """
        _check(who, Permission.VIEW, request)
        row = await self._store.streams.one(request.stream)
        if row is not None and row.state is StreamState.ENDED:
            row = None
        member = self._member(Role.VIEWER, request)
        await self._store.members.join(member)
        order = self._providers.order([member], row.group_id if row else request.stream)
        order, _ = self._providers.with_room(order, row.provider if row else "")
        return self._planner.plan(who, request, Role.VIEWER, row, order)

    async def leave(self, stream: str, client: str) -> None:
        """A viewer left. Idempotent."""
        await self._store.members.leave(stream, client)

    async def end(
        self, stream: str, publisher: str | None, because: str, audit: Audit | None = None
    ) -> bool:
        """
        End a stream; its viewers are told.

        Args:
            stream: Which.
            publisher: The client that ends its own; None: an operator ends anybody's.
            because: Why.
            audit: Who did it, for the log.

        Returns:
            Whether it was on, and theirs to end.
        """
        row = await self._store.streams.end(
            stream,
            publisher=publisher,
            by=publisher or "operator",
            because=because[:WORDS_CHARS_MAX],
            audit=audit,
            wake=topic(stream),
        )
        if row is None:
            return False
        over = protocol.Over(stream=stream, because=because, epoch=row.epoch)
        for connection in self._hub.clients(stream):
            if connection.client != publisher:
                connection.send(over)
        self._tell("stream.ended", row=row, because=because)
        return True

    # --- What clients say ---

    async def connected(self, connection: Connection, seen: protocol.Seen) -> None:
        """A client connected, or came back: tell it what it has missed of one stream."""
        row = await self._store.streams.one(seen.stream)
        is_publisher = seen.role == "publisher"
        if row is None or row.state is StreamState.ENDED:
            if row is not None and not is_publisher:
                over = protocol.Over(stream=seen.stream, because=row.because, epoch=row.epoch)
                connection.send(over)
            elif is_publisher and (row is not None or (seen.epoch and not connection.is_hand)):
                connection.send(unknown(seen.stream))  # it starts anew, from its signed epoch
            return
        if not connection.is_hand:  # a hand's session asks for a plan, with the one it had
            row = await self._corrected(connection, seen, row)
        if is_publisher and row.publisher != connection.client:
            connection.send(fenced(row))
            return
        if is_publisher and row.node != self._node:
            await self._store.streams.answer(row.id, row.publisher, self._node)
        if row.epoch > seen.epoch:
            connection.send(placement(row, is_own=is_publisher and row.by == By.PUBLISHER))

    async def _corrected(
        self, connection: Connection, seen: protocol.Seen, row: StreamRow
    ) -> StreamRow:
        """Take a row past what a client obeyed, where the store has lost that."""
        facts = self._planner.shown(seen.stream, seen.plan)
        wish = returning.wish(connection.client, seen, facts, row, self._node)
        if wish is None:
            return row
        after, is_accepted = await self._store.streams.claim(wish, wake=topic(row.id))
        if after is not None and is_accepted:
            self._announce(after, skip=connection.client)
            self._tell("placement.claimed", row=after, because=wish.because)
        return after or row

    async def claim(self, connection: Connection, claim: protocol.Claim) -> None:
        """A publisher moved by itself: agree, or tell it where the stream goes instead."""
        row, is_accepted = await self._store.streams.claim(
            Claim(
                stream=claim.stream,
                base_epoch=claim.base,
                provider=claim.provider,
                by=By.PUBLISHER,
                because=claim.because[:WORDS_CHARS_MAX],
                publisher=connection.client,
                node=self._node,
            ),
            audit=Audit(
                who=f"client {connection.client}",
                what="stream.moved",
                target=claim.stream,
                before={"epoch": claim.base},
                after={"provider": claim.provider, "epoch": claim.base + 1},
                because=claim.because[:WORDS_CHARS_MAX],
            ),
            wake=topic(claim.stream),
        )
        if row is None or row.state is StreamState.ENDED:
            connection.send(unknown(claim.stream))
            return
        if row.publisher != connection.client:
            connection.send(fenced(row))
            return
        connection.send(placement(row, is_own=is_accepted))
        if is_accepted:
            self._providers.quotas.placed(row.provider)
            self._announce(row, skip=connection.client)
            self._tell("placement.claimed", row=row, because=row.because)
            self.own(groups.bring_along(row, self._store, self), f"group of {row.id}")

    async def confirm(self, connection: Connection, confirm: protocol.Confirm) -> None:
        """Media flows where the placement says, at a publisher or at a viewer."""
        if connection.roles.get(confirm.stream) == "publisher":
            row = await self._store.streams.confirm(
                confirm.stream, confirm.epoch, confirm.provider
            )
            if row is not None:
                self._tell("leg.live", row=row, because="its publisher says that media flows")
        self.seen(connection, confirm.stream, confirm.epoch, confirm.provider)
        self._following.release_soon(confirm.stream)

    async def flush(self) -> None:
        """Write what was seen, in one transaction."""
        await self._following.flush()

    # --- Moves made here ---

    async def move(
        self,
        stream: str,
        provider: str,
        *,
        by: By,
        because: str,
        who: str = "",
        delay_s: float = 0.0,
        is_alone: bool = False,
    ) -> StreamRow:
        """
        Place a stream on `provider`, and tell its clients.

        Args:
            stream, provider: What goes where.
            by, because: Who wants it, and why.
            who: For the log; empty: this node.
            delay_s: Clients with media wait for so long before they move [s].
            is_alone: The rest of its group is not brought along.

        Raises:
            Rejected: No such stream or provider, or somebody else was quicker.
        """
        row = await self._store.streams.one(stream)
        if row is None or row.state is StreamState.ENDED:
            raise Rejected(404, "unknown-stream", f"no stream {stream[:80]!r} is on")
        if provider not in self._providers.rows:
            raise Rejected(404, "unknown-provider", f"there is no provider {provider[:80]!r}")
        if row.provider == provider:
            return row
        claim = Claim(
            stream=stream,
            base_epoch=row.epoch,
            provider=provider,
            by=by,
            because=because[:WORDS_CHARS_MAX],
            node=self._node,
        )
        after, is_accepted = await self._store.streams.claim(
            claim,
            audit=Audit(
                who=who or self._node,
                what="stream.moved",
                target=stream,
                before={"provider": row.provider, "epoch": row.epoch},
                after={"provider": provider, "epoch": row.epoch + 1},
                because=because[:WORDS_CHARS_MAX],
            ),
            wake=topic(stream),
        )
        if self.recording is not None:
            now = asyncio.get_running_loop().time()
            self.recording.claimed(row, claim, after, now, is_accepted=is_accepted)
        if after is None or not is_accepted:
            raise Rejected(409, "moved-meanwhile", "it moved at the same moment: look again")
        self._providers.quotas.placed(provider)
        self._announce(after, delay_s=delay_s)
        self._tell("placement.moved", row=after, because=because)
        if not is_alone:
            self.own(groups.bring_along(after, self._store, self), f"group of {stream}")
        return after

    async def move_all(self, wishes: Sequence[Wish], *, by: By, because: str) -> list[StreamRow]:
        """
        Place many streams, each where it is wanted, if nobody moved it meanwhile.

        One transaction and one wake-up for some hundreds. Clients are told first; the log, with
        an entry for each, is written when all have been told, also if the rest fails. The rest of
        a group is not brought along: whoever moves many moves whole groups.

        Returns:
            Those that were moved.
        """
        because = because[:WORDS_CHARS_MAX]
        moved: list[StreamRow] = []
        try:
            for at in range(0, len(wishes), _AT_ONCE):
                lot = {wish.stream: wish for wish in wishes[at : at + _AT_ONCE]}
                claims = [
                    Claim(stream=wish.stream, base_epoch=wish.epoch, provider=wish.provider,
                          by=by, because=because, node=self._node)
                    for wish in lot.values()
                ]  # fmt: skip
                for row in await self._store.streams.claim_all(claims, wake=MANY_TOPIC):
                    moved.append(row)
                    self._providers.quotas.placed(row.provider)
                    self._announce(row, delay_s=lot[row.id].delay_s)
        finally:
            for at in range(0, len(moved), _AT_ONCE):
                await self._noted(moved[at : at + _AT_ONCE])
        return moved

    async def _noted(self, rows: Sequence[StreamRow]) -> None:
        """Write and tell that streams were moved."""
        await self._store.audit.append(
            [
                Audit(
                    who=self._node,
                    what="stream.moved",
                    target=row.id,
                    before={"epoch": row.epoch - 1},
                    after={"provider": row.provider, "epoch": row.epoch},
                    because=row.because,
                )
                for row in rows
            ]
        )
        for row in rows:
            self._tell("placement.moved", row=row, because=row.because)

    def changed(self, row: StreamRow) -> None:
        """A row changed, here or at another node: tell those who are connected here."""
        if row.state is StreamState.ENDED:
            over = protocol.Over(stream=row.id, because=row.because, epoch=row.epoch)
            self._hub.tell(row.id, over, "viewer")
            return
        if row.epoch > self._announced.get(row.id, 0):
            self._stop_others(row)
            self._announce(row)
        self._following.release_soon(row.id)

    async def aclose(self) -> None:
        """End what is still under way. Idempotent."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- Inside ---

    def _member(self, role: Role, request: PlanRequest) -> Member:
        return Member(
            stream=request.stream,
            client=request.client,
            role=role,
            node=self._node,
            adapters=request.adapters,
            codecs=request.codecs,
        )

    def _announce(self, row: StreamRow, *, skip: str = "", delay_s: float = 0.0) -> None:
        """Tell everybody here of a placement. Nobody obeys an epoch twice."""
        clients = self._hub.clients(row.id)
        if clients:
            self._announced[row.id] = row.epoch
            if len(self._announced) > 2 * len(self._hub.streams()) + _ANNOUNCED_SPARE:
                here = set(self._hub.streams())
                self._announced = {s: e for s, e in self._announced.items() if s in here}
        message = placement(row, delay_s=delay_s)
        for connection in clients:
            is_other = connection.roles.get(row.id) == "publisher" and (
                connection.client != row.publisher
            )
            if connection.client != skip and not is_other:
                if connection.client == row.publisher and row.by == By.PUBLISHER:
                    connection.send(placement(row, is_own=True))
                else:
                    connection.send(message)

    def _stop_others(self, row: StreamRow) -> None:
        """A publisher that was replaced is told to stop; nobody watches it any more."""
        for connection in self._hub.clients(row.id, "publisher"):
            if connection.client != row.publisher:
                connection.send(fenced(row))

    def own(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run something in the background; it ends with the coordinator."""
        task = asyncio.create_task(work, name=f"hitless: {name}")
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (exc := task.exception()) is not None:
            because = f"{task.get_name()}: {type(exc).__name__}: {exc}"
            self._tell("task.failed", because=because)


def check_names(stream: str, client: str) -> None:
    """
    Check what a client calls a stream and itself.

    Raises:
        Rejected: Empty, too long, or not printable.
    """
    for field, text, most in (
        ("stream", stream, STREAM_CHARS_MAX),
        ("client", client, CLIENT_CHARS_MAX),
    ):
        if not 0 < len(text) <= most or not text.isprintable() or not text.strip():
            raise Rejected(400, f"bad-{field}", f"{field}: give 1 to {most} printable characters")


def topic(stream: str) -> str:
    """Return what the other nodes are woken with when a stream changed."""
    return f"stream:{stream}"


def _check(who: Identity, permission: Permission, request: PlanRequest) -> None:
    check_names(request.stream, request.client)
    if not who.may(permission, request.stream):
        raise Rejected(403, "forbidden", who.why_not(permission))
