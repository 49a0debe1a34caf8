"""docs/write-a-provider.md, followed word for word: a sixth adapter, in an outside package"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest


PAGE = (Path(__file__).parents[2] / "docs" / "write-a-provider.md").read_text(encoding="utf-8")
LIMIT_S = 120.0

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("hatchling") is None or importlib.util.find_spec("pip") is None,
    reason="hatchling and pip are needed to build and install a package",
)


def shown(name):
    """Return the file called `name` that the page shows."""
    (found,) = re.findall(rf"<!-- {re.escape(name)} -->\n```\w+\n(.*?)```", PAGE, re.DOTALL)
    return found


def part(title, language):
    """Return the blocks of code in one section of the page."""
    section = PAGE.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]
    return re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)


def done(*words, path, site=None):
    """Run Python in a folder, with a folder of installed packages besides ours."""
    env = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    return subprocess.run(
        [sys.executable, *words],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
        cwd=path,
        env=env if site is None else {**env, "PYTHONPATH": str(site)},
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Build the page's package as its author would, install it, and return where it is."""
    folder = tmp_path_factory.mktemp("outside")
    for name in ("hitless_local.py", "pyproject.toml"):
        (folder / name).write_text(shown(name))
    built = done("-m", "hatchling", "build", "-t", "wheel", path=folder)
    assert 0 == built.returncode, built.stdout + built.stderr
    (wheel,) = (folder / "dist").glob("*.whl")
    target = folder / "site"
    pip = ("-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", str(target))
    installed = done(*pip, str(wheel), path=folder)
    assert 0 == installed.returncode, installed.stdout + installed.stderr
    return target


def hitless(*words, path, site):
    """Run the command line where the package is installed."""
    return done("-m", "hitless", *words, path=path, site=site)


def test_the_command_says_what_the_page_shows(site, tmp_path):
    """
    Each line of it; between them are the others.
    """
    (console,) = part("Check it", "console")
    command, *lines = console.strip().splitlines()

    said = hitless(*command.split()[2:], path=tmp_path, site=site)

    assert "$ hitless conformance local" == command
    assert 0 == said.returncode, said.stdout + said.stderr
    assert [] == [one for one in lines if one != "..." and one not in said.stdout.splitlines()]


def test_the_lines_for_an_own_test_work(site, tmp_path):
    """
    Without a test framework.
    """
    lines = part("Check it", "python")[0].strip().splitlines()
    body = "\n".join(f"    {one}" for one in lines)
    (tmp_path / "mine.py").write_text(
        "import asyncio\n"
        "from hitless import check_provider\n"
        "from hitless_local import Local\n"
        "async def make():\n"
        "    return Local()\n"
        f"async def main():\n{body}\n    print(report.passed)\n"
        "asyncio.run(main())\n"
    )

    ran = done("mine.py", path=tmp_path, site=site)

    assert "True\n" == ran.stdout, ran.stderr


def test_it_is_configured_as_the_page_says(site, tmp_path):
    """
    Under a name of one's own, with an option of its own.
    """
    (table,) = part("Use it", "toml")
    (tmp_path / "hitless.toml").write_text(table)
    (one,) = tomllib.loads(table)["provider"]

    checked = hitless("config", "--check", path=tmp_path, site=site)
    kept = hitless("conformance", one["name"], path=tmp_path, site=site)

    assert 0 == checked.returncode, checked.stdout + checked.stderr
    assert 0 == kept.returncode, kept.stdout + kept.stderr
    assert kept.stdout.endswith("studio: 12 of 12 rules kept\n")


def test_a_wrong_value_is_one_clear_line(site, tmp_path):
    """
    And nothing is started.
    """
    (table,) = part("Use it", "toml")
    wrong = table.replace("first_media_s = 2", 'first_media_s = "soon"')
    assert wrong != table
    (tmp_path / "hitless.toml").write_text(wrong)

    said = hitless("conformance", "studio", path=tmp_path, site=site)

    assert 2 == said.returncode
    assert 1 == len(said.stderr.strip().splitlines()), said.stderr
    assert "first_media_s" in said.stderr
    assert "Traceback" not in said.stderr
