"""docs/: made from the code, and complete."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from hitless.cli import cli
from hitless.client.keys import PLAIN_KEYS, PROVIDER_KEYS
from hitless.core.catalogue import CATALOGUE
from hitless.core.circuit import TRANSITIONS
from hitless.core.state import MOVES
from hitless.lab import faults


DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def make():
    """Return docs/make.py as a module."""
    spec = importlib.util.spec_from_file_location("make_docs", DOCS / "make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def page(name):
    """Return the text of a page."""
    return (DOCS / name).read_text(encoding="utf-8")


def test_no_page_is_stale():
    """
    `make docs` would change nothing.
    """
    done = subprocess.run(
        [sys.executable, str(DOCS / "make.py"), "--check"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert 0 == done.returncode, done.stderr


def test_a_stale_page_is_named(make, tmp_path, monkeypatch, capsys):
    """
    The check can fail: a page that differs from the code is found.
    """
    monkeypatch.setattr(make, "DOCS", tmp_path)
    monkeypatch.setattr(make, "PAGES", {"page.md": lambda: "new\n"})
    (tmp_path / "page.md").write_text("old\n")

    assert 1 == make.main(["--check"])
    assert "stale: run make docs: docs/page.md" in capsys.readouterr().err
    assert "old\n" == (tmp_path / "page.md").read_text()
    assert 0 == make.main([])
    assert 0 == make.main(["--check"])


def test_every_command_is_documented(make):
    """
    With its help.
    """
    text = page("reference/cli.md")

    for path, command in make.commands(cli, "hitless"):
        assert f"## `{path}`\n" in text
        for param in command.params:
            if isinstance(param, click.Option):
                assert param.opts[-1] in text, f"{path} {param.opts}"


@pytest.mark.parametrize("key", [*PLAIN_KEYS, *PROVIDER_KEYS], ids=lambda k: k.name)
def test_every_key_is_documented(key):
    """
    With its variable and what it is for.
    """
    (line,) = (
        line for line in page("reference/configuration.md").splitlines() if f"`{key.name}`" in line
    )

    assert key.says in line
    assert key.possible in line


def test_every_event_is_documented():
    """
    By the name that never changes.
    """
    text = page("events.md")

    assert [] == [name for name in CATALOGUE if f"| `{name}` |" not in text]


def test_every_fault_is_documented():
    """
    As the operator types it.
    """
    text = page("reference/faults.md")

    assert [] == [fault.name for fault in faults.CATALOGUE if f"| `{fault.name}` |" not in text]


def test_the_diagrams_show_every_move():
    """
    Drawn from the tables, staying put left out.
    """
    drawn = {line.strip() for line in page("how-it-decides.md").splitlines()}

    for (source, signal), target in TRANSITIONS.items():
        assert (f"{source} --> {target}: {signal}" in drawn) is (source is not target)
    for source, targets in MOVES.items():
        for target in targets:
            assert f"{source} --> {target}" in drawn


def test_the_example_of_the_configuration_page_is_read(tmp_path):
    """
    An example that does not work teaches the wrong thing.
    """
    from hitless.client.config import load

    (example,) = re.findall(r"```toml\n(.*?)```", page("reference/configuration.md"), re.DOTALL)
    path = tmp_path / "hitless.toml"
    path.write_text(example)

    assert ["agora"] == [table.name for table in load(path, {}).providers]


def test_links_between_pages_lead_somewhere():
    """
    Every relative link names a file that exists.
    """
    broken = [
        f"{path.relative_to(DOCS)}: {target}"
        for path in DOCS.rglob("*.md")
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8"))
        if not (path.parent / target).exists()
    ]

    assert [] == broken
