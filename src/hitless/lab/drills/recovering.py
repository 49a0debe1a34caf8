"""Drills of coming back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from ..drill import Run, carried, drill, where
from ..process import Process


@drill(
    "all-providers-die",
    "on air, then all die; one comes back after 10 s",
    "off air is announced, the stream returns by itself under the same id",
    gap_s_max=10.0 + 4.0,
)
async def all_providers_die(run: Run) -> None:
    publisher, viewer = await run.on_air(settle_s=17.0)  # the baseline is as long as the window
    event_s = run.now
    for name in run.stage.names:
        await run.stage.break_(name, "killed")
    off_air_s = await run.told(publisher, "stream.off_air")
    run.note(f"off air announced after {off_air_s - event_s:.2f} s")
    await asyncio.sleep(max(0.0, event_s + 10.0 - run.now))
    await run.stage.heal(run.second)
    back_s = run.now
    await run.moved(run.second, publisher, viewer, limit_s=15.0)
    run.detected(event_s, publisher, viewer)
    run.note(f"back {run.now - back_s:.2f} s after {run.second} was")
    await run.measure(viewer, event_s, window_s=run.now - event_s + 0.5)


@drill(
    "recovery",
    "a failed provider heals",
    "circuit opens, trial, closes; stay and return (return_after_s = 3) do what they say",
)
async def recovery(run: Run) -> None:
    quick = {"health_interval_s": 0.5, "ban_s": 3.0}
    publisher, viewer = await run.on_air(policy=quick)
    await _fail_and_heal(run, publisher, viewer)
    await run.told(publisher, "circuit.closed", limit_s=15.0)
    await asyncio.sleep(4.0)
    run.expect(where(publisher) == run.second, "stay: the stream went back")
    for end in (publisher, viewer):
        await end.order("end")
        await end.gone()

    # Long enough on air before it fails: a provider that failed soon must prove itself longer.
    returning = {**quick, "return_policy": "return", "return_after_s": 3.0}
    publisher, viewer = await run.on_air(settle_s=8.0, policy=returning)
    await _fail_and_heal(run, publisher, viewer)
    begun_s = await run.told(publisher, "trial.started", limit_s=20.0)
    await run.moved(run.first, publisher, viewer, limit_s=20.0)
    moved_s = publisher.news("migration.succeeded")[-1]["at_s"] if where(publisher) else run.now
    run.expect(moved_s - begun_s >= 3.0, "return: it went back before return_after_s")
    run.note(f"returned {moved_s - begun_s:.2f} s after its trial began (return_after_s = 3)")
    await run.measure(viewer, moved_s, lossless=True)


async def _fail_and_heal(run: Run, *ends: Process) -> None:
    await run.stage.break_(run.first, "killed")
    await run.stage.health_as(run.first, False)  # a server that probes every 30 s is not as quick
    await run.moved(run.second, *ends)
    await run.told(ends[0], "circuit.opened")
    await run.told(ends[0], "health.failed")
    await run.stage.heal(run.first)
    await run.stage.health_as(run.first, None)
    await run.told(ends[0], "circuit.half_opened", limit_s=15.0)


@drill(
    "flapping",
    "5 s up, 5 s down, under return; and two providers in antiphase",
    "at most two moves, then settled",
)
async def flapping(run: Run) -> None:
    policy = {"return_policy": "return", "return_after_s": 3.0}
    ends = await run.on_air(policy=policy)
    event_s = run.now
    await _flap(run, [run.first], periods=3)
    _expect_settled(run, ends, "one flaps", most=2)
    await run.measure(ends[1], event_s, window_s=4.0)
    for end in ends:
        await end.order("end")
        await end.gone()

    ends = await run.on_air(settle_s=1.0, policy=policy)
    await _flap(run, [run.first, run.second], periods=3)
    _expect_settled(run, ends, "two flap in antiphase", most=2)
    run.expect(where(ends[0]) == run.third, f"it is on {where(ends[0])}, not on the steady one")


async def _flap(run: Run, names: Sequence[str], *, periods: int) -> None:
    """Stop and continue them 5 s each, the second while the first runs."""
    try:
        for _ in range(periods):
            for phase in range(2):
                for place, name in enumerate(names):
                    down = (phase + place) % 2 == 0
                    run.stage.signal(name, "SIGSTOP" if down else "SIGCONT")
                await asyncio.sleep(5.0)
    finally:
        for name in names:
            run.stage.signal(name, "SIGCONT")
    await asyncio.sleep(2.0)


def _expect_settled(run: Run, ends: Sequence[Process], when: str, *, most: int) -> None:
    for end in ends:
        moves = len(carried(end)) - 1
        run.expect(moves <= most, f"{when}: {end.name} moved {moves} times: {carried(end)}")
        run.note(f"{when}: {end.name} was on {' -> '.join(carried(end))}")


@drill(
    "own-network-down",
    "everything is unreachable from the publisher for 8 s",
    "no provider is blamed, no attempts burnt, on air again by itself",
    gap_s_max=8.0 + 3.0,
)
async def own_network_down(run: Run) -> None:
    urls = await run.stage.start_relay()
    publisher, viewer = await run.on_air(urls=urls, settle_s=15.0)
    event_s = run.now
    await run.stage.break_("*", "cut-off")
    await asyncio.sleep(8.0)
    await run.stage.heal("*")
    await publisher.until(lambda: where(publisher), what="return", limit_s=15.0)
    await viewer.until(lambda: where(viewer), what="return", limit_s=15.0)
    run.detected(event_s, publisher)
    run.expect_nobody_blamed(publisher)
    run.expect(not publisher.news("circuit.opened"), "a provider was banned")
    await run.expect_attempts(publisher, run.first)
    await run.measure(viewer, event_s, window_s=run.now - event_s + 0.5)
