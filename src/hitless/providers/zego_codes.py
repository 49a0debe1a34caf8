"""
ZEGOCLOUD's codes, mapped once: the server API's, per group of actions; the SDKs'; quality.

From ZEGOCLOUD's documents as of 2026-08-21 (`return-codes.mdx`, the API's pages) and the web SDK
3.12.0. Numbers overlap between groups of the API (3 is "too long" for rooms and "authentication
failed" for media), so each answer is read by its action. The advice is ours: who was kicked or
forbidden stays away, or a publisher that was removed on purpose would come back.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from typing import Final

from ..errors import (
    ContractBroken,
    CredentialsRejected,
    HitlessError,
    LocalFault,
    MediaLost,
    NotOnAir,
    Refused,
    Retry,
    Unreachable,
)
from .codes import Meaning


class Group(Enum):
    """A group of actions with numbers of its own."""

    ROOM = auto()
    MEDIA = auto()


ACTIONS: Final[Mapping[str, Group]] = {
    "DescribeUserNum": Group.ROOM,
    "DescribeSimpleStreamList": Group.ROOM,
    "KickoutUser": Group.ROOM,
    "AddStream": Group.ROOM,
    "DeleteStream": Group.ROOM,
    "DescribeRTCStreamState": Group.MEDIA,
    "ForbidRTCStream": Group.MEDIA,
    "ResumeRTCStream": Group.MEDIA,
    "RTMPDispatchV2": Group.MEDIA,
}

RATE_S: Final = 1.0
"""How long to stay away after a rate limit [s]: limits are counted per second."""


def _broken(says: str) -> Meaning:
    return Meaning(error=ContractBroken, retry=Retry.NEXT, says=says)


def _no(says: str) -> Meaning:
    return Meaning(error=Refused, retry=Retry.NEXT, says=says)


def _again(says: str) -> Meaning:
    return Meaning(error=Refused, retry=Retry.SAME, says=says)


def _absent(says: str) -> Meaning:
    return Meaning(error=Refused, retry=Retry.NEXT, says=says, is_absent=True)


def _out(says: str, retry: Retry = Retry.SAME) -> Meaning:
    return Meaning(error=Unreachable, retry=retry, says=says)


def _gone(says: str) -> Meaning:
    return Meaning(error=Refused, retry=Retry.NEVER, says=says)


_EXPIRED: Final = Meaning(
    error=CredentialsRejected, retry=Retry.SAME, says="the token has expired", is_renewable=True
)
_SIGNATURE: Final = Meaning(
    error=CredentialsRejected,
    retry=Retry.SAME,
    says="the signature is wrong: compare App ID and ServerSecret with ZEGOCLOUD's console",
    is_renewable=True,
)
_CLOCK: Final = Meaning(
    error=CredentialsRejected,
    retry=Retry.NEXT,
    says="the time of the signature is not accepted: is this machine's clock right to 10 min?",
)
_APP: Final = Meaning(
    error=CredentialsRejected,
    retry=Retry.NEXT,
    says="no such App ID: compare it with ZEGOCLOUD's console",
)
_RATE: Final = Meaning(
    error=Refused,
    retry=Retry.NEXT,
    says="too many calls: others use this account as well, or ask for a higher limit",
    retry_after_s=RATE_S,
)
_NOT_ENABLED: Final = _no("not enabled for this App ID: ZEGOCLOUD's support enables it")
_ARGUMENT: Final = _broken("a bad argument")
_INTERNAL: Final = _again("an error inside ZEGOCLOUD")
_NO_ROOM: Final = _absent("no such room: rooms exist while somebody is in them")
_NO_USER: Final = _absent("no such user is online")
_FAILED: Final = _again("the request failed")
_IS_TEST: Final = _broken("IsTest is wrong: it is for projects of 2021-11-16 and before only")

COMMON: Final[Mapping[int, Meaning]] = {
    100000000: _broken("the Host header is wrong"),
    100000001: _APP,
    100000002: _broken("no Timestamp"),
    100000003: _broken("Timestamp is not in whole seconds"),
    100000004: _CLOCK,
    100000005: _SIGNATURE,
    100000006: _broken("no Action"),
    100000007: _broken("no such Action"),
    100000008: _broken("no SignatureNonce"),
    100000009: _broken("no Signature"),
    100000010: _APP,
    100000011: _APP,
    100000013: _broken("no SignatureVersion"),
    100000014: _broken("only SignatureVersion 2.0 is known"),
    100000015: _again("an error inside ZEGOCLOUD's gateway"),
    100000016: _no("this App ID has no production environment: see the project's settings"),
    100000017: _NOT_ENABLED,
}
"""Codes of the gateway, for every action."""

ROOM: Final[Mapping[int, Meaning]] = {
    1: _FAILED,
    2: _ARGUMENT,
    3: _broken("an argument is too long"),
    8: _broken("decoding failed"),
    9: _no("this call is not permitted: ZEGOCLOUD's support permits it"),
    104: _NO_ROOM,
    105: _NO_USER,
    123: _again("the stream could not be announced"),
    124: _again("the stream could not be withdrawn"),
    138: _absent("no such stream in the room"),
    154: _again("the list could not be had"),
    206: _RATE,
    207: _RATE,
    1012: _no("several users act on the same stream"),
    5024: _NO_ROOM,
    50001: _NO_ROOM,
    50003: _NO_USER,
    50011: _broken("too many users in one call: at most 5"),
}

MEDIA: Final[Mapping[int, Meaning]] = {
    1: _FAILED,
    2: _ARGUMENT,
    3: _SIGNATURE,
    1001: _no("no node could be found"),
    1002: _no("no node to publish to"),
    1003: _no("no node to play from"),
    1005: _no("the App is not online"),
    1006: _ARGUMENT,
    1010: _RATE,
    3000: _APP,
    3001: _INTERNAL,
    3002: _CLOCK,
    3003: _no("the App has no token configured"),
    5000: _INTERNAL,
    5001: _INTERNAL,
    5002: _INTERNAL,
    5003: _SIGNATURE,
    5005: _broken("an invalid request"),
    5006: _INTERNAL,
    5007: _RATE,
    30002: _RATE,
    30003: _INTERNAL,
    30004: _IS_TEST,
    30005: _APP,
    30006: _broken("a StreamId in the list is not allowed"),
    30009: _broken("the StreamId is not allowed: at most 256 of letters, digits, - and _"),
    30010: _broken("no such kind of dispatch"),
    30011: _broken("the client's address is not valid"),
    40005: _SIGNATURE,
    41004: _absent("no such stream"),
    41006: _absent("the stream is closed"),
    42001: _again("the stream could not be forbidden"),
    42002: _again("the stream could not be allowed again"),
}

SDK: Final[Mapping[int, Meaning]] = {
    1000002: _again("not in the room: enter it first"),
    1000017: Meaning(error=LocalFault, retry=Retry.NEVER, says="this device has no network"),
    1001004: _APP,
    1002031: _out("no answer to the login"),
    1002033: Meaning(
        error=CredentialsRejected,
        retry=Retry.SAME,
        says="the token is not accepted",
        is_renewable=True,
    ),
    1002050: _gone("the same user id entered elsewhere: give each client its own"),
    1002053: _out("the SDK gave up reconnecting", Retry.NEXT),
    1002055: _gone("kicked out by the backend; a new token does not lift it"),
    1002078: _EXPIRED,
    1002099: _again("an error of the server"),
    1003025: _gone("publishing this stream is forbidden by the backend"),
    1003028: _no("another publisher has this stream id"),
    1004002: Meaning(error=NotOnAir, retry=Retry.SAME, says="nobody publishes this stream"),
    1004020: Meaning(error=MediaLost, retry=Retry.NEXT, says="playing was interrupted"),
    1004025: _gone("playing this stream is forbidden by the backend"),
    1100002: _out("no answer in time"),
    1100003: _out("the connection broke"),
    1102001: _out("no heartbeat for 90 s", Retry.NEXT),
    1102016: Meaning(
        error=CredentialsRejected,
        retry=Retry.NEXT,
        says="this is no token04: whoever makes it makes it wrongly",
    ),
    1102018: _EXPIRED,
    1102023: _out("the media server cannot be reached"),
    1103020: _out("no address to publish to"),
    1103021: _out("no connection to publish over"),
    1103028: _out("ICE found no path to publish over"),
    1103051: _out("the SDK gave up publishing again", Retry.NEXT),
    1104020: _out("no address to play from"),
    1104021: _out("no connection to play over"),
    1104028: _out("ICE found no path to play over"),
    1104031: _out("the SDK gave up playing again", Retry.NEXT),
}
"""
Codes of the SDKs' callbacks. An expired token is 1102018 on the web and 1002078 on native.
"""

_UNKNOWN: Final = _no("a code that is not documented")

QUALITY: Final[Mapping[int, float | None]] = {
    -1: None,  # unknown
    0: 100.0,  # excellent
    1: 80.0,
    2: 60.0,
    3: 35.0,
    4: 0.0,  # die
    5: None,  # unknown on native SDKs, which is unconfirmed
}
"""What `networkQuality` says, as a score from 0 to 100 (see `scale`); None: not known."""


def api_meaning(action: str, code: int) -> Meaning:
    """Return what a code in an answer to `action` means; never for 0, which is success."""
    own = ROOM if ACTIONS[action] is Group.ROOM else MEDIA
    return COMMON.get(code) or own.get(code) or _UNKNOWN


def sdk_error(code: int, *, provider: str, operation: str) -> HitlessError:
    """Return the error of an SDK's code; one that is not known leads to the next provider."""
    return SDK.get(code, _UNKNOWN).raised(code, provider=provider, operation=operation)


def quality_score(level: int) -> float | None:
    """Return a quality level as a score from 0 to 100; None: not known, or no such level."""
    return QUALITY.get(level)
