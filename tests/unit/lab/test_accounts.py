"""Accounts of a stage: who gets what of them, and that it fits together."""

from __future__ import annotations

import asyncio
import inspect
import json

import pytest

from hitless import ConfigError, Policy
from hitless.core.events import Role
from hitless.lab.account import ACCOUNT_ENV, account_of
from hitless.lab.accounts import ACCOUNTS_ENV, Accounts, secrets_of
from hitless.lab.adapters import provider_of
from hitless.lab.agora_keys import Keys
from hitless.lab.faults import Injected
from hitless.lab.gate import AgoraGate, Rejected, ZegoGate
from hitless.lab.stage import PROVIDERS, Stage
from hitless.lab.stand import Stand
from hitless.providers import load
from hitless.providers.credential import Access
from hitless.server.minters import MINTERS, Asker, ProviderSecrets


OWN = ("agora", "zegocloud")
URL = "http://127.0.0.1:9"
NOW_S = 1_700_000_000.0


def said_of(name):
    """Return accounts, and the texts of one that nobody else may see."""
    accounts = Accounts(PROVIDERS)
    account = json.loads(accounts.stand_env(name)[ACCOUNT_ENV])
    return accounts, {value for field, value in account.items() if field != "app_id"}


def gate_of(accounts, name):
    """Return what looks at credentials in the stand-in of this name."""
    account = account_of(accounts.speaks(name), accounts.stand_env(name))
    if name == "agora":
        return AgoraGate(account, Keys(lambda: NOW_S), Injected(name), wall_s=lambda: NOW_S)
    return ZegoGate(account, Injected(name), wall_s=lambda: NOW_S)


def minted(accounts, name, role):
    """Return what the server's own minter gives from what it is told."""
    told = accounts.listed(name, URL)
    known = ProviderSecrets(
        name=name, adapter=told["adapter"], secrets=told["secrets"], options=told["config"]
    )
    asker = Asker(stream="show", role=role, client="c", key="k", epoch=7)
    return MINTERS[told["adapter"]](known).mint(asker, now_s=NOW_S, ttl_s=600.0)


def test_the_two_have_accounts_and_webrtc_has_none():
    """Which speaks plain WHIP, as before."""
    accounts = Accounts(PROVIDERS)
    assert [*OWN, "whip"] == [accounts.speaks(name) for name in PROVIDERS]
    assert [True, True, False] == [name in accounts for name in PROVIDERS]
    assert {} == accounts.stand_env("webrtc")


@pytest.mark.parametrize("name", OWN)
def test_each_stage_has_accounts_of_its_own(name):
    """A credential of one run opens nothing in the next."""
    assert Accounts([name]).stand_env(name) != Accounts([name]).stand_env(name)


@pytest.mark.parametrize("name", OWN)
def test_nothing_that_can_be_read_by_others_holds_a_secret(tmp_path, name):
    """Neither command lines nor the public list; the repr does not either."""
    accounts, hidden = said_of(name)
    told = accounts.listed(name, URL)
    seen = json.dumps([accounts.adapter(name, URL), told["config"]]) + repr(accounts)
    stage = Stage(tmp_path, (name,))
    stage.accounts = accounts
    seen += stage.found(name, {name: URL})
    assert [] == [text for text in hidden if text in seen]
    assert set(told["secrets"].values()) <= hidden


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("name", OWN)
def test_what_the_server_mints_opens_the_stand_in(name, role):
    """Under the stream's own name, whatever the epoch; to publish that, and that one only."""
    accounts, _ = said_of(name)
    found, gate = minted(accounts, name, role), gate_of(accounts, name)
    shown = f"Bearer {found['token']}"
    assert "epoch" not in found
    assert "show" == found["channel" if name == "agora" else "stream_id"]
    publishes = role is Role.PUBLISHER
    assert "show" == gate.admit(shown, "show", publishes=publishes, region="").room
    with pytest.raises(Rejected):
        gate.admit(shown, "another" if publishes else "show", publishes=True, region="")


@pytest.mark.parametrize("name", OWN)
def test_what_another_stage_minted_does_not(name):
    """The stand-in believes its own account only."""
    accounts, _ = said_of(name)
    shown = f"Bearer {minted(Accounts([name]), name, Role.PUBLISHER)['token']}"
    with pytest.raises(Rejected):
        gate_of(accounts, name).admit(shown, "show", publishes=True, region="")


@pytest.mark.parametrize("name", OWN)
def test_an_end_that_is_alone_makes_its_credentials_from_the_environment(name):
    """And calls nobody's API but the stand-in's."""

    async def main():
        accounts, _ = said_of(name)
        told = f"{name}={json.dumps(accounts.adapter(name, URL))}"
        provider = provider_of(told, Policy(), secrets=secrets_of(accounts.end_env()))
        try:
            assert (name, URL) == (provider.name, provider.api_url)
            access = Access(provider=name, stream="show", role=Role.PUBLISHER)
            shown = f"Bearer {(await provider.tickets.ticket(access)).token}"
            account = account_of(accounts.speaks(name), accounts.stand_env(name))
            gate = Stand(name, account=account)._gate
            assert "show" == gate.admit(shown, "show", publishes=True, region="").room
        finally:
            await provider.aclose()

    asyncio.run(main())


@pytest.mark.parametrize("name", OWN)
def test_an_end_with_plans_asks_for_its_credentials(name):
    """It has no secret of its own; of what it is told, the adapter is made."""
    asked = []

    async def credentials(access):
        asked.append(access.stream)
        return {"token": "of the plan"}

    async def main():
        accounts, _ = said_of(name)
        told = f"{name}={json.dumps(accounts.adapter(name, URL))}"
        provider = provider_of(told, Policy(), credentials=credentials)
        try:
            access = Access(provider=name, stream="show", role=Role.VIEWER)
            assert "of the plan" == (await provider.tickets.ticket(access)).token
        finally:
            await provider.aclose()
        assert ["show"] == asked

    asyncio.run(main())


@pytest.mark.parametrize("name", OWN)
def test_every_option_is_one_of_the_adapter(name):
    """Whoever reads the server's list can make it."""
    accounts, _ = said_of(name)
    options = accounts.adapter(name, URL)
    accepted = inspect.signature(load(options.pop("adapter"))).parameters
    assert set() == {*options, *accounts.secrets(name)} - set(accepted)


def test_stand_ins_without_accounts_speak_plain_whip(tmp_path):
    """For who wants no credentials in the way."""
    stage = Stage(tmp_path, OWN, has_accounts=False)
    assert ["whip", "whip"] == [stage.accounts.speaks(name) for name in OWN]
    assert URL == stage.found("agora", {"agora": URL})


@pytest.mark.parametrize("said", ["no", "[]", '{"agora": "s3cr3t"}', '{"agora": {"x": 7}}'])
def test_an_environment_that_makes_no_sense_is_refused_without_a_quote(said):
    """The message names the variable, and none of what is in it."""
    with pytest.raises(ConfigError, match=ACCOUNTS_ENV) as refused:
        secrets_of({ACCOUNTS_ENV: said})
    assert "s3cr3t" not in str(refused.value)


def test_without_the_variable_there_are_no_secrets():
    """An end that has a server's plans is given none."""
    assert {} == secrets_of({})
