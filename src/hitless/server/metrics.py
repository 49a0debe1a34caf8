"""
What `/metrics` shows of one node, in Prometheus' text format.

Counters and histograms are fed from events; gauges are read from the node when it is asked. Rows
that all nodes share (streams, viewers) are shown by each: take `max`, not `sum`, over nodes.
Labels are bounded: providers, and words of this program; never a stream, a client or a key.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from ..core.agreement import By
from ..core.evidence import Word
from ..core.observation import Level
from ..errors import HitlessError
from .alerts import Signals
from .database import Database, Dialect, Row, Sql, StoreUnavailable, Value, Written
from .store_rows import Json
from .store_streams import ProviderCount, StreamRow


if TYPE_CHECKING:
    from .node import Node

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
"""Of what `Metrics.page` returns."""

PROVIDERS_MAX: Final = 100
"""Names of providers that counters tell apart; later ones are `other`."""

COUNTS_S: Final = 5.0
"""Streams are counted in the store at most this often [s]."""

LATE_STEP_S: Final = 0.25
LATE_WINDOW_S: Final = 60.0

EVENTS: Final = frozenset(
    {
        *("stream.started", "stream.ended", "streams.moved", "leg.live"),
        *("placement.claimed", "placement.moved", "move.refused"),
        *("rescue.opened", "rescue.refused", "rescue.closed"),
        *("verdict.changed", "share.changed", "observer.suspected", "observer.trusted"),
        *("store.lost", "store.back", "lease.changed", "task.failed"),
        *("webhook.delivered", "webhook.failed", "webhook.gave_up", "webhook.dropped"),
    }
)
"""Events that are told apart; all others are `other`."""

STATES: Final = frozenset({"opening", "live", "silent", "heard", "failed", "closed"})

_STORE_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_GAP_S: Final = (0.1, 0.2, 0.33, 0.6, 1.0, 2.0, 5.0, 10.0, 30.0)


class Metrics:
    """
    The metrics of one node; nothing is global.

    Attributes:
        registry: Where more may be registered.
    """

    def __init__(self) -> None:
        self.registry = one = CollectorRegistry()
        self._events = Counter("hitless_events", "Events told, by name.", ["event"], registry=one)
        self._moves = Counter(
            "hitless_moves", "Placements changed, by who wanted it.", ["by"], registry=one
        )
        self._refused = Counter(
            "hitless_moves_refused", "Streams that stayed where they should not.", registry=one
        )
        self._rescues = Counter(
            "hitless_rescues", "Extra legs for viewers cut off.", ["outcome"], registry=one
        )
        self._legs = Counter(
            "hitless_client_legs",
            "What became of legs at clients.",
            ["provider", "role", "state"],
            registry=one,
        )
        self._silence = Histogram(
            "hitless_client_silence_seconds",
            "Age of the last media of a leg when its client found it silent.",
            ["provider"],
            buckets=_GAP_S,
            registry=one,
        )
        self._age = Histogram(
            "hitless_client_media_age_seconds",
            "Age of the last media in a sample of clients' regular reports.",
            ["provider"],
            buckets=_GAP_S,
            registry=one,
        )
        self._store = Histogram(
            "hitless_store_seconds",
            "Time to the answer of the store.",
            ["operation"],
            buckets=_STORE_S,
            registry=one,
        )
        self._lost = Counter(
            "hitless_store_failures",
            "Calls the store did not answer.",
            ["operation"],
            registry=one,
        )
        self._webhooks = Counter(
            "hitless_webhook_posts", "Messages to webhooks.", ["outcome"], registry=one
        )
        for by in By:  # what counts from 0 is there from the start, so that rates are right
            self._moves.labels(by.value)
        for outcome in ("opened", "refused", "closed"):
            self._rescues.labels(outcome)
        for outcome in ("delivered", "failed", "gave_up", "dropped"):
            self._webhooks.labels(outcome)
        self._providers: set[str] = set()
        self._late: deque[float] = deque([0.0], maxlen=round(LATE_WINDOW_S / LATE_STEP_S))
        self._state: _State | None = None
        ProcessCollector(registry=one)

    def watch(self, node: Node, signals: Signals) -> None:
        """Show the state of a node, too; once."""
        assert self._state is None
        self._state = _State(node, signals, self._late)
        self.registry.register(self._state)

    def queue(self, name: str, length: Callable[[], int]) -> None:
        """Show the length of one more queue; `name` is a word of this program."""
        assert self._state is not None
        self._state.queues[name] = length

    def timed(self, database: Database) -> Database:
        """Return the same database, with its answers timed."""
        return _Timed(database, self._store, self._lost)

    def heard(self, name: str, fields: Mapping[str, Json], row: StreamRow | None = None) -> None:
        """Count an event; never waits, never raises."""
        self._events.labels(name if name in EVENTS else "other").inc()
        what, _, outcome = name.partition(".")
        match what:
            case "placement":
                by = row.by if row is not None and row.by in tuple(By) else By.SERVER
                self._moves.labels(str(by)).inc()
            case "move" if outcome == "refused":
                self._refused.inc()
            case "rescue" if name in EVENTS:
                self._rescues.labels(outcome).inc()
            case "webhook" if name in EVENTS:
                self._webhooks.labels(outcome).inc()

    def leg(self, provider: str, role: str, state: str, age_s: float = 0.0) -> None:
        """Count what a client said of a leg; `age_s`: of a silent one, that of its media [s]."""
        name = self._named(provider)
        role = role if role in ("publisher", "viewer") else "other"
        self._legs.labels(name, role, state if state in STATES else "other").inc()
        if state == "silent":
            self._silence.labels(name).observe(max(age_s, 0.0))

    def report(self, provider: str, age_s: float) -> None:
        """Count a client's report, one of a sample; `age_s`: of its last media [s]."""
        self._age.labels(self._named(provider)).observe(max(age_s, 0.0))

    async def run(self) -> None:
        """Measure how late the event loop is, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due_s = loop.time() + LATE_STEP_S
            await asyncio.sleep(LATE_STEP_S)
            self._late.append(max(0.0, loop.time() - due_s))

    async def page(self) -> bytes:
        """Return what `/metrics` answers; it takes no longer than the store's own limit."""
        if self._state is not None:
            await self._state.count()
        return generate_latest(self.registry)

    def _named(self, provider: str) -> str:
        """Return a provider's name as a label: clients may say anything."""
        is_known = self._state is None or self._state.knows(provider)
        if provider not in self._providers:
            if not is_known or len(self._providers) >= PROVIDERS_MAX:
                return "other"
            self._providers.add(provider)
        return provider


