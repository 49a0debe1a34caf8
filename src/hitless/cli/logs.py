"""The console: each event a line on standard error, its sentence first and then its fields."""

from __future__ import annotations

import json
import logging
import sys
from typing import Final

import click


_OF_EVERY_RECORD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
_STYLE: Final = {logging.ERROR: "red", logging.WARNING: "yellow", logging.DEBUG: "bright_black"}


class ConsoleFormatter(logging.Formatter):
    """One line per event: time of day, level, sentence, `field=value`."""

    default_time_format = "%H:%M:%S"
    default_msec_format = "%s.%03d"

    def __init__(self, *, color: bool) -> None:
        super().__init__()
        self._color = color

    def format(self, record: logging.LogRecord) -> str:
        line = f"{self.formatTime(record)} {record.levelname.lower():<7} {record.getMessage()}"
        if self._color and record.levelno in _STYLE:
            line = click.style(line, fg=_STYLE[record.levelno])
        fields = {k: v for k, v in vars(record).items() if k not in _OF_EVERY_RECORD}
        if fields:
            told = " ".join(f"{name}={_shown(value)}" for name, value in fields.items())
            line += "  " + (click.style(told, dim=True) if self._color else told)
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


def start_logging(*, verbose: bool, color: bool) -> None:
    """
    Tell events on standard error from now on.

    Args:
        verbose: Whether each step is told too, and not only what somebody may ask about.
        color: Whether to use colour.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(ConsoleFormatter(color=color))
    logger = logging.getLogger("hitless")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.DEBUG if verbose else logging.INFO)
    logger.propagate = False


def _shown(value: object) -> str:
    """Return a value as one word, quoted as in JSON where it holds blanks or quotes."""
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    is_word = text.isprintable() and text and not set(text) & set(' "=')
    return text if is_word else json.dumps(text, ensure_ascii=False)
