"""docs/deploy.md: what it says to type and to write is what the programs take."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

import pytest
from e2e.packages import PACKAGING, ROOT, UNIT, options_of, run

from hitless.cli import cli
from hitless.client.keys import PLAIN_KEYS
from hitless.server.webhook_post import read_hooks


pytestmark = pytest.mark.realtime

PAGE = (ROOT / "docs" / "deploy.md").read_text()


def blocks(language, page=PAGE):
    """Return the examples of the page in a language, in order."""
    return re.findall(rf"```{language}\n(.+?)```", page, flags=re.DOTALL)


def test_the_pages_name_options_and_variables_that_we_have():
    """
    Whoever types what is there is not refused.
    """
    page = PAGE + (ROOT / "docs" / "store.md").read_text()
    sources = "".join(path.read_text() for path in (ROOT / "src" / "hitless").rglob("*.py"))
    keys = {key.name for key in PLAIN_KEYS}
    calls = re.findall(r"(?:^|[\s/])hitless ((?:[a-z]+ ?)+)((?:[^|>\n`]|\\\n)*)", page)
    options = [
        (path, option)
        for path, rest in calls
        if cli.get_command(None, path.split()[0])
        for option in re.findall(r"--[a-z-]+", rest)
    ]
    variables = {name.removesuffix("_FILE") for name in re.findall(r"HITLESS_[A-Z_]+", page)}
    settings = {name for name in variables if "__" in name}

    assert len(options) > 5
    assert [
        (path, option)
        for path, option in options
        if not any(option in options_of(*path.split()[:n]) for n in (1, 2))
    ] == []
    assert {name[8:].lower().replace("__", ".") for name in settings} <= keys
    assert [name for name in variables - settings if f'"{name}"' not in sources] == []


def test_keys_made_as_the_page_says_start_a_server(tmp_path):
    """
    Each in a file of its own that nobody else can read.
    """
    section = PAGE.partition("\n## Keys\n")[2]
    script = "".join(line[2:] + "\n" for line in blocks("console", section)[0].splitlines())
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    made = run("sh", "-euc", script.replace("/etc/hitless", f"{tmp_path}/keys"), PATH=path)
    env = {
        f"HITLESS_{file.name.upper().replace('-', '_')}_FILE": str(file)
        for file in (tmp_path / "keys").iterdir()
    }
    done = run(sys.executable, "-m", "hitless", "serve", "--check", cwd=tmp_path, **env)

    assert made.returncode == 0, made.stderr
    assert sorted(file.name for file in (tmp_path / "keys").iterdir()) == [
        "client-key", "owner-key", "plan-key", "vault-key",
    ]  # fmt: skip
    assert all(file.stat().st_mode & 0o077 == 0 for file in (tmp_path / "keys").iterdir())
    assert done.returncode == 0, done.stderr
    assert "2 API keys" in done.stdout


def test_the_webhooks_of_the_page_are_taken():
    """
    As a node reads them.
    """
    (example,) = blocks("toml")

    hooks, networks = read_hooks({"HITLESS_WEBHOOKS": example})

    assert [(hook.name, hook.alerts, hook.legs) for hook in hooks] == [
        ("night-shift", True, False), ("recorder", False, True),
    ]  # fmt: skip
    assert len(networks) == 1


def test_systemd_understands_what_the_page_adds_to_the_unit(tmp_path):
    """
    Each addition on its own; and what they lend and name are the same.
    """
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze (apt-get install systemd)")
    program = str(Path(sys.executable).with_name("hitless"))
    added = blocks("ini")
    assert len(added) == 3
    for number, text in enumerate(added):
        lent = set(re.findall(r"LoadCredential=([\w-]+):", text))
        assert lent == set(re.findall(r"%d/([\w-]+)", text))
        folder = tmp_path / str(number)
        (folder / f"{UNIT.name}.d").mkdir(parents=True)
        for file, said in ((UNIT.name, UNIT.read_text()), (f"{UNIT.name}.d/override.conf", text)):
            (folder / file).write_text(said.replace("/opt/hitless/bin/hitless", program))
        done = run("systemd-analyze", "verify", folder / UNIT.name)
        assert (done.returncode, done.stderr) == (0, "")


def test_prometheus_accepts_the_configuration_of_the_page(tmp_path):
    """
    With the rules beside it.
    """
    if shutil.which("promtool") is None:
        pytest.skip("needs promtool (apt-get install --no-install-recommends prometheus)")
    (example,) = blocks("yaml")
    file = tmp_path / "prometheus.yml"
    file.write_text(example.replace("/etc/prometheus", str(tmp_path)))
    (tmp_path / "hitless.key").touch()
    shutil.copy(PACKAGING / "alert-rules.yml", tmp_path / "hitless.yml")
    done = run("promtool", "check", "config", file)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 rule files found" in done.stdout


def test_haproxy_accepts_the_configuration_of_the_page(tmp_path):
    """
    But for its certificate, which is yours.
    """
    if shutil.which("haproxy") is None:
        pytest.skip("needs haproxy (apt-get install --no-install-recommends haproxy)")
    (example,) = blocks("haproxy")
    file = tmp_path / "haproxy.cfg"
    file.write_text(example.replace(" ssl crt /etc/haproxy/live.pem", ""))
    done = run("haproxy", "-c", "-f", file)

    assert done.returncode == 0, done.stderr
