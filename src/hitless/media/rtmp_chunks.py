"""
RTMP's chunk stream (Adobe, "Real-Time Messaging Protocol 1.0", section 5.3), without I/O.

Messages are cut into chunks; a chunk's header repeats only what changed since the last one of
the same chunk stream. Bytes go in, messages come out, and the other way round.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final


CHUNK_OUT: Final = 4096
"""Chunk size that we send with [bytes]; the protocol begins with 128."""

MESSAGE_MAX: Final = 4 * 1024 * 1024
"""Largest message that is taken [bytes]: a keyframe of 4 MiB."""

_CHUNK_DEFAULT: Final = 128
_CHUNK_STREAMS_MAX: Final = 64
_EXTENDED: Final = 0xFFFFFF


class Type(IntEnum):
    """Message types (sections 5.4 and 7.1)."""

    SET_CHUNK_SIZE = 1
    ABORT = 2
    ACKNOWLEDGEMENT = 3
    USER_CONTROL = 4
    WINDOW_ACKNOWLEDGEMENT_SIZE = 5
    SET_PEER_BANDWIDTH = 6
    AUDIO = 8
    VIDEO = 9
    DATA_AMF3 = 15
    COMMAND_AMF3 = 17
    DATA = 18
    COMMAND = 20
    AGGREGATE = 22


CHUNK_STREAM: Final = {Type.COMMAND: 3, Type.AUDIO: 4, Type.DATA: 5, Type.VIDEO: 6}
"""Chunk streams that we send on; 2 is the protocol's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """
    One message.

    Attributes:
        type: One of `Type`, or a number that we do not know.
        payload: Its body.
        timestamp: Media time [ms], modulo 2^32.
        stream: Message stream; 0 for the connection itself.
    """

    type: int
    payload: bytes
    timestamp: int = 0
    stream: int = 0


class NotRtmp(ValueError):
    """These bytes break the chunk stream's rules."""


def cut(message: Message) -> bytes:
    """
    Return a message as chunks of `CHUNK_OUT`.

    Every message begins with a full header (format 0): a few bytes more, and nothing to keep.
    """
    channel = CHUNK_STREAM.get(Type(message.type), 2)
    is_long = message.timestamp >= _EXTENDED
    extended = struct.pack(">I", message.timestamp) if is_long else b""
    stamp = _EXTENDED if is_long else message.timestamp
    head = struct.pack(">BI", channel, stamp << 8 | len(message.payload) >> 16)
    head += struct.pack(">HB", len(message.payload) & 0xFFFF, message.type)
    head += struct.pack("<I", message.stream) + extended
    parts = [head, message.payload[:CHUNK_OUT]]
    for at in range(CHUNK_OUT, len(message.payload), CHUNK_OUT):
        parts += [bytes([0xC0 | channel]), extended, message.payload[at : at + CHUNK_OUT]]
    return b"".join(parts)


@dataclass(slots=True)
class _Channel:
    """What one incoming chunk stream remembers."""

    timestamp: int = 0
    delta: int = 0
    length: int = 0
    type: int = 0
    stream: int = 0
    is_extended: bool = False
    body: bytearray = field(default_factory=bytearray)
    is_known: bool = False


class Joiner:
    """
    Makes messages out of incoming bytes.

    Attributes:
        chunk_size: Of the far side [bytes]; follows its Set Chunk Size by itself.
    """

    def __init__(self) -> None:
        self.chunk_size = _CHUNK_DEFAULT
        self._data = bytearray()
        self._channels: dict[int, _Channel] = {}

    def feed(self, data: bytes) -> list[Message]:
        """
        Take bytes in; return the messages that are complete now.

        Raises:
            NotRtmp: They are no chunk stream, or a message passes `MESSAGE_MAX`.
        """
        self._data += data
        found: list[Message] = []
        at = 0
        while (taken := self._chunk(at, found)) > 0:
            at += taken
        del self._data[:at]
        return found

    def _chunk(self, begin: int, found: list[Message]) -> int:
        """Take one chunk; return its length, or 0 if it is not there yet."""
        data = self._data
        if len(data) == begin or len(data) - begin < {0: 2, 1: 3}.get(data[begin] & 0x3F, 1):
            return 0
        form, number, at = self._basic_header(begin)
        known = self._channel(number, form)
        size = (11, 7, 3, 0)[form]
        if len(data) < at + size or len(data) < at + size + 4 * self._is_extended(known, form, at):
            return 0
        header = bytes(data[at : at + size])
        is_extended = self._is_extended(known, form, at)
        at += size
        extended = int.from_bytes(data[at : at + 4]) if is_extended else 0
        at += 4 * is_extended
        length = int.from_bytes(header[3:6]) if form < 2 else known.length
        if length > MESSAGE_MAX:
            raise NotRtmp(f"a message of {length} bytes")
        part = min(self.chunk_size, length - len(known.body))
        if len(data) < at + part:
            return 0
        self._channels[number] = known
        known.is_extended = is_extended
        if not known.body:
            self._begin(known, form, header, extended)
        elif form != 3:
            raise NotRtmp("a message begins inside another one")
        known.body += data[at : at + part]
        if len(known.body) == known.length:
            self._complete(known, found)
        return at + part - begin

    def _basic_header(self, at: int) -> tuple[int, int, int]:
        """Return format, number of the chunk stream, and where the message header begins."""
        form, number = self._data[at] >> 6, self._data[at] & 0x3F
        if number == 0:
            return form, 64 + self._data[at + 1], at + 2
        if number == 1:
            return form, 64 + self._data[at + 1] + (self._data[at + 2] << 8), at + 3
        return form, number, at + 1

    def _channel(self, number: int, form: int) -> _Channel:
        known = self._channels.get(number)
        if known is None:
            if form == 3 or len(self._channels) >= _CHUNK_STREAMS_MAX:
                raise NotRtmp("a chunk without a beginning, or too many chunk streams")
            known = _Channel()
        return known

    def _is_extended(self, known: _Channel, form: int, at: int) -> bool:
        if form == 3:
            return known.is_extended
        return int.from_bytes(self._data[at : at + 3]) == _EXTENDED

    def _begin(self, known: _Channel, form: int, header: bytes, extended: int) -> None:
        if form == 3 and not known.is_known:
            raise NotRtmp("a chunk without a beginning")
        if form != 3:
            stamp = extended if known.is_extended else int.from_bytes(header[:3])
            known.delta = stamp if form else 0
            if form == 0:
                known.timestamp = stamp
        if form < 2:
            known.length, known.type = int.from_bytes(header[3:6]), header[6]
        if form == 0:
            known.stream = int.from_bytes(header[7:11], "little")
        known.timestamp = (known.timestamp + known.delta) & 0xFFFFFFFF
        known.is_known = True

    def _complete(self, known: _Channel, found: list[Message]) -> None:
        message = Message(
            type=known.type,
            payload=bytes(known.body),
            timestamp=known.timestamp,
            stream=known.stream,
        )
        known.body.clear()
        if message.type == Type.SET_CHUNK_SIZE and len(message.payload) >= 4:
            self.chunk_size = int.from_bytes(message.payload[:4]) & 0x7FFFFFFF
            if not 1 <= self.chunk_size:
                raise NotRtmp("a chunk size of 0")
        elif message.type == Type.ABORT and len(message.payload) >= 4:
            aborted = self._channels.get(int.from_bytes(message.payload[:4]))
            if aborted is not None:
                aborted.body.clear()
        found.append(message)
