"""`hitless doctor` and `hitless prove`, against a stand-in and against nothing"""

import contextlib
import json
import subprocess
import sys

import pytest


CONFIG = """\
[[provider]]
name = "there"
adapter = "whip"
url = "{url}/whip/{{stream}}"

[[provider]]
name = "gone"
adapter = "whip"
url = "http://127.0.0.1:9/whip/{{stream}}"

[[provider]]
name = "odd"
adapter = "whip"
colour = "blue"
url = "{url}/whip/{{stream}}"
"""


@contextlib.contextmanager
def stand_in():
    """A stand-in in a process of its own; gives its URL."""
    process = subprocess.Popen(
        [sys.executable, "-m", "hitless.lab.stand", "--name", "there", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.PIPE,
        text=True,
    )
    try:
        lines = iter(process.stdout.readline, "")
        yield next(json.loads(line)["url"] for line in lines if line.startswith("{"))
    finally:
        process.kill()
        process.communicate(timeout=10)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Return what it finds, by provider and step, and its exit status."""
    folder = tmp_path_factory.mktemp("doctor")
    with stand_in() as url:
        (folder / "hitless.toml").write_text(CONFIG.format(url=url))
        done = subprocess.run(
            [sys.executable, "-m", "hitless", "doctor", "--json"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
    found = json.loads(done.stdout)
    return {(one["provider"], one["step"]): one for one in found}, done.returncode


def test_a_provider_that_works_is_proven_by_media(rows):
    found, _ = rows

    assert found["there", "media"]["verdict"] == "good"
    assert "published within" in found["there", "media"]["says"]
    assert found["there", "clock"]["verdict"] == "good"


def test_what_is_bad_says_what_to_do_and_nothing_more_is_tried(rows):
    found, status = rows

    assert status == 1
    assert found["gone", "connection"]["verdict"] == "bad"
    assert found["gone", "connection"]["fix"]
    assert found["gone", "media"]["verdict"] == "left out"
    assert found["odd", "configuration"]["verdict"] == "bad"
    assert "colour" in found["odd", "configuration"]["says"]


def test_a_name_that_nobody_configured_is_bad_input(home):
    (home.path / "hitless.toml").write_text(CONFIG.format(url="http://127.0.0.1:9"))
    done = home.run("doctor", "nobody")

    assert done.returncode == 2
    assert "there are: there, gone, odd" in done.stderr


def test_what_is_proven_prints_the_record_to_add(home):
    with stand_in() as url:
        (home.path / "hitless.toml").write_text(CONFIG.format(url=url))
        done = home.run("prove", "there", "--server", "a stand-in", limit_s=120)
    gone = home.run("prove", "gone")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "Proof(\n    server='a stand-in, 20" in done.stdout
    assert "what='12 of 12 rules kept; published within" in done.stdout
    assert gone.returncode == 1
    assert "Proof(" not in gone.stdout
