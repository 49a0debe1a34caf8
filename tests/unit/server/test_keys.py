"""hitless.server.keys"""

from __future__ import annotations

import hmac
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitless import ConfigError
from hitless.server import keys
from hitless.server.keys import (
    BOOTSTRAP_VARIABLES,
    PERMISSIONS,
    SCOPINGS,
    Identity,
    KeyRefused,
    KeyRing,
    KeyRole,
    Permission,
    Scoping,
    bootstrap_keys,
    make_key,
)


NOW = 1_800_000_000.0
SECRET = "Zk3qP9vX1mB7nT5rL2wY8cD4fG6hJ0sA-_uEoIiQpRt"
OWNER = f"hk_owner_{SECRET}"


def ring_of(*made):
    """Return a ring that knows these keys."""
    ring = KeyRing()
    ring.replace(key.stored for key in made)
    return ring


def refusal(ring, text, now_s=NOW):
    """Return the words a key is refused with."""
    with pytest.raises(KeyRefused) as caught:
        ring.check(text, now_s)
    assert str(caught.value) == caught.value.because
    return caught.value.because


def refused(environ):
    """Return the sentence the environment is refused with."""
    with pytest.raises(ConfigError) as caught:
        bootstrap_keys(environ, now_s=NOW)
    return str(caught.value)


# --- Roles ---


def test_the_table_of_permissions_is_this_one():
    """
    Spelled out, so that nobody is given more by a slip.
    """
    expected = {
        "client": "providers.list stream.publish stream.view",
        "publisher": "providers.list stream.publish stream.view",
        "viewer-client": "providers.list stream.view",
        "viewer": "providers.list state.read",
        "operator": "providers.list state.read fleet.operate",
        "owner": "providers.list state.read fleet.operate providers.change settings.change "
        "keys.change",
    }

    assert {role: set(words.split()) for role, words in expected.items()} == PERMISSIONS


def test_every_role_has_permissions_and_a_scoping_and_every_permission_a_role():
    assert set(PERMISSIONS) == set(SCOPINGS) == set(KeyRole)
    assert frozenset().union(*PERMISSIONS.values()) == set(Permission)


def test_each_admin_role_may_all_that_the_one_below_may_and_more():
    viewer, operator, owner = (
        PERMISSIONS[role] for role in (KeyRole.VIEWER, KeyRole.OPERATOR, KeyRole.OWNER)
    )

    assert viewer < operator < owner


def test_a_publisher_may_publish_its_own_stream_and_no_other():
    identity = make_key(KeyRole.PUBLISHER, scope="a", now_s=NOW).stored.identity

    assert identity.may(Permission.PUBLISH, "a")
    assert identity.may(Permission.VIEW, "a")  # it proves itself so
    assert not identity.may(Permission.PUBLISH, "b")
    assert not identity.may(Permission.PUBLISH)
    assert identity.may(Permission.LIST_PROVIDERS)
    assert not identity.may(Permission.READ, "a")


def test_a_viewers_key_cannot_publish():
    scoped = make_key(KeyRole.VIEWER_CLIENT, scope="a", now_s=NOW).stored.identity
    free = make_key(KeyRole.VIEWER_CLIENT, now_s=NOW).stored.identity

    assert scoped.may(Permission.VIEW, "a")
    assert not scoped.may(Permission.VIEW, "b")
    assert free.may(Permission.VIEW, "b")
    assert not scoped.may(Permission.PUBLISH, "a")
    assert not free.may(Permission.PUBLISH, "a")


def test_a_client_may_any_stream_and_nothing_of_the_operators():
    identity = make_key(KeyRole.CLIENT, now_s=NOW).stored.identity

    assert identity.may(Permission.PUBLISH, "a")
    assert identity.may(Permission.VIEW, "b")
    assert not identity.may(Permission.OPERATE)


def test_an_identity_without_the_scope_its_role_needs_may_nothing_to_streams():
    """
    However it came about: no scope never means any stream.
    """
    identity = Identity(key="k", role=KeyRole.PUBLISHER, scope=None, name="")

    assert not identity.may(Permission.PUBLISH, "a")
    assert not identity.may(Permission.PUBLISH)


