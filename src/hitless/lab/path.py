"""
The relay's paths: whose addresses a description names, and where the datagrams go then.

Candidates in offers and answers are replaced by ports of the relay, so neither side ever learns
the other's address and every datagram passes through here.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections.abc import Callable
from typing import Final


IDLE_S_MAX: Final = 60.0
"""A path that carried nothing for this long is closed: twice what aioice needs to give up [s]."""

_SOURCES_MAX = 8  # addresses of one client on one path; browsers offer a handful
_EARLY_MAX = 16  # checks that overtake the answer; a lost one costs 0.5 s (RFC 8489 section 6.2.1)
_READS_MAX = 32  # datagrams per socket and turn of the loop, so that nobody starves

_CANDIDATE = re.compile(r"^a=candidate:\S+ \d+ (\S+) \d+ (\S+) (\d+) typ .*$", re.MULTILINE)

Address = tuple[str, int]


# --- Session descriptions ---


def candidates(sdp: str) -> list[Address]:
    """Return where a description says its sender can be reached by UDP over IPv4, in order."""
    found = _CANDIDATE.findall(sdp)
    return [
        (host, int(port))
        for transport, host, port in found
        if transport.lower() == "udp" and re.fullmatch(r"[0-9.]+", host)
    ]


def with_candidate(sdp: str, address: Address | None) -> str:
    """
    Replace the candidates of each media section by one, or by none.

    Sections without candidates stay without: the far side learns our address from our checks
    (a peer-reflexive candidate, RFC 8445 section 7.3.1.3). They must not announce the end of
    their candidates then, or the far side gives up before the first check arrives.
    """
    kept: list[str] = []
    is_replaced = False
    for line in sdp.splitlines(keepends=True):
        if line.startswith("a=candidate:"):
            if address is not None and not is_replaced:
                # Priority of a host candidate (RFC 8445 section 5.1.2.1).
                kept.append("a=candidate:0 1 udp 2130706431 {} {} typ host\r\n".format(*address))
                is_replaced = True
        elif is_replaced or not line.startswith("a=end-of-candidates"):
            is_replaced = is_replaced and not line.startswith("m=")
            kept.append(line)
    return "".join(kept)


# --- Datagrams ---


class Port:
    """One UDP socket on loopback; `take` is called with each datagram and its source."""

    def __init__(self, take: Callable[[bytes, Address], None]) -> None:
        self._take = take
        self._loop = asyncio.get_running_loop()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        try:
            self._socket.bind(("127.0.0.1", 0))
        except OSError:
            self._socket.close()
            raise
        self.address: Address = self._socket.getsockname()
        self._loop.add_reader(self._socket, self._read)

    def send(self, data: bytes, to: Address) -> None:
        """Send, or lose it: a full buffer, a port that nobody listens on, a closed socket."""
        with contextlib.suppress(OSError):
            self._socket.sendto(data, to)

    def close(self) -> None:
        """Close. Idempotent."""
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket)
            self._socket.close()

    def _read(self) -> None:
        for _ in range(_READS_MAX):
            try:
                data, source = self._socket.recvfrom(65_536)
            except OSError:  # empty; or what a send met (ICMP), which is the sender's affair
                return
            self._take(data, source)


Carry = Callable[[Port, bytes, Address, str], None]
"""Sends a datagram from a port to an address; the way is `up` or `down`."""


class Path:
    """
    The datagrams that one offer and its answer arrange.

    The client sees one port (`near`, named in the answer); the upstream sees one port per
    address of the client, as behind a NAT, so that answers find their way back. The first of
    these is named in the offer.

    Args:
        carry: Takes each datagram to its end, as the network is.
        client: Where the offer says that the client is; None: its checks will tell.
    """

    def __init__(self, carry: Carry, client: Address | None) -> None:
        self._carry = carry
        self._clock = asyncio.get_running_loop().time
        self._near: Port | None = None
        self._upstream: Address | None = None
        self._clients: dict[Port, Address | None] = {}
        self._early: list[tuple[bytes, Address, Port]] = []
        self.resource: str | None = None
        self.idle_s_max = IDLE_S_MAX
        self.used_s = self._clock()
        self.offered = self._open(client).address

    def answered(self, upstream: Address) -> Address:
        """Learn where the upstream is; return where the client shall find it."""
        self._upstream = upstream
        self._near = self._near or Port(self._from_client)
        while self._early:
            self._from_upstream(*self._early.pop(0))
        return self._near.address

    def close(self) -> None:
        """Close all ports. Idempotent."""
        for port in filter(None, (*self._clients, self._near)):
            port.close()

    def _open(self, client: Address | None) -> Port:
        port = Port(lambda data, source: self._from_upstream(data, source, port))
        self._clients[port] = client
        return port

    def _from_client(self, data: bytes, source: Address) -> None:
        self.used_s = self._clock()
        ports = {client: port for port, client in self._clients.items()}
        port = ports.get(source)
        if port is None and len(ports) < _SOURCES_MAX:
            port = self._open(source)
        if port is not None and self._upstream is not None:
            self._carry(port, data, self._upstream, "up")

    def _from_upstream(self, data: bytes, source: Address, port: Port) -> None:
        client = self._clients[port]
        if self._near is None and len(self._early) < _EARLY_MAX:
            self._early.append((data, source, port))
        elif source == self._upstream and self._near is not None and client is not None:
            self.used_s = self._clock()
            self._carry(self._near, data, client, "down")
