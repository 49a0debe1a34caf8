"""
Every exception hitless raises.

    HitlessError
    ├── ConfigError              asked for something impossible; raised before anything opens
    ├── ProviderError            one provider, one operation: .provider .operation .retry
    │   ├── Unreachable          no answer: DNS, TCP, TLS, timeout
    │   ├── Refused              it said no: capacity, 429, 5xx
    │   ├── CredentialsRejected  renew once, then the next provider
    │   ├── MediaLost            connected, but no media
    │   └── ContractBroken       it answered something its own specification forbids
    ├── LocalFault               this machine or the caller: nobody else is blamed
    ├── AllProvidersFailed       an ExceptionGroup: one ProviderError per attempt, in order
    ├── NotOnAir                 waited, and nobody published
    └── StreamEnded              it is over, or was used after its end

What to do next is data on the exception (`ProviderError.retry`), set by the adapter, which
alone knows its provider. The core never reads messages or status codes.

Messages name the provider, the operation, the limit that was passed and what to try; never a
token, a key or a user id.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import ClassVar, Self


class Retry(StrEnum):
    """What a failed operation asks of the caller (DESIGN 4.1)."""

    SAME = "same"
    """Ask this provider again, after a pause."""
    NEXT = "next"
    """Leave this provider; ask the next one now."""
    NEVER = "never"
    """Stop: no provider can help (a bad argument, no camera, no network on this machine)."""


class HitlessError(Exception):
    """Base class: catch this to catch everything raised on purpose."""


class ConfigError(HitlessError):
    """The configuration cannot work; the message names the field, its limit and the way out."""


class ProviderError(HitlessError):
    """
    One provider failed one operation.

    Attributes:
        provider: Name of the provider that failed.
        operation: What was asked of it: `publish`, `view`, `probe`, `close`.
        retry: What the adapter recommends.
        retry_after_s: How long the provider asked us to stay away [s], already capped at
            300 s; None if it did not say.
        answered: Whether anything at all came back. False means that the fault may as well lie
            in our own network, so nobody is blamed on this evidence alone.
    """

    default_retry: ClassVar[Retry] = Retry.NEXT
    default_answered: ClassVar[bool] = True

    def __init__(
        self,
        because: str,
        *,
        provider: str,
        operation: str = "open",
        retry: Retry | None = None,
        retry_after_s: float | None = None,
        answered: bool | None = None,
    ) -> None:
        super().__init__(f"{provider}: {operation} failed: {because}")
        self.because = because
        self.provider = provider
        self.operation = operation
        self.retry = self.default_retry if retry is None else retry
        self.retry_after_s = retry_after_s
        self.answered = self.default_answered if answered is None else answered


class Unreachable(ProviderError):
    """No answer: DNS, TCP, TLS or a timeout. `answered` is True for an active refusal (RST)."""

    default_retry = Retry.SAME
    default_answered = False


class Refused(ProviderError):
    """The provider answered, and the answer was no: capacity, 429, 5xx."""


class CredentialsRejected(ProviderError):
    """The provider does not accept our credential: renewed once, then the next provider."""

    default_retry = Retry.SAME


class MediaLost(ProviderError):
    """Connected, but no media arrives or none is acknowledged."""


class ContractBroken(ProviderError):
    """It answered something its own specification forbids: a bug, theirs or ours."""


class LocalFault(HitlessError):
    """
    This machine or the caller: no camera, an unreadable file, a dead encoder, no network.

    Nobody else is blamed and nothing fails over, because no other provider could do better.
    """


class AllProvidersFailed(HitlessError, ExceptionGroup[ProviderError]):
    """No provider could carry the stream; `exceptions` holds one error per attempt, in order."""

    def derive(self, excs: Sequence[ProviderError], /) -> Self:  # type: ignore[override]
        return type(self)(self.message, excs)

    def __str__(self) -> str:
        return f"{self.message}: " + "; ".join(str(exc) for exc in self.exceptions)


class NotOnAir(HitlessError):
    """
    Nobody publishes this stream.

    From `join_stream` of the library: nobody came during `wait_s`. From an adapter: the provider
    knows of no publisher right now; `retry_after_s` [s] is its advice when to ask again.
    """

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class StreamEnded(HitlessError):
    """The stream is over, or it was used after its end."""
