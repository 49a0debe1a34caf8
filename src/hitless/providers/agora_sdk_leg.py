"""The leg that views an Agora channel through the SDK's process."""

from __future__ import annotations

from ..errors import ConfigError, ContractBroken, HitlessError
from .agora_codes import ERRORS, error_of, reason_error
from .agora_sdk_process import begin, missing
from .agora_tickets import PUBLISHER_UIDS, Ticket
from .sdk_leg import SdkViewingLeg
from .sdk_wire import Fault


class AgoraViewingLeg(SdkViewingLeg):
    """One stream being viewed."""

    service = "Agora"

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
