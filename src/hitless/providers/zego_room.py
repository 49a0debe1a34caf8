"""
What ZEGOCLOUD's server API does for a stream that is pushed: announced to its room, confirmed,
and freed of whoever holds its id.

Stream ids are unique in the whole App ID, and the later publisher of one fails. All of this is
beside the critical path, and within the limits of each action.
"""

from __future__ import annotations

import asyncio
from typing import Final

from ..errors import CredentialsRejected, HitlessError, MediaLost, ProviderError
from .chores import Chores
from .zego_api import USERS_MAX, StreamState, ZegoApi
from .zego_tickets import Ticket


LEAVE_S: Final = 1.0
"""How long withdrawing streams may hold back closing [s]."""

CONFIRM_S: Final = 0.5
"""Time between two questions whether a stream is active [s]."""

AGAIN_S: Final = 1.0
AGAIN_S_MAX: Final = 30.0
"""Time until an announcement is tried again, doubling [s]: a room exists while somebody is in it,
so it may not be there yet."""

FORBIDDEN_S: Final = 1.0
"""How long a stream stays forbidden, so that who publishes it is stopped [s]."""

FREE_S: Final = 60.0
"""Longest time for all of that [s]: a list may be had once in 10 s per room."""

_RESUMES: Final = 3


class Rooms:
    """
    The rooms of one App ID.

    Args:
        name: Provider name for errors.
        api: The server API.
        chores: Owns what is done in the background.
    """

    def __init__(self, name: str, api: ZegoApi, chores: Chores) -> None:
        self._name, self._api, self._chores = name, api, chores
        self._announced: dict[str, Ticket] = {}
        self._forbidden: set[str] = set()
        self._is_closed = False

    async def confirm(self, stream: str, deadline: float) -> None:
        """
        Wait until a stream is active; return as well where that cannot be asked.

        Raises:
            MediaLost: Not by `deadline` [s, the loop's clock].
        """
        loop = asyncio.get_running_loop()
        while True:
            try:
                state = await self._api.stream_state(stream, deadline=deadline)
            except HitlessError:
                return  # a limit, or its API is down: that says nothing of the stream
            if state is StreamState.ACTIVE:
                return
            if loop.time() + CONFIRM_S >= deadline:
                raise MediaLost(
                    "its kernel takes our bytes, but ZEGOCLOUD knows no such stream",
                    provider=self._name,
                    operation="publish",
                )
            await asyncio.sleep(CONFIRM_S)

    def announce(self, ticket: Ticket) -> asyncio.Task[None] | None:
        """Announce a stream to its room in the background, again until it is done."""
        return self._chores.begin("announce", self._announce(ticket), limit_s=None)

    def withdraw(self, ticket: Ticket, announcing: asyncio.Task[None] | None) -> None:
        """Withdraw what was announced, in the background."""
        if announcing is not None:
            announcing.cancel()
        if not self._is_closed and self._announced.pop(ticket.stream, None) is not None:
            self._chores.begin("withdraw", self._delete(ticket))

    def free(self, ticket: Ticket) -> None:
        """Put out, in the background, whoever publishes under our stream's id."""
        self._chores.begin("free", self._free(ticket), limit_s=FREE_S)

    async def aclose(self) -> None:
        """Withdraw and allow again, as far as `LEAVE_S` goes, and let go of the API."""
        self._is_closed = True
        deadline = asyncio.get_running_loop().time() + LEAVE_S
        announced, self._announced = tuple(self._announced.values()), {}
        await asyncio.gather(
            *(self._delete(ticket, deadline) for ticket in announced),
            *(self._resume(stream, deadline) for stream in tuple(self._forbidden)),
        )
        await self._api.aclose()

    # --- Inside ---

    async def _announce(self, ticket: Ticket) -> None:
        pause_s = AGAIN_S
        while True:
            try:
                await self._api.add_stream(ticket.room, ticket.user, ticket.stream)
            except CredentialsRejected:
                raise
            except ProviderError:
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, AGAIN_S_MAX)
            else:
                self._announced[ticket.stream] = ticket
                return

    async def _free(self, ticket: Ticket) -> None:
        """
        Kick who publishes it in its room; else forbid the stream for a moment, and allow it again.

        Forbidding comes last: a process that dies before it allows the stream again would leave
        it forbidden.
        """
        found = await self._api.streams(ticket.room)
        holders = {each.user for each in found if each.stream == ticket.stream}
        others = sorted(holders - {ticket.user, ""})
        if others:
            await self._api.kick_out(ticket.room, others[:USERS_MAX])
            return
        self._forbidden.add(ticket.stream)  # until allowed again: cancelled, `aclose` does that
        try:
            await self._api.forbid_stream(ticket.stream)
            await asyncio.sleep(FORBIDDEN_S)
        except HitlessError:
            pass  # the answer may have been lost, not the order
        for _ in range(_RESUMES):
            if await self._resume(ticket.stream):
                break
            await asyncio.sleep(FORBIDDEN_S)

    async def _resume(self, stream: str, deadline: float | None = None) -> bool:
        try:
            await self._api.resume_stream(stream, deadline=deadline)
        except HitlessError:
            return False
        self._forbidden.discard(stream)
        return True

    async def _delete(self, ticket: Ticket, deadline: float | None = None) -> None:
        try:
            await self._api.delete_stream(
                ticket.room, ticket.user, ticket.stream, deadline=deadline
            )
        except HitlessError:
            pass  # it goes with its room
