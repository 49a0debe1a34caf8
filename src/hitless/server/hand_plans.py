"""The plan of a remote hand's stream, and the credentials in it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from ..client import protocol
from ..client.telemetry import log
from ..core.events import Role
from ..errors import CredentialsRejected, HitlessError, Retry
from .coordinator import Rejected
from .database import StoreUnavailable
from .hand_legs import cut
from .plans import MintRefused


if TYPE_CHECKING:
    from .hands import Hand


_RENEW_S_MIN: Final = 1.0
"""A plan that is not older than this is good enough for a client that asks for a new one [s]."""


class HandPlan:
    """
    The plan of one stream, renewed when it grows old.

    Args:
        hand: Whose.
        seen: What the client knows of the stream.
        renewed: Called with each new plan, after the client was told of it.

    Attributes:
        plan: The newest; None: there was none yet.
    """

    def __init__(
        self, hand: Hand, seen: protocol.Seen, renewed: Callable[[protocol.Plan], None]
    ) -> None:
        self.plan: protocol.Plan | None = None
        self._hand, self._seen, self._renewed = hand, seen, renewed
        self._loop = asyncio.get_running_loop()
        self._plan_s = 0.0
        self._rejected: set[str] = set()
        self._renewing = asyncio.Lock()

    async def renew(self) -> None:
        """Get a plan with fresh credentials; the client is given it too. Raises HitlessError."""
        hand, seen, before = self._hand, self._seen, self.plan
        async with self._renewing:
            if self.plan is not before:
                return  # somebody else asked meanwhile
            state = hand.driver.session(seen.stream)
            request = protocol.PlanRequest(
                stream=seen.stream,
                client=hand.client,
                adapters=hand.hello.adapters,
                codecs=hand.hello.codecs,
                group=seen.group,
                plan=before.token if before else seen.plan,
                provider=(state.provider if state else seen.provider) or "",
            )
            is_publisher = Role(seen.role) is Role.PUBLISHER
            ask = hand.coordinator.start if is_publisher else hand.coordinator.join
            self.plan = plan = await ask(hand.identity, request)
            self._plan_s = self._loop.time()
        hand.say(protocol.NewPlan(plan=plan))
        self._renewed(plan)

    def asked_to_renew(self) -> None:
        """The client wants a new plan; one at a time, and not one after the other for nothing."""
        if self._renewing.locked():
            return
        if self.plan is not None and self._loop.time() - self._plan_s < _RENEW_S_MIN:
            self._hand.say(protocol.NewPlan(plan=self.plan))
        else:
            self._hand.own(self._renew_asked(), f"plan of {self._seen.stream}")

    async def credential(self, provider: str) -> protocol.Credential:
        """
        Return the plan's credential; where that is old or was rejected, of a new plan.

        Raises:
            CredentialsRejected: This client gets no more.
        """
        plan, age_s = self.plan, self._loop.time() - self._plan_s
        life_s = 0.0
        if plan is not None:
            life_s = plan.credential_s if provider == plan.provider else plan.outage_s
        is_old = life_s > 0 and age_s > life_s / 2
        is_strange = plan is None or provider not in plan.order
        if is_old or is_strange or provider in self._rejected:
            try:
                await self.renew()
            except HitlessError as exc:
                if is_final(exc):
                    because = "the server gives no more credentials for it"
                    raise CredentialsRejected(
                        because, provider=provider, retry=Retry.NEXT
                    ) from exc
                stream = self._seen.stream
                log.warning("goes on with an older plan", stream=stream, because=str(exc))
        return self.plan.credentials.get(provider, {}) if self.plan else {}

    def rejected(self, provider: str) -> bool:
        """Note that a credential was rejected; return whether the one before was, too."""
        is_again = provider in self._rejected
        self._rejected.add(provider)
        return is_again

    def accepted(self, provider: str) -> None:
        """Note that one was good."""
        self._rejected.discard(provider)

    async def _renew_asked(self) -> None:
        try:
            await self.renew()
        except HitlessError as exc:
            code, said = problem(exc)
            stream = self._seen.stream
            self._hand.say(protocol.Problem(code=code, message=said, stream=stream))


def is_final(exc: HitlessError) -> bool:
    """Whether the client may not, rather than the server cannot."""
    is_refused = isinstance(exc, Rejected) and exc.status in (400, 401, 403)
    return is_refused or isinstance(exc, MintRefused)


def problem(exc: HitlessError) -> tuple[str, str]:
    """Return why something cannot be done: a word for programs, and words for people."""
    match exc:
        case Rejected():
            return exc.code, exc.because
        case MintRefused():
            return "forbidden", str(exc)
        case StoreUnavailable():
            return "unavailable", "the server cannot store anything now: try again"
        case _:
            return "refused", cut(str(exc))
