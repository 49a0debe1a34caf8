"""hitless.server.fleet and fleet_orders: what empties a provider; real nodes on both engines"""

import itertools

import pytest
from unit.server.fleet_nodes import fleet, order
from unit.server.stored_streams import go

from hitless.core.agreement import By
from hitless.server.fleet import AGAIN_S, SPARE_S
from hitless.server.store_members import Member, Role
from hitless.server.store_streams import Claim
from hitless.server.wire import ProviderChange


pytest_plugins = ("postgres_server",)


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


def test_a_stream_that_its_publisher_takes_back_is_not_told_again_each_second(engine):
    """
    It could not go, and said so; it is asked again when things may have changed.
    """

    async def main():
        async with fleet(engine) as it:
            await it.begin(agora={}, zegocloud={"starts_per_s": 0.5})
            for n in range(9):
                await it.stream(f"s{n}")
            await it.one.orders.order(order())
            await it.later(0.0)
            (gone,) = [name for name, at in (await it.where()).items() if at == "zegocloud"]
            back = Claim(
                stream=gone, base_epoch=2, provider="agora", by=By.PUBLISHER, because="I cannot",
                publisher=f"p-{gone}", is_carried=True,
            )  # fmt: skip
            _, is_back = await it.one.store.streams.claim(back)
            assert is_back
            epochs = []
            for _ in range(40):
                await it.later(1.0)
                epochs.append((await it.one.store.streams.one(gone)).epoch)
            return epochs

    epochs = go(main())
    assert set(epochs[:28]) == {3}
    assert epochs[-1] == 4


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
