"""
hitless.providers.agora_token, against tokens of Agora's own builders.

What is compared is what was inflated: deflate differs by language.
"""

from __future__ import annotations

import base64
import hmac
import json
import re
import struct
import zlib
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitless.core.events import Role
from hitless.errors import ConfigError
from hitless.providers import agora_token
from hitless.providers.agora_token import (
    AgoraToken,
    AgoraTokenRefused,
    Privilege,
    Service,
    ServiceType,
    mint,
    read,
    rtc,
)


VECTORS = json.loads(
    (Path(__file__).parents[2] / "vectors" / "agora_token_vectors.json").read_text()
)
OFFICIAL = VECTORS["official_literals_parsed"]["vectors"]
NAMED = VECTORS["python_node_cpp"]
APP, CERTIFICATE = NAMED[0]["app_id"], NAMED[0]["app_certificate"]
OTHER_CERTIFICATE = "0" * 32
ISSUED, TTL = 1_800_000_000, 600
TYPES = {"rtc": 1, "rtm": 2, "chat": 5, "apaas_user": 7}
PUBLISHER = rtc("show-1", 7, Role.PUBLISHER, TTL)


def inflated(token: str) -> bytes:
    """Return what is inside a token."""
    return zlib.decompress(base64.b64decode(token.removeprefix("007")))


def deflated(octets: bytes) -> str:
    """Return a token with this inside."""
    return "007" + base64.b64encode(zlib.compress(octets)).decode()


def signed(body: bytes, certificate: str = CERTIFICATE) -> str:
    """Return a token made by hand, with a right signature around whatever services."""
    what = struct.pack("<H", 32) + APP.encode() + struct.pack("<III", ISSUED, TTL, 1) + body
    key = hmac.digest(struct.pack("<I", ISSUED), certificate.encode(), "sha256")
    key = hmac.digest(struct.pack("<I", 1), key, "sha256")
    return deflated(struct.pack("<H", 32) + hmac.digest(key, what, "sha256") + what)


def minted(*services: Service, now_s: float = ISSUED, ttl_s: int = TTL) -> str:
    """Return a token of ours."""
    return mint(APP, CERTIFICATE, services or (PUBLISHER,), now_s=now_s, ttl_s=ttl_s)


def because(token: str, certificate: str = CERTIFICATE) -> str:
    """Return why a token is refused, and that nothing of it is told."""
    with pytest.raises(AgoraTokenRefused) as caught:
        read(token, certificate)
    assert caught.value.__cause__ is None
    assert str(caught.value) == caught.value.because
    return caught.value.because


def whole_numbers(entries: dict[str, Any]) -> dict[int, Any]:
    """Return a table with the numbers as keys that JSON wrote as texts."""
    return {int(key): value for key, value in entries.items()}


def service_of(vector: dict[str, Any]) -> Service:
    """Return a service as the official literals' parser wrote it down."""
    names = {
        1: ("channel_name", "uid"),
        2: ("user_id",),
        3: ("channel_name", "account"),
        4: (),
        5: ("user_id",),
        6: ("channel_name", "account"),
        7: ("room_uuid", "user_uuid"),
        8: ("user_id",),
    }[vector["type"]]
    return Service(
        type=ServiceType(vector["type"]),
        privileges=whole_numbers(vector["privileges"]),
        names=tuple(vector[name] for name in names),
        role=vector.get("role", -1),
        permissions={
            resource: {
                permission: tuple(allowed)
                for permission, allowed in whole_numbers(permissions).items()
            }
            for resource, permissions in whole_numbers(vector.get("permissions", {})).items()
        },
    )


def named_service(vector: dict[str, Any]) -> Service:
    """Return a service of one of the named vectors."""
    number, who = TYPES[vector["type"]], vector["uid_or_account"]
    return Service(
        type=ServiceType(number),
        privileges=whole_numbers(vector["privileges"]),
        names={
            1: (vector["channel"], agora_token.uid_text(who)),
            2: (str(who),),
            5: (str(who),),
            7: ("", str(who)),
        }[number],
    )


# --- Agora's own tokens ---


def test_there_are_as_many_vectors_as_the_facts_say() -> None:
    """A file that lost some would let the tests below pass."""
    assert (len(NAMED), len(OFFICIAL), len(VECTORS["go_spelling"])) == (6, 13, 8)
    assert len(VECTORS["cross_language_same_content"]["tokens"]) == 4
    assert {service["type"] for each in OFFICIAL for service in each["services"]} == {*ServiceType}


