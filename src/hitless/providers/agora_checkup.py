"""What `hitless doctor` asks Agora: API, credential, Media Gateway, and the trap that it has."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final

from ..core.events import Role
from ..errors import ConfigError, CredentialsRejected, HitlessError, ProviderError, Refused
from . import agora_token
from .agora_api import AgoraApi
from .checkup import Finding, Verdict, unseen
from .clock import wall_s


if TYPE_CHECKING:
    from .agora import Agora


CALL_S: Final = 5.0
"""How long one call may take [s]: Agora's advice for the least."""

_MINTED_S: Final = 60

_REST_FIX: Final = "compare customer_id and customer_secret with Agora's console: RESTful API"
_GATEWAY_FIX: Final = "have Agora's support enable Media Gateway for this project"
_IDS_FIX: Final = "compare app_id and certificate with the project's page in Agora's console"
_TRAP: Final = Finding(
    step="trap",
    verdict=Verdict.WARNING,
    says="a viewer's token does not stop its holder from publishing, unless co-host "
    "authentication is on; that cannot be seen from outside",
    fix="have Agora's support switch on co-host authentication for this project",
)


async def check_up(agora: Agora) -> AsyncIterator[Finding]:
    """Yield what is found, as it is found; each step is bounded."""
    says = f"Agora takes in streams in region {agora.region}"
    yield Finding(step="configuration", verdict=Verdict.GOOD, says=says)
    if agora.api is None:
        says = "there is no customer_id and customer_secret: Agora's REST API is not used"
        yield Finding(step="control API", verdict=Verdict.LEFT_OUT, says=says)
    else:
        found = await _api(agora.api)
        yield found
        if agora.ingest == "rtmp" and not agora.has_key and found.verdict is Verdict.GOOD:
            yield await _gateway(agora.api)
    if agora.ingest == "rtmp" and agora.has_key:
        says = "Media Gateway: the stream key is proven by the stream below"
        yield Finding(step="control API", verdict=Verdict.LEFT_OUT, says=says)
    elif agora.ingest == "rtmp" and agora.api is None:
        yield Finding(
            step="credential",
            verdict=Verdict.BAD,
            says="nothing can be published from Python: there is neither a stream key nor a "
            "REST credential to make one with",
            fix="give customer_id and customer_secret, or stream_key",
        )
    yield await _credential(agora)
    if agora.ingest == "rtmp":
        yield unseen("have viewers report to a Hitless server, which then leaves Agora")
    yield _TRAP


async def _api(api: AgoraApi) -> Finding:
    """Ask for one channel: the cheapest call that needs the credential."""
    step = "control API"
    try:
        found = await api.channels(page_size=1, deadline=_deadline(), once=True)
    except CredentialsRejected as exc:
        return Finding(step=step, verdict=Verdict.BAD, says=str(exc), fix=_REST_FIX)
    except HitlessError as exc:
        fix = "try again; if it lasts, look at https://status.agora.io/"
        return Finding(step=step, verdict=Verdict.BAD, says=str(exc), fix=fix)
    says = f"it takes the REST credential; {found.total} channels are on air"
    return Finding(step=step, verdict=Verdict.GOOD, says=says)


async def _gateway(api: AgoraApi) -> Finding:
    """List what is pushed: 403 says that the Media Gateway is not enabled."""
    step = "control API"
    try:
        online = await api.online_streams(deadline=_deadline(), once=True)
    except Refused as exc:
        return Finding(step=step, verdict=Verdict.BAD, says=str(exc), fix=_GATEWAY_FIX)
    except HitlessError as exc:
        return Finding(step=step, verdict=Verdict.BAD, says=str(exc))
    says = f"Media Gateway is enabled; {len(online)} streams are pushed now"
    return Finding(step=step, verdict=Verdict.GOOD, says=says)


async def _credential(agora: Agora) -> Finding:
    """Mint a token of each role, and read both back."""
    step = "credential"
    try:
        certificate = await agora.tickets.secret()
        if certificate is None:
            whose = "plans bring them" if agora.tickets.is_planned else "a push needs none"
            says = f"no certificate here, so no token is minted: {whose}"
            return Finding(step=step, verdict=Verdict.LEFT_OUT, says=says)
        says = _round_trip(agora.app_id, certificate)
    except (ConfigError, ProviderError, agora_token.AgoraTokenRefused) as exc:
        return Finding(step=step, verdict=Verdict.BAD, says=str(exc), fix=_IDS_FIX)
    return Finding(step=step, verdict=Verdict.GOOD, says=says)


def _round_trip(app_id: str, certificate: str) -> str:
    now_s = wall_s()
    publish, join = agora_token.Privilege.PUBLISH_VIDEO, agora_token.Privilege.JOIN
    for role in Role:
        service = agora_token.rtc("hitless-doctor", 1, role, _MINTED_S)
        text = agora_token.mint(app_id, certificate, [service], now_s=now_s, ttl_s=_MINTED_S)
        token = agora_token.read(text, certificate)
        may_publish = token.may(publish, "hitless-doctor", 1, now_s)
        is_right = may_publish == (role is Role.PUBLISHER)
        if not (is_right and token.may(join, "hitless-doctor", 1, now_s)):
            raise ConfigError("a token does not say what it was minted for")
    return (
        "tokens of both roles are minted and read again; whether the certificate belongs to this "
        "App ID only Agora knows, and tells when a client joins"
    )


def _deadline() -> float:
    return asyncio.get_running_loop().time() + CALL_S
