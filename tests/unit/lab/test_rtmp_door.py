"""hitless.lab.rtmp_door: the protocol, its limits, and bytes that are no RTMP."""

import asyncio
import random
import socket
import struct
from dataclasses import replace

import pytest
from speaking_stand import AGORA, play, unhurried, until
from unit.lab.rtmp_calls import Caller, Cut, film

from hitless.errors import ConfigError
from hitless.lab import rtmp_door
from hitless.lab.faults import Injected
from hitless.lab.rtmp_door import RtmpDoor
from hitless.media import amf
from hitless.media.rtmp_chunks import Message, Type, cut


@pytest.fixture(autouse=True)
def peers(monkeypatch):
    unhurried(monkeypatch)


def calling(scenario, count=1):
    """Run a scenario with the stand-in for Agora and plain peers, which are closed."""

    async def main(world):
        callers = [await Caller.reach(world.stand.rtmp_url) for _ in range(count)]
        try:
            await scenario(world, *callers)
        finally:
            for each in callers:
                await each.aclose()

    play(AGORA, main)


def key_of(world, channel):
    """Have the stand-in make a stream key, as its API does."""
    keys = world.stand._gate._keys
    return keys.make(region="eu", channel=channel, uid="7", expires_after_s=0).text


def address(world, name, app="live"):
    return f"{world.stand.rtmp_url}/{app}/{name}"


# --- The protocol ---


def test_a_publisher_is_answered_in_order():
    """Connect, createStream, publish; a ping is answered, and what was read is acknowledged."""

    async def scenario(world, caller):
        key = key_of(world, "s")
        assert (await caller.ask("publish", address(world, key)))[0] == "NetStream.Publish.Start"
        names = [amf.decode(m.payload)[0] for m in caller.got if m.type == Type.COMMAND]
        assert names == ["_result", "_result", "onStatus"]

        caller.send(Type.WINDOW_ACKNOWLEDGEMENT_SIZE, struct.pack(">I", 2048))
        caller.send(Type.USER_CONTROL, struct.pack(">HI", 6, 4711))
        pong = await caller.until(lambda m: m.type == Type.USER_CONTROL)
        assert pong.payload == struct.pack(">HI", 7, 4711)

        caller.push(film())
        told = await caller.until(lambda m: m.type == Type.ACKNOWLEDGEMENT)
        assert int.from_bytes(told.payload) >= 2048

    calling(scenario)


def test_a_publisher_that_leaves_is_gone_at_once():
    """By deleteStream, or by hanging up."""

    async def scenario(world, polite, rude):
        for caller, channel in ((polite, "a"), (rude, "b")):
            await caller.ask("publish", address(world, key_of(world, channel)))
            caller.push(film())
        await until(lambda: len(world.stand.sessions.on_air) == 2)
        polite.command("deleteStream", 4.0, None, 1.0)
        await polite.ended()
        await rude.aclose()
        await until(lambda: not world.stand.sessions.all)

    calling(scenario, count=2)


def test_commands_that_nobody_has_to_answer_are_passed_over():
    """As FFmpeg and OBS send them."""

    async def scenario(world, caller):
        await caller.connect("live")
        for name in ("releaseStream", "FCPublish", "_checkbw", "getStreamLength"):
            caller.command(name, 5.0, None, "whatever")
        caller.command("publish", 6.0, None, key_of(world, "s"), "live", stream=1)
        assert (await caller.status())[0] == "NetStream.Publish.Start"

    calling(scenario)


def test_the_rest_is_closed_with_the_stand_in():
    """A connection that says nothing keeps nobody waiting."""

    async def main():
        class Nobody:
            async def publish(self, connection, app, name, host):
                raise AssertionError

        door = RtmpDoor(Nobody(), Injected())
        url = await door.start()
        with pytest.raises(ConfigError, match="cannot listen"):
            await RtmpDoor(Nobody(), Injected()).start(int(url.rpartition(":")[2]))
        caller = await Caller.reach(url)
        await caller.shake()
        await until(lambda: bool(door.connections))
        async with asyncio.timeout(2):
            await door.aclose()
            await door.aclose()
        await caller.ended()
        await caller.aclose()

    asyncio.run(main())


