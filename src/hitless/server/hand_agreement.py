"""What is stored of a remote hand's stream, in the words that its driver finds."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from ..client import protocol
from ..client.telemetry import log
from ..core.events import Role
from ..errors import HitlessError
from .database import StoreUnavailable


if TYPE_CHECKING:
    from .hands import Hand


RETRY_S: Final = 0.5
RETRY_S_MAX: Final = 10.0
"""Pauses between tries while the store is away double from the one to the other [s]."""

_TRIES_MAX: Final = 12
"""How often the end of a stream is tried to be stored; that takes more than a minute."""


class Agreement:
    """
    Claims and confirmations of one stream, said until the store has heard them; and its end.

    Args:
        hand: Whose.
        stream, role: What it does with it.
    """

    def __init__(self, hand: Hand, stream: str, role: Role) -> None:
        self._hand, self._stream, self._role = hand, stream, role
        self._unsaid: protocol.Claim | protocol.Confirm | None = None

    def say(self, message: protocol.Claim | protocol.Confirm) -> None:
        """Say it, again and again while the store is away; only the newest word counts."""
        is_idle, self._unsaid = self._unsaid is None, message
        if is_idle:
            self._hand.own(self._say_unsaid(), f"agreement on {self._stream}")

    def rest(self) -> None:
        """Say no more."""
        self._unsaid = None

    def finish(self, because: str) -> None:
        """Store that it is over; that outlives the connection."""
        self._unsaid = None
        self._hand.coordinator.own(self._store_end(because), f"end of {self._stream}")

    async def _say_unsaid(self) -> None:
        coordinator, pause_s = self._hand.coordinator, RETRY_S
        while (message := self._unsaid) is not None:
            try:
                if isinstance(message, protocol.Claim):
                    await coordinator.claim(self._hand, message)
                else:
                    await coordinator.confirm(self._hand, message)
            except StoreUnavailable:
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, RETRY_S_MAX)
                continue
            except HitlessError as exc:  # the next word may do better
                log.warning("nobody agrees", stream=self._stream, because=str(exc))
            if self._unsaid is message:
                self._unsaid = None

    async def _store_end(self, because: str) -> None:
        coordinator, client = self._hand.coordinator, self._hand.client
        for tries in range(_TRIES_MAX):
            try:
                if self._role is Role.PUBLISHER:
                    await coordinator.end(self._stream, client, because)
                else:
                    await coordinator.leave(self._stream, client)
            except StoreUnavailable:
                await asyncio.sleep(min(RETRY_S * 2.0**tries, RETRY_S_MAX))
            else:
                return
