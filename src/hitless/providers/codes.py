"""What a provider's own code means to us: an error, an advice, and words for people."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import HitlessError, LocalFault, NotOnAir, ProviderError, Retry


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """
    One row of a provider's table.

    Attributes:
        error: What is raised for it.
        retry: What to do next.
        says: What happened, and what to try; for people.
        retry_after_s: How long to stay away at least [s]; None: not said.
        is_renewable: Whether a fresh credential may help. Never for who was banned or kicked:
            they do not come back by renewing a token.
        is_absent: Whether it says that what was asked about does not exist (any more).
    """

    error: type[ProviderError] | type[LocalFault] | type[NotOnAir]
    retry: Retry
    says: str
    retry_after_s: float | None = None
    is_renewable: bool = False
    is_absent: bool = False

    def raised(
        self,
        code: int | str,
        *,
        provider: str,
        operation: str,
        also: str = "",
        retry: Retry | None = None,
    ) -> HitlessError:
        """
        Return the error of this row.

        Args:
            code: The provider's code, for the message.
            provider: Name for errors.
            operation: What was asked for.
            also: More for the message; must hold no secret.
            retry: Another advice than the row's, for who knows more.
        """
        because = f"{self.says} (code {code}{also})"
        if issubclass(self.error, ProviderError):
            return self.error(
                because,
                provider=provider,
                operation=operation,
                retry=retry or self.retry,
                retry_after_s=self.retry_after_s,
            )
        text = f"{provider}: {operation} failed: {because}"
        if issubclass(self.error, NotOnAir):
            return self.error(text, retry_after_s=self.retry_after_s)
        return self.error(text)
