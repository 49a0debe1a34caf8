"""
The providers, kept in memory as the rows say, and every change of them.

Refreshed when a change is woken and each second besides. Secrets are opened here, in memory only,
for the mint and for probes; nothing that leaves the server holds one.
"""

from __future__ import annotations

import contextlib
import inspect
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import msgspec
import numpy as np

from ..client.assembly import make_provider
from ..client.config import Config, ProviderTable, ServerTable
from ..client.keys import SERVER_KEYS, Given, read_option
from ..client.secret import secret_inside
from ..core.evidence import Word
from ..core.pacing import alone_s, is_crowd
from ..core.rendezvous import draw, key, share_of
from ..errors import ConfigError, HitlessError
from ..providers import load
from ..providers.base import Provider
from ..providers.credential import Access
from . import own_control
from .judging import RANKS, Judge
from .minters import MINTERS, ProviderSecrets
from .plans import Mint
from .quotas import Quotas, limits_of
from .reach import Opens, can_open, why_closed
from .resealing import Resealed, reseal
from .server_options import NAME, SERVER_OPTIONS, check_server_options, in_regions
from .store import Store
from .store_operators import ProviderRow
from .store_rows import Audit, Json
from .vault import SecretUnreadable, Vault
from .wire import Json as Options
from .wire import ProviderChange, ProviderList, ProviderShown


TOPIC: Final = "providers"
"""What other nodes are woken with."""

PROVIDERS_MAX: Final = 64

_SERVER: Final[dict[str, Any]] = {
    key.name.removeprefix("server."): key.default for key in SERVER_KEYS
}
_PLAIN: Final = Config(server=ServerTable(**_SERVER))
"""Nobody configured anything besides the provider itself."""

_DEFAULT: Final = "default_provider"
_SEALED: Final = "secrets"


class Conflict(HitlessError):
    """Somebody else changed it at the same moment: look again, then say it again."""


