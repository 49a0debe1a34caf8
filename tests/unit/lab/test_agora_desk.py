"""hitless.lab.agora_desk: the control API of the stand-in, by the documents and by our client."""

import asyncio
import json

import pytest
from agora_calls import (
    BASIC,
    CHANNELS,
    CREDENTIAL,
    GATEWAY,
    RULES,
    USERS,
    VIEWER,
    asking,
    client,
    get,
    status_of,
)
from speaking_stand import AGORA, agora_bearer, closed, play, unhurried, until

from hitless.core.events import Role
from hitless.errors import CredentialsRejected, Retry
from hitless.lab.agora_rules import Rules
from hitless.lab.gate import Pass
from hitless.media.frame import Kind
from hitless.providers.agora_answers import Channel, Privilege, Users


@pytest.fixture(autouse=True)
def peers(monkeypatch):
    unhurried(monkeypatch)


# --- Who is there ---


def test_the_client_sees_who_is_in_a_channel():
    """Hosts and audience, from the sessions that are really there."""

    async def scenario(world, api):
        assert (await api.channels()).total == 0
        assert await api.users("s") == Users(exists=False)
        await world.publish(agora_bearer(uid=7))
        await world.view(VIEWER)
        await world.view(agora_bearer(Role.VIEWER, uid=9))
        found = await api.channels(page_size=1)
        assert (found.channels, found.total) == ((Channel(name="s", users=3),), 1)
        users = await api.users("s")
        assert (users.is_live, users.hosts) == (True, ("7",))
        assert set(users.audience) == {"8", "9"}
        hosts = await api.users("s", hosts_only=True)
        assert (hosts.hosts, hosts.audience) == (("7",), ())

    asking(scenario)


def test_answers_have_the_documented_shapes():
    """Field by field."""

    async def scenario(world):
        nobody = {"success": True, "data": {"channel_exist": False}}
        assert await get(world, f"{USERS}/s") == nobody
        assert await get(world, f"{USERS}/s/hosts_only") == nobody
        of_user = f"/dev/v1/channel/user/property/{AGORA.app_id}"
        absent = {"success": True, "data": {"in_channel": False}}
        assert await get(world, f"{of_user}/7/s") == absent
        await world.publish(agora_bearer(uid=7))
        await world.view(VIEWER)
        assert await get(world, CHANNELS) == {
            "success": True,
            "data": {"channels": [{"channel_name": "s", "user_count": 2}], "total_size": 1},
        }
        page = await get(world, f"{CHANNELS}?page_no=1&page_size=1")
        assert page["data"] == {"channels": [], "total_size": 1}
        hosts = {"channel_exist": True, "mode": 2, "broadcasters": [7]}
        everybody = {**hosts, "audience": [8], "audience_total": 1}
        assert await get(world, f"{USERS}/s") == {"success": True, "data": everybody}
        assert await get(world, f"{USERS}/s/hosts_only") == {"success": True, "data": hosts}
        assert await get(world, f"{USERS}/s?hosts_only") == {"success": True, "data": hosts}
        data = (await get(world, f"{of_user}/7/s"))["data"]
        assert abs(data.pop("join") - world.wall()) < 60
        assert data == {"in_channel": True, "uid": 7, "role": 2, "platform": 0}
        assert (await get(world, f"{of_user}/8/s"))["data"]["role"] == 3

    play(AGORA, scenario)


