"""hitless.server.minters: what opens a leg at each provider."""

from __future__ import annotations

from dataclasses import replace

import jwt
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitless import ConfigError
from hitless.client.protocol import Plan, PlanRequest
from hitless.core.events import Role
from hitless.providers import agora_token, zego_token
from hitless.providers.agora_token import Privilege
from hitless.server.keys import Identity, KeyRole
from hitless.server.leg_names import LegNames
from hitless.server.minters import (
    MINTERS,
    MINTING_OPTIONS,
    AgoraTokens,
    Asker,
    LiveKitTokens,
    ProviderSecrets,
    ZegoTokens,
)
from hitless.server.planner import Planner
from hitless.server.plans import CREDENTIAL_S, OUTAGE_S, Mint, PlanSigner
from hitless.server.store_members import Role as End
from hitless.server.store_streams import StreamRow, StreamState
from hitless.server.vault import RootKey


NOW = 4_000_000_000
TOKEN, VIEW_TOKEN = "s3cret-publish", "s3cret-view"
STREAM_SECRET = "s3cret-" + "0123456789abcdef" * 2
APP, CERTIFICATE = "970CA35de60c44645bbae8a215061b33", "5CFd2fd1755d40ecb72977518be15d3b"
ZEGO_SECRET = "fa94dd0f974cf2e293728a526b028271"
URL = "wss://live.example"
PUBLISHER = Asker(stream="show-1", role=Role.PUBLISHER, client="client-1", key="k1", epoch=7)
VIEWER = replace(PUBLISHER, role=Role.VIEWER, client="client-2")


def whip(name="own", **secrets):
    """Return a WHIP server as the mint sees it."""
    return ProviderSecrets(name=name, adapter="whip", secrets=secrets)


def agora(app_id=APP, certificate=CERTIFICATE, **options):
    """Return Agora as the mint sees it."""
    return ProviderSecrets(
        name="own",
        adapter="agora",
        secrets={"certificate": certificate},
        options={"app_id": app_id, **options},
    )


def zegocloud(app_id=12345, secret=ZEGO_SECRET, **options):
    """Return ZEGOCLOUD as the mint sees it."""
    return ProviderSecrets(
        name="own",
        adapter="zegocloud",
        secrets={"server_secret": secret},
        options={"app_id": app_id, **options},
    )


def livekit(url=URL, key="APIkey", secret=STREAM_SECRET, **options):
    """Return LiveKit as the mint sees it."""
    return ProviderSecrets(
        name="own",
        adapter="livekit",
        secrets={"api_key": key, "api_secret": secret},
        options={"url": url, **options},
    )


THREE = (agora, zegocloud, livekit)


def mint_of(*providers):
    """Return a mint for these providers."""
    mint = Mint(is_revoked=lambda asker: False)
    assert mint.replace(providers) == {}
    return mint


def values(mint, asker, name="own"):
    """Return what a client is given for a provider."""
    minted = mint.mint_all([name], asker, NOW)
    assert minted.failed == {}
    return minted.credentials[name].values


def read(token, secret=STREAM_SECRET):
    """Return the claims of a minted token as a provider reads them whose clock is behind."""
    return jwt.decode(token, secret, algorithms=["HS256"])


def faulty(provider):
    """Return why a provider cannot be minted for."""
    with pytest.raises(ConfigError) as caught:
        Mint(is_revoked=lambda asker: False).make(provider)
    assert not any(secret in str(caught.value) for secret in provider.secrets.values() if secret)
    return str(caught.value)


def test_a_viewer_never_gets_the_token_that_publishes_if_there_is_one_to_view():
    mint = mint_of(whip(token=TOKEN, view_token=VIEW_TOKEN))

    assert values(mint, PUBLISHER) == {"token": TOKEN}
    assert values(mint, VIEWER) == {"token": VIEW_TOKEN}


