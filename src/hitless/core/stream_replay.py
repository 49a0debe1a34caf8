"""Moves of single streams and of groups as JSON, and decided again; and notes, which are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigError
from .judgement import Rejudged, as_compared
from .plain import plain, value_of
from .stream_choices import Following, Note, Parting, Placed, Placing


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """One claim: when [s], what it was decided by, and what came of it."""

    at_s: float
    placing: Placing
    placed: Placed


@dataclass(frozen=True, slots=True, kw_only=True)
class Parted:
    """One group that was brought together: when [s], by what, and who went where."""

    at_s: float
    parting: Parting
    following: Following


def moved_line(one: Moved) -> dict[str, Any]:
    """Return a claim as JSON."""
    return {"at_s": one.at_s, "placing": plain(one.placing), "placed": plain(one.placed)}


def parted_line(one: Parted) -> dict[str, Any]:
    """Return what a group did as JSON."""
    return {"at_s": one.at_s, "parting": plain(one.parting), "following": plain(one.following)}


def note_line(note: Note) -> dict[str, Any]:
    """Return a note as JSON, without what is empty."""
    return {key: inner for key, inner in plain(note).items() if inner not in ("", None)}


def replaced(lines: Any, *, has_changed_reasons: bool) -> list[Rejudged]:
    """
    Decide recorded claims again.

    Raises:
        ConfigError: They are none.
    """
    found, seen = [], as_compared(has_changed_reasons=has_changed_reasons)
    for line in items(lines, "moves of single streams"):
        placing: Placing = value_of(Placing, line.get("placing"))
        told, now = line.get("placed"), plain(placing.decided())
        claim = placing.claim
        about = {"stream": placing.stream, "by": claim.by, "provider": claim.provider,
                 "because": claim.because}  # fmt: skip
        found.append(
            _again("StreamMoved", line, about, told, now, is_same=seen(told) == seen(now))
        )
    return found


def regrouped(lines: Any, *, has_changed_reasons: bool) -> list[Rejudged]:
    """
    Decide again what groups did.

    Raises:
        ConfigError: They are none.
    """
    found, seen = [], as_compared(has_changed_reasons=has_changed_reasons)
    for line in items(lines, "moves of groups"):
        parting: Parting = value_of(Parting, line.get("parting"))
        if not 0 <= parting.moved < len(parting.streams):
            raise ConfigError("a recorded group has no stream that moved")
        told, now = line.get("following"), plain(parting.followed())
        moved = parting.streams[parting.moved]
        about = {"stream": moved.stream, "provider": moved.provider}
        found.append(_again("GroupMoved", line, about, told, now, is_same=seen(told) == seen(now)))
    return found


def notes_of(lines: Any) -> list[Note]:
    """
    Return recorded notes.

    Raises:
        ConfigError: They are none.
    """
    return [value_of(Note, line) for line in items(lines, "notes")]


def items(lines: Any, what: str) -> list[Mapping[str, Any]]:
    """Return objects of a recording; ConfigError: they are none, and `what` says which."""
    if not isinstance(lines, list) or not all(isinstance(line, dict) for line in lines):
        raise ConfigError(f"the {what} of the recording are none")
    return lines


def _again(
    kind: str, line: Mapping[str, Any], about: Mapping[str, Any], told: Any, now: Any, *,
    is_same: bool,
) -> Rejudged:  # fmt: skip
    return Rejudged(
        at_s=value_of(float, line.get("at_s")),
        kind=kind,
        fields=about,
        told=[told] if isinstance(told, dict) else [],
        now=[now],
        is_same=is_same,
    )
