"""hitless audit, hitless incident, hitless why: what was done, told from a server."""

from __future__ import annotations

import json
import re
import secrets

import msgspec
import pytest
from unit.cli.stand_in import AGORA, SHOW, entry

from hitless.cli.history import difference, redacted
from hitless.cli.words import ago
from hitless.server import wire


def log_of(*entries):
    """Return what answers questions about the audit log, as the API does."""

    def answer(query):
        found = [
            one
            for one in sorted(entries, key=lambda one: -int(one.id))
            if query.get("target") in (None, one.target)
            and one.at_s >= float(query.get("since_s", 0))
            and int(one.id) < int(query.get("before", 1 << 60))
        ]
        return found[: int(query["limit"])]

    return answer


# --- hitless audit ---


def test_the_log_is_told_line_by_line(server, run):
    """
    The newest first: when, who, what, to what, what changed, why.
    """
    before, after = {"priority": 1, "is_active": True}, {"priority": 5, "is_active": True}
    server.answers["GET", "/v1/admin/audit"] = log_of(
        entry(1),
        entry(2, what="provider.changed", target="agora", before=before, after=after, because=""),
    )

    status, out, _ = run("audit")

    assert 0 == status
    head, changed, moved = (re.split(r" {2,}", line) for line in out.splitlines())
    assert ["when", "who", "what", "target", "change", "because"] == head
    assert ["k1", "provider.changed", "agora", "priority 1 -> 5", "-"] == changed[1:]
    assert ["k1", "stream.moved", "show", "-", "asked for"] == moved[1:]


def test_a_long_log_is_read_page_by_page(server, run):
    """
    To the limit and no further.
    """
    server.answers["GET", "/v1/admin/audit"] = log_of(*map(entry, range(1, 2501)))

    found = json.loads(run("audit", "--limit", "2400", "--json")[1])

    assert [str(number) for number in range(2500, 100, -1)] == [one["id"] for one in found]
    assert [1000, 1000, 400] == [int(query["limit"]) for _, _, query, _ in server.calls]


def test_the_log_can_be_narrowed(server, run):
    """
    By what it was done to, and by time: the old is left out by the server.
    """
    server.answers["GET", "/v1/admin/audit"] = log_of(entry(1))

    assert (0, "", "nothing was done\n") == run("audit", "--target", "other")
    assert (0, "", "nothing was done\n") == run("audit", "--since", "1h")
    assert "stream.moved" in run("audit", "--target", "show")[1]


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (None, None, "-"),
        ({"a": 1}, None, "-"),
        (None, {"target": "other", "share": 0.5}, "target other, share 0.5"),
        (None, dict.fromkeys("abcd", 1), "-"),
        ({"default": ""}, {"default": "agora"}, "default none -> agora"),
        ({"is_drained": False}, {"is_drained": True}, "is_drained false -> true"),
        ({"config": {"url": "x", "a": 1}}, {"config": {"url": "x"}}, "config.a 1 -> none"),
        ({"secrets": []}, {"secrets": ["token"]}, "secrets none -> token"),
        ({"secrets": ["a", "b"]}, {"secrets": ["a (changed)"]}, "secrets a, b -> a (changed)"),
        ({"a": "x" * 40}, {"a": "y"}, f"a {'x' * 29}… -> y"),
        ({"epoch": 1}, {"epoch": 2, "provider": "b"}, "epoch 1 -> 2, provider b"),
        ({"config": {}}, {"config": {"a": 1}}, "config.a none -> 1"),
        (
            dict.fromkeys("abcde", 1),
            dict.fromkeys("abcde", 2),
            "a 1 -> 2, b 1 -> 2, c 1 -> 2, 2 more",
        ),
    ],
)
def test_a_change_is_said_in_a_few_words(before, after, said):
    """
    Everything is in `--json`.
    """
    assert said == difference(entry(1, before=before, after=after))


# --- hitless incident ---


@pytest.fixture
def troubled(server):
    """Return a stand-in after a bad hour."""
    over = msgspec.structs.replace(SHOW, stream="over", state="ended", changed_ago_s=60.0)
    old = msgspec.structs.replace(over, stream="old", changed_ago_s=7200.0)
    server.answers["GET", "/v1/streams"] = lambda query: wire.StreamList(
        streams=[over, old] if query["ended"] == "true" else [SHOW], next=""
    )
    server.answers["GET", "/v1/admin/audit"] = lambda query: [
        entry(7, because="probe of wss://u:hunter2@x.example.com/a?token=hunter2 failed")
    ]
    return server


def test_an_incident_is_one_document(troubled, run, tmp_path):
    """
    Settings, providers, streams that are on or changed since, and the log; to a file or printed.
    """
    status, out, err = run("incident", "--since", "1h", "--output", "incident.json")
    assert (0, "") == (status, out)
    assert "incident.json: 1 audit entries, 2 streams" in err

    document = json.loads((tmp_path / "incident.json").read_text())
    assert {
        "format", "version", "server", "made_s", "since_s", "is_complete", "settings", "providers",
        "streams", "audit", "judged",
    } == document.keys()  # fmt: skip
    assert ["show", "over"] == [one["stream"] for one in document["streams"]]
    assert 3600 == pytest.approx(document["made_s"] - document["since_s"])
    assert document["is_complete"]
    assert 0o600 == (tmp_path / "incident.json").stat().st_mode & 0o777

    printed = json.loads(run("incident")[1])
    assert document["audit"] == printed["audit"]
    assert "hunter2" not in json.dumps(document)


