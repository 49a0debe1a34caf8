"""HTTP/1.1 as uvicorn speaks it, but for requests that do not arrive: they are not waited for."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


REQUEST_S_MAX: Final = 20.0
"""From its first byte, or the beginning of the connection, to the end of its body [s]. The largest
body that is taken needs half a megabit a second for it."""


class Timely(H11Protocol):
    """
    uvicorn's protocol, which waits for ever: nothing, half a head or half a body would hold a
    connection for as long as its client likes, and needs no key.

    A connection is closed without a word then: who is so slow is answered nothing. Between two
    requests the shorter limit of uvicorn holds. A WebSocket has limits of its own.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # Any: as the base class has it
        super().__init__(*args, **kwargs)
        self._late: asyncio.TimerHandle | None = None
        self._is_first, self._has_left = True, False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request."""
        super().connection_made(transport)
        self._judge()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing more."""
        super().connection_lost(exc)
        self._stop()

    def handle_events(self) -> None:
        """Take what came; look whether the rest of a request is waited for."""
        super().handle_events()
        self._judge()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Leave the connection to the WebSocket."""
        self._has_left = True
        super().handle_websocket_upgrade(event)

    def _judge(self) -> None:
        state = self.conn.their_state
        if self._has_left:
            is_waiting = False
        elif state is h11.IDLE:
            is_waiting = self._is_first or bool(self.conn.trailing_data[0])
        else:
            self._is_first, is_waiting = False, state is h11.SEND_BODY
        if not is_waiting:
            self._stop()
        elif self._late is None and not self.transport.is_closing():
            self._late = self.loop.call_later(REQUEST_S_MAX, self.transport.close)

    def _stop(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None
