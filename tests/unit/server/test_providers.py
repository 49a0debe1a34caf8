"""hitless.server.providers: in which order streams are given to them, and what is told of them."""

import asyncio
import collections
import json
from dataclasses import replace

import pytest
from unit.server.api import SECRET, Api, whip

from hitless.core.evidence import Word
from hitless.errors import ConfigError
from hitless.server import providers as module
from hitless.server.judging import RANKS
from hitless.server.keys import KeyRole
from hitless.server.plans import Mint
from hitless.server.providers import SERVER_OPTIONS, Providers, make_adapter, public_config
from hitless.server.store_members import Member, Role
from hitless.server.store_operators import ProviderRow
from hitless.server.store_rows import Audit
from hitless.server.vault import RootKey, Vault


pytestmark = pytest.mark.filterwarnings(
    "ignore::litestar.exceptions.LitestarDeprecationWarning"  # it speaks of Litestar 3
)

STREAMS = [f"stream {n}" for n in range(2000)]


class Judge:
    """Says of each provider what it is told to."""

    def __init__(self):
        self.words = collections.defaultdict(lambda: Word.HEALTHY)
        self.shares = collections.defaultdict(lambda: 1.0)

    def rank(self, name):
        return RANKS[self.words[name]]

    def share(self, name):
        return self.shares[name]


def known(*rows, default=""):
    """Return providers with these rows, each of the name, adapter and priority it says."""
    vault = Vault([RootKey(bytes(range(32)))])
    found = Providers(None, vault, Mint(is_revoked=lambda asker: False), Judge())
    found.rows = {row.name: row for row in rows}
    found.default = default
    return found


def row(name, priority=1, **more):
    """Return a provider's row."""
    return ProviderRow(name=name, adapter=more.pop("adapter", name), priority=priority, **more)


def phone(*adapters, codecs=()):
    """Return a viewer that has these adapters and knows these codecs."""
    return Member(
        stream="s", client="phone", role=Role.VIEWER, node="n", adapters=adapters, codecs=codecs
    )


# --- The order ---


def test_the_lowest_priority_number_goes_first():
    assert known(row("c", 3), row("a", 1), row("b", 2)).order() == ("a", "b", "c")


def test_the_default_goes_before_every_priority():
    assert known(row("a", 1), row("b", 2), row("c", 3), default="c").order() == ("c", "a", "b")


def test_a_default_that_is_gone_changes_nothing():
    assert known(row("a", 1), row("b", 2), default="z").order() == ("a", "b")


@pytest.mark.parametrize("off", [{"is_active": False}, {"is_drained": True}])
def test_what_is_disabled_or_drained_is_given_nothing(off):
    found = known(row("a", 1, **off), row("b", 2), default="a")

    assert found.order() == ("b",)


def test_only_what_a_client_can_open_is_in_its_order():
    found = known(row("a", 1, adapter="whip"), row("b", 2), row("c", 3, adapter="whip"))

    assert found.order([phone("whip")]) == ("a", "c")
    assert found.order([phone("whip", "b")]) == ("a", "b", "c")
    assert found.order([phone("whip", "b"), phone("b")]) == ("b",)
    assert found.order([phone("none")]) == ()


def test_only_what_carries_codecs_that_a_client_knows_is_in_its_order():
    found = known(row("a", 1, adapter="whip"), row("b", 2, adapter="rtmp"), row("c", 3))

    assert found.order([phone(codecs=("VP8", "opus"))]) == ("a", "c")
    assert found.order([phone(codecs=("H264", "AAC"))]) == ("b", "c")
    assert found.order([phone("whip", codecs=("H264", "AAC"))]) == ()


def test_who_does_badly_comes_after_all_who_do_well_and_who_is_down_comes_last():
    found = known(row("a", 1), row("b", 2), row("c", 3), row("d", 4), default="a")
    found._judge.words |= {"a": Word.DOWN, "b": Word.DEGRADED, "c": Word.UNKNOWN}

    assert found.order() == ("c", "d", "b", "a")