class Unknown(HitlessError):
    """There is no provider of this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no provider {name[:80]!r}")


class Providers:
    """
    Where streams can go.

    Args:
        store: Where the rows are.
        vault: Opens and seals secrets.
        mint: Is told of every secret that changed.
        judge: Knows how they are.

    Attributes:
        quotas: What they may still be given.
        carried: How many streams each carried a moment ago, for the list; empty: not told.
    """

    def __init__(self, store: Store, vault: Vault, mint: Mint, judge: Judge) -> None:
        self._store, self._vault, self._mint, self._judge = store, vault, mint, judge
        self.rows: Mapping[str, ProviderRow] = {}
        self.default = ""
        self.quotas = Quotas(store)
        self.carried: Mapping[str, int] = {}
        self.faults: Mapping[str, str] = {}
        """Providers whose secrets cannot be used, and why."""

    async def refresh(self) -> bool:
        """Read the rows again; return whether anything changed."""
        settings = await self._store.settings.all()
        rows = {row.name: row for row in await self._store.providers.all()}
        default = str(settings.get(_DEFAULT) or "")
        await self.quotas.read(rows)
        if rows == self.rows and default == self.default:
            return False
        for name in self.rows.keys() - rows.keys():
            self._judge.forget(name)
        for name, row in rows.items():
            before = self.rows.get(name)
            if before is None or before.is_active != row.is_active:
                word = "enabled" if row.is_active else "disabled"
                self._judge.allow(name, row.is_active, f"{word} by an operator")
        self.rows, self.default = rows, default
        self._open_secrets()
        return True

    # --- Answers ---

    def order(
        self, clients: Sequence[Opens] = (), stream: str = "", beside: str = ""
    ) -> tuple[str, ...]:
        """
        Return where a stream may start, best first.

        The default goes first, then by priority; who is doing badly comes after those who are
        well, and who is down last of all: better a doubtful provider than none.

        Args:
            clients: Who must be able to open it.
            stream: Which stream; by it, weights divide those of one priority, and a provider
                that is coming back gets its share. Empty: in the order that holds for most.
            beside: Who carries the rest of its group: the first of those that do equally well.
        """
        usable = [
            row
            for row in self.rows.values()
            if row.is_active and not row.is_drained and all(can_open(c, row) for c in clients)
        ]

        def tier(row: ProviderRow) -> tuple[bool, bool, int]:
            return row.name != beside, row.name != self.default, row.priority

        if stream and len({tier(row) for row in usable}) < len(usable):
            usable.sort(key=lambda row: _turn(row, stream))
        usable.sort(key=tier)
        usable.sort(key=lambda row: (self._judge.rank(row.name), self._is_held(row.name, stream)))
        return tuple(row.name for row in usable)

    def with_room(self, order: Sequence[str], here: str = "") -> tuple[tuple[str, ...], str]:
        """Return an order with those last that have no room; see `Quotas.ordered`."""
        down = RANKS[Word.DOWN]
        return self.quotas.ordered(order, lambda name: self._judge.rank(name) >= down, here)

    def why_nobody(self, clients: Sequence[Opens] = ()) -> str:
        """Say why a stream of these clients has nowhere to go."""
        if not self.rows:
            return "no provider is configured: add one with `hitless providers add`"
        states = [f"{row.name} is {why_closed(clients, row)}" for row in self.rows.values()]
        return f"no provider can carry it: {', '.join(states)}"

    def accepted_per_s(self, name: str) -> float:
        """Return how many starts a provider accepts [1/s]; 0: not known."""
        row = self.rows.get(name)
        return (limits_of(row).starts_per_s or 0.0) if row is not None else 0.0

    def is_crowded(self, name: str, target: str) -> bool:
        """Whether all streams of a provider are more than `target` accepts in a second."""
        return is_crowd(self.carried.get(name, 0), self.accepted_per_s(target))

    def slot_s(self, stream: str, lost: str, target: str) -> float:
        """Return when a stream that loses `lost` asks `target`, if it can ask nobody [s]."""
        if not self.is_crowded(lost, target):
            return 0.0
        return alone_s(key(stream), self.carried[lost], self.accepted_per_s(target))

    def listed(self, *, in_full: bool = False) -> ProviderList:
        """Return the public list; in full: with what a client finds its moment by."""
        return ProviderList(
            providers=[
                ProviderShown(
                    name=row.name,
                    isActive=row.is_active,
                    priority=row.priority,
                    config=public_config(row),
                    streams=(self.carried.get(row.name) or None) if in_full else None,
                    startsPerSecond=(self.accepted_per_s(row.name) or None) if in_full else None,
                )
                for row in sorted(self.rows.values(), key=lambda row: row.priority)
            ],
            default=self.default or None,
        )

    def secrets(self, name: str) -> Mapping[str, str]:
        """
        Return a provider's opened secrets, for a probe of it.

        Raises:
            SecretUnreadable: The key they were sealed with is not here.
        """
        return self._opened(self.rows[name])

    def secret_names(self, name: str) -> list[str]:
        """Return what its secrets are called."""
        return sorted(_sealed(self.rows[name]))

    # --- Changes ---

    async def change(
        self, name: str, change: ProviderChange, who: str, because: str, *, may_add: bool
    ) -> ProviderRow:
        """
        Add or change a provider.

        Args:
            name: Which.
            change: What to change; the rest stays.
            who, because: For the audit log.
            may_add: Whether it may be a new one.

        Raises:
            ConfigError: A name, adapter, option, number or secret is impossible; names which.
            Unknown: There is none of that name.
            Conflict: Somebody else changed it at the same moment.
        """
        before = await self._store.providers.one(name)
        if before is None and not may_add:
            raise Unknown(name)
        if before is None and len(self.rows) >= PROVIDERS_MAX:
            raise ConfigError(f"there are {PROVIDERS_MAX} providers already")
        row = self._changed(name, before, change)
        self._check(row)
        was_default = name == self.default
        is_default = was_default if change.is_default is None else change.is_default
        audit = Audit(
            who=who,
            what="provider.changed" if before else "provider.added",
            target=name,
            because=because,
            before=_shown(before, is_default=was_default) if before else None,
            after=_shown(row, is_default=is_default, resealed=self._resealed(before, change)),
        )
        after = await self._store.providers.put(row, audit, wake=TOPIC)
        if after is None:
            raise Conflict(f"{name} was changed by somebody else at the same moment: look again")
        if change.is_default is not None:
            await self._set_default(name, change.is_default, who, because)
        await self.refresh()
        return after

    async def delete(self, name: str, who: str, because: str) -> None:
        """
        Delete a provider.

        Raises:
            Unknown: There is none of that name.
            Conflict: Somebody else changed it at the same moment.
        """
        before = await self._store.providers.one(name)
        if before is None:
            raise Unknown(name)
        audit = Audit(
            who=who,
            what="provider.deleted",
            target=name,
            because=because,
            before=_shown(before, is_default=name == self.default),
        )
        if not await self._store.providers.delete(name, before.revision, audit, wake=TOPIC):
            raise Conflict(f"{name} was changed by somebody else at the same moment: look again")
        await self._set_default(name, False, who, because)
        await self.refresh()

    async def reseal(self, who: str, because: str) -> Resealed:
        """Seal all secrets with the vault's first key; see `resealing.reseal`."""
        found = await reseal(self._store, self._vault, who=who, because=because, wake=TOPIC)
        await self.refresh()
        return found

    # --- Inside ---

    def _is_held(self, name: str, stream: str) -> bool:
        """Whether a provider that is coming back is not to have this stream yet."""
        share = self._judge.share(name)
        return share < 1.0 and bool(stream) and not share_of(key(stream), 100.0 * share)

    def _changed(
        self, name: str, before: ProviderRow | None, change: ProviderChange
    ) -> ProviderRow:
        if not NAME.fullmatch(name):
            raise ConfigError(f"name {name[:80]!r}: use lower-case letters, digits, '.', '_', '-'")
        row = before or ProviderRow(
            name=name,
            adapter=name,
            priority=1 + max((r.priority for r in self.rows.values()), default=0),
        )
        given = {
            field: value
            for field in ("adapter", "is_active", "is_drained", "priority", "config", "weight",
                          "starts_per_s", "price")
            if (value := getattr(change, field)) is not None
        }  # fmt: skip
        if change.config is not None and "adapter" in change.config:
            config = dict(change.config)
            given |= {"adapter": str(config.pop("adapter")), "config": config}
        if given.get("price") == {}:
            given["price"] = None
        row = replace(row, **given)
        if change.secrets is not None:
            sealed = _sealed(row)
            for field, secret in change.secrets.items():
                if secret is None:
                    sealed.pop(field, None)
                else:
                    sealed[field] = self._vault.seal(name, field, secret)
            row = replace(row, secret=msgspec.json.encode(sealed).decode() if sealed else None)
        return row

    def _resealed(self, before: ProviderRow | None, change: ProviderChange) -> set[str]:
        """Return the secrets that were there and get another value."""
        if before is None or not change.secrets:
            return set()
        sealed = _sealed(before)
        given = {field: new for field, new in change.secrets.items() if new is not None}
        found = set()
        for field in given.keys() & sealed.keys():
            with contextlib.suppress(SecretUnreadable):  # what nobody can read is another one
                if self._vault.open(before.name, field, sealed[field]) == given[field]:
                    continue
            found.add(field)
        return found

    def _check(self, row: ProviderRow) -> None:
        """Raise ConfigError for what no client could use; made and thrown away, nothing opens."""
        if not 0.0 <= row.weight <= 1e6:
            raise ConfigError(f"weight = {row.weight!r} is not possible: give 0 to 1000000")
        if row.starts_per_s is not None and not 0.0 < row.starts_per_s <= 1e6:
            raise ConfigError(
                f"starts_per_s = {row.starts_per_s!r} is not possible: give above 0 to 1000000"
            )
        if abs(row.priority) > 10**6:
            raise ConfigError("priority: give a whole number from -1000000 to 1000000")
        if inside := secret_inside(row.config):  # it would be public
            raise ConfigError(f"config: {inside} is a secret: give it under secrets, to be sealed")
        check_server_options(row.config)
        secrets = self._as_secrets(row)
        for region, one in in_regions(row):
            try:
                make_adapter(one, **_planned(one))
                own_control.check(one, secrets.secrets)
            except ConfigError as exc:
                where = f"regions.{region}: " if region is not None else ""
                raise ConfigError(f"{where}{exc}") from exc
        self._mint.make(secrets)

    async def _set_default(self, name: str, is_default: bool, who: str, because: str) -> None:
        now = name if is_default else ""
        if now == self.default or (not is_default and self.default != name):
            return
        audit = Audit(
            who=who,
            what="default.changed",
            target=name,
            because=because,
            before={"default": self.default},
            after={"default": now},
        )
        await self._store.settings.put(_DEFAULT, now, audit, wake=TOPIC)

    def _open_secrets(self) -> None:
        """Tell the mint; a provider whose secrets cannot be read does not stop the others."""
        faults: dict[str, str] = {}
        readable = []
        for row in self.rows.values():
            try:
                readable.append(self._as_secrets(row))
            except SecretUnreadable as exc:
                faults[row.name] = exc.because
        self.faults = {**faults, **self._mint.replace(readable)}

    def _as_secrets(self, row: ProviderRow) -> ProviderSecrets:
        return ProviderSecrets(
            name=row.name, adapter=row.adapter, secrets=self._opened(row), options=row.config
        )

    def _opened(self, row: ProviderRow) -> dict[str, str]:
        return {
            field: self._vault.open(row.name, field, sealed)
            for field, sealed in _sealed(row).items()
        }


