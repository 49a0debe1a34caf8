"""
LiveKit's own scale of quality, mapped once: `ConnectionQuality` of its protocol.

It says how well a participant reaches the server, from that server's view of both directions. Of
the three scales that providers have it is the third direction: best in the middle of its numbers.
What LiveKit says when it says no is mapped where it is heard: by HTTP in `livekit_api.py`, by its
package in `livekit_sdk_legs.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final


QUALITY: Final[Mapping[int, float | None]] = {
    0: 30.0,  # poor
    1: 70.0,  # good
    2: 100.0,  # excellent
    3: 0.0,  # lost
}
"""What `connection_quality_changed` says, as a score from 0 to 100 (see `scale`)."""


def quality_score(level: int) -> float | None:
    """Return a quality level as a score from 0 to 100; None: no such level."""
    return QUALITY.get(level)
