"""
What the lab shows: a live table and a timeline on a terminal, plain lines elsewhere.

The figures are the viewer's: what it decoded, counted by the numbers in the picture.
"""

from __future__ import annotations

import sys
from collections import deque
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text


_TIMELINE = 16
_STYLE = {"error": "bold red", "warning": "yellow", "info": "", "debug": "dim", "lab": "bold cyan"}
_QUIET = {"health.failed", "provider.failed", "leg.silent"}
"""Told in the table or by the sentence that follows; the timeline tells each once."""


class Show:
    """
    Shows a lab.

    Args:
        live: Whether to draw a live table; None: if standard output is a terminal.
        color: Whether colours may be used.
    """

    def __init__(self, *, live: bool | None = None, color: bool = True) -> None:
        self._console = Console(no_color=not color, highlight=False, soft_wrap=True)
        is_live = sys.stdout.isatty() if live is None else live
        self._lines: deque[Text] = deque(maxlen=_TIMELINE)
        self._rows: list[tuple[str, ...]] = []
        self._begun_s: float | None = None
        self._last: dict[tuple[str, str], str] = {}
        self._live = (
            Live(console=self._console, refresh_per_second=8, get_renderable=self._draw)
            if is_live
            else None
        )

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, who: str, text: str, at_s: float, level: str = "lab") -> None:
        """Add a line to the timeline."""
        if self._begun_s is None:
            self._begun_s = at_s
        line = Text(f"{at_s - self._begun_s:7.2f} s  ", style="dim")
        line.append(f"{who:<10}", style="dim")
        line.append(text, style=_STYLE.get(level, ""))
        if self._live is None:
            self._console.print(line)
        else:
            self._lines.append(line)

    def news(self, who: str, news: dict[str, Any]) -> None:
        """Add news of the publisher or the viewer, unless it only repeats the last of its kind."""
        if news["level"] == "debug":
            return
        key = (who, news["name"])
        if news["name"] in _QUIET and self._last.get(key) == news["provider"]:
            return
        self._last[key] = news["provider"]
        text = news["sentence"]
        if news["name"] in ("failover.started", "migration.started"):
            text += f": {news['because']}"
        self.say(who, text, news["at_s"], news["level"])

    def table(self, rows: list[tuple[str, ...]]) -> None:
        """Show who carries the stream: (provider, process, fault, publisher, viewer)."""
        self._rows = rows

    def _draw(self) -> Group:
        table = Table(expand=False, title_justify="left")
        for head in ("stand-in", "process", "broken by", "publisher", "viewer"):
            table.add_column(head)
        for row in self._rows:
            table.add_row(*row)
        return Group(
            table,
            Panel(Group(*self._lines), title="timeline", title_align="left", expand=False),
        )
