"""Legs through the process of a provider's SDK: what it tells, frames in, silence, loss."""

from __future__ import annotations

import asyncio
import random
from abc import abstractmethod
from collections.abc import AsyncIterator
from typing import ClassVar, Final

import numpy as np

from ..errors import ContractBroken, HitlessError, MediaLost, NotOnAir, Unreachable
from ..media.aac import AacEncoder
from ..media.annexb import with_long_start_codes
from ..media.assemble import has_h264_keyframe
from ..media.frame import CLOCK_RATE, Codec, EncodedFrame, Kind
from ..media.liveness import Liveness
from . import sdk_wire as wire
from .base import Stats
from .frame_queue import FrameQueue
from .sdk_line import Line
from .sdk_process import SdkProcess
from .sdk_wire import Word
from .whip_legs import AUDIO_ONLY_S, BoundedLeg


ABSENT_S: Final = 2.0
"""In a room for so long [s] without media or a word of a publisher: there is none."""

KEYFRAME_S: Final = 0.5
"""Keyframes are asked for this often at most [s]."""

CODECS: Final = {1: Codec.VP8, 2: Codec.H264}
"""Codecs of pictures by their numbers on the wire."""

_START_CODE: Final = b"\x00\x00\x00\x01"


class SdkLeg(BoundedLeg):
    """
    What both directions share: one process, and what it says.

    Args:
        provider: Name for errors.
        liveness: The leg's.

    Attributes:
        pid: Number of the SDK's process; None: there is none.
        session: The provider's name for this session; empty: it has none, or we are not in.
    """

    service: ClassVar[str]
    """How the provider is called."""

    operation: ClassVar[str]
    """For errors."""

    def __init__(self, provider: str, liveness: Liveness) -> None:
        super().__init__(provider, liveness)
        self.pid: int | None = None
        self.session = ""
        self._clock = asyncio.get_running_loop().time
        self._process: SdkProcess | None = None
        self._listener: asyncio.Task[None] | None = None
        self._ready, self._connected, self._ended = (asyncio.Event() for _ in range(3))
        self._fault: HitlessError | None = None
        self._counts = {kind: [0, 0] for kind in Kind}

    async def lost(self) -> None:
        """See `Leg.lost`."""
        await self._ended.wait()
        assert self._fault is not None
        raise self._fault

    def stats(self) -> list[Stats]:
        """See `Leg.stats`."""
        way, count, size = ("inbound", "framesReceived", "bytesReceived")
        if self.operation == "publish":
            way, count, size = ("outbound", "framesSent", "bytesSent")
        return [
            {
                "type": f"{way}-rtp",
                "id": f"{way}-rtp_{kind}_{id(self)}",
                "timestamp": self._clock() * 1000,
                "kind": kind.value,
                count: frames,
                size: octets,
            }
            for kind, (frames, octets) in self._counts.items()
        ]

    # --- For what knows the provider ---

    async def _enter(self, process: SdkProcess, deadline: float) -> None:
        """
        Listen to a process that was told what to join, and wait until it is in.

        Raises:
            HitlessError: Not by `deadline` [s, the loop's clock], or refused.
        """
        self._process, self.pid = process, process.pid
        self._listener = asyncio.create_task(
            self._listen(process), name=f"{self._provider} {self.operation}"
        )
        if not await self._comes(self._ready, deadline):
            raise self._lost("the SDK's process was not ready in time")
        if not await self._comes(self._connected, deadline):
            because = f"no answer of {self.service} in time"
            raise Unreachable(because, provider=self._provider, operation=self.operation)

    def _hear(self, word: int, body: bytes) -> None:
        """Take what the process says; extended by each direction."""
        match word:
            case Word.READY:
                self._ready.set()
            case Word.CONNECTED:
                self.session = body.decode(errors="replace")
                self._connected.set()
            case Word.FAILED:
                what, number = wire.FAILED.unpack(body)
                self._fail(self._error_of(what, number))
            case _:
                raise ValueError("an unknown word")

    @abstractmethod
    def _error_of(self, what: int, number: int) -> HitlessError | None:
        """Return the error that a fault means; None: none, the media tell."""

    def _awaited(self) -> tuple[asyncio.Event, ...]:
        """Return what somebody may wait for: all of it is over with the leg."""
        return (self._ended, self._ready, self._connected)

    def _unexpected(self) -> HitlessError:
        return self._lost("the SDK failed in a way that nobody expected")

    def _lost(self, because: str, *, answered: bool = False) -> MediaLost:
        return MediaLost(
            because, provider=self._provider, operation=self.operation, answered=answered
        )

    async def _comes(self, event: asyncio.Event, limit: float) -> bool:
        try:
            async with asyncio.timeout_at(limit):
                await event.wait()
        except TimeoutError:
            return False
        if self._fault is not None:
            raise self._fault
        return True

    # --- Inside ---

    async def _listen(self, process: SdkProcess) -> None:
        try:
            while (said := await process.heard()) is not None:
                self._hear(*said)
            self._fail(self._lost(f"the SDK's process ended ({await process.outcome()})"))
        except Exception as exc:  # whatever a stranger's bytes do here: it must be known
            because = f"the SDK's process cannot be understood ({type(exc).__name__})"
            self._fail(ContractBroken(because, provider=self._provider, operation=self.operation))

    def _fail(self, fault: HitlessError | None) -> None:
        if fault is None or self._fault is not None:
            return
        self._fault = fault
        for event in self._awaited():
            event.set()

    async def _close(self, wait: bool) -> None:
        if self._listener is not None:
            self._listener.cancel()  # the process reads on by itself until its end
            await asyncio.gather(self._listener, return_exceptions=True)
        if self._process is not None:
            await self._process.aclose()


