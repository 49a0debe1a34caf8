"""hitless.server.fleet and fleet_orders, and the group of a stream; real nodes on both engines"""

import asyncio
import itertools
from contextlib import asynccontextmanager

import pytest

from hitless.client import protocol
from hitless.core.agreement import By
from hitless.core.evidence import Rules
from hitless.core.observation import Level, ProbeEnded
from hitless.server import serve
from hitless.server.coordinator import Rejected
from hitless.server.fleet import AGAIN_S, SPARE_S
from hitless.server.fleet_orders import Order
from hitless.server.groups import bring_along
from hitless.server.hub import Connection
from hitless.server.keys import Identity, KeyRole
from hitless.server.node import Node, NodeConfig
from hitless.server.store_members import Member, Role
from hitless.server.store_streams import Claim, Start
from hitless.server.wire import ProviderChange


pytest_plugins = ("postgres_server",)

LIMIT_S = 30.0
NOW_S = 1_000.0


def go(main):
    """Run a test against the clock, bounded."""

    async def bounded():
        async with asyncio.timeout(LIMIT_S):
            return await main

    return asyncio.run(bounded())


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


def test_a_drained_provider_is_empty_after_as_long_as_its_targets_take(engine):
    """
    50 streams at 10 starts a second and no more, after a start that is slower still.
    """

    async def main():
        async with fleet(engine) as it:
            await it.begin(agora={}, zegocloud={"starts_per_s": 10.0})
            for n in range(50):
                await it.stream(f"s{n}")
            ordered = await it.one.orders.order(order())
            left = []
            for _ in range(9):
                await it.later(1.0)
                left.append([*(await it.where()).values()].count("agora"))
            opened = await it.one.store.fleet_moves.open()
            return ordered, left, opened, await it.audit("streams.moved")

    ordered, left, opened, audit = go(main())
    assert (ordered.moving, ordered.staying) == (50, 0)
    assert all(was - now <= 12 for was, now in itertools.pairwise([50, *left]))
    assert left[3] > 0
    assert left[-1] == 0
    assert opened == []
    assert [(row.who, row.target, row.after["streams"]) for row in audit] == [("k1", "agora", 50)]


def test_every_node_moves_its_own_streams_once(engine):
    """
    By one row; nobody tells another node anything about a stream.
    """

    async def main():
        async with fleet(engine, "n1", "n2") as it:
            await it.begin(agora={}, zegocloud={"starts_per_s": 1000.0})
            for n in range(40):
                await it.stream(f"s{n}", node=f"n{1 + n % 2}")
            await it.one.orders.order(order())
            await it.nodes[1].refresh()
            await it.nodes[1].fleet.tick(is_leader=False)
            half = await it.where()
            await it.later(1.0)
            rows = await it.one.store.streams.page()
            return half, await it.where(), {row.epoch for row in rows}

    half, whole, epochs = go(main())
    assert {name for name, at in half.items() if at == "zegocloud"} == {
        f"s{n}" for n in range(40) if n % 2
    }
    assert set(whole.values()) == {"zegocloud"}
    assert epochs == {2}


def test_the_leader_moves_what_a_dead_node_has_left(engine):
    """
    Its heartbeat is 10 s old; the streams go on with somebody.
    """

    async def main():
        async with fleet(engine) as it:
            await it.begin(agora={}, zegocloud={})
            await it.one.store.nodes.heartbeat("n9", "", "0")
            await it.stream("s", node="n9")
            await it.one.orders.order(order())
            await it.later(5.0)
            before = await it.where()
            await it.later(6.0)
            return before, await it.where()

    before, after = go(main())
    assert before == {"s": "agora"}
    assert after == {"s": "zegocloud"}


def test_a_provider_that_is_down_is_left_by_a_tenth_of_all_streams_a_minute(engine):
    """
    Streams with media may be fine there for all we know; those without go at once.
    """

    async def main():
        async with fleet(engine) as it:
            await it.begin(agora={}, zegocloud={"starts_per_s": 1000.0})
            for n in range(30):
                await it.stream(f"live{n}")
            for n in range(10):
                await it.stream(f"dark{n}", live=False)
            await it.down("agora")
            await it.later(1.0)
            await it.later(1.0)
            soon = await it.where()
            for _ in range(59):
                await it.later(1.0)
            minute = await it.where()
            return soon, minute, await it.audit("streams.moved")

    soon, minute, audit = go(main())
    assert {at for name, at in soon.items() if name.startswith("dark")} == {"zegocloud"}
    assert [*soon.values()].count("agora") >= 29
    assert 3 <= 30 - [*minute.values()].count("agora") <= 5
    assert audit[-1].who == "n1"
    assert "it is down" in audit[-1].because


