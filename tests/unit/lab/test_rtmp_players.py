"""hitless.lab: ZEGOCLOUD's addresses of RTMP, and players of what was pushed."""

import asyncio
import struct

import pytest
from speaking_stand import ZEGO, closed, play, unhurried, until, zego_bearer
from unit.lab.rtmp_calls import BAD_NAME, at_zego, film, pushed, sounds_in
from zego_calls import call, code

from hitless.media.rtmp_chunks import Type


@pytest.fixture(autouse=True)
def peers(monkeypatch):
    unhurried(monkeypatch)


async def dispatched(api, world, stream="s", *, push=True):
    """Ask for an address; return its path."""
    (url,) = await api.rtmp_urls(stream, is_push=push)
    assert url == f"{world.stand.rtmp_url}/{ZEGO.app_id}/{stream}"
    return url.split("/", 3)[3]


def test_an_address_is_given_out_and_good_for_two_hours():
    """One that was not given out, or for the other direction, leads nowhere."""

    async def scenario(world, callers, api):
        path = f"{ZEGO.app_id}/s"
        assert (await callers.ask("publish", path))[1] == BAD_NAME
        await dispatched(api, world, push=False)
        assert (await callers.ask("publish", path))[1] == BAD_NAME
        assert await dispatched(api, world) == path
        world.wall.now_s += 2 * 3600 - 1
        caller = await callers.push(path)
        await caller.aclose()
        await until(lambda: not world.stand.sessions.all)
        world.wall.now_s += 1
        assert (await callers.ask("publish", path))[1] == BAD_NAME

    at_zego(scenario)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([("StreamId", "s"), ("Sequence", "1"), ("Type", "push")], 0),
        ([("StreamId", "s"), ("Sequence", "1"), ("Type", "both")], 2),
        ([("StreamId", "s"), ("Sequence", "1")], 2),
        ([("StreamId", "s"), ("Type", "push")], 2),
        ([("StreamId", "a b"), ("Sequence", "1"), ("Type", "push")], 30009),
    ],
)
def test_a_question_for_an_address_has_the_documented_form(arguments, expected):
    """Codes stand in answers of HTTP 200."""

    async def scenario(world, callers, api):
        assert await code(world, "RTMPDispatchV2", *arguments) == expected

    at_zego(scenario)


def test_a_stand_in_without_the_door_says_that_the_service_is_not_enabled():
    """With ZEGOCLOUD's code for it."""

    async def scenario(world, callers, api):
        world.stand._desk.rtmp_url = None
        arguments = [("StreamId", "s"), ("Sequence", "1"), ("Type", "push")]
        assert (await call(world, "RTMPDispatchV2", *arguments))["Code"] == 100000017

    at_zego(scenario)


def test_a_stream_that_is_taken_refuses_the_later_publisher():
    """Whoever holds it, by RTMP or WHIP; forbidding it frees it."""

    async def scenario(world, callers, api):
        path = await dispatched(api, world)
        first = await callers.push(path)
        _, said, because = await callers.ask("publish", path)
        assert said == BAD_NAME
        assert because.startswith("already in use")
        assert "(1003028)" in because
        await api.forbid_stream("s")
        await first.ended()
        _, said, because = await callers.ask("publish", path)
        assert said == BAD_NAME
        assert because.startswith("denied")
        await api.resume_stream("s")
        await callers.push(path)

        await world.publish(zego_bearer(stream="w"), "/whip/w")
        _, said, because = await callers.ask("publish", await dispatched(api, world, "w"))
        assert said == BAD_NAME
        assert because.startswith("already in use")

    at_zego(scenario)


def test_a_push_holds_no_token_that_could_end():
    """So kick mode puts out users who showed one, and neither a push nor its player."""

    async def scenario(world, callers, api):
        assert await world.fault("kick-mode") == 200
        await callers.push(await dispatched(api, world))
        _, said, _ = await callers.ask("play", await dispatched(api, world, push=False))
        assert said == "NetStream.Play.Start"
        user = await world.publish(zego_bearer(stream="w"), "/whip/w")
        assert await world.fault("token-expired") == 200
        await until(closed(user))
        assert len(world.stand.sessions.all) == 2

    at_zego(scenario)


