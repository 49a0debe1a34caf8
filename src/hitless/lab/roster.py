"""
Who is in which channel or room, as the provider's API sees it, and who was thrown out.

With the fault `zombie-publisher`, a publisher that left stays in here: listed, blocking its
stream, until the API kicks it or the fault is healed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .faults import Injected
from .gate import Pass


if TYPE_CHECKING:
    from .session import Session
    from .sessions import Sessions


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """
    Somebody in a channel or room.

    Attributes:
        who: What their credential allowed, and to whom.
        stream: What they publish or view.
        is_publisher: Which of the two.
        sid: Names the session; not a secret.
        is_on_air: Whether media of theirs has arrived.
        session: What carries them; None: they left, and are zombies.
    """

    who: Pass
    stream: str
    is_publisher: bool
    sid: str
    is_on_air: bool
    session: Session | None


class Roster:
    """
    The members of all channels and rooms of one stand-in.

    Args:
        sessions: Who is really there.
        injected: The faults that are on.
    """

    def __init__(self, sessions: Sessions, injected: Injected) -> None:
        self._sessions, self._injected = sessions, injected
        self._zombies: dict[str, Member] = {}

    def members(self, room: str | None = None) -> list[Member]:
        """Return who is in a room; None: in all. Who has not connected yet is in none."""
        found = [*map(_member, self._sessions.all), *self._zombies.values()]
        return [
            each
            for each in found
            if (each.session is None or each.session.endpoint.is_connected)
            and room in (None, each.who.room)
        ]

    def publisher(self, stream: str) -> Member | None:
        """Return who publishes a stream: with media, if anybody; a zombie counts."""
        for session in (*self._sessions.on_air, *self._sessions.newest):
            if session.stream == stream:
                return _member(session)
        return self._zombies.get(stream)

    def is_haunted(self, stream: str) -> bool:
        """Whether a zombie blocks a stream."""
        return "zombie-publisher" in self._injected and stream in self._zombies

    def streams(self) -> set[str]:
        """Return the streams that have a publisher, zombies included."""
        return {each.stream for each in self._sessions.newest} | set(self._zombies)

    def kick(self, is_meant: Callable[[Member], bool], because: str) -> list[Member]:
        """End the sessions of all who are meant, connected or not; return whose."""
        found = [*map(_member, self._sessions.all), *self._zombies.values()]
        gone = [each for each in found if is_meant(each)]
        for each in gone:
            if each.session is None:
                self._zombies.pop(each.stream, None)
            else:
                self._sessions.remove(each.session, because)
        return gone

    def note_left(self, session: Session) -> None:
        """Keep a publisher that left, if the fault is on and it had been there."""
        member = _member(session)
        if "zombie-publisher" in self._injected and member.is_on_air:
            self._zombies[session.stream] = Member(
                who=member.who,
                stream=member.stream,
                is_publisher=True,
                sid=member.sid,
                is_on_air=True,
                session=None,
            )

    def tick(self) -> None:
        """Let the zombies go once the fault is healed."""
        if self._zombies and "zombie-publisher" not in self._injected:
            self._zombies.clear()


def _member(session: Session) -> Member:
    is_publisher = session.viewer is None
    return Member(
        who=session.who,
        stream=session.stream,
        is_publisher=is_publisher,
        sid=session.sid,
        is_on_air=is_publisher and session.publisher.is_on_air,
        session=session,
    )
