"""packaging/: a wheel that installs, a container file and a systemd unit that say what is."""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import zipfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from e2e.packages import PACKAGING, ROOT, UNIT, options_of, run
from e2e.serving import House, Served
from packaging.requirements import Requirement


pytestmark = pytest.mark.realtime

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LIMIT_S = 60.0


def go(main):
    """Run a test against the clock, bounded."""

    async def bounded():
        async with asyncio.timeout(LIMIT_S):
            return await main

    return asyncio.run(bounded())


# --- A wheel that installs ---


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Build the wheel, with what is installed here and nothing else."""
    folder = tmp_path_factory.mktemp("wheel")
    words = ("--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, ROOT)
    done = run(sys.executable, "-m", "pip", "wheel", "--quiet", *words)
    assert done.returncode == 0, done.stderr
    (made,) = folder.glob("*.whl")
    return made


def needed(wheel, *extras):
    """Return what the wheel needs with these extras, and all that these need in turn."""
    (info,) = {name.split("/")[0] for name in names(wheel) if ".dist-info/" in name}
    own = importlib.metadata.PathDistribution(zipfile.Path(wheel, f"{info}/"))
    found, waiting = {}, [(own, ("", *extras))]
    while waiting:
        dist, wanted = waiting.pop()
        for requirement in map(Requirement, dist.requires or ()):
            marker = requirement.marker
            if marker and not any(marker.evaluate({"extra": extra}) for extra in wanted):
                continue
            key = requirement.name.lower(), frozenset(requirement.extras)
            if key not in found:
                found[key] = importlib.metadata.distribution(requirement.name)
                waiting.append((found[key], ("", *requirement.extras)))
    return {name: dist for (name, _), dist in found.items()}.values()


def names(wheel):
    """Return the names of the files in a wheel."""
    with zipfile.ZipFile(wheel) as file:
        return file.namelist()


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """
    Return the folder of programs of an environment of its own, by the extras that it has.

    Libraries are lent from this environment, those that the wheel asks for and no others: no
    index is asked, and what the wheel forgot to ask for is not there.
    """
    made = {}

    def install(*extras):
        if extras in made:
            return made[extras]
        folder = tmp_path_factory.mktemp("-".join(("venv", *extras)))
        lent = folder / "lent"
        lent.mkdir()
        for dist in needed(wheel, *extras):
            for top in {file.parts[0] for file in dist.files or ()} - {"..", "__pycache__"}:
                if not (lent / top).exists():
                    (lent / top).symlink_to(Path(dist.locate_file(top)))
        done = run(sys.executable, "-m", "venv", "--without-pip", folder)
        assert done.returncode == 0, done.stderr
        (packages,) = folder.glob("lib/python*/site-packages")
        (packages / "lent.pth").write_text(f"{lent}\n")
        asked = f"{wheel}[{','.join(extras)}]" if extras else str(wheel)
        words = ("--python", folder / "bin" / "python", "install", "--quiet", "--no-index", asked)
        done = run(sys.executable, "-m", "pip", *words)
        assert done.returncode == 0, done.stderr
        made[extras] = folder / "bin"
        return made[extras]

    return install


@contextmanager
def serving(folder, *command, keys=None, env=None):
    """Run a server with this command until the test is over, its keys in the environment."""
    keys = keys or House(folder).keys
    log = folder / "serve.log"
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HITLESS_", "PYTHON"))}
    with log.open("ab") as log_file:
        process = subprocess.Popen(
            [*map(str, command), "--listen", "127.0.0.1:0", "--ready-json"],
            cwd=folder,
            env={**kept, **(keys if env is None else env)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log_file,
        )
    try:
        node = Served(process, log, keys)
        yield node
        node.close()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


async def watched(node):
    """Ask what machines ask: whether it lives, whether it is ready, and its metrics."""
    return [
        await node.call("GET", "/livez"),
        await node.call("GET", "/readyz"),
        await node.call("GET", "/metrics"),
        await node.call("GET", "/metrics", key="CLIENT"),
    ]


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    """
    Its types included; no tests, no documentation.
    """
    package = ROOT / "src" / "hitless"
    ours = {
        path.relative_to(ROOT / "src").as_posix()
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    found = {name for name in names(wheel) if ".dist-info/" not in name}

    assert "hitless/py.typed" in found
    assert found == ours
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names(wheel))


def test_a_fresh_environment_has_the_command(installed):
    """
    With what a client needs; the server's own libraries are not there, and it says so.
    """
    hitless = installed() / "hitless"
    said = run(hitless, "--version")
    refused = run(hitless, "serve", "--check")

    assert said.stdout.split()[-1] == PROJECT["version"]
    assert refused.returncode == 2
    assert "pip install 'hitless[server]'" in refused.stderr


def test_a_fresh_environment_with_the_server_checks_itself(installed, tmp_path):
    """
    From nothing: it makes keys and tables.
    """
    done = run(installed("server") / "hitless", "serve", "--check", cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    assert "sqlite, its tables are up to date" in done.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"hitless.db", "hitless-keys.env"}


def test_a_fresh_environment_with_the_server_serves(installed, tmp_path):
    """
    What a balancer and Prometheus ask for is there.
    """
    with serving(tmp_path, installed("server") / "hitless", "serve") as node:
        alive, ready, metrics, refused = go(watched(node))

    assert (alive.status, alive.body) == (200, "ok")
    assert (ready.status, ready.body) == (200, "ok")
    assert f'hitless_build_info{{version="{PROJECT["version"]}"}} 1.0' in metrics.body
    assert refused.code == "forbidden"


# --- The container file ---


def instructions(text):
    """Return the instructions of a container file: words in capitals and what follows."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [
        tuple(line.split(maxsplit=1)) for line in "\n".join(lines).replace("\\\n", "").split("\n")
    ]


