"""A stand-in for a provider, and every peer that was made."""

import asyncio
import random
from contextlib import asynccontextmanager

import aiohttp
from bench.stand_peers import LightViewer, post, publish, publish_offer, view, view_offer

from hitless.lab.stand import Stand


BEARER = {"Authorization": "Bearer control"}


class World:
    """A stand-in, an HTTP client, and every peer that was made."""

    def __init__(self, stand, url, http, video, audio):
        self.stand, self.url, self.http = stand, url, http
        self.media = {"video": video, "audio": audio}
        self.peers = []

    async def publish(self, stream="s", **options):
        joined = await publish(self.http, self.url, stream, **(self.media | options))
        self.peers.append(joined.pc)
        return joined

    async def view(self, stream="s", **options):
        joined = await view(self.http, self.url, stream, **options)
        self.peers.append(joined.pc)
        return joined

    async def count(self, kinds=("audio", "video")):
        viewer = LightViewer()
        self.peers.append(viewer.pc)
        await viewer.join(self.http, self.url, "s", kinds)
        return viewer

    async def post(self, path, sdp=None, **headers):
        """Post a viewer's or publisher's offer, or what is given; return the answer."""
        if sdp is None:
            pc = await view_offer() if "whep" in path else (await self.offer())
            self.peers.append(pc)
            sdp = pc.localDescription.sdp
        return await post(self.http, self.url + path, sdp, headers)

    async def offer(self):
        return (await publish_offer(**self.media))[0]

    async def fault(self, name, on=True, **numbers):
        body = {"fault": name, "on": on} | numbers
        async with self.http.post(
            f"{self.url}/control/faults", json=body, headers=BEARER
        ) as answer:
            assert answer.status == 200, await answer.text()

    async def state(self):
        async with self.http.get(f"{self.url}/control", headers=BEARER) as answer:
            return await answer.json()

    async def request(self, method, path, **options):
        async with self.http.request(method, self.url + path, **options) as answer:
            return answer.status


def playing(video, audio):
    """Return what runs a scenario in a world of its own, within 15 s, and leaves nothing open."""

    @asynccontextmanager
    async def world(**options):
        stand = Stand("agora", control_token="control", rng=random.Random(1), **options)
        url = await stand.start()
        async with aiohttp.ClientSession() as http:
            here = World(stand, url, http, video, audio)
            try:
                yield here
            finally:
                await asyncio.gather(*(pc.close() for pc in here.peers))
                await stand.aclose()
                await stand.aclose()  # idempotent

    def play(scenario, **options):
        async def main():
            async with asyncio.timeout(15), world(**options) as here:
                await scenario(here)

        asyncio.run(main())

    return play


async def until(condition, limit_s=3.0):
    """Wait until something is so."""
    loop = asyncio.get_running_loop()
    until_s = loop.time() + limit_s
    while not condition():
        assert loop.time() < until_s, "it never was so"
        await asyncio.sleep(0.01)


def closed(pc):
    return lambda: pc.connectionState == "closed"
