"""hitless.server.access: who may do what, and how often."""

import hmac
from types import SimpleNamespace

import pytest
from unit.server.api import Api

from hitless.server import access, keys
from hitless.server.access import TooOften, identity, known
from hitless.server.coordinator import Rejected
from hitless.server.keys import KeyRole
from hitless.server.limits import RateLimit
from hitless.server.socket import BEARER


pytestmark = pytest.mark.filterwarnings(
    "ignore::litestar.exceptions.LitestarDeprecationWarning"  # it speaks of Litestar 3
)

SHOW = {"stream": "show", "client": "studio"}
GUESS = "hk_0123456789abcdef_" + "a1B2c3D4e5F6g7H8i9J0k" * 2 + "z"

READS = (
    ("GET", "/v1/admin/providers", None),
    ("GET", "/v1/streams", None),
    ("GET", "/v1/stream?stream=show", None),
    ("GET", "/v1/admin/settings", None),
    ("GET", "/v1/admin/audit", None),
    ("GET", "/metrics", None),
)
OPERATES = (
    ("POST", "/v1/admin/check", {"provider": "one"}),
    ("POST", "/v1/admin/move", {"source": "one"}),
    ("POST", "/v1/admin/end", {"stream": "none"}),
    ("PATCH", "/v1/admin/settings", {"is_frozen": True}),
    ("PATCH", "/v1/admin/providers/one", {"priority": 5}),
    ("PATCH", "/v1/admin/providers/one", {"is_drained": True}),
)
OWNS = (
    ("POST", "/v1/admin/providers/one", {}),
    ("PATCH", "/v1/admin/providers/one", {"weight": 2.0}),
    ("PATCH", "/v1/admin/providers/one", {"secrets": {"token": "t"}}),
    ("DELETE", "/v1/admin/providers/two", None),
    ("PATCH", "/v1/admin/settings", {"mode": "observe"}),
    ("PATCH", "/v1/admin/settings", {"share": 5}),
    ("GET", "/v1/admin/keys", None),
    ("POST", "/v1/admin/keys", {"role": "viewer"}),
    ("DELETE", "/v1/admin/keys/abcd", None),
)
PUBLISHES = (("POST", "/v1/start", SHOW), ("POST", "/v1/end", SHOW))
VIEWS = (("POST", "/v1/join", SHOW), ("POST", "/v1/leave", SHOW))
LISTS = (("GET", "/streaming/providers", None),)
ANYBODY = (("POST", "/v1/exchange", {"client": "studio"}),)
"""Whose key it is decides what its messages may do."""

ALL = (*LISTS, *PUBLISHES, *VIEWS, *ANYBODY, *READS, *OPERATES, *OWNS)
MAY = {
    KeyRole.CLIENT: (*LISTS, *PUBLISHES, *VIEWS),
    KeyRole.PUBLISHER: (*LISTS, *PUBLISHES, *VIEWS),
    KeyRole.VIEWER_CLIENT: (*LISTS, *VIEWS),
    KeyRole.VIEWER: (*LISTS, *READS),
    KeyRole.OPERATOR: (*LISTS, *READS, *OPERATES),
    KeyRole.OWNER: (*LISTS, *READS, *OPERATES, *OWNS),
}


@pytest.fixture
def api(tmp_path):
    with Api(tmp_path / "hitless.db") as api:
        yield api


def asked(api, call, **more):
    """Return the answer to a call."""
    method, path, body = call
    return api.run(api.ask(method, path, body, **more))


# --- Who ---


@pytest.mark.parametrize(
    ("key", "code"),
    [(None, "no-key"), (GUESS, "bad-key"), ("hk_x", "bad-key"), ("\N{DUCK}", "bad-key")],
)
def test_nothing_is_done_without_a_good_key(key, code, api):
    if key == "\N{DUCK}":
        key = key.encode().decode("latin-1")
    for call in ALL:
        answer = asked(api, call, key=None) if key is None else _with(api, call, key)

        assert answer.status_code == 401, call
        assert answer.json()["error"]["code"] == code
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert GUESS not in answer.text


def _with(api, call, key):
    headers = {"Authorization": f"Bearer {key}".encode("latin-1")}
    return asked(api, call, key=None, headers=headers)


@pytest.mark.parametrize("role", list(KeyRole))
def test_each_role_may_do_what_is_its_own_and_nothing_else(role, api):
    if role not in (KeyRole.OWNER, KeyRole.CLIENT):
        api.new_key(role, "show" if role is KeyRole.PUBLISHER else None)
    for call in (one for one in ALL if one not in ANYBODY):
        answer = asked(api, call, key=role)

        assert (answer.status_code != 403) is (call in MAY[role]), (call, answer.text)
        if call not in MAY[role]:
            because = f"this key may not do that: its role is {role}"
            message = answer.json()["error"]["message"]
            assert message == because or call in PUBLISHES + VIEWS  # the coordinator's words


def test_a_key_for_one_stream_opens_no_other(api):
    api.new_key("publisher", "show")

    api.call("POST", "/v1/start", SHOW, key="publisher")
    error = api.call("POST", "/v1/start", {**SHOW, "stream": "x"}, key="publisher", status=403)
    assert error["code"] == "forbidden"
    assert error["message"] == "this key may not do that: it is for another stream"
    error = api.call("POST", "/v1/end", {**SHOW, "stream": "x"}, key="publisher", status=403)
    assert error["message"] == "this key may not do that: it is for another stream"