def test_a_server_with_one_token_has_it_for_both():
    mint = mint_of(whip(token=TOKEN))

    assert values(mint, VIEWER) == values(mint, PUBLISHER) == {"token": TOKEN}


def test_an_empty_token_to_view_is_no_token():
    mint = mint_of(whip(token=TOKEN, view_token=""))

    assert values(mint, VIEWER) == {}
    assert values(mint, PUBLISHER) == {"token": TOKEN}


def test_a_server_without_secrets_needs_no_credential():
    assert values(mint_of(whip()), PUBLISHER) == {}


def test_an_adapter_without_a_minter_needs_no_credential():
    memory = ProviderSecrets(name="own", adapter="memory", secrets={})

    assert values(mint_of(memory), VIEWER) == {}


@pytest.mark.parametrize(
    ("asker", "action"), [(PUBLISHER, "publish"), (VIEWER, "view")], ids=["publisher", "viewer"]
)
def test_a_token_of_a_stream_says_who_may_do_what_until_when(asker, action):
    mint = mint_of(whip(token_secret=STREAM_SECRET))

    claims = read(values(mint, asker)["token"])

    assert claims == {
        "sub": asker.client,
        "stream": "show-1",
        "role": action,
        "exp": NOW + int(CREDENTIAL_S),
    }


def test_a_token_of_a_stream_cannot_be_changed():
    token = values(mint_of(whip(token_secret=STREAM_SECRET)), VIEWER)["token"]

    with pytest.raises(jwt.InvalidSignatureError):
        read(token, secret=STREAM_SECRET[::-1])


def test_a_provider_may_call_the_claims_what_it_likes():
    provider = replace(
        whip(token_secret=STREAM_SECRET),
        options={"token_claims": {"stream": "room", "role": "action"}},
    )

    claims = read(values(mint_of(provider), VIEWER)["token"])

    assert (claims["room"], claims["action"]) == ("show-1", "view")
    assert "stream" not in claims
    assert "role" not in claims


@pytest.mark.parametrize(
    "claims",
    [
        "room",
        ["stream"],
        {"strem": "room"},
        {"stream": ""},
        {"stream": 7},
        {"role": "sub"},
        {"stream": "exp"},
        {"stream": "role"},
        {"stream": "x" * 65},
    ],
)
def test_claims_that_cannot_be_named_so_are_refused(claims):
    provider = replace(whip(token_secret=STREAM_SECRET), options={"token_claims": claims})

    assert faulty(provider).startswith("own: token_claims: ")


@pytest.mark.parametrize(
    ("provider", "says"),
    [
        (whip(tokens=TOKEN), "'tokens' is unknown: token, token_secret, view_token"),
        (whip(token=TOKEN, token_secret=STREAM_SECRET), "not both"),
        (whip(token_secret=STREAM_SECRET[:31]), "at least 32 bytes"),
        (whip(token_secret=f"-----BEGIN PUBLIC KEY-----\n{'A' * 64}\n"
              "-----END PUBLIC KEY-----"), "certificate or public key"),
        (replace(whip(token=TOKEN), adapter="memory"), "adapter 'memory' takes no secrets"),
        (agora(app_id="1"), "app_id: give the 32 hexadecimal digits"),
        (agora(app_id=1), "app_id: give the 32 hexadecimal digits"),
        (agora(certificate="s3cret"), "certificate: give the 32 hexadecimal digits"),
        (replace(agora(), secrets={}), "certificate: give the 32 hexadecimal digits"),
        (replace(agora(), secrets={"app_certificate": CERTIFICATE}),
         "'app_certificate' is unknown: certificate, customer_id, customer_secret"),
        (zegocloud(app_id="12345"), "app_id: give the number"),
        (replace(zegocloud(), options={}), "app_id: give the number"),
        (zegocloud(secret="s3cret"), "server_secret: give the ServerSecret"),
        (replace(zegocloud(), secrets={}), "server_secret: give the ServerSecret"),
        (replace(zegocloud(), secrets={"token": TOKEN}), "'token' is unknown: server_secret"),
        (livekit(url=None), "url: give the address of the LiveKit server"),
        (livekit(url="rtmp://live.example"), "url: give the address of the LiveKit server"),
        (livekit(secret="s3cret"), "api_secret: give at least 32 bytes"),
        (livekit(key=""), "api_key: give the API key"),
        (livekit(secret=f"-----BEGIN PUBLIC KEY-----\n{'A' * 64}\n"
                 "-----END PUBLIC KEY-----"), "certificate or public key"),
        (replace(livekit(), secrets={}), "api_key: give the API key"),
        (replace(livekit(), secrets={"token": TOKEN}), "'token' is unknown: api_key, api_secret"),
    ],
)  # fmt: skip
def test_secrets_that_cannot_be_used_are_refused_and_never_quoted(provider, says):
    sentence = faulty(provider)

    assert sentence.startswith("own: ")
    assert says in sentence


