"""What publishing and playing over RTMP have in common."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from .frame import Codec, Kind
from .liveness import Liveness
from .rtmp_chunks import Message
from .rtmp_errors import Words
from .rtmp_session import RtmpSession, Status
from .rtmp_target import Target
from .rtmp_watermark import Evidence


Stats = Mapping[str, Any]

CODECS: Final = {Kind.VIDEO: Codec.H264, Kind.AUDIO: Codec.AAC}
"""What RTMP carries."""

_OVER: Final = ("NetStream.Play.UnpublishNotify", "NetStream.Play.Stop", "NetStream.EOF",
                "NetStream.Play.Complete", "NetStream.Unpublish.Success",
                "NetConnection.Connect.Closed")  # fmt: skip


class End:
    """What both directions share."""

    verb = ""
    """What is asked of the server: `publish` or `play`."""

    def __init__(
        self,
        target: Target,
        *,
        provider: str,
        operation: str,
        liveness: Liveness,
        path_silence_s: float,
        keyed: bool,
        pings: bool,
    ) -> None:
        self._clock = asyncio.get_running_loop().time
        self._words = Words(provider=provider, operation=operation, keyed=keyed)
        self._liveness = liveness
        self._session = RtmpSession(
            target,
            provider=provider,
            operation=operation,
            liveness=liveness,
            path_silence_s=path_silence_s,
            take=self._receive,
            status=self._news,
            keyed=keyed,
            pings=pings,
        )
        self._frames = dict.fromkeys(Kind, 0)
        self._bytes = dict.fromkeys(Kind, 0)
        self._dropped = dict.fromkeys(Kind, 0)

    @property
    def rtt_s(self) -> float | None:
        """Smoothed round-trip time of pings [s]; None: the far side answered none."""
        return self._session.watermark.rtt_s

    @property
    def evidence(self) -> Evidence:
        """What tells that the far side takes our bytes."""
        return self._session.watermark.evidence

    async def lost(self) -> None:
        """
        Wait until the connection is lost for good, and say why. Cancelling is safe.

        Raises:
            ProviderError: The far side ended it, or cannot be understood.
        """
        await self._session.lost()

    async def aclose(self) -> None:
        """Say goodbye and disconnect. Idempotent; never raises; at most 1 s."""
        await self._session.aclose()

    def _receive(self, message: Message) -> None:
        """Take a message of media; a publisher gets none."""

    def _news(self, status: Status) -> None:
        code = str(status.get("code", ""))
        refusal = self._words.refusal_of(self.verb, status)
        if refusal is not None:
            self._session.fail(refusal)
        elif code in _OVER:
            self._session.fail(self._words.silent(f"the server ended the stream ({code})"))

    def _transport(self) -> Stats:
        session, marked = self._session, self._session.watermark
        return {
            "type": "transport",
            "id": f"transport_{id(self)}",
            "timestamp": self._clock() * 1000,
            "bytesSent": marked.sent,
            "bytesReceived": session.bytes_in,
            "bytesTaken": marked.taken(Evidence.KERNEL),
            "evidence": marked.evidence.name.lower(),
            "requestsSent": marked.pings,
            "responsesReceived": marked.pongs,
            "currentRoundTripTime": marked.rtt_s,
        }

    def _of(self, kind: Kind, direction: str, names: tuple[str, str, str]) -> Stats:
        counts = (self._frames[kind], self._bytes[kind], self._dropped[kind])
        return {
            "type": direction,
            "id": f"{direction}_{kind}_{id(self)}",
            "timestamp": self._clock() * 1000,
            "kind": kind.value,
            **dict(zip(names, counts, strict=True)),
        }
