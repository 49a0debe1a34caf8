"""A published stream."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ..core.events import Announce, EndRequested, Role, SourceFailed
from ..errors import LocalFault
from ..media.feed import Feed
from ..media.frame import Kind
from ..providers.base import Leg, Provider
from .driver import Driver
from .session import LiveSession


class LiveStream(LiveSession):
    """
    A stream that this client publishes. It is a `Leg` too.

    Args:
        driver: The client's.
        stream: Its id; it never changes, whoever carries it.
        feed: What is sent.
        owns_feed: Whether to close the feed with the stream.
    """

    role = Role.PUBLISHER

    def __init__(
        self, driver: Driver, stream: str, feed: Feed, *, name: str, owns_feed: bool
    ) -> None:
        super().__init__(driver, stream, name=name)
        self.feed = feed
        self._owns_feed = owns_feed
        self._muted: set[Kind] = set()
        self._watching = asyncio.create_task(self._watch_source(), name=f"hitless: {stream}")

    @property
    def muted(self) -> frozenset[Kind]:
        """What is muted now."""
        return frozenset(self._muted)

    def mute(self, kind: Kind, muted: bool = True) -> None:
        """
        Send silence (`Kind.AUDIO`) or black (`Kind.VIDEO`) instead of the source, or stop it.

        Frames keep flowing, so that a mute is never taken for a failure.
        """
        kind = Kind(kind)
        self.feed.mute(kind, muted)
        (self._muted.add if muted else self._muted.discard)(kind)
        self._driver.announce(
            Announce(
                name="track.muted" if muted else "track.unmuted",
                because="asked by the caller",
                stream=self.stream,
                fields={"role": self.role.value, "kind": kind.value},
            )
        )

    def set_quality(
        self,
        *,
        width: int | None = None,
        height: int | None = None,
        frame_rate: float | None = None,
        bitrate_bps: int | None = None,
    ) -> None:
        """
        Change the picture on all legs at once [pixel, pixel, 1/s, bit/s]; None: leave as it is.

        Raises:
            ConfigError: A value is impossible; nothing changes.
        """
        self.feed.set_quality(
            width=width, height=height, frame_rate=frame_rate, bitrate_bps=bitrate_bps
        )

    async def aclose(self) -> None:
        """End the stream. Idempotent; completes under cancellation."""
        self._watching.cancel()
        await super().aclose()
        if self._owns_feed:
            await asyncio.shield(self.feed.aclose())

    # --- Carrier ---

    async def open(self, provider: Provider, leg: int) -> Leg:
        """Publish over one provider."""
        return await provider.start_stream(self.stream, self.feed)

    async def carry(self, leg: int, opened: Leg, usable: Callable[[], None]) -> None:
        """A publishing leg is opened with its media proven, and sends by itself."""
        usable()

    def is_fed(self, now: float) -> bool:
        """Whether the source gives frames."""
        return self.feed.is_producing(now, within_s=self._driver.policy.silence_s)

    async def _watch_source(self) -> None:
        try:
            await self.feed.ended()
        except LocalFault as exc:
            self._driver.post(SourceFailed(session=self._id, because=str(exc)))
        else:
            because = "the source is at its end"
            self._driver.post(EndRequested(session=self._id, because=because))
