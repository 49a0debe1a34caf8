"""
Collections of garbage that nobody notices, however many are connected.

A full collection looks at every object there is: with ten thousand clients it stops everything
for half a second. What lives long is therefore set aside (`gc.freeze`) before there is much of it,
where no collection looks. It still goes away when nobody needs it; only circles wait, until nearly
everybody has gone and looking at the rest is quick again.
"""

from __future__ import annotations

import asyncio
import gc
from typing import Final

from .hub import Hub


LOOK_S: Final = 0.25
STEP: Final = 250
"""So many new connections are set aside together: some 35 000 objects."""
SURVIVED: Final = 4
"""So many collections of young objects leave at most some 30 000 that have become old: looking at
them takes some 20 ms."""

_NEVER: Final = 1 << 30


async def keep_short(hub: Hub) -> None:
    """Set aside what lives long, until cancelled; then everything is as it was before."""
    young, middle, old = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(young, middle, _NEVER)  # those of old objects are made here
    aside = hub.admitted
    most = 0
    try:
        while True:
            await asyncio.sleep(LOOK_S)
            most = max(most, len(hub))
            if most >= 2 * STEP and len(hub) < STEP:
                gc.unfreeze()
                gc.collect()
                gc.freeze()
                aside, most = hub.admitted, len(hub)
            elif hub.admitted - aside >= STEP:
                aside = hub.admitted
                gc.freeze()
            elif gc.get_count()[2] >= SURVIVED:
                gc.collect()
                gc.freeze()
    finally:
        gc.set_threshold(young, middle, old)
        gc.unfreeze()
