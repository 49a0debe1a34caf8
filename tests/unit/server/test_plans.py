"""hitless.server.plans"""

from __future__ import annotations

import base64
import hmac
import json
import string
from dataclasses import replace

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitless import ConfigError
from hitless.core.events import Role
from hitless.server.minters import (
    MINTERS,
    Asker,
    ProviderSecrets,
    StaticTokens,
    StreamTokens,
)
from hitless.server.plans import (
    CREDENTIAL_S,
    LEEWAY_S,
    OUTAGE_S,
    TOKEN_CHARS_MAX,
    Mint,
    MintRefused,
    PlanFacts,
    PlanRefused,
    PlanSigner,
)
from hitless.server.vault import RootKey


NOW = 1_800_000_000
ONE, TWO = (RootKey(bytes(range(start, start + 32))) for start in (0, 100))
SIGNER = PlanSigner([ONE])
FACTS = PlanFacts(
    stream="show-1",
    role=Role.PUBLISHER,
    epoch=7,
    provider="agora",
    client="client-1",
    key="0123456789abcdef",
    issued_s=NOW,
    expires_s=NOW + 3_600,
)
PLAN = SIGNER.sign(FACTS)
CLAIMS = {
    "stream": "show-1",
    "role": "publisher",
    "epoch": 7,
    "provider": "agora",
    "client": "client-1",
    "key": "0123456789abcdef",
    "issued_s": NOW,
    "expires_s": NOW + 3_600,
}
HEADERS = {"typ": "hitless-plan+jwt", "kid": ONE.id}
SIGNING = hmac.digest(ONE.octets, b"hitless plan v1", "sha256")

names = st.text(max_size=128)
wholes = st.integers(0, 2**53 - 1)
facts_of = st.builds(
    PlanFacts,
    stream=st.text(min_size=1, max_size=256),
    role=st.sampled_from(Role),
    epoch=wholes,
    provider=names,
    client=names,
    key=names,
    issued_s=wholes,
    expires_s=wholes,
)


def refusal(token, now_s=NOW, signer=SIGNER):
    """Return how a token is refused that was never good."""
    with pytest.raises(PlanRefused) as caught:
        signer.verify(token, now_s)
    assert caught.value.expired is None
    assert caught.value.__cause__ is None
    return caught.value.because


def encoded(value):
    """Return a part of a token."""
    octets = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(octets).decode().rstrip("=")


def forged(claims, headers, key=SIGNING):
    """Return a token made by hand."""
    signed = f"{encoded(headers)}.{encoded(claims)}"
    return f"{signed}.{encoded(hmac.digest(key, signed.encode(), 'sha256'))}"


# --- Plans ---


@given(facts_of)
def test_what_was_signed_is_read_back(facts):
    assert SIGNER.verify(SIGNER.sign(facts), facts.expires_s) == facts


def test_a_plan_made_by_hand_with_the_right_key_counts():
    """
    The tests below differ from this one in one point each.
    """
    assert SIGNER.verify(forged(CLAIMS, {"alg": "HS256", **HEADERS}), NOW) == FACTS


def test_the_longest_plan_fits():
    """
    Every character escaped to twelve.
    """
    longest = replace(
        FACTS,
        stream="\U0001f600" * 256,
        provider="\U0001f600" * 128,
        client="\U0001f600" * 128,
        key="\U0001f600" * 128,
        epoch=2**53 - 1,
    )

    token = SIGNER.sign(longest)

    assert TOKEN_CHARS_MAX // 2 < len(token) <= TOKEN_CHARS_MAX
    assert SIGNER.verify(token, NOW) == longest


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("stream", ""),
        ("stream", "s" * 257),
        ("client", "c" * 129),
        ("provider", "p" * 129),
        ("key", "k" * 129),
        ("epoch", -1),
        ("epoch", 2**53),
        ("expires_s", -1),
        ("epoch", 1.5),
    ],
)
def test_a_plan_that_could_not_be_read_back_is_not_signed(field, value):
    with pytest.raises(ConfigError, match=field):
        SIGNER.sign(replace(FACTS, **{field: value}))


