"""hitless.cli.calls: the address, the key, and what goes wrong between here and a server."""

from __future__ import annotations

import ipaddress
import json
import os
import secrets
import socket
import ssl
import subprocess
import sys
import threading
from contextlib import closing, contextmanager
from datetime import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from unit.cli.stand_in import KEY, SETTINGS, standing

from hitless.cli import calls
from hitless.cli.calls import CallFailed, Needs, Server, segment
from hitless.errors import ConfigError
from hitless.server.keys import BOOTSTRAP_VARIABLES, KeyRole
from hitless.server.wire import Nothing, Settings


def key():
    """Return a key of its own."""
    return f"hk_{secrets.token_hex(8)}_{secrets.token_urlsafe(32)}"


def settings(environ, url="", *, needs=Needs.VIEWER, **options):
    """Ask for the settings."""
    found = Server(url, environ, **options)
    return found.ask(Settings, "GET", "/v1/admin/settings", needs=needs)


# --- The key ---

OWN, VIEWER, OPERATOR, OWNER = key(), key(), key(), key()
ALL = {
    "HITLESS_VIEWER_KEY": VIEWER,
    "HITLESS_OPERATOR_KEY": OPERATOR,
    "HITLESS_OWNER_KEY": OWNER,
}


@pytest.mark.parametrize(
    ("environ", "needs", "sent"),
    [
        ({"HITLESS_KEY": OWN, **ALL}, Needs.OWNER, OWN),
        (ALL, Needs.VIEWER, VIEWER),
        (ALL, Needs.OPERATOR, OPERATOR),
        (ALL, Needs.OWNER, OWNER),
        ({"HITLESS_OWNER_KEY": OWNER}, Needs.VIEWER, OWNER),
        ({"HITLESS_VIEWER_KEY": VIEWER, "HITLESS_OPERATOR_KEY": ""}, Needs.OPERATOR, VIEWER),
        ({"HITLESS_OPERATOR_KEY": OPERATOR, "HITLESS_VIEWER_KEY": VIEWER}, Needs.OWNER, OPERATOR),
        ({"HITLESS_OWNER_KEY": f"{OWNER}\n{OWN}"}, Needs.OWNER, OWNER),
    ],
    ids=range(8),
)
def test_the_weakest_key_that_may_do_it_is_sent(environ, needs, sent, server):
    """
    `HITLESS_KEY` before all; where none may do it, the strongest: the server says what is wrong.
    """
    assert SETTINGS == settings(environ, server.url, needs=needs)
    assert [f"Bearer {sent}"] == server.keys


def test_the_variables_are_the_servers():
    """
    What `hitless serve --new-keys` prints can be exported as it is.
    """
    roles = [BOOTSTRAP_VARIABLES[name] for name in calls._VARIABLES]

    assert [KeyRole.VIEWER, KeyRole.OPERATOR, KeyRole.OWNER] == roles
    assert [need.name.lower() for need in Needs] == roles


def test_a_key_may_be_kept_in_a_file(server, tmp_path):
    """
    With or without a line's end.
    """
    (tmp_path / "key").write_text(f"{OWN}\n")

    settings({"HITLESS_KEY_FILE": str(tmp_path / "key")}, server.url)

    assert [f"Bearer {OWN}"] == server.keys


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({}, "no key: set HITLESS_KEY"),
        ({"HITLESS_KEY": "  "}, "no key: set HITLESS_KEY"),
        ({"HITLESS_KEY": "hunter2"}, r"\$HITLESS_KEY holds no key"),
        ({"HITLESS_KEY": f"{OWN}\x00"}, r"\$HITLESS_KEY holds no key"),
        ({"HITLESS_KEY": OWN, "HITLESS_KEY_FILE": "x"}, "both set"),
        ({"HITLESS_KEY_FILE": "/nowhere/key"}, "/nowhere/key: No such file"),
    ],
)
def test_without_a_good_key_nothing_is_sent(environ, said, server):
    """
    The message says where it looked, and never what was there.
    """
    with pytest.raises(ConfigError, match=said) as caught:
        settings(environ, server.url)

    assert "hunter2" not in str(caught.value)
    assert OWN not in str(caught.value)
    assert [] == server.calls


