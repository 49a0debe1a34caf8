"""hitless.lab.gate: credentials as the providers make them, and how each bad one is refused."""

import json
from dataclasses import replace

import pytest
from speaking_stand import (
    AGORA,
    NOW_S,
    ZEGO,
    agora_bearer,
    zego_bearer,
)

from hitless.core.events import Role
from hitless.errors import ConfigError
from hitless.lab.account import ACCOUNT_ENV, account_of
from hitless.lab.agora_keys import Keys
from hitless.lab.faults import Injected
from hitless.lab.gate import AgoraGate, OpenGate, Rejected, ZegoGate
from hitless.lab.stand import Stand
from hitless.media.frame import Kind
from hitless.providers.agora_token import Privilege, Service, ServiceType, mint, rtc


OTHER = "0" * 32
AGORA_ENV = {
    "app_id": AGORA.app_id,
    "certificate": AGORA.certificate,
    "customer_id": AGORA.customer_id,
    "customer_secret": AGORA.customer_secret,
}


class Gates:
    """A gate of each provider, on a clock that is set by hand."""

    def __init__(self):
        self.now_s = NOW_S
        self.faults = Injected("agora")
        self.keys = Keys(lambda: self.now_s)
        self.agora = AgoraGate(AGORA, self.keys, self.faults, wall_s=lambda: self.now_s)
        self.zego = ZegoGate(ZEGO, self.faults, wall_s=lambda: self.now_s)


@pytest.fixture
def gates():
    return Gates()


def admitted(gate, headers, stream="s", *, publishes=True, region="eu"):
    return gate.admit(headers.get("Authorization", ""), stream, publishes=publishes, region=region)


def refused(gate, headers, stream="s", **options):
    """Return status and code of a rejection, which never quotes what was shown."""
    with pytest.raises(Rejected) as rejected:
        admitted(gate, headers, stream, **options)
    shown = headers.get("Authorization", "").removeprefix("Bearer ")
    assert not shown or shown not in str(rejected.value)
    return rejected.value.status, rejected.value.code


# --- Agora ---


def test_agora_admits_a_publisher_and_a_viewer_with_tokens_of_the_account(gates):
    """Whom, where, and for how long is read from the token."""
    publisher = admitted(gates.agora, agora_bearer(uid=7, ttl_s=600))
    assert (publisher.user, publisher.room, publisher.left_s) == ("7", "s", 600)
    assert publisher.kinds == {Kind.AUDIO, Kind.VIDEO}
    viewer = admitted(gates.agora, agora_bearer(Role.VIEWER, uid=8), publishes=False)
    assert viewer.user == "8"


def test_agora_gives_a_number_to_whom_the_token_names_nobody(gates):
    """A uid of 0 stands for any; two users are not one."""
    users = {admitted(gates.agora, agora_bearer(uid=0)).user for _ in range(5)}
    assert len(users) == 5
    assert all(0 < int(user) < 1 << 32 for user in users)


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, 110),
        ({"Authorization": "Basic YTpi"}, 110),
        ({"Authorization": "Bearer "}, 110),
        ({"Authorization": "Bearer 006nonsense"}, 110),
        ({"Authorization": "Bearer 007\udcff"}, 110),
        (agora_bearer(certificate=OTHER), 110),
        (agora_bearer(app_id=OTHER), 110),
        (agora_bearer(channel="other"), 110),
        (agora_bearer(now_s=NOW_S - 600), 109),
        (agora_bearer(join_s=0), 109),
        (agora_bearer(Role.VIEWER), 119),
        (zego_bearer(), 110),
    ],
    ids=[
        "nothing",
        "another-scheme",
        "empty",
        "not-007",
        "not-ascii",
        "signed-by-another",
        "another-app",
        "another-channel",
        "expired",
        "join-expired",
        "no-privilege-to-publish",
        "another-provider",
    ],
)
def test_agora_refuses_a_publisher_with_the_documented_code(gates, headers, code):
    """109 is expired and 110 invalid; who may only join gets 119."""
    assert refused(gates.agora, headers) == (401, code)


def test_agora_refuses_a_token_that_does_not_allow_to_join(gates):
    """Privileges to publish alone open nothing, nor does a service of another type."""
    for service in (
        Service(type=ServiceType.RTC, privileges={Privilege.PUBLISH_VIDEO: 60}, names=("s", "7")),
        Service(type=ServiceType.FCDN, privileges={1: 60}, names=("s", "7")),
    ):
        token = mint(AGORA.app_id, AGORA.certificate, [service], now_s=NOW_S, ttl_s=60)
        assert refused(gates.agora, {"Authorization": f"Bearer {token}"}) == (401, 110)


