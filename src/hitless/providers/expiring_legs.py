"""Legs that a provider ends when their credential ends: what carries the media, and until when."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Generic, TypeVar

from ..errors import CredentialsRejected, Retry
from ..media.frame import EncodedFrame
from ..media.liveness import Liveness
from .base import Leg, Stats, ViewLeg


L = TypeVar("L", bound=Leg)


class ExpiringLeg(Generic[L]):
    """
    A leg of `Rtmp` or `Whip` that ends at a known time; see `Expiring`.

    Neither a push, whose key is in its address, nor a session by WHIP (RFC 9725) can be given a
    new credential: whoever looks after the leg moves the stream in time.

    Args:
        leg: Carries the media.
        operation: `publish` or `view`, for errors.
        expires_s: When its credential ends it [s, the loop's clock]; None: not known, or never.

    Attributes:
        leg, expires_s: As given.
    """

    def __init__(self, leg: L, *, operation: str, expires_s: float | None) -> None:
        self.leg, self._operation, self.expires_s = leg, operation, expires_s

    @property
    def provider(self) -> str:
        """Name of the provider that carries this leg."""
        return self.leg.provider

    @property
    def liveness(self) -> Liveness:
        """Signs of life on the loop's clock."""
        return self.leg.liveness

    async def renew(self) -> None:
        """
        See `Expiring`; it cannot be done.

        Raises:
            CredentialsRejected: Always.
        """
        raise CredentialsRejected(
            "a leg that is open takes no new credential; another leg is opened with one",
            provider=self.provider,
            operation=self._operation,
            retry=Retry.NEXT,
            answered=False,
        )

    async def lost(self) -> None:
        """See `Leg.lost`."""
        await self.leg.lost()

    def stats(self) -> list[Stats]:
        """See `Leg.stats`."""
        return self.leg.stats()

    async def aclose(self) -> None:
        """Release everything. Idempotent; never raises; at most 2 s; safe under cancellation."""
        await self.leg.aclose()


class ExpiringViewLeg(ExpiringLeg[ViewLeg]):
    """The same for a leg that brings media to us."""

    def frames(self) -> AsyncIterator[EncodedFrame]:
        """See `ViewLeg.frames`."""
        return self.leg.frames()

    def request_keyframe(self) -> None:
        """See `ViewLeg.request_keyframe`."""
        self.leg.request_keyframe()
