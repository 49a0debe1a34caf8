"""
Keeps the credential of a leg young, so that no provider ends a stream because of its age.

Renewed well before it ends; where that cannot be done, the core is told in time for a planned
move. Only legs that know when they end (`Expiring`) are looked after.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from ..core.events import Event, LegExpiring, OpenLeg
from ..errors import HitlessError
from ..providers.base import Expiring, Leg
from .telemetry import log


RENEW_S: Final = 120.0
"""A credential is renewed so long before its end [s]; one that lives shorter, at half its life."""

MOVE_S: Final = 60.0
"""One that is not renewed so long before its end [s] ends in a planned move, or at a quarter."""

_TRY_S_MAX: Final = 10.0
_PAUSE_S: Final = 1.0
_PAUSE_S_MAX: Final = 15.0


async def renew(order: OpenLeg, leg: Leg, report: Callable[[Event], None]) -> None:
    """
    Renew the credential of a leg until cancelled, or until it could not be.

    Args:
        order: Which leg.
        leg: The leg.
        report: Is told once, if it could not be renewed in time.
    """
    if not isinstance(leg, Expiring):
        return
    loop = asyncio.get_running_loop()
    while (until_s := leg.expires_s) is not None:
        life_s = max(until_s - loop.time(), 0.0)
        move_s = until_s - min(MOVE_S, life_s / 4)
        await asyncio.sleep(life_s - min(RENEW_S, life_s / 2))
        because = await _renewed(order, leg, until_s, move_s)
        if because:
            left_s = max(until_s - loop.time(), 0.0)
            said = f"its credential ends in {left_s:.0f} s and could not be renewed: {because}"
            report(LegExpiring(session=order.session, leg=order.leg, because=said))
            return


async def _renewed(order: OpenLeg, leg: Expiring, until_s: float, move_s: float) -> str:
    """Try until `move_s`; return why it could not be done, or nothing."""
    loop, pause_s = asyncio.get_running_loop(), _PAUSE_S
    while True:
        because = "it ends no later than before"
        try:
            async with asyncio.timeout_at(min(loop.time() + _TRY_S_MAX, move_s)):
                await leg.renew()
        except TimeoutError:
            because = "no answer in time"
        except HitlessError as exc:
            because = str(exc)
        except Exception as exc:  # an adapter may be anybody's; its text may hold a secret
            because = type(exc).__name__
        now_until_s = leg.expires_s
        if now_until_s is None or now_until_s > until_s:
            return ""
        log.warning("credential not renewed", provider=order.provider, because=because)
        if loop.time() + pause_s >= move_s:
            await asyncio.sleep(max(move_s - loop.time(), 0.0))
            return because
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, _PAUSE_S_MAX)
