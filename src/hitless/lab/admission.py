"""
Say no before it hurts those who are already watching.

A process that forwards media saturates quietly: STUN answers come late while RTP still flows,
consent expires after half a minute, and every viewer is lost at once. Loop lag does not show it
in time; media that waits to be forwarded does. So joins are refused above `CPU_MAX` of a core,
with a late loop or with media that waits, and those admitted are spaced so that set-ups never
eat what forwarding needs.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable
from typing import Final

from ..errors import Refused


CPU_MAX: Final = 0.7
"""Share of a core over the last second above which joins are refused [0..1]; see bench_stand."""
CPU_PACED: Final = 0.6
"""Share of a core over the last `_SHORT` samples above which a set-up waits its turn [0..1]."""
LAG_S_MAX: Final = 0.1
"""Lateness of the loop above which joins are refused [s]."""
BEHIND_S_MAX: Final = 0.1
"""Joins are refused when a publisher's media has been coming faster than it is forwarded for this
long [s]: so a core that others use too, where the CPU share stays low, is noticed as well."""
HANDSHAKES_MAX: Final = 4
"""Set-ups at a time. One takes some 60 ms, of which 20 ms are ICE pacing and most is waiting."""
WAIT_S_MAX: Final = 1.0
"""A join that found no turn within this time is refused [s]: clients ask again or elsewhere."""
WAITING_MAX: Final = 128
"""Joins waiting for their turn; one more is refused at once."""
SLOT_S_MAX: Final = 1.0
"""A set-up that is not connected after this time no longer counts as one [s]."""
RETRY_AFTER_S: Final = 1
"""Advice with every refusal [s]."""

_SAMPLE_S: Final = 0.05
_WINDOW: Final = 20
_SHORT: Final = 3


class Load:
    """
    How busy this process is, sampled every 50 ms over the last second.

    Attributes:
        cpu: Share of one core, user and system, over the last second [0..1].
        cpu_now: The same over the last 150 ms.
        lag_s: Worst lateness of the loop over the last second [s].
        lag_s_worst: The same since the start [s].
        behind_s: How long a publisher's media has been waiting, just now [s].
    """

    def __init__(self, behind_s: Callable[[], float]) -> None:
        self._behind_s = behind_s
        self._samples: deque[tuple[float, float]] = deque(maxlen=_WINDOW + 1)
        self._lags: deque[float] = deque(maxlen=_WINDOW)
        self.cpu = 0.0
        self.cpu_now = 0.0
        self.lag_s = 0.0
        self.lag_s_worst = 0.0
        self.behind_s = 0.0

    async def run(self) -> None:
        """Sample until cancelled."""
        loop = asyncio.get_running_loop()
        due_s = loop.time()
        while True:
            due_s = max(due_s + _SAMPLE_S, loop.time())
            await asyncio.sleep(due_s - loop.time())
            self.sample(now=loop.time(), late_s=loop.time() - due_s, cpu_s=_cpu_s())

    def sample(self, *, now: float, late_s: float, cpu_s: float) -> None:
        """Take one sample: when [s], how late the loop was [s], CPU time used so far [s]."""
        self._samples.append((now, cpu_s))
        self._lags.append(late_s)
        self.cpu = self._share(len(self._samples) - 1)
        self.cpu_now = self._share(min(_SHORT, len(self._samples) - 1))
        self.lag_s = max(self._lags)
        self.lag_s_worst = max(self.lag_s_worst, late_s)
        self.behind_s = self._behind_s()

    def _share(self, back: int) -> float:
        (to_s, to_cpu_s), (from_s, from_cpu_s) = self._samples[-1], self._samples[-1 - back]
        return (to_cpu_s - from_cpu_s) / (to_s - from_s) if to_s > from_s else 0.0

    def too_much(self) -> str | None:
        """Return why no join should be admitted now, in words, or None."""
        if self.cpu > CPU_MAX:
            return f"{self.cpu:.0%} of a core used (limit {CPU_MAX:.0%})"
        if self.lag_s > LAG_S_MAX:
            return f"event loop {self.lag_s:.2f} s late (limit {LAG_S_MAX:g} s)"
        if self.behind_s > BEHIND_S_MAX:
            return f"media has waited for {self.behind_s:.2f} s (limit {BEHIND_S_MAX:g} s)"
        return None


def _cpu_s() -> float:
    times = os.times()
    return times.user + times.system


class Slot:
    """One set-up under way. Released when connected, gone or too old; releasing is idempotent."""

    def __init__(self, gate: Gate, until_s: float) -> None:
        self._gate: Gate | None = gate
        self.until_s = until_s

    def release(self) -> None:
        """Let the next one in."""
        if self._gate is not None:
            gate, self._gate = self._gate, None
            gate.give_back(self)


class Gate:
    """
    Admits joins one after the other, or refuses them.

    Args:
        name: The stand-in's name, for refusals.
        load: How busy it is.
    """

    def __init__(self, name: str, load: Load) -> None:
        self._name = name
        self._load = load
        self._slots: set[Slot] = set()
        self._waiting: deque[asyncio.Future[Slot]] = deque()
        self.admitted = 0
        self.refused = 0

    @property
    def waiting(self) -> int:
        """Joins waiting for their turn."""
        return len(self._waiting)

    async def enter(self, *, first: bool = False) -> Slot:
        """
        Wait for a turn, at most `WAIT_S_MAX`.

        Args:
            first: Whether to go before those who wait (publishers: a stream depends on them).

        Raises:
            Refused: Too busy; ask again after `RETRY_AFTER_S`, or elsewhere.
        """
        self.check()
        if self._has_room and (first or not self._waiting):
            slot: Slot | None = self._grant()
        else:
            slot = await self._turn(first=first)
        if slot is None:
            raise self._refusal(f"no turn within {WAIT_S_MAX:g} s")
        self.admitted += 1
        return slot

    def check(self) -> None:
        """
        Refuse at once what would be refused later.

        Raises:
            Refused: Too busy; ask again after `RETRY_AFTER_S`, or elsewhere.
        """
        because = self._load.too_much()
        if because is None and len(self._waiting) >= WAITING_MAX:
            because = f"{WAITING_MAX} joins are waiting already"
        if because is not None:
            raise self._refusal(because)

    def _refusal(self, because: str) -> Refused:
        self.refused += 1
        return Refused(because, provider=self._name, operation="join", retry_after_s=RETRY_AFTER_S)

    @property
    def _has_room(self) -> bool:
        return len(self._slots) < HANDSHAKES_MAX and self._load.cpu_now < CPU_PACED

    def _grant(self) -> Slot:
        slot = Slot(self, asyncio.get_running_loop().time() + SLOT_S_MAX)
        self._slots.add(slot)
        return slot

    async def _turn(self, *, first: bool) -> Slot | None:
        turn: asyncio.Future[Slot] = asyncio.get_running_loop().create_future()
        (self._waiting.appendleft if first else self._waiting.append)(turn)
        try:
            async with asyncio.timeout(WAIT_S_MAX):
                return await turn
        except BaseException as stopped:
            # A turn that came in the moment we stopped waiting must not be lost for the others.
            if turn.done() and not turn.cancelled():
                turn.result().release()
            if isinstance(stopped, TimeoutError):
                return None
            raise
        finally:
            if turn in self._waiting:
                self._waiting.remove(turn)

    def give_back(self, slot: Slot) -> None:
        """Take a slot back and let the next one in."""
        self._slots.discard(slot)
        self.let_in()

    def let_in(self) -> None:
        """Let in as many as there is room for. Called with every tick and every release."""
        while self._waiting and self._has_room:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(self._grant())

    def expire(self, now: float) -> None:
        """Release the slots of set-ups that never finish."""
        for slot in [slot for slot in self._slots if slot.until_s <= now]:
            slot.release()
        self.let_in()