def test_a_player_gets_the_tags_as_they_came_from_a_keyframe_on():
    """Metadata and sequence headers first; then sound at once, and pictures."""

    async def scenario(world, callers, api):
        publisher = await callers.push(await dispatched(api, world))
        player, said, _ = await callers.ask("play", await dispatched(api, world, push=False))
        assert said == "NetStream.Play.Start"
        await player.until(lambda m: m.type == Type.AUDIO)
        video_head, audio_head = player.media()
        assert video_head.payload[:2] == b"\x17\x00"
        assert audio_head.payload[1] == 0

        rest = [m for m in film() if m.payload[1] != 0]
        middle = next(i for i, m in enumerate(rest) if m.timestamp > 500)
        publisher.push([*rest[middle:], *rest])
        await player.until(
            lambda m: len(player.media()) == 2 + len(rest) + sounds_in(rest[middle:])
        )
        got = [(m.type, m.timestamp, m.payload) for m in player.media()[2:]]
        wanted = [m for m in rest[middle:] if m.type == Type.AUDIO] + rest
        assert got == [(m.type, m.timestamp, m.payload) for m in wanted]

        await publisher.aclose()
        assert (await player.status())[0] == "NetStream.Play.UnpublishNotify"
        await player.ended()

    at_zego(scenario)


def test_a_player_that_wants_no_pictures_gets_sound_alone():
    """As asked by receiveVideo."""

    async def scenario(world, callers, api):
        publisher = await callers.push(await dispatched(api, world))
        player, _, _ = await callers.ask("play", await dispatched(api, world, push=False))
        player.command("receiveVideo", 0.0, None, False, stream=1)
        player.send(Type.USER_CONTROL, struct.pack(">HI", 6, 1))
        await player.until(lambda m: m.type == Type.USER_CONTROL and m.payload[1] == 7)
        rest = [m for m in film() if m.payload[1] != 0]
        publisher.push(rest)
        await player.until(lambda m: len(player.media()) == 2 + sounds_in(rest))
        assert sounds_in(player.media()) == 1 + sounds_in(rest)

    at_zego(scenario)


def test_a_stream_that_is_not_pushed_cannot_be_played():
    """Nobody's, and one that came by WHIP."""

    async def scenario(world, callers, api):
        path = await dispatched(api, world, push=False)
        assert (await callers.ask("play", path))[1] == "NetStream.Play.StreamNotFound"
        await world.publish(zego_bearer())
        assert (await callers.ask("play", path))[1] == "NetStream.Play.StreamNotFound"

    at_zego(scenario)


def test_faults_hold_media_back_from_players():
    """And pictures begin again with a keyframe."""

    async def scenario(world, callers, api):
        publisher = await callers.push(await dispatched(api, world))
        player, _, _ = await callers.ask("play", await dispatched(api, world, push=False))
        await player.until(lambda m: m.type == Type.AUDIO)
        rest = [m for m in film() if m.payload[1] != 0]
        await world.fault("gray-forwarding")
        await pushed(publisher, rest)
        await world.fault("gray-forwarding", False)
        await world.fault("no-audio")
        await pushed(publisher, [*rest[10:], *rest])
        await player.until(lambda m: len(player.media()) >= 2 + 30)
        got = player.media()[2:]
        assert len(got) == 30
        assert all(m.type == Type.VIDEO for m in got)
        assert got[0].payload[0] == 0x17
        assert await world.fault("refuse-viewers") == 200
        answer = (await callers.ask("play", await dispatched(api, world, push=False)))[1]
        assert answer == "NetStream.Play.Failed"

    at_zego(scenario)


def test_a_player_that_does_not_read_is_cut_and_its_publisher_goes_on(monkeypatch):
    """What waits for it has a bound."""
    monkeypatch.setattr("hitless.lab.rtmp_door.UNSENT_MAX", 100_000)

    async def scenario(world, callers, api):
        publisher = await callers.push(await dispatched(api, world))
        _player, _, _ = await callers.ask("play", await dispatched(api, world, push=False))
        sessions = world.stand.sessions
        assert len(sessions.all) == 2
        for _ in range(400):  # 12 MB at most: more than its kernels hold
            publisher.push(film())
            await publisher.writer.drain()
            if len(sessions.all) == 1:
                break
            await asyncio.sleep(0.005)
        assert len(sessions.all) == 1
        assert sessions.on_air

    at_zego(scenario)


def test_what_is_pushed_is_active_for_the_api_and_can_be_announced():
    """A room that somebody is in learns of it by AddStream."""

    async def scenario(world, callers, api):
        await world.publish(zego_bearer(stream="other"), "/whip/other")
        await callers.push(await dispatched(api, world))
        assert (await api.stream_state("s")).name == "ACTIVE"
        await api.add_stream("room", "u-9", "s")
        assert "s" in [each.stream for each in await api.streams("room")]

    at_zego(scenario)


def test_the_control_api_tells_the_address():
    """And one without an account has none."""

    async def scenario(world):
        _, state, _ = await world.call(
            "GET", "/control", headers={"Authorization": "Bearer control"}
        )
        assert state["rtmp_url"] == world.stand.rtmp_url

    play(ZEGO, scenario)
    play(None, scenario)
