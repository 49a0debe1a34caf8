"""
WHIP and WHEP where a stream is called as its credential says: a channel, a room, a stream id.

The credential is fetched before the URL is known, since a plan's names carry an epoch, and it is
sent along with exactly that request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar

from yarl import URL

from ..core.events import Role
from ..errors import CredentialsRejected, HitlessError, Retry
from ..media.feed import Feed
from .credential import Access
from .signalling import Answer, Signalling
from .whip import Whip
from .whip_legs import BoundedLeg, PublishingLeg, ViewingLeg


T = TypeVar("T")

KNOWN_MAX: Final = 1000
"""Streams that something is remembered of."""

_CONFLICT: Final = 409


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """
    What opens one leg.

    Attributes:
        name: What the stream is called there; it replaces `{stream}` in the URL.
        token: Bearer token; None: none is sent.
        url: Where to POST the offer; None: as configured. Of the same origin.
    """

    name: str
    token: str | None = field(repr=False)
    url: str | None = field(default=None, repr=False)


Grants = Callable[[Access], Awaitable[Grant]]


class NamedWhip(Whip):
    """
    A `Whip` that asks for name and token at once.

    Args:
        name: Provider name.
        grants: Fetches what opens a leg; asked to renew once after a rejection.
        settings: What `Whip` takes, but for `token` and `credentials`.
    """

    def __init__(self, name: str, *, grants: Grants, **settings: Any) -> None:
        super().__init__(name, credentials=self._token_of, **settings)
        self._grants = grants
        self._streams: dict[str, str] = {}
        self._ready: dict[tuple[str, Role], Grant] = {}
        self._refused: dict[tuple[str, Role], None] = {}
        self._status: dict[str, int] = {}

    async def start_stream(self, stream: str, source: Feed) -> PublishingLeg:
        """Publish; see `Provider.start_stream`."""
        self._status.pop(stream, None)
        grant = await self._granted(stream, Role.PUBLISHER)
        with self._using(grant, stream, Role.PUBLISHER):
            return await super().start_stream(grant.name, source)

    async def join_stream(self, stream: str) -> ViewingLeg[Answer]:
        """View; see `Provider.join_stream`."""
        grant = await self._granted(stream, Role.VIEWER)
        with self._using(grant, stream, Role.VIEWER):
            return await super().join_stream(grant.name)

    def is_taken(self, stream: str) -> bool:
        """Whether the last start of a stream was refused with 409: somebody publishes it."""
        return self._status.get(stream) == _CONFLICT

    # --- Inside ---

    async def _granted(self, stream: str, role: Role) -> Grant:
        renew = (stream, role) in self._refused
        self._refused.pop((stream, role), None)
        access = Access(provider=self.name, stream=stream, role=role, renew=renew)
        operation = "publish" if role is Role.PUBLISHER else "view"
        grant = await fetched(self._grants(access), self.name, operation, self.first_media_s)
        remember(self._streams, grant.name, stream)
        return grant

    @contextmanager
    def _using(self, grant: Grant, stream: str, role: Role) -> Iterator[None]:
        self._ready[grant.name, role] = grant
        try:
            yield
        except CredentialsRejected:
            remember(self._refused, (stream, role), None)
            raise
        finally:
            self._ready.pop((grant.name, role), None)

    async def _token_of(self, access: Access) -> Mapping[str, Any]:
        grant = self._ready.pop((access.stream, access.role), None)
        if grant is None:  # a publisher's own view, or a token that was rejected later
            stream = self._streams.get(access.stream, access.stream)
            grant = await self._grants(replace(access, stream=stream))
        return {"token": grant.token}

    def _signalling(self, stream: str, role: Role) -> Signalling:
        signalling = super()._signalling(stream, role)  # a copy: its credential is scoped
        stock, known = signalling.refusal, self._streams.get(stream, stream)

        def refusal(answer: Answer, operation: str) -> HitlessError:
            if role is Role.PUBLISHER:
                remember(self._status, known, answer.status)
            return stock(answer, operation)

        # An instance's own method, as in `media.peer`: others stay as they are.
        signalling.refusal = refusal  # type: ignore[method-assign]
        return signalling

    def _endpoint(self, stream: str, role: Role) -> URL:
        grant = self._ready.get((stream, role))
        if grant is None or grant.url is None:
            return super()._endpoint(stream, role)
        return URL(grant.url, encoded=True)


async def fetched(work: Awaitable[T], provider: str, operation: str, limit_s: float) -> T:
    """
    Return what a function of the application gives, within a limit [s].

    Raises:
        CredentialsRejected: It failed or took too long; its words may hold a secret, so only
            the error's type is told.
        HitlessError: What it raised, if it is one of ours.
    """
    try:
        async with asyncio.timeout(limit_s):
            return await work
    except HitlessError:
        raise
    except Exception as exc:
        failed = type(exc).__name__
    raise CredentialsRejected(
        f"no credential could be had ({failed} in the function)",
        provider=provider,
        operation=operation,
        retry=Retry.NEXT,
        answered=False,
    )


def also_when_closed(leg: BoundedLeg, tell: Callable[[], None]) -> None:
    """Name one more whom to tell that nothing is left of a leg."""
    before = leg._when_closed

    def both() -> None:
        before()
        tell()

    leg.when_closed(both)


K = TypeVar("K")
V = TypeVar("V")


def remember(known: dict[K, V], key: K, value: V) -> None:
    """Keep something, and of what is kept the newest `KNOWN_MAX`."""
    known.pop(key, None)
    known[key] = value
    if len(known) > KNOWN_MAX:
        del known[next(iter(known))]