@pytest.mark.parametrize("vector", NAMED, ids=lambda vector: vector["name"])
def test_a_named_token_is_made_again(vector: dict[str, Any]) -> None:
    """The same bytes inside, from the same inputs."""
    token = mint(
        vector["app_id"],
        vector["app_certificate"],
        [named_service(service) for service in vector["services"]],
        now_s=vector["issue_ts"] + 0.9,
        ttl_s=vector["expire"],
        salt=vector["salt"],
    )

    assert inflated(token).hex() == vector["inflated_hex"]
    assert inflated(vector["token"]).hex() == vector["inflated_hex"]


@pytest.mark.parametrize("vector", OFFICIAL, ids=lambda vector: vector["token"][15:27])
def test_an_official_token_is_read_and_made_again(vector: dict[str, Any]) -> None:
    """Every service there is, as Agora's own parser reads it."""
    services = tuple(service_of(service) for service in vector["services"])

    token = read(vector["token"], CERTIFICATE)

    assert token == AgoraToken(
        app_id=vector["app_id"],
        issued_s=vector["issue_ts"],
        ttl_s=vector["expire"],
        salt=vector["salt"],
        services=services,
        is_whole=True,
    )
    again = mint(APP, CERTIFICATE, services, now_s=1_111_111, ttl_s=600, salt=1)
    assert inflated(again) == inflated(vector["token"])


@pytest.mark.parametrize("vector", VECTORS["go_spelling"], ids=lambda vector: vector["token"][:24])
def test_the_spelling_of_go_is_read(vector: dict[str, Any]) -> None:
    """It deflates otherwise."""
    token = read(vector["token"], CERTIFICATE)

    again = mint(APP, CERTIFICATE, token.services, now_s=1_111_111, ttl_s=600, salt=1)
    assert inflated(again).hex() == vector["inflated_hex"]


def test_four_languages_say_the_same() -> None:
    """Go, Node, Dart and Rust."""
    same = VECTORS["cross_language_same_content"]
    texts = [each["token"] for each in same["tokens"]]

    assert len(set(texts)) == 4
    assert len({repr(read(text, CERTIFICATE)) for text in texts}) == 1
    again = mint(
        APP, CERTIFICATE, read(texts[0], CERTIFICATE).services, now_s=1_111_111, ttl_s=600, salt=1
    )
    assert inflated(again).hex() == same["inflated_hex"]


# --- Ours ---


services_of = st.builds(
    Service,
    type=st.just(ServiceType.RTM2),
    privileges=st.dictionaries(st.integers(0, 2**16 - 1), st.integers(0, 2**32 - 1), max_size=4),
    names=st.tuples(st.text(max_size=20)),
    permissions=st.dictionaries(
        st.integers(0, 2**16 - 1),
        st.dictionaries(
            st.integers(0, 2**16 - 1),
            st.lists(st.text(max_size=8), max_size=3).map(tuple),
            max_size=3,
        ),
        max_size=3,
    ),
) | st.builds(
    Service,
    type=st.just(ServiceType.APAAS),
    privileges=st.dictionaries(st.integers(0, 2**16 - 1), st.integers(0, 2**32 - 1), max_size=4),
    names=st.tuples(st.text(max_size=20), st.text(max_size=20)),
    role=st.integers(-(2**15), 2**15 - 1),
)


@given(st.lists(services_of, min_size=1, max_size=4), st.integers(0, 2**32 - 1))
def test_what_was_minted_is_read_back(services: list[Service], now_s: int) -> None:
    """The services by type, those of one type in their order."""
    token = read(minted(*services, now_s=now_s), CERTIFICATE)

    assert (token.app_id, token.issued_s, token.ttl_s) == (APP, now_s, TTL)
    assert list(token.services) == sorted(services, key=lambda service: service.type)
    assert 1 <= token.salt <= 99_999_999


def test_two_tokens_of_one_second_differ() -> None:
    """By their salt."""
    assert len({read(minted(), CERTIFICATE).salt for _ in range(20)}) > 1


def test_a_publisher_may_everything_and_a_viewer_may_only_join() -> None:
    """By their privileges; whether Agora looks at them is the project's setting."""
    publisher = read(minted(), CERTIFICATE)
    viewer = read(minted(rtc("show-1", 8, Role.VIEWER, TTL)), CERTIFICATE)

    assert [p for p in Privilege if publisher.may(p, "show-1", 7, ISSUED)] == [*Privilege]
    assert [p for p in Privilege if viewer.may(p, "show-1", 8, ISSUED)] == [Privilege.JOIN]


