"""
Minters: what makes the credentials of one provider, for one stream, end and client each.

No I/O and no clock: a plan asks all of them at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from ..core.events import Role
from ..errors import ConfigError
from ..providers import agora_stream_key, agora_token, livekit_token, zego_token
from ..providers.hs256 import Hs256
from .leg_names import CHANNEL, LegNames, digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Asker:
    """
    Whom a credential is for, and for what: one stream and one end of it.

    Attributes:
        stream: Id of the stream.
        role: Which end.
        client: Id of the client.
        key: Id of the API key it came with.
        epoch: Of the placement in which the leg is the live one; 0: there is none yet. Names that
            carry it are fences: a publisher of an older placement is somewhere else.
    """

    stream: str
    role: Role
    client: str
    key: str
    epoch: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderSecrets:
    """
    A provider as the mint sees it.

    Attributes:
        name: Its name.
        adapter: Which adapter speaks to it.
        secrets: Its opened secrets, by field.
        options: Its configuration.
    """

    name: str
    adapter: str
    secrets: Mapping[str, str] = field(repr=False)
    options: Mapping[str, Any] = field(default_factory=dict)  # Any: an adapter's own options


class Minter(Protocol):
    """Makes the credentials of one provider."""

    def mint(self, asker: Asker, *, now_s: float, ttl_s: float) -> Mapping[str, str | int]:
        """
        Return what the adapter needs besides the public config: `{"token": ...}`.

        Called for every provider of every plan: no I/O.

        Args:
            asker: Whom it is for.
            now_s: Time of the wall clock [s].
            ttl_s: How long it should be good [s]; what cannot expire ignores it.
        """
        ...


MINTING_OPTIONS: Final = frozenset({"token_claims", "channel", "local_keys"})
"""Options of a provider that only minters read: they do not belong into the public config."""

TOKEN_SECRET_BYTES_MIN: Final = 32
"""RFC 7518 section 3.2: a key of HS256 is at least as long as its hash."""

_WHIP_SECRETS: Final = frozenset({"token", "view_token", "token_secret"})
_AGORA_SECRETS: Final = frozenset({"certificate", "customer_id", "customer_secret"})
"""The last two open Agora's REST API; no credential is made of them."""
_ZEGOCLOUD_SECRETS: Final = frozenset({"server_secret"})
_LIVEKIT_SECRETS: Final = frozenset({"api_key", "api_secret"})
_TAKEN_CLAIMS: Final = frozenset({"sub", "exp", "iat", "iss", "aud", "nbf", "jti"})
_ACTIONS: Final = {Role.PUBLISHER: "publish", Role.VIEWER: "view"}


# --- WHIP servers ---


class StaticTokens:
    """
    Bearer tokens as the provider gave them.

    Args:
        token: For publishers; None: none is needed.
        view_token: For viewers; empty: they need none; None: viewers use `token` as well, since
            such a server cannot tell them apart.
    """

    def __init__(self, token: str | None, view_token: str | None) -> None:
        self._tokens = {
            Role.PUBLISHER: token,
            Role.VIEWER: token if view_token is None else view_token,
        }

    def mint(self, asker: Asker, *, now_s: float, ttl_s: float) -> Mapping[str, str | int]:
        """Return the token of the role; see `Minter.mint`."""
        token = self._tokens[asker.role]
        return {"token": token} if token else {}


class StreamTokens:
    """
    One JWT (HS256) for each stream, role and client.

    Args:
        secret: What the provider verifies with; at least 32 bytes.
        claims: What the provider calls the claims `stream` and `role`.

    Raises:
        ConfigError: A secret that HS256 cannot use, or claims that cannot be named so.
    """

    def __init__(self, secret: str, claims: object = None) -> None:
        octets = secret.encode("utf-8", "surrogatepass")
        if len(octets) < TOKEN_SECRET_BYTES_MIN:
            raise ConfigError(f"token_secret: give at least {TOKEN_SECRET_BYTES_MIN} bytes")
        try:
            self._signer = Hs256(octets)
        except ConfigError as exc:
            raise ConfigError(f"token_secret: {exc}") from None
        self._stream, self._role = _claim_names({} if claims is None else claims)

    def mint(self, asker: Asker, *, now_s: float, ttl_s: float) -> Mapping[str, str | int]:
        """Return a token for this asker only; see `Minter.mint`."""
        claims = {
            "sub": asker.client,
            self._stream: asker.stream,
            self._role: _ACTIONS[asker.role],
            # No `iat`: a provider whose clock is behind ours would refuse what is from the future.
            "exp": int(now_s + ttl_s),
        }
        return {"token": self._signer.sign(claims)}


