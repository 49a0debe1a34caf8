"""
Which provider a stream belongs to, worked out by anybody from its id and the weights alone.

Weighted rendezvous hashing (highest random weight): each provider draws a number for each stream
from a hash of both, and the best draw has the stream. When a provider leaves, its streams go and
nobody else's; when it comes back, the same streams come back.

Sources: D. Thaler, C. Ravishankar, "Using name-based mappings to increase hit rates", IEEE/ACM
Transactions on Networking 6(1), 1998; weights: C. Schindelhauer, G. Schomaker, "Weighted
distributed hash tables", SPAA 2005 (-w / ln u, largest first; here -ln u / w, smallest first,
which is the same order and knows no division by zero).

The recipe, for whoever repeats it in another language:

1. `key(text)`: the first 8 bytes of BLAKE2b-512 (RFC 7693, no key, no salt) of the text in UTF-8,
   most significant byte first: the first 16 digits that `printf %s TEXT | b2sum` writes.
2. `mix(z)`, 64 bits, overflow ignored: z ^= z >> 30; z *= 0xBF58476D1CE4E5B9; z ^= z >> 27;
   z *= 0x94D049BB133111EB; z ^= z >> 31 (SplitMix64: G. Steele, D. Lea, C. Flood, OOPSLA 2014).
3. `u = ((mix(key(stream) ^ key(salt)) >> 11) + 0.5) / 2**53`, which is in (0, 1]; the salt of
   provider X is the text `provider:X`, that of `share_of` is `share:`.
4. A stream belongs to the provider with the smallest `-ln(u) / weight`; among equals, to the
   first in the order of their names by code point.

Two machines need not agree bit for bit, for `ln` may differ in its last bit between processors:
only the node that owns a stream places it, and everybody else is told. Steps 1 to 3 are exact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError


Keys: TypeAlias = NDArray[np.uint64]

CHUNK: Final = 65_536
"""So many streams are placed at once: 0.5 MiB an array, which stays in the cache."""


WEIGHT_MIN: Final = 1e-12
WEIGHT_MAX: Final = 1e12
"""Within these limits no division of a draw by a weight overflows."""


def key(stream_id: str) -> int:
    """
    Return the 64-bit key of a stream: the same on every machine and in every version.

    Streams that must stay together (a group) are placed by the key of the group's id.
    """
    return int.from_bytes(blake2b(stream_id.encode()).digest()[:8], "big")


def keys_of(stream_ids: Sequence[str]) -> Keys:
    """Return the key of each stream; about 1 us a stream, so keep them."""
    return np.fromiter(map(key, stream_ids), np.uint64, len(stream_ids))


def draw(keys: Keys, salt: str) -> NDArray[np.float64]:
    """Return a number in (0, 1] for each key, independent between different salts."""
    z = keys ^ np.uint64(key(salt))
    z ^= z >> np.uint64(30)
    z *= np.uint64(0xBF58476D1CE4E5B9)
    z ^= z >> np.uint64(27)
    z *= np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    z >>= np.uint64(11)
    drawn = z.astype(np.float64)
    drawn += 0.5
    drawn *= 2.0**-53
    return drawn


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Constraint:
    """
    Who cannot go where.

    Attributes:
        can_open: For each class of streams the providers that its clients can open. Streams with
            the same answer share a class: there are few, whatever the number of streams.
        classes: The class of each stream, in the order of the keys (any integer type).
    """

    can_open: Sequence[frozenset[str]]
    classes: NDArray[np.int64]

    def bars(self, name: str, part: slice) -> NDArray[np.bool_]:
        """Return which streams of this part cannot go to provider `name`."""
        barred = np.array([name not in each for each in self.can_open], np.bool_)
        return barred[self.classes[part]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Placed:
    """
    The answer of `place`.

    Attributes:
        names: The providers in the order of their names.
        index: For each key the place of its provider in `names`; -1: nobody can have it.
    """

    names: tuple[str, ...]
    index: NDArray[np.int16]

    def name(self, number: int) -> str | None:
        """Return the provider of key `number`; None: nobody can have it."""
        at = int(self.index[number])
        return None if at < 0 else self.names[at]

    def counts(self) -> dict[str, int]:
        """Return how many streams each provider has."""
        counted = np.bincount(self.index[self.index >= 0], minlength=len(self.names))
        return dict(zip(self.names, counted.tolist(), strict=True))


def place(
    keys: Keys, weights: Mapping[str, float], constraint: Constraint | None = None
) -> Placed:
    """
    Place many streams at once.

    Args:
        keys: What `key` says of each stream.
        weights: Providers to choose from; only their ratios matter. Weight 0 is never chosen, and
            that is how a source is excluded.
        constraint: Who cannot go where; None: everybody can go everywhere.

    Raises:
        ConfigError: A weight is negative, no number, or beyond all measure.
    """
    names = _names(weights)
    index = np.full(len(keys), -1, np.int16)
    for begin in range(0, len(keys), CHUNK):
        part = slice(begin, begin + CHUNK)
        best = np.full(len(keys[part]), np.inf)
        for at, name in enumerate(names):
            cost = _race(keys[part], f"provider:{name}")
            cost /= weights[name]
            if constraint is not None:
                cost[constraint.bars(name, part)] = np.inf
            wins = cost < best
            best[wins] = cost[wins]
            index[part][wins] = at
    return Placed(names=names, index=index)


def place_next(
    keys: Keys,
    source: str,
    configured: Mapping[str, float],
    weights: Mapping[str, float],
    constraint: Constraint | None = None,
) -> Placed:
    """
    Place streams that leave `source` by weights of their own, made from head-room.

    By `place` they would not spread by these weights: that the source won them says something
    about their draws for all others (they are high), and how much depends on the weights they
    were placed by. What is left of a draw after the source's, `-ln u - w t` with `t` the source's
    cost and `w` the configured weight, is again exponential, whatever `t` is: the race goes on
    from there. So the targets' parts are exactly as `weights` say, and where those are
    the configured ones without the source, everybody gets the same as by `place`: its second
    choice, which is in its plan.

    A stream that prefers a target to the source was brought to the source by an earlier move:
    its draws say nothing fair any more, and it gets new ones (salt `next:SOURCE:TARGET`).

    Args:
        keys: What `key` says of each stream.
        source: Whom they leave.
        configured: The weights that they were placed by, the source's among them.
        weights: The targets.
        constraint: Who cannot go where; None: everybody can go everywhere.

    Raises:
        ConfigError: A weight is negative, no number, or beyond all measure; or the source is
            its own target.
    """
    names = _names(weights)
    if source in names:
        raise ConfigError(f"{source} cannot be its own target: give it weight 0")
    _names(configured)
    index = np.full(len(keys), -1, np.int16)
    for begin in range(0, len(keys) if names else 0, CHUNK):
        part = slice(begin, begin + CHUNK)
        costs = _left_over(keys[part], source, configured, names)
        bars = np.zeros(costs.shape, np.bool_)
        for at, name in enumerate(names):
            if constraint is not None:
                bars[at] = constraint.bars(name, part)
        strangers = np.any((costs < 0.0) & ~bars, axis=0)
        for at, name in enumerate(names):
            costs[at, strangers] = _race(keys[part][strangers], f"next:{source}:{name}")
            costs[at] /= weights[name]
        costs[bars] = np.inf
        index[part] = np.where(np.all(bars, axis=0), -1, np.argmin(costs, axis=0))
    return Placed(names=names, index=index)


def choose(stream: str | int, weights: Mapping[str, float]) -> str | None:
    """
    Place one stream, given by its id or its key; None: no provider has a weight.

    The answer is that of `place`, because it is `place` that gives it.

    Raises:
        ConfigError: A weight is negative, no number, or beyond all measure.
    """
    number = key(stream) if isinstance(stream, str) else stream
    return place(np.array([number], np.uint64), weights).name(0)


def share_of(stream: str | int, percent: float) -> bool:
    """
    Whether Hitless may act on this stream when its share is `percent` [0..100].

    A growing share only adds streams, and who is in it has nothing to do with where it is placed.
    """
    number = key(stream) if isinstance(stream, str) else stream
    return bool(draw(np.array([number], np.uint64), "share:")[0] * 100.0 <= percent)


def _race(keys: Keys, salt: str) -> NDArray[np.float64]:
    """Return an exponential number for each key: divided by a weight it is a cost."""
    cost: NDArray[np.float64] = np.log(draw(keys, salt))
    np.negative(cost, out=cost)
    return cost


def _left_over(
    keys: Keys, source: str, configured: Mapping[str, float], names: tuple[str, ...]
) -> NDArray[np.float64]:
    """Return what the source left of each target's draw [target, key]; below 0: nothing."""
    if not configured.get(source):
        return np.full((len(names), len(keys)), -1.0)
    cost = _race(keys, f"provider:{source}") / configured[source]
    return np.stack(
        [_race(keys, f"provider:{name}") - configured.get(name, 0.0) * cost for name in names]
    )


def _names(weights: Mapping[str, float]) -> tuple[str, ...]:
    """Return who has a weight, in the order of their names."""
    for name, weight in weights.items():
        if weight and not WEIGHT_MIN <= weight <= WEIGHT_MAX:
            raise ConfigError(
                f"weight of {name} = {weight!r} is not possible: "
                f"give 0, or {WEIGHT_MIN:g} to {WEIGHT_MAX:g}"
            )
    return tuple(sorted(name for name, weight in weights.items() if weight))
