"""hitless.server.own_control: an account's own API as a control probe, against stand-ins."""

import asyncio
import socket
from dataclasses import replace

import pytest
from control_stand_in import answers, hanging, standing_in
from speaking_stand import AGORA, ZEGO, play
from unit.server.api import Api
from unit.server.own_probing import checked

from hitless.core.observation import Level
from hitless.errors import ConfigError
from hitless.providers.clock import wall_s
from hitless.server import own_control
from hitless.server.addresses import parse_allowed
from hitless.server.own_control import OwnControl, ask_all, check, quota_of
from hitless.server.probing import depth_of
from hitless.server.server_options import in_regions
from hitless.server.store_operators import ProviderRow


pytestmark = pytest.mark.filterwarnings(
    "ignore::litestar.exceptions.LitestarDeprecationWarning"  # it speaks of Litestar 3
)

LIMIT_S = 30.0
LOOPBACK = parse_allowed(["127.0.0.0/8"])
SECRETS = {
    "agora": {
        "certificate": AGORA.certificate,
        "customer_id": AGORA.customer_id,
        "customer_secret": AGORA.customer_secret,
    },
    "zegocloud": {"server_secret": ZEGO.server_secret},
}
APP = {"agora": AGORA.app_id, "zegocloud": ZEGO.app_id}
COUNTED = {"Code": 0, "Data": {"UserCountList": []}}
LISTED = {"success": True, "data": {"channels": [], "total_size": 0}}
BOTH = pytest.mark.parametrize("adapter", ["agora", "zegocloud"])


def row(adapter, **config):
    """Return the row of an account, as an operator would register it: no url of any kind."""
    return ProviderRow(name="theirs", adapter=adapter, config={"app_id": APP[adapter], **config})


async def asked(one, secrets=None, allow_private=LOOPBACK, resolver=None, quota=None):
    """Ask an API once; no secret is in the answer."""
    control = OwnControl(
        one,
        SECRETS[one.adapter] if secrets is None else secrets,
        quota=quota or quota_of(one),
        allow_private=allow_private,
        resolver=resolver,
    )
    try:
        answer = await control()
    finally:
        await control.aclose()
    for secret in (AGORA.customer_secret, AGORA.customer_id, ZEGO.server_secret):
        assert secret not in repr(answer)
    return answer


def ask(adapter, answering, **more):
    """Ask a stand-in that answers so; return our answer, and what it was asked."""

    async def main():
        async with asyncio.timeout(LIMIT_S), standing_in(answering) as stand:
            return await asked(row(adapter, api_url=stand.origin), **more), stand.asked

    return asyncio.run(main())


@BOTH
def test_an_account_is_asked_with_its_credential(adapter):
    """
    The lab's stand-ins verify the signature and the password, and a wrong one is our trouble.
    """
    account = {"agora": AGORA, "zegocloud": ZEGO}[adapter]
    wrong = {name: secret[::-1] for name, secret in SECRETS[adapter].items()}
    found = []

    async def main(world):
        world.wall.now_s = wall_s()
        one = row(adapter, api_url=world.url)
        found.extend([await asked(one), await asked(one, wrong)])

    play(account, main)
    good, bad = found
    assert (good.ok, good.answered, good.own_trouble) == (True, True, False)
    assert "takes" in good.because
    assert (bad.ok, bad.own_trouble) == (False, True)
    assert "console" in bad.because


@BOTH
def test_a_probe_makes_one_call(adapter):
    """
    Calls are limited by account, and a node probes each 30 s.
    """
    good = LISTED if adapter == "agora" else COUNTED
    answer, calls = ask(adapter, answers((200, good)))

    assert answer.ok, answer.because
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("adapter", "reply", "ok", "is_ours"),
    [
        ("agora", (500, {"message": "no"}), False, False),
        ("agora", (503, {}), False, False),
        ("agora", (401, {}), False, True),
        ("agora", (403, {}), False, True),
        ("agora", (429, {}), True, False),
        ("agora", (200, {"data": 5}), False, False),
        ("zegocloud", (502, {}), False, False),
        ("zegocloud", (200, {"Code": 100000015}), False, False),
        ("zegocloud", (200, {"Code": 100000005}), False, True),
        ("zegocloud", (200, {"Code": 100000004}), False, True),
        ("zegocloud", (200, {"Code": 100000017}), False, True),
        ("zegocloud", (200, {"Code": 206}), True, False),
        ("zegocloud", (200, {"Code": 0, "Data": 5}), False, False),
    ],
)
def test_what_is_about_our_account_condemns_no_provider(adapter, reply, ok, is_ours, monkeypatch):
    """
    Nothing is concluded from what is our own trouble; an error of theirs counts.
    """
    monkeypatch.setattr(own_control, "TIMEOUT_S", 0.9)  # no time for another host
    answer, _ = ask(adapter, answers(reply))

    assert (answer.ok, answer.own_trouble) == (ok, is_ours), answer.because


