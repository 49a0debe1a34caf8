"""
WebSockets through the lab's proxies: both ends connected, messages carried until one of them ends.

*Near* is the side of the client, *far* the side of the server. What one end does is done to the
other: a close frame is passed on with its code, a connection that is gone is cut.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import aiohttp
from aiohttp import WSMsgType, web
from multidict import CIMultiDict, MultiMapping
from yarl import URL

from ..media.closing import finish


MESSAGE_BYTES_MAX: Final = 1 << 20
"""Longest WebSocket message; more than the server takes, whose limit is its own to enforce."""

_CONNECT_S_MAX = 5.0
_SILENT_S_MAX = 120.0  # how long the server may pause within an answer

# Fields of one hop (RFC 9110 section 7.6.1); the two ends of a WebSocket negotiate each for
# itself, and Expect is answered here.
_ONE_HOP = frozenset(
    "connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer"
    " transfer-encoding upgrade expect sec-websocket-key sec-websocket-version"
    " sec-websocket-extensions sec-websocket-protocol sec-websocket-accept".split()
)
_CARRIED = (WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.PING, WSMsgType.PONG)


Side = web.WebSocketResponse | aiohttp.ClientWebSocketResponse
Gate = Callable[[], Awaitable[None]]
"""Waited for before a message is let through."""


async def tunnel(
    request: web.Request, url: URL, headers: CIMultiDict[str], gate: Gate
) -> web.StreamResponse:
    """
    Connect both ends and carry messages until one of them ends.

    Args:
        request: Of the near end: one that asks for a WebSocket.
        url: Of the far end.
        headers: What the far end is sent.
        gate: Lets each message through, or holds it.

    Raises:
        ClientError, OSError: The far end does not answer.
    """
    offered = request.headers.get("Sec-WebSocket-Protocol", "").replace(" ", "")
    # A session of its own: closing it cuts the connection without a close frame.
    async with far_session() as session:
        try:
            far = await session.ws_connect(
                url,
                headers=headers,
                protocols=offered.split(",") if offered else [],
                max_msg_size=MESSAGE_BYTES_MAX,
                autoping=False,
                autoclose=False,
            )
        except aiohttp.WSServerHandshakeError as exc:  # its body is lost: aiohttp drops it
            kept = passed(exc.headers or CIMultiDict(), "content-length")
            return web.Response(status=exc.status, headers=kept)
        near = web.WebSocketResponse(
            protocols=[far.protocol] if far.protocol else [],
            max_msg_size=MESSAGE_BYTES_MAX,
            autoping=False,
            autoclose=False,
        )
        try:
            await gate()
            await near.prepare(request)
            await _carry(near, far, gate)
        except (aiohttp.ClientError, OSError):
            cut(request)
        finally:
            await finish(asyncio.create_task(_let_go(session, far), name="tunnel: end"))
        return near


async def _let_go(session: aiohttp.ClientSession, far: aiohttp.ClientWebSocketResponse) -> None:
    await session.close()
    await far.close()  # with its session closed, nothing is sent


async def _carry(near: Side, far: Side, gate: Gate) -> None:
    """
    Carry messages both ways until one end closes, and tell the other one.

    Raises:
        ClientError, OSError: One end is gone without a word, or silent for too long.
    """
    up = asyncio.create_task(_pump(near, far, gate), name="tunnel: up")
    down = asyncio.create_task(_pump(far, near, gate), name="tunnel: down")
    try:
        await asyncio.wait((up, down), return_when=asyncio.FIRST_COMPLETED)
        ended, other, way = (near, far, up) if up.done() else (far, near, down)
        close = way.result()
        # aiohttp cannot send a close frame that has no code: 1000 says the same.
        code = close.data or aiohttp.WSCloseCode.OK
        await other.close(code=code, message=(close.extra or "").encode())
        await ended.close(code=code)
    finally:
        up.cancel()
        down.cancel()
        await asyncio.gather(up, down, return_exceptions=True)


async def _pump(source: Side, target: Side, gate: Gate) -> aiohttp.WSMessage:
    """Carry messages one way; return the close frame at their end."""
    while True:
        message = await source.receive()
        await gate()
        if message.type is WSMsgType.CLOSE:
            return message
        if message.type not in _CARRIED:
            raise ConnectionResetError("gone without a close frame")
        data = message.data.encode() if isinstance(message.data, str) else message.data
        await target.send_frame(data, message.type)


def far_session() -> aiohttp.ClientSession:
    """Return a session that passes on what is sent, as it is."""
    return aiohttp.ClientSession(
        auto_decompress=False,
        skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
        cookie_jar=aiohttp.DummyCookieJar(),
        # A new connection each time: an old one to a killed server would be found broken only
        # by using it.
        connector=aiohttp.TCPConnector(limit=0, force_close=True),
        timeout=aiohttp.ClientTimeout(sock_connect=_CONNECT_S_MAX, sock_read=_SILENT_S_MAX),
    )


def passed(headers: MultiMapping[str], *without: str) -> CIMultiDict[str]:
    """Return the fields that go on, repeated ones too: not those of one hop."""
    named = ",".join(headers.getall("Connection", ())).lower().split(",")
    stay = _ONE_HOP.union(without, (word.strip() for word in named))
    return CIMultiDict((k, v) for k, v in headers.items() if k.lower() not in stay)


def cut(request: web.Request) -> web.Response:
    """Cut the connection: an answer would come from somebody who is there."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=502)  # goes nowhere; aiohttp wants something to send
