"""
What clients can open: the adapters they have, and the codecs they know.

A client that declares nothing can open everything. One that declares codecs can open a provider
if one way to carry media, of those that the record of the adapter states for its end of a stream,
has a codec of each kind that it declares. What no record says is taken to be possible.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Final, Protocol

from ..media.frame import CODECS, Kind
from ..providers.record import Path, record_of
from .store_members import Reach, Role
from .store_operators import ProviderRow


_FOREIGN: Final[Mapping[Kind, tuple[str, ...]]] = {
    Kind.AUDIO: ("AMR", "AMR-WB", "EVS", "G722", "iLBC", "L16", "MP4A-LATM", "PCMA", "PCMU"),
    Kind.VIDEO: ("AV1", "H263", "H263-1998", "H263-2000", "H264-SVC", "H265", "H266", "VP9"),
}
"""
What clients know besides the codecs of ours: who declares only these can open nothing of ours.

Names of IANA's registry of RTP payload formats (RFC 4855). Any other name counts for nothing: its
kind is not known, and lists of browsers hold names that are no codec (`rtx`, `telephone-event`).
"""

_KINDS: Final[Mapping[str, Kind]] = {
    name.lower(): kind for kind in Kind for name in (*CODECS[kind], *_FOREIGN[kind])
}


class Opens(Protocol):
    """Who has said what it can open: a member of a stream, or some of them."""

    @property
    def role(self) -> Role:
        """Which end of a stream it is."""

    @property
    def adapters(self) -> Sequence[str]:
        """The adapters it has; empty: all."""

    @property
    def codecs(self) -> tuple[str, ...]:
        """The codecs it can send or decode, by RTP name in any case; empty: all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Openable:
    """
    Whither streams can go that cannot go everywhere.

    Attributes:
        targets: By stream: the providers that its publisher and enough of its viewers can open.
        by_codecs: Streams that can go nowhere, and could if codecs did not count.
    """

    targets: Mapping[str, frozenset[str]]
    by_codecs: frozenset[str]


def has_adapter(one: Opens, row: ProviderRow) -> bool:
    """Whether a client has the adapter of a provider."""
    return not one.adapters or row.adapter in one.adapters


def knows_codecs(one: Opens, row: ProviderRow) -> bool:
    """Whether a client knows codecs that a provider carries at its end."""
    return not one.codecs or _is_carried(row.adapter, one.role, one.codecs)


def can_open(one: Opens, row: ProviderRow) -> bool:
    """Whether a client can open a provider."""
    return has_adapter(one, row) and knows_codecs(one, row)


def why_closed(clients: Iterable[Opens], row: ProviderRow) -> str:
    """Say what a provider is that is not for a stream of these clients: `disabled`."""
    if not row.is_active:
        return "disabled"
    if row.is_drained:
        return "drained"
    closed = [one for one in clients if not can_open(one, row)]
    is_by_codecs = closed and all(has_adapter(one, row) for one in closed)
    return "not for its codecs" if is_by_codecs else "not for it"


def carried(row: ProviderRow, role: Role) -> str:
    """Return what a provider's adapter carries at an end of a stream, in words."""
    ways = dict.fromkeys(", ".join(path.codecs) for path in _paths(row.adapter, role))
    return f"adapter {row.adapter} carries {' or '.join(ways)}"


def bearable(viewers: int, min_viewer_reach: float) -> int:
    """Return how many of a stream's viewers a planned move may leave behind."""
    return math.floor((1.0 - min_viewer_reach) * viewers + 1e-6)  # 0.1 of 20 is 1.9999999999999996


def openable(
    reach: Iterable[Reach], targets: Mapping[str, ProviderRow], min_viewer_reach: float
) -> Openable:
    """
    Return whither streams can go.

    Args:
        reach: What the clients of these streams can open.
        targets: Where they may go.
        min_viewer_reach: Share of a stream's viewers that must be able to follow [0..1].
    """
    viewers = Counter[str]()
    behind: dict[tuple[str, str], float] = defaultdict(float)
    without: dict[tuple[str, str], float] = defaultdict(float)  # the adapter, whatever the codecs
    for one in reach:
        is_viewer = one.role is Role.VIEWER
        viewers[one.stream] += one.members if is_viewer else 0
        cost = float(one.members) if is_viewer else float("inf")
        for name, row in targets.items():
            if not has_adapter(one, row):
                without[one.stream, name] += cost
                behind[one.stream, name] += cost
            elif not knows_codecs(one, row):
                behind[one.stream, name] += cost

    def open_to(stream: str, left: Mapping[tuple[str, str], float]) -> frozenset[str]:
        most = bearable(viewers[stream], min_viewer_reach)
        return frozenset(name for name in targets if left.get((stream, name), 0.0) <= most)

    found = {stream: open_to(stream, behind) for stream in {stream for stream, _ in behind}}
    by_codecs = (stream for stream, to in found.items() if not to and open_to(stream, without))
    return Openable(targets=found, by_codecs=frozenset(by_codecs))


@lru_cache(maxsize=1024)
def _is_carried(adapter: str, role: Role, codecs: tuple[str, ...]) -> bool:
    known: dict[Kind, set[str]] = defaultdict(set)
    for codec in map(str.lower, codecs):
        if codec in _KINDS:
            known[_KINDS[codec]].add(codec)
    paths = _paths(adapter, role)
    return not paths or any(
        all(names & {codec.lower() for codec in path.codecs} for names in known.values())
        for path in paths
    )


@cache
def _paths(adapter: str, role: Role) -> tuple[Path, ...]:
    """Return how an adapter carries media at an end of a stream; empty: it is not known."""
    try:
        record = record_of(adapter)
    except Exception:  # not installed, or an outsider's package that cannot be imported
        return ()
    paths = record.paths if record is not None else ()
    ways = tuple(
        path for path in paths if (path.publishes if role is Role.PUBLISHER else path.views)
    )
    return ways if all(path.codecs for path in ways) else ()
