"""Every call of our client of Agora's REST API, and how one is made to a stand-in."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import control_calls
from control_stand_in import Answering, Asked, Names, StandIn

from hitless.providers.agora_api import AgoraApi
from hitless.providers.agora_hosts import Hosts


APP = "970CA35de60c44645bbae8a215061b33"
CUSTOMER = "customer-of-ours"
SECRET = "s3cr3t-of-the-customer"
KEY = "2dfMTRstreamkey0fys"
UID = "4004004"
BASIC = base64.b64encode(f"{CUSTOMER}:{SECRET}".encode()).decode()

CREATED = {
    "status": "success",
    "data": {
        "streamKey": KEY,
        "channel": "show",
        "uid": UID,
        "expiresAfter": 60,
        "createdAt": "1686820170",
    },
}
DONE = {"status": "success"}

Use = Callable[[AgoraApi], Awaitable[Any]]
"""Any: whatever the call returns."""

CALLS: dict[str, Use] = {
    "channels": lambda api: api.channels(),
    "users": lambda api: api.users("show"),
    "ban": lambda api: api.ban(channel="show", uid=int(UID)),
    "create_stream_key": lambda api: api.create_stream_key("show", UID, expires_after_s=60),
    "delete_key": lambda api: api.delete_key(KEY),
    "online_streams": lambda api: api.online_streams("show"),
    "force_disconnect": lambda api: api.force_disconnect(KEY, "sid-1"),
}
GATEWAY = {"create_stream_key", "delete_key", "online_streams", "force_disconnect"}


def api_of(stand_in: StandIn, **settings: Any) -> AgoraApi:
    """Make a client of a stand-in whose hosts have names of their own."""
    hosts = Hosts(
        primary=stand_in.named("primary"),
        alternate=stand_in.named("alternate"),
        adjacent=stand_in.named("adjacent"),
        adjacent_alternate=stand_in.named("adjacent-alternate"),
    )
    known = {
        "app_id": APP,
        "customer_id": CUSTOMER,
        "customer_secret": SECRET,
        "region": "eu",
        "hosts": hosts,
        "back_off_s": (0.01, 0.01, 0.01),
        "resolver": Names(),
    }
    return AgoraApi("agora", **{**known, **settings})


def ask(answering: Answering, use: Use, **settings: Any) -> tuple[Any, list[Asked]]:
    """Return what a call returned or raised, and what the stand-in was asked."""
    return control_calls.ask(partial(api_of, **settings), answering, use)


def assert_nothing_is_told(exc: BaseException) -> None:
    """No secret in a message, a repr, a cause or a traceback."""
    told = control_calls.told(exc)
    for secret in (SECRET, BASIC, KEY, UID, CUSTOMER):
        assert secret not in told
