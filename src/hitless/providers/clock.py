"""The adapters' wall clock: times inside tokens and signatures. Nothing else reads it."""

from __future__ import annotations

import time


def wall_s() -> float:
    """Return the time since 1970-01-01 UTC [s]. It may jump: never measure durations with it."""
    return time.time()  # noqa: TID251 -- the one place of the adapters
