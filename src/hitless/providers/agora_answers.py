"""What Agora's REST API answers: our values, and the documented shapes they are read from."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

import msgspec


class Privilege(StrEnum):
    """What a ban rule takes away."""

    JOIN = "join_channel"
    """Kicks out as well."""
    AUDIO = "publish_audio"
    VIDEO = "publish_video"


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """One channel of the list: its name, and how many users are in it."""

    name: str
    users: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Channels:
    """One page of channels, and how many there are in all; pages may repeat or miss some."""

    channels: tuple[Channel, ...]
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Users:
    """
    Who is in a channel.

    Attributes:
        exists: Whether the channel exists; False: nothing else is known.
        is_live: Whether it has hosts and an audience (live broadcasting); else all are hosts.
        hosts: Ids of who may be seen and heard.
        audience: Ids of the first 10,000 others; empty if only hosts were asked for.
    """

    exists: bool
    is_live: bool = True
    hosts: tuple[str, ...] = field(default=(), repr=False)
    audience: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamKey:
    """A key to push one stream with, for so long [s]; whoever has it can publish."""

    key: str = field(repr=False)
    channel: str
    uid: str = field(repr=False)
    expires_after_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OnlineStream:
    """
    A stream that is pushed now.

    Attributes:
        sid: Its session, for `force_disconnect`.
        channel: Where it goes.
        uid: As whom.
        bitrate_bps: As Agora measures it; its unit is unconfirmed.
    """

    sid: str
    channel: str
    uid: str = field(repr=False)
    bitrate_bps: float


# --- Answers, as documented ---


class ChannelBody(msgspec.Struct):
    channel_name: str
    user_count: int


class ChannelsData(msgspec.Struct):
    channels: list[ChannelBody] = []
    total_size: int = 0


class ChannelsBody(msgspec.Struct):
    data: ChannelsData


class UsersData(msgspec.Struct):
    channel_exist: bool
    mode: int = 2
    users: list[int | str] = []
    broadcasters: list[int | str] = []
    audience: list[int | str] = []


class UsersBody(msgspec.Struct):
    data: UsersData


class RuleBody(msgspec.Struct):
    id: int


class KeyData(msgspec.Struct):
    streamKey: str


class KeyBody(msgspec.Struct):
    data: KeyData


class OnlineData(msgspec.Struct):
    sid: str = ""
    channel: str = ""
    uid: int | str = ""
    bitrate: float = 0.0


class OnlineBody(msgspec.Struct):
    data: list[OnlineData] | OnlineData
