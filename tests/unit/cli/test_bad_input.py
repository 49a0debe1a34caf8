"""hitless.cli: bad input of commands that would start or change something"""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from unit.cli.stand_in import AGORA

from hitless.server import wire


INCIDENT = Path(__file__).parents[3] / "docs" / "incident" / "publisher.jsonl"


@pytest.fixture
def bare(monkeypatch, tmp_path):
    """Return an empty folder in which commands run, with nothing configured; no lab starts."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("hitless.cli.lab.run_until_interrupted", None)
    for name in ("CONFIG", "DATABASE_URL", "VAULT_KEY", "PLAN_KEY"):
        monkeypatch.delenv(f"HITLESS_{name}", raising=False)
    return tmp_path


# --- serve ---


def test_a_port_that_is_taken_is_one_line_and_makes_nothing(bare, run):
    """
    No keys, no database, no traceback: the port is tried before anything is opened.
    """
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        status, _, err = run("serve", "--listen", f"127.0.0.1:{port}")

    assert 2 == status
    assert err.startswith(f"hitless: cannot listen on 127.0.0.1:{port}: ")
    assert "--listen" in err
    assert 1 == err.count("\n")
    assert [] == list(bare.iterdir())


@pytest.mark.parametrize(
    ("database", "says"),
    [
        (".", "is a folder: give a file in it"),
        ("gone/hitless.db", "there is no folder gone for the database"),
        ("mysql://me:geheim@db/hitless", "no such kind of database"),
    ],
)
def test_what_is_no_database_makes_no_keys_beside_it(bare, run, database, says):
    """
    A URL is not quoted: it may hold a password.
    """
    status, _, err = run("serve", "--check", "--listen", "127.0.0.1:0", "--database", database)

    assert 2 == status
    assert says in err
    assert "geheim" not in err
    assert [] == list(bare.iterdir())


def test_a_certificate_that_is_none_is_found_by_the_check_already(bare, run):
    """
    What would fail at the start fails here.
    """
    (bare / "page.pem").write_text("no certificate")

    status, _, err = run("serve", "--check", "--certificate=page.pem", "--private-key=page.pem")

    assert 2 == status
    assert "page.pem and page.pem cannot be used: give a PEM certificate" in err
    assert ["page.pem"] == [one.name for one in bare.iterdir()]


# --- What is written, and read ---


@pytest.mark.parametrize(
    "words",
    [("publish", "show", "--record", "gone/it"), ("watch", "show", "--to", "gone/it.webm")],
)
def test_a_file_whose_folder_is_not_there_is_refused_before_a_start(bare, run, words):
    """
    Bad input, and not a failure of what was asked for.
    """
    status, _, err = run(*words)

    assert 2 == status
    assert "there is no folder gone" in err


def test_a_record_of_another_stream_is_not_that_it_is_over(run):
    """
    What concerns every stream, as a circuit does, says nothing of one that is not there.
    """
    status, _, err = run("why", "evening-show", "--record", str(INCIDENT))

    assert 2 == status
    assert "knows no stream called 'evening-show'; it has: morning-show" in err


def test_a_film_is_no_record(bare, run):
    """
    The words of a decoder of text help nobody.
    """
    (bare / "show.webm").write_bytes(b"\x1a\x45\xdf\xa3\x9f\n")

    status, _, err = run("why", "show", "--record", "show.webm")

    assert 2 == status
    assert "hitless: show.webm is no record: give a file by --record\n" == err


def test_a_configuration_without_anywhere_to_stream_says_what_is_missing(bare, run):
    """
    It may be a server's, so it is good.
    """
    status, out, _ = run("config", "--check")

    assert 0 == status
    assert "add a [[provider]] table or a [backend]" in out


def test_an_empty_list_of_providers_is_not_the_usual_one(run):
    """
    `--providers "$UNSET"` would rehearse something else than was meant.
    """
    status, _, err = run("drill", "provider-killed", "--providers", "")

    assert 2 == status
    assert "--providers: give names with a comma between them" in err


# --- What a server is told ---


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("usage --month 26", "'26' is no month: write 2026-11"),
        ("usage --month 2026-13", "'2026-13' is no month"),
        ("providers change agora --weight -1", "-1.0 is not in the range x>=0"),
        ("providers change agora --starts-per-s 0", "0.0 is not in the range x>0"),
        ("providers change agora --price per_gb=-1", "--price per_gb=-1: give 0 or more"),
        ("providers change agora --price per_gb=nan", "--price per_gb=nan: give 0 or more"),
        ("providers change agora --price currency=EUR", "give per_minute or per_gb as well"),
        ("providers change agora --no-secret tokn", "there is no tokn to take away"),
        ("streams --provider agoar", "there is no provider 'agoar'"),
    ],
)
def test_what_makes_no_sense_changes_nothing(server, run, words, says):
    """
    One line that says what would.
    """
    server.answers["GET", "/v1/admin/providers"] = [AGORA]
    server.answers["GET", "/v1/streams"] = wire.StreamList(streams=[], next="")

    status, _, err = run(*words.split())

    assert 2 == status
    assert says in err
    assert {"GET"} >= {method for method, *_ in server.calls}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "no stream is on\n"),
        (("--provider", "agora"), "no stream is on agora\n"),
        (("--ended",), "no stream has ended\n"),
        (("--ended", "--provider", "agora"), "no stream has ended on agora\n"),
    ],
)
def test_no_stream_is_said_in_words(server, run, words, says):
    """
    One sentence for each question.
    """
    server.answers["GET", "/v1/streams"] = wire.StreamList(streams=[], next="")
    server.answers["GET", "/v1/admin/providers"] = [AGORA]

    assert (0, "", says) == run("streams", *words)


@pytest.mark.parametrize("stream", ["a\tb", "show\n", "x" * 201, "", "."])
@pytest.mark.parametrize(
    "words",
    [
        ("streams",),
        ("switch",),
        ("end",),
        ("why",),
        ("why", "--record", str(INCIDENT)),
        ("publish",),
        ("watch",),
    ],
    ids=" ".join,
)
def test_what_can_be_no_id_of_a_stream_is_one_line_and_asks_nobody(server, run, words, stream):
    """
    The same sentence from every command, and not that of a decoder.
    """
    status, _, err = run(*words, "--", stream)

    assert 2 == status
    assert err.startswith("hitless: the stream id ")
    assert 1 == err.count("\n")
    assert [] == server.calls


# --- Sources ---


@pytest.mark.parametrize(
    ("source", "shows"),
    [
        ("https://ann:geheim@cam.example.com/live.m3u8?sig=geheim", "https://cam.example.com/..."),
        ("https://ann:ge@heim/x@cam.example.com/live", "https://..."),
        ("https://ann:ge/heim@cam.example.com/live", "https://..."),
        ("rtmp://live.example.com:1935/app/geheim", "rtmp://live.example.com:1935/..."),
        ("rtsp://ann:geheim@[::1]:554", "rtsp://[::1]:554"),
        ("https://ann:geheim", "https://..."),
    ],
)
@pytest.mark.parametrize("command", [("publish", "show"), ("lab",)], ids=" ".join)
def test_an_address_as_source_is_shown_without_what_opens_it(bare, run, command, source, shows):
    """
    It is refused anyway; a terminal's log should not hold a password for that.
    """
    status, out, err = run(*command, "--source", source)

    assert 2 == status
    assert err.startswith(f"hitless: source {shows} is an address, and nothing is fetched")
    assert not any(part in out + err for part in ("geheim", "heim", "ann", "sig"))


@pytest.mark.parametrize("command", [("publish", "show"), ("lab",)], ids=" ".join)
def test_a_source_without_media_is_bad_input_before_anything_starts(bare, run, command):
    """
    One line, and the status of what was asked for wrongly.
    """
    (bare / "notes.txt").write_text("no film\n" * 100)

    status, _, err = run(*command, "--source", "notes.txt")

    assert 2 == status
    assert err.startswith("hitless: cannot play notes.txt: ")
    assert 1 == err.count("\n")


# --- The lab ---


@pytest.mark.parametrize(
    "words",
    [("break", "agroa"), ("break", "agroa", "killed"), ("break", "hang"), ("heal", "agroa")],
)
def test_a_stand_in_that_is_none_is_named_without_a_lab(run, words):
    """
    The list of faults is the answer to another question.
    """
    status, out, err = run("lab", *words)

    assert (2, "") == (status, out)
    assert f"hitless: nothing called {words[1]!r} can be broken: give one of " in err
    assert 1 == err.count("\n")


@pytest.mark.parametrize("name", ["agora", "server", "*"])
def test_what_can_be_broken_lists_its_faults(run, name):
    """
    Without a lab, too.
    """
    status, out, _ = run("lab", "break", name)

    assert 0 == status
    assert "killed" in out
