"""
The lab's story: a stream goes on air, its provider is killed, the stream goes on; then a move
that nobody notices. Afterwards the lab stays up, to be broken by hand.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from .drill import STREAM, Run, where
from .process import Process
from .show import Show
from .stage import Stage


POLICY: Final = {"health_interval_s": 2.0, "overlap_s": 5.0}
"""The lab does not make anybody wait 30 s for a poll; all else has its default."""

_REFRESH_S = 0.25


class Story:
    """
    Tells the story on a stage.

    Args:
        stage: The processes.
        show: Where it is told.
        source: What the publisher sends.
    """

    def __init__(self, stage: Stage, show: Show, source: str) -> None:
        self.stage, self.show, self.source = stage, show, source
        self.publisher: Process | None = None
        self.viewer: Process | None = None
        self.measured: list[dict[str, Any]] = []
        self._loop = asyncio.get_running_loop()

    async def begin(self) -> None:
        """Put the stream on air and a viewer in front of it."""
        names = ", ".join(self.stage.names)
        self._say(f"{names}: stand-ins on this machine, not those companies' services")
        repeat = ["--repeat"] if "/" in self.source or "." in self.source else []
        behind_relay = await self.stage.start_relay()
        ends = await asyncio.gather(
            self._start("publisher", f"--source={self.source}", *repeat, urls=behind_relay),
            self._start("viewer"),
        )
        self.publisher, self.viewer = ends
        run = Run("lab", self.stage)
        for end in ends:
            await run.started(end)
        self._say(f"{STREAM} is on air; the viewer decodes it")

    async def _start(
        self, role: str, *options: str, urls: Mapping[str, str] | None = None
    ) -> Process:
        end = await self.stage.start_end(role, STREAM, *options, policy=POLICY, urls=urls)
        for line in end.lines:
            self._heard(role, line)
        end.listeners.append(lambda line: self._heard(role, line))
        return end

    async def tell(self) -> None:
        """Kill the provider on air, measure, restore it, and make one planned migration."""
        assert self.publisher is not None
        assert self.viewer is not None
        await asyncio.sleep(4.5)
        victim = where(self.viewer) or self.stage.names[0]
        self._say(f"kill -9 of {victim}, which carries the stream")
        event_s = self._loop.time()
        await self.stage.break_(victim, "killed")
        await self._moved_from(victim)
        await self._measure("after the kill", event_s, 3.5)
        self._say(f"{victim} is started again")
        await self.stage.heal(victim)
        await asyncio.sleep(1.0)
        here = where(self.viewer)
        target = next(n for n in reversed(self.stage.names) if n not in (here, victim))
        self._say(f"the server makes {target} the default: a planned migration")
        event_s = self._loop.time()
        await self.stage.list_as(target, is_default=True)
        await self._moved_from(here)
        await self._measure("across the planned migration", event_s, 6.0)

    async def refresh(self) -> None:
        """Keep the table up to date until cancelled."""
        while True:
            self.show.table(self._rows())
            await asyncio.sleep(_REFRESH_S)

    def status(self) -> dict[str, Any]:
        """Return where everything stands, for `hitless lab status`."""
        return {
            "stream": STREAM,
            "stand_ins": [
                {
                    "name": name,
                    "url": self.stage.urls[name],
                    "pid": self.stage.stands[name].pid,
                    "is_running": self.stage.stands[name].child.returncode is None,
                    "broken_by": self.stage.broken.get(name, []),
                }
                for name in self.stage.names
            ],
            "backend": self.stage.urls["backend"],
            "ends": {
                end.name: (end.last("status") or {})
                for end in (self.publisher, self.viewer)
                if end is not None
            },
            "measured": self.measured,
        }

    def _rows(self) -> list[tuple[str, ...]]:
        rows = []
        for name in self.stage.names:
            stand = self.stage.stands[name]
            runs = stand.child.returncode is None
            ends = []
            for end in (self.publisher, self.viewer):
                status = end.last("status") if end else None
                carries = bool(status) and name in (status or {}).get("legs", ())
                is_on_air = end is not None and where(end) == name
                ends.append("ON AIR" if is_on_air else "leg open" if carries else "")
            broken = ", ".join(self.stage.broken.get(name, []))
            rows.append((name, str(stand.pid) if runs else "dead", broken, *ends))
        return rows

    async def _moved_from(self, name: str) -> None:
        for end in (self.publisher, self.viewer):
            assert end is not None
            await end.until(
                lambda end=end: where(end) not in ("", name),  # type: ignore[misc]
                what=f"move away from {name}",
            )

    async def _measure(self, what: str, event_s: float, window_s: float) -> None:
        assert self.viewer is not None
        await asyncio.sleep(max(0.0, event_s + window_s - self._loop.time()))
        from_s, to_s = event_s - 0.5, event_s + window_s
        said = await self.viewer.ask("measure", "measured", from_s=from_s, to_s=to_s)
        report = said["report"]
        self.measured.append({"what": what, **report})
        lost = report["frames_lost"]
        frames = "" if lost is None else f", {lost} frames lost"
        self._say(
            f"gap {what}: {report['gap_s']:.3f} s{frames} "
            f"(longest interval between pictures {report['longest_interval_s'] * 1000:.0f} ms)"
        )

    def _heard(self, who: str, line: dict[str, Any]) -> None:
        if line["type"] == "news":
            self.show.news(who, line)
        elif line["type"] == "over":
            self.show.say(who, f"over: {line['message']}", line["at_s"], "error")

    def _say(self, text: str) -> None:
        self.show.say("lab", text, self._loop.time())
