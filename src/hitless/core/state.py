"""
Everything `step` remembers: values, safe to store, compare and replay.

A *session* is one stream at one client, published or watched. Its phases and their legal moves
are the table below; the diagram in `docs/how-it-decides.md` is drawn from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from .agreement import Follower
from .attempts import Attempt
from .events import Role
from .health import Standing
from .listing import ProviderList


class Phase(StrEnum):
    """A session is in one of these phases."""

    STARTING = "starting"
    """First attempts are under way."""
    WAITING = "waiting"
    """A viewer waits for a publisher."""
    ON_AIR = "on_air"
    RECOVERING = "recovering"
    """Media was lost; the next leg is being opened."""
    OFF_AIR = "off_air"
    """A publisher found nobody for a whole round; it keeps trying."""
    ENDED = "ended"


MOVES: Final[Mapping[Phase, frozenset[Phase]]] = {
    Phase.STARTING: frozenset({Phase.WAITING, Phase.ON_AIR, Phase.ENDED}),
    Phase.WAITING: frozenset({Phase.ON_AIR, Phase.ENDED}),
    Phase.ON_AIR: frozenset({Phase.RECOVERING, Phase.ENDED}),
    Phase.RECOVERING: frozenset({Phase.ON_AIR, Phase.OFF_AIR, Phase.ENDED}),
    Phase.OFF_AIR: frozenset({Phase.ON_AIR, Phase.ENDED}),
    Phase.ENDED: frozenset(),
}
"""Which phase may follow which; staying is always legal."""


class Purpose(StrEnum):
    """Why a leg is opened."""

    START = "start"
    FAILOVER = "failover"
    MIGRATION = "migration"
    TRIAL = "trial"
    """A recovered provider proves itself beside the leg on air (`return_policy = return`)."""
    DOUBT = "doubt"
    """The leg on air may be about to be silent: the next one is ready if it is."""
    RESCUE = "rescue"
    """Viewers that cannot reach the provider on air are served over one more leg."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """
    One leg, from the order to open it to the order to close it.

    Attributes:
        id: Number within the client; never used again.
        provider: Who carries it.
        purpose: Why it was opened.
        begun_s: When it was ordered [s].
        until_s: An opening leg is given up then [s].
        live_s: Since when it carries media [s]; None: still opening.
        silent_s: Since when it is silent [s]; None: it is not.
        close_s: A leg that was moved away from is closed then [s]; None: it is not leaving.
    """

    id: int
    provider: str
    purpose: Purpose
    begun_s: float
    until_s: float
    live_s: float | None = None
    silent_s: float | None = None
    close_s: float | None = None

    @property
    def carries(self) -> bool:
        """Whether media flows over it as far as we know."""
        return self.live_s is not None and self.silent_s is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspect:
    """
    A provider that lost our media, not yet blamed: it may be our own network.

    Attributes:
        provider: Who.
        because: What happened, in words.
        since_s: When [s].
        lived_s: How long its leg had carried media [s].
    """

    provider: str
    because: str
    since_s: float
    lived_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stay:
    """
    A planned move that found nobody to take the stream, as people were told of it.

    Attributes:
        provider: Who kept it.
        target: Who was wanted; None: anybody else.
        because: Why it was to move, in words.
    """

    provider: str
    target: str | None
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """
    A start or a move under way; at most one per session.

    Attributes:
        purpose: START, FAILOVER or MIGRATION.
        because: Why, in words.
        begun_s: When [s].
        target: Only this provider will do; None: the next one that can.
        tried: Failed attempts so far, in order.
        leg: The leg being opened; None: none right now.
        retry_s: When the next attempt is due [s]; None: not waiting.
        list_until_s: The list was asked for; go on without it then [s]; None: not asked.
        list_asks: How often the list was asked for.
    """

    purpose: Purpose
    because: str
    begun_s: float
    target: str | None = None
    tried: tuple[Attempt, ...] = ()
    leg: int | None = None
    retry_s: float | None = None
    list_until_s: float | None = None
    list_asks: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """
    A viewer's asking of one provider, in a loop of its own.

    Attributes:
        next_s: When to ask next [s].
        leg: The ask under way; None: none.
        failures: Failures in a row in this search.
        begun_s: When it was first asked in this search [s]; None: not yet.
        absent_s: Since when it says that nobody publishes [s]; None: it does not say so.
        is_spent: It may not be asked again in this join (its attempts are used).
    """

    next_s: float
    leg: int | None = None
    failures: int = 0
    begun_s: float | None = None
    absent_s: float | None = None
    is_spent: bool = False

    @property
    def is_heard(self) -> bool:
        """Whether an answer has come in this search."""
        return self.failures > 0 or self.absent_s is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """
    One stream at one client.

    Attributes:
        id, stream, role: Who it is.
        phase: Where it stands.
        epoch: Grows by one with each new leg on air.
        legs: All that are open, in order of opening.
        on_air: The leg that counts; None: none.
        attempts: Counted attempts of its life, the last hundred.
        moved_s: When it last went on air or was asked for [s].
        operation: What is under way (publishers).
        suspects: Who lost our media in this trouble (publishers).
        rounds: Whole rounds in vain since it went off air (publishers).
        dark_s: Since when nothing carries it [s]; None: something does.
        trial_s: When a recovered provider may be tried next [s].
        doubt_s: The next leg may be opened on a mere doubt again from then on [s] (publishers).
        doubts: How many such legs in a row were needless (publishers).
        is_chosen: Somebody asked for the provider on air by name or by a switch: no return.
        pending: A move asked for while another was under way: target and reason.
        stay: The last move in vain that was told; None: things have changed since (publishers).
        follower: What the control plane agreed to; None: there is none, or it has not said yet.
        said: The provider on air that the control plane was last told; None: nothing yet.
        asks: The search, one entry a provider (viewers).
        search_s: When the search began [s]; None: no search (viewers).
        wanted: The search is for these providers only; None: for all (viewers).
        wait_until_s: A waiting viewer gives up then [s].
    """

    id: str
    stream: str
    role: Role
    phase: Phase = Phase.STARTING
    epoch: int = 0
    legs: tuple[Leg, ...] = ()
    on_air: int | None = None
    attempts: tuple[Attempt, ...] = ()
    moved_s: float = 0.0
    doubt_s: float = 0.0
    doubts: int = 0
    operation: Operation | None = None
    suspects: tuple[Suspect, ...] = ()
    rounds: int = 0
    dark_s: float | None = None
    trial_s: float = 0.0
    is_chosen: bool = False
    pending: tuple[str | None, str] | None = None
    stay: Stay | None = None
    follower: Follower | None = None
    said: str | None = None
    asks: Mapping[str, Ask] = field(default_factory=dict)
    search_s: float | None = None
    wanted: frozenset[str] | None = None
    wait_until_s: float = 0.0

    def leg(self, id: int | None) -> Leg | None:
        """Return the open leg with that number, or None."""
        return next((leg for leg in self.legs if leg.id == id), None)

    @property
    def provider(self) -> str | None:
        """Who is on air, or None."""
        leg = self.leg(self.on_air)
        return leg.provider if leg else None


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """
    One client: its providers and its sessions.

    Attributes:
        now_s: When the last step was [s]; time never runs backwards.
        seed: Decides the jitter, so that a run can be replayed.
        draws: How many numbers were drawn from the seed.
        legs_made: How many legs were ever numbered.
        listed: The last good list; None: none yet.
        standing: What is known of each provider by name.
        sessions: By id.
        poll_s: When list and health are asked next [s]; None: no session, no monitoring.
        answered_s: When anything outside last answered [s].
        doubts: Failures that nobody answered, not yet counted: it may be our own network.
        network_lost_s: Since when our own network is thought to be down [s]; None: it is not.
        blameless_until_s: Nobody is blamed before then [s].
    """

    now_s: float = float("-inf")
    seed: int = 0
    draws: int = 0
    legs_made: int = 0
    listed: ProviderList | None = None
    standing: Mapping[str, Standing] = field(default_factory=dict)
    sessions: Mapping[str, Session] = field(default_factory=dict)
    poll_s: float | None = None
    answered_s: float = float("-inf")
    doubts: tuple[Suspect, ...] = ()
    network_lost_s: float | None = None
    blameless_until_s: float = float("-inf")
