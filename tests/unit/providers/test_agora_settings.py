"""`Agora`: what it accepts, where it connects to, and what `hitless doctor` is told."""

from __future__ import annotations

import json
from typing import Any

import pytest
from unit.providers.agora_console import (
    APP,
    CERTIFICATE,
    CUSTOMER,
    KEY,
    SECRET,
    SECRETS,
    Console,
    Lab,
    assert_untold,
    run,
)

from hitless.errors import ConfigError
from hitless.providers.agora import Agora
from hitless.providers.base import Provider
from hitless.providers.checkup import Checkable, Finding, Verdict


# --- What it accepts ---


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"app_id": "mine"}, "app_id"),
        ({"certificate": SECRET}, "certificate"),
        ({"customer_id": CUSTOMER}, "customer_secret"),
        ({"region": "mars"}, "na, eu, ap, cn"),
        ({"ingest": "srt"}, "rtmp or whip"),
        ({"ingest": "whip"}, "whip_url"),
        ({"ingest": "whip", "whip_url": "ftp://a/b"}, "whip_url must begin"),
        ({"uid": 0}, "uid"),
        ({"uid": 70_000}, "uid"),
        ({"channel": "show"}, "channel"),
        ({"channel": "a/{stream}"}, "channel"),
        ({"key_s": 1.0}, "key_s"),
        ({"ingest_hosts": ("rtmp://a",)}, "ingest_hosts"),
        ({"api_url": "http://api.example.com"}, "https"),
        ({"name": "My Agora"}, "name"),
    ],
)
def test_what_cannot_work_is_refused_by_name(settings: dict[str, Any], names: str) -> None:
    """One line that says which setting and why; never a secret."""
    whole = {"app_id": APP, "customer_secret": None, **settings}
    if "api_url" in settings:
        whole |= {"customer_id": CUSTOMER, "customer_secret": SECRET}
    with pytest.raises(ConfigError, match=names) as caught:
        Agora(**whole)
    assert_untold(caught.value)


def test_it_is_a_provider_that_can_be_examined() -> None:
    """With the optional attributes, which depend on the path; no secret in its repr."""
    rtmp = Agora(app_id=APP, certificate=CERTIFICATE)
    whip = Agora(app_id=APP, ingest="whip", whip_url="https://a.example/whip/{stream}")
    assert isinstance(rtmp, Provider)
    assert isinstance(rtmp, Checkable)
    assert (rtmp.name, rtmp.fault_domain) == ("agora", "agora")
    assert (rtmp.first_media_s, whip.first_media_s) == (10.0, 3.0)
    assert CERTIFICATE not in repr(rtmp) + repr(vars(rtmp.tickets))


@pytest.mark.parametrize(
    ("region", "host"),
    [("na", "rtls-ingress-prod-na.agoramdn.com"), ("cn", "rtls-ingress-prod-cn.agoramdn.com")],
)
def test_it_connects_to_the_hosts_of_its_region(region: str, host: str) -> None:
    """As the doctor is told; the REST host only where there is a credential for it."""
    bare = Agora(app_id=APP, region=region, stream_key=KEY)
    assert bare.endpoints() == (f"rtmp://{host}",)
    full = Agora(
        app_id=APP,
        region=region,
        customer_id=CUSTOMER,
        customer_secret=SECRET,
        whep_url="https://a.example/whep/{stream}",
    )
    api = "https://api.sd-rtn.com" if region == "cn" else "https://api.agora.io"
    assert full.endpoints() == (api, f"rtmp://{host}", "https://a.example/whep/stream")


def test_viewing_says_what_to_use_instead() -> None:
    """Agora's media protocol is its SDKs'."""

    async def test(lab: Lab) -> None:
        with pytest.raises(ConfigError, match="native SDK") as caught:
            await lab.agora().join_stream("show")
        assert "whep_url" in str(caught.value)

    run(test)


# --- For `hitless doctor` ---


def examined(console: Console, **settings: Any) -> list[Finding]:
    """Return what a checkup finds."""
    found: list[Finding] = []

    async def test(lab: Lab) -> None:
        lab.console.status |= console.status
        found.extend([one async for one in lab.agora(**settings).checkup()])

    run(test)
    text = json.dumps([[one.says, one.fix] for one in found])
    assert not any(secret in text for secret in (*SECRETS, CUSTOMER))
    return found


def verdicts(found: list[Finding]) -> list[tuple[str, Verdict]]:
    return [(one.step, one.verdict) for one in found]


def test_a_checkup_finds_all_good_but_the_traps() -> None:
    """They cannot be seen from outside, so they are told always."""
    found = examined(Console(), certificate=CERTIFICATE)
    assert verdicts(found) == [
        ("configuration", Verdict.GOOD),
        ("control API", Verdict.GOOD),
        ("control API", Verdict.GOOD),
        ("credential", Verdict.GOOD),
        ("trap", Verdict.WARNING),
        ("trap", Verdict.WARNING),
    ]
    assert "not forwarded" in found[-2].says
    assert "3 channels" in found[1].says
    assert "Media Gateway is enabled" in found[2].says
    assert "co-host authentication" in found[-1].says + found[-1].fix


@pytest.mark.parametrize(
    ("call", "status", "fix"),
    [
        ("GET channels", 401, "RESTful API"),
        ("GET channels", 500, "status.agora.io"),
        ("GET online-streams", 403, "enable Media Gateway"),
    ],
)
def test_a_checkup_says_where_to_fix_it(call: str, status: int, fix: str) -> None:
    """At Agora's, since the configuration is as it should be."""
    console = Console()
    console.status[call] = status
    bad = [one for one in examined(console) if one.verdict is Verdict.BAD]
    assert len(bad) == 1
    assert fix in bad[0].fix


def test_a_checkup_without_credentials_says_what_was_left_out() -> None:
    """And that nothing can be published then."""
    found = examined(Console(), customer_id=None, customer_secret=None)
    assert verdicts(found) == [
        ("configuration", Verdict.GOOD),
        ("control API", Verdict.LEFT_OUT),
        ("credential", Verdict.BAD),
        ("credential", Verdict.LEFT_OUT),
        ("trap", Verdict.WARNING),
        ("trap", Verdict.WARNING),
    ]


async def _wrong_certificate() -> str:
    return "short"


def test_a_checkup_finds_a_certificate_that_is_none() -> None:
    """One that is fetched can be looked at only now."""
    bad = [
        one
        for one in examined(Console(), certificate=_wrong_certificate)
        if one.verdict is Verdict.BAD
    ]
    assert [one.step for one in bad] == ["credential"]
    assert "certificate" in bad[0].says
