"""hitless.server.node: what a node does by itself"""

import asyncio

import pytest

from hitless.core.evidence import Word
from hitless.core.observation import MediaLost
from hitless.server import serve
from hitless.server.database import StoreUnavailable, open_database
from hitless.server.keys import KeyRefused, KeyRole, make_key
from hitless.server.node import Node, NodeConfig


def run(main):
    """Run a test, bounded."""

    async def bounded():
        async with asyncio.timeout(20):
            return await main

    return asyncio.run(bounded())


async def a_node(tmp_path, *, name="n1", **environ):
    """Return a node that does nothing by itself, on a database in a file."""
    database = await open_database(str(tmp_path / "hitless.db"))
    keys = {k: v for k, v in serve.new_keys(0.0).items() if "OWNER" not in k}
    node = Node(NodeConfig(database="", name=name), database, {**keys, **environ})
    await node.refresh()
    return node


def test_a_changed_file_of_keys_counts_without_a_restart(tmp_path):
    """
    The old key opens nothing any more; a file that makes no sense changes nothing.
    """
    old, new = (make_key(KeyRole.OWNER, now_s=0.0, name="owner").text for _ in range(2))
    file = tmp_path / "owner-key"
    file.write_text(old)

    async def main():
        node = await a_node(tmp_path, HITLESS_OWNER_KEY_FILE=str(file))
        node.ring.check(old, 1.0)
        file.write_text(new)
        node._read_key_files()
        node.ring.check(new, 1.0)
        with pytest.raises(KeyRefused):
            node.ring.check(old, 1.0)
        file.write_text("no key at all")
        node._read_key_files()
        node.ring.check(new, 1.0)
        await node.aclose()

    run(main())


def test_a_store_counts_as_lost_until_what_failed_goes_well(tmp_path):
    """
    A full disk can still be read.
    """

    async def main():
        node = await a_node(tmp_path)
        seen = []

        async def fails():
            raise StoreUnavailable("the disk is full")

        async def works():
            pass

        for work, kind in ((fails, "heartbeat"), (works, "poll"), (works, "heartbeat")):
            await node._kept(work(), kind)
            seen.append(node.store_lost_because)
        await node.aclose()
        return seen

    assert run(main()) == ["the disk is full", "the disk is full", ""]


def test_a_node_that_cannot_reach_its_store_leads_nobody(tmp_path):
    """
    Its lease may be another's by now.
    """

    async def main():
        node = await a_node(tmp_path)
        await node._beat_once()
        led = node.is_leader

        async def fails():
            raise StoreUnavailable("it is down")

        await node._kept(fails(), "poll")
        after = node.is_leader
        await node._beat_once()
        again = node.is_leader
        await node.aclose()
        return led, after, again

    assert run(main()) == (True, False, True)


def test_what_the_clients_of_another_node_report_comes_with_its_heartbeat(tmp_path):
    """
    Two nodes on one database: neither saw enough to condemn, both do after a heartbeat each.
    """

    async def main():
        nodes = [await a_node(tmp_path, name=f"n{number}") for number in (1, 2)]
        for number, node in enumerate(nodes):
            node.judge.allow("one", True, "enabled by an operator")
            for client in range(2):
                who = f"{number}{client}"
                node.judge.observe(
                    MediaLost(
                        provider="one", client=f"c{who}", stream=f"s{who}", network=f"net{who}"
                    )
                )
        words = [[node.judge.standing.verdict("one").word for node in nodes]]
        for node in (*nodes, nodes[0]):
            await node._beat_once()
        words.append([node.judge.standing.verdict("one").word for node in nodes])
        for node in nodes:
            await node.aclose()
        return words

    before, after = run(main())
    assert Word.DOWN not in before
    assert after == [Word.DOWN, Word.DOWN]