def test_a_plan_counts_until_its_end_and_the_leeway_have_passed():
    end_s = FACTS.expires_s + LEEWAY_S

    assert SIGNER.verify(PLAN, end_s - 0.001) == FACTS
    with pytest.raises(PlanRefused, match="has expired"):
        SIGNER.verify(PLAN, end_s)
    with pytest.raises(PlanRefused, match="has expired"):
        PlanSigner([ONE], leeway_s=0.0).verify(PLAN, FACTS.expires_s)


def test_an_expired_plan_still_tells_its_epoch():
    """
    A server that lost its database goes on above it.
    """
    with pytest.raises(PlanRefused) as caught:
        SIGNER.verify(PLAN, NOW + 1e9)

    assert caught.value.expired == FACTS


def test_a_plan_counts_on_a_node_whose_clock_is_behind():
    assert SIGNER.verify(PLAN, NOW - 86_400.0) == FACTS


def test_keys_of_plans_are_rotated_by_one_in_front():
    both = PlanSigner([TWO, ONE])

    assert both.verify(PLAN, NOW) == FACTS
    new = both.sign(FACTS)
    assert PlanSigner([TWO]).verify(new, NOW) == FACTS
    assert "key that is not here" in refusal(PLAN, signer=PlanSigner([TWO]))
    both.replace([TWO])
    assert "key that is not here" in refusal(PLAN, signer=both)


def test_without_a_key_nothing_is_signed():
    with pytest.raises(ConfigError, match="HITLESS_PLAN_KEY: give at least one key"):
        PlanSigner([])


# --- Forgeries ---


@given(st.integers(0, len(PLAN) - 1), st.sampled_from("ABEMaz09-_.=+/ \n\0é"))
def test_no_character_of_a_plan_can_be_changed(place, other):
    changed = PLAN[:place] + other + PLAN[place + 1 :]
    if changed != PLAN:
        refusal(changed)


def test_the_bits_after_the_last_byte_of_a_signature_cannot_be_changed_either():
    for other in set(string.ascii_letters + string.digits + "-_") - {PLAN[-1]}:
        refusal(PLAN[:-1] + other)


@given(
    st.one_of(
        st.text(),
        st.from_regex(r"[\w-]{1,80}\.[\w-]{1,80}\.[\w-]{42}[AEIM]"),
        st.text(alphabet="eyJ.{}[]\"'\ud800 ", max_size=90),
    )
)
def test_any_text_is_refused_and_nothing_worse_happens(text):
    refusal(text)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@given(
    header=st.dictionaries(
        st.sampled_from(["alg", "typ", "kid", "crit", "b64", "jwk", "x"]), json_values
    ),
    claims=json_values,
)
def test_any_header_before_a_forged_signature_is_refused(header, claims):
    refusal(forged(claims, header))
    refusal(forged(claims, {"alg": "HS256", **HEADERS, **header}, key=b"somebody else"))


@given(st.dictionaries(st.sampled_from([*CLAIMS, "sub", "aud", "iss", "exp"]), json_values))
def test_claims_of_any_type_are_refused_or_read(more):
    """
    A later version of us may have signed something else.
    """
    token = forged({**CLAIMS, **more}, {"alg": "HS256", **HEADERS})
    try:
        facts = SIGNER.verify(token, NOW)
    except PlanRefused:
        return
    assert isinstance(facts.stream, str)
    assert type(facts.epoch) is int
    assert isinstance(facts.role, Role)


@pytest.mark.parametrize(
    "headers",
    [
        {"alg": "none", **HEADERS},
        {"alg": "HS512", **HEADERS},
        {"alg": "RS256", **HEADERS},
        {"alg": "hs256", **HEADERS},
        HEADERS,
        {"alg": "HS256", **HEADERS, "typ": "JWT"},
        {"alg": "HS256", "kid": ONE.id},
        {"alg": "HS256", "typ": HEADERS["typ"]},
        {"alg": "HS256", **HEADERS, "kid": [ONE.id]},
        {"alg": "HS256", **HEADERS, "kid": TWO.id},
        {"alg": "HS256", **HEADERS, "x": "A" * 200},
        [],
        b"[" * 190,
    ],
)
def test_a_header_other_than_ours_is_refused(headers):
    refusal(forged(CLAIMS, headers))


