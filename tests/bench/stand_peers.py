"""Canned media and light peers for the stand-in: a publisher and viewers that cost little."""

from __future__ import annotations

import asyncio
import fcntl
import fractions
import struct
import sys
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import av
import numpy as np
from aioice import stun
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCPeerConnection,
    RTCSessionDescription,
    rtcrtpsender,
)
from aiortc.mediastreams import MediaStreamError
from aiortc.rtcconfiguration import RTCBundlePolicy
from aiortc.rtp import RtcpReceiverInfo, RtcpRrPacket
from multidict import CIMultiDictProxy


VIDEO = fractions.Fraction(1, 90_000)
AUDIO = fractions.Fraction(1, 48_000)
_SIOCGSTAMPNS = 0x8907  # Linux: when the datagram read last had arrived at the socket


def encode_video(
    frames: int = 60, *, bitrate_bps: int = 1_000_000, codec: str = "libvpx", size: int = 360
) -> list[bytes]:
    """Encode a moving picture at 30 frames/s; the first frame is the only keyframe."""
    encoder = av.CodecContext.create(codec, "w")
    encoder.width, encoder.height, encoder.pix_fmt = size * 16 // 9, size, "yuv420p"
    encoder.bit_rate = bitrate_bps
    encoder.time_base = fractions.Fraction(1, 30)
    encoder.gop_size = 10_000
    # A negative cpu-used is a fixed speed: a positive one follows the machine's load, and the
    # clip's bitrate with it.
    encoder.options = (
        {"deadline": "realtime", "cpu-used": "-8", "lag-in-frames": "0", "auto-alt-ref": "0"}
        | {"minrate": str(bitrate_bps), "maxrate": str(bitrate_bps)}
        if codec == "libvpx"
        else {"preset": "ultrafast", "tune": "zerolatency", "profile": "baseline"}
    )
    rng = np.random.default_rng(1)
    coarse = rng.integers(40, 200, (size // 24 + 1, size * 16 // 9 // 24 + 1), dtype=np.uint8)
    ground = np.kron(coarse, np.ones((24, 24), np.uint8))[:size, : size * 16 // 9]
    data = []
    for number in range(frames):
        picture = av.VideoFrame(encoder.width, encoder.height, "yuv420p")
        luma = np.roll(ground, number * 3, axis=1)
        luma[40:130, 40:200] = rng.integers(0, 256, (90, 160))  # what costs the bits
        for plane, values in zip(
            picture.planes, (luma, luma[::2, ::2], luma[::2, ::2]), strict=True
        ):
            padded = np.zeros((plane.height, plane.line_size), np.uint8)
            padded[:, : plane.width] = values[: plane.height, : plane.width]
            plane.update(padded.tobytes())
        picture.pts, picture.time_base = number, encoder.time_base
        data += [bytes(packet) for packet in encoder.encode(picture)]
    return data


def encode_audio(packets: int = 50) -> list[bytes]:
    """Encode a tone as Opus packets of 20 ms."""
    encoder = av.CodecContext.create("libopus", "w")
    encoder.sample_rate, encoder.layout, encoder.format = 48_000, "stereo", "s16"
    encoder.bit_rate = 64_000
    data = []
    for number in range(packets + 2):
        at = np.arange(number * 960, (number + 1) * 960) / 48_000
        tone = (8000 * np.sin(2 * np.pi * 440 * at)).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(np.repeat(tone, 2)[None, :], "s16", "stereo")
        frame.sample_rate, frame.pts = 48_000, number * 960
        data += [bytes(packet) for packet in encoder.encode(frame)]
    return data[:packets]


class Loop(MediaStreamTrack):
    """
    Encoded frames, over and over, at their pace; `rewind` begins again with the keyframe.

    Attributes:
        longest_s: Longest time between two frames sent [s]: a publisher's own pauses.
        rewinds: Keyframes asked for.
    """

    def __init__(self, kind: str, frames: list[bytes], interval_s: float) -> None:
        self.kind = kind
        super().__init__()
        self._frames = frames
        self._interval_s = interval_s
        self._time_base = VIDEO if kind == "video" else AUDIO
        self._number = 0
        self._at = 0
        self._start_s: float | None = None
        self._last_s: float | None = None
        self.longest_s = 0.0
        self.rewinds = 0

    def rewind(self) -> None:
        """Send the keyframe next."""
        self._at = 0
        self.rewinds += 1

    async def recv(self) -> Any:
        if self.readyState != "live":
            raise MediaStreamError
        loop = asyncio.get_running_loop()
        self._start_s = self._start_s or loop.time()
        due_s = self._start_s + self._number * self._interval_s
        await asyncio.sleep(max(0.0, due_s - loop.time()))
        now = loop.time()
        if self._last_s is not None:
            self.longest_s = max(self.longest_s, now - self._last_s)
        self._last_s = now
        packet = av.Packet(self._frames[self._at % len(self._frames)])
        packet.pts = round(self._number * self._interval_s / self._time_base)
        packet.time_base = self._time_base
        self._number += 1
        self._at += 1
        return packet


class _RewindingSender(rtcrtpsender.RTCRtpSender):
    """A stock sender hands a PLI to its encoder; canned frames have none."""

    def _send_keyframe(self) -> None:
        if isinstance(self.track, Loop):
            self.track.rewind()


def new_peer() -> RTCPeerConnection:
    """Return a stock peer that asks no STUN server."""
    return RTCPeerConnection(
        RTCConfiguration(iceServers=[], bundlePolicy=RTCBundlePolicy.MAX_BUNDLE)
    )


@dataclass
class Answer:
    """What WHIP or WHEP answered."""

    status: int
    headers: CIMultiDictProxy[str]
    text: str


async def post(
    http: aiohttp.ClientSession, url: str, sdp: str, headers: dict[str, str] | None = None
) -> Answer:
    """Post an offer."""
    headers = {"Content-Type": "application/sdp"} | (headers or {})
    async with http.post(url, data=sdp, headers=headers) as response:
        return Answer(response.status, response.headers, await response.text())


@dataclass
class Joined:
    """A session: its peer, its URL and its tracks by kind."""

    pc: RTCPeerConnection
    url: str
    tracks: dict[str, Any] = field(default_factory=dict)

    async def leave(self, http: aiohttp.ClientSession) -> int:
        """End the session as WHIP and WHEP say; return the status."""
        async with http.delete(self.url) as response:
            status = response.status
        await self.pc.close()
        return status


async def connected(pc: RTCPeerConnection, limit_s: float = 5.0) -> None:
    """Wait until media can flow."""
    async with asyncio.timeout(limit_s):
        while pc.connectionState != "connected":
            assert pc.connectionState not in ("failed", "closed"), pc.connectionState
            await asyncio.sleep(0.005)


async def publish_offer(
    video: list[bytes] | None, audio: list[bytes] | None, codec: str = "video/VP8"
) -> tuple[RTCPeerConnection, dict[str, Loop]]:
    """Return a stock peer with a publisher's offer set, and its tracks."""
    pc = new_peer()
    tracks = {}
    if audio is not None:
        tracks["audio"] = Loop("audio", audio, 0.02)
        pc.addTransceiver(tracks["audio"], "sendonly")
    if video is not None:
        tracks["video"] = Loop("video", video, 1 / 30)
        transceiver = pc.addTransceiver(tracks["video"], "sendonly")
        capabilities = rtcrtpsender.RTCRtpSender.getCapabilities("video").codecs
        transceiver.setCodecPreferences([c for c in capabilities if c.mimeType == codec])
        transceiver.sender.__class__ = _RewindingSender
    await pc.setLocalDescription(await pc.createOffer())
    return pc, tracks


async def publish(
    http: aiohttp.ClientSession,
    base: str,
    stream: str,
    *,
    video: list[bytes] | None = None,
    audio: list[bytes] | None = None,
    codec: str = "video/VP8",
    headers: dict[str, str] | None = None,
) -> Joined:
    """Publish canned media; return once connected."""
    pc, tracks = await publish_offer(video, audio, codec)
    answer = await post(http, f"{base}/whip/{stream}", pc.localDescription.sdp, headers)
    if answer.status != 201:
        await pc.close()
        raise AssertionError(f"{answer.status}: {answer.text}")
    await pc.setRemoteDescription(RTCSessionDescription(answer.text, "answer"))
    await connected(pc)
    return Joined(pc, base + answer.headers["Location"], tracks)


async def view_offer(kinds: tuple[str, ...] = ("audio", "video")) -> RTCPeerConnection:
    """Return a stock peer with a viewer's offer set."""
    pc = new_peer()
    for kind in kinds:
        pc.addTransceiver(kind, "recvonly")
    await pc.setLocalDescription(await pc.createOffer())
    return pc


async def view(
    http: aiohttp.ClientSession,
    base: str,
    stream: str,
    *,
    kinds: tuple[str, ...] = ("audio", "video"),
    limit_s: float = 5.0,
) -> Joined:
    """View a stream with a stock peer, asking again while told to; return once connected."""
    pc = await view_offer(kinds)
    async with asyncio.timeout(limit_s):
        while True:
            answer = await post(http, f"{base}/whep/{stream}", pc.localDescription.sdp)
            if answer.status not in (409, 503):
                break
            await asyncio.sleep(0.05)
    if answer.status != 201:
        await pc.close()
        raise AssertionError(f"{answer.status}: {answer.text}")
    await pc.setRemoteDescription(RTCSessionDescription(answer.text, "answer"))
    tracks = {t.kind: t.receiver.track for t in pc.getTransceivers() if t.receiver.track}
    await connected(pc)
    return Joined(pc, base + answer.headers["Location"], tracks)


def count_consents(protocol: Any, consents: dict[str, int]) -> None:
    """Count what becomes of a connected peer's consent checks."""
    ask = protocol.request

    async def request(*arguments: Any, **options: Any) -> Any:
        try:
            answer = await ask(*arguments, **options)
        except stun.TransactionError:
            consents["failed"] += 1
            raise
        consents["answered"] += 1
        return answer

    protocol.request = request


async def _receive_nothing(parameters: object) -> None: ...


class LightViewer:
    """
    A viewer that decodes nothing: it counts RTP by the clear part of its header.

    Its ICE, DTLS and consent checks are stock. Pauses are taken from the kernel's time of
    arrival where there is one, so that a busy viewer does not look like a slow server.

    Attributes:
        packets: RTP packets that arrived.
        pause_s: Longest time between two of them [s].
        refusals: Answers 503 until it was in.
        connect_s: From the answer to "connected" [s].
        consents: Its own consent checks: did the server answer in time?
    """

    def __init__(self) -> None:
        self.pc = new_peer()
        self.packets = 0
        self.refusals = 0
        self.connect_s = 0.0
        self.pause_s = 0.0
        self.consents = {"answered": 0, "failed": 0}
        self.url = ""
        self._first = asyncio.Event()
        self._last_s: float | None = None
        self._ssrcs: dict[int, int] = {}

    async def join(
        self,
        http: aiohttp.ClientSession,
        base: str,
        stream: str,
        kinds: tuple[str, ...] = ("audio", "video"),
    ) -> None:
        """Join, asking again as told after each refusal; return at the first RTP packet."""
        for kind in kinds:
            receiver = self.pc.addTransceiver(kind, "recvonly").receiver
            receiver.receive = _receive_nothing  # no decoder thread
        await self.pc.setLocalDescription(await self.pc.createOffer())
        while True:
            answer = await post(http, f"{base}/whep/{stream}", self.pc.localDescription.sdp)
            if answer.status not in (409, 503):
                break
            self.refusals += 1
            await asyncio.sleep(float(answer.headers["Retry-After"]))
        assert answer.status == 201, f"{answer.status}: {answer.text}"
        self.url = base + answer.headers["Location"]
        admitted_s = asyncio.get_running_loop().time()
        await self.pc.setRemoteDescription(RTCSessionDescription(answer.text, "answer"))
        await connected(self.pc, 10.0)
        self.connect_s = asyncio.get_running_loop().time() - admitted_s
        protocol = self._dtls.transport._connection._nominated[1].protocol
        count_consents(protocol, self.consents)
        self._taken = protocol.datagram_received
        self._socket = protocol.transport.get_extra_info("socket")
        protocol.datagram_received = self._take
        await asyncio.wait_for(self._first.wait(), 10.0)

    @property
    def _dtls(self) -> Any:
        return self.pc.getTransceivers()[0].receiver.transport

    def _take(self, data: bytes, addr: tuple[Any, ...]) -> None:
        if not 127 < data[0] < 192:
            self._taken(data, addr)
            return
        if 192 <= data[1] <= 223:  # RTCP
            return
        now = self._arrived_s()
        self.packets += 1
        self._first.set()
        if self._last_s is not None:
            self.pause_s = max(self.pause_s, now - self._last_s)
        self._last_s = now
        self._ssrcs[int.from_bytes(data[8:12], "big")] = int.from_bytes(data[2:4], "big")

    def _arrived_s(self) -> float:
        if sys.platform == "linux":
            stamp = fcntl.ioctl(self._socket.fileno(), _SIOCGSTAMPNS, b"\0" * 16)
            seconds, nanoseconds = struct.unpack("qq", stamp)
            return float(seconds + nanoseconds / 1e9)
        return asyncio.get_running_loop().time()

    async def report(self) -> None:
        """Send a receiver report, as any viewer does about once a second."""
        reports = [
            RtcpReceiverInfo(
                ssrc=ssrc,
                fraction_lost=0,
                packets_lost=0,
                highest_sequence=number,
                jitter=0,
                lsr=0,
                dlsr=0,
            )
            for ssrc, number in self._ssrcs.items()
        ]
        await self._dtls._send_rtp(bytes(RtcpRrPacket(ssrc=1, reports=reports)))

    def reset(self) -> None:
        """Count from now on."""
        self.packets, self.pause_s, self._last_s = 0, 0.0, None

    async def leave(self, http: aiohttp.ClientSession) -> None:
        """End the session."""
        async with http.delete(self.url):
            pass
        await self.pc.close()
