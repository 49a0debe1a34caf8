"""
What clients say is heard in order, and what they should know is sent: one WebSocket for each.

`Client` is our side of a conversation, whatever carries it; `exchange.py` carries it by REST.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from typing import Any, Final, assert_never

import msgspec
from litestar import WebSocket
from litestar.exceptions import WebSocketDisconnect

from ..client import protocol
from ..core.observation import JoinEnded, MediaLost, QualityReported, Reached, StartEnded
from ..core.policy import Policy
from .allowance import Allowance
from .coordinator import Rejected, check_names
from .database import StoreUnavailable
from .direct import Departures, Direct, way_of
from .hand_legs import cut
from .hands import Hand, Openable
from .hub import Connection
from .keys import Identity, Permission
from .limits import client_of
from .losses import Losses
from .node import Node


SUBPROTOCOL: Final = "hitless.v1"
BEARER: Final = "bearer."
"""A subprotocol `bearer.<key>` carries the key where no header can be set, as in browsers."""

HELLO_S_MAX: Final = 10.0
MESSAGES_PER_S: Final = 50.0
"""Most that one client may say, on average [1/s]; each stream of a hello counts as one."""
BURST: Final = 500.0
LAST_WORD_S_MAX: Final = 1.0
"""A client that does not read has so long to hear why it is cut [s]."""

_BURST_S: Final = BURST / MESSAGES_PER_S + 1e-6  # sums of floats may miss the last bit
_REFUSED: Final = 1008  # RFC 6455 section 7.4.1: policy violation
_ENDED: Final = {"live": True, "failed": False}
_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""Raised by reading what is no JSON, no UTF-8, none of ours, or endlessly deep."""

_Said = (
    protocol.Claim
    | protocol.Confirm
    | protocol.LegNews
    | protocol.Report
    | protocol.Finish
    | protocol.Renew
)


async def serve(socket: WebSocket[Any, Any, Any], node: Node, who: Identity) -> None:
    """
    Serve one client until it goes, is cut, or breaks the protocol.

    Args:
        socket: Not accepted yet.
        node: Ours.
        who: Whose key it showed.
    """
    offered = socket.scope.get("subprotocols", [])
    await socket.accept(subprotocols=SUBPROTOCOL if SUBPROTOCOL in offered else None)
    client = Client(node, who, client_of(socket.client.host) if socket.client else "")
    try:
        await _converse(socket, node, client)
    except WebSocketDisconnect:
        pass
    except Rejected as rejected:
        with contextlib.suppress(WebSocketDisconnect, RuntimeError, TimeoutError):  # it has gone
            async with asyncio.timeout(LAST_WORD_S_MAX):
                await _say_no(socket, rejected.code, rejected.because)
    finally:
        await client.aclose()
        # It holds itself by these two, and with it all of the connection: see `garbage.py`.
        socket.receive = socket.send = _over


async def turn_away(socket: WebSocket[Any, Any, Any], code: str, message: str) -> None:
    """Tell a client why not: a browser's page cannot read the answer to a handshake."""
    await socket.accept()
    await _say_no(socket, code, message)