class SdkViewingLeg(SdkLeg):
    """
    One stream being viewed: pictures come encoded, sound decoded, and is encoded again, as AAC.

    So it is aligned with other legs by what is heard, as that of any leg of another codec.
    """

    operation = "view"
    frames_are_signs: ClassVar[bool] = True
    """Whether a frame is a sign of life; else the process tells of those by `Word.SIGNS`."""

    def __init__(self, provider: str, liveness: Liveness) -> None:
        super().__init__(provider, liveness)
        self._flowing, self._first = asyncio.Event(), asyncio.Event()
        self._has_host = self._has_video = False
        self._queue = FrameQueue(self.request_keyframe)
        self._queue.skip()  # a viewer comes in the middle of a stream
        self._audio_s: float | None = None
        self._asked_s = -KEYFRAME_S
        self._encoder = AacEncoder(random.Random())
        self._lines = {kind: Line(even=kind is Kind.AUDIO) for kind in Kind}

    def frames(self) -> AsyncIterator[EncodedFrame]:
        """See `ViewLeg.frames`. A reader that falls 6 s behind loses what it did not read."""
        return self._queue.frames()

    def request_keyframe(self) -> None:
        """See `ViewLeg.request_keyframe`."""
        if self._process is None or self._queue.is_over:
            return
        now = self._clock()
        if now >= self._asked_s + KEYFRAME_S:
            self._asked_s = now
            self._process.ask_keyframe()

    # --- For what knows the provider ---

    async def _view(self, process: SdkProcess, deadline: float) -> None:
        """
        View by a process that was told what to join; return when the first media arrived.

        Raises:
            NotOnAir: Nobody publishes there.
            HitlessError: Not by `deadline` [s, the loop's clock], or refused.
        """
        await self._enter(process, deadline)
        absent = min(deadline, self._clock() + ABSENT_S)
        if not await self._comes(self._flowing, absent) and not self._has_host:
            raise NotOnAir(f"{self._provider}: nobody publishes (no media in {ABSENT_S:g} s)")
        if not await self._comes(self._first, deadline):
            what = "no keyframe" if self._flowing.is_set() else "no media"
            raise MediaLost(
                f"connected, but {what} came in time", provider=self._provider, operation="view"
            )

    def _hear(self, word: int, body: bytes) -> None:
        match word:
            case Word.HOST:
                self._has_host = True
            case Word.VIDEO:
                self._see(body)
            case Word.AUDIO:
                self._listen_to(body)
            case Word.DROPPED:
                self._queue.skip()
            case _:
                super()._hear(word, body)

    def _awaited(self) -> tuple[asyncio.Event, ...]:
        return (*super()._awaited(), self._flowing, self._first)

    # --- Inside ---

    def _see(self, body: bytes) -> None:
        number, came_s, shown_ms = wire.VIDEO.unpack_from(body)
        codec, data = CODECS[number], body[wire.VIDEO.size :]
        if codec is Codec.H264:
            data = with_long_start_codes(data)
            keyframe = any(map(has_h264_keyframe, data.split(_START_CODE)))
        else:
            keyframe = bool(data) and not data[0] & 0x01  # RFC 6386 section 9.1
        if not data:
            return
        self._has_video = True
        now = self._count(Kind.VIDEO, len(data))
        at_s = self._lines[Kind.VIDEO].place(came_s, shown_ms, 0.0)
        self._give(
            EncodedFrame(
                kind=Kind.VIDEO,
                codec=codec,
                data=data,
                timestamp=round(at_s * CLOCK_RATE[Kind.VIDEO]),
                keyframe=keyframe,
                arrived_s=now,
            )
        )

    def _listen_to(self, body: bytes) -> None:
        came_s, shown_ms = wire.AUDIO.unpack_from(body)
        samples = np.frombuffer(body, np.int16, offset=wire.AUDIO.size).reshape(-1, wire.CHANNELS)
        now = self._count(Kind.AUDIO, samples.nbytes)
        at_s = self._lines[Kind.AUDIO].place(came_s, shown_ms, len(samples) / wire.SAMPLE_RATE)
        timestamp = round(at_s * CLOCK_RATE[Kind.AUDIO])
        for frame in self._encoder.encode(samples, timestamp, now=now):
            self._give(frame)
        if self._audio_s is None:
            self._audio_s = now
        if not self._has_video and now - self._audio_s >= AUDIO_ONLY_S:
            self._first.set()

    def _count(self, kind: Kind, size: int) -> float:
        """Note that something came; return when [s, the loop's clock]."""
        now = self._clock()
        self._counts[kind][0] += 1
        self._counts[kind][1] += size
        if self.frames_are_signs:
            self.liveness.heard(kind, now)
        self._flowing.set()
        return now

    def _give(self, frame: EncodedFrame) -> None:
        if not self._queue.put(frame):
            self.request_keyframe()
        elif frame.kind is Kind.VIDEO:
            self._first.set()

    async def _close(self, wait: bool) -> None:
        await super()._close(wait)
        self._queue.end()
