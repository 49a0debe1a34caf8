"""The stand-in for Agora told to fail in each of its ways, and healed."""

import asyncio
import json

import pytest
from agora_calls import BASIC, CHANNELS, GATEWAY, VIEWER, asking, client, status_of
from control_stand_in import Names
from speaking_stand import AGORA, agora_bearer, closed, play, unhurried, until

from hitless.errors import Refused
from hitless.lab import agora_desk
from hitless.providers.agora_answers import Users
from hitless.providers.agora_hosts import Hosts


@pytest.fixture(autouse=True)
def peers(monkeypatch):
    unhurried(monkeypatch)


def test_a_rejected_join_has_agoras_code_until_it_is_healed():
    """17, for publishers and viewers; those who are in stay."""

    async def scenario(world):
        published = await world.publish(agora_bearer())
        assert await world.fault("join-rejected") == 200
        for path, headers in (("/whip/s", agora_bearer()), ("/whep/s", VIEWER)):
            answer = await world.ask(path, headers)
            assert (answer.status, json.loads(answer.text)["code"]) == (503, 17)
        assert published.pc.connectionState == "connected"
        assert await world.fault("join-rejected", on=False) == 200
        assert (await world.ask("/whep/s", VIEWER)).status == 201

    play(AGORA, scenario)


def test_an_expired_token_by_fault_removes_who_is_in():
    """As when it expires by itself: Agora's users go, and come not back until it is healed."""

    async def scenario(world):
        published = await world.publish(agora_bearer())
        assert await world.fault("token-expired") == 200
        await until(closed(published))
        answer = await world.ask("/whip/s", agora_bearer())
        assert (answer.status, json.loads(answer.text)["code"]) == (401, 109)
        assert await world.fault("token-expired", on=False) == 200
        await world.publish(agora_bearer())

    play(AGORA, scenario)


def test_an_invalid_token_by_fault_stops_joins_and_nothing_else():
    """Who is in stays."""

    async def scenario(world):
        published = await world.publish(agora_bearer())
        assert await world.fault("token-invalid") == 200
        answer = await world.ask("/whep/s", VIEWER)
        assert (answer.status, json.loads(answer.text)["code"]) == (401, 110)
        await asyncio.sleep(0.2)  # several ticks
        assert published.pc.connectionState == "connected"
        assert await world.fault("token-invalid", on=False) == 200
        assert (await world.ask("/whep/s", VIEWER)).status == 201

    play(AGORA, scenario)


@pytest.mark.parametrize(
    ("fault", "status", "message"),
    [
        ("rate-limited", 429, "Request rate limit exceeded."),
        ("api-500", 500, "Internal error. Contact us to help fix it."),
    ],
)
def test_the_api_fails_while_media_flows(fault, status, message):
    """Every call, with the documented words; joins are not meant."""

    async def scenario(world, api):
        assert await world.fault(fault) == 200
        for path in (CHANNELS, f"{GATEWAY}/online-streams"):
            told = await world.call("GET", path, headers=BASIC)
            assert told[:2] == (status, {"message": message})
        with pytest.raises(Refused, match=str(status)):
            await api.users("s")
        await world.publish(agora_bearer())
        assert await world.fault(fault, on=False) == 200
        assert await status_of(world, "GET", CHANNELS) == 200

    asking(scenario)


def test_a_zombie_stays_listed_and_blocks_until_it_is_kicked():
    """The client finds it, and gets rid of it as of a real one."""

    async def scenario(world, api):
        assert await world.fault("zombie-publisher") == 200
        published = await world.publish(agora_bearer(uid=7))
        assert await published.leave(world.http) == 401  # whoever leaves shows its token
        await until(lambda: world.stand.sessions.roster.is_haunted("s"))
        assert world.stand.sessions.all == []
        assert (await api.users("s", hosts_only=True)).hosts == ("7",)
        assert (await api.channels()).total == 1
        answer = await world.ask("/whip/s", agora_bearer(uid=9))
        assert (answer.status, json.loads(answer.text)["code"]) == (409, 17)
        other = agora_bearer(channel="other", uid=9)
        assert (await world.ask("/whip/other", other)).status == 201
        await api.ban(channel="s", uid=7)
        assert await api.users("s") == Users(exists=False)
        await world.publish(agora_bearer(uid=9))

    asking(scenario)


