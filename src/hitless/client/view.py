"""A watched stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Generic, TypeVar

from ..core.events import Ended, Role
from ..errors import HitlessError, ProviderError, StreamEnded
from ..media.decoder import Decoder, Picture, Sound
from ..media.frame import EncodedFrame, Kind
from ..media.merge import Merge
from ..media.sink import Sink
from ..providers.base import Leg, Provider, ViewLeg
from .driver import Driver
from .session import LiveSession
from .telemetry import log


T = TypeVar("T")

_DECODED_MAX = 60
"""Decoded pictures or sounds kept for a caller who reads slowly; the oldest go first."""
_ENCODED_MAX = 512


class _Window(Generic[T]):
    """A bounded queue for one reader: when it is full the oldest goes."""

    def __init__(self, size: int) -> None:
        self._queue: asyncio.Queue[T | None] = asyncio.Queue()
        self._size = size
        self.is_read = False

    def put(self, item: T | None) -> None:
        if item is not None and not self.is_read:
            return
        if self._queue.qsize() >= self._size:
            self._queue.get_nowait()
        self._queue.put_nowait(item)

    async def items(self) -> AsyncIterator[T]:
        self.is_read = True
        while (item := await self._queue.get()) is not None:
            yield item
        self._queue.put_nowait(None)


class LiveView(LiveSession):
    """
    A stream that this client watches. It is a `ViewLeg` too.

    Frames of all legs are merged before the one decoder; nothing is decoded unless somebody
    reads `pictures()` or `sounds()`, or a sink wants them.
    """

    role = Role.VIEWER

    def __init__(
        self, driver: Driver, stream: str, *, name: str, wait_s: float, sinks: Sequence[Sink]
    ) -> None:
        super().__init__(driver, stream, name=name, wait_s=wait_s)
        self._merge = Merge(self._deliver, self._on_usable, self._request_keyframe)
        self._usable: dict[int, Callable[[], None]] = {}
        self._opened: dict[int, ViewLeg] = {}
        self._sinks = list(sinks)
        self._encoded: _Window[EncodedFrame] = _Window(_ENCODED_MAX)
        self._pictures: _Window[Picture] = _Window(_DECODED_MAX)
        self._sounds: _Window[Sound] = _Window(_DECODED_MAX)
        self._decoder: Decoder | None = None
        if any(sink.wants_decoded for sink in self._sinks):
            self._decode()

    def frames(self) -> AsyncIterator[EncodedFrame]:
        """
        Yield the merged stream, encoded: each frame once, in order per kind, in one time base.

        The codec of a kind may change between two frames, where a leg of other codecs takes
        over; pictures then go on with a keyframe. Frames with `is_run_up` are there to be
        decoded only: what they show was shown already, by frames of the leg before.

        Video begins at a keyframe, which is asked for. Ends with the stream; see `lost` for why.
        Iterate at most once.
        """
        self._encoded.is_read = True
        self.request_keyframe()
        return self._from_keyframe()

    def pictures(self) -> AsyncIterator[Picture]:
        """
        Yield decoded pictures. A reader that is slow loses the oldest.

        Raises:
            StreamEnded: It is over.
            AllProvidersFailed: Nobody carries it any more.
        """
        self._decode()
        return self._until_over(self._pictures)

    def sounds(self) -> AsyncIterator[Sound]:
        """Yield decoded sound, 20 ms at a time. Raises as `pictures` does."""
        self._decode()
        return self._until_over(self._sounds)

    def request_keyframe(self) -> None:
        """Ask for a keyframe on the leg that is watched."""
        session = self.state
        if session is not None and session.on_air is not None:
            self._request_keyframe(session.on_air)

    async def aclose(self) -> None:
        """Leave the stream and close its sinks. Idempotent; completes under cancellation."""
        await super().aclose()
        decoder, self._decoder = self._decoder, None
        sinks, self._sinks = self._sinks, []
        if decoder is not None:
            await asyncio.shield(decoder.aclose())
        for sink in sinks:
            await asyncio.shield(sink.aclose())

    # --- Carrier ---

    async def open(self, provider: Provider, leg: int) -> Leg:
        """View over one provider."""
        opened = await provider.join_stream(self.stream)
        self._opened[leg] = opened
        return opened

    async def carry(self, leg: int, opened: Leg, usable: Callable[[], None]) -> None:
        """Bring one leg's frames to the merge until the leg is let go."""
        self._usable[leg] = usable
        view = self._opened[leg]
        try:
            async for frame in view.frames():
                self._merge.take(leg, frame)
        finally:
            self._merge.remove(leg)
            self._usable.pop(leg, None)
            self._opened.pop(leg, None)

    def is_fed(self, now: float) -> bool:
        """A viewer sends nothing: what is missing is missing for others' sake."""
        return True

    def ended(self, ended: Ended, errors: list[ProviderError]) -> None:
        """The core says that it is over."""
        super().ended(ended, errors)
        for window in (self._encoded, self._pictures, self._sounds):
            window.put(None)

    # --- Inside ---

    def _on_usable(self, leg: int) -> None:
        usable = self._usable.get(leg)
        if usable is not None:
            usable()

    def _request_keyframe(self, leg: int) -> None:
        opened = self._opened.get(leg)
        if opened is not None:
            opened.request_keyframe()

    def _decode(self) -> None:
        if self._decoder is None and not self._over.done():
            self._decoder = Decoder(
                self._on_picture, self._on_sound, on_damage=self.request_keyframe
            )
            self.request_keyframe()

    def _deliver(self, frame: EncodedFrame) -> None:
        self._encoded.put(frame)
        for sink in tuple(self._sinks):
            self._to_sink(sink, lambda sink=sink: sink.take(frame))  # type: ignore[misc]
        if self._decoder is not None:
            self._decoder.decode(frame)

    def _on_picture(self, picture: Picture) -> None:
        self._pictures.put(picture)
        for sink in tuple(self._sinks):
            self._to_sink(sink, lambda sink=sink: sink.picture(picture))  # type: ignore[misc]

    def _on_sound(self, sound: Sound) -> None:
        self._sounds.put(sound)
        for sink in tuple(self._sinks):
            self._to_sink(sink, lambda sink=sink: sink.sound(sound))  # type: ignore[misc]

    def _to_sink(self, sink: Sink, give: Callable[[], None]) -> None:
        """A sink that fails (a full disk) is let go; the stream goes on."""
        try:
            give()
        except HitlessError as exc:
            log.error("sink failed", because=str(exc))
            self._sinks.remove(sink)

    async def _from_keyframe(self) -> AsyncIterator[EncodedFrame]:
        has_begun = False
        async for frame in self._encoded.items():
            has_begun |= frame.kind is Kind.VIDEO and frame.keyframe
            if has_begun or frame.kind is not Kind.VIDEO:
                yield frame

    async def _until_over(self, window: _Window[T]) -> AsyncIterator[T]:
        async for item in window.items():
            yield item
        error = self._over.result() if self._over.done() else None
        raise error or StreamEnded(f"{self.stream} was left")
