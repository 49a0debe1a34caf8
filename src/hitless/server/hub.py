"""
Who is connected to this node, and what is on its way to them.

A client that reads too slowly is cut: it reconnects and is told anew from the rows, so nothing is
lost by it. The hub knows nothing of placements; it delivers.

A client is known by its key and its name: under another key the same name is somebody else, who
can neither cut it nor take its place.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

from ..client.protocol import Down, Problem, Role
from .direct import Departures, Direct
from .keys import Identity
from .samples import Samples


OUTBOX_MAX: Final = 256
"""Messages that wait for one client; one that is further behind is cut."""
STREAMS_MAX: Final = 64
"""Streams of one connection."""

Whose = tuple[str, str]
"""The id of a key, and the name of a client that showed it."""


class Cut(asyncio.Event):
    """
    Set when a connection is to be closed.

    Attributes:
        then: Called when it is, besides those who wait.
    """

    then: Callable[[], None] | None = None

    def set(self) -> None:
        """Say so. Idempotent."""
        if not self.is_set():
            super().set()
            if self.then is not None:
                self.then()


class Connection:
    """
    One connected client.

    Args:
        client: Its own name for itself.
        identity: Whose key it showed.
        is_hand: Whether the server decides for it.

    Attributes:
        roles: What it does, by stream.
        cut: Set when it is to be closed.
        last_word: Why, if the client can do something about it.
    """

    def __init__(self, client: str, identity: Identity, *, is_hand: bool = False) -> None:
        self.client, self.identity, self.is_hand = client, identity, is_hand
        self.roles: dict[str, Role] = {}
        self.cut = Cut()
        self.last_word: Problem | None = None
        self._outbox: deque[Down] = deque()
        self._some: asyncio.Event | None = None
        self._way: Direct | None = None
        self._departures: Departures | None = None
        self._is_leaving = False

    @property
    def whose(self) -> Whose:
        """Who it is, for all of this node."""
        return self.identity.key, self.client

    def send(self, message: Down) -> None:
        """Put a message on its way; a client that is too far behind is cut instead."""
        if len(self._outbox) >= OUTBOX_MAX and self._departures is not None:
            self._departures.drain(self)  # it may be our own loop that had no time
        if len(self._outbox) >= OUTBOX_MAX:
            self.end("too-slow", f"{OUTBOX_MAX} messages waited for it: read faster")
            return
        self._outbox.append(message)
        self._leave()
        if self._some is not None:
            self._some.set()

    def end(self, code: str, message: str) -> None:
        """Close it, with a last word. Idempotent: the first one counts."""
        if not self.cut.is_set():
            self.last_word = Problem(code=code, message=message)
            self.cut.set()

    async def next(self) -> Down:
        """Return the next message to deliver. Cancelling loses none."""
        if self._some is None:
            self._some = asyncio.Event()
        while not self._outbox:
            self._some.clear()
            await self._some.wait()
        return self._outbox.popleft()

    def waiting(self) -> list[Down]:
        """Take all that waits, at once."""
        messages = list(self._outbox)
        self._outbox.clear()
        return messages

    # --- The short way out ---

    def leave_by(self, way: Direct, departures: Departures) -> None:
        """Deliver by this way from now on, until `stay`; nobody asks for the `next` then."""
        self._way, self._departures = way, departures
        way.flow = self._leave
        self._leave()

    def stay(self) -> None:
        """Deliver nothing more, and let go of the way. Idempotent."""
        if self._way is not None:
            self._way.flow = None
        self._way = self._departures = None

    def pop(self) -> tuple[Down, Direct] | None:
        """Return the next message and its way; None: nothing can be sent now. For `Departures`."""
        way = self._way
        if way is not None and self._outbox and way.has_room and not self.cut.is_set():
            return self._outbox.popleft(), way
        self._is_leaving = False
        return None

    def _leave(self) -> None:
        if not self._is_leaving and self._departures is not None:
            self._is_leaving = True
            self._departures.add(self)


class Hub:
    """
    All connections of this node, by client and by stream.

    Attributes:
        departures: Sends what waits for those that have a short way out.
        samples: Which of their reports are looked at closely.
        admitted: How many connections there ever were.
    """

    def __init__(self) -> None:
        self.departures, self.samples = Departures(), Samples()
        self.admitted = 0
        self._by_client: dict[Whose, Connection] = {}
        self._by_stream: dict[str, dict[Whose, Connection]] = {}

    def __len__(self) -> int:
        return len(self._by_client)

    def __iter__(self) -> Iterator[Connection]:
        return iter(tuple(self._by_client.values()))

    def add(self, connection: Connection) -> None:
        """Admit a connection; an older one of the same client is cut."""
        older = self._by_client.get(connection.whose)
        if older is not None:
            self.remove(older)
            older.end("replaced", "this client connected anew, or two clients have one name")
        self.admitted += 1
        self._by_client[connection.whose] = connection

    def remove(self, connection: Connection) -> None:
        """Forget a connection. Idempotent."""
        if self._by_client.get(connection.whose) is connection:
            del self._by_client[connection.whose]
        for stream in tuple(connection.roles):
            self.detach(connection, stream)

    def end_keys(self, is_over: Callable[[str], bool]) -> int:
        """
        Close the connections of keys that open nothing any more, with a word.

        Args:
            is_over: Whether the key of this id was revoked, has expired, or is gone.

        Returns:
            How many were closed.
        """
        over = {key for key in {key for key, _ in self._by_client} if is_over(key)}
        found = [one for one in self if one.identity.key in over] if over else []
        for connection in found:
            connection.end("bad-key", "its key was revoked or has expired: show another one")
        return len(found)

    def attach(self, connection: Connection, stream: str, role: Role) -> bool:
        """Note what a connection does with a stream; False: it has too many already."""
        if stream not in connection.roles and len(connection.roles) >= STREAMS_MAX:
            return False
        connection.roles[stream] = role
        self._by_stream.setdefault(stream, {})[connection.whose] = connection
        return True

    def detach(self, connection: Connection, stream: str) -> None:
        """Note that it has nothing to do with a stream any more. Idempotent."""
        connection.roles.pop(stream, None)
        clients = self._by_stream.get(stream, {})
        if clients.get(connection.whose) is connection:
            del clients[connection.whose]
            if not clients:
                del self._by_stream[stream]

    def clients(self, stream: str, role: Role | None = None) -> list[Connection]:
        """Return who is here for a stream."""
        found = self._by_stream.get(stream, {}).values()
        return [one for one in found if role is None or one.roles.get(stream) == role]

    def streams(self) -> list[str]:
        """Return the streams that somebody here is connected for."""
        return list(self._by_stream)

    def tell(self, stream: str, message: Down, role: Role | None = None) -> int:
        """Send a message to everybody here for a stream; return to how many."""
        clients = self.clients(stream, role)
        for connection in clients:
            connection.send(message)
        return len(clients)
