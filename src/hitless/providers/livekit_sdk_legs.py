"""The legs that carry a LiveKit room through the `livekit` package's process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, ClassVar, Final

from ..errors import (
    ConfigError,
    CredentialsRejected,
    HitlessError,
    LocalFault,
    MediaLost,
    Refused,
    Retry,
    Unreachable,
)
from ..media.feed import Feed
from ..media.frame import Codec, EncodedFrame, Kind
from ..media.liveness import PATH, Liveness
from . import sdk_wire as wire
from .sdk_leg import SdkLeg, SdkViewingLeg
from .sdk_process import SdkProcess
from .sdk_wire import Fault, Order, Sign, Word


INSTALL: Final = "pip install 'hitless[livekit-sdk]'"

_WORKER: Final = "hitless.providers.livekit_sdk_worker"
_SIGNS: Final = {Kind.AUDIO.value: Sign.AUDIO, Kind.VIDEO.value: Sign.VIDEO, PATH: Sign.PATH}

_LEFT: Final = {  # DisconnectReason of LiveKit's protocol
    2: "another one of the same identity came",
    3: "the server shuts down",
    5: "the room was deleted",
    10: "the room was closed",
}
_PUT_OUT: Final = 4  # PARTICIPANT_REMOVED


class _LiveKitLeg(SdkLeg):
    """What both directions share: what a fault means."""

    service = "LiveKit"

    def _error_of(self, what: int, number: int) -> HitlessError | None:
        """Return what a fault means. The one mapping of what the package's process says."""
        known: dict[str, Any] = {"provider": self._provider, "operation": self.operation}
        match what:
            case Fault.MISSING:
                return ConfigError(_missing(self._provider))
            case Fault.LIBRARY:
                return ConfigError(
                    f"{self._provider}: LiveKit's package is installed but cannot be loaded; "
                    f"install it again: {INSTALL}"
                )
            case Fault.DENIED:
                because = (
                    "the token was not taken: check api_key, api_secret and this machine's clock"
                )
                return CredentialsRejected(because, retry=Retry.NEXT, **known)
            case Fault.AWAY:
                return Unreachable("no answer of LiveKit, or not as it should be", **known)
            case Fault.AGAIN:
                return self._lost(
                    "the SDK lost its connection; its own reconnecting is not waited for"
                )
            case Fault.LEFT:
                return self._lost("who was viewed is gone")
            case Fault.REASON if number == _PUT_OUT:
                return Refused("we were put out", retry=Retry.NEXT, **known)
            case Fault.REASON:
                words = _LEFT.get(number, f"reason {number}")
                return self._lost(f"closed by the far side ({words})", answered=True)
            case _:
                return self._unexpected()


class LiveKitSdkViewingLeg(_LiveKitLeg, SdkViewingLeg):
    """One stream being viewed."""

    frames_are_signs: ClassVar[bool] = False  # the SDK goes on with sound when no packets come

    async def open(self, url: str, token: str, codec: Codec, watch: str, deadline: float) -> None:
        """
        View, and return when the first media arrived. Called once.

        Args:
            url: The server, `wss://...`.
            token: A viewer's.
            codec: What pictures are encoded in.
            watch: Identity of the publisher; empty: the first one that is there.
            deadline: When to give up [s, the loop's clock].

        Raises:
            NotOnAir: Nobody publishes in the room.
            ProviderError: Not by `deadline`, or refused.
            ConfigError: The package is not installed, or cannot be loaded.
            LocalFault: No process can be started.
        """
        process = await _begin(self._provider)
        process.join(
            {"publish": False, "url": url, "token": token, "codec": codec.value, "watch": watch}
        )
        await self._view(process, deadline)

    def _hear(self, word: int, body: bytes) -> None:
        if word == Word.SIGNS:
            _note(self.liveness, body, {Kind.AUDIO.value, Kind.VIDEO.value})
        else:
            super()._hear(word, body)