CONTAINER = instructions((PACKAGING / "Containerfile").read_text())


def said_by(word, container=CONTAINER):
    """Return what follows an instruction, each time it is there."""
    return [rest for first, rest in container if first == word]


def last_stage():
    """Return the instructions of the image that is run."""
    last = max(n for n, (word, _) in enumerate(CONTAINER) if word == "FROM")
    return CONTAINER[last:]


def test_every_file_that_the_container_copies_is_there():
    """
    By name: what lies beside them, keys perhaps, is never copied.
    """
    copied = [shlex.split(rest)[:-1] for rest in said_by("COPY") if "--from" not in rest]
    sources = [source for words in copied for source in words]

    assert len(sources) > 4
    assert [source for source in sources if not (ROOT / source).exists()] == []
    assert {".", "./", "/"}.isdisjoint(sources)
    assert not said_by("ADD")
    everything = (
        ROOT / PROJECT["readme"],
        ROOT / "LICENSE",
        ROOT / "src",
        ROOT / "pyproject.toml",
    )
    assert {path.relative_to(ROOT).as_posix() for path in everything} <= set(sources)


def test_the_container_installs_only_what_the_lock_pins_by_hash():
    """
    The one step that asks an index checks hashes; all others ask none.
    """
    runs = [step for rest in said_by("RUN") for step in re.split(r"&&", rest) if "pip " in step]
    asking = [step for step in runs if "--no-index" not in step and " uninstall " not in step]

    (step,) = asking
    assert "--require-hashes" in step
    assert "-r requirements/lock.txt" in step
    extras = [rest.partition("=")[2] for rest in said_by("ARG") if rest.startswith("EXTRAS")]
    assert {word for extra in extras for word in extra.split(",")} <= {
        *PROJECT["optional-dependencies"]
    }
    for rest in said_by("RUN"):
        assert run("sh", "-n", "-c", rest).returncode == 0, rest


def test_the_container_runs_as_nobody_in_particular_and_tells_how_it_is():
    """
    A number, so that a cluster can see that it is not root; and nothing secret in a layer.
    """
    last = last_stage()
    (user,) = said_by("USER", last)
    (health,) = said_by("HEALTHCHECK", last)
    (copied,) = (rest for rest in said_by("COPY", last) if "healthcheck" in rest)

    assert len(said_by("FROM")) > 1
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user)
    assert f"useradd --system --uid {user.split(':')[0]} " in " ".join(said_by("RUN", last))
    assert json.loads(health.partition("CMD ")[2])[-1] == copied.split()[-1]
    kept = " ".join(rest for word, rest in CONTAINER if word in ("ENV", "ARG"))
    assert not re.search(r"(?i)key|secret|token|password|database", kept)


