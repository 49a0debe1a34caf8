"""hitless.lab.rtmp_reception and rtmp_ingest: who may push and play, and what becomes of media."""

import asyncio
import itertools
import struct
from collections import Counter

import av
import numpy as np
import pytest
from agora_calls import BASIC, GATEWAY
from aiortc.codecs.h264 import h264_depayload
from aiortc.rtp import RtcpPacket
from canned_media import pictures
from speaking_stand import (
    AGORA,
    NOW_S,
    agora_bearer,
    closed,
    unhurried,
    until,
)
from unit.lab.rtmp_calls import BAD_NAME, STARTED, at_agora, film, pushed, sounds

from hitless.core.events import Role
from hitless.lab.rtmp_sound import Transcoder
from hitless.media.frame import Codec, Kind
from hitless.media.rtmp_chunks import Type
from hitless.providers import agora_stream_key
from hitless.providers.agora_answers import Privilege


VIEWER = agora_bearer(Role.VIEWER, uid=8)


@pytest.fixture(autouse=True)
def peers(monkeypatch):
    unhurried(monkeypatch)


async def key_of(api, channel="s", uid="7", for_s=600):
    """Have a stream key made; return the address's path."""
    key = await api.create_stream_key(channel, uid, expires_after_s=for_s)
    return f"live/{key.key}", key


# --- Agora: keys ---


def test_a_key_of_the_api_pushes_into_its_channel():
    """It is listed with its uid, and in the gateway's own list."""

    async def scenario(world, callers, api):
        path, key = await key_of(api)
        await callers.push(path)
        assert (await api.users("s")).hosts == ("7",)
        (online,) = await api.online_streams("s")
        assert (online.uid, online.channel) == ("7", "s")
        assert key.key not in str(world.stand.sessions.as_json())

    at_agora(scenario)


def test_a_key_that_is_unknown_deleted_or_over_is_refused():
    """With an error of publish that says so and does not repeat the key."""

    async def scenario(world, callers, api):
        path, key = await key_of(api)
        await api.delete_key(key.key)
        over, _ = await key_of(api, for_s=60)
        world.wall.now_s += 60
        for each in ("live/nobody-made-this", path, over):
            _, said, because = await callers.ask("publish", each)
            assert said == BAD_NAME
            assert because.startswith("denied")
            assert "(110)" in because
            assert each.removeprefix("live/") not in because
        assert not world.stand.sessions.all

    at_agora(scenario)


def test_a_token_is_no_stream_key():
    """Nor is there any other application, or anything to play."""

    async def scenario(world, callers, api):
        token = agora_bearer()["Authorization"].removeprefix("Bearer ")
        path, key = await key_of(api)
        assert (await callers.ask("publish", f"live/{token}"))[1] == BAD_NAME
        assert (await callers.ask("publish", f"other/{key.key}"))[1] == BAD_NAME
        await callers.push(path)
        assert (await callers.ask("play", path))[1] == "NetStream.Play.StreamNotFound"

    at_agora(scenario)


def test_a_key_is_for_one_region():
    """Where the host says one; the loopback's own name says none."""

    async def scenario(world, callers, api):
        path, _ = await key_of(api)
        said, because = (await callers.ask("publish", path, "rtls-ingress-prod-na.localhost"))[1:]
        assert said == BAD_NAME
        assert "region" in because
        await callers.push(path, host="rtls-ingress-prod-eu.localhost")

    at_agora(scenario)


def test_a_key_made_without_a_call_pushes_until_it_ends():
    """As at a domain of one's own; one for another project opens nothing."""

    async def scenario(world, callers, api):
        ours = {"channel": "mine", "uid": "9", "end_s": int(NOW_S) + 60}
        key = agora_stream_key.mint(AGORA.certificate, **ours)
        alien = agora_stream_key.mint("0" * 32, **ours)
        await callers.push(f"live/{key}")
        assert (await api.users("mine")).hosts == ("9",)
        assert (await callers.ask("publish", f"live/{alien}"))[1] == BAD_NAME
        world.wall.now_s += 60
        assert (await callers.ask("publish", f"live/{key}"))[1] == BAD_NAME

    at_agora(scenario)