def test_within_one_priority_weights_divide_the_streams():
    found = known(row("a", weight=3.0), row("b", weight=1.0), row("c", 2, weight=100.0))

    orders = [found.order(stream=stream) for stream in STREAMS]

    first = collections.Counter(order[0] for order in orders)
    assert first.keys() == {"a", "b"}
    assert 0.70 < first["a"] / len(STREAMS) < 0.80
    assert all(order[2] == "c" for order in orders)


def test_a_weight_of_nothing_is_the_last_choice_of_its_priority():
    found = known(row("a", weight=0.0), row("b", weight=1.0), row("c", 2))

    assert {found.order(stream=stream) for stream in STREAMS[:200]} == {("b", "a", "c")}


def test_one_stream_has_the_same_order_at_every_node_and_every_time():
    rows = row("a", weight=2.0), row("b"), row("c")
    one, other = known(*rows), known(*reversed(rows))

    for stream in STREAMS[:200]:
        assert one.order(stream=stream) == other.order(stream=stream)


def test_one_that_comes_back_gets_its_share_of_the_streams():
    found = known(row("a", 1), row("b", 2))
    found._judge.shares["a"] = 0.25

    first = collections.Counter(found.order(stream=stream)[0] for stream in STREAMS)

    assert 0.20 < first["a"] / len(STREAMS) < 0.30
    assert found.order() == ("a", "b")  # the order that holds for most has no stream to ask for


def test_a_share_that_grows_takes_no_stream_away():
    found = known(row("a", 1), row("b", 2))
    had = set()
    for share in (0.1, 0.25, 0.5, 1.0):
        found._judge.shares["a"] = share
        has = {stream for stream in STREAMS if found.order(stream=stream)[0] == "a"}
        assert had <= has
        had = has

    assert had == set(STREAMS)


@pytest.mark.parametrize(
    ("rows", "because"),
    [
        ((), "no provider is configured"),
        ((row("a", is_active=False),), "a is disabled"),
        ((row("a", is_drained=True),), "a is drained"),
        ((row("a"),), "a is not for it"),
        ((row("a", adapter="whip"),), "a is not for its codecs"),
    ],
)
def test_it_is_told_why_a_stream_has_nowhere_to_go(rows, because):
    assert because in known(*rows).why_nobody([phone("whip", codecs=("AV1", "opus"))])


def test_where_nothing_forbids_it_no_codecs_are_blamed():
    assert "a is not for it" in known(row("a", adapter="whip")).why_nobody()


# --- What is public ---


def test_what_only_the_server_reads_is_no_adapters_and_only_the_fault_domain_is_public():
    config = {name: "x" for name in SERVER_OPTIONS} | {"url": "http://127.0.0.1/whip"}

    assert public_config(row("whip", config=config)) == {
        "url": "http://127.0.0.1/whip",
        "fault_domain": "x",
    }
    found = make_adapter(row("whip", config=config))
    assert found.name == "whip"
    asyncio.run(found.aclose())


def test_the_adapter_is_public_where_the_name_does_not_tell():
    assert public_config(row("mine", adapter="whip")) == {"adapter": "whip"}
    assert public_config(row("whip")) == {}


@pytest.mark.parametrize("fault", [TypeError, ValueError, AttributeError])
def test_an_outsiders_adapter_that_fails_is_called_impossible(fault, monkeypatch):
    def broken(table, config, environ):
        raise fault("s3cr3t")

    monkeypatch.setattr(module, "make_provider", broken)

    with pytest.raises(ConfigError, match=f"provider a: {fault.__name__}") as caught:
        make_adapter(row("a"))
    assert "s3cr3t" not in str(caught.value)


# --- Secrets, over a real store ---


@pytest.fixture
def api(tmp_path):
    with Api(tmp_path / "hitless.db") as api:
        yield api


