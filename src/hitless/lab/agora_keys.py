"""
Stream keys of the stand-in for Agora's Media Gateway: made by its API, shown by who pushes.

From Agora's documents as of 2026-07-01 (`shared/media-gateway`). Deleting a key, or its end, lets
nobody push with it any more; a push under way goes on.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import msgspec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes


KEYS_MAX: Final = 10_000
"""Keys that are kept; the oldest goes when there are more. The documents name no limit."""
LOCAL_MAX: Final = 1024
"""Longest key made without a call that is read [characters]: a channel has 64 at most."""

_IV_BYTES: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """
    One key.

    Attributes:
        text: Whoever has it can publish.
        region: Where it may be pushed to.
        channel: What is pushed with it.
        uid: As whom.
        expires_after_s: How long it may be used from then [whole s]; 0: for ever.
        created_s: When it was made, of the wall clock [s].
    """

    text: str = field(repr=False)
    region: str
    channel: str
    uid: str = field(repr=False)
    expires_after_s: int
    created_s: float


class Keys:
    """
    All keys of one account.

    Args:
        wall_s: Returns the time of the wall clock [s].
    """

    def __init__(self, wall_s: Callable[[], float]) -> None:
        self._wall_s = wall_s
        self._keys: dict[str, Key] = {}

    def make(self, *, region: str, channel: str, uid: str, expires_after_s: int) -> Key:
        """Make a key."""
        key = Key(
            text=secrets.token_urlsafe(18),
            region=region,
            channel=channel,
            uid=uid,
            expires_after_s=expires_after_s,
            created_s=self._wall_s(),
        )
        self._keys[key.text] = key
        while len(self._keys) > KEYS_MAX:
            del self._keys[next(iter(self._keys))]
        return key

    def find(self, text: str) -> Key | None:
        """Return a key that may be used, or None."""
        key = self._keys.get(text)
        if key is None:
            return None
        if key.expires_after_s and self._wall_s() >= key.created_s + key.expires_after_s:
            return None
        return key

    def delete(self, text: str) -> bool:
        """Delete a key; return whether there was one."""
        return self._keys.pop(text, None) is not None


def read_local(text: str, certificate: str, now_s: float) -> Key | None:
    """
    Return a key that was made without a call, or None; see `providers/agora_stream_key.py`.

    Agora takes such keys only at a domain that its support bound to the project: this stand-in
    is one. Nothing in them can be verified but that they make sense: there is no MAC.

    Args:
        text: What was shown.
        certificate: App Certificate of the project.
        now_s: Of the wall clock [s].
    """
    if not _IV_BYTES * 4 / 3 < len(text) <= LOCAL_MAX or not text.isascii():
        return None
    try:
        whole = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        cipher = Cipher(algorithms.AES(bytes.fromhex(certificate)), modes.CTR(whole[:_IV_BYTES]))
        plain = cipher.decryptor().update(whole[_IV_BYTES:])
        said = msgspec.msgpack.decode(plain, type=_Said)
    except (ValueError, msgspec.DecodeError):
        return None
    if not said.channel or said.uid in ("", "0") or now_s >= said.end_s:
        return None
    return Key(
        text=text,
        region="",
        channel=said.channel,
        uid=said.uid,
        expires_after_s=int(said.end_s - now_s),
        created_s=now_s,
    )


class _Said(msgspec.Struct, frozen=True):
    """What is in such a key; a template would be `T`."""

    channel: str = msgspec.field(name="C")
    uid: str = msgspec.field(name="U")
    end_s: int = msgspec.field(name="E")
