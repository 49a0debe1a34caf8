"""One publisher's or viewer's session of a stand-in."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..media.frame import Kind
from .admission import Slot
from .endpoint import Endpoint
from .forward import Publisher, Viewer
from .gate import Pass
from .offer import Choice


@dataclass(eq=False, slots=True, kw_only=True)
class Session:
    """
    One publisher's or viewer's session.

    Attributes:
        secret: Names it in its URL; whoever knows it may end it.
        slot: Its place among the set-ups under way; None once it is through.
        publisher: What it publishes, or whose media it views.
        viewer: Set for viewers.
        choices: For publishers: what was chosen of the offer.
        who: What its credential allowed, and to whom.
        sid: Names it to operators; not a secret.
        ends_s: When its credential ends, on the loop's clock [s]; None: it does not.
        withheld: For publishers: payload types that are thrown away.
    """

    secret: str
    stream: str
    endpoint: Endpoint
    publisher: Publisher
    slot: Slot | None
    since_s: float
    who: Pass
    sid: str
    viewer: Viewer | None = None
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
