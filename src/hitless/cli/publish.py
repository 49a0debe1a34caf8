"""`hitless publish`: send a stream, and keep it on air."""

from __future__ import annotations

from pathlib import Path

import click

from ..client.live import LiveStreamingProvider
from ..client.session import LiveSession
from ..client.stream_id import check_stream_id
from ..media.frame import Codec
from ..media.source import Quality
from .output import Invocation, json_option, pass_invocation
from .running import check_source
from .streams import make_client, record_option, run_session


@click.command()
@click.argument("stream")
@click.option(
    "--source",
    default="test-picture",
    show_default=True,
    help="test-picture, a file, or a camera such as /dev/video0.",
)
@click.option("--repeat", is_flag=True, help="Play a file again and again.")
@click.option("--width", default=640, show_default=True, help="Width [pixel].")
@click.option("--height", default=360, show_default=True, help="Height [pixel].")
@click.option("--frame-rate", default=30.0, show_default=True, help="Pictures per second.")
@click.option("--bitrate-bps", default=1_000_000, show_default=True, help="Bit rate [bit/s].")
@click.option(
    "--codec", default="VP8", show_default=True, type=click.Choice(["VP8", "H264"]), help="Video."
)
@record_option
@json_option
@pass_invocation
def publish(
    invocation: Invocation,
    stream: str,
    source: str,
    repeat: bool,
    width: int,
    height: int,
    frame_rate: float,
    bitrate_bps: int,
    codec: str,
    record: Path | None,
    as_json: bool,
) -> None:
    """
    Send a stream, and keep it on air.

    It goes over the configured providers, until Ctrl-C. STREAM is its id, under which viewers
    find it whoever carries it.

    \b
    Examples:
      hitless publish morning-show
      hitless publish morning-show --source film.mp4 --repeat
      hitless publish morning-show --source /dev/video0 --width 1280 --height 720
    """
    check_stream_id(stream)
    check_source(source)
    quality = Quality(width=width, height=height, frame_rate=frame_rate, bitrate_bps=bitrate_bps)
    invocation.start_logging()

    async def open(live: LiveStreamingProvider) -> LiveSession:
        return await live.start_stream(
            stream, source, quality=quality, video_codec=Codec(codec), repeat=repeat
        )

    run_session(lambda: make_client(invocation, record), open, as_json=as_json)