class _State(Collector):
    """Reads a node when it is asked."""

    def __init__(self, node: Node, signals: Signals, late: deque[float]) -> None:
        self._node, self._signals, self._late = node, signals, late
        self._counts: tuple[ProviderCount, ...] | None = None
        self._counted_s = float("-inf")
        self.queues: dict[str, Callable[[], int]] = {
            "events": lambda: len(signals),
            "webhooks": lambda: len(signals.webhooks),
        }

    def knows(self, provider: str) -> bool:
        """Whether there is such a provider."""
        return provider in self._node.providers.rows

    async def count(self) -> None:
        """Count streams and viewers; without a store, nothing is shown of them."""
        if self._node.loop.time() - self._counted_s < COUNTS_S:
            return
        try:
            self._counts = tuple(await self._node.store.streams.counts())
        except HitlessError:
            self._counts = None
        self._counted_s = self._node.loop.time()

    def collect(self) -> Iterator[Metric]:
        """Return the gauges."""
        yield from self._server()
        yield from self._providers()
        yield from self._probes()
        if self._counts is not None:
            yield from self._streams(self._counts)

    def _server(self) -> Iterator[Metric]:
        node, signals = self._node, self._signals
        yield _gauge("build_info", "The version that runs.", "version", {version("hitless"): 1})
        yield _one("leader", "Whether this node decides for the fleet.", node.is_leader)
        yield _one("store_up", "Whether the store answers.", not node.store_lost_because)
        yield _one("frozen", "Whether automatic moves are frozen.", node.settings.is_frozen)
        yield _one("observing", "Whether nothing is moved (mode = observe).",
                   node.settings.mode == "observe")  # fmt: skip
        yield _one("observer_suspected", "Whether this node may be cut off.",
                   node.judge.standing.suspect_because is not None)  # fmt: skip
        yield _one("event_loop_lateness_seconds", "The worst of the last minute.", max(self._late))
        yield _one("streams_dark", "Live streams that nobody carries.", len(signals.dark))
        yield _one("events_dropped", "Events not read for alerts: too many.", signals.dropped)
        hands = sum(one.is_hand for one in node.hub)
        clients = {"hand": hands, "own": len(node.hub) - hands}
        yield _gauge("clients", "Connected clients; hands obey.", "kind", clients)
        lengths = {name: length() for name, length in self.queues.items()}
        yield _gauge("queue_length", "What waits in this node.", "queue", lengths)
        alerts = {str(k): v for k, v in signals.alerts.by_severity().items()}
        yield _gauge("alerts_open", "Alerts as told to webhooks.", "severity", alerts)

    def _providers(self) -> Iterator[Metric]:
        rows, judge = self._node.providers.rows, self._node.judge
        found = {name: judge.verdict(name) for name in rows}
        words = GaugeMetricFamily(
            "hitless_provider_verdict", "1 at the word that holds.", labels=["provider", "verdict"]
        )
        for name, verdict in found.items():
            for word in Word:
                words.add_metric([name, word.value], verdict.word is word)
        yield words
        usable = {
            name: row.is_active and not row.is_drained and found[name].word is not Word.DOWN
            for name, row in rows.items()
        }
        yield _gauge("provider_usable", "Whether streams may start there.", "provider", usable)
        shares = {name: verdict.share for name, verdict in found.items()}
        yield _gauge("provider_share_ratio", "Share of new starts.", "provider", shares)

    def _probes(self) -> Iterator[Metric]:
        node, now = self._node, self._node.loop.time()
        failing = GaugeMetricFamily(
            "hitless_probe_failures_in_a_row",
            "Probes that failed since the last success; worst region.",
            labels=["provider", "level"],
        )
        ages: dict[str, float] = {}
        latencies: dict[str, float] = {}
        for name in node.providers.rows:
            case = node.judge.standing.case(name)
            for level in Level:
                cells = [cell.rows[level] for cell in case.cells.values() if level in cell.rows]
                if cells:
                    worst = max(row.failures for row in cells)
                    failing.add_metric([name, level.value], worst)
            if case.probed_s is not None:
                ages[name] = now - case.probed_s
            if (latency_s := node.judge.health_in_full(name).latency_s) is not None:
                latencies[name] = latency_s
        yield failing
        yield _gauge("probe_age_seconds", "Since a probe last ended.", "provider", ages)
        yield _gauge("probe_latency_seconds", "Mean of the last probes.", "provider", latencies)

    def _streams(self, counts: tuple[ProviderCount, ...]) -> Iterator[Metric]:
        rows = self._node.providers.rows
        streams, carried, viewers = ({name: 0 for name in (*rows, "other")} for _ in range(3))
        for count in counts:
            name = count.provider if count.provider in rows else "other"
            streams[name] += count.streams
            carried[name] += count.carried
            viewers[name] += count.viewers
        yield _gauge("streams", "Streams placed there.", "provider", streams)
        yield _gauge("streams_carried", "Those of them with media.", "provider", carried)
        yield _gauge("viewers", "Viewers last seen there.", "provider", viewers)


