"""What `hitless publish` and `hitless watch` share: a client from the configuration."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import click

from ..client.assembly import make_backend, make_providers
from ..client.live import LiveStreamingProvider
from ..client.session import LiveSession
from ..errors import ConfigError
from .output import Invocation, emit_json
from .running import run_until_interrupted


def in_a_folder(_: click.Context, __: click.Parameter, value: Path | None) -> Path | None:
    """
    Refuse a file that could not be made, before anything is started; a callback of options.

    Raises:
        BadParameter: Its folder is not there, or may not be written.
    """
    if value is not None and not value.parent.is_dir():
        raise click.BadParameter(f"there is no folder {value.parent}")
    if value is not None and not os.access(value.parent, os.W_OK):
        raise click.BadParameter(f"we may not write in {value.parent}")
    return value


record_option = click.option(
    "--record",
    type=click.Path(path_type=Path, dir_okay=False, writable=True),
    callback=in_a_folder,
    metavar="FILE",
    help="Record every event to FILE, for `hitless replay` and `hitless why`.",
)


def make_client(invocation: Invocation, record: Path | None) -> LiveStreamingProvider:
    """
    Return a client of what is configured.

    Raises:
        ConfigError: Neither a provider nor a backend is configured, or one cannot work.
    """
    loaded = invocation.config()
    if not loaded.providers and loaded.backend is None:
        raise ConfigError(
            "nothing to stream over: add a [[provider]] table or a [backend] to hitless.toml, or "
            "try `hitless lab`, which needs neither"
        )
    providers = make_providers(loaded, os.environ) if loaded.providers else []
    backend = make_backend(loaded.backend, loaded, os.environ) if loaded.backend else None
    return LiveStreamingProvider(providers, backend=backend, policy=loaded.policy, record=record)


def run_session(
    make: Callable[[], LiveStreamingProvider],
    open: Callable[[LiveStreamingProvider], Awaitable[LiveSession]],
    *,
    as_json: bool,
) -> None:
    """Open a session and follow it to its end; Ctrl-C leaves it in order."""

    async def follow() -> None:
        async with make() as live:
            session = await open(live)
            async for news in session:
                if as_json:
                    emit_json(news)

    run_until_interrupted(follow())
