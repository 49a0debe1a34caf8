"""
LiveKit's own WHIP endpoint, which views as well: see `livekit.py` for why, and for the limits.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from yarl import URL

from ..media.frame import Kind
from ..media.peer import ViewingPeer
from ..media.sdp import kinds_in
from .signalling import Answer, Signalling
from .subscription import Subscription
from .whip import Whip
from .whip_legs import PublishingLeg


SETTLE_S: Final = 0.05
"""When a publisher looks at itself, counted from being connected [s]: the server knows of a track
once its first packet came, and packets of sound are 20 ms apart. On loopback 2 of 40 looked too
early without it, and none of 100 with it (livekit-server 1.13.0)."""

ANSWER_S: Final = 1.0
"""How long a publisher waits for an answer to its own view [s]: one that looked too early is never
answered, and looks again."""

TRACK_NAMES: Final = {Kind.AUDIO: "synthesized-microphone", Kind.VIDEO: "synthesized-camera"}
"""How the server names the tracks of whoever publishes by WHIP."""

_INFO: Final = "X-LiveKit-ClientInfo"


@dataclass(frozen=True, slots=True)
class Watched:
    """Whom to watch: its identity, and the names of its tracks."""

    identity: str
    tracks: Mapping[Kind, str]


class NativeWhip(Whip):
    """
    WHIP that views as well: it names the tracks to receive in a header of its own.

    Args:
        name: Provider name.
        found: Whom a viewer watches, by stream.
        ours: Whom a publisher watches: itself.
        settings: What `Whip` takes.
    """

    def __init__(
        self,
        name: str,
        *,
        found: Mapping[str, Watched],
        ours: Mapping[str, Watched],
        **settings: Any,
    ) -> None:
        super().__init__(name, **settings)
        self._found, self._ours = found, ours

    def has(self, leg: PublishingLeg) -> bool:
        """Whether a leg is open here."""
        return leg in self._legs

    def _subscription(
        self,
        stream: str,
        signalling: Signalling,
        url: URL,
        new_peer: Callable[[], ViewingPeer],
        *,
        is_own: bool = False,
    ) -> Subscription:
        publisher = (self._ours if is_own else self._found).get(stream)
        if publisher is None:
            return super()._subscription(stream, signalling, url, new_peer, is_own=is_own)
        return _Naming(signalling, url, new_peer, publisher=publisher, is_own=is_own)


class _Naming(Subscription):
    """A view that names the tracks to receive; an own one waits no longer than it is worth."""

    def __init__(
        self,
        signalling: Signalling,
        url: URL,
        new_peer: Callable[[], ViewingPeer],
        *,
        publisher: Watched,
        is_own: bool,
    ) -> None:
        super().__init__(signalling, url, new_peer)
        self._publisher, self._is_own = publisher, is_own

    async def ask(self, deadline: float) -> Answer:
        """See `Subscription.ask`."""
        if self._is_own:
            await asyncio.sleep(SETTLE_S)
            deadline = min(deadline, asyncio.get_running_loop().time() + ANSWER_S)
        return await super().ask(deadline)

    def headers(self, offer: str) -> Mapping[str, str]:
        """See `Subscription.headers`."""
        return {_INFO: _wanted(self._publisher, offer)}


def _wanted(publisher: Watched, offer: str) -> str:
    """Return the header that names the tracks to receive: of kinds that the offer has."""
    names = [publisher.tracks[kind] for kind in kinds_in(offer) if kind in publisher.tracks]
    return json.dumps({"subscribedParticipantTrackNames": {publisher.identity: names}})