# --- The address ---


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("live.example.com", r"must be http\(s\)://"),
        ("ftp://live.example.com", r"must be http\(s\)://"),
        ("http://[::1", r"must be http\(s\)://"),
        ("https://live.example.com:99999", r"must be http\(s\)://"),
        ("https://live.example.com\n.evil", r"must be http\(s\)://"),
        ("https://me:hunter2@live.example.com", "no user"),
        ("https://live.example.com?key=hunter2", "no user"),
        ("http://live.example.com", "live.example.com in clear"),
        ("http://127.0.0.1.example.com", "in clear"),
        ("http://localhost.example.com", "in clear"),
        ("http://10.0.0.1:8080", "in clear"),
    ],
)
def test_a_bad_address_is_refused_before_anything_is_sent(url, said):
    """
    A key goes in clear to this machine only; a password in the address is not quoted.
    """
    with pytest.raises(ConfigError, match=said) as caught:
        settings({"HITLESS_KEY": KEY}, url)

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1", "http://127.8.9.1:1/", "http://[::1]:1", "http://localhost:1"]
)
def test_this_machine_may_be_asked_in_clear(url):
    """
    And a slash at the end does no harm.
    """
    assert url.rstrip("/") == Server(url, {}).url


def test_another_machine_may_be_asked_in_clear_if_one_says_so():
    """
    The operator knows his network.
    """
    assert "http://10.0.0.1:8080" == Server("http://10.0.0.1:8080", {}, allow_http=True).url


def test_the_option_beats_the_variable_wherever_it_stands(server, run, monkeypatch):
    """
    Before or behind a subcommand's name.
    """
    monkeypatch.setenv("HITLESS_SERVER", "http://127.0.0.1:1")

    assert 0 == run("providers", "--server", server.url, "show", "agora")[0]
    assert 0 == run("providers", "agora", "--server", server.url)[0]
    assert 1 == run("providers", "agora")[0]


def test_a_name_is_one_segment_of_a_path():
    """
    Whatever it holds.
    """
    assert "..%2F..%2Fv1%2Fend%3F" == segment("../../v1/end?")


# --- What the server refuses ---


@pytest.mark.parametrize(
    ("refusal", "status", "said"),
    [
        ((400, "impossible", "weight is not possible"), 2, "hitless: weight is not possible"),
        ((401, "bad-key", "no such key"), 2, "does not accept the key in $HITLESS_KEY: no such"),
        ((403, "forbidden", "it is a viewer key"), 2, "an operator's key is needed: set HITLESS"),
        ((404, "unknown-stream", "no stream"), 2, "no stream (see `hitless streams`)"),
        ((404, "not-found", "Not Found"), 2, "is the server older than this?"),
        ((409, "in-use", "agora carries 2 streams"), 1, "hitless: agora carries 2 streams"),
        ((429, "too-often", "too many requests: wait 1.0 s"), 1, "wait 1.0 s"),
        ((500, "internal", "this is a defect"), 1, "this is a defect"),
        ((503, "store-lost", "disk full"), 1, "the server cannot do it now: disk full"),
        ((409, "x", "red \x1b[31m alert\r\n"), 1, "hitless: red [31m alert"),
    ],
)
def test_a_refusal_is_one_line_with_what_to_do(refusal, status, said, server, run):
    """
    2 where what was asked for is impossible or not allowed, 1 where it failed.
    """
    server.answers["POST", "/v1/admin/end"] = refusal

    found, out, err = run("end", "show")

    assert (status, "") == (found, out)
    assert said in err
    assert 1 == err.count("\n")
    assert "\x1b" not in err


@pytest.mark.parametrize(
    ("raw", "status", "said"),
    [
        ((502, b"<html>Bad Gateway</html>"), 1, "answers HTTP 502 to /v1/admin/settings"),
        ((200, b"<html>hello</html>"), 1, "answers something else"),
        ((200, b'{"success": true, "data": {"mode": "wild"}}'), 1, "answers something else"),
        ((200, b""), 1, "answers something else"),
        ((307, b""), 2, "sends us elsewhere"),
    ],
)
def test_what_is_no_hitless_server_is_said_so(raw, status, said, server, run):
    """
    A proxy's own page, another service, a redirect: none of them is followed or believed.
    """
    server.raw = raw

    found, out, err = run("settings")

    assert (status, "") == (found, out)
    assert said in err
    assert 1 == len(server.calls)


def test_an_answer_without_end_is_cut(server, monkeypatch):
    """
    Memory is bounded.
    """
    monkeypatch.setattr(calls, "ANSWER_BYTES_MAX", 1000)
    server.raw = (200, b" " * 100_000)

    with pytest.raises(CallFailed, match="answers more than"):
        settings({"HITLESS_KEY": KEY}, server.url)


