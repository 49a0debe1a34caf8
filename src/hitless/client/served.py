"""One session of a client as its control plane sees it: its plan, and the move that waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ..core.agreement import Follower
from ..core.events import Event, PlacementTold, Role
from ..providers.credential import Access
from . import protocol


STALE_S: Final = 0.3
"""So long a leg waits for a plan that has its newest name [s]."""
RENEW_S_MAX: Final = 5.0
"""After a move, clients get plans with the new names within this time [s], not all at once."""

LEG_STATES: Final[Mapping[str, protocol.LegState]] = {
    "leg.opening": "opening",
    "leg.opened": "live",
    "leg.silent": "silent",
    "leg.heard": "heard",
    "leg.failed": "failed",
    "leg.closed": "closed",
}
"""What becomes of a leg, by the news of it."""


@dataclass(slots=True)
class Served:
    """
    One session that the control plane knows of, or should.

    Attributes:
        stream, role: What it is about.
        plan: The newest; None: it began without one.
        asked_once: Whether it was asked for again on this connection, because it was unknown.
        is_asking: Whether a plan is on its way.
        is_refused: Whether the server said no to it since it is on air.
        delayed: The placement that waits for its time.
        timer: Ends that wait.
        rejected: Providers that did not take the credential of `plan`.
    """

    stream: str
    role: Role
    plan: protocol.Plan | None = field(default=None, repr=False)
    asked_once: bool = False
    is_asking: bool = False
    is_refused: bool = False
    delayed: PlacementTold | None = None
    timer: asyncio.TimerHandle | None = None
    rejected: set[str] = field(default_factory=set)

    def is_for(self, plan: protocol.Plan) -> bool:
        """Whether a plan is about this session."""
        return (plan.stream, plan.role) == (self.stream, self.role.value)

    def keep(self, plan: protocol.Plan | None) -> None:
        """Go by a new plan, if there is one."""
        if plan is not None:
            self.plan = plan
            self.rejected.clear()

    def named_epoch(self) -> bool:
        """Whether legs have the epoch in their names, so that each move makes the plan old."""
        plan = self.plan
        return plan is not None and any("epoch" in one for one in plan.credentials.values())

    def is_stale(self, provider: str, placed: Follower | None) -> bool:
        """Whether the plan names the leg at a provider by another epoch than it would have now."""
        known = self.plan.credentials.get(provider) if self.plan else None
        if known is None or "epoch" not in known or placed is None or placed.epoch == 0:
            return False
        now = placed.epoch if provider == placed.provider else placed.epoch + 1
        return bool(known["epoch"] != now)

    def credential(self, access: Access) -> Mapping[str, Any]:
        """
        Return what the plan has for a provider and role; empty: nothing.

        A publisher's plan holds, as `view_...`, what differs for viewing its own stream.
        """
        known = self.plan.credentials.get(access.provider) if self.plan else None
        if known is None or access.role is self.role or self.role is not Role.PUBLISHER:
            return known or {}
        own = {k.removeprefix("view_"): v for k, v in known.items() if k.startswith("view_")}
        return {**known, **own}

    def place(self, told: PlacementTold, delay_s: float, post: Callable[[Event], None]) -> None:
        """Post a placement in `delay_s` [s]; a newer one, or the same one sooner, replaces it."""
        before = self.delayed.epoch if self.delayed is not None else 0
        if before > told.epoch or (before == told.epoch and delay_s > 0):
            return  # a newer one waits; said twice, it does not wait longer
        self.hasten()
        self.delayed = told
        if delay_s > 0:
            self.timer = asyncio.get_running_loop().call_later(delay_s, self.go, post)
        else:
            self.go(post)

    def go(self, post: Callable[[Event], None]) -> None:
        """Post the placement that waits, if one does."""
        told = self.hasten()
        if told is not None:
            post(told)

    def hasten(self) -> PlacementTold | None:
        """Return the placement that waited, which waits no longer."""
        told, self.delayed = self.delayed, None
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        return told
