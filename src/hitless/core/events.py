"""
What the core hears (events: facts, in the past tense) and what it orders (effects).

Both are plain values: an incident is the list of its events with their times.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from .attempts import Attempt, Failure
from .listing import Answer, ProviderList


class Role(StrEnum):
    """Which end of a stream a session is."""

    PUBLISHER = "publisher"
    VIEWER = "viewer"


# --- Events ---


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticked:
    """Time passed; nothing else happened."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvidersListed:
    """The list of providers was read."""

    listed: ProviderList


@dataclass(frozen=True, slots=True, kw_only=True)
class ListUnavailable:
    """The list could not be read. `answered`: something came back."""

    because: str
    answered: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthChecked:
    """
    A provider's health check ended.

    Attributes:
        provider: Of whom.
        answer: What it came to.
        because: In words, for a failure.
        media_age_s: Age of the freshest media this client has through that provider [s]; None:
            none.
    """

    provider: str
    answer: Answer
    because: str = ""
    media_age_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorRecorded:
    """The program saw a streaming error of its own."""

    provider: str
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SuccessRecorded:
    """The program says that streaming works."""

    provider: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamRequested:
    """A caller wants to publish or to watch. `wait_s`: how long a viewer waits for it [s]."""

    session: str
    stream: str
    role: Role
    wait_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LegOpened:
    """First media is proven: acknowledged or self-viewed (publisher), usable (viewer)."""

    session: str
    leg: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LegFailed:
    """A leg could not be opened, or is lost for good."""

    session: str
    leg: int
    failure: Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class LegAbsent:
    """The provider knows of no publisher of this stream (viewers only)."""

    session: str
    leg: int
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LegSilent:
    """Media or STUN answers have been missing for longer than their limit, since `since_s`."""

    session: str
    leg: int
    because: str
    since_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LegDoubted:
    """Media has been missing for half of its limit: it may be about to be silent."""

    session: str
    leg: int
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LegHeard:
    """A silent or doubted leg carries media again."""

    session: str
    leg: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LegExpiring:
    """The provider will end a leg soon: its credential ends, and could not be renewed."""

    session: str
    leg: int
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchRequested:
    """Somebody asked to move; `provider` None: to the next one; `session` None: all."""

    because: str
    session: str | None = None
    provider: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementTold:
    """
    The control plane says where the stream is; only a greater epoch than the last is obeyed.

    Attributes:
        session: Whose.
        epoch: Of the placement; it only grows.
        provider: Who carries the stream from now on.
        because: Why, in words.
        is_own: Whether it is an accepted claim of this publisher itself.
    """

    session: str
    epoch: int
    provider: str
    because: str
    is_own: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LegsReleased:
    """The viewers have followed to the placement of `epoch`: the leg that was left may close."""

    session: str
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RescueTold:
    """
    Some viewers cannot reach the provider on air.

    A publisher opens one more leg on `provider` for them (None: it is no longer needed); a viewer
    finds the stream there. The placement stays as it is.
    """

    session: str
    provider: str | None
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOver:
    """The control plane says that the publisher ended the stream."""

    session: str
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFailed:
    """The publisher's own source or encoder failed."""

    session: str
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EndRequested:
    """The caller left or ended the stream, or its source is at its end."""

    session: str
    because: str


Event = (
    Ticked
    | ProvidersListed
    | ListUnavailable
    | HealthChecked
    | ErrorRecorded
    | SuccessRecorded
    | StreamRequested
    | LegOpened
    | LegFailed
    | LegAbsent
    | LegSilent
    | LegDoubted
    | LegHeard
    | LegExpiring
    | SwitchRequested
    | PlacementTold
    | LegsReleased
    | RescueTold
    | StreamOver
    | SourceFailed
    | EndRequested
)


# --- Effects ---


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenLeg:
    """Start carrying the session's stream over `provider`; one attempt, no retries inside."""

    session: str
    leg: int
    provider: str
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseLeg:
    """Stop carrying it, in the background, in bounded time; an open in flight is cancelled."""

    session: str
    leg: int
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AskList:
    """Read the list of providers again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckHealth:
    """Ask for the health of one provider."""

    provider: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimPlacement:
    """Tell the control plane that the stream moved to `provider`, based on the epoch `base`."""

    session: str
    base: int
    provider: str
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmPlacement:
    """Tell the control plane that media flows where the placement of `epoch` says."""

    session: str
    epoch: int
    provider: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Announce:
    """Tell people: log, count, show. `name` is in the catalogue; the same words go everywhere."""

    name: str
    because: str
    stream: str | None = None
    provider: str | None = None
    fields: Mapping[str, str | int | float | None] = field(default_factory=dict)


class Outcome(StrEnum):
    """How a session came to its end."""

    REQUESTED = "requested"
    ALL_FAILED = "all_failed"
    NOT_ON_AIR = "not_on_air"
    STREAM_ENDED = "stream_ended"
    LOCAL_FAULT = "local_fault"


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The session is on air for the first time: its caller may go on."""

    session: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The session is over: its caller gets the outcome, and one error per failed attempt."""

    session: str
    outcome: Outcome
    because: str
    attempts: tuple[Attempt, ...] = ()


Effect = (
    OpenLeg
    | CloseLeg
    | AskList
    | CheckHealth
    | ClaimPlacement
    | ConfirmPlacement
    | Announce
    | Started
    | Ended
)
