"""
Debian packages that are unpacked below `var/` and not installed.

As a command: `python tests/interop/debian.py NAME`.

For a program in JavaScript whose packages cannot be installed beside a Node.js of another origin.
What is unpacked with it are the packages of JavaScript that it depends on; Node.js itself must be
there. Needs apt-get and dpkg, and no rights of root once the lists of packages are there.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final


FOLDER: Final = Path(__file__).parents[2] / "var" / "debian"
COMMAND_S_MAX: Final = 240.0

_INSTALL: Final = ("install", "--no-install-recommends")
_JAVASCRIPT: Final = re.compile(r"^Inst ((?:node|libjs)-\S+)", re.MULTILINE)


def root_of(package: str) -> Path:
    """Return the folder below which a package's files are, once they were unpacked."""
    return FOLDER / package


def unpack(package: str) -> None:
    """
    Fetch a package with the JavaScript it needs, and unpack them. Does nothing if that was done.

    Raises:
        OSError: There is no apt-get or dpkg here.
        subprocess.SubprocessError: One of them failed or took too long.
    """
    if root_of(package).is_dir():
        return
    FOLDER.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f"{package}-", dir=FOLDER))
    try:
        empty, fetched, root = work / "status", work / "fetched", work / "root"
        empty.touch()
        fetched.mkdir()
        # As if nothing were installed: else what is in conflict with Debian's Node.js is too.
        needs = run(
            ["apt-get", "-s", "-o", f"Dir::State::status={empty}", *_INSTALL, package], work
        )
        run(["apt-get", "download", "-qq", package, *_JAVASCRIPT.findall(needs)], fetched)
        for each in sorted(fetched.glob("*.deb")):
            run(["dpkg", "-x", str(each), str(root)], work)
        root.rename(root_of(package))
    finally:
        shutil.rmtree(work, ignore_errors=True)


def run(words: list[str], folder: Path) -> str:
    """Run a command in a folder and return what it says."""
    done = subprocess.run(
        words,
        cwd=folder,
        env=os.environ | {"LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        timeout=COMMAND_S_MAX,
        check=True,
    )
    return done.stdout


if __name__ == "__main__":
    for name in sys.argv[1:]:
        unpack(name)
