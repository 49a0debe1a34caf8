"""
Keep a live stream on air when its streaming provider fails.

Names are imported when first used, so that tools which need only one part start fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from .client.backend import Backend
    from .client.control import ControlPlane
    from .client.live import LiveStreamingProvider
    from .client.manager import ProviderStatus, StreamingProviderManager
    from .client.session import News
    from .client.stream import LiveStream
    from .client.view import LiveView
    from .core.policy import Policy, ReturnPolicy, SelfView
    from .errors import (
        AllProvidersFailed,
        ConfigError,
        ContractBroken,
        CredentialsRejected,
        HitlessError,
        LocalFault,
        MediaLost,
        NotOnAir,
        ProviderError,
        Refused,
        Retry,
        StreamEnded,
        Unreachable,
    )
    from .media.frame import Codec, Kind
    from .media.sink import Meter
    from .media.source import Quality
    from .providers.agora import Agora
    from .providers.conformance import check_provider
    from .providers.janus import Janus
    from .providers.livekit import LiveKit
    from .providers.memory import Memory
    from .providers.rtmp import Rtmp
    from .providers.whip import Whip
    from .providers.zegocloud import Zegocloud


_HOMES = {
    "client.backend": ("Backend",),
    "client.control": ("ControlPlane",),
    "client.live": ("LiveStreamingProvider",),
    "client.manager": ("ProviderStatus", "StreamingProviderManager"),
    "client.session": ("News",),
    "client.stream": ("LiveStream",),
    "client.view": ("LiveView",),
    "core.policy": ("Policy", "ReturnPolicy", "SelfView"),
    "errors": (
        "AllProvidersFailed",
        "ConfigError",
        "ContractBroken",
        "CredentialsRejected",
        "HitlessError",
        "LocalFault",
        "MediaLost",
        "NotOnAir",
        "ProviderError",
        "Refused",
        "Retry",
        "StreamEnded",
        "Unreachable",
    ),
    "media.frame": ("Codec", "Kind"),
    "media.sink": ("Meter",),
    "media.source": ("Quality",),
    "providers.agora": ("Agora",),
    "providers.conformance": ("check_provider",),
    "providers.janus": ("Janus",),
    "providers.livekit": ("LiveKit",),
    "providers.memory": ("Memory",),
    "providers.rtmp": ("Rtmp",),
    "providers.whip": ("Whip",),
    "providers.zegocloud": ("Zegocloud",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Agora",
    "AllProvidersFailed",
    "Backend",
    "Codec",
    "ConfigError",
    "ContractBroken",
    "ControlPlane",
    "CredentialsRejected",
    "HitlessError",
    "Janus",
    "Kind",
    "LiveKit",
    "LiveStream",
    "LiveStreamingProvider",
    "LiveView",
    "LocalFault",
    "MediaLost",
    "Memory",
    "Meter",
    "News",
    "NotOnAir",
    "Policy",
    "ProviderError",
    "ProviderStatus",
    "Quality",
    "Refused",
    "Retry",
    "ReturnPolicy",
    "Rtmp",
    "SelfView",
    "StreamEnded",
    "StreamingProviderManager",
    "Unreachable",
    "Whip",
    "Zegocloud",
    "check_provider",
]


def __getattr__(name: str) -> Any:  # Any: whatever the name is
    if name not in _HOME_OF:
        raise AttributeError(f"module 'hitless' has no attribute {name!r}")
    return getattr(import_module(f".{_HOME_OF[name]}", __name__), name)
