"""One stream of a remote hand: its plan, what is agreed about it, and the legs the client has."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from ..client import protocol
from ..core.events import (
    Announce,
    Ended,
    EndRequested,
    LegsReleased,
    PlacementTold,
    RescueTold,
    Role,
    StreamOver,
)
from ..core.state import Phase
from ..errors import CredentialsRejected, HitlessError, NotOnAir, ProviderError, Retry
from ..providers.base import Leg, Provider
from .hand_agreement import RETRY_S, RETRY_S_MAX, Agreement
from .hand_legs import RemoteLeg, RemoteProvider, cut
from .hand_plans import HandPlan, is_final


if TYPE_CHECKING:
    from .hands import Hand


LEGS_MAX: Final = 16
"""Legs of one stream that a client may still have when it comes back."""

_ABSENT_S: Final = 5.0
"""A viewer of what nobody publishes looks again so seldom [s]: it is told when somebody does."""


class HandSession:
    """
    One stream of a hand; its driver's `Carrier` of it.

    Args:
        hand: Whose.
        seen: What the client knows of it.
    """

    def __init__(self, hand: Hand, seen: protocol.Seen) -> None:
        self.stream, self.role, self.seen = seen.stream, Role(seen.role), seen
        self.plan = HandPlan(hand, seen, self._planned)
        self.is_over: str | None = None
        """Why it is over, though its driver may not know yet; None: it is not."""
        self._hand = hand
        self._loop = asyncio.get_running_loop()
        self._placed: protocol.Placement | None = None
        self._is_told = self.is_returning
        self._is_settled = False
        self._because: dict[str, str] = {}
        self._agreement = Agreement(hand, self.stream, self.role)
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._found: list[RemoteLeg] = []
        for old in seen.legs:
            if len(self._found) < LEGS_MAX and hand.is_free(old.leg):
                leg = hand.leg(self, old.provider, old.leg)
                leg.is_live()
                self._found.append(leg)
            else:
                because = "too many legs, or two of one number"
                hand.say(protocol.Close(stream=self.stream, leg=old.leg, because=because))

    @property
    def is_returning(self) -> bool:
        """Whether the client has had it before."""
        return bool(self.seen.epoch or self.seen.provider or self.seen.legs)

    # --- Plans ---

    async def prepare(self) -> None:
        """
        Get the plan. One that comes back with media goes on without, while the store is away.

        Raises:
            HitlessError: It may not, or cannot, begin.
        """
        if not self.is_returning:
            await self.plan.renew()
            return
        try:
            await self._look_up()
        except HitlessError as exc:
            if is_final(exc):
                raise
            self._hand.own(self._catch_up(), f"plan of {self.stream}")

    async def _look_up(self) -> None:
        """Hear what became of it meanwhile; a publisher that was replaced must not start it."""
        await self._hand.coordinator.connected(self._hand, self.seen)
        if self.is_over is None:
            await self.plan.renew()

    async def _catch_up(self) -> None:
        pause_s = RETRY_S
        while self._hand.session(self.stream) is self and self.is_over is None:
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, RETRY_S_MAX)
            try:
                await self._look_up()
            except HitlessError as exc:
                if not is_final(exc):
                    continue
                self.over(str(exc))
            return

    def _planned(self, plan: protocol.Plan) -> None:
        placed, was_told = self._placed, self._is_told
        self._is_told = True
        if placed is not None and placed.epoch >= plan.epoch:
            if not was_told and placed.epoch > plan.epoch:
                self._hand.say(placed)  # it moved while the plan was made
        elif plan.epoch > 0:
            self._place(
                protocol.Placement(
                    stream=self.stream,
                    epoch=plan.epoch,
                    provider=plan.provider,
                    because=plan.because,
                )
            )

    # --- What the client says ---

    def asked_to_end(self, because: str) -> None:
        """The client ends it, or leaves."""
        self.is_over = cut(because) or "asked by the client"
        self._post(EndRequested(session=self.stream, because=self.is_over))

    # --- What the coordinator says ---

    def placement(self, message: protocol.Placement) -> None:
        """
        A placement: newer than the last it is obeyed, at once or in its turn.

        The client remembers its epoch. Until it has a plan it is told nothing: the plan comes
        first, and says as much.
        """
        if self._placed is None or message.epoch > self._placed.epoch:
            if self._is_told:
                self._hand.say(message)
            self._place(message)
        elif message.epoch == self._placed.epoch and not self._waits(message):
            self._cancel("placement")
            self._tell_placed()  # the driver obeys no epoch twice

    def _place(self, message: protocol.Placement) -> None:
        self._placed = message
        self._cancel("placement")
        if self._waits(message):
            later = self._loop.call_later(message.delay_s, self._tell_placed)
            self._timers["placement"] = later
        else:
            self._tell_placed()

    def _waits(self, message: protocol.Placement) -> bool:
        state = self._hand.driver.session(self.stream)
        return message.delay_s > 0 and state is not None and state.phase is Phase.ON_AIR

    def order(self, message: protocol.Release | protocol.Rescue) -> None:
        """Older legs may close, or one more is needed for viewers that are cut off."""
        match message:
            case protocol.Release():
                self._post(LegsReleased(session=self.stream, epoch=message.epoch))
            case protocol.Rescue():
                provider, because = message.provider or None, message.because
                self._post(RescueTold(session=self.stream, provider=provider, because=because))

    def is_about(self, message: protocol.Over) -> bool:
        """Whether the stream that has ended is the one that this client knows, or waits in."""
        known = max(self.seen.epoch, self._placed.epoch if self._placed else 0)
        waits = self.role is Role.VIEWER and known == 0  # for the next stream of this name
        return message.epoch == 0 or (message.epoch >= known and not waits)

    def over(self, because: str) -> None:
        """It was ended, or another client publishes it."""
        self.is_over = because
        if self.role is Role.PUBLISHER:
            self._post(EndRequested(session=self.stream, because=because))
        else:
            self._post(StreamOver(session=self.stream, because=because))

    # --- For the driver's control plane ---

    def place(self) -> None:
        """
        Tell the driver where it begins: where the client has it on air, if it has.

        The placement may be elsewhere. It is told when the leg that is there was taken up, so
        that the move is made before break.
        """
        here, placed = self.seen.provider, self._placed
        epoch = self.seen.epoch if placed is None else min(self.seen.epoch, placed.epoch)
        has_it = any(leg.provider == here for leg in self._found)
        if has_it and epoch > 0 and (placed is None or placed.provider != here):
            because = "it is on air there"
            self._post(
                PlacementTold(session=self.stream, epoch=epoch, provider=here, because=because)
            )
            return
        self._is_settled = True
        self._tell_placed()

    def claim(self, base: int, provider: str, because: str) -> None:
        """The publisher was moved by its driver."""
        self._agreement.say(
            protocol.Claim(stream=self.stream, base=base, provider=provider, because=because)
        )

    def confirm(self, epoch: int, provider: str) -> None:
        """Media flows where the driver thinks the placement is."""
        placed = self._placed
        if placed is None or placed.epoch != epoch or placed.provider == provider:
            self._agreement.say(
                protocol.Confirm(stream=self.stream, epoch=epoch, provider=provider)
            )
        elif self.role is Role.PUBLISHER:
            self.claim(epoch, provider, "it went there while it was cut off")

    def finish(self, because: str) -> None:
        """Store that it is over; that outlives the connection."""
        self._agreement.finish(because)

    # --- Carrier ---

    async def open(self, provider: Provider, leg: int) -> Leg:
        """Have the client open a leg, or take up the one it has there already."""
        assert isinstance(provider, RemoteProvider)
        if self.role is Role.PUBLISHER:
            return await provider.start_stream(self.stream, None)
        return await provider.join_stream(self.stream)

    async def carry(self, leg: int, opened: Leg, usable: Callable[[], None]) -> None:
        """The client carries it."""
        assert isinstance(opened, RemoteLeg)
        usable()
        opened.carried_as(leg)

    def is_fed(self, now: float) -> bool:
        """The client knows its own source: it does not call a leg silent for want of it."""
        return True

    def started(self) -> None:
        """It is on air: whatever was put off for that is told now."""
        self._is_settled = True
        self._tell_placed()
        wait_s = self._hand.driver.policy.overlap if self.role is Role.PUBLISHER else 0.0
        if self._found:
            because = "it was left before the client came back"
            later = self._loop.call_later(wait_s, self.close_found, because)
            self._timers["found"] = later

    def ended(self, ended: Ended, errors: list[ProviderError]) -> None:
        """It is over."""
        because = "; ".join([ended.because, *(str(error) for error in errors)])
        self._hand.bury(self, ended.outcome.value, because)

    def told(self, news: Announce) -> None:
        """Keep why a leg is opened or closed, for the message that orders it."""
        if news.name in ("leg.opening", "leg.closed") and news.stream == self.stream:
            self._because[news.provider or ""] = news.because

    # --- Legs ---

    async def carried(self, provider: str) -> RemoteLeg:
        """
        Return a leg on a provider with its first media. One attempt; cancelling closes it.

        Raises:
            HitlessError: What the client says, as an adapter would.
        """
        leg = next((leg for leg in reversed(self._found) if leg.provider == provider), None)
        if leg is not None:
            self._found.remove(leg)
        else:
            leg = await self._order(provider)
        try:
            await leg.opened()
        except CredentialsRejected as rejected:
            if self.plan.rejected(provider):
                rejected.retry = Retry.NEXT
            await leg.aclose()
            raise
        except BaseException:
            await leg.aclose()
            raise
        self.plan.accepted(provider)
        return leg

    async def _order(self, provider: str) -> RemoteLeg:
        if self.role is Role.VIEWER and self._placed is None and self.seen.epoch == 0:
            because = f"{self.stream}: nobody publishes it"
            raise NotOnAir(because, retry_after_s=_ABSENT_S)
        credential = await self.plan.credential(provider)
        leg = self._hand.leg(self, provider)
        because = self.because(provider)
        self._hand.say(
            protocol.Open(
                stream=self.stream,
                leg=leg.number,
                provider=provider,
                credential=credential,
                because=because,
            )
        )
        return leg

    def because(self, provider: str) -> str:
        """Return why the last leg on a provider was opened or closed."""
        return self._because.get(provider, "")

    def close_found(self, because: str) -> None:
        """Close what the client came back with and nobody took up."""
        found, self._found = self._found, []
        for leg in found:
            self._because[leg.provider] = because
            leg.close()

    def rest(self) -> None:
        """Let go of every timer, and of what is unsaid."""
        self._agreement.rest()
        for name in tuple(self._timers):
            self._cancel(name)

    def _tell_placed(self) -> None:
        placed = self._placed
        if placed is not None and self._is_settled:
            self._post(
                PlacementTold(
                    session=self.stream,
                    epoch=placed.epoch,
                    provider=placed.provider,
                    because=placed.because,
                    is_own=placed.is_own,
                )
            )

    def _cancel(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()

    def _post(
        self, event: PlacementTold | LegsReleased | RescueTold | StreamOver | EndRequested
    ) -> None:
        self._hand.driver.post(event)
