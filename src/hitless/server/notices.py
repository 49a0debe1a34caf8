"""What clients are told of a stream, as messages."""

from __future__ import annotations

from ..client import protocol
from .store_streams import StreamRow


def placement(row: StreamRow, *, is_own: bool = False, delay_s: float = 0.0) -> protocol.Placement:
    """Return a row as the message that tells of it."""
    return protocol.Placement(
        stream=row.id,
        epoch=row.epoch,
        provider=row.provider,
        because=row.because,
        is_own=is_own,
        delay_s=delay_s,
    )


def fenced(row: StreamRow) -> protocol.Over:
    """Return what a publisher is told that another one has taken over from."""
    because = f"another client publishes it since epoch {row.epoch}"
    return protocol.Over(stream=row.id, because=because, epoch=row.epoch)


def unknown(stream: str) -> protocol.Problem:
    """Return what a publisher is told whose stream is not known here any more."""
    message = "there is no such stream any more: start it anew"
    return protocol.Problem(code="unknown-stream", message=message, stream=stream)
