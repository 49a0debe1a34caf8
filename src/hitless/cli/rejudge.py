"""`hitless replay` of what `hitless incident` wrote: the server's judging, done again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, NoReturn

import click

from ..core.judgement import Rejudged, rejudge
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
    recording = judged["recording"]
    found, after = rejudge(recording)
    different = [one for one in found if not one.is_same]
    is_same = not different and not after
    if as_json:
        shown = [_object(one) for one in found if one.told or one.now]
        emit_json({"is_same": is_same, "entries": len(found), "news": shown, "after": after})
        return is_same
    zero_s = judged.get("zero_s")
    for one in found:
        if one.told or one.now:
            at = (
                moment(zero_s + one.at_s)
                if isinstance(zero_s, int | float)
                else f"{one.at_s:.3f} s"
            )
            for news in one.now:
                click.echo(f"{at}  {_told(news)}")
            if not one.is_same:
                click.echo(f"{at}  DIFFERENT after {one.kind} of {one.fields.get('provider')}")
                for news in one.told:
                    click.echo(f"{'':4}recorded: {_told(news)}")
    for line in after:
        click.echo(f"DIFFERENT at the end: {line}")
    same = "the same verdicts" if is_same else count(len(different) + len(after), "difference")
    reasons = " (reasons name nobody and are not compared)"
    is_bare = bool(recording.get("has_changed_reasons"))
    click.echo(f"{count(len(found), 'observation')} of node {judged.get('node')} judged again: "
               f"{same}{reasons if is_bare else ''}", err=True)  # fmt: skip
    if not is_same and judged.get("version") != version("hitless"):
        made = judged.get("version")
        click.echo(
            f"it was recorded by hitless {made}, and this is {version('hitless')}", err=True
        )
    return is_same


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