def test_zombies_go_when_they_are_healed_and_a_kicked_publisher_is_none():
    """Also one that was replaced."""

    async def scenario(world, api):
        assert await world.fault("zombie-publisher") == 200
        published = await world.publish(agora_bearer(uid=7))
        newer = await world.publish(agora_bearer(uid=8))
        await until(closed(published))
        assert (await api.users("s")).hosts == ("8",)
        await newer.pc.close()
        await until(lambda: world.stand.sessions.roster.is_haunted("s"))
        assert await world.fault("zombie-publisher", on=False) == 200
        await world.publish(agora_bearer(uid=9))
        assert await world.fault("zombie-publisher") == 200
        await api.ban(channel="s", uid=9)
        assert await api.users("s") == Users(exists=False)

    asking(scenario)


def test_a_quota_stops_further_streams_and_keys():
    """Those on air go on, also when they start again."""

    async def scenario(world, api):
        await world.publish(agora_bearer())
        assert await world.fault("quota", streams_max=1) == 200
        other = agora_bearer(channel="other")
        assert (await world.ask("/whip/other", other)).status == 429
        assert (await world.ask("/whip/s", agora_bearer())).status == 201
        assert (await world.ask("/whep/s", VIEWER)).status == 201
        with pytest.raises(Refused, match="quota limit exceeded"):
            await api.create_stream_key("other", "7", expires_after_s=60)
        assert await world.fault("quota", on=False) == 200
        await api.create_stream_key("other", "7", expires_after_s=60)
        assert (await world.ask("/whip/other", other)).status == 201

    asking(scenario)


def test_more_pushes_than_the_project_may_have_are_refused(monkeypatch):
    """With a key, that is: 50, shortened here; who joins with a token is no push."""
    monkeypatch.setattr(agora_desk, "PUSHES_MAX", 1)

    async def scenario(world, api):
        for stream, status in (("s", 201), ("t", 429)):
            key = await api.create_stream_key(stream, "7", expires_after_s=60)
            bearer = {"Authorization": f"Bearer {key.key}"}
            if status == 201:
                await world.publish(bearer)
            else:
                assert (await world.ask(f"/whip/{stream}", bearer)).status == status
        await world.publish(agora_bearer(channel="u"), "/whip/u")

    asking(scenario)


def test_a_region_goes_down_alone():
    """Its paths, hosts, joins and sessions; another region's go on."""

    async def scenario(world):
        na = await world.publish(agora_bearer(), "/whip/s?region=na")
        eu = await world.publish(agora_bearer(channel="e"), "/whip/e")
        assert await world.fault("region-down", region="na") == 200
        await until(closed(na))
        assert (await world.ask("/whip/s?region=na", agora_bearer())).status == 503
        assert (await world.ask("/whip/s", agora_bearer())).status == 201
        assert eu.pc.connectionState == "connected"
        gateway = GATEWAY.replace("/eu/", "/na/")
        assert await status_of(world, "GET", f"{gateway}/online-streams") == 503
        assert await status_of(world, "GET", f"{GATEWAY}/online-streams") == 200
        host = {**BASIC, "Host": "api-us-west-1.localhost"}
        assert await status_of(world, "GET", CHANNELS, headers=host) == 503
        assert await status_of(world, "GET", "/health") == 200
        assert await world.fault("region-down", on=False) == 200
        await world.publish(agora_bearer(), "/whip/s?region=na")
        assert await world.fault("region-down") == 200  # its own
        await until(closed(eu))
        assert (await world.ask("/whip/e?region=xx", agora_bearer())).status == 400

    play(AGORA, scenario)


def test_the_client_goes_on_to_the_next_host_when_a_region_is_down():
    """In the documented order: the adjacent region answers."""

    async def scenario(world):
        port = world.url.rpartition(":")[2]
        hosts = Hosts(
            primary=f"http://api-eu-central-1.localhost:{port}",
            alternate=f"http://api-eu-central-1.localhost:{port}",
            adjacent=f"http://api-us-east-1.localhost:{port}",
            adjacent_alternate=f"http://api-us-east-1.localhost:{port}",
        )
        api = client(world, hosts=hosts, resolver=Names(), back_off_s=(0.01, 0.01, 0.01))
        try:
            assert await world.fault("region-down", region="eu") == 200
            assert (await api.channels()).total == 0
        finally:
            await api.aclose()

    play(AGORA, scenario)
