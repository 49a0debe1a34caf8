"""
`StreamingProviderManager`: which provider to use, for programs that carry media themselves.

`LiveStreamingProvider` is built on it. Alone, it reads the list, polls health, counts failures
and changes provider; the program is told by `on_change` and moves its own media.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from ..core import placement
from ..core.circuit import Circuit
from ..core.events import (
    Announce,
    Ended,
    EndRequested,
    ErrorRecorded,
    ProvidersListed,
    Role,
    StreamRequested,
    SuccessRecorded,
    SwitchRequested,
)
from ..core.health import Standing
from ..core.listing import Check, ProviderList
from ..core.policy import Policy
from ..errors import (
    AllProvidersFailed,
    ConfigError,
    LocalFault,
    ProviderError,
    Unreachable,
)
from ..media.address import shown
from ..media.feed import Feed
from ..media.liveness import Liveness
from ..providers.base import Leg, Provider, Stats, ViewLeg
from .backend import ProviderSource
from .control import ControlPlane
from .driver import Driver
from .telemetry import Record


_HAND = "hand"
"""The session of a program that carries media itself."""

_URL: Final = re.compile(r"\b[a-z][a-z0-9+.-]{1,15}://[^\s\"'<>]+", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderStatus:
    """
    What is known of one provider.

    Attributes:
        name: Which one.
        is_active: Whether the list allows it.
        is_healthy: Whether it may be used as far as is known: not banned, not said unhealthy.
        failures: Failures in a row.
        circuit: Closed, open or half-open.
        checked_s: When its health was last checked, on the loop's clock [s]; None: never.
        because: The last failure in words; empty: none.
    """

    name: str
    is_active: bool
    is_healthy: bool
    failures: int
    circuit: Circuit
    checked_s: float | None
    because: str


class _Choosing:
    """Wraps a source: a provider chosen by hand comes first until the list itself changes."""

    def __init__(self, source: ProviderSource) -> None:
        self.source = source
        self.choice: str | None = None
        self._order: tuple[str, ...] | None = None

    async def list_providers(self) -> ProviderList:
        listed = await self.source.list_providers()
        order = placement.order(listed)
        if self._order is not None and order != self._order:
            self.choice = None
        self._order = order
        return self.applied(listed)

    def applied(self, listed: ProviderList) -> ProviderList:
        return replace(listed, default=self.choice) if self.choice else listed

    async def check_health(self, name: str) -> Check | None:
        return await self.source.check_health(name)


class StreamingProviderManager:
    """
    The provider to use now, and the next one when it fails.

    Args:
        source: A backend, a fixed list or a callable (`client/backend.py`).
        policy: The limits.
        provider: Gives the adapter of a name; None: the program carries media itself.
        on_change: Called with the new provider whenever it changes (only when the program
            carries media itself).
        seed: Decides the jitter; None: by chance.
        record: Where events are recorded.
        tell: Called with each event.
        control: The control plane that agrees placements; None: there is none.
    """

    def __init__(
        self,
        source: ProviderSource,
        *,
        policy: Policy | None = None,
        provider: Callable[[str], Provider] | None = None,
        on_change: Callable[[str], None] = lambda name: None,
        seed: int | None = None,
        record: Record | None = None,
        tell: Callable[[Announce], None] = lambda news: None,
        control: ControlPlane | None = None,
    ) -> None:
        self.policy = policy or Policy()
        self._control = control
        self._source = _Choosing(source)
        self._provider: Callable[[str], Provider] = provider or _Hand
        self._on_change = on_change
        self._seed = random.SystemRandom().getrandbits(63) if seed is None else seed
        self._record, self._tell = record, tell
        self._driver: Driver | None = None

    @property
    def driver(self) -> Driver:
        """What runs the core; made at first use, in the running loop."""
        if self._driver is None:
            self._driver = Driver(
                self.policy,
                self._source,
                self._provider,
                seed=self._seed,
                tell=self._tell,
                record=self._record,
                control=self._control,
            )
        return self._driver

    # --- What it knows ---

    @property
    def active_provider(self) -> str | None:
        """The provider of the first stream; without one, where the next stream would start."""
        if self._driver is None:
            return None
        state = self._driver.state
        for session in state.sessions.values():
            if session.provider is not None:
                return session.provider
        if state.listed is None:
            return None
        now = asyncio.get_running_loop().time()
        standing = {name: self._standing(name) for name in placement.order(state.listed)}
        return next(iter(placement.eligible(state.listed, standing, now)), None)

    @property
    def providers(self) -> tuple[ProviderStatus, ...]:
        """All providers of the list, by priority."""
        listed = self._driver.state.listed if self._driver else None
        return tuple(self.status(entry.name) for entry in listed.providers) if listed else ()

    def status(self, name: str) -> ProviderStatus:
        """Return what is known of one provider."""
        standing = self._standing(name)
        listed = self.driver.state.listed
        active = placement.order(listed) if listed else ()
        return ProviderStatus(
            name=name,
            is_active=name in active,
            is_healthy=standing.breaker.admits and standing.is_healthy is not False,
            failures=standing.failures,
            circuit=standing.breaker.circuit,
            checked_s=standing.checked_s,
            because=standing.because,
        )

    @property
    def is_monitoring(self) -> bool:
        """Whether list and health are being polled."""
        return self._driver is not None and self._driver.state.poll_s is not None

    # --- What it can be asked ---

    async def fetch_active_provider(self) -> str:
        """
        Read the list now and return where a stream should be.

        A list that changed moves the streams that are on air; an unchanged one never does. If
        the list cannot be read, the last good one counts.

        Raises:
            AllProvidersFailed: There is no list, or every provider in it is disabled.
        """
        await self.driver.list_again()
        name = self.active_provider
        if name is None:
            raise AllProvidersFailed("no provider to use", self._why_nobody())
        return name

    async def switch_provider(self, name: str, because: str = "asked by the caller") -> None:
        """
        Move every stream to `name`, make before break; the next stream starts there too.

        Raises:
            ConfigError: The list has no such provider, or it is disabled there.
        """
        listed = self.driver.state.listed
        if listed is None:
            await self.driver.list_again()
            listed = self.driver.state.listed
        known = placement.order(listed) if listed else ()
        if name not in known:
            raise ConfigError(
                f"cannot switch to {name!r}: active providers are {', '.join(known) or 'none'}"
            )
        self._source.choice = name
        self.driver.post(SwitchRequested(provider=name, because=because))
        if listed is not None:
            self.driver.post(ProvidersListed(listed=self._source.applied(listed)))

    async def failover_to_next_provider(self, because: str = "asked by the caller") -> None:
        """Move every stream to the next provider of the list, make before break."""
        self.driver.post(SwitchRequested(because=because))

    def record_streaming_error(self, because: str, provider: str | None = None) -> None:
        """Count a streaming error against `provider` (None: the active one)."""
        name = provider or self.active_provider
        if name is not None:
            self.driver.post(ErrorRecorded(provider=name, because=because))

    def record_streaming_success(self, provider: str | None = None) -> None:
        """Say that streaming works: the count of failures in a row starts again."""
        name = provider or self.active_provider
        if name is not None:
            self.driver.post(SuccessRecorded(provider=name))

    async def start_health_monitoring(self) -> None:
        """
        Poll list and health every `health_interval_s` and follow what they say. Idempotent.

        Needed only by programs that carry media themselves; a stream of `LiveStreamingProvider`
        starts and stops monitoring by itself.

        Raises:
            AllProvidersFailed: There is no provider to use.
        """
        if self.driver.session(_HAND) is not None:
            return
        hand = _HandSession(self._on_change)
        self.driver.adopt(_HAND, hand)
        self.driver.post(StreamRequested(session=_HAND, stream=_HAND, role=Role.PUBLISHER))
        await hand.ready

    async def stop_health_monitoring(self) -> None:
        """Stop what `start_health_monitoring` started. Idempotent."""
        if self._driver is not None:
            self._driver.post(EndRequested(session=_HAND, because="monitoring was stopped"))

    async def aclose(self) -> None:
        """Release everything. Idempotent; completes under cancellation."""
        if self._driver is not None:
            await asyncio.shield(self._driver.aclose())

    def _standing(self, name: str) -> Standing:
        return self.driver.state.standing.get(name, Standing())

    def _why_nobody(self) -> list[ProviderError]:
        listed = self.driver.state.listed
        if listed is None or not listed.providers:
            # Of a source that somebody else wrote: its words may quote what it connects to.
            why = _URL.sub(lambda found: shown(found[0]), self.driver.unlisted)
            because = "the list is empty" if listed else "no list could be read"
            because = f"{because}: {why}" if why else because
            return [Unreachable(because, provider="backend", operation="list")]
        names = [entry.name for entry in listed.providers]
        return [ProviderError("disabled in the list", provider=name) for name in names]


class _HandSession:
    """Carries nothing: the program does. Its legs are live the moment they are opened."""

    def __init__(self, on_change: Callable[[str], None]) -> None:
        self._on_change = on_change
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def open(self, provider: Provider, leg: int) -> Leg:
        return _HandLeg(provider.name)

    async def carry(self, leg: int, opened: Leg, usable: Callable[[], None]) -> None:
        usable()
        self._on_change(opened.provider)

    def is_fed(self, now: float) -> bool:
        return True

    def started(self) -> None:
        if not self.ready.done():
            self.ready.set_result(None)

    def ended(self, ended: Ended, errors: list[ProviderError]) -> None:
        if not self.ready.done():
            unlisted = [Unreachable(ended.because, provider="backend", operation="list")]
            self.ready.set_exception(AllProvidersFailed(ended.because, errors or unlisted))

    def told(self, news: Announce) -> None:
        pass


class _HandLeg:
    """A leg that somebody else carries: it has no signs of life and is never lost."""

    def __init__(self, provider: str) -> None:
        self.provider = provider
        self.liveness = Liveness()

    async def lost(self) -> None:
        await asyncio.get_running_loop().create_future()

    def stats(self) -> list[Stats]:
        return []

    async def aclose(self) -> None:
        pass


class _Hand:
    """A provider whose media the program carries."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def start_stream(self, stream: str, source: Feed) -> Leg:
        return _HandLeg(self.name)

    async def join_stream(self, stream: str) -> ViewLeg:
        raise LocalFault("the program carries its media itself")

    async def aclose(self) -> None:
        pass
