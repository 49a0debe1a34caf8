"""
Install the programs that tests use besides Python's: `python tests/tools.py`.

Only as root and with apt-get, as on a machine of continuous integration; elsewhere it says what is
missing, and the tests that need it are skipped and say so. It never fails.
"""

from __future__ import annotations

import glob
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from typing import Final

from interop import debian


INSTALL_S_MAX: Final = 240.0


def has(program: str) -> bool:
    """Whether a program is on the path."""
    return shutil.which(program) is not None


def has_postgres() -> bool:
    """Whether there is a PostgreSQL server, as Debian or anybody else places it."""
    return has("postgres") or bool(glob.glob("/usr/lib/postgresql/*/bin/postgres"))


def has_rtmp_module() -> bool:
    """Whether nginx can speak RTMP, as Debian packages it."""
    return bool(glob.glob("/usr/lib/nginx/modules/ngx_rtmp_module.so"))


WANTED: Final[tuple[tuple[str, Callable[[], bool], str], ...]] = (
    ("postgresql", has_postgres, "the server's tests on PostgreSQL, with several nodes"),
    ("prometheus", lambda: has("promtool"), "the alert rules are judged by promtool"),
    ("haproxy", lambda: has("haproxy"), "the balancer of the page on deploying is tried"),
    ("sqlite3", lambda: has("sqlite3"), "the backup commands are tried"),
    ("janus", lambda: has("janus"), "moves from and to a real Janus"),
    ("nginx-light", lambda: has("nginx"), "moves from and to a real RTMP server"),
    ("libnginx-mod-rtmp", has_rtmp_module, "moves from and to a real RTMP server"),
    ("gcc", lambda: has("gcc"), "Janus on loopback needs a shim of 20 lines of C"),
    ("libc6-dev", lambda: os.path.exists("/usr/include/stdio.h"), "the same shim"),
    ("nodejs", lambda: has("node"), "the reference hand, in plain JavaScript"),
)
"""Debian package, whether what it brings is there, and what needs it."""


UNPACKED: Final = ("simple-whip-server",)
"""Debian packages that tests start from a folder: they would pull half a system along."""


def main() -> int:
    """Install what is missing, or say what that costs."""
    missing = [name for name, is_there, _ in WANTED if not is_there()]
    if missing and os.geteuid() == 0 and has("apt-get"):
        say(f"installing {', '.join(missing)}")
        install(missing)
    unpack_others()
    for name, is_there, needs in WANTED:
        say(f"{name}: {'there' if is_there() else f'missing; left out: {needs}'}")
    return 0


def unpack_others() -> None:
    """Unpack what need not be installed, below `var/`; what goes wrong is told, and no more."""
    for name in UNPACKED:
        if debian.root_of(name).is_dir() or not (has("apt-get") and has("dpkg")):
            continue
        say(f"unpacking {name}")
        try:
            debian.unpack(name)
        except (OSError, subprocess.SubprocessError) as exc:
            say(f"{name}: {exc}")


def install(packages: list[str]) -> None:
    """Install Debian packages; what goes wrong is told, and no more."""
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for words in (["update", "-q"], ["install", "-qy", "--no-install-recommends", *packages]):
        try:
            subprocess.run(
                ["apt-get", *words], env=env, timeout=INSTALL_S_MAX, check=True,
                stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        except (OSError, subprocess.SubprocessError) as exc:
            say(f"apt-get {words[0]} failed: {exc}")
            return


def say(text: str) -> None:
    """Write a line now."""
    print(f"tools: {text}", flush=True)  # noqa: T201 -- its whole job


if __name__ == "__main__":
    sys.exit(main())
