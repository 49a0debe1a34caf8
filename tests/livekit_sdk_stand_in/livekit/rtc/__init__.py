"""
A stand-in for the package `livekit` 1.2.1 as far as it is used: rooms that only seem to be.

It carries nothing anywhere. The name of the room, read from the token, says what happens in it;
in all others `publisher` publishes grey pictures of 320x180 and a tone of 440 Hz.

    nobody        nobody publishes
    late          the publisher comes after 0.3 s
    crowd         `ann` publishes too, and is there first
    sound         no pictures
    odd           pictures of 161x91 after the first ten
    stops         after 0.5 s no packets and no pictures come, and sound goes on: as the real one
    frozen        after 0.5 s no pictures come, though packets do
    reconnects    the connection is lost after 0.5 s, and the package tries again
    removed       we are put out after 0.5 s
    doubled       another one of our identity comes after 0.5 s
    leaves        the publisher leaves after 0.5 s
    blinks        the camera is off after 0.5 s, and on again after 0.8 s
    panics        the process ends by a signal after 0.5 s, as after a panic of the library
    denied        the token is not taken; the words of the error repeat it
    away          nobody answers
    hangs         nor does `connect` return
    never-leaves  `disconnect` does not return, nor does the loop go on
    deaf          no receiver report comes
    refuses       the first pictures are not taken

What is published is written to the file `given` in the current folder, a line each.
"""

from __future__ import annotations

import array
import asyncio
import base64
import json
import math
import os
import signal
import time
from dataclasses import dataclass, field
from enum import IntEnum
from types import SimpleNamespace
from typing import Any


RATE, TONE_HZ = 48_000, 440
WIDTH, HEIGHT = 320, 180
EVENT_S = 0.5


class ConnectError(Exception):
    def __init__(self, message: str) -> None:
        self.message = message


class _Names(IntEnum):
    @classmethod
    def Value(cls, name: str) -> int:
        return cls[name]


class VideoCodec(_Names):
    VP8 = 0
    H264 = 1


class VideoEncoderBackend(_Names):
    ENCODER_BACKEND_PRE_ENCODED = 6


class VideoBufferType:
    I420 = 5


class TrackKind:
    KIND_AUDIO, KIND_VIDEO = 1, 2


class TrackSource:
    SOURCE_CAMERA, SOURCE_MICROPHONE = 1, 2


@dataclass
class RoomOptions:
    auto_subscribe: bool = True


@dataclass
class TrackPublishOptions:
    source: int
    simulcast: bool = True
    dtx: bool = True
    red: bool = True
    video_codec: int | None = None
    video_encoder: int | None = None


@dataclass
class AudioFrame:
    data: bytes
    sample_rate: int
    num_channels: int
    samples_per_channel: int


@dataclass
class EncodedVideoFrame:
    data: bytes
    width: int
    height: int
    codec: int
    frame_type: int
    timestamp_us: int


@dataclass
class Publication:
    room: Any
    who: Any
    kind: int
    sid: str

    def set_subscribed(self, subscribed: bool) -> None:
        track = SimpleNamespace(kind=self.kind, room=self.room, who=self.who)
        self.room.watched.append(track)
        asyncio.get_running_loop().call_soon(
            self.room.emit, "track_subscribed", track, self, self.who
        )


@dataclass
class Participant:
    identity: str
    track_publications: dict[str, Publication] = field(default_factory=dict)


