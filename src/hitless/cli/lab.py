"""`hitless lab`: see a stream survive its provider, on this machine."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

import click

from ..errors import ConfigError
from ..lab import control
from ..lab.faults import CATALOGUE, find, numbers
from ..lab.stage import PROVIDERS, SERVER
from .output import Invocation, emit_json, emit_table, json_option, pass_invocation
from .running import check_source, run_until_interrupted


@click.group(invoke_without_command=True)
@click.option("--once", is_flag=True, help="Tell the story and exit.")
@click.option(
    "--source",
    default="test-picture",
    show_default=True,
    help="What is sent: test-picture, a file, or a camera such as /dev/video0.",
)
@pass_invocation
@click.pass_context
def lab(ctx: click.Context, invocation: Invocation, once: bool, source: str) -> None:
    """
    Run providers, a publisher and a viewer here, and break them.

    Three stand-in providers, the server, a publisher and a viewer are started, each a process of
    its own. The stream goes on air, the provider that carries it is killed, the stream goes on
    with the next; then it is moved on purpose, without a lost frame. The lab stays up until
    Ctrl-C, to be broken by hand from another terminal.

    \b
    Examples:
      hitless lab                          the story, and then it is yours
      hitless lab --once                   the story, and exit
      hitless lab --source film.mp4        with a film of yours
      hitless lab break webrtc hang        from another terminal
      hitless lab heal webrtc
      hitless lab status
    """
    if ctx.invoked_subcommand is None:
        check_source(source)
        try:
            run_until_interrupted(_run(source, once=once, color=invocation.is_colored()))
        except KeyboardInterrupt:
            click.echo("the lab has ended, and everything it started", err=True)
            raise


@lab.command("break", short_help="Break something in the running lab.")
@click.argument("name")
@click.argument("fault", required=False)
@click.argument("number", nargs=-1, type=float)
def break_(name: str, fault: str | None, number: tuple[float, ...]) -> None:
    """
    Break something in the running lab.

    NAME is a stand-in: agora, zegocloud or webrtc. Without a FAULT all faults are listed. NUMBER
    are the fault's own numbers, in the order shown there.

    \b
    Examples:
      hitless lab break agora              list the faults
      hitless lab break agora killed
      hitless lab break agora loss 0.05 0.1
    """
    _check_name(name)
    if fault is None:
        emit_table(("fault", "numbers", "what it does"), [_described(one) for one in CATALOGUE])
        return
    found = find(fault)
    if len(number) > len(found.parameters):
        raise ConfigError(f"{fault} takes {len(found.parameters)} numbers, not {len(number)}")
    given = dict(zip((one.name for one in found.parameters), number, strict=False))
    numbers(found, given)
    body = {"name": name, "fault": fault, "numbers": given}
    asyncio.run(control.call("POST", "/break", body))
    click.echo(f"{name}: {found.says}. Heal it with: hitless lab heal {name}")


@lab.command(short_help="End every fault of a stand-in.")
@click.argument("name")
def heal(name: str) -> None:
    """
    End every fault of a stand-in, and start it again if it was killed.

    \b
    Examples:
      hitless lab heal agora
    """
    _check_name(name)
    asyncio.run(control.call("POST", "/heal", {"name": name}))
    click.echo(f"{name} is well again")


@lab.command(short_help="Show where everything stands in the running lab.")
@json_option
def status(as_json: bool) -> None:
    """
    Show where everything stands in the running lab.

    \b
    Examples:
      hitless lab status
      hitless lab status --json
    """
    told = asyncio.run(control.call("GET", "/status"))
    if as_json:
        emit_json(told)
        return
    rows = []
    for stand in told["stand_ins"]:
        ends = [
            "on air" if end.get("provider") == stand["name"] else ""
            for end in (told["ends"].get(role, {}) for role in ("publisher", "viewer"))
        ]
        process = str(stand["pid"]) if stand["is_running"] else "dead"
        rows.append((stand["name"], process, ", ".join(stand["broken_by"]) or "-", *ends))
    emit_table(("stand-in", "process", "broken by", "publisher", "viewer"), rows)
    for measured in told["measured"]:
        click.echo(f"gap {measured['what']}: {measured['gap_s']:.3f} s")


def _check_name(name: str) -> None:
    # As the running lab would say it; without a fault none is asked.
    if name not in (*PROVIDERS, SERVER, "*"):
        known = ", ".join((*PROVIDERS, SERVER))
        raise ConfigError(f"nothing called {name[:80]!r} can be broken: give one of {known}")


def _described(fault: Any) -> tuple[str, str, str]:
    shown = ", ".join(
        f"{p.name} ({p.default:g} {p.unit})".replace(" )", ")") for p in fault.parameters
    )
    return fault.name, shown or "-", fault.says


async def _run(source: str, *, once: bool, color: bool) -> None:
    from ..lab.show import Show  # here: `hitless lab status` needs none of it
    from ..lab.stage import Stage
    from ..lab.story import Story

    control.refuse_second()
    folder = Path(tempfile.mkdtemp(prefix="hitless-lab-"))
    click.echo(f"starting the lab; its logs and records are in {folder}", err=True)
    async with Stage(folder) as stage:
        with Show(color=color) as show:
            story = Story(stage, show, source)
            door = control.Control(stage, story.status)
            tasks = [asyncio.create_task(story.refresh()), asyncio.create_task(stage.guard_lost())]
            try:
                await door.start()
                await story.begin()
                await story.tell()
                if not once:
                    name = stage.names[0]
                    show.say(
                        "lab",
                        f"now it is yours: in another terminal, hitless lab break {name} hang "
                        "(Ctrl-C ends it)",
                        asyncio.get_running_loop().time(),
                    )
                    await asyncio.wait([tasks[1]])
                    tasks[1].result()
            finally:
                await door.aclose()
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
