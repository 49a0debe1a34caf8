"""
The shell around the core: it performs effects and reports what happens. Nothing here decides.

One driver serves one client. `post(event)` runs `step` at once, in the loop's thread, and starts
what was ordered; every task it starts is owned here and gone after `aclose()`. This file is the
one place of the library that reads the clock for the core.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, assert_never

from ..core.attempts import Failure
from ..core.events import (
    Announce,
    AskList,
    CheckHealth,
    ClaimPlacement,
    CloseLeg,
    ConfirmPlacement,
    Effect,
    Ended,
    Event,
    HealthChecked,
    LegAbsent,
    LegFailed,
    LegOpened,
    ListUnavailable,
    OpenLeg,
    ProvidersListed,
    Started,
    StreamRequested,
    Ticked,
)
from ..core.listing import Answer, Check
from ..core.policy import Policy
from ..core.state import Session, State
from ..core.step import step, wakeup_s
from ..errors import (
    AllProvidersFailed,
    ConfigError,
    HitlessError,
    LocalFault,
    NotOnAir,
    ProviderError,
    Retry,
)
from ..providers.base import Leg, Provider
from .backend import BackendUnavailable, ProviderSource
from .control import ControlPlane
from .monitor import watch
from .quality import Gauge
from .renewal import renew
from .telemetry import Record, log, write_log
from .traffic import Traffic


_UNUSABLE_S = 60.0
"""A provider that cannot be used as it is configured is not asked again for this [s]."""
_ERRORS_MAX = 100
"""Errors kept of one session for the exception that ends it; the oldest go first."""


_DRAIN_S = 0.01
"""What a lost leg had received before is passed on within this time [s]."""


class Carrier(Protocol):
    """What a session does with its legs: publishing and viewing differ only here."""

    async def open(self, provider: Provider, leg: int) -> Leg:
        """Open a leg on `provider` and return it with its first media proven or on its way."""
        ...

    async def carry(self, leg: int, opened: Leg, usable: Callable[[], None]) -> None:
        """Carry media until cancelled; call `usable` once the leg carries media that counts."""
        ...

    def is_fed(self, now: float) -> bool:
        """Whether our own side gives the media that the legs should carry at `now` [s]."""
        ...

    def started(self) -> None:
        """It is on air for the first time."""
        ...

    def ended(self, ended: Ended, errors: list[ProviderError]) -> None:
        """It is over."""
        ...

    def told(self, news: Announce) -> None:
        """Something happened to it."""
        ...


class Driver:
    """
    Runs the core for one client.

    Args:
        policy: The limits.
        source: Where the list of providers and their health come from.
        provider: Gives the adapter of a name; raises `ConfigError` if there is none.
        seed: Decides the jitter.
        tell: Called with every event people are told of, after it was logged.
        record: Where events are recorded; None: nowhere.
        control: Hears our claims and tells of placements; None: there is no control plane.
    """

    def __init__(
        self,
        policy: Policy,
        source: ProviderSource,
        provider: Callable[[str], Provider],
        *,
        seed: int,
        tell: Callable[[Announce], None],
        record: Record | None = None,
        control: ControlPlane | None = None,
    ) -> None:
        self.policy = policy
        self.state = State(seed=seed)
        self._source, self._provider, self._tell, self._record = source, provider, tell, record
        self._control = control
        self._loop = asyncio.get_running_loop()
        self.legs: dict[int, Leg] = {}
        if control is not None:
            control.attach(
                post=self.post,
                tell=self.announce,
                look=self.session,
                media_age_s=self.media_age_s,
                carried=self.carried,
                measured=Gauge(self.session, self.legs, self._loop.time).measured,
            )
        self._traffic = Traffic()
        self._inbox: deque[Event] = deque()
        self._is_stepping = self._is_closed = False
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self._of: dict[str, set[asyncio.Task[None]]] = {}
        self._carriers: dict[str, Carrier] = {}
        self._carrying: dict[int, asyncio.Task[None]] = {}
        self._errors: dict[str, dict[int, ProviderError]] = {}
        self._asking: asyncio.Task[None] | None = None
        self.unlisted = ""  # why the list could not be read last; empty: it could
        self._checking: dict[str, asyncio.Task[None]] = {}
        self._listeners: set[asyncio.Future[None]] = set()

    # --- For the rest of the client ---

    def post(self, event: Event) -> None:
        """
        Report a fact. In the loop's thread; what it leads to has been ordered on return.

        After `aclose()` nothing is heard any more.
        """
        if self._is_closed:
            return
        self._inbox.append(event)
        if self._is_stepping:
            return
        self._is_stepping = True
        try:
            while self._inbox:
                self._step(self._inbox.popleft())
        finally:
            self._is_stepping = False
        self._arm()

    def adopt(self, session: str, carrier: Carrier) -> None:
        """Name who carries a session's legs; before its `StreamRequested` is posted."""
        self._carriers[session] = carrier

    def disown(self, session: str) -> None:
        """Forget who would have carried a session that was never begun. Idempotent."""
        self._carriers.pop(session, None)

    async def begin(self, request: StreamRequested) -> None:
        """
        Begin a session: where there is a control plane, with a plan of it.

        Raises:
            ConfigError, Refused: The control plane says no; nothing was begun.
        """
        plan = None
        if self._control is not None:
            plan = await self._control.begin(request.session, request.stream, request.role)
        self.post(request)
        if plan is not None and self._control is not None:
            self._control.place(request.session, plan)

    def session(self, id: str) -> Session | None:
        """Return a session's state, or None once it is over."""
        return self.state.sessions.get(id)

    def media_age_s(self, provider: str) -> float | None:
        """Return the age of the freshest media this client has through a provider [s]."""
        heard = [leg.liveness.last_media_s() for leg in self.legs.values()
                 if leg.provider == provider]  # fmt: skip
        fresh = [at for at in heard if at is not None]
        return self._loop.time() - max(fresh) if fresh else None

    def carried(self, stream: str, provider: str) -> tuple[int, int]:
        """Return what a stream's legs there sent and received since asked last [byte]."""
        sessions = self.state.sessions.values()
        legs = [leg for one in sessions if one.stream == stream for leg in one.legs]
        return self._traffic.taken(self.legs, (x.id for x in legs if x.provider == provider))

    async def list_again(self) -> None:
        """Read the list now and wait until it was read, or could not be."""
        done: asyncio.Future[None] = self._loop.create_future()
        self._listeners.add(done)
        self._ask_list()
        try:
            await done
        finally:
            self._listeners.discard(done)

    async def aclose(self) -> None:
        """End every task. Idempotent; completes under cancellation."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._carriers.clear()
        for listener in self._listeners:
            listener.cancel()
        for task in self._tasks - self._closing:
            task.cancel()
        await self._wait(self._tasks)
        for task in self._tasks:
            task.cancel()
        if self._record is not None:
            self._record.close()

    async def closed(self, session: str) -> None:
        """Wait until the legs of a session that is over are closed; bounded."""
        await self._wait(self._of.get(session, set()))
        self._of.pop(session, None)

    async def _wait(self, tasks: set[asyncio.Task[None]]) -> None:
        pending = {task for task in tasks if task is not asyncio.current_task()}
        if pending:
            await asyncio.wait(pending, timeout=self.policy.close_s_max + 1.0)

    # --- Stepping ---

    def _step(self, event: Event) -> None:
        now = self._loop.time()
        if self._record is not None:
            self._record.add(event, now)
        self.state, effects = step(self.policy, self.state, event, now)
        for effect in effects:
            self._perform(effect)

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        at_s = wakeup_s(self.policy, self.state)
        if at_s < float("inf"):
            self._timer = self._loop.call_at(max(at_s, self._loop.time()), self.post, Ticked())

    def _perform(self, effect: Effect) -> None:
        match effect:
            case OpenLeg():
                task = self._start(self._carry(effect), f"leg {effect.leg} on {effect.provider}")
                self._carrying[effect.leg] = task
                legs = self._of.setdefault(effect.session, set())
                legs.add(task)
                task.add_done_callback(legs.discard)
            case CloseLeg():
                closing = self._carrying.pop(effect.leg, None)
                if closing is not None:
                    closing.cancel()
                    self._closing.add(closing)
            case AskList():
                self._ask_list()
            case CheckHealth():
                self._check_health(effect.provider)
            case ClaimPlacement() | ConfirmPlacement():
                self._answer_control(effect)
            case Announce():
                self.announce(effect)
            case Started():
                self._carriers[effect.session].started()
            case Ended():
                self._end(effect)
            case _:
                assert_never(effect)

    def _answer_control(self, effect: ClaimPlacement | ConfirmPlacement) -> None:
        assert self._control is not None  # who else told us a placement?
        match effect:
            case ClaimPlacement():
                self._control.claim(effect.session, effect.base, effect.provider, effect.because)
            case ConfirmPlacement():
                self._control.confirm(effect.session, effect.epoch, effect.provider)

    def _end(self, effect: Ended) -> None:
        known = self._errors.pop(effect.session, {})
        errors = [
            known.get(attempt.leg) or _error_of(attempt.provider, attempt.failure)
            for attempt in effect.attempts
            if attempt.failure is not None
        ]
        if self._control is not None:
            self._control.finish(effect.session, effect.because)
        self._carriers.pop(effect.session).ended(effect, errors)

    def announce(self, news: Announce) -> None:
        """Tell everybody: log, program, sessions. A program that fails at it is only logged."""
        write_log(news)
        if self._control is not None:
            self._control.told(news)
        try:
            self._tell(news)
        except Exception:
            log.exception("the program's `tell` failed", event_name=news.name)
        for carrier in tuple(self._carriers.values()):
            carrier.told(news)

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = self._loop.create_task(work, name=f"hitless: {name}")
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._closing.discard(task)
        if not task.cancelled() and (exc := task.exception()) is not None:
            log.error("a task of the driver failed: a defect", task=task.get_name(), exc_info=exc)

    # --- Legs ---

    async def _carry(self, order: OpenLeg) -> None:
        """One leg, from the order to its end. Cancelling it closes the leg in bounded time."""
        carrier = self._carriers[order.session]
        leg: Leg | None = None
        try:
            leg = await carrier.open(self._provider(order.provider), order.leg)
            self.legs[order.leg] = leg
            await self._keep(order, carrier, leg)
        except NotOnAir as exc:
            self._report(
                LegAbsent(session=order.session, leg=order.leg, retry_after_s=exc.retry_after_s)
            )
        except HitlessError as exc:
            self._fail(order, exc)
        except Exception as exc:
            log.exception("adapter broke its contract", provider=order.provider)
            self._fail(order, exc)
        finally:
            self._carrying.pop(order.leg, None)
            self.legs.pop(order.leg, None)
            if leg is not None:
                await self._close(leg)

    async def _keep(self, order: OpenLeg, carrier: Carrier, leg: Leg) -> None:
        def usable() -> None:
            self._report(LegOpened(session=order.session, leg=order.leg))

        media = self._start(carrier.carry(order.leg, leg, usable), f"media of leg {order.leg}")
        helpers = (
            media,
            self._start(
                watch(order, leg, self._report, carrier.is_fed), f"liveness of leg {order.leg}"
            ),
            self._start(renew(order, leg, self._report), f"credential of leg {order.leg}"),
        )
        try:
            await leg.lost()
        except HitlessError:
            await asyncio.wait({media}, timeout=_DRAIN_S)  # what has arrived is still shown
            raise
        finally:
            for helper in helpers:
                helper.cancel()
            await asyncio.wait(helpers, timeout=1.0)

    def _report(self, event: Event) -> None:
        """Post what a leg says, unless the leg was let go meanwhile."""
        leg = getattr(event, "leg", None)
        if leg in self._carrying:
            self.post(event)

    def _fail(self, order: OpenLeg, exc: Exception) -> None:
        if isinstance(exc, ProviderError):
            known = self._errors.setdefault(order.session, {})
            known[order.leg] = exc
            if len(known) > _ERRORS_MAX:
                del known[next(iter(known))]
        failure = _failure_of(exc)
        self._report(LegFailed(session=order.session, leg=order.leg, failure=failure))

    async def _close(self, leg: Leg) -> None:
        try:
            async with asyncio.timeout(self.policy.close_s_max):
                await leg.aclose()
        except TimeoutError:
            log.warning("closing a leg took too long", provider=leg.provider)
        except Exception:
            log.exception("closing a leg failed", provider=leg.provider)

    # --- The list and health ---

    def _ask_list(self) -> None:
        if self._asking is None or self._asking.done():
            self._asking = self._start(self._read_list(), "list of providers")

    async def _read_list(self) -> None:
        event: Event
        try:
            async with asyncio.timeout(self.policy.health_timeout_s):
                event = ProvidersListed(listed=await self._source.list_providers())
        except BackendUnavailable as exc:
            event = ListUnavailable(because=exc.because, answered=exc.answered)
        except TimeoutError:
            event = ListUnavailable(because="Connection timeout", answered=False)
        except HitlessError as exc:
            event = ListUnavailable(because=str(exc), answered=True)
        except Exception as exc:
            log.exception("the source of providers failed")
            event = ListUnavailable(because=type(exc).__name__, answered=True)
        self._asking = None
        self.unlisted = event.because if isinstance(event, ListUnavailable) else ""
        self.post(event)
        for listener in tuple(self._listeners):
            if not listener.done():
                listener.set_result(None)

    def _check_health(self, provider: str) -> None:
        task = self._checking.get(provider)
        if task is None or task.done():
            self._checking[provider] = self._start(self._check(provider), f"health of {provider}")

    async def _check(self, provider: str) -> None:
        try:
            async with asyncio.timeout(self.policy.health_timeout_s):
                check = await self._source.check_health(provider)
        except TimeoutError:
            check = Check(
                provider=provider, answer=Answer.UNANSWERED, because="Connection timeout"
            )
        if check is not None:
            self.post(
                HealthChecked(
                    provider=provider,
                    answer=check.answer,
                    because=check.because,
                    media_age_s=self.media_age_s(provider),
                )
            )


def _failure_of(exc: Exception) -> Failure:
    """Return an exception as a value the core understands."""
    name = type(exc).__name__
    match exc:
        case ProviderError():
            return Failure(
                error=name,
                because=exc.because,
                retry=exc.retry,
                retry_after_s=exc.retry_after_s,
                answered=exc.answered,
            )
        case AllProvidersFailed():  # a provider made of providers has used its own retries
            return Failure(
                error=name,
                because=exc.message,
                answered=any(getattr(e, "answered", True) for e in exc.exceptions),
            )
        case LocalFault():
            return Failure(error=name, because=str(exc), is_local=True)
        case ConfigError():  # this provider cannot be used so; a viewer may find it on another
            return Failure(
                error=name,
                because=str(exc),
                retry=Retry.NEVER,
                retry_after_s=_UNUSABLE_S,
                answered=False,
            )
        case _:
            return Failure(error=name, because=str(exc) or name)


def _error_of(provider: str, failure: Failure) -> ProviderError:
    """Return an error for a failure the core itself established (a deadline that passed)."""
    return ProviderError(
        failure.because, provider=provider, retry=failure.retry, answered=failure.answered
    )
