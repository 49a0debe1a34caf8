"""What opens one leg at Agora: channel, uid and token, from a plan or minted here."""

from __future__ import annotations

import base64
import re
import secrets
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ..core.events import Role
from ..errors import ConfigError
from . import agora_token
from .clock import wall_s
from .credential import Access, Credentials, Token
from .tickets import NAME, TOKEN_S, Issuer, on_loop_s


PUBLISHER_UIDS: Final = range(1, 1 << 16)
"""Uids that a Hitless server, and this adapter, give to publishers."""

_CHANNEL: Final = re.compile(r"[A-Za-z0-9 !#$%&()+\-:;<=.>?@\[\]^_{}|~,]{1,64}")
_APP_ID: Final = re.compile(r"[0-9A-Fa-f]{32}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """
    A credential of one stream and role.

    Attributes:
        channel: What the stream is called.
        uid: As whom.
        token: AccessToken2; None: there is no certificate, and no plan that brings one.
        stream_key: Of the Media Gateway, which ends with the token; None: no plan brings one.
        is_fenced: Whether the channel carries the epoch: an older publisher is elsewhere.
        ends_s: When the token ends [s, the loop's clock]; None: not known here.
    """

    channel: str
    uid: str = field(repr=False)
    token: str | None = field(repr=False)
    is_fenced: bool
    ends_s: float | None
    stream_key: str | None = field(default=None, repr=False)


class Tickets(Issuer[Ticket]):
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
        super().__init__(name, app_id=app_id, secret=certificate, credentials=credentials)
        self._account, self._channel, self._uid = app_id, channel, uid

    def planned(self, access: Access, found: Mapping[str, Any]) -> Ticket:
        """See `Issuer.planned`."""
        token, key = found.get("token"), found.get("stream_key")
        own = "uid" if access.role is Role.PUBLISHER else "view_uid"
        return Ticket(
            channel=str(found.get("channel") or self._channel_of(access.stream)),
            uid=str(found.get(own) or found.get("uid") or self._uid),
            token=None if token is None else str(token),
            is_fenced="epoch" in found,
            ends_s=None if token is None else on_loop_s(_ends_s(str(token))),
            stream_key=None if key is None else str(key),
        )

    async def minted(self, access: Access) -> Ticket:
        """See `Issuer.minted`."""
        channel, uid = self._channel_of(access.stream), self._uid
        if access.role is Role.VIEWER:  # one of its own: the second of one uid puts out the first
            uid = PUBLISHER_UIDS.stop + secrets.randbelow((1 << 32) - PUBLISHER_UIDS.stop)
        return await self._minted(access.role, channel, uid)

    async def renewed(self, access: Access, held: Ticket) -> Ticket:
        """
        Return a new one for who is in a channel already: minted here, for the same channel and
        uid; or what the plan has now, which may be for another channel.

        Raises:
            CredentialsRejected, Exception: See `ticket`.
        """
        if self.is_planned:
            return await self.ticket(access)
        return await self._minted(access.role, held.channel, int(held.uid))

    async def _minted(self, role: Role, channel: str, uid: int) -> Ticket:
        certificate = await self.secret()
        if certificate is None:
            return Ticket(channel=channel, uid=str(uid), token=None, is_fenced=False, ends_s=None)
        service = agora_token.rtc(channel, uid, role, TOKEN_S)
        now_s = wall_s()
        token = agora_token.mint(self._account, certificate, [service], now_s=now_s, ttl_s=TOKEN_S)
        ends_s = on_loop_s(now_s + TOKEN_S)
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
    Return when a token ends by its own words, unverified [s since 1970]; None: unreadable.

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
    return float(issued_s + ttl_s)