def test_a_secret_is_in_no_answer_no_log_no_entry_and_no_row(api, tmp_path, capsys):
    changed = api.call("PATCH", "/v1/admin/providers/one", {"secrets": {"view_token": SECRET}})
    error = api.call(
        "PATCH", "/v1/admin/providers/one", {"secrets": {"token_secret": SECRET}}, status=400
    )
    listed = api.call("GET", "/streaming/providers", key=KeyRole.CLIENT)
    log = api.call("GET", "/v1/admin/audit")
    rows = api.run(api.node.store.providers.all())

    assert changed["secrets"] == ["token", "view_token"]
    assert log[0]["after"]["secrets"] == ["token", "view_token"]
    for told in (changed, error, listed, log, repr(rows), [one.secret for one in rows]):
        assert SECRET not in json.dumps(told)
    out = capsys.readouterr()
    assert SECRET not in out.out + out.err
    for file in tmp_path.iterdir():
        assert SECRET.encode() not in file.read_bytes()
    assert api.node.providers.secrets("one")["view_token"] == SECRET


def test_a_secret_that_gets_another_value_is_named_in_the_log_and_its_value_is_not(api):
    """
    The same value given anew is no change.
    """
    given = {"token": "new-1", "view_token": "v"}
    api.call("PATCH", "/v1/admin/providers/one", {"secrets": given})
    api.call("PATCH", "/v1/admin/providers/one", {"secrets": {"token": "new-1"}})

    same, other = api.call("GET", "/v1/admin/audit")[:2]
    assert other["before"]["secrets"] == ["token"]
    assert other["after"]["secrets"] == ["token (changed)", "view_token"]
    assert same["after"]["secrets"] == same["before"]["secrets"] == ["token", "view_token"]
    assert "new-1" not in json.dumps([same, other])


def test_a_secret_that_nobody_can_read_is_changed_by_any_other(api):
    """
    Whether it is the same cannot be known.
    """
    row = api.node.providers.rows["one"]
    broken = replace(row, secret=json.dumps({"token": "sealed by nobody"}))
    audit = Audit(who="k", what="test", target="one", because="")
    api.run(api.node.store.providers.put(broken, audit, wake=""))

    api.call("PATCH", "/v1/admin/providers/one", {"secrets": {"token": "readable"}})

    assert api.call("GET", "/v1/admin/audit")[0]["after"]["secrets"] == ["token (changed)"]


def test_a_price_and_the_default_are_in_the_log_before_and_after(api):
    """
    And a price that is empty is none any more.
    """
    path, price = "/v1/admin/providers/one", {"per_gb": 0.05}
    api.call("PATCH", path, {"price": price, "is_default": True})
    kept = api.call("PATCH", path, {"weight": 2.0})
    gone = api.call("PATCH", path, {"price": {}})

    log = [e for e in api.call("GET", "/v1/admin/audit") if e["what"] == "provider.changed"]
    shown = [(e["before"]["price"], e["after"]["price"]) for e in log]
    assert shown == [(price, None), (price, price), (None, price)]
    shown = [(e["before"]["is_default"], e["after"]["is_default"]) for e in log]
    assert shown == [(True, True), (True, True), (False, True)]
    assert (kept["price"], gone["price"]) == (price, None)
    assert api.run(api.node.store.providers.one("one")).price is None


def test_a_secret_is_removed_by_null_and_the_others_stay(api):
    api.call("PATCH", "/v1/admin/providers/one", {"secrets": {"view_token": "v"}})

    changed = api.call("PATCH", "/v1/admin/providers/one", {"secrets": {"token": None}})

    assert changed["secrets"] == ["view_token"]
    assert api.node.providers.secrets("one") == {"view_token": "v"}


def test_a_secret_in_the_open_part_is_refused_and_not_quoted(api):
    for config in (
        {"url": "https://x/whip", "token": SECRET},
        {"url": f"https://user:{SECRET}@x/whip"},
        {"url": f"https://x/whip?token={SECRET}"},
        {"url": "https://x/whip", "ice_servers": [{"urls": "turn:x", "credential": SECRET}]},
    ):
        error = api.call("PATCH", "/v1/admin/providers/one", {"config": config}, status=400)

        assert "under secrets" in error["message"]
        assert SECRET not in error["message"]


