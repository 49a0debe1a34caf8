"""PostgreSQL is stopped for a minute: what publishers and viewers feel of it."""

import asyncio
import itertools

import pytest
from canned import canned_feed, number_of
from e2e.serving import House, add_providers

from hitless import ControlPlane, Kind, LiveStreamingProvider, Memory
from hitless.core.state import Phase
from hitless.providers.memory import MemoryHub


pytest_plugins = ("postgres_server",)

pytestmark = pytest.mark.realtime

AWAY_S = 60.0
USAGE = "/v1/admin/usage"
LIMIT_S = AWAY_S + 60.0

GAP_FRAMES_MAX = 150
"""Frames of 1/30 s that a killed provider may cost: it is found out, and left for the next."""


async def until(condition, limit_s):
    """Wait until the condition holds; fail after the limit [s]."""
    async with asyncio.timeout(limit_s):
        while not condition():  # noqa: ASYNC110 -- the condition is any state of a client
            await asyncio.sleep(0.01)


async def until_placed(node, stream, provider, limit_s):
    """Wait until the server has a stream there; return its epoch."""
    async with asyncio.timeout(limit_s):
        while (row := (await node.stream(stream)).data)["provider"] != provider:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return row["epoch"]


class Stage:
    """
    A publisher and a viewer, each a client of the server with adapters of its own.

    Their providers are services in this process, stand-ins that carry encoded frames.
    """

    def __init__(self, node, key):
        self.hubs = {name: MemoryHub() for name in ("one", "two")}
        self.here, self.there = (self._client(node, key, name) for name in ("pub", "viewer"))
        self.shown = []

    def _client(self, node, key, name):
        adapters = [Memory(one, hub=hub) for one, hub in self.hubs.items()]
        control = ControlPlane(node.url, key=key, client=name)
        return LiveStreamingProvider(adapters, backend=control)

    async def watch(self, view):
        """Note the number of each frame that is shown."""
        async for frame in view.frames():
            if frame.kind is Kind.VIDEO:
                self.shown.append(number_of(frame))

    async def flows(self, for_s):
        """Let time pass [s]; fail if any second of it showed nothing."""
        for _ in range(round(for_s)):
            before = len(self.shown)
            await asyncio.sleep(1.0)
            assert len(self.shown) > before, "the screen is dark"

    def are_on(self, provider):
        """Whether both ends are on air there."""
        return [self.here.active_provider, self.there.active_provider] == [provider, provider]


def test_postgresql_stopped_for_a_minute_leaves_media_and_moves_and_is_caught_up_with(
    own_postgres_server, tmp_path
):
    """
    A provider dies meanwhile: both ends leave it by their plans. Then the server is told, and
    its word counts again.
    """
    house = House(tmp_path)

    async def main():
        loop = asyncio.get_running_loop()
        node = house.serve(await own_postgres_server.new_database())
        await add_providers(node, "one", "two")
        stage = Stage(node, house.keys["HITLESS_CLIENT_KEY"])
        feed = canned_feed()
        async with (
            stage.here,
            stage.there,
            stage.here.start_stream("show", feed) as stream,
            stage.there.join_stream("show", wait_s=5.0) as view,
        ):
            watching = asyncio.create_task(stage.watch(view))
            await until(lambda: len(stage.shown) > 30, 10.0)
            assert stage.are_on("one")
            before = (await node.stream("show")).data["epoch"]
            await asyncio.to_thread(own_postgres_server.stop)
            stopped_s = loop.time()
            said = [await node.until_ready(False, 10.0)]
            await stage.flows(5.0)
            stage.hubs["one"].kill()
            await until(lambda: stage.are_on("two"), 20.0)
            first = len(stage.shown)
            stage.hubs["one"].revive()
            await stage.flows(stopped_s + AWAY_S - loop.time())
            said.append(await node.until_ready(False, 0.5))
            assert (await node.call("GET", "/livez")).status == 200
            assert (stream.phase, view.phase) == (Phase.ON_AIR, Phase.ON_AIR)
            assert len(stage.shown) > first + 30
            await asyncio.to_thread(own_postgres_server.start)
            await node.until_ready(True, 15.0)
            told = await until_placed(node, "show", "two", 20.0)
            moved = (await node.move("show", "one")).data["moved"]
            await until(lambda: stage.are_on("one"), 20.0)
            obeyed = (await node.stream("show")).data["epoch"]
            await stage.flows(1.0)
            used = {one["provider"]: one for one in (await node.call("GET", USAGE)).data}
        await watching
        await feed.aclose()
        return said, (before, told, obeyed), moved, stage.shown, used

    async def bounded():
        async with asyncio.timeout(LIMIT_S):
            return await main()

    try:
        said, epochs, moved, shown, used = asyncio.run(bounded())
    finally:
        house.close()
    assert all(text.startswith("degraded: ") and "PostgreSQL" in text for text in said), said
    assert epochs == (1, 2, 3)
    assert moved == 1
    # Of 60 s of canned frames; what piled up in the minute came with the reports after it.
    assert min(used["two"]["sent_gb"], used["two"]["received_gb"]) > 20e3 / 1e9, used
    steps = [after - before for before, after in itertools.pairwise(shown)]
    assert min(steps) > 0, "a frame was shown twice"
    assert max(steps) < GAP_FRAMES_MAX, f"{max(steps) / 30:.1f} s were dark"
    assert sum(steps) > 30 * AWAY_S * 0.9
