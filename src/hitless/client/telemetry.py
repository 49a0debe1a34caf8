"""
What happened, told once and heard everywhere: log, news, record.

The library logs under the standard logger `hitless` and configures nothing: a program that sets
up `logging` sees the sentences of `core/catalogue.py`, one that uses structlog sees the fields.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import structlog

from ..core.catalogue import CATALOGUE, sentence
from ..core.events import Announce, Event
from ..core.policy import Policy
from ..core.replay import encode, header
from ..errors import LocalFault


logging.getLogger("hitless").addHandler(logging.NullHandler())  # silent until a program asks
log: structlog.stdlib.BoundLogger = structlog.wrap_logger(
    logging.getLogger("hitless"),
    wrapper_class=structlog.stdlib.BoundLogger,
    processors=[structlog.stdlib.filter_by_level, structlog.stdlib.render_to_log_kwargs],
)

_RECORD_BYTES_MAX = 64 * 2**20
"""A record stops growing here; days of an ordinary stream fit."""


def words(news: Announce) -> str:
    """Return an event's sentence, as the console says it."""
    fields = {
        "provider": news.provider,
        "because": news.because,
        "stream": news.stream,
        **news.fields,
    }
    return sentence(news.name, **fields)


def write_log(news: Announce) -> None:
    """Log one event: its sentence is static per event, its fields are structured."""
    level = CATALOGUE[news.name].level.value
    emit: Callable[..., Any] = getattr(log, level)
    extra = {"event_name": news.name, "because": news.because, **news.fields}
    if news.stream is not None:
        extra["stream"] = news.stream
    if news.provider is not None:
        extra["provider"] = news.provider
    emit(words(news), **extra)


class Record:
    """
    The events of one client with their times, as lines of JSON: `hitless replay` reruns them.

    Holds names, times and reasons; never a credential, for events carry none. A disk that is full
    ends the record, not the stream.

    Raises:
        LocalFault: The file cannot be opened for writing.
    """

    def __init__(self, path: Path, policy: Policy, seed: int) -> None:
        self.path = path
        self._size = 0
        try:
            self._file: TextIO | None = path.open("w", encoding="utf-8")
        except OSError as exc:
            raise LocalFault(f"cannot write the record {path}: {exc.strerror}") from exc
        self._write(header(policy, seed))

    def add(self, event: Event, now: float) -> None:
        """Append one event."""
        self._write(encode(event, now))

    def close(self) -> None:
        """Close the file. Idempotent."""
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            except OSError as exc:
                log.warning("record lost", because=exc.strerror)

    def _write(self, line: dict[str, Any]) -> None:
        if self._file is None:
            return
        text = json.dumps(line, separators=(",", ":")) + "\n"
        self._size += len(text)
        try:
            if self._size > _RECORD_BYTES_MAX:
                raise OSError(0, f"larger than {_RECORD_BYTES_MAX >> 20} MiB")
            self._file.write(text)
            self._file.flush()
        except OSError as exc:
            log.warning("record stopped", because=exc.strerror)
            self.close()
