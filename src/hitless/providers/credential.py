"""Credentials of providers: where they come from, and when they are fetched again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..core.events import Role
from ..errors import CredentialsRejected, Retry


Token = str | Callable[[], Awaitable[str | None]]
"""A Bearer token, or what fetches one (None: send none): it is called again after a rejection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """
    What a credential is asked for.

    Attributes:
        provider: At whom.
        stream: Of which stream.
        role: To publish or to view it.
        renew: Whether the one given before was rejected.
    """

    provider: str
    stream: str
    role: Role
    renew: bool = False


Credentials = Callable[[Access], Awaitable[Mapping[str, Any]]]
"""Returns what an adapter needs for one stream and role, `{"token": ...}` (Any: the adapter's)."""


def token_of(credentials: Credentials, access: Access) -> Token:
    """Return what fetches the token of one access; once it gave one, it asks to renew it."""
    is_given = access.renew

    async def fetch() -> str | None:
        nonlocal is_given
        token = (await credentials(replace(access, renew=is_given))).get("token")
        is_given = True
        return None if token is None else str(token)

    return fetch


def check_token(token: object, *, provider: str, operation: str) -> None:
    """
    Check that a Bearer token can be sent in a header; nothing of it is quoted.

    Raises:
        CredentialsRejected: It is no text of one line, so no request was made: fetch or write it
            again without line breaks and control characters.
    """
    if isinstance(token, str) and token.isprintable():
        return
    what = (
        "has a line break or control character in it" if isinstance(token, str) else "is no text"
    )
    raise CredentialsRejected(
        f"the token {what}, so it was not sent: give a token of one line",
        provider=provider,
        operation=operation,
        retry=Retry.NEXT,
        answered=False,
    )


class Credential:
    """A Bearer token that is renewed once when it is rejected."""

    def __init__(self, token: Token | None) -> None:
        self._token = token
        self._current: str | None = None
        self._is_fetched = False
        self._lock = asyncio.Lock()
        self._doubted: set[str] = set()

    async def value(self) -> str | None:
        """
        Return the token to send; None: send none.

        Raises:
            Exception: Whatever the caller's own function raises.
        """
        if self._token is None or isinstance(self._token, str):
            return self._token
        async with self._lock:
            if not self._is_fetched:
                self._current = await self._token()
                self._is_fetched = True
            return self._current

    def rejected(self, operation: str, used: str | None) -> Retry:
        """Return what to do after `used` was rejected: `SAME` if a new one will be sent."""
        if not callable(self._token):
            return Retry.NEXT
        if not self._is_fetched or used != self._current:
            return Retry.SAME  # renewed meanwhile, for another stream
        self._is_fetched = False
        if operation in self._doubted:
            return Retry.NEXT
        self._doubted.add(operation)
        return Retry.SAME

    def accepted(self, operation: str) -> None:
        """Trust the token again."""
        self._doubted.discard(operation)