def test_agora_expires_a_token_to_the_second(gates):
    """By the account's clock, and by whichever of token and privilege ends first."""
    for headers in (agora_bearer(ttl_s=60), agora_bearer(ttl_s=600, join_s=60)):
        gates.now_s = NOW_S + 59
        assert admitted(gates.agora, headers).left_s == 1
        gates.now_s = NOW_S + 60
        assert refused(gates.agora, headers) == (401, 109)


def test_agora_admits_a_publisher_of_the_kinds_that_its_token_names(gates):
    """One privilege for sound, another one for pictures; an expired one counts as none."""
    privileges = {Privilege.JOIN: 60, Privilege.PUBLISH_AUDIO: 30, Privilege.PUBLISH_VIDEO: 10}
    service = replace(rtc("s", 7, Role.PUBLISHER, 60), privileges=privileges)
    token = mint(AGORA.app_id, AGORA.certificate, [service], now_s=NOW_S, ttl_s=60)
    headers = {"Authorization": f"Bearer {token}"}
    gates.now_s = NOW_S + 20
    assert admitted(gates.agora, headers).kinds == {Kind.AUDIO}
    gates.now_s = NOW_S + 40
    assert refused(gates.agora, headers) == (401, 119)


def test_a_viewers_token_publishes_where_cohost_authentication_is_off(gates):
    """Agora's default; the stand-in's is the other one."""
    headers = agora_bearer(Role.VIEWER)
    assert gates.agora.cohost_authentication
    assert refused(gates.agora, headers) == (401, 119)
    gates.faults.switch("privileges-unchecked", True, {})
    assert not gates.agora.cohost_authentication
    assert admitted(gates.agora, headers).kinds == {Kind.AUDIO, Kind.VIDEO}
    gates.faults.switch("privileges-unchecked", False, {})
    assert refused(gates.agora, headers) == (401, 119)


def test_a_stream_key_publishes_its_channel_in_its_region_until_it_ends(gates):
    """Nothing else: neither another channel or region, nor viewing, nor after its deletion."""
    key = gates.keys.make(region="eu", channel="s", uid="9", expires_after_s=60)
    headers = {"Authorization": f"Bearer {key.text}"}
    assert key.text not in repr(key)
    pushed = admitted(gates.agora, headers)
    assert (pushed.user, pushed.key, pushed.left_s) == ("9", key.text, None)
    assert key.text not in repr(pushed)
    assert refused(gates.agora, headers, "other") == (401, 110)
    assert refused(gates.agora, headers, region="na") == (401, 110)
    assert refused(gates.agora, headers, publishes=False) == (401, 110)
    gates.now_s += 60
    assert refused(gates.agora, headers) == (401, 110)
    for_ever = gates.keys.make(region="eu", channel="s", uid="9", expires_after_s=0)
    gates.now_s += 1e9
    assert gates.keys.find(for_ever.text) is for_ever
    assert gates.keys.delete(for_ever.text)
    assert gates.keys.find(for_ever.text) is None


# --- ZEGOCLOUD ---


def test_zegocloud_admits_basic_tokens_and_those_with_privileges(gates):
    """A basic one allows everything; no session of it ends with its token."""
    basic = admitted(gates.zego, zego_bearer(None))
    assert (basic.user, basic.room, basic.left_s) == ("u-7", "s", None)
    publisher = admitted(gates.zego, zego_bearer(room="hall"))
    assert (publisher.room, publisher.left_s) == ("hall", None)
    viewer = admitted(gates.zego, zego_bearer(Role.VIEWER, user="v"), publishes=False)
    assert viewer.user == "v"


def payload(**change):
    said = {"room_id": "room", "privilege": {"1": 1, "2": 1}, "stream_id_list": None}
    return json.dumps(said | change)


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, 1102016),
        ({"Authorization": "Bearer 04nonsense"}, 1102016),
        (zego_bearer(server_secret="x" * 32), 1102016),
        (zego_bearer(payload="{}"), 1102016),
        (agora_bearer(), 1102016),
        (zego_bearer(app_id=1), 1001004),
        (zego_bearer(now_s=NOW_S - 600), 1102018),
        (zego_bearer(payload=payload(privilege={"1": 0, "2": 1})), 1002033),
        (zego_bearer(payload=payload(privilege={"1": 1, "2": 0})), 1002033),
        (zego_bearer(payload=payload(privilege={"1": 1})), 1002033),
        (zego_bearer(payload=payload(stream_id_list=["other"])), 1002033),
        (zego_bearer(payload=payload(stream_id_list=[])), 1002033),
    ],
    ids=[
        "nothing",
        "no-token",
        "another-secret",
        "payload-of-nothing",
        "another-provider",
        "another-app",
        "expired",
        "no-login",
        "no-publish",
        "publish-unsaid",
        "another-stream",
        "no-stream",
    ],
)
def test_zegocloud_refuses_a_publisher_with_the_documented_code(gates, headers, code):
    """1102018 is expired, 1102016 the format, 1002033 what is not allowed."""
    assert refused(gates.zego, headers) == (401, code)


