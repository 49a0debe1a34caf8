"""
What a stand-in accepts as Bearer of a publisher or viewer.

`OpenGate` takes everybody, or whoever shows one fixed token. `AgoraGate` and `ZegoGate` verify
real AccessToken2 and token04 credentials, from the documents' facts. The companies do not take
such tokens over WHIP: it is the stand-ins' own way of joining, in place of their SDKs. By RTMP
Agora's stream keys are shown here as well (`pushed`); ZEGOCLOUD's addresses are its desk's.

Rejections name the code that the SDKs document: Agora 109 expired, 110 invalid, 119 not a host;
ZEGOCLOUD 1102018 expired, 1102016 no token04, 1001004 another App ID, 1002033 not accepted.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from ..errors import HitlessError
from ..media.frame import Kind
from ..providers.agora_token import (
    AgoraToken,
    AgoraTokenRefused,
    Privilege,
    Service,
    ServiceType,
)
from ..providers.agora_token import read as read_agora
from ..providers.clock import wall_s as system_wall_s
from ..providers.zego_token import ZegoToken, ZegoTokenRefused
from ..providers.zego_token import read as read_zego
from .account import AgoraAccount, ZegoAccount
from .agora_keys import Keys, read_local
from .faults import Injected


ALL_KINDS: Final = frozenset(Kind)

EXPIRED, INVALID, NOT_A_HOST = 109, 110, 119
REJECTED, BANNED = 17, 123
ZEGO_EXPIRED, ZEGO_FORMAT, ZEGO_APP, ZEGO_TOKEN = 1102018, 1102016, 1001004, 1002033
ZEGO_PUBLISH_FORBIDDEN, ZEGO_PLAY_FORBIDDEN, ZEGO_DUPLICATE = 1003025, 1004025, 1003028

_SCHEME: Final = "Bearer "


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """
    What a credential allowed to whom.

    Attributes:
        user: Who it is; a number as text where Agora gives one. Empty: nobody asked.
        room: Agora's channel, ZEGOCLOUD's room.
        region: Where it joined.
        address: From which IP address.
        came_s: When, of the wall clock [s].
        kinds: What a publisher may send; the rest is thrown away.
        left_s: In what time its session ends [s]; None: it does not.
        key: What it came by RTMP with instead of a token: Agora's stream key, ZEGOCLOUD's
            address; None: it showed a token, or nothing.
    """

    user: str = field(default="", repr=False)
    room: str = ""
    region: str = ""
    address: str = ""
    came_s: float = 0.0
    kinds: frozenset[Kind] = ALL_KINDS
    left_s: float | None = None
    key: str | None = field(default=None, repr=False)


class Rejected(HitlessError):
    """
    A join that is not allowed.

    Attributes:
        because: Why, for people; quotes no credential.
        status: HTTP status.
        code: The provider's documented code; None: it has none for this.
    """

    def __init__(self, because: str, *, code: int | None = None, status: int = 401) -> None:
        super().__init__(because)
        self.because, self.code, self.status = because, code, status


class Gate(Protocol):
    """Decides who may join, by the `Authorization` that is shown; `""` if none is."""

    def admit(self, shown: str, stream: str, *, publishes: bool, region: str) -> Pass:
        """
        Return what is allowed.

        Raises:
            Rejected: It may not join.
        """

    def may_leave(self, shown: str, stream: str, *, publishes: bool) -> bool:
        """
        Whether it may end a session of this stream whose secret it knows.

        Whether a token has expired does not matter: everybody may leave. A stream key that
        ended or was deleted is none any more.
        """

    def removes(self, who: Pass) -> bool:
        """Whether somebody who is in must go, because of a fault."""


class OpenGate:
    """
    Takes everybody; publishers must show a token if there is one.

    Args:
        publish_token: What publishers must show; None: nothing.
        injected: The faults that are on.
    """

    def __init__(self, publish_token: str | None, injected: Injected) -> None:
        self._publish_token = publish_token
        self._injected = injected

    def admit(self, shown: str, stream: str, *, publishes: bool, region: str) -> Pass:
        """See `Gate.admit`."""
        if _is_refusing(self._injected) or not self.may_leave(shown, stream, publishes=publishes):
            raise Rejected("show a valid token")
        return Pass(room=stream, region=region)

    def may_leave(self, shown: str, stream: str, *, publishes: bool) -> bool:
        """See `Gate.may_leave`."""
        if not publishes or self._publish_token is None:
            return True
        given = shown.encode("utf-8", "surrogateescape")
        return hmac.compare_digest(given, f"{_SCHEME}{self._publish_token}".encode())

    def removes(self, who: Pass) -> bool:
        """See `Gate.removes`."""
        return False


class AgoraGate:
    """
    Takes AccessToken2 credentials of one account; and stream keys, from who publishes.

    A session ends when its token or its privilege to join does, as the documents say. What
    becomes of a publisher whose privilege to publish ends earlier is not in the facts: it goes
    on. That a stream key is a Bearer of WHIP is unconfirmed; RTMP is what Agora documents.

    Args:
        account: Whose tokens.
        keys: Stream keys of its Media Gateway.
        injected: The faults that are on.
        wall_s: Returns the time of the wall clock [s].
    """

    def __init__(
        self,
        account: AgoraAccount,
        keys: Keys,
        injected: Injected,
        *,
        wall_s: Callable[[], float] = system_wall_s,
    ) -> None:
        self._account, self._keys, self._injected = account, keys, injected
        self._wall_s = wall_s

    @property
    def cohost_authentication(self) -> bool:
        """Whether the privileges to publish are looked at; Agora's support switches it on."""
        return "privileges-unchecked" not in self._injected

    def admit(self, shown: str, stream: str, *, publishes: bool, region: str) -> Pass:
        """See `Gate.admit`."""
        text = _bearer(shown, INVALID)
        self._check_faults()
        key = self._keys.find(text) if publishes else None
        if key is not None:
            if key.channel != stream or key.region != region:
                raise Rejected("the stream key is for another channel or region", code=INVALID)
            return Pass(user=_user(key.uid), room=stream, region=region, key=key.text)
        token, service = self._opened(text, stream)
        now_s = self._wall_s()
        left_s = token.issued_s + min(token.ttl_s, _lasts_s(service, Privilege.JOIN)) - now_s
        if left_s <= 0:
            raise Rejected("the token, or its privilege to join, has expired", code=EXPIRED)
        kinds = self._kinds(token, service, now_s)
        if publishes and not kinds:
            raise Rejected("the token has no privilege to publish", code=NOT_A_HOST)
        return Pass(
            user=_user(service.names[1]), room=stream, region=region, kinds=kinds, left_s=left_s
        )

    def pushed(self, text: str, region: str) -> Pass:
        """
        Return what a stream key allows that is shown by RTMP; its channel is the pass's room.

        Keys made without a call are taken too, as at a domain of one's own: `read_local`.

        Args:
            text: The key.
            region: Where it is pushed to; empty: where the key belongs.

        Raises:
            Rejected: It is unknown or deleted, has ended, or belongs to another region.
        """
        self._check_faults()
        key = self._keys.find(text)
        if key is None:
            key = read_local(text, self._account.certificate, self._wall_s())
        if key is None:
            raise Rejected("the stream key is unknown, deleted, or has ended", code=INVALID)
        at = region or key.region or self._injected.home
        if key.region not in ("", at):
            raise Rejected("the stream key is for another region", code=INVALID)
        return Pass(user=_user(key.uid), room=key.channel, region=at, key=key.text)

    def _check_faults(self) -> None:
        if "token-invalid" in self._injected:
            raise Rejected("no token is accepted, on purpose", code=INVALID)
        if "token-expired" in self._injected:
            raise Rejected("every token counts as expired, on purpose", code=EXPIRED)

    def may_leave(self, shown: str, stream: str, *, publishes: bool) -> bool:
        """See `Gate.may_leave`."""
        try:
            text = _bearer(shown, INVALID)
            key = self._keys.find(text)
            return (key is not None and key.channel == stream) or bool(self._opened(text, stream))
        except Rejected:
            return False

    def removes(self, who: Pass) -> bool:
        """See `Gate.removes`: whose token expires is removed; a stream key is no token."""
        return "token-expired" in self._injected and who.key is None

    def _opened(self, text: str, channel: str) -> tuple[AgoraToken, Service]:
        try:
            token = read_agora(text, self._account.certificate)
        except AgoraTokenRefused as fault:
            raise Rejected(fault.because, code=INVALID) from None
        if token.app_id != self._account.app_id:
            raise Rejected("the token is for another App ID", code=INVALID)
        for service in token.services:
            is_here = service.type is ServiceType.RTC and service.names[0] == channel
            if is_here and Privilege.JOIN in service.privileges:
                return token, service
        raise Rejected("the token does not allow to join this channel", code=INVALID)

    def _kinds(self, token: AgoraToken, service: Service, now_s: float) -> frozenset[Kind]:
        if not self.cohost_authentication:
            return ALL_KINDS
        asked = {Kind.AUDIO: Privilege.PUBLISH_AUDIO, Kind.VIDEO: Privilege.PUBLISH_VIDEO}
        age_s = now_s - token.issued_s
        return frozenset(k for k, allowed in asked.items() if age_s < _lasts_s(service, allowed))