def test_what_another_node_finds_down_is_left_too(engine):
    """
    The leader may have no client there, and no reason to doubt those who have.
    """

    async def main():
        async with fleet(engine, "n1", "n2") as it:
            await it.begin(agora={}, zegocloud={})
            await it.stream("s")
            await it.down("agora", it.nodes[1])
            for node in (it.nodes[1], it.one):
                await node._beat_once()
            heard = it.one.judge.health_in_full("agora"), it.one.providers.order()
            await it.later(1.0)
            await it.later(1.0)
            return heard, await it.where()

    (health, order_now), where = go(main())
    assert (health.status, health.because.partition(":")[0]) == ("down", "node n2")
    assert order_now == ("zegocloud", "agora")
    assert where == {"s": "zegocloud"}


@pytest.mark.parametrize("freeze", [True, False])
def test_a_freeze_holds_at_the_next_look_of_every_node(engine, freeze):
    """
    Only streams without media go on; and after the thaw the rest.
    """

    async def main():
        async with fleet(engine, "n1", "n2") as it:
            await it.begin(agora={}, zegocloud={"starts_per_s": 1000.0})
            for n in range(40):
                await it.stream(f"s{n}", node=f"n{1 + n % 2}")
            await it.stream("dark", node="n2", live=False)
            await it.one.store.settings.put("is_frozen", freeze, None)
            await it.down("agora")
            for _ in range(5):
                await it.later(1.0)
            frozen = await it.where()
            await it.one.store.settings.put("is_frozen", False, None)
            for _ in range(60):
                await it.later(1.0)
            return frozen, await it.where()

    frozen, thawed = go(main())
    assert frozen["dark"] == "zegocloud"
    moved = sum(at == "zegocloud" for name, at in frozen.items() if name != "dark")
    assert (moved == 0) is freeze
    assert "zegocloud" in {at for name, at in thawed.items() if name != "dark"}


def test_an_observer_says_what_it_would_do_and_does_nothing(engine):
    """
    `mode = observe`: in the log, once in a while.
    """

    async def main():
        async with fleet(engine) as it:
            await it.begin(agora={}, zegocloud={})
            await it.stream("s")
            await it.one.store.settings.put("mode", "observe", None)
            await it.down("agora")
            for _ in range(3):
                await it.later(1.0)
            return await it.where(), await it.audit("streams.observed")

    where, audit = go(main())
    assert where == {"s": "agora"}
    assert len(audit) == 1
    assert "1 streams would move" in audit[0].because


def test_a_share_is_all_that_may_be_moved_automatically(engine):
    """
    An operator's order is not bound by it.
    """

    async def main():
        async with fleet(engine) as it:
            await it.begin(agora={}, zegocloud={"starts_per_s": 1000.0})
            for n in range(200):
                await it.stream(f"s{n}", live=False)
            await it.one.store.settings.put("share", 25, None)
            await it.down("agora")
            await it.later(1.0)
            await it.later(1.0)
            automatic = [*(await it.where()).values()].count("zegocloud")
            await it.one.orders.order(order())
            await it.later(1.0)
            await it.later(1.0)
            return automatic, [*(await it.where()).values()].count("zegocloud")

    automatic, ordered = go(main())
    assert 30 <= automatic <= 70
    assert ordered == 200


def test_the_last_healthy_provider_is_not_emptied(engine):
    """
    But for an operator, who may; and not where there is nowhere to go.
    """

    async def main():
        async with fleet(engine) as it:
            await it.begin(agora={}, zegocloud={})
            await it.stream("s")
            await it.down("zegocloud")
            refused = []
            for by in (By.SERVER, By.OPERATOR):
                try:
                    await it.one.orders.order(order(by=by))
                except Rejected as rejected:
                    refused.append(rejected.because)
            try:
                await it.one.orders.order(order(by=By.OPERATOR, target="zegocloud"))
            except Rejected as rejected:
                refused.append(rejected.because)
            await it.later(1.0)
            return refused, await it.where()

    refused, where = go(main())
    assert refused[0] == "agora is the last healthy provider"
    assert refused[1].startswith("from agora: nobody to go to")
    assert len(refused) == 2
    assert where == {"s": "zegocloud"}  # the operator named it


