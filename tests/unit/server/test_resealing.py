"""hitless.server.resealing: the vault's key is changed, and no secret is given anew."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from unit.server.api import SECRET, Api

from hitless.server.resealing import TRIES_MAX, reseal
from hitless.server.serve import new_keys
from hitless.server.store import Store
from hitless.server.store_operators import ProviderRow
from hitless.server.store_rows import Audit
from hitless.server.vault import Vault, new_key, parse_root_keys


pytest_plugins = ("postgres_server",)

pytestmark = pytest.mark.filterwarnings(
    "ignore::litestar.exceptions.LitestarDeprecationWarning"  # it speaks of Litestar 3
)

OLD, NEW, LOST = new_key(), new_key(), new_key()


def vault(*keys):
    """Return a vault with these keys."""
    return Vault(parse_root_keys("key", " ".join(keys)))


def _audit(name):
    return Audit(who="a", what="provider.changed", target=name, because="a test")


def go(main):
    """Run a test, bounded."""

    async def bounded():
        async with asyncio.timeout(30.0):
            return await main

    return asyncio.run(bounded())


@asynccontextmanager
async def sealed(engine, **keys):
    """Lend a store with providers whose secrets are sealed with these keys; None: without one."""
    async with engine.database() as database:
        store = Store(database)
        for name, key in keys.items():
            secret = None if key is None else vault(key).seal_all(name, {"token": f"of {name}"})
            row = ProviderRow(name=name, adapter="whip", priority=1, secret=secret)
            await store.providers.put(row, _audit(name))
        yield store


async def resealed(store, *keys):
    """Seal anew, as an owner orders it."""
    return await reseal(store, vault(*keys), who="k1", because="a test", wake="providers")


def test_what_an_older_key_sealed_is_sealed_with_the_newest_and_the_old_one_may_go(engine):
    """
    Each change is in the audit log; done twice, nothing changes the second time.
    """

    async def main():
        async with sealed(engine, one=OLD, two=NEW, three=None) as store:
            first, second = [await resealed(store, NEW, OLD) for _ in range(2)]
            rows = {row.name: row for row in await store.providers.all()}
            opened = [vault(NEW).open_all(n, rows[n].secret) for n in ("one", "two")]
            log = await store.audit.page(limit=10)
            return first, second, opened, [e for e in log if e.what == "provider.resealed"]

    first, second, opened, log = go(main())
    assert (first.changed, first.failed) == (("one",), {})
    assert first.key == vault(NEW).newest
    assert (second.changed, second.failed) == ((), {})
    assert opened == [{"token": "of one"}, {"token": "of two"}]
    assert [(one.target, one.who, one.because) for one in log] == [("one", "k1", "a test")]
    assert log[0].after == {"vault_key": first.key}


def test_a_secret_that_no_key_opens_is_named_and_keeps_nobody_else(engine):
    """
    It is as it was; the reason names the key that is missing and nothing of the secret.
    """

    async def main():
        async with sealed(engine, one=LOST, two=OLD) as store:
            before = (await store.providers.one("one")).secret
            found = await resealed(store, NEW, OLD)
            return found, before == (await store.providers.one("one")).secret

    found, is_same = go(main())
    assert found.changed == ("two",)
    assert list(found.failed) == ["one"]
    assert vault(LOST).newest in found.failed["one"]
    assert is_same


def test_a_provider_that_somebody_changes_at_the_same_moment_keeps_that_change(engine):
    """
    It is read again; who changes it without end is named, and the command may be repeated.
    """

    async def main(times):
        async with sealed(engine, one=OLD) as store:
            put, left = store.providers.put, [times]

            async def raced(row, audit, *, wake=None):
                if left[0]:
                    left[0] -= 1
                    now = await store.providers.one("one")
                    other = ProviderRow(
                        name="one", adapter="whip", priority=9, secret=now.secret,
                        revision=now.revision,
                    )  # fmt: skip
                    await put(other, _audit("one"))
                return await put(row, audit, wake=wake)

            store.providers.put = raced
            found = await resealed(store, NEW, OLD)
            row = await store.providers.one("one")
            return found, row.priority, row.secret

    found, priority, secret = go(main(2))
    assert (found.changed, priority) == (("one",), 9)
    assert vault(NEW).open_all("one", secret) == {"token": "of one"}
    found, priority, _ = go(main(TRIES_MAX))
    assert (found.changed, list(found.failed), priority) == ((), ["one"], 9)


def test_an_owner_reseals_by_a_call_and_nobody_else(tmp_path):
    """
    With a new key in front; afterwards the old one is not needed.
    """
    keys = new_keys(0.0)
    old, new = keys["HITLESS_VAULT_KEY"], NEW
    with Api(tmp_path / "hitless.db", keys=keys) as api:
        ring = api.node.providers._vault
        ring.replace(parse_root_keys("key", f"{new} {old}"))
        api.new_key("operator")
        refused = api.call("POST", "/v1/admin/reseal", key="operator", status=403)
        answer = api.call("POST", "/v1/admin/reseal?because=yearly")
        again = api.call("POST", "/v1/admin/reseal")
        ring.replace(parse_root_keys("key", new))
        alone = api.call("POST", "/v1/admin/reseal")
        log = api.call("GET", "/v1/admin/audit?target=one")

    assert refused["code"] == "forbidden"
    assert (answer["changed"], answer["failed"]) == (["one", "two"], {})
    assert again == alone == {"key": answer["key"], "changed": [], "failed": {}}
    assert (log[0]["what"], log[0]["because"]) == ("provider.resealed", "yearly")
    assert SECRET not in str(log) + str(answer)