def _claim_names(claims: object) -> tuple[str, str]:
    if not isinstance(claims, Mapping) or not claims.keys() <= {"stream", "role"}:
        raise ConfigError("token_claims: give names for stream and role, and no others")
    names = (claims.get("stream", "stream"), claims.get("role", "role"))
    for name in names:
        if not isinstance(name, str) or not 0 < len(name) <= 64 or name in _TAKEN_CLAIMS:
            raise ConfigError(
                "token_claims: a name has 1 to 64 characters and is none of "
                + ", ".join(sorted(_TAKEN_CLAIMS))
            )
    if names[0] == names[1]:
        raise ConfigError("token_claims: stream and role need different names")
    return names


def _check_names(secrets: Mapping[str, str], known: frozenset[str]) -> None:
    if unknown := sorted(secrets.keys() - known):
        raise ConfigError(f"secret {unknown[0]!r} is unknown: {', '.join(sorted(known))}")


def whip_minter(provider: ProviderSecrets) -> Minter:
    """
    Return the minter of a WHIP server: its own tokens, or one for each stream.

    Raises:
        ConfigError: Secrets of a name it does not know, both kinds, or too short a secret.
    """
    secrets = provider.secrets
    _check_names(secrets, _WHIP_SECRETS)
    if "token_secret" not in secrets:
        return StaticTokens(secrets.get("token"), secrets.get("view_token"))
    if len(secrets) > 1:
        raise ConfigError("give token_secret, or token and view_token, not both")
    return StreamTokens(secrets["token_secret"], provider.options.get("token_claims"))


# --- Providers with an SDK of their own ---


def _identity(asker: Asker) -> str:
    """Return a user id: the same for the same client and end, another for its other end."""
    return f"{asker.role.value}-{digest(b'', asker.role.value, asker.client)[:32]}"


_ROOM: Final = "{stream}"
_PUBLISHER_UIDS: Final = 1 << 16
_UIDS: Final = 1 << 32


class AgoraTokens:
    """
    AccessToken2 of Agora, for one channel and uid each.

    A viewer's has no privilege to publish. Agora enforces that only where its support has
    switched on co-host authentication for the project; see `rtc`. Tokens last 24 h at most,
    whatever is asked.

    Uids are numbers, as Agora's REST API wants them: publishers have 1 to 65535, so that a viewer
    never puts a publisher out. Of 10 000 viewers in a channel, two share theirs with a chance
    of 1 in 86, and put each other out. The certificate is in it, or a viewer could choose a client
    id that puts another one out.

    Args:
        app_id, certificate: Of the project.
        names: Name the channels.
        local_keys: Whether a publisher gets a stream key of the Media Gateway as well, made here;
            see `agora_stream_key`. Whoever has one can publish in every channel of the project.
    """

    def __init__(
        self, app_id: str, certificate: str, names: LegNames, *, local_keys: bool = False
    ) -> None:
        agora_token.check_ids(app_id, certificate)
        self._app_id, self._certificate, self._names = app_id, certificate, names
        self._local_keys = local_keys

    def mint(self, asker: Asker, *, now_s: float, ttl_s: float) -> Mapping[str, str | int]:
        """Return app id, channel, uid, token, and maybe a stream key; see `Minter.mint`."""
        channel, uid = self._names.name(asker.stream, asker.epoch), self._uid(asker)
        whole_s = int(min(ttl_s, agora_token.TTL_S_MAX))
        service = agora_token.rtc(channel, uid, asker.role, whole_s)
        token = agora_token.mint(
            self._app_id, self._certificate, [service], now_s=now_s, ttl_s=whole_s
        )
        return {
            "app_id": self._app_id,
            "channel": channel,
            "uid": uid,
            "token": token,
            **self._stream_key(asker, channel, uid, int(now_s) + whole_s),
            **self._names.said(asker.epoch),
        }

    def _stream_key(self, asker: Asker, channel: str, uid: int, end_s: int) -> dict[str, str]:
        if not self._local_keys or asker.role is not Role.PUBLISHER:
            return {}
        key = agora_stream_key.mint(self._certificate, channel=channel, uid=str(uid), end_s=end_s)
        return {"stream_key": key}

    def _uid(self, asker: Asker) -> int:
        number = int(digest(self._certificate.encode(), asker.role.value, asker.client), 16)
        if asker.role is Role.PUBLISHER:
            return 1 + number % (_PUBLISHER_UIDS - 1)
        return _PUBLISHER_UIDS + number % (_UIDS - _PUBLISHER_UIDS)


def agora_minter(provider: ProviderSecrets) -> Minter:
    """
    Return the minter of Agora: options `app_id` and `local_keys`, secret `certificate`.

    Raises:
        ConfigError: One of them is missing or no such thing, or a secret is unknown; or
            `local_keys` without `ingest_hosts`.
    """
    secrets, options = provider.secrets, provider.options
    _check_names(secrets, _AGORA_SECRETS)
    local_keys = options.get("local_keys", False)
    if not isinstance(local_keys, bool):
        raise ConfigError("local_keys: give true or false")
    if local_keys and not options.get("ingest_hosts"):
        raise ConfigError(
            "local_keys needs ingest_hosts: Agora takes such stream keys only at a domain of "
            "yours, which its support binds to the project"
        )
    return AgoraTokens(
        options.get("app_id", ""),
        secrets.get("certificate", ""),
        _names_of(provider),
        local_keys=local_keys,
    )


