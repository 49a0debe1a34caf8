"""What `hitless doctor` asks ZEGOCLOUD: API, credential, RTMP, and the trap that it has."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final

from ..core.events import Role
from ..errors import ConfigError, CredentialsRejected, HitlessError, ProviderError, Refused
from . import zego_token
from .checkup import Finding, Verdict, unseen
from .clock import wall_s
from .zego_api import ZegoApi


if TYPE_CHECKING:
    from .zegocloud import Zegocloud


CALL_S: Final = 5.0
"""How long one call may take [s]."""

CHECKED: Final = "hitless-doctor"
"""Room and stream that are asked about; nobody is in it."""

_MINTED_S: Final = 60

_SECRET_FIX: Final = (
    "compare app_id and server_secret with the project's page in ZEGOCLOUD's console, and this "
    "machine's clock with the right time"
)
_TRAP: Final = Finding(
    step="trap",
    verdict=Verdict.WARNING,
    says="a viewer's token denies publishing only in projects that check privileges; that cannot "
    "be seen from outside",
    fix="ask ZEGOCLOUD's support whether privilege authentication is on for this App ID, and have "
    "it switched on",
)


async def check_up(zego: Zegocloud) -> AsyncIterator[Finding]:
    """Yield what is found, as it is found; each step is bounded."""
    if zego.api is None:
        says = "there is no server_secret: the server API is not used, and RTMP needs it"
        yield Finding(step="control API", verdict=Verdict.LEFT_OUT, says=says)
    else:
        found = await _api(zego.api)
        yield found
        if zego.ingest == "rtmp" and found.verdict is Verdict.GOOD:
            yield await _rtmp(zego.api)
    yield await _credential(zego)
    if zego.ingest == "rtmp":
        yield unseen("have viewers report to a Hitless server, which then leaves ZEGOCLOUD")
    yield _TRAP


async def _api(api: ZegoApi) -> Finding:
    """Count the users of a room that does not exist: 0, and the signature is proven."""
    step = "control API"
    try:
        await api.user_counts([CHECKED], deadline=_deadline())
    except CredentialsRejected as exc:
        return Finding(step=step, verdict=Verdict.BAD, says=str(exc), fix=_SECRET_FIX)
    except HitlessError as exc:
        fix = "try again; if it lasts, ask ZEGOCLOUD's support"
        return Finding(step=step, verdict=Verdict.BAD, says=str(exc), fix=fix)
    return Finding(step=step, verdict=Verdict.GOOD, says="it takes our signature")


async def _rtmp(api: ZegoApi) -> Finding:
    """Ask for a node to push to: nothing is pushed."""
    step = "control API"
    try:
        nodes = await api.rtmp_urls(CHECKED, deadline=_deadline())
    except Refused as exc:
        fix = "have ZEGOCLOUD's support enable RTMP into RTC for this App ID"
        return Finding(step=step, verdict=Verdict.BAD, says=str(exc), fix=fix)
    except HitlessError as exc:
        return Finding(step=step, verdict=Verdict.BAD, says=str(exc))
    says = f"RTMP is enabled; it named {len(nodes)} nodes to push to"
    return Finding(step=step, verdict=Verdict.GOOD, says=says)


async def _credential(zego: Zegocloud) -> Finding:
    """Mint a token of each role, and read both back."""
    step = "credential"
    try:
        secret = await zego.tickets.secret()
        if secret is None:
            whose = "plans bring them" if zego.tickets.is_planned else "and no plan brings them"
            says = f"no server_secret here, so no token is minted: {whose}"
            return Finding(step=step, verdict=Verdict.LEFT_OUT, says=says)
        _round_trip(zego.app_id, secret)
    except (ConfigError, ProviderError, zego_token.ZegoTokenRefused) as exc:
        return Finding(step=step, verdict=Verdict.BAD, says=str(exc), fix=_SECRET_FIX)
    says = "tokens of both roles are minted and read again"
    return Finding(step=step, verdict=Verdict.GOOD, says=says)


def _round_trip(app_id: int, secret: str) -> None:
    now_s = wall_s()
    for role in Role:
        allowed = zego_token.privileges_of(role, room_id=CHECKED, stream_id=CHECKED)
        text = zego_token.mint(
            app_id, CHECKED, secret, now_s=now_s, ttl_s=_MINTED_S,
            payload=zego_token.payload_of(allowed),
        )  # fmt: skip
        token = zego_token.read(text, secret)
        may_publish = token.may_publish(CHECKED, CHECKED, now_s)
        is_right = may_publish == (role is Role.PUBLISHER)
        if not (is_right and token.may_login(CHECKED, now_s)):
            raise ConfigError("a token does not say what it was minted for")


def _deadline() -> float:
    return asyncio.get_running_loop().time() + CALL_S
