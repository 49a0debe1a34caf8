"""`hitless replay` of what `hitless incident` wrote: what the server decided, decided again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, NoReturn

import click

from ..core.fleet_replay import SAME_S, redealt, reended, reordered
from ..core.judgement import Rejudged, as_compared, rejudge
from ..core.replay import rerun
from ..core.stream_choices import Note
from ..core.stream_replay import note_line, notes_of, regrouped, replaced
from ..errors import ConfigError
from .output import emit_json
from .words import count, moment


BYTES_MAX: Final = 256 << 20
"""Largest incident that is read [byte]; a server gives 32 MiB, and spaces are added."""

_SHORT: Final = 200


def incident_in(file: Path) -> dict[str, Any] | None:
    """
    Return what `hitless incident` wrote; None: it is something else, a record perhaps.

    Raises:
        ConfigError: It cannot be read, or it is an incident that holds nothing to judge again.
    """
    try:
        with file.open(encoding="utf-8") as opened:
            first = opened.readline(1 << 16)
            if first.strip() != "{" and not first.startswith('{"format"'):
                return None
            rest = opened.read(BYTES_MAX)
            if opened.read(1):
                raise ConfigError(f"{file} is larger than {BYTES_MAX >> 20} MiB")
        document = json.loads(first + rest, parse_constant=_no_number)
    except OSError as exc:
        raise ConfigError(f"cannot read {file}: {exc.strerror}") from exc
    except (ValueError, RecursionError):
        raise ConfigError(f"{file} is not a whole JSON document") from None
    if not isinstance(document, dict) or "judged" not in document:
        raise ConfigError(f"{file} holds nothing to judge again: an older hitless wrote it")
    judged = document["judged"]
    if not isinstance(judged, dict) or not isinstance(judged.get("recording"), dict):
        raise ConfigError(f"{file} holds nothing to judge again: its server recorded nothing")
    return judged


def show_again(judged: Mapping[str, Any], file: Path, *, as_json: bool) -> bool:
    """
    Judge again and show what came of it; return whether it is what was recorded.

    Raises:
        ConfigError: The recording is damaged.
    """
    again = _Again.of(judged["recording"])
    if as_json:
        emit_json(again.document())
        return again.is_same
    zero_s = judged.get("zero_s")
    for at_s, lines in again.told():
        is_dated = isinstance(zero_s, int | float)
        at = moment(float(zero_s or 0.0) + at_s) if is_dated else f"{at_s:.3f} s"
        for line in lines:
            click.echo(f"{at}  {line}")
    for line in again.after:
        click.echo(f"DIFFERENT at the end: {line}")
    for line in again.summary(judged.get("node")):
        click.echo(line, err=True)
    if not again.is_same and judged.get("version") != version("hitless"):
        made = judged.get("version")
        click.echo(
            f"it was recorded by hitless {made}, and this is {version('hitless')}", err=True
        )
    return again.is_same


@dataclass(frozen=True, slots=True, kw_only=True)
class _Again:
    """
    All of a recording, decided again.

    Attributes:
        found, after: What was judged; see `rejudge`.
        hands: The steps of each hand, with its name.
        orders, deals, ends: Of fleet moves.
        moves, groups: Of single streams, and what groups did after them.
        notes: What happened beside, which is told and not decided again.
        left_out: How many deals were too large to be kept.
        is_bare: Reasons are not compared: they were rewritten.
        is_older: The server kept verdicts only.
    """

    found: list[Rejudged]
    after: list[str]
    hands: list[tuple[str, list[Rejudged]]]
    orders: list[Rejudged]
    deals: list[Rejudged]
    ends: list[Rejudged]
    moves: list[Rejudged]
    groups: list[Rejudged]
    notes: list[Note]
    left_out: int
    is_bare: bool
    is_older: bool

    @classmethod
    def of(cls, recording: Mapping[str, Any]) -> _Again:
        """Decide again. Raises ConfigError if it is damaged."""
        is_bare = bool(recording.get("has_changed_reasons"))
        found, after = rejudge(recording)
        hands, fleet = recording.get("hands", []), recording.get("fleet", {})
        if not (isinstance(hands, list) and all(isinstance(one, dict) for one in hands)):
            raise ConfigError("the hands of the recording are none")
        if not isinstance(fleet, dict):
            raise ConfigError("the fleet moves of the recording are none")
        streams = recording.get("streams", {})
        if not isinstance(streams, dict):
            raise ConfigError("the moves of single streams of the recording are none")
        left_out = fleet.get("left_out", [])
        return cls(
            found=found,
            after=after,
            hands=[
                (str(one.get("hand")), rerun(one, has_changed_reasons=is_bare)) for one in hands
            ],
            orders=reordered(fleet.get("orders", []), has_changed_reasons=is_bare),
            deals=redealt(fleet.get("moves", [])),
            ends=reended(fleet.get("ends", [])),
            moves=replaced(streams.get("moves", []), has_changed_reasons=is_bare),
            groups=regrouped(streams.get("groups", []), has_changed_reasons=is_bare),
            notes=[*notes_of(fleet.get("notes", [])), *notes_of(streams.get("notes", []))],
            left_out=len(left_out) if isinstance(left_out, list) else 0,
            is_bare=is_bare,
            is_older="hands" not in recording,
        )

    @property
    def different(self) -> list[Rejudged]:
        """What is not as recorded, but for the verdicts at the end."""
        steps = [one for _, of in self.hands for one in of]
        every = (self.found, steps, *self._moved)
        return [one for part in every for one in part if not one.is_same]

    @property
    def _moved(self) -> tuple[list[Rejudged], ...]:
        """What was decided for the fleet and for single streams."""
        return self.orders, self.deals, self.ends, self.moves, self.groups

    @property
    def is_same(self) -> bool:
        """Whether all is as recorded."""
        return not self.different and not self.after

    def told(self) -> list[tuple[float, list[str]]]:
        """Return what happened, for people, in order of time [s]."""
        lines = [(one.at_s, _judged_lines(one)) for one in self.found]
        lines += [(one.at_s, self._step_lines(name, one)) for name, of in self.hands for one in of]
        lines += [(one.at_s, self._move_lines(one)) for of in self._moved for one in of]
        lines += [(one.at_s, [_noted(one)]) for one in self.notes]
        return sorted((one for one in lines if one[1]), key=lambda line: line[0])

    def summary(self, node: object) -> Iterator[str]:
        """Yield how much was decided again, and what came of it."""
        bad = sum(not one.is_same for one in self.found) + len(self.after)
        reasons = " (reasons name nobody and are not compared)" if self.is_bare else ""
        yield (
            f"{count(len(self.found), 'observation')} of node {node} judged again: "
            f"{_outcome('verdicts', bad)}{reasons}"
        )
        if self.is_older:
            yield "no steps of hands and no fleet moves: an older hitless recorded it"
            return
        steps = [one for _, of in self.hands for one in of]
        bad = sum(not one.is_same for one in steps)
        told = f"{count(len(steps), 'step')} of {count(len(self.hands), 'hand')}"
        yield f"{told} run again: {_outcome('effects', bad)}"
        moves = (*self.orders, *self.deals, *self.ends)
        bad = sum(not one.is_same for one in moves)
        told = (
            f"{count(len(self.orders), 'order')}, {count(len(self.deals), 'deal')} "
            f"and {count(len(self.ends), 'end')}"
        )
        yield f"{told} of fleet moves decided again: {_outcome('moves', bad)}"
        singles = (*self.moves, *self.groups)
        if singles:
            bad = sum(not one.is_same for one in singles)
            told = (
                f"{count(len(self.moves), 'single move')} and {count(len(self.groups), 'group')}"
            )
            yield f"{told} decided again: {_outcome('placements', bad)}"
        if self.notes:
            yield f"{count(len(self.notes), 'note')} of what cannot be decided again"
        if self.left_out:
            yield f"{count(self.left_out, 'deal')} had too many streams to be kept"

    def document(self) -> dict[str, Any]:
        """Return it for programs."""
        return {
            "is_same": self.is_same,
            "entries": len(self.found),
            "news": [_object(one) for one in self.found if one.told or one.now],
            "after": self.after,
            "hands": [
                {
                    "hand": name,
                    "steps": len(of),
                    "is_same": all(one.is_same for one in of),
                    "different": [_object(one) for one in of if not one.is_same],
                }
                for name, of in self.hands
            ],
            "fleet": {
                "orders": [_object(one) for one in self.orders],
                "deals": len(self.deals),
                "ends": [_object(one) for one in self.ends],
                "different": [_object(one) for one in self.deals if not one.is_same],
                "left_out": self.left_out,
            },
            "streams": {
                "moves": [_object(one) for one in self.moves],
                "groups": [_object(one) for one in self.groups],
            },
            "notes": [note_line(one) for one in self.notes],
        }

    def _step_lines(self, hand: str, one: Rejudged) -> list[str]:
        """Return what a hand was ordered; what it was not ordered as before comes last."""
        shown = [f"{hand}  {_ordered(effect)}" for effect in one.now
                 if effect.get("effect") in ("OpenLeg", "CloseLeg", "Ended")]  # fmt: skip
        if not one.is_same:
            shown.append(f"DIFFERENT after {one.kind} of {hand}: {self._where(one)}")
        return shown

    def _move_lines(self, one: Rejudged) -> list[str]:
        provider, stream = one.fields.get("provider"), one.fields.get("stream")
        shown, (now,) = [], one.now
        match one.kind:
            case "FleetOrdered":
                shown = [f"fleet  {provider}: {now['moving']} move, {now['staying']} stay, "
                         f"{now['because']}"]  # fmt: skip
                about = f"order to leave {provider}"
            case "FleetEnded":
                shown = [
                    f"fleet  {provider}: move {one.fields.get('move')} is over: {now['over']}"
                ]
                about = f"end of move {one.fields.get('move')} from {provider}"
            case "StreamMoved":
                because = one.fields.get("because")
                did = f"moved to {provider}" if now["is_accepted"] else f"not moved to {provider}"
                shown = [f"stream  {stream}  {did} by {one.fields.get('by')}  {because}"]
                about = f"move of {stream} to {provider}"
            case "GroupMoved":
                shown = [f"group  of {stream}: {', '.join(now['streams'])} to {now['provider']}"]
                about = f"group of {stream}"
            case _:
                about = f"deal of move {one.fields.get('move')} from {provider}"
        if not one.is_same:
            shown.append(f"DIFFERENT: {about}: {self._where(one)}")
        return shown

    def _where(self, one: Rejudged) -> str:
        seen = as_compared(has_changed_reasons=self.is_bare)
        names = [str(now.get("effect", "")) for now in one.now]
        return _first_difference(seen(one.told), seen(one.now), names) or "they are the same"


def _judged_lines(one: Rejudged) -> list[str]:
    """Return what was new after an observation; and, if that differs, what was recorded."""
    shown = [_told(news) for news in one.now]
    if not one.is_same:
        shown.append(f"DIFFERENT after {one.kind} of {one.fields.get('provider')}")
        shown += [f"{'':4}recorded: {_told(news)}" for news in one.told]
    return shown


def _noted(note: Note) -> str:
    """Return what happened in one line."""
    move, target = note.move and f"move {note.move}", note.target and f"over {note.target}"
    parts = ("note", note.name, move, note.stream, note.client, note.provider, target,
             note.because)  # fmt: skip
    return "  ".join(part for part in parts if part)


def _outcome(what: str, differences: int) -> str:
    return count(differences, "difference") if differences else f"the same {what}"


def _ordered(effect: Mapping[str, Any]) -> str:
    """Return an order to a hand in one line."""
    leg = f"leg {effect['leg']}" if "leg" in effect else ""
    parts = (effect.get("session"), effect.get("effect"), leg, effect.get("provider"),
             effect.get("outcome"), effect.get("because"))  # fmt: skip
    return "  ".join(str(part) for part in parts if part)


def _first_difference(told: Any, now: Any, names: Sequence[str] = (), at: str = "") -> str:
    """Return where two JSON values differ first, and how; empty: nowhere that counts."""
    if isinstance(told, dict) and isinstance(now, dict):
        for name in dict.fromkeys((*told, *now)):
            place = f"{at}.{name}" if at else name
            if found := _first_difference(told.get(name), now.get(name), at=place):
                return found
        return ""
    if isinstance(told, list) and isinstance(now, list):
        for n in range(max(len(told), len(now))):
            a, b = (part[n] if n < len(part) else None for part in (told, now))
            place = (names[n] if n < len(names) else "") or f"{at}[{n}]"
            if found := _first_difference(a, b, at=place):
                return found
        return ""
    if isinstance(told, int | float) and isinstance(now, float) and abs(told - now) <= SAME_S:
        return ""
    return "" if told == now else f"{at}: recorded {_brief(told)}, now {_brief(now)}"


def _brief(value: Any) -> str:
    text = "nothing" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHORT else f"{text[:_SHORT]}..."


def _object(one: Rejudged) -> dict[str, Any]:
    return {
        "at_s": one.at_s,
        "observation": one.kind,
        **one.fields,
        "recorded": one.told,
        "now": one.now,
        "is_same": one.is_same,
    }


def _told(news: Any) -> str:  # Any: what a file holds
    if not isinstance(news, Mapping):
        return str(news)[:_SHORT]
    verdict = news.get("verdict")
    word = verdict.get("word", "") if isinstance(verdict, Mapping) else ""
    place = f" in {news['region']}" if news.get("region") else ""
    parts = (news.get("name"), f"{news.get('provider') or ''}{place}", word, news.get("because"))
    return "  ".join(str(part) for part in parts if part)


def _no_number(text: str) -> NoReturn:
    raise ValueError(text)
