"""hitless.server.fleet and fleet_orders: how much moves, and where to; on both engines"""

import pytest
from unit.server.fleet_nodes import fleet, order
from unit.server.stored_streams import go

from hitless.core.agreement import By
from hitless.server.coordinator import Rejected
from hitless.server.store_members import Member, Role


pytest_plugins = ("postgres_server",)


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
                Member(stream="publisher", client="p-publisher", role=Role.PUBLISHER, node="n1",
                       adapters=("memory",))
            )  # fmt: skip
            await it.one.orders.order(order())
            for _ in range(2):
                await it.later(1.0)
            return await it.where()

    where = go(main())
    assert where == {"few": "zegocloud", "many": "agora", "publisher": "agora"}


def test_clients_without_codecs_for_the_target_keep_a_stream_where_it_is(engine):
    """
    And it is said that codecs are why; a publisher that was replaced holds nothing up.
    """

    async def main():
        async with fleet(engine) as it:
            await it.begin(agora={}, zegocloud={})
            said = []
            it.one.fleet._tell = lambda name, **fields: said.append((name, fields["because"]))
            for name, cannot in (("few", 1), ("many", 2), ("publisher", 0), ("replaced", 0)):
                await it.stream(name)
                for n in range(20):
                    codecs = ("AV1", "opus") if n < cannot else ("VP8", "opus")
                    await it.one.store.members.join(
                        Member(stream=name, client=f"v{n}", role=Role.VIEWER, node="n1",
                               codecs=codecs)
                    )  # fmt: skip
            for name, client in (("publisher", "p-publisher"), ("replaced", "older")):
                await it.one.store.members.join(
                    Member(stream=name, client=client, role=Role.PUBLISHER, node="n1",
                           codecs=("VP8", "AAC"))
                )  # fmt: skip
            await it.one.orders.order(order())
            for _ in range(2):
                await it.later(1.0)
            return await it.where(), said

    where, said = go(main())
    assert where == {
        "few": "zegocloud", "many": "agora", "publisher": "agora", "replaced": "zegocloud"
    }  # fmt: skip
    because = "2 stay: its clients can open no target; 2 of them for want of codecs"
    assert ("streams.held", because) in said
