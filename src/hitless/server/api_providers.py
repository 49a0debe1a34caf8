"""What operators and owners call about providers. Every act is in the audit log."""

from __future__ import annotations

from typing import Annotated, Final

from litestar import delete, get, patch, post

from ..core.observation import Level
from . import api_page as page
from .access import Call, allowed
from .api_page import KEYED, POSTED, Because, fails, like
from .canary import cost_per_month
from .coordinator import Rejected
from .keys import Permission
from .node import Node
from .probing import depth_of
from .store_operators import ProviderRow
from .store_streams import ProviderCount
from .wire import Check, Checked, Data, Nothing, ProviderChange, ProviderInFull


@get(
    "/v1/admin/providers",
    tags=["operators"],
    summary="All providers, in full",
    responses=fails(*KEYED),
)
async def list_in_full(request: Call, node: Node) -> Data[list[ProviderInFull]]:
    """Return every provider with its standing and its load; of its secrets only the names."""
    allowed(request, node, Permission.READ)
    counts = await _counts(node)
    rows = sorted(node.providers.rows.values(), key=lambda row: row.priority)
    return Data(data=[_in_full(node, row, counts.get(row.name)) for row in rows])


@post(
    "/v1/admin/providers/{name:str}",
    tags=["operators"],
    summary="Add a provider",
    responses=fails(*POSTED, 404, 409),
)
async def add_provider(
    request: Call,
    node: Node,
    name: str,
    data: Annotated[ProviderChange, like(page.PROVIDER)],
    because: Because = "",
) -> Data[ProviderInFull]:
    """Add a provider, or change one; the body says what differs from what is there."""
    who = allowed(request, node, Permission.CHANGE_PROVIDERS)
    row = await node.providers.change(name, data, who.key, because, may_add=True)
    return Data(data=_in_full(node, row, (await _counts(node)).get(name)))


@patch(
    "/v1/admin/providers/{name:str}",
    tags=["operators"],
    summary="Change a provider",
    responses=fails(*POSTED, 404, 409),
)
async def change_provider(
    request: Call,
    node: Node,
    name: str,
    data: Annotated[ProviderChange, like(page.DRAINED)],
    because: Because = "",
) -> Data[ProviderInFull]:
    """
    Change a provider.

    Operators may change priority, default, active and drained; everything else is the owner's.
    """
    is_operation = all(
        getattr(data, field) is None
        for field in ("adapter", "config", "secrets", "weight", "starts_per_s", "price")
    )
    needed = Permission.OPERATE if is_operation else Permission.CHANGE_PROVIDERS
    who = allowed(request, node, needed)
    before = node.providers.order()
    row = await node.providers.change(name, data, who.key, because, may_add=False)
    because = because or f"{name} was changed by {who.name or who.key}"
    is_preference = data.priority is not None or data.is_default is not None
    await node.orders.followed(before, who.key, because, is_preference=is_preference)
    return Data(data=_in_full(node, row, (await _counts(node)).get(name)))


@delete(
    "/v1/admin/providers/{name:str}",
    status_code=200,
    tags=["operators"],
    summary="Delete one",
    responses=fails(*KEYED, 404, 409),
)
async def delete_provider(
    request: Call, node: Node, name: str, because: Because = ""
) -> Data[Nothing]:
    """Delete a provider that carries nothing any more; drain it first."""
    who = allowed(request, node, Permission.CHANGE_PROVIDERS)
    count = (await _counts(node)).get(name)
    if count is not None and count.streams:
        many = "1 stream" if count.streams == 1 else f"{count.streams} streams"
        raise Rejected(409, "in-use", f"{name} carries {many}: drain it first")
    await node.providers.delete(name, who.key, because)
    return Data(data=Nothing())


@post(
    "/v1/admin/check",
    status_code=200,
    tags=["operators"],
    summary="Check providers now",
    responses=fails(*POSTED),
)
async def check(
    request: Call, node: Node, data: Annotated[Check, like(page.CHECK)]
) -> Data[list[Checked]]:
    """Probe one provider, or all, from this node at once, as deep as it is configured."""
    allowed(request, node, Permission.OPERATE)
    await node.probing.follow(is_leader=node.is_leader)  # it may have been added just now
    found = await node.probing.check_now(data.provider or None)
    return Data(
        data=[
            Checked(
                provider=one.provider,
                region=one.region or "",
                level=one.level.value,
                ok=one.ok,
                because=one.because,
                latency_s=one.latency_s,
                is_ours=one.own_trouble,
            )
            for one in found
        ]
    )


ROUTES: Final = (list_in_full, add_provider, change_provider, delete_provider, check)


async def _counts(node: Node) -> dict[str, ProviderCount]:
    return {count.provider: count for count in await node.store.streams.counts()}


def _in_full(node: Node, row: ProviderRow, count: ProviderCount | None) -> ProviderInFull:
    probed = depth_of(row)
    has_canary = row.is_active and probed in (Level.INGEST, Level.END_TO_END)
    canary_s = node.config.rules.canary_interval_s if has_canary else None
    cost = None if canary_s is None else cost_per_month(canary_s, row.price)
    return ProviderInFull(
        name=row.name,
        adapter=row.adapter,
        is_active=row.is_active,
        is_drained=row.is_drained,
        is_default=row.name == node.providers.default,
        priority=row.priority,
        config=dict(row.config),
        secrets=node.providers.secret_names(row.name),
        weight=row.weight,
        starts_per_s=row.starts_per_s,
        price=dict(row.price) if row.price is not None else None,
        streams=count.streams if count else 0,
        viewers=count.viewers if count else 0,
        probed=probed,
        canary_s=canary_s,
        canary_cost=None if cost is None else round(cost, 4),
        health=node.judge.health_in_full(row.name),
    )
