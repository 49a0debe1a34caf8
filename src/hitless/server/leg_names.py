"""What a stream is called at a provider: the name of its channel or room."""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from typing import Final

from ..errors import ConfigError


CHANNEL: Final = "{stream}-{epoch}"
"""What a stream is called, unless the provider's option `channel` says something else."""

NAME_CHARS_MAX: Final = 64
"""Agora's channels have up to 64 bytes; ZEGO's ids may be longer."""

# Something that is no digit stands between the two: else stream `a` of epoch 12 and stream `a1`
# of epoch 2 would meet in `a12`.
_TEMPLATE: Final = re.compile(
    r"[A-Za-z0-9_-]*\{stream\}(?P<epoch>[0-9]*[A-Za-z_-][A-Za-z0-9_-]*\{epoch\})?[A-Za-z0-9_-]*"
)
_EPOCH_DIGITS_MAX: Final = 16
_DIGEST_MARK: Final = "h_"
_DIGEST_CHARS: Final = 32
_PLAIN: Final = re.compile(rf"(?!{_DIGEST_MARK})[A-Za-z0-9_-]+")


class LegNames:
    """
    Names of legs, each of letters, digits, `_` and `-`, which every provider takes.

    Where a stream's own id has something else or is too long, a digest stands for it; no two
    streams share a name.

    Args:
        template: Text around `{stream}`, and after that `{epoch}` where the name is a fence: a
            publisher of an older placement is somewhere else.

    Raises:
        ConfigError: No such text, or too long.
    """

    def __init__(self, template: object = CHANNEL) -> None:
        found = _TEMPLATE.fullmatch(template) if isinstance(template, str) else None
        if found is None:
            raise ConfigError(
                "channel: give {stream} and after it, if you like, {epoch}, with letters, digits, "
                f"'_' and '-' around them and not only digits between them, as in {CHANNEL}"
            )
        self._template = found.string
        self._has_epoch = found["epoch"] is not None
        around = self._template.format(stream="", epoch="9" * _EPOCH_DIGITS_MAX)
        self._stream_chars_max = NAME_CHARS_MAX - len(around)
        if self._stream_chars_max < len(_DIGEST_MARK) + _DIGEST_CHARS:
            raise ConfigError(f"channel: too long, a name has up to {NAME_CHARS_MAX} characters")

    def name(self, stream: str, epoch: int) -> str:
        """Return what the leg of a stream is called in the placement of `epoch`."""
        if len(stream) > self._stream_chars_max or not _PLAIN.fullmatch(stream):
            stream = _DIGEST_MARK + digest(b"", stream)[:_DIGEST_CHARS]
        return self._template.format(stream=stream, epoch=epoch)

    def said(self, epoch: int) -> Mapping[str, int]:
        """Return the epoch if names carry it: a client sees by it that a name is an old one."""
        return {"epoch": epoch} if self._has_epoch else {}


def digest(key: bytes, *parts: str) -> str:
    """Return 64 hexadecimal digits that stand for texts; only the last may hold a NUL."""
    octets = "\0".join(parts).encode("utf-8", "surrogatepass")
    return hmac.digest(key, octets, "sha256").hex()