class Client:
    """
    Our side of the conversation with one client, whatever carries its messages.

    Args:
        node: Ours.
        who: Whose key it showed.
        network: Where it is, as `limits.client_of` says.
    """

    def __init__(self, node: Node, who: Identity, network: str) -> None:
        self._node, self._who, self._network = node, who, network
        self._region = ""
        self._paid_until_s = 0.0
        self._connection: Connection | None = None
        self._is_hearing = False
        self._allowance, self._losses = Allowance(node.loop.time()), Losses()

    async def begin(self, data: bytes) -> Connection:
        """
        Hear the hello; the welcome waits in the connection that is returned.

        Raises:
            Rejected: It is none; or the store does not answer, and it must be said again.
        """
        try:
            hello = protocol.decode_up(_short(data))
        except _UNREADABLE as exc:
            raise Rejected(400, "bad-message", cut(str(exc))) from None
        if not isinstance(hello, protocol.Hello):
            raise Rejected(409, "no-hello", "the first message must be a hello")
        check_names("-", hello.client)
        self._pay(len(hello.streams))
        self._region = hello.region
        self._connection = connection = self._connect(hello)
        node = self._node
        node.hub.add(connection)
        connection.send(protocol.Welcome(node=node.config.name, report_s=node.config.report_s))
        if isinstance(connection, Hand):
            connection.take_up()
        else:
            await self._greet(connection, hello)
        return connection

    async def hear(self, data: bytes) -> None:
        """
        Hear one more message. What is wrong with it is answered by a problem.

        Raises:
            Rejected: The conversation is over: too fast, too long, or nothing can be looked up.
        """
        self._is_hearing = True
        try:
            await self._hear(data)
        finally:
            self._is_hearing = False

    def hear_now(self, data: bytes) -> bool:
        """
        Hear one more message now, if it is a report and nothing is being heard.

        Returns:
            Whether it was heard; if not, nothing was done, and `hear` must be given it.
        """
        connection = self._connection
        if self._is_hearing or connection is None or len(data) > protocol.MESSAGE_BYTES_MAX:
            return False
        if isinstance(connection, Hand) or connection.cut.is_set():
            return False
        try:
            message = protocol.decode_up(data)
            if not isinstance(message, protocol.Report) or message.stream not in connection.roles:
                return False
            self._pay(1)
        except (*_UNREADABLE, Rejected):
            return False
        self._report(connection, message)
        return True

    async def _hear(self, data: bytes) -> None:
        connection = self._connection
        assert connection is not None  # `begin` came first
        self._pay(1)
        data = _short(data)
        try:
            message = protocol.decode_up(data)
        except _UNREADABLE as exc:
            _answer(connection, "bad-message", str(exc))
            return
        if isinstance(message, protocol.Hello):
            self._pay(len(message.streams))
            if isinstance(connection, Hand):
                connection.hear(message)
            else:
                await self._greet(connection, message)
            return
        try:
            await self._obey(connection, message)
        except Rejected as exc:
            _answer(connection, exc.code, exc.because, message.stream)
        except StoreUnavailable as exc:
            _answer(connection, "store-lost", exc.because, message.stream)

    async def aclose(self) -> None:
        """Forget the connection; the client's rows stay until it was silent for long."""
        if self._connection is not None:
            self._node.hub.remove(self._connection)
            if isinstance(self._connection, Hand):
                await self._connection.aclose()

    # --- Inside ---

    def _connect(self, hello: protocol.Hello) -> Connection:
        if not hello.hands:
            return Connection(hello.client, self._who)
        node = self._node
        return Hand(
            hello,
            self._who,
            coordinator=node.coordinator,
            hub=node.hub,
            source=Openable(node.providers, node.judge, hello.adapters),
            policy=Policy(),
            seed=secrets.randbits(32),
            recording=node.judge.recording.hands,
        )

    def _pay(self, tokens: int) -> None:
        """Let a client say and ask only so much; one that floods is cut, and comes back later."""
        now = self._node.loop.time()
        paid_until_s = max(self._paid_until_s, now) + tokens / MESSAGES_PER_S  # see `RateLimit`
        if paid_until_s - now > _BURST_S:
            raise Rejected(429, "too-fast", f"say at most {MESSAGES_PER_S:g} messages a second")
        self._paid_until_s = paid_until_s

    async def _greet(self, connection: Connection, hello: protocol.Hello) -> None:
        for seen in hello.streams:
            try:
                await self._attach(connection, seen)
            except StoreUnavailable as exc:  # it comes back, and is told what it missed then
                raise Rejected(503, "store-lost", exc.because) from exc
            except Rejected as exc:
                _answer(connection, exc.code, exc.because, seen.stream)

    async def _attach(self, connection: Connection, seen: protocol.Seen) -> None:
        check_names(seen.stream, connection.client)
        needed = Permission.PUBLISH if seen.role == "publisher" else Permission.VIEW
        if not self._who.may(needed, seen.stream):
            raise Rejected(403, "forbidden", self._who.why_not(needed))
        if not self._node.hub.attach(connection, seen.stream, seen.role):
            raise Rejected(429, "too-many", "this connection has too many streams")
        await self._node.coordinator.connected(connection, seen)

    async def _obey(self, connection: Connection, message: _Said) -> None:
        role = connection.roles.get(message.stream)
        if isinstance(connection, Hand):
            is_known = not isinstance(message, protocol.LegNews) or connection.has(message)
            if role is not None and is_known:
                await self._note(connection, role, message)
            connection.hear(message)
        elif role is None:
            raise Rejected(404, "unknown-stream", "say hello with this stream first")
        else:
            await self._note(connection, role, message)
            await self._agree(connection, role, message)

    async def _note(self, connection: Connection, role: protocol.Role, message: _Said) -> None:
        """Take what a client says of its media as evidence."""
        match message:
            case protocol.LegNews():
                self._node.metrics.leg(message.provider, role, message.state, message.mediaAge)
                self._judge(role, connection.client, message)
                await self._node.rescues.leg_news(connection, message)
                self._node.dark.leg_news(connection, message)
            case protocol.Report():
                self._report(connection, message)
            case _:
                pass

    async def _agree(self, connection: Connection, role: protocol.Role, message: _Said) -> None:
        coordinator = self._node.coordinator
        match message:
            case protocol.Claim():
                if role != "publisher":
                    raise Rejected(403, "forbidden", "viewers do not claim")
                await coordinator.claim(connection, message)
            case protocol.Confirm():
                await coordinator.confirm(connection, message)
            case protocol.Finish():
                self._node.hub.detach(connection, message.stream)
                if role == "publisher":
                    because = message.because or "its publisher ended it"
                    await coordinator.end(message.stream, connection.client, because)
                await coordinator.leave(message.stream, connection.client)
            case protocol.Renew():
                raise Rejected(501, "not-here", "ask for a plan by POST /v1/start or /v1/join")
            case protocol.LegNews() | protocol.Report():
                pass  # noted already
            case _:
                assert_never(message)

    def _report(self, connection: Connection, report: protocol.Report) -> None:
        node = self._node
        if report.provider in node.providers.rows:
            now = node.loop.time()
            if report.mediaAge <= node.judge.rules.fresh_s:
                where = self._network, self._region_at(report.provider)
                node.judge.gather(
                    report.provider, Reached(connection.client, report.stream, *where)
                )
            loss = self._losses.share(report)
            if node.hub.samples.takes(report.provider, now):
                self._look_at(connection.client, report, loss)
            told = report.bytesSent, report.bytesReceived
            if told != (0, 0):
                believed = self._allowance.believed(told, len(connection.roles), now)
                node.history.carried(report.provider, *believed)
        node.coordinator.seen(connection, report.stream, 0, report.provider)

    def _look_at(self, client: str, report: protocol.Report, loss: float | None) -> None:
        """Take a report's figures as evidence; what its client did not measure is 0."""
        self._node.metrics.report(report.provider, report.mediaAge)
        if report.roundTripTime or report.jitter or loss is not None:
            self._node.judge.observe(
                QualityReported(
                    provider=report.provider,
                    region=self._region_at(report.provider),
                    client=client,
                    stream=report.stream,
                    network=self._network,
                    loss=loss,
                    rtt_s=report.roundTripTime or None,
                    jitter_s=report.jitter or None,
                )
            )

    def _region_at(self, provider: str) -> str | None:
        """Return which of a provider's regions the client is in; None: none of that name."""
        if not self._region:  # each report asks
            return None
        regions = self._node.providers.rows[provider].config.get("regions")
        return self._region if regions and self._region in regions else None

    def _judge(self, role: protocol.Role, client: str, news: protocol.LegNews) -> None:
        """Take what became of a leg as evidence about its provider."""
        if news.provider not in self._node.providers.rows:
            return
        said: dict[str, Any] = {
            "provider": news.provider,
            "region": self._region_at(news.provider),
            "client": client,
            "stream": news.stream,
            "network": self._network,
            "because": news.because[:200] or news.state,
        }
        match news.state:
            case "live" | "failed" if news.error not in ("NotOnAir", "LocalFault"):
                ended = StartEnded if role == "publisher" else JoinEnded
                self._node.judge.observe(ended(ok=_ENDED[news.state], **said))
            case "silent" if role == "publisher":  # a viewer's publisher may have left
                self._node.judge.observe(MediaLost(**said))
            case _:
                pass