def test_no_room_means_that_streams_with_media_stay(engine):
    """
    `max_streams` of the target, less what it has.
    """

    async def main():
        async with fleet(engine) as it:
            config = {"max_streams": 12}
            await it.begin(agora={}, zegocloud={"config": config, "starts_per_s": 1000.0})
            await it.stream("there", "zegocloud")
            for n in range(40):
                await it.stream(f"s{n}")
            ordered = await it.one.orders.order(order())
            for _ in range(3):
                await it.later(1.0)
            return ordered, [*(await it.where()).values()].count("zegocloud")

    ordered, there = go(main())
    assert (ordered.moving, ordered.staying) == (11, 29)
    assert "no room" in ordered.because
    assert there == 1 + ordered.moving


@pytest.mark.parametrize(
    ("many", "share", "moving"), [(1, 0.5, 1), (1, 0.4, 0), (2, 0.5, 1), (7, 0.3, 2), (9, 1.0, 9)]
)
def test_as_many_streams_of_a_share_move_as_was_said(engine, many, share, moving):
    """
    A hash says which, not how many; those without media all go.
    """

    async def main():
        async with fleet(engine) as it:
            await it.begin(agora={}, zegocloud={"starts_per_s": 1000.0})
            for n in range(many):
                await it.stream(f"s{n}")
            await it.stream("dark", live=False)
            ordered = await it.one.orders.order(order(share=share))
            for _ in range(3):
                await it.later(1.0)
            audit = await it.audit("streams.moved")
            return ordered, [*(await it.where()).values()].count("zegocloud"), audit

    ordered, there, audit = go(main())
    assert (ordered.moving, ordered.staying) == (moving + 1, many - moving)
    assert there == moving + 1
    assert [row.after["streams"] for row in audit] == [moving + 1]


def test_co_hosts_count_as_all_of_them_where_a_share_moves_one(engine):
    """
    A group is not torn: what was said is what happens, though it is more than was asked.
    """

    async def main():
        async with fleet(engine) as it:
            await it.begin(agora={}, zegocloud={"starts_per_s": 1000.0})
            for n in range(4):
                await it.stream(f"s{n}", group="band")
            ordered = await it.one.orders.order(order(share=0.25))
            for _ in range(3):
                await it.later(1.0)
            return ordered, [*(await it.where()).values()].count("zegocloud")

    ordered, there = go(main())
    assert (ordered.moving, ordered.staying, there) == (4, 0, 4)


def test_the_next_tier_is_asked_only_when_the_first_is_full(engine):
    """
    Priorities are strict; a weight divides one priority.
    """

    async def main():
        async with fleet(engine) as it:
            fast = {"starts_per_s": 1000.0}
            await it.begin(
                agora={"priority": 1},
                b={"priority": 2, "weight": 3.0, **fast},
                c={"priority": 2, "weight": 1.0, **fast},
                d={"priority": 3, **fast},
            )
            for n in range(200):
                await it.stream(f"s{n}")
            await it.one.orders.order(order())
            for _ in range(2):
                await it.later(1.0)
            found = [*(await it.where()).values()]
            return {name: found.count(name) for name in ("agora", "b", "c", "d")}

    counts = go(main())
    assert (counts["agora"], counts["d"]) == (0, 0)
    assert 120 <= counts["b"] <= 175


def test_viewers_that_cannot_open_the_target_keep_a_stream_where_it_is(engine):
    """
    A twentieth may be left behind, not more; and a publisher never.
    """

    async def main():
        async with fleet(engine) as it:
            await it.begin(agora={}, zegocloud={})
            for name, cannot in (("few", 1), ("many", 2), ("publisher", 0)):
                await it.stream(name)
                for n in range(20):
                    adapters = ("memory",) if n < cannot else ()
                    await it.one.store.members.join(
                        Member(stream=name, client=f"v{n}", role=Role.VIEWER, node="n1",
                               adapters=adapters)
                    )  # fmt: skip
            await it.one.store.members.join(
                Member(stream="publisher", client="p", role=Role.PUBLISHER, node="n1",
                       adapters=("memory",))
            )  # fmt: skip
            await it.one.orders.order(order())
            for _ in range(2):
                await it.later(1.0)
            return await it.where()

    where = go(main())
    assert where == {"few": "zegocloud", "many": "agora", "publisher": "agora"}


