"""hitless.server.api_admin and api_providers: what operators ask, and what they are told."""

import pytest
from unit.server.api import SECRET, Api, whip


pytestmark = pytest.mark.filterwarnings(
    "ignore::litestar.exceptions.LitestarDeprecationWarning"  # it speaks of Litestar 3
)


@pytest.fixture
def api(tmp_path):
    with Api(tmp_path / "hitless.db") as api:
        yield api


def test_what_a_provider_carries_is_counted_in_every_answer_about_it(api):
    api.publish()
    api.watch()
    api.watch(client="tablet")
    for client in ("phone", "tablet"):
        api.node.coordinator.seen(_Someone(client), "show", 1, "one")
    api.run(api.node.coordinator.flush())

    listed = api.call("GET", "/v1/admin/providers")[0]
    changed = api.call("PATCH", "/v1/admin/providers/one", {"weight": 2.0})
    added = api.call("POST", "/v1/admin/providers/one", {}, status=201)

    for found in (listed, changed, added):
        assert (found["streams"], found["viewers"]) == (1, 2)


class _Someone:
    """Who is connected."""

    def __init__(self, client):
        self.client = client


def test_the_default_provider_is_marked_in_every_answer_about_it(api):
    assert api.call("PATCH", "/v1/admin/providers/two", {"is_default": True})["is_default"]
    found = {one["name"]: one["is_default"] for one in api.call("GET", "/v1/admin/providers")}
    assert found == {"one": False, "two": True}

    api.call("PATCH", "/v1/admin/providers/two", {"is_default": False})
    assert not any(one["is_default"] for one in api.call("GET", "/v1/admin/providers"))


def test_a_provider_can_be_checked_right_after_it_was_added(api):
    api.call("POST", "/v1/admin/providers/new", whip("new"), status=201)

    (found,) = api.call("POST", "/v1/admin/check", {"provider": "new"})

    assert (found["provider"], found["ok"], found["is_ours"]) == ("new", False, True)


def test_a_provider_that_carries_something_is_not_deleted(api):
    api.publish()

    error = api.call("DELETE", "/v1/admin/providers/one", status=409)

    assert error["message"] == "one carries 1 stream: drain it first"
    api.call("DELETE", "/v1/admin/providers/two")
    api.call("DELETE", "/v1/admin/providers/two", status=404)


def test_a_change_that_meets_another_one_is_a_conflict(api, monkeypatch):
    async def lost(*args, **kwargs):
        return None

    monkeypatch.setattr(api.node.store.providers, "put", lost)

    assert api.call("PATCH", "/v1/admin/providers/one", {}, status=409)["code"] == "conflict"


def test_a_stream_is_moved_and_the_log_says_by_whom(api):
    api.publish()

    api.call("POST", "/v1/admin/move", {"stream": "show", "because": "a test"})

    found = api.call("GET", "/v1/stream?stream=show")
    assert (found["provider"], found["epoch"], found["because"]) == ("two", 2, "a test")
    (entry,) = api.call("GET", "/v1/admin/audit?target=show")
    assert (entry["what"], entry["because"]) == ("stream.moved", "a test")
    assert entry["who"] != api.node.config.name
    assert entry["before"] == {"provider": "one", "epoch": 1}
    assert entry["after"] == {"provider": "two", "epoch": 2}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"source": "one", "share": 0}, 400),
        ({"source": "one", "share": 1.5}, 400),
        ({"stream": "none"}, 404),
        ({"stream": "show", "provider": "none"}, 404),
    ],
)
def test_a_move_that_makes_no_sense_is_refused(body, status, api):
    api.publish()

    api.call("POST", "/v1/admin/move", body, status=status)

    assert api.call("GET", "/v1/stream?stream=show")["epoch"] == 1


def test_settings_change_by_name_and_are_in_the_log(api):
    found = api.call("PATCH", "/v1/admin/settings", {"share": 50, "mode": "observe"})

    assert (found["share"], found["mode"], found["is_frozen"]) == (50, "observe", False)
    log = api.call("GET", "/v1/admin/audit?limit=2")
    assert {entry["target"] for entry in log} == {"share", "mode"}
    api.call("PATCH", "/v1/admin/settings", {"share": 101}, status=400)


