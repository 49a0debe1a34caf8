"""
What a client and the control plane say to each other, version 1.

Each message is one JSON object with a `type`; `docs/reference/protocol.md` tells when it is said
and what must follow. Unknown fields are ignored and unknown types are answered with a `problem`,
so that an old end can speak with a new one. Times are durations in seconds: no clock is shared.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta


VERSION: Final = 1
MESSAGE_BYTES_MAX: Final = 1 << 16
"""Longest message [byte]."""

NAME_CHARS_MAX: Final = 200
WORDS_MAX: Final = 64
"""Most adapters, codecs or legs that one message names."""

_NO_NUL: Final = r"^[^\u0000]*$"
"""What PostgreSQL cannot store (its manual, section 8.3) is refused before it is believed."""

Text = Annotated[str, Meta(pattern=_NO_NUL)]
Name = Annotated[str, Meta(max_length=NAME_CHARS_MAX, pattern=_NO_NUL)]
Whole = Annotated[int, Meta(ge=0, lt=1 << 53)]
"""What JSON carries exactly (RFC 8259 section 6), and both databases can store."""
Words = Annotated[tuple[str, ...], Meta(max_length=WORDS_MAX)]

Role = Literal["publisher", "viewer"]
LegState = Literal["opening", "live", "silent", "heard", "failed", "closed"]
Retry = Literal["", "same", "next", "never"]
Credential = dict[str, Any]
"""What an adapter needs for one stream and role; of any JSON type, the adapter knows."""


class Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", omit_defaults=True):
    """One message; its tag is the `type` on the wire."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """
    What a client is given when it starts or joins a stream.

    Attributes:
        stream: Its id.
        role: What this client does with it.
        epoch: Of the placement; 0: nobody publishes it yet.
        provider: Who carries it; empty: nobody yet.
        order: Providers to fall back on, best first, `provider` among them.
        credentials: By provider, for this stream and role; the stand-by ones minted ahead.
        credential_s: How long the one of `provider` is valid [s].
        outage_s: How long the others are valid: a client goes on from its plan so long [s].
        slot_s: A publisher's own moment among all that would lose `provider` with it [s after its
            media was lost]: before it nobody who cannot ask the server goes on; 0: at once. A
            client that reads the list finds a newer one by what that says (`core/slots.py`).
        token: The signed facts of this plan; a server that lost its database believes it.
        because: Why there.
    """

    stream: str
    role: Role
    epoch: int = 0
    provider: str = ""
    order: tuple[str, ...] = ()
    credentials: dict[str, Credential] = {}
    credential_s: float = 0.0
    outage_s: float = 0.0
    slot_s: float = 0.0
    token: str = ""
    because: str = ""


class PlanRequest(msgspec.Struct, frozen=True, kw_only=True):
    """
    The body of `POST /v1/start` and `POST /v1/join`.

    Attributes:
        stream: Its id. In the body: an id may hold characters that no path can.
        client: The client's own name for itself, the same after a reconnect: 1 to 100 characters.
        adapters: What it can open; empty: everything.
        codecs: What it can decode or send; empty: everything.
        group: Streams of one group move together; empty: none.
        plan: The token of the plan it has from before; empty: none.
        provider: Where it is on air already, without having been told so; empty: nowhere.
    """

    stream: Name
    client: Name
    adapters: Words = ()
    codecs: Words = ()
    group: Name = ""
    plan: Text = ""
    provider: Name = ""


# --- Up: from the client ---


class SeenLeg(msgspec.Struct, frozen=True, kw_only=True):
    """A leg with media that a remote hand still has when it comes back; its number is its own."""

    leg: Whole
    provider: Name


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """One stream of a client, as it knows it when it connects."""

    stream: Name
    role: Role
    epoch: Whole = 0
    provider: Name = ""
    plan: Text = ""
    legs: Annotated[tuple[SeenLeg, ...], Meta(max_length=WORDS_MAX)] = ()
    """Of a remote hand: what carries it still; the one on air is that of `provider`."""
    wait_s: float = 0.0
    """Of a remote hand that watches: how long it waits for a publisher [s]."""
    group: Name = ""
    """Of a remote hand that publishes: streams of one group move together."""


class Hello(Message, frozen=True, kw_only=True, tag="hello"):
    """
    The first message of every connection: who it is and what it has seen.

    Said again on the same connection it adds streams.
    """

    client: Name
    version: int = VERSION
    hands: bool = False
    """Whether the server decides for it (a remote hand); else it decides by itself."""
    adapters: Words = ()
    codecs: Words = ()
    region: Name = ""
    """Where it is, by the name that providers' `regions` have; empty: not known."""
    streams: tuple[Seen, ...] = ()


class Claim(Message, frozen=True, kw_only=True, tag="claim"):
    """A publisher moved its stream to `provider`, based on the placement of epoch `base`."""

    stream: Name
    base: Whole
    provider: Name
    because: Text = ""