def test_an_automatic_move_ends_when_its_source_is_well_again_or_its_target_is_not(engine):
    """
    The rest stays; and another order follows if need be.
    """

    async def main():
        async with fleet(engine) as it:
            slow = {"starts_per_s": 0.1}
            await it.begin(agora={}, zegocloud=dict(slow), webrtc=dict(slow))
            for n in range(20):
                await it.stream(f"s{n}", live=False)
            await it.one.orders.order(order(by=By.SERVER))
            await it.later(1.0)
            well = [row.id for row in await it.one.store.fleet_moves.open()]
            await it.one.orders.order(order(target="zegocloud"))
            await it.later(1.0)
            running = [row.by for row in await it.one.store.fleet_moves.open()]
            change = ProviderChange(is_drained=True)
            await it.one.providers.change("zegocloud", change, "k1", "", may_add=False)
            await it.later(1.0)
            return well, running, await it.one.store.fleet_moves.open()

    well, running, left = go(main())
    assert well == []
    assert running == [By.OPERATOR]
    assert [row.source for row in left] in ([], ["zegocloud"])


def test_a_move_that_had_its_time_is_over(engine):
    """
    Whoever stayed is named once, and the provider may be asked again later.
    """

    async def main():
        async with fleet(engine) as it:
            await it.begin(agora={"priority": 1}, zegocloud={"starts_per_s": 1000.0})
            await it.stream("stuck")
            await it.one.store.members.join(
                Member(stream="stuck", client="v", role=Role.VIEWER, node="n1",
                       adapters=("memory",))
            )  # fmt: skip
            await it.one.orders.order(order())
            await it.later(1.0)
            during = len(await it.one.store.fleet_moves.open())
            await it.later(SPARE_S + 1.0)
            return during, len(await it.one.store.fleet_moves.open()), await it.where()

    during, after, where = go(main())
    assert (during, after) == (1, 0)
    assert where == {"stuck": "agora"}
    assert AGAIN_S > 1.0


# --- Groups ---


def connected(node, row):
    """Connect the publisher of a stream."""
    who = Identity(key="k", role=KeyRole.CLIENT, scope=None, name="app")
    connection = Connection(row.publisher, who)
    node.hub.add(connection)
    node.hub.attach(connection, row.id, "publisher")
    return connection


async def settled(node):
    """Wait for what was begun beside."""
    for _ in range(100):
        await asyncio.sleep(0.01)
        if not node.coordinator._tasks:
            return
    raise AssertionError("it goes on for ever")


def test_co_hosts_move_together_when_one_of_them_moves(engine):
    """
    Whoever moved it: here the publisher of one.
    """

    async def main():
        async with fleet(engine) as it:
            await it.begin(agora={}, zegocloud={}, webrtc={})
            first = await it.stream("ann", group="show")
            await it.stream("bob", group="show")
            await it.stream("else")
            said = protocol.Claim(stream="ann", base=1, provider="webrtc", because="silence")
            await it.one.coordinator.claim(connected(it.one, first), said)
            await settled(it.one)
            rows = {row.id: row for row in await it.one.store.streams.page()}
            return await it.where(), rows["bob"].because

    where, because = go(main())
    assert where == {"ann": "webrtc", "bob": "webrtc", "else": "agora"}
    assert because == "with ann of its group: silence"


def test_co_hosts_that_part_at_the_same_moment_meet_again(engine):
    """
    The first id leads, whichever of the two is looked at first.
    """

    async def main():
        async with fleet(engine) as it:
            await it.begin(agora={}, zegocloud={}, webrtc={})
            rows = [await it.stream(name, group="show") for name in ("ann", "bob")]
            for row, to in zip(rows, ("zegocloud", "webrtc"), strict=True):
                await it.one.store.streams.claim(
                    Claim(stream=row.id, base_epoch=1, provider=to, by=By.PUBLISHER,
                          because="silence", publisher=row.publisher)
                )  # fmt: skip
            page = await it.one.store.streams.page()
            await asyncio.gather(
                *(bring_along(row, it.one.store, it.one.coordinator) for row in page)
            )
            return await it.where()

    assert go(main()) == {"ann": "zegocloud", "bob": "zegocloud"}
