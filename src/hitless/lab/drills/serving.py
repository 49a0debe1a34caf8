"""Drills about the server: what it moves, what it must not, and what goes on without it."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from ..drill import POLICY, STREAM, Run, drill, where
from ..process import Process
from ..stage import OTHER_SERVER, SERVER


_CROWD: Final = ("crowd-1", "crowd-2", "crowd-3")
"""Streams whose publishers lose a provider that is fine for the stream that is watched."""

_QUICK: Final = {
    "HITLESS_JUDGING__CONTROL_INTERVAL_S": "2",
    "HITLESS_JUDGING__SUSPECT_INTERVAL_S": "1",
    "HITLESS_JUDGING__FAIL_RATE": "0.3",
    "HITLESS_SERVER__MOVE_SHARE_PER_MINUTE": "1",
}
"""Drills do not wait for a minute's cap, and have few clients; the rest has its default."""


@drill(
    "drain",
    "an operator drains the provider on air, and lets it have streams again later",
    "planned move of publisher and viewers, nothing lost; new streams go elsewhere; what is on "
    "air is not pulled back",
    needs_server=True,
)
async def drain(run: Run) -> None:
    publisher, viewer = await run.on_air(settle_s=8.0)
    event_s = run.now
    await run.stage.list_as(run.first, is_drained=True)
    await run.moved(run.second, publisher, viewer)
    await run.measure(viewer, event_s, window_s=5.5, lossless=True)
    run.expect_nobody_blamed(publisher, viewer)
    other = await run.stage.start_end("publisher", "another", label="another", policy=POLICY)
    there = (await run.started(other))["provider"]
    run.expect(there == run.second, f"a new stream went to {there}")
    await run.stage.list_as(run.first, is_drained=False)
    await asyncio.sleep(3.0)
    run.expect(where(publisher) == run.second, "it was pulled back")


@drill(
    "viewer-rescue",
    "one viewer is cut off from a provider that is fine for everybody else",
    "that viewer is served over another provider, the publisher stays where it is",
    gap_s_max=3.0,
    needs_server=True,
)
async def viewer_rescue(run: Run) -> None:
    urls = await run.stage.start_relay()
    publisher = await run.publisher()
    viewer = await run.viewer(urls={**urls, "backend": run.stage.urls["backend"]})
    fine = await run.stage.start_end("viewer", STREAM, label="fine", policy=POLICY)
    for end in (publisher, viewer, fine):
        await run.started(end)
    await asyncio.sleep(5.5)
    event_s = run.now
    await run.stage.break_(run.first, "cut-off")
    await viewer.until(lambda: where(viewer) not in ("", run.first), what="rescue", limit_s=10.0)
    run.detected(event_s, viewer)
    await run.measure(viewer, event_s)
    for end in (publisher, fine):
        run.expect(where(end) == run.first, f"{end.name} is on {where(end)}, not on {run.first}")
    row = await _row(run)
    run.expect(row["rescue"] == where(viewer), f"the server knows of {row['rescue'] or 'none'}")


@drill(
    "server-killed-during-move",
    "SIGKILL of the server when a planned move has begun; it starts again 3 s later",
    "publisher and viewer end up on the same provider, whoever was told before the kill; nothing "
    "lost, and the server agrees",
    needs_server=True,
)
async def server_killed_during_move(run: Run) -> None:
    window_s = 10.0
    patient = {"overlap_s": 20.0}  # longer than the server is away, as the default is
    publisher, viewer = await run.on_air(settle_s=window_s + 4.0, policy=patient)
    event_s = run.now
    await _move(run, run.third)
    await run.told(publisher, "migration.started")
    await run.stage.break_(SERVER, "killed")
    await asyncio.sleep(3.0)
    told = [end.name for end in (publisher, viewer) if where(end) == run.third]
    run.note(f"moved before the server was back: {', '.join(told) or 'none'}")
    await run.stage.heal(SERVER)
    await run.moved(run.third, publisher, viewer, limit_s=20.0)
    await run.measure(viewer, event_s, window_s=window_s, lossless=True)
    await _expect_agreed(run, publisher, viewer)
    run.expect_nobody_blamed(publisher, viewer)


@drill(
    "server-away",
    "the server is away, and then the provider on air dies",
    "the stream moves by its plan; when the server is back it is told, and moves it again",
    needs_server=True,
)
async def server_away(run: Run) -> None:
    publisher, viewer = await run.on_air()
    await run.stage.break_(SERVER, "backend-away")
    await run.told(publisher, "control.lost")
    event_s = run.now
    await run.stage.break_(run.first, "killed")
    await run.moved(run.second, publisher, viewer)
    run.detected(event_s, publisher, viewer)
    await run.measure(viewer, event_s)
    await run.stage.heal(SERVER)
    await _expect_agreed(run, publisher, viewer)
    await _move(run, run.third)
    await run.moved(run.third, publisher, viewer)


