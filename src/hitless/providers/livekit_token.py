"""
LiveKit's access tokens: a JWT (HS256) whose claim `video` says what its holder may do.

Names of claims as in livekit-api 1.2.2. No `nbf` and no `iat`: a server whose clock is behind
ours would refuse what is from the future, and LiveKit's own verifier requires neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from ..errors import ConfigError


if TYPE_CHECKING:
    from .hs256 import Hs256

SECRET_BYTES_MIN: Final = 32
"""RFC 7518 section 3.2: a key of HS256 is at least as long as its hash."""

Grants = Mapping[str, bool | str]
"""The claim `video`."""


def publisher_grants(room: str, *, may_subscribe: bool = False) -> Grants:
    """
    Return what a publisher gets.

    Args:
        room: Which room.
        may_subscribe: Whether it may receive too: to see its own stream under the same identity.
    """
    return {
        "roomJoin": True,
        "room": room,
        "canPublish": True,
        "canPublishData": True,
        "canSubscribe": may_subscribe,
    }


def viewer_grants(room: str) -> Grants:
    """
    Return what a viewer gets: it can receive, and nothing else.

    What is left out counts as allowed there, so that each is denied by name.
    """
    return {
        "roomJoin": True,
        "room": room,
        "canPublish": False,
        "canPublishData": False,
        "canSubscribe": True,
    }


def service_grants(room: str = "") -> Grants:
    """
    Return what a call of RoomService needs.

    Args:
        room: Which room it may list and remove participants of; empty: it may list rooms only.
    """
    return {"roomList": True, "roomAdmin": True, "room": room} if room else {"roomList": True}


def check_key(api_key: object, api_secret: object) -> None:
    """
    Check the form of both.

    Raises:
        ConfigError: One is missing or cannot sign; names which. Or PyJWT is not installed.
    """
    if not isinstance(api_key, str) or not api_key:
        raise ConfigError("api_key: give the API key of the LiveKit project")
    octets = api_secret.encode("utf-8", "surrogatepass") if isinstance(api_secret, str) else b""
    if len(octets) < SECRET_BYTES_MIN:
        raise ConfigError(
            f"api_secret: give at least {SECRET_BYTES_MIN} bytes; the one of "
            "`livekit-server --dev` is shorter: start it with --keys"
        )
    _signed({}, octets)


def mint(
    api_key: str,
    api_secret: str,
    grants: Grants,
    *,
    now_s: float,
    ttl_s: float,
    identity: str = "",
) -> str:
    """
    Return a token.

    Args:
        api_key: Names the secret to the server.
        api_secret: Signs it.
        grants: What it allows; see the functions above.
        now_s: Time of the wall clock [s].
        ttl_s: How long it lasts [s].
        identity: Of the participant: a second one of the same identity puts the first out.
            Empty: for RoomService.

    Raises:
        ConfigError: A key that cannot sign, nobody to let in, no time to last; or PyJWT is not
            installed.
    """
    check_key(api_key, api_secret)
    if grants.get("roomJoin") and not (identity and grants.get("room")):
        raise ConfigError("identity and room: whoever joins needs both")
    if not ttl_s >= 1.0:
        raise ConfigError("ttl_s: give 1 s or more")
    claims: dict[str, object] = {"iss": api_key, "exp": int(now_s + ttl_s), "video": dict(grants)}
    if identity:
        claims["sub"] = identity
    return _signed(claims, api_secret.encode("utf-8", "surrogatepass"))


def _signed(claims: dict[str, object], secret: bytes) -> str:
    try:
        return _signer(secret).sign(claims)
    except ImportError:  # only whoever mints needs it
        raise ConfigError("tokens of LiveKit need PyJWT: install hitless[livekit]") from None
    except ConfigError as exc:
        raise ConfigError(f"api_secret: {exc}") from None


@lru_cache(maxsize=32)
def _signer(secret: bytes) -> Hs256:
    from .hs256 import Hs256

    return Hs256(secret)