class Room:
    def __init__(self) -> None:
        self.handlers: dict[str, Any] = {}
        self.local_participant = LocalParticipant(self)
        self.remote_participants: dict[str, Participant] = {}
        self.watched: list[Any] = []
        self.published: list[str] = []
        self.name, self.is_in, self.begun_s = "", False, 0.0

    def on(self, event: str, handler: Any) -> None:
        self.handlers[event] = handler

    def emit(self, event: str, *values: Any) -> None:
        if event in self.handlers:
            self.handlers[event](*values)

    def isconnected(self) -> bool:
        return self.is_in

    async def connect(self, url: str, token: str, options: RoomOptions) -> None:
        assert url.startswith(("ws://", "wss://"))
        assert not options.auto_subscribe
        payload = token.split(".")[1]
        self.name = json.loads(base64.urlsafe_b64decode(payload + "=="))["video"]["room"]
        if self.name == "denied":
            raise ConnectError(f"engine: signal failure: HTTP error: 401 Unauthorized {token}")
        if self.name == "away":
            raise ConnectError("engine: signal failure: Connection refused")
        if self.name == "hangs":
            await asyncio.sleep(3600)
        self.is_in, self.begun_s = True, now_s()
        if self.name not in ("nobody", "late"):
            self.enter()
        loop = asyncio.get_running_loop()
        loop.call_later(0.3 if self.name == "late" else EVENT_S, self.happen)

    def enter(self) -> list[Participant]:
        names = ["ann", "publisher"] if self.name == "crowd" else ["publisher"]
        for name in names:
            who = self.remote_participants[name] = Participant(name)
            kinds = [TrackKind.KIND_AUDIO]
            if self.name != "sound":
                kinds.append(TrackKind.KIND_VIDEO)
            for kind in kinds:
                sid = f"TR_{name}_{kind}"
                who.track_publications[sid] = Publication(self, who, kind, sid)
        return list(self.remote_participants.values())

    def happen(self) -> None:
        match self.name:
            case "late":
                for who in self.enter():
                    for publication in who.track_publications.values():
                        self.emit("track_published", publication, who)
            case "reconnects":
                self.emit("reconnecting")
            case "removed":
                self.emit("disconnected", 4)
            case "doubled":
                self.emit("disconnected", 2)
            case "leaves":
                self.emit("participant_disconnected", self.remote_participants["publisher"])
            case "blinks":
                self.blink()
            case "panics":
                os.kill(os.getpid(), signal.SIGTERM)

    def blink(self) -> None:
        who = self.remote_participants["publisher"]
        old = who.track_publications.pop(f"TR_publisher_{TrackKind.KIND_VIDEO}")
        self.watched = [each for each in self.watched if each.kind != old.kind]
        self.emit("track_unpublished", old, who)
        new = Publication(self, who, old.kind, "TR_again")
        asyncio.get_running_loop().call_later(0.3, self.emit, "track_published", new, who)

    def is_quiet(self) -> bool:
        return self.name == "stops" and now_s() - self.begun_s > EVENT_S

    def is_frozen(self) -> bool:
        return self.name == "frozen" and now_s() - self.begun_s > EVENT_S

    async def get_rtc_stats(self) -> Any:
        if not self.is_in:
            raise RuntimeError("the room isn't connected")
        count = 0 if self.is_quiet() else int((now_s() - self.begun_s) * 50)
        theirs = [
            stat("inbound_rtp", kind, received=SimpleNamespace(packets_received=count))
            for kind in ("audio", "video")
            if any(kind_name(track.kind) == kind for track in self.watched)
        ]
        ours = [
            stat("remote_inbound_rtp", kind, timestamp=count)
            for kind in self.published
            if self.name != "deaf"
        ]
        ours.append(stat("transport", "", transport=SimpleNamespace(packets_received=count)))
        return SimpleNamespace(publisher_stats=ours, subscriber_stats=theirs)

    async def disconnect(self) -> None:
        if self.name == "never-leaves":
            time.sleep(3600)  # noqa: ASYNC251 -- as a native call that hangs
        self.is_in = False


class LocalParticipant:
    def __init__(self, room: Room) -> None:
        self.room, self.sid = room, "PA_ours"

    async def publish_track(self, track: Any, options: TrackPublishOptions) -> None:
        is_video = options.source == TrackSource.SOURCE_CAMERA
        if is_video:
            assert not options.simulcast
            assert options.video_encoder == 6
        track.source.room = self.room
        self.room.published.append("video" if is_video else "audio")


