"""
One WebRTC peer: a thin layer over aiortc that sends a feed, or receives frames.

Everything special is set on the objects of one peer, never on aiortc's modules, so that another
user of aiortc in the same process keeps the stock behaviour. aiortc and aioice are pinned,
because private names of both are used.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, Final, Never, cast

from aioice.ice import CandidatePair
from aiortc import RTCRtpTransceiver, RTCSessionDescription
from aiortc.sdp import candidate_from_sdp

from ..errors import ContractBroken, MediaLost, ProviderError
from . import report
from .closing import finish, take_apart
from .connection import Connection, IceServer, preferences
from .feed import Feed
from .frame import Codec, Kind
from .liveness import Liveness
from .pinger import PING_S, Pinger
from .receive import FrameReceiver, Heard, Take
from .sdp import kinds_in, levelled, with_mux_only
from .send import FeedSender


GATHER_S: Final = 1.0
"""How long a STUN or TURN server may take [s]; aioice's own 5 s would eat the whole deadline."""

CLOSE_S: Final = 1.5
"""How long a peer may take to say goodbye [s]; then its sockets are cut."""

_LOOPBACK: Final = "127.0.0.1"
_CAREFUL_RTTS: Final = 2.5

logger = logging.getLogger(__name__)


class Peer:
    """
    What publishing and viewing peers have in common. Made in a running loop; always closed.

    Args:
        provider: Name for errors.
        operation: `publish` or `view`, for errors.
        liveness: Is told of STUN answers, and by viewing peers of packets.
        loopback: Whether the far side is on this machine: then 127.0.0.1 is the only candidate
            (aioice leaves it out).
        ice_servers: STUN and TURN servers; none by default, since an unreachable one costs
            `GATHER_S`.
        ping: Whether to measure the path by own STUN requests.
        path_silence_s: Shortest silence of STUN answers that counts [s].
    """

    def __init__(
        self,
        *,
        provider: str,
        operation: str,
        liveness: Liveness,
        loopback: bool = False,
        ice_servers: Sequence[IceServer] = (),
        ping: bool = True,
        path_silence_s: float = 0.25,
    ) -> None:
        self.provider = provider
        self.operation = operation
        self.liveness = liveness
        self._loop = asyncio.get_running_loop()
        self._loopback = loopback
        self._ping = ping
        self._path_silence_s = path_silence_s
        self._pc = Connection(ice_servers)
        self._offer: str | None = None
        self._lost: asyncio.Future[Never] = self._loop.create_future()
        self._tasks: set[asyncio.Task[None]] = set()
        self._pinger: Pinger | None = None
        self._closing: asyncio.Task[None] | None = None
        self.senders: list[FeedSender] = []
        self.receivers: list[FrameReceiver] = []
        self.connected_s: float | None = None

    # --- Negotiation ---

    async def offer(self) -> str:
        """Gather candidates and return the full offer."""
        await self._pc.setLocalDescription(await self._pc.createOffer())
        self._offer = self._pc.localDescription.sdp
        return with_mux_only(self._offer)

    async def accept(self, answer: str) -> None:
        """
        Take the far side's answer and begin to connect.

        Raises:
            ContractBroken: It is not an answer to our offer.
        """
        await self._describe("answer", levelled(answer, self._offer))

    async def answer(self, offer: str) -> str:
        """
        Take the far side's offer instead of making one, and return our full answer.

        Raises:
            ContractBroken: It cannot be understood, or shares no codec with us.
        """
        await self._describe("offer", levelled(offer))
        try:
            await self._pc.setLocalDescription(await self._pc.createAnswer())
        except Exception as exc:
            raise self._broken(exc) from exc
        return self._pc.localDescription.sdp

    async def add_candidate(self, line: str | None) -> None:
        """Take `candidate:...` of the far side (RFC 8838) after its description; None: the end."""
        try:  # what cannot be read is left out
            found = candidate_from_sdp(line.removeprefix("candidate:")) if line else None
            await self._ice().addRemoteCandidate(found)  # the connection skips bundled sections
        except Exception:
            logger.debug("a candidate could not be used", exc_info=True)

    async def connected(self, deadline: float) -> None:
        """
        Wait until media can flow.

        Args:
            deadline: When to give up [s, the loop's clock].

        Raises:
            MediaLost: Connectivity checks (ICE) or the handshake (DTLS) failed or took too long;
                `answered` says whether any STUN answer came.
        """
        # Senders and receivers start just after DTLS; until then a task is still connecting.
        while self._pc.connectionState != "connected" or self._pc.connecting:
            if self._closing is not None or self._pc.connectionState in ("failed", "closed"):
                raise self._not_connected("failed")
            if self._pc.fault is not None:
                raise self._broken(self._pc.fault)
            self._pc.changed.clear()
            try:
                async with asyncio.timeout_at(deadline):
                    await self._pc.changed.wait()
            except TimeoutError:
                raise self._not_connected("not finished in time") from None
        self._begin()

    async def lost(self) -> None:
        """
        Wait until the far side closed the peer or the path was lost for good; never returns.

        Raises:
            ProviderError: It happened.
        """
        await asyncio.shield(self._lost)

    @property
    def rtt_s(self) -> float | None:
        """Smoothed round-trip time by STUN [s]; None: not measured."""
        return None if self._pinger is None else self._pinger.rtt_s

    def stats(self) -> list[report.Stats]:
        """Return what is known, in webrtc-stats terms."""
        found: list[report.Stats] = []
        if self._pc.getTransceivers():
            found += report.of_path(self._dtls(), self._pinger, self._loop.time())
        for sender in self.senders:
            found += report.of_sender(sender, self._loop.time())
        for receiver in self.receivers:
            found.append(report.of_receiver(receiver, self._loop.time()))
        return found

    async def aclose(self) -> None:
        """Say goodbye (DTLS close) and release sockets and tasks. Idempotent; at most 2 s."""
        if self._closing is None:
            self._closing = self._loop.create_task(self._close())
        await finish(self._closing)

    # --- For the two kinds of peer ---

    def _add(self, kind: Kind, direction: str, codecs: Sequence[Codec]) -> RTCRtpTransceiver:
        transceiver = self._pc.addTransceiver(kind.value, direction=direction)
        transceiver.setCodecPreferences(preferences(kind, codecs))
        # All sections share one transport. aiortc would close it when the far side's first
        # section is not the one that was added first here.
        transceiver._bundled = True
        if len(self._pc.getTransceivers()) == 1:
            self._own_ice()
            dtls = transceiver.receiver.transport
            for emitter in (self._pc, dtls, dtls.transport):
                event = "connectionstatechange" if emitter is self._pc else "statechange"
                cast(Any, emitter).on(event, self._on_change)
        return transceiver

    def _put_sender(self, transceiver: RTCRtpTransceiver, feed: Feed) -> None:
        stock = transceiver.sender
        sender = FeedSender(Kind(transceiver.kind), stock.transport, feed)
        sender._stream_id = stock._stream_id
        cast(Any, transceiver)._RTCRtpTransceiver__sender = sender
        transceiver.receiver._set_rtcp_ssrc(sender._ssrc)
        self.senders.append(sender)

    def _put_receiver(self, transceiver: RTCRtpTransceiver, receiver: FrameReceiver) -> None:
        cast(Any, transceiver)._RTCRtpTransceiver__receiver = receiver
        receiver._set_rtcp_ssrc(transceiver.sender._ssrc)
        self.receivers.append(receiver)

    def _own(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- Inside ---

    def _dtls(self) -> Any:
        return self._pc.getTransceivers()[0].receiver.transport

    def _ice(self) -> Any:
        return self._dtls().transport

    def _own_ice(self) -> None:
        """Give this one connection its own limit on gathering, and loopback if that is wanted."""
        connection = self._ice()._connection
        stock = connection.get_component_candidates

        async def gather(component: int, addresses: list[str]) -> Any:
            chosen = [_LOOPBACK] if self._loopback else addresses
            return await stock(component=component, addresses=chosen, timeout=GATHER_S)

        connection.get_component_candidates = gather

    async def _describe(self, kind: str, sdp: str) -> None:
        try:
            await self._pc.setRemoteDescription(RTCSessionDescription(sdp=sdp, type=kind))
        except Exception as exc:
            # aiortc raises whatever its parser stumbles over: ValueError, KeyError, assertions.
            raise self._broken(exc) from exc

    def _broken(self, exc: Exception) -> ContractBroken:
        return ContractBroken(
            f"its session description cannot be used ({type(exc).__name__}: {exc})"[:200],
            provider=self.provider,
            operation=self.operation,
        )

    def _not_connected(self, how: str) -> MediaLost:
        ice = self._ice()
        if ice.state in ("new", "checking") or (ice.state == "failed" and not self._has_answer()):
            because, answered = f"connectivity checks (ICE) {how}", self._has_answer()
            if not answered:
                because += ", no STUN answer came"
        elif ice.state == "failed":
            because, answered = "the path (ICE) was lost", True
        else:
            because, answered = f"the handshake (DTLS) {how}", True
        return MediaLost(
            because, provider=self.provider, operation=self.operation, answered=answered
        )

    def _has_answer(self) -> bool:
        connection = self._ice()._connection
        return bool(connection._nominated) or any(
            pair.state is CandidatePair.State.SUCCEEDED for pair in connection._check_list
        )

    def _on_change(self) -> None:
        self._pc.changed.set()
        if self._closing is not None or self._lost.done() or self.connected_s is None:
            return
        if self._dtls().state in ("closed", "failed") or self._ice().state == "failed":
            for receiver in self.receivers:
                receiver.flush()
            ended = "closed by the far side" if self._ice().state != "failed" else "path lost"
            self._lose(MediaLost(ended, provider=self.provider, operation=self.operation))

    def _lose(self, error: ProviderError) -> None:
        if not self._lost.done():
            self._lost.set_exception(error)
            self._lost.exception()  # retrieved: nobody need ask

    def _begin(self) -> None:
        if self.connected_s is not None:
            return
        self.connected_s = self._loop.time()
        if self._ping:
            self._pinger = Pinger(
                self._ice()._connection,
                self.liveness,
                self._loop.time,
                path_silence_s=self._path_silence_s,
            )
            self._pinger.start(self.connected_s)
        if self._ping or any(receiver.shown for receiver in self.receivers):
            self._own(self._loop.create_task(self._pulse(), name=f"{self.provider} pulse"))

    async def _pulse(self) -> None:
        """Do what comes round every 50 ms: ask for life, and for what is missing."""
        while True:
            now = self._loop.time()
            if self._pinger is not None:
                self._pinger.beat(now)
            for receiver in self.receivers:
                if self.rtt_s is not None:
                    receiver.repair_s = min(1.0, max(0.3, _CAREFUL_RTTS * self.rtt_s))
                await receiver.tick(now)
            await asyncio.sleep(PING_S)

    async def _close(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        if self._pinger is not None:
            self._pinger.close()
        closing = asyncio.ensure_future(self._pc.close())
        await asyncio.wait({closing, *self._tasks}, timeout=CLOSE_S)
        if not closing.done():
            closing.cancel()
            self._cut()
        elif closing.exception() is not None:
            logger.debug("closing failed", exc_info=closing.exception())
            self._cut()
        if self._pc.connecting:
            _, late = await asyncio.wait(self._pc.connecting, timeout=0.2)
            for task in late:
                task.cancel()
        take_apart(self._pc)
        self._pc.changed.set()
        self._lose(MediaLost("closed by us", provider=self.provider, operation=self.operation))

    def _cut(self) -> None:
        """Close the sockets of a peer that could not say goodbye."""
        if self._pc.getTransceivers():
            for protocol in self._ice()._connection._protocols:
                protocol.transport.abort()


class PublishingPeer(Peer):
    """
    Sends a feed. The feed stays its owner's: closing the peer does not close it.

    Args:
        feed: What to send; its codecs are the only ones offered.
        settings: See `Peer`.
    """

    def __init__(self, *, feed: Feed, **settings: Any) -> None:
        super().__init__(**settings)
        for kind in sorted(feed.kinds):
            transceiver = self._add(kind, "sendonly", [feed.codecs[kind]])
            self._put_sender(transceiver, feed)


class ViewingPeer(Peer):
    """
    Receives frames.

    Args:
        kinds: What is asked for.
        take: Is given each frame, in the loop's thread.
        video_codec: Preferred; the other is accepted too.
        shown: Whether frames are to be decoded; a self-view's are not (see `FrameReceiver`).
        settings: See `Peer`.
    """

    def __init__(
        self,
        *,
        kinds: frozenset[Kind],
        take: Take,
        heard: Heard | None = None,
        video_codec: Codec = Codec.VP8,
        shown: bool = True,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self._take, self._shown = take, shown
        self._heard = heard or self._note_life
        self._video_codecs = sorted((Codec.VP8, Codec.H264), key=lambda each: each != video_codec)
        self._kinds = kinds

    async def offer(self) -> str:
        """Gather candidates and return the full offer: receive only."""
        for kind in sorted(self._kinds):
            self._prepare(kind, "recvonly")
        return await super().offer()

    async def answer(self, offer: str) -> str:
        """See `Peer.answer`."""
        for kind in kinds_in(offer):
            # What is not wanted is declined here; aiortc would receive and decode it.
            self._prepare(kind, "recvonly" if kind in self._kinds else "inactive")
        return await super().answer(offer)

    @property
    def kinds(self) -> frozenset[Kind]:
        """What the far side agreed to send."""
        return frozenset(
            Kind(each.kind)
            for each in self._pc.getTransceivers()
            if each.currentDirection in ("recvonly", "sendrecv")
        )

    def request_keyframe(self) -> None:
        """Ask for a keyframe soon. Cheap; at most 20 a second are sent."""
        if self._closing is None and self.connected_s is not None:
            for receiver in self.receivers:
                self._own(self._loop.create_task(receiver.request_keyframe()))

    def _prepare(self, kind: Kind, direction: str) -> None:
        codecs = [Codec.OPUS] if kind is Kind.AUDIO else self._video_codecs
        transceiver = self._add(kind, direction, codecs)
        receiver = FrameReceiver(
            kind,
            transceiver.receiver.transport,
            take=self._take,
            heard=self._heard,
            shown=self._shown,
        )
        self._put_receiver(transceiver, receiver)

    def _note_life(self, kind: Kind, now: float) -> None:
        self.liveness.heard(kind.value, now)
