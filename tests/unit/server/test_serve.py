"""hitless.server.serve: where a server listens, and the keys it makes for itself."""

import json
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from hitless.errors import ConfigError, LocalFault
from hitless.server.keys import KeyRing, KeyRole, bootstrap_keys
from hitless.server.plans import PLAN_VARIABLE
from hitless.server.serve import KEY_FILE, Address, keys_beside, new_keys, parse_address
from hitless.server.vault import VAULT_VARIABLE, new_key, read_root_keys


# --- Where ---


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:8080", ("127.0.0.1", 8080)),
        ("[::1]:8080", ("::1", 8080)),
        (":0", ("127.0.0.1", 0)),
        ("8080", ("127.0.0.1", 8080)),
        ("localhost:65535", ("localhost", 65535)),
    ],
)
def test_an_address_is_read(text, expected):
    assert parse_address(text) == expected


@pytest.mark.parametrize(
    "text", ["", "host", "host:", "host:x", "host:65536", "host:-1", "host:1.5", "host:\u0661"]
)
def test_what_is_no_address_is_refused(text):
    with pytest.raises(ConfigError, match="give HOST:PORT"):
        parse_address(text)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_this_machine_may_be_spoken_to_in_clear(host):
    Address(host=host).check()


@pytest.mark.parametrize(
    "host",
    ["0.0.0.0", "::", "192.0.2.1", "10.0.0.1", "localhost.example", "127.1", "::ffff:192.0.2.1"],
)
def test_beyond_this_machine_nothing_is_served_in_clear(host):
    with pytest.raises(ConfigError, match="without TLS would show every key"):
        Address(host=host).check()

    Address(host=host, certificate=Path("c.pem"), private_key=Path("k.pem")).check()
    Address(host=host, is_behind_proxy=True).check()


@pytest.mark.parametrize("half", ["certificate", "private_key"])
def test_half_a_certificate_is_none(half):
    with pytest.raises(ConfigError, match="together"):
        Address(**{half: Path("x.pem")}).check()


# --- Keys ---


def test_a_first_start_makes_its_keys_and_keeps_them_for_its_owner_only(tmp_path):
    database = tmp_path / "hitless.db"

    environ, made = keys_beside(f"sqlite:///{database}", {"PATH": "/bin"})

    assert made == tmp_path / KEY_FILE
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    assert environ["PATH"] == "/bin"
    assert read_root_keys(VAULT_VARIABLE, environ) != read_root_keys(PLAN_VARIABLE, environ)
    ring = KeyRing(bootstrap_keys(environ, now_s=0.0))
    roles = {ring.check(environ[name], 0.0).role for name in environ if name.endswith("R_KEY")}
    assert roles == {KeyRole.OWNER}


def test_the_mode_does_not_depend_on_who_starts_it(tmp_path):
    before = os.umask(0)
    try:
        _, made = keys_beside(str(tmp_path / "hitless.db"), {})
    finally:
        os.umask(before)

    assert stat.S_IMODE(made.stat().st_mode) == 0o600


def test_the_next_start_finds_the_same_keys(tmp_path):
    first, _ = keys_beside(str(tmp_path / "hitless.db"), {})

    again, made = keys_beside(str(tmp_path / "hitless.db"), {})

    assert (again, made) == (first, None)


def test_a_key_of_the_environment_beats_the_file(tmp_path):
    keys_beside(str(tmp_path / "hitless.db"), {})

    found, _ = keys_beside(str(tmp_path / "hitless.db"), {"HITLESS_OWNER_KEY": "mine"})

    assert found["HITLESS_OWNER_KEY"] == "mine"


def test_lines_that_are_no_keys_are_passed_over(tmp_path):
    (tmp_path / KEY_FILE).write_text("# a comment\n\nA=b=c\n")

    found, made = keys_beside(str(tmp_path / "hitless.db"), {})

    assert (found, made) == ({"A": "b=c"}, None)


@pytest.mark.parametrize("end", ["", "_FILE"])
def test_with_both_keys_configured_nothing_is_made(end, tmp_path):
    environ = {f"{VAULT_VARIABLE}{end}": new_key(), f"{PLAN_VARIABLE}{end}": new_key()}

    assert keys_beside(str(tmp_path / "hitless.db"), environ) == (environ, None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "missing"), [(VAULT_VARIABLE, PLAN_VARIABLE), (PLAN_VARIABLE, VAULT_VARIABLE)]
)
def test_half_of_the_keys_is_a_mistake(given, missing, tmp_path):
    secret = new_key()
    with pytest.raises(ConfigError, match=f"{missing} is not set") as caught:
        keys_beside(str(tmp_path / "hitless.db"), {given: secret})

    assert secret not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_nodes_that_share_a_database_must_be_given_their_keys():
    with pytest.raises(ConfigError, match="give all nodes the same") as caught:
        keys_beside("postgresql://me:s3cr3t@host/name", {})

    assert "s3cr3t" not in str(caught.value)


def test_a_folder_that_is_not_there_is_this_machines_fault(tmp_path):
    with pytest.raises(LocalFault, match="No such file"):
        keys_beside(str(tmp_path / "none" / "hitless.db"), {})


def test_a_set_of_keys_opens_a_server_and_no_two_are_alike():
    one, two = new_keys(0.0), new_keys(0.0)

    assert one.keys() == two.keys()
    assert not set(one.values()) & set(two.values())
    assert {key.role for key in bootstrap_keys(one, now_s=0.0)} == {KeyRole.OWNER, KeyRole.CLIENT}


def test_only_named_proxies_are_believed_about_who_the_client_is():
    """
    A star would let everybody be anybody.
    """
    Address(proxies="10.0.0.7, 10.1.0.0/16").check()
    with pytest.raises(ConfigError, match="name the proxies"):
        Address(proxies="*").check()
    assert Address().proxies == ""


@pytest.mark.parametrize(
    "proxies", ["foo", "10.0.0.7, proxy.example", "10.1.0.1/16", "10.0.0.0/33"]
)
def test_proxies_are_addresses_or_networks(proxies):
    """
    Anything else would be believed about nobody, and nobody would know.
    """
    with pytest.raises(ConfigError, match="is neither an address nor a network"):
        Address(proxies=proxies).check()

    Address(proxies="10.0.0.7, 10.1.0.0/16, 2001:db8::/32,").check()


# --- A port that is taken ---


def test_a_port_that_was_taken_after_it_was_tried_is_one_line(tmp_path):
    """
    Whoever was quicker has it, and nothing falls over: no traceback, and the same exit status.
    """
    program = (
        "import sys; from importlib import import_module; from hitless.cli import main;"
        "import_module('hitless.cli.serve')._check_port = lambda address: None;"
        "sys.exit(main(sys.argv[1:]))"
    )
    environ = {k: v for k, v in os.environ.items() if not k.startswith("HITLESS_")}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"

        ended = subprocess.run(
            [sys.executable, "-c", program, "serve", "--listen", where],
            cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60.0, check=False,
        )  # fmt: skip

    made, *more = ended.stderr.splitlines()
    assert made.startswith("made keys in ")
    logged = [json.loads(line) for line in more if line.startswith("{")]
    assert {line["level"] for line in logged} <= {"info"}
    more = [line for line in more if not line.startswith("{")]
    assert more == [f"hitless: cannot listen on {where}: give a free one with --listen"]
    assert ended.returncode == 2
