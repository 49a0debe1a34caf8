"""
RTMP as a media path: one feed's encoded frames to a server, one stream's frames from it.

Nothing is encoded here and nothing blocks: the protocol runs on the loop. FFmpeg's own client is
not used, because it hides its socket (a hang cannot be seen), buries a server's answer in its
log, and probes a stream for 2.2 s before it shows the first frame.

Reconnecting is left to the core. RTMP has no way to ask a publisher for a keyframe, so viewers
begin at the next one: a publisher asks its feed for one every `KEYFRAME_S`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from . import amf
from .feed import Feed
from .flv import NotFlv, TagWriter
from .frame import CLOCK_RATE, EncodedFrame, Kind
from .liveness import Liveness
from .rtmp_chunks import Message, Type
from .rtmp_end import CODECS, End, Stats
from .rtmp_play import RtmpPlayer
from .rtmp_target import Target
from .rtmp_watermark import Evidence


__all__ = ["CODECS", "KEYFRAME_S", "Evidence", "RtmpPlayer", "RtmpPublisher", "Target"]

KEYFRAME_S: Final = 1.0
"""Longest time between two keyframes [s], and so how long a viewer may wait for its first
picture: half of what ingest services commonly ask for."""

QUEUE_FRAMES: Final = 64
"""Frames that wait when the connection takes nothing: 0.8 s of 30 pictures and 47 sounds a
second. Then sound is dropped, and video up to the next keyframe."""

KERNEL_S: Final = 2.0
"""A server that neither answered a ping nor acknowledged a byte for so long [s] is taken to do
neither, and its kernel's word must do."""

_MODULUS: Final = 1 << 32


class RtmpPublisher(End):
    """
    Sends one feed's H.264 and AAC to an RTMP server.

    Args:
        target: Where to.
        feed: Where the frames come from; it is not closed.
        provider: Name for errors.
        liveness: Is told when the server takes what was sent; see `rtmp_session`.
        path_silence_s: Shortest time without that which counts as silence [s].
        keyed: Whether a credential is part of the address.
        pings: Whether to ask for answers (User Control ping requests).
        keyframe_s: Longest time between two keyframes [s].
    """

    verb = "publish"

    def __init__(
        self,
        target: Target,
        *,
        feed: Feed,
        provider: str,
        liveness: Liveness,
        path_silence_s: float = 1.0,
        keyed: bool = False,
        pings: bool = True,
        keyframe_s: float = KEYFRAME_S,
    ) -> None:
        super().__init__(
            target, provider=provider, operation="publish", liveness=liveness,
            path_silence_s=path_silence_s, keyed=keyed, pings=pings,
        )  # fmt: skip
        self._feed, self._keyframe_wanted_s = feed, keyframe_s
        self._tags = TagWriter()
        self._detach: Callable[[], None] = lambda: None
        self._origin_ms: int | None = None
        self._first = asyncio.Event()
        self._first_end = 0
        self._unsent: deque[int] = deque()
        self._skipping = True
        self._keyframe_s = 0.0

    async def open(self, deadline: float) -> None:
        """
        Connect, have the name accepted, and begin to send.

        Raises:
            ProviderError: Not by `deadline` [s, the loop's clock], or refused.
            LocalFault: This machine has no network, or cannot encode what RTMP carries.
            ConfigError: The source is encoded already, as something else.
        """
        await self._session.open(deadline)
        await self._session.publish(deadline)
        self._describe()
        self._detach = self._feed.attach(self._send, codecs=CODECS, failed=self._session.fail)
        self._feed.request_keyframe()

    async def proven(self, deadline: float) -> Evidence:
        """
        Wait until the server has taken the first frame.

        Returns:
            By which evidence; its kernel's counts only if it gave no better for `KERNEL_S`.

        Raises:
            MediaLost: Not by `deadline` [s, the loop's clock].
            ProviderError: The connection was lost meanwhile.
        """
        marked, begun_s = self._session.watermark, self._clock()
        while True:
            marked.progressed.clear()
            now = self._clock()
            if self._first.is_set():
                least = Evidence.ACKNOWLEDGEMENT
                if marked.evidence is Evidence.KERNEL and now - begun_s >= KERNEL_S:
                    least = Evidence.KERNEL
                if marked.taken(least) >= self._first_end:
                    self._session.runs()
                    return max(marked.evidence, least)
            if self._session.is_lost:
                await self._session.lost()
            if now >= deadline:
                raise self._words.silent(
                    "accepted, but it took nothing of what was sent"
                    if self._first.is_set()
                    else "accepted, but there was no keyframe to begin with"
                )
            try:
                async with asyncio.timeout_at(min(deadline, now + 0.1)):
                    await marked.progressed.wait()
            except TimeoutError:
                pass

    def stats(self) -> list[Stats]:
        """Return `transport` and, per kind, `outbound-rtp` (named so for want of another)."""
        names = ("framesSent", "bytesSent", "framesDropped")
        kinds = sorted(self._feed.kinds)
        return [self._transport(), *(self._of(kind, "outbound-rtp", names) for kind in kinds)]

    async def aclose(self) -> None:
        """Stop sending and disconnect. Idempotent; never raises; at most 1 s."""
        self._detach()
        await super().aclose()

    # --- Inside ---

    def _describe(self) -> None:
        told: dict[str, amf.Value] = {"encoder": "hitless"}
        if Kind.VIDEO in self._feed.kinds:
            told["videocodecid"] = 7.0
        if Kind.AUDIO in self._feed.kinds:
            told |= {"audiocodecid": 10.0, "audiosamplerate": 48_000.0, "stereo": True}
        data = amf.encode("@setDataFrame", "onMetaData", told)
        self._session.send(Message(type=Type.DATA, payload=data, stream=self._session.stream))

    def _send(self, frame: EncodedFrame) -> None:
        if not self._is_wanted(frame) or not self._has_room(frame):
            self._dropped[frame.kind] += 1
            return
        try:
            if frame.kind is Kind.VIDEO:
                bodies, kind = self._tags.video(frame.data, keyframe=frame.keyframe), Type.VIDEO
            else:
                bodies, kind = self._tags.audio(frame.data), Type.AUDIO
        except NotFlv:
            self._dropped[frame.kind] += 1
            return
        if not bodies:
            return
        ms = round(frame.timestamp * 1000 / CLOCK_RATE[frame.kind])
        self._origin_ms = ms if self._origin_ms is None else self._origin_ms
        at = max(ms - self._origin_ms, 0) % _MODULUS
        for body in bodies:
            end = self._session.send(
                Message(type=kind, payload=body, timestamp=at, stream=self._session.stream)
            )
        self._unsent.append(end)
        self._frames[frame.kind] += 1
        self._bytes[frame.kind] += len(frame.data)
        if not self._first.is_set():
            self._first_end = end
            self._session.ping()
            self._first.set()

    def _has_room(self, frame: EncodedFrame) -> bool:
        written = self._session.watermark.sent - self._session.unwritten
        while self._unsent and self._unsent[0] <= written:
            self._unsent.popleft()
        if len(self._unsent) < QUEUE_FRAMES:
            return True
        self._skipping |= frame.kind is Kind.VIDEO
        return False

    def _is_wanted(self, frame: EncodedFrame) -> bool:
        """Video begins, and goes on after a drop, with a keyframe; one is due now and then."""
        if frame.kind is Kind.AUDIO:
            return True
        now = self._clock()
        if frame.keyframe:
            self._skipping, self._keyframe_s = False, now
        elif self._skipping or now - self._keyframe_s >= self._keyframe_wanted_s:
            self._feed.request_keyframe()
        return not self._skipping
