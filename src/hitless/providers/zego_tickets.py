"""What opens one leg at ZEGOCLOUD: room, stream, user and token, from a plan or minted here."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ..core.events import Role
from ..errors import ConfigError
from . import zego_token
from .clock import wall_s
from .credential import Access, Credentials, Token
from .tickets import NAME, TOKEN_S, Issuer, on_loop_s
from .zego_api import checked_stream


_USER: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """
    A credential of one stream and role.

    Attributes:
        room, stream: What they are called.
        user: As whom.
        token: token04; None: there is no secret, and no plan that brings one.
        is_fenced: Whether the stream's name carries the epoch: an older publisher has another.
        ends_s: When the token ends [s, the loop's clock]; None: not known here.
    """

    room: str
    stream: str
    user: str = field(repr=False)
    token: str | None = field(repr=False)
    is_fenced: bool
    ends_s: float | None


class Tickets(Issuer[Ticket]):
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
        super().__init__(name, app_id=app_id, secret=server_secret, credentials=credentials)
        self._account, self._stream_name, self._user = app_id, stream_name, user

    def planned(self, access: Access, found: Mapping[str, Any]) -> Ticket:
        """See `Issuer.planned`."""
        token, name = found.get("token"), found.get("stream_id")
        stream = self._stream_of(access.stream) if name is None else checked_stream(str(name))
        own = "user_id" if access.role is Role.PUBLISHER else "view_user_id"
        return Ticket(
            room=str(found.get("room_id") or stream),
            stream=stream,
            user=str(found.get(own) or found.get("user_id") or self._user),
            token=None if token is None else str(token),
            is_fenced="epoch" in found,
            ends_s=None if token is None else on_loop_s(zego_token.ends_s(str(token))),
        )

    async def minted(self, access: Access) -> Ticket:
        """See `Issuer.minted`."""
        name, user = self._stream_of(access.stream), self._user
        if access.role is Role.VIEWER:  # a user is in a room once
            user = f"viewer-{secrets.token_hex(8)}"
        secret = await self.secret()
        token = None
        if secret is not None:
            allowed = zego_token.privileges_of(access.role, room_id=name, stream_id=name)
            token = zego_token.mint(
                self._account, user, secret, now_s=wall_s(), ttl_s=TOKEN_S,
                payload=zego_token.payload_of(allowed),
            )  # fmt: skip
        ends_s = None if token is None else on_loop_s(zego_token.ends_s(token))
        return Ticket(
            room=name, stream=name, user=user, token=token, is_fenced=False, ends_s=ends_s
        )

    def _stream_of(self, stream: str) -> str:
        return checked_stream(self._stream_name.replace(NAME, stream))
