"""The guard of tests/conftest.py: what it must catch."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path


LEAKY = """
import socket, subprocess, sys, threading, time

import conftest

conftest.GRACE_S = 0.2
kept = []

def test_thread():
    kept.append(threading.Thread(target=time.sleep, args=(20,), daemon=True, name="orphan"))
    kept[-1].start()

def test_process():
    kept.append(subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE))

def test_socket():
    kept.append(socket.socket())

def test_file(tmp_path):
    kept.append(open(tmp_path / "left-open", "w"))

def test_clean(tmp_path):
    thread = threading.Thread(target=time.sleep, args=(0.05,))
    thread.start()  # ends by itself soon: no leak
    (tmp_path / "closed").write_text("x")
"""


def test_each_kind_of_leak_fails_its_test_and_is_named(tmp_path):
    """
    A thread, a process, a socket and a file; what soon ends by itself is no leak.
    """
    shutil.copy(Path(__file__).parents[1] / "conftest.py", tmp_path)
    (tmp_path / "test_leaky.py").write_text(LEAKY)

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rE", "-p", "no:cacheprovider", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "COLUMNS": "200"},
    )

    assert "5 passed, 4 errors" in done.stdout
    for name, left in {
        "test_thread": "left behind: thread orphan",
        "test_process": "process ",
        "test_socket": "socket:" if sys.platform == "linux" else "descriptor",
        "test_file": "left-open" if sys.platform == "linux" else "descriptor",
    }.items():
        lines = [line for line in done.stdout.splitlines() if line.startswith("ERROR")]
        assert any(name in line and left in line for line in lines), done.stdout
