"""
How much of what we sent the far side has taken: the send watermark of an RTMP connection.

A write that returns proves nothing: the buffers of both kernels take seconds of media for a
server that stands still (measured with FFmpeg against a stopped nginx-rtmp: nothing noticed in
8 s). Three witnesses are heard, and the best one that a server offers counts:

* `PONG`: a ping request (User Control, section 7.1.7) follows the media every `PING_S`, and its
  answer says that the far side's process has read all that was sent before, as TCP keeps order.
* `ACKNOWLEDGEMENT`: RTMP's count of bytes read (section 5.4.3), asked for every `WINDOW` bytes.
* `KERNEL`: what our kernel still holds, since its peer has not acknowledged it (TCP). Weaker: it
  tells of the network and the host; of a process that stopped only when its buffers are full.
  Linux has it by SIOCOUTQ and macOS by SO_NWRITE (written from its headers, not run); elsewhere
  only what our kernel refuses to take is known. The two above hold on every system.

A stopped nginx-rtmp 1.2.2 was noticed, with 1 s of silence allowed and 0.4 Mbit/s sent, after
0.96-1.02 s by pongs (5 runs), 1.17-1.41 s by acknowledgements (5), 4.0 s by the kernel's word (1;
3.5 s at 2 Mbit/s).
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from enum import IntEnum
from typing import Any, Final

from .liveness import PATH, Liveness


if sys.platform == "linux":
    import fcntl
    import termios


PING_S: Final = 0.25
"""Time between two ping requests [s]: 72 bytes a second."""

WINDOW: Final = 16 * 1024
"""Bytes after which the far side is asked to acknowledge: eight times a second at 1 Mbit/s."""

_PINGS_MAX: Final = 64
_UNSENT_KERNEL: Final = 64 * 1024
_SO_NWRITE: Final = 0x1024  # macOS, <sys/socket.h>: bytes not sent or not acknowledged
_NOTSENT_LOWAT: Final = {"linux": 25, "darwin": 0x201}  # TCP_NOTSENT_LOWAT


class Evidence(IntEnum):
    """What tells that the far side takes our bytes; the best that it gives counts."""

    KERNEL = 0
    """Its kernel acknowledges them (TCP)."""
    ACKNOWLEDGEMENT = 1
    """Its process counts them (RTMP)."""
    PONG = 2
    """Its process answers what came after them (RTMP)."""


class Watermark:
    """
    Keeps count of one connection, and tells its `Liveness` each time that bytes were taken.

    Args:
        liveness: Is told under the name of the path.
        silence_s: Shortest time without it that counts [s].

    Attributes:
        evidence: The best witness so far.
        sent: Bytes given to the transport.
        progressed: Set whenever anything was taken; cleared by who waits for it.
        rtt_s: Smoothed round-trip time of pings [s] (RFC 6298); None: none was answered.
    """

    def __init__(self, liveness: Liveness, silence_s: float) -> None:
        self._clock = asyncio.get_running_loop().time
        self._liveness, self._silence_s = liveness, silence_s
        self._in_flight: deque[tuple[int, float, int]] = deque(maxlen=_PINGS_MAX)
        self._taken = dict.fromkeys(Evidence, 0)
        self._acknowledgements, self._step = 0, WINDOW
        self._rtt_var_s = 0.0
        self.evidence = Evidence.KERNEL
        self.progressed = asyncio.Event()
        self.rtt_s: float | None = None
        self.sent = self.pings = self.pongs = 0

    def taken(self, evidence: Evidence) -> int:
        """Return how many of our bytes were taken, by this evidence or a better one."""
        return max(count for each, count in self._taken.items() if each >= evidence)

    def pinged(self) -> int:
        """Note that a ping follows what was sent so far; return its number."""
        self.pings += 1
        self._in_flight.append((self.pings, self._clock(), self.sent))
        return self.pings

    def ponged(self, number: int) -> None:
        """Note the answer to a ping."""
        while self._in_flight and self._in_flight[0][0] <= number:
            pinged, at_s, sent = self._in_flight.popleft()
            if pinged == number:
                self.pongs += 1
                self._note_rtt(self._clock() - at_s)
                self._progress(Evidence.PONG, sent)

    def acknowledged(self, count: int) -> None:
        """Note an acknowledgement: bytes read in all, modulo 2^32."""
        # Some servers count from after the handshake: a few bytes late is no harm.
        older = self._taken[Evidence.ACKNOWLEDGEMENT]
        step = (count - older) & 0xFFFFFFFF
        if step > max(self.sent - older, 0):
            return  # more than was sent: not a count that we understand
        self._step = max(step, self._step)  # not every server obeys our window
        self._acknowledgements += 1
        self._progress(Evidence.ACKNOWLEDGEMENT, older + step)

    def look(self, transport: asyncio.Transport) -> None:
        """Ask our kernel; note life if nothing is owed. Called every `PING_S`."""
        held = held_by_kernel(transport)
        if held is not None:
            taken = self.sent - transport.get_write_buffer_size() - held
            if taken > self._taken[Evidence.KERNEL]:
                self._progress(Evidence.KERNEL, taken)
        if not self._is_owed():
            self._note_life()

    def _progress(self, evidence: Evidence, count: int) -> None:
        self._taken[evidence] = max(count, self._taken[evidence])
        if evidence is not Evidence.ACKNOWLEDGEMENT or self._acknowledgements > 1:
            self.evidence = max(evidence, self.evidence)
        self.progressed.set()
        if evidence == self.evidence:
            self._note_life()

    def _is_owed(self) -> bool:
        """Whether the far side should have said by now that it takes our bytes."""
        if self.evidence is Evidence.PONG:
            return True  # four times a second
        missing = self.sent - self._taken[self.evidence]
        return missing > (1.5 * self._step if self.evidence is Evidence.ACKNOWLEDGEMENT else 0)

    def _note_life(self) -> None:
        # Four pings and the worst round trip, or what is configured.
        worst_s = 4 * PING_S + (self.rtt_s or 0.0) + 4 * self._rtt_var_s
        self._liveness.heard(PATH, self._clock(), limit_s=max(self._silence_s, worst_s))

    def _note_rtt(self, rtt_s: float) -> None:
        if self.rtt_s is None:  # RFC 6298 section 2
            self.rtt_s, self._rtt_var_s = rtt_s, rtt_s / 2
            return
        self._rtt_var_s += (abs(self.rtt_s - rtt_s) - self._rtt_var_s) / 4
        self.rtt_s += (rtt_s - self.rtt_s) / 8


def limit_kernel(transport: asyncio.Transport) -> None:
    """Keep what is not sent yet in our own hands, where it can be counted and dropped."""
    # Any: asyncio's TransportSocket has no public type
    sock: Any = transport.get_extra_info("socket")
    option = _NOTSENT_LOWAT.get(sys.platform)
    if sock is not None and option is not None:
        try:
            sock.setsockopt(6, option, _UNSENT_KERNEL)  # IPPROTO_TCP
        except OSError:
            pass  # an old kernel: its buffer is larger, no more


def acknowledge_soon(transport: asyncio.Transport) -> None:
    """
    Have our kernel acknowledge at once what came (Linux; elsewhere nothing is done).

    Servers that leave Nagle's algorithm on, as nginx-rtmp does, hold a small message back until
    the last one is acknowledged, and kernels take up to 40 ms for that: measured, opening took
    0.09 s instead of 0.01 s. The kernel forgets the wish, so it is repeated.
    """
    sock: Any = transport.get_extra_info("socket")
    if sys.platform == "linux" and sock is not None and not transport.is_closing():
        try:
            sock.setsockopt(6, 12, 1)  # IPPROTO_TCP, TCP_QUICKACK
        except OSError:
            pass


def held_by_kernel(transport: asyncio.Transport) -> int | None:
    """Return the bytes in our kernel that its peer has not acknowledged; None: unknown."""
    sock: Any = transport.get_extra_info("socket")
    if sock is None or transport.is_closing():
        return None
    try:
        if sys.platform == "linux":
            found = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4))  # SIOCOUTQ
            return int.from_bytes(found, sys.byteorder)
        if sys.platform == "darwin":
            number: int = sock.getsockopt(0xFFFF, _SO_NWRITE)  # SOL_SOCKET
            return number
    except OSError:
        pass
    return 0
