"""Drills of faults that are ours."""

from __future__ import annotations

import asyncio

from ..drill import Run, drill
from ..ends import FAILING_CAMERA
from ..process import Process


MUTE_S = 60.0


@drill(
    "local-fault",
    "source file missing, camera gone, encoder dead, mute for a minute",
    "clear error or nothing at all; no retry, no provider blamed",
)
async def local_fault(run: Run) -> None:
    missing = await run.publisher("--source=/nowhere/film.mp4", label="missing file")
    await _faults(run, missing)
    camera = await run.publisher(f"--source={FAILING_CAMERA}", label="camera")
    await run.started(camera)
    await _faults(run, camera)
    dead = await run.publisher(label="dead encoder")
    await run.started(dead)
    await dead.order("break-encoder")
    await _faults(run, dead)

    publisher, viewer = await run.on_air()
    event_s = run.now
    for kind in ("audio", "video"):
        await publisher.order("mute", kind=kind, on=True)
    await asyncio.sleep(MUTE_S)
    for kind in ("audio", "video"):
        await publisher.order("mute", kind=kind, on=False)
    await asyncio.sleep(2.0)
    run.expect_nobody_blamed(publisher, viewer)
    run.expect_no_move(publisher, viewer)
    silences = viewer.news("leg.silent")
    run.expect(not silences, f"a mute was taken for silence {len(silences)} times")
    run.note(f"muted for {MUTE_S:g} s from {event_s:.0f}: nothing moved")


async def _faults(run: Run, end: Process) -> None:
    over = await run.over(end)
    run.expect(over["error"] == "LocalFault", f"{end.name}: {over['error']}")
    run.expect_nobody_blamed(end)
    run.expect_no_move(end)
    run.expect(not over["left"], f"{end.name}: still running: {over['left']}")
    run.note(f"{end.name}: {over['message']}")
    await end.order("end")
    await end.gone()
