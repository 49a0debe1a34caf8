"""
Agora's codes, mapped once: errors of the SDKs, reasons of connection changes, quality.

From Agora's documents as of 2026-07-01 (`non-web-error-codes.mdx`, `web-error-codes.mdx`,
`enum_connectionchangedreasontype`) and the web SDK 4.24.8. The advice is ours: an argument that
Agora does not accept may do for the next provider, so it leads there; who was banned, or whose
place was taken by the same user elsewhere, stays away, or a publisher that was removed on
purpose would come back.

Expired is 109 or reason 9; 110 and reason 8 are *invalid*, which is often mistaken for expired.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ..errors import (
    ContractBroken,
    CredentialsRejected,
    HitlessError,
    LocalFault,
    Refused,
    Retry,
    Unreachable,
)
from .codes import Meaning


_EXPIRED: Final = Meaning(
    error=CredentialsRejected,
    retry=Retry.SAME,
    says="the token has expired",
    is_renewable=True,
)
_INVALID: Final = Meaning(
    error=CredentialsRejected,
    retry=Retry.SAME,
    says="the token is invalid: check App ID, certificate, channel and uid it was made for",
    is_renewable=True,
)
_BANNED: Final = Meaning(
    error=Refused,
    retry=Retry.NEVER,
    says="banned by the server: a ban rule stands; a new token does not lift it",
)
_ELSEWHERE: Final = Meaning(
    error=Refused,
    retry=Retry.NEVER,
    says="the same uid joined elsewhere and took this place: give each client its own uid",
)
_APP_ID: Final = Meaning(
    error=CredentialsRejected,
    retry=Retry.NEXT,
    says="no such App ID: compare it with the project in Agora's console",
)
_CHANNEL: Final = Meaning(
    error=ContractBroken,
    retry=Retry.NEXT,
    says="the channel's name is not allowed: at most 64 bytes of Agora's 89 characters",
)
_ARGUMENT: Final = Meaning(error=ContractBroken, retry=Retry.NEXT, says="a bad argument")
_INTERRUPTED: Final = Meaning(
    error=Unreachable, retry=Retry.SAME, says="the connection is interrupted"
)
_LOST: Final = Meaning(error=Unreachable, retry=Retry.NEXT, says="the connection is lost")
_NO_SERVER: Final = Meaning(
    error=Unreachable, retry=Retry.NEXT, says="no server was found for this region"
)
_REJECTED: Final = Meaning(
    error=Refused,
    retry=Retry.SAME,
    says="joining was rejected, most often because it is in the channel already: leave it first",
)
_TIMEOUT: Final = Meaning(error=Unreachable, retry=Retry.SAME, says="no answer in time")
_CHANGED: Final = Meaning(
    error=Unreachable, retry=Retry.SAME, says="the address of this client changed: reconnecting"
)

ERRORS: Final[Mapping[int, Meaning]] = {
    2: _ARGUMENT,
    3: Meaning(error=Refused, retry=Retry.SAME, says="the SDK is not ready yet"),
    5: Meaning(error=Refused, retry=Retry.NEXT, says="the call was refused"),
    7: Meaning(error=LocalFault, retry=Retry.NEVER, says="the SDK was not initialised"),
    10: _TIMEOUT,
    17: _REJECTED,
    18: Meaning(error=Refused, retry=Retry.NEXT, says="leaving was rejected: it had left before"),
    101: _APP_ID,
    102: _CHANNEL,
    103: _NO_SERVER,
    109: _EXPIRED,
    110: _INVALID,
    111: _INTERRUPTED,
    112: _LOST,
    119: Meaning(error=Refused, retry=Retry.NEXT, says="the role could not be switched"),
    120: Meaning(
        error=ContractBroken,
        retry=Retry.NEXT,
        says="decryption failed: publisher and viewers have different keys or modes",
    ),
    121: Meaning(error=ContractBroken, retry=Retry.NEXT, says="a uid that is not allowed"),
    123: _BANNED,
    134: Meaning(error=ContractBroken, retry=Retry.NEXT, says="a user account is not allowed"),
}
"""Codes of the native SDKs' `onError`."""

