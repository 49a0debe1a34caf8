"""
Viewing an Agora channel through Agora's native SDK, in a process of its own.

Pictures come as they were encoded; sound comes decoded (the SDK's encoded observer is not
implemented in 2.4.10) and is encoded again, as AAC: so it is aligned with other legs by what is
heard, as that of any leg of another codec. Frames therefore never match other providers'.

Written from the published source of `agora-python-server-sdk` 2.4.10. It was run with a stand-in
of that package only: neither the native library nor Agora itself was. Unconfirmed are whether its
H.264 is in Annex B with parameter sets in every keyframe, what its presentation times mean, and
for how long it goes on giving sound after the last packet came. While it does, only the pictures
tell of a loss.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from ..core.events import Role
from ..errors import CredentialsRejected, Retry
from ..media.liveness import Liveness
from .agora_sdk_leg import AgoraViewingLeg
from .agora_tickets import Ticket
from .credential import Access
from .named_whip import fetched, remember


FIRST_MEDIA_S: Final = 10.0
"""Time to the first media [s]: a process that loads a native library, and a join. Not measured."""

SILENCE_S: Final = 1.0
ONE_KIND_S: Final = 2.0
"""Silences that count [s]: nobody has measured how evenly the SDK gives what it has."""


class AgoraSdk:
    """
    Views streams, each in a process of its own.

    Args:
        name: Provider name.
        app_id: App ID of the project.
        ticket: Fetches what opens a leg; asked to renew once after a rejection.
        first_media_s: Time to the first media [s].
        silence_s: Shortest silence of all media that counts [s]; None: 1.
        one_kind_silence_s: The same of one kind while another flows [s]; None: 2.
    """

    def __init__(
        self,
        name: str,
        *,
        app_id: str,
        ticket: Callable[[Access], Awaitable[Ticket]],
        first_media_s: float = FIRST_MEDIA_S,
        silence_s: float | None = None,
        one_kind_silence_s: float | None = None,
    ) -> None:
        self._name, self._app_id, self._ticket = name, app_id, ticket
        self._first_media_s = first_media_s
        self._silence_s = silence_s or SILENCE_S
        self._one_kind_s = one_kind_silence_s or ONE_KIND_S
        self._refused: dict[str, bool] = {}
        self._legs: set[AgoraViewingLeg] = set()

    async def join_stream(self, stream: str) -> AgoraViewingLeg:
        """
        View; see `Provider.join_stream`.

        Raises:
            ConfigError: The SDK is not installed, or cannot be loaded.
        """
        deadline = asyncio.get_running_loop().time() + self._first_media_s
        renew = self._refused.pop(stream, False)
        access = Access(provider=self._name, stream=stream, role=Role.VIEWER, renew=renew)
        ticket = await fetched(self._ticket(access), self._name, "view", self._first_media_s)
        liveness = Liveness(silence_s=self._silence_s, one_kind_s=self._one_kind_s)
        leg = AgoraViewingLeg(self._name, liveness)
        self._legs.add(leg)
        leg.when_closed(lambda: self._legs.discard(leg))
        try:
            await leg.open(self._app_id, ticket, deadline)
        except BaseException as exc:
            if isinstance(exc, CredentialsRejected):
                if renew:  # a fresh one did not help
                    exc.retry = Retry.NEXT
                else:
                    remember(self._refused, stream, True)
            await leg.aclose()
            raise
        return leg

    async def aclose(self) -> None:
        """Close every leg that is still open. Idempotent; at most 2 s."""
        await asyncio.gather(*(leg.aclose() for leg in tuple(self._legs)))