# --- Where the key is ---


def connection(header=None, protocols=(), host="192.0.2.7"):
    """Return a connection as a framework shows it."""
    return SimpleNamespace(
        headers={} if header is None else {"authorization": header},
        scope={"subprotocols": list(protocols)} if protocols else {},
        client=SimpleNamespace(host=host),
    )


class Node:
    """What access asks of a node."""

    def __init__(self):
        self.now_s = 0.0
        self.loop = SimpleNamespace(time=lambda: self.now_s)
        self.made = keys.make_key(KeyRole.CLIENT, now_s=0.0)
        self.ring = keys.KeyRing([self.made.stored])
        self.by_key = RateLimit(rate_per_s=1.0, burst=2.0)
        self.by_address = RateLimit(rate_per_s=1.0, burst=3.0)


@pytest.mark.parametrize("word", ["Bearer", "bearer", "BEARER"])
def test_the_key_is_in_the_header(word):
    node = Node()

    assert identity(connection(f"{word} {node.made.text} "), node).key == node.made.stored.id


def test_a_browser_shows_its_key_in_a_subprotocol():
    node = Node()
    shown = connection(protocols=("hitless.v1", BEARER + node.made.text))

    assert identity(shown, node).key == node.made.stored.id


def test_of_two_keys_the_one_in_the_header_counts():
    node = Node()
    shown = connection(f"Bearer {GUESS}", protocols=(BEARER + node.made.text,))

    with pytest.raises(Rejected, match="no such key"):
        identity(shown, node)


@pytest.mark.parametrize("header", [None, "", "Basic dTpw", "Bearer"])
def test_who_shows_no_key_is_nobody(header):
    assert known(connection(header), Node()) is None


def test_every_guess_is_compared_in_constant_time_even_of_an_unknown_id(monkeypatch):
    node, compared = Node(), []

    def compare(a, b):
        compared.append((a, b))
        return hmac.compare_digest(a, b)

    monkeypatch.setattr(keys, "hmac", SimpleNamespace(digest=hmac.digest, compare_digest=compare))
    wrong = node.made.text[:-1] + ("A" if node.made.text[-1] != "A" else "B")
    for guess in (GUESS, wrong):
        with pytest.raises(Rejected, match="no such key"):
            identity(connection(f"Bearer {guess}"), node)

    assert len(compared) == 2
    assert all(len(a) == len(b) == 32 for a, b in compared)


# --- How often ---


def test_a_key_may_ask_only_so_often_from_wherever():
    node = Node()
    for n in range(2):
        identity(connection(f"Bearer {node.made.text}", host=f"192.0.2.{n}"), node)

    with pytest.raises(TooOften, match=r"wait 1\.0 s") as caught:
        identity(connection(f"Bearer {node.made.text}"), node)
    assert (caught.value.status, caught.value.retry_after_s) == (429, 1.0)
    node.now_s = 1.0
    identity(connection(f"Bearer {node.made.text}"), node)


def test_an_address_that_guesses_keys_is_slowed_down_and_others_are_not():
    node = Node()
    for _ in range(3):
        with pytest.raises(Rejected, match="no such key"):
            identity(connection(f"Bearer {GUESS}"), node)

    with pytest.raises(TooOften):
        identity(connection(f"Bearer {GUESS}"), node)
    with pytest.raises(Rejected, match="no such key"):
        identity(connection(f"Bearer {GUESS}", host="192.0.2.8"), node)
    identity(connection(f"Bearer {node.made.text}"), node)  # a good key pays for itself


def test_all_of_one_network_are_one_guesser():
    node = Node()
    for n in range(3):
        with pytest.raises(Rejected, match="no such key"):
            identity(connection(f"Bearer {GUESS}", host=f"2001:db8::{n + 1}"), node)

    with pytest.raises(TooOften):
        identity(connection(f"Bearer {GUESS}", host="2001:db8::ffff:1"), node)


def test_a_connection_from_nowhere_is_limited_as_well():
    node = Node()
    shown = connection()
    shown.client = None
    for _ in range(3):
        access.limit_address(shown, node)

    with pytest.raises(TooOften):
        access.limit_address(shown, node)


def test_who_asks_too_often_is_told_when_to_come_back(api):
    api.node.by_key = RateLimit(rate_per_s=0.1, burst=1.0)
    asked(api, LISTS[0], key=KeyRole.CLIENT)

    answer = asked(api, LISTS[0], key=KeyRole.CLIENT)

    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "too-often")
    assert 1 <= int(answer.headers["Retry-After"]) <= 10
    assert asked(api, ("GET", "/v1/streams", None)).status_code == 200  # another key


@pytest.mark.parametrize("path", ["/streaming/providers", "/streaming/providers/one/health"])
def test_an_address_without_a_key_asks_an_open_server_only_so_often(path, tmp_path):
    with Api(tmp_path / "hitless.db", is_open=True) as api:
        api.node.by_address = RateLimit(rate_per_s=0.1, burst=2.0)
        found = [asked(api, ("GET", path, None), key=None).status_code for _ in range(3)]
        api.run(api.connect("192.0.2.8"))

        assert found == [200, 200, 429]
        assert asked(api, ("GET", path, None), key=None).status_code == 200
