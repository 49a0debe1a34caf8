"""A stand-in that speaks a provider's language, and light peers with credentials for it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import aioice.ice
import pytest
from aiortc import RTCPeerConnection, RTCSessionDescription
from bench.stand_peers import (
    Answer,
    Joined,
    connected,
    encode_audio,
    encode_video,
    post,
    publish_offer,
    view_offer,
)

from hitless.core.events import Role
from hitless.lab import admission
from hitless.lab.account import Account, AgoraAccount, ZegoAccount
from hitless.lab.stand import Stand
from hitless.providers import agora_token, zego_token


AGORA = AgoraAccount(
    app_id="970CA35de60c44645bbae8a215061b33",
    certificate="5CFd2fd1755d40ecb72977518be15d3b",
    customer_id="customer-of-ours",
    customer_secret="s3cr3t-of-the-customer",
)
"""The documents' test account, with a REST credential of our own."""

ZEGO = ZegoAccount(app_id=1234567890, server_secret="9193cc662a4c0ec135ec71fb57194b38")

BEARER = {"Authorization": "Bearer control"}
NOW_S = 1_700_000_000.0


@dataclass
class Wall:
    """A wall clock that is set by hand, or goes on from `now_s` with the loop."""

    now_s: float = NOW_S
    runs: bool = False

    def __call__(self) -> float:
        return self.now_s + (asyncio.get_running_loop().time() if self.runs else 0.0)


def agora_bearer(
    role: Role = Role.PUBLISHER,
    channel: str = "s",
    uid: int = 7,
    *,
    ttl_s: int = 600,
    join_s: int | None = None,
    now_s: float = NOW_S,
    **account: str,
) -> dict[str, str]:
    """Return a header with a token of the account; `join_s`: how long joining is allowed."""
    known = {"app_id": AGORA.app_id, "certificate": AGORA.certificate, **account}
    service = agora_token.rtc(channel, uid, role, ttl_s)
    if join_s is not None:
        privileges = {**service.privileges, agora_token.Privilege.JOIN.value: join_s}
        service = agora_token.Service(
            type=service.type, privileges=privileges, names=service.names
        )
    token = agora_token.mint(**known, services=[service], now_s=now_s, ttl_s=ttl_s)
    return {"Authorization": f"Bearer {token}"}


def zego_bearer(
    role: Role | None = Role.PUBLISHER,
    stream: str = "s",
    room: str = "room",
    user: str = "u-7",
    *,
    ttl_s: int = 600,
    now_s: float = NOW_S,
    payload: str | None = None,
    **account: Any,
) -> dict[str, str]:
    """Return a header with a token of the account; no role: a basic token."""
    known = {"app_id": ZEGO.app_id, "server_secret": ZEGO.server_secret, **account}
    if payload is None:
        payload = ""
        if role is not None:
            payload = zego_token.payload_of(zego_token.privileges_of(role, room, stream))
    token = zego_token.mint(user_id=user, payload=payload, now_s=now_s, ttl_s=ttl_s, **known)
    return {"Authorization": f"Bearer {token}"}


@dataclass
class World:
    """A stand-in, an HTTP client, and every peer that was made."""

    stand: Stand
    url: str
    http: aiohttp.ClientSession
    wall: Wall
    peers: list[RTCPeerConnection] = field(default_factory=list)

    async def offer(self, *, publishes: bool, video: bool = False) -> RTCPeerConnection:
        """Return a peer with an offer of sound, and of pictures if told."""
        if publishes:
            clip = encode_video(30, size=180, bitrate_bps=300_000) if video else None
            pc, _ = await publish_offer(clip, encode_audio(25))
        else:
            pc = await view_offer(("audio",))
        self.peers.append(pc)
        return pc

    async def ask(self, path: str, headers: dict[str, str] | None = None) -> Answer:
        """Post an offer that fits the path; connect nothing."""
        pc = await self.offer(publishes="whip" in path)
        return await post(self.http, self.url + path, pc.localDescription.sdp, headers)

    async def publish(
        self, headers: dict[str, str], path: str = "/whip/s", *, video: bool = False
    ) -> Joined:
        """Publish, and wait until the stand-in has media."""
        joined = await self._join(path, headers, publishes=True, video=video)
        stream = path.partition("?")[0].rpartition("/")[2]
        await until(lambda: any(each.stream == stream for each in self.stand.sessions.on_air))
        return joined

    async def view(self, headers: dict[str, str], path: str = "/whep/s") -> Joined:
        """View, and wait until connected."""
        return await self._join(path, headers, publishes=False)

    async def _join(
        self, path: str, headers: dict[str, str], *, publishes: bool, video: bool = False
    ) -> Joined:
        pc = await self.offer(publishes=publishes, video=video)
        answer = await post(self.http, self.url + path, pc.localDescription.sdp, headers)
        assert answer.status == 201, answer.text
        await pc.setRemoteDescription(RTCSessionDescription(answer.text, "answer"))
        await connected(pc, 10.0)
        return Joined(pc, self.url + answer.headers["Location"])

    async def fault(self, name: str, on: bool = True, **given: Any) -> int:
        """Inject or heal; return the status."""
        body = {"fault": name, "on": on, **given}
        async with self.http.post(
            f"{self.url}/control/faults", json=body, headers=BEARER
        ) as answer:
            return answer.status

    async def call(self, method: str, path: str, **options: Any) -> tuple[int, Any, Any]:
        """Send a request; return status, body and headers."""
        async with self.http.request(method, self.url + path, **options) as answer:
            is_json = "json" in answer.content_type
            body = await (answer.json(content_type=None) if is_json else answer.text())
            return answer.status, body, answer.headers


@asynccontextmanager
async def speaking(account: Account | None, **options: Any) -> AsyncIterator[World]:
    """Run a stand-in with this account."""
    wall = options.pop("wall", None) or Wall()
    stand = Stand(
        "it",
        account=account,
        wall_s=wall,
        control_token="control",
        rng=random.Random(1),
        **options,
    )
    url = await stand.start()
    try:
        async with aiohttp.ClientSession() as http:
            world = World(stand, url, http, wall)
            try:
                yield world
            finally:
                await asyncio.gather(*(pc.close() for pc in world.peers))
    finally:
        await stand.aclose()


def play(account: Account | None, scenario: Callable[[World], Any], **options: Any) -> None:
    """Run a scenario in a world of its own, within a minute."""

    async def main() -> None:
        async with asyncio.timeout(60), speaking(account, **options) as world:
            await scenario(world)

    asyncio.run(main())


def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let peers use loopback; the load of this process says nothing about the stand-in's."""
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda **_: ["127.0.0.1"])
    for limit in ("CPU_MAX", "CPU_PACED", "LAG_S_MAX", "BEHIND_S_MAX"):
        monkeypatch.setattr(admission, limit, 100.0)


async def until(condition: Callable[[], bool], limit_s: float = 15.0) -> None:
    """Wait until something is so."""
    loop = asyncio.get_running_loop()
    until_s = loop.time() + limit_s
    while not condition():
        assert loop.time() < until_s, "it never was so"
        await asyncio.sleep(0.01)


def closed(joined: Joined) -> Callable[[], bool]:
    """Return whether the far side ended a session."""
    return lambda: joined.pc.connectionState == "closed"