def test_why_a_key_was_made_and_revoked_is_in_the_log(api):
    body = {"role": "operator", "name": "night"}
    made = api.call("POST", "/v1/admin/keys?because=new+on+duty", body, status=201)
    api.call("DELETE", f"/v1/admin/keys/{made['id']}?because=left")

    log = api.call("GET", f"/v1/admin/audit?target={made['id']}")
    assert [("key.revoked", "left"), ("key.made", "new on duty")] == [
        (entry["what"], entry["because"]) for entry in log
    ]


def test_a_key_is_shown_once_and_revoked_for_good(api):
    made = api.new_key("viewer")
    shown = {one["id"]: one for one in api.call("GET", "/v1/admin/keys")}

    assert made["key"].startswith(f"hk_{made['id']}_")
    assert shown[made["id"]]["key"] is None
    api.call("GET", "/v1/streams", key="viewer")
    api.call("DELETE", f"/v1/admin/keys/{made['id']}")
    assert api.call("GET", "/v1/streams", key="viewer", status=401)["code"] == "bad-key"
    assert api.call("DELETE", f"/v1/admin/keys/{made['id']}", status=404)["code"] == "unknown-key"


@pytest.mark.parametrize(
    "body",
    [
        {"role": "king"},
        {"role": "publisher"},
        {"role": "owner", "scope": "show"},
        {"role": "viewer", "life_s": 0},
        {"role": "viewer", "life_s": 1e12},
    ],
)
def test_a_key_that_makes_no_sense_is_not_made(body, api):
    api.call("POST", "/v1/admin/keys", body, status=400)

    assert api.call("GET", "/v1/admin/keys") == []


@pytest.mark.parametrize(
    "path",
    [
        "/v1/admin/providers",
        "/v1/admin/audit",
        "/v1/admin/settings",
        "/v1/admin/keys",
        "/v1/streams",
        "/streaming/providers/one/health",
        "/metrics",
    ],
)
def test_no_answer_to_an_owner_holds_a_secret_of_a_provider(path, api):
    api.publish()

    answer = api.run(api.ask("GET", path))

    assert answer.status_code == 200
    assert SECRET not in answer.text


def test_how_deep_a_provider_is_probed_and_what_that_costs_is_shown(api):
    """
    A canary is not free: 6.4 s of media every 300 s are 921.6 minutes in 30 days.
    """
    price = {"per_minute": 0.01, "currency": "EUR"}
    shown = api.call("PATCH", "/v1/admin/providers/one", {"price": price})
    whole = api.call("GET", "/v1/admin/providers")[0]["config"]
    config = {**whole, "probe": "control"}
    less = api.call("PATCH", "/v1/admin/providers/one", {"config": config})

    assert (shown["probed"], shown["canary_s"], shown["canary_cost"]) == ("end_to_end", 300, 9.216)
    assert (less["probed"], less["canary_s"], less["canary_cost"]) == ("control", None, None)


def test_usage_of_a_month_that_is_none_is_refused(api):
    """
    The current month needs no name.
    """
    assert {one["provider"] for one in api.call("GET", "/v1/admin/usage")} == {"one", "two"}
    api.call("GET", "/v1/admin/usage?month=2026-13", status=400)
    assert api.call("GET", "/v1/admin/history?provider=one&since=60") == []
    api.call("GET", "/v1/admin/history?provider=nobody", status=404)


def test_a_move_that_leaves_too_many_viewers_behind_is_refused_with_the_number(api):
    """
    They said what they can open; who said nothing can open everything.
    """
    api.publish()
    api.watch()
    api.watch(client="old-tv", adapters=["agora"])
    api.watch(client="new-tv", adapters=["agora", "whip"])

    refused = api.call("POST", "/v1/admin/move", {"stream": "show", "provider": "two"}, status=409)

    assert refused["code"] == "unreachable"
    assert refused["message"].startswith("1 of 3 viewers cannot open two")
    assert api.call("GET", "/v1/stream?stream=show")["viewers"] == 3