def test_a_stronger_hash_with_the_right_key_is_refused_too():
    """
    The algorithm is ours to choose, never the token's.
    """
    token = jwt.encode(CLAIMS, SIGNING * 2, algorithm="HS512", headers=HEADERS)
    refusal(token)
    unsigned = f"{encoded({'alg': 'none', **HEADERS})}.{encoded(CLAIMS)}."
    refusal(unsigned)
    refusal(unsigned + "A" * 43)


@pytest.mark.parametrize("key", [ONE.octets, TWO.octets, b"", b"hitless"])
def test_a_plan_signed_with_another_key_is_refused(key):
    """
    The root key itself is another one: it is also the vault's, if somebody gave both the same.
    """
    because = refusal(forged(CLAIMS, {"alg": "HS256", **HEADERS}, key=key))

    assert because == "this plan was changed, or signed by somebody else"


@pytest.mark.parametrize("missing", sorted(CLAIMS))
def test_a_plan_that_leaves_something_out_is_refused(missing):
    claims = {name: value for name, value in CLAIMS.items() if name != missing}

    refusal(forged(claims, {"alg": "HS256", **HEADERS}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epoch", "7"),
        ("epoch", True),
        ("epoch", -1),
        ("epoch", 2**53),
        ("epoch", 7.5),
        ("role", "owner"),
        ("stream", ["show-1"]),
        ("expires_s", None),
    ],
)
def test_a_plan_with_a_wrong_value_is_refused(name, value):
    refusal(forged({**CLAIMS, name: value}, {"alg": "HS256", **HEADERS}))


@pytest.mark.parametrize("claims", [b"[" * 9_000, b"9" * 9_000, b"\xff", b"", [], "x"])
def test_a_signed_body_that_is_no_object_is_refused(claims):
    refusal(forged(claims, {"alg": "HS256", **HEADERS}))


def test_a_token_that_is_too_long_is_not_even_parsed(monkeypatch):
    monkeypatch.setattr(jwt, "get_unverified_header", None)

    assert refusal("A" * 10_000_000) == "this is not a plan token"
    head, body, end = PLAN.split(".")
    assert refusal(f"{head}.{body}{'A' * TOKEN_CHARS_MAX}.{end}") == "this is not a plan token"


def test_no_repr_shows_a_key_of_plans():
    shown = repr(SIGNER)

    assert ONE.id in shown
    assert repr(SIGNING) not in shown


# --- Credentials ---


TOKEN, VIEW_TOKEN = "s3cret-publish", "s3cret-view"
STREAM_SECRET = "s3cret-" + "0123456789abcdef" * 2
PUBLISHER = Asker(stream="show-1", role=Role.PUBLISHER, client="client-1", key="k1")
VIEWER = replace(PUBLISHER, role=Role.VIEWER, client="client-2")


def whip(name="own", **secrets):
    """Return a WHIP server as the mint sees it."""
    return ProviderSecrets(name=name, adapter="whip", secrets=secrets)


def mint_of(*providers, is_revoked=lambda asker: False, **settings):
    """Return a mint for these providers."""
    mint = Mint(is_revoked=is_revoked, **settings)
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


def test_one_faulty_provider_does_not_stop_the_others():
    mint = Mint(is_revoked=lambda asker: False)

    faults = mint.replace([whip("bad", token_secret="short"), whip("good", token=TOKEN)])
    minted = mint.mint_all(["bad", "good", "unknown"], PUBLISHER, NOW)

    assert list(faults) == ["bad"]
    assert list(minted.credentials) == ["good"]
    assert minted.failed == dict.fromkeys(
        ("bad", "unknown"), "its secrets are missing or cannot be used"
    )


