"""Cancelled at every await of start, join, move and leave: nothing remains."""

import asyncio

import pytest
from canned import canned_feed
from virtual_time import run

from hitless import LiveStreamingProvider, Memory, Policy
from hitless.providers.memory import MemoryHub


STEPS = [*range(12), *(0.001 * n for n in range(1, 60, 3)), 0.1, 0.15, 0.22, 0.3, 0.5]
"""Turns of the loop (whole numbers) and times [s] after which the victim is cancelled."""


def client(services):
    return LiveStreamingProvider(
        [Memory(name, hub=hub) for name, hub in services.items()], policy=Policy(overlap_s=1.0)
    )


async def cancelled_after(step, work):
    """Begin `work`, cancel it after `step`, and return what came of it, if anything did."""
    task = asyncio.ensure_future(work)
    if isinstance(step, int):
        for _ in range(step):
            await asyncio.sleep(0)
    else:
        await asyncio.sleep(step)
    task.cancel()
    await asyncio.wait([task])
    return None if task.cancelled() else task.result()


def left_over(services):
    """Whatever still publishes or watches anywhere."""
    return [
        *(stream for hub in services.values() for stream in hub.publishers),
        *(view for hub in services.values() for views in hub.viewers.values() for view in views),
    ]


def world():
    """Three services, the first of which refuses slowly, so that every kind of wait occurs."""
    services = {name: MemoryHub(open_s=0.03) for name in ("agora", "zegocloud", "webrtc")}
    services["agora"].kill()
    return services


@pytest.mark.parametrize("step", STEPS)
def test_a_cancelled_start_leaves_nothing(step):
    async def main():
        services, feed = world(), canned_feed()
        async with client(services) as live:
            stream = await cancelled_after(step, live.start_stream("show", feed)._begin())
            if stream is not None:
                await stream.aclose()
            await asyncio.sleep(0.2)
            left = left_over(services)
        await feed.aclose()
        return left

    assert run(main()) == []


@pytest.mark.parametrize("step", STEPS)
def test_a_cancelled_join_leaves_nothing(step):
    async def main():
        services, feed = world(), canned_feed()
        async with client(services) as here, client(services) as there:
            async with here.start_stream("show", feed):
                view = await cancelled_after(step, there.join_stream("show")._begin())
                if view is not None:
                    await view.aclose()
                await asyncio.sleep(0.2)
                viewers = [v for hub in services.values() for v in hub.viewers.get("show", ())]
        await feed.aclose()
        return viewers, left_over(services)

    assert run(main()) == ([], [])


@pytest.mark.parametrize("step", STEPS)
def test_leaving_in_the_middle_of_a_move_leaves_nothing(step):
    async def main():
        services, feed = world(), canned_feed()
        async with client(services) as here, client(services) as there:
            stream = await here.start_stream("show", feed)
            view = await there.join_stream("show")
            services["zegocloud"].kill()
            await asyncio.sleep(0.1)

            async def leave():
                await asyncio.sleep(0)
                await asyncio.gather(stream.aclose(), view.aclose())

            await cancelled_after(step, asyncio.sleep(1.0))
            await leave()
            await asyncio.sleep(0.2)
        await feed.aclose()
        return left_over(services)

    assert run(main()) == []


@pytest.mark.parametrize("step", STEPS[:20])
def test_a_cancelled_leave_still_leaves(step):
    async def main():
        services, feed = world(), canned_feed()
        async with client(services) as here, client(services) as there:
            stream = await here.start_stream("show", feed)
            view = await there.join_stream("show")
            await cancelled_after(step, view.aclose())
            await cancelled_after(step, stream.aclose())
            await view.aclose()
            await stream.aclose()
            await asyncio.sleep(0.2)
            left = left_over(services)
        await feed.aclose()
        return left

    assert run(main()) == []
