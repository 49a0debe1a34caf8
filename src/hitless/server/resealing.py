"""
Every secret of the providers sealed anew with the first key of the vault, so that an older one
can be taken away.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from .store import Store
from .store_operators import ProviderRow
from .store_rows import Audit
from .vault import SecretUnreadable, Vault


TRIES_MAX: Final = 5
"""How often a provider is read again that others change at the same moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resealed:
    """
    What came of it.

    Attributes:
        key: The id of the key that everything is sealed with now, but for what could not be.
        changed: Providers whose secrets were sealed with another one.
        failed: Providers that are as they were, each with the reason.
    """

    key: str
    changed: tuple[str, ...]
    failed: dict[str, str]


async def reseal(store: Store, vault: Vault, *, who: str, because: str, wake: str) -> Resealed:
    """
    Seal anew what is not sealed with the vault's first key; each provider on its own, with an
    entry in the audit log. Cancelled, some are done and the others are as they were: do it again.

    Args:
        store: Where the providers are.
        vault: Opens with any key, seals with the first.
        who: Whose order it is.
        because: Why, in words.
        wake: What other nodes are woken with.

    Raises:
        StoreUnavailable: No answer; some may be done.
    """
    changed, failed = list[str](), dict[str, str]()
    for row in await store.providers.all():
        audit = Audit(
            who=who,
            what="provider.resealed",
            target=row.name,
            because=because,
            after={"vault_key": vault.newest},
        )
        try:
            if await _reseal_one(store, vault, row, audit, wake):
                changed.append(row.name)
        except SecretUnreadable as exc:
            failed[row.name] = f"{exc.field}: {exc.because}"
        except TimeoutError:
            failed[row.name] = "others change it all the time: try again"
    return Resealed(key=vault.newest, changed=tuple(changed), failed=failed)


async def _reseal_one(
    store: Store, vault: Vault, row: ProviderRow | None, audit: Audit, wake: str
) -> bool:
    """
    Seal the secrets of one provider anew; return whether that was needed.

    Raises:
        SecretUnreadable: One of them cannot be opened; nothing was changed.
        TimeoutError: Somebody else changed it each time.
    """
    for _ in range(TRIES_MAX):
        if row is None or row.secret is None:
            return False
        secret = vault.reseal_all(row.name, row.secret)
        if secret is None:
            return False
        if await store.providers.put(replace(row, secret=secret), audit, wake=wake) is not None:
            return True
        row = await store.providers.one(row.name)
    raise TimeoutError