def test_the_plan_of_a_publisher_holds_its_credential_and_the_list_does_not(api):
    plan = api.publish()

    assert plan["credentials"]["one"] == {"token": SECRET, "view_token": SECRET}
    assert SECRET not in json.dumps(api.call("GET", "/streaming/providers", key=KeyRole.CLIENT))


def test_one_whose_secrets_cannot_be_read_does_not_stop_the_others(api):
    api.node.providers._vault.replace([RootKey(bytes(range(1, 33)))])
    api.run(api.node.store.providers.put(
        ProviderRow(name="three", adapter="whip", config={"url": "https://x/whip"}),
        module.Audit(who="t", what="provider.added", target="three", because=""),
    ))  # fmt: skip

    api.run(api.node.providers.refresh())

    assert api.node.providers.faults.keys() == {"one", "two"}
    assert "not here" in api.node.providers.faults["one"]
    plan = api.publish()
    assert plan["credentials"] == {"three": {}}


# --- Changes ---


def test_a_new_provider_comes_last_unless_it_says_otherwise(api):
    three = api.call("POST", "/v1/admin/providers/three", whip("three"), status=201)
    first = api.call("POST", "/v1/admin/providers/zero", whip("zero", priority=-1), status=201)

    assert (three["priority"], first["priority"]) == (3, -1)
    assert api.node.providers.order() == ("zero", "one", "two", "three")


def test_what_is_not_said_stays(api):
    api.call("PATCH", "/v1/admin/providers/one", {"weight": 2.5, "price": {"per_gb": 0.05}})

    found = api.call("PATCH", "/v1/admin/providers/one", {"is_drained": True})

    assert (found["weight"], found["price"]) == (2.5, {"per_gb": 0.05})
    assert found["config"] == {"url": "http://127.0.0.1:9/one/whip"}
    assert found["secrets"] == ["token"]


def test_an_adapter_may_be_named_in_the_config_as_the_public_list_has_it(api):
    body = {"config": {"adapter": "whip", "url": "http://127.0.0.1:9/whip"}}

    found = api.call("POST", "/v1/admin/providers/three", body, status=201)

    assert (found["adapter"], found["config"]) == ("whip", {"url": "http://127.0.0.1:9/whip"})


@pytest.mark.parametrize("name", ["UPPER", "-a", "a b", "a" * 65, "%F0%9F%A6%86"])
def test_a_name_that_no_path_or_log_should_hold_is_refused(name, api):
    error = api.call("POST", f"/v1/admin/providers/{name}", whip("x"), status=400)

    assert "lower-case letters" in error["message"]


def test_there_is_an_end_to_providers(api, monkeypatch):
    monkeypatch.setattr(module, "PROVIDERS_MAX", 2)

    error = api.call("POST", "/v1/admin/providers/three", whip("three"), status=400)

    assert "there are 2 providers already" in error["message"]
    api.call("POST", "/v1/admin/providers/one", {"weight": 2.0}, status=201)  # no new one


def test_a_provider_that_is_deleted_is_no_default_any_more(api):
    api.call("PATCH", "/v1/admin/providers/two", {"is_default": True})

    api.call("DELETE", "/v1/admin/providers/two")

    assert api.node.providers.default == ""
    assert api.node.providers.order() == ("one",)
    api.call("POST", "/v1/admin/providers/two", whip("two"), status=201)
    assert api.node.providers.default == ""


def test_who_is_disabled_is_told_to_the_judge_and_back(api):
    api.call("PATCH", "/v1/admin/providers/one", {"is_active": False})
    assert api.node.judge.verdict("one").word is Word.DISABLED

    api.call("PATCH", "/v1/admin/providers/one", {"is_active": True})
    assert api.node.judge.verdict("one").word is not Word.DISABLED


def test_it_is_told_whether_anything_changed(api, tmp_path):
    assert api.run(api.node.providers.refresh()) is False
    with Api(tmp_path / "hitless.db", keys=api.environ) as other:  # another node
        other.call("PATCH", "/v1/admin/providers/one", {"weight": 2.0})

    assert api.run(api.node.providers.refresh()) is True
    assert api.node.providers.rows["one"].weight == 2.0
    assert api.run(api.node.providers.refresh()) is False
