"""
What operators are told, in words: an event becomes a reading, readings make messages.

Severities are by what a viewer feels, as the levels of events are. Every message says what
happened, what Hitless did, how many streams, and what to run next.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from ..core.evidence import Word
from .store_rows import Json


PROVIDER: Final = "provider"
"""Kind of the alerts that are about one provider."""

WORDS_CHARS_MAX: Final = 300
"""Longest name or reason that is repeated [character]; the rest is cut off."""


class Severity(StrEnum):
    """How loud an alert is, the loudest first."""

    CRITICAL = "critical"
    WARNING = "warning"
    INFO = "info"


class State(StrEnum):
    """Where an alert is in its life when a message tells of it."""

    OPEN = "open"
    """It began, or got worse."""
    STILL = "still"
    """It lasts: a reminder, or something to add."""
    RESOLVED = "resolved"


class Part(StrEnum):
    """What a reading is to its alert."""

    OPENS = "opens"
    """Trouble, until another event says that it is over."""
    BURST = "burst"
    """Trouble, over when no more of it comes."""
    ADDS = "adds"
    """Something to say about trouble that is known, and nothing otherwise."""
    ENDS = "ends"
    """It is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """
    What is sent to operators.

    Attributes:
        id: Of this message; one that comes twice is one.
        key: Of the alert: what opened under it is resolved under it.
        kind, subject: What the key is made of: `provider` and its name.
        node: Whose alert it is; empty: the whole fleet's.
        state: Whether it opens, lasts or is resolved.
        severity: How loud it is.
        title: What happened, in a line.
        text: What happened, what Hitless did, how many streams.
        command: What to run next.
        streams: How many streams it is about.
        count: How many events were folded into the alert so far.
        duration_s: How long it lasts or lasted [s].
    """

    id: str
    key: str
    kind: str
    subject: str
    node: str
    state: State
    severity: Severity
    title: str
    text: str
    command: str
    streams: int
    count: int
    duration_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """
    An event in words; the attributes it shares with `Message` are the same.

    Attributes:
        part: What it is to its alert.
        is_local: Whether other nodes know nothing of it: each tells of its own.
        did: Whether it tells what Hitless did about it.
        counts: Whether each event of the alert is about one more stream.
    """

    kind: str
    subject: str
    part: Part
    severity: Severity
    title: str
    text: str
    command: str
    streams: int = 0
    is_local: bool = False
    did: bool = False
    counts: bool = False


def read(name: str, fields: Mapping[str, Json]) -> Reading | None:  # noqa: C901 -- a flat dispatch
    """
    Return an event in words; None: it tells operators nothing.

    Args:
        name: Of the event.
        fields: As they were told; what is missing is not known.
    """
    match name:
        case "verdict.changed":
            return _verdict(fields)
        case "provider.deleted":
            return _deleted(fields)
        case "streams.moved":
            return _moved(fields)
        case "providers.all_down" | "providers.some_up":
            return _all_down(name == "providers.all_down", fields)
        case "observer.suspected" | "observer.trusted":
            return _observer(name == "observer.suspected", fields)
        case "streams.dark" | "streams.lit":
            return _dark(name == "streams.dark", fields)
        case "store.lost" | "store.back":
            return _store(name == "store.lost", fields)
        case "moves.frozen" | "moves.thawed":
            return _frozen(name == "moves.frozen", fields)
        case "rescue.opened" | "rescue.refused":
            return _rescue(name == "rescue.opened", fields)
        case "move.refused":
            return _not_moved(fields)
        case "task.failed":
            return _task(fields)
    return None


# --- Providers ---


def _verdict(fields: Mapping[str, Json]) -> Reading | None:
    provider, streams = _word(fields, "provider"), int(fields.get("streams") or 0)
    if fields.get("region"):
        return None  # the verdict on the whole provider tells of it, if it matters
    command = _command("providers", provider)
    match fields.get("verdict"):
        case Word.DOWN:
            part, severity, title = Part.OPENS, Severity.WARNING, f"{provider} is down"
            did = "gives new streams to other providers"
            command = _command("drain", provider) if streams else command
        case Word.DEGRADED:
            part, severity, title = Part.OPENS, Severity.INFO, f"{provider} is degraded"
            did = "leaves its streams where they are"
        case Word.HEALTHY:
            part, severity, title = Part.ENDS, Severity.INFO, f"{provider} is healthy again"
            did = "gives it new streams again, in steps"
        case Word.DISABLED:
            part, severity, title = Part.ENDS, Severity.INFO, f"{provider} was disabled"
            did = "gives it no more streams"
        case _:
            return None  # our ignorance neither opens nor ends anything
    return Reading(
        kind=PROVIDER,
        subject=provider,
        part=part,
        severity=severity,
        title=title,
        text=_text(fields, did, f"{_streams(streams)} on it"),
        command=command,
        streams=streams,
    )


def _deleted(fields: Mapping[str, Json]) -> Reading:
    provider = _word(fields, "provider")
    return Reading(
        kind=PROVIDER,
        subject=provider,
        part=Part.ENDS,
        severity=Severity.INFO,
        title=f"{provider} was deleted",
        text=_text(fields, "gives it no more streams"),
        command=_command("audit"),
    )


def _moved(fields: Mapping[str, Json]) -> Reading:
    provider, moved = _word(fields, "provider"), int(fields.get("moved") or 0)
    stayed = int(fields.get("stayed") or 0)
    return Reading(
        kind=PROVIDER,
        subject=provider,
        part=Part.ADDS,
        severity=Severity.WARNING,
        title=f"Streams of {provider} are moving",
        text=_text(fields, f"moves {moved} of {moved + stayed} streams", f"{stayed} stay"),
        command=_command("streams"),
        streams=moved + stayed,
        did=True,
    )