# --- Agora: faults, rules, one publisher ---


@pytest.mark.parametrize(
    ("fault", "given", "says"),
    [
        ("refuse", {}, "on purpose"),
        ("refuse-publishers", {}, "on purpose"),
        ("refuse-429", {}, "on purpose"),
        ("token-expired", {}, "denied"),
        ("token-invalid", {}, "denied"),
        ("join-rejected", {}, "(17)"),
        ("quota", {"streams_max": 0}, "no more streams"),
        ("region-down", {"region": "eu"}, "region eu is down"),
    ],
)
def test_a_fault_refuses_pushes_until_it_is_healed(fault, given, says):
    """As it refuses publishers by WHIP."""

    async def scenario(world, callers, api):
        path, _ = await key_of(api)
        assert await world.fault(fault, **given) == 200
        _, said, because = await callers.ask("publish", path)
        assert said == BAD_NAME
        assert says in because
        assert await world.fault(fault, False, **given) == 200
        await callers.push(path)

    at_agora(scenario)


def test_a_slow_stand_in_answers_late():
    """And takes the publisher then."""

    async def scenario(world, callers, api):
        path, _ = await key_of(api)
        await world.fault("slow", delay_s=0.5)
        loop = asyncio.get_running_loop()
        begun_s = loop.time()
        assert (await callers.ask("publish", path))[1] == STARTED
        assert loop.time() - begun_s >= 0.5

    at_agora(scenario)


def test_a_region_that_goes_down_loses_its_pushes():
    """The publisher is told that its stream has ended."""

    async def scenario(world, callers, api):
        caller = await callers.push((await key_of(api))[0])
        await world.fault("region-down", region="eu")
        assert (await caller.status())[0] == "NetStream.Unpublish.Success"
        await caller.ended()

    at_agora(scenario)


def test_the_api_disconnects_a_push_which_may_come_back_with_its_key():
    """Deleting the key alone lets a push go on."""

    async def scenario(world, callers, api):
        path, key = await key_of(api)
        caller = await callers.push(path)
        (online,) = await api.online_streams("s")
        status, _, _ = await world.call(
            "DELETE", f"{GATEWAY}/online-streams/{online.sid}", headers=BASIC
        )
        assert status == 200
        await caller.ended()
        assert not await api.online_streams("s")

        again = await callers.push(path)
        await api.delete_key(key.key)
        again.push(film())
        assert len(await api.online_streams("s")) == 1

    at_agora(scenario)


def test_a_ban_rule_puts_a_push_out_and_keeps_it_out():
    """By channel and uid, as for everybody."""

    async def scenario(world, callers, api):
        path, _ = await key_of(api)
        caller = await callers.push(path)
        await api.ban(channel="s", uid=7, for_s=60)
        await caller.ended()
        _, said, because = await callers.ask("publish", path)
        assert said == BAD_NAME
        assert because.startswith("denied")
        assert "(123)" in because

    at_agora(scenario)


def test_a_newer_push_replaces_the_older_once_its_media_comes():
    """And so does one by WHIP, and the other way round."""

    async def scenario(world, callers, api):
        path, _ = await key_of(api)
        first = await callers.push(path)
        second, said, _ = await callers.ask("publish", path)
        assert said == STARTED
        assert len(world.stand.sessions.on_air) == 1
        second.push(film())
        await first.ended()
        whip = await world.publish(agora_bearer(), "/whip/s?region=eu")
        await second.ended()
        await callers.push(path)
        await until(closed(whip))

    at_agora(scenario)


