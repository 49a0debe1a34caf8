"""Playing over RTMP: one stream of a server, as encoded frames."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from .flv import NotFlv, TagReader
from .frame import CLOCK_RATE, EncodedFrame, Kind
from .liveness import Liveness
from .rtmp_chunks import Message, Type
from .rtmp_end import CODECS, End, Stats
from .rtmp_target import Target


Take = Callable[[EncodedFrame], None]

_JUMP_MS: Final = 1000
_ROUNDING_TICKS: Final = 1.5 * CLOCK_RATE[Kind.AUDIO] / 1000
_MODULUS: Final = 1 << 32


class RtmpPlayer(End):
    """
    Plays one stream of an RTMP server.

    Args:
        target: Where from.
        take: Called with each frame: video from the first keyframe on, H.264 in Annex B with its
            parameter sets in every keyframe, AAC with ADTS headers. Timestamps are those of
            decoding, without the composition offset of B-frames, which our feeds have none of.
        provider, operation: For errors.
        liveness: Is told of every message of sound or picture, and of the path's answers.
        pictures: False asks the server for sound only.
        path_silence_s, keyed, pings: As for `RtmpPublisher`.

    Attributes:
        is_flowing: Set when the first media arrived, decodable or not: there is a publisher.
        has_video: Whether the far side sends pictures, or said that it will.
    """

    verb = "play"

    def __init__(
        self,
        target: Target,
        *,
        take: Take,
        provider: str,
        liveness: Liveness,
        operation: str = "view",
        pictures: bool = True,
        path_silence_s: float = 1.0,
        keyed: bool = False,
        pings: bool = True,
    ) -> None:
        super().__init__(
            target, provider=provider, operation=operation, liveness=liveness,
            path_silence_s=path_silence_s, keyed=keyed, pings=pings,
        )  # fmt: skip
        self._take, self._pictures = take, pictures
        self._tags = TagReader()
        self._times = {kind: _Times(kind) for kind in Kind}
        self._skipping = True
        self._keyframes = 0
        self._fault: str | None = None
        self.is_flowing = asyncio.Event()

    @property
    def has_video(self) -> bool:
        """See the class."""
        return self._tags.has_video

    @property
    def fault(self) -> str | None:
        """Why media that came could not be used, if so."""
        return self._fault

    async def open(self, deadline: float) -> None:
        """
        Connect and ask to play. Media comes when somebody publishes.

        Raises:
            NotOnAir: The server says that nobody publishes.
            ProviderError: Not by `deadline` [s, the loop's clock], or refused.
            LocalFault: This machine has no network.
        """
        await self._session.open(deadline)
        await self._session.play(deadline, pictures=self._pictures)

    def stats(self) -> list[Stats]:
        """Return `transport` and, per kind that came, `inbound-rtp` (for want of another)."""
        names = ("framesReceived", "bytesReceived", "framesDropped")
        return [
            self._transport(),
            *(
                {**self._of(kind, "inbound-rtp", names), **self._more(kind)}
                for kind in sorted(Kind)
                if self._frames[kind] or self._dropped[kind]
            ),
        ]

    # --- Inside ---

    def _more(self, kind: Kind) -> Stats:
        return {"keyFramesReceived": self._keyframes} if kind is Kind.VIDEO else {}

    def _receive(self, message: Message) -> None:
        if message.type == Type.AGGREGATE:
            for part in _parts(message):
                self._receive(part)
            return
        if message.type not in (Type.AUDIO, Type.VIDEO) or not message.payload:
            return
        kind = Kind.AUDIO if message.type == Type.AUDIO else Kind.VIDEO
        now = self._clock()
        if not self.is_flowing.is_set():
            self.is_flowing.set()
            self._session.runs()
        self._liveness.heard(kind, now)
        read = self._tags.audio if kind is Kind.AUDIO else self._tags.video
        try:
            body = read(message.payload)
        except NotFlv as exc:
            self._fault = str(exc)
            self._dropped[kind] += 1
            self._skipping |= kind is Kind.VIDEO
            return
        if body is None:
            return
        if kind is Kind.VIDEO:
            self._skipping &= not body.keyframe
            if self._skipping:
                self._dropped[kind] += 1
                return
            self._keyframes += body.keyframe
        self._frames[kind] += 1
        self._bytes[kind] += len(body.data)
        self._take(
            EncodedFrame(
                kind=kind,
                codec=CODECS[kind],
                data=body.data,
                timestamp=self._times[kind].ticks(message.timestamp, body.ticks, now),
                keyframe=body.keyframe,
                arrived_s=now,
            )
        )


class _Times:
    """Makes growing ticks of RTMP's milliseconds, which wrap, and jump when a publisher does."""

    def __init__(self, kind: Kind) -> None:
        self._rate = CLOCK_RATE[kind]
        self._ms = 0
        self._exact = 0.0  # what the milliseconds say
        self._last = -1
        self._next: float | None = None
        self._at_s = 0.0

    def ticks(self, ms: int, length: float, now: float) -> int:
        """Return the ticks of a frame; sound is put back on its grid of samples."""
        step = (ms - self._ms + _MODULUS // 2) % _MODULUS - _MODULUS // 2
        if self._last < 0:
            step, self._exact = 0, ms * self._rate / 1000
        if abs(step) > 10 * _JUMP_MS or step < -_JUMP_MS:  # another publisher's time
            self._exact += max(now - self._at_s, 0.0) * self._rate
            self._next = None
        else:
            self._exact += step * self._rate / 1000
        self._ms, self._at_s = ms, now
        found = self._exact
        if length and self._next is not None and abs(found - self._next) <= _ROUNDING_TICKS:
            found = self._next
        self._next = found + length if length else None
        self._last = max(round(found), self._last + 1)
        return self._last


def _parts(message: Message) -> list[Message]:
    """Return the messages in an aggregate (section 7.1.6): FLV tags, times from the first's."""
    data, at, first, found = message.payload, 0, None, []
    while at + 11 <= len(data):
        size = int.from_bytes(data[at + 1 : at + 4])
        stamp = int.from_bytes(data[at + 4 : at + 7]) | data[at + 7] << 24
        first = stamp if first is None else first
        body = data[at + 11 : at + 11 + size]
        if len(body) < size or data[at] == Type.AGGREGATE:
            break
        time = (message.timestamp + stamp - first) % _MODULUS
        found.append(Message(type=data[at], payload=body, timestamp=time, stream=message.stream))
        at += 11 + size + 4
    return found
