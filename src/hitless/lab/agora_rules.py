"""
Ban rules of the stand-in for Agora: who may not join or publish, and until when.

From Agora's documents as of 2026-07-01 (`channel-management-api`, ban user privileges).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

from ..errors import ConfigError
from ..media.frame import Kind
from .gate import Pass


JOIN: Final = "join_channel"
KINDS: Final = {"publish_audio": Kind.AUDIO, "publish_video": Kind.VIDEO}

DEFAULT_S: Final = 3600
MINUTES: Final = (1, 1440)
SECONDS: Final = (10, 86_430)
RULES_MAX: Final = 1000
"""Rules that are kept; the oldest goes when there are more. The documents name no limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """
    One rule; who is meant must match every field that is set.

    Attributes:
        number: Its id.
        channel: Which channel; None: every.
        uid: Whom; None: everybody.
        address: From which IP address; None: from any.
        privileges: What is taken away.
        until_s, made_s, changed_s: When, of the wall clock [s].
    """

    number: int
    channel: str | None
    uid: int | None = field(repr=False)
    address: str | None = field(repr=False)
    privileges: tuple[str, ...]
    until_s: float
    made_s: float
    changed_s: float

    def means(self, who: Pass) -> bool:
        """Whether somebody is meant."""
        return (
            self.channel in (None, who.room)
            and (self.uid is None or str(self.uid) == who.user)
            and self.address in (None, who.address)
        )

    def as_json(self, app_id: str) -> dict[str, Any]:
        """Return it as the list of rules shows it."""
        return {
            "id": self.number,
            "appid": app_id,
            "uid": self.uid,
            "opid": self.number,
            "cname": self.channel,
            "ip": self.address,
            "ts": utc(self.until_s),
            "privileges": list(self.privileges),
            "createAt": utc(self.made_s),
            "updateAt": utc(self.changed_s),
        }


class Rules:
    """
    The rules of one account.

    Args:
        wall_s: Returns the time of the wall clock [s].
    """

    def __init__(self, wall_s: Callable[[], float]) -> None:
        self._wall_s = wall_s
        self._rules: dict[int, Rule] = {}
        self._numbers = itertools.count(1)

    def make(self, body: dict[str, Any]) -> tuple[Rule, bool]:
        """
        Make a rule of a request's body; return it, and whether it lasts.

        One that does not last only puts those it means offline, once.

        Raises:
            ConfigError: It is not a rule that is documented; says what is wrong.
        """
        channel, uid = body.get("cname") or None, body.get("uid")
        address = body.get("ip") or None
        if channel is not None and not isinstance(channel, str):
            raise ConfigError("Invalid 'cname' format.")
        if uid is not None and (not _is_number(uid) or uid != int(uid) or uid <= 0):
            raise ConfigError("Invalid 'uid' format.")
        if address is not None and (not isinstance(address, str) or channel or uid):
            raise ConfigError("Invalid 'ip': the documents show rules by ip alone only.")
        if channel is None and uid is None and address is None:
            raise ConfigError("Missing field: 'cname', 'uid' or 'ip'.")
        taken = body.get("privileges")
        if not isinstance(taken, list) or not taken or not all(isinstance(t, str) for t in taken):
            raise ConfigError("Invalid 'privileges' format.")
        if not set(taken) <= {JOIN, *KINDS}:
            raise ConfigError("Invalid 'privileges'.")
        for_s, now_s = lasting_s(body), self._wall_s()
        rule = Rule(
            number=next(self._numbers),
            channel=channel,
            uid=None if uid is None else int(uid),
            address=address,
            privileges=tuple(taken),
            until_s=now_s + for_s,
            made_s=now_s,
            changed_s=now_s,
        )
        if for_s:
            self._rules[rule.number] = rule
            while len(self._rules) > RULES_MAX:
                del self._rules[next(iter(self._rules))]
        return rule, for_s > 0

    def change(self, number: object, body: dict[str, Any]) -> Rule | None:
        """
        Let a rule end at another time; 0 ends it now. Returns None if there is none.

        Raises:
            ConfigError: The time makes no sense.
        """
        for_s, now_s = lasting_s(body), self._wall_s()
        rule = self._find(number)
        if rule is None:
            return None
        rule = replace(rule, until_s=now_s + for_s, changed_s=now_s)
        self._rules[rule.number] = rule
        return rule

    def delete(self, number: object) -> bool:
        """Delete a rule; return whether there was one."""
        rule = self._find(number)
        return rule is not None and self._rules.pop(rule.number, None) is not None

    def all(self) -> list[Rule]:
        """Return the rules that have not ended."""
        now_s = self._wall_s()
        for rule in [each for each in self._rules.values() if each.until_s <= now_s]:
            del self._rules[rule.number]
        return list(self._rules.values())

    def may_not_join(self, who: Pass) -> bool:
        """Whether somebody is banned."""
        return any(JOIN in rule.privileges and rule.means(who) for rule in self.all())

    def withheld(self, who: Pass) -> frozenset[Kind]:
        """Return which kinds of media somebody may not publish."""
        if not self._rules:
            return frozenset()
        return frozenset(
            KINDS[privilege]
            for rule in self.all()
            if rule.means(who)
            for privilege in rule.privileges
            if privilege in KINDS
        )

    def _find(self, number: object) -> Rule | None:
        found = {rule.number: rule for rule in self.all()}
        return found.get(number) if isinstance(number, int) else None


def lasting_s(body: dict[str, Any]) -> int:
    """
    Return how long a rule lasts [s], clamped as documented; 0: kick once.

    Raises:
        ConfigError: Not a number, or below 0.
    """
    for name, (low, high), unit_s in (("time_in_seconds", SECONDS, 1), ("time", MINUTES, 60)):
        value = body.get(name)
        if value is None:
            continue
        if not _is_number(value) or value < 0:
            raise ConfigError(f"Invalid '{name}' format.")
        return 0 if value == 0 else int(min(max(value, low), high) * unit_s)
    return DEFAULT_S


def utc(wall_s: float) -> str:
    """Return a time as Agora writes it."""
    text = datetime.fromtimestamp(wall_s, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
