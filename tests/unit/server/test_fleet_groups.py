"""The streams of one group, moved together by real nodes; on both engines"""

import asyncio

from unit.server.fleet_nodes import fleet
from unit.server.stored_streams import go

from hitless.client import protocol
from hitless.core.agreement import By
from hitless.server.groups import bring_along
from hitless.server.hub import Connection
from hitless.server.keys import Identity, KeyRole
from hitless.server.store_streams import Claim


pytest_plugins = ("postgres_server",)


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
