"""A client behind a proxy that lets no WebSocket through: everything works by REST."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest
from aiohttp import web
from e2e.serving import House, add_providers

from hitless.client.control import ControlPlane
from hitless.core.events import EndRequested, PlacementTold, Role, StreamOver


LIMIT_S = 60.0


@pytest.fixture
def house(tmp_path):
    """Lend what starts servers; it ends them."""
    house = House(tmp_path)
    yield house
    house.close()


async def proxy(url, seen):
    """Return the runner and the address of a proxy that refuses WebSockets."""

    async def answer(request):
        if "upgrade" in request.headers.get("Connection", "").lower():
            seen.append("refused")
            raise web.HTTPForbidden
        headers = {k: v for k, v in request.headers.items() if k.lower() != "host"}
        async with (
            aiohttp.ClientSession() as session,
            session.request(
                request.method, url + request.path_qs, data=await request.read(), headers=headers
            ) as far,
        ):
            return web.Response(
                body=await far.read(), status=far.status, content_type=far.content_type
            )

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}"


def test_placements_reach_a_client_that_has_no_websocket(house, tmp_path):
    """
    It is told within a second, as over a WebSocket, and what it says is heard.
    """

    async def main():
        node = house.serve(f"sqlite:///{tmp_path}/a.db", "a")
        await add_providers(node, "one", "two")
        refused, posted, told = [], [], asyncio.Event()
        runner, url = await proxy(node.url, refused)
        plane = ControlPlane(url, key=house.keys["HITLESS_CLIENT_KEY"], client="studio")

        def post(event):
            posted.append(event)
            if isinstance(event, PlacementTold) and event.epoch == 2:
                told.set()

        plane.attach(post=post, tell=lambda news: None, look=lambda session: None,
                     media_age_s=lambda provider: None)  # fmt: skip
        try:
            async with asyncio.timeout(LIMIT_S):
                plan = await plane.begin("s1", "show", Role.PUBLISHER)
                for _ in range(600):
                    if plane.is_connected:
                        break
                    await asyncio.sleep(0.05)
                plane.confirm("s1", plan.epoch, plan.provider)
                for _ in range(50):
                    if (await node.stream("show")).data["is_carried"]:
                        break
                    await asyncio.sleep(0.1)
                carried = (await node.stream("show")).data["is_carried"]
                posted.clear()
                told.clear()
                begun_s = asyncio.get_running_loop().time()
                await node.move("show", "two")
                await told.wait()
                took_s = asyncio.get_running_loop().time() - begun_s
                plane.finish("s1", "a test")
                await plane.aclose()
                for _ in range(50):
                    if (await node.stream("show")).data["state"] == "ended":
                        break
                    await asyncio.sleep(0.1)
                state = (await node.stream("show")).data["state"]
        finally:
            await plane.aclose()
            await runner.cleanup()
        return refused, carried, posted, took_s, state

    refused, carried, posted, took_s, state = asyncio.run(main())
    assert len(refused) >= 3
    assert carried
    (placed,) = [one for one in posted if isinstance(one, PlacementTold)]
    assert (placed.epoch, placed.provider) == (2, "two")
    assert not [one for one in posted if isinstance(one, EndRequested | StreamOver)]
    assert took_s < 2.0
    assert state == "ended"