# --- Agora ---


def test_a_publisher_of_agora_gets_all_privileges_in_its_own_channel():
    given = values(mint_of(agora()), PUBLISHER)

    assert list(given) == ["app_id", "channel", "uid", "token", "epoch"]
    assert (given["app_id"], given["channel"], given["epoch"]) == (APP, "show-1-7", 7)
    token = agora_token.read(given["token"], CERTIFICATE)
    assert (token.app_id, token.issued_s, token.ttl_s) == (APP, NOW, CREDENTIAL_S)
    assert [p for p in Privilege if token.may(p, "show-1-7", given["uid"], NOW)] == [*Privilege]
    assert not token.may(Privilege.JOIN, "show-1-6", given["uid"], NOW)
    assert not token.may(Privilege.JOIN, "show-1-7", given["uid"] + 1, NOW)
    assert not token.may(Privilege.JOIN, "show-1-7", given["uid"], NOW + CREDENTIAL_S)


def test_a_viewer_of_agora_has_only_the_privilege_to_join():
    given = values(mint_of(agora()), VIEWER)

    token = agora_token.read(given["token"], CERTIFICATE)
    assert given["channel"] == "show-1-7"
    assert [p for p in Privilege if token.may(p, "show-1-7", given["uid"], NOW)] == [
        Privilege.JOIN
    ]
    assert [service.privileges for service in token.services] == [{1: CREDENTIAL_S}]


def test_no_token_of_agora_lasts_longer_than_a_day():
    token = AgoraTokens(APP, CERTIFICATE, LegNames()).mint(PUBLISHER, now_s=NOW, ttl_s=1e6)

    assert agora_token.read(token["token"], CERTIFICATE).ttl_s == 86_400


@given(st.text(max_size=64), st.text(max_size=64))
def test_a_viewer_of_agora_never_has_the_uid_of_a_publisher(one, other):
    """
    It would put the publisher out. That of a client stays the same, to be renewed.
    """
    minter = AgoraTokens(APP, CERTIFICATE, LegNames())

    def uid(role, client):
        asker = replace(PUBLISHER, role=role, client=client)
        return minter.mint(asker, now_s=NOW, ttl_s=60.0)["uid"]

    assert 0 < uid(Role.PUBLISHER, one) < 65_536 <= uid(Role.VIEWER, other) < 1 << 32
    assert uid(Role.VIEWER, one) == uid(Role.VIEWER, one)
    if one != other:
        assert uid(Role.VIEWER, one) != uid(Role.VIEWER, other)


def test_who_does_not_know_the_certificate_cannot_choose_a_uid_of_agora():
    one, other = (
        AgoraTokens(APP, certificate, LegNames()).mint(VIEWER, now_s=NOW, ttl_s=60.0)["uid"]
        for certificate in (CERTIFICATE, CERTIFICATE[::-1])
    )

    assert one != other


