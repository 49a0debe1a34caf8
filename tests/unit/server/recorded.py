"""
A node that has something to tell: a hand that failed over, and a fleet move; for recordings of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import msgspec
from unit.server.room import publisher
from unit.server.test_fleet import fleet, order

from hitless.client import protocol
from hitless.client.protocol import Close, LegNews, Open
from hitless.core.agreement import By
from hitless.core.policy import Policy
from hitless.server.clock import wall_s
from hitless.server.coordinator import Rejected
from hitless.server.hands import Hand, Openable
from hitless.server.hub import Connection
from hitless.server.limits import RateLimit
from hitless.server.redaction import redacted


SHOW, PHONE = "morning show", "alice-phone"
SECRET = "hk_3f9c1b2a_" + "s" * 32
SILENCE = f"{PHONE} hears nothing of {SHOW}. It has {SECRET}"


async def until(hand, kind, *, among=None):
    """Return the first message of a kind that the client is told; bounded by the test."""
    said = among if among is not None else []
    while True:
        said += hand.waiting()
        for n, message in enumerate(said):
            if isinstance(message, kind):
                del said[: n + 1]
                return message
        await asyncio.sleep(0.01)


async def hand_that_fails_over(node, *, because=SILENCE):
    """Return a connected hand: its first provider was silent, and it is on the next one."""
    hello = protocol.Hello(client=PHONE, hands=True, streams=(publisher(SHOW),))
    hand = Hand(
        hello,
        node.ring.check(node._environ["HITLESS_CLIENT_KEY"], wall_s()),
        coordinator=node.coordinator,
        hub=node.hub,
        source=Openable(node.providers, node.judge, ()),
        policy=Policy(),
        seed=7,
        recording=node.judge.recording.hands,
    )
    node.hub.add(hand)
    hand.take_up()
    said = []
    first = await until(hand, Open, among=said)
    say(hand, first, "live")
    say(hand, first, "silent", because=because, mediaAge=0.3)
    second = await until(hand, Open, among=said)
    say(hand, second, "live")
    await until(hand, Close, among=said)
    return hand, first.provider, second.provider


def say(hand, leg, state, **more):
    """Say what became of a leg that was ordered."""
    hand.hear(LegNews(stream=SHOW, leg=leg.leg, provider=leg.provider, state=state, **more))


async def bad_minute(engine, *, streams=30):
    """Return the recording of a node after a failover of a hand and a fleet move, as in a file."""
    async with fleet(engine) as it:
        await it.begin(
            agora={"priority": 0},
            webrtc={"priority": 1, "starts_per_s": 8.0, "config": {"max_streams": 20}},
            zegocloud={"priority": 1, "starts_per_s": 4.0},
        )
        hand, _, _ = await hand_that_fails_over(it.one)
        for n in range(streams):
            await it.stream(f"quiet-{n}", live=n % 3 > 0, group=f"room-{n // 2}")
        await it.one.orders.order(order(by=By.OPERATOR, share=0.7))
        for _ in range(4):
            await it.later(1.0)
        await hand.aclose()
        judge = it.one.judge
        return as_file(judge.recording.excerpt(0.0, judge.standing)), await it.where()


async def hour_of_moves(engine):
    """
    Return the recording of a node, as in a file, after an operator's moves, with a group and a
    provider that is emptied, and a rescue of viewers.
    """
    async with fleet(engine) as it:
        await it.begin(agora={"priority": 0}, webrtc={"priority": 1}, zegocloud={"priority": 2})
        one, move = it.one, it.one.coordinator.move
        for name in (SHOW, "guest", "third"):
            await it.stream(name, group="hosts")
        because = f"{PHONE} asked for it. It has {SECRET}"
        await move(SHOW, "webrtc", by=By.OPERATOR, because=because)
        await settled(one)
        await overtaken(one, "guest", because)
        await settled(one)
        await rescued(it, "lonely", because)
        await it.stream("fleeing")
        await one.orders.order(order(by=By.OPERATOR))
        for _ in range(4):
            await it.later(1.0)
        return as_file(one.judge.recording.excerpt(0.0, one.judge.standing)), await it.where()


async def settled(node):
    """Wait until nobody is brought along any more."""
    async with asyncio.timeout(5.0):
        while node.coordinator._tasks:
            await asyncio.gather(*node.coordinator._tasks)


async def overtaken(node, stream, because):
    """Move a stream, while another move of it is written between the look and the claim."""
    coordinator, streams = node.coordinator, node.store.streams
    before = await streams.one(stream)
    await coordinator.move(stream, "zegocloud", by=By.OPERATOR, because=because, is_alone=True)
    coordinator._store = SimpleNamespace(
        streams=SimpleNamespace(one=partial(_returned, before), claim=streams.claim)
    )
    try:
        with contextlib.suppress(Rejected):
            await coordinator.move(stream, "agora", by=By.OPERATOR, because=because)
    finally:
        coordinator._store = node.store


async def rescued(it, stream, because):
    """One viewer of a stream is cut off and rescued; another is refused; the leg is closed."""
    node = it.one
    await it.stream(stream)
    who = node.ring.check(node._environ["HITLESS_CLIENT_KEY"], wall_s())
    node.rescues._rate = RateLimit(rate_per_s=0.001, burst=1.0)
    for client in (PHONE, "bob-tv"):
        viewer = Connection(client, who)
        viewer.roles[stream] = "viewer"
        lost = LegNews(stream=stream, leg=1, provider="agora", state="silent", because=because)
        await node.rescues.leg_news(viewer, lost)
        await settled(node)
    await node.rescues._keep_or_close(
        replace(await node.store.streams.one(stream), provider="webrtc")
    )


async def _returned(value, *_):
    return value


def as_file(excerpt):
    """Return an excerpt as it is in a file: as the server answers it and the command writes it."""
    document = excerpt()
    json.dumps(document, allow_nan=False)  # the server would make null of an infinite number
    return redacted(msgspec.json.decode(msgspec.json.encode(document)))
