"""What opens one leg where a company's own token is shown: from a plan, or minted here."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Final, Generic, TypeVar

from ..core.events import Role
from ..errors import CredentialsRejected, Retry
from .clock import wall_s
from .credential import Access, Credential, Credentials, Token
from .rest import secret_of


TOKEN_S: Final = 6 * 3600
"""How long a token that is minted here lasts [s]: as long as an outage of who mints may last."""

NAME: Final = "{stream}"
"""In a configured name, where the stream's id goes."""

_SECRET_S: Final = 4.0

T = TypeVar("T")


class Issuer(ABC, Generic[T]):
    """
    Fetches or mints the tickets of one provider.

    Args:
        name: Provider name.
        app_id: Which account's application.
        secret: What tokens are minted with; None: there is none here.
        credentials: Fetches the plan's; None: there is no plan.

    Attributes:
        is_planned: Whether a plan brings them.
    """

    def __init__(
        self,
        name: str,
        *,
        app_id: str | int,
        secret: Token | None,
        credentials: Credentials | None,
    ) -> None:
        self.is_planned = credentials is not None
        self._name, self._app_id = name, app_id
        self._secret = None if secret is None else Credential(secret)
        self._credentials = credentials

    async def ticket(self, access: Access) -> T:
        """
        Return the credential of one stream and role.

        Raises:
            ConfigError: The provider has no name for such a stream.
            CredentialsRejected: The plan is for another application, or the secret could not be
                fetched.
            Exception: Whatever the application's own function raises.
        """
        if self._credentials is None:
            return await self.minted(access)
        found = await self._credentials(access)
        if found.get("app_id", self._app_id) != self._app_id:
            raise CredentialsRejected(
                "its plan is for another App ID than the configuration",
                provider=self._name,
                operation="publish" if access.role is Role.PUBLISHER else "view",
                retry=Retry.NEXT,
                answered=False,
            )
        return self.planned(access, found)

    async def secret(self) -> str | None:
        """
        Return what tokens are minted with; None: there is none here.

        Raises:
            CredentialsRejected: It could not be fetched.
        """
        if self._secret is None:
            return None
        deadline = asyncio.get_running_loop().time() + _SECRET_S
        return await secret_of(
            self._secret, provider=self._name, operation="mint", deadline=deadline
        )

    @abstractmethod
    def planned(self, access: Access, found: Mapping[str, Any]) -> T:
        """Return the ticket that a plan holds (Any: the plan's fields)."""

    @abstractmethod
    async def minted(self, access: Access) -> T:
        """Return one made here, without a token if there is nothing to make it with."""


def on_loop_s(ends_s: float | None) -> float | None:
    """Return a moment of the wall clock [s since 1970] on the loop's clock [s]; None: None."""
    return None if ends_s is None else asyncio.get_running_loop().time() + ends_s - wall_s()
