"""
Other keys for the streams of fleet moves, with which the same streams go the same ways.

A key is a hash of a stream's or group's name, which a move goes by: who guesses the name can check
the guess. So what is passed on has keys drawn anew, and drawn again until each is given the same
target, is as free to move, and is in the same order as the one it stands for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..core.fleet import FleetMove, Moving
from ..core.rendezvous import Constraint, Keys, draw, place, place_next


Named: TypeAlias = tuple[int, str]
"""The key and the id of a stream: streams of one group have one key, and each gets its own."""

ROUNDS_MAX: Final = 20_000
"""A target with a thousandth of the weight takes some ten thousand rounds."""


def stand_ins(
    moves: Sequence[tuple[FleetMove, Sequence[Moving]]], rng: np.random.Generator
) -> dict[Named, int] | None:
    """
    Return a key for each stream.

    Args:
        moves: Each plan with the streams that were dealt by it.
        rng: Must not be known to who reads the keys.

    Returns:
        The keys; None: none were found in `ROUNDS_MAX` rounds.
    """
    names = sorted({(one.key, one.id) for _, streams in moves for one in streams})
    if not names:
        return {}
    at = {name: n for n, name in enumerate(names)}
    wide = (1 << 64) // len(names)  # each in a range of its own: they stay in their order
    low = np.array([n * wide for n in range(len(names))], np.uint64)
    real = np.array([key for key, _ in names], np.uint64)
    ways = [_Ways(plan, streams, at) for plan, streams in moves if streams]
    told = [way.of(real, np.ones(len(way.index), np.bool_)) for way in ways]
    keys, is_wrong = real.copy(), np.ones(len(names), np.bool_)
    for _ in range(ROUNDS_MAX):
        drawn = rng.integers(0, wide, int(is_wrong.sum()), np.uint64, endpoint=False)
        keys[is_wrong] = low[is_wrong] + drawn
        still = np.zeros(len(names), np.bool_)
        for way, before in zip(ways, told, strict=True):
            asked = is_wrong[way.index]
            if asked.any():
                still[way.index[asked]] |= way.of(keys, asked) != before[asked]
        is_wrong = still
        if not is_wrong.any():
            return dict(zip(names, keys.tolist(), strict=True))
    return None


class _Ways:
    """Which way each stream of a move goes, by its key."""

    def __init__(self, plan: FleetMove, streams: Sequence[Moving], at: dict[Named, int]) -> None:
        kinds = {((one.key, one.id), one.can_open) for one in streams}
        self._plan = plan
        self.index = np.array([at[name] for name, _ in kinds], np.int64)
        everybody, classes = frozenset(plan.weights), dict[frozenset[str], int]()
        of = [classes.setdefault(everybody if can is None else can, len(classes))
              for _, can in kinds]  # fmt: skip
        self._can_open, self._of = tuple(classes), np.array(of, np.int64)

    def of(self, keys: Keys, asked: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Return the target and the freedom of those that are asked for, as one number each."""
        plan, own = self._plan, keys[self.index[asked]]
        constraint = Constraint(can_open=self._can_open, classes=self._of[asked])
        if plan.source is not None:
            answer = place_next(own, plan.source, plan.configured, plan.weights, constraint)
        else:
            answer = place(own, plan.weights, constraint)
        is_free = draw(own, "room:") <= plan.live_share  # as `fleet.due` has it
        return 2 * answer.index.astype(np.int64) + is_free
