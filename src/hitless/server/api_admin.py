"""What operators call. Every act is in the audit log with who, before, after and why."""

from __future__ import annotations

from typing import Annotated, Final

from litestar import delete, get, patch, post
from litestar.params import Parameter

from ..core.agreement import By
from ..errors import ConfigError
from . import api_page as page
from .access import Call, allowed
from .api_page import KEYED, POSTED, Because, fails, like
from .clock import wall_s
from .coordinator import Rejected
from .fleet_orders import Order
from .keys import Identity, KeyRole, Permission, make_key
from .node import KEYS_TOPIC, SETTINGS_TOPIC, Node
from .store_members import Role
from .store_operators import AuditRow, KeyRow
from .store_rows import Audit
from .store_streams import StreamRow, StreamState
from .wire import (
    LINE,
    NAME_CHARS_MAX,
    AuditEntry,
    Data,
    KeyRequest,
    KeyShown,
    Move,
    Moved,
    Nothing,
    Settings,
    SettingsChange,
    Stream,
    StreamList,
    StreamNamed,
)


PAGE: Final = 100
PAGE_MAX: Final = 1000

Limit = Annotated[int, Parameter(ge=1, le=PAGE_MAX, description="Most entries of a page.")]
Filter = Annotated[str | None, Parameter(max_length=NAME_CHARS_MAX, pattern=LINE)]
Named = Annotated[str, Parameter(max_length=NAME_CHARS_MAX, pattern=LINE)]
Since = Annotated[float | None, Parameter(ge=0, le=1e12, description="[s since 1970]")]
Before = Annotated[int | None, Parameter(ge=0, le=1 << 53, description="Number of an entry.")]


# --- Streams ---


@get("/v1/streams", tags=["streams"], summary="The streams that are on", responses=fails(*KEYED))
async def list_streams(
    request: Call,
    node: Node,
    provider: Filter = None,
    after: Filter = None,
    limit: Limit = PAGE,
    ended: bool = False,
) -> Data[StreamList]:
    """Return a page of streams by id, optionally of one provider."""
    allowed(request, node, Permission.READ)
    rows = await node.store.streams.page(
        provider=provider,
        after=after,
        limit=limit,
        state=StreamState.ENDED if ended else None,
        is_on=not ended,
    )
    following = rows[-1].id if len(rows) == limit else ""
    return Data(data=StreamList(streams=[await _stream(node, r) for r in rows], next=following))


@get("/v1/stream", tags=["streams"], summary="One stream", responses=fails(*KEYED, 404))
async def read_stream(request: Call, node: Node, stream: Named) -> Data[Stream]:
    """Return where a stream is and why."""
    allowed(request, node, Permission.READ)
    row = await node.store.streams.one(stream)
    if row is None:
        raise Rejected(404, "unknown-stream", f"there is no stream {stream[:80]!r}")
    return Data(data=await _stream(node, row))


@post(
    "/v1/admin/move",
    status_code=200,
    tags=["operators"],
    summary="Move streams",
    responses=fails(*POSTED, 404, 409),
)
async def move(request: Call, node: Node, data: Annotated[Move, like(page.MOVE)]) -> Data[Moved]:
    """Move one stream, or a share of the streams of a provider, make before break."""
    who = allowed(request, node, Permission.OPERATE)
    because = data.because or f"moved by {who.name or who.key}"
    if data.stream:
        target = data.provider or await node.moves.other(data.stream)
        await node.moves.check_reach(data.stream, target)
        await node.coordinator.move(
            data.stream, target, by=By.OPERATOR, because=because, who=who.key
        )
        return Data(data=Moved(moved=1, stayed=0, because=because))
    if not data.source:
        raise Rejected(400, "bad-move", "give a stream, or a source and a share from 0 to 1")
    ordered = await node.orders.order(
        Order(
            source=data.source,
            by=By.OPERATOR,
            who=who.key,
            because=because,
            target=data.provider,
            share=data.share,
        )
    )
    return Data(data=Moved(moved=ordered.moving, stayed=ordered.staying, because=ordered.because))


@post(
    "/v1/admin/end",
    status_code=200,
    tags=["operators"],
    summary="End anybody's stream",
    responses=fails(*POSTED, 404),
)
async def end_stream(
    request: Call, node: Node, data: Annotated[StreamNamed, like(page.END_ANYBODYS)]
) -> Data[Nothing]:
    """End a stream; its publisher and its viewers are told."""
    who = allowed(request, node, Permission.OPERATE)
    because = data.because or f"ended by {who.name or who.key}"
    audit = _act(who, "stream.ended", data.stream, because)
    if not await node.coordinator.end(data.stream, None, because, audit):
        raise Rejected(404, "unknown-stream", f"no stream {data.stream[:80]!r} is on")
    return Data(data=Nothing())


# --- Settings ---


@get(
    "/v1/admin/settings",
    tags=["operators"],
    summary="What holds for the whole server",
    responses=fails(*KEYED),
)
async def read_settings(request: Call, node: Node) -> Data[Settings]:
    """Return mode, share, freeze and the default provider."""
    allowed(request, node, Permission.READ)
    return Data(data=node.settings)


