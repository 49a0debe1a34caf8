"""
Sessions that found nobody on air, kept for the next question about the same stream.

A waiting viewer asks 20 times a second; a connection and a session for each question would cost
Janus and us more than the question.
"""

from __future__ import annotations

import asyncio
from typing import Final

from .janus_handle import Handle
from .janus_socket import Session
from .janus_view import Later


SPARE_S: Final = 10.0
"""How long a session waits for the next question [s]."""

SPARES_MAX: Final = 8
"""Sessions that wait at once; others are closed."""


class Spares:
    """
    Sessions in waiting, one a stream at most. A session is either here or in use.

    Args:
        later: Runs what closes them.
    """

    def __init__(self, later: Later) -> None:
        self._later = later
        self._kept: dict[str, tuple[Session, Handle, asyncio.TimerHandle]] = {}
        self._is_closed = False

    def take(self, stream: str) -> tuple[Session, Handle] | None:
        """Return the session of a stream, which is the caller's then; None: there is none."""
        if stream not in self._kept:
            return None
        session, handle, timer = self._kept.pop(stream)
        timer.cancel()
        if not handle.is_lost:
            return session, handle
        self._later(session.aclose())
        return None

    def keep(self, stream: str, session: Session, handle: Handle) -> None:
        """Keep a session for a while; it is closed here."""
        if self._is_closed or stream in self._kept or len(self._kept) >= SPARES_MAX:
            self._later(session.aclose())
            return
        timer = asyncio.get_running_loop().call_later(SPARE_S, self._drop, stream)
        self._kept[stream] = session, handle, timer

    def close(self) -> None:
        """Close all, and keep none any more. Idempotent."""
        self._is_closed = True
        for stream in tuple(self._kept):
            self._drop(stream)

    def _drop(self, stream: str) -> None:
        session, _, timer = self._kept.pop(stream)
        timer.cancel()
        self._later(session.aclose())