def test_a_zombie_blocks_the_channel_until_it_is_kicked():
    """A push that left stays listed."""

    async def scenario(world, callers, api):
        path, _ = await key_of(api)
        caller = await callers.push(path)
        await world.fault("zombie-publisher")
        await caller.aclose()
        await until(lambda: not world.stand.sessions.all)
        assert (await api.users("s")).hosts == ("7",)
        _, said, because = await callers.ask("publish", path)
        assert said == BAD_NAME
        assert because.startswith("already in use")
        await api.ban(channel="s", uid=7, for_s=0)
        await callers.push(path)

    at_agora(scenario)


def test_a_push_without_media_is_dropped(monkeypatch):
    """Neither pings nor metadata are media; Agora's documents say 10 s."""
    monkeypatch.setattr("hitless.lab.sessions.PUBLISHER_SILENT_S_MAX", 0.3)

    async def scenario(world, callers, api):
        caller, said, _ = await callers.ask("publish", (await key_of(api))[0])
        assert said == STARTED
        ended = asyncio.create_task(caller.ended())
        for _ in range(100):
            if ended.done():
                break
            caller.send(Type.USER_CONTROL, struct.pack(">HI", 6, 1))
            caller.announce()
            await asyncio.sleep(0.05)
        assert ended.done()

    at_agora(scenario)


def test_gray_ingest_accepts_and_takes_nothing_until_it_is_healed():
    """No pong comes; what waited is taken then."""

    async def scenario(world, callers, api):
        await world.fault("gray-ingest")
        caller, said, _ = await callers.ask("publish", (await key_of(api))[0])
        assert said == STARTED
        caller.push(film())
        caller.send(Type.USER_CONTROL, struct.pack(">HI", 6, 77))
        await asyncio.sleep(0.3)
        assert not world.stand.sessions.on_air
        await world.fault("gray-ingest", False)
        await caller.until(lambda m: m.type == Type.USER_CONTROL)
        assert world.stand.sessions.on_air

    at_agora(scenario)


# --- Media ---


def test_viewers_by_whep_leave_with_a_push():
    """And get its sound meanwhile."""

    async def scenario(world, callers, api):
        caller = await callers.push((await key_of(api))[0])
        watching = await world.view(VIEWER, "/whep/s?region=eu")
        await until(lambda: bool(world.stand.sessions.all[-1].viewer))
        before = world.stand.sessions.packets_forwarded
        caller.push(film())
        await until(lambda: world.stand.sessions.packets_forwarded > before + 20)
        await world.fault("gray-forwarding")
        before = world.stand.sessions.packets_forwarded
        caller.push(film())
        caller.send(Type.USER_CONTROL, struct.pack(">HI", 6, 5))
        await caller.until(lambda m: m.type == Type.USER_CONTROL)
        assert world.stand.sessions.packets_forwarded == before
        await caller.aclose()
        await until(closed(watching))

    at_agora(scenario)


def test_a_viewer_gets_the_kinds_that_a_push_has():
    """A push of sound alone has no line of pictures."""

    async def scenario(world, callers, api):
        await callers.push((await key_of(api))[0], kinds=("audio",))
        (stream,) = world.stand.sessions.as_json()["streams"]
        assert stream["codecs"] == {"audio": "opus"}
        assert stream["packets_received"]["video"] == 0

    at_agora(scenario)


def test_pictures_go_into_rtp_byte_for_byte_with_the_times_of_their_tags():
    """Sound goes on the same clock: the sender reports say so."""
    seen = []

    async def scenario(world, callers, api):
        caller, _, _ = await callers.ask("publish", (await key_of(api))[0])
        publisher = world.stand.sessions.newest[0].publisher
        taken = publisher.take_rtp
        publisher.take_rtp = lambda data, now: (seen.append(data), taken(data, now))
        caller.announce()
        caller.push(film())
        await until(lambda: publisher.tracks["audio"].packets > 45)

    at_agora(scenario)
    video = [each for each in seen if each[1] & 0x7F == 96]
    times = [int.from_bytes(each[4:8]) for each in video if each[1] & 0x80]
    assert times == [90 * 33 * number for number in range(30)]
    units = b"".join(h264_depayload(each[12:]) for each in video)
    assert units == b"".join(pictures(Codec.H264)[:30])
    assert [int.from_bytes(each[2:4]) for each in seen if each[1] & 0x7F == 97]
    sound = [int.from_bytes(each[4:8]) for each in seen if each[1] & 0x7F == 97]
    assert sound == [960 * number for number in range(len(sound))]