@patch(
    "/v1/admin/settings",
    tags=["operators"],
    summary="Freeze, observe, share",
    responses=fails(*POSTED),
)
async def change_settings(
    request: Call, node: Node, data: Annotated[SettingsChange, like(page.FREEZE)]
) -> Data[Settings]:
    """
    Change what holds for the whole server; every node obeys within two seconds.

    Operators may freeze and thaw; mode and share are the owner's.
    """
    is_operation = data.mode is None and data.share is None
    needed = Permission.OPERATE if is_operation else Permission.CHANGE_SETTINGS
    who = allowed(request, node, needed)
    for name in ("is_frozen", "mode", "share"):
        value = getattr(data, name)
        if value is None or value == getattr(node.settings, name):
            continue
        before, after = {name: getattr(node.settings, name)}, {name: value}
        audit = _act(who, "setting.changed", name, data.because, before=before, after=after)
        await node.store.settings.put(name, value, audit, wake=SETTINGS_TOPIC)
    await node.refresh()
    return Data(data=node.settings)


# --- The audit log and keys ---


@get(
    "/v1/admin/audit",
    tags=["operators"],
    summary="Who did what, when and why",
    responses=fails(*KEYED),
)
async def read_audit(
    request: Call,
    node: Node,
    target: Filter = None,
    who: Filter = None,
    since_s: Since = None,
    before: Before = None,
    limit: Limit = PAGE,
) -> Data[list[AuditEntry]]:
    """Return entries, the newest first; `before` is the number of the last one seen."""
    allowed(request, node, Permission.READ)
    rows = await node.store.audit.page(
        target=target, who=who, since_s=since_s, before=before, limit=limit
    )
    return Data(data=[_entry(row) for row in rows])


@get(
    "/v1/admin/keys",
    tags=["owners"],
    summary="All keys, without their secrets",
    responses=fails(*KEYED),
)
async def list_keys(request: Call, node: Node) -> Data[list[KeyShown]]:
    """Return every key that was ever made here."""
    allowed(request, node, Permission.CHANGE_KEYS)
    return Data(data=[_key(row) for row in await node.store.keys.all()])


@post("/v1/admin/keys", tags=["owners"], summary="Make a key", responses=fails(*POSTED))
async def add_key(
    request: Call,
    node: Node,
    data: Annotated[KeyRequest, like(page.KEY)],
    because: Because = "",
) -> Data[KeyShown]:
    """Make a key; its secret is in this answer and never again."""
    who = allowed(request, node, Permission.CHANGE_KEYS)
    if data.role not in tuple(KeyRole):
        raise ConfigError(f"role {data.role[:40]!r} is unknown: {', '.join(KeyRole)}")
    now_s = wall_s()
    made = make_key(
        KeyRole(data.role),
        now_s=now_s,
        scope=data.scope,
        name=data.name,
        expires_s=None if data.life_s is None else now_s + data.life_s,
    )
    stored = made.stored
    row = KeyRow(
        id=stored.id,
        role=stored.role.value,
        scope=stored.scope,
        hash=stored.hash,
        salt=stored.salt,
        name=stored.name,
        made_s=stored.made_s,
        expires_s=stored.expires_s,
    )
    after = {"role": row.role, "scope": row.scope, "name": row.name}
    audit = _act(who, "key.made", row.id, because, after=after)
    await node.store.keys.insert(row, audit=audit, wake=KEYS_TOPIC)
    await node.refresh()
    return Data(data=_key(row, made.text))


@delete(
    "/v1/admin/keys/{key:str}",
    status_code=200,
    tags=["owners"],
    summary="Revoke a key",
    responses=fails(*KEYED, 404),
)
async def revoke_key(request: Call, node: Node, key: str, because: Because = "") -> Data[Nothing]:
    """Revoke a key for good; what it minted lives on for its time."""
    who = allowed(request, node, Permission.CHANGE_KEYS)
    audit = _act(who, "key.revoked", key, because)
    if not await node.store.keys.revoke(key, audit=audit, wake=KEYS_TOPIC):
        raise Rejected(404, "unknown-key", "there is no such key, or it was revoked before")
    await node.refresh()
    return Data(data=Nothing())


ROUTES: Final = (
    list_streams,
    read_stream,
    move,
    end_stream,
    read_settings,
    change_settings,
    read_audit,
    list_keys,
    add_key,
    revoke_key,
)


# --- Shapes ---


def _act(who: Identity, what: str, target: str, because: str, **change: object) -> Audit:
    return Audit(who=who.key, what=what, target=target, because=because, **change)  # type: ignore[arg-type]


async def _stream(node: Node, row: StreamRow) -> Stream:
    viewers = await node.store.members.reach_of(row.id, Role.VIEWER)
    return Stream(
        stream=row.id,
        state=row.state.value,
        epoch=row.epoch,
        provider=row.provider,
        is_carried=row.is_carried,
        viewers=sum(one.members for one in viewers),
        because=row.because,
        group=row.group_id,
        changed_ago_s=round(max(0.0, wall_s() - row.changed_s), 3),
        rescue=row.rescue_provider or "",
    )


def _entry(row: AuditRow) -> AuditEntry:
    return AuditEntry(
        id=str(row.id),
        at_s=row.at_s,
        who=row.who,
        what=row.what,
        target=row.target,
        before=row.before,
        after=row.after,
        because=row.because,
    )


def _key(row: KeyRow, text: str | None = None) -> KeyShown:
    return KeyShown(
        id=row.id,
        role=row.role,
        scope=row.scope,
        name=row.name,
        made_s=row.made_s,
        expires_s=row.expires_s,
        revoked_s=row.revoked_s,
        key=text,
    )
