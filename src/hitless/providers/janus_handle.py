"""One attachment to VideoRoom, inside a session at Janus: it publishes, or it subscribes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, Never

from ..errors import HitlessError, MediaLost, ProviderError
from .janus_errors import Complaint, JanusError


if TYPE_CHECKING:
    from .janus_socket import Session


Message = dict[str, Any]
"""A JSON object of Janus (Any: whatever JSON holds)."""

Trickle = Callable[[str | None], Awaitable[None]]
"""Takes one candidate of the far side; None: there are no more."""

_CANDIDATES_MAX: Final = 64


class Losable:
    """What can be lost: once, for a reason."""

    def __init__(self) -> None:
        self._lost: asyncio.Future[Never] = asyncio.get_running_loop().create_future()

    @property
    def is_lost(self) -> bool:
        """Whether it is."""
        return self._lost.done()

    async def lost(self) -> None:
        """
        Wait until it is lost; never returns. Cancelling is safe.

        Raises:
            ProviderError: It happened.
        """
        await asyncio.shield(self._lost)

    def lose(self, error: ProviderError) -> None:
        """Say that it is lost. Only the first reason counts."""
        if not self._lost.done():
            self._lost.set_exception(error)
            self._lost.exception()  # retrieved: nobody need ask


class Handle(Losable):
    """
    One attachment to VideoRoom: it publishes, or it subscribes.

    Attributes:
        id: Its number.
        receiving: Set while Janus says that our media arrives.
    """

    def __init__(self, session: Session, number: int) -> None:
        super().__init__()
        self.id = number
        self.session = session
        self.receiving = asyncio.Event()
        self._candidates: asyncio.Queue[str | None] = asyncio.Queue(_CANDIDATES_MAX)
        self._feeding: asyncio.Task[None] | None = None

    async def request(
        self, body: Message, deadline: float, jsep: Message | None = None
    ) -> tuple[Message, Message | None]:
        """
        Ask VideoRoom; return its answer and the description that came with it, if any.

        Raises:
            HitlessError: It says no, or nothing by `deadline` [s, the loop's clock].
        """
        try:
            return await self.ask(body, deadline, jsep)
        except JanusError as exc:
            raise self.session.error(exc.complaint) from exc

    async def ask(
        self, body: Message, deadline: float, jsep: Message | None = None
    ) -> tuple[Message, Message | None]:
        """
        See `request`; for who has a use for certain complaints.

        Raises:
            JanusError: It says no.
            HitlessError: It says nothing in time, or the session is lost.
        """
        message: Message = {"janus": "message", "handle_id": self.id, "body": body}
        if jsep is not None:
            message["jsep"] = jsep
        answer = await self.session.ask(message, deadline)
        return data_of(answer), object_of(answer.get("jsep")) or None

    async def trickle(self, candidates: list[Message], deadline: float) -> None:
        """
        Send our candidates, and that there are no more.

        Raises:
            Unreachable: They could not be sent by `deadline` [s, the loop's clock].
        """
        message: Message = {"janus": "trickle", "handle_id": self.id}
        message["candidates"] = [*candidates, {"completed": True}]
        await self.session.tell(message, deadline)

    def feed_candidates(self, take: Trickle) -> None:
        """Give `take` the far side's candidates: those that came, and those that will."""
        self._feeding = asyncio.create_task(self._feed(take))

    def hear(self, kind: str, message: Message) -> None:
        """Take one piece of news."""
        match kind:
            case "trickle":
                line = object_of(message.get("candidate")).get("candidate")
                if not self._candidates.full():
                    self._candidates.put_nowait(None if line is None else str(line))
            case "media" if message.get("receiving"):
                self.receiving.set()
            case "media":
                self.receiving.clear()  # silence, not loss: it may come back
            case "hangup":
                self._end(f"Janus hung up ({str(message.get('reason'))[:60]})")
            case "detached":
                self._end("Janus detached us")
            case "event":
                self._hear_room(data_of(message))

    async def aclose(self) -> None:
        """Forget the handle here; Janus is told by `detach`, or by the end of the session."""
        self.session.forget(self)
        self.lose(MediaLost("closed by us", provider=self.session.provider))
        if self._feeding is not None:
            self._feeding.cancel()
            await asyncio.wait({self._feeding})

    async def detach(self, deadline: float) -> None:
        """Give the handle back to Janus. Never raises."""
        with contextlib.suppress(HitlessError, JanusError):
            await self.session.ask({"janus": "detach", "handle_id": self.id}, deadline)

    # --- Inside ---

    def _hear_room(self, data: Message) -> None:
        if data.get("videoroom") == "destroyed":
            self._end("the room was destroyed")
        elif data.get("leaving") == "ok" and data.get("reason") == "kicked":
            self._end("kicked: a newer publisher took the stream, or the room's owner did it")
        elif "ok" in (data.get("leaving"), data.get("unpublished")):
            self._end("Janus ended our part")
        elif data.get("videoroom") == "updated":
            streams = data.get("streams")
            known = [object_of(each) for each in streams] if isinstance(streams, list) else []
            if not any(each.get("active", True) for each in known):
                self._end("the publisher left")

    async def _feed(self, take: Trickle) -> None:
        while True:
            await take(await self._candidates.get())

    def _end(self, because: str) -> None:
        session = self.session
        self.lose(MediaLost(because, provider=session.provider, operation=session.operation))


def complaint_of(message: Message) -> Complaint | None:
    """Return the error in an answer, of the core or of the plugin; None: there is none."""
    if message.get("janus") == "error":
        error = object_of(message.get("error"))
        return Complaint(
            code=_code(error.get("code")), reason=str(error.get("reason")), is_core=True
        )
    data = data_of(message)
    if "error_code" not in data:
        return None
    return Complaint(
        code=_code(data["error_code"]), reason=str(data.get("error", "")), is_core=False
    )


def _code(value: object) -> int:
    return value if isinstance(value, int) else 0


def data_of(message: Message) -> Message:
    """Return what the plugin says in an answer or an event."""
    return object_of(object_of(message.get("plugindata")).get("data"))


def object_of(value: object) -> Message:
    """Return a JSON object; anything else counts as an empty one."""
    return value if isinstance(value, dict) else {}