def _one(name: str, says: str, value: float) -> Metric:
    return GaugeMetricFamily(f"hitless_{name}", says, value=float(value))


def _gauge(name: str, says: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(f"hitless_{name}", says, labels=[label])
    for word, value in values.items():
        family.add_metric([word], float(value))
    return family


class _Timed:
    """A database whose answers are timed."""

    def __init__(self, database: Database, seconds: Histogram, lost: Counter) -> None:
        self._database, self._seconds, self._lost = database, seconds, lost
        for operation in ("read", "write"):
            seconds.labels(operation)
            lost.labels(operation)

    @property
    def dialect(self) -> Dialect:
        return self._database.dialect

    async def read(self, text: str, *args: Value) -> list[Row]:
        began_s = self._now()
        try:
            return await self._database.read(text, *args)
        except StoreUnavailable:
            self._lost.labels("read").inc()
            raise
        finally:
            self._seconds.labels("read").observe(self._now() - began_s)

    async def write(self, *statements: Sql, wake: str | None = None) -> Written:
        began_s = self._now()
        try:
            return await self._database.write(*statements, wake=wake)
        except StoreUnavailable:
            self._lost.labels("write").inc()
            raise
        finally:
            self._seconds.labels("write").observe(self._now() - began_s)

    async def upgrade(self, *statements: Sql) -> Written:
        return await self._database.upgrade(*statements)

    def woken(self) -> AsyncIterator[str]:
        return self._database.woken()

    async def aclose(self) -> None:
        await self._database.aclose()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
