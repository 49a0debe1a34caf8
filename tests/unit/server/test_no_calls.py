"""A fleet move costs no call to a provider, however many streams it moves."""

import asyncio

import pytest
from unit.server.api import Api

from hitless.core.agreement import By
from hitless.server.fleet_orders import Order
from hitless.server.keys import KeyRole


pytestmark = pytest.mark.filterwarnings(
    "ignore::litestar.exceptions.LitestarDeprecationWarning"  # it speaks of Litestar 3
)

STREAMS = 40
ROWS = {
    "agora": {
        "config": {"app_id": "970CA35de60c44645bbae8a215061b33", "channel": "{stream}-{epoch}"},
        "secrets": {
            "certificate": "5CFd2fd1755d40ecb72977518be15d3b",
            "customer_id": "an-id",
            "customer_secret": "a-secret",
        },
    },
    "zegocloud": {
        "config": {"app_id": 1234567890},
        "secrets": {"server_secret": "0123456789abcdef0123456789abcdef"},
    },
}
"""Both have an API, and what opens it is here."""


@pytest.fixture
def calls(monkeypatch):
    """Return every connection that anybody in this process begins to make."""
    made = []

    async def noted(loop, *args, **named):
        made.append((args, named))
        raise ConnectionRefusedError("nobody calls here")

    for name in ("create_connection", "sock_connect", "getaddrinfo"):
        monkeypatch.setattr(asyncio.SelectorEventLoop, name, noted)
    return made


@pytest.mark.parametrize("adapter", ROWS)
def test_forty_streams_move_and_get_new_plans_without_a_call(adapter, tmp_path, calls):
    """
    Their credentials are minted here, the names with the epoch and those in reserve as well.
    """

    async def started(api, n):
        body = {"stream": f"s{n}", "client": f"of s{n}"}
        answer = await api.ask("POST", "/v1/start", body, key=KeyRole.CLIENT)
        return answer.json()["data"]

    async def main(api):
        node = api.node
        for n in range(STREAMS):
            plan = await started(api, n)
            await node.store.streams.confirm(plan["stream"], plan["epoch"], plan["provider"])
        await node._beat_once()
        order = Order(source="one", target=adapter, by=By.OPERATOR, who="k", because="a test")
        await node.orders.order(order, node.lease)
        async with asyncio.timeout(20.0):
            while len(await node.store.streams.page(provider=adapter)) < STREAMS:
                await node.fleet.tick(is_leader=True)
                await asyncio.sleep(0.05)
        return [await started(api, n) for n in range(STREAMS)]

    with Api(tmp_path / "hitless.db") as api:
        row = {"adapter": adapter, "priority": 9, "starts_per_s": 1000.0, **ROWS[adapter]}
        api.call("POST", f"/v1/admin/providers/{adapter}", row, status=201)
        plans = api.run(main(api))

    assert [(plan["provider"], plan["epoch"]) for plan in plans] == [(adapter, 2)] * STREAMS
    assert all(plan["credentials"][adapter]["token"] for plan in plans)
    assert calls == []
