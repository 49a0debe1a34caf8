"""hitless.lab.gate as a publisher and a viewer meet it, and the process with an account."""

import asyncio
import json
import os
import sys
from dataclasses import replace

import pytest
from speaking_stand import (
    AGORA,
    NOW_S,
    ZEGO,
    Wall,
    agora_bearer,
    closed,
    play,
    unhurried,
    until,
    zego_bearer,
)

from hitless.core.events import Role
from hitless.lab.account import ACCOUNT_ENV
from hitless.media.frame import Kind
from hitless.providers.agora_token import Privilege, mint, rtc


OTHER = "0" * 32
AGORA_ENV = {
    "app_id": AGORA.app_id,
    "certificate": AGORA.certificate,
    "customer_id": AGORA.customer_id,
    "customer_secret": AGORA.customer_secret,
}


@pytest.fixture(autouse=True)
def peers(monkeypatch):
    unhurried(monkeypatch)


def test_a_rejection_is_a_problem_that_names_code_and_stand_in():
    """RFC 9457, for publishers and viewers alike; nobody gets in."""

    async def scenario(world):
        for path, headers, code in (
            ("/whip/s", {}, 110),
            ("/whip/s", agora_bearer(now_s=NOW_S - 600), 109),
            ("/whep/s", {}, 110),
            ("/whep/s", agora_bearer(Role.VIEWER, now_s=NOW_S - 600), 109),
            ("/whip/s", agora_bearer(Role.VIEWER), 119),
        ):
            answer = await world.ask(path, headers)
            assert answer.status == 401
            assert answer.headers["Content-Type"].startswith("application/problem+json")
            assert answer.headers["WWW-Authenticate"] == "Bearer"
            problem = json.loads(answer.text)
            assert (problem["code"], problem["status"]) == (code, 401)
            assert (problem["stand_in"], problem["speaks"]) == (True, "agora")
        assert world.stand.sessions.all == []

    play(AGORA, scenario)


@pytest.mark.parametrize(
    ("account", "publisher", "viewer", "stranger"),
    [
        (
            AGORA,
            agora_bearer(),
            agora_bearer(Role.VIEWER, uid=8),
            agora_bearer(certificate=OTHER),
        ),
        (
            ZEGO,
            zego_bearer(),
            zego_bearer(Role.VIEWER, user="v"),
            zego_bearer(server_secret="x" * 32),
        ),
    ],
    ids=["agora", "zegocloud"],
)
def test_media_flows_with_credentials_and_who_leaves_shows_them(
    account, publisher, viewer, stranger
):
    """From POST to DELETE, in both languages."""

    async def scenario(world):
        published = await world.publish(publisher)
        watching = await world.view(viewer)
        viewers = world.stand.sessions.on_air[0].publisher.viewers
        await until(lambda: any(each.packets > 5 for each in viewers))
        for joined in (published, watching):
            path = joined.url.removeprefix(world.url)
            assert (await world.call("DELETE", path))[0] == 401
            assert (await world.call("DELETE", path, headers=stranger))[0] == 401
        path = watching.url.removeprefix(world.url)
        assert (await world.call("DELETE", path, headers=viewer))[0] == 200
        assert (await world.call("DELETE", path, headers=viewer))[0] == 404
        path = published.url.removeprefix(world.url)
        assert (await world.call("DELETE", path, headers=publisher))[0] == 200
        assert world.stand.sessions.all == []

    play(account, scenario)


def test_agora_removes_a_user_whose_token_expires_in_mid_stream():
    """Publisher or viewer, at that time; the others stay."""

    async def scenario(world):
        now_s = world.wall()
        published = await world.publish(agora_bearer(now_s=now_s))
        now_s = world.wall()
        short = await world.view(agora_bearer(Role.VIEWER, uid=8, ttl_s=5, now_s=now_s))
        long = await world.view(agora_bearer(Role.VIEWER, uid=9, now_s=now_s))
        assert short.pc.connectionState == "connected"
        await until(closed(short))
        assert world.wall() >= int(now_s) + 5
        assert long.pc.connectionState == "connected"
        assert published.pc.connectionState == "connected"

    play(AGORA, scenario, wall=Wall(runs=True))


def test_agora_removes_a_publisher_and_its_viewers_go_with_it():
    """By the privilege to join, though the token lasts longer."""

    async def scenario(world):
        now_s = world.wall()
        published = await world.publish(agora_bearer(join_s=5, now_s=now_s))
        await until(closed(published))
        assert world.wall() >= int(now_s) + 5
        assert world.stand.sessions.on_air == []

    play(AGORA, scenario, wall=Wall(runs=True))


def test_zegocloud_keeps_a_user_whose_token_expires_and_refuses_the_next_start():
    """Its documented default."""

    async def scenario(world):
        headers = zego_bearer(ttl_s=600)
        published = await world.publish(headers)
        world.wall.now_s += 601
        await asyncio.sleep(0.3)  # several ticks, in each of which it could be removed
        assert published.pc.connectionState == "connected"
        answer = await world.ask("/whip/s", headers)
        assert (answer.status, json.loads(answer.text)["code"]) == (401, 1102018)

    play(ZEGO, scenario)


def test_a_token_for_sound_alone_publishes_sound_alone():
    """What is not allowed is thrown away, and the stream goes on."""

    async def scenario(world):
        privileges = {Privilege.JOIN: 600, Privilege.PUBLISH_AUDIO: 600}
        service = replace(rtc("s", 7, Role.PUBLISHER, 600), privileges=privileges)
        token = mint(AGORA.app_id, AGORA.certificate, [service], now_s=NOW_S, ttl_s=600)
        await world.publish({"Authorization": f"Bearer {token}"}, video=True)
        tracks = world.stand.sessions.on_air[0].publisher.tracks
        await until(lambda: tracks[Kind.AUDIO].packets > 20)
        assert tracks[Kind.VIDEO].packets == 0

    play(AGORA, scenario)


# --- The process ---


async def start(*arguments, **environment):
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "hitless.lab.stand",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **environment},
    )


def test_the_process_speaks_what_it_is_told_and_logs_no_secret():
    """The account comes by the environment only."""

    async def scenario():
        account = {ACCOUNT_ENV: json.dumps(AGORA_ENV)}
        process = await start("--name", "agora", "--speaks", "agora", **account)
        try:
            hello = json.loads(await asyncio.wait_for(process.stdout.readline(), 30))
            assert (hello["speaks"], hello["stand_in"]) == ("agora", True)
            assert hello["api_url"] == hello["url"]
            process.terminate()
            output, errors = await asyncio.wait_for(process.communicate(), 30)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        for secret in (AGORA.certificate, AGORA.customer_secret):
            assert secret not in json.dumps(hello)
            assert secret.encode() not in output + errors

    asyncio.run(scenario())


def test_a_process_without_an_account_ends_with_status_2():
    """And says which variable it misses."""

    async def scenario():
        process = await start("--name", "x", "--speaks", "zegocloud", **{ACCOUNT_ENV: ""})
        output, errors = await asyncio.wait_for(process.communicate(), 30)
        assert (process.returncode, output) == (2, b"")
        assert ACCOUNT_ENV.encode() in errors

    asyncio.run(scenario())
