"""
ZEGOCLOUD's WHIP ingest: the address and the Bearer token of one publisher.

From `obs-push-with-whip.mdx`, 2026-03-30; ZEGOCLOUD's support must enable it. No live call was
made and there is no test vector; the page's example is redacted. UNCONFIRMED, so not to be relied
on without a fallback: that the digest is written in hexadecimal (the sample implies it), that
`zgExpired` is an absolute time (the text says so, the sample shows 86400), which secret is the
key (the page ties "ServerSecret" to publishing or playing), and whether the session's DELETE and
PATCH work. There is no WHEP.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field
from typing import Final

from yarl import URL

from ..errors import ConfigError
from .rest import checked_origin
from .zego_api import checked_stream


_PUBLISH: Final = 1  # zgPrivilege: 0 is to play only
_NONCE_BYTES: Final = 7  # 14 characters; the page advises at most 15


@dataclass(frozen=True, slots=True, kw_only=True)
class WhipAccess:
    """
    What one publisher needs.

    Attributes:
        url: Where to POST the offer; names the user, so it is no more for logs than the token.
        token: The Bearer token.
        expires_s: When it ends [s since 1970].
    """

    url: str = field(repr=False)
    token: str = field(repr=False)
    expires_s: int


def bearer(
    *, app_id: int, stream: str, expires_s: int, nonce: str, key: str, privilege: int = _PUBLISH
) -> str:
    """
    Return the Bearer token: SHA-256, in hexadecimal, of the sorted parameters and the key.

    Args:
        app_id: The App ID.
        stream: The stream's id.
        expires_s: When it ends [whole s since 1970].
        nonce: Random; at most 15 characters.
        key: The secret that publishing is signed with.
        privilege: 1: publish and play. 0: play only.
    """
    text = (
        f"appid={app_id}&streamId={stream}&zgExpired={expires_s}"
        f"&zgNonce={nonce}&zgPrivilege={privilege}&key={key}"
    )
    return hashlib.sha256(text.encode()).hexdigest()


def whip_access(
    *,
    app_id: int,
    key: str,
    stream: str,
    user: str,
    now_s: float,
    valid_s: float,
    base: str | None = None,
) -> WhipAccess:
    """
    Return address and token to publish `stream` with, over WHIP.

    Args:
        app_id: The App ID.
        key: The secret that publishing is signed with.
        stream: The stream's id.
        user: As whom; it is not signed.
        now_s: Time since 1970 [s].
        valid_s: For how long [s].
        base: Origin instead of ZEGOCLOUD's; a stand-in's is given here.

    Raises:
        ConfigError: An argument that ZEGOCLOUD cannot accept; names it and never the key.
    """
    if not key or not user:
        raise ConfigError("WHIP at ZEGOCLOUD needs a key and a user")
    if valid_s < 1:
        raise ConfigError("valid_s must be 1 and more")
    origin = checked_origin("base", base or f"https://i-whip{app_id}.whip.zegotech.cn")
    nonce, expires_s = secrets.token_hex(_NONCE_BYTES), int(now_s + valid_s)
    query = {"userId": user, "zgVer": "v1", "zgExpired": str(expires_s), "zgNonce": nonce}
    path = f"/whip/v1/{app_id}/{checked_stream(stream)}"
    token = bearer(app_id=app_id, stream=stream, expires_s=expires_s, nonce=nonce, key=key)
    url: URL = origin.with_path(path).with_query(query)
    return WhipAccess(url=str(url), token=token, expires_s=expires_s)
