"""hitless.server.webhooks: an outbox on both engines, and receivers on this machine"""

import asyncio
import contextlib
import random
from types import SimpleNamespace

import pytest
from unit.server.receiver import Receiver

from hitless.server.alert_texts import read
from hitless.server.alerts import Alerts
from hitless.server.database import StoreUnavailable
from hitless.server.store import Store
from hitless.server.webhook_post import LegNote, LegSaid
from hitless.server.webhooks import LANE_MAX, LANES, Pace, Webhooks


pytest_plugins = ("postgres_server",)
pytestmark = pytest.mark.realtime

LIMIT_S = 60.0
PACE = Pace(
    post_s=2.0, hold_s=10.0, poll_s=0.05, retry_s=0.02, retry_s_max=0.05, rest_s_max=0.05,
    tries_max=4,
)  # fmt: skip


def message(provider="agora"):
    """Return an alert."""
    said = {"provider": provider, "verdict": "down", "because": "HTTP 503"}
    (found,) = Alerts("n1", f"n1-{provider}").feed(read("verdict.changed", said), 0.0)
    return found


def note(epoch=1, stream="show"):
    """Return a note on a leg."""
    return LegNote(what=LegSaid.LIVE, stream=stream, provider="agora", channel=stream, epoch=epoch)


class Sender:
    """Webhooks that run, and what they told. Use with `async with`."""

    def __init__(self, store, *hooks, pace=PACE):
        self.told = []
        self.webhooks = Webhooks(
            hooks,
            store,
            tell=lambda name, **fields: self.told.append((name, fields["message"])),
            rng=random.Random(1),
            allow_private=True,
            pace=pace,
        )

    async def __aenter__(self):
        self._running = asyncio.create_task(self.webhooks.run())
        return self

    async def __aexit__(self, *exc):
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)

    async def until(self, name, count=1):
        """Wait until so many events of a name were told; whoever calls bounds it."""
        while sum(one == name for one, _ in self.told) < count:  # noqa: ASYNC110 -- nobody tells
            await asyncio.sleep(0.01)


def go(test, engine=None):
    """Run a test with a store and a receiver, bounded."""

    async def bounded():
        async with asyncio.timeout(LIMIT_S), contextlib.AsyncExitStack() as stack:
            store = None
            if engine is not None:
                store = Store(await stack.enter_async_context(engine.database()))
            await test(await stack.enter_async_context(Receiver()), store)

    asyncio.run(bounded())


def test_alerts_and_legs_go_to_those_who_want_them(engine):
    async def test(receiver, store):
        hooks = receiver.hook("all", legs=True), receiver.hook("legs", alerts=False, legs=True)
        async with Sender(store, *hooks, receiver.hook("alerts")) as sender:
            assert sender.webhooks.wants_legs
            await sender.webhooks.alert(message())
            await sender.webhooks.leg(note())
            await receiver.until(4)
            await sender.until("webhook.delivered", 4)
        types = {
            name: sorted(body["type"] for body in receiver.bodies(name))
            for name in ("all", "legs", "alerts")
        }
        assert types == {"all": ["alert", "leg.live"], "legs": ["leg.live"], "alerts": ["alert"]}

    go(test, engine)


def test_the_same_leg_told_by_two_nodes_is_sent_once(engine):
    async def test(receiver, store):
        hook = receiver.hook(legs=True)
        async with Sender(store, hook) as one, Sender(store, hook) as other:
            await asyncio.gather(*(each.webhooks.leg(note()) for each in (one, other) * 3))
            await other.webhooks.leg(note(epoch=2))
            await receiver.until(2)
            await asyncio.sleep(10 * PACE.poll_s)
        assert sorted(body["epoch"] for body in receiver.bodies()) == [1, 2]

    go(test, engine)


def test_what_is_not_taken_is_tried_again_with_the_same_id(engine):
    async def test(receiver, store):
        receiver.statuses = [503, 500]
        async with Sender(store, receiver.hook()) as sender:
            await sender.webhooks.alert(message())
            await sender.until("webhook.delivered")
        assert len({headers["Hitless-Id"] for _, headers, _ in receiver.got}) == 1
        assert ["webhook.failed", "webhook.failed", "webhook.delivered"] == [
            name for name, _ in sender.told
        ]

    go(test, engine)


def test_messages_of_one_stream_come_in_order_though_some_are_tried_again(engine):
    async def test(receiver, store):
        receiver.statuses = [503, 200, 503, 200, 503]
        async with Sender(store, receiver.hook(legs=True)) as sender:
            for epoch in range(1, 7):
                await sender.webhooks.leg(note(epoch))
            await sender.until("webhook.delivered", 6)
        tried = [body["epoch"] for body in receiver.bodies()]
        assert tried == sorted(tried)
        assert sorted(set(tried)) == [1, 2, 3, 4, 5, 6]

    go(test, engine)


def test_a_message_is_given_up_after_its_tries_or_at_once_where_that_is_hopeless(engine):
    async def test(receiver, store):
        receiver.statuses = [410] + [503] * PACE.tries_max
        async with Sender(store, receiver.hook()) as sender:
            await sender.webhooks.alert(message("gone"))
            await sender.until("webhook.gave_up")
            assert len(receiver.got) == 1
            await sender.webhooks.alert(message("down"))
            await sender.until("webhook.gave_up", 2)
            assert len(receiver.got) == 1 + PACE.tries_max
            await sender.webhooks.alert(message("well"))
            await sender.until("webhook.delivered")

    go(test, engine)


def test_what_one_node_could_not_deliver_another_one_does(engine):
    """
    Also if the first one was killed with the message in its hand.
    """

    async def test(receiver, store):
        pace = Pace(post_s=0.2, hold_s=1.0, poll_s=0.05)
        receiver.delay_s = 30.0
        async with Sender(store, receiver.hook(), pace=pace) as killed:
            await killed.webhooks.alert(message())
            await receiver.until(1)
        receiver.delay_s = 0.0
        async with Sender(store, receiver.hook(), pace=pace) as sender:
            await sender.until("webhook.delivered")
        assert len({headers["Hitless-Id"] for _, headers, _ in receiver.got}) == 1

    go(test, engine)


def test_a_webhook_that_hangs_holds_up_no_other(engine):
    async def test(receiver, store):
        async with Receiver() as hanging:
            hanging.delay_s = 30.0
            hooks = hanging.hook("hangs"), receiver.hook("well")
            async with Sender(store, *hooks) as sender:
                for name in "abcdefgh":
                    await sender.webhooks.alert(message(name))
                await receiver.until(8)
                await sender.until("webhook.delivered", 8)
            assert len(hanging.got) <= LANES * (1 + int(LIMIT_S / PACE.post_s))

    go(test, engine)


class Away:
    """A store that does not answer."""

    def __getattr__(self, name):
        async def fails(*args, **more):
            raise StoreUnavailable("it is down")

        return fails


def test_while_the_store_is_away_alerts_come_from_memory_and_are_bounded():
    """
    That it is away is the one thing that an outbox cannot tell.
    """

    async def test(receiver, _):
        store = SimpleNamespace(outbox=Away())
        sender = Sender(store, receiver.hook())
        for _ in range(LANE_MAX + 5):  # of one alert, so in one lane
            await sender.webhooks.alert(message())
        assert len(sender.webhooks) == LANE_MAX
        assert [name for name, _ in sender.told] == ["webhook.dropped"] * 5
        async with sender:
            await receiver.until(LANE_MAX)
            await sender.until("webhook.delivered", LANE_MAX)
        assert len(sender.webhooks) == 0

    go(test)
