"""`hitless watch`: watch a stream, wherever it moves."""

from __future__ import annotations

from pathlib import Path

import click

from ..client.live import LiveStreamingProvider
from ..client.session import LiveSession
from ..client.stream_id import check_stream_id
from .output import Invocation, json_option, pass_invocation
from .streams import in_a_folder, make_client, record_option, run_session


@click.command()
@click.argument("stream")
@click.option(
    "--wait-s", default=10.0, show_default=True, help="How long to wait for a publisher [s]."
)
@click.option(
    "--to",
    "to_file",
    type=click.Path(path_type=Path, dir_okay=False, writable=True),
    callback=in_a_folder,
    metavar="FILE",
    help="Write it to FILE (.webm, .mkv or .mp4) without re-encoding.",
)
@record_option
@json_option
@pass_invocation
def watch(
    invocation: Invocation,
    stream: str,
    wait_s: float,
    to_file: Path | None,
    record: Path | None,
    as_json: bool,
) -> None:
    """
    Watch a stream, wherever it moves.

    It comes over the configured providers, until it ends or Ctrl-C. STREAM is its id.

    \b
    Examples:
      hitless watch morning-show --to show.webm
      hitless watch morning-show --wait-s 600 --json
    """
    check_stream_id(stream)
    invocation.start_logging()

    async def open(live: LiveStreamingProvider) -> LiveSession:
        sinks = [to_file] if to_file else []
        return await live.join_stream(stream, wait_s=wait_s, sinks=sinks)

    run_session(lambda: make_client(invocation, record), open, as_json=as_json)
