"""
One peer of a stand-in: ICE, DTLS and SRTP by aiortc and aioice, without their media machinery.

aiortc's `RTCPeerConnection` gives every track a decoder thread or an encoder task, two queues per
datagram, and circles of references that only a full garbage collection frees, which stopped a
busy stand-in for a quarter of a second. So its transports are used here directly, and datagrams
are read where they arrive: STUN is answered at once, DTLS goes to aiortc, SRTP is decrypted and
handed on in the same call.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, cast

import pylibsrtp
import structlog
from aioice import Candidate, stun
from aioice.candidate import candidate_foundation, candidate_priority
from aioice.ice import Connection, StunProtocol
from aiortc import RTCCertificate, RTCDtlsTransport, RTCIceGatherer, RTCIceTransport
from aiortc.rtcdtlstransport import SRTPProtectionProfile
from aiortc.rtp import is_rtcp
from OpenSSL import SSL

from .faults import Injected
from .forward import Line
from .offer import Choice, Offer, write_answer


DATAGRAM_MAX: Final = 2048
"""Longest datagram read [byte]: longer ones are not WebRTC on any ordinary path."""
READ_MAX: Final = 128
"""Datagrams read per socket and loop turn: asyncio alone reads one, and STUN waits behind RTP."""
WORK_S_MAX: Final = 0.005
"""Time spent on the media of one socket per loop turn [s]; the rest waits for the next turn."""
MEDIA_MAX: Final = 256
"""Packets of one peer that wait to be forwarded; beyond that the oldest are lost: 1.5 s of video
and sound at 1 Mbit/s, which is of no use to anybody any more."""
RECEIVE_BUFFER: Final = 1 << 20
"""Receive buffer asked for [byte]; the kernel may grant less."""
EARLY_MAX: Final = 64
"""Datagrams kept: SRTP that overtook the handshake, and DTLS that aiortc has not read yet."""
DELAYED_MAX: Final = 20_000
"""Packets that the fault `loss` holds back at a time in one process; more are lost."""

log: Final = structlog.get_logger()


@dataclass(slots=True)
class Consents:
    """Consent checks of this process (RFC 7675): how many were answered, how many not."""

    answered: int = 0
    failed: int = 0


class _Certificate(RTCCertificate):
    """A certificate for all peers, with one SSL context: making one costs 0.8 ms per join."""

    _context: SSL.Context | None = None

    def _create_ssl_context(self, srtp_profiles: list[SRTPProtectionProfile]) -> SSL.Context:
        if self._context is None:
            self._context = super()._create_ssl_context(srtp_profiles)
        return self._context


class Surroundings:
    """What all peers of a stand-in share: address, faults, dice, certificate and counts."""

    def __init__(self, host: str, injected: Injected, rng: random.Random) -> None:
        self.host = host
        self.injected = injected
        self.rng = rng
        self.consents = Consents()
        self.certificate = _Certificate.generateCertificate()
        self._delayed = 0

    def impair(self, act: Callable[[bytes], None], data: bytes) -> None:
        """Do it now, later or never, as the fault `loss` says."""
        loss = self.injected.loss
        if loss is None:
            act(data)
            return
        if self.rng.random() < loss.share or self._delayed >= DELAYED_MAX:
            return
        self._delayed += 1
        delay_s = self.rng.uniform(0, loss.delay_s_max)
        asyncio.get_running_loop().call_later(delay_s, self._late, act, data)

    def _late(self, act: Callable[[bytes], None], data: bytes) -> None:
        self._delayed -= 1
        act(data)


class Path(StunProtocol):
    """One UDP socket of one peer, on our own socket object so that it can be read and written."""

    def __init__(self, connection: Connection, endpoint: Endpoint, sock: socket.socket) -> None:
        super().__init__(connection)
        self._endpoint = endpoint
        self._shared = endpoint.shared
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._media: deque[bytes] = deque()
        self._behind_from_s: float | None = None
        self.overflowed = 0
        self.sock = sock

    def datagram_received(self, data: bytes | str, addr: tuple[Any, ...]) -> None:
        """Read all that is there, answer STUN at once, then forward media for a while."""
        now = self._loop.time()
        self._sort(cast(bytes, data), addr, now)
        for _ in range(READ_MAX - 1):
            try:
                data, addr = self.sock.recvfrom(DATAGRAM_MAX)
            except OSError:  # empty, or closed meanwhile
                break
            self._sort(data, addr, now)
        if self._media and self._behind_from_s is None:
            self._work()

    def _sort(self, data: bytes, addr: tuple[Any, ...], now: float) -> None:
        if self._shared.injected.is_mute or not data:
            return
        self._endpoint.heard_s = now
        first = data[0]
        if first < 4:
            super().datagram_received(data, addr)
        elif 127 < first < 192:
            self._media.append(data)
            if len(self._media) > MEDIA_MAX:
                self._media.popleft()
                self.overflowed += 1
        elif self._connection._queue.qsize() < EARLY_MAX:
            self._connection.data_received(data, 1)

    def _work(self) -> None:
        until_s = self._loop.time() + WORK_S_MAX
        while self._media:
            self._endpoint.take_srtp(self._media.popleft())
            now = self._loop.time()
            if now > until_s and self._media:
                self._behind_from_s = self._behind_from_s or now
                self._loop.call_soon(self._work)
                return
        self._behind_from_s = None

    def behind_s(self, now: float) -> float:
        """
        Return how long media has been coming faster than it is forwarded [s].

        The kernel's count (SO_MEMINFO) will not do: it gives memory back in lumps of a quarter
        of the buffer, and calls a socket full that is not.
        """
        return 0.0 if self._behind_from_s is None else now - self._behind_from_s

    def send_stun(self, message: stun.Message, addr: tuple[str, int]) -> None:
        """Send STUN, unless mute."""
        if not self._shared.injected.is_mute:
            super().send_stun(message, addr)

    async def send_data(self, data: bytes, addr: tuple[str, int]) -> None:
        """Send DTLS, unless mute."""
        if not self._shared.injected.is_mute:
            await super().send_data(data, addr)

    async def request(
        self,
        request: stun.Message,
        addr: tuple[str, int],
        integrity_key: bytes | None = None,
        retransmissions: int | None = None,
    ) -> tuple[stun.Message, tuple[str, int]]:
        """Ask; once connected this is a consent check, and counted."""
        try:
            answer = await super().request(request, addr, integrity_key, retransmissions)
        except stun.TransactionError:
            self._shared.consents.failed += self._endpoint.is_connected
            raise
        self._shared.consents.answered += self._endpoint.is_connected
        return answer


class Endpoint:
    """
    One peer. Made by `answer`; closed by whoever made it.

    Attributes:
        heard_s: When any datagram came from it [s, the loop's clock].
        is_connected: Whether DTLS is through and media can flow.
        dropped: Packets that did not verify, or that the socket did not take.
        take_rtp: Called with each decrypted RTP packet; set by the owner.
        take_rtcp: Likewise for RTCP.
        on_connected: Called once, when media can flow.
        on_gone: Called when the peer closed or failed; may come more than once.
    """

    def __init__(self, shared: Surroundings) -> None:
        self.shared = shared
        self.heard_s = asyncio.get_running_loop().time()
        self.is_connected = False
        self.dropped = 0
        self._forget_owner()
        self._gatherer = RTCIceGatherer(iceServers=[])
        self._ice = RTCIceTransport(self._gatherer)
        self._dtls = RTCDtlsTransport(self._ice, [shared.certificate])
        self._connection: Connection = self._ice._connection
        self._path: Path | None = None
        self._address: tuple[str, int] = ("", 0)
        self._early: deque[bytes] = deque(maxlen=EARLY_MAX)
        self._connecting: asyncio.Task[None] | None = None

    async def answer(self, offer: Offer, choices: list[Choice]) -> tuple[str, list[Line]]:
        """
        Answer an offer with all our candidates; connecting goes on in the background.

        Returns:
            The answer (SDP), and what was settled, one line per kind that flows.
        """
        # An instance's own method: other users of aioice in this process gather as ever.
        self._connection.gather_candidates = self._gather  # type: ignore[method-assign]
        await self._gatherer.gather()
        for candidate in offer.candidates:
            await self._ice.addRemoteCandidate(candidate)
        self._dtls._set_role(offer.our_dtls_role)
        lines = [
            Line(
                kind=choice.kind,
                codec=choice.codec,
                payload_type=choice.payload_type,
                ssrc=self.shared.rng.getrandbits(32),
            )
            for choice in choices
            if choice.codec is not None
        ]
        self._dtls.on("statechange", self._changed)
        self._ice.on("statechange", self._changed)
        self._connecting = asyncio.create_task(self._connect(offer), name="stand connect")
        return write_answer(offer, choices, lines, self._gatherer, self._dtls), lines

    async def _gather(self) -> None:
        """Gather one host candidate at our address: aioice leaves loopback out."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
            sock.bind((self.shared.host, 0))
            transport, path = await asyncio.get_running_loop().create_datagram_endpoint(
                lambda: Path(self._connection, self, sock), sock=sock
            )
        except BaseException:
            sock.close()
            raise
        # asyncio would set 256 KiB aside for each datagram.
        transport.max_size = DATAGRAM_MAX  # type: ignore[attr-defined]
        host, port = sock.getsockname()
        path.local_candidate = Candidate(
            foundation=candidate_foundation("host", "udp", host),
            component=1,
            transport="udp",
            priority=candidate_priority(1, "host"),
            host=host,
            port=port,
            type="host",
        )
        self._connection._protocols.append(path)
        self._connection._local_candidates.append(path.local_candidate)
        self._connection._local_candidates_end = True
        self._path = path

    async def _connect(self, offer: Offer) -> None:
        try:
            await self._ice.start(offer.ice)
            if self._ice.state == "completed":
                await self._dtls.start(offer.dtls)
        except Exception as fault:  # aiortc and OpenSSL raise whatever the far side provokes
            log.warning("peer.failed", because=repr(fault))
        pair = self._connection._nominated.get(1)
        if self._dtls.state != "connected" or pair is None:
            self.on_gone()
            return
        self._address = pair.remote_addr
        self.is_connected = True
        self.on_connected()
        while self._early:
            self.take_srtp(self._early.popleft())

    def _changed(self) -> None:
        if self._dtls.state in ("closed", "failed") or self._ice.state in ("closed", "failed"):
            self.is_connected = False
            self.on_gone()

    # --- Media ---

    def take_srtp(self, data: bytes) -> None:
        """Decrypt a packet and hand it on; what does not verify is dropped."""
        if not self.is_connected:
            self._early.append(data)
            return
        if is_rtcp(data):
            with contextlib.suppress(pylibsrtp.Error, ValueError):
                self.take_rtcp(self._dtls._rx_srtp.unprotect_rtcp(data))
        elif self.shared.injected.loss is None:
            self._open(data)
        else:
            # Before it is decrypted: SRTP would take the packet sent again for a replay.
            self.shared.impair(self._open, data)

    def _open(self, data: bytes) -> None:
        if not self.is_connected:  # a packet held back may come after the end
            return
        try:
            plain = self._dtls._rx_srtp.unprotect(data)
        except (pylibsrtp.Error, ValueError):  # ValueError: longer than its buffer
            self.dropped += 1
            return
        self.take_rtp(plain)

    def send_rtp(self, packet: bytes) -> None:
        """
        Encrypt and send; what does not fit into the socket is dropped.

        Raises:
            pylibsrtp.Error, ValueError: The packet cannot be encrypted (too old, too long).
        """
        if not self.is_connected:
            return
        data = self._dtls._tx_srtp.protect(packet)
        if self.shared.injected.loss is None:
            self._send(data)
        else:
            self.shared.impair(self._send, data)

    def send_rtcp(self, packet: bytes) -> None:
        """Encrypt and send a (compound) RTCP packet."""
        if not self.is_connected:
            return
        try:
            self._send(self._dtls._tx_srtp.protect_rtcp(packet))
        except pylibsrtp.Error:
            self.dropped += 1

    def _send(self, data: bytes) -> None:
        if self.shared.injected.is_mute or self._path is None:
            return
        try:
            self._path.sock.sendto(data, self._address)
        except OSError:  # full, unreachable or closed: to a peer all the same, a lost packet
            self.dropped += 1

    # --- State ---

    def behind_s(self, now: float) -> float:
        """Return how long its media has been coming faster than it is forwarded [s]."""
        return 0.0 if self._path is None else self._path.behind_s(now)

    def overflowed(self) -> int:
        """Return the packets lost because this process was too slow."""
        return 0 if self._path is None else self._path.overflowed

    async def aclose(self) -> None:
        """Say goodbye (DTLS close) and release everything. Idempotent."""
        self.is_connected = False
        self._forget_owner()
        if self._connecting is not None:
            connecting, self._connecting = self._connecting, None
            connecting.cancel()
            await asyncio.wait({connecting})
        await self._dtls.stop()
        await self._ice.stop()
        # Cut the circles, so that memory is freed now and peer by peer, not by a full collection.
        self._dtls.remove_all_listeners()
        self._connection._check_list.clear()
        self._connection.__dict__.pop("gather_candidates", None)
        self._path = None

    def _forget_owner(self) -> None:
        self.take_rtp: Callable[[bytes], None] = _ignore
        self.take_rtcp: Callable[[bytes], None] = _ignore
        self.on_connected: Callable[[], None] = _do_nothing
        self.on_gone: Callable[[], None] = _do_nothing


def _ignore(data: bytes) -> None: ...


def _do_nothing() -> None: ...
