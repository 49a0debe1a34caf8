"""
Legs that a client far away carries: opened by a message, and live, silent or lost when it says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

from ..client import protocol
from ..core.events import LegHeard, LegSilent, Role
from ..errors import (
    ContractBroken,
    CredentialsRejected,
    HitlessError,
    LocalFault,
    MediaLost,
    NotOnAir,
    ProviderError,
    Refused,
    Retry,
    Unreachable,
)
from ..media.feed import Feed
from ..media.frame import EncodedFrame
from ..media.liveness import Liveness
from ..providers.base import Stats


_WORDS_CHARS_MAX: Final = 300
_WATCH_S: Final = 3600.0
_AGE_S_MAX: Final = 60.0
"""Older media than this is as good as none [s], whatever the client says."""

_ERRORS: Final[dict[str, type[ProviderError]]] = {
    kind.__name__: kind
    for kind in (Unreachable, Refused, CredentialsRejected, MediaLost, ContractBroken)
}


class RemoteProvider:
    """
    A provider as the client has it: its SDK carries the media, and we hear of it.

    Args:
        name: Its name.
        carried: Has the client carry a stream over it.
    """

    def __init__(self, name: str, carried: Callable[[str, str], Awaitable[RemoteLeg]]) -> None:
        self.name = name
        self._carried = carried

    async def start_stream(self, stream: str, source: Feed | None) -> RemoteLeg:
        """Have the client publish; `source` is its own. Raises as any provider does."""
        return await self._carried(stream, self.name)

    async def join_stream(self, stream: str) -> RemoteLeg:
        """Have the client watch. Raises as any provider does."""
        return await self._carried(stream, self.name)

    async def aclose(self) -> None:
        """There is nothing to release."""


class Told(Liveness):
    """
    Signs of life that the client watches for: it says at once when they are missing.

    So nobody looks at them here, and media counts as fresh until the client says otherwise.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__()
        self._clock = clock
        self.silent_s: float | None = None

    def last_media_s(self) -> float | None:
        return self._clock() if self.silent_s is None else self.silent_s

    def deadline_s(self) -> float | None:
        return self._clock() + _WATCH_S


class RemoteLeg:
    """
    A leg that the client carries.

    Args:
        stream, role, provider: What it is.
        number: What the client knows it by.
        say: Sends a message to the client.
        post: Tells the driver.
        why: Says why it is closed.
    """

    def __init__(
        self,
        stream: str,
        role: Role,
        provider: str,
        number: int,
        *,
        say: Callable[[protocol.Down], None],
        post: Callable[[LegSilent | LegHeard], None],
        why: Callable[[str], str],
    ) -> None:
        self.stream, self.role, self.provider, self.number = stream, role, provider, number
        self._say, self._post, self._why = say, post, why
        loop = asyncio.get_running_loop()
        self._clock = loop.time
        self._told = Told(loop.time)
        self.liveness: Liveness = self._told
        self._because = ""
        self._id: int | None = None
        self._is_closed = False
        self._opened: asyncio.Future[None] = loop.create_future()
        self._lost: asyncio.Future[HitlessError] = loop.create_future()

    @property
    def is_gone(self) -> bool:
        """Whether it was closed, by us or by the client."""
        return self._is_closed or self._lost.done()

    def is_same(self, news: protocol.LegNews) -> bool:
        """Whether news are of this leg, and it is not closed."""
        named = (news.stream, news.provider, news.leg)
        return not self.is_gone and named == (self.stream, self.provider, self.number)

    async def opened(self) -> None:
        """Wait for the first media. Raises what the client says, as an adapter would."""
        waited: set[asyncio.Future[Any]] = {self._opened, self._lost}
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        if self._lost.done():
            raise self._lost.result()

    async def lost(self) -> None:
        """Wait until the client says that it is lost; see `Leg`."""
        raise await asyncio.shield(self._lost)

    def stats(self) -> list[Stats]:
        """Nothing is measured here."""
        return []

    async def frames(self) -> AsyncIterator[EncodedFrame]:
        """Media never comes here."""
        return
        yield

    def request_keyframe(self) -> None:
        """The client's SDK asks for its own."""

    async def aclose(self) -> None:
        """See `close`; never waits."""
        self.close()

    def close(self) -> None:
        """Have the client let go of it, unless it has already. Idempotent."""
        if self._is_closed:
            return
        self._is_closed = True
        if not self._lost.done():
            because = self._why(self.provider)
            self._say(protocol.Close(stream=self.stream, leg=self.number, because=because))

    # --- What the client says ---

    def is_live(self) -> None:
        """It carries media."""
        if not self._opened.done():
            self._opened.set_result(None)

    def carried_as(self, id: int) -> None:
        """Learn the number that the driver knows it by; what was said before is said again."""
        self._id = id
        self._say_silent()

    def hear(self, news: protocol.LegNews) -> None:
        """Take news of this leg."""
        match news.state:
            case "opening":
                pass
            case "live":
                self.is_live()
            case "silent":
                self._told.silent_s = self._clock() - min(max(news.mediaAge, 0.0), _AGE_S_MAX)
                self._because = cut(news.because) or "the client hears nothing"
                self._say_silent()
            case "heard":
                self._told.silent_s = None
                if self._id is not None:
                    self._post(LegHeard(session=self.stream, leg=self._id))
            case "failed" | "closed":
                if not self._lost.done():
                    self._lost.set_result(_error(self.provider, self.role, news))

    def _say_silent(self) -> None:
        since_s, id = self._told.silent_s, self._id
        if id is not None and since_s is not None:
            because = self._because
            self._post(LegSilent(session=self.stream, leg=id, because=because, since_s=since_s))


def _error(provider: str, role: Role, news: protocol.LegNews) -> HitlessError:
    """Return what an adapter would raise for what the client says."""
    because = cut(news.because) or f"the client says {news.error[:40] or news.state}"
    after_s = news.retry_after_s if news.retry_after_s > 0 else None
    if news.error == "NotOnAir" and role is Role.VIEWER:
        return NotOnAir(because, retry_after_s=after_s)
    if news.error == "LocalFault":
        return LocalFault(because)
    kind = _ERRORS.get(news.error, MediaLost if news.state == "closed" else ProviderError)
    retry = Retry(news.retry) if news.retry else None
    return kind(because, provider=provider, retry=retry, retry_after_s=after_s)


def cut(text: str) -> str:
    """Return words from outside on one line, at most so long."""
    printable = "".join(char if char.isprintable() else " " for char in text[:_WORDS_CHARS_MAX])
    return printable.strip()
