"""
What is observed of providers, and how reports of strangers are counted.

A probe is our own: what it says counts as it is. Reports come from clients, who may be wrong,
behind a bad network, all in one room, or lying; so each client has one vote, a share of failing
votes is taken as the smallest of those by client, by room and by network, and what is kept is
bounded whatever is sent.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final, NamedTuple


BECAUSE_MAX: Final = 200
"""Longest reason that is kept [character]."""


class Level(StrEnum):
    """How deep a proof goes, the shallowest first."""

    CONTROL = "control"
    """Its API or endpoint answers."""
    INGEST = "ingest"
    """It takes media, and acknowledges it."""
    END_TO_END = "end_to_end"
    """What was published was viewed."""


class Said(StrEnum):
    """What an operator can say about a provider."""

    DISABLED = "disabled"
    """Not to be used."""
    ENABLED = "enabled"
    """To be used again; it is judged by what was observed."""
    MENDED = "mended"
    """Forget its failures and its ban: the cause is known to be gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeEnded:
    """
    A probe of our own came to an end.

    Attributes:
        provider: Which provider.
        region: Which of its regions; None: it has none, or the probe tells nothing of one.
        level: How deep it went.
        ok: Whether everything down to that level works.
        because: What was found, in words.
        latency_s: Time to the answer (`control`), or from encoder to picture (media) [s].
        first_media_s: From the beginning of the join to the first picture [s].
        loss: Share of pictures that did not arrive [0..1].
        answered: Whether anything at all came back; if not, the fault may be our own network.
        own_trouble: This machine was at fault (a late event loop, no encoder): no verdict.
    """

    provider: str
    region: str | None = None
    level: Level = Level.CONTROL
    ok: bool
    because: str
    latency_s: float | None = None
    first_media_s: float | None = None
    loss: float | None = None
    answered: bool = True
    own_trouble: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StartEnded:
    """A client tried to publish: with media proven (`ok`), or in vain."""

    provider: str
    region: str | None = None
    client: str
    stream: str
    network: str
    ok: bool
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinEnded:
    """A client tried to view: with a first picture (`ok`), or in vain. `NotOnAir` is neither."""

    provider: str
    region: str | None = None
    client: str
    stream: str
    network: str
    ok: bool
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaLost:
    """A client lost the media it had. `kind`: `audio`, `video`, or empty for all of it."""

    provider: str
    region: str | None = None
    client: str
    stream: str
    network: str
    kind: str = ""
    because: str = "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaFresh:
    """
    Media of the provider reached a client just now.

    For viewers, and for publishers that view themselves: what was merely sent, or acknowledged,
    proves nothing of a provider that forwards nothing.
    """

    provider: str
    region: str | None = None
    client: str
    stream: str
    network: str


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityReported:
    """How good a client's media is: loss [0..1], round trip [s], jitter [s]; None: not known."""

    provider: str
    region: str | None = None
    client: str
    stream: str
    network: str
    loss: float | None = None
    rtt_s: float | None = None
    jitter_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorSaid:
    """An operator's word; `because` is theirs."""

    provider: str
    word: Said
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticked:
    """Time passed. Once a second is often enough."""


class Reached(NamedTuple):
    """Whom media reached: a client, for which room, where. One is made of each report that comes,
    and a tuple costs a quarter of a record."""

    client: str
    stream: str
    network: str
    region: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ManyFresh:
    """Media of one provider reached many clients just now: as many `MediaFresh`, judged once."""

    provider: str
    reports: Sequence[Reached]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeardElsewhere:
    """
    What the clients of all other nodes reported lately, instead of what was said before.

    Attributes:
        provider: Which provider.
        votes: Theirs, by ballot; several of one client may be among them.
        fresh_s: When media last reached one of them, by region [s].
    """

    provider: str
    votes: Mapping[Ballot, Sequence[Vote]]
    fresh_s: Mapping[str | None, float]


Report = StartEnded | JoinEnded | MediaLost | MediaFresh | QualityReported
Observation = ProbeEnded | Report | ManyFresh | HeardElsewhere | OperatorSaid | Ticked


# --- Votes ---


