"""
Collections of garbage that nobody notices, however many are connected.

A full collection looks at every object there is: with ten thousand clients it stops everything for
half a second. What lives long is therefore set aside (`gc.freeze`) while it comes in, where no
collection looks. It still goes away when nobody needs it; only circles wait, until many have gone
and looking at the rest is quick again.
"""

from __future__ import annotations

import asyncio
import gc
from typing import Final

from .hub import Hub


LOOK_S: Final = 0.25
STEP: Final = 250
"""So many new connections are set aside together: a collection of them takes some 10 ms."""


async def keep_short(hub: Hub) -> None:
    """Set aside what lives long, until cancelled; then everything is as it was before."""
    gc.collect()
    gc.freeze()
    aside = hub.admitted
    most = 0
    try:
        while True:
            await asyncio.sleep(LOOK_S)
            if hub.admitted - aside >= STEP:
                aside, most = hub.admitted, max(most, len(hub))
                gc.freeze()
            elif most >= STEP and len(hub) < most // 4:
                gc.unfreeze()
                gc.collect()
                gc.freeze()
                most = len(hub)
    finally:
        gc.unfreeze()
