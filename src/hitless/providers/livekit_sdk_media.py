"""
What the `livekit` package's process does with media; see `livekit_sdk_worker.py`.

Viewing, the package gives decoded pictures and sound: pictures are encoded here. Publishing, it
takes pictures as they were encoded (`EncodedVideoSource`; 1.2.1 has it) and sound decoded.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Final

import av
import numpy as np

from ..media.encoder import PictureEncoder
from ..media.frame import CLOCK_RATE, Codec, Kind
from ..media.pattern import SAMPLE_RATE
from ..media.picture import fit
from ..media.quality import Quality
from . import sdk_wire as wire
from .livekit_sdk_room import Stay
from .sdk_wire import Fault, Order, Sign, Word
from .sdk_worker import Outbox


_PICTURES_MAX: Final = 4
"""Decoded pictures that wait to be encoded; then the oldest are dropped."""

_SOUNDS_MAX: Final = 50
"""Decoded sounds of 10 ms that wait to be handed on."""

_SENT_MAX: Final = 10
"""Packets of sound that wait to be published, 20 ms each."""

_QUEUE_MS: Final = 100
"""How much decoded sound the SDK may hold back to send it evenly [ms]."""

_BITS: Final = 4.5
"""Bit rate for each pixel of a picture [bit/s]: 1 Mbit/s at 640x360, as `Quality` has it."""

_BPS: Final = (150_000, 6_000_000)
_FRAME_RATE: Final = 30.0
_NUMBERS: Final = {"VP8": 1, "H264": 2}


class Viewing(Stay):
    """
    Views one publisher.

    Args:
        outbox: Where to tell what comes.
        said: The order to join.
    """

    def __init__(self, outbox: Outbox, said: dict[str, Any]) -> None:
        super().__init__(outbox)
        self._codec, self._who = Codec(said["codec"]), said["watch"]
        self._encoder: PictureEncoder | None = None
        self._begun_us, self._tick = 0, -1
        self._needs_keyframe = True
        self._heard = 0  # signs of life that came so far
        self._has_shown = False  # a picture, since packets of pictures were last counted
        self._wanted: dict[int, str] = {}
        self.room.on("track_published", lambda publication, who: self._want(publication, who))
        self.room.on("track_subscribed", lambda track, *_: self._take(track))
        self.room.on("track_unpublished", lambda publication, who: self._miss(publication))
        self.room.on("participant_disconnected", lambda who: self._part(who))

    async def enter(self, said: dict[str, Any]) -> None:
        """See `Stay.enter`; then ask for what is published."""
        await super().enter(said)
        for who in self.room.remote_participants.values():
            for publication in who.track_publications.values():
                self._want(publication, who)

    async def serve(self, order: int, body: bytes) -> None:
        """See `Stay.serve`."""
        if order == Order.KEYFRAME:
            self._needs_keyframe = True

    def _want(self, publication: Any, who: Any) -> None:
        """Subscribe to the first track of each kind of whom we follow: frames never mix."""
        if self._who in ("", who.identity) and publication.kind not in self._wanted:
            self._who = who.identity
            self._wanted[publication.kind] = publication.sid
            self.outbox.put(Word.HOST)
            publication.set_subscribed(True)

    def _miss(self, publication: Any) -> None:
        """A camera may be switched off and on again; with the last track it is over."""
        if self._wanted.get(publication.kind) == publication.sid:
            del self._wanted[publication.kind]
            if not self._wanted:
                self.fail(Fault.LEFT)

    def _part(self, who: Any) -> None:
        if self._wanted and who.identity == self._who:
            self.fail(Fault.LEFT)

    def _take(self, track: Any) -> None:
        is_video = track.kind == self.rtc.TrackKind.KIND_VIDEO
        self.begin(self._see(track) if is_video else self._hear(track))

    async def _see(self, track: Any) -> None:
        form = self.rtc.VideoBufferType.I420
        async for event in self.rtc.VideoStream(track, format=form, capacity=_PICTURES_MAX):
            at_s = self.clock()
            data = await asyncio.to_thread(self._encode, event)
            self._has_shown = True
            if data:
                head = wire.VIDEO.pack(
                    _NUMBERS[self._codec.name], at_s, event.timestamp_us // 1000
                )
                self.outbox.put(Word.VIDEO, head + data)

    def _encode(self, event: Any) -> bytes:
        """Encode a picture, in a thread; the size of what comes may change at any time."""
        picture = _picture(event.frame)
        width, height = max(160, picture.width), max(90, picture.height)
        quality = Quality(
            width=width,
            height=height,
            frame_rate=_FRAME_RATE,
            bitrate_bps=int(min(max(_BITS * width * height, _BPS[0]), _BPS[1])),
        )
        if self._encoder is None or self._encoder.quality != quality:
            self._encoder = PictureEncoder(self._codec, quality)
            self._begun_us, self._tick = event.timestamp_us, -1
        since_us = event.timestamp_us - self._begun_us
        self._tick = max(self._tick + 1, since_us * CLOCK_RATE[Kind.VIDEO] // 1_000_000)
        keyframe, self._needs_keyframe = self._needs_keyframe, False
        frame = self._encoder.encode(fit(picture, quality), self._tick, keyframe=keyframe, now=0.0)
        return b"" if frame is None else frame.data

    async def _hear(self, track: Any) -> None:
        stream = self.rtc.AudioStream(
            track,
            sample_rate=wire.SAMPLE_RATE,
            num_channels=wire.CHANNELS,
            capacity=_SOUNDS_MAX,
        )
        async for event in stream:
            if self._heard & Sign.AUDIO:  # before, the SDK plays what nobody said
                head = wire.AUDIO.pack(self.clock(), 0)
                self.outbox.put(Word.AUDIO, head + bytes(event.frame.data))

    def _signs(self, each: Any) -> int:
        found = super()._signs(each)
        self._heard |= found
        if found & Sign.VIDEO:
            has_shown, self._has_shown = self._has_shown, False
            return found if has_shown else found & ~Sign.VIDEO
        return found


class Publishing(Stay):
    """
    Publishes one feed.

    Args:
        outbox: Where to tell what comes of it.
        said: The order to join.
    """

    def __init__(self, outbox: Outbox, said: dict[str, Any]) -> None:
        super().__init__(outbox)
        self._codec = Codec(said["codec"]) if said["codec"] else None
        self._has_sound = said["sound"]
        self._pictures: Any = None
        self._begun: tuple[int, int] | None = None
        self._skipping = True  # until a keyframe
        self._sounds: asyncio.Queue[bytes] = asyncio.Queue(_SENT_MAX)
        self._size = (0, 0)

    async def enter(self, said: dict[str, Any]) -> None:
        """See `Stay.enter`; sound begins at once, pictures with the first keyframe."""
        await super().enter(said)
        if self._has_sound:
            rtc = self.rtc
            source = rtc.AudioSource(wire.SAMPLE_RATE, wire.CHANNELS, queue_size_ms=_QUEUE_MS)
            track = rtc.LocalAudioTrack.create_audio_track("microphone", source)
            options = rtc.TrackPublishOptions(
                source=rtc.TrackSource.SOURCE_MICROPHONE, dtx=False, red=False
            )
            await self.room.local_participant.publish_track(track, options)
            self.begin(self._play(source))

    async def serve(self, order: int, body: bytes) -> None:
        """See `Stay.serve`."""
        match order:
            case Order.VIDEO if self.room.isconnected():
                keyframe, timestamp = wire.SENT.unpack_from(body)
                await self._show(body[wire.SENT.size :], keyframe, timestamp)
            case Order.AUDIO:
                if self._sounds.full():
                    self._sounds.get_nowait()
                self._sounds.put_nowait(body[wire.SENT.size :])
            case Order.DROPPED:
                self._skipping = True

    async def _show(self, data: bytes, keyframe: bool, timestamp: int) -> None:
        if self._skipping and not keyframe:
            self.outbox.put(Word.KEYFRAME)
            return
        assert self._codec is not None
        rtc, number = self.rtc, self.rtc.VideoCodec.Value(self._codec.name)
        if keyframe:
            found = await asyncio.to_thread(_size_of, self._codec, data)
            self._size = self._size if found is None else found
        if self._pictures is None:
            self._pictures = rtc.EncodedVideoSource(*self._size)
            track = rtc.LocalVideoTrack.create_video_track("camera", self._pictures)
            options = rtc.TrackPublishOptions(
                source=rtc.TrackSource.SOURCE_CAMERA,
                simulcast=False,
                video_codec=number,
                video_encoder=rtc.VideoEncoderBackend.Value("ENCODER_BACKEND_PRE_ENCODED"),
            )
            await self.room.local_participant.publish_track(track, options)
        now_us = int(self.clock() * 1e6)
        if self._begun is None:
            self._begun = timestamp, now_us
        begun, begun_us = self._begun
        at_us = begun_us + (timestamp - begun) * 1_000_000 // CLOCK_RATE[Kind.VIDEO]
        self._skipping = not self._pictures.capture_frame(
            rtc.EncodedVideoFrame(
                data=data,
                width=self._size[0],
                height=self._size[1],
                codec=number,
                frame_type=0 if keyframe else 1,  # EncodedFrameType: key, delta
                timestamp_us=at_us,
            )
        )
        if self._skipping or self._pictures.take_feedback().keyframe_requested:
            self.outbox.put(Word.KEYFRAME)

    async def _play(self, source: Any) -> None:
        decoder = av.CodecContext.create("libopus", "r")
        decoder.format, decoder.layout, decoder.sample_rate = "s16", "stereo", SAMPLE_RATE
        while True:
            packet = av.Packet(await self._sounds.get())
            with contextlib.suppress(av.FFmpegError):  # one packet that is broken ends nothing
                for sound in decoder.decode(packet):
                    samples = np.ascontiguousarray(sound.to_ndarray()).tobytes()
                    frame = self.rtc.AudioFrame(
                        samples, SAMPLE_RATE, wire.CHANNELS, len(samples) // 4
                    )
                    await source.capture_frame(frame)


def _picture(frame: Any) -> av.VideoFrame:
    """Return an SDK's I420 picture, cut to an even size."""
    width, height = frame.width, frame.height
    half_width, half_height = (width + 1) // 2, (height + 1) // 2
    octets = np.frombuffer(frame.data, np.uint8)
    luma = octets[: width * height].reshape(height, width)
    chroma = octets[width * height :][: 2 * half_width * half_height]
    even_width, even_height = width & ~1, height & ~1
    cut = chroma.reshape(2, half_height, half_width)[:, : even_height // 2, : even_width // 2]
    parts = [luma[:even_height, :even_width].ravel(), cut.ravel()]
    planes = np.concatenate(parts).reshape(even_height * 3 // 2, even_width)
    return av.VideoFrame.from_ndarray(planes, format="yuv420p")


def _size_of(codec: Codec, data: bytes) -> tuple[int, int] | None:
    """Return width and height of a keyframe [pixel]; None: it cannot be decoded."""
    name = "libvpx" if codec is Codec.VP8 else "h264"
    with contextlib.suppress(av.FFmpegError):
        context = av.CodecContext.create(name, "r")
        assert isinstance(context, av.VideoCodecContext)
        context.decode(av.Packet(data))
        if context.width and context.height:
            return context.width, context.height
    return None
