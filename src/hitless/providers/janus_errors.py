"""
What Janus says when it says no, and what to do then: the one mapping of its error codes.

Janus answers with a number in one of two places, from two lists that do not know of each other:
the core's (`apierror.h`) and the VideoRoom plugin's (`janus_videoroom.c`). Both were read in the
sources of 1.1.2; 438 came later.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final

import aiohttp

from ..errors import (
    ContractBroken,
    CredentialsRejected,
    HitlessError,
    MediaLost,
    NotOnAir,
    ProviderError,
    Refused,
    Retry,
    Unreachable,
)
from .unreached import translated


NO_SUCH_ROOM: Final = 426
ROOM_EXISTS: Final = 427
MISSING_ELEMENT: Final = 429
PUBLISHERS_FULL: Final = 432

_KEYS: Final = re.compile(r"\((secret|pin|admin_key|token)\)")

_QUOTED: Final = 80


class Means(Enum):
    """What an error code means to us."""

    OURS = auto()
    """It did not understand what we sent: a bug, theirs or ours. The next provider."""
    CREDENTIAL = auto()
    """Renewed once, then the next provider."""
    AGAIN = auto()
    """A passing state: ask again, with a new session."""
    ELSEWHERE = auto()
    """It will say the same again: the next provider."""
    ABSENT = auto()
    """What was asked for is not there: for a viewer, nobody publishes."""


CORE: Final = {
    403: Means.CREDENTIAL,  # unauthorized: API secret or token
    405: Means.CREDENTIAL,  # unauthorized plugin: the token does not hold for VideoRoom
    450: Means.AGAIN,  # transport
    452: Means.OURS,  # missing request
    453: Means.OURS,  # unknown request
    454: Means.OURS,  # invalid JSON
    455: Means.OURS,  # invalid JSON object
    456: Means.OURS,  # missing mandatory element
    457: Means.OURS,  # invalid request path
    458: Means.AGAIN,  # no such session: it timed out, or Janus was started anew
    459: Means.AGAIN,  # no such handle
    460: Means.ELSEWHERE,  # no such plugin: VideoRoom is not loaded
    461: Means.AGAIN,  # cannot attach
    462: Means.AGAIN,  # the plugin did not take the message
    463: Means.AGAIN,  # cannot detach
    464: Means.OURS,  # unknown type of description
    465: Means.OURS,  # invalid description
    466: Means.OURS,  # a candidate for nothing
    467: Means.OURS,  # wrong type of an element
    468: Means.AGAIN,  # the session's number is taken
    469: Means.OURS,  # an answer without an offer
    470: Means.CREDENTIAL,  # no such token
    471: Means.ELSEWHERE,  # wrong state of WebRTC
    472: Means.ELSEWHERE,  # not accepting sessions: it is being drained
    490: Means.AGAIN,  # unknown
}
"""The core's codes: `{"janus": "error", "error": {"code", "reason"}}`."""

ROOM: Final = {
    421: Means.OURS,  # no message
    422: Means.OURS,  # invalid JSON
    423: Means.OURS,  # invalid request
    424: Means.OURS,  # join first
    425: Means.OURS,  # already joined
    426: Means.ABSENT,  # no such room
    427: Means.AGAIN,  # the room exists
    428: Means.ABSENT,  # no such feed
    429: Means.OURS,  # missing element; a missing secret is a matter of credentials
    430: Means.OURS,  # invalid element
    431: Means.OURS,  # invalid type of description
    432: Means.ELSEWHERE,  # as many publishers as the room may have
    433: Means.CREDENTIAL,  # PIN, secret, admin key, token of the room, or kicked
    434: Means.OURS,  # already published
    435: Means.OURS,  # not published
    436: Means.AGAIN,  # the participant's number is taken
    437: Means.OURS,  # invalid description
    438: Means.ABSENT,  # invalid feed
    499: Means.AGAIN,  # unknown
}
"""VideoRoom's codes: `{"videoroom": "event", "error_code", "error"}` in an event or success."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Complaint:
    """
    An error as it arrived.

    Attributes:
        code: The number.
        reason: Its words; quoted only after secrets were looked for.
        is_core: Whether the core says so, not the plugin.
    """

    code: int
    reason: str
    is_core: bool

    @property
    def means(self) -> Means:
        """What it means; an unknown number is a passing state, as HTTP's 500 is."""
        if self.code == MISSING_ELEMENT and not self.is_core and _KEYS.search(self.reason):
            return Means.CREDENTIAL  # a secret that was not given at all
        return (CORE if self.is_core else ROOM).get(self.code, Means.AGAIN)


class JanusError(Exception):
    """A complaint on its way to where the operation and the credential are known."""

    def __init__(self, complaint: Complaint) -> None:
        super().__init__(f"Janus error {complaint.code}")
        self.complaint = complaint


def error_of(
    complaint: Complaint,
    *,
    provider: str,
    operation: str,
    secrets: frozenset[str],
    rejected: Callable[[], Retry],
) -> HitlessError:
    """
    Return the error that a complaint means.

    Args:
        complaint: What Janus said.
        provider: Name for errors.
        operation: `publish`, `view` ...
        secrets: What may not be quoted.
        rejected: Is called when a credential was rejected; says what to do.
    """
    because = f"Janus error {complaint.code}{_quoted(complaint.reason, secrets)}"

    def fail(
        kind: type[ProviderError], words: str = "", retry: Retry | None = None
    ) -> HitlessError:
        return kind(because + words, provider=provider, operation=operation, retry=retry)

    match complaint.means:
        case Means.OURS:
            return fail(ContractBroken, ": our request was not understood")
        case Means.CREDENTIAL:
            # The plugin's 433 is about what is configured here: there is nothing to renew.
            retry = rejected() if complaint.is_core else Retry.NEXT
            return fail(CredentialsRejected, ": credential rejected", retry)
        case Means.AGAIN:
            return fail(Refused, retry=Retry.SAME)
        case Means.ELSEWHERE:
            return fail(Refused, retry=Retry.NEXT)
        case Means.ABSENT if operation == "view":
            return NotOnAir(f"{provider}: nobody publishes ({because})")
        case Means.ABSENT if complaint.code == NO_SUCH_ROOM:
            return fail(Refused, ": create the room, or leave `room` out", Retry.NEXT)
        case Means.ABSENT:
            return fail(MediaLost, ": our own feed is not there")


def not_opened(exc: aiohttp.ClientError | OSError, provider: str, operation: str) -> HitlessError:
    """Return why a WebSocket did not open; a proxy before Janus speaks HTTP."""
    known: dict[str, Any] = {"provider": provider, "operation": operation}
    if type(exc) is TimeoutError:
        return Unreachable("Connection timeout: the WebSocket did not open", **known)
    if not isinstance(exc, aiohttp.WSServerHandshakeError):
        return translated(exc, provider, operation)
    because = f"HTTP {exc.status} instead of a WebSocket"
    if exc.status in (401, 403):
        return CredentialsRejected(because, retry=Retry.NEXT, **known)
    if exc.status >= 500:
        return Refused(because, retry=Retry.SAME, **known)
    if exc.status >= 400:
        return Refused(because, **known)
    return ContractBroken(because, **known)


def _quoted(reason: str, secrets: frozenset[str]) -> str:
    """Return the beginning of an error's text, unless it repeats a secret."""
    if any(secret in reason for secret in secrets):
        return ""
    words = "".join(each if each.isprintable() else " " for each in reason[:400])
    words = " ".join(words.split())[:_QUOTED]
    return f" ({words})" if words else ""
