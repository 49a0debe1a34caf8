"""The key that seals the secrets of providers."""

from __future__ import annotations

from typing import Final

from litestar import post

from .access import Call, allowed
from .api_page import KEYED, Because, fails
from .keys import Permission
from .node import Node
from .wire import Data, Resealed


@post(
    "/v1/admin/reseal",
    status_code=200,
    tags=["owners"],
    summary="Seal all secrets with the newest key",
    responses=fails(*KEYED),
)
async def reseal(request: Call, node: Node, because: Because = "") -> Data[Resealed]:
    """Seal every secret of every provider with the first vault key, where another one did."""
    who = allowed(request, node, Permission.CHANGE_KEYS)
    found = await node.providers.reseal(who.key, because or "the vault's key was changed")
    return Data(
        data=Resealed(key=found.key, changed=list(found.changed), failed=dict(found.failed))
    )


ROUTES: Final = (reseal,)
