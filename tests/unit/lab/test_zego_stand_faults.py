"""The stand-in for ZEGOCLOUD told to fail in each of its ways, and healed."""

import asyncio
import json

import pytest
from control_stand_in import Names
from speaking_stand import ZEGO, closed, play, unhurried, until, zego_bearer
from zego_calls import VIEWER, asking, client, code

from hitless.errors import HitlessError, Refused


@pytest.fixture(autouse=True)
def peers(monkeypatch):
    unhurried(monkeypatch)


@pytest.mark.parametrize(
    ("fault", "of_rooms", "of_media"),
    [("rate-limited", 206, 30002), ("api-500", 100000015, 100000015)],
)
def test_the_api_fails_while_media_flows(fault, of_rooms, of_media):
    """With a code in an answer of 200; joins are not meant."""

    async def scenario(world, api):
        assert await world.fault(fault) == 200
        assert await code(world, "DescribeUserNum", ("RoomId[]", "a")) == of_rooms
        state = (("StreamId", "s"), ("Sequence", "1"))
        assert await code(world, "DescribeRTCStreamState", *state) == of_media
        with pytest.raises(HitlessError, match=str(of_rooms)):
            await api.user_counts(["a"])
        await world.publish(zego_bearer())
        assert await world.fault(fault, on=False) == 200
        assert await code(world, "DescribeUserNum", ("RoomId[]", "a")) == 0

    asking(scenario)


def test_a_zombie_stays_listed_and_blocks_until_it_is_kicked():
    """The later publisher of a stream id fails, with 1003028."""

    async def scenario(world, api):
        assert await world.fault("zombie-publisher") == 200
        published = await world.publish(zego_bearer())
        await published.pc.close()
        await until(lambda: world.stand.sessions.roster.is_haunted("s"))
        assert await api.user_counts(["room"]) == {"room": 1}
        (stream,) = await api.streams("room")
        assert (stream.stream, stream.user) == ("s", "u-7")
        answer = await world.ask("/whip/s", zego_bearer(user="u-9"))
        assert (answer.status, json.loads(answer.text)["code"]) == (409, 1003028)
        await api.kick_out("room", [stream.user])
        assert await api.user_counts(["room"]) == {"room": 0}
        await world.publish(zego_bearer(user="u-9"))

    asking(scenario)


def test_tokens_count_as_bad_and_who_is_in_stays():
    """1102018 and 1102016: ZEGOCLOUD keeps its users by default."""

    async def scenario(world):
        published = await world.publish(zego_bearer())
        for fault, expected in (("token-expired", 1102018), ("token-invalid", 1102016)):
            assert await world.fault(fault) == 200
            answer = await world.ask("/whep/s", VIEWER)
            assert (answer.status, json.loads(answer.text)["code"]) == (401, expected)
            await asyncio.sleep(0.2)  # several ticks
            assert await world.fault(fault, on=False) == 200
        assert published.pc.connectionState == "connected"
        assert (await world.ask("/whep/s", VIEWER)).status == 201

    play(ZEGO, scenario)


def test_a_region_goes_down_alone():
    """By the host's name; the common host leads to the stand-in's own region."""

    async def scenario(world):
        port = world.url.rpartition(":")[2]
        down = client(world, base=f"http://rtc-api-sgp.localhost:{port}", resolver=Names())
        up = client(world)
        try:
            assert await world.fault("region-down", region="eu") == 400  # it has no such
            published = await world.publish(zego_bearer(), "/whip/s?region=sgp")
            assert await world.fault("region-down", region="sgp") == 200
            await until(closed(published))
            assert (await world.ask("/whip/s?region=sgp", zego_bearer())).status == 503
            with pytest.raises(Refused, match="503"):
                await down.user_counts(["a"])
            assert await up.user_counts(["a"]) == {"a": 0}
            await world.publish(zego_bearer())
            assert await world.fault("region-down", on=False) == 200
            assert await down.user_counts(["a"]) == {"a": 0}
        finally:
            await down.aclose()
            await up.aclose()

    play(ZEGO, scenario)


def test_a_quota_stops_further_streams():
    """No code is documented for it, so none is named."""

    async def scenario(world):
        await world.publish(zego_bearer())
        assert await world.fault("quota", streams_max=1) == 200
        other = zego_bearer(stream="t")
        answer = await world.ask("/whip/t", other)
        assert (answer.status, json.loads(answer.text)["code"]) == (429, None)
        assert await world.fault("quota", on=False) == 200
        assert (await world.ask("/whip/t", other)).status == 201

    play(ZEGO, scenario)
