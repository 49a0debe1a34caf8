"""
ZEGOCLOUD's token04: made as the official generators do, and read in both forms.

Text: `04` and base64 of: int64 expiry, then IV and ciphertext, each after a uint16 length, all
big-endian. From ZEGOCLOUD/zego_server_assistant at 8c895c3 (2023-11-03), `token/`. We emit
AES-CBC, the only form that an official generator emits; AES-GCM is read as the verifier in
ZEGOCLOUD/docs_all at 7fdebd4, `general/en/faq/TokenAssistant.jsx`, reads it: one byte more at
the end that is 1. Whether the servers prefer or will require GCM is unconfirmed.

CBC has no MAC: that a token decrypts to a token is all that can be checked of it, and whoever
holds one can change its first 16 bytes, where the app id is. Compare `app_id` with your own.
"""

from __future__ import annotations

import base64
import binascii
import json
import secrets
import string
import struct
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.padding import PKCS7

from ..core.events import Role
from ..errors import ConfigError, HitlessError


PREFIX: Final = "04"
TOKEN_CHARS_MAX: Final = 16_384
"""Longest token that is read; a publisher's has some 400 characters."""
TTL_S_MAX: Final = 24 * 86_400
"""24 days (several pages of ZEGO's documentation, read 2026) [s]."""

_SECRET_CHARS: Final = 32
_IV_CHARS: Final = 16
_IV_ALPHABET: Final = string.ascii_letters + string.digits
_BLOCK_BITS: Final = 128
_GCM_BYTE: Final = b"\x01"
_LOGIN, _PUBLISH = "1", "2"


class ZegoTokenRefused(HitlessError):
    """Not a token made with this secret; `because` says why, without quoting it."""

    def __init__(self, because: str) -> None:
        super().__init__(because)
        self.because = because


class Form(StrEnum):
    """How a token is encrypted."""

    CBC = "cbc"
    GCM = "gcm"


@dataclass(frozen=True, slots=True, kw_only=True)
class Privileges:
    """
    What a token allows in one room, for projects that check it.

    Not checked in ZEGO's Range Scene. Older texts say that support must switch it on, the page
    of 2026 does not (unconfirmed): until a project is seen to check it, a viewer's token is no
    fence.

    Attributes:
        room_id: In which room; empty stands for any in older texts (unconfirmed).
        may_login, may_publish: What is allowed.
        stream_ids: What may be published; None: any.
    """

    room_id: str
    may_login: bool
    may_publish: bool
    stream_ids: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ZegoToken:
    """
    What a token says; whether it has ended is for `is_expired` and the like to say.

    Attributes:
        app_id: Whose.
        user_id: Whom it lets in.
        nonce: Makes two tokens differ.
        issued_s, expires_s: When, of the wall clock [whole s].
        privileges: None: a basic token, which allows everything.
        form: How it was encrypted; only GCM proves that nobody changed it.
    """

    app_id: int
    user_id: str
    nonce: int
    issued_s: int
    expires_s: int
    privileges: Privileges | None
    form: Form

    def is_expired(self, now_s: float) -> bool:
        """Whether it has ended."""
        return now_s >= self.expires_s

    def may_login(self, room_id: str, now_s: float) -> bool:
        """Whether its user may enter a room."""
        mine = self.privileges
        is_allowed = mine is None or (mine.room_id == room_id and mine.may_login)
        return is_allowed and not self.is_expired(now_s)

    def may_publish(self, room_id: str, stream_id: str, now_s: float) -> bool:
        """Whether its user may publish a stream in a room."""
        mine = self.privileges
        is_allowed = mine is None or (
            mine.room_id == room_id
            and mine.may_publish
            and (mine.stream_ids is None or stream_id in mine.stream_ids)
        )
        return is_allowed and not self.is_expired(now_s)


