"""What opens one leg at Agora: channel, uid and token, from a plan or minted here."""

from __future__ import annotations

import asyncio
import base64
import re
import secrets
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ..core.events import Role
from ..errors import ConfigError, CredentialsRejected, Retry
from . import agora_token
from .clock import wall_s
from .credential import Access, Credential, Credentials, Token
from .rest import secret_of


TOKEN_S: Final = 6 * 3600
"""How long a token that is minted here lasts [s]: as long as an outage of who mints may last."""

PUBLISHER_UIDS: Final = range(1, 1 << 16)
"""Uids that a Hitless server, and this adapter, give to publishers."""

NAME: Final = "{stream}"

_CHANNEL: Final = re.compile(r"[A-Za-z0-9 !#$%&()+\-:;<=.>?@\[\]^_{}|~,]{1,64}")
_APP_ID: Final = re.compile(r"[0-9A-Fa-f]{32}")
_SECRET_S: Final = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """
    A credential of one stream and role.

    Attributes:
        channel: What the stream is called.
        uid: As whom.
        token: AccessToken2; None: there is no certificate, and no plan that brings one.
        is_fenced: Whether the channel carries the epoch: an older publisher is elsewhere.
        ends_s: When the token ends [s, the loop's clock]; None: not known here.
    """

    channel: str
    uid: str = field(repr=False)
    token: str | None = field(repr=False)
    is_fenced: bool
    ends_s: float | None


class Tickets:
    """
    Fetches or mints credentials; see `Agora` for the arguments.

    Raises:
        ConfigError: One of them cannot be used; the message says which.
    """

    def __init__(
        self,
        name: str,
        *,
        app_id: str,
        certificate: Token | None,
        credentials: Credentials | None,
        channel: str,
        uid: int,
    ) -> None:
        if not isinstance(app_id, str) or not _APP_ID.fullmatch(app_id):
            raise ConfigError("app_id: give the 32 hexadecimal digits of Agora's console")
        if isinstance(certificate, str):
            agora_token.check_ids(app_id, certificate)
        if uid not in PUBLISHER_UIDS:
            raise ConfigError(f"uid: give 1 to {PUBLISHER_UIDS[-1]}")
        if NAME not in channel or not _CHANNEL.fullmatch(channel.replace(NAME, "s")):
            raise ConfigError(f"channel: give {NAME}, and letters, digits, '_' or '-' around it")
        self.is_planned = credentials is not None
        self._name, self._app_id = name, app_id
        self._certificate = None if certificate is None else Credential(certificate)
        self._credentials = credentials
        self._channel, self._uid = channel, uid

    async def ticket(self, access: Access) -> Ticket:
        """
        Return the credential of one stream and role.

        Raises:
            ConfigError: The stream's id cannot be a channel.
            CredentialsRejected: The plan is for another App ID, or the certificate could not be
                fetched.
            Exception: Whatever the application's own function raises.
        """
        if self._credentials is not None:
            return self._planned(access, await self._credentials(access))
        return await self._minted(access)

    async def certificate(self) -> str | None:
        """
        Return the certificate; None: there is none here.

        Raises:
            CredentialsRejected: It could not be fetched.
        """
        if self._certificate is None:
            return None
        deadline = asyncio.get_running_loop().time() + _SECRET_S
        return await secret_of(
            self._certificate, provider=self._name, operation="mint", deadline=deadline
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
        token = found.get("token")
        own = "uid" if access.role is Role.PUBLISHER else "view_uid"
        return Ticket(
            channel=str(found.get("channel") or self._channel_of(access.stream)),
            uid=str(found.get(own) or found.get("uid") or self._uid),
            token=None if token is None else str(token),
            is_fenced="epoch" in found,
            ends_s=None if token is None else _ends_s(str(token)),
        )

    async def _minted(self, access: Access) -> Ticket:
        channel, uid = self._channel_of(access.stream), self._uid
        if access.role is Role.VIEWER:  # one of its own: the second of one uid puts out the first
            uid = PUBLISHER_UIDS.stop + secrets.randbelow((1 << 32) - PUBLISHER_UIDS.stop)
        certificate = await self.certificate()
        if certificate is None:
            return Ticket(channel=channel, uid=str(uid), token=None, is_fenced=False, ends_s=None)
        service = agora_token.rtc(channel, uid, access.role, TOKEN_S)
        token = agora_token.mint(
            self._app_id, certificate, [service], now_s=wall_s(), ttl_s=TOKEN_S
        )
        ends_s = asyncio.get_running_loop().time() + TOKEN_S
        return Ticket(channel=channel, uid=str(uid), token=token, is_fenced=False, ends_s=ends_s)

    def _channel_of(self, stream: str) -> str:
        channel = self._channel.replace(NAME, stream)
        if not _CHANNEL.fullmatch(channel):
            raise ConfigError(
                f"channel {channel[:64]!r}: Agora takes 1 to 64 of letters, digits, space and "
                "!#$%&()+-:;<=.>?@[]^_{}|~,"
            )
        return channel


def _ends_s(token: str) -> float | None:
    """
    Return when a token ends by its own words, unverified [s, the loop's clock]; None: unreadable.

    Who made it is for Agora to check; a plan's token comes without its certificate.
    """
    try:
        packed = base64.b64decode(token.removeprefix(agora_token.PREFIX), validate=True)
        whole = zlib.decompressobj().decompress(packed, agora_token.INFLATED_BYTES_MAX)
        at = 0
        for _ in ("signature", "App ID"):
            at += 2 + struct.unpack_from("<H", whole, at)[0]
        issued_s, ttl_s = struct.unpack_from("<II", whole, at)
    except (ValueError, struct.error, zlib.error):
        return None
    return asyncio.get_running_loop().time() + float(issued_s + ttl_s) - wall_s()