async def _converse(socket: WebSocket[Any, Any, Any], node: Node, client: Client) -> None:
    try:
        async with asyncio.timeout(HELLO_S_MAX):
            hello = await _received(socket)
    except TimeoutError:
        raise Rejected(408, "no-hello", f"no hello within {HELLO_S_MAX:g} s") from None
    connection = await client.begin(hello or b"")
    way = way_of(socket.scope)
    if way is None:
        await _by_tasks(socket, client, connection)
    else:
        await _directly(socket, client, connection, way, node.hub.departures)
    if connection.last_word is not None:
        raise Rejected(409, connection.last_word.code, connection.last_word.message)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LAST_WORD_S_MAX):
            await socket.close(code=1000)


async def _directly(
    socket: WebSocket[Any, Any, Any],
    client: Client,
    connection: Connection,
    way: Direct,
    departures: Departures,
) -> None:
    """Converse until the connection is cut; what needs no waiting needs no task either."""
    connection.cut.then = way.wake
    connection.leave_by(way, departures)
    way.hear = client.hear_now
    try:
        while not connection.cut.is_set():
            if (data := await _received(socket)) is not None:
                await client.hear(data)
    finally:
        way.hear = connection.cut.then = None
        connection.stay()
        connection.cut.set()  # nothing follows the last word


