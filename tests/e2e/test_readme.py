"""README.md: what it shows is what happens."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path


ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLE = ROOT / "examples" / "first_stream.py"


def blocks(language):
    """Return the code blocks of README.md in a language."""
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def shape(lines):
    """Return lines without what differs from run to run: their numbers."""
    return [re.sub(r"\d+(\.\d+)?", "N", line) for line in lines]


def test_the_example_has_at_most_15_lines():
    """
    Blank lines are not counted.
    """
    (code,) = blocks("python")

    assert 0 < sum(bool(line.strip()) for line in code.splitlines()) <= 15


def test_the_example_is_the_file_in_examples():
    """
    What a reader copies and what the test runs are one text.
    """
    (code,) = blocks("python")
    text = re.sub(r"  # noqa.*", "", EXAMPLE.read_text(encoding="utf-8"))

    assert text.split('"""', 2)[2].strip() == code.strip()


def test_the_example_prints_what_the_readme_shows(tmp_path):
    """
    On real media: three servers, one of which is killed. Numbers may differ, sentences not.
    """
    (shown,) = [block for block in blocks("console") if "first_stream.py" in block]
    folder = tmp_path / "tmp"
    folder.mkdir()

    done = subprocess.run(
        [sys.executable, str(EXAMPLE)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(folder)},
    )

    assert 0 == done.returncode, done.stderr
    assert shape(shown.splitlines()[1:]) == shape(done.stdout.splitlines())
    assert "" == done.stderr
    assert [] == list(folder.iterdir())


def test_its_links_lead_somewhere():
    """
    Every relative link names a file or a folder that exists.
    """
    targets = re.findall(r"\]\(([^)#:]+)\)", README)

    assert len(targets) > 5
    assert [] == [target for target in targets if not (ROOT / target).exists()]
