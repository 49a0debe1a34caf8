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
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from ..errors import ConfigError
from .catalogue import CATALOGUE, HOME, REGIONS, WHIP, Fault, Parameter, Place, Word


__all__ = [
    "CATALOGUE",
    "Fault",
    "Injected",
    "Loss",
    "Parameter",
    "Place",
    "Word",
    "find",
    "numbers",
]

_BY_NAME: Final = {fault.name: fault for fault in CATALOGUE}


def find(name: str) -> Fault:
    """
    Return the fault of this name.

    Args:
        name: `FAULT`, or `FAULT:WORD` where it takes a word; the word is then in its order.

    Raises:
        ConfigError: There is none; the message names the nearest one. Or no such word.
    """
    name, colon, said = name.partition(":")
    fault = _BY_NAME.get(name)
    if fault is None:
        near = difflib.get_close_matches(name, _BY_NAME, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(_BY_NAME)}"
        raise ConfigError(f"fault {name[:80]!r} is unknown; {hint}")
    if not colon:
        return fault
    if fault.word is None:
        raise ConfigError(f"fault {name!r} takes no word after a colon")
    order = {**fault.order, fault.word.name: _checked(fault, fault.word, said)}
    return replace(fault, order=MappingProxyType(order))


def _checked(fault: Fault, word: Word, said: object) -> str:
    if not isinstance(said, str) or said not in word.possible:
        known = ", ".join(word.possible)
        raise ConfigError(
            f"{word.name} = {ascii(said)[:40]} is not possible for fault {fault.name!r}: "
            f"give one of {known}"
        )
    return said


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

    Args:
        speaks: What the stand-in speaks; others' faults are refused.

    Attributes:
        speaks: As given.
        home: The region that the stand-in is in; empty where there are none.
        is_mute: `gray-ingest`: nothing is sent, nothing is heard.
        forwards: Not `gray-forwarding`.
        drops_audio: `no-audio`.
        loss: `loss`, or None. These four are read for every packet, hence not looked up.
    """

    def __init__(self, speaks: str = WHIP) -> None:
        self.speaks = speaks
        self.home = next(iter(REGIONS[speaks]), "")
        self._on: dict[str, dict[str, float | str]] = {}
        self._settle()

    def switch(self, name: str, on: bool, given: Mapping[str, object]) -> None:
        """
        Turn a fault on, with its numbers and its word, or off. Idempotent.

        Raises:
            ConfigError: No such fault here, or a number or word that it cannot have.
        """
        fault = find(name)
        if fault.place is not Place.STAND:
            raise ConfigError(f"fault {name!r} is injected in the {fault.place}, not here")
        if fault.speaks and self.speaks not in fault.speaks:
            who = " or ".join(fault.speaks)
            raise ConfigError(
                f"fault {name!r} needs a stand-in that speaks {who}; this one speaks {self.speaks}"
            )
        left = dict(given)
        words = {}
        if fault.word is not None:
            said = left.pop(fault.word.name, fault.word.default)
            words[fault.word.name] = self._here(_checked(fault, fault.word, said))
        values: dict[str, float | str] = {**numbers(fault, left), **words}
        if on:
            self._on[name] = values
        else:
            self._on.pop(name, None)
        self._settle()

    def _here(self, region: str) -> str:
        known = REGIONS[self.speaks]
        if region != HOME and region not in known:
            raise ConfigError(f"{self.speaks} has no region {region!r}: {', '.join(known)}")
        return self.home if region == HOME else region

    def clear(self) -> None:
        """Heal everything."""
        self._on.clear()
        self._settle()

    def value(self, name: str, parameter: str) -> float | None:
        """Return a number of a fault; None while the fault is off."""
        values = self._on.get(name)
        return None if values is None else float(values[parameter])

    def is_down(self, region: str) -> bool:
        """Whether `region-down` is on for this region."""
        return self._on.get("region-down", {}).get("region") == region

    def __contains__(self, name: str) -> bool:
        return name in self._on

    def as_json(self) -> dict[str, dict[str, float | str]]:
        """Return what is on, with its numbers and its word."""
        return {name: dict(values) for name, values in self._on.items()}

    def _settle(self) -> None:
        self.is_mute = "gray-ingest" in self._on
        self.forwards = "gray-forwarding" not in self._on
        self.drops_audio = "no-audio" in self._on
        loss = self._on.get("loss")
        self.loss: Loss | None = None
        if loss:
            self.loss = Loss(share=float(loss["share"]), delay_s_max=float(loss["delay_s_max"]))