def check_account(app_id: object, server_secret: object) -> None:
    """
    Check the form of both.

    Raises:
        ConfigError: One cannot be what ZEGO's console shows; names which.
    """
    is_number = isinstance(app_id, int) and not isinstance(app_id, bool)
    if not is_number or not 0 < app_id < 1 << 32:  # type: ignore[operator]  # is_number
        raise ConfigError("app_id: give the number of ZEGO's console, 1 to 4294967295")
    _check_secret(server_secret)


def privileges_of(role: Role, room_id: str, stream_id: str) -> Privileges:
    """Return what a publisher of one stream, or a viewer, gets in a room."""
    is_publisher = role is Role.PUBLISHER
    return Privileges(
        room_id=room_id,
        may_login=True,
        may_publish=is_publisher,
        stream_ids=(stream_id,) if is_publisher else None,
    )


def payload_of(privileges: Privileges) -> str:
    """
    Return the payload that says so.

    Raises:
        ConfigError: No room is named.
    """
    if not privileges.room_id:
        raise ConfigError("room_id: give at least one character")
    return _compact(
        {
            "room_id": privileges.room_id,
            "privilege": {
                _LOGIN: int(privileges.may_login),
                _PUBLISH: int(privileges.may_publish),
            },
            "stream_id_list": privileges.stream_ids,
        }
    )


def mint(
    app_id: int,
    user_id: str,
    server_secret: str,
    *,
    now_s: float,
    ttl_s: int,
    payload: str = "",
    nonce: int | None = None,
    iv: str | None = None,
) -> str:
    """
    Return a token in the CBC form.

    Args:
        app_id: Whose.
        user_id: Whom it lets in.
        server_secret: Encrypts it: the key of AES-256 is its 32 characters, not what they stand
            for.
        now_s: Time of the wall clock [s].
        ttl_s: How long it lasts [whole s].
        payload: See `payload_of`; empty: a basic token.
        nonce, iv: 32 bits with sign, and 16 ASCII characters; None: random ones. Given only to
            make a known token again: an IV that can be guessed tells something of the text.

    Raises:
        ConfigError: Something cannot be written into a token; names it.
    """
    check_account(app_id, server_secret)
    if not user_id:
        raise ConfigError("user_id: give at least one character")
    if not 0 < ttl_s <= TTL_S_MAX:
        raise ConfigError(f"ttl_s: give 1 s to {TTL_S_MAX} s")
    issued_s = int(now_s)
    says = {
        "app_id": app_id,
        "user_id": user_id,
        "nonce": secrets.randbits(31) if nonce is None else nonce,
        "ctime": issued_s,
        "expire": issued_s + ttl_s,
        "payload": payload,
    }
    iv = "".join(secrets.choice(_IV_ALPHABET) for _ in range(_IV_CHARS)) if iv is None else iv
    if len(iv) != _IV_CHARS or not iv.isascii():
        raise ConfigError(f"iv: give {_IV_CHARS} ASCII characters")
    try:
        plain = _compact(says).encode()
    except UnicodeEncodeError:
        raise ConfigError("user_id and payload: give Unicode text") from None
    padder = PKCS7(_BLOCK_BITS).padder()
    encryptor = Cipher(algorithms.AES(server_secret.encode()), modes.CBC(iv.encode())).encryptor()
    cipher = encryptor.update(padder.update(plain) + padder.finalize()) + encryptor.finalize()
    if len(cipher) > TOKEN_CHARS_MAX // 2:
        raise ConfigError("user_id and payload: too long, nobody would read such a token")
    head = struct.pack(">qH", issued_s + ttl_s, len(iv)) + iv.encode()
    whole = head + struct.pack(">H", len(cipher)) + cipher
    return PREFIX + base64.b64encode(whole).decode()


