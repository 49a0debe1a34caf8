"""What a provider must do, as protocols; there is no base class to inherit from."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Mapping
from typing import Any, Protocol, runtime_checkable

from ..media.feed import Feed
from ..media.frame import EncodedFrame
from ..media.liveness import Liveness


Stats = Mapping[str, Any]
"""One dictionary of W3C webrtc-stats: `type`, `id`, `kind` ... (values are of any JSON type)."""


@runtime_checkable
class Leg(Protocol):
    """One stream carried by one provider: it carries media from creation to `aclose()`."""

    @property
    def provider(self) -> str:
        """Name of the provider that carries this leg."""
        ...

    @property
    def liveness(self) -> Liveness:
        """Signs of life, fed by the leg on the loop's clock."""
        ...

    async def lost(self) -> None:
        """
        Wait until the leg is lost for good, and say why. Never returns normally.

        Silence is not loss: it is read from `liveness`, and may end. Cancelling is safe.

        Raises:
            ProviderError: The provider ended or broke the leg.
            StreamEnded: The provider says that the stream is over.
        """
        ...

    def stats(self) -> list[Stats]:
        """Return what is known of the leg, in webrtc-stats terms."""
        ...

    async def aclose(self) -> None:
        """Release everything. Idempotent; never raises; bounded; safe under cancellation."""
        ...


@runtime_checkable
class Expiring(Protocol):
    """What a leg has besides, if the provider ends it at a known time unless it is renewed."""

    @property
    def expires_s(self) -> float | None:
        """When the provider ends the leg [s, the loop's clock]; None: not as things stand."""
        ...

    async def renew(self) -> None:
        """
        Give the provider a new credential, so that `expires_s` grows. Media goes on meanwhile.

        Raises:
            HitlessError: It could not be had, or was not taken; the leg still lives.
        """
        ...


@runtime_checkable
class ViewLeg(Leg, Protocol):
    """A leg that brings media to us."""

    def frames(self) -> AsyncIterator[EncodedFrame]:
        """
        Yield encoded frames as they become complete, each once, in order of arrival per kind.

        Iterate at most once. Ends when the leg is closed by us; never raises (see `lost`).
        """
        ...

    def request_keyframe(self) -> None:
        """Ask the far side for a keyframe (RFC 4585 PLI). Cheap; the far side limits the rate."""
        ...


@runtime_checkable
class Provider(Protocol):
    """
    A service that carries live streams.

    Two attributes are optional. `first_media_s`: how long first media may take [s], where that is
    not the policy's usual time. `fault_domain`: what fails together with it; after a failure the
    next choice comes from another one.
    """

    @property
    def name(self) -> str:
        """Short, stable, lower-case: `agora`, `zegocloud`, `webrtc`."""
        ...

    # Awaitable, not `async def`: LiveStreamingProvider returns an object that can be awaited
    # or entered. An adapter's plain `async def` satisfies this too.
    def start_stream(self, stream: str, source: Feed) -> Awaitable[Leg]:
        """
        Publish `source` as `stream` and return once the first media is proven.

        Proven means acknowledged or seen again by a self-view, never merely "connected". The
        caller owns `source`; closing the leg does not close it. One call is one attempt: no
        retries inside. Cancelling releases everything, an answer that comes late included.

        Raises:
            ProviderError: This provider cannot; `retry` says what to do next.
            LocalFault: This machine cannot.
        """
        ...

    def join_stream(self, stream: str) -> Awaitable[ViewLeg]:
        """
        View `stream` and return once the first media arrived.

        One call is one attempt. Cancelling releases everything, late answers included.

        Raises:
            NotOnAir: The provider knows of no publisher now (WHEP 404 or 409).
            ProviderError: This provider cannot; `retry` says what to do next.
            LocalFault: This machine cannot.
        """
        ...

    async def aclose(self) -> None:
        """Release everything. Idempotent; never raises; safe under cancellation."""
        ...
