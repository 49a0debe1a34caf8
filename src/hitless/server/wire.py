"""
The shapes of the HTTP API, beside those of `client/protocol.py`.

Every answer stands in an envelope: `{"success": true, "data": ...}`, or `{"success": false,
"error": {"code", "message"}}` with the right status. The two public endpoints keep the names that
clients rely on (`isActive`); everything else is in the words of the docs.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Generic, Literal, TypeVar

import msgspec
from msgspec import Meta


T = TypeVar("T")

LINE: Final = r"^[^\u0000-\u001f\u007f-\u009f]*$"
"""One line of text: nothing that could write elsewhere on a terminal, no NUL (PostgreSQL)."""
NAME_CHARS_MAX: Final = 200
WORDS_CHARS_MAX: Final = 300
OPTIONS_MAX: Final = 64
"""Most entries of one object that an adapter or a price is described by."""

Name = Annotated[str, Meta(max_length=NAME_CHARS_MAX, pattern=LINE)]
"""What a stream, a client or a provider is called."""
Words = Annotated[str, Meta(max_length=WORDS_CHARS_MAX, pattern=LINE)]
"""Why something is done, for people."""

Json = dict[str, Any]
"""An object whose fields belong to an adapter (Any: of any JSON type)."""


class Data(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """What a call that went well answers."""

    success: bool = True
    data: T


class Error(msgspec.Struct, frozen=True, kw_only=True):
    """What went wrong: a word for programs, a sentence for people."""

    code: str
    message: str


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """What a call that did not go well answers."""

    success: bool = False
    error: Error


class Nothing(msgspec.Struct, frozen=True, kw_only=True):
    """There is nothing to say but that it was done."""


# --- The two public endpoints ---


class ProviderShown(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """
    One provider of the public list; `config` never holds a secret.

    Attributes:
        streams: How many it carries, for callers with a key; left out: none, or not told.
        startsPerSecond: How many starts it accepts, for callers with a key; left out: not known.
    """

    name: str
    isActive: bool
    priority: int
    config: Json
    streams: int | None = None
    startsPerSecond: float | None = None


class ProviderList(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The list; `default` is there if an operator chose one."""

    providers: list[ProviderShown]
    default: str | None = None


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """How a provider is: what everybody may know."""

    healthy: bool
    provider: str
    status: Literal["active", "degraded", "down", "disabled"]


class HealthInFull(Health, frozen=True, kw_only=True):
    """
    The same for callers with a key.

    Attributes:
        grade: For people: excellent, healthy, warning, critical, disabled, unknown.
        because: Why, in words.
        level: What the verdict rests on: control, ingest, end_to_end, media; empty: nothing.
        unproven: What was not proven.
        failures: Failures in a row.
        latency_s: Mean of the last probes [s]; null: none.
        uptime: Share of the window it was up [0..1]; null: not known.
        error_rate: Share of attempts that failed [0..1]; null: none.
        checked_ago_s: Since the last check [s]; null: never.
        reporters: How many clients the verdict rests on.
    """

    grade: str
    because: str
    level: str
    unproven: list[str]
    failures: int
    latency_s: float | None
    uptime: float | None
    error_rate: float | None
    checked_ago_s: float | None
    reporters: int


# --- Streams ---


class Stream(msgspec.Struct, frozen=True, kw_only=True):
    """
    One stream as operators and clients see it.

    Attributes:
        stream: Its id.
        state: starting, live or ended.
        epoch, provider: Of its placement.
        is_carried: Whether its publisher says that media flows there.
        viewers: How many have joined and not left.
        because: Why it is there.
        changed_ago_s: Since its placement changed [s].
        rescue: A second provider for viewers that cannot reach the first; empty: none.
    """

    stream: str
    state: str
    epoch: int
    provider: str
    is_carried: bool
    viewers: int
    because: str
    group: str
    changed_ago_s: float
    rescue: str


class StreamList(msgspec.Struct, frozen=True, kw_only=True):
    """A page of streams; `next` is what to ask for after it, empty at the end."""

    streams: list[Stream]
    next: str