@BOTH
def test_an_api_that_hangs_has_not_answered(adapter, monkeypatch):
    """
    Within the time of a probe.
    """
    monkeypatch.setattr(own_control, "TIMEOUT_S", 0.3)
    answer, _ = ask(adapter, hanging)

    assert (answer.ok, answer.answered, answer.own_trouble) == (False, False, False)
    assert "no answer within" in answer.because


def test_our_own_limit_is_our_own_trouble(monkeypatch):
    """
    Whoever shares the account's calls may have used them up.
    """
    monkeypatch.setattr(own_control, "TIMEOUT_S", 0.5)

    async def main():
        async with asyncio.timeout(LIMIT_S), standing_in(answers((200, LISTED))) as stand:
            one = row("agora", api_url=stand.origin)
            quota = quota_of(one)
            quota.hold("queries", 60.0)
            return await asked(one, quota=quota), len(stand.asked)

    answer, calls = asyncio.run(main())
    assert (answer.ok, answer.own_trouble, calls) == (False, True, 0)


@BOTH
def test_a_private_address_is_asked_only_if_it_is_allowed(adapter):
    """
    Neither written in the row, nor behind a name.
    """
    answer, calls = ask(adapter, answers((200, LISTED)), allow_private=())
    assert (answer.ok, answer.own_trouble, calls) == (False, True, [])
    assert "loopback" in answer.because

    async def private(host, port):
        return ["10.0.0.7"]

    for more in ({}, {"api_url": "https://api.example.com"}):
        answer = asyncio.run(asked(row(adapter, **more), resolver=private))
        assert (answer.ok, answer.own_trouble) == (False, True)
        assert "10.0.0.7 is private" in answer.because


@BOTH
def test_the_hosts_of_the_row_s_region_are_asked(adapter):
    """
    Agora's in its documented order: a name that is not found leads to the other domain.
    """
    hosts = []

    async def nowhere(host, port):
        hosts.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "not known")

    one = row(adapter, region="eu" if adapter == "agora" else "fra")
    answer = asyncio.run(asked(one, resolver=nowhere))

    assert (answer.ok, answer.answered, answer.own_trouble) == (False, False, False)
    if adapter == "agora":
        assert [*dict.fromkeys(hosts)] == ["api.agora.io", "api.sd-rtn.com"]
    else:
        assert hosts == ["rtc-api-fra.zego.im"]


@pytest.mark.parametrize(
    ("one", "secrets", "because"),
    [
        (row("agora"), {"customer_id": "c"}, "customer_id and customer_secret"),
        (row("agora", region="mars"), SECRETS["agora"], "na, eu, ap, cn"),
        (row("agora", api_url="http://api.example.com"), SECRETS["agora"], "use https"),
        (row("zegocloud", region="mars"), SECRETS["zegocloud"], "fra"),
    ],
)
def test_what_an_api_cannot_be_asked_with_is_refused_at_once(one, secrets, because):
    """
    When the provider is added, not when it is probed.
    """
    with pytest.raises(ConfigError, match=because):
        check(one, secrets)


@BOTH
def test_a_row_without_secrets_of_the_api_is_accepted(adapter):
    """
    It can be probed at another address, or not at all.
    """
    check(row(adapter), {})


def test_all_accounts_are_asked_at_once_and_others_not_at_all():
    """
    As `hitless serve --check` does.
    """

    async def main():
        async with (
            asyncio.timeout(LIMIT_S),
            standing_in(answers((200, LISTED))) as one,
            standing_in(answers((200, {"Code": 100000005}))) as other,
        ):
            rows = [
                replace(row("agora", api_url=one.origin), name="agora"),
                replace(row("zegocloud", api_url=other.origin), name="zegocloud"),
                ProviderRow(name="w", adapter="whip", config={"url": "https://a.example"}),
            ]
            return await ask_all(rows, lambda name: SECRETS[name], allow_private=LOOPBACK)

    found = asyncio.run(main())
    assert {name: answer.ok for name, answer in found.items()} == {
        "agora": True,
        "zegocloud": False,
    }