def test_the_container_begins_a_command_that_we_have(tmp_path):
    """
    As it stands it refuses to show keys in clear, and says what to add.
    """
    (entry,), (command,) = said_by("ENTRYPOINT"), said_by("CMD")
    program, path, *words = json.loads(entry) + json.loads(command)
    begin = (Path(sys.executable).with_name(program), path, *words, "--check")
    refused = run(*begin, cwd=tmp_path)
    done = run(*begin, "--behind-proxy", cwd=tmp_path)

    assert {word for word in words if word.startswith("-")} <= options_of(path)
    assert refused.returncode == 2
    assert "--behind-proxy" in refused.stderr
    assert done.returncode == 0, done.stderr


def test_the_health_check_says_what_readyz_says(tmp_path):
    """
    Whatever the environment says of proxies; and a node that is not there is not ready.
    """
    check = (sys.executable, PACKAGING / "healthcheck.py")
    env = {"http_proxy": "http://127.0.0.1:1", "no_proxy": ""}
    with serving(tmp_path, sys.executable, "-m", "hitless", "serve") as node:
        ready = run(*check, HEALTH_URL=node.url, **env)
    gone = run(*check, HEALTH_URL=node.url, **env)
    wrong = run(*check, HEALTH_URL="file:///etc/hostname")

    assert (ready.returncode, ready.stdout) == (0, "ok\n")
    assert (gone.returncode, gone.stdout[:10]) == (1, "no answer:")
    assert wrong.returncode == 1


# --- The systemd unit ---


def unit(*keys):
    """Return the values of these keys, in order."""
    found = [line.partition("=") for line in UNIT.read_text().splitlines() if "=" in line]
    return [value for key, _, value in found if key in keys]


def test_the_unit_is_one_that_systemd_understands(tmp_path):
    """
    It knows every option, and finds little that a service could do and this one may not.
    """
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze (apt-get install systemd)")
    program = Path(sys.executable).with_name("hitless")
    text = UNIT.read_text().replace("/opt/hitless/bin/hitless", str(program))
    assert str(program) in text
    copied = tmp_path / UNIT.name
    copied.write_text(text)
    verified = run("systemd-analyze", "verify", copied)
    exposed = run("systemd-analyze", "security", "--offline=yes", copied)

    assert (verified.returncode, verified.stderr) == (0, "")
    level = re.search(r"exposure level for hitless.service: ([\d.]+)", exposed.stdout)
    assert float(level[1]) < 2.0, exposed.stdout


def test_the_unit_gives_no_key_to_anybody_else():
    """
    Each key is lent by systemd and named by its file; none is in the unit or its environment.
    """
    lent = {value.partition(":")[0] for value in unit("LoadCredential")}
    named = dict(value.split("=", 1) for value in unit("Environment"))

    assert lent == {"vault-key", "plan-key", "owner-key", "client-key"}
    assert named == {
        f"HITLESS_{name.upper().replace('-', '_')}_FILE": f"%d/{name}" for name in lent
    }
    assert unit("DynamicUser", "ProtectSystem") == ["yes", "strict"]
    assert unit("User", "PassEnvironment") == []


def test_the_command_of_the_unit_serves_with_the_keys_it_is_lent(tmp_path):
    """
    As systemd would run it: in its state directory, with its environment and nothing else.
    """
    state, lent = tmp_path / "state", tmp_path / "lent"
    for folder in (state, lent):
        folder.mkdir()
    keys = House(tmp_path).keys
    env = dict(value.replace("%d", str(lent)).split("=", 1) for value in unit("Environment"))
    for variable, key in keys.items():
        name = variable.removeprefix("HITLESS_").lower().replace("_", "-")
        (lent / name).write_text(f"{key}\n")
    (command,) = unit("ExecStart")
    program, *words = command.split()
    assert program == "/opt/hitless/bin/hitless"
    ours = Path(sys.executable).with_name(Path(program).name)
    with serving(state, ours, *words, keys=keys, env=env) as node:
        alive, ready, metrics, refused = go(watched(node))

    assert (alive.status, ready.body, metrics.status) == (200, "ok", 200)
    assert refused.code == "forbidden"
    assert {path.name for path in state.iterdir()} == {"hitless.db", "serve.log"}
    assert float(unit("TimeoutStopSec")[0]) > 5.0, "it lets what was asked end"
