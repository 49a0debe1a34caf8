"""Letting providers go: all of them, side by side, whatever one of them does."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

from ..providers.base import Provider
from .telemetry import log


RELEASE_S_MAX: Final = 5.0
"""How long releasing a provider may take [s]: every adapter of ours takes 2 s at most."""

_DEAF_S: Final = 1.0


async def release(providers: Iterable[Provider]) -> None:
    """
    Close providers. Bounded by `RELEASE_S_MAX` and a second; never raises.

    One that hangs, or fails, holds up nobody: it is cancelled, and left if it is deaf to that.
    """
    tasks = {asyncio.create_task(_closed(one), name=f"{one.name} release") for one in providers}
    if not tasks:
        return
    try:
        _, hanging = await asyncio.wait(tasks, timeout=RELEASE_S_MAX)
    except asyncio.CancelledError:
        for task in tasks:
            task.cancel()
        raise
    for task in hanging:
        log.warning("releasing a provider took too long", task=task.get_name())
        task.cancel()
    if hanging:
        await asyncio.wait(hanging, timeout=_DEAF_S)


async def _closed(provider: Provider) -> None:
    try:
        await provider.aclose()
    except Exception:  # an adapter may be anybody's
        log.exception("releasing a provider failed", provider=provider.name)
