"""Drills of what moves a stream, and what must not."""

from __future__ import annotations

import asyncio

from ..drill import Run, drill, where


@drill(
    "errors-recorded",
    "three record_streaming_error calls in a row; then two, a success, two",
    "moves after the third; does not move",
)
async def errors_recorded(run: Run) -> None:
    # A healthy check between two errors would reset the count, as any success does.
    publisher, viewer = await run.on_air(policy={"health_interval_s": 60.0})
    for _ in range(2):
        await publisher.order("error")
    await asyncio.sleep(0.5)
    run.expect(where(publisher) == run.first, "it moved after the second error")
    event_s = run.now
    await publisher.order("error")
    await run.moved(run.second, publisher, viewer)
    await run.measure(viewer, event_s)
    for do in ("error", "error", "success", "error", "error"):
        await publisher.order(do)
    await asyncio.sleep(1.0)
    run.expect(where(publisher) == run.second, "it moved though a success lay between")


@drill(
    "health-failures",
    "the backend says unhealthy three times in a row (interval shortened)",
    "moves after the third, not before; one success in between resets the count",
)
async def health_failures(run: Run) -> None:
    publisher, viewer = await run.on_air(policy={"health_interval_s": 0.5})
    await run.stage.health_as(run.first, healthy=False)
    await run.told(publisher, "health.failed", count=2)
    await run.stage.health_as(run.first, healthy=True)
    await run.told(publisher, "health.recovered")
    run.expect_no_move(publisher)
    event_s = run.now
    before = len(publisher.news("health.failed"))
    await run.stage.health_as(run.first, healthy=False)
    await run.told(publisher, "failover.started")
    failed = len(publisher.news("health.failed")) - before
    run.expect(failed == 3, f"it moved after {failed} failed checks, not 3")
    await run.moved(run.second, publisher, viewer)
    await run.measure(viewer, event_s)


@drill(
    "provider-disabled",
    "the backend disables the provider on air",
    "planned move at the next tick",
)
async def provider_disabled(run: Run) -> None:
    publisher, viewer = await run.on_air()
    event_s = run.now
    await run.stage.list_as(run.first, is_active=False)
    moved_s = await run.told(publisher, "migration.started", limit_s=3.0)
    run.expect(moved_s - event_s < 1.6, f"it began only after {moved_s - event_s:.1f} s")
    await run.moved(run.second, publisher, viewer)
    await run.measure(viewer, event_s, lossless=True)
    run.expect_nobody_blamed(publisher, viewer)


@drill(
    "health-check-lies",
    "the health endpoint times out or answers 5xx while frames flow",
    "stays, and says why; with media_beats_health = false the third failure moves it",
)
async def health_check_lies(run: Run) -> None:
    fast = {"health_interval_s": 0.5, "health_timeout_s": 0.4}
    publisher, viewer = await run.on_air(policy=fast)
    for fault in ("backend-500", "backend-hangs"):
        await run.stage.break_(run.first, fault)
        seen = len(publisher.news("health.ignored"))
        await run.told(publisher, "health.ignored", count=seen + 5)
        await run.stage.heal(run.first)
        run.expect_no_move(publisher, viewer)
    run.expect_nobody_blamed(publisher, viewer)
    run.note(publisher.news("health.ignored")[-1]["sentence"])
    event_s = run.now
    await run.measure(viewer, event_s, window_s=1.0)
    for end in (publisher, viewer):
        await end.order("end")
        await end.gone()
    believing = await run.publisher(
        label="believing", policy={**fast, "media_beats_health": False}
    )
    await run.started(believing)
    await run.stage.break_(run.first, "backend-500")
    await run.told(believing, "failover.started")
    failed = len(believing.news("health.failed"))
    run.expect(failed == 3, f"it moved after {failed} failed checks, not 3")
    await run.moved(run.second, believing)


@drill(
    "backend-switch",
    "priorities change in the backend",
    "planned migration of publisher and viewers, nothing lost; the unchanged list does not move "
    "anything back after a failover",
)
async def backend_switch(run: Run) -> None:
    publisher, viewer = await run.on_air(settle_s=8.0)  # the baseline is as long as the window
    event_s = run.now
    await run.stage.list_as(run.third, priority=-1)
    await run.moved(run.third, publisher, viewer)
    # Until the old leg is closed too, which is where frames would be lost.
    await run.measure(viewer, event_s, window_s=5.5, lossless=True)
    run.expect_nobody_blamed(publisher, viewer)
    await run.stage.break_(run.third, "killed")
    await run.moved(run.first, publisher, viewer)
    await run.stage.heal(run.third)
    await asyncio.sleep(4.0)
    run.expect(where(publisher) == run.first, "an unchanged list pulled the stream back")


@drill(
    "next-stream-after-switch",
    "the same while idle",
    "the next stream starts on the new provider",
)
async def next_stream_after_switch(run: Run) -> None:
    publisher = await run.publisher("--hold")
    before = await publisher.ask("refresh", "refreshed")
    run.expect(before.get("provider") == run.first, f"before: {before}")
    await run.stage.list_as(run.third, priority=-1)
    await publisher.order("begin")
    await run.started(publisher)
    await run.expect_attempts(publisher, run.third)
    viewer = await run.viewer()
    await run.moved(run.third, viewer)