@pytest.mark.parametrize("role", KeyRole)
def test_a_scope_goes_with_the_roles_that_have_one(role):
    if SCOPINGS[role] is not Scoping.NEVER:
        assert make_key(role, scope="a", now_s=NOW).stored.scope == "a"
    else:
        with pytest.raises(ConfigError, match=r"scope: .* is not for one stream"):
            make_key(role, scope="a", now_s=NOW)
    if SCOPINGS[role] is not Scoping.MUST:
        assert make_key(role, now_s=NOW).stored.scope is None
    else:
        with pytest.raises(ConfigError, match=r"scope: .* is for one stream"):
            make_key(role, now_s=NOW)


@pytest.mark.parametrize(
    "wrong", [{"scope": ""}, {"scope": "s" * 257}, {"scope": "a", "name": "n" * 201}]
)
def test_names_that_are_too_long_or_empty_are_refused(wrong):
    with pytest.raises(ConfigError, match="characters"):
        make_key(KeyRole.PUBLISHER, now_s=NOW, **wrong)


# --- Checking ---


def test_a_key_that_was_made_stands_for_its_identity():
    made = make_key(KeyRole.PUBLISHER, scope="a", name="studio", now_s=NOW)

    identity = ring_of(made).check(made.text, NOW)

    assert identity == Identity(
        key=made.stored.id, role=KeyRole.PUBLISHER, scope="a", name="studio"
    )
    assert made.text.startswith(f"hk_{made.stored.id}_")
    assert len(made.text.split("_", 2)[2]) >= 43  # 256 bits


def test_two_keys_share_nothing():
    one, other = (make_key(KeyRole.CLIENT, now_s=NOW) for _ in range(2))

    assert one.stored.id != other.stored.id
    assert one.stored.salt != other.stored.salt
    assert one.stored.hash != other.stored.hash
    assert one.text.split("_", 2)[2] != other.text.split("_", 2)[2]


def test_an_unknown_id_and_a_wrong_secret_are_refused_in_the_same_words():
    made, other = (make_key(KeyRole.CLIENT, now_s=NOW) for _ in range(2))
    ring = ring_of(made)
    wrong = f"hk_{made.stored.id}_{other.text.split('_', 2)[2]}"

    assert refusal(ring, wrong) == refusal(ring, other.text) == "no such key"


def test_known_unknown_and_revoked_keys_cost_the_same_work(monkeypatch):
    """
    One hash of a secret and one comparison in constant time, whoever asks.
    """
    made, unknown = (make_key(KeyRole.CLIENT, now_s=NOW) for _ in range(2))
    over = replace(made.stored, id="0" * 16, revoked_s=NOW)
    ring = KeyRing()
    ring.replace([made.stored, over])
    work = []

    class Counting:
        @staticmethod
        def digest(key, message, digest):
            work.append(("digest", len(key), len(message), digest))
            return hmac.digest(key, message, digest)

        @staticmethod
        def compare_digest(one, other):
            work.append(("compare", len(one), len(other)))
            return hmac.compare_digest(one, other)

    monkeypatch.setattr(keys, "hmac", Counting)

    def work_of(text):
        work.clear()
        try:
            ring.check(text, NOW)
        except KeyRefused:
            pass
        return list(work)

    secret = made.text.split("_", 2)[2]
    known = work_of(made.text)
    assert known == [("digest", 16, 43, "sha256"), ("compare", 32, 32)]
    assert work_of(unknown.text) == known
    assert work_of(f"hk_{made.stored.id}_{secret[::-1]}") == known
    assert work_of(f"hk_{over.id}_{secret}") == known


def test_a_revoked_key_stops_at_once_even_by_a_clock_that_is_behind():
    made = make_key(KeyRole.CLIENT, now_s=NOW)
    for revoked_s in (NOW, NOW + 3_600.0, 0.0):
        ring = KeyRing()
        ring.replace([replace(made.stored, revoked_s=revoked_s)])

        assert refusal(ring, made.text) == "this key was revoked"