class Ballot(StrEnum):
    """What clients vote on."""

    STARTS = "starts"
    """Whether their last start or join worked."""
    MEDIA = "media"
    """Whether they have media."""
    QUALITY = "quality"
    """Whether it is good."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """
    What one client reported last: when [s], about which room, from where, and what.

    Names are kept as marks: the same at every node, of one size, and of many networks one cannot
    be told which it was.
    """

    client: int
    stream: int
    network: int
    region: str | None
    ok: bool
    at_s: float
    because: str


Votes = Mapping[int, Vote]
"""The last vote of each client, by its mark, the oldest first."""

NO_VOTES: Final[Votes] = MappingProxyType({})

NETWORK_MARKS: Final = 1 << 16
"""So many marks for networks: 65 536 addresses share each, and who sees it knows none of them.
Two networks with one mark count as one, which condemns nobody."""


def mark(name: str) -> int:
    """Return what stands for a client or a room, from 0 to 2^32 - 1; the same at every node."""
    return zlib.crc32(name.encode("utf-8", "replace"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """
    What votes come to.

    Attributes:
        clients: How many voted.
        failing: How many of them say that it fails.
        streams: Of how many rooms those are.
        networks: From how many networks those come.
        rate: Share that fails: the smallest of those by client, by room and by network [0..1].
        because: What most of the failing ones say; empty: nothing fails.
    """

    clients: int = 0
    failing: int = 0
    streams: int = 0
    networks: int = 0
    rate: float = 0.0
    because: str = ""


def vote_of(
    report: Report | Reached, region: str | None, *, ok: bool, because: str, now: float
) -> Vote:
    """
    Return a client's vote.

    Args:
        report: Who says it, of which room, from where.
        region: Where that counts.
        ok: Whether it works.
        because: What was reported, in words.
        now: When [s].
    """
    return Vote(
        client=mark(report.client),
        stream=mark(report.stream),
        network=mark(report.network) % NETWORK_MARKS,
        region=region,
        ok=ok,
        at_s=now,
        because=because[:BECAUSE_MAX],
    )


def cast(votes: Votes, more: Iterable[Vote], votes_max: int) -> Votes:
    """
    Return the votes after these, the newest there are; each replaces its client's last one.

    When there are too many, networks with more than their share lose their oldest first: however
    many clients one network sends, it cannot push out the others.

    Args:
        votes: The votes before.
        more: Cast now.
        votes_max: How many are kept.
    """
    after = dict(votes)
    for one in more:
        after.pop(one.client, None)
        after[one.client] = one
    return after if len(after) <= votes_max else thinned(after, votes_max - votes_max // 8)


def thinned(votes: Votes, kept: int) -> Votes:
    """
    Return so many votes at most, the newest, fewer of the networks with the most.

    Going through them all costs as much for one: let an eighth go at once.
    """
    count = Counter(one.network for one in votes.values())
    fair = -(-kept // len(count))
    left = []
    for client, one in votes.items():  # the oldest first
        if count[one.network] > fair:
            count[one.network] -= 1
        else:
            left.append((client, one))
    return dict(left[-kept:])


def expired(votes: Votes, since_s: float) -> Votes:
    """Return the votes from `since_s` [s] on; the same object if none is older."""
    oldest = next(iter(votes.values()), None)
    if oldest is None or oldest.at_s >= since_s:
        return votes
    return {client: one for client, one in votes.items() if one.at_s >= since_s}


def tally(votes: Iterable[Vote]) -> Tally:
    """Count votes."""
    given = list(votes)
    failing = [one for one in given if not one.ok]
    if not failing:
        return Tally(clients=len(given))
    by_stream = _mean_share((one.stream, one.ok) for one in given)
    by_network = _mean_share((one.network, one.ok) for one in given)
    reasons = Counter(one.because for one in failing)
    return Tally(
        clients=len(given),
        failing=len(failing),
        streams=len({one.stream for one in failing}),
        networks=len({one.network for one in failing}),
        rate=min(len(failing) / len(given), by_stream, by_network),
        because=max(reasons, key=lambda reason: (reasons[reason], reason)),
    )


def _mean_share(votes: Iterable[tuple[int, bool]]) -> float:
    """Return the share of failing votes where each group weighs the same, however large."""
    count: dict[int, int] = {}
    bad: dict[int, int] = {}
    for group, ok in votes:
        count[group] = count.get(group, 0) + 1
        bad[group] = bad.get(group, 0) + (not ok)
    return sum(bad[group] / count[group] for group in count) / len(count)
