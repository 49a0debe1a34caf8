"""
One stream, its clients, nodes and store in virtual time, and a seed that decides what goes wrong.

Messages are lost, doubled, late and out of order; clients, nodes and the store are cut off from
each other; nodes are killed in the middle of what they do; publishers are stopped and wake up; the
store's clock jumps; the store is lost with all it acknowledged, or comes back as an older copy.
Then all is well again, everybody is heard, and all must agree.

The rules are `hitless.core.agreement`, looked at while they are applied; the nodes do what
`server/coordinator.py` and `server/node.py` do: compare and set, tell who is connected, read what
changed each second. Two things are taken for granted. A start is not done any more once its client
has given it up: it takes a stream over from whoever has it, so a late one would steal it. And no
copy of the store is older than the last takeover: it would name a publisher that has gone, and a
viewer that corrects its epoch cannot tell who came after.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from simulation.agreement_ends import Act, Client, Node, Odds, Store
from simulation.agreement_invariants import (
    STREAM,
    Broken,
    Rules,
    disagreement,
    heard,
    is_own,
    shown_by,
    taken_over,
    written,
)

from hitless.core import agreement
from hitless.core.agreement import By, Claim, Follower, Row, Shown
from hitless.core.events import Role


PROVIDERS = ("agora", "zegocloud", "webrtc")

TROUBLE_S = 60.0
"""Trouble may begin until then [s of virtual time]."""
CALM_S = 45.0
"""From the last trouble until all must agree [s]: two late messages and a few polls."""
LATE_S_MAX = 15.0
"""The latest message [s]."""
POLL_S = 1.0
OVERLAP_S = 3.0
"""As in `server/node.py`."""
STEPS_MAX = 20_000
"""So many things happen at most, of which a schedule usually has some hundreds."""
OVERDUE_S = 3.0
"""A claim without an answer is sent again [s]."""


class World:
    """
    One schedule.

    Args:
        seed: Decides everything.
        rules: Under test.
        tell: Called with each line of what happens; None: nobody listens.

    Attributes:
        met: How often each kind of thing happened.
    """

    def __init__(
        self, seed: int, rules: Rules | None = None, tell: Callable[[str], object] | None = None
    ) -> None:
        self.rng = rng = random.Random(seed)
        self.rules, self._tell = rules or Rules(), tell
        self.now, self.calm_s = 0.0, TROUBLE_S
        self.met: Counter[str] = Counter()
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        worst = rng.choice((0.0, 0.05, 0.3))
        self.odds = Odds(*(rng.uniform(0.0, worst) for _ in range(3)))
        self.store = Store()
        self.nodes = [Node(f"node {n}") for n in range(rng.randint(2, 3))]
        self.clients = {
            name: Client(Follower(client=name, role=role, stream=STREAM), is_there=name != "heir")
            for name, role in (
                ("first", Role.PUBLISHER),
                ("heir", Role.PUBLISHER),
                *((f"viewer {n}", Role.VIEWER) for n in range(rng.randint(1, 3))),
            )
        }
        for name in self.clients:
            self._at(rng.uniform(0.0, 2.0), lambda name=name: self._comes(name))
        for node in self.nodes:
            self._at(rng.uniform(0.0, POLL_S), lambda node=node: self._poll(node))
        for trouble in rng.choices(TROUBLES, k=rng.randint(3, 14)):
            self._at(rng.uniform(2.0, TROUBLE_S), lambda trouble=trouble: trouble(self))

    def run(self) -> World:
        """
        Live through it.

        Raises:
            Broken: An invariant does not hold.
        """
        until_s = TROUBLE_S + CALM_S
        self._at(TROUBLE_S, self._heal)
        while self._queue and self._queue[0][0] <= until_s:
            self.now, number, act = heapq.heappop(self._queue)
            if number > STEPS_MAX:
                raise Broken("they never stop talking")
            act()
        followers = tuple(client.follower for client in self.clients.values())
        if wrong := disagreement(self.store.row, followers):
            raise Broken(f"all was well again for {CALM_S:g} s, but {wrong}")
        row = self.store.row
        is_sent = row is not None and not self.clients[row.publisher].follower.is_fenced
        if row is None or not (row.is_over or is_sent):
            raise Broken(f"nobody publishes it any more: {row}")
        return self

    def note(self, kind: str, text: str = "") -> None:
        """Count what happened, and tell it."""
        self.met[kind] += 1
        if self._tell is not None:
            self._tell(f"{self.now:8.3f} {kind} {text}\n")

    def _at(self, after_s: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (self.now + after_s, next(self._numbers), act))

    def _carry(self, act: Callable[[], None]) -> None:
        """Carry a message, once or twice, sooner or later or never."""
        is_calm = self.now >= TROUBLE_S
        if not is_calm and self.rng.random() < self.odds.lost:
            self.note("a message is lost")
            return
        copies = 2 if self.rng.random() < self.odds.doubled else 1
        for _ in range(copies):
            is_late = not is_calm and self.rng.random() < self.odds.late
            self._at(self.rng.uniform(0.001, LATE_S_MAX if is_late else 0.1), act)

    # --- Clients ---

    def _comes(self, name: str) -> None:
        client = self.clients[name]
        if not client.is_there:
            return
        self._connect(client)
        self._at(self.rng.uniform(0.0, OVERDUE_S), lambda: self._insist(client))

    def _connect(self, client: Client) -> None:
        """Connect to a node that runs, greet it, and say what may have been lost."""
        up = [node for node in self.nodes if node.is_up]
        if client.follower.is_fenced or not client.is_awake or not up:
            return
        name, node = client.follower.client, self.rng.choice(up)
        if client.node is not None:
            client.node.here.discard(name)
        client.node = node
        node.here.add(name)
        if client.follower.role is Role.PUBLISHER and client.follower.epoch == 0:
            client.starts = n = client.starts + 1
            self._say(node, lambda: self._start(client, n), name)
            return
        shown = shown_by(client.follower)
        self._say(node, lambda: self._greeted(shown), name)
        self._claim(client)

    def _claim(self, client: Client) -> None:
        claim, node = client.follower.claim, client.node
        if claim is not None and node is not None and not client.follower.is_fenced:
            name = client.follower.client
            self._say(node, lambda: self._write(claim), name)

    def _finish(self, client: Client) -> None:
        """Say that a fenced publisher's session is over, until it was heard."""
        up = [node for node in self.nodes if node.is_up]
        if client.is_awake and not client.has_finished and up:
            self._say(self.rng.choice(up), lambda: self._ended(client), client.follower.client)
        if not client.has_finished:
            self._at(OVERDUE_S, lambda: self._finish(client))

    def _insist(self, client: Client) -> None:
        """Connect again if the node is gone or has said nothing; claim again what is overdue."""
        if client.is_awake and not client.follower.is_fenced:
            is_alone = client.node is None or client.follower.epoch == 0
            if is_alone or self.rng.random() < 0.1:
                self._connect(client)
            else:
                self._claim(client)
        self._at(OVERDUE_S, lambda: self._insist(client))

    def _hear(self, name: str, row: Row, *, own: bool) -> None:
        client = self.clients[name]
        if not client.is_awake:
            client.waiting.append((row, own))
            return
        was = client.follower
        if was.epoch == 0 and was.role is Role.PUBLISHER and row.publisher != name:
            return  # what was said before its start has another address
        client.follower = now = heard(self.rules, was, row, own=own)
        if now != was:
            self.note("a placement is obeyed", f"by the {name}: {row.epoch} {row.provider}")
        if now.is_fenced and not was.is_fenced:
            self.note("a publisher is fenced", name)
            self._finish(client)
        if now != was:
            self._claim(client)

    # --- Nodes ---

    def _say(self, node: Node, act: Act, name: str) -> None:
        """Let a client say something to a node; no connection outlives its node."""
        life = node.life
        self._carry(lambda: self._ask(node, life, act, name))

    def _ask(self, node: Node, life: int, act: Act, name: str) -> None:
        """Do something in the store, and tell everybody what came of it, the asker first."""

        def do() -> None:
            if node.life != life or not node.is_up or node.is_cut_off:
                return  # killed before the write, or the store does not answer
            before = self.store.row
            row, is_so = act()
            if row is None:
                return
            if row != before:
                self._wake(node)
            self._at(self.rng.uniform(0.0, 0.02), lambda: answer(row, is_so))

        def answer(row: Row, is_so: bool) -> None:
            if node.life != life:
                return  # killed after the write: nobody is told but by who reads it
            if name:
                self._send(node, name, row, own=is_so)
            self._changed(node, row)

        self._at(self.rng.uniform(0.0, 0.05), do)

    def _start(self, client: Client, number: int) -> tuple[Row | None, bool]:
        if client.starts != number or client.follower.epoch > 0:
            return None, False  # given up
        name, provider = client.follower.client, self.rng.choice(PROVIDERS)
        row = taken_over(self.rules, self.store.row, name, provider, 0)
        return self._put(row, f"started by the {name}"), False

    def _ended(self, client: Client) -> tuple[Row | None, bool]:
        """
        End the stream, if the row says that this one publishes it: a start of its own, repeated
        late, may have taken it back from who fenced it.
        """
        client.has_finished, row = True, self.store.row
        if row is not None and row.publisher == client.follower.client and not row.is_over:
            row = self._put(replace(row, is_over=True), f"ended by the {row.publisher}")
        return row, False

    def _greeted(self, shown: Shown) -> tuple[Row | None, bool]:
        claim = self.rules.returned(self.store.row, shown)
        if claim is None:
            return self.store.row, False
        self.note("the store is corrected", f"by the {shown.client}, at {shown.epoch}")
        row, is_so = self._write(claim)
        return row, is_so and claim.by is By.PUBLISHER

    def _write(self, claim: Claim) -> tuple[Row | None, bool]:
        row, is_so = written(self.rules, self.store.row, claim)
        if not is_so:
            self.note("a claim is refused", f"{claim.base_epoch} {claim.provider}")
        return (None if row is None else self._put(row, f"claimed by {claim.by}")), is_so

    def _put(self, row: Row, because: str) -> Row:
        """Write a row, if it is another one."""
        store = self.store
        if row != store.row:
            is_known = store.placements.setdefault(row.epoch, (row.provider, row.publisher))
            if is_known != (row.provider, row.publisher):
                raise Broken(f"two placements at epoch {row.epoch}: {is_known} and {row}")
            if store.row is None or store.row.publisher != row.publisher:
                store.copies = [None]
            store.row, store.changed_s = row, self._clock_s()
            self.note("a row is written", f"{row.epoch} {row.provider} {because}")
        return row

    def _clock_s(self) -> float:
        return self.now + self.store.jump_s

    def _wake(self, by: Node) -> None:
        for node in self.nodes:
            if node is not by:
                self._carry(lambda node=node: self._read(node))

    def _read(self, node: Node) -> None:
        """Read the row, as after a wake-up; what was read is told a little later."""
        if node.is_up and not node.is_cut_off and self.store.row is not None:
            row, life = self.store.row, node.life
            late_s = self.rng.uniform(0.0, 0.05)
            self._at(late_s, lambda: self._changed(node, row) if node.life == life else None)

    def _poll(self, node: Node) -> None:
        self._at(POLL_S, lambda: self._poll(node))
        if not node.is_up or node.is_cut_off:
            return
        if self.store.row is not None and self.store.changed_s >= node.since_s:
            self._read(node)
        node.since_s = self._clock_s() - OVERLAP_S

    def _changed(self, node: Node, row: Row) -> None:
        """Tell who is connected here of a newer placement."""
        if row.epoch > node.announced:
            node.announced = row.epoch
            for name in sorted(node.here):
                self._send(node, name, row, own=is_own(row, name))

    def _send(self, node: Node, name: str, row: Row, *, own: bool) -> None:
        life = node.life
        self._carry(lambda: self._hear(name, row, own=own) if node.life == life else None)

    # --- Trouble ---

    def _live_publisher(self) -> Client | None:
        here = [
            client
            for client in self.clients.values()
            if client.follower.role is Role.PUBLISHER and client.follower.epoch > 0
            if client.is_awake and not client.follower.is_fenced
        ]
        return self.rng.choice(here) if here else None

    def moves_alone(self) -> None:
        """A publisher saves its stream, and claims afterwards."""
        client = self._live_publisher()
        if client is not None:
            provider = self.rng.choice([p for p in PROVIDERS if p != client.follower.here])
            client.follower, _ = agreement.moved_alone(client.follower, provider, "silence")
            self.note("a publisher moves alone", provider)
            self._claim(client)

    def operator_moves(self) -> None:
        """A node reads the row, decides, and writes later; sometimes two of them at once."""
        for node in self.rng.sample(self.nodes, self.rng.randint(1, 2)):
            row = self.store.row
            if row is None or not node.is_up or node.is_cut_off:
                continue
            provider = self.rng.choice([p for p in PROVIDERS if p != row.provider])
            move = Claim(base_epoch=row.epoch, provider=provider, by=By.OPERATOR)
            self.note("an operator moves", provider)
            slow_s = self.rng.choice((0.0, 0.2, 5.0))
            self._decide(node, move, slow_s)

    def _decide(self, node: Node, move: Claim, slow_s: float) -> None:
        life = node.life
        self._at(slow_s, lambda: self._ask(node, life, lambda: self._write(move), ""))

    def heir_starts(self) -> None:
        """Another publisher takes the stream over."""
        heir = self.clients["heir"]
        if not heir.is_there:
            heir.is_there = True
            self._comes("heir")

    def publisher_stops(self) -> None:
        """A publisher is stopped in its tracks, and wakes up later with all that it missed."""
        client = self._live_publisher()
        if client is not None:
            client.is_awake = False
            self.note("a publisher is stopped", client.follower.client)
            self._at(self.rng.uniform(0.5, 30.0), lambda: self._wakes(client))

    def _wakes(self, client: Client) -> None:
        if not client.is_awake:
            client.is_awake = True
            waiting, client.waiting = client.waiting, []
            for row, own in waiting:
                self._hear(client.follower.client, row, own=own)
            self._connect(client)

    def node_killed(self) -> None:
        """A node is killed; its clients connect elsewhere, and it comes back with nothing."""
        node = self.rng.choice(self.nodes)
        if node.is_up:
            self._kill(node)
            self._at(self.rng.uniform(0.5, 10.0), lambda: self._back(node))

    def _kill(self, node: Node) -> None:
        self.note("a node is killed", node.name)
        node.is_up, node.announced = False, 0
        node.life += 1
        for name in sorted(node.here):
            client = self.clients[name]
            client.node = None
            self._at(self.rng.uniform(0.0, 2.0), lambda client=client: self._connect(client))
        node.here.clear()

    def _back(self, node: Node) -> None:
        node.is_up, node.since_s = True, float(1 << 62)

    def partition(self) -> None:
        """A node cannot reach the store; its clients do not notice."""
        node = self.rng.choice(self.nodes)
        node.is_cut_off = True
        self.note("a node is cut off", node.name)
        self._at(self.rng.uniform(0.5, 20.0), lambda: setattr(node, "is_cut_off", False))

    def clock_jumps(self) -> None:
        """The store's clock is set: forwards, or back."""
        self.store.jump_s += self.rng.choice((-3600.0, -30.0, -2.0, 2.0, 30.0, 3600.0))
        self.note("the clock jumps")

    def backup(self) -> None:
        """Somebody copies the store."""
        self.store.copies.append(self.store.row)

    def store_lost(self) -> None:
        """The store is lost with all it acknowledged since a copy, if there is one."""
        self.note("the store is lost")
        for node in self.nodes:
            if node.is_up:
                self._kill(node)
            self._at(self.rng.uniform(0.2, 3.0), lambda node=node: self._back(node))
        self.store.row = self.rng.choice(self.store.copies)
        self.store.placements.clear()

    def _heal(self) -> None:
        """All is well from now on; everybody connects anew."""
        for node in self.nodes:
            node.is_up, node.is_cut_off = True, False
        for client in self.clients.values():
            if client.is_there:
                self._wakes(client)
                for after_s in (LATE_S_MAX, LATE_S_MAX + 10.0):  # the first may meet no row yet
                    again_s = after_s + self.rng.uniform(0.0, 5.0)
                    self._at(again_s, lambda client=client: self._connect(client))


TROUBLES: tuple[Callable[[World], None], ...] = (
    World.moves_alone,
    World.moves_alone,
    World.operator_moves,
    World.operator_moves,
    World.heir_starts,
    World.publisher_stops,
    World.node_killed,
    World.partition,
    World.clock_jumps,
    World.backup,
    World.store_lost,
)
