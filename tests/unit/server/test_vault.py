"""hitless.server.vault"""

from __future__ import annotations

import base64
import json
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitless import ConfigError
from hitless.server.vault import (
    SECRET_BYTES_MAX,
    RootKey,
    SecretUnreadable,
    Vault,
    new_key,
    parse_root_keys,
    read_root_keys,
)


ONE, TWO = (base64.b64encode(bytes(range(start, start + 32))).decode() for start in (0, 100))
VAULT = Vault(parse_root_keys("key", ONE))
SECRET = "s3cret-app-certificate"
SEALED = VAULT.seal("agora", "certificate", SECRET)


def vault(*words):
    """Return a vault with these keys."""
    return Vault(parse_root_keys("key", " ".join(words)))


def unreadable(call, *args):
    """Return why a call cannot read a secret; no part of secret or sealed text is in it."""
    with pytest.raises(SecretUnreadable) as caught:
        call(*args)
    assert SECRET not in str(caught.value)
    assert SEALED.rpartition(".")[2] not in str(caught.value)
    assert caught.value.__cause__ is None
    return caught.value.because


def refused(text):
    """Return the sentence that a text is refused with as keys."""
    with pytest.raises(ConfigError) as caught:
        parse_root_keys("HITLESS_VAULT_KEY", text)
    return str(caught.value)


# --- Sealing ---


@given(st.text(max_size=300), st.text(max_size=20), st.text(max_size=20))
def test_what_was_sealed_opens_again(secret, provider, field):
    sealed = VAULT.seal(provider, field, secret)

    assert VAULT.open(provider, field, sealed) == secret
    assert sealed.isascii()
    assert sealed.isprintable()