class LiveKitSdkPublishingLeg(_LiveKitLeg):
    """
    One stream being published: pictures as they were encoded, sound decoded and encoded again.

    First media is proven by the server's receiver reports on each kind: it takes our media,
    which is not yet that viewers get it.

    Args:
        provider: Name for errors.
        liveness: The leg's.
        feed: The feed; its owner closes it.
    """

    operation = "publish"

    def __init__(self, provider: str, liveness: Liveness, feed: Feed) -> None:
        super().__init__(provider, liveness)
        self._feed = feed
        self._detach: Callable[[], None] | None = None
        self._proven = {kind: asyncio.Event() for kind in feed.kinds}
        self._skipping = True  # pictures, until a keyframe

    async def open(self, url: str, token: str, deadline: float) -> None:
        """
        Publish, and return when the first media is proven. Called once.

        Raises:
            ProviderError: Not by `deadline` [s, the loop's clock], or refused.
            LocalFault: The source gives no frames, or no process can be started.
            ConfigError: The package is not installed, or the source is encoded already, as
                something that cannot be sent.
        """
        made = sum(self._feed.frames_made.values())
        video = self._feed.codecs.get(Kind.VIDEO)
        process = await _begin(self._provider)
        process.join(
            {
                "publish": True,
                "url": url,
                "token": token,
                "codec": video and video.value,
                "sound": Kind.AUDIO in self._feed.kinds,
            }
        )
        await self._enter(process, deadline)
        self._detach = self._feed.attach(
            self._send, codecs={Kind.AUDIO: Codec.OPUS}, failed=self._fail
        )
        self._feed.request_keyframe()
        for kind, proven in self._proven.items():
            if await self._comes(proven, deadline):
                continue
            if sum(self._feed.frames_made.values()) == made:
                raise LocalFault(f"{self._provider}: the source gives no frames")
            raise MediaLost(
                f"accepted, but no receiver report acknowledges our {kind}",
                provider=self._provider,
                operation="publish",
            )

    def _send(self, frame: EncodedFrame) -> None:
        if self._process is None or self._fault is not None:
            return
        is_video = frame.kind is Kind.VIDEO
        if is_video and self._skipping and not frame.keyframe:
            self._feed.request_keyframe()
            return
        body = wire.SENT.pack(frame.keyframe, frame.timestamp) + frame.data
        taken = self._process.send(Order.VIDEO if is_video else Order.AUDIO, body)
        if is_video:
            self._skipping = not taken
        if taken:
            self._counts[frame.kind][0] += 1
            self._counts[frame.kind][1] += len(frame.data)

    def _hear(self, word: int, body: bytes) -> None:
        match word:
            case Word.SIGNS:
                _note(self.liveness, body, {PATH})
                _, signs = wire.SIGNS.unpack(body)
                for kind, proven in self._proven.items():
                    if signs & _SIGNS[kind.value]:
                        proven.set()
            case Word.KEYFRAME:
                self._feed.request_keyframe()
            case _:
                super()._hear(word, body)

    def _awaited(self) -> tuple[asyncio.Event, ...]:
        return (*super()._awaited(), *self._proven.values())

    async def _close(self, wait: bool) -> None:
        if self._detach is not None:
            self._detach()
        await super()._close(wait)


async def _begin(provider: str) -> SdkProcess:
    if find_spec("livekit") is None or find_spec("livekit.rtc") is None:
        raise ConfigError(_missing(provider))
    return await SdkProcess.begin(provider, _WORKER)


def _missing(provider: str) -> str:
    return f'{provider}: media = "sdk" needs LiveKit\'s package: {INSTALL}'


def _note(liveness: Liveness, body: bytes, expected: set[str]) -> None:
    at_s, signs = wire.SIGNS.unpack(body)
    for sign in expected:
        if signs & _SIGNS[sign]:
            liveness.heard(sign, at_s)