def read(token: str, server_secret: str) -> ZegoToken:
    """
    Return what a token of either form says; its times are not judged.

    Raises:
        ZegoTokenRefused: Not a token, made with another secret, or changed as far as that can
            be seen. The words are the same in each case: else they would help to guess.
        ConfigError: The secret is none.
    """
    _check_secret(server_secret)
    if not token.startswith(PREFIX) or len(token) > TOKEN_CHARS_MAX:
        raise ZegoTokenRefused("this is not a token04")
    try:
        expires_s, iv, cipher, form = _taken_apart(token.removeprefix(PREFIX))
    except (ValueError, binascii.Error, struct.error):
        raise ZegoTokenRefused("this is not a token04") from None
    try:
        says = msgspec.json.decode(_decrypted(server_secret, iv, cipher, form), type=_Says)
        if says.expire != expires_s:
            raise ValueError("the expiry in clear is another one")
        privileges = _privileges(says.payload) if says.payload else None
    except (ValueError, InvalidTag, RecursionError):  # what msgspec raises is a ValueError
        because = "this token was changed, or made with another secret"
        raise ZegoTokenRefused(because) from None
    return ZegoToken(
        app_id=says.app_id,
        user_id=says.user_id,
        nonce=says.nonce,
        issued_s=says.ctime,
        expires_s=expires_s,
        privileges=privileges,
        form=form,
    )


def ends_s(token: str) -> int | None:
    """
    Return when a token ends by its own words in clear [whole s since 1970]; None: unreadable.

    Nothing is verified: who made it is for ZEGOCLOUD to check, and a plan's token comes without
    the secret.
    """
    if not token.startswith(PREFIX) or len(token) > TOKEN_CHARS_MAX:
        return None
    try:
        return _taken_apart(token.removeprefix(PREFIX))[0]
    except (ValueError, struct.error):
        return None


# --- What is inside ---


class _Says(msgspec.Struct, kw_only=True):
    app_id: Annotated[int, msgspec.Meta(gt=0, lt=1 << 32)]
    user_id: Annotated[str, msgspec.Meta(min_length=1)]
    nonce: int
    ctime: int
    expire: int
    payload: str = ""


class _Payload(msgspec.Struct, kw_only=True):
    room_id: str
    privilege: dict[str, int]
    stream_id_list: list[str] | None = None


def _privileges(payload: str) -> Privileges:
    said = msgspec.json.decode(payload.encode(), type=_Payload)
    allowed = said.stream_id_list
    return Privileges(
        room_id=said.room_id,
        may_login=said.privilege.get(_LOGIN) == 1,  # what is not allowed by name is denied
        may_publish=said.privilege.get(_PUBLISH) == 1,
        stream_ids=None if allowed is None else tuple(allowed),
    )


def _check_secret(server_secret: object) -> None:
    is_text = isinstance(server_secret, str) and server_secret.isascii()
    if not is_text or len(server_secret) != _SECRET_CHARS:  # type: ignore[arg-type]  # is_text
        raise ConfigError(
            f"server_secret: give the ServerSecret of ZEGO's console, {_SECRET_CHARS} characters"
        )


def _compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _taken_apart(text: str) -> tuple[int, bytes, bytes, Form]:
    whole = base64.b64decode(text, validate=True)
    expires_s, length = struct.unpack_from(">qH", whole)
    iv = whole[10 : 10 + length]
    (length,) = struct.unpack_from(">H", whole, 10 + length)
    start = 12 + len(iv)
    cipher, mode = whole[start : start + length], whole[start + length :]
    if len(cipher) < length or len(mode) > 1:
        raise ValueError("cut off, or followed by something")
    return expires_s, iv, cipher, Form.GCM if mode == _GCM_BYTE else Form.CBC


def _decrypted(server_secret: str, iv: bytes, cipher: bytes, form: Form) -> bytes:
    key = server_secret.encode()
    if form is Form.GCM:
        return AESGCM(key).decrypt(iv, cipher, None)
    decryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).decryptor()
    unpadder = PKCS7(_BLOCK_BITS).unpadder()
    padded = decryptor.update(cipher) + decryptor.finalize()
    return unpadder.update(padded) + unpadder.finalize()