# --- Limits ---


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x06" + bytes(1536),
        b"\x00",
    ],
)
def test_what_is_no_handshake_is_cut_off_at_once(data):
    """RTMPE and HTTP among it."""

    async def scenario(world, caller):
        caller.writer.write(data)
        async with asyncio.timeout(2):
            await caller.ended()

    calling(scenario)


@pytest.mark.parametrize("sent", [0, 1, 1000, 1537], ids=str)
def test_a_slow_handshake_is_cut_off(monkeypatch, sent):
    """However far it came."""
    monkeypatch.setattr(rtmp_door, "HANDSHAKE_S_MAX", 0.2)

    async def scenario(world, caller):
        caller.writer.write((b"\x03" + bytes(1536))[:sent])
        await caller.ended()
        assert not world.stand._door.connections

    calling(scenario)


def test_who_does_not_say_what_it_wants_is_cut_off(monkeypatch):
    """A connection is no use by itself."""
    monkeypatch.setattr(rtmp_door, "WANTED_S_MAX", 0.2)
    monkeypatch.setattr(rtmp_door, "HANDSHAKE_S_MAX", 60.0)

    async def scenario(world, caller):
        await caller.connect("live")
        await caller.ended()

    calling(scenario)


def test_a_message_that_is_too_large_is_cut_off(monkeypatch):
    """Its length is in its first chunk."""
    monkeypatch.setattr(rtmp_door, "WANTED_S_MAX", 60.0)

    async def scenario(world, caller):
        await caller.connect("live")
        caller.writer.write(struct.pack(">BIHBI", 3, 5 << 4, 0, 9, 0))  # 5 MiB
        await caller.ended()

    calling(scenario)


def test_messages_that_are_never_complete_are_cut_off(monkeypatch):
    """Many of them, each within its limit."""
    monkeypatch.setattr(rtmp_door, "HELD_MAX", 100_000)
    monkeypatch.setattr(rtmp_door, "WANTED_S_MAX", 60.0)

    async def scenario(world, caller):
        await caller.connect("live")
        for channel in range(3, 40):
            whole = cut(Message(type=9, payload=bytes(1_000_000), stream=1))[: 12 + 4096]
            caller.writer.write(bytes([channel]) + whole[1:])
        await caller.ended()

    calling(scenario)


def test_one_connection_too_many_is_closed(monkeypatch):
    """Those that are there stay."""
    monkeypatch.setattr(rtmp_door, "CONNECTIONS_MAX", 1)
    monkeypatch.setattr(rtmp_door, "HANDSHAKE_S_MAX", 60.0)

    async def scenario(world, first):
        await first.connect("live")
        second = await Caller.reach(world.stand.rtmp_url)
        await second.ended()
        await second.aclose()
        first.command("createStream", 9.0, None)
        await first.until(lambda m: m.type == Type.COMMAND and amf.decode(m.payload)[1] == 9.0)

    calling(scenario)


def test_who_asks_and_does_not_read_is_cut_off(monkeypatch):
    """Answers to pings are not kept for ever."""
    monkeypatch.setattr(rtmp_door, "UNSENT_MAX", 50_000)

    async def scenario(world, caller):
        await caller.connect("live")
        caller.writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_RCVBUF, 4096
        )
        ping = cut(Message(type=Type.USER_CONTROL, payload=struct.pack(">HI", 6, 1)))

        async def ask():
            while True:
                caller.writer.write(ping * 1000)
                await caller.writer.drain()

        with pytest.raises(ConnectionError):
            await asyncio.wait_for(ask(), 20)

    calling(scenario)


# --- Bytes that are no RTMP ---