def test_who_is_refused_gets_the_documented_status():
    """401 without a request's id, 400, 403 not at all, 404, 415; with words in `message`."""

    async def scenario(world):
        for shown in ("", BASIC["Authorization"] + "x", f"Bearer {CREDENTIAL}"):
            told = await world.call("GET", CHANNELS, headers={"Authorization": shown})
            assert told[:2] == (401, {"message": "Invalid authentication credentials."})
            assert "X-Request-ID" not in told[2]
        told = await world.call("GET", CHANNELS, headers=BASIC | {"X-Request-ID": "mine-1"})
        assert (told[0], told[2]["X-Request-ID"]) == (200, "mine-1")
        assert told[2]["Server"] == "hitless-stand-in (it)"
        told = await world.call("GET", CHANNELS, headers=BASIC | {"X-Request-ID": "no <id>"})
        assert told[2]["X-Request-ID"] not in ("", "no <id>")
        for method, path, options, status in (
            ("GET", "/dev/v1/channel/other", {}, 401),
            ("GET", f"{CHANNELS}?page_size=501", {}, 400),
            ("GET", f"{CHANNELS}?page_no=-1", {}, 400),
            ("GET", f"/dev/v1/channel/user/property/{AGORA.app_id}/name/s", {}, 400),
            ("GET", f"{RULES}?appid=other", {}, 401),
            ("POST", RULES, {"data": "{}"}, 415),
            ("POST", RULES, {"json": {}}, 401),
            ("POST", RULES, {"json": []}, 400),
            ("PUT", RULES, {"json": {"appid": AGORA.app_id, "id": 9, "time": 1}}, 404),
            ("DELETE", RULES, {"json": {"appid": AGORA.app_id, "id": 9}}, 404),
            ("GET", f"/xx/v1/projects/{AGORA.app_id}/rtls/ingress/online-streams", {}, 400),
            ("GET", "/eu/v1/projects/other/rtls/ingress/online-streams", {}, 400),
            ("GET", f"{GATEWAY}/streamkeys/none", {}, 404),
            ("DELETE", f"{GATEWAY}/online-streams/none", {}, 404),
            ("PUT", f"{GATEWAY}/streamkeys", {"json": {}}, 405),
        ):
            assert await status_of(world, method, path, **options) == status, (method, path)

    play(AGORA, scenario)


def test_the_client_reads_a_refusal():
    """A wrong secret is renewed once, then left."""

    async def scenario(world):
        api = client(world, customer_secret="wrong")
        try:
            with pytest.raises(CredentialsRejected) as rejected:
                await api.channels()
            assert rejected.value.retry in (Retry.SAME, Retry.NEXT)
        finally:
            await api.aclose()

    play(AGORA, scenario)


def test_more_calls_than_the_account_may_make_are_refused():
    """20 queries of a kind and 10 other calls in a second; each kind counts alone."""

    async def scenario(world):
        loop = asyncio.get_running_loop()
        for path, limit in ((CHANNELS, 20), (f"{RULES}?appid={AGORA.app_id}", 10)):
            for _ in range(5):  # a second must be enough for all the calls
                start_s = loop.time()
                told = await asyncio.gather(
                    *(status_of(world, "GET", path) for _ in range(limit + 5))
                )
                if loop.time() - start_s < 1.0:
                    break
                await asyncio.sleep(1.0)
            assert told.count(429) == 5
            assert told.count(200) == limit
        await asyncio.sleep(1.1)
        assert await status_of(world, "GET", CHANNELS) == 200

    play(AGORA, scenario)


# --- Who must go ---


def test_the_client_kicks_a_publisher_out_which_may_come_back():
    """A rule of 0 s ends the session at once, and stands no longer."""

    async def scenario(world, api):
        published = await world.publish(agora_bearer(uid=7))
        watching = await world.view(VIEWER)
        assert await api.ban(channel="s", uid=7) == 1
        await until(closed(published))
        await until(closed(watching))  # whose publisher it was
        assert await api.users("s") == Users(exists=False)
        await world.publish(agora_bearer(uid=7))

    asking(scenario)


def test_a_ban_keeps_out_whom_it_means_until_it_ends():
    """403 with Agora's 123; a user, everybody in a channel, or everybody of an address."""

    async def scenario(world, api):
        number = await api.ban(channel="s", uid=7, for_s=60)
        answer = await world.ask("/whip/s", agora_bearer(uid=7))
        assert (answer.status, json.loads(answer.text)["code"]) == (403, 123)
        other = agora_bearer(channel="other", uid=7)
        assert (await world.ask("/whip/other", other)).status == 201
        assert (await world.ask("/whip/s", agora_bearer(uid=8))).status == 201
        world.wall.now_s += 61
        assert (await world.ask("/whip/s", agora_bearer(uid=7))).status == 201
        number = await api.ban(channel="s", uid=None, for_s=60)
        assert (await world.ask("/whip/s", agora_bearer(uid=9))).status == 403
        body = {"appid": AGORA.app_id, "id": number}
        assert await status_of(world, "DELETE", RULES, json=body) == 200
        assert (await world.ask("/whip/s", agora_bearer(uid=9))).status == 201
        body = {"appid": AGORA.app_id, "ip": "127.0.0.1", "privileges": ["join_channel"]}
        assert await status_of(world, "POST", RULES, json=body | {"time": 1}) == 200
        assert (await world.ask("/whip/s", agora_bearer(uid=9))).status == 403

    asking(scenario)


