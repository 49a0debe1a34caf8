"""Calls of the control API that the stand-in for ZEGOCLOUD serves."""

import itertools

from speaking_stand import ZEGO, play, zego_bearer

from hitless.core.events import Role
from hitless.providers.quota import Limit, Quota
from hitless.providers.zego_api import ZegoApi
from hitless.providers.zego_rest import LIMITS, signature


VIEWER = zego_bearer(Role.VIEWER, user="v")
NONCES = (f"{number:016x}" for number in itertools.count())
FAST = {name: Limit(per_s=1000.0) for name in LIMITS}


def client(world, **change):
    """Return our client of the API, whose own limits stop it from nothing."""
    known = {
        "app_id": ZEGO.app_id,
        "server_secret": ZEGO.server_secret,
        "base": world.url,
        "wall_s": world.wall,
        "quota": Quota("zegocloud", FAST),
    }
    return ZegoApi("zegocloud", **{**known, **change})


def asking(scenario):
    """Run a scenario with a client, which is closed."""

    async def main(world):
        api = client(world)
        try:
            await scenario(world, api)
        finally:
            await api.aclose()

    play(ZEGO, main)


def signed(world, action, nonce=None, **change):
    """Return the query of a signed call."""
    nonce, stamp = nonce or next(NONCES), int(world.wall())
    return {
        "Action": action,
        "AppId": str(ZEGO.app_id),
        "SignatureNonce": nonce,
        "Timestamp": str(stamp),
        "Signature": signature(ZEGO.app_id, nonce, ZEGO.server_secret, stamp),
        "SignatureVersion": "2.0",
        **change,
    }


async def call(world, action, *arguments, **change):
    """Return an answer; its status is 200 whatever it says."""
    query = signed(world, action, **change)
    params = [*((name, value) for name, value in query.items() if value is not None), *arguments]
    status, body, _ = await world.call("GET", "/", params=params)
    assert status == 200
    assert body.keys() >= {"Code", "Message", "RequestId"}
    return body


async def code(world, action, *arguments, **change):
    return (await call(world, action, *arguments, **change))["Code"]
