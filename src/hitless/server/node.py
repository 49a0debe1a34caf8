"""
One node of the control plane: everything it is made of, and what it does by itself.

Each second it reads what other nodes changed; a wake-up only makes that sooner. A node that holds
the lease decides for the fleet; every node serves its own clients, whoever holds it.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import socket
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Final

import msgspec
import structlog

from ..core.evidence import Rules
from ..core.rails import Rails
from ..core.verdict import News
from ..errors import HitlessError
from .addresses import Allowed
from .alerts import Alerts, Signals
from .clock import wall_s
from .coordinator import MANY_TOPIC, Coordinator, topic
from .dark_streams import DarkStreams
from .database import Database, StoreUnavailable, open_database
from .fleet import ALIVE_S, Fleet
from .fleet_orders import TOPIC as FLEET_TOPIC
from .fleet_orders import Orders
from .history import History
from .hub import Hub
from .judging import SUMMARY_S, Judge, Told
from .keys import KeyRing, KeyRole, StoredKey, bootstrap_keys
from .limits import Connections, RateLimit
from .metrics import Metrics
from .minters import Asker
from .moves import Moves
from .planner import Planner
from .plans import PLAN_VARIABLE, Mint, PlanSigner
from .probing import Probing
from .providers import TOPIC as PROVIDERS_TOPIC
from .providers import Providers
from .rescues import Rescues
from .store import Store
from .store_nodes import Lease
from .store_operators import KeyRow
from .store_streams import StreamRow
from .summaries import TEXT_MAX
from .traces import open_tracer
from .vault import VAULT_VARIABLE, Vault, read_root_keys
from .webhook_post import read_hooks
from .webhooks import Webhooks
from .wire import Settings


log: Final = structlog.get_logger("hitless.server")

POLL_S: Final = 1.0
"""What other nodes changed is read so often [s]; wake-ups make it sooner."""
OVERLAP_S: Final = 3.0
"""A write takes no longer from its time stamp to its commit [s]."""
HEARTBEAT_S: Final = 3.0
HURRIED_S: Final = 1.0
"""The same while some client says that something fails [s]: the others should soon know."""
LEASE_S: Final = 10.0
MEMBER_SILENT_S: Final = 60.0
"""A client that nobody heard of for so long has left [s]."""

CONNECTIONS_MAX: Final = 50_000
OF_ADDRESS_MAX: Final = 20_000
"""Clients connected at a time, in all and from one address: many sit behind one."""

KEYS_TOPIC: Final = "keys"
SETTINGS_TOPIC: Final = "settings"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """
    What a node is told at its start.

    Attributes:
        database: Where the rows are: `sqlite:///...` or `postgresql://...`; may hold a password.
        name: Of this node; the same after a restart.
        url: Where clients reach it, for the other nodes' lists.
        is_open: Whether the list of providers is given without a key.
        report_s: How often clients report [s].
        rules: How providers are judged.
        rails: The limits of automatic moves.
        allow_private: Networks besides the public ones that probes may go to.
    """

    database: str = field(repr=False)
    name: str = field(default_factory=socket.gethostname)
    url: str = ""
    is_open: bool = False
    report_s: float = 10.0
    rules: Rules = field(default_factory=Rules)
    rails: Rails = field(default_factory=Rails)
    allow_private: Allowed = ()


class Node:
    """
    Open it with `opened`; it runs until that ends.

    Attributes:
        config: What it was told.
        store, hub, providers, judge, coordinator, ring, rescues, moves, dark, orders, fleet,
            probing, history, metrics, signals, tracer: Its parts.
        settings: What holds for the whole server.
        lease: The right to decide for the fleet; None: another node has it, or nobody.
    """

    def __init__(self, config: NodeConfig, database: Database, environ: Mapping[str, str]) -> None:
        loop = asyncio.get_running_loop()
        self.config = config
        self.metrics = Metrics()
        self.store = Store(self.metrics.timed(database))
        self.hub = Hub()
        self.ring = KeyRing(bootstrap_keys(environ, now_s=wall_s()))
        self.judge = Judge(config.rules, loop.time, self._verdict_changed, later=loop.call_later)
        mint = Mint(is_revoked=self._is_revoked)
        vault = Vault(read_root_keys(VAULT_VARIABLE, environ))
        signer = PlanSigner(read_root_keys(PLAN_VARIABLE, environ))
        self.providers = Providers(self.store, vault, mint, self.judge)
        self.coordinator = Coordinator(
            store=self.store,
            hub=self.hub,
            providers=self.providers,
            planner=Planner(signer, mint, slot_s=self.providers.slot_s),
            node=config.name,
            tell=self.tell,
            recording=self.judge.recording.streams,
        )
        self.rescues = Rescues(self.store, self.hub, self.providers, self.coordinator, self.tell)
        self.moves = Moves(self.store, self.providers)
        self.dark = DarkStreams(
            self.store, self.providers, self.judge, self.coordinator, self.moves
        )
        self.orders = Orders(
            store=self.store,
            providers=self.providers,
            judge=self.judge,
            node=config.name,
            settings=lambda: self.settings,
            tell=self.tell,
            limits=config.rails,
        )
        self.fleet = Fleet(
            store=self.store,
            providers=self.providers,
            judge=self.judge,
            coordinator=self.coordinator,
            rescues=self.rescues,
            orders=self.orders,
            node=config.name,
            settings=lambda: self.settings,
            tell=self.tell,
        )
        self.probing = Probing(
            config.rules,
            self.providers,
            self.judge,
            mint,
            self.tell,
            rng=random.Random(),
            allow_private=config.allow_private,
        )
        self.history = History(self.store, self.judge, loop.time)
        self.settings = Settings()
        self.lease: Lease | None = None
        self._environ, self._keys_because = environ, ""
        self._lost: dict[str, str] = {}
        """Why the store does not answer, by the kind of work that failed last."""
        hooks, networks = read_hooks(environ)
        webhooks = Webhooks(
            hooks, self.store, tell=self.tell, rng=random.Random(), allow_private=networks
        )
        self.tracer = open_tracer(config.name, environ)
        origin = f"{config.name}-{secrets.token_hex(4)}"
        self.signals = Signals(self, webhooks, Alerts(config.name, origin))
        self.metrics.watch(self, self.signals)
        self.connections = Connections(each_max=OF_ADDRESS_MAX, all_max=CONNECTIONS_MAX)
        self.by_address = RateLimit(rate_per_s=50, burst=200)
        self.by_key = RateLimit(rate_per_s=500, burst=1000)
        self.loop = loop
        self._database = database
        self._since_s = float(1 << 62)  # what is older than this node, its clients tell it of

    @property
    def is_leader(self) -> bool:
        """Whether it decides for the fleet."""
        return self.lease is not None

    @property
    def store_lost_because(self) -> str:
        """Why the store does not answer; empty: it does."""
        return next(iter(self._lost.values()), "")

    # --- What happens ---

    def tell(self, name: str, **fields: Any) -> None:
        """Tell operators of an event (Any: the event's own fields)."""
        row = fields.pop("row", None)
        if row is not None:
            fields |= {"stream": row.id, "provider": row.provider, "epoch": row.epoch}
        log.info(name, node=self.config.name, **fields)
        self.metrics.heard(name, fields, row)
        self.signals.heard(name, fields, row)
        self.tracer.heard(name, fields)
        self.history.heard(name, str(fields.get("provider") or ""))

    def _verdict_changed(self, news: News) -> None:
        word = news.verdict.word.value if news.verdict else None
        self.tell(news.name, provider=news.provider, because=news.because, verdict=word)

    def _is_revoked(self, asker: Asker) -> bool:
        return bool(asker.key) and self.ring.is_revoked(asker.key, wall_s())

    # --- Running ---

    async def refresh(self) -> None:
        """
        Read providers, settings and keys.

        Raises:
            StoreUnavailable: The store does not answer; what was known stays.
        """
        await self.providers.refresh()
        known = await self.store.settings.all()
        self.settings = msgspec.convert(
            {k: v for k, v in known.items() if k in Settings.__struct_fields__}, Settings
        )
        self.judge.is_held = self.settings.is_frozen or self.settings.mode == "observe"
        self.ring.replace(_stored(row) for row in await self.store.keys.all())
        self.hub.end_keys(lambda key: self.ring.is_revoked(key, wall_s()))

    async def run(self) -> None:
        """Do what a node does by itself, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._poll(), name="hitless: poll")
            group.create_task(self._listen(), name="hitless: listen")
            group.create_task(self._beat(), name="hitless: heartbeat")
            group.create_task(self.signals.webhooks.run(), name="hitless: webhooks")
            group.create_task(self.signals.run(), name="hitless: alerts")
            group.create_task(self.metrics.run(), name="hitless: metrics")

    async def _poll(self) -> None:
        while True:
            await self._kept(self._catch_up(), "poll")
            self.judge.tick()
            await asyncio.sleep(POLL_S)

    async def _catch_up(self) -> None:
        await self.refresh()
        await self.coordinator.flush()
        await self.rescues.sweep()
        await self.dark.count(is_told=self.settings.mode != "observe")
        await self._read_changes()
        await self.probing.follow(is_leader=self.is_leader)
        if self.lease is not None:
            await self.fleet.lead(self.lease)
        await self.fleet.tick(is_leader=self.is_leader)
        await self.history.sample(tuple(self.providers.rows), is_leader=self.is_leader)

    async def _read_changes(self) -> None:
        changes = await self.store.streams.changed_since(self._since_s)
        for row in changes.rows:
            self._changed(row)
        self._since_s = changes.at_s - OVERLAP_S

    async def _listen(self) -> None:
        async for woken in self._database.woken():
            if woken.startswith(topic("")):
                await self._kept(self._stream_changed(woken.removeprefix(topic(""))), "wake-up")
            elif woken in (PROVIDERS_TOPIC, KEYS_TOPIC, SETTINGS_TOPIC):
                await self._kept(self.refresh(), "wake-up")
            elif woken == MANY_TOPIC:
                await self._kept(self._read_changes(), "wake-up")
            elif woken == FLEET_TOPIC:
                await self._kept(self.fleet.tick(is_leader=self.is_leader), "wake-up")

    async def _stream_changed(self, stream: str) -> None:
        if self.hub.clients(stream):
            row = await self.store.streams.one(stream)
            if row is not None:
                self._changed(row)

    def _changed(self, row: StreamRow) -> None:
        self.coordinator.changed(row)
        self.signals.changed(row)
        self.rescues.opened(row)

    async def _beat(self) -> None:
        while True:
            self._read_key_files()
            await self._kept(self._beat_once(), "heartbeat")
            await asyncio.sleep(HURRIED_S if self.judge.is_contested else HEARTBEAT_S)

    def _read_key_files(self) -> None:
        """Take changed files of keys into account; one that makes no sense changes nothing."""
        try:
            self.ring.replace_bootstrap(bootstrap_keys(self._environ, now_s=wall_s()))
        except HitlessError as exc:
            if str(exc) != self._keys_because:
                self.tell("keys.unreadable", because=str(exc))
            self._keys_because = str(exc)
        else:
            self._keys_because = ""

    async def _beat_once(self) -> None:
        name, nodes = self.config.name, self.store.nodes
        summary, down = self.judge.summary(), self.judge.down()
        await nodes.heartbeat(name, self.config.url, version("hitless"), down, summary)
        self.judge.elsewhere = {
            provider: f"node {other.name}: {because}"
            for other in await nodes.alive(ALIVE_S)
            if other.name != name
            for provider, because in other.down.items()
        }
        others = await nodes.evidence(SUMMARY_S, besides=name, chars_max=TEXT_MAX)
        self.judge.heard(Told(node=o.name, text=o.evidence, age_s=o.age_s) for o in others)
        lease = await self.store.leases.take("fleet", name, LEASE_S)
        was_leader, self.lease = self.is_leader, lease
        if self.is_leader is not was_leader:
            word = "took" if self.is_leader else "lost"
            self.tell(
                "lease.changed", because=f"{name} {word} the lease", is_leader=self.is_leader
            )
        await self.store.members.forget(MEMBER_SILENT_S)

    async def _kept(self, work: Any, kind: str) -> None:  # Any: a coroutine
        """
        Do one piece of work; a store that does not answer ends the piece, not the node.

        It counts as lost until the kind of work that it failed goes well: a full disk can be read.
        """
        try:
            await work
        except StoreUnavailable as exc:
            self.lease = None
            if not self._lost:
                self.tell("store.lost", because=exc.because)
            self._lost[kind] = exc.because
        except HitlessError as exc:
            self.tell("task.failed", because=str(exc))
        else:
            if self._lost.pop(kind, None) is not None and not self._lost:
                self.tell("store.back", because="it answers again")

    async def aclose(self) -> None:
        """Let go of everything. Idempotent."""
        await self.probing.aclose()
        await self.coordinator.aclose()
        await self.tracer.aclose()
        await self._database.aclose()


@contextlib.asynccontextmanager
async def opened(config: NodeConfig, environ: Mapping[str, str]) -> AsyncIterator[Node]:
    """
    Open a node and run it.

    Raises:
        ConfigError: A key is missing or no key, or the database is not one.
        StoreUnavailable: The database cannot be opened now.
    """
    database = await open_database(config.database)
    try:
        node = Node(config, database, environ)
        await node.refresh()
    except BaseException:
        await database.aclose()
        raise
    running = asyncio.create_task(node.run(), name="hitless: node")
    try:
        yield node
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await node.aclose()


def _stored(row: KeyRow) -> StoredKey:
    return StoredKey(
        id=row.id,
        role=KeyRole(row.role),
        scope=row.scope,
        salt=row.salt,
        hash=row.hash,
        name=row.name,
        made_s=row.made_s,
        expires_s=row.expires_s,
        revoked_s=row.revoked_s,
    )
