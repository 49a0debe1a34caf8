"""Calls of the control API that the stand-in for Agora serves."""

import base64

from speaking_stand import AGORA, agora_bearer, play

from hitless.core.events import Role
from hitless.providers.agora_api import AgoraApi
from hitless.providers.agora_hosts import Hosts


CHANNELS = f"/dev/v1/channel/{AGORA.app_id}"
USERS = f"/dev/v1/channel/user/{AGORA.app_id}"
RULES = "/dev/v1/kicking-rule"
GATEWAY = f"/eu/v1/projects/{AGORA.app_id}/rtls/ingress"
CREDENTIAL = f"{AGORA.customer_id}:{AGORA.customer_secret}"
BASIC = {"Authorization": f"Basic {base64.b64encode(CREDENTIAL.encode()).decode()}"}
VIEWER = agora_bearer(Role.VIEWER, uid=8)


def client(world, **change):
    """Return our client of the API."""
    host = world.url
    known = {
        "app_id": AGORA.app_id,
        "customer_id": AGORA.customer_id,
        "customer_secret": AGORA.customer_secret,
        "region": "eu",
        "hosts": Hosts(primary=host, alternate=host, adjacent=host, adjacent_alternate=host),
        "back_off_s": (),
    }
    return AgoraApi("agora", **{**known, **change})


def asking(scenario):
    """Run a scenario with a client, which is closed."""

    async def main(world):
        api = client(world)
        try:
            await scenario(world, api)
        finally:
            await api.aclose()

    play(AGORA, main)


async def get(world, path, **options):
    status, body, _ = await world.call("GET", path, headers=BASIC, **options)
    assert status == 200, body
    return body


async def status_of(world, method, path, **options):
    return (await world.call(method, path, **{"headers": BASIC, **options}))[0]
