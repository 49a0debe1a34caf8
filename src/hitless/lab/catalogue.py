"""
The catalogue of faults: what each is, where it is injected, and what is sent there.

Read it through `faults.py`, which finds entries and keeps what is on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final


class Place(StrEnum):
    """Where a fault is injected."""

    STAND = "stand"
    """In the stand-in: `POST /control/faults`."""
    SIGNAL = "signal"
    """A signal to the stand-in's process; `order["signal"]` names it."""
    RELAY = "relay"
    """In the network relay between one client and the stand-ins: `POST /control`."""
    FRONT = "front"
    """In the front, the proxy before the server: `PATCH /control`."""
    SERVER = "server"
    """An operator's call to the server: `PATCH /v1/admin/providers/NAME`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One number of a fault: default, limits and unit."""

    name: str
    default: float
    low: float
    high: float
    unit: str
    says: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """
    The one word that a fault may take, as `FAULT:WORD`.

    Attributes:
        name: Its field in the order.
        default: What it is if none is given.
        possible: What it may be.
    """

    name: str
    default: str
    possible: tuple[str, ...]


def _nothing() -> Mapping[str, Any]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """
    One way to be broken.

    Attributes:
        name: What the operator types.
        place: Where it is injected.
        says: One sentence for `--help` and the docs.
        parameters: Its numbers, in order of `break NAME FAULT [NUMBER...]`.
        order: What breaks it, for the place: the signal's name, or the JSON body and its path.
        heal: What ends it, likewise; empty if only a restart does (`killed`).
        word: What may follow the name after a colon; its default is in `order`.
        speaks: Which stand-ins have it, by what they speak; empty: all.
    """

    name: str
    place: Place
    says: str
    parameters: tuple[Parameter, ...] = ()
    order: Mapping[str, Any] = field(default_factory=_nothing)
    heal: Mapping[str, Any] = field(default_factory=_nothing)
    word: Word | None = None
    speaks: tuple[str, ...] = ()


def _stand(
    name: str,
    says: str,
    *parameters: Parameter,
    word: Word | None = None,
    speaks: tuple[str, ...] = (),
) -> Fault:
    said = {} if word is None else {word.name: word.default}
    return Fault(
        name=name,
        place=Place.STAND,
        says=says,
        parameters=parameters,
        order=MappingProxyType({"fault": name, "on": True, **said}),
        heal=MappingProxyType({"fault": name, "on": False}),
        word=word,
        speaks=speaks,
    )


def _signal(name: str, says: str, order: str, heal: str | None) -> Fault:
    return Fault(
        name=name,
        place=Place.SIGNAL,
        says=says,
        order=MappingProxyType({"signal": order}),
        heal=MappingProxyType({"signal": heal} if heal else {}),
    )


def _relay(
    name: str, says: str, order: dict[str, Any], heal: dict[str, Any], *parameters: Parameter
) -> Fault:
    return Fault(
        name=name,
        place=Place.RELAY,
        says=says,
        parameters=parameters,
        order=MappingProxyType(order),
        heal=MappingProxyType(heal),
    )


def _change(
    place: Place, name: str, says: str, order: dict[str, Any], heal: dict[str, Any]
) -> Fault:
    return Fault(
        name=name,
        place=place,
        says=says,
        order=MappingProxyType(order),
        heal=MappingProxyType(heal),
    )


_SHARE = Parameter(
    name="share", default=0.02, low=0, high=1, unit="", says="share of packets lost, 0..1"
)
_LATE = Parameter(
    name="delay_s_max", default=0.1, low=0, high=2, unit="s", says="longest delay of a packet"
)

WHIP: Final = "whip"
AGORA: Final = "agora"
ZEGOCLOUD: Final = "zegocloud"
"""What a stand-in can speak: WHIP and WHEP alone, or also credentials and API of a provider."""

_BOTH: Final = (AGORA, ZEGOCLOUD)

HOME: Final = "home"
"""The region that a stand-in is in itself."""

REGIONS: Final[Mapping[str, tuple[str, ...]]] = {
    WHIP: (),
    AGORA: ("eu", "na", "ap", "cn"),
    ZEGOCLOUD: ("fra", "sha", "hkg", "lax", "bom", "sgp"),
}
"""Regions of the documents by what a stand-in speaks; it is in the first one itself."""

_EVERYWHERE: Final = tuple(region for each in REGIONS.values() for region in each)