def test_a_ban_of_one_kind_silences_it_and_both_take_the_stream_off():
    """The others in the channel see no more of it; a viewer is not meant."""

    async def scenario(world, api):
        published = await world.publish(agora_bearer(uid=7), video=True)
        tracks = world.stand.sessions.on_air[0].publisher.tracks
        await until(lambda: min(track.packets for track in tracks.values()) > 3)
        await api.ban(channel="s", uid=7, privileges=(Privilege.AUDIO,), for_s=60)
        await asyncio.sleep(0.3)  # several ticks
        heard, seen = tracks[Kind.AUDIO].packets, tracks[Kind.VIDEO].packets
        await until(lambda: tracks[Kind.VIDEO].packets > seen + 10)
        assert tracks[Kind.AUDIO].packets == heard
        await api.ban(channel="s", uid=7, privileges=(Privilege.VIDEO,), for_s=60)
        await until(closed(published))
        assert (await world.ask("/whip/s", agora_bearer(uid=7))).status == 403
        assert (await world.ask("/whep/s", agora_bearer(Role.VIEWER, uid=7))).status == 409

    asking(scenario)


def test_rules_are_listed_and_changed_as_documented():
    """With their times as Agora writes them."""

    async def scenario(world):
        body = {
            "appid": AGORA.app_id,
            "cname": "s",
            "uid": 7,
            "ip": "",
            "time": 2,
            "privileges": ["join_channel"],
        }
        told = await world.call("POST", RULES, headers=BASIC, json=body)
        assert told[:2] == (200, {"status": "success", "id": 1})
        (rule,) = (await get(world, f"{RULES}?appid={AGORA.app_id}"))["rules"]
        assert rule == {
            "id": 1,
            "appid": AGORA.app_id,
            "uid": 7,
            "opid": 1,
            "cname": "s",
            "ip": None,
            "ts": "2023-11-14T22:15:20.000Z",
            "privileges": ["join_channel"],
            "createAt": "2023-11-14T22:13:20.000Z",
            "updateAt": "2023-11-14T22:13:20.000Z",
        }
        change = {"appid": AGORA.app_id, "id": 1, "time_in_seconds": 10, "time": 5}
        told = await world.call("PUT", RULES, headers=BASIC, json=change)
        result = {"id": 1, "ts": "2023-11-14T22:13:30.000Z"}
        assert told[:2] == (200, {"status": "success", "result": result})
        change = {"appid": AGORA.app_id, "id": 1}
        told = await world.call("DELETE", RULES, headers=BASIC, json=change)
        assert told[:2] == (200, {"status": "success", "id": 1})
        assert (await get(world, f"{RULES}?appid={AGORA.app_id}"))["rules"] == []

    play(AGORA, scenario)


@pytest.mark.parametrize(
    ("said", "lasts_s"),
    [
        ({}, 3600),
        ({"time": 0.5}, 60),
        ({"time": 2000}, 86_400),
        ({"time_in_seconds": 1}, 10),
        ({"time_in_seconds": 1e6}, 86_430),
        ({"time_in_seconds": 20, "time": 5}, 20),
        ({"time_in_seconds": 0, "time": 5}, 0),
        ({"time": 0}, 0),
    ],
)
def test_the_time_of_a_rule_is_clamped_as_documented(said, lasts_s):
    """Seconds win over minutes; neither is an hour; 0 kicks once and stands not at all."""
    rules = Rules(lambda: 1000.0)
    rule, lasts = rules.make({"cname": "s", "privileges": ["join_channel"]} | said)
    assert rule.until_s == 1000.0 + lasts_s
    assert lasts is (lasts_s > 0)
    assert rules.may_not_join(Pass(user="1", room="s")) is lasts
    assert not rules.may_not_join(Pass(user="1", room="other"))