# --- What is probed of such a row ---


async def probed(one, *, is_leader=False, level=Level.CONTROL):
    """Return what checking a provider now finds at a level, and what its probing told."""
    told = []
    found = await checked(one, SECRETS[one.adapter], told, is_leader=is_leader)
    return [probe for probe in found if probe.level is level], told


@BOTH
def test_a_row_without_any_address_is_probed_by_its_api(adapter):
    """
    Also in each of its regions, which may differ in where they are asked.
    """
    good = LISTED if adapter == "agora" else COUNTED
    names = ("eu", "ap") if adapter == "agora" else ("fra", "hkg")

    async def main():
        async with (
            standing_in(answers((200, good))) as one,
            standing_in(answers((503, {}))) as other,
        ):
            regions = {
                names[0]: {"region": names[0], "api_url": one.origin},
                names[1]: {"region": names[1], "api_url": other.origin},
            }
            return await probed(row(adapter, regions=regions))

    found, told = asyncio.run(main())
    assert told == []
    assert {probe.region: probe.ok for probe in found} == {names[0]: True, names[1]: False}


def test_without_its_secrets_an_account_cannot_be_probed_and_it_is_told_how(monkeypatch):
    """
    `probe.impossible` names the secrets that its API would be asked with.
    """
    monkeypatch.setitem(SECRETS, "agora", {"certificate": AGORA.certificate})
    _, told = asyncio.run(probed(row("agora")))

    ((name, fields),) = told
    assert name == "probe.impossible"
    assert "customer_id and customer_secret as secrets" in fields["because"]


@pytest.mark.parametrize(
    ("one", "depth"),
    [
        (row("agora"), "control"),
        (row("zegocloud"), "control"),
        (row("agora", probe="ingest"), "ingest"),
        (row("agora", ingest="whip", whip_url="https://a.example/{stream}"), "end_to_end"),
        (ProviderRow(name="w", adapter="whip", config={"url": "https://a.example"}), "end_to_end"),
    ],
)
def test_what_must_be_enabled_first_is_no_canary_s_by_itself(one, depth):
    """
    RTMP at these companies: an account without it is well for everybody with their SDK.
    """
    assert depth_of(one) == depth


def test_a_region_differs_in_what_is_said_of_it_and_in_nothing_else():
    """
    The rest is the provider's own.
    """
    one = row("agora", region="na", probe="ingest", regions={"eu": {"region": "eu"}, "us": {}})

    found = {region: each.config for region, each in in_regions(one)}

    assert {region: config["region"] for region, config in found.items()} == {
        "eu": "eu",
        "us": "na",
    }
    assert all(config["probe"] == "ingest" for config in found.values())


@BOTH
def test_an_account_is_registered_and_checked_over_the_api_without_any_url(adapter, tmp_path):
    """
    Its secrets are in no answer; one that cannot open the API is refused.
    """
    good = LISTED if adapter == "agora" else COUNTED

    async def main(api):
        async with standing_in(answers((200, good))) as stand:
            config = {"app_id": APP[adapter], "api_url": stand.origin}
            body = {"adapter": adapter, "config": config, "secrets": SECRETS[adapter]}
            added = await api.ask("POST", "/v1/admin/providers/theirs", body)
            checked = await api.ask("POST", "/v1/admin/check", {"provider": "theirs"})
            bad = {**body, "config": {**config, "regions": {"x": {"region": "mars"}}}}
            refused = await api.ask("POST", "/v1/admin/providers/bad", bad)
            return added, checked, refused

    with Api(tmp_path / "hitless.db", allow_private=LOOPBACK) as api:
        added, checked, refused = api.run(main(api))
    (probe,) = checked.json()["data"]
    assert (probe["ok"], probe["level"]) == (True, "control"), probe
    assert added.json()["data"]["probed"] == "control"
    assert refused.status_code == 400
    assert "regions.x: " in refused.json()["error"]["message"]
    for answer in (added, checked, refused):
        assert not [one for one in SECRETS[adapter].values() if one in answer.text]
