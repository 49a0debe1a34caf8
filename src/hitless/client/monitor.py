"""
Turns a leg's signs of life into facts: it went silent, it is heard again.

Silence is judged only after pending datagrams were read, and never by a loop that is itself late:
a stall of this process must not look like a provider's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ..core.events import Event, LegDoubted, LegHeard, LegSilent, OpenLeg
from ..media.liveness import PATH
from ..providers.base import Leg


_LOOK_AGAIN_S = 0.02
"""How often a silent leg is looked at for a sign of life [s]."""
_LATE_S = 0.05
"""A loop that wakes this late had something else to do; it reads its sockets first [s]."""
_IDLE_S = 0.1
_TELL_AGAIN_S = 1.0
"""A silence that lasts is told again [s]: the core does not heed one of a leg still opening."""


async def watch(
    order: OpenLeg,
    leg: Leg,
    report: Callable[[Event], None],
    is_fed: Callable[[float], bool],
) -> None:
    """
    Report silence and its end until cancelled.

    Args:
        order: Which leg.
        leg: The leg.
        report: Takes the facts.
        is_fed: Whether our own source gives frames at a time [s]. A leg is not silent for want of
            media that we do not send (DESIGN 4.4); its path still can be.
    """
    loop = asyncio.get_running_loop()
    told_s: float | None = None
    is_doubted = False
    while True:
        times = (leg.liveness.deadline_s(), leg.liveness.doubt_s())
        at_s = min((at for at in times if at is not None), default=loop.time() + _IDLE_S)
        is_looking = is_doubted or told_s is not None
        wait_s = _LOOK_AGAIN_S if is_looking else max(at_s - loop.time(), 0.005)
        due_s = loop.time() + wait_s
        await asyncio.sleep(wait_s)
        for _ in range(3):  # let the selector read what has arrived
            await asyncio.sleep(0)
        if loop.time() - due_s > _LATE_S:
            await asyncio.sleep(_LOOK_AGAIN_S)
        now = loop.time()
        quiet = leg.liveness.quiet(now)
        if quiet is not None and quiet.sign != PATH and not is_fed(now):
            quiet = None
        if quiet is None:
            doubt = leg.liveness.doubt(now) if is_fed(now) else None
            if told_s is not None or (is_doubted and doubt is None):
                told_s, is_doubted = None, False
                report(LegHeard(session=order.session, leg=order.leg))
            elif doubt is not None and not is_doubted:
                is_doubted = True
                report(LegDoubted(session=order.session, leg=order.leg, because=doubt))
        elif told_s is None or now - told_s >= _TELL_AGAIN_S:
            told_s = now
            report(
                LegSilent(
                    session=order.session,
                    leg=order.leg,
                    because=quiet.because,
                    since_s=quiet.since_s,
                )
            )
