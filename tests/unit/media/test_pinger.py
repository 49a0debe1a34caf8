"""Own STUN requests: what they measure, and that they stay few."""

from __future__ import annotations

from typing import Any

import pytest
from aioice import stun

from hitless.media.liveness import Liveness
from hitless.media.pinger import Pinger


KEY = "0123456789012345678901"


class Protocol:
    """Stands where aioice's datagram protocol is."""

    def __init__(self) -> None:
        self.transactions: dict[bytes, Any] = {}
        self.sent: list[stun.Message] = []

    def send_stun(self, message: stun.Message, addr: tuple[str, int]) -> None:
        self.sent.append(message)


class Pair:
    """A nominated candidate pair."""

    remote_addr = ("127.0.0.1", 1)

    def __init__(self) -> None:
        self.protocol = Protocol()


class Connection:
    """As much of aioice's connection as a pinger uses."""

    remote_password = KEY

    def __init__(self) -> None:
        self.pair = Pair()
        self._nominated = {1: self.pair}

    def build_request(self, pair: Pair, nominate: bool) -> stun.Message:
        assert not nominate
        return stun.Message(stun.Method.BINDING, stun.Class.REQUEST)


class World:
    """A pinger, and a clock that the test moves."""

    def __init__(self) -> None:
        self.now = 100.0
        self.connection = Connection()
        self.protocol = self.connection.pair.protocol
        self.liveness = Liveness()
        self.pinger = Pinger(self.connection, self.liveness, lambda: self.now)
        self.pinger.start(self.now)

    def ask(self) -> stun.Message:
        self.pinger.beat(self.now)
        return self.protocol.sent[-1]

    def answer(self, request: stun.Message, key: str = KEY) -> None:
        response = stun.Message(stun.Method.BINDING, stun.Class.RESPONSE, request.transaction_id)
        response.add_message_integrity(key.encode())
        response = stun.parse_message(bytes(response))
        ping = self.protocol.transactions.get(request.transaction_id)
        if ping is not None:
            ping.response_received(response, ("127.0.0.1", 1))


def test_answers_are_signs_of_life_and_measure_the_round_trip() -> None:
    """Smoothed as RFC 6298 does."""
    world = World()
    request = world.ask()
    world.now += 0.08
    world.answer(request)
    assert world.pinger.rtt_s == pytest.approx(0.08)
    assert world.pinger.limit_s == pytest.approx(4 * 0.05 + 0.08 + 4 * 0.04)
    request = world.ask()
    world.now += 0.16
    world.answer(request)
    assert world.pinger.rtt_s == pytest.approx(0.08 + 0.08 / 8)
    assert world.liveness.quiet(world.now) is None


def test_a_path_that_never_answers_is_quiet_after_the_limit() -> None:
    """Counted from when the peer was connected."""
    world = World()
    world.ask()
    world.now += 0.24
    assert world.liveness.quiet(world.now) is None
    world.now += 0.02
    quiet = world.liveness.quiet(world.now)
    assert quiet is not None
    assert quiet.sign == "stun"


def test_an_answer_signed_with_another_key_is_no_sign_of_life() -> None:
    """Anybody can send a datagram."""
    world = World()
    request = world.ask()
    world.now += 0.2
    world.answer(request, key="x" * 22)
    assert world.pinger.rtt_s is None
    assert world.pinger.responses_received == 0


def test_an_answer_counts_once() -> None:
    """Networks duplicate."""
    world = World()
    request = world.ask()
    world.answer(request)
    world.answer(request)
    assert world.pinger.responses_received == 1


def test_at_most_20_requests_wait_for_an_answer() -> None:
    """Old ones are forgotten."""
    world = World()
    for _ in range(100):
        world.ask()
    assert len(world.protocol.transactions) == 20
    world.pinger.close()
    assert world.protocol.transactions == {}


def test_a_socket_that_is_closed_makes_silence_and_no_error() -> None:
    """asyncio raises AttributeError then."""
    world = World()

    def broken(message: stun.Message, addr: tuple[str, int]) -> None:
        raise AttributeError("sendto")

    world.protocol.send_stun = broken  # type: ignore[method-assign]
    world.pinger.beat(world.now)
    world.connection._nominated.clear()
    world.pinger.beat(world.now)
    assert world.pinger.requests_sent == 0