def test_the_credentials_of_agoras_rest_api_may_be_among_the_secrets():
    provider = agora()
    secrets = {**provider.secrets, "customer_id": "id", "customer_secret": "s3cret-rest"}

    given = values(mint_of(replace(provider, secrets=secrets)), PUBLISHER)

    assert "s3cret-rest" not in repr(given)


# --- ZEGOCLOUD ---


def test_a_publisher_of_zegocloud_may_publish_its_own_stream():
    given = values(mint_of(zegocloud()), PUBLISHER)

    assert list(given) == ["app_id", "room_id", "stream_id", "user_id", "token", "epoch"]
    assert (given["app_id"], given["room_id"], given["stream_id"]) == (
        12345,
        "show-1-7",
        "show-1-7",
    )
    token = zego_token.read(given["token"], ZEGO_SECRET)
    assert (token.app_id, token.user_id) == (12345, given["user_id"])
    assert (token.issued_s, token.expires_s) == (NOW, NOW + CREDENTIAL_S)
    assert token.may_login("show-1-7", NOW)
    assert token.may_publish("show-1-7", "show-1-7", NOW)
    assert not token.may_publish("show-1-7", "show-1-8", NOW)
    assert not token.may_publish("show-1-7", "show-1-7", NOW + CREDENTIAL_S)


def test_a_viewer_of_zegocloud_may_enter_and_publish_nothing():
    given = values(mint_of(zegocloud()), VIEWER)

    token = zego_token.read(given["token"], ZEGO_SECRET)
    assert token.may_login("show-1-7", NOW)
    assert not token.may_publish("show-1-7", "show-1-7", NOW)
    assert token.privileges.may_publish is False


def test_no_token_of_zegocloud_lasts_longer_than_24_days():
    given = ZegoTokens(1, ZEGO_SECRET, LegNames()).mint(PUBLISHER, now_s=NOW, ttl_s=1e9)

    assert zego_token.read(given["token"], ZEGO_SECRET).expires_s == NOW + 24 * 86_400


# --- LiveKit ---


def test_a_publisher_of_livekit_gets_the_grant_to_publish():
    given = values(mint_of(livekit()), PUBLISHER)

    assert list(given) == ["url", "room", "identity", "token"]
    assert (given["url"], given["room"]) == (URL, "show-1")
    claims = read(given["token"])
    assert (claims["iss"], claims["sub"]) == ("APIkey", given["identity"])
    assert claims["exp"] == NOW + CREDENTIAL_S
    assert claims["video"]["room"] == "show-1"
    assert claims["video"]["canPublish"] is True
    assert claims["video"]["canSubscribe"] is False


def test_a_viewer_of_livekit_gets_no_grant_to_publish():
    claims = read(values(mint_of(livekit()), VIEWER)["token"])

    assert claims["video"]["canPublish"] is False
    assert claims["video"]["canPublishData"] is False
    assert claims["video"]["canSubscribe"] is True
    assert "roomAdmin" not in claims["video"]


# --- All of them ---


@pytest.mark.parametrize("provider", THREE)
def test_both_ends_of_a_client_are_two_users(provider):
    """
    A publisher that views its own stream does not put itself out.
    """
    mint = mint_of(provider())
    ends = [values(mint, replace(PUBLISHER, role=role)) for role in Role]

    users = {end.get("uid") or end.get("user_id") or end.get("identity") for end in ends}
    assert len(users) == 2
    assert not any("client-1" in str(user) for user in users)


@pytest.mark.parametrize("provider", THREE)
def test_a_name_without_an_epoch_says_none(provider):
    given = values(mint_of(provider(channel="live_{stream}")), PUBLISHER)

    assert "live_show-1" in given.values()
    assert "epoch" not in given


@pytest.mark.parametrize("provider", THREE)
def test_a_name_that_cannot_be_used_is_refused(provider):
    assert faulty(provider(channel="{stream}{epoch}")).startswith("own: channel: ")


