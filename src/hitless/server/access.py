"""Who is asking: the key of a request, and how often it may ask."""

from __future__ import annotations

from typing import Any, Final

from litestar import Request
from litestar.connection import ASGIConnection

from .clock import wall_s
from .coordinator import Rejected
from .keys import Identity, KeyRefused, Permission
from .limits import client_of
from .node import Node
from .socket import BEARER


Connection = ASGIConnection[Any, Any, Any, Any]
Call = Request[Any, Any, Any]

_BEARER: Final = "bearer "


class TooOften(Rejected):
    """
    Somebody asks more often than he may.

    Attributes:
        retry_after_s: When to ask again [s].
    """

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(429, "too-often", f"too many requests: wait {retry_after_s:.1f} s")
        self.retry_after_s = retry_after_s


def identity(connection: Connection, node: Node) -> Identity:
    """
    Return whose key a request or a WebSocket shows.

    Raises:
        Rejected: It shows none, or one that opens nothing.
        TooOften: This key, or this address with bad keys, asks too often.
    """
    found = known(connection, node)
    if found is None:
        raise Rejected(401, "no-key", "send Authorization: Bearer hk_<id>_<secret>")
    return found


def known(connection: Connection, node: Node) -> Identity | None:
    """Return whose key is shown, or None if none is; raises as `identity` does."""
    presented = _presented(connection)
    if presented is None:
        return None
    try:
        found = node.ring.check(presented, wall_s())
    except KeyRefused as refused:
        limit_address(connection, node)  # guessing is slow
        raise Rejected(401, "bad-key", refused.because) from None
    wait_s = node.by_key.take(found.key, node.loop.time())
    if wait_s > 0:
        raise TooOften(wait_s)
    return found


def limit_address(connection: Connection, node: Node) -> None:
    """
    Let an address without a key ask only so often.

    Raises:
        TooOften: It does.
    """
    host = connection.client.host if connection.client else ""
    wait_s = node.by_address.take(client_of(host), node.loop.time())
    if wait_s > 0:
        raise TooOften(wait_s)


def allowed(
    connection: Connection, node: Node, permission: Permission, stream: str | None = None
) -> Identity:
    """
    Return who is asking, if he may.

    Raises:
        Rejected: No key, or one that may not do that.
    """
    who = identity(connection, node)
    if not who.may(permission, stream):
        raise Rejected(403, "forbidden", who.why_not(permission))
    return who


def _presented(connection: Connection) -> str | None:
    header = connection.headers.get("authorization", "")
    if header.lower().startswith(_BEARER):
        return header[len(_BEARER) :].strip()
    offers: Any = connection.scope.get("subprotocols", ())  # Any: of a WebSocket's scope only
    for offered in offers:  # browsers cannot set headers
        if str(offered).startswith(BEARER):
            return str(offered)[len(BEARER) :]
    return None