async def _by_tasks(
    socket: WebSocket[Any, Any, Any], client: Client, connection: Connection
) -> None:
    """Do the same over any server."""

    async def send() -> None:
        while True:
            await socket.send_bytes(protocol.encode(await connection.next()))

    async def listen() -> None:
        while True:
            if (data := await _received(socket)) is not None:
                await client.hear(data)

    tasks = [
        asyncio.create_task(send(), name="hitless: to a client"),
        asyncio.create_task(listen(), name="hitless: from a client"),
        asyncio.create_task(connection.cut.wait(), name="hitless: cut of a client"),
    ]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _over(*_: Any) -> Any:  # Any: as the framework has it
    raise WebSocketDisconnect(detail="gone")


def _answer(connection: Connection, code: str, because: str, stream: str = "") -> None:
    connection.send(protocol.Problem(code=code, message=cut(because), stream=stream))


async def _received(socket: WebSocket[Any, Any, Any]) -> bytes | None:
    """Return the next message, sent as text or as binary; None: there is none, look around."""
    event = await socket.receive()
    if event["type"] != "websocket.receive":
        raise WebSocketDisconnect(detail="gone")
    text, data = event.get("text"), event.get("bytes")
    return text.encode() if text is not None else data


async def _say_no(socket: WebSocket[Any, Any, Any], code: str, message: str) -> None:
    await socket.send_bytes(protocol.encode(protocol.Problem(code=code, message=message)))
    await socket.close(code=_REFUSED)


def _short(data: bytes) -> bytes:
    if len(data) > protocol.MESSAGE_BYTES_MAX:
        raise Rejected(413, "too-long", f"send at most {protocol.MESSAGE_BYTES_MAX} bytes")
    return data
