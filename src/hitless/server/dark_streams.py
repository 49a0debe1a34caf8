"""
A publisher that lost its media where thousands are: it is told when to go, and whither.

A client that sees in the list that its provider carries more streams than the next one accepts
starts in a second does not go at once (`core/slots.py`): it waits for its own moment, or to be
told. Here it is told, in the order in which they ask, as fast as the next one accepts: a single
stream that lost its leg goes at once. When its provider is down for all, the fleet's move takes
over, which deals the same starts (`fleet.py`).
"""

from __future__ import annotations

import asyncio
from typing import Final

from ..client import protocol
from ..core.agreement import By
from ..core.evidence import Word
from ..core.pacing import MARGIN
from ..errors import HitlessError
from . import groups
from .coordinator import Coordinator, Wish
from .hub import Connection
from .judging import Judge
from .moves import Moves
from .providers import Providers
from .store import Store


WAITING_MAX: Final = 10_000
"""Streams of a provider that wait to be told; more wait for their own moment."""

COUNT_S: Final = 5.0
"""How often it is counted what providers carry [s]."""


class DarkStreams:
    """
    The streams at this node whose publishers lost their media.

    Args:
        store: Where the rows are.
        providers: Where streams can go; is told what they carry.
        judge: Knows who is down.
        coordinator: Moves them.
        moves: Chooses whither.
    """

    def __init__(
        self,
        store: Store,
        providers: Providers,
        judge: Judge,
        coordinator: Coordinator,
        moves: Moves,
    ) -> None:
        self._store, self._providers, self._judge = store, providers, judge
        self._coordinator, self._moves = coordinator, moves
        self._lost: dict[str, dict[str, str]] = {}
        """By who lost their media: the streams that wait here, in order, and why they do."""
        self._free_s: dict[str, float] = {}
        """From when a provider accepts one more start [s, the loop's clock]."""
        self._count_at_s = 0.0

    async def count(self, *, is_told: bool) -> None:
        """
        Count what providers carry, now and then, for the list.

        Args:
            is_told: Whether this server moves streams at all; else clients go by themselves.
        """
        now = asyncio.get_running_loop().time()
        if not is_told:
            self._providers.carried = {}
        elif now >= self._count_at_s:
            self._count_at_s = now + COUNT_S
            self._providers.carried = await self._store.streams.placed()

    def leg_news(self, connection: Connection, news: protocol.LegNews) -> None:
        """Hear what became of a publisher's leg."""
        if connection.roles.get(news.stream) != "publisher":
            return
        match news.state:
            case "silent" | "failed" if self._is_crowded(news.provider):
                self._wait(news)
            case "live" | "heard":
                for waiting in self._lost.values():
                    waiting.pop(news.stream, None)
            case _:
                pass

    def _is_crowded(self, provider: str) -> bool:
        providers = self._providers
        return any(providers.is_crowded(provider, name) for name in providers.rows)

    def _wait(self, news: protocol.LegNews) -> None:
        waiting = self._lost.get(news.provider)
        if waiting is None:
            waiting = self._lost[news.provider] = {}
            work = self._tell(news.provider, waiting)
            self._coordinator.own(work, f"streams that lost {news.provider}")
        if len(waiting) < WAITING_MAX:
            waiting.setdefault(news.stream, news.because)

    async def _tell(self, provider: str, waiting: dict[str, str]) -> None:
        """Tell one after the other, until nobody waits or the fleet's move does it."""
        try:
            while waiting and self._judge.verdict(provider).word is not Word.DOWN:
                stream = next(iter(waiting))
                try:
                    await self._move(stream, provider, waiting)
                except HitlessError:
                    pass  # nowhere to go, or no store: it has its own moment
                finally:
                    waiting.pop(stream, None)
        finally:
            del self._lost[provider]

    async def _move(self, stream: str, provider: str, waiting: dict[str, str]) -> None:
        row = await self._store.streams.one(stream)
        if row is None or row.provider != provider or not row.is_carried:
            return  # it is over, elsewhere, or has yet to begin there, which it tries by itself
        target = await self._moves.other(stream)
        if not self._providers.is_crowded(provider, target):
            return  # it goes by itself, and says so
        await asyncio.sleep(self._wait_s(target))
        because = waiting.get(stream)
        if because is None or self._judge.verdict(provider).word is Word.DOWN:
            return  # its media came back, or it is the fleet's
        wish = Wish(stream=stream, epoch=row.epoch, provider=target)
        words = f"its publisher lost its media: {because}"
        for moved in await self._coordinator.move_all([wish], by=By.SERVER, because=words):
            await groups.bring_along(moved, self._store, self._coordinator)

    def _wait_s(self, target: str) -> float:
        """Take the next start that a provider accepts, and return in what time it is [s]."""
        now = asyncio.get_running_loop().time()
        pace = MARGIN * self._providers.accepted_per_s(target) / self._providers.quotas.nodes
        at_s = max(now, self._free_s.get(target, 0.0))
        self._free_s[target] = at_s + 1.0 / pace
        return at_s - now
