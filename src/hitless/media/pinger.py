"""
Whether the path to the far side works: an own STUN Binding request every 50 ms.

Every ICE agent must answer an authenticated Binding request (RFC 8445 section 7.3), so this needs
no cooperation and works with any provider. aioice's own consent checks (RFC 7675) notice a dead
path after some 30 s; this one after a quarter of a second.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Final

from aioice import stun

from .liveness import PATH, Liveness


PING_S: Final = 0.05
"""Time between two requests [s]; every leg costs 20 small datagrams a second each way."""

_IN_FLIGHT_MAX: Final = 20
_ALPHA, _BETA = 1 / 8, 1 / 4  # RFC 6298 section 2.3


class _Ping:
    """One request; stands where aioice expects a transaction, without its retransmissions."""

    __slots__ = ("_pinger", "sent_s")

    def __init__(self, pinger: Pinger, sent_s: float) -> None:
        self._pinger = pinger
        self.sent_s = sent_s

    def response_received(self, message: stun.Message, addr: tuple[str, int]) -> None:
        self._pinger.answered(self, message)


class Pinger:
    """
    Asks over the nominated pair of one ICE connection and notes the answers in a `Liveness`.

    Args:
        connection: aioice's connection, after it nominated a pair.
        liveness: Is told of each answer under the name `stun`.
        clock: The loop's clock [s].
        path_silence_s: Shortest silence that counts [s].

    Attributes:
        rtt_s: Smoothed round-trip time [s] (RFC 6298); None before the first answer.
    """

    def __init__(
        self, connection: Any, liveness: Liveness, clock: Any, *, path_silence_s: float = 0.25
    ) -> None:
        self._connection = connection  # Any: private parts of aioice are used
        self._liveness = liveness
        self._clock = clock
        self._path_silence_s = path_silence_s
        self._in_flight: OrderedDict[bytes, tuple[_Ping, dict[bytes, Any]]] = OrderedDict()
        self.rtt_s: float | None = None
        self._rtt_var_s = 0.0
        self.requests_sent = 0
        self.responses_received = 0

    @property
    def limit_s(self) -> float:
        """How long answers may be missing [s]: four requests and the worst round trip."""
        worst_s = 4 * PING_S + (self.rtt_s or 0.0) + 4 * self._rtt_var_s
        return max(self._path_silence_s, worst_s)

    def start(self, now: float) -> None:
        """Expect answers from now on."""
        self._liveness.heard(PATH, now, limit_s=self.limit_s)

    def beat(self, now: float) -> None:
        """Send one request. Never raises: a path that cannot be written to stays silent."""
        pair = self._connection._nominated.get(1)
        if pair is None:
            return
        request = self._connection.build_request(pair, nominate=False)
        request.add_message_integrity(self._connection.remote_password.encode())
        transactions = pair.protocol.transactions
        ping = _Ping(self, now)
        transactions[request.transaction_id] = ping
        self._in_flight[request.transaction_id] = (ping, transactions)
        while len(self._in_flight) > _IN_FLIGHT_MAX:
            self._forget(next(iter(self._in_flight)))
        try:
            pair.protocol.send_stun(request, pair.remote_addr)
        except Exception:  # a closed socket raises AttributeError inside asyncio
            return
        self.requests_sent += 1

    def answered(self, ping: _Ping, message: stun.Message) -> None:
        """Note the answer to one request, if the far side signed it."""
        if message.transaction_id not in self._in_flight:
            return
        if not message.check_message_integrity(self._connection.remote_password.encode()):
            return
        self._forget(message.transaction_id)
        self.responses_received += 1
        now = self._clock()
        self._measure(now - ping.sent_s)
        self._liveness.heard(PATH, now, limit_s=self.limit_s)

    def close(self) -> None:
        """Forget every request that is not answered yet. Idempotent."""
        for transaction_id in tuple(self._in_flight):
            self._forget(transaction_id)

    def _forget(self, transaction_id: bytes) -> None:
        _, transactions = self._in_flight.pop(transaction_id)
        transactions.pop(transaction_id, None)

    def _measure(self, rtt_s: float) -> None:
        if self.rtt_s is None:
            self.rtt_s, self._rtt_var_s = rtt_s, rtt_s / 2
            return
        self._rtt_var_s += _BETA * (abs(self.rtt_s - rtt_s) - self._rtt_var_s)
        self.rtt_s += _ALPHA * (rtt_s - self.rtt_s)
