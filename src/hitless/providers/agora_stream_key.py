"""
Stream keys of Agora's Media Gateway that are made without a call, for a domain of one's own.

From the Media Gateway's quickstart in AgoraIO/Docs-Source at 8c1f0c5 (2026-07-01): a MessagePack
map of channel, uid and end, encrypted by AES-128-CTR with the App Certificate, after its IV, in
base64 for URLs. Agora takes such keys only at a domain that its support has bound to the project;
at its own domains a key is made by the API. No live call was made: UNCONFIRMED.

There is no MAC in it: whoever holds one key can write another one of the same length or shorter,
for any channel, uid and end of that project.
"""

from __future__ import annotations

import base64
import secrets
from typing import Final

import msgspec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from ..errors import ConfigError


_IV_BYTES: Final = 16


def mint(certificate: str, *, channel: str, uid: str, end_s: int, iv: bytes | None = None) -> str:
    """
    Return a stream key.

    Args:
        certificate: App Certificate, 32 hexadecimal digits: what they stand for is the key.
        channel: Where it pushes to.
        uid: As whom; not 0.
        end_s: When it ends, of the wall clock [whole s since 1970].
        iv: 16 octets; None: random ones. Given only to make a known key again: two keys with
            one IV tell of each other.

    Raises:
        ConfigError: A certificate that is none, no channel, or nobody to push as.
    """
    try:
        octets = bytes.fromhex(certificate)
    except ValueError:
        octets = b""
    if len(octets) != 16:
        raise ConfigError("certificate: give the 32 hexadecimal digits of Agora's console")
    if not channel or uid in ("", "0"):
        raise ConfigError("a stream key needs a channel and a uid that is not 0")
    iv = secrets.token_bytes(_IV_BYTES) if iv is None else iv
    plain = msgspec.msgpack.encode({"C": channel, "U": uid, "E": end_s})
    encryptor = Cipher(algorithms.AES(octets), modes.CTR(iv)).encryptor()
    whole = iv + encryptor.update(plain) + encryptor.finalize()
    return base64.urlsafe_b64encode(whole).rstrip(b"=").decode()
