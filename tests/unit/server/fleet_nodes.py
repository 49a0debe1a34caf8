"""A fleet of real nodes that share a database, and whose time the test moves."""

from contextlib import asynccontextmanager

from hitless.core.agreement import By
from hitless.core.evidence import Rules
from hitless.core.observation import Level, ProbeEnded
from hitless.server import serve
from hitless.server.fleet_orders import Order
from hitless.server.node import Node, NodeConfig
from hitless.server.store_streams import Start
from hitless.server.wire import ProviderChange


NOW_S = 1_000.0


class Fleet:
    """Nodes that share a database and do nothing by themselves: the test moves the time."""

    def __init__(self, engine, database, *names):
        self.engine, self.database = engine, database
        environ = serve.new_keys(0.0)
        rules = Rules(max_failures=3)
        self.nodes = [
            Node(NodeConfig(database="", name=name, rules=rules), database, environ)
            for name in names
        ]
        self.one = self.nodes[0]
        self.now_s = NOW_S

    async def begin(self, **providers):
        """Add providers, each with what is said of it, and make the first node the leader."""
        await self.engine.set_clock(self.database, self.now_s)
        for name, said in providers.items():
            config = {"url": f"https://{name}.example/{{stream}}", **said.pop("config", {})}
            change = ProviderChange(adapter="whip", config=config, **said)
            await self.one.providers.change(name, change, "k1", "", may_add=True)
        self.lease = await self.one.store.leases.take("fleet", self.one.config.name, 1e6)
        await self.later(0.0)

    async def stream(self, name, provider="agora", *, node=None, group="", live=True):
        """Put a stream on a provider."""
        store = self.one.store
        start = Start(
            stream=name, group=group or name, publisher=f"p-{name}", provider=provider,
            node=node or self.one.config.name, because="a test",
        )  # fmt: skip
        row = await store.streams.start(start)
        if live:
            row = await store.streams.confirm(name, row.epoch, provider)
        return row

    async def later(self, by_s):
        """Let time pass at the database, and every node look once."""
        self.now_s += by_s
        await self.engine.set_clock(self.database, self.now_s)
        for node in self.nodes:
            await node.store.nodes.heartbeat(node.config.name, "", "0")
            await node.refresh()
        await self.one.fleet.lead(self.lease)
        for node in self.nodes:
            await node.fleet.tick(is_leader=node is self.one)

    async def where(self):
        """Return where each stream is."""
        return {row.id: row.provider for row in await self.one.store.streams.page()}

    async def audit(self, what):
        """Return the entries of one act."""
        return [row for row in await self.one.store.audit.page() if row.what == what]

    async def down(self, provider, *nodes):
        """Let probes find a provider down, and others up."""
        for node in nodes or self.nodes:
            for _ in range(3):
                for name in node.providers.rows:
                    node.judge.observe(
                        ProbeEnded(
                            provider=name,
                            level=Level.END_TO_END,
                            ok=name != provider,
                            because="a test",
                        )
                    )


@asynccontextmanager
async def fleet(engine, *names):
    """Lend a fleet of nodes."""
    async with engine.database() as database:
        found = Fleet(engine, database, *(names or ("n1",)))
        try:
            yield found
        finally:
            for node in found.nodes:
                await node.probing.aclose()
                await node.coordinator.aclose()


def order(source="agora", by=By.OPERATOR, **more):
    """Return an order to empty a provider."""
    return Order(source=source, by=by, who="k1", because="a test", **more)
