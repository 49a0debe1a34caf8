"""The values that a viewer hands over, and those it is given (stand-in)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class ChannelProfileType(IntEnum):
    CHANNEL_PROFILE_COMMUNICATION = 0
    CHANNEL_PROFILE_LIVE_BROADCASTING = 1


class ClientRoleType(IntEnum):
    CLIENT_ROLE_BROADCASTER = 1
    CLIENT_ROLE_AUDIENCE = 2


class AudioScenarioType(IntEnum):
    AUDIO_SCENARIO_DEFAULT = 0
    AUDIO_SCENARIO_AI_SERVER = 9


@dataclass(kw_only=True)
class AgoraServiceConfig:
    appid: str = ""
    enable_video: int = 0
    log_path: str = ""
    data_dir: str = ""
    config_dir: str = ""


@dataclass(kw_only=True)
class RTCConnConfig:
    auto_subscribe_audio: int = 0
    auto_subscribe_video: int = 0
    client_role_type: ClientRoleType = ClientRoleType.CLIENT_ROLE_BROADCASTER
    channel_profile: ChannelProfileType = ChannelProfileType.CHANNEL_PROFILE_LIVE_BROADCASTING


@dataclass(kw_only=True)
class RtcConnectionPublishConfig:
    audio_scenario: AudioScenarioType = AudioScenarioType.AUDIO_SCENARIO_AI_SERVER
    is_publish_audio: bool = True
    is_publish_video: bool = False


@dataclass(kw_only=True)
class VideoSubscriptionOptions:
    type: int = 0
    encodedFrameOnly: bool = False


@dataclass(kw_only=True)
class AudioFrame:
    samples_per_channel: int
    bytes_per_sample: int
    channels: int
    samples_per_sec: int
    buffer: bytearray
    presentation_ms: int


@dataclass(kw_only=True)
class EncodedVideoFrameInfo:
    codec_type: int
    frame_type: int
    uid: int
    presentation_ms: int