# --- No answer ---


@contextmanager
def listening(backlog=1):
    """Listen and accept nobody by itself."""
    with closing(socket.create_server(("127.0.0.1", 0), backlog=backlog)) as listener:
        listener.settimeout(5)
        yield listener, f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_nothing_listens(run, monkeypatch):
    """
    The commonest of all: it does not run, or elsewhere.
    """
    with listening() as (_, url):
        pass
    monkeypatch.setenv("HITLESS_KEY", KEY)

    status, out, err = run("providers", "--server", url)

    assert (1, "") == (status, out)
    assert f"nothing listens at {url}: is it running? Start it with `hitless serve`" in err


def test_a_server_that_is_silent_is_given_up():
    """
    After the limit; what was sent may have been done, and the message says so.
    """
    with listening() as (_, url):
        silent = Server(url, {"HITLESS_KEY": KEY})

        with pytest.raises(CallFailed, match=r"within 0.1 s; it may have been done all the same"):
            silent.ask(Nothing, "POST", "/v1/admin/end", body={}, limit_s=0.1)
        with pytest.raises(CallFailed, match=r"within 0.1 s$"):
            silent.ask(Nothing, "GET", "/v1/stream", limit_s=0.1)


@pytest.mark.parametrize(
    ("answer", "said"), [(b"", "hung up"), (b"SSH-2.0-x\r\n\r\n", "does not speak HTTP")]
)
def test_a_peer_that_is_no_http_server_is_said_so(answer, said):
    """
    It hangs up, or speaks something else.
    """
    with listening() as (listener, url):

        def once():
            peer, _ = listener.accept()
            with peer:
                peer.settimeout(5)
                peer.recv(1 << 16)
                peer.sendall(answer)

        thread = threading.Thread(target=once)
        thread.start()
        try:
            asked = Server(url, {"HITLESS_KEY": KEY})  # by a POST: a GET would be tried again
            with pytest.raises(CallFailed, match=said):
                asked.ask(Nothing, "POST", "/v1/admin/end", body={}, limit_s=5)
        finally:
            thread.join(10)


def test_https_to_a_server_without_tls_is_said_so(server):
    """
    The other commonest of all.
    """
    with pytest.raises(CallFailed, match="does not speak TLS: begin the address with http://"):
        settings({"HITLESS_KEY": KEY}, server.url.replace("http", "https"))


@pytest.fixture
def private(tmp_path):
    """Return the file of a certificate that nobody signed, and TLS that shows it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder(subject_name=name, issuer_name=name, public_key=key.public_key())
        .serial_number(1)
        .not_valid_before(datetime(2020, 1, 1))
        .not_valid_after(datetime(2120, 1, 1))
        .add_extension(here, critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    file = tmp_path / "certificate.pem"
    file.write_bytes(certificate.public_bytes(pem))
    (tmp_path / "key.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(file, tmp_path / "key.pem")
    return file, tls


def test_a_private_certificate_is_trusted_if_one_says_so(private):
    """
    By the variable that the message names; else no key is sent.
    """
    file, tls = private
    with standing(tls) as server:
        with pytest.raises(CallFailed, match=r"is not trusted: .* set SSL_CERT_FILE"):
            settings({"HITLESS_KEY": KEY}, server.url)
        assert [] == server.calls

        done = subprocess.run(  # a process of its own: certificates are read once
            [sys.executable, "-m", "hitless", "settings", "--server", server.url],
            env={**os.environ, "HITLESS_KEY": KEY, "SSL_CERT_FILE": str(file)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert 0 == done.returncode, done.stderr
        assert 1 == len(server.calls)


def test_no_server_is_asked_for_help_or_a_record(run, monkeypatch, tmp_path):
    """
    A wrong address hinders only who asks it; other commands do not mind its variables.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HITLESS_SERVER", "nonsense")
    monkeypatch.setenv("HITLESS_KEY", "nonsense")

    assert 0 == run("config", "--json")[0]
    assert "cannot read gone.jsonl" in run("why", "show", "--record", "gone.jsonl")[2]
    assert "the server's address must be" in run("why", "show")[2]


def test_settings_come_as_json_or_words(server, run):
    """
    The same facts.
    """
    assert (
        SETTINGS.default_provider == json.loads(run("settings", "--json")[1])["default_provider"]
    )
    assert "default provider  agora" in run("settings")[1]
