"""What the desks share: the control APIs that a stand-in serves beside its media."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Final, Protocol

from aiohttp import web

from ..errors import ConfigError
from .catalogue import REGIONS
from .faults import Injected
from .gate import Pass


SUBJECTS_MAX: Final = 10_000
"""Rooms whose own limit is remembered; the oldest is forgotten then."""

_SAME: Final[Mapping[str, str]] = {"us": "na"}
"""How hosts call a region that paths call otherwise."""


class Desk(Protocol):
    """A provider's control API, answering from the sessions of one stand-in."""

    def routes(self) -> Iterable[web.RouteDef]:
        """Return what it serves."""

    def check(self, who: Pass, stream: str, *, publishes: bool) -> None:
        """
        Let somebody join whose credential is good.

        Raises:
            Rejected: Banned, forbidden, or the stream is blocked.
        """


class NoDesk:
    """For stand-ins without a control API."""

    def routes(self) -> Iterable[web.RouteDef]:
        """See `Desk.routes`."""
        return ()

    def check(self, who: Pass, stream: str, *, publishes: bool) -> None:
        """See `Desk.check`."""


class Rates:
    """Counts the calls of the last seconds; those that are refused do not count."""

    def __init__(self) -> None:
        self._calls: dict[tuple[str, str], deque[float]] = {}

    def take(
        self, kind: str, *, limit: int, now: float, within_s: float = 1.0, subject: str = ""
    ) -> bool:
        """
        Return whether one more call is within a limit, and count it if so.

        Args:
            kind: Which kind of call.
            limit: How many.
            now: When [s].
            within_s: In how long a time [s].
            subject: The room or channel whose own limit it is.
        """
        calls = self._calls.pop((kind, subject), None) or deque()
        self._calls[kind, subject] = calls  # last, so the one not asked for longest goes first
        while calls and calls[0] <= now - within_s:
            calls.popleft()
        if len(calls) >= limit:
            return False
        calls.append(now)
        while len(self._calls) > SUBJECTS_MAX:
            del self._calls[next(iter(self._calls))]
        return True


def region_of(request: web.Request, injected: Injected) -> str:
    """
    Return the region that a request goes to: `?region=`, else its host's, else the stand-in's.

    Hosts are called as the provider's are: `api-eu-west-1.localhost`, `rtc-api-fra.localhost`.

    Raises:
        ConfigError: `?region=` names one that the provider has not.
    """
    known = REGIONS[injected.speaks]
    if not known:
        return ""
    said = request.query.get("region")
    if said is not None:
        if said not in known:
            raise ConfigError(f"region: {injected.speaks} has {', '.join(known)}")
        return said
    parts = request.host.partition(".")[0].split("-")
    for part in parts:
        if _SAME.get(part, part) in known:
            return _SAME.get(part, part)
    return injected.home
