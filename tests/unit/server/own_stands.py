"""Stand-ins of LiveKit, Janus and RTMP, and their rows as an operator would register them."""

import asyncio
from contextlib import asynccontextmanager

import livekit_stand_in
import pytest
import rtmp_server
from unit.providers import janus_stand_in

from hitless.server.addresses import parse_allowed
from hitless.server.own_control import OwnControl
from hitless.server.store_operators import ProviderRow


LIMIT_S = 30.0
LOOPBACK = parse_allowed(["127.0.0.0/8"])
ADAPTERS = ("livekit", "janus", "rtmp")
ALL = pytest.mark.parametrize("adapter", ADAPTERS)
SECRETS = {
    "livekit": {"api_key": livekit_stand_in.KEY, "api_secret": livekit_stand_in.SECRET},
    "janus": {},
    "rtmp": {},
}
SERVING = {
    "livekit": livekit_stand_in.serving,
    "janus": janus_stand_in.standing_in,
    "rtmp": rtmp_server.serving,
}


def row(adapter, url, **config):
    """Return a provider's row, as an operator would register it."""
    return ProviderRow(name="theirs", adapter=adapter, config={"url": url, **config})


@asynccontextmanager
async def standing(adapter, **settings):
    """Run a stand-in; lend it and its row."""
    async with SERVING[adapter]() as stand:
        for name, value in settings.items():
            setattr(stand, name, value)
        url = stand.url.replace("http://", "ws://") if adapter == "livekit" else stand.url
        yield stand, row(adapter, url)


async def asked(one, secrets=None, allow_private=LOOPBACK, resolver=None):
    """Ask a provider once; no secret is in the answer."""
    control = OwnControl(
        one,
        SECRETS[one.adapter] if secrets is None else secrets,
        allow_private=allow_private,
        resolver=resolver,
    )
    try:
        async with asyncio.timeout(LIMIT_S):
            answer = await control()
    finally:
        await control.aclose()
    for secret in SECRETS["livekit"].values():
        assert secret not in repr(answer)
    return answer


def kinds_asked(adapter, stand):
    """Return what a stand-in was asked, in order."""
    if adapter == "rtmp":
        return [name for name, _ in stand.seen]
    if adapter == "janus":
        return [each["janus"] for each in stand.seen]
    return [each.path.rsplit("/", 1)[1] for each in stand.seen]
