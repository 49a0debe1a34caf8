"""
What is said between a viewer and the process that holds Agora's native SDK.

Messages over two pipes: one byte of kind, four bytes of length (big-endian), the body. Bodies are
bounded in both directions, so that neither side can be made to hold more than that of one message.
Only the standard library is used here: the process of the SDK imports nothing else of ours.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import BinaryIO, Final


HEAD: Final = struct.Struct(">BI")
"""Kind and length of the body [byte]."""

VIDEO: Final = struct.Struct(">Bdq")
"""Before a picture: codec as the SDK numbers them, when it came [s, `time.monotonic`, which all
processes of a machine share], its presentation time [ms; 0: not known]."""

AUDIO: Final = struct.Struct(">dq")
"""Before sound (int16 [n, 2] at 48 kHz, as this machine writes it): the same two times."""

FAILED: Final = struct.Struct(">Bi")
"""What failed, and the SDK's number for it."""

BODY_MAX: Final = 4 << 20
"""Longest body from the SDK's process [byte]: a keyframe of 4K video has less than 2 MiB."""

ORDER_MAX: Final = 1 << 16
"""Longest body to the SDK's process [byte]: a token has less than 2 KiB."""

SAMPLE_RATE: Final = 48_000
CHANNELS: Final = 2


class Order(IntEnum):
    """What the viewer says."""

    JOIN = 1
    """JSON: `app_id`, `channel`, `uid`, `token`, and `publishers`, the first and last uid of those
    who are listened to."""
    KEYFRAME = 2
    LEAVE = 3


class Word(IntEnum):
    """What the SDK's process says."""

    READY = 1
    """The SDK is there and was initialised."""
    CONNECTED = 2
    HOST = 3
    """Somebody who may publish is in the channel."""
    VIDEO = 4
    AUDIO = 5
    DROPPED = 6
    """Media were dropped, because the viewer does not read."""
    FAILED = 7
    """The leg is over, whatever comes after."""


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