def test_a_token_is_for_one_channel_and_one_user() -> None:
    """Of whatever spelling: the number 7 and the account "7" are one."""
    token = read(minted(), CERTIFICATE)

    assert token.may(Privilege.JOIN, "show-1", "7", ISSUED)
    assert not token.may(Privilege.JOIN, "show-2", 7, ISSUED)
    assert not token.may(Privilege.JOIN, "show-1", 8, ISSUED)
    assert not token.may(Privilege.JOIN, "show-1", 0, ISSUED)


def test_uid_0_is_any_user() -> None:
    """As in official tokens."""
    token = read(minted(rtc("show-1", 0, Role.VIEWER, TTL)), CERTIFICATE)

    assert token.may(Privilege.JOIN, "show-1", 4_294_967_295, ISSUED)
    assert token.may(Privilege.JOIN, "show-1", "somebody", ISSUED)


def test_a_token_of_another_service_opens_no_channel() -> None:
    """Though its names are the same."""
    streaming = Service(
        type=ServiceType.STREAMING, privileges={1: TTL, 2: TTL}, names=("show-1", "7")
    )

    token = read(minted(streaming), CERTIFICATE)

    assert not any(token.may(privilege, "show-1", 7, ISSUED) for privilege in Privilege)


def test_a_token_and_each_of_its_privileges_end_by_themselves() -> None:
    """Both count from the issue; a privilege of 0 s never begins."""
    uneven = Service(
        type=ServiceType.RTC, privileges={1: 3_600, 2: 60, 3: 0}, names=("show-1", "7")
    )
    token = read(minted(uneven), CERTIFICATE)

    def may(privilege: Privilege, after_s: float) -> bool:
        return token.may(privilege, "show-1", 7, ISSUED + after_s)

    assert may(Privilege.PUBLISH_AUDIO, 59.9)
    assert not may(Privilege.PUBLISH_AUDIO, 60.0)
    assert not may(Privilege.PUBLISH_VIDEO, 0.0)
    assert may(Privilege.JOIN, 599.9)
    assert not may(Privilege.JOIN, 600.0)
    assert not token.is_expired(ISSUED + 599.9)
    assert token.is_expired(ISSUED + 600.0)


def test_what_was_read_cannot_be_changed() -> None:
    """Nobody gives himself a privilege by the way."""
    token = read(minted(), CERTIFICATE)

    with pytest.raises(FrozenInstanceError):
        token.ttl_s = 9  # type: ignore[misc]  # on purpose
    with pytest.raises(FrozenInstanceError):
        token.services[0].names = ()  # type: ignore[misc]  # on purpose


# --- What cannot be minted ---


@pytest.mark.parametrize(
    "wrong", ["", "0" * 31, "0" * 33, "g" * 32, "\u0660" * 32, "0" * 32 + "\n"]
)
def test_an_id_of_the_wrong_form_is_named_and_never_quoted(wrong: str) -> None:
    """Agora's builders return an empty token instead."""
    for field, app_id, certificate in (
        ("app_id", wrong, CERTIFICATE),
        ("certificate", APP, wrong),
    ):
        with pytest.raises(ConfigError, match=rf"^{field}: give the 32") as caught:
            mint(app_id, certificate, [PUBLISHER], now_s=ISSUED, ttl_s=TTL)
        assert not wrong or wrong not in str(caught.value)
    with pytest.raises(ConfigError, match=r"^certificate: "):
        read(minted(), wrong)


def test_what_does_not_fit_into_a_token_is_refused() -> None:
    """Before anybody is given it."""
    many = Service(
        type=ServiceType.RTM2,
        privileges={1: TTL},
        names=("user",),
        permissions={n: {0: ("x" * 60_000,)} for n in range(3)},
    )
    cases: list[tuple[str, list[Service], dict[str, Any]]] = [
        ("services: give at least one", [], {}),
        ("ttl_s", [PUBLISHER], {"ttl_s": 0}),
        ("32 bits", [PUBLISHER], {"ttl_s": 2**32}),
        ("32 bits", [PUBLISHER], {"now_s": -1.0}),
        ("32 bits", [PUBLISHER], {"now_s": 2.0**32}),
        ("32 bits", [PUBLISHER], {"salt": -1}),
        ("65535 bytes", [rtc("x" * 65_536, 0, Role.VIEWER, TTL)], {}),
        ("Unicode", [rtc("\ud800", 0, Role.VIEWER, TTL)], {}),
        ("RTC: it takes 2", [Service(type=ServiceType.RTC, privileges={1: 1})], {}),
        ("too many or too long", [many], {}),
    ]
    for says, services, more in cases:
        with pytest.raises(ConfigError, match=re.escape(says)):
            mint(APP, CERTIFICATE, services, **({"now_s": ISSUED, "ttl_s": TTL} | more))


