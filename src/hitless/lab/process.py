"""A process of the lab, as whoever started it knows it: what it says, and orders to it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import Callable
from typing import Any, Final, cast

from ..errors import LocalFault


START_S_MAX: Final = 20.0
"""A process of the lab says that it is ready within this time [s], on a busy machine too."""

_LINES_KEPT = 20_000

Line = dict[str, Any]
"""One line of JSON (Any: each type has fields of its own)."""


class Process:
    """A process of the lab that says things as lines of JSON and may take orders likewise."""

    def __init__(self, name: str, child: asyncio.subprocess.Process) -> None:
        self.name, self.child = name, child
        self.lines: deque[Line] = deque(maxlen=_LINES_KEPT)
        self.listeners: list[Callable[[dict[str, Any]], None]] = []
        self._changed = asyncio.Condition()
        self._reading = asyncio.create_task(self._read(), name=f"lab: read {name}")
        self._total = 0
        self.is_over = False

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.child.pid

    def last(self, type: str, **fields: object) -> Line | None:
        """Return the newest line of a type with these fields, or None."""
        for line in reversed(self.lines):
            if line["type"] == type and all(line.get(k) == v for k, v in fields.items()):
                return line
        return None

    def news(self, name: str | None = None) -> list[dict[str, Any]]:
        """Return what it told, of one kind or of all."""
        return [x for x in self.lines if x["type"] == "news" and name in (None, x["name"])]

    async def order(self, do: str, **fields: object) -> None:
        """Give an order. A process that is gone takes none, silently."""
        assert self.child.stdin is not None
        with contextlib.suppress(ConnectionError, RuntimeError):
            self.child.stdin.write((json.dumps({"do": do, **fields}) + "\n").encode())
            await self.child.stdin.drain()

    async def ask(self, do: str, answer: str, **fields: object) -> dict[str, Any]:
        """Give an order and return the next line of the type `answer`."""
        since = self._total
        await self.order(do, **fields)

        def answered() -> Line | None:
            newer = self._total - since
            for line in list(self.lines)[-newer:] if newer else ():
                if line["type"] in (answer, "refused"):
                    return line
            return None

        return cast(dict[str, Any], await self.until(answered, what=answer))

    async def until(
        self, found: Callable[[], Any], *, what: str, limit_s: float = START_S_MAX
    ) -> Any:
        """
        Wait until `found()` is true, looking again after each line, and return it.

        Raises:
            LocalFault: It did not come to that in time, or the process ended first.
        """
        try:
            async with asyncio.timeout(limit_s), self._changed:
                while not (value := found()):
                    if self.is_over:
                        raise LocalFault(f"{self.name} ended before {what}")
                    await self._changed.wait()
                return value
        except TimeoutError:
            raise LocalFault(f"{self.name}: no {what} within {limit_s:g} s") from None

    async def gone(self) -> None:
        """Wait until it has said its last word."""
        await asyncio.wait([self._reading])

    async def aclose(self) -> None:
        """Stop listening. The guard ends the process."""
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)

    async def _read(self) -> None:
        assert self.child.stdout is not None
        try:
            while line := await self.child.stdout.readline():
                try:
                    said = json.loads(line)
                except ValueError:
                    continue
                said.setdefault("type", "hello")
                self.lines.append(said)
                self._total += 1
                for listener in self.listeners:
                    listener(said)
                async with self._changed:
                    self._changed.notify_all()
        finally:
            self.is_over = True
            async with self._changed:
                self._changed.notify_all()
