"""Rows of LiveKit, Janus and RTMP: registered, checked and probed in their own language."""

import asyncio
from dataclasses import replace

import livekit_stand_in
import pytest
from unit.server.api import Api
from unit.server.own_probing import checked
from unit.server.own_stands import ALL, LOOPBACK, SECRETS, kinds_asked, row, standing

from hitless.cli import serve
from hitless.core.observation import Level
from hitless.errors import ConfigError
from hitless.server.own_control import ask_all, check
from hitless.server.serve import Address
from hitless.server.store_operators import ProviderRow


pytestmark = pytest.mark.filterwarnings(
    "ignore::litestar.exceptions.LitestarDeprecationWarning"  # it speaks of Litestar 3
)


@pytest.mark.parametrize(
    ("one", "secrets", "because"),
    [
        (row("livekit", "wss://a.example"), {"api_key": "k"}, "api_key and api_secret"),
        (row("livekit", "ws://a.example"), SECRETS["livekit"], "https"),
        (row("livekit", "wss://a.example"), {"api_key": "k", "api_secret": "s"}, "32 bytes"),
        (row("janus", 5), {}, "url must be a text"),
        (row("rtmp", "rtmp://a.example"), {}, "rtmp://host/application/name"),
    ],
)
def test_what_cannot_be_asked_is_refused_at_once(one, secrets, because):
    """
    When the provider is added, not when it is probed.
    """
    with pytest.raises(ConfigError, match=because):
        check(one, secrets)


def test_all_are_asked_at_once_in_their_first_region_and_others_not_at_all():
    """
    As `hitless serve --check` does.
    """

    async def main():
        async with (
            standing("livekit") as (_, livekit),
            standing("janus", core_errors={"create": 472}) as (_, janus),
            standing("rtmp") as (_, rtmp),
        ):
            here = {"eu": {"url": rtmp.config["url"]}, "us": {"url": "rtmp://127.0.0.1:9/a/b"}}
            rows = [
                replace(livekit, name="livekit"),
                replace(janus, name="janus"),
                ProviderRow(name="rtmp", adapter="rtmp", config={"regions": here}),
                ProviderRow(name="w", adapter="whip", config={"url": "https://a.example"}),
            ]
            return await ask_all(rows, lambda name: SECRETS[name], allow_private=LOOPBACK)

    found = asyncio.run(main())
    assert {name: answer.ok for name, answer in found.items()} == {
        "livekit": True,
        "janus": False,
        "rtmp": True,
    }


async def probed(one, told=None):
    """
    Return what checking a provider now finds of its control side, by region.

    Args:
        one: Its row.
        told: Takes what its probing tells; None: it must tell nothing, and is checked.
    """
    found = await checked(one, SECRETS[one.adapter], [] if told is None else told)
    return {probe.region: probe for probe in found if probe.level is Level.CONTROL}


@ALL
def test_a_row_is_probed_in_its_own_language_in_each_of_its_regions(adapter):
    """
    Not by HTTP, though it has a url.
    """
    broken = {
        "livekit": {"twirp": {"ListRooms": (503, {}, "")}},
        "janus": {"core_errors": {"create": 472}},
        "rtmp": {"closes_on": "connect"},
    }

    async def main():
        async with (
            standing(adapter) as (stand, one),
            standing(adapter, **broken[adapter]) as (_, other),
        ):
            regions = {"eu": {}, "us": {"url": other.config["url"]}}
            found = await probed(replace(one, config={**one.config, "regions": regions}))
            return found, kinds_asked(adapter, stand)

    found, calls = asyncio.run(main())
    assert {region: probe.ok for region, probe in found.items()} == {"eu": True, "us": False}
    assert calls[0] in ("ListRooms", "create", "connect")


@ALL
def test_a_control_url_is_asked_in_place_of_the_provider_s_own_language(adapter):
    """
    Whoever gives one says what is to be asked.
    """

    async def main():
        async with standing(adapter) as (stand, one), livekit_stand_in.serving() as health:
            config = {**one.config, "control_url": health.url}
            found = await probed(replace(one, config=config))
            return found[None], kinds_asked(adapter, stand), health.seen

    probe, calls, seen = asyncio.run(main())
    assert (probe.ok, probe.because) == (True, "HTTP 200 to GET")
    assert (calls, len(seen)) == ([], 1)


@ALL
def test_a_provider_is_registered_and_checked_over_the_api_and_by_serve_check(
    adapter, tmp_path, capsys
):
    """
    LiveKit's without a key in its options: those who open legs are given tokens.
    """

    async def main(api):
        async with standing(adapter) as (_, one):
            body = {"adapter": adapter, "config": dict(one.config), "secrets": SECRETS[adapter]}
            body["config"]["probe"] = "control"
            added = await api.ask("POST", "/v1/admin/providers/theirs", body)
            checked = await api.ask("POST", "/v1/admin/check", {"provider": "theirs"})
            await serve._check(api.config, Address(host="127.0.0.1", port=0), api.environ)
            return added, checked

    with Api(tmp_path / "hitless.db", allow_private=LOOPBACK) as api:
        added, checked = api.run(main(api))
    assert added.status_code == 201, added.text
    (probe,) = checked.json()["data"]
    assert (probe["ok"], probe["level"]) == (True, "control"), probe
    said = capsys.readouterr().out
    assert f"provider   theirs ({adapter}): active; it" in said
    for text in (added.text, checked.text, said):
        assert not [secret for secret in SECRETS["livekit"].values() if secret in text]


def test_livekit_without_its_key_cannot_be_probed_and_it_is_told_how(monkeypatch):
    """
    By OPTIONS at its address nothing would be found out.
    """
    monkeypatch.setitem(SECRETS, "livekit", {})
    told = []
    asyncio.run(probed(row("livekit", "wss://a.example"), told))

    ((name, fields),) = told
    assert name == "probe.impossible"
    assert "api_key and api_secret as secrets" in fields["because"]
    assert "control_url" in fields["because"]