@pytest.mark.parametrize("uid", [-1, 1 << 32])
def test_a_uid_out_of_range_is_refused(uid: int) -> None:
    """Agora has 32 bits for it."""
    with pytest.raises(ConfigError, match="uid"):
        rtc("show-1", uid, Role.VIEWER, TTL)
    with pytest.raises(ConfigError, match="channel"):
        rtc("", 1, Role.VIEWER, TTL)


# --- What is refused ---


def test_a_token_signed_with_another_certificate_is_refused() -> None:
    """And one whose case was changed: the certificate is text."""
    token = minted()

    assert "signed by somebody else" in because(token, OTHER_CERTIFICATE)
    assert "signed by somebody else" in because(token, CERTIFICATE.lower())


def test_no_byte_of_a_token_can_be_changed() -> None:
    """Each in turn."""
    octets = inflated(minted())

    for place in range(len(octets)):
        changed = bytearray(octets)
        changed[place] ^= 1
        because(deflated(bytes(changed)))


def test_a_token_that_was_cut_off_is_refused() -> None:
    """At any place, outside and inside."""
    token = minted()
    octets = inflated(token)

    for length in range(len(token)):
        because(token[:length])
    for length in range(len(octets)):
        because(deflated(octets[:length]))
    because(token + token[3:])
    because(token + "A" * 4)


def test_services_of_an_unknown_type_end_the_reading_and_not_the_token() -> None:
    """Those before it are kept, those after it cannot be found."""
    known = struct.pack("<HHHI", 1, 1, 1, TTL) + struct.pack("<H", 6) + b"show-1" + b"\1\0" + b"7"
    unknown = struct.pack("<HH", 99, 0)

    token = read(signed(struct.pack("<H", 3) + known + unknown + known), CERTIFICATE)

    assert [service.type for service in token.services] == [ServiceType.RTC]
    assert not token.is_whole
    assert token.may(Privilege.JOIN, "show-1", 7, ISSUED)
    assert read(signed(struct.pack("<H", 1) + known), CERTIFICATE).is_whole


def test_a_token_of_another_version_is_refused() -> None:
    """006 has another form."""
    because("006" + minted()[3:])
    because("")


@pytest.mark.parametrize("size", [70_000, 10_000_000])
def test_not_more_is_inflated_than_may_be(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Short texts can hold millions of bytes."""
    produced: list[int] = []
    real = zlib.decompressobj

    class Counted:
        def __init__(self) -> None:
            self._real = real()

        def decompress(self, octets: bytes, most: int) -> bytes:
            out = self._real.decompress(octets, most)
            produced.append(len(out))
            return out

        def __getattr__(self, name: str) -> Any:
            return getattr(self._real, name)

    monkeypatch.setattr(zlib, "decompressobj", Counted)

    bomb = deflated(bytes(size))

    because(bomb)

    assert len(bomb) <= agora_token.TOKEN_CHARS_MAX
    assert produced == [agora_token.INFLATED_BYTES_MAX]


def test_a_text_that_is_too_long_is_not_even_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever sends it pays more than we."""
    monkeypatch.setattr(base64, "b64decode", None)

    because("007" + "A" * 10_000_000)


@given(st.text(max_size=200))
def test_any_text_is_refused_and_nothing_worse_happens(text: str) -> None:
    """With the prefix and without."""
    because(text)
    because("007" + text)


@given(st.binary(max_size=400))
def test_any_bytes_are_refused_and_nothing_worse_happens(octets: bytes) -> None:
    """As base64, and deflated."""
    because("007" + base64.b64encode(octets).decode())
    because(deflated(octets))


@given(st.binary(max_size=200) | st.integers(1, 8).map(lambda n: struct.pack("<HH", 1, n)))
def test_any_services_with_a_right_signature_are_read_or_refused(body: bytes) -> None:
    """A later version of Agora's builders may write something else."""
    for services in (body, struct.pack("<H", 1) + body):
        try:
            token = read(signed(services), CERTIFICATE)
        except AgoraTokenRefused:
            continue
        assert token.app_id == APP
        assert all(isinstance(service.type, ServiceType) for service in token.services)


def test_the_signature_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it could be guessed byte by byte."""
    compared: list[tuple[bytes, bytes]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return False

    monkeypatch.setattr(hmac, "compare_digest", compare)

    assert "signed by somebody else" in because(minted())
    assert len(compared) == 1
    assert compared[0][0] == compared[0][1]
