"""What clients call: the two public endpoints, plans, and the WebSocket."""

from __future__ import annotations

from typing import Annotated, Any, Final

from litestar import Response, WebSocket, get, post, websocket

from ..client.protocol import Plan, PlanRequest
from . import api_page as page
from . import socket as sockets
from .access import Call, allowed, identity, known, limit_address
from .api_page import KEYED, OPEN, POSTED, UNREADY, Extended, fails, like
from .coordinator import Rejected, check_names
from .exchange import Exchanges
from .keys import Permission
from .limits import TooMany, client_of
from .metrics import CONTENT_TYPE
from .node import Node
from .wire import (
    Data,
    Exchange,
    Exchanged,
    Health,
    HealthInFull,
    Nothing,
    ProviderList,
    StreamNamed,
)


WORD_CHARS_MAX: Final = 64


@get(
    "/streaming/providers",
    tags=["providers"],
    summary="List the providers",
    responses=fails(*KEYED),
)
async def list_providers(request: Call, node: Node) -> Data[ProviderList]:
    """Return the list that clients go by, best first; its config is public, never a secret."""
    who = known(request, node) if node.config.is_open else None
    if not node.config.is_open:
        who = allowed(request, node, Permission.LIST_PROVIDERS)
    elif who is None:
        limit_address(request, node)
    return Data(data=node.providers.listed(in_full=who is not None))


@get(
    "/streaming/providers/{name:str}/health",
    tags=["providers"],
    summary="How a provider is",
    responses=fails(*OPEN, 404),
    security=[{}, {"key": []}],
    operation_class=Extended,
)
async def provider_health(
    request: Call, node: Node, name: str
) -> Data[Health] | Data[HealthInFull]:
    """Return the verdict; with a key, with its reasons and figures."""
    who = known(request, node)
    if who is None:
        limit_address(request, node)
    if name not in node.providers.rows:
        raise Rejected(404, "unknown-provider", f"there is no provider {name[:80]!r}")
    if who is not None and who.may(Permission.LIST_PROVIDERS):
        return Data(data=node.judge.health_in_full(name))
    return Data(data=node.judge.health(name))


@post(
    "/v1/start",
    status_code=200,
    tags=["streams"],
    summary="Start to publish a stream",
    responses=fails(*POSTED, 409),
)
async def start(
    request: Call, node: Node, data: Annotated[PlanRequest, like(page.START)]
) -> Data[Plan]:
    """Return the plan of a publisher; what it says is stored before it is answered."""
    who = identity(request, node)
    _check_words(data)
    return Data(data=await node.coordinator.start(who, data))


@post(
    "/v1/join",
    status_code=200,
    tags=["streams"],
    summary="Join a stream as a viewer",
    responses=fails(*POSTED),
)
async def join(
    request: Call, node: Node, data: Annotated[PlanRequest, like(page.JOIN)]
) -> Data[Plan]:
    """Return the plan of a viewer; of epoch 0 while nobody publishes the stream."""
    who = identity(request, node)
    _check_words(data)
    return Data(data=await node.coordinator.join(who, data))


@post(
    "/v1/leave",
    status_code=200,
    tags=["streams"],
    summary="Leave a stream",
    responses=fails(*POSTED),
)
async def leave(
    request: Call, node: Node, data: Annotated[StreamNamed, like(page.LEAVE)]
) -> Data[Nothing]:
    """Say that a viewer is gone. Idempotent."""
    check_names(data.stream, data.client)
    allowed(request, node, Permission.VIEW, data.stream)
    await node.coordinator.leave(data.stream, data.client)
    return Data(data=Nothing())


@post(
    "/v1/end",
    status_code=200,
    tags=["streams"],
    summary="End a stream",
    responses=fails(*POSTED, 404),
)
async def end(
    request: Call, node: Node, data: Annotated[StreamNamed, like(page.END)]
) -> Data[Nothing]:
    """End a stream that this client publishes; its viewers are told at once."""
    check_names(data.stream, data.client)
    allowed(request, node, Permission.PUBLISH, data.stream)
    because = data.because or "its publisher ended it"
    if not await node.coordinator.end(data.stream, data.client, because):
        raise Rejected(404, "unknown-stream", "this client publishes no such stream")
    return Data(data=Nothing())


@websocket("/v1/connect")
async def connect(socket: WebSocket[Any, Any, Any], node: Node) -> None:
    """One connection per client; see docs/reference/protocol.md."""
    try:
        who = identity(socket, node)
        place = node.connections.admit(client_of(socket.client.host) if socket.client else "")
    except Rejected as rejected:
        await sockets.turn_away(socket, rejected.code, rejected.because)
        return
    except TooMany as too_many:
        await sockets.turn_away(socket, "too-many", too_many.because)
        return
    try:
        await sockets.serve(socket, node, who)
    finally:
        place.release()


@post(
    "/v1/exchange",
    status_code=200,
    tags=["streams"],
    summary="The WebSocket by REST",
    responses=fails(*POSTED, 409),
)
async def exchange(
    request: Call, node: Node, data: Annotated[Exchange, like(page.EXCHANGE)]
) -> Data[Exchanged]:
    """Bring messages up and take those down that wait; see docs/reference/protocol.md."""
    who = identity(request, node)
    state = request.app.state
    if "exchanges" not in state:
        state["exchanges"] = Exchanges(node)
    network = client_of(request.client.host) if request.client else ""
    messages = await state["exchanges"].exchange(who, network, data)
    return Data(data=Exchanged(messages=messages))


@get(
    "/livez",
    tags=["operation"],
    summary="Whether the process lives",
    media_type="text/plain",
    security=[{}],
)
async def livez() -> str:
    """Return `ok`: the event loop turns."""
    return "ok"


@get(
    "/readyz",
    tags=["operation"],
    summary="Whether it can serve",
    media_type="text/plain",
    responses=UNREADY,
    security=[{}],
)
async def readyz(node: Node) -> Response[str]:
    """Return `ok`, or 503 and why: clients go on from their plans meanwhile."""
    if node.store_lost_because:
        return Response(f"degraded: {node.store_lost_because}", status_code=503)
    return Response("ok")


@get(
    "/metrics",
    tags=["operation"],
    summary="For Prometheus",
    media_type="text/plain",
    responses=fails(401, 403, 429, 503),
)
async def metrics(request: Call, node: Node) -> Response[bytes]:
    """Return this node's metrics in Prometheus' text format; any operator's key may read them."""
    allowed(request, node, Permission.READ)
    return Response(await node.metrics.page(), media_type=CONTENT_TYPE)


ROUTES: Final = (
    list_providers,
    provider_health,
    start,
    join,
    leave,
    end,
    connect,
    exchange,
    livez,
    readyz,
    metrics,
)


def _check_words(asked: PlanRequest) -> None:
    """Refuse what would be stored and is no name of an adapter or a codec."""
    for field in ("adapters", "codecs"):
        for word in getattr(asked, field):
            if not word.isprintable() or not 0 < len(word) <= WORD_CHARS_MAX:
                because = f"{field}: give words of 1 to {WORD_CHARS_MAX} printable characters"
                raise Rejected(400, "bad-request", because)
