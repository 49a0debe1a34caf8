"""Drills of providers that break while they carry the stream."""

from __future__ import annotations

from ..drill import Run, drill


@drill(
    "provider-killed",
    "SIGKILL of the provider on air",
    "same stream id, next provider by priority; gap measured at the viewer",
)
async def provider_killed(run: Run) -> None:
    await _broken_on_air(run, "killed")


@drill(
    "provider-hangs",
    "SIGSTOP of the provider on air",
    "found from media silence, not from TCP",
)
async def provider_hangs(run: Run) -> None:
    await _broken_on_air(run, "hang")


@drill(
    "gray-ingest",
    "accepts, answers 201, health 200, then no packet and no report",
    "left within the first-media deadline",
)
async def gray_ingest(run: Run) -> None:
    await run.stage.break_(run.first, "gray-ingest")
    publisher, _viewer = await run.on_air(settle_s=1.0)
    on_air = publisher.last("started")
    assert on_air is not None
    took_s = on_air["at_s"] - on_air["began_s"]
    await run.expect_attempts(publisher, run.first, run.second)
    run.expect(took_s < 3.0 + 0.7, f"left after {took_s:.1f} s (first_media_s = 3)")
    run.note(f"on air with {run.second} {took_s:.2f} s after start_stream")


@drill(
    "gray-forwarding",
    "acknowledges all it receives, sends receiver reports, forwards nothing",
    "the publisher finds out (self-view) and leaves; viewers follow",
)
async def gray_forwarding(run: Run) -> None:
    await _broken_on_air(run, "gray-forwarding")


async def _broken_on_air(run: Run, fault: str) -> None:
    publisher, viewer = await run.on_air()
    event_s = run.now
    await run.stage.break_(run.first, fault)
    await run.moved(run.second, publisher, viewer)
    run.detected(event_s, publisher, viewer)
    await run.expect_attempts(publisher, run.first, run.second)
    await run.measure(viewer, event_s)
