"""hitless.server.api_clients, api_admin and app: what callers ask, and what they are told."""

import pytest
from unit.server.api import Api

from hitless.server import app as apps
from hitless.server.keys import KeyRole


pytestmark = pytest.mark.filterwarnings(
    "ignore::litestar.exceptions.LitestarDeprecationWarning"  # it speaks of Litestar 3
)

CLIENT = KeyRole.CLIENT
SHOW = {"stream": "show", "client": "studio"}


@pytest.fixture
def api(tmp_path):
    with Api(tmp_path / "hitless.db") as api:
        yield api


# --- The two public endpoints ---


def test_the_list_has_the_promised_shape_and_nothing_more(api):
    assert api.call("GET", "/streaming/providers", key=CLIENT) == {
        "providers": [
            {
                "name": name,
                "isActive": True,
                "priority": n,
                "config": {"url": f"http://127.0.0.1:9/{name}/whip", "adapter": "whip"},
            }
            for n, name in enumerate(("one", "two"), start=1)
        ]
    }


def test_the_list_names_the_default_once_there_is_one(api):
    api.call("PATCH", "/v1/admin/providers/two", {"is_default": True})

    assert api.call("GET", "/streaming/providers", key=CLIENT)["default"] == "two"


def test_health_without_a_key_says_three_things(api):
    found = api.call("GET", "/streaming/providers/one/health", key=None)

    assert found == {"healthy": True, "provider": "one", "status": "active"}


def test_health_with_a_key_says_why(api):
    found = api.call("GET", "/streaming/providers/one/health", key=CLIENT)

    assert found["grade"] == "unknown"
    assert found.keys() > {"because", "latency_s", "uptime", "error_rate", "failures"}


@pytest.mark.parametrize("name", ["none", "a" * 3000, "%00", "%ff", "..%2f..", "🦆"])
def test_the_health_of_an_unknown_provider_is_404(name, api):
    api.call("GET", f"/streaming/providers/{name}/health", key=None, status=404)


# --- Streams ---


def test_a_stream_is_started_joined_left_and_ended(api):
    plan, seen = api.publish(), api.watch()

    assert (plan["epoch"], plan["provider"], plan["order"]) == (1, "one", ["one", "two"])
    assert (seen["epoch"], seen["provider"], seen["role"]) == (1, "one", "viewer")
    assert api.call("GET", "/v1/stream?stream=show")["viewers"] == 1
    api.call("POST", "/v1/leave", {"stream": "show", "client": "phone"}, key=CLIENT)
    assert api.call("GET", "/v1/stream?stream=show")["viewers"] == 0
    api.call("POST", "/v1/end", SHOW, key=CLIENT)
    assert api.call("GET", "/v1/streams")["streams"] == []
    assert api.call("GET", "/v1/streams?ended=true")["streams"][0]["state"] == "ended"


def test_only_its_publisher_ends_a_stream(api):
    api.publish()

    error = api.call("POST", "/v1/end", {**SHOW, "client": "x"}, key=CLIENT, status=404)

    assert error["code"] == "unknown-stream"
    assert api.call("GET", "/v1/stream?stream=show")["state"] == "starting"


def test_pages_of_streams_follow_one_another(api):
    for n in range(3):
        api.publish(f"show-{n}")

    first = api.call("GET", "/v1/streams?limit=2")
    second = api.call("GET", f"/v1/streams?limit=2&after={first['next']}")

    found = [one["stream"] for one in first["streams"] + second["streams"]]
    assert (found, second["next"]) == (["show-0", "show-1", "show-2"], "")


# --- What is wrong is told, and changes nothing ---

BAD_TEXTS = ["\0", "a\x1b[2J", "b\nb", "\x9b", "x" * 4000]
"""NUL, which PostgreSQL cannot store; what would write elsewhere on a terminal; and too much."""


@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        ("POST", "/v1/start", SHOW, "stream"),
        ("POST", "/v1/start", SHOW, "client"),
        ("POST", "/v1/end", SHOW, "because"),
        ("POST", "/v1/leave", SHOW, "stream"),
        ("POST", "/v1/exchange", {"client": "studio"}, "client"),
        ("POST", "/v1/admin/move", {"stream": "show"}, "stream"),
        ("POST", "/v1/admin/move", {"stream": "show"}, "because"),
        ("POST", "/v1/admin/move", {"source": "one"}, "source"),
        ("POST", "/v1/admin/end", {"stream": "show"}, "stream"),
        ("POST", "/v1/admin/end", {"stream": "show"}, "because"),
        ("POST", "/v1/admin/check", {}, "provider"),
        ("PATCH", "/v1/admin/settings", {"is_frozen": True}, "because"),
        ("PATCH", "/v1/admin/providers/one", {}, "adapter"),
        ("POST", "/v1/admin/keys", {"role": "publisher", "scope": "show"}, "name"),
        ("POST", "/v1/admin/keys", {"role": "publisher", "scope": "show"}, "scope"),
        ("POST", "/v1/admin/keys", {"role": "publisher", "scope": "show"}, "role"),
    ],
)
def test_a_text_that_cannot_be_is_refused_by_the_name_of_its_field(method, path, body, field, api):
    key = KeyRole.OWNER if "/admin/" in path else CLIENT
    for text in BAD_TEXTS:
        error = api.call(method, path, {**body, field: text}, key=key, status=400)

        assert field in error["message"]
        assert text not in error["message"]


