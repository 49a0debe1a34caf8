"""
AMF0, the encoding of RTMP's commands (Adobe, "Action Message Format AMF 0", 2007).

Only what commands and metadata use; what a server sends is bounded in depth and length.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final


Value = float | bool | str | None | Mapping[str, "Value"] | list["Value"]
"""What AMF0 can say. Undefined is None, a date is its number of milliseconds."""

_DEPTH_MAX: Final = 16
_NUMBER, _BOOLEAN, _STRING, _OBJECT, _NULL = 0, 1, 2, 3, 5
_ECMA_ARRAY, _OBJECT_END, _STRICT_ARRAY, _LONG_STRING = 8, 9, 10, 12


class NotAmf(ValueError):
    """These bytes are no AMF0."""


def encode(*values: Value) -> bytes:
    """Return values one after the other."""
    return b"".join(_encoded(value) for value in values)


def decode(data: bytes) -> list[Value]:
    """
    Return all values of a message.

    Raises:
        NotAmf: It is cut off, too deep, or of a type that no command has.
    """
    reader, found = _Reader(data), list[Value]()
    try:
        while reader.at < len(data):
            found.append(reader.value(0))
    except (struct.error, IndexError, UnicodeDecodeError) as exc:
        raise NotAmf("cut off, or not UTF-8") from exc
    return found


def _encoded(value: Value) -> bytes:
    match value:
        case None:
            return bytes([_NULL])
        case bool():
            return bytes([_BOOLEAN, value])
        case int() | float():
            return struct.pack(">Bd", _NUMBER, value)
        case str():
            data = value.encode()
            if len(data) > 0xFFFF:
                return struct.pack(">BI", _LONG_STRING, len(data)) + data
            return struct.pack(">BH", _STRING, len(data)) + data
        case list():
            head = struct.pack(">BI", _STRICT_ARRAY, len(value))
            return head + b"".join(_encoded(each) for each in value)
        case _:
            fields = b"".join(_encoded(name)[1:] + _encoded(each) for name, each in value.items())
            return bytes([_OBJECT]) + fields + bytes([0, 0, _OBJECT_END])


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data, self.at = data, 0

    def value(self, depth: int) -> Value:
        if depth > _DEPTH_MAX:
            raise NotAmf(f"nested more than {_DEPTH_MAX} deep")
        kind = self._data[self.at]
        self.at += 1
        if kind in (_OBJECT, _ECMA_ARRAY, _STRICT_ARRAY):
            return self._many(kind, depth)
        match kind:
            case 0:  # number
                return float(self._unpack(">d"))
            case 1:  # boolean
                return bool(self._unpack(">B"))
            case 2:  # string
                return self._text(self._unpack(">H"))
            case 5 | 6:  # null, undefined
                return None
            case 11:  # date
                ms = float(self._unpack(">d"))
                self._unpack(">h")
                return ms
            case 12:  # long string
                return self._text(self._unpack(">I"))
        raise NotAmf(f"type {kind}")

    def _many(self, kind: int, depth: int) -> Value:
        if kind == _OBJECT:
            return self._fields(depth)
        count = self._unpack(">I")
        if kind == _ECMA_ARRAY:  # the count is a hint; the end is marked
            return self._fields(depth)
        if count > len(self._data) - self.at:
            raise NotAmf("an array longer than its message")
        return [self.value(depth + 1) for _ in range(count)]

    def _fields(self, depth: int) -> dict[str, Value]:
        found: dict[str, Value] = {}
        while True:
            name = self._text(self._unpack(">H"))
            if not name and self._data[self.at] == _OBJECT_END:
                self.at += 1
                return found
            found[name] = self.value(depth + 1)

    def _text(self, length: int) -> str:
        if self.at + length > len(self._data):
            raise NotAmf("cut off")
        text = self._data[self.at : self.at + length].decode()
        self.at += length
        return text

    def _unpack(self, form: str) -> int:
        # int: also for ">d", whose callers make a float of it
        (found,) = struct.unpack_from(form, self._data, self.at)
        self.at += struct.calcsize(form)
        number: int = found
        return number
