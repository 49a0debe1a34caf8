"""
A LiveKit room by LiveKit's own package, in a process of its own: `LiveKit(media="sdk")`.

For a server whose WHIP endpoint cannot be reached or is not there. It costs more, and shows less:
viewing, the package gives decoded media only, so that pictures are encoded anew (VP8 or H.264)
and sound too (AAC, aligned with other legs by what is heard): nothing matches other providers'
frames. Publishing, pictures go as they were encoded, sound is encoded anew, and the first media
are proven by the server's receiver reports, not by a view of our own.

The package reconnects by itself for about a minute; here the first sign of that ends the leg,
and so does silence, measured by counts of packets. A server that stands still was not noticed by
the package for 4 s, in which it went on giving sound (livekit 1.2.1, livekit-server 1.13.0).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Final

from yarl import URL

from ..core.events import Role
from ..media.feed import Feed
from ..media.frame import Codec
from ..media.liveness import Liveness
from .credential import Access, Credentials, check_token
from .livekit_sdk_legs import LiveKitSdkPublishingLeg, LiveKitSdkViewingLeg
from .named_whip import fetched


FIRST_MEDIA_S: Final = 10.0
"""Time to the first media [s]: a process that loads a native library (1 s), and a join."""

SILENCE_S: Final = 0.6
"""Shortest silence that counts [s]: packets are counted every 0.1 s, and what a publisher hears
of the server (feedback, receiver reports) came up to 0.2 s apart."""

ONE_KIND_S: Final = 2.0


class LiveKitSdk:
    """
    Publishes and views streams, each leg in a process of its own.

    Args:
        name: Provider name.
        url: The server, `http://` or `https://`.
        credentials: Fetches `{"token": ...}` of one stream and role.
        video_codec: What pictures are encoded in for a viewer.
        first_media_s: Time to the first media [s].
        silence_s: Shortest silence that counts [s]; never less than 0.6.
        one_kind_silence_s: The same of one kind while another flows [s]; never less than 2.
    """

    def __init__(
        self,
        name: str,
        *,
        url: URL,
        credentials: Credentials,
        video_codec: Codec,
        first_media_s: float,
        silence_s: float,
        one_kind_silence_s: float,
    ) -> None:
        self._name, self._credentials, self._codec = name, credentials, video_codec
        self._url = str(url.with_scheme("wss" if url.scheme == "https" else "ws"))
        self._first_media_s = first_media_s
        self._silence_s = max(SILENCE_S, silence_s)
        self._one_kind_s = max(ONE_KIND_S, one_kind_silence_s)
        self._legs: set[LiveKitSdkPublishingLeg | LiveKitSdkViewingLeg] = set()

    async def start_stream(self, stream: str, source: Feed) -> LiveKitSdkPublishingLeg:
        """
        Publish; see `Provider.start_stream`.

        Raises:
            ConfigError: The package is not installed, or cannot be loaded.
        """
        deadline = asyncio.get_running_loop().time() + self._first_media_s
        token = await self._fetch(stream, Role.PUBLISHER)
        words = "nothing came from the server"
        liveness = Liveness(silence_s=self._silence_s, path_words=words)
        leg = LiveKitSdkPublishingLeg(self._name, liveness, source)
        await self._open(leg, leg.open(self._url, token, deadline))
        return leg

    async def join_stream(self, stream: str, watch: str) -> LiveKitSdkViewingLeg:
        """
        View; see `Provider.join_stream`.

        Args:
            stream: Which.
            watch: Identity of the publisher; empty: the first one that is there.

        Raises:
            ConfigError: The package is not installed, or cannot be loaded.
        """
        deadline = asyncio.get_running_loop().time() + self._first_media_s
        token = await self._fetch(stream, Role.VIEWER)
        liveness = Liveness(silence_s=self._silence_s, one_kind_s=self._one_kind_s)
        leg = LiveKitSdkViewingLeg(self._name, liveness)
        await self._open(leg, leg.open(self._url, token, self._codec, watch, deadline))
        return leg

    async def aclose(self) -> None:
        """Close every leg that is still open. Idempotent; at most 2 s."""
        await asyncio.gather(*(leg.aclose() for leg in tuple(self._legs)))

    # --- Inside ---

    async def _fetch(self, stream: str, role: Role) -> str:
        access = Access(provider=self._name, stream=stream, role=role, renew=False)
        operation = "publish" if role is Role.PUBLISHER else "view"
        given = await fetched(
            self._credentials(access), self._name, operation, self._first_media_s
        )
        token = given.get("token")
        check_token(token, provider=self._name, operation=operation)
        return str(token)

    async def _open(
        self, leg: LiveKitSdkPublishingLeg | LiveKitSdkViewingLeg, opening: Awaitable[None]
    ) -> None:
        self._legs.add(leg)
        leg.when_closed(lambda: self._legs.discard(leg))
        try:
            await opening
        except BaseException:
            await leg.aclose()
            raise
