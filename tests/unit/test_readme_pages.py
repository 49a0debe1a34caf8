"""The pages of docs/ that a person follows step by step: their files work as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from hitless.client.config import load


DOCS = Path(__file__).parents[2] / "docs"
DECISIONS = sorted((DOCS / "decisions").glob("*.md"))


def shown(page, name):
    """Return the file called `name` that a page shows."""
    text = (DOCS / page).read_text(encoding="utf-8")
    (found,) = re.findall(rf"<!-- {re.escape(name)} -->\n```\w+\n(.*?)```", text, re.DOTALL)
    return found


def hitless(*words, path):
    """Run the command line with a folder of packages besides the installed ones."""
    return subprocess.run(
        [sys.executable, "-m", "hitless", *words],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=path,
        env={**os.environ, "PYTHONPATH": str(path)},
    )


@pytest.fixture
def outside(tmp_path):
    """Install the page's adapter as a package of somebody else would be: beside Hitless."""
    project = tomllib.loads(shown("write-a-provider.md", "pyproject.toml"))["project"]
    (tmp_path / "hitless_local.py").write_text(shown("write-a-provider.md", "hitless_local.py"))
    info = tmp_path / f"hitless_local-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    lines = [
        f"[{group}]\n" + "".join(f"{name} = {target}\n" for name, target in points.items())
        for group, points in project["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("\n".join(lines))
    return tmp_path


def test_the_adapter_of_the_page_is_short():
    """
    Below 60 lines, or nobody reads it; blank ones are not counted.
    """
    code = shown("write-a-provider.md", "hitless_local.py")

    assert 0 < sum(bool(line.strip()) for line in code.splitlines()) < 60


def test_the_adapter_of_the_page_keeps_every_rule(outside):
    """
    Found by its entry point, from a package that Hitless knows nothing of.
    """
    done = hitless("conformance", "local", path=outside)

    assert 0 == done.returncode, done.stdout + done.stderr
    assert done.stdout.endswith("local: 12 of 12 rules kept\n")


def test_an_adapter_that_breaks_a_rule_is_found(outside):
    """
    The check can fail: statistics without an id break the eighth.
    """
    path = outside / "hitless_local.py"
    code = path.read_text()
    broken = code.replace('"id": f"leg-{id(self)}"', "")
    assert broken != code
    path.write_text(broken)

    done = hitless("conformance", "local", path=outside)

    assert 1 == done.returncode
    assert ["BROKEN C8"] == re.findall(r"^BROKEN C\d+", done.stdout, re.MULTILINE)


def test_the_configuration_of_the_tutorial_is_read(tmp_path):
    """
    As a reader writes it.
    """
    path = tmp_path / "hitless.toml"
    path.write_text(shown("tutorial.md", "hitless.toml"))

    assert ["first", "second"] == [table.name for table in load(path, {}).providers]


@pytest.mark.parametrize("path", DECISIONS, ids=lambda path: path.stem)
def test_a_decision_says_what_it_must(path):
    """
    Number, context, decision, consequences, on one page; and the index knows it.
    """
    text = path.read_text(encoding="utf-8")

    assert text.startswith(f"# {path.name[:4]}: ")
    places = [text.index(f"\n**{word}.**") for word in ("Context", "Decision", "Consequences")]
    assert sorted(places) == places
    assert len(text.splitlines()) <= 60
    assert f"](decisions/{path.name})" in (DOCS / "README.md").read_text(encoding="utf-8")


def test_every_page_is_in_the_index():
    """
    A page that nothing leads to is not read.
    """
    index = (DOCS / "README.md").read_text(encoding="utf-8")
    pages = {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")} - {"README.md"}

    assert [] == sorted(page for page in pages if f"]({page})" not in index)


def test_no_line_of_a_written_page_is_too_long():
    """
    Tables apart, a page reads well in an editor too.
    """
    pages = [path for path in DOCS.rglob("*.md") if "Made by docs/make.py" not in path.read_text()]

    assert len(pages) > 10
    assert [] == [
        f"{path.name}: {line}"
        for path in [*pages, DOCS.parent / "README.md"]
        for line in path.read_text(encoding="utf-8").splitlines()
        if len(line) > 120 and not line.startswith(("|", "*", "!"))
    ]