@pytest.mark.parametrize("seed", range(4))
def test_garbage_ends_its_own_connection_and_nothing_else(seed):
    """After a good handshake, in the middle of a publication, and by changing single bytes."""
    rng = random.Random(seed)

    async def scenario(world, good):
        await good.ask("publish", address(world, key_of(world, "good")))
        good.push(film())
        for number in range(25):
            caller = await Caller.reach(world.stand.rtmp_url)
            if number % 2:
                await caller.ask("publish", address(world, key_of(world, f"bad-{number}")))
            else:
                await caller.shake()
            whole = bytearray(
                cut(Message(type=20, payload=amf.encode("connect", 1.0, {"app": "live"})))
                + cut(Message(type=20, payload=amf.encode("createStream", 2.0, None)))
                + b"".join(map(cut, film()[:40]))
            )
            for _ in range(rng.randrange(1, 20)):
                whole[rng.randrange(len(whole))] = rng.randrange(256)
            caller.writer.write(rng.randbytes(3000) if number % 5 == 0 else bytes(whole))
            caller.writer.write_eof()
            await caller.ended()
            await caller.aclose()
        await until(lambda: len(world.stand._door.connections) == 1)
        good.send(Type.USER_CONTROL, struct.pack(">HI", 6, 5))
        await good.until(lambda m: m.type == Type.USER_CONTROL and m.payload[-1] == 5)
        assert [each.stream for each in world.stand.sessions.on_air] == ["good"]

    calling(scenario)


@pytest.mark.parametrize("seed", range(4))
def test_tags_that_are_damaged_anywhere_raise_nothing(seed):
    """Pictures, sound, sequence headers and metadata, with bytes changed or cut off."""
    rng = random.Random(seed)

    async def scenario(world, caller):
        await caller.ask("publish", address(world, key_of(world, "s")))
        ingest = world.stand.sessions.newest[0].tags
        told = amf.encode("@setDataFrame", "onMetaData", {"videocodecid": 7.0})
        good = [*film(), Message(type=Type.DATA, payload=told)]
        for _ in range(600):
            message = rng.choice(good)
            body = bytearray(message.payload)
            for _ in range(rng.randrange(4)):
                body[rng.randrange(len(body))] = rng.choice((0, 1, 255, rng.randrange(256)))
            del body[rng.randrange(1, len(body) + 1) :]
            ingest.take(replace(message, payload=bytes(body)))
        assert ingest.damaged
        world.stand.sessions.as_json()

    calling(scenario)


def test_a_unit_of_h264_that_is_no_unit_is_passed_over():
    """It holds a start code, which no encoder writes, and nothing after it."""

    async def scenario(world, caller):
        await caller.ask("publish", address(world, key_of(world, "s")))
        ingest = world.stand.sessions.newest[0].tags
        ingest.take(film()[0])
        body = b"\x27\x01\x00\x00\x00" + struct.pack(">I", 4) + b"\x65\x00\x00\x01"
        ingest.take(Message(type=Type.VIDEO, payload=body, stream=1))
        assert world.stand.sessions.on_air

    calling(scenario)


@pytest.mark.parametrize(
    "payload",
    [
        b"\x17",
        b"\x17\x00\x00\x00\x00\x01",
        b"\x17\x01\x00\x00\x00\xff\xff\xff\xff\x65",
        b"\x1c\x00\x00\x00\x00\x01",
        b"\xaf\x00\xff\xff",
        b"\xaf\x01" + bytes(50),
        b"",
    ],
    ids=bytes.hex,
)
def test_damaged_media_ends_nothing(payload):
    """What follows is taken."""

    async def scenario(world, caller):
        await caller.ask("publish", address(world, key_of(world, "s")))
        caller.announce()
        for kind in (Type.VIDEO, Type.AUDIO, Type.DATA):
            caller.send(kind, payload, stream=1)
        caller.push(film())
        await until(lambda: bool(world.stand.sessions.on_air))

    calling(scenario)


def test_a_caller_notices_that_it_is_cut_off():
    """The helper of these tests can fail."""

    async def scenario(world, caller):
        await caller.aclose()
        with pytest.raises(Cut):
            await caller.read()

    calling(scenario)