def test_a_key_stops_at_the_second_it_expires():
    made = make_key(KeyRole.CLIENT, now_s=NOW, expires_s=NOW + 10.0)
    ring = ring_of(made)

    assert ring.check(made.text, NOW + 9.9).key == made.stored.id
    assert refusal(ring, made.text, NOW + 10.0) == "this key has expired"


def test_that_a_key_is_over_is_told_to_its_holder_only():
    made, other = (make_key(KeyRole.CLIENT, now_s=NOW) for _ in range(2))
    ring = KeyRing()
    ring.replace([replace(made.stored, revoked_s=NOW)])

    assert refusal(ring, f"hk_{made.stored.id}_{other.text[-43:]}") == "no such key"


def test_a_key_that_is_over_when_it_is_made_is_refused():
    for expires_s in (NOW, float("nan")):
        with pytest.raises(ConfigError, match="expires_s"):
            make_key(KeyRole.CLIENT, now_s=NOW, expires_s=expires_s)


def test_nobody_is_the_key_with_no_name():
    """
    What unknown ids are compared with opens nothing, even to who guessed it.
    """
    ring = KeyRing()
    salt = ring._nobody.salt
    ring._nobody = replace(ring._nobody, hash=hmac.digest(salt, SECRET.encode(), "sha256"))

    assert refusal(ring, OWNER) == "no such key"


@given(
    st.one_of(
        st.text(),
        st.from_regex(r"hk_[a-z0-9]{0,40}_[\w-]{30,140}"),
        st.text(alphabet="hk_aZ0-é\n\0 \ud800", max_size=80),
    )
)
def test_any_text_is_refused_and_nothing_worse_happens(text):
    refusal(KeyRing(), text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Bearer " + OWNER,
        OWNER + "\n",
        " " + OWNER,
        OWNER.upper(),
        OWNER[:-1],  # 42 characters: under 256 bits
        f"hk_owner_{SECRET}{'A' * 100}",
        f"hk__{SECRET}",
        f"hk_öwner_{SECRET}",
        "hk_owner_" + "A" * 10_000_000,
    ],
)
def test_what_is_no_key_is_refused_before_anything_is_looked_up(text):
    ring = KeyRing(bootstrap_keys({"HITLESS_OWNER_KEY": OWNER}, now_s=NOW))

    assert "not a key" in refusal(ring, text)


# --- Rotation ---


def test_a_new_key_counts_and_an_old_one_stops_without_a_restart():
    old, new = (make_key(KeyRole.CLIENT, now_s=NOW) for _ in range(2))
    ring = ring_of(old)
    ring.replace([old.stored, new.stored])
    assert {ring.check(key.text, NOW).key for key in (old, new)} == {
        old.stored.id,
        new.stored.id,
    }

    ring.replace([new.stored])

    assert ring.check(new.text, NOW).key == new.stored.id
    assert refusal(ring, old.text) == "no such key"
    assert len(ring) == 1


def test_whether_a_key_that_was_good_once_still_is():
    made = make_key(KeyRole.CLIENT, now_s=NOW, expires_s=NOW + 10.0)
    ring = ring_of(made)

    assert not ring.is_revoked(made.stored.id, NOW)
    assert ring.is_revoked(made.stored.id, NOW + 10.0)
    ring.replace([replace(made.stored, revoked_s=NOW)])
    assert ring.is_revoked(made.stored.id, NOW)
    ring.replace([])
    assert ring.is_revoked(made.stored.id, NOW)


# --- Keys of environment and files ---


@pytest.mark.parametrize(("variable", "role"), BOOTSTRAP_VARIABLES.items())
def test_the_first_keys_come_from_the_environment(variable, role):
    ring = KeyRing(bootstrap_keys({variable: OWNER}, now_s=NOW))

    identity = ring.check(OWNER, NOW)

    assert (identity.key, identity.role, identity.scope) == ("owner", role, None)