def _all_down(is_so: bool, fields: Mapping[str, Json]) -> Reading:
    did = "keeps what still works and tries on; look at this server's own network first"
    return Reading(
        kind="providers.all_down",
        subject="all",
        part=Part.OPENS if is_so else Part.ENDS,
        severity=Severity.CRITICAL,
        title="All providers are down" if is_so else "A provider can be used again",
        text=_text(fields, did if is_so else "gives it streams again"),
        command=_command("providers"),
    )


def _observer(is_so: bool, fields: Mapping[str, Json]) -> Reading:
    did = "blames no provider for what it cannot see, and moves nothing because of it"
    return Reading(
        kind="observer.suspected",
        subject="network",
        part=Part.OPENS if is_so else Part.ENDS,
        severity=Severity.WARNING,
        title="This server may be cut off" if is_so else "This server reaches providers again",
        text=_text(fields, did if is_so else "judges providers again"),
        command=_command("providers"),
        is_local=True,
    )


# --- Streams ---


def _dark(is_so: bool, fields: Mapping[str, Json]) -> Reading:
    streams, named = int(fields.get("streams") or 0), _word(fields, "stream")
    did = "told their publishers where to go, and waits for their media" if is_so else ""
    return Reading(
        kind="streams.dark",
        subject="all",
        part=Part.OPENS if is_so else Part.ENDS,
        severity=Severity.CRITICAL,
        title=f"{_streams(streams)} off air" if is_so else "No stream is off air any more",
        text=_text(fields, did, f"One of them is {named}" if is_so else ""),
        command=_command("why", named) if is_so and streams == 1 else _command("streams"),
        streams=streams,
    )


def _rescue(is_open: bool, fields: Mapping[str, Json]) -> Reading:
    provider = _word(fields, "provider")
    did = f"opens one more leg on {_word(fields, 'extra')}; the other viewers stay"
    title = f"Viewers cut off from {provider} are {'' if is_open else 'not '}rescued"
    return Reading(
        kind="rescue.opened" if is_open else "rescue.refused",
        subject=provider,
        part=Part.BURST,
        severity=Severity.INFO if is_open else Severity.WARNING,
        title=title,
        text=_text(fields, did if is_open else "leaves them where they are"),
        command=_command("why", _word(fields, "stream")),
        is_local=True,
        did=is_open,
        counts=True,
    )


def _not_moved(fields: Mapping[str, Json]) -> Reading:
    provider = _word(fields, "provider")
    return Reading(
        kind="move.refused",
        subject=provider,
        part=Part.BURST,
        severity=Severity.WARNING,
        title=f"Streams stay on {provider} although they should move",
        text=_text(fields, "leaves them where they are"),
        command=_command("why", _word(fields, "stream")),
        is_local=True,
        counts=True,
    )


# --- The server ---


def _store(is_so: bool, fields: Mapping[str, Json]) -> Reading:
    did = "keeps streams on air: clients move by the plans they have, nothing new is started"
    return Reading(
        kind="store.lost",
        subject="store",
        part=Part.OPENS if is_so else Part.ENDS,
        severity=Severity.WARNING,
        title="The database does not answer" if is_so else "The database answers again",
        text=_text(fields, did if is_so else "takes starts and changes again"),
        command=_command("serve", "--check"),
        is_local=True,
    )


def _frozen(is_so: bool, fields: Mapping[str, Json]) -> Reading:
    did = "moves no stream that has media by itself; dark streams still move"
    return Reading(
        kind="moves.frozen",
        subject="all",
        part=Part.OPENS if is_so else Part.ENDS,
        severity=Severity.INFO,
        title=f"Automatic moves were {'frozen' if is_so else 'thawed'}",
        text=_text(fields, did if is_so else "moves streams by itself again"),
        command=_command("thaw" if is_so else "audit"),
    )


def _task(fields: Mapping[str, Json]) -> Reading:
    return Reading(
        kind="task.failed",
        subject="server",
        part=Part.BURST,
        severity=Severity.WARNING,
        title="Something in the server failed",
        text=_text(fields, "goes on without it"),
        command=_command("incident", "--since", "1h"),
        is_local=True,
    )


# --- Words ---


def in_words(duration_s: float) -> str:
    """Return a duration [s] as people say it: `45 s`, `12 min`, `3 h 05 min`."""
    seconds = round(duration_s)
    if seconds < 120:
        return f"{seconds} s"
    minutes = seconds // 60
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02} min"


def _command(*words: str) -> str:
    """Return a command to paste: whatever a stream is called, the shell sees one word."""
    is_name = len(words) == 2 and words[0] != "serve"
    if is_name and words[1].startswith("-"):
        words = (words[0], "--", words[1])
    return shlex.join(["hitless", *words])


def _word(fields: Mapping[str, Json], name: str) -> str:
    return str(fields.get(name) or "?")[:WORDS_CHARS_MAX]


def _streams(number: int) -> str:
    return {0: "No stream", 1: "1 stream"}.get(number, f"{number} streams")


def _text(fields: Mapping[str, Json], did: str, affected: str = "") -> str:
    """Return what happened, what Hitless did, how many streams: one sentence each."""
    because = str(fields.get("because") or "")[:WORDS_CHARS_MAX].strip().rstrip(".")
    happened = because or "No reason was given"
    sentences = [happened[0].upper() + happened[1:]]
    if did:
        sentences.append(f"Hitless {did}")
    if affected:
        sentences.append(affected)
    return ". ".join(sentences) + "."
