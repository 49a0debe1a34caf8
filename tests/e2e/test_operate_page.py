"""The commands of the page for operators, as it says them, against a real server."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest
from e2e.commands import HITLESS
from e2e.desk import LIMIT_S
from e2e.serving import Served


pytestmark = pytest.mark.realtime

DOCS = Path(__file__).parents[2] / "docs"


def test_the_commands_of_the_page_work_in_their_order(tmp_path):
    """
    As a new operator would: a first start without keys, then line by line.
    """
    text = (DOCS / "operate-a-server.md").read_text(encoding="utf-8")
    lines = re.findall(r"^\$ (.*)$", text, re.MULTILINE)
    assert "hitless serve" == lines.pop(0)
    lines = [re.sub(r"https://\w+\.example\.com", "http://127.0.0.1:1", line) for line in lines]
    env = {k: v for k, v in os.environ.items() if not k.startswith("HITLESS_")}
    env |= {"PATH": f"{Path(HITLESS).parent}:{env['PATH']}", "ZEGO_TOKEN": secrets.token_hex(16)}

    with first_start(tmp_path, env) as node:
        lines.insert(0, f"export HITLESS_SERVER={node.url}")
        begun = next(n for n, line in enumerate(lines) if "hitless streams --provider" in line)
        line_by_line(lines[:begun], tmp_path, env)
        assert asyncio.run(node.start("morning-show")).data["provider"] == "agora"
        line_by_line([*lines[:2], *lines[begun:]], tmp_path, env)
    assert "morning-show" in (tmp_path / "incident.json").read_text()
    assert len(lines) > 20


@contextmanager
def first_start(folder, env):
    """Start a server that makes its own keys."""
    with (folder / "serve.log").open("ab") as log:
        process = subprocess.Popen(
            [HITLESS, "serve", "--listen", "127.0.0.1:0", "--ready-json"],
            env=env,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
        )
    node = None
    try:
        keys: dict[str, str] = {}
        node = Served(process, folder / "serve.log", keys)
        keys |= dict(
            line.split("=", 1) for line in (folder / "hitless-keys.env").read_text().splitlines()
        )
        yield node
    finally:
        process.terminate()
        try:
            process.wait(LIMIT_S)
        finally:
            process.kill()
            process.wait(LIMIT_S)
            process.stdout.close()


def line_by_line(lines, folder, env):
    """Run lines in one shell, which stops at the first that fails; a check may."""
    script = "\n".join(
        f"{line} || test $? -eq 1" if line.startswith("hitless check") else line for line in lines
    )
    done = subprocess.run(
        ["bash", "-euxc", script],
        env=env,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=4 * LIMIT_S,
        check=False,
    )
    assert 0 == done.returncode, done.stdout + done.stderr
