"""
aiortc's connection as one peer uses it: owned tasks, chosen codecs, ICE servers.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from aiortc import RTCBundlePolicy, RTCConfiguration, RTCIceServer, RTCPeerConnection
from aiortc.codecs import get_capabilities

from .frame import Codec, Kind


logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class IceServer:
    """A STUN or TURN server: `urls` of RFC 7064 or 7065, and the credential of the latter."""

    urls: str
    username: str | None = None
    credential: str | None = None

    def __repr__(self) -> str:
        return f"IceServer(urls={self.urls!r})"  # never the credential


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine's loopback."""
    if host == "localhost" or host.endswith(".localhost"):
        return True  # RFC 6761 section 6.3
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Connection(RTCPeerConnection):
    """
    aiortc's connection, with an owner for the task that it lets run by itself.

    Args:
        ice_servers: STUN and TURN servers.

    Attributes:
        connecting: The tasks that still connect.
        changed: Set when one of them ended, and by whoever listens to aiortc.
        fault: Why one of them failed; None: none did.
    """

    def __init__(self, ice_servers: Sequence[IceServer]) -> None:
        servers = [
            RTCIceServer(server.urls, server.username, server.credential) for server in ice_servers
        ]
        super().__init__(
            RTCConfiguration(iceServers=servers, bundlePolicy=RTCBundlePolicy.MAX_BUNDLE)
        )
        self.connecting: set[asyncio.Task[Any]] = set()
        self.changed = asyncio.Event()
        self.fault: Exception | None = None

    async def _RTCPeerConnection__connect(self) -> None:
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        self.connecting.add(task)
        try:
            await cast(Any, super())._RTCPeerConnection__connect()
        except Exception as exc:
            # Nobody awaits this task, so this is where a bad answer shows that passed the parser.
            logger.debug("connecting failed", exc_info=True)
            self.fault = exc
        finally:
            self.connecting.discard(task)
            self.changed.set()


def preferences(kind: Kind, codecs: Sequence[Codec]) -> list[Any]:
    """Return aiortc's capabilities for codecs, the constrained baseline of H.264 first."""
    found: list[Any] = []
    for codec in codecs:
        same = [
            capability
            for capability in get_capabilities(kind.value).codecs
            if capability.mimeType.lower() == f"{kind.value}/{codec.value}".lower()
        ]
        # 42e01f before 42001f: some servers take no other (facts/whip-whep section 3).
        found += sorted(same, key=lambda each: each.parameters.get("profile-level-id") != "42e01f")
    return found
