"""
When each stream of many may start at its next provider, without a list that nodes share.

A target that accepts R starts per second has numbered slots. Slot k is at the time at which a
provider that warms up (its rate grows with the square of the time for `RAMP_S`, then stays) has
accepted k starts:

    C(t) = P t^3 / 27 up to 3 s, P (t - 2) from then on, with P = MARGIN R;  slot k: C(t) = k

The slots are dealt to the nodes by the shares that the event names, each slot to exactly one
node; a node gives its own slots to its own streams. So nobody needs to know another node's
streams, and a wrong, old or missing share costs time and never a burst.

The invariant: **C'(t) <= P, so two slots of a target are never nearer than 1 / P, and any window
of w seconds holds at most ceil(MARGIN R w) starts, over all nodes together.** That is at most R w
wherever R w >= 10, and for every whole R over one second; a window too short for 10 starts may
hold the one start that rounding up means. What is left of R is for starts that are none of this
move, and for timers that fire late: 5 ms of it in a window of 100 ms.

The deal is the Sainte-Laguë method, the rule by which seats of a parliament are dealt: the next
slot goes to the node with the largest c / (2 n + 1), c its share and n the slots it has. Every
node's slots then lie evenly among the others'. It is whole numbers only, so all nodes agree.

A hash alone cannot do this: moments drawn independently fall into a bin like raindrops, and with
a mean of 18 in 100 ms one bin in four has more than 20. `alone_s`, for a client that can ask
nobody, must stay far below the rate for the same promise, and says how far.

Why a ramp: the load that a provider reports lags behind what it was just given (Jicofo counts
recent joins as load for 20 s for the same reason: reference.conf, `ramp-up-time`). It costs 2 s.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .rendezvous import draw


Numbers: TypeAlias = NDArray[np.int64]
Times: TypeAlias = NDArray[np.float64]

RAMP_S: Final = 3.0
"""How long a target is given to warm up [s]."""

MARGIN: Final = 0.9
"""The part of a target's accepted rate that a move uses [0..1]."""

ALONE_ODDS: Final = 1e-6
"""How often at most a given second may be offered too much by clients that act alone [0..1]."""

ALONE_LOAD_MIN: Final = 0.1
"""The part of the rate that clients that act alone use at least [0..1], whatever the odds."""


def slot_s(number: NDArray[np.number], starts_per_s: float) -> Times:
    """
    Return when each slot of a target is [s after the move began]; slot 0 is at once.

    Args:
        number: Which slots, from 0.
        starts_per_s: What the target accepts [1/s], more than 0.
    """
    pace = MARGIN * starts_per_s
    count = np.asarray(number, np.float64)
    return np.where(count < pace, np.cbrt(count * (RAMP_S**3 / pace)), 2.0 + count / pace)


def slot_from(at_s: Times, starts_per_s: float) -> Numbers:
    """Return the first slot of a target that is not before `at_s` [s]."""
    pace = MARGIN * starts_per_s
    at_s = np.maximum(at_s, 0.0)
    passed = np.where(at_s < RAMP_S, pace / RAMP_S**3 * at_s**3, pace * (at_s - 2.0))
    number = np.maximum(np.floor(passed).astype(np.int64) - 1, 0)
    for _ in range(3):  # one for the slot before, one for rounding down, one for the cube root
        number += slot_s(number, starts_per_s) < at_s
    return number


