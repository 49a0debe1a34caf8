"""
Every number that a decision depends on: default, unit, limits and what it means, in one place.

`hitless config`, `docs/reference/configuration.md`, the environment (`HITLESS_POLICY__...`) and
the check of `hitless.toml` are all made from the fields of `Policy`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any

from ..errors import ConfigError


class ReturnPolicy(StrEnum):
    """What happens when a provider that was left is well again."""

    STAY = "stay"
    """Streams stay where they are; new starts use it again."""
    RETURN = "return"
    """Streams go back to it after `return_after_s` of proven media."""


class SelfView(StrEnum):
    """Whether a publisher views its own stream to prove that a provider forwards it."""

    KEPT = "kept"
    """From the start, and then audio only for as long as the leg lives."""
    START = "start"
    """Only to prove a new leg; one that turns gray later goes unnoticed without a server."""
    OFF = "off"
    """Never: receiver reports are proof enough."""


def _setting(default: Any, unit: str, low: float, high: float, says: str) -> Any:
    return field(default=default, metadata={"unit": unit, "low": low, "high": high, "says": says})


def _choice(default: Any, says: str) -> Any:
    return field(default=default, metadata={"unit": "", "says": says})


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """
    The knobs. Defaults are right for a talk show over providers on other continents.

    Raises:
        ConfigError: A value is outside its limits; the message names the field and the limits.
    """

    max_retries: int = _setting(3, "", 0, 20, "retries after the first attempt of a start or join")
    same_provider_retries: int = _setting(
        1, "", 0, 10, "retries on the same provider before the next one is asked"
    )
    same_provider_retries_on_air: int = _setting(
        0, "", 0, 10, "the same for a stream that is on air: go to the next provider at once"
    )
    retry_delay_s: float = _setting(0.1, "s", 0, 60, "first delay before a retry; it doubles")
    retry_delay_s_max: float = _setting(2.0, "s", 0, 300, "longest delay before a retry")
    start_s_max: float = _setting(15.0, "s", 0.1, 600, "a start or join ends within this time")
    first_media_s: float = _setting(
        3.0, "s", 0.1, 60, "time for a new leg to prove media, unless its provider says otherwise"
    )
    hedge_s: float = _setting(
        0.25, "s", 0.01, 60, "a joining viewer asks the next provider too after this time"
    )

    health_interval_s: float = _setting(
        30.0, "s", 0.05, 3600, "how often list and health are asked"
    )
    health_timeout_s: float = _setting(5.0, "s", 0.05, 300, "a check without answer fails then")
    max_failures: int = _setting(3, "", 1, 100, "failures in a row that open a circuit")
    media_beats_health: bool = _choice(
        True, "whether a check that gets no answer is ignored while frames flow"
    )
    fresh_media_s: float = _setting(2.0, "s", 0.1, 60, "media younger than this counts as flowing")

    ban_s: float = _setting(10.0, "s", 0.1, 3600, "first ban of a provider whose circuit opens")
    ban_s_max: float = _setting(300.0, "s", 0.1, 86_400, "longest ban; bans double")
    retry_after_s_max: float = _setting(300.0, "s", 0, 86_400, "longest Retry-After obeyed")

    return_policy: ReturnPolicy = _choice(
        ReturnPolicy.STAY, "`stay`, or `return` to the preferred provider when it is well again"
    )
    return_after_s: float = _setting(
        300.0, "s", 0, 86_400, "media that a recovered provider must prove before a return"
    )
    damping_half_life_s: float = _setting(
        120.0, "s", 1, 86_400, "a provider's penalty for failing on air halves in this time"
    )

    silence_s: float = _setting(0.2, "s", 0.05, 60, "shortest silence of all media that counts")
    path_silence_s: float = _setting(
        0.25, "s", 0.05, 60, "shortest silence of STUN answers that counts"
    )
    one_kind_silence_s: float = _setting(
        1.5, "s", 0.1, 300, "shortest silence of one kind while another flows that counts"
    )
    opens_on_doubt: bool = _choice(
        True, "whether a publisher opens the next leg at half of silence_s, before it is certain"
    )
    silent_leg_s: float = _setting(
        5.0, "s", 0.1, 300, "a leg that stays silent is closed after this time"
    )
    self_view: SelfView = _choice(
        SelfView.KEPT, "`kept`, `start` or `off`: how a publisher proves that it is forwarded"
    )
    overlap_s: float | None = _setting(
        None, "s", 0, 3600, "both legs are fed this long; default health_interval_s + 5"
    )

    end_grace_s: float = _setting(
        5.0, "s", 0.1, 300, "a stream absent everywhere for this long is over"
    )
    give_up_s: float = _setting(300.0, "s", 0.1, 86_400, "a stream off air this long is ended")
    network_grace_s: float = _setting(
        5.0, "s", 0, 300, "after our own network came back, nobody is blamed for this long"
    )
    close_s_max: float = _setting(2.0, "s", 0.1, 60, "closing a leg is abandoned after this time")

    def __post_init__(self) -> None:
        for knob in fields(self):
            value = getattr(self, knob.name)
            kind: type[Any] = type(knob.default)
            if isinstance(knob.default, StrEnum):
                object.__setattr__(self, knob.name, _word(knob.name, value, kind))
            elif kind is bool:
                if not isinstance(value, bool):
                    raise ConfigError(
                        f"{knob.name} = {value!r} is not possible: give true or false"
                    )
            elif not (value is None and knob.default is None):
                check(knob.name, value, knob.metadata)
                if kind is int and not isinstance(value, int):
                    raise ConfigError(
                        f"{knob.name} = {value!r} is not possible: give a whole number"
                    )
        if self.retry_delay_s > self.retry_delay_s_max:
            raise ConfigError("retry_delay_s must not exceed retry_delay_s_max")
        if self.ban_s > self.ban_s_max:
            raise ConfigError("ban_s must not exceed ban_s_max")

    @property
    def overlap(self) -> float:
        """How long a planned move feeds both legs [s]."""
        return self.health_interval_s + 5 if self.overlap_s is None else self.overlap_s


def _word(name: str, value: object, kind: type[StrEnum]) -> StrEnum:
    try:
        return kind(str(value))
    except ValueError:
        words = ", ".join(kind)
        raise ConfigError(f"{name} = {value!r} is not possible: give one of {words}") from None


def check(name: str, value: object, limits: Any) -> None:
    """
    Check one number against its limits.

    Raises:
        ConfigError: Naming the field, the value and the limits.
    """
    if "low" not in limits:
        return
    low, high, unit = limits["low"], limits["high"], limits["unit"]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not low <= value <= high:
        raise ConfigError(
            f"{name} = {value!r} is not possible: give a number from {low:g} to {high:g}"
            + (f" {unit}" if unit else "")
        )