@drill(
    "two-nodes",
    "publisher and viewer are at two nodes of the server; the provider dies, then a node",
    "the viewer follows across nodes; clients of the dead node go on at the other one",
    needs_server=True,
)
async def two_nodes(run: Run) -> None:
    await run.stage.start_other_server()
    publisher = await run.publisher()
    there = {**run.stage.urls, "backend": run.stage.urls[OTHER_SERVER]}
    viewer = await run.viewer(urls=there)
    for end in (publisher, viewer):
        await run.started(end)
    await asyncio.sleep(5.5)
    event_s = run.now
    await run.stage.break_(run.first, "killed")
    await run.moved(run.second, publisher, viewer)
    run.detected(event_s, publisher, viewer)
    await run.measure(viewer, event_s)
    run.stage.signal(SERVER, "SIGKILL")
    await run.stage.front_to(OTHER_SERVER)
    await asyncio.sleep(5.0)
    await _move(run, run.third, server=OTHER_SERVER)
    await run.moved(run.third, publisher, viewer)


@drill(
    "freeze",
    "automatic moves are frozen, a provider is found down for many, and then thawed",
    "a stream that has media there stays for as long as the freeze, and is moved after it",
    needs_server=True,
    env=_QUICK,
)
async def freeze(run: Run) -> None:
    await run.stage.admin("/v1/admin/settings", {"is_frozen": True, "because": "a drill"})
    publisher, viewer = await _fine_among_many(run)
    await _cut_off_the_crowd(run)
    await asyncio.sleep(5.0)
    run.expect(where(publisher) == run.first, "it moved although moves are frozen")
    event_s = run.now
    await run.stage.admin("/v1/admin/settings", {"is_frozen": False, "because": "a drill"})
    await run.moved(run.second, publisher, viewer, limit_s=70.0)
    run.note(f"moved {run.now - event_s:.1f} s after the thaw")
    moves = publisher.news("migration.succeeded")
    moved_s = moves[-1]["at_s"] if moves else run.now
    await run.measure(viewer, moved_s, lossless=True)


@drill(
    "observe",
    "the server only observes, and a provider is found down for many",
    "it says what it would do, and moves nothing; publishers still move by their own evidence",
    needs_server=True,
    env=_QUICK,
)
async def observe(run: Run) -> None:
    await run.stage.admin("/v1/admin/settings", {"mode": "observe", "because": "a drill"})
    publisher, viewer = await _fine_among_many(run)
    await _cut_off_the_crowd(run)
    await asyncio.sleep(5.0)
    run.expect_no_move(publisher, viewer)
    said = await _audit(run, "streams.observed")
    run.expect(said, "it did not say what it would do")
    for row in said[:1]:
        run.note(row["because"])


async def _fine_among_many(run: Run) -> tuple[Process, Process]:
    """Bring a stream on air whose publisher is fine, and some that will be cut off."""
    urls = await run.stage.start_relay()
    small = ("--width=160", "--height=120", "--frame-rate=10")
    for place, name in enumerate(_CROWD):
        backend = await run.stage.start_network(f"network-{place}", f"198.51.100.{place}")
        end = await run.stage.start_end(
            "publisher",
            name,
            *small,
            label=name,
            urls={**urls, "backend": backend},
            policy=POLICY,
        )
        await run.started(end)
    return await run.on_air()


async def _cut_off_the_crowd(run: Run) -> None:
    """Cut the crowd off from the first provider, and wait until the server finds it down."""
    await run.stage.break_(run.first, "cut-off")
    for _ in range(100):
        rows = await run.stage.admin("/v1/admin/providers", method="GET")
        first = next(row for row in rows if row["name"] == run.first)
        if first["health"]["grade"] == "critical":
            run.note(f"the server: {first['health']['because']}")
            return
        await asyncio.sleep(0.1)
    run.expect(False, f"the server calls {run.first} {first['health']['grade']}: "
                      f"{first['health']['because']}")  # fmt: skip


async def _move(run: Run, provider: str, *, server: str = SERVER) -> None:
    body = {"stream": STREAM, "provider": provider, "because": "a drill"}
    await run.stage.admin("/v1/admin/move", body, method="POST", server=server)


async def _row(run: Run) -> dict[str, Any]:
    """Return what the server says of the stream."""
    found: dict[str, Any] = await run.stage.admin(f"/v1/stream?stream={STREAM}", method="GET")
    return found


async def _audit(run: Run, what: str) -> list[dict[str, Any]]:
    rows = await run.stage.admin("/v1/admin/audit", method="GET")
    return [row for row in rows if row["what"] == what]


async def _expect_agreed(run: Run, *ends: Process) -> None:
    """The server and all ends say the same; a moment is allowed for it."""
    for _ in range(150):
        row = await _row(run)
        if {row["provider"], *map(where, ends)} == {row["provider"]} and row["is_carried"]:
            return
        await asyncio.sleep(0.1)
    places = ", ".join(f"{end.name}: {where(end)}" for end in ends)
    run.expect(False, f"the server: {row['provider']} by epoch {row['epoch']}; {places}")