def test_zegocloud_lets_a_viewer_in_who_may_log_in_only(gates):
    """To publish is another privilege."""
    headers = zego_bearer(payload=payload(privilege={"1": 1, "2": 0}))
    assert admitted(gates.zego, headers, publishes=False).room == "room"
    assert refused(gates.zego, headers) == (401, 1002033)
    gates.faults = Injected("zegocloud")
    gate = ZegoGate(ZEGO, gates.faults, wall_s=lambda: NOW_S)
    gates.faults.switch("privileges-unchecked", True, {})
    assert admitted(gate, headers).room == "room"


# --- Both ---


def test_everybody_may_leave_whose_token_is_of_the_account(gates):
    """Expired or not; but nobody with another one."""
    old = {"now_s": NOW_S - 10_000}
    for gate, headers in (
        (gates.agora, agora_bearer(**old)),
        (gates.agora, agora_bearer(Role.VIEWER, **old)),
        (gates.zego, zego_bearer(**old)),
    ):
        assert gate.may_leave(headers["Authorization"], "s", publishes=True)
    for gate, headers in (
        (gates.agora, agora_bearer(channel="other")),
        (gates.agora, agora_bearer(certificate=OTHER)),
        (gates.zego, zego_bearer(server_secret="x" * 32)),
        (gates.zego, agora_bearer()),
    ):
        assert not gate.may_leave(headers["Authorization"], "s", publishes=True)
        assert not gate.may_leave("", "s", publishes=True)


@pytest.mark.parametrize(
    ("fault", "agora", "zego"), [("token-expired", 109, 1102018), ("token-invalid", 110, 1102016)]
)
def test_no_token_is_good_while_a_fault_says_so(gates, fault, agora, zego):
    """Injected, then healed."""
    gates.faults.switch(fault, True, {})
    assert refused(gates.agora, agora_bearer()) == (401, agora)
    assert refused(gates.zego, zego_bearer()) == (401, zego)
    gates.faults.switch(fault, False, {})
    assert admitted(gates.agora, agora_bearer()).room == "s"
    assert admitted(gates.zego, zego_bearer()).room == "room"


def test_the_open_gate_takes_everybody_or_who_shows_its_token():
    """Viewers need none; as before there were accounts."""
    open_, closed_ = OpenGate(None, Injected()), OpenGate("right", Injected())
    assert admitted(open_, {}).user == ""
    assert admitted(closed_, {"Authorization": "Bearer right"}).room == "s"
    assert admitted(closed_, {}, publishes=False).room == "s"
    for shown in ("", "Bearer wrong", "Bearer right ", "\udcff"):
        assert refused(closed_, {"Authorization": shown}) == (401, None)
        assert not closed_.may_leave(shown, "s", publishes=True)
        assert closed_.may_leave(shown, "s", publishes=False)


# --- The account ---


def test_the_account_comes_from_the_environment():
    """By what is spoken; WHIP alone needs none."""
    assert account_of("whip", {}) is None
    assert account_of("agora", {ACCOUNT_ENV: json.dumps(AGORA_ENV)}) == AGORA
    zego = {"app_id": ZEGO.app_id, "server_secret": ZEGO.server_secret}
    assert account_of("zegocloud", {ACCOUNT_ENV: json.dumps(zego)}) == ZEGO


@pytest.mark.parametrize(
    "said",
    [
        "",
        "{",
        "[]",
        json.dumps(AGORA_ENV | {"more": 1}),
        json.dumps({**AGORA_ENV, "certificate": "short-secret"}),
        json.dumps({**AGORA_ENV, "app_id": 5}),
        json.dumps({**AGORA_ENV, "customer_id": "a:b"}),
        json.dumps({**AGORA_ENV, "customer_secret": ""}),
    ],
)
def test_a_bad_account_is_refused_and_never_quoted(said):
    """The message names the variable and the field."""
    with pytest.raises(ConfigError, match=ACCOUNT_ENV) as refusal:
        account_of("agora", {ACCOUNT_ENV: said})
    for secret in (*AGORA_ENV.values(), "short-secret"):
        assert secret not in str(refusal.value)
    assert AGORA.certificate not in repr(AGORA)
    assert AGORA.customer_secret not in repr(AGORA)
    assert ZEGO.server_secret not in repr(ZEGO)


def test_an_account_and_a_fixed_token_exclude_each_other():
    """Who would be believed?"""
    with pytest.raises(ConfigError, match="token of the account"):
        Stand("agora", account=AGORA, publish_token="right")