class ZegoTokens:
    """
    Privilege tokens (token04) of ZEGOCLOUD, for one room and user each.

    Room and stream have the same name: stream ids are unique in the whole app. A viewer's token
    denies publishing; ZEGO enforces that only in projects that check privileges, see
    `zego_token.Privileges`. Tokens last 24 days at most, whatever is asked.
    """

    def __init__(self, app_id: int, server_secret: str, names: LegNames) -> None:
        zego_token.check_account(app_id, server_secret)
        self._app_id, self._secret, self._names = app_id, server_secret, names

    def mint(self, asker: Asker, *, now_s: float, ttl_s: float) -> Mapping[str, str | int]:
        """Return app id, room, stream, user and token; see `Minter.mint`."""
        name, user_id = self._names.name(asker.stream, asker.epoch), _identity(asker)
        privileges = zego_token.privileges_of(asker.role, room_id=name, stream_id=name)
        token = zego_token.mint(
            self._app_id,
            user_id,
            self._secret,
            now_s=now_s,
            ttl_s=int(min(ttl_s, zego_token.TTL_S_MAX)),
            payload=zego_token.payload_of(privileges),
        )
        return {
            "app_id": self._app_id,
            "room_id": name,
            "stream_id": name,
            "user_id": user_id,
            "token": token,
            **self._names.said(asker.epoch),
        }


def zegocloud_minter(provider: ProviderSecrets) -> Minter:
    """
    Return the minter of ZEGOCLOUD: option `app_id`, secret `server_secret`.

    Raises:
        ConfigError: One of them is missing or no such thing, or a secret is unknown.
    """
    secrets, options = provider.secrets, provider.options
    _check_names(secrets, _ZEGOCLOUD_SECRETS)
    return ZegoTokens(
        options.get("app_id", 0), secrets.get("server_secret", ""), _names_of(provider)
    )


class LiveKitTokens:
    """
    Access tokens of LiveKit, for one room and identity each; the server enforces grants.

    A room has the name of its stream, without the epoch: a publisher that is too many is put out
    through RoomService, or by the next one of its identity.
    """

    def __init__(self, url: str, api_key: str, api_secret: str, names: LegNames) -> None:
        livekit_token.check_key(api_key, api_secret)
        self._url, self._key, self._secret, self._names = url, api_key, api_secret, names

    def mint(self, asker: Asker, *, now_s: float, ttl_s: float) -> Mapping[str, str | int]:
        """Return URL, room, identity and token; see `Minter.mint`."""
        room, identity = self._names.name(asker.stream, asker.epoch), _identity(asker)
        is_publisher = asker.role is Role.PUBLISHER
        grants = livekit_token.publisher_grants if is_publisher else livekit_token.viewer_grants
        token = livekit_token.mint(
            self._key, self._secret, grants(room), now_s=now_s, ttl_s=ttl_s, identity=identity
        )
        return {
            "url": self._url,
            "room": room,
            "identity": identity,
            "token": token,
            **self._names.said(asker.epoch),
        }


def livekit_minter(provider: ProviderSecrets) -> Minter:
    """
    Return the minter of LiveKit: option `url`, secrets `api_key` and `api_secret`.

    Raises:
        ConfigError: One of them is missing or no such thing, or a secret is unknown.
    """
    secrets, url = provider.secrets, provider.options.get("url")
    _check_names(secrets, _LIVEKIT_SECRETS)
    if not isinstance(url, str) or not url.startswith(("wss://", "ws://", "https://", "http://")):
        raise ConfigError("url: give the address of the LiveKit server, as in wss://live.example")
    return LiveKitTokens(
        url, secrets.get("api_key", ""), secrets.get("api_secret", ""), _names_of(provider, _ROOM)
    )


_CHANNELS: Final = {"agora": CHANNEL, "livekit": _ROOM, "zegocloud": CHANNEL}
"""How legs are named by adapter, unless the provider's option `channel` says something else."""


def channel_of(adapter: str, options: Mapping[str, object], stream: str, epoch: int) -> str:
    """
    Return what the leg of a stream is called at a provider in the placement of `epoch`.

    It is what credentials for it say; where an adapter has no such names, the stream's id.

    Raises:
        ConfigError: The option `channel` is no template.
    """
    template = _CHANNELS.get(adapter)
    if template is None:
        return stream
    return LegNames(options.get("channel", template)).name(stream, epoch)


def _names_of(provider: ProviderSecrets, channel: str = CHANNEL) -> LegNames:
    return LegNames(provider.options.get("channel", channel))


MINTERS: Final[Mapping[str, Callable[[ProviderSecrets], Minter]]] = {
    "agora": agora_minter,
    "livekit": livekit_minter,
    "whip": whip_minter,
    "zegocloud": zegocloud_minter,
}
"""By adapter. One that is not here needs no credentials, and may have no secrets."""
