"""
Fleet moves: many streams leave a provider by one row, of which every node works out its part.

An operator drains, disables or prefers a provider, or the leader finds one down: one row says
whence, whither and how fast. Each node moves its own streams by their own compare-and-set, each
second those that are due in it: so a freeze holds at once, and whatever a publisher or an operator
does at the same time wins or loses cleanly. The numbers are `core/fleet.py`'s, the limits are
`core/rails.py`'s.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import msgspec

from ..core import fleet, rendezvous
from ..core.agreement import By
from ..core.evidence import Word
from ..core.fleet_choices import Dealing, Ending
from .coordinator import Coordinator, Rejected, Tell, Wish
from .fleet_orders import Order, Orders
from .judging import Judge
from .moves import MIN_VIEWER_REACH
from .providers import Providers
from .reach import openable
from .store import Store
from .store_nodes import Lease
from .store_operators import FleetMove, ProviderRow
from .store_rows import Audit
from .store_streams import StreamRow


if TYPE_CHECKING:
    from .rescues import Rescues
    from .wire import Settings

HORIZON_S: Final = 1.2
"""Moves that are due within this are made now, and told with their moment [s]: one second until
the next look, and some for a look that comes late."""
AGAIN_S: Final = 30.0
"""A provider that is down and still has streams is left again after this [s]."""
CLAIM_S: Final = 30.0
"""A stream that its publisher took back to where it came from is left there so long [s]: told
again each second, it and its viewers would search all the while."""
SPARE_S: Final = 30.0
"""A move that has had its time and this [s] is over, whoever stayed."""
ALIVE_S: Final = 10.0
"""A node not heard of for so long [s] leaves its streams to the leader."""

_PAGE: Final = 500


class Fleet:
    """
    The fleet moves of one node.

    Args:
        store: Where the rows are.
        providers: Where streams can go.
        judge: How providers are.
        coordinator: Moves one stream.
        rescues: Knows which publishers have lost media.
        orders: Begins what the leader decides.
        node: Name of this node.
        settings: What holds for the whole server.
        tell: Hears every event.
        min_viewer_reach: Share of a stream's viewers that must be able to follow [0..1].
    """

    def __init__(
        self,
        *,
        store: Store,
        providers: Providers,
        judge: Judge,
        coordinator: Coordinator,
        rescues: Rescues,
        orders: Orders,
        node: str,
        settings: Callable[[], Settings],
        tell: Tell,
        min_viewer_reach: float = MIN_VIEWER_REACH,
    ) -> None:
        self._store, self._providers, self._judge = store, providers, judge
        self._coordinator, self._rescues, self._orders = coordinator, rescues, orders
        self._node, self._settings, self._tell = node, settings, tell
        self._min_reach = min_viewer_reach
        self._dealt_until_s: dict[int, float] = {}
        """By move: the end of the time whose slots were dealt here [s]."""
        self._held: dict[int, str] = {}
        self._dealing = asyncio.Lock()
        self._asked_s: dict[str, float] = {}
        """By provider: when it was last thought of leaving it [s, the loop's clock]."""

    # --- Moving ---

    async def tick(self, *, is_leader: bool) -> None:
        """
        Move what is due here; call it about once a second, and when woken.

        It reads the moves from the store: a node that cannot, moves nothing.
        """
        async with self._dealing:  # the second to come finds it done
            rows = await self._store.fleet_moves.open()
            known = {row.id for row in rows}
            self._dealt_until_s = {k: v for k, v in self._dealt_until_s.items() if k in known}
            self._held = {k: v for k, v in self._held.items() if k in known}
            now = asyncio.get_running_loop().time()
            self._judge.recording.fleet.keep({str(id) for id in known}, now)
            if rows:
                now_s = await self._store.now_s()
                for row in rows:
                    await self._deal(row, now_s, is_leader=is_leader)

    async def _deal(self, row: FleetMove, now_s: float, *, is_leader: bool) -> None:
        is_ours = row.by == By.SERVER
        is_begun = row.id in self._dealt_until_s
        until_s = self._dealt_until_s.get(row.id, 0.0)
        if now_s + HORIZON_S <= until_s or (is_ours and self._settings().mode == "observe"):
            return
        plan = _plan_of(row)
        if self._node not in plan.shares:
            plan = replace(plan, shares={**plan.shares, self._node: fleet.NodeShare()})
        streams, epochs, by_codecs = await self._own(row, plan, now_s, is_leader=is_leader)
        is_frozen = is_ours and self._settings().is_frozen
        # Who hears of it at once deals from its very beginning, the first slot included.
        from_s = row.begun_s if not is_begun and now_s - row.begun_s < 1.0 else now_s
        dealing = Dealing(
            plan=plan, streams=tuple(streams), node=self._node, now_s=max(from_s, until_s),
            until_s=now_s + HORIZON_S, is_frozen=is_frozen,
        )  # fmt: skip
        recording, move = self._judge.recording.fleet, str(row.id)
        if not is_begun:
            now = asyncio.get_running_loop().time()
            recording.begun(move, row.source, row.because, now)
        deal = await asyncio.to_thread(dealing.dealt)
        self._dealt_until_s[row.id] = dealing.until_s
        recording.dealt(move, dealing, deal, asyncio.get_running_loop().time())
        self._tell_held(row, deal.held, by_codecs)
        wishes = [
            Wish(
                stream=one.stream,
                epoch=epochs[one.stream],
                provider=one.target,
                delay_s=max(0.0, round(one.at_s - now_s, 3)),
            )
            for one in deal.moves
            if one.target in self._providers.rows
        ]
        await self._coordinator.move_all(wishes, by=By(row.by), because=row.because)

    async def _own(
        self, row: FleetMove, plan: fleet.FleetMove, now_s: float, *, is_leader: bool
    ) -> tuple[list[fleet.Moving], dict[str, int], int]:
        """
        Return the source's streams that this node answers for, less those it may not move, the
        epoch of each, and how many of them can go nowhere because of codecs.
        """
        nodes = {self._node}
        if is_leader:
            alive = {one.name for one in await self._store.nodes.alive(ALIVE_S)}
            shares = await self._store.streams.shares(row.source)
            nodes |= {share.node for share in shares} - alive
        rows = self._providers.rows
        targets = {name: rows[name] for name in plan.targets if name in rows}
        members = await self._store.members.reach(row.source)
        reach = openable(members, targets, self._min_reach)
        share = self._settings().share if row.by == By.SERVER else 100
        found: list[fleet.Moving] = []
        epochs: dict[str, int] = {}
        for node in sorted(nodes):
            async for stream in self._streams_of(row.source, node):
                key = rendezvous.key(stream.group_id)
                claimed_s = stream.changed_s if stream.by == By.PUBLISHER else -math.inf
                if claimed_s >= row.begun_s and now_s - claimed_s < CLAIM_S:
                    continue  # it was told, could not go, and came back
                if rendezvous.share_of(key, share):
                    epochs[stream.id] = stream.epoch
                    found.append(
                        fleet.Moving(
                            id=stream.id,
                            key=key,
                            provider=stream.provider,
                            has_media=stream.is_carried
                            and not self._rescues.has_lost(stream.id, stream.publisher),
                            can_open=reach.targets.get(stream.id),
                        )
                    )
        return found, epochs, len(reach.by_codecs & epochs.keys())

    async def _streams_of(self, provider: str, node: str) -> AsyncIterator[StreamRow]:
        after: str | None = None
        while True:
            rows = await self._store.streams.page(
                provider=provider, node=node, is_on=True, after=after, limit=_PAGE
            )
            for row in rows:
                yield row
            if len(rows) < _PAGE:
                return
            after = rows[-1].id

    def _tell_held(self, row: FleetMove, held: Mapping[str, int], by_codecs: int) -> None:
        because = "; ".join(f"{count} stay: {why}" for why, count in held.items())
        if by_codecs:
            because += f"; {by_codecs} of them for want of codecs"
        if held and because != self._held.get(row.id):
            self._held[row.id] = because
            self._tell("streams.held", provider=row.source, because=because)

    # --- Leading ---

    async def lead(self, lease: Lease) -> None:
        """
        Begin and end fleet moves; for the leader, about once a second.

        Args:
            lease: Of the leader.
        """
        rows = await self._store.fleet_moves.open()
        counts = {count.provider: count.streams for count in await self._store.streams.counts()}
        now_s = await self._store.now_s() if rows else 0.0
        for row in rows:
            over = self._over(row, counts.get(row.source, 0), now_s)
            if over:
                await self._store.fleet_moves.finish(row.id)
                self._tell("streams.settled", provider=row.source, because=over)
        leaving = {row.source for row in rows}
        loop_s = asyncio.get_running_loop().time()
        for name, provider in self._providers.rows.items():
            why = self._why_leave(provider)
            is_late = loop_s - self._asked_s.get(name, float("-inf")) >= AGAIN_S
            if why and counts.get(name) and name not in leaving and is_late:
                self._asked_s[name] = loop_s
                await self._leave(provider, why, lease)
            elif not why:
                self._asked_s.pop(name, None)

    def _why_leave(self, row: ProviderRow) -> str:
        if not row.is_active:
            return "it is disabled"
        if row.is_drained:
            return "it is being drained"
        verdict = self._judge.verdict(row.name)
        return f"it is down: {verdict.because}" if verdict.word is Word.DOWN else ""

    async def _leave(self, row: ProviderRow, why: str, lease: Lease) -> None:
        is_said = not row.is_active or row.is_drained
        by = By.OPERATOR if is_said else By.SERVER
        order = Order(source=row.name, by=by, who=self._node, because=f"{row.name}: {why}")
        try:
            done = await self._orders.order(order, lease)
        except Rejected as rejected:
            what, because = "streams.stay", rejected.because
        else:
            if done.moving or not done.staying:
                return
            what, because = "streams.observed", done.because
        audit = Audit(who=self._node, what=what, target=row.name, because=because)
        await self._store.audit.append([audit])
        self._tell(what, provider=row.name, because=because)

    def _over(self, row: FleetMove, streams: int, now_s: float) -> str:
        """Say why a move is over; empty: it is not."""
        plan, rows = _plan_of(row), self._providers.rows
        source = rows.get(row.source)
        known = {name: rows[name] for name in plan.targets if name in rows}
        usable = [name for name, one in known.items() if one.is_active and not one.is_drained]
        ending = Ending(
            plan=plan,
            is_operator=row.by != By.SERVER,
            streams=streams,
            is_well=source is not None and not self._why_leave(source),
            unusable=tuple(name for name in plan.targets if name not in usable),
            down=tuple(name for name in known if self._judge.verdict(name).word is Word.DOWN),
            now_s=now_s,
            spare_s=SPARE_S,
        )
        if over := ending.over():
            now = asyncio.get_running_loop().time()
            self._judge.recording.fleet.ended(str(row.id), ending, over, now)
        return over


def _plan_of(row: FleetMove) -> fleet.FleetMove:
    plan = {**row.plan, "id": str(row.id), "begun_s": row.begun_s}
    return msgspec.convert(plan, fleet.FleetMove)
