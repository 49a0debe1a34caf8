"""What a published and a watched stream have in common at the caller's side."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar

from ..core.catalogue import CATALOGUE, Level
from ..core.events import (
    Announce,
    Ended,
    EndRequested,
    Outcome,
    Role,
    StreamRequested,
    SwitchRequested,
)
from ..core.state import Phase, Session
from ..errors import (
    AllProvidersFailed,
    HitlessError,
    LocalFault,
    MediaLost,
    NotOnAir,
    ProviderError,
    Refused,
    StreamEnded,
    Unreachable,
)
from ..media.liveness import Liveness
from ..providers.base import Stats
from .driver import Driver
from .telemetry import words


_NEWS_MAX = 256
"""News kept for a caller who does not read; the oldest go first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """
    Something that happened to a stream. `str()` gives the sentence of the console.

    Attributes:
        name: `failover.succeeded`, `stream.off_air` ...: see docs/events.md.
        because: Why.
        at_s: When, on the loop's clock [s].
        stream, provider: Of whom; None where it concerns none.
        fields: What else is known.
    """

    name: str
    because: str
    at_s: float
    stream: str | None
    provider: str | None
    sentence: str
    fields: dict[str, str | int | float | None] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.sentence


class LiveSession:
    """
    One stream of this client: what a program reads and asks of it.

    Iterate over it to follow what happens; the iteration ends with the stream, and raises
    `AllProvidersFailed` or `LocalFault` if that was not a normal end.
    """

    role: Role

    def __init__(self, driver: Driver, stream: str, *, name: str, wait_s: float = 0.0) -> None:
        self.stream = stream
        self.error: str | None = None
        self._driver, self._name, self._wait_s = driver, name, wait_s
        self._id = f"{self.role}:{stream}:{id(self):x}"
        self._loop = asyncio.get_running_loop()
        self._news: asyncio.Queue[News | None] = asyncio.Queue()
        self._started: asyncio.Future[None] = self._loop.create_future()
        self._over: asyncio.Future[HitlessError | None] = self._loop.create_future()

    # --- State ---

    @property
    def provider(self) -> str:
        """Name of the provider on air; empty while there is none."""
        session = self._driver.session(self._id)
        return (session.provider or "") if session else ""

    @property
    def state(self) -> Session | None:
        """The core's view of this stream (a value); None once it is over."""
        return self._driver.session(self._id)

    @property
    def phase(self) -> Phase:
        """Where it stands."""
        session = self._driver.session(self._id)
        return session.phase if session else Phase.ENDED

    @property
    def liveness(self) -> Liveness:
        """Signs of life of the leg on air; without one, a leg that has none."""
        session = self._driver.session(self._id)
        leg = self._driver.legs.get(session.on_air or 0) if session else None
        return leg.liveness if leg is not None else Liveness()

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self._over.done()

    def stats(self) -> list[Stats]:
        """Return the statistics of all open legs in webrtc-stats terms, each with `provider`."""
        session = self._driver.session(self._id)
        legs = [(leg.id, leg.provider) for leg in session.legs] if session else []
        found: list[Stats] = []
        for number, provider in legs:
            leg = self._driver.legs.get(number)
            if leg is not None:
                found += [{**entry, "provider": provider} for entry in leg.stats()]
        return found

    # --- Orders ---

    async def failover_to_next_provider(self, because: str = "asked by the caller") -> None:
        """Move to the next provider, make before break. Returns at once; follow the news."""
        self._driver.post(SwitchRequested(session=self._id, because=because))

    async def switch_provider(self, name: str, because: str = "asked by the caller") -> None:
        """Move to the provider `name`, make before break. Returns at once; follow the news."""
        self._driver.post(SwitchRequested(session=self._id, provider=name, because=because))

    async def lost(self) -> None:
        """
        Wait for the end and say why. Never returns normally; cancelling is safe.

        Raises:
            StreamEnded: It ended normally.
            MediaLost: No provider carries it any more (caused by `AllProvidersFailed`).
            LocalFault: This machine cannot go on.
        """
        error = await asyncio.shield(self._over)
        match error:
            case AllProvidersFailed():
                raise MediaLost(error.message, provider=self._name) from error
            case None:
                raise StreamEnded(f"{self.stream} is over")
            case _:
                raise error

    def __aiter__(self) -> AsyncIterator[News]:
        return self._follow()

    async def aclose(self) -> None:
        """Leave or end the stream. Idempotent; completes under cancellation."""
        if not self._over.done():
            self._driver.post(EndRequested(session=self._id, because="asked by the caller"))
        if not self._over.done():  # the client was closed before, or it was never begun
            self._driver.disown(self._id)
            self._finish(None)
        await asyncio.shield(self._driver.closed(self._id))

    # --- For the client ---

    async def begin(self) -> None:
        """Start, and return once it is on air. Raises what `start_stream` and `join_stream` do."""
        self._driver.adopt(self._id, self)  # type: ignore[arg-type]  # subclasses are carriers
        request = StreamRequested(
            session=self._id, stream=self.stream, role=self.role, wait_s=self._wait_s
        )
        try:
            await self._driver.begin(request)
            await self._started
        except BaseException:
            await self.aclose()
            raise

    def started(self) -> None:
        """The core says that it is on air for the first time."""
        if not self._started.done():
            self._started.set_result(None)

    def told(self, news: Announce) -> None:
        """Keep news of this stream, and of providers in general."""
        about_us = news.stream == self.stream and news.fields.get("role") == self.role.value
        if not (about_us or news.stream is None):
            return
        if about_us:
            self._note_error(news)
        if CATALOGUE[news.name].level is Level.DEBUG:
            return
        if self._news.qsize() >= _NEWS_MAX:
            self._news.get_nowait()
        self._news.put_nowait(
            News(
                name=news.name,
                because=news.because,
                at_s=self._loop.time(),
                stream=news.stream,
                provider=news.provider,
                sentence=words(news),
                fields=dict(news.fields),
            )
        )

    def ended(self, ended: Ended, errors: list[ProviderError]) -> None:
        """The core says that it is over."""
        self._finish(self._error_of(ended, errors))

    # --- Inside ---

    def _note_error(self, news: Announce) -> None:
        match news.name:
            case (
                "stream.on_air"
                | "failover.succeeded"
                | "migration.succeeded"
                | "leg.heard"
                | "stream.ended"
            ):
                self.error = None
            case "failover.started":
                self.error = "The picture is interrupted. It will be back in a moment."
            case "stream.off_air":
                self.error = "We are off air: no streaming provider can be reached. Still trying."
            case "stream.failed":
                self.error = f"The stream could not go on: {news.because}."

    def _error_of(self, ended: Ended, errors: list[ProviderError]) -> HitlessError | None:
        match ended.outcome:
            case Outcome.REQUESTED:
                return None
            case Outcome.STREAM_ENDED:
                return StreamEnded(f"{self.stream}: {ended.because}")
            case Outcome.NOT_ON_AIR:
                return NotOnAir(f"{self.stream}: {ended.because}")
            case Outcome.LOCAL_FAULT:
                return LocalFault(f"{self.stream}: {ended.because}")
            case Outcome.ALL_FAILED:
                return AllProvidersFailed(
                    f"{self.stream}: {ended.because}", errors or self._nobody(ended.because)
                )

    def _nobody(self, because: str) -> list[ProviderError]:
        listed = self._driver.state.listed
        if listed is None or not listed.providers:
            return [Unreachable(because, provider="backend", operation="list")]
        return [
            Refused("disabled in the list", provider=entry.name, operation="open")
            for entry in listed.providers
            if not entry.is_active
        ] or [Unreachable(because, provider=listed.providers[0].name)]

    def _finish(self, error: HitlessError | None) -> None:
        if self._over.done():
            return
        self._over.set_result(error)
        if not self._started.done():
            self._started.set_exception(error or StreamEnded(f"{self.stream} was left"))
            self._started.exception()  # retrieved: whoever began it may be gone
        self._news.put_nowait(None)

    async def _follow(self) -> AsyncIterator[News]:
        while (news := await self._news.get()) is not None:
            yield news
        self._news.put_nowait(None)
        error = self._over.result()
        if isinstance(error, AllProvidersFailed | LocalFault):
            raise error


class _Closable(Protocol):
    async def aclose(self) -> None: ...


S = TypeVar("S", bound=_Closable)


class Opening(Generic[S]):
    """What `start_stream` and `join_stream` return: await it, or enter it with `async with`."""

    def __init__(self, open: Any) -> None:  # a callable returning Awaitable[S]
        self._open = open
        self._session: S | None = None

    def __await__(self) -> Generator[Any, None, S]:
        return self._begin().__await__()

    async def _begin(self) -> S:
        session: S = await self._open()
        self._session = session
        return session

    async def __aenter__(self) -> S:
        return await self._begin()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.aclose()
