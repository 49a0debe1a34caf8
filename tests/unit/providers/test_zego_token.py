"""
hitless.providers.zego_token, against what ZEGO's own generators made.

ZEGO publishes no tokens: those in the file came from running its Python and Node code with clock,
nonce and IV fixed. For the GCM form there is no official generator, so that those tests show no
more than that we read what we understand of it.
"""

from __future__ import annotations

import base64
import json
import re
import struct
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.padding import PKCS7
from hypothesis import given
from hypothesis import strategies as st

from hitless.core.events import Role
from hitless.errors import ConfigError
from hitless.providers import zego_token
from hitless.providers.zego_token import (
    Form,
    Privileges,
    ZegoToken,
    ZegoTokenRefused,
    mint,
    payload_of,
    privileges_of,
    read,
)


VECTORS = json.loads(
    (Path(__file__).parents[2] / "vectors" / "zego_token_vectors.json").read_text()
)
PYTHON = VECTORS["token04_cbc_python_official"]
NODE = VECTORS["token04_cbc_node_official"]
SECRET = PYTHON[0]["server_secret"]
OTHER_SECRET = SECRET[::-1]
NOW, TTL = 1_800_000_000, 3_600
SAYS = {
    "app_id": 1,
    "user_id": "demo",
    "nonce": 7,
    "ctime": NOW,
    "expire": NOW + TTL,
    "payload": "",
}
PUBLISHER = privileges_of(Role.PUBLISHER, "room-1", "s1")
VIEWER = privileges_of(Role.VIEWER, "room-1", "s1")


def enveloped(iv: bytes, cipher: bytes, *, end: bytes = b"", expires_s: int = NOW + TTL) -> str:
    """Return a token with these parts."""
    head = struct.pack(">qH", expires_s, len(iv)) + iv
    return "04" + base64.b64encode(head + struct.pack(">H", len(cipher)) + cipher + end).decode()


def cbc(plain: bytes, *, end: bytes = b"", expires_s: int = NOW + TTL) -> str:
    """Return a token made by hand in the CBC form."""
    padder, iv = PKCS7(128).padder(), b"0123456789abcdef"
    encryptor = Cipher(algorithms.AES(SECRET.encode()), modes.CBC(iv)).encryptor()
    padded = padder.update(plain) + padder.finalize()
    return enveloped(iv, encryptor.update(padded), end=end, expires_s=expires_s)


def gcm(plain: bytes, *, end: bytes = b"\x01", nonce: bytes = b"0123456789ab") -> str:
    """Return a token made by hand in the GCM form."""
    return enveloped(nonce, AESGCM(SECRET.encode()).encrypt(nonce, plain, None), end=end)


def minted(privileges: Privileges | None = PUBLISHER, **more: Any) -> str:
    """Return a token of ours."""
    payload = payload_of(privileges) if privileges else ""
    return mint(1, "demo", SECRET, **{"now_s": NOW, "ttl_s": TTL, "payload": payload, **more})


def because(token: str, secret: str = SECRET) -> str:
    """Return why a token is refused, and that nothing of it is told."""
    with pytest.raises(ZegoTokenRefused) as caught:
        read(token, secret)
    assert caught.value.__cause__ is None
    assert str(caught.value) == caught.value.because
    return caught.value.because


# --- ZEGO's own tokens ---


def test_there_are_as_many_vectors_as_the_facts_say() -> None:
    """A file that lost some would let the tests below pass."""
    assert (len(PYTHON), len(NODE)) == (3, 1)


@pytest.mark.parametrize("vector", PYTHON, ids=lambda vector: vector["name"])
def test_a_token_of_the_official_python_is_made_again(vector: dict[str, Any]) -> None:
    """Byte for byte, from the same inputs."""
    token = mint(
        vector["app_id"],
        vector["user_id"],
        vector["server_secret"],
        now_s=vector["ctime"] + 0.9,
        ttl_s=vector["effective_time_in_seconds"],
        payload=vector["payload"],
        nonce=vector["nonce"],
        iv=vector["iv_ascii"],
    )

    assert token == vector["token"]


