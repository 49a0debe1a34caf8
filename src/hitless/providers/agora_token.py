"""
Agora's AccessToken2 ("007"): minted and read without Agora's code.

Text: `007` and base64 of zlib of: signature, then what it signs. All numbers are little-endian.
From AgoraIO/Tools at da06bfb (2026-07-26), `DynamicKey/AgoraDynamicKey/python3/src`. Deflate
differs by language: compare what is inside two tokens, never their text.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
import secrets
import struct
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from ..core.events import Role
from ..errors import ConfigError, HitlessError


PREFIX: Final = "007"
TOKEN_CHARS_MAX: Final = 16_384
"""Longest token that is read; a publisher's has some 250 characters."""
INFLATED_BYTES_MAX: Final = 65_536
"""No more is inflated: a thousand bytes of zlib can hold a million."""
TTL_S_MAX: Final = 86_400
"""Privileges last 24 h at most (comments of the official builders) [s]."""

_ID: Final = re.compile(r"[0-9A-Fa-f]{32}", re.ASCII)
_SALT_MAX: Final = 99_999_999
_ROLE_UNSAID: Final = -1


class ServiceType(IntEnum):
    """What a token opens; only `RTC` carries streams."""

    RTC = 1
    RTM = 2
    STREAMING = 3
    FPA = 4
    CHAT = 5
    FCDN = 6
    APAAS = 7
    RTM2 = 8


class Privilege(IntEnum):
    """What a service of type `RTC` allows."""

    JOIN = 1
    PUBLISH_AUDIO = 2
    PUBLISH_VIDEO = 3
    PUBLISH_DATA = 4


_NAMES: Final = {
    ServiceType.RTC: 2,
    ServiceType.RTM: 1,
    ServiceType.STREAMING: 2,
    ServiceType.FPA: 0,
    ServiceType.CHAT: 1,
    ServiceType.FCDN: 2,
    ServiceType.APAAS: 2,
    ServiceType.RTM2: 1,
}
"""How many names follow the privileges."""