REASONS: Final[Mapping[int, Meaning | None]] = {
    0: None,
    1: None,
    2: _INTERRUPTED,
    3: _BANNED,
    4: Meaning(
        error=Unreachable,
        retry=Retry.NEXT,
        says="joining failed for good: the SDK gave up after 20 minutes",
    ),
    5: None,
    6: _APP_ID,
    7: _CHANNEL,
    8: _INVALID,
    9: _EXPIRED,
    10: Meaning(error=Refused, retry=Retry.SAME, says="rejected by the server"),
    11: None,
    12: None,
    13: _CHANGED,
    14: Meaning(error=Unreachable, retry=Retry.SAME, says="no keep-alive answer: reconnecting"),
    15: None,
    16: _LOST,
    17: None,
    18: _CHANGED,
    19: _ELSEWHERE,
    20: Meaning(error=Refused, retry=Retry.NEXT, says="too many broadcasters in the channel"),
}
"""Reasons of `onConnectionStateChanged`; None: nothing failed."""

WEB_ERRORS: Final[Mapping[str, Meaning | None]] = {
    "LEAVE": None,
    "FALLBACK": None,
    "FALLBACK_TO_HLS": None,
    "NETWORK_ERROR": Meaning(error=Unreachable, retry=Retry.SAME, says="a network error"),
    "SERVER_ERROR": Meaning(error=Refused, retry=Retry.SAME, says="an error of the server"),
    "UID_BANNED": _BANNED,
    "IP_BANNED": _BANNED,
    "CHANNEL_BANNED": _BANNED,
    "TOKEN_EXPIRE": _EXPIRED,
    "UID_CONFLICT": _ELSEWHERE,
    "CAN_NOT_GET_GATEWAY_SERVER": _NO_SERVER,
    "NETWORK_TIMEOUT": _TIMEOUT,
    "WS_ABORT": _INTERRUPTED,
    "WS_DISCONNECT": _INTERRUPTED,
    "WS_ERR": _INTERRUPTED,
    "ICE_FAILED": Meaning(error=Unreachable, retry=Retry.SAME, says="ICE found no path"),
    "GATEWAY_P2P_LOST": _LOST,
    "INVALID_PARAMS": _ARGUMENT,
    "NO_ACTIVE_STATUS": Meaning(
        error=CredentialsRejected,
        retry=Retry.NEXT,
        says="the project is not active: look at it in Agora's console",
    ),
}
"""
Error codes and reasons of the web SDK that say something about the connection; None: nothing
failed. LICENSE_* is mapped by its beginning.
"""

_LICENCE: Final = Meaning(
    error=Refused, retry=Retry.NEXT, says="no licence for this client: ask Agora"
)
_UNKNOWN: Final = Meaning(error=Refused, retry=Retry.NEXT, says="a code that is not documented")

QUALITY: Final[Mapping[int, float | None]] = {
    0: None,  # unknown
    1: 100.0,  # excellent
    2: 85.0,
    3: 65.0,
    4: 45.0,
    5: 25.0,
    6: 0.0,  # down
    8: None,  # detecting; native SDKs only, and there is no 7
}
"""What `onNetworkQuality` says, as a score from 0 to 100 (see `scale`); None: not known."""


def error_of(code: int | str, *, provider: str, operation: str) -> HitlessError | None:
    """
    Return the error of an SDK's code: a number of a native one, a word of the web's.

    Of which nothing is known is `Refused`, and leads to the next provider. None: nothing failed.
    """
    meaning: Meaning | None
    if isinstance(code, int):
        meaning = ERRORS.get(code, _UNKNOWN)
    else:
        meaning = WEB_ERRORS.get(code, _LICENCE if code.startswith("LICENSE_") else _UNKNOWN)
    if meaning is None:
        return None
    return meaning.raised(_short(code), provider=provider, operation=operation)


def reason_error(reason: int, *, provider: str, operation: str) -> HitlessError | None:
    """Return the error of a connection change's reason; None: nothing failed."""
    meaning = REASONS.get(reason, _UNKNOWN)
    if meaning is None:
        return None
    return meaning.raised(f"reason {reason}", provider=provider, operation=operation)


def quality_score(level: int) -> float | None:
    """Return a quality level as a score from 0 to 100; None: not known, or no such level."""
    return QUALITY.get(level)


def _short(code: int | str) -> int | str:
    """A code comes from a client: what is no word of the SDK is not quoted."""
    if isinstance(code, int) or (code.isascii() and code.replace("_", "").isalnum()):
        return code if isinstance(code, int) else code[:64]
    return "unreadable"