class StreamNamed(msgspec.Struct, frozen=True, kw_only=True):
    """The body of calls about one stream and one client."""

    stream: Name
    client: Name = ""
    because: Words = ""


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """
    The body of `POST /v1/admin/move`.

    Attributes:
        stream: Which; empty: all of `source`, or a share of them.
        source: The provider to move streams away from, when no stream is named.
        provider: Where to; empty: the next one that can.
        share: Of the streams of `source` [0..1].
        because: For the audit log.
    """

    stream: Name = ""
    source: Name = ""
    provider: Name = ""
    share: Annotated[float, Meta(gt=0, le=1)] = 1.0
    because: Words = ""


class Moved(msgspec.Struct, frozen=True, kw_only=True):
    """How many streams are being moved, and how many stay and why."""

    moved: int
    stayed: int
    because: str


# --- Administration ---


class ProviderInFull(msgspec.Struct, frozen=True, kw_only=True):
    """
    A provider as operators see it; of its secrets only the names.

    Attributes:
        is_default: Whether it is asked first, whatever the priorities say.
        streams, viewers: What it carries now.
        probed: How deep it is probed: `none`, or control, ingest or end_to_end.
        canary_s: A media canary runs so often while all is well [s]; null: none does.
        canary_cost: What that costs in 30 days, in the currency of the price; null: not known.
    """

    name: str
    adapter: str
    is_active: bool
    is_drained: bool
    is_default: bool = False
    priority: int
    config: Json
    secrets: list[str]
    weight: float
    starts_per_s: float | None
    price: Json | None
    streams: int
    viewers: int
    probed: str = "end_to_end"
    canary_s: float | None = None
    canary_cost: float | None = None
    health: HealthInFull


class ProviderChange(msgspec.Struct, frozen=True, kw_only=True):
    """
    What to change of a provider; what is left out stays.

    Attributes:
        adapter: Which adapter speaks to it; the name if never said.
        is_active: Whether streams may use it.
        is_drained: Whether it keeps what it has and gets nothing new, and is being emptied.
        priority: Lowest first.
        is_default: Whether it is asked first, whatever the priorities say.
        config: Public options of its adapter: `url`, `view_url`, `first_media_s` ...
        secrets: Sealed at rest and never shown again; null as a value removes one.
        weight: Its share of streams when many move at once.
        starts_per_s: How many starts a second it accepts [1/s].
        price: `per_gb` or `per_minute`, and `currency`; empty takes it away.
    """

    adapter: Annotated[str, Meta(max_length=64, pattern=LINE)] | None = None
    is_active: bool | None = None
    is_drained: bool | None = None
    priority: Annotated[int, Meta(ge=-(10**6), le=10**6)] | None = None
    is_default: bool | None = None
    config: Annotated[Json, Meta(max_length=OPTIONS_MAX)] | None = None
    secrets: Annotated[dict[str, str | None], Meta(max_length=OPTIONS_MAX)] | None = None
    weight: Annotated[float, Meta(ge=0, le=1e6)] | None = None
    starts_per_s: Annotated[float, Meta(gt=0, le=1e6)] | None = None
    price: Annotated[Json, Meta(max_length=OPTIONS_MAX)] | None = None


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """The body of `POST /v1/admin/check`: which provider; empty: all."""

    provider: Name = ""


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """
    What a probe found.

    Attributes:
        provider, region: Where; an empty region: it has none.
        level: How deep it went: control, ingest, end_to_end.
        ok: Whether everything down to that level works.
        because: What was found, in words.
        latency_s: To the answer, or from encoder to picture [s]; null: not measured.
        is_ours: The probe's own machine was at fault: it says nothing of the provider.
    """

    provider: str
    region: str
    level: str
    ok: bool
    because: str
    latency_s: float | None
    is_ours: bool


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """
    What holds for the whole server.

    Attributes:
        is_frozen: No automatic move of a stream that has media.
        mode: `act`, or `observe`: decide and tell, and do nothing.
        share: Percent of streams that Hitless may act on.
        default_provider: Asked first whatever the priorities say; empty: by priority.
    """

    is_frozen: bool = False
    mode: Literal["act", "observe"] = "act"
    share: int = 100
    default_provider: str = ""


