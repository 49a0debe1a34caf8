"""hitless.server.dark_streams: publishers that lost their media are told when to go"""

import asyncio
from dataclasses import replace

import pytest
from unit.server.api import NAMES, Api, whip

from hitless.client.protocol import LegNews
from hitless.core.pacing import MARGIN
from hitless.server.clock import wall_s
from hitless.server.hub import Connection
from hitless.server.keys import KeyRole


pytestmark = pytest.mark.filterwarnings(
    "ignore::litestar.exceptions.LitestarDeprecationWarning"  # it speaks of Litestar 3
)

ACCEPTED_PER_S = 40.0


@pytest.fixture
def api(tmp_path):
    with Api(tmp_path / "hitless.db") as api:
        for name in NAMES:
            body = {"starts_per_s": ACCEPTED_PER_S, "config": whip(name)["config"]}
            api.call("PATCH", f"/v1/admin/providers/{name}", body)
        yield api


async def started(api, count):
    """Start streams, count them, and return their publishers' connections by stream."""
    node, found = api.node, {}
    node.providers.quotas._limits = {}  # they came one after the other, long ago
    for n in range(count):
        stream = f"s{n}"
        body = {"stream": stream, "client": f"of {stream}", "provider": "one"}
        answer = await api.ask("POST", "/v1/start", body, key=KeyRole.CLIENT)
        assert answer.status_code == 200, answer.text
        who = node.ring.check(api.keys[KeyRole.CLIENT], wall_s())
        await node.store.streams.confirm(stream, 1, "one")
        found[stream] = Connection(f"of {stream}", who)
        node.hub.add(found[stream])
        assert node.hub.attach(found[stream], stream, "publisher")
    await node.refresh()
    await node.dark.count(is_told=True)
    return found


def lost(api, connections, *streams, state="silent"):
    """Their publishers say what became of their leg."""
    for stream in streams:
        news = LegNews(stream=stream, provider="one", state=state, because="no media for 0.2 s")
        api.node.dark.leg_news(connections[stream], news)


async def moved(api):
    """Return the streams that are elsewhere now."""
    return [row.id for row in await api.node.store.streams.page(provider="two")]


async def until_moved(api, count):
    """Wait until so many streams are elsewhere; return how long that took [s]."""
    loop = asyncio.get_running_loop()
    begun_s = loop.time()
    async with asyncio.timeout(20.0):
        while len(await moved(api)) < count:  # noqa: ASYNC110 -- nobody tells
            await asyncio.sleep(0.01)
    return loop.time() - begun_s


def test_one_of_many_that_lost_its_leg_is_told_at_once(api):
    """
    It waits for that: it cannot know whether all the others lost theirs.
    """

    async def main():
        found = await started(api, 50)
        lost(api, found, "s7")
        took_s = await until_moved(api, 1)
        row = await api.node.store.streams.one("s7")
        return await moved(api), took_s, row.because

    gone, took_s, because = api.run(main())
    assert gone == ["s7"]
    assert took_s < 1.0
    assert because == "its publisher lost its media: no media for 0.2 s"


def test_where_few_are_nobody_is_told(api):
    """
    They go at once by themselves, and say so.
    """

    async def main():
        found = await started(api, int(MARGIN * ACCEPTED_PER_S))
        lost(api, found, "s7")
        await asyncio.sleep(0.3)
        return await moved(api)

    assert api.run(main()) == []


def test_a_start_that_fails_is_tried_again_by_who_starts(api):
    """
    Nothing was lost: its attempts are its own.
    """

    async def main():
        found = await started(api, 50)
        await api.node.store.streams.end("s7", publisher=None, by="k", because="over")
        body = {"stream": "s7", "client": "of s7", "provider": "one"}
        await api.ask("POST", "/v1/start", body, key=KeyRole.CLIENT)
        lost(api, found, "s7", state="failed")
        await asyncio.sleep(0.3)
        return await moved(api)

    assert api.run(main()) == []


def test_many_are_told_no_faster_than_the_next_one_accepts_starts(api):
    """
    In the order in which they said it.
    """

    async def main():
        found = await started(api, 50)
        lost(api, found, *(f"s{n}" for n in range(30)))
        took_s = await until_moved(api, 30)
        rows = await api.node.store.streams.page(provider="two")
        return took_s, [row.id for row in sorted(rows, key=lambda row: row.changed_s)]

    took_s, told = api.run(main())
    assert took_s >= 29 / (MARGIN * ACCEPTED_PER_S)
    assert told == [f"s{n}" for n in range(30)]


def test_who_has_media_again_before_its_turn_stays(api):
    async def main():
        found = await started(api, 50)
        lost(api, found, *(f"s{n}" for n in range(20)))
        await asyncio.sleep(0)
        lost(api, found, "s15", state="heard")
        await until_moved(api, 19)
        await asyncio.sleep(0.2)
        return await moved(api)

    gone = api.run(main())
    assert "s15" not in gone
    assert len(gone) == 19


def test_once_the_provider_is_down_the_rest_is_the_fleets(api):
    """
    Its move deals the same starts: both together would be too many.
    """

    async def main():
        found = await started(api, 50)
        lost(api, found, *(f"s{n}" for n in range(40)))
        await until_moved(api, 2)
        api.node.judge.elsewhere = {"one": "another node saw it"}
        await asyncio.sleep(0.1)
        before = len(await moved(api))
        await asyncio.sleep(0.5)
        return before, len(await moved(api))

    before, after = api.run(main())
    assert before == after < 40


@pytest.mark.parametrize("mode", ["act", "observe"])
def test_the_list_says_what_a_moment_is_found_by_to_callers_with_a_key(api, mode):
    """
    A server that only observes tells nobody to go, so it says nothing that they would wait for.
    """

    async def main():
        await started(api, 3)
        await api.node.dark.count(is_told=mode == "act")
        answer = await api.ask("GET", "/streaming/providers", key=KeyRole.CLIENT)
        api.node.config = replace(api.node.config, is_open=True)
        public = await api.ask("GET", "/streaming/providers", key=None)
        return answer.json()["data"]["providers"], public.json()["data"]["providers"]

    keyed, public = api.run(main())
    assert [one.get("streams") for one in keyed] == [3 if mode == "act" else None, None]
    assert [one.get("startsPerSecond") for one in keyed] == [ACCEPTED_PER_S, ACCEPTED_PER_S]
    assert {name for one in public for name in one} == {"name", "isActive", "priority", "config"}
