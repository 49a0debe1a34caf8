"""What opens one leg at ZEGOCLOUD: room, stream, user and token, from a plan or minted here."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ..core.events import Role
from ..errors import ConfigError, CredentialsRejected, Retry
from . import zego_token
from .clock import wall_s
from .credential import Access, Credential, Credentials, Token
from .rest import secret_of
from .zego_api import checked_stream


TOKEN_S: Final = 6 * 3600
"""How long a token that is minted here lasts [s]: as long as an outage of who mints may last."""

NAME: Final = "{stream}"

_USER: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SECRET_S: Final = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """
    A credential of one stream and role.

    Attributes:
        room, stream: What they are called.
        user: As whom.
        token: token04; None: there is no secret, and no plan that brings one.
        is_fenced: Whether the stream's name carries the epoch: an older publisher has another.
    """

    room: str
    stream: str
    user: str = field(repr=False)
    token: str | None = field(repr=False)
    is_fenced: bool


class Tickets:
    """
    Fetches or mints credentials; see `Zegocloud` for the arguments.

    Raises:
        ConfigError: One of them cannot be used; the message says which.
    """

    def __init__(
        self,
        name: str,
        *,
        app_id: int,
        server_secret: Token | None,
        credentials: Credentials | None,
        stream_name: str,
        user: str,
    ) -> None:
        if isinstance(app_id, bool) or not isinstance(app_id, int) or not 0 < app_id < 1 << 32:
            raise ConfigError("app_id: give the number of ZEGO's console, 1 to 4294967295")
        if isinstance(server_secret, str):
            zego_token.check_account(app_id, server_secret)
        if NAME not in stream_name:
            raise ConfigError(f"stream_name: give {NAME}, and what stands around it")
        checked_stream(stream_name.replace(NAME, "s"))
        if not _USER.fullmatch(user):
            raise ConfigError("user: give 1 to 64 letters, digits, '_' or '-'")
        self.is_planned = credentials is not None
        self._name, self._app_id = name, app_id
        self._secret = None if server_secret is None else Credential(server_secret)
        self._credentials = credentials
        self._stream_name, self._user = stream_name, user

    async def ticket(self, access: Access) -> Ticket:
        """
        Return the credential of one stream and role.

        Raises:
            ConfigError: The stream's id cannot be one of ZEGOCLOUD.
            CredentialsRejected: The plan is for another App ID, or the secret could not be
                fetched.
            Exception: Whatever the application's own function raises.
        """
        if self._credentials is not None:
            return self._planned(access, await self._credentials(access))
        return await self._minted(access)

    async def secret(self) -> str | None:
        """
        Return the ServerSecret; None: there is none here.

        Raises:
            CredentialsRejected: It could not be fetched.
        """
        if self._secret is None:
            return None
        deadline = asyncio.get_running_loop().time() + _SECRET_S
        return await secret_of(
            self._secret, provider=self._name, operation="mint", deadline=deadline
        )

    # --- Inside ---

    def _planned(self, access: Access, found: Mapping[str, Any]) -> Ticket:
        if found.get("app_id", self._app_id) != self._app_id:
            raise CredentialsRejected(
                "its plan is for another App ID than the configuration",
                provider=self._name,
                operation="publish" if access.role is Role.PUBLISHER else "view",
                retry=Retry.NEXT,
                answered=False,
            )
        token, name = found.get("token"), found.get("stream_id")
        stream = self._stream_of(access.stream) if name is None else checked_stream(str(name))
        own = "user_id" if access.role is Role.PUBLISHER else "view_user_id"
        return Ticket(
            room=str(found.get("room_id") or stream),
            stream=stream,
            user=str(found.get(own) or found.get("user_id") or self._user),
            token=None if token is None else str(token),
            is_fenced="epoch" in found,
        )

    async def _minted(self, access: Access) -> Ticket:
        name, user = self._stream_of(access.stream), self._user
        if access.role is Role.VIEWER:  # a user is in a room once
            user = f"viewer-{secrets.token_hex(8)}"
        secret = await self.secret()
        token = None
        if secret is not None:
            allowed = zego_token.privileges_of(access.role, room_id=name, stream_id=name)
            token = zego_token.mint(
                self._app_id, user, secret, now_s=wall_s(), ttl_s=TOKEN_S,
                payload=zego_token.payload_of(allowed),
            )  # fmt: skip
        return Ticket(room=name, stream=name, user=user, token=token, is_fenced=False)

    def _stream_of(self, stream: str) -> str:
        return checked_stream(self._stream_name.replace(NAME, stream))
