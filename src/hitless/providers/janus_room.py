"""
Rooms of VideoRoom: which one a stream is in, what is asked of it, and who publishes there.

A publisher says in its `display` what it publishes and which one it is in order: `3 show` is the
third publisher of the stream `show`. A publisher takes the number after the highest that it
finds, and viewers watch the highest, so one that crashed or was replaced misleads nobody. No
clock is compared. Two that come at the same moment take the same number; then the greater feed
wins, everywhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
from dataclasses import dataclass
from typing import Final

from ..errors import HitlessError
from .janus_errors import NO_SUCH_ROOM, ROOM_EXISTS, JanusError
from .janus_handle import Handle, Message, object_of
from .janus_socket import LEAVE_S, Secrets


PUBLISHERS_MAX: Final = 4
"""Publishers at once in a room that we create: the stream's own, its next one while it moves, and
those that crashed and that Janus still believes in."""

_DISPLAY: Final = re.compile(r"(\d{1,15}) (.+)", re.DOTALL)
_ROOM_BITS: Final = 52  # what every JSON reader takes for an integer


@dataclass(frozen=True, slots=True, kw_only=True)
class Publisher:
    """
    Somebody who publishes a stream.

    Attributes:
        mark: Which one in order; 0: it did not say.
        feed: Its number, or its name where the server uses strings.
    """

    mark: int
    feed: int | str

    def order(self) -> tuple[int, int, str]:
        """Return what newer publishers have more of."""
        number = self.feed if isinstance(self.feed, int) else 0
        return self.mark, number, str(self.feed)


class Room:
    """
    The room of one stream.

    Args:
        id: Its number, or its name where the server uses strings.
        secrets: What opens it.
        is_ours: Whether it is made for the stream alone: created on demand, and taken away by
            the last publisher.
    """

    def __init__(self, id: int | str, secrets: Secrets, *, is_ours: bool) -> None:
        self.id = id
        self.is_ours = is_ours
        self._secrets = secrets

    # --- What is asked of it ---

    def join(self) -> Message:
        """Return the request to take part."""
        return self._entering({"request": "join", "ptype": "publisher"})

    def publish(self, stream: str, mark: int) -> Message:
        """Return the request to publish a stream as the one with a mark."""
        return {"request": "publish", "display": f"{mark} {stream}"}

    def subscribe(self, feed: int | str, mids: tuple[str, ...]) -> Message:
        """Return the request to view a feed, or some sections of it."""
        streams = [{"feed": feed, "mid": mid} for mid in mids] or [{"feed": feed}]
        return self._entering({"request": "join", "ptype": "subscriber", "streams": streams})

    async def make(self, handle: Handle, deadline: float) -> None:
        """
        Create the room if it is one of ours and is not there.

        Raises:
            HitlessError: It cannot be created.
        """
        if not self.is_ours:
            return
        body: Message = {
            "request": "create",
            "room": self.id,
            "permanent": False,
            "is_private": True,
            "publishers": PUBLISHERS_MAX,
            "audiocodec": "opus",
            "videocodec": "vp8,h264",
        }
        for name, value in (
            ("admin_key", self._secrets.admin_key),
            ("secret", self._secrets.room_secret),
            ("pin", self._secrets.room_pin),
        ):
            if value is not None:
                body[name] = value
        if self._secrets.room_token is not None:
            body["allowed"] = [self._secrets.room_token]
        try:
            await handle.ask(body, deadline)
        except JanusError as exc:
            if exc.complaint.is_core or exc.complaint.code != ROOM_EXISTS:
                raise handle.session.error(exc.complaint) from exc

    async def enter(self, handle: Handle, deadline: float) -> Message:
        """
        Take part as a publisher and return what Janus says of the room, which is made if needed.

        Raises:
            HitlessError: It cannot be made, or does not let us in.
        """
        await self.make(handle, deadline)
        try:
            joined, _ = await handle.ask(self.join(), deadline)
        except JanusError as exc:
            is_gone = not exc.complaint.is_core and exc.complaint.code == NO_SUCH_ROOM
            if not (is_gone and self.is_ours):
                raise handle.session.error(exc.complaint) from exc
            await self.make(handle, deadline)  # who left took it away between our two requests
            joined, _ = await handle.request(self.join(), deadline)
        return joined

    async def newest(self, handle: Handle, stream: str, deadline: float) -> Publisher | None:
        """
        Return the newest publisher of a stream; None: nobody publishes it.

        Raises:
            HitlessError: It cannot be known.
        """
        try:
            data, _ = await handle.ask(self._naming("listparticipants"), deadline)
        except JanusError as exc:
            if not exc.complaint.is_core and exc.complaint.code == NO_SUCH_ROOM:
                return None
            raise handle.session.error(exc.complaint) from exc
        present = data.get("participants")
        active = [
            each
            for each in (present if isinstance(present, list) else [])
            if object_of(each).get("publisher")
        ]
        return max(self.publishers_of(stream, active), key=Publisher.order, default=None)

    async def kick(self, handle: Handle, older: list[Publisher]) -> None:
        """Ask older publishers of our stream to go. Best effort: bounded; never raises."""
        deadline = asyncio.get_running_loop().time() + LEAVE_S
        for each in older:
            body = self._naming("kick") | {"id": each.feed}
            with contextlib.suppress(HitlessError, JanusError):
                await handle.ask(self._managing(body), deadline)

    async def unmake(self, handle: Handle, deadline: float) -> None:
        """
        Leave, and destroy a room of ours that nobody else is in. Never raises.

        A publisher that joins between the look and the end loses the room, and says so at once.
        """
        with contextlib.suppress(HitlessError, JanusError):
            await handle.ask({"request": "leave"}, deadline)
            if self.is_ours:
                data, _ = await handle.ask(self._naming("listparticipants"), deadline)
                if data.get("participants") == []:
                    await handle.ask(self._managing(self._naming("destroy")), deadline)

    # --- Who is in it ---

    @staticmethod
    def publishers_of(stream: str, listed: object) -> list[Publisher]:
        """Return those of a list of Janus's that publish a stream."""
        found = []
        for entry in listed if isinstance(listed, list) else []:
            feed, display = object_of(entry).get("id"), object_of(entry).get("display")
            if not isinstance(feed, int | str) or not isinstance(display, str):
                continue
            marked = _DISPLAY.fullmatch(display)
            if marked is not None and marked[2] == stream:
                found.append(Publisher(mark=int(marked[1]), feed=feed))
            elif display == stream:  # a publisher of another make
                found.append(Publisher(mark=0, feed=feed))
        return found

    # --- Inside ---

    def _naming(self, request: str) -> Message:
        return {"request": request, "room": self.id}

    def _entering(self, body: Message) -> Message:
        body = body | {"room": self.id}
        if self._secrets.room_pin is not None:
            body["pin"] = self._secrets.room_pin
        if self._secrets.room_token is not None:
            body["token"] = self._secrets.room_token
        return body

    def _managing(self, body: Message) -> Message:
        if self._secrets.room_secret is not None:
            body["secret"] = self._secrets.room_secret
        return body


def room_number(stream: str) -> int:
    """Return the number of a stream's own room: the same everywhere, from 1 up."""
    digest = hashlib.blake2b(stream.encode(), digest_size=8).digest()
    return 1 + int.from_bytes(digest, "big") % ((1 << _ROOM_BITS) - 1)
