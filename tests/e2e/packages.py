"""What is shipped beside the package, and how commands of a fresh installation are run."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import click

from hitless.cli import cli


ROOT = Path(__file__).parents[2]
PACKAGING = ROOT / "packaging"
UNIT = PACKAGING / "hitless.service"

LIMIT_S = 60.0


def run(*words, cwd=None, limit_s=LIMIT_S, **env):
    """Run a command to its end, in an environment that names nothing of Hitless."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HITLESS_", "PYTHON"))}
    return subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env={**kept, **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=limit_s,
        check=False,
    )


def options_of(*path):
    """Return the options that a command of ours has."""
    command = cli
    for name in path:
        command = command.get_command(click.Context(command), name)
    return {opt for param in command.params for opt in (*param.opts, *param.secondary_opts)}