def dealt(node: int, shares: Sequence[int], nth: Numbers) -> Numbers:
    """
    Return which slots a node's `nth` ones are.

    Over all nodes and all n every slot is dealt exactly once; among the first sum(shares) slots
    every node has exactly its share.

    Args:
        node: Its place in `shares`; its share is not 0.
        shares: What each node's part of the slots is in proportion to, whole numbers from 0.
        nth: Which of its slots, from 0.
    """
    own, slots = shares[node], np.zeros(len(nth), np.int64)
    for other, share in enumerate(shares):
        # How many odd numbers 2 m + 1 the other has used when it is our turn: those with
        # share / (2 m + 1) above ours; of equals, the first node goes first.
        quotient = (2 * nth + 1) * share
        if other == node:
            slots += nth
        elif other < node:
            slots += (quotient // own + 1) // 2
        else:
            slots += -(-quotient // own) // 2
    return slots


@dataclass(frozen=True, slots=True, kw_only=True)
class Slots:
    """
    The slots of one target that belong to one node.

    Attributes:
        starts_per_s: What the target accepts from the whole move [1/s].
        node: The node's place in the lists that follow.
        shares: What each node's part is in proportion to, whole numbers from 1.
        reserved: How many of the very first slots are kept for each node's dark streams; the
            others follow after them.
    """

    starts_per_s: float
    node: int
    shares: Sequence[int]
    reserved: Sequence[int] = ()

    def at_s(self, nth: Numbers) -> Times:
        """Return when the node's `nth` slots are, from 0 [s after the move began]; it grows."""
        own = self._own_reserved
        slots = sum(self.reserved) + dealt(self.node, self.shares, np.maximum(nth - own, 0))
        is_reserved = nth < own
        if own:
            slots[is_reserved] = dealt(self.node, self.reserved, nth[is_reserved])
        return slot_s(slots, self.starts_per_s)

    def first(self, at_s: Times) -> Numbers:
        """Return which of the node's slots is the first that is not before `at_s` [s]."""
        own, total = self._own_reserved, sum(self.reserved)
        slot = slot_from(at_s, self.starts_per_s)
        nth = own + _nth_from(self.node, self.shares, np.maximum(slot - total, 0))
        early = slot < total
        if own:
            nth[early] = _nth_from(self.node, self.reserved, slot[early])
        return nth

    @property
    def _own_reserved(self) -> int:
        return self.reserved[self.node] if self.reserved else 0


def _nth_from(node: int, shares: Sequence[int], slot: Numbers) -> Numbers:
    """
    Return which of the node's slots is the first that is not before `slot`.

    Each other node's part of `dealt` is at most 1/2 off its exact proportion, which leaves an
    interval of about as many candidates as there are nodes: it is halved until one is left.
    """
    part, off = shares[node] / sum(shares), len(shares) / 2.0
    low: Numbers = np.maximum(np.floor((slot - off) * part - 1.5).astype(np.int64), 0)
    high = np.maximum(np.ceil((slot + off) * part + 1.5).astype(np.int64), 0)
    while np.any(low < high):
        middle = (low + high) // 2
        is_before = dealt(node, shares, middle) < slot
        low = np.where(is_before, middle + 1, low)
        high = np.where(is_before, high, middle)
    return low


def reserve(dark: Sequence[int], part: float) -> list[int]:
    """
    Return how many first slots of a target to keep for each node's dark streams.

    Args:
        dark: How many streams without media each node has.
        part: The part of them that hashing sends to this target [0..1]. What it sends varies
            like a binomial number, hence three standard deviations more; who finds no reserved
            slot takes its node's next one.
    """
    return [
        min(count, math.ceil(part * count + 3.0 * math.sqrt(part * (1.0 - part) * count)))
        for count in dark
    ]


def is_crowd(affected: int, starts_per_s: float) -> bool:
    """Whether so many streams are more than a provider accepts in a second; 0 [1/s]: not known."""
    return bool(starts_per_s) and affected > MARGIN * starts_per_s


def alone_s(key: int, affected: int, starts_per_s: float) -> float:
    """
    Return when a dark stream starts if its client can ask nobody [s after its media was lost].

    Each client draws a moment by its key. In one second the target is offered a
    binomial number of starts with mean m and variance below m, and by Bernstein's inequality
    more than L = R with a probability of at most exp(-(L - m)^2 / (2 (m + (L - m) / 3))). The
    slots are stretched so that this is `ALONE_ODDS`: m = 0.70 L at 250 starts per second, 0.84 L
    at 1 000, 0.20 L at 20. Below 14 that would take for ever, so m = 0.1 L, and one second in
    some hundreds may be offered too much. Nothing is promised for 100 ms.

    A plan that carries a slot dealt by a server (`slot_s`) is exact and sooner: prefer that.

    Args:
        key: `rendezvous.key` of the stream.
        affected: How many streams may have lost the same provider; 1: it goes at once.
        starts_per_s: What its next provider accepts [1/s], more than 0.
    """
    limit, log_odds = float(max(1, math.floor(starts_per_s))), -math.log(ALONE_ODDS)
    third = 2.0 * log_odds / 3.0
    mean = limit + third - math.sqrt(2.0 * log_odds * limit + third**2)
    load = max(min(mean / limit, MARGIN), ALONE_LOAD_MIN)
    stretch = MARGIN * starts_per_s / (load * min(limit, starts_per_s))
    drawn = float(draw(np.array([key], np.uint64), "alone:")[0])
    number = drawn * affected * stretch if affected > 1 else 0.0
    return float(slot_s(np.array([number]), starts_per_s)[0])