@pytest.mark.parametrize("vector", PYTHON + NODE, ids=lambda vector: vector["token"][-12:])
def test_an_official_token_is_read(vector: dict[str, Any]) -> None:
    """Python's and Node's."""
    says = json.loads(vector["plaintext_json"])

    token = read(vector["token"], SECRET)

    assert token == ZegoToken(
        app_id=says["app_id"],
        user_id=says["user_id"],
        nonce=says["nonce"],
        issued_s=says["ctime"],
        expires_s=says["expire"],
        privileges=token.privileges,
        form=Form.CBC,
    )
    assert (token.privileges is None) == (says["payload"] == "")


def test_the_official_privileges_are_read() -> None:
    """Of the vector that has some: to enter, not to publish."""
    token = read(PYTHON[2]["token"], SECRET)

    assert token.privileges == Privileges(
        room_id="room1", may_login=True, may_publish=False, stream_ids=("s1",)
    )
    assert token.may_login("room1", token.issued_s)
    assert not token.may_publish("room1", "s1", token.issued_s)


def test_privileges_are_written_as_the_official_example_writes_them() -> None:
    """Its payload, from the same wishes."""
    wishes = read(PYTHON[2]["token"], SECRET).privileges

    assert wishes is not None
    assert payload_of(wishes) == PYTHON[2]["payload"]


# --- Ours ---


@given(
    st.integers(1, 2**32 - 1),
    st.text(min_size=1, max_size=64),
    st.integers(0, 2**40),
    st.integers(1, zego_token.TTL_S_MAX),
)
def test_what_was_minted_is_read_back(app_id: int, user_id: str, now_s: int, ttl_s: int) -> None:
    """Whatever the user is called."""
    token = read(mint(app_id, user_id, SECRET, now_s=now_s, ttl_s=ttl_s), SECRET)

    assert (token.app_id, token.user_id) == (app_id, user_id)
    assert (token.issued_s, token.expires_s) == (now_s, now_s + ttl_s)
    assert token.privileges is None


@pytest.mark.parametrize("privileges", [PUBLISHER, VIEWER, replace(PUBLISHER, stream_ids=())])
def test_privileges_are_read_back(privileges: Privileges) -> None:
    """Of each role, and of nobody."""
    assert read(minted(privileges), SECRET).privileges == privileges


def test_nonce_and_iv_are_new_in_each_token() -> None:
    """And the IV is not one of hexadecimal digits: the official Python's has 64 bits."""
    ivs, nonces = set(), set()
    for _ in range(50):
        token = minted()
        ivs.add(base64.b64decode(token[2:])[10:26])
        nonces.add(read(token, SECRET).nonce)

    assert len(ivs) == len(nonces) == 50
    assert not set(b"".join(ivs).decode()) <= set("0123456789abcdef")
    assert all(-(2**31) <= nonce < 2**31 for nonce in nonces)


def test_a_publisher_may_publish_its_own_stream_in_its_own_room() -> None:
    """And nothing else."""
    token = read(minted(), SECRET)

    assert token.may_login("room-1", NOW)
    assert token.may_publish("room-1", "s1", NOW)
    assert not token.may_login("room-2", NOW)
    assert not token.may_publish("room-2", "s1", NOW)
    assert not token.may_publish("room-1", "s2", NOW)


def test_a_viewer_may_enter_and_publish_nothing() -> None:
    """By its privileges; whether ZEGO looks at them is the project's setting."""
    token = read(minted(VIEWER), SECRET)

    assert token.may_login("room-1", NOW)
    assert not token.may_publish("room-1", "s1", NOW)


def test_a_basic_token_may_everything() -> None:
    """It names no privileges."""
    token = read(minted(None), SECRET)

    assert token.may_login("any", NOW)
    assert token.may_publish("any", "any", NOW)


def test_nothing_is_allowed_after_the_end() -> None:
    """To the second."""
    for privileges in (PUBLISHER, None):
        token = read(minted(privileges), SECRET)
        assert not token.is_expired(NOW + TTL - 0.1)
        assert token.may_publish("room-1", "s1", NOW + TTL - 0.1)
        assert token.is_expired(NOW + TTL)
        assert not token.may_login("room-1", NOW + TTL)
        assert not token.may_publish("room-1", "s1", NOW + TTL)


