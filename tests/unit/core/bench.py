"""
A bench for transcripts: one client in virtual time, with providers that answer as they are told.

    bench = Bench(agora=refuses(), zegocloud=opens(0.2))
    bench.publish()
    bench.run(5.0)
    assert bench.asked == ["agora", "agora", "zegocloud"]

What happens is a list of (time, words); providers answer by themselves, everything else is told
by the test. Every step is also shown to the `Checker` of the random worlds.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, replace

from simulation.invariants import Checker

from hitless.core.attempts import Attempt, Failure
from hitless.core.events import (
    Announce,
    AskList,
    CheckHealth,
    CloseLeg,
    Effect,
    Ended,
    EndRequested,
    ErrorRecorded,
    Event,
    HealthChecked,
    LegAbsent,
    LegDoubted,
    LegExpiring,
    LegFailed,
    LegHeard,
    LegOpened,
    LegSilent,
    ListUnavailable,
    OpenLeg,
    ProvidersListed,
    Role,
    Started,
    StreamRequested,
    SuccessRecorded,
    SwitchRequested,
    Ticked,
)
from hitless.core.listing import Answer, Listed, ProviderList
from hitless.core.policy import Policy
from hitless.core.state import Leg, Phase, Session, State
from hitless.errors import Retry


SESSION = "s"


@dataclass(frozen=True)
class Says:
    """What a provider answers to a leg that is opened, after `after_s`; None: nothing, ever."""

    after_s: float
    event: Callable[[str, int], Event] | None


def opens(after_s: float = 0.1) -> Says:
    """It carries media."""
    return Says(after_s, lambda session, leg: LegOpened(session=session, leg=leg))


def fails(failure: Failure, after_s: float = 0.01) -> Says:
    """It fails like that."""
    return Says(after_s, lambda session, leg: LegFailed(session=session, leg=leg, failure=failure))


def refuses(
    after_s: float = 0.01, *, retry: Retry = Retry.SAME, retry_after_s: float | None = None
) -> Says:
    """It answers, and the answer is no (a dead process on a live machine, or a 5xx)."""
    failure = Failure(
        error="Refused", because="503", retry=retry, retry_after_s=retry_after_s, answered=True
    )
    return fails(failure, after_s)


def unreachable(after_s: float = 1.0) -> Says:
    """Nothing comes back, and the adapter says so."""
    failure = Failure(error="Unreachable", because="timeout", retry=Retry.SAME, answered=False)
    return fails(failure, after_s)


def gray(after_s: float = 2.0) -> Says:
    """It accepts, and no media is ever acknowledged."""
    failure = Failure(error="MediaLost", because="no first media", retry=Retry.NEXT)
    return fails(failure, after_s)


def absent(after_s: float = 0.01, *, retry_after_s: float | None = 1.0) -> Says:
    """It knows of no publisher (viewers)."""
    return Says(
        after_s,
        lambda session, leg: LegAbsent(session=session, leg=leg, retry_after_s=retry_after_s),
    )


def hangs() -> Says:
    """It never answers."""
    return Says(0.0, None)


def a_list(
    *names: str,
    disabled: tuple[str, ...] = (),
    default: str | None = None,
    config: dict[str, dict[str, object]] | None = None,
) -> ProviderList:
    """Return a list in that order of priority."""
    return ProviderList(
        providers=tuple(
            Listed(
                name=name,
                priority=n,
                is_active=name not in disabled,
                config=(config or {}).get(name, {}),
            )
            for n, name in enumerate(names)
        ),
        default=default,
    )


class Bench:
    """
    One client, one session.

    Args:
        policy: The knobs that differ from the defaults, by name.
        listed: The backend's list; None: the providers in the order given.
        providers: What each answers.
    """

    def __init__(
        self,
        policy: dict[str, object] | None = None,
        *,
        listed: ProviderList | None = None,
        **providers: Says,
    ) -> None:
        self.policy = Policy(**(policy or {}))  # type: ignore[arg-type]
        self.checker = Checker(self.policy, State(seed=7))
        self.providers = dict(providers)
        self.listed: ProviderList | None = listed or a_list(*providers)
        self.unlisted: Event | None = ListUnavailable(because="Connection timeout", answered=False)
        self.health: dict[str, Answer] = {}
        self.media_age_s: float | None = 0.05
        self.now = 0.0
        self.told: list[tuple[float, str]] = []
        self.effects: list[tuple[float, Effect]] = []
        self.ended: Ended | None = None
        self._due: list[tuple[float, int, Event]] = []
        self._count = 0

    # --- What the test tells it ---

    def publish(self) -> None:
        """A caller wants to publish."""
        self.hear(StreamRequested(session=SESSION, stream="show", role=Role.PUBLISHER))

    def watch(self, wait_s: float = 0.0) -> None:
        """A caller wants to watch, and waits for a publisher for `wait_s`."""
        role = Role.VIEWER
        self.hear(StreamRequested(session=SESSION, stream="show", role=role, wait_s=wait_s))

    def on_air(self, provider: str = "agora", role: Role = Role.PUBLISHER) -> None:
        """Bring it on air and forget how it came there."""
        self.publish() if role is Role.PUBLISHER else self.watch()
        self.run(1.0)
        assert self.session.provider == provider
        self.told.clear()
        self.effects.clear()

    def silent(self, provider: str) -> None:
        """Media over a provider stopped a quarter of a second ago."""
        since_s = self.now - 0.25
        self._tell_leg(
            provider, lambda s, n: LegSilent(session=s, leg=n, because="no media", since_s=since_s)
        )

    def doubted(self, provider: str) -> None:
        """Media over a provider has been missing for a tenth of a second."""
        self._tell_leg(
            provider, lambda s, n: LegDoubted(session=s, leg=n, because="no media for 0.10 s")
        )

    def expiring(self, provider: str) -> None:
        """The credential of its leg ends soon."""
        self._tell_leg(
            provider, lambda s, n: LegExpiring(session=s, leg=n, because="its credential ends")
        )

    def dispelled(self, provider: str) -> None:
        """Media over a provider flows again before it was called silent."""
        self._tell_leg(provider, lambda s, n: LegHeard(session=s, leg=n))

    def heard(self, provider: str) -> None:
        """Media over the silent leg on a provider flows again."""
        leg = next(x for x in self.session.legs if x.provider == provider and x.silent_s)
        self.hear(LegHeard(session=SESSION, leg=leg.id))

    def lost(self, provider: str, *, answered: bool = True, is_local: bool = False) -> None:
        """The provider broke a leg."""
        failure = Failure(
            error="MediaLost", because="connection reset", answered=answered, is_local=is_local
        )
        self._tell_leg(provider, lambda s, n: LegFailed(session=s, leg=n, failure=failure))

    def switch(self, provider: str | None = None, because: str = "the operator asked") -> None:
        """Somebody asks to move."""
        self.hear(SwitchRequested(because=because, provider=provider))

    def error(self, provider: str) -> None:
        """The program records a streaming error."""
        self.hear(ErrorRecorded(provider=provider, because="frozen picture"))

    def success(self, provider: str) -> None:
        """The program records that streaming works."""
        self.hear(SuccessRecorded(provider=provider))

    def list_is(self, listed: ProviderList) -> None:
        """The backend's list is another one now, and was read."""
        self.listed = listed
        self.hear(ProvidersListed(listed=listed))

    def check(self, provider: str, answer: Answer, media_age_s: float | None = 0.05) -> None:
        """A health check ended."""
        self.hear(
            HealthChecked(
                provider=provider,
                answer=answer,
                because="Connection timeout",
                media_age_s=media_age_s,
            )
        )

    def end(self) -> None:
        """The caller is done."""
        self.hear(EndRequested(session=SESSION, because="the caller ended it"))

    # --- Time ---

    def run(self, seconds: float) -> None:
        """Let `seconds` pass: providers answer, and the client is woken when it wants to be."""
        self.run_to(self.now + seconds)

    def run_to(self, until_s: float) -> None:
        """Let time pass until then [s]."""
        while True:
            wake_s = self.checker.wakeup_s()
            due_s = self._due[0][0] if self._due else float("inf")
            at_s = max(min(wake_s, due_s), self.now)
            if at_s > until_s:
                break
            self.now = at_s
            self.hear(heapq.heappop(self._due)[2] if due_s <= wake_s else Ticked())
        self.now = until_s

    def hear(self, event: Event) -> None:
        """Tell the client, and do what it orders."""
        for effect in self.checker.step(event, self.now):
            self.effects.append((self.now, effect))
            self._perform(effect)

    # --- What came of it ---

    @property
    def state(self) -> State:
        """Return what the client remembers."""
        return self.checker.state

    @property
    def session(self) -> Session:
        """Return the session; it is not over."""
        return self.state.sessions[SESSION]

    @property
    def phase(self) -> Phase:
        """Return the session's phase."""
        return self.session.phase if SESSION in self.state.sessions else Phase.ENDED

    @property
    def asked(self) -> list[str]:
        """Return the providers that were asked for a leg, in order."""
        return [effect.provider for _, effect in self.effects if isinstance(effect, OpenLeg)]

    def asked_at(self, provider: str) -> list[float]:
        """Return when a provider was asked for a leg [s]."""
        opens = [(at, e) for at, e in self.effects if isinstance(e, OpenLeg)]
        return [at for at, effect in opens if effect.provider == provider]

    def said(self, *prefixes: str) -> list[str]:
        """Return what people were told: `name provider`, of names with one of the prefixes."""
        return [words for _, words in self.told if words.startswith(prefixes)]

    def at(self, words: str) -> float:
        """Return when people were first told that [s]."""
        return next(at for at, told in self.told if told.startswith(words))

    @property
    def moves(self) -> list[str]:
        """Return the providers that were moved to, in order."""
        return [
            words.split()[1] for words in self.said("failover.succeeded", "migration.succeeded")
        ]

    @property
    def blamed(self) -> list[str]:
        """Return who was blamed for a failure, in order."""
        return [words.split()[1] for words in self.said("provider.failed")]

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """Return the failed attempts the caller was given."""
        assert self.ended is not None
        return self.ended.attempts

    def leg(self, provider: str) -> Leg:
        """Return the newest open leg on a provider."""
        return next(leg for leg in reversed(self.session.legs) if leg.provider == provider)

    # --- Inside ---

    def _tell_leg(self, provider: str, event: Callable[[str, int], Event]) -> None:
        self.hear(event(SESSION, self.leg(provider).id))

    def _later(self, after_s: float, event: Event) -> None:
        self._count += 1
        heapq.heappush(self._due, (self.now + after_s, self._count, event))

    def _perform(self, effect: Effect) -> None:
        match effect:
            case OpenLeg():
                says = self.providers[effect.provider]
                if says.event is not None:
                    self._later(says.after_s, says.event(effect.session, effect.leg))
            case AskList():
                answer = self._answer()
                if answer is not None:
                    self._later(0.02, answer)
            case CheckHealth():
                self._later(0.02, self._checked(effect.provider))
            case Announce():
                self.told.append((self.now, f"{effect.name} {effect.provider}"))
            case Ended():
                self.ended = effect
                self.told.append((self.now, f"ended {effect.outcome.value}"))
            case Started():
                self.told.append((self.now, "started"))
            case CloseLeg():
                pass

    def _answer(self) -> Event | None:
        if self.listed is None:
            return self.unlisted
        return ProvidersListed(listed=replace(self.listed))

    def _checked(self, provider: str) -> Event:
        return HealthChecked(
            provider=provider,
            answer=self.health.get(provider, Answer.HEALTHY),
            because="Connection timeout",
            media_age_s=self.media_age_s,
        )