class ZegoGate:
    """
    Takes token04 credentials of one account.

    A session goes on when its token expires, which is ZEGOCLOUD's default; publishing again
    fails. Who joins in kick mode is put out with the end of its token; how soon after it, and
    with which words, is not in the facts: here at once.

    A basic token allows everything, in a room called as the stream. That a project looks at
    privileges is unconfirmed; this one does. Whether a viewer must be in the room of the stream
    is not in the facts, and not asked for.

    Args:
        account: Whose tokens.
        injected: The faults that are on.
        wall_s: Returns the time of the wall clock [s].
    """

    def __init__(
        self,
        account: ZegoAccount,
        injected: Injected,
        *,
        wall_s: Callable[[], float] = system_wall_s,
    ) -> None:
        self._account, self._injected = account, injected
        self._wall_s = wall_s

    @property
    def kick_mode(self) -> bool:
        """Whether users are put out when their token ends; ZEGOCLOUD's support switches it on."""
        return "kick-mode" in self._injected

    def admit(self, shown: str, stream: str, *, publishes: bool, region: str) -> Pass:
        """See `Gate.admit`."""
        text = _bearer(shown, ZEGO_FORMAT)
        if "token-invalid" in self._injected:
            raise Rejected("no token is accepted, on purpose", code=ZEGO_FORMAT)
        if "token-expired" in self._injected:
            raise Rejected("every token counts as expired, on purpose", code=ZEGO_EXPIRED)
        token, now_s = self._opened(text), self._wall_s()
        if token.is_expired(now_s):
            raise Rejected("the token has expired", code=ZEGO_EXPIRED)
        room = stream if token.privileges is None else token.privileges.room_id
        if "privileges-unchecked" not in self._injected:
            if not token.may_login(room, now_s):
                raise Rejected("the token does not allow to log in", code=ZEGO_TOKEN)
            if publishes and not token.may_publish(room, stream, now_s):
                raise Rejected("the token does not allow to publish this", code=ZEGO_TOKEN)
        left_s = token.expires_s - now_s if self.kick_mode else None
        return Pass(user=token.user_id, room=room, region=region, left_s=left_s)

    def may_leave(self, shown: str, stream: str, *, publishes: bool) -> bool:
        """See `Gate.may_leave`."""
        try:
            return bool(self._opened(_bearer(shown, ZEGO_FORMAT)))
        except Rejected:
            return False

    def removes(self, who: Pass) -> bool:
        """See `Gate.removes`: whose token expires, in kick mode only; a push has none."""
        return self.kick_mode and "token-expired" in self._injected and who.key is None

    def _opened(self, text: str) -> ZegoToken:
        try:
            token = read_zego(text, self._account.server_secret)
        except ZegoTokenRefused as fault:
            raise Rejected(fault.because, code=ZEGO_FORMAT) from None
        if token.app_id != self._account.app_id:
            raise Rejected("the token is for another App ID", code=ZEGO_APP)
        return token


def _bearer(shown: str, code: int) -> str:
    if not shown.startswith(_SCHEME):
        raise Rejected("show a token as Bearer", code=code)
    return shown.removeprefix(_SCHEME).strip()


def _lasts_s(service: Service, privilege: Privilege) -> int:
    return service.privileges.get(privilege, 0)


def _user(uid: str) -> str:
    """Return who that is: whoever names no uid gets a number, as the SDK's users do."""
    return uid if uid not in ("", "0") else str(1 + secrets.randbelow((1 << 32) - 1))


def _is_refusing(injected: Injected) -> bool:
    return "token-invalid" in injected or "token-expired" in injected