def test_a_rule_about_sound_leaves_a_push_its_pictures():
    """As it does for publishers by WHIP."""

    async def scenario(world, callers, api):
        caller = await callers.push((await key_of(api))[0])
        await api.ban(channel="s", uid=7, privileges=(Privilege.AUDIO,), for_s=60)
        (session,) = world.stand.sessions.on_air
        await until(lambda: bool(session.withheld))
        tracks = session.publisher.tracks
        await pushed(caller, [])
        before = {kind: track.packets for kind, track in tracks.items()}
        await pushed(caller, film())
        assert tracks[Kind.VIDEO].packets > before[Kind.VIDEO]
        assert tracks[Kind.AUDIO].packets == before[Kind.AUDIO]

    at_agora(scenario)


def test_sender_reports_put_sound_and_pictures_on_one_clock():
    """One a second of media, each kind in its own ticks."""
    seen = []

    async def scenario(world, callers, api):
        caller, _, _ = await callers.ask("publish", (await key_of(api))[0])
        publisher = world.stand.sessions.newest[0].publisher
        publisher.take_rtcp = lambda data, now: seen.extend(RtcpPacket.parse(data))
        await pushed(caller, film(3))

    at_agora(scenario)
    assert sorted(Counter(report.ssrc for report in seen).values()) == [3, 4]
    origin = seen[0].sender_info.ntp_timestamp
    for report in seen:
        at_s = (report.sender_info.ntp_timestamp - origin) / (1 << 32)
        is_video = report.ssrc == seen[0].ssrc
        ticks = report.sender_info.rtp_timestamp
        assert at_s == pytest.approx(ticks / (90_000 if is_video else 48_000), abs=1e-6)
    assert seen[-1].sender_info.ntp_timestamp - origin > 1 << 32


# --- Sound ---


def test_aac_becomes_opus_of_the_same_tone_at_the_same_time():
    """1 kHz in, 1 kHz out, 20 ms at a time, nothing lost between."""
    transcoder = Transcoder()
    packets = []
    for number, frame in enumerate(sounds(96)):
        packets += transcoder.take(frame, round(number * 1024 / 48))
    assert [at for at, _ in packets] == [960 * number for number in range(len(packets))]
    assert len(packets) == 96 * 1024 // 960
    decoder = av.CodecContext.create("libopus", "r")
    decoded = [out for _, data in packets for out in decoder.decode(av.Packet(data))]
    wave = np.concatenate([out.to_ndarray().reshape(-1)[::2] for out in decoded])
    spectrum = np.abs(np.fft.rfft(wave[4800:52800]))
    assert spectrum.argmax() == 1000  # a second: one bin is 1 Hz
    assert transcoder.errors == 0


def test_sound_that_jumps_begins_anew_where_it_is():
    """A hole stays a hole; a clock that wraps is none."""
    transcoder = Transcoder()
    at = (1 << 32) - 500
    times = []
    for number, frame in enumerate(sounds(96)):
        ms = at + round(number * 1024 / 48) + (1000 if number >= 48 else 0)
        times += [t for t, _ in transcoder.take(frame, ms % (1 << 32))]
    steps = [(b - a) % (1 << 32) for a, b in itertools.pairwise(times)]
    assert set(steps) - {960}
    assert sum(step != 960 for step in steps) == 1
    assert abs(max(steps) - 48_000) < 2 * 1024
    assert transcoder.take(b"\xff\xf1 no frame", 0) == []