def test_the_largest_secret_fits_and_one_byte_more_does_not():
    largest = "é" * (SECRET_BYTES_MAX // 2)

    assert VAULT.open("a", "b", VAULT.seal("a", "b", largest)) == largest
    with pytest.raises(ConfigError, match=r"a\.b: longer than 65536 bytes"):
        VAULT.seal("a", "b", largest + "x")


def test_what_cannot_be_encoded_is_refused_and_never_quoted():
    with pytest.raises(ConfigError) as caught:
        VAULT.seal("agora", "token", SECRET + "\ud800")

    assert str(caught.value) == "agora.token: the secret is not UTF-8 text"
    assert caught.value.__cause__ is None


def test_the_same_secret_is_sealed_differently_each_time():
    """
    A nonce used twice would give the key away.
    """
    sealed = {VAULT.seal("a", "b", SECRET) for _ in range(100)}

    assert len({text.split(".")[2][:16] for text in sealed}) == 100


@pytest.mark.parametrize(
    ("provider", "field"),
    [("zegocloud", "certificate"), ("agora", "token"), ("agoracertificate", ""), ("", "agora")],
)
def test_a_secret_moved_to_another_provider_or_field_does_not_open(provider, field):
    because = unreadable(VAULT.open, provider, field, SEALED)

    assert because == "it was changed, or sealed for another provider or field"


@given(st.integers(0, len(SEALED) - 1), st.sampled_from("AZaz09-_.=+/ \n\0é"))
def test_no_character_of_a_sealed_text_can_be_changed(place, other):
    changed = SEALED[:place] + other + SEALED[place + 1 :]
    if changed != SEALED:
        unreadable(VAULT.open, "agora", "certificate", changed)


@pytest.mark.parametrize("secret", ["", "x", "xy", "xyz"])
def test_the_bits_after_the_last_byte_cannot_be_changed_either(secret):
    """
    Base64 has some for most lengths: one secret would have several sealed texts.
    """
    sealed = VAULT.seal("a", "b", secret)

    for other in set(string.ascii_letters + string.digits + "-_") - {sealed[-1]}:
        unreadable(VAULT.open, "a", "b", sealed[:-1] + other)


@pytest.mark.parametrize("cut", [0, 1, 10, 40, len(SEALED) - 1])
def test_a_sealed_text_that_was_cut_does_not_open(cut):
    unreadable(VAULT.open, "agora", "certificate", SEALED[:cut])


@given(st.one_of(st.text(), st.from_regex(r"v1\.[0-9a-f]{16}\.[\w-]{30,60}")))
def test_any_text_is_unreadable_and_nothing_worse_happens(text):
    unreadable(VAULT.open, "agora", "certificate", text)
    unreadable(VAULT.open_all, "agora", text)


# --- Rotation ---


def test_a_secret_does_not_open_with_another_key():
    """
    The message names the key that is missing, which helps and shows nothing.
    """
    because = unreadable(vault(TWO).open, "agora", "certificate", SEALED)

    assert because.startswith("it was sealed with key ")
    assert parse_root_keys("key", ONE)[0].id in because


def test_a_key_id_that_was_exchanged_does_not_open_the_secret():
    both = vault(ONE, TWO)
    one, two = parse_root_keys("key", f"{ONE} {TWO}")

    unreadable(both.open, "agora", "certificate", SEALED.replace(one.id, two.id))


def test_keys_are_rotated_by_one_in_front_resealing_and_taking_the_old_away():
    both = vault(TWO, ONE)
    assert both.open("agora", "certificate", SEALED) == SECRET

    renewed = both.reseal("agora", "certificate", SEALED)

    assert renewed is not None
    assert vault(TWO).open("agora", "certificate", renewed) == SECRET
    assert both.reseal("agora", "certificate", renewed) is None
    unreadable(VAULT.open, "agora", "certificate", renewed)


def test_a_vault_takes_new_keys_without_a_restart():
    changing = vault(ONE)
    changing.replace(parse_root_keys("key", TWO))

    unreadable(changing.open, "agora", "certificate", SEALED)
    with pytest.raises(ConfigError, match="at least one key"):
        changing.replace(())


# --- All secrets of a provider ---


def test_the_secrets_of_a_provider_are_one_text():
    secrets = {"token": SECRET, "view_token": ""}

    text = VAULT.seal_all("webrtc", secrets)

    assert VAULT.open_all("webrtc", text) == secrets
    assert SECRET not in text
    assert VAULT.open_all("webrtc", VAULT.seal_all("webrtc", {})) == {}


def test_the_secrets_of_a_provider_cannot_be_exchanged():
    table = json.loads(VAULT.seal_all("webrtc", {"token": SECRET, "view_token": "v"}))
    table["token"], table["view_token"] = table["view_token"], table["token"]

    unreadable(VAULT.open_all, "webrtc", json.dumps(table))


def test_all_secrets_of_a_provider_are_resealed_or_none_needs_it():
    both = vault(TWO, ONE)
    table = {
        **json.loads(VAULT.seal_all("webrtc", {"token": SECRET})),
        **json.loads(both.seal_all("webrtc", {"view_token": "v"})),
    }

    renewed = both.reseal_all("webrtc", json.dumps(table))

    assert renewed is not None
    assert vault(TWO).open_all("webrtc", renewed) == {"token": SECRET, "view_token": "v"}
    assert json.loads(renewed)["view_token"] == table["view_token"]
    assert both.reseal_all("webrtc", renewed) is None


@pytest.mark.parametrize(
    "text", ["", "[]", '"x"', '{"a": 1}', '{"a": null}', "[" * 100_000, "9" * 100_000]
)
def test_what_is_no_table_of_sealed_texts_is_unreadable(text):
    assert "table" in unreadable(VAULT.open_all, "webrtc", text)


# --- Keys ---


def test_a_new_key_is_a_key_and_each_is_another():
    words = {new_key() for _ in range(10)}

    assert len(words) == 10
    assert all(len(key.octets) == 32 for key in parse_root_keys("key", " ".join(words)))


def test_a_key_may_be_base64_or_base64url_padded_or_not():
    octets = bytes(range(224, 256))  # its base64 has + and /
    plain, url = base64.b64encode(octets).decode(), base64.urlsafe_b64encode(octets).decode()
    assert plain != url

    for word in (plain, url, plain.rstrip("="), f"  {url}\n"):
        assert parse_root_keys("key", word)[0].octets == octets


def test_the_first_of_several_keys_seals():
    sealed = vault(f"{TWO},", ONE).seal("a", "b", SECRET)

    assert vault(TWO).open("a", "b", sealed) == SECRET


@given(st.text())
def test_any_text_as_a_key_is_refused_and_nothing_worse_happens(text):
    refused(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " , ",
        "s3cret-passphrase",
        base64.b64encode(bytes(31)).decode(),
        base64.b64encode(bytes(range(33))).decode(),
        base64.b64encode(bytes(32)).decode(),
        base64.b64encode(b"hunter2 " * 4).decode(),
        f"{ONE} {ONE}",
        " ".join(new_key() for _ in range(17)),
        ONE[:-1] + "é",
    ],
)
def test_what_is_no_random_key_is_refused_and_never_quoted(text):
    sentence = refused(text)

    assert sentence.startswith("HITLESS_VAULT_KEY: ")
    assert not any(word in sentence for word in text.split() if len(word) > 1)


def test_keys_come_from_a_variable_or_a_file(tmp_path):
    file = tmp_path / "vault.key"
    file.write_text(f"{TWO}\n{ONE}\n")
    one, two = (parse_root_keys("key", word)[0] for word in (ONE, TWO))

    assert read_root_keys("HITLESS_VAULT_KEY", {"HITLESS_VAULT_KEY": ONE}) == (one,)
    assert read_root_keys("HITLESS_VAULT_KEY", {"HITLESS_VAULT_KEY_FILE": str(file)}) == (
        two,
        one,
    )


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({}, "HITLESS_VAULT_KEY is not set: make a key with `hitless serve --new-keys`"),
        ({"HITLESS_VAULT_KEY": ONE, "HITLESS_VAULT_KEY_FILE": "/f"}, "are both set"),
        ({"HITLESS_VAULT_KEY_FILE": "/nowhere/key"}, "No such file"),
    ],
)
def test_a_missing_key_is_told_with_the_way_out(environ, says):
    with pytest.raises(ConfigError) as caught:
        read_root_keys("HITLESS_VAULT_KEY", environ)

    assert says in str(caught.value)
    assert ONE not in str(caught.value)


def test_no_repr_shows_a_key():
    (key,) = parse_root_keys("key", ONE)

    shown = repr(key) + str(key) + repr(Vault([key])) + repr(vars(Vault([key])))

    assert key.id in shown
    assert repr(key.octets) not in shown
    assert key.octets.hex() not in shown


def test_the_id_of_a_key_is_not_a_part_of_it():
    key = RootKey(bytes(range(32)))

    assert key.id not in key.octets.hex()
    assert len(key.id) == 16
