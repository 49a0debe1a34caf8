"""
Everything that can be broken on purpose, in one catalogue.

`hitless lab break NAME FAULT`, its `--help`, `docs/reference/faults.md` and the stand-ins' control
API are all made from `CATALOGUE`. A fault is injected in one of five places (`Place`); what is
sent there is data of the entry, so that nobody has to know a fault by its name.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

from ..errors import ConfigError


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
    """

    name: str
    place: Place
    says: str
    parameters: tuple[Parameter, ...] = ()
    order: Mapping[str, Any] = field(default_factory=_nothing)
    heal: Mapping[str, Any] = field(default_factory=_nothing)


def _stand(name: str, says: str, *parameters: Parameter) -> Fault:
    return Fault(
        name=name,
        place=Place.STAND,
        says=says,
        parameters=parameters,
        order=MappingProxyType({"fault": name, "on": True}),
        heal=MappingProxyType({"fault": name, "on": False}),
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

_BY_NAME: Final = {fault.name: fault for fault in CATALOGUE}


def find(name: str) -> Fault:
    """
    Return the fault of this name.

    Raises:
        ConfigError: There is none; the message names the nearest one.
    """
    fault = _BY_NAME.get(name)
    if fault is None:
        near = difflib.get_close_matches(name, _BY_NAME, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(_BY_NAME)}"
        raise ConfigError(f"fault {name[:80]!r} is unknown; {hint}")
    return fault


def numbers(fault: Fault, given: Mapping[str, object]) -> dict[str, float]:
    """
    Return every parameter of a fault, given or default.

    Raises:
        ConfigError: An unknown parameter, or one outside its limits; the message says which.
    """
    known = {parameter.name: parameter for parameter in fault.parameters}
    for name in given:
        if name not in known:
            takes = ", ".join(known) if known else "none"
            raise ConfigError(f"fault {fault.name!r} has no {name[:80]!r}; it takes: {takes}")
    values: dict[str, float] = {}
    for name, parameter in known.items():
        value = given.get(name, parameter.default)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if (
            not is_number
            or not math.isfinite(value)  # type: ignore[arg-type]  # is_number says so
            or not parameter.low <= value <= parameter.high  # type: ignore[operator]
        ):
            raise ConfigError(
                f"{name} = {value!r} is not possible for fault {fault.name!r}: "
                f"give a number from {parameter.low:g} to {parameter.high:g} {parameter.unit}"
            )
        values[name] = float(value)  # type: ignore[arg-type]
    return values


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """How packets are lost and delayed: share lost [0..1], longest delay [s]."""

    share: float
    delay_s_max: float


class Injected:
    """
    The faults that are on in one stand-in.

    Attributes:
        is_mute: `gray-ingest`: nothing is sent, nothing is heard.
        forwards: Not `gray-forwarding`.
        drops_audio: `no-audio`.
        loss: `loss`, or None. These four are read for every packet, hence not looked up.
    """

    def __init__(self) -> None:
        self._on: dict[str, dict[str, float]] = {}
        self._settle()

    def switch(self, name: str, on: bool, given: Mapping[str, object]) -> None:
        """
        Turn a fault on, with its numbers, or off. Idempotent.

        Raises:
            ConfigError: No such fault here, or a number outside its limits.
        """
        fault = find(name)
        if fault.place is not Place.STAND:
            raise ConfigError(f"fault {name!r} is injected in the {fault.place}, not here")
        values = numbers(fault, given)
        if on:
            self._on[name] = values
        else:
            self._on.pop(name, None)
        self._settle()

    def clear(self) -> None:
        """Heal everything."""
        self._on.clear()
        self._settle()

    def value(self, name: str, parameter: str) -> float | None:
        """Return a number of a fault; None while the fault is off."""
        values = self._on.get(name)
        return None if values is None else values[parameter]

    def __contains__(self, name: str) -> bool:
        return name in self._on

    def as_json(self) -> dict[str, dict[str, float]]:
        """Return what is on, with its numbers."""
        return {name: dict(values) for name, values in self._on.items()}

    def _settle(self) -> None:
        self.is_mute = "gray-ingest" in self._on
        self.forwards = "gray-forwarding" not in self._on
        self.drops_audio = "no-audio" in self._on
        loss = self._on.get("loss")
        self.loss = Loss(share=loss["share"], delay_s_max=loss["delay_s_max"]) if loss else None
