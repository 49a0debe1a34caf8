"""
The WebSocket's messages by REST, for clients that cannot have one.

Each call brings messages up and takes those down that wait; it may wait for one. A conversation
is forgotten when nobody has called for a minute. Each hello begins it anew, and names every
stream: whatever was lost on the way is told again, as after a lost connection.
"""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec

from ..client import protocol
from .coordinator import Rejected, check_names
from .hub import Connection, Whose
from .keys import Identity
from .node import Node
from .socket import Client
from .wire import Exchange, Json


WAIT_S_MAX: Final = 25.0
"""Proxies end a request that is quiet for longer, 30 s and more [s]."""
SILENT_S: Final = 60.0
"""A conversation that nobody calls for is forgotten after this time [s]."""
CONVERSATIONS_MAX: Final = 10_000


class Exchanges:
    """
    The conversations of this node that are carried by REST.

    Args:
        node: Ours; its coordinator owns their ends.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._open: dict[Whose, _Conversation] = {}

    def __len__(self) -> int:
        return len(self._open)

    async def exchange(self, who: Identity, network: str, asked: Exchange) -> list[Json]:
        """
        Hear what a client says, and return what it should know.

        Args:
            who: Whose key it showed.
            network: Where it is, as `limits.client_of` says.
            asked: Its messages, and how long to wait for one for it.

        Raises:
            Rejected: There is no conversation, or it ended with this: say hello again.
        """
        check_names("-", asked.client)
        whose = (who.key, asked.client)
        found = self._open.get(whose)
        for message in asked.messages:
            data = msgspec.json.encode(message)
            if message.get("type") == "hello":
                if message.get("client") != asked.client:
                    raise Rejected(400, "bad-client", "say hello as the client that calls")
                found = await self._begin(whose, Client(self._node, who, network), data)
            elif found is not None:
                try:
                    await found.client.hear(data)
                except Rejected:
                    found.connection.cut.set()
                    raise
        if found is None or found.connection.cut.is_set():
            last = found.connection.last_word if found is not None else None
            code, said = (last.code, f"{last.message}; ") if last else ("no-hello", "")
            raise Rejected(409, code, f"{said}say hello first, with every stream")
        down = await found.next(min(max(asked.wait_s, 0.0), WAIT_S_MAX))
        return [msgspec.json.decode(protocol.encode(message)) for message in down]

    # --- Inside ---

    async def _begin(self, whose: Whose, client: Client, hello: bytes) -> _Conversation:
        if whose not in self._open and len(self._open) >= CONVERSATIONS_MAX:
            raise Rejected(503, "too-many", "too many clients by REST: use the WebSocket")
        try:
            connection = await client.begin(hello)
        except BaseException:
            await client.aclose()
            raise
        begun = self._open[whose] = _Conversation(client, connection)
        self._node.coordinator.own(self._keep(whose, begun), f"exchange of {whose[1]}")
        await asyncio.sleep(0)  # a task that has not begun yet would end without its `finally`
        return begun

    async def _keep(self, whose: Whose, one: _Conversation) -> None:
        """End a conversation that was cut, or that nobody calls for any more."""
        try:
            while (left_s := one.heard_s + SILENT_S - one.loop.time()) > 0:
                try:
                    async with asyncio.timeout(left_s):
                        await one.connection.cut.wait()
                    break
                except TimeoutError:
                    pass  # it may have been called meanwhile
        finally:
            one.connection.cut.set()
            if self._open.get(whose) is one:
                del self._open[whose]
            await one.client.aclose()


class _Conversation:
    """One client's; the last call has the floor."""

    def __init__(self, client: Client, connection: Connection) -> None:
        self.client, self.connection = client, connection
        self.loop = asyncio.get_running_loop()
        self.heard_s = self.loop.time()
        self._newer = asyncio.Event()

    async def next(self, wait_s: float) -> list[protocol.Down]:
        """Return what waits; if nothing does, wait for it, or for a newer call, or a cut."""
        self.heard_s = self.loop.time()
        self._newer.set()
        self._newer = newer = asyncio.Event()
        down = self.connection.waiting()
        if down or wait_s <= 0:
            return down
        first = asyncio.create_task(self.connection.next())
        others = [asyncio.create_task(event.wait()) for event in (newer, self.connection.cut)]
        try:
            await asyncio.wait([first, *others], timeout=wait_s, return_when="FIRST_COMPLETED")
            if first.done():
                down = [first.result(), *self.connection.waiting()]
        except asyncio.CancelledError:  # the caller has gone, perhaps with a message of ours
            self.connection.cut.set()
            raise
        finally:
            for task in (first, *others):
                task.cancel()
            await asyncio.gather(first, *others, return_exceptions=True)
            self.heard_s = self.loop.time()
        return down