class AgoraTokenRefused(HitlessError):
    """Not a token that this certificate has signed; `because` says why, without quoting it."""

    def __init__(self, because: str) -> None:
        super().__init__(because)
        self.because = because


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """
    One service of a token.

    Attributes:
        type: Which.
        privileges: How long each lasts, from the token's issue [whole s].
        names: RTC: channel, uid. Streaming and FCDN: channel, account. RTM, RTM2 and Chat: user.
            APaaS: room, user. FPA: none. An empty uid stands for any.
        role: Of APaaS.
        permissions: Of RTM2: names by resource and permission.
    """

    type: ServiceType
    privileges: Mapping[int, int]
    names: tuple[str, ...] = ()
    role: int = _ROLE_UNSAID
    permissions: Mapping[int, Mapping[int, tuple[str, ...]]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class AgoraToken:
    """
    What a token says whose signature was right; whether it has ended is for `may` to say.

    Attributes:
        app_id: Whose.
        issued_s: When, of the wall clock [whole s].
        ttl_s: How long it lasts from then [whole s].
        salt: Makes two tokens of one second differ.
        services: As they stand in it.
        is_whole: Whether all services were read: none may be of a type unknown here.
    """

    app_id: str
    issued_s: int
    ttl_s: int
    salt: int
    services: tuple[Service, ...]
    is_whole: bool

    def is_expired(self, now_s: float) -> bool:
        """Whether the token as a whole has ended."""
        return now_s >= self.issued_s + self.ttl_s

    def may(self, privilege: Privilege, channel: str, uid: int | str, now_s: float) -> bool:
        """
        Whether it still allows something in a channel to a user.

        A privilege of 0 s counts as ended; what the servers make of it is unconfirmed. Whether
        they look at the privileges to publish is the project's setting; see `rtc`.
        """
        return not self.is_expired(now_s) and any(
            service.type is ServiceType.RTC
            and service.names[0] == channel
            and service.names[1] in ("", uid_text(uid))
            and now_s < self.issued_s + service.privileges.get(privilege, 0)
            for service in self.services
        )


def uid_text(uid: int | str) -> str:
    """
    Return a uid as tokens hold it: 0 is any uid, and the number 5 and the account "5" are one.

    Raises:
        ConfigError: A number out of range.
    """
    if isinstance(uid, str):
        return uid
    if not 0 <= uid < 1 << 32:
        raise ConfigError("uid: give 0 to 4294967295")
    return str(uid) if uid else ""


def rtc(channel: str, uid: int | str, role: Role, ttl_s: int) -> Service:
    """
    Return the service that opens one channel.

    A viewer's has only the privilege to join. Agora lets it publish all the same, unless its
    support has switched on co-host authentication for the project (comment in the official
    `RtcTokenBuilder2.py`): until then, a viewer's token is no fence.

    Args:
        channel: Which; Agora takes up to 64 bytes.
        uid: Whose; see `uid_text`.
        role: Publishers get all privileges.
        ttl_s: How long they last [whole s].

    Raises:
        ConfigError: An empty channel, or a uid out of range.
    """
    if not channel:
        raise ConfigError("channel: give at least one character")
    allowed = tuple(Privilege) if role is Role.PUBLISHER else (Privilege.JOIN,)
    return Service(
        type=ServiceType.RTC,
        privileges={privilege.value: ttl_s for privilege in allowed},
        names=(channel, uid_text(uid)),
    )


def check_ids(app_id: object, certificate: object) -> None:
    """
    Check the form of both; official builders return an empty token instead.

    Raises:
        ConfigError: One of them has not 32 hexadecimal digits; names which.
    """
    _check_id("app_id", app_id)
    _check_id("certificate", certificate)


def _check_id(name: str, value: object) -> None:
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise ConfigError(f"{name}: give the 32 hexadecimal digits of Agora's console")


def mint(
    app_id: str,
    certificate: str,
    services: Iterable[Service],
    *,
    now_s: float,
    ttl_s: int,
    salt: int | None = None,
) -> str:
    """
    Return a token.

    Args:
        app_id: Whose.
        certificate: Signs it, as its 32 characters, not the bytes they stand for.
        services: At least one.
        now_s: Time of the wall clock [s].
        ttl_s: How long it lasts [whole s].
        salt: None: a random one.

    Raises:
        ConfigError: Something cannot be written into a token; names it.
    """
    check_ids(app_id, certificate)
    ordered = sorted(services, key=lambda service: service.type)
    if not ordered:
        raise ConfigError("services: give at least one")
    if ttl_s <= 0:
        raise ConfigError("ttl_s: give more than 0 s")
    salt = 1 + secrets.randbelow(_SALT_MAX) if salt is None else salt
    try:
        head = struct.pack("<IIIH", int(now_s), ttl_s, salt, len(ordered))
        signed = _text(app_id) + head + b"".join(map(_packed, ordered))
    except (struct.error, UnicodeEncodeError):
        raise ConfigError(
            "a time, number or name does not fit into a token: "
            "numbers have 32 bits, names are Unicode of up to 65535 bytes"
        ) from None
    signature = _signature(certificate, int(now_s), salt, signed)
    whole = struct.pack("<H", len(signature)) + signature + signed
    token = PREFIX + base64.b64encode(zlib.compress(whole)).decode()
    if len(whole) >= INFLATED_BYTES_MAX or len(token) > TOKEN_CHARS_MAX:
        raise ConfigError("services: too many or too long, nobody would read such a token")
    return token


def read(token: str, certificate: str) -> AgoraToken:
    """
    Return what a token says; its signature is verified, its times are not.

    Reading stops at a service of unknown type; those before it are kept. Time and memory are
    bounded, whatever the text.

    Raises:
        AgoraTokenRefused: Not a token, or signed by somebody else.
        ConfigError: The certificate is none.
    """
    _check_id("certificate", certificate)
    if not token.startswith(PREFIX) or len(token) > TOKEN_CHARS_MAX:
        raise AgoraTokenRefused("this is not an AccessToken2")
    try:
        reader = _Reader(_inflated(token.removeprefix(PREFIX)))
        signature = reader.octets()
        signed = reader.rest()
        app_id = reader.text()
        issued_s, ttl_s, salt = reader.number("I"), reader.number("I"), reader.number("I")
        expected = _signature(certificate, issued_s, salt, signed)
        if not hmac.compare_digest(signature, expected):
            raise AgoraTokenRefused("this token was changed, or signed by somebody else")
        services, is_whole = _services(reader)
    except (ValueError, binascii.Error, struct.error, zlib.error):
        raise AgoraTokenRefused("this is not an AccessToken2") from None
    return AgoraToken(
        app_id=app_id,
        issued_s=issued_s,
        ttl_s=ttl_s,
        salt=salt,
        services=services,
        is_whole=is_whole,
    )


# --- Bytes ---


def _signature(certificate: str, issued_s: int, salt: int, signed: bytes) -> bytes:
    key = hmac.digest(struct.pack("<I", issued_s), certificate.encode(), "sha256")
    key = hmac.digest(struct.pack("<I", salt), key, "sha256")
    return hmac.digest(key, signed, "sha256")


def _text(text: str) -> bytes:
    octets = text.encode()
    return struct.pack("<H", len(octets)) + octets


def _packed(service: Service) -> bytes:
    if len(service.names) != _NAMES[service.type]:
        raise ConfigError(f"{service.type.name}: it takes {_NAMES[service.type]} names")
    parts = [struct.pack("<HH", service.type, len(service.privileges))]
    parts += [struct.pack("<HI", *entry) for entry in sorted(service.privileges.items())]
    parts += [_text(name) for name in service.names]
    if service.type is ServiceType.APAAS:
        parts.append(struct.pack("<h", service.role))
    if service.type is ServiceType.RTM2:
        parts.append(struct.pack("<H", len(service.permissions)))
        for resource, permissions in sorted(service.permissions.items()):
            parts.append(struct.pack("<HH", resource, len(permissions)))
            for permission, names in sorted(permissions.items()):
                parts.append(struct.pack("<HH", permission, len(names)))
                parts += [_text(name) for name in names]
    return b"".join(parts)


def _inflated(text: str) -> bytes:
    inflater = zlib.decompressobj()
    octets = inflater.decompress(base64.b64decode(text, validate=True), INFLATED_BYTES_MAX)
    if not inflater.eof or inflater.unused_data:
        raise ValueError("cut off, too long, or followed by something")
    return octets


def _services(reader: _Reader) -> tuple[tuple[Service, ...], bool]:
    services: list[Service] = []
    for _ in range(reader.number("H")):
        number = reader.number("H")
        if number not in _NAMES:
            return tuple(services), False
        services.append(_service(ServiceType(number), reader))
    return tuple(services), True


def _service(type_: ServiceType, reader: _Reader) -> Service:
    privileges = {reader.number("H"): reader.number("I") for _ in range(reader.number("H"))}
    names = tuple(reader.text() for _ in range(_NAMES[type_]))
    role = reader.number("h") if type_ is ServiceType.APAAS else _ROLE_UNSAID
    permissions = {}
    for _ in range(reader.number("H") if type_ is ServiceType.RTM2 else 0):
        resource = reader.number("H")
        permissions[resource] = {
            reader.number("H"): tuple(reader.text() for _ in range(reader.number("H")))
            for _ in range(reader.number("H"))
        }
    return Service(
        type=type_, privileges=privileges, names=names, role=role, permissions=permissions
    )


class _Reader:
    """Takes values off the front; raises `struct.error` or `ValueError` where there is none."""

    def __init__(self, octets: bytes) -> None:
        self._octets, self._place = octets, 0

    def number(self, kind: str) -> int:
        (number,) = struct.unpack_from(f"<{kind}", self._octets, self._place)
        self._place += struct.calcsize(f"<{kind}")
        return int(number)

    def octets(self) -> bytes:
        length = self.number("H")
        found = self._octets[self._place : self._place + length]
        if len(found) < length:
            raise ValueError("cut off")
        self._place += length
        return found

    def text(self) -> str:
        return self.octets().decode()

    def rest(self) -> bytes:
        return self._octets[self._place :]