CATALOGUE: Final[tuple[Fault, ...]] = (
    _stand("refuse", "answers 503 to every publisher and viewer"),
    _stand("refuse-publishers", "answers 503 to publishers; viewers are served"),
    _stand("refuse-viewers", "answers 503 to viewers; publishers are served"),
    _stand(
        "refuse-429",
        "answers 429 with Retry-After to every publisher and viewer",
        Parameter(name="retry_after_s", default=5, low=0, high=3600, unit="s", says="Retry-After"),
    ),
    _stand(
        "slow",
        "answers publishers and viewers seconds late",
        Parameter(name="delay_s", default=6, low=0, high=60, unit="s", says="time to the answer"),
    ),
    _stand(
        "gray-ingest",
        "answers 201 and healthy, then sends and hears no packet: no STUN, DTLS, RTP or report",
    ),
    _stand(
        "gray-forwarding",
        "acknowledges all it receives, sends receiver reports, forwards nothing to viewers",
    ),
    _stand("no-audio", "forwards video and drops audio"),
    _stand(
        "loss",
        "loses and delays packets at random, from publishers and towards viewers",
        _SHARE,
        _LATE,
    ),
    _stand(
        "token-expired",
        "every token counts as expired: joins are answered with 401, and Agora removes who is "
        "in, as ZEGOCLOUD does in kick mode",
    ),
    _stand("token-invalid", "no token is accepted: joins are answered with 401, sessions go on"),
    _stand(
        "privileges-unchecked",
        "a viewer's token publishes too, as at Agora without co-host authentication",
        speaks=_BOTH,
    ),
    _stand(
        "kick-mode",
        "who joins from now on is put out when its token ends, as where ZEGOCLOUD's support has "
        "switched a project to kick mode",
        speaks=(ZEGOCLOUD,),
    ),
    _stand(
        "join-rejected",
        "joins are rejected with Agora's error 17, as if the user were in the channel already",
        speaks=(AGORA,),
    ),
    _stand(
        "quota",
        "no more streams than so many: further publishers and stream keys are answered with 429",
        Parameter(name="streams_max", default=0, low=0, high=1000, unit="", says="streams"),
    ),
    _stand(
        "zombie-publisher",
        "a publisher that left stays listed and blocks its stream until the API kicks it",
        speaks=_BOTH,
    ),
    _stand(
        "region-down",
        "one region (as region-down:eu; else its own) answers 503 and loses its sessions",
        word=Word(name="region", default=HOME, possible=(HOME, *_EVERYWHERE)),
        speaks=_BOTH,
    ),
    _stand(
        "rate-limited",
        "its control API refuses every call as too frequent: 429, or ZEGOCLOUD's code for it",
        speaks=_BOTH,
    ),
    _stand(
        "api-500",
        "its control API fails inside: 500, or ZEGOCLOUD's code for it in an answer of 200",
        speaks=_BOTH,
    ),
    _stand("health-503", "answers 503 to health checks while media flows"),
    _stand("health-hangs", "never answers health checks while media flows"),
    _signal("killed", "its process is killed (SIGKILL)", "SIGKILL", None),
    _signal(
        "hang",
        "its process is stopped (SIGSTOP): TCP accepts, nothing answers",
        "SIGSTOP",
        "SIGCONT",
    ),
    _relay(
        "cut-off",
        "a client reaches nothing of it: every packet between them is dropped, none refused",
        {"down": True},
        {"down": False},
    ),
    _relay(
        "bad-network",
        "packets between a client and it are lost and delayed at random",
        {"loss": _SHARE.default, "delay_s_max": _LATE.default},
        {"loss": 0, "delay_s_max": 0},
        Parameter(
            name="loss", default=0.02, low=0, high=1, unit="", says="share of packets lost, 0..1"
        ),
        _LATE,
    ),
    _change(
        Place.SERVER,
        "disabled",
        "the server lists it as not active",
        {"is_active": False},
        {"is_active": True},
    ),
    _change(
        Place.FRONT,
        "unhealthy",
        "the server seems to say that it is not healthy",
        {"healthy": False},
        {"healthy": None},
    ),
    _change(
        Place.FRONT,
        "backend-slow",
        "list and health are answered after 3 s",
        {"slow_s": 3.0},
        {"slow_s": 0.0},
    ),
    _change(
        Place.FRONT,
        "backend-500",
        "list and health are answered with 500",
        {"broken": "500"},
        {"broken": None},
    ),
    _change(
        Place.FRONT,
        "backend-bad-json",
        "list and health are answered with what is not JSON",
        {"broken": "bad-json"},
        {"broken": None},
    ),
    _change(
        Place.FRONT,
        "backend-hangs",
        "list and health are never answered",
        {"broken": "hang"},
        {"broken": None},
    ),
    _change(
        Place.FRONT,
        "backend-lies",
        "the list holds nonsense",
        {"broken": "lie"},
        {"broken": None},
    ),
    _change(
        Place.FRONT,
        "backend-away",
        "the server is gone for every client: its connections are cut, new ones refused",
        {"away": True},
        {"away": False},
    ),
    _change(
        Place.FRONT,
        "backend-silent",
        "no packet passes between the server and its clients, and none is refused",
        {"away": "silent"},
        {"away": False},
    ),
)
