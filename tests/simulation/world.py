"""
A random world: providers that live and die, a backend that says this and that, a publisher and
viewers, each a client of its own that knows only what it hears.

The seed decides everything. The truth of the world decides what each leg carries: a publisher's
leg while its provider takes and forwards it, a viewer's leg while the publisher's leg on that
provider carries. Clients hear of it late, twice, or when it is no longer true.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from simulation.invariants import Checker
from simulation.policies import a_policy

from hitless.core.attempts import PATIENCE_S, Failure
from hitless.core.events import (
    AskList,
    CheckHealth,
    CloseLeg,
    Effect,
    EndRequested,
    ErrorRecorded,
    Event,
    HealthChecked,
    LegAbsent,
    LegDoubted,
    LegFailed,
    LegHeard,
    LegOpened,
    LegSilent,
    ListUnavailable,
    OpenLeg,
    ProvidersListed,
    Role,
    StreamRequested,
    SuccessRecorded,
    SwitchRequested,
    Ticked,
)
from hitless.core.listing import Answer, Listed, ProviderList
from hitless.core.placement import order
from hitless.core.publishing import ROUND_S_MIN
from hitless.core.state import Phase, Session, State
from hitless.core.viewing import ASK_AGAIN_S, ASK_INTERVAL_S_MAX
from hitless.errors import Retry


NAMES = ("agora", "zegocloud", "webrtc", "livekit")
MODES = ("up", "slow", "killed", "hangs", "gray_ingest", "gray_forwarding", "refuses")
SILENCE_S = 0.3
"""A client hears of silence at most so long after it began [s]."""
OPEN_S = 0.5
"""A provider that is up opens a leg within this time [s]."""
LATE_S = 0.1
"""An event reaches its client at most so late [s]."""
AGAIN_S = 1.0
"""A client hears again of a silence that lasts, this often [s]."""
ABSENT_S = 3.0
"""The longest Retry-After of a provider that knows of no publisher [s]."""


@dataclass
class Truth:
    """One provider as it really is; `since_s`: since when it is so [s]."""

    mode: str = "up"
    life: int = 0
    since_s: float = 0.0

    @property
    def forwards(self) -> bool:
        """Whether media goes through."""
        return self.mode in ("up", "slow")


@dataclass
class TrueLeg:
    """A leg as it really is: on which life of its provider, and since when it is quiet or fed."""

    id: int
    provider: str
    life: int
    is_open: bool = False
    quiet_s: float | None = None
    is_doubted: bool = False
    fed_s: float = 0.0
    is_said_silent: bool = False
    next_s: float = 0.0


@dataclass
class Client:
    """One process: a client, its session, and its own way to the world."""

    name: str
    role: Role
    checker: Checker
    seed: int
    is_connected: bool = True
    connected_s: float = 0.0
    legs: dict[int, TrueLeg] = field(default_factory=dict)
    dark_s: float | None = None
    wake_s: float = float("inf")
    listed_s: float = 0.0
    record: list[tuple[float, Event, tuple[Effect, ...]]] = field(default_factory=list)

    @property
    def session(self) -> Session | None:
        """Return its session, if it has one."""
        return self.checker.state.sessions.get(self.name)


class World:
    """
    One world.

    Args:
        seed: Decides everything.
        length_s: How long it lasts at most [s].
        steps_max: After so many steps of its clients it is wound down.
    """

    def __init__(self, seed: int, *, length_s: float = 60.0, steps_max: int = 260) -> None:
        self.rng = rng = random.Random(seed)
        self.policy = a_policy(rng)
        self.length_s, self.steps_max = length_s, steps_max
        self.now, self.steps, self._count = 0.0, 0, 0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        names = NAMES[: rng.randint(1, 4)]
        self.truths = {name: Truth() for name in names}
        for truth in self.truths.values():
            if rng.random() < 0.25:
                truth.mode = rng.choice(MODES)
        self.listed = ProviderList(
            providers=tuple(Listed(name=n, priority=i) for i, n in enumerate(names))
        )
        self.is_backend_up = True
        self.lies: dict[str, Answer] = {}
        self.clients = [self._client("p", Role.PUBLISHER), self._client("v", Role.VIEWER)]
        if rng.random() < 0.3:
            self.clients.append(self._client("w", Role.VIEWER))
        self.dark_bounds = {Role.PUBLISHER: self._bound(), Role.VIEWER: self._viewer_bound()}

    def run(self) -> None:
        """Live through it; raises `AssertionError` where an invariant breaks."""
        for client in self.clients:
            self._later(self.rng.random() * 3.0, partial(self._request, client))
        self._later(self.rng.expovariate(1 / 3.0), self._trouble)
        while self._due and self.now < self.length_s and self.steps < self.steps_max:
            self._next()
        for client in self.clients:
            if client.session is not None:
                self._tell(client, EndRequested(session=client.name, because="the world ends"))
            assert client.checker.open_legs == {}, "legs outlive their session"
            assert client.checker.wakeup_s() == float("inf"), "timers outlive the last session"

    # --- Time ---

    def _later(self, after_s: float, do: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._due, (self.now + after_s, self._count, do))

    def _next(self) -> None:
        wake_s, n = min((client.wake_s, n) for n, client in enumerate(self.clients))
        if wake_s <= self._due[0][0]:
            self.now = max(self.now, wake_s)
            self._tell(self.clients[n], Ticked())
        else:
            self.now, _, do = heapq.heappop(self._due)
            do()

    def _tell(self, client: Client, event: Event) -> None:
        self.steps += 1
        effects = client.checker.step(event, self.now)
        client.wake_s = client.checker.wakeup_s()
        client.record.append((self.now, event, effects))
        for effect in effects:
            self._perform(client, effect)
        self._sense()
        self._look()

    def _report(self, client: Client, event: Event, after_s: float = 0.0) -> None:
        """Let a client hear of something soon, and now and then twice."""
        late_s = after_s + self.rng.random() * LATE_S
        self._later(late_s, lambda: self._tell(client, event))
        if self.rng.random() < 0.03:
            self._later(late_s + self.rng.random() * 5.0, lambda: self._tell(client, event))

    # --- Orders ---

    def _perform(self, client: Client, effect: Effect) -> None:
        match effect:
            case OpenLeg():
                truth = self.truths[effect.provider]
                leg = TrueLeg(id=effect.leg, provider=effect.provider, life=truth.life)
                client.legs[leg.id] = leg
                slow_s = self.rng.uniform(0.5, 6.0) if truth.mode == "slow" else 0.0
                answer_s = self.rng.uniform(0.02, OPEN_S - LATE_S) + slow_s
                self._later(answer_s, lambda: self._answer(client, leg))
            case CloseLeg():
                client.legs.pop(effect.leg, None)
            case AskList():
                self._later(self.rng.uniform(0.005, 0.1), lambda: self._list(client))
            case CheckHealth():
                name = effect.provider
                self._later(self.rng.uniform(0.005, 0.1), lambda: self._health(client, name))
            case _:
                pass

    def _answer(self, client: Client, leg: TrueLeg) -> None:
        """A provider answers to a leg that is opened, as it is just now."""
        if leg.id not in client.legs and self.rng.random() < 0.7:
            return  # it was let go meanwhile; now and then the answer comes all the same
        truth, is_publisher = self.truths[leg.provider], client.role is Role.PUBLISHER
        mode = truth.mode if client.is_connected else "hangs"
        if mode == "killed":
            leg.life = -1
            self._fail(client, leg, "Unreachable", Retry.SAME)
        elif mode == "hangs":
            if self.rng.random() < 0.5:
                after_s = self.rng.choice([0.0, 1.0, 2.5])
                self._fail(client, leg, "Unreachable", Retry.SAME, answered=False, after_s=after_s)
        elif mode == "refuses":
            retry_after_s = self.rng.choice([None, None, 0.5, 2.0, 20.0, 9999.0])
            self._fail(client, leg, "Refused", Retry.SAME, retry_after_s=retry_after_s)
        elif mode.startswith("gray") and is_publisher:
            self._fail(client, leg, "MediaLost", Retry.NEXT, after_s=0.8)
        elif is_publisher or self._is_fed(leg.provider):
            leg.life, leg.is_open, leg.fed_s = truth.life, True, self.now
            self._report(client, LegOpened(session=client.name, leg=leg.id))
            self._later(LATE_S, self._sense)
        else:
            retry_after_s = self.rng.choice([None, 1.0, 1.0, ABSENT_S])
            client.legs.pop(leg.id, None)
            event = LegAbsent(session=client.name, leg=leg.id, retry_after_s=retry_after_s)
            self._report(client, event)

    def _fail(
        self,
        client: Client,
        leg: TrueLeg,
        error: str,
        retry: Retry,
        *,
        answered: bool = True,
        retry_after_s: float | None = None,
        after_s: float = 0.0,
    ) -> None:
        failure = Failure(
            error=error,
            because=f"the world says {error}",
            retry=retry,
            answered=answered,
            retry_after_s=retry_after_s,
        )
        client.legs.pop(leg.id, None)
        self._report(client, LegFailed(session=client.name, leg=leg.id, failure=failure), after_s)

    def _list(self, client: Client) -> None:
        if self.is_backend_up and client.is_connected:
            if client.checker.state.listed != self.listed:
                client.listed_s = self.now
            self._tell(client, ProvidersListed(listed=self.listed))
        else:
            self._tell(client, ListUnavailable(because="no answer", answered=False))

    def _health(self, client: Client, name: str) -> None:
        fine = self.truths[name].mode not in ("killed", "hangs")
        answer = self.lies.get(name, Answer.HEALTHY if fine else Answer.UNHEALTHY)
        if not (self.is_backend_up and client.is_connected):
            answer = Answer.UNANSWERED
        carrying = [leg for leg in client.legs.values() if leg.provider == name]
        flows = any(self._carries(client, leg) for leg in carrying)
        event = HealthChecked(
            provider=name,
            answer=answer,
            because="its health",
            media_age_s=0.05 if flows else None,
        )
        self._tell(client, event)

    # --- Truth ---

    def _is_fed(self, provider: str) -> bool:
        publisher = self.clients[0]
        legs = [leg for leg in publisher.legs.values() if leg.provider == provider]
        return any(self._carries(publisher, leg) for leg in legs)

    def _carries(self, client: Client, leg: TrueLeg) -> bool:
        truth = self.truths[leg.provider]
        through = client.is_connected and truth.forwards and truth.life == leg.life
        if not (through and leg.is_open):
            return False
        return client.role is Role.PUBLISHER or self._is_fed(leg.provider)

    def _sense(self) -> None:
        """Legs go silent or are heard again: their clients notice a little later."""
        for client in self.clients:
            for leg in client.legs.values():
                flows = self._carries(client, leg)
                if not leg.is_open or flows is (leg.quiet_s is None):
                    continue
                leg.quiet_s = None if flows else self.now
                leg.fed_s = self.now if flows else leg.fed_s
                after_s = self.rng.uniform(0.02, 0.1) if flows else SILENCE_S - 0.05
                self._later(after_s, partial(self._notice, client, leg))
                if not flows:
                    self._later(after_s / 2, partial(self._doubt, client, leg))

    def _doubt(self, client: Client, leg: TrueLeg) -> None:
        if client.legs.get(leg.id) is leg and leg.quiet_s is not None:
            leg.is_doubted = True
            self._tell(client, LegDoubted(session=client.name, leg=leg.id, because="no media"))

    def _notice(self, client: Client, leg: TrueLeg) -> None:
        is_quiet = leg.quiet_s is not None
        if client.legs.get(leg.id) is not leg or (
            not is_quiet and not leg.is_said_silent and not leg.is_doubted
        ):
            return
        leg.is_said_silent, leg.is_doubted = is_quiet, False
        event: Event = LegHeard(session=client.name, leg=leg.id)
        if leg.quiet_s is not None:
            event = LegSilent(
                session=client.name, leg=leg.id, because="no media", since_s=leg.quiet_s
            )
            if leg.next_s <= self.now:  # said again for as long as it lasts
                leg.next_s = self.now + AGAIN_S
                self._later(AGAIN_S, partial(self._notice, client, leg))
        self._tell(client, event)

    # --- What must hold of the truth ---

    def _look(self) -> None:
        """Nobody stays in the dark for longer than the policy allows."""
        for client in self.clients:
            session = client.session
            if session is not None and session.phase is Phase.STARTING:
                assert self.now <= session.moved_s + self.policy.start_s_max + 1e-6
            here = client.legs.get(session.on_air or 0) if session else None
            shows = here is not None and self._carries(client, here)
            if session is None or session.epoch == 0 or shows:
                client.dark_s = None
                continue
            if client.dark_s is None:
                client.dark_s = self.now
            good_s = min((self._good_s(client, name) for name in self.truths), default=self.now)
            dark_s = self.now - max(client.dark_s, good_s)
            bound_s = self.dark_bounds[client.role]
            assert dark_s <= bound_s, f"{client.name} is in the dark for {dark_s:.1f} s"

    def _good_s(self, client: Client, name: str) -> float:
        """Return since when a provider could have carried a client's stream [s]; inf: not now."""
        state, truth = client.checker.state, self.truths[name]
        if state.listed is None or name not in order(state.listed) or truth.mode != "up":
            return float("inf")
        away_s = state.standing[name].not_before_s if name in state.standing else 0.0
        if not client.is_connected or away_s > self.now:
            return float("inf")
        since_s = max(truth.since_s, client.connected_s, client.listed_s, away_s)
        if client.role is Role.PUBLISHER:
            return since_s
        publisher = self.clients[0]
        feeding = [
            leg.fed_s
            for leg in publisher.legs.values()
            if leg.provider == name and self._carries(publisher, leg)
        ]
        return max(since_s, min(feeding, default=float("inf")))

    def _bound(self) -> float:
        """
        Return how long a publisher may be in the dark beside a good provider [s].

        A silence is heard of, the round under way ends in vain, and the next one asks everybody:
        each attempt until its deadline, each delay at its cap.
        """
        p, same = self.policy, self.policy.same_provider_retries_on_air
        round_s = (len(self.truths) + same) * (p.first_media_s + LATE_S)
        round_s += same * max(p.retry_delay_s_max, PATIENCE_S)
        pause_s = max(p.retry_delay_s_max, ROUND_S_MIN)
        return SILENCE_S + AGAIN_S + 2 * round_s + pause_s + OPEN_S + LATE_S

    def _viewer_bound(self) -> float:
        """
        Return how long a viewer may be in the dark beside a provider that has the stream [s].

        A silence is heard of, an ask under way meets its deadline, and its loop asks again after
        the longest pause there is.
        """
        p = self.policy
        pause_s = max(p.retry_delay_s_max, ASK_INTERVAL_S_MAX, ABSENT_S)
        ask_s = p.first_media_s + LATE_S
        return SILENCE_S + AGAIN_S + ASK_AGAIN_S + ask_s + pause_s + OPEN_S + LATE_S

    # --- What befalls it ---

    def _client(self, name: str, role: Role) -> Client:
        seed = self.rng.getrandbits(63)
        checker = Checker(self.policy, State(seed=seed))
        return Client(name=name, role=role, checker=checker, seed=seed)

    def _request(self, client: Client) -> None:
        wait_s = self.rng.choice([0.0, 5.0, 30.0]) if client.role is Role.VIEWER else 0.0
        self._tell(
            client,
            StreamRequested(session=client.name, stream="show", role=client.role, wait_s=wait_s),
        )

    def _trouble(self) -> None:
        """Something happens, and something else will."""
        self._later(self.rng.expovariate(1 / 3.0), self._trouble)
        what = self.rng.choices(
            [self._provider, self._network, self._backend, self._somebody, self._come_or_go],
            [5, 1, 2, 3, 2],
        )[0]
        what()
        self._sense()
        self._look()

    def _provider(self) -> None:
        name = self.rng.choice(list(self.truths))
        truth = self.truths[name]
        mode = self.rng.choice(MODES[1:]) if truth.mode == "up" else "up"
        if "killed" in (mode, truth.mode):
            truth.life += 1
        truth.mode, truth.since_s = mode, self.now
        if mode != "killed":
            return
        for client in self.clients:
            for leg in list(client.legs.values()):
                if leg.provider == name and leg.is_open and self.rng.random() < 0.5:
                    self._fail(client, leg, "MediaLost", Retry.NEXT)

    def _network(self) -> None:
        client = self.rng.choice(self.clients)
        if not client.is_connected:
            return

        def back() -> None:
            client.is_connected, client.connected_s = True, self.now
            self._sense()
            self._look()

        client.is_connected = False
        self._later(self.rng.expovariate(1 / 6.0), back)

    def _backend(self) -> None:
        rng = self.rng
        match rng.randrange(4):
            case 0:
                self.is_backend_up = not self.is_backend_up
            case 1:
                self.lies = {rng.choice(list(self.truths)): rng.choice(list(Answer))}
            case 2:
                self.lies = {}
            case _:
                providers = tuple(
                    Listed(name=n, priority=rng.randrange(3), is_active=rng.random() < 0.8)
                    for n in self.truths
                )
                default = rng.choice([None, None, *self.truths])
                self.listed = ProviderList(providers=providers, default=default)

    def _somebody(self) -> None:
        """The program, or an operator, says something."""
        client, name = self.rng.choice(self.clients), self.rng.choice(list(self.truths))
        match self.rng.randrange(4):
            case 0:
                target = self.rng.choice([None, name])
                self._tell(client, SwitchRequested(because="an operator", provider=target))
            case 1:
                self._tell(client, SuccessRecorded(provider=name))
            case _:
                for _ in range(self.rng.randint(1, 3)):
                    self._tell(client, ErrorRecorded(provider=name, because="the program"))

    def _come_or_go(self) -> None:
        gone = [client for client in self.clients if client.session is None]
        client = self.rng.choice(gone or self.clients)
        if client.session is None:
            self._request(client)
        else:
            self._tell(client, EndRequested(session=client.name, because="the caller left"))