class SettingsChange(msgspec.Struct, frozen=True, kw_only=True):
    """What to change of the settings; what is left out stays."""

    is_frozen: bool | None = None
    mode: Literal["act", "observe"] | None = None
    share: Annotated[int, Meta(ge=0, le=100)] | None = None
    because: Words = ""


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """Who did what, when, to what, why; before and after."""

    id: str
    at_s: float
    who: str
    what: str
    target: str
    before: Any
    after: Any
    because: str


class KeyRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A key to be made: its role, the one stream it is for, its life [s]; null: for ever."""

    role: Name
    name: Name = ""
    scope: Annotated[str, Meta(min_length=1, max_length=NAME_CHARS_MAX, pattern=LINE)] | None = (
        None
    )
    life_s: Annotated[float, Meta(ge=1, le=1e9)] | None = None


class KeyShown(msgspec.Struct, frozen=True, kw_only=True):
    """A key without its secret; `key` is there once, in the answer that made it."""

    id: str
    role: str
    scope: str | None
    name: str
    made_s: float
    expires_s: float | None
    revoked_s: float | None
    key: str | None = None


class Exchange(msgspec.Struct, frozen=True, kw_only=True):
    """
    The body of `POST /v1/exchange`: the WebSocket's messages by REST, for those who can't.

    Attributes:
        client: As in `hello`, which must be the first message ever sent.
        messages: Messages up; each as on the WebSocket.
        wait_s: How long to wait for a message down [s], at most 25.
    """

    client: Name
    messages: Annotated[list[Json], Meta(max_length=500)] = []
    wait_s: float = 0.0


class Exchanged(msgspec.Struct, frozen=True, kw_only=True):
    """Messages down, in order."""

    messages: list[Json]


class Resealed(msgspec.Struct, frozen=True, kw_only=True):
    """
    What came of sealing all secrets anew.

    Attributes:
        key: The id of the vault key that seals; the id tells nothing of the key.
        changed: Providers whose secrets were sealed with another one.
        failed: Providers that are as they were, each with the reason.
    """

    key: str
    changed: list[str]
    failed: dict[str, str]


# --- What was measured ---


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """
    What a provider carried in a time, and what that costs.

    Attributes:
        provider: Its name.
        publisher_minutes, viewer_minutes: Of streams with media, and of viewers there [min].
        streams: Streams that were started or came there.
        sent_gb, received_gb: What clients sent to it and received from it, by their own reports
            [10^9 byte]; some count none.
        cost: In `currency`; null: no price is configured, or nobody counted what it is by.
        currency: As configured; empty: none is.
        because: What the cost rests on, or why there is none.
    """

    provider: str
    publisher_minutes: float
    viewer_minutes: float
    streams: int
    cost: float | None
    currency: str
    because: str
    sent_gb: float = 0.0
    received_gb: float = 0.0


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """
    What one node decided lately.

    Attributes:
        node: Its name; each node judges for itself.
        version: Of its program.
        zero_s: What its clock in the recording calls 0 [s since 1970].
        recording: As `hitless replay` reads it: no name of a client, a stream or a network.
    """

    node: str
    version: str
    zero_s: float
    recording: Json


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """
    How a provider did in one minute or hour.

    Attributes:
        at_s: When it began [s since 1970].
        uptime: Share of the known time that it was up [0..1]; null: not known.
        error_rate: Share of probes, starts and joins that failed [0..1]; null: none.
        latency_s: Mean of control probes [s]; null: none.
        streams, viewers: Carried at a time, on average.
    """

    at_s: float
    uptime: float | None
    error_rate: float | None
    latency_s: float | None
    streams: float
    viewers: float
