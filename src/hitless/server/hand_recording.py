"""
The steps of remote hands, kept to be run again: `hitless incident`.

A hand's driver is given to this as its record, and what it performs is noted beside: so what is
kept is what was done, not what this program would say today that it had done.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from ..client.backend import ProviderSource
from ..client.driver import Driver
from ..core.events import Announce, Effect, Event, ProvidersListed
from ..core.listing import ProviderList
from ..core.policy import Policy
from ..core.replay import Step, steps_line
from ..core.state import State
from ..providers.base import Provider
from .pseudonyms import Pseudonyms
from .ring import Ring


WEIGHT_MAX: Final = 50_000
"""Events and effects that are kept of all hands, at some 0.2 kB each; a state counts as many."""


@dataclass(frozen=True, slots=True, eq=False)
class _Hand:
    """Whose steps: one connection of a client. Compared by identity: it may come back."""

    client: str
    policy: Policy


@dataclass(slots=True)
class _Step:
    at_s: float
    event: Event
    effects: list[Effect] = field(default_factory=list)


class HandRecording:
    """
    The last steps of all hands of a node.

    Args:
        keep_s, piece_s, weight_max: See `Ring`.
    """

    def __init__(self, *, keep_s: float, piece_s: float, weight_max: int = WEIGHT_MAX) -> None:
        self._ring: Ring[_Hand, State, _Step] = Ring(
            keep_s=keep_s, piece_s=piece_s, weight_max=weight_max
        )
        self._listed: ProviderList | None = None

    @property
    def weight(self) -> int:
        """How much is kept now."""
        return self._ring.weight

    def heard(self, hand: _Hand, before: State, event: Event, now: float) -> _Step:
        """Keep that a hand hears of an event in a state, `now` [s]; its effects follow."""
        weight = 1
        if isinstance(event, ProvidersListed):  # every hand reads the same one: keep it once
            if event.listed == self._listed:
                event = ProvidersListed(listed=self._listed)
            else:
                self._listed = event.listed
                weight += len(event.listed.providers)
        step = _Step(now, event)
        self._ring.add(hand, before, step, weight, _weight(before))
        return step

    def performed(self, step: _Step, effect: Effect) -> None:
        """Keep what came of the step heard last."""
        step.effects.append(effect)
        self._ring.weigh(1)

    def since(self, since_s: float) -> HandExcerpt:
        """Return what there is since a moment [s], to be written in a thread."""
        span = self._ring.since(since_s)
        steps: dict[_Hand, list[_Step]] = {}
        for hand, step in span.entries:
            steps.setdefault(hand, []).append(step)
        return HandExcerpt([(hand, span.before[hand], of) for hand, of in steps.items()])


@dataclass(frozen=True, slots=True)
class HandExcerpt:
    """The steps of some hands."""

    hands: list[tuple[_Hand, State, list[_Step]]]

    def note(self, names: Pseudonyms) -> None:
        """Have every name that reasons may hold be known."""
        for hand, before, steps in self.hands:
            names.note("client", hand.client)
            for session in before.sessions.values():
                names.note("stream", session.stream)
            for step in steps:
                stream = getattr(step.event, "session", None)
                if isinstance(stream, str):
                    names.note("stream", stream)

    def lines(self, names: Pseudonyms) -> list[dict[str, Any]]:
        """Return them as JSON, under other names."""
        return [
            {
                "hand": names.called("client", hand.client),
                **steps_line(
                    hand.policy,
                    names.renamed(before),
                    [
                        Step(
                            at_s=step.at_s,
                            event=names.renamed(step.event),
                            effects=tuple(map(names.renamed, step.effects)),
                        )
                        for step in steps
                    ],
                ),
            }
            for hand, before, steps in self.hands
        ]


class RecordedDriver(Driver):
    """
    A driver whose steps are kept.

    Args:
        policy, source, provider, seed, tell, control: See `Driver`.
        client: Whose.
        recording: Where.
    """

    def __init__(
        self,
        policy: Policy,
        source: ProviderSource,
        provider: Callable[[str], Provider],
        *,
        seed: int,
        tell: Callable[[Announce], None],
        control: Any,  # what `Driver` asks of one
        client: str,
        recording: HandRecording,
    ) -> None:
        self._hand, self._recording = _Hand(client, policy), recording
        self._heard: _Step | None = None
        super().__init__(
            policy, source, provider, seed=seed, tell=tell, control=control,
            record=self,  # type: ignore[arg-type]  # what the driver asks of one
        )  # fmt: skip

    def add(self, event: Event, now: float) -> None:
        """Keep an event, before the step that it makes."""
        self._heard = self._recording.heard(self._hand, self.state, event, now)

    def close(self) -> None:
        """There is nothing to close: what is kept outlives the hand."""

    def _perform(self, effect: Effect) -> None:
        if self._heard is not None:
            self._recording.performed(self._heard, effect)
        super()._perform(effect)


def _weight(state: State) -> int:
    """Return how many entries are as large as a state: it may be all that is left of its hand."""
    sessions = sum(1 + len(one.legs) + len(one.attempts) for one in state.sessions.values())
    listed = len(state.listed.providers) if state.listed else 0
    return 4 + 6 * len(state.sessions) + sessions + listed + len(state.standing)