class Confirm(Message, frozen=True, kw_only=True, tag="confirm"):
    """Media flows where the placement of `epoch` says: the publisher's, or the viewer's first."""

    stream: Name
    epoch: Whole
    provider: Name


class LegNews(Message, frozen=True, kw_only=True, tag="leg"):
    """
    What became of one leg of a client.

    Attributes:
        stream, provider, leg: Which one; `leg` is the number that `open` gave it.
        state: What it came to.
        error: Of a failed one, the name of the error: `Unreachable`, `Refused`, `NotOnAir` ...
        because: In words.
        retry: Of a failed one, whether to ask again; empty: as usual for that error.
        retry_after_s: How long the provider wants to be left alone [s]; 0: it did not say.
        mediaAge: Of a silent one, the age of its last media [s].
    """

    stream: Name
    provider: Name
    state: LegState
    leg: Whole = 0
    error: Text = ""
    because: Text = ""
    retry: Retry = ""
    retry_after_s: float = 0.0
    mediaAge: float = 0.0


class Report(Message, frozen=True, kw_only=True, tag="report"):
    """
    How a stream is doing at this client, every `report_s`; W3C webrtc-stats names.

    Attributes:
        stream, provider: Which one, and where.
        mediaAge: Of its last media [s].
        packetsLost, packetsReceived: Of the leg on air since it was opened, as its receiver counts
            them; their growth from one report to the next is the loss. A sender that is told only
            what was lost takes the rest of what it sent for received.
        jitter, roundTripTime: [s].
        framesPerSecond: [1/s].
        bytesSent, bytesReceived: Over the legs there since the report before this one: the growth
            of those counters, so that a server that never heard of this client counts right
            [byte]; 0: none, or not counted.
    """

    stream: Name
    provider: Name
    mediaAge: float = 0.0
    packetsLost: float = 0.0
    packetsReceived: Whole = 0
    jitter: float = 0.0
    roundTripTime: float = 0.0
    framesPerSecond: float = 0.0
    bytesSent: Whole = 0
    bytesReceived: Whole = 0


class Finish(Message, frozen=True, kw_only=True, tag="finish"):
    """A publisher ended its stream; a viewer left it."""

    stream: Name
    because: Text = ""


class Renew(Message, frozen=True, kw_only=True, tag="renew"):
    """The credential of a provider was rejected or runs out: a new plan is asked for."""

    stream: Name
    provider: Name = ""


Up = Hello | Claim | Confirm | LegNews | Report | Finish | Renew


# --- Down: from the server ---


class Welcome(Message, frozen=True, kw_only=True, tag="welcome"):
    """The answer to `hello`."""

    node: str
    version: int = VERSION
    report_s: float = 10.0


class Placement(Message, frozen=True, kw_only=True, tag="placement"):
    """
    Where a stream is. Only a greater epoch than the last is obeyed.

    A claim is answered by one too, and `is_own` says that it was accepted: a publisher that has
    moved on meanwhile does not go back for it. Otherwise somebody else was quicker, and this is
    where the stream goes.
    """

    stream: str
    epoch: int
    provider: str
    because: str = ""
    is_own: bool = False
    delay_s: float = 0.0
    """A client with media moves after so long [s]; one without moves at once."""


class Release(Message, frozen=True, kw_only=True, tag="release"):
    """The viewers followed to the placement of `epoch`: older legs may close."""

    stream: str
    epoch: int


class Rescue(Message, frozen=True, kw_only=True, tag="rescue"):
    """One more leg for viewers that cannot reach the provider on air; `provider` empty: over."""

    stream: str
    provider: str = ""
    because: str = ""


class Over(Message, frozen=True, kw_only=True, tag="over"):
    """The stream has ended, or this client was removed from it."""

    stream: str
    because: str = ""
    epoch: int = 0
    """
    Of the stream that ended, or of the placement that fences. Who waits for the next stream of
    this name goes on waiting, and a publisher that has obeyed a greater one goes on; 0: all obey.
    """
    outcome: str = ""
    """To a remote hand, how: one of `core.events.Outcome`; empty: the server ended it."""


class NewPlan(Message, frozen=True, kw_only=True, tag="plan"):
    """A plan that takes the place of the one before."""

    plan: Plan


class Open(Message, frozen=True, kw_only=True, tag="open"):
    """To a remote hand: carry the stream over `provider`, with this credential. One attempt."""

    stream: str
    leg: int
    provider: str
    credential: Credential = {}
    because: str = ""


class Close(Message, frozen=True, kw_only=True, tag="close"):
    """To a remote hand: let go of a leg, an opening one included."""

    stream: str
    leg: int
    because: str = ""


class Problem(Message, frozen=True, kw_only=True, tag="problem"):
    """A message could not be obeyed; nothing else changed."""

    code: str
    message: str
    stream: str = ""


Down = Welcome | Placement | Release | Rescue | Over | NewPlan | Open | Close | Problem

encode: Final = msgspec.json.Encoder().encode
decode_up: Final = msgspec.json.Decoder(Up).decode
decode_down: Final = msgspec.json.Decoder(Down).decode