@pytest.mark.parametrize("group", ["\0", "x" * 4000])
def test_a_group_that_cannot_be_stored_is_refused(group, api):
    error = api.call("POST", "/v1/start", {**SHOW, "group": group}, key=CLIENT, status=400)

    assert "group" in error["message"]


@pytest.mark.parametrize("words", [["x" * 65], [""], ["a\0"], ["a"] * 65])
@pytest.mark.parametrize("field", ["adapters", "codecs"])
def test_adapters_and_codecs_are_short_words(field, words, api):
    error = api.call("POST", "/v1/join", {**SHOW, field: words}, key=CLIENT, status=400)

    assert field in error["message"]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("streams?limit=0", "limit"),
        ("streams?limit=1e9", "limit"),
        ("streams?provider=%00", "provider"),
        ("streams?after=%00", "after"),
        (f"streams?after={'x' * 300}", "after"),
        ("stream?stream=%00", "stream"),
        ("stream", "stream"),
        ("admin/audit?since_s=nan", "since_s"),
        ("admin/audit?since_s=inf", "since_s"),
        ("admin/audit?before=99999999999999999999", "before"),
        ("admin/audit?before=-1", "before"),
        ("admin/audit?who=%00", "who"),
        ("admin/audit?target=%00", "target"),
    ],
)
def test_a_query_that_cannot_be_is_refused_by_the_name_of_its_field(query, field, api):
    error = api.call("GET", f"/v1/{query}", status=400)

    assert field in error["message"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"priority": 10**30}, "priority"),
        ({"priority": -(10**7)}, "priority"),
        ({"weight": -1}, "weight"),
        ({"weight": 1e300}, "weight"),
        ({"starts_per_s": 0}, "starts_per_s"),
        ({"config": {"url": 5}}, "url"),
        ({"config": {"url": "ftp://x"}}, "url"),
        ({"config": {"url": "https://x", "first_media_s": "soon"}}, "first_media_s"),
        ({"config": {"url": "https://x", "silence_s": -1}}, "silence_s"),
        ({"config": {"url": "https://x", "colour": "red"}}, "colour"),
        ({"config": {"url": "https://x", "self_view": "sometimes"}}, "self_view"),
        ({"config": {}}, "url"),
        ({"config": {str(n): n for n in range(65)}}, "config"),
        ({"config": {"url": "https://x", "probe": ["control"]}}, "probe"),
        ({"config": {"url": "https://x", "max_streams": True}}, "max_streams"),
        ({"config": {"url": "https://x", "token": "t"}}, "token is a secret"),
        ({"config": {"url": "https://u:p@x"}}, "secret"),
        ({"secrets": {"colour": "red"}}, "colour"),
        ({"adapter": "none-such"}, "none-such"),
    ],
)
def test_an_impossible_provider_is_refused_and_stays_as_it_was(change, field, api):
    before = api.call("GET", "/v1/admin/providers")

    error = api.call("PATCH", "/v1/admin/providers/one", change, status=400)

    assert field in error["message"]
    assert api.call("GET", "/v1/admin/providers") == before


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nul",
        b"\xff\xfe",
        b'{"stream": "\\ud800", "client": "x"}',
        b'{"stream": NaN, "client": "x"}',
        b'{"stream": 1e999, "client": "x"}',
        b"[" * 100_000,
        b'{"stream": "show", "client": "studio", "x": ' + b"[" * 100_000,
        b"[]",
        b'"show"',
    ],
)
def test_what_is_no_object_of_ours_is_a_bad_request(body, api):
    error = api.call("POST", "/v1/start", body, key=CLIENT, status=400)

    assert error["code"] == "bad-request"
    assert error["message"]


def test_a_body_without_end_is_cut_off(api):
    error = api.call("POST", "/v1/start", b" " * (apps.BODY_BYTES_MAX + 1), key=CLIENT, status=413)

    assert error["code"] == "too-long"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/none/such", 404, "not-found"),
        ("PUT", "/v1/start", 405, "method-not-allowed"),
    ],
)
def test_what_is_not_there_is_told_in_the_same_envelope(method, path, status, code, api):
    assert api.call(method, path, status=status)["code"] == code


def test_while_the_store_is_away_callers_are_asked_to_come_back(api):
    api.database.is_up = False

    answer = api.run(api.ask("POST", "/v1/start", SHOW, key=CLIENT))

    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert answer.json()["error"]["code"] == "store-lost"
    assert api.call("GET", "/streaming/providers", key=CLIENT)["providers"]


def test_a_node_without_its_store_says_that_it_is_not_ready(api):
    assert api.run(api.ask("GET", "/readyz", key=None)).text == "ok"
    api.node._lost["poll"] = "the disk is full"

    answer = api.run(api.ask("GET", "/readyz", key=None))

    assert (answer.status_code, answer.text) == (503, "degraded: the disk is full")
    assert api.run(api.ask("GET", "/livez", key=None)).text == "ok"


def test_a_defect_is_logged_and_not_quoted(api, monkeypatch, capsys):
    def broken(**_):
        raise RuntimeError("inner words")

    monkeypatch.setattr(api.node.providers, "listed", broken)

    error = api.call("GET", "/streaming/providers", key=CLIENT, status=500)

    assert error == {"code": "internal", "message": "this is a defect: see the server's log"}
    assert "inner words" in capsys.readouterr().out