def test_a_provider_that_was_taken_away_is_minted_for_no_more():
    mint = mint_of(whip(token=TOKEN))

    mint.replace([whip("other", token=TOKEN)])

    assert list(mint.mint_all(["own", "other"], PUBLISHER, NOW).credentials) == ["other"]


def test_an_outsiders_minter_that_fails_costs_its_own_provider_only():
    class Failing:
        def mint(self, asker, *, now_s, ttl_s):
            raise KeyError(TOKEN)

    mint = mint_of(
        replace(whip("bad"), adapter="theirs"),
        whip("good", token=TOKEN),
        minters={**MINTERS, "theirs": lambda provider: Failing()},
    )

    minted = mint.mint_all(["bad", "good"], PUBLISHER, NOW)

    assert list(minted.credentials) == ["good"]
    assert minted.failed == {"bad": "its minter failed: KeyError"}


def test_the_live_credential_is_short_and_those_in_reserve_last_an_outage():
    names = ("a", "b", "c")
    mint = mint_of(*(whip(name, token_secret=STREAM_SECRET) for name in names))

    minted = mint.mint_all(["b", "a", "c"], PUBLISHER, NOW)

    ends_s = {
        name: read(credential.values["token"])["exp"] - NOW
        for name, credential in minted.credentials.items()
    }
    assert ends_s == {"b": CREDENTIAL_S, "a": OUTAGE_S, "c": OUTAGE_S}
    assert list(minted.credentials) == ["b", "a", "c"]
    assert minted.credentials["b"].refresh_s == NOW + CREDENTIAL_S
    assert minted.credentials["a"].refresh_s == NOW + OUTAGE_S


def test_those_in_reserve_are_for_the_placement_after_this_one():
    """
    Its epoch is known ahead, whoever moves.
    """
    asked = []

    class Asked:
        def mint(self, asker, *, now_s, ttl_s):
            asked.append(asker)
            return {}

    mint = mint_of(
        *(replace(whip(name), adapter="theirs") for name in ("a", "b", "c")),
        minters={"theirs": lambda provider: Asked()},
    )

    mint.mint_all(["b", "a", "c"], replace(PUBLISHER, epoch=7), NOW)

    assert [asker.epoch for asker in asked] == [7, 8, 8]
    assert {replace(asker, epoch=0) for asker in asked} == {PUBLISHER}


def test_the_times_of_credentials_can_be_set():
    mint = mint_of(whip("a"), whip("b"), credential_s=60.0, outage_s=120.0)

    minted = mint.mint_all(["a", "b"], PUBLISHER, NOW)

    assert [credential.refresh_s - NOW for credential in minted.credentials.values()] == [60, 120]
    for wrong in ({"credential_s": 0.0}, {"outage_s": -1.0}, {"outage_s": float("nan")}):
        with pytest.raises(ConfigError, match="above 0 s"):
            Mint(is_revoked=lambda asker: False, **wrong)


def test_a_removed_user_gets_no_new_credential():
    removed = set()
    mint = mint_of(whip(token=TOKEN), is_revoked=lambda asker: asker.client in removed)
    assert values(mint, VIEWER) == {"token": TOKEN}

    removed.add(VIEWER.client)

    with pytest.raises(MintRefused, match="removed"):
        mint.mint_all(["own"], VIEWER, NOW)
    assert values(mint, PUBLISHER) == {"token": TOKEN}


def test_nothing_that_holds_a_secret_shows_it():
    provider = whip(token=TOKEN, view_token=VIEW_TOKEN)
    mint = mint_of(provider, whip("jwt", token_secret=STREAM_SECRET))
    minted = mint.mint_all(["own", "jwt"], PUBLISHER, NOW)

    shown = " ".join(
        map(repr, (provider, mint, vars(mint), minted, StaticTokens(TOKEN, VIEW_TOKEN),
                   StreamTokens(STREAM_SECRET)))
    )  # fmt: skip

    assert "own" in shown
    for hidden in (TOKEN, VIEW_TOKEN, STREAM_SECRET, minted.credentials["jwt"].values["token"]):
        assert hidden not in shown