@pytest.mark.parametrize("privilege", [{}, {"1": 0}, {"1": 2, "2": -1}, {"3": 1}])
def test_what_is_not_allowed_by_name_is_denied(privilege: dict[str, int]) -> None:
    """An absent number, or one that is not 1."""
    payload = json.dumps({"room_id": "room-1", "privilege": privilege})

    token = read(minted(None, payload=payload), SECRET)

    assert not token.may_login("room-1", NOW)
    assert not token.may_publish("room-1", "s1", NOW)


def test_what_was_read_cannot_be_changed() -> None:
    """Nobody gives himself a privilege by the way."""
    token = read(minted(), SECRET)

    with pytest.raises(FrozenInstanceError):
        token.privileges = None  # type: ignore[misc]  # on purpose


# --- GCM ---


def test_the_gcm_form_is_read() -> None:
    """As the verifier in ZEGO's documentation reads it."""
    plain = json.dumps({**SAYS, "payload": payload_of(PUBLISHER)}).encode()

    token = read(gcm(plain), SECRET)

    assert token.form is Form.GCM
    assert (token.user_id, token.privileges) == ("demo", PUBLISHER)


def test_the_last_byte_tells_the_forms_apart() -> None:
    """1 is GCM; absent or anything else is CBC, to that verifier too."""
    plain = json.dumps(SAYS).encode()

    assert read(cbc(plain), SECRET).form is Form.CBC
    assert read(cbc(plain, end=b"\0"), SECRET).form is Form.CBC
    because(cbc(plain, end=b"\1"))
    because(gcm(plain, end=b""))
    because(gcm(plain, end=b"\1\1"))


def test_no_byte_of_a_gcm_token_can_be_changed() -> None:
    """Each in turn; the expiry in clear is not under its tag, but stands inside again."""
    octets = base64.b64decode(gcm(json.dumps(SAYS).encode())[2:])

    for place in range(len(octets)):
        changed = bytearray(octets)
        changed[place] ^= 1
        because("04" + base64.b64encode(changed).decode())


# --- What cannot be minted ---


@pytest.mark.parametrize("secret", ["", "s" * 31, "s" * 33, "ä" * 32])
def test_a_secret_of_the_wrong_form_is_named_and_never_quoted(secret: str) -> None:
    """The key of AES-256 is its 32 characters."""
    for call in (
        lambda: mint(1, "demo", secret, now_s=NOW, ttl_s=TTL),
        lambda: read(minted(), secret),
    ):
        with pytest.raises(ConfigError, match=r"^server_secret: ") as caught:
            call()
        assert not secret or secret not in str(caught.value)


@pytest.mark.parametrize("app_id", [0, -1, 1 << 32, True, "1", None])
def test_an_app_id_of_the_wrong_form_is_named(app_id: Any) -> None:
    """It is a number, and not 0."""
    with pytest.raises(ConfigError, match=r"^app_id: "):
        mint(app_id, "demo", SECRET, now_s=NOW, ttl_s=TTL)


def test_what_does_not_fit_into_a_token_is_refused() -> None:
    """Before anybody is given it."""
    for says, more in (
        ("ttl_s", {"ttl_s": 0}),
        ("ttl_s", {"ttl_s": zego_token.TTL_S_MAX + 1}),
        ("iv", {"iv": "short"}),
        ("iv", {"iv": "ä" * 16}),
        ("too long", {"payload": "x" * 20_000}),
        ("Unicode", {"payload": "\ud800"}),
    ):
        with pytest.raises(ConfigError, match=re.escape(says)):
            minted(**more)
    with pytest.raises(ConfigError, match="user_id"):
        mint(1, "", SECRET, now_s=NOW, ttl_s=TTL)
    with pytest.raises(ConfigError, match="room_id"):
        payload_of(replace(PUBLISHER, room_id=""))


# --- What is refused ---