def _turn(row: ProviderRow, stream: str) -> float:
    """Return a number by which a stream sorts providers of one priority, as weights divide it."""
    cost = -float(np.log(draw(np.array([key(stream)], np.uint64), f"provider:{row.name}")[0]))
    return cost / row.weight if row.weight > 0.0 else math.inf


def _planned(row: ProviderRow) -> dict[str, object]:
    """Return what an adapter is given besides by whoever has a plan: its credentials."""

    async def none(access: Access) -> Mapping[str, Any]:
        return {}

    is_minted = row.adapter in MINTERS
    accepted = inspect.signature(load(row.adapter)).parameters if is_minted else {}
    return {"credentials": none} if "credentials" in accepted else {}


def adapter_options(row: ProviderRow) -> Options:
    """Return what of a provider's configuration its adapter takes."""
    options = {k: v for k, v in row.config.items() if k not in SERVER_OPTIONS}
    if "region" in row.config and "region" in inspect.signature(load(row.adapter)).parameters:
        options["region"] = row.config["region"]
    return options


def make_adapter(row: ProviderRow, **more: object) -> Provider:
    """
    Return a provider's adapter. Nothing is opened; whoever asked closes it.

    Args:
        row: Which provider.
        more: Options that are not in its configuration.

    Raises:
        ConfigError: The adapter is not installed, or an option is unknown, missing or not
            possible; names it.
    """
    options = adapter_options(row)
    for name, value in options.items():
        if name.endswith("url"):
            if not isinstance(value, str):
                raise ConfigError(f"provider {row.name}: {name} must be a text")
        else:
            read_option(name, Given(value=value, origin=f"provider {row.name}"))
    table = ProviderTable(
        name=row.name, adapter=row.adapter, priority=row.priority, options={**options, **more}
    )
    try:
        return make_provider(table, _PLAIN, {})
    except (AttributeError, TypeError, ValueError) as exc:  # an outsider's adapter
        raise ConfigError(f"provider {row.name}: {type(exc).__name__} in its adapter") from exc


def public_config(row: ProviderRow) -> Options:
    """Return what everybody may know of a provider's configuration."""
    config = adapter_options(row)
    if row.adapter != row.name:
        config["adapter"] = row.adapter
    if domain := limits_of(row).fault_domain:  # clients look for another one after a failure
        config["fault_domain"] = domain
    return config


def _sealed(row: ProviderRow) -> dict[str, str]:
    return msgspec.json.decode(row.secret, type=dict[str, str]) if row.secret else {}


def _shown(
    row: ProviderRow, *, is_default: bool, resealed: Collection[str] = ()
) -> dict[str, Json]:
    """
    Return a row for the audit log: of its secrets only the names.

    Args:
        row: The provider.
        is_default: Whether it is the default.
        resealed: Which of its secrets got another value.
    """
    return {
        "adapter": row.adapter,
        "is_active": row.is_active,
        "is_drained": row.is_drained,
        "priority": row.priority,
        "config": row.config,
        "weight": row.weight,
        "starts_per_s": row.starts_per_s,
        "price": row.price,
        "is_default": is_default,
        _SEALED: [
            f"{name} (changed)" if name in resealed else name for name in sorted(_sealed(row))
        ],
    }
