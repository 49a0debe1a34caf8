"""The leg that views an Agora channel through the SDK's process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from ..errors import (
    ConfigError,
    ContractBroken,
    CredentialsRejected,
    HitlessError,
    Retry,
    Unreachable,
)
from ..media.liveness import Liveness
from . import sdk_wire as wire
from .agora_codes import ERRORS, error_of, reason_error
from .agora_sdk_process import begin, missing
from .agora_tickets import PUBLISHER_UIDS, Ticket
from .expiring_legs import ExpiringViewLeg
from .sdk_leg import SdkViewingLeg
from .sdk_wire import Fault, Word


_RENEW_S: Final = 5.0
"""How long the SDK may take to say whether it takes a new token [s]: a call within one process."""


class AgoraViewingLeg(SdkViewingLeg):
    """One stream being viewed."""

    service = "Agora"

    def __init__(self, provider: str, liveness: Liveness) -> None:
        super().__init__(provider, liveness)
        self._answered, self._answer = asyncio.Event(), 0

    async def open(self, app_id: str, ticket: Ticket, deadline: float) -> None:
        """
        View, and return when the first media arrived. Called once.

        Raises:
            NotOnAir: Nobody publishes in the channel.
            ProviderError: Not by `deadline` [s, the loop's clock], or refused.
            ConfigError: The SDK is not installed, or cannot be loaded.
            LocalFault: No process can be started.
        """
        process = await begin(self._provider)
        process.join(
            {
                "app_id": app_id,
                "channel": ticket.channel,
                "uid": ticket.uid,
                "token": ticket.token,
                # First and last uid of those who are listened to.
                "publishers": [PUBLISHER_UIDS[0], PUBLISHER_UIDS[-1]],
            }
        )
        await self._view(process, deadline)

    async def renew(self, token: str) -> None:
        """
        Give the SDK a new token for the same channel and uid; media goes on meanwhile.

        Raises:
            ProviderError: It did not take it, or did not answer; or the leg is lost.
        """
        assert self._process is not None
        self._answered.clear()
        self._process.renew(token)
        deadline = asyncio.get_running_loop().time() + _RENEW_S
        if not await self._comes(self._answered, deadline):
            because = "no answer of Agora's SDK to a new token"
            raise Unreachable(because, provider=self._provider, operation="view")
        if self._answer != 0:
            # Whatever the number: the token that is there still holds, and another leg may do.
            raise CredentialsRejected(
                f"Agora's SDK does not take a new token (code {self._answer})",
                provider=self._provider,
                operation="view",
                retry=Retry.NEXT,
            )

    def _hear(self, word: int, body: bytes) -> None:
        if word == Word.RENEWED:
            (self._answer,) = wire.RENEWED.unpack(body)
            self._answered.set()
        else:
            super()._hear(word, body)

    def _awaited(self) -> tuple[asyncio.Event, ...]:
        return (*super()._awaited(), self._answered)

    def _error_of(self, what: int, number: int) -> HitlessError | None:
        provider, operation = self._provider, "view"
        match what:
            case Fault.MISSING:
                return ConfigError(missing(provider))
            case Fault.LIBRARY:
                return ConfigError(
                    f"{provider}: Agora's SDK is installed but cannot be loaded. If its native "
                    "library is missing, have it fetched once, before Hitless runs: "
                    "python -c 'import agora' (it downloads without verifying TLS)"
                )
            case Fault.ERROR:  # of what is not documented, the media tell
                if number not in ERRORS:
                    return None
                return error_of(number, provider=provider, operation=operation)
            case Fault.REASON:
                found = reason_error(number, provider=provider, operation=operation)
                return found or self._lost("the SDK left the channel")
            case Fault.CODEC:
                return self._lost(f"pictures in a codec that is not decoded here ({number})")
            case Fault.SOUND:
                return ContractBroken(
                    f"sound at {number} Hz, or not stereo: not as it was asked for",
                    provider=provider,
                    operation=operation,
                )
            case _:
                return self._unexpected()


class RenewedViewLeg(ExpiringViewLeg):
    """
    A view through the SDK, whose token is renewed while it is open; see `Expiring`.

    Args:
        leg: Carries the media.
        ticket: What opened it.
        fetch: Returns a new one for the same channel and uid.
    """

    def __init__(
        self, leg: AgoraViewingLeg, ticket: Ticket, fetch: Callable[[Ticket], Awaitable[Ticket]]
    ) -> None:
        super().__init__(leg, operation="view", expires_s=ticket.ends_s)
        self._viewing, self._ticket, self._fetch = leg, ticket, fetch

    async def renew(self) -> None:
        """
        See `Expiring`.

        Raises:
            CredentialsRejected: There is no new token, it is for another channel or uid, as after
                a move, or the SDK does not take it.
            Unreachable: The SDK does not answer.
        """
        fresh = await self._fetch(self._ticket)
        here = (self._ticket.channel, self._ticket.uid)
        if fresh.token is None or (fresh.channel, fresh.uid) != here:
            raise CredentialsRejected(
                "the new token is for another channel or uid; another leg is opened with it",
                provider=self.provider,
                operation="view",
                retry=Retry.NEXT,
                answered=False,
            )
        await self._viewing.renew(fresh.token)
        self._ticket, self.expires_s = fresh, fresh.ends_s