def test_a_token_made_with_another_secret_is_refused() -> None:
    """In both forms, in the same words as one that was changed."""
    words = because(minted(), OTHER_SECRET)

    assert words == because(gcm(json.dumps(SAYS).encode()), OTHER_SECRET)
    assert words == because(cbc(b"no JSON"))
    assert words == because(enveloped(b"0" * 16, bytes(16)))
    assert words == because(enveloped(b"0" * 16, bytes(15)))
    assert words == because(enveloped(b"0" * 15, bytes(16)))


def test_the_expiry_in_clear_is_no_other_than_the_one_inside() -> None:
    """Anybody could lengthen it."""
    octets = bytearray(base64.b64decode(minted()[2:]))
    octets[:8] = struct.pack(">q", NOW + 10 * TTL)

    assert "was changed" in because("04" + base64.b64encode(octets).decode())


def test_a_token_that_was_cut_off_is_refused() -> None:
    """At any place."""
    token = minted()

    for length in range(len(token)):
        because(token[:length])
    because(token + token[2:])


@pytest.mark.parametrize(
    "changed",
    [
        {"app_id": 0},
        {"app_id": "1"},
        {"app_id": 1 << 32},
        {"user_id": ""},
        {"user_id": None},
        {"nonce": "7"},
        {"ctime": 1.5},
        {"expire": "never"},
        {"payload": {}},
        {"payload": "no JSON"},
        {"payload": "{}"},
        {"payload": '{"room_id": "r"}'},
        {"payload": '{"room_id": 1, "privilege": {}}'},
        {"payload": '{"room_id": "r", "privilege": {"1": "1"}}'},
        {"payload": '{"room_id": "r", "privilege": {}, "stream_id_list": "s1"}'},
        {"payload": "[" * 3_000},
    ],
    ids=str,
)
def test_a_token_with_a_wrong_value_is_refused(changed: dict[str, Any]) -> None:
    """One whose payload is not understood allows nothing."""
    assert "was changed" in because(cbc(json.dumps({**SAYS, **changed}).encode()))


@pytest.mark.parametrize("missing", ["app_id", "user_id", "nonce", "ctime", "expire"])
def test_a_token_that_leaves_something_out_is_refused(missing: str) -> None:
    """The official generators leave nothing out."""
    says = {name: value for name, value in SAYS.items() if name != missing}

    because(cbc(json.dumps(says).encode()))


def test_a_text_that_is_too_long_is_not_even_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever sends it pays more than we."""
    monkeypatch.setattr(base64, "b64decode", None)

    because("04" + "A" * 10_000_000)


@given(st.text(max_size=200))
def test_any_text_is_refused_and_nothing_worse_happens(text: str) -> None:
    """With the prefix and without."""
    because(text)
    because("04" + text)


@given(st.binary(max_size=400), st.binary(max_size=20), st.sampled_from([b"", b"\0", b"\1"]))
def test_any_bytes_are_refused_and_nothing_worse_happens(
    octets: bytes, iv: bytes, end: bytes
) -> None:
    """As base64, and in the envelope."""
    because("04" + base64.b64encode(octets).decode())
    because(enveloped(iv, octets, end=end))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@given(st.binary(max_size=300) | json_values.map(lambda value: json.dumps(value).encode()))
def test_any_text_encrypted_with_the_right_secret_is_refused(plain: bytes) -> None:
    """In both forms."""
    because(cbc(plain))
    because(gcm(plain))


@given(st.dictionaries(st.sampled_from([*SAYS, "more"]), json_values, max_size=3))
def test_any_values_encrypted_with_the_right_secret_are_read_or_refused(
    changed: dict[str, Any],
) -> None:
    """A later version of ZEGO's generators may write something else."""
    try:
        token = read(cbc(json.dumps({**SAYS, **changed}).encode()), SECRET)
    except ZegoTokenRefused:
        return
    assert token.app_id > 0
    assert token.user_id
    assert token.expires_s == NOW + TTL


@pytest.mark.parametrize("plain", [b"[" * 11_000, b'{"x":' * 2_000, b"9" * 11_000, b"\xff"])
def test_a_text_that_is_nested_or_long_is_refused(plain: bytes) -> None:
    """Whoever knows the secret could send it."""
    because(gcm(plain))
