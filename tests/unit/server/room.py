"""
A node in memory for tests of hands and conversations: the real coordinator, rows in a dict.

Nothing here waits for a thread or a socket, so it runs in virtual time.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import SimpleNamespace

from hitless.client import protocol
from hitless.client.protocol import Close, LegNews, Open, Seen
from hitless.core.evidence import Rules
from hitless.core.listing import Answer, Check, Listed, ProviderList
from hitless.core.observation import MediaFresh
from hitless.core.policy import Policy
from hitless.server.coordinator import Coordinator
from hitless.server.database import StoreUnavailable
from hitless.server.hands import Hand
from hitless.server.hub import Hub
from hitless.server.keys import Identity, KeyRole
from hitless.server.metrics import Metrics
from hitless.server.plans import MintRefused
from hitless.server.recording import Recording
from hitless.server.store_members import Role
from hitless.server.store_streams import StreamRow, StreamState


APP = Identity(key="k1", role=KeyRole.CLIENT, scope=None, name="the app")
WATCHER = Identity(key="k2", role=KeyRole.VIEWER_CLIENT, scope=None, name="viewers")


class Rows:
    """The tables `streams` and `members`, as far as the coordinator asks them."""

    def __init__(self):
        self.is_up = True
        self.of, self.present = {}, {}

    def check(self):
        if not self.is_up:
            raise StoreUnavailable("it is down")

    async def one(self, stream):
        self.check()
        return self.of.get(stream)

    async def page(self, *, group, is_on):
        self.check()
        return [row for row in self.of.values() if row.group_id == group]

    async def answer(self, stream, publisher, node):
        self.check()
        self.of[stream] = replace(self.of[stream], node=node)

    async def start(self, start, *, audit=None, wake=None):
        self.check()
        row, epoch = self.of.get(start.stream), start.presented_epoch + 1
        if row is not None:
            is_theirs = row.publisher == start.publisher and row.state is not StreamState.ENDED
            if is_theirs and row.epoch + 1 >= epoch:
                return row
            epoch = max(epoch, row.epoch + 1)
        self.of[start.stream] = row = StreamRow(
            id=start.stream,
            group_id=start.group,
            state=StreamState.STARTING,
            epoch=epoch,
            provider=start.provider,
            is_carried=False,
            publisher=start.publisher,
            node=start.node,
            because=start.because,
            by=start.publisher,
            started_s=0.0,
            changed_s=0.0,
            rescue_provider=None,
            rescue_until_s=None,
        )
        return row

    async def claim(self, claim, *, audit=None, wake=None):
        self.check()
        row = self.of.get(claim.stream)
        if row is None or row.state is StreamState.ENDED or row.epoch != claim.base_epoch:
            return row, False
        self.of[claim.stream] = row = replace(
            row,
            epoch=row.epoch + 1,
            provider=claim.provider,
            is_carried=False,
            by=claim.by,
            because=claim.because,
        )
        return row, True

    async def confirm(self, stream, epoch, provider, *, wake=None):
        self.check()
        row = self.of.get(stream)
        if row is None or (row.epoch, row.provider) != (epoch, provider):
            return None
        self.of[stream] = row = replace(row, is_carried=True, state=StreamState.LIVE)
        return row

    async def end(self, stream, *, publisher, by, because, audit=None, wake=None):
        self.check()
        row = self.of.get(stream)
        if row is None or row.state is StreamState.ENDED or publisher not in (None, row.publisher):
            return None
        self.of[stream] = row = replace(row, state=StreamState.ENDED, because=because)
        return row

    async def join(self, member):
        self.check()
        self.present[member.stream, member.client] = member

    async def leave(self, stream, client):
        self.check()
        self.present.pop((stream, client), None)

    async def seen(self, signs):
        for sign in signs:
            member = self.present.get((sign.stream, sign.client))
            if member is not None:
                epoch = max(member.epoch_seen, sign.epoch)
                member = replace(member, epoch_seen=epoch, provider=sign.provider)
                self.present[sign.stream, sign.client] = member

    async def behind(self, stream, epoch, besides=None):
        return sum(
            member.role is Role.VIEWER and member.epoch_seen < epoch
            for member in await self.of_stream(stream)
        )

    async def of_stream(self, stream):
        return [member for (name, _), member in self.present.items() if name == stream]

    @property
    def streams(self):
        return self

    @property
    def members(self):
        return self


class Plans:
    """Writes plans whose tokens say what they are for."""

    def shown(self, stream, token):
        """Nobody comes back from a store that was lost here."""

    def __init__(self):
        self.made, self.is_refusing = 0, False
        self.credential_s, self.outage_s = 600.0, 21_600.0

    def presented(self, request):
        return int(request.plan.removeprefix("signed:") or 0)

    def plan(self, who, request, role, row, order):
        if self.is_refusing:
            raise MintRefused("no more credentials: this client was removed")
        self.made += 1
        here = row.provider if row else ""
        whole = tuple(dict.fromkeys(name for name in (here, *order) if name))
        word = "pub" if role is Role.PUBLISHER else "view"
        return protocol.Plan(
            stream=request.stream,
            role=role.value,
            epoch=row.epoch if row else 0,
            provider=here,
            order=whole,
            credentials={name: {"token": f"{word}-{name}-{self.made}"} for name in whole},
            credential_s=self.credential_s,
            outage_s=self.outage_s,
            token=f"signed:{row.epoch if row else 0}",
            because=row.because if row else "nobody publishes it yet",
        )


class Room:
    """
    One node with clients. Use with `async with`.

    Args:
        names: Its providers, best first; each is its own adapter.
        policy: The limits of its hands.
    """

    def __init__(self, *names, policy=None):
        self.rows = {name: SimpleNamespace(name=name, config={}) for name in names}
        self.disabled = set()
        self.policy = policy or Policy()
        self.store, self.plans, self.hub = Rows(), Plans(), Hub()
        self.told, self.hands = [], []
        self.config = SimpleNamespace(name="n1", report_s=10.0)
        self.providers = self.judge = self.rescues = self.quotas = self
        self.dark = SimpleNamespace(leg_news=lambda connection, news: None)
        self.loop = asyncio.get_running_loop()
        self.observed = []
        self.rules, self.metrics = Rules(), Metrics()
        self.recording = Recording(self.rules)
        self.coordinator = Coordinator(
            store=self.store,
            hub=self.hub,
            providers=self,
            planner=self.plans,
            node="n1",
            tell=lambda name, **fields: self.told.append((name, fields)),
        )

    async def __aenter__(self):
        return self

    async def __aexit__(self, *exc):
        for hand in self.hands:
            await hand.aclose()
        await self.coordinator.aclose()

    def hand(self, *streams, client="phone", adapters=(), who=APP):
        """Connect a hand that says hello with these streams."""
        hello = protocol.Hello(client=client, hands=True, adapters=adapters, streams=streams)
        hand = Hand(
            hello,
            who,
            coordinator=self.coordinator,
            hub=self.hub,
            source=self,
            policy=self.policy,
            seed=1,
            recording=self.recording.hands,
        )
        self.hands.append(hand)
        self.hub.add(hand)
        hand.send(protocol.Welcome(node="n1"))
        hand.take_up()
        return hand

    def observe(self, observation):
        self.observed.append(observation)

    def gather(self, provider, reached):
        self.observed.append(MediaFresh(provider=provider, **reached._asdict()))

    async def leg_news(self, connection, news):
        """Nobody is rescued here."""

    def placement(self, stream="show"):
        row = self.store.of[stream]
        return row.epoch, row.provider, row.is_carried

    async def cut(self, hand):
        """Lose the connection of a hand."""
        self.hub.remove(hand)
        self.hands.remove(hand)
        await hand.aclose()

    # --- The server's providers ---

    def order(self, clients=(), stream="", beside=""):
        names = [name for name in self.rows if name not in self.disabled]
        limits = [one.adapters for one in clients if one.adapters]
        return tuple(name for name in names if all(name in adapters for adapters in limits))

    def with_room(self, order, here=""):
        return tuple(order), ""

    def placed(self, name):
        """Nobody is limited here."""

    def why_nobody(self, clients=()):
        return "no provider can carry it"

    async def list_providers(self):
        entries = [
            Listed(name=name, priority=n, is_active=name not in self.disabled)
            for n, name in enumerate(self.rows)
        ]
        return ProviderList(providers=tuple(entries))

    async def check_health(self, name):
        return Check(provider=name, answer=Answer.HEALTHY, because="")


async def news(hand, after_s=0.05):
    """Let time pass and return what the client was told meanwhile."""
    await asyncio.sleep(after_s)
    return hand.waiting()


# --- What clients say and are told ---


def publisher(stream="show", **more):
    """Return a stream that a client publishes, as it says it in a hello."""
    return Seen(stream=stream, role="publisher", **more)


def viewer(stream="show", **more):
    """Return a stream that a client watches."""
    return Seen(stream=stream, role="viewer", wait_s=600.0, **more)


def kinds(messages):
    """Return what was said, by name."""
    return [type(message).__name__ for message in messages]


def opened(messages):
    """Return which legs were ordered, each with its provider."""
    return [(one.leg, one.provider) for one in messages if isinstance(one, Open)]


def closed(messages):
    """Return which legs were to be closed."""
    return [one.leg for one in messages if isinstance(one, Close)]


def say(hand, leg, provider, state, **more):
    """Say what became of a leg."""
    hand.hear(LegNews(stream="show", leg=leg, provider=provider, state=state, **more))


async def on_air(room, **more):
    """Return a hand that publishes on the first provider."""
    hand = room.hand(publisher(), **more)
    await news(hand)
    say(hand, 1, "one", "live")
    await news(hand)
    return hand