def test_how_legs_are_named_is_not_public():
    assert "channel" in MINTING_OPTIONS


def test_who_has_a_minter_is_known():
    assert list(MINTERS) == ["agora", "livekit", "whip", "zegocloud"]


def test_no_minter_shows_a_secret():
    names = LegNames()
    minters = (
        AgoraTokens(APP, CERTIFICATE, names),
        ZegoTokens(1, ZEGO_SECRET, names),
        LiveKitTokens(URL, "APIkey", STREAM_SECRET, names),
    )

    shown = " ".join(map(repr, (*minters, agora(), zegocloud(), livekit())))

    assert "adapter='agora'" in shown
    for hidden in (CERTIFICATE, ZEGO_SECRET, STREAM_SECRET):
        assert hidden not in shown


# --- In a plan ---


WHO = Identity(key="k1", role=KeyRole.PUBLISHER, scope=None, name="")
ROW = StreamRow(
    id="show-1",
    group_id="show-1",
    state=StreamState.LIVE,
    epoch=7,
    provider="one",
    is_carried=True,
    publisher="client-1",
    node="",
    because="a start was asked for",
    by="publisher",
    started_s=0.0,
    changed_s=0.0,
    rescue_provider=None,
    rescue_until_s=None,
)


def plan(*providers, row=ROW, role=End.PUBLISHER):
    """Return a plan over these providers."""
    planner = Planner(PlanSigner([RootKey(bytes(range(32)))]), mint_of(*providers))
    request = PlanRequest(stream="show-1", client="client-1")
    return planner.plan(WHO, request, role, row, [provider.name for provider in providers])


def test_a_plan_names_the_live_leg_by_its_epoch_and_the_others_by_the_next():
    made = plan(
        *(replace(livekit(channel="{stream}-{epoch}"), name=name) for name in ("one", "two"))
    )

    assert made.credentials["one"]["room"] == "show-1-7"
    assert made.credentials["two"]["room"] == "show-1-8"
    one, two = (read(made.credentials[name]["token"]) for name in ("one", "two"))
    assert two["exp"] - one["exp"] == OUTAGE_S - CREDENTIAL_S
    assert msgspec.json.decode(msgspec.json.encode(made), type=Plan) == made


def test_viewers_and_publisher_of_one_placement_meet():
    providers = [replace(each(), name=name) for each, name in zip(THREE, "abc", strict=True)]
    row = replace(ROW, provider="a")
    publisher, viewer = (plan(*providers, row=row, role=end) for end in End)

    for name, meeting in zip("abc", ("channel", "stream_id", "room"), strict=True):
        assert publisher.credentials[name][meeting] == viewer.credentials[name][meeting]
        assert publisher.credentials[name]["token"] != viewer.credentials[name]["token"]


def test_a_viewer_that_waits_for_the_first_publisher_meets_it():
    waiting = plan(replace(agora(), name="one"), row=None, role=End.VIEWER)
    started = plan(replace(agora(), name="one"), row=replace(ROW, epoch=1))

    assert waiting.credentials["one"]["channel"] == started.credentials["one"]["channel"]


def test_a_publishers_plan_says_with_what_it_views_its_own_stream():
    """
    As another user, or the provider would put one of the two out.
    """
    made = plan(replace(agora(), name="one"), replace(whip(token=TOKEN), name="two"))

    one = made.credentials["one"]
    assert set(one) == {"app_id", "channel", "uid", "token", "epoch", "view_uid", "view_token"}
    viewing = agora_token.read(one["view_token"], CERTIFICATE)
    assert viewing.may(Privilege.JOIN, one["channel"], one["view_uid"], viewing.issued_s)
    assert not viewing.may(
        Privilege.PUBLISH_VIDEO, one["channel"], one["view_uid"], viewing.issued_s
    )
    assert made.credentials["two"] == {"token": TOKEN, "view_token": TOKEN}
