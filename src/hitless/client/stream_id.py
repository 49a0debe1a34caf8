"""What may be the id of a stream: one rule for the library and for every command."""

from __future__ import annotations

from typing import Final

from ..errors import ConfigError


CHARS_MAX: Final = 200


def check_stream_id(stream: str) -> None:
    """
    Check a stream's id. It goes into URLs percent-encoded, so most characters are fine.

    Raises:
        ConfigError: It is empty, too long, or has control characters.
    """
    if not isinstance(stream, str) or not stream.strip():
        raise ConfigError(f"the stream id is empty: give 1 to {CHARS_MAX} characters")
    if len(stream) > CHARS_MAX:
        raise ConfigError(f"the stream id has {len(stream)} characters: give 1 to {CHARS_MAX}")
    if not stream.isprintable() or stream in (".", ".."):
        raise ConfigError(
            f"the stream id {stream!r} has characters that no URL can carry: leave out control "
            "characters"
        )
