"""A provider that hangs when it is left cannot hold a stream, its end, or its successor."""

from __future__ import annotations

import asyncio

import pytest
from canned import canned_feed
from virtual_time import run

from hitless import LiveStreamingProvider, Memory, Policy
from hitless.client.releasing import RELEASE_S_MAX
from hitless.providers.memory import MemoryHub


POLICY = Policy()
SLACK_S = 0.5


class Clinging(Memory):
    """Its legs do not leave; `is_deaf`: not even when whoever waits for that gives up."""

    is_deaf = False

    async def start_stream(self, stream, source):
        return self._held(await super().start_stream(stream, source))

    async def join_stream(self, stream):
        return self._held(await super().join_stream(stream))

    def _held(self, leg):
        really = leg.aclose

        async def aclose():
            until_s = asyncio.get_running_loop().time() + 60.0
            try:
                await asyncio.sleep(60.0)
            except asyncio.CancelledError:
                if not self.is_deaf:
                    raise
                await asyncio.sleep(until_s - asyncio.get_running_loop().time())
            finally:
                await really()

        leg.aclose = aclose
        return leg


class Deaf(Clinging):
    """It finishes its sleep."""

    is_deaf = True


@pytest.mark.parametrize("kind", [Clinging, Deaf])
def test_a_stream_goes_on_elsewhere_while_its_old_leg_does_not_leave(kind):
    """
    As fast as from a provider that lets go.
    """

    async def moved_s(make):
        loop = asyncio.get_running_loop()
        hub, feed = MemoryHub(), canned_feed()
        async with LiveStreamingProvider([make("first", hub=hub), Memory("second")]) as live:
            async with live.start_stream("show", feed) as stream:
                await asyncio.sleep(5.0)
                hub.kill()
                killed_s = loop.time()
                while stream.provider != "second":  # noqa: ASYNC110 -- the clock is virtual
                    await asyncio.sleep(0.01)
                took_s = loop.time() - killed_s
        await feed.aclose()
        await asyncio.sleep(120.0)  # what is deaf ends by itself
        return took_s

    held_s, usual_s = run(moved_s(kind)), run(moved_s(Memory))
    assert held_s == pytest.approx(usual_s, abs=0.05)
    assert held_s < 2.0


@pytest.mark.parametrize("kind", [Clinging, Deaf])
def test_a_stream_ends_in_time_though_its_leg_does_not_leave(kind):
    """
    At both ends: `close_s_max` for a leg, and no more than a second for what is deaf to that.
    """

    async def main():
        loop = asyncio.get_running_loop()
        hub, feed = MemoryHub(), canned_feed()
        took_s = []
        async with (
            LiveStreamingProvider([kind("it", hub=hub)]) as here,
            LiveStreamingProvider([kind("it", hub=hub)]) as there,
        ):
            stream = await here.start_stream("show", feed)
            view = await there.join_stream("show")
            for close in (view.aclose, stream.aclose):
                begun_s = loop.time()
                await close()
                took_s.append(loop.time() - begun_s)
        await feed.aclose()
        await asyncio.sleep(120.0)
        return took_s

    for took_s in run(main()):
        assert POLICY.close_s_max <= took_s + 0.001  # it did hang: else this would say nothing
        assert took_s <= POLICY.close_s_max + 1.0 + SLACK_S


class Failing(Memory):
    """Releasing it fails."""

    async def aclose(self):
        await super().aclose()
        raise RuntimeError("no")


@pytest.mark.parametrize("kind", [Clinging, Deaf, Failing])
def test_a_client_is_closed_in_time_and_all_its_providers_with_it(kind):
    """
    Whatever one of them does, in whatever order they are.
    """
    released = []

    class Good(Memory):
        async def aclose(self):
            await super().aclose()
            released.append(self.name)

    async def main():
        loop, feed = asyncio.get_running_loop(), canned_feed()
        live = LiveStreamingProvider([kind("first"), Good("second")])
        await live.start_stream("show", feed)
        begun_s = loop.time()
        await live.aclose()
        took_s = loop.time() - begun_s
        await feed.aclose()
        await asyncio.sleep(200.0)
        return took_s

    took_s = run(main())
    assert took_s <= 2 * (POLICY.close_s_max + 1.0) + RELEASE_S_MAX + 1.0 + SLACK_S
    assert ["second"] == released