class LocalVideoTrack:
    @staticmethod
    def create_video_track(name: str, source: Any) -> Any:
        return SimpleNamespace(name=name, source=source)


class LocalAudioTrack:
    create_audio_track = staticmethod(LocalVideoTrack.create_video_track)


class EncodedVideoSource:
    def __init__(self, width: int, height: int) -> None:
        assert (width, height) > (0, 0)
        self.count, self.room = 0, None

    def capture_frame(self, frame: EncodedVideoFrame) -> bool:
        self.count += 1
        form = [frame.codec, frame.frame_type, frame.width, frame.height, len(frame.data)]
        note("video", *form, frame.timestamp_us)
        return not (self.room.name == "refuses" and self.count < 3)

    def take_feedback(self) -> Any:
        return SimpleNamespace(keyframe_requested=self.count == 5)


class AudioSource:
    def __init__(self, sample_rate: int, num_channels: int, queue_size_ms: int) -> None:
        self.room = None

    async def capture_frame(self, frame: AudioFrame) -> None:
        samples = array.array("h", frame.data)
        loudest = max(map(abs, samples))
        note("audio", frame.sample_rate, frame.num_channels, frame.samples_per_channel, loudest)


class VideoStream:
    def __init__(self, track: Any, format: int, capacity: int) -> None:
        self.track, self.number = track, 0

    def __aiter__(self) -> VideoStream:
        return self

    async def __anext__(self) -> Any:
        await asyncio.sleep(0.04)
        if self.track.room.is_quiet() or self.track.room.is_frozen():
            await asyncio.sleep(3600)
        if self.track not in self.track.room.watched:
            raise StopAsyncIteration
        self.number += 1
        is_odd = self.track.room.name == "odd" and self.number > 10
        width, height = (161, 91) if is_odd else (WIDTH, HEIGHT)
        chroma = 2 * ((width + 1) // 2) * ((height + 1) // 2)
        shade = 200 if self.track.who.identity == "publisher" else 20
        data = bytes([shade]) * (width * height) + bytes([128]) * chroma
        frame = SimpleNamespace(width=width, height=height, data=memoryview(data))
        return SimpleNamespace(frame=frame, timestamp_us=int(now_s() * 1e6))


class AudioStream:
    def __init__(self, track: Any, sample_rate: int, num_channels: int, capacity: int) -> None:
        assert (sample_rate, num_channels) == (RATE, 2)
        self.count, self.begun_s = 0, now_s()

    def __aiter__(self) -> AudioStream:
        return self

    async def __anext__(self) -> Any:
        size = RATE // 100
        await asyncio.sleep(max(0.0, self.begun_s + self.count / RATE - now_s()))
        wave = array.array("h")
        for number in range(self.count, self.count + size):
            wave.extend([int(8000 * math.sin(2 * math.pi * TONE_HZ * number / RATE))] * 2)
        self.count += size
        return SimpleNamespace(frame=SimpleNamespace(data=memoryview(wave.tobytes())))


def stat(what: str, kind: str, timestamp: int = 0, **parts: Any) -> Any:
    entry = SimpleNamespace(
        rtc=SimpleNamespace(id=f"{what}-{kind}", timestamp=timestamp),
        stream=SimpleNamespace(kind=kind),
        **parts,
    )
    return SimpleNamespace(WhichOneof=lambda _: what, **{what: entry})


def kind_name(kind: int) -> str:
    return "video" if kind == TrackKind.KIND_VIDEO else "audio"


def note(*values: Any) -> None:
    with open("given", "a", encoding="utf-8") as given:
        given.write(" ".join(map(str, values)) + "\n")


def now_s() -> float:
    return time.monotonic()  # noqa: TID251 -- it is what loop.time() reads