def test_a_changed_file_counts_without_a_restart(tmp_path):
    """
    Old and new side by side first, so that nobody is locked out between.
    """
    file = tmp_path / "owner.key"
    environ = {"HITLESS_OWNER_KEY_FILE": str(file)}
    new = make_key(KeyRole.OWNER, now_s=NOW).text
    file.write_text(OWNER + "\n")
    ring = KeyRing(bootstrap_keys(environ, now_s=NOW))

    file.write_text(f"{OWNER}\n{new}\n")
    ring.replace_bootstrap(bootstrap_keys(environ, now_s=NOW))
    assert ring.check(OWNER, NOW).role == ring.check(new, NOW).role == KeyRole.OWNER

    file.write_text(new)
    ring.replace_bootstrap(bootstrap_keys(environ, now_s=NOW))
    assert refusal(ring, OWNER) == "no such key"


def test_rows_of_the_database_neither_remove_nor_replace_the_first_keys():
    ring = KeyRing(bootstrap_keys({"HITLESS_OWNER_KEY": OWNER}, now_s=NOW))
    row = replace(make_key(KeyRole.VIEWER, now_s=NOW).stored, id="owner", revoked_s=NOW)

    ring.replace([row])
    assert ring.check(OWNER, NOW).role is KeyRole.OWNER
    ring.replace([])
    assert ring.check(OWNER, NOW).role is KeyRole.OWNER
    ring.replace([row])
    ring.replace_bootstrap([])
    assert refusal(ring, OWNER) == "no such key"


def test_the_same_key_is_salted_anew_each_time():
    one, other = (bootstrap_keys({"HITLESS_OWNER_KEY": OWNER}, now_s=NOW)[0] for _ in range(2))

    assert one.hash != other.hash


@pytest.mark.parametrize(
    "given_",
    [
        "s3cret",
        f"owner_{SECRET}",
        OWNER[:-1],
        f"hk_owner_{'correct-horse-battery'[:8] * 6}",
        f"hk_owner_{'A' * 43}",
        f"{OWNER} {OWNER}",
        " ".join(f"hk_own{number:03}_{SECRET}" for number in range(17)),
    ],
)
def test_what_is_no_random_key_is_refused_and_never_quoted(given_):
    sentence = refused({"HITLESS_OWNER_KEY": given_})

    assert "HITLESS_OWNER_KEY" in sentence
    for word in given_.split():
        assert word not in sentence
        assert word.rpartition("_")[2] not in sentence


def test_sixteen_first_keys_of_a_role_are_enough():
    words = " ".join(f"hk_own{number:03}_{SECRET}" for number in range(16))

    assert len(bootstrap_keys({"HITLESS_OWNER_KEY": words}, now_s=NOW)) == 16


def test_one_id_in_two_variables_is_refused():
    sentence = refused({"HITLESS_OWNER_KEY": OWNER, "HITLESS_VIEWER_KEY": OWNER})

    assert "'owner' is given twice" in sentence


def test_a_variable_and_its_file_at_once_are_refused(tmp_path):
    sentence = refused(
        {"HITLESS_OWNER_KEY": OWNER, "HITLESS_OWNER_KEY_FILE": str(tmp_path / "key")}
    )

    assert "both set" in sentence


def test_without_variables_there_are_no_first_keys():
    assert bootstrap_keys({"HITLESS_OWNER_KEY": " "}, now_s=NOW) == ()


# --- Nothing shows a secret ---


def test_no_repr_and_no_refusal_shows_a_secret():
    made = make_key(KeyRole.CLIENT, now_s=NOW)
    ring = ring_of(made)
    secret = made.text.split("_", 2)[2]
    first = bootstrap_keys({"HITLESS_OWNER_KEY": OWNER}, now_s=NOW)
    ring.replace_bootstrap(first)
    with pytest.raises(KeyRefused) as caught:
        KeyRing().check(made.text, NOW)

    shown = " ".join(map(repr, (made, made.stored, ring, first, caught.value, ring.__dict__)))

    assert made.stored.id in shown
    for hidden in (secret, SECRET, repr(made.stored.hash), repr(made.stored.salt)):
        assert hidden not in shown
