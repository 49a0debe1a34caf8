"""
All that can happen to one stream between three clients and two servers: explored to the end.

The clients: a publisher that may act on its own, another one that may take the stream over and
then acts on its own as well, and viewers. An operator moves the stream through either server,
which first reads the row and writes later, when it may be another. The publisher is stopped once,
to wake up any time later. The store may lose everything, or come back as an older copy.

Whatever was ever said may be heard at any time, any number of times, in any order, or never: so
the network is a set that only grows, and nothing has to be lost, doubled or delayed one by one.
Every placement that was ever written may be told to anybody by a server that had read it.

The rules are `hitless.core.agreement` itself, through `Rules`. Values are numbered, and each rule
is asked once for each pair of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from simulation.agreement_invariants import (
    STREAM,
    Broken,
    Rules,
    heard,
    is_own,
    settle,
    shown_by,
    taken_over,
    written,
)

from hitless.core import agreement
from hitless.core.agreement import By, Claim, Follower, Row, Shown
from hitless.core.events import Role


PROVIDERS = ("agora", "zegocloud", "webrtc")
FIRST, HEIR, VIEWER, OTHER_VIEWER = "first", "heir", "viewer", "other viewer"
TWO_PUBLISHERS = (FIRST, HEIR, VIEWER)
TWO_VIEWERS = (FIRST, VIEWER, OTHER_VIEWER)


@dataclass(frozen=True)
class Scope:
    """
    What may befall the stream.

    Attributes:
        clients: Who follows it; a stranger takes it over where the heir is not among them.
        moves: How often it is moved, by whomever.
        stops: How often the first publisher is stopped.
        losses: How often the store loses what it acknowledged.
    """

    clients: tuple[str, str, str] = TWO_PUBLISHERS
    moves: int = 2
    stops: int = 1
    losses: int = 0


class State(NamedTuple):
    """
    One state.

    Attributes:
        row: The number of the store's row; NOTHING: it has none.
        told: Numbers of what clients may be told of: every row ever written.
        intents: What each server is about to write, by number; the servers are alike.
        sent: Numbers of the claims and greetings that clients ever sent.
        answers: Answers to claims: the client's place, the row's number, whether it is its own.
        followers: Their numbers.
        moves, stops, losses: How many are left.
        is_awake: Whether the first publisher is.
    """

    row: int
    told: tuple[int, ...]
    intents: tuple[int, int]
    sent: tuple[int, ...]
    answers: tuple[tuple[int, int, bool], ...]
    followers: tuple[int, int, int]
    moves: int
    stops: int
    losses: int
    is_awake: bool


NOTHING = -1

Step = tuple[str, State]
Value = Row | Claim | Shown | Follower


def with_one(values: tuple, value):
    """Return a sorted set with one more in it."""
    return values if value in values else tuple(sorted((*values, value)))


class Model:
    """The states, and what may follow each of them."""

    def __init__(self, rules: Rules, scope: Scope) -> None:
        self.rules, self.scope = rules, scope
        self.values: list[Value] = []
        """Every value that was ever met; States hold their numbers."""
        self.met: dict[tuple[int, int, bool], int] = {}
        """What became of a client (number) that was told of a row (number), its own or not."""
        self._numbers: dict[Value, int] = {}
        self._written: dict[tuple[int, int], tuple[int, bool]] = {}
        self._agreeing: set[tuple[int, tuple[int, int, int]]] = set()

    def start(self) -> State:
        """Return the first state: on air, and everybody who is there has heard of it."""
        first = taken_over(self.rules, None, FIRST, PROVIDERS[0], 0)
        followers = []
        for client in self.scope.clients:
            role = Role.PUBLISHER if client in (FIRST, HEIR) else Role.VIEWER
            follower = Follower(client=client, role=role, stream=STREAM)
            if client != HEIR:
                follower = heard(self.rules, follower, first, own=False)
            followers.append(self._of(follower))
        row, s = self._of(first), self.scope
        nobody = (NOTHING, NOTHING)
        return State(
            row, (row,), nobody, (), (), tuple(followers), s.moves, s.stops, s.losses, True
        )

    def following(self, state: State) -> Iterator[Step]:
        """Return what may happen next, and what comes of it."""
        yield from self._servers(state)
        yield from self._words(state)
        for place, client in enumerate(self.scope.clients):
            if client != FIRST or state.is_awake:
                yield from self._news(state, place)
                yield from self._acts(state, place)
        if not state.is_awake:
            yield "the first publisher wakes up", state._replace(is_awake=True)
        elif state.stops:
            stopped = state._replace(stops=state.stops - 1, is_awake=False)
            yield "the first publisher is stopped", stopped
        if state.losses:
            less = state._replace(losses=state.losses - 1)
            yield "the store loses everything", less._replace(row=NOTHING)
            if state.told[0] != state.row:
                yield "the store is an older copy", less._replace(row=state.told[0])

    def check(self, state: State) -> None:
        """
        See that each epoch is one placement, and that everybody can agree from here on.

        Raises:
            Broken: They do not, once nothing is lost any more.
        """
        if not self.scope.losses:
            epochs = {self.values[number].epoch for number in state.told}
            if len(epochs) < len(state.told):
                raise Broken(f"two placements at one epoch: {state.told}")
        key = (state.row, state.followers)
        if key not in self._agreeing:
            row = None if state.row == NOTHING else self.values[state.row]
            settle(self.rules, row, tuple(self.values[number] for number in state.followers))
            self._agreeing.add(key)

    def facts(self, state: State) -> Iterator[str]:
        """Return what is remarkable about a state: a model that meets none of it proves little."""
        first = self.values[state.followers[0]]
        if state.is_awake and state.stops < self.scope.stops and first.is_fenced:
            yield "a publisher that was stopped found itself fenced"
        if NOTHING not in state.intents:
            yield "both servers were about to write"
        if any(not is_so for _, _, is_so in state.answers):
            yield "a claim was refused"
        if first.alone and first.epoch < self._epoch(state):
            yield "a publisher moved alone, and somebody else was quicker"
        if state.row == NOTHING or self._epoch(state) < first.epoch:
            yield "the store had lost what a client obeyed"

    def _epoch(self, state: State) -> int:
        return 0 if state.row == NOTHING else self.values[state.row].epoch

    def _of(self, value: Value) -> int:
        number = self._numbers.get(value)
        if number is None:
            number = self._numbers[value] = len(self.values)
            self.values.append(value)
        return number

    # --- What servers do ---

    def _servers(self, state: State) -> Iterator[Step]:
        for intent in {*state.intents} - {NOTHING}:
            other = state.intents[0] if state.intents[1] == intent else state.intents[1]
            done = state._replace(intents=tuple(sorted((NOTHING, other))))
            yield f"a server writes {self.values[intent]}", self._claimed(done, intent)[0]
        if not state.moves:
            return
        row = None if state.row == NOTHING else self.values[state.row]
        less = state._replace(moves=state.moves - 1)
        if not any(self.values[number].publisher == HEIR for number in state.told):
            provider = row.provider if row else PROVIDERS[0]
            after = self._of(taken_over(self.rules, row, HEIR, provider, 0))
            yield "the heir starts it", self._at(less, after)
        if row is not None and NOTHING in state.intents:
            for provider in PROVIDERS:
                if provider != row.provider:
                    move = Claim(base_epoch=row.epoch, provider=provider, by=By.OPERATOR)
                    intents = tuple(sorted((max(state.intents), self._of(move))))
                    yield "a server reads, to move it", less._replace(intents=intents)

    def _at(self, state: State, row: int) -> State:
        return state._replace(row=row, told=with_one(state.told, row))

    def _claimed(self, state: State, claim: int) -> tuple[State, bool]:
        key = (state.row, claim)
        known = self._written.get(key)
        if known is None:
            row = None if state.row == NOTHING else self.values[state.row]
            after, is_so = written(self.rules, row, self.values[claim])
            known = (NOTHING if after is None else self._of(after), is_so)
            self._written[key] = known
        number, is_so = known
        return (self._at(state, number) if number != state.row else state), is_so

    # --- What becomes of a message ---

    def _words(self, state: State) -> Iterator[Step]:
        for number in state.sent:
            said = self.values[number]
            if isinstance(said, Shown):
                row = None if state.row == NOTHING else self.values[state.row]
                wish = self.rules.returned(row, said)
                if wish is not None:
                    yield f"{said} is heard", self._claimed(state, self._of(wish))[0]
                continue
            after, is_so = self._claimed(state, number)
            if after.row != NOTHING:
                answer = (self.scope.clients.index(said.publisher), after.row, is_so)
                answered = after._replace(answers=with_one(after.answers, answer))
                yield f"{said} is heard", answered

    def _news(self, state: State, place: int) -> Iterator[Step]:
        client = self.scope.clients[place]
        for row in state.told:
            yield from self._tell(state, place, row, own=is_own(self.values[row], client))
        for to, row, is_so in state.answers:
            if to == place:
                yield from self._tell(state, place, row, own=is_so)

    def _tell(self, state: State, place: int, row: int, *, own: bool) -> Iterator[Step]:
        before, client = state.followers[place], self.scope.clients[place]
        said = self.values[row]
        if client == HEIR and self.values[before].epoch == 0 and said.publisher != HEIR:
            return  # it has not come yet
        key = (before, row, own)
        after = self.met.get(key)
        if after is None:
            now = heard(self.rules, self.values[before], said, own=own)
            after = self.met[key] = self._of(now)
        if after != before:
            yield f"the {client} is told {said}, its own: {own}", self._with(state, place, after)

    def _with(self, state: State, place: int, follower: int) -> State:
        before = state.followers
        return state._replace(followers=(*before[:place], follower, *before[place + 1 :]))

    # --- What clients do by themselves ---

    def _acts(self, state: State, place: int) -> Iterator[Step]:
        client, follower = self.scope.clients[place], self.values[state.followers[place]]
        if follower.is_fenced or follower.epoch == 0:
            return
        if follower.claim is not None:
            sent = with_one(state.sent, self._of(follower.claim))
            if sent != state.sent:
                yield f"the {client} claims", state._replace(sent=sent)
        if self.scope.losses and not state.losses:
            sent = with_one(state.sent, self._of(shown_by(follower)))
            if sent != state.sent:
                yield f"the {client} connects", state._replace(sent=sent)
        if not state.moves or follower.role is Role.VIEWER:
            return
        for provider in PROVIDERS:
            if provider != follower.here:
                alone, _ = agreement.moved_alone(follower, provider, "silence")
                moved = self._with(state, place, self._of(alone))
                yield (
                    f"the {client} moves alone to {provider}",
                    moved._replace(moves=state.moves - 1),
                )


@dataclass
class Exploration:
    """
    Every state, breadth first.

    Attributes:
        states: How many there are.
        steps: How many steps lead from one to another.
        facts: In how many states something remarkable holds.
    """

    model: Model
    states: int = 0
    steps: int = 0
    facts: Counter[str] = field(default_factory=Counter)
    _parents: dict[State, tuple[State | None, str]] = field(default_factory=dict)

    def run(self) -> Exploration:
        """
        Visit them all.

        Raises:
            Broken: An invariant does not hold; with the shortest trace.
        """
        start = self.model.start()
        self._parents[start] = (None, "it is on air")
        level = [start]
        while level:
            ahead: list[State] = []
            for state in level:
                self._visit(state, ahead)
            level = ahead
        self.states = len(self._parents)
        return self

    def _visit(self, state: State, ahead: list[State]) -> None:
        try:
            self.model.check(state)
            self.facts.update(self.model.facts(state))
            for label, after in self.model.following(state):
                self.steps += 1
                if after not in self._parents:
                    self._parents[after] = (state, label)
                    ahead.append(after)
        except Broken as exc:
            raise Broken(f"{self._trace(state)}\n{exc}") from None

    def _trace(self, state: State | None) -> str:
        lines: list[str] = []
        while state is not None:
            state, label = self._parents[state]
            lines.append(label)
        return "\n".join(reversed(lines))


def explore(rules: Rules, scope: Scope) -> Exploration:
    """
    Visit every state that the rules allow.

    Raises:
        Broken: An invariant does not hold; with the shortest trace.
    """
    return Exploration(Model(rules, scope)).run()