def test_an_incident_holds_what_the_server_judged_and_an_older_server_has_nothing(troubled, run):
    """
    The time that was asked for goes along.
    """
    before = json.loads(run("incident")[1])
    judged = wire.Judged(node="n1", version="1", zero_s=0.0, recording={"format": 1})
    troubled.answers["GET", "/v1/admin/recording"] = judged

    after = json.loads(run("incident", "--since", "30m")[1])

    assert before["judged"] is None
    assert after["judged"] == msgspec.to_builtins(judged)
    asked = [call for call in troubled.calls if call[1] == "/v1/admin/recording"]
    assert asked[-1][2] == {"since": "1800.0"}


def test_an_incident_that_is_too_large_says_so(troubled, run, monkeypatch):
    """
    It is bounded, and nobody takes a part for the whole.
    """
    monkeypatch.setattr("hitless.cli.history.INCIDENT_ENTRIES_MAX", 2)
    troubled.answers["GET", "/v1/admin/audit"] = log_of(
        *(msgspec.structs.replace(entry(n), at_s=4e9) for n in (1, 2, 3))
    )

    document = json.loads(run("incident", "--since", "1d")[1])

    assert ["3", "2"] == [one["id"] for one in document["audit"]]
    assert not document["is_complete"]


KEY = f"hk_3f9c1b2a_{secrets.token_urlsafe(32)}"
JWT = "eyJhbGciOiJIUzI1NiJ9." + secrets.token_urlsafe(20) + "." + secrets.token_urlsafe(20)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (f"sent {KEY} twice", "sent hk_3f9c1b2a_(redacted) twice"),
        (f"token {JWT}!", "token (redacted)!"),
        ("Authorization: Bearer abcdefgh12345", "Authorization: Bearer (redacted)"),
        ("see https://u:p@x.example.com/a?b=c#d.", "see https://x.example.com/a?(redacted)"),
        ("http://[half", "(redacted)"),
        ("https://x.example.com/whip/{stream}", "https://x.example.com/whip/{stream}"),
        ({"token": "x", "app_secret": ["y"]}, {"token": "(redacted)", "app_secret": "(redacted)"}),
        ({"secrets": ["token"], "key": None}, {"secrets": ["token"], "key": None}),
        ([{"a": [f"{KEY}", 1, None, True]}], [{"a": ["hk_3f9c1b2a_(redacted)", 1, None, True]}]),
    ],
    ids=range(9),
)
def test_what_opens_anything_is_taken_out(value, said):
    """
    Names of secrets stay: they tell what was configured.
    """
    assert said == redacted(value)


# --- hitless why ---


def test_why_tells_of_a_stream_and_its_provider(server, run):
    """
    The oldest first, as it happened; and where it is now.
    """
    server.answers["GET", "/v1/admin/audit"] = log_of(
        entry(1, what="provider.added", target="agora", because=""),
        entry(2, because="agora was drained"),
        entry(3, what="provider.changed", target="agora", because="maintenance"),
        entry(4, what="provider.changed", target="elsewhere"),
    )

    status, out, _ = run("why", "show")

    assert 0 == status
    *told, now = out.splitlines()
    assert [
        "provider.added         agora: -",
        "stream.moved           agora was drained",
        "provider.changed       agora: maintenance",
    ] == [line[21:] for line in told]
    assert now == (
        "show: live with agora (epoch 3), media flows, 2 viewers, since 1 h 6 m: "
        "a start was asked for"
    )
    said = json.loads(run("why", "show", "--json")[1])
    assert ["1", "2", "3"] == [one["id"] for one in said["history"]]
    assert msgspec.to_builtins(SHOW) == said["now"]


def test_why_tells_of_a_stream_that_is_gone(server, run):
    """
    The log remembers longer than the table of streams.
    """
    server.answers["GET", "/v1/stream"] = (404, "unknown-stream", "there is no stream 'show'")
    server.answers["GET", "/v1/admin/audit"] = log_of(entry(1))
    assert run("why", "show")[1].endswith("the server does not know it any more\n")

    server.answers["GET", "/v1/admin/audit"] = []
    status, out, err = run("why", "show")
    assert (2, "") == (status, out)
    assert "there is no stream 'show'" in err


def test_why_of_a_refused_key_is_not_taken_for_a_stream_that_is_gone(server, run):
    """
    An error is told as what it is, whatever the log said before.
    """
    server.answers["GET", "/v1/admin/audit"] = log_of(entry(1))
    server.answers["GET", "/v1/stream"] = (401, "bad-key", "this key has expired")

    status, out, err = run("why", "show")

    assert (2, "") == (status, out)
    assert "this key has expired" in err


@pytest.mark.parametrize(
    ("duration_s", "said"),
    [
        (None, "-"),
        (0.4, "0 s"),
        (59.4, "59 s"),
        (60, "1 m 0 s"),
        (3725, "1 h 2 m"),
        (90_000, "1 d 1 h"),
    ],
)
def test_a_duration_is_said_in_its_two_greatest_units(duration_s, said):
    """
    Enough to know what to do.
    """
    assert said == ago(duration_s)


def test_the_providers_of_an_incident_are_as_the_server_shows_them(troubled, run):
    """
    With their verdicts, and of their secrets the names.
    """
    document = json.loads(run("incident")[1])

    assert msgspec.to_builtins(AGORA) == document["providers"][0]
