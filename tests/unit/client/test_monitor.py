"""hitless.client.monitor"""

import asyncio
import contextlib
from types import SimpleNamespace

from virtual_time import run

from hitless.client.monitor import watch
from hitless.core.events import LegDoubted, LegHeard, LegSilent, OpenLeg
from hitless.media.liveness import PATH, Liveness


ORDER = OpenLeg(session="s", leg=1, provider="agora", because="a test")


async def told(script, *, is_fed=lambda now: True):
    """What is reported while `script` feeds a leg's signs of life, with times."""
    loop, liveness, events = asyncio.get_running_loop(), Liveness(), []

    def report(event):
        events.append((round(loop.time(), 2), event))

    watching = asyncio.create_task(
        watch(ORDER, SimpleNamespace(liveness=liveness), report, is_fed)
    )
    await script(liveness)
    watching.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watching
    return events


async def media(liveness, seconds, sign="video"):
    loop = asyncio.get_running_loop()
    for _ in range(round(seconds / 0.03)):
        liveness.heard(sign, loop.time())
        await asyncio.sleep(0.03)


def test_silence_is_told_once_its_limit_has_passed_and_again_every_second():
    async def script(liveness):
        await media(liveness, 0.9)
        await asyncio.sleep(2.5)

    (doubt_s, doubt), *events = run(told(script))

    assert isinstance(doubt, LegDoubted)
    assert all(isinstance(event, LegSilent) for _, event in events)
    first_s, first = events[0]
    assert 0.1 <= doubt_s - first.since_s <= 0.13
    assert first_s - first.since_s <= 0.26
    assert len(events) == 3
    assert "no media" in first.because


def test_a_leg_that_is_heard_again_is_told_once():
    async def script(liveness):
        await media(liveness, 0.9)
        await asyncio.sleep(0.5)
        await media(liveness, 0.9)

    kinds = [type(event) for _, event in run(told(script))]

    assert kinds == [LegDoubted, LegSilent, LegHeard]


def test_a_doubt_that_is_dispelled_is_told_so():
    """
    A burst of jitter: no silence.
    """

    async def script(liveness):
        await media(liveness, 0.9)
        await asyncio.sleep(0.13)
        await media(liveness, 0.9)

    kinds = [type(event) for _, event in run(told(script))]

    assert kinds == [LegDoubted, LegHeard]


def test_media_that_flows_is_never_silence():
    async def script(liveness):
        await media(liveness, 30.0)

    assert run(told(script)) == []


def test_a_leg_is_not_silent_for_want_of_media_that_we_do_not_send():
    async def script(liveness):
        await media(liveness, 0.9)
        await asyncio.sleep(2.0)

    assert run(told(script, is_fed=lambda now: False)) == []


def test_a_dead_path_is_silence_even_while_our_source_is_dead():
    async def script(liveness):
        await media(liveness, 0.9, sign=PATH)
        await asyncio.sleep(0.5)

    events = run(told(script, is_fed=lambda now: False))

    assert "STUN" in events[0][1].because
