"""
Every event people are told of: name, level, the sentence on the console, and what it means.

Level is by what a viewer feels: ERROR off air; WARNING a leg lost, still on air or coming back;
INFO what somebody may ask about tomorrow; DEBUG each step with its inputs. The sentence is
filled from the event's fields; every event also carries `because`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Level(StrEnum):
    """How loud an event is."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One kind of event."""

    name: str
    level: Level
    sentence: str
    says: str


def _entry(name: str, level: Level, sentence: str, says: str) -> Entry:
    return Entry(name=name, level=level, sentence=sentence, says=says)


_D, _I, _W, _E = Level.DEBUG, Level.INFO, Level.WARNING, Level.ERROR

CATALOGUE: Final = {
    entry.name: entry
    for entry in (
        # The list and health
        _entry("list.changed", _I, "Provider list changed", "the backend's list differs"),
        _entry("list.doubtful", _W, "Provider list has faults", "part of it was ignored"),
        _entry("list.unavailable", _W, "Provider list unavailable", "the last good one is kept"),
        _entry(
            "health.monitoring_started",
            _I,
            "Health monitoring started for {provider}",
            "list and health are asked every health_interval_s from now on",
        ),
        _entry(
            "health.monitoring_stopped",
            _I,
            "Health monitoring stopped",
            "the last stream of this client is over",
        ),
        _entry(
            "health.failed",
            _W,
            "Health check failed for {provider}: {because}",
            "a failed check; `failures` in a row so far",
        ),
        _entry(
            "health.ignored",
            _W,
            "Health check failed for {provider}: {because} (ignored: frames flow)",
            "a check that got no answer does not count while media flows (media_beats_health)",
        ),
        _entry("health.warned", _W, "Health check refused for {provider}: {because}", "about us"),
        _entry("health.recovered", _I, "{provider} is healthy again", "the count is reset"),
        _entry(
            "provider.failed",
            _W,
            "{provider} failed: {because}",
            "one failure counted against a provider; `failures` in a row so far",
        ),
        _entry("circuit.opened", _W, "{provider} is banned for {ban_s} s", "no new streams"),
        _entry("circuit.half_opened", _I, "{provider} is on trial", "the ban has run out"),
        _entry("circuit.closed", _I, "{provider} is trusted again", "its trial went well"),
        # A stream's legs
        _entry("leg.opening", _D, "Asking {provider}", "one attempt begins"),
        _entry("leg.opened", _D, "{provider} carries media", "first media is proven"),
        _entry("leg.failed", _W, "{provider} could not carry it: {because}", "one attempt failed"),
        _entry("leg.silent", _W, "{provider} went silent: {because}", "not yet given up"),
        _entry("leg.doubted", _D, "{provider} may be silent: {because}", "the next leg is opened"),
        _entry("leg.heard", _I, "{provider} carries media again", "a silence ended"),
        _entry("leg.closed", _D, "Closed {provider}", "a leg was let go"),
        # A stream
        _entry("stream.on_air", _I, "On air with {provider}", "started, or joined"),
        _entry(
            "failover.waiting",
            _I,
            "Waiting for its moment to ask {provider}",
            "more streams lost theirs than that one accepts in a second; `wait_s` [s]",
        ),
        _entry("stream.waiting", _I, "Waiting for a publisher", "nobody publishes it yet"),
        _entry("stream.stays", _W, "Staying with {provider}: {because}", "a move did not happen"),
        _entry("stream.off_air", _E, "Off air: {because}", "no provider carries it; trying on"),
        _entry("stream.ended", _I, "Stream ended: {because}", "it is over"),
        _entry("stream.failed", _E, "Stream failed: {because}", "it is over, with an error"),
        _entry(
            "failover.started", _W, "Attempting automatic failover", "an unplanned move begins"
        ),
        _entry("failover.trying", _W, "Trying failover to {provider}", "the next one is asked"),
        _entry(
            "failover.succeeded", _W, "Successfully failed over to {provider}", "it carries media"
        ),
        _entry("migration.started", _I, "Migrating to {provider}", "a planned move begins"),
        _entry(
            "migration.succeeded",
            _I,
            "Stream migrated successfully to {provider}",
            "the new leg carries media; the old one follows within overlap_s",
        ),
        _entry("trial.started", _I, "Trying out {provider}", "a second leg must prove itself"),
        _entry("trial.failed", _I, "{provider} failed its trial: {because}", "no return yet"),
        _entry("track.muted", _I, "Muted {kind}", "silence or black is sent instead"),
        _entry("track.unmuted", _I, "Unmuted {kind}", "the source is sent again"),
        _entry(
            "network.lost",
            _W,
            "Nobody can be reached: waiting for our own network",
            "no provider is blamed, no attempt counted",
        ),
        _entry(
            "control.connected", _D, "Connected to the control plane", "plans and placements flow"
        ),
        _entry(
            "control.lost",
            _W,
            "Control plane lost: going on from the plan",
            "streams go on; moves are found as without a server until it is back",
        ),
        _entry(
            "control.unreachable",
            _W,
            "Control plane unreachable: starting without a plan",
            "the last good list and configured credentials have to do",
        ),
        _entry("network.back", _I, "Our own network is back", "somebody answered again"),
    )
}


def sentence(name: str, **fields: object) -> str:
    """Return an event's sentence, filled; a field it lacks shows as `?`."""

    class _Known(dict[str, object]):
        def __missing__(self, key: str) -> str:
            return "?"

    return CATALOGUE[name].sentence.format_map(_Known(fields))
