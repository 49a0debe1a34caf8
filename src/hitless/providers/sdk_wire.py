"""
What is said between a leg and the process that holds a provider's native SDK.

Messages over two pipes: one byte of kind, four bytes of length (big-endian), the body. Bodies are
bounded in both directions, so that neither side can be made to hold more than that of one message.
Only the standard library is used here, so that the process of an SDK can do without the rest.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import BinaryIO, Final


HEAD: Final = struct.Struct(">BI")
"""Kind and length of the body [byte]."""

VIDEO: Final = struct.Struct(">Bdq")
"""Before a picture that came: codec (1: VP8, 2: H.264), when it came [s, `time.monotonic`, which
all processes of a machine share], its presentation time [ms; 0: not known]."""

AUDIO: Final = struct.Struct(">dq")
"""Before sound that came (int16 [n, 2] at 48 kHz, as this machine writes it): the two times."""

SENT: Final = struct.Struct(">?q")
"""Before a frame that is published: whether it is a keyframe, its media time [ticks]."""

SIGNS: Final = struct.Struct(">dB")
"""When [s, as above], and which signs of life there were: the sum of `Sign`."""

RENEWED: Final = struct.Struct(">i")
"""What the SDK said to a new token: its number, 0 if it took it."""

FAILED: Final = struct.Struct(">Bi")
"""What failed, and the SDK's number for it."""

BODY_MAX: Final = 4 << 20
"""Longest body with media [byte]: a keyframe of 4K video has less than 2 MiB."""

ORDER_MAX: Final = 1 << 16
"""Longest body to a process that only views [byte]: a token has less than 2 KiB."""

SAMPLE_RATE: Final = 48_000
CHANNELS: Final = 2


class Order(IntEnum):
    """What the leg says."""

    JOIN = 1
    """JSON: what to join, in the provider's own terms, and the token."""
    KEYFRAME = 2
    LEAVE = 3
    VIDEO = 4
    """A picture to publish: `SENT`, and the frame."""
    AUDIO = 5
    """A packet of Opus to publish: the same."""
    DROPPED = 6
    """Never sent: stands where orders wait for media that were dropped."""
    RENEW = 7
    """A new token, to go on with."""


class Word(IntEnum):
    """What the SDK's process says."""

    READY = 1
    """The SDK is there and was initialised."""
    CONNECTED = 2
    """It is in; the body is the provider's name for this session, or empty."""
    HOST = 3
    """Somebody who may publish is there."""
    VIDEO = 4
    AUDIO = 5
    DROPPED = 6
    """Media were dropped, because one of both does not keep up."""
    FAILED = 7
    """The leg is over, whatever comes after."""
    SIGNS = 8
    """Signs of life that frames do not show."""
    KEYFRAME = 9
    """Whoever views needs a keyframe."""
    RENEWED = 10
    """The answer to `Order.RENEW`."""


class Sign(IntEnum):
    """A sign of life; they are added up."""

    AUDIO = 1
    """Viewing: packets of sound came. Publishing: the far side acknowledged some."""
    VIDEO = 2
    """The same of pictures."""
    PATH = 4
    """The far side sent anything at all."""


class Fault(IntEnum):
    """What failed."""

    MISSING = 1
    """The package is not installed."""
    LIBRARY = 2
    """The package cannot be loaded: most often its native library is not there."""
    ERROR = 3
    """A code of the SDK's `on_error`, or what a call returned."""
    REASON = 4
    """A reason of a connection change."""
    CODEC = 5
    """Pictures in a codec that is not decoded here."""
    SOUND = 6
    """Sound in another form than was asked for."""
    TROUBLE = 7
    """An exception nobody expected."""
    DENIED = 8
    """The token was not taken."""
    AWAY = 9
    """The service did not answer, or not as it should."""
    AGAIN = 10
    """The SDK lost its connection, and would try again by itself."""
    LEFT = 11
    """Whoever was viewed is gone."""


def message(kind: int, body: bytes = b"") -> bytes:
    """Return one message."""
    return HEAD.pack(kind, len(body)) + body


def read(source: BinaryIO, limit: int) -> tuple[int, bytes] | None:
    """
    Return kind and body of the next message, waiting for it; None: the other side is gone.

    Raises:
        ValueError: Its body would be longer than `limit` [byte].
    """
    head = source.read(HEAD.size)
    if len(head) < HEAD.size:
        return None
    kind, length = HEAD.unpack(head)
    if length > limit:
        raise ValueError(f"a message of {length} bytes")
    body = source.read(length)
    return (kind, body) if len(body) == length else None
