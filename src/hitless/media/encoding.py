"""
Each raw picture and each slot of sound, encoded once in every codec that is wanted.

The feed's own codec comes first and is handed on before anything further is encoded, so a leg
that wants another codec delays nobody else. What fails in a further encoder stays in it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from typing import Any, Final, Generic, NamedTuple, TypeVar

import av

from ..errors import LocalFault
from .aac import AacEncoder
from .encoder import PictureEncoder, SoundEncoder, black, silence
from .frame import CODECS, Codec, EncodedFrame, Kind
from .picture import fit
from .quality import Quality
from .track import Settings


ENCODERS: Final = {
    Codec.VP8: "libvpx",
    Codec.H264: "libx264",
    Codec.OPUS: "libopus",
    Codec.AAC: "aac",
}
"""FFmpeg's names of the encoders."""

_Encoder = TypeVar("_Encoder")


class Encoded(NamedTuple):
    """One frame out of an encoder."""

    frame: EncodedFrame
    turn: object | None
    """Which run of a further encoder made it; None: it is in the feed's own codec."""


class Wanted:
    """
    The further codecs that are wanted. Written in the loop, read in the threads.

    Each time that a codec comes to be wanted is a turn of its own: an encoder of an earlier turn
    is not taken up again in the middle, as the leg that asks expects a keyframe first.
    """

    def __init__(self) -> None:
        self._turns: dict[Kind, dict[Codec, object]] = {kind: {} for kind in Kind}

    def set(self, codecs: frozenset[Codec]) -> None:
        """
        Want these and no others.

        Raises:
            LocalFault: This machine cannot encode one of them; nothing is changed.
        """
        for codec in codecs:
            try:
                av.codec.Codec(ENCODERS[codec], "w")
            except ValueError as fault:
                raise LocalFault(
                    f"this machine cannot encode {codec}: its FFmpeg was built without "
                    f"{ENCODERS[codec]}; use a leg of another codec, or the `av` wheel"
                ) from fault
        for kind, turns in self._turns.items():  # replaced whole, as threads look at it
            chosen = codecs & CODECS[kind]
            self._turns[kind] = {codec: turns.get(codec) or object() for codec in chosen}

    def turns(self, kind: Kind) -> dict[Codec, object]:
        """Return the codecs of a kind, each with its turn; not changed afterwards."""
        return self._turns[kind]

    def is_turn(self, codec: Codec, turn: object) -> bool:
        """Whether a turn of a codec still runs."""
        return any(turns.get(codec) is turn for turns in self._turns.values())

    def is_due(self, made: Encoded) -> bool:
        """Whether a frame is of the feed's own codec or of a turn that still runs."""
        return made.turn is None or self.is_turn(made.frame.codec, made.turn)


Lost = Callable[[Codec, object, Exception], None]
"""(codec, turn, what its encoder raised); called in the thread."""


class _Further(Generic[_Encoder]):
    """The further encoders of one kind. All of it runs in the thread of that kind."""

    def __init__(
        self, kind: Kind, wanted: Wanted, make: Callable[[Codec], _Encoder], lost: Lost
    ) -> None:
        self._kind, self._wanted, self._make, self._lost = kind, wanted, make, lost
        self._running: dict[Codec, tuple[object, _Encoder | None]] = {}

    def encode(self, work: Callable[[_Encoder], list[EncodedFrame]]) -> Iterator[Encoded]:
        """Have each encoder that is wanted do its work; make and forget encoders as needed."""
        turns = self._wanted.turns(self._kind)
        if not turns and not self._running:
            return
        self._running = {
            codec: (turn, encoder)
            for codec, (turn, encoder) in self._running.items()
            if turns.get(codec) is turn
        }
        for codec, turn in turns.items():
            try:
                if codec not in self._running:
                    self._running[codec] = turn, self._make(codec)
                encoder = self._running[codec][1]
                frames = [] if encoder is None else work(encoder)
            except Exception as fault:  # it must not take the feed's own frames with it
                self._running[codec] = turn, None
                self._lost(codec, turn, fault)
                continue
            for frame in frames:
                yield Encoded(frame, turn)


class Pictures:
    """
    The video encoders of one feed.

    Args:
        settings: Quality, mute and keyframe requests; a request reaches every encoder.
        codec: The feed's own codec, VP8 or H.264.
        wanted: The further ones.
        lost: Told of a further encoder that fails.
    """

    def __init__(self, settings: Settings, codec: Codec, wanted: Wanted, lost: Lost) -> None:
        self._settings = settings
        self._own = _PictureCodec(codec, settings)
        self._last: Any = None  # Any: see `Item`
        self._further = _Further(
            Kind.VIDEO, wanted, lambda codec: _PictureCodec(codec, settings), lost
        )

    def encode(self, made: Any, timestamp: int) -> Iterator[Encoded]:  # Any: see `Item`
        """
        Yield one picture in each codec: black when muted, the last one again for None.

        Nothing is yielded for a codec whose rate control skips the picture.
        """
        settings = self._settings
        quality = settings.quality
        if made is not None:
            self._last = made
        if Kind.VIDEO in settings.muted or self._last is None:
            picture = black(quality)
        else:
            picture = fit(self._last, quality)
        if keyframe := settings.keyframe:
            settings.keyframe = False
        for frame in self._own.encode(picture, quality, timestamp, keyframe=keyframe):
            yield Encoded(frame, None)
        yield from self._further.encode(
            lambda codec: codec.encode(picture, quality, timestamp, keyframe=keyframe)
        )


class _PictureCodec:
    """One codec of pictures; a new quality begins a new encoder, and so a keyframe."""

    def __init__(self, codec: Codec, settings: Settings) -> None:
        self._codec = codec
        self._encoder = PictureEncoder(codec, settings.quality)

    def encode(
        self, picture: av.VideoFrame, quality: Quality, timestamp: int, *, keyframe: bool
    ) -> list[EncodedFrame]:
        if quality != self._encoder.quality:
            self._encoder = PictureEncoder(self._codec, quality)
        frame = self._encoder.encode(picture, timestamp, keyframe=keyframe, now=_now())
        return [] if frame is None else [frame]


class Sounds:
    """
    The sound encoders of one feed: Opus always, AAC as a further one.

    Args:
        settings: Mute.
        noise: Where the dither comes from.
        wanted: The further codecs.
        lost: Told of a further encoder that fails.
    """

    def __init__(
        self, settings: Settings, noise: random.Random, wanted: Wanted, lost: Lost
    ) -> None:
        self._settings = settings
        self._own = SoundEncoder(noise)
        self._nothing = silence()
        self._further = _Further(Kind.AUDIO, wanted, lambda codec: AacEncoder(noise), lost)

    def encode(self, made: Any, timestamp: int) -> Iterator[Encoded]:  # Any: see `Item`
        """Yield what is complete with 20 ms of sound: silence when muted, and for None."""
        is_silent = made is None or Kind.AUDIO in self._settings.muted
        samples = self._nothing if is_silent else made
        frame = self._own.encode(samples, timestamp, now=_now())
        if frame is not None:
            yield Encoded(frame, None)
        yield from self._further.encode(
            lambda encoder: encoder.encode(samples, timestamp, now=_now())
        )


def _now() -> float:
    return time.monotonic()  # noqa: TID251 -- in a thread; it is what loop.time() reads
