"""Mixes of stand-ins, a real Janus and a real nginx-rtmp: moved by hand, and broken"""

import asyncio

import pytest

from hitless import Kind, LiveStreamingProvider, Policy, Quality
from hitless.lab import real_janus, real_nginx
from hitless.lab.adapters import provider_of
from hitless.lab.drill import STREAM, Run, carried, where
from hitless.lab.stage import Stage


WHY_NOT = real_janus.why_not() or real_nginx.why_not()

pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))

SMALL = Quality(width=320, height=180, frame_rate=30, bitrate_bps=300_000)
LIMIT_S = 150.0
PATIENCE_S = 30.0
OVERLAP_S = 5.5
"""After this long the leg that was moved away from is closed [s]: only then can all be counted."""


def go(main):
    """Run a test, bounded."""

    async def bounded():
        async with asyncio.timeout(LIMIT_S):
            await main

    asyncio.run(bounded())


async def counted(viewer, from_s, to_s):
    """Return what the viewer saw in a time, by the numbers in the picture and the sound."""
    said = await viewer.ask("measure", "measured", from_s=from_s, to_s=to_s)
    return said["report"]


@pytest.mark.parametrize("is_alone", [False, True], ids=["with-server", "alone"])
def test_a_stream_moves_from_janus_to_a_stand_in_to_rtmp_and_back(tmp_path, is_alone):
    """
    Under one id, and not a picture or a sound is lost on the way or on the way back.
    """
    way = ("agora", "rtmp", "agora", "janus")

    async def main():
        async with Stage(tmp_path, ("janus", "agora", "rtmp"), is_alone=is_alone) as stage:
            run = Run("mix", stage)
            publisher, viewer = await run.on_air(settle_s=2.0)
            assert "janus" == where(publisher) == where(viewer)
            for place, name in enumerate(way, start=1):
                moved_s = run.now
                await stage.list_as(name, priority=-place)
                await run.moved(name, publisher, viewer, limit_s=PATIENCE_S)
                await asyncio.sleep(OVERLAP_S)
                assert [] == run.wrong
                report = await counted(viewer, moved_s - 0.5, run.now)
                lost = {what: n for what, n in report.items() if what.endswith("lost")}
                assert {"frames_lost": 0, "audio_slots_lost": 0} == lost, name
                assert report["frames_shown"] > 100
            for end in (publisher, viewer):
                assert ["janus", *way] == carried(end)
                assert STREAM == end.last("status")["stream"]
            run.expect_nobody_blamed(publisher, viewer)
            assert [] == run.wrong

    go(main())


@pytest.mark.parametrize("fault", ["killed", "hang", "gray-forwarding"])
@pytest.mark.parametrize("names", [("janus", "agora"), ("rtmp", "janus")], ids="-".join)
def test_a_real_server_that_breaks_is_left_and_carries_again_when_it_is_healed(
    tmp_path, names, fault
):
    """
    Publisher and viewer find out, and blame it and nobody else.
    """
    first, second = names

    async def main():
        async with Stage(tmp_path, names) as stage:
            run = Run("mix", stage)
            publisher, viewer = await run.on_air(settle_s=1.0)
            assert first == where(publisher)
            await stage.break_(first, fault)
            await run.moved(second, publisher, viewer, limit_s=PATIENCE_S)
            assert [] == run.wrong
            blamed = {
                n["provider"] for e in (publisher, viewer) for n in e.news("provider.failed")
            }
            assert {first} == blamed
            await stage.heal(first)
            told = f"{first}={stage.found(first, stage.urls)}"
            async with (
                LiveStreamingProvider([provider_of(told, Policy())]) as here,
                LiveStreamingProvider([provider_of(told, Policy())]) as there,
                here.start_stream("again", "test-picture", quality=SMALL),
                there.join_stream("again", wait_s=PATIENCE_S) as view,
            ):
                async for frame in view.frames():
                    if frame.kind is Kind.VIDEO:
                        break
                assert first == view.provider

    go(main())
