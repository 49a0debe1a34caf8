"""A plain peer of RTMP, message by message, and a short film for it."""

from __future__ import annotations

import asyncio
import functools
import random
import struct

import numpy as np
from agora_calls import client as agora_client
from canned_media import pictures
from speaking_stand import AGORA, ZEGO, play, until
from zego_calls import client as zego_client

from hitless.media import amf
from hitless.media.aac import AacEncoder
from hitless.media.flv import TagWriter
from hitless.media.frame import Codec
from hitless.media.rtmp_chunks import Joiner, Message, Type, cut


LIMIT_S = 10.0
STARTED, BAD_NAME = "NetStream.Publish.Start", "NetStream.Publish.BadName"
PICTURE_MS, SOUND_MS = 33, 1024 / 48


class Cut(Exception):
    """The far side closed the connection."""


class Caller:
    """One connection; every wait is bounded."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer
        self.joiner = Joiner()
        self.got: list[Message] = []

    @classmethod
    async def reach(cls, url, *, limit=1 << 16):
        """Open a TCP connection to the host of an address."""
        host, port = url.removeprefix("rtmp://").split("/")[0].split(":")
        return cls(*await asyncio.open_connection(host, int(port), limit=limit))

    async def shake(self):
        """Shake hands."""
        self.writer.write(b"\x03" + bytes(1536))
        async with asyncio.timeout(LIMIT_S):
            answer = await self.reader.readexactly(1 + 2 * 1536)
        self.writer.write(answer[1:1537])

    def send(self, kind, payload, *, timestamp=0, stream=0):
        """Send one message, in chunks of 4096."""
        self.writer.write(
            cut(Message(type=kind, payload=payload, timestamp=timestamp, stream=stream))
        )

    def command(self, *values, stream=0):
        self.send(Type.COMMAND, amf.encode(*values), stream=stream)

    async def read(self):
        """Wait for bytes; keep the messages that they complete."""
        async with asyncio.timeout(LIMIT_S):
            try:
                data = await self.reader.read(1 << 16)
            except ConnectionError:
                data = b""
        if not data:
            raise Cut
        self.got += self.joiner.feed(data)

    async def until(self, found):
        """Read until `found(message)` is true of a message; return that."""
        at = 0
        while True:
            for message in self.got[at:]:
                if found(message):
                    return message
            at = len(self.got)
            await self.read()

    async def status(self):
        """Return the code and the description of the next onStatus."""
        seen = getattr(self, "_statuses", 0)

        def is_next():
            return self.statuses()[seen:]

        while not is_next():
            await self.read()
        self._statuses = seen + 1
        return is_next()[0]

    def statuses(self):
        """Return codes and descriptions of every onStatus so far."""
        told = [amf.decode(each.payload) for each in self.got if each.type == Type.COMMAND]
        return [(v[3]["code"], v[3]["description"]) for v in told if v[0] == "onStatus"]

    def media(self):
        """Return the messages of media so far."""
        return [each for each in self.got if each.type in (Type.AUDIO, Type.VIDEO)]

    async def connect(self, app, host="127.0.0.1"):
        """Shake hands, connect and create a stream."""
        await self.shake()
        self.send(Type.SET_CHUNK_SIZE, struct.pack(">I", 4096))
        self.command("connect", 1.0, {"app": app, "tcUrl": f"rtmp://{host}:1935/{app}"})
        self.command("createStream", 2.0, None)
        await self.until(lambda m: m.type == Type.COMMAND and amf.decode(m.payload)[1] == 2.0)

    async def ask(self, verb, url, host="127.0.0.1"):
        """Ask to publish or play an address; return the code and description of the answer."""
        app, name = url.split("/", 3)[3].rsplit("/", 1)
        await self.connect(app, host)
        self.command(verb, 3.0, None, name, *(["live"] if verb == "publish" else []), stream=1)
        answer = await self.status()
        return await self.status() if answer[0] == "NetStream.Play.Reset" else answer

    def announce(self, *, video=True, audio=True):
        """Say which kinds there are."""
        told = {"videocodecid": 7.0} if video else {}
        told |= {"audiocodecid": 10.0} if audio else {}
        self.send(Type.DATA, amf.encode("@setDataFrame", "onMetaData", told), stream=1)

    def push(self, messages):
        for message in messages:
            self.writer.write(cut(message))

    async def ended(self):
        """Wait until the far side closed the connection."""
        async with asyncio.timeout(LIMIT_S):
            try:
                while await self.reader.read(1 << 16):
                    pass
            except ConnectionError:
                pass

    async def aclose(self):
        self.writer.transport.abort()
        await asyncio.sleep(0)


@functools.cache
def film(seconds=1, *, gop=30):
    """Return the messages of a short film: pictures and sound in order of time."""
    tags, found = TagWriter(), []
    for number in range(seconds * 30):
        data = pictures(Codec.H264)[number % gop]
        bodies = tags.video(data, keyframe=number % gop == 0)
        found += [(number * PICTURE_MS, Type.VIDEO, body) for body in bodies]
    for number, data in enumerate(sounds(seconds * 48)):
        found += [(int(number * SOUND_MS), Type.AUDIO, body) for body in tags.audio(data)]
    found.sort(key=lambda each: each[0])
    return tuple(Message(type=k, payload=b, timestamp=t, stream=1) for t, k, b in found)


@functools.cache
def sounds(count):
    """Return frames of AAC with ADTS headers: a tone of 1 kHz."""
    encoder, found = AacEncoder(random.Random(1)), []
    wave = np.sin(2 * np.pi * 1000 * np.arange((count + 4) * 1024) / 48_000)
    samples = np.repeat((8000 * wave).astype(np.int16)[:, None], 2, axis=1)
    for at in range(0, len(samples), 1024):
        found += encoder.encode(samples[at : at + 1024], at, now=0.0)
    return [frame.data for frame in found[:count]]


class Callers:
    """Plain peers of one stand-in."""

    def __init__(self, world):
        self.world, self.all = world, []

    async def ask(self, verb, path, host="127.0.0.1"):
        """Return a peer that asked, and the code and description of the answer."""
        url = f"{self.world.stand.rtmp_url}/{path}"
        caller = await Caller.reach(url)
        self.all.append(caller)
        return caller, *(await caller.ask(verb, url, host))

    async def push(self, path, *, host="127.0.0.1", kinds=("video", "audio")):
        """Publish, send a second of film, and wait until it is on air."""
        caller, said, because = await self.ask("publish", path, host)
        assert said == STARTED, because
        before = self.world.stand.sessions.on_air
        caller.announce(video="video" in kinds, audio="audio" in kinds)
        wanted = {Type.VIDEO: "video", Type.AUDIO: "audio"}
        caller.push(each for each in film() if wanted[each.type] in kinds)
        await until(lambda: bool(set(self.world.stand.sessions.on_air) - set(before)))
        return caller


def at_agora(scenario, **options):
    """Run a scenario with the stand-in for Agora and a client of its API."""
    _at(AGORA, agora_client, scenario, options)


def at_zego(scenario, **options):
    """Run a scenario with the stand-in for ZEGOCLOUD and a client of its API."""
    _at(ZEGO, zego_client, scenario, options)


def _at(account, client, scenario, options):
    async def main(world):
        api, callers = client(world), Callers(world)
        try:
            await scenario(world, callers, api)
        finally:
            await api.aclose()
            for each in callers.all:
                await each.aclose()

    play(account, main, **options)


def sounds_in(messages):
    """Return how many messages of sound there are."""
    return sum(m.type == Type.AUDIO for m in messages)


async def pushed(publisher, messages):
    """Send, and wait until all of it was read."""
    publisher.push(messages)
    known = len(publisher.got)
    publisher.send(Type.USER_CONTROL, struct.pack(">HI", 6, known + 1))
    await publisher.until(
        lambda m: m.type == Type.USER_CONTROL and m.payload[2:] == struct.pack(">I", known + 1)
    )