@pytest.mark.parametrize(
    "change",
    [
        {"cname": None},
        {"cname": "", "ip": ""},
        {"cname": 5},
        {"uid": 0},
        {"uid": 1.5},
        {"uid": True},
        {"ip": "127.0.0.1"},
        {"privileges": []},
        {"privileges": ["fly"]},
        {"privileges": [{}]},
        {"privileges": "join_channel"},
        {"time": -1},
        {"time": "5"},
        {"time_in_seconds": True},
    ],
)
def test_a_rule_that_is_not_documented_is_refused_with_400(change):
    """Nobody is kicked by mistake."""

    async def scenario(world):
        published = await world.publish(agora_bearer(uid=7))
        body = {"appid": AGORA.app_id, "cname": "s", "privileges": ["join_channel"], "time": 1}
        status, told, _ = await world.call("POST", RULES, headers=BASIC, json=body | change)
        assert (status, list(told)) == (400, ["message"])
        assert published.pc.connectionState == "connected"

    play(AGORA, scenario)


# --- Media Gateway ---


def test_the_client_makes_a_key_pushes_with_it_and_takes_it_back():
    """A deleted key ends no push; ending the push does, and nobody comes back with that key."""

    async def scenario(world, api):
        key = await api.create_stream_key("s", "7", expires_after_s=60)
        assert await api.online_streams() == ()
        bearer = {"Authorization": f"Bearer {key.key}"}
        published = await world.publish(bearer)
        (push,) = await api.online_streams("s")
        assert (push.channel, push.uid) == ("s", "7")
        assert await api.online_streams("other") == ()
        assert (await api.users("s")).hosts == ("7",)
        await api.delete_key(key.key)
        assert published.pc.connectionState == "connected"
        await api.force_disconnect(key.key, push.sid)
        await until(closed(published))
        assert await api.online_streams() == ()
        assert (await world.ask("/whip/s", bearer)).status == 401

    asking(scenario)


def test_keys_and_pushes_have_the_documented_shapes():
    """As the reference shows them."""

    async def scenario(world):
        settings = {"channel": "s", "uid": "0123", "expiresAfter": 0}
        told = await world.call(
            "POST", f"{GATEWAY}/streamkeys", headers=BASIC, json={"settings": settings}
        )
        data = dict(told[1]["data"])
        key = data.pop("streamKey")
        assert (told[0], told[1]["status"]) == (200, "success")
        assert data == {
            "channel": "s",
            "uid": "123",
            "expiresAfter": 0,
            "createdAt": "1700000000",
        }
        assert await get(world, f"{GATEWAY}/streamkeys/{key}") == told[1]
        elsewhere = GATEWAY.replace("/eu/", "/na/")
        assert await status_of(world, "GET", f"{elsewhere}/streamkeys/{key}") == 404
        await world.publish({"Authorization": f"Bearer {key}"})
        (push,) = (await get(world, f"{GATEWAY}/online-streams"))["data"]
        assert await get(world, f"{GATEWAY}/online-streams/{push['sid']}") == {
            "status": "success",
            "data": push,
        }
        assert (push["channel"], push["uid"], push["status"]) == ("s", "123", "Running")
        assert push["beginAt"].startswith("2023-11-14 22:1")
        assert key not in json.dumps(push)
        assert (await get(world, f"{elsewhere}/online-streams"))["data"] == []

    play(AGORA, scenario)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"channel": ""}, 400),
        ({"channel": "x" * 64}, 400),
        ({"uid": 7}, 400),
        ({"expiresAfter": None}, 400),
        ({"expiresAfter": -1}, 400),
        ({"templateId": "720p"}, 404),
    ],
)
def test_a_key_with_impossible_settings_is_refused(change, status):
    """With the documented status."""

    async def scenario(world):
        settings = {"channel": "s", "uid": "7", "expiresAfter": 60} | change
        body = {"settings": settings}
        path = f"{GATEWAY}/streamkeys"
        assert await status_of(world, "POST", path, json=body) == status
        assert await status_of(world, "POST", path, json={"settings": []}) == 400

    play(AGORA, scenario)
