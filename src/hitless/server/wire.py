"""
The shapes of the HTTP API, beside those of `client/protocol.py`.

Every answer stands in an envelope: `{"success": true, "data": ...}`, or `{"success": false,
"error": {"code", "message"}}` with the right status. The two public endpoints keep the names that
clients rely on (`isActive`); everything else is in the words of the docs.
"""

from __future__ import annotations

from typing import Any, Generic, Literal, TypeVar

import msgspec


T = TypeVar("T")

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


class ProviderShown(msgspec.Struct, frozen=True, kw_only=True):
    """One provider of the public list; `config` never holds a secret."""

    name: str
    isActive: bool
    priority: int
    config: Json


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

    stream: str
    client: str = ""
    because: str = ""


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

    stream: str = ""
    source: str = ""
    provider: str = ""
    share: float = 1.0
    because: str = ""


class Moved(msgspec.Struct, frozen=True, kw_only=True):
    """How many streams are being moved, and how many stay and why."""

    moved: int
    stayed: int
    because: str


# --- Administration ---


class ProviderInFull(msgspec.Struct, frozen=True, kw_only=True):
    """A provider as operators see it; of its secrets only the names."""

    name: str
    adapter: str
    is_active: bool
    is_drained: bool
    priority: int
    config: Json
    secrets: list[str]
    weight: float
    starts_per_s: float | None
    price: Json | None
    streams: int
    viewers: int
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
        price: `per_gb` or `per_minute`, and `currency`.
    """

    adapter: str | None = None
    is_active: bool | None = None
    is_drained: bool | None = None
    priority: int | None = None
    is_default: bool | None = None
    config: Json | None = None
    secrets: dict[str, str | None] | None = None
    weight: float | None = None
    starts_per_s: float | None = None
    price: Json | None = None


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """The body of `POST /v1/admin/check`: which provider; empty: all."""

    provider: str = ""


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
    share: int | None = None
    because: str = ""


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

    role: str
    name: str = ""
    scope: str | None = None
    life_s: float | None = None


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

    client: str
    messages: list[Json] = []
    wait_s: float = 0.0


class Exchanged(msgspec.Struct, frozen=True, kw_only=True):
    """Messages down, in order."""

    messages: list[Json]
