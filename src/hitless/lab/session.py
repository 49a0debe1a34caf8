"""One publisher's or viewer's session of a stand-in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from ..media.frame import Kind
from .admission import Slot
from .forward import Publisher, Watcher
from .gate import Pass
from .offer import Choice


if TYPE_CHECKING:
    from .rtmp_ingest import Ingest


class Peer(Protocol):
    """
    What carries a session: an `Endpoint` of WebRTC, or a connection of RTMP.

    Attributes:
        heard_s: When anything of it was heard that shows it is there [s, the loop's clock].
        is_connected: Whether media can flow.
        on_gone: Called when it closed or failed; set by the owner.
    """

    heard_s: float
    is_connected: bool
    on_gone: Callable[[], None]

    def behind_s(self, now: float) -> float:
        """Return how long its media has been coming faster than it is forwarded [s]."""

    def overflowed(self) -> int:
        """Return the packets lost because this process was too slow."""

    async def aclose(self) -> None:
        """Say goodbye and release everything. Idempotent."""


@dataclass(eq=False, slots=True, kw_only=True)
class Session:
    """
    One publisher's or viewer's session.

    Attributes:
        secret: Names it in its URL; whoever knows it may end it.
        slot: Its place among the set-ups under way; None once it is through.
        publisher: What it publishes, or whose media it views.
        viewer: Set for viewers.
        tags: Set for publishers by RTMP: what came, for players.
        choices: For publishers: what was chosen of the offer; by RTMP what was announced, or came.
        who: What its credential allowed, and to whom.
        sid: Names it to operators; not a secret.
        ends_s: When its credential ends, on the loop's clock [s]; None: it does not.
        withheld: For publishers: payload types that are thrown away.
    """

    secret: str
    stream: str
    endpoint: Peer
    publisher: Publisher
    slot: Slot | None
    since_s: float
    who: Pass
    sid: str
    viewer: Watcher | None = None
    tags: Ingest | None = None
    choices: list[Choice] = field(default_factory=list)
    ends_s: float | None = None
    withheld: frozenset[int] = frozenset()
    is_closed: bool = False

    def withhold(self, kinds: frozenset[Kind]) -> bool:
        """Throw these kinds away from now on; return whether anything is left."""
        lines = [track.line for track in self.publisher.tracks.values()]
        self.withheld = frozenset(line.payload_type for line in lines if line.kind in kinds)
        return len(self.withheld) < len(lines)

    def let_next_in(self) -> None:
        """Give the place among the set-ups back. Idempotent."""
        if self.slot is not None:
            self.slot.release()
            self.slot = None
