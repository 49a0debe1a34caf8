"""ZEGOCLOUD's addresses and tokens for WHIP, as the page says."""

from __future__ import annotations

import hashlib
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from unit.providers.zego_api_calls import APP, NOW_S, SECRET, USER

from hitless.errors import ConfigError
from hitless.providers.zego_whip import bearer, whip_access


def test_a_whip_address_and_token_are_made_as_the_page_says() -> None:
    """Sorted parameters, then the key; the user is not signed. Unconfirmed by ZEGOCLOUD."""
    access = whip_access(
        app_id=APP, key=SECRET, stream="show", user="a&b", now_s=NOW_S, valid_s=600
    )
    parts = urlsplit(access.url)
    query = {name: value for name, (value,) in parse_qs(parts.query).items()}
    assert f"{parts.scheme}://{parts.netloc}" == f"https://i-whip{APP}.whip.zegotech.cn"
    assert parts.path == f"/whip/v1/{APP}/show"
    assert query["userId"] == "a&b"
    assert query["zgVer"] == "v1"
    assert query["zgExpired"] == "1700000600"
    assert access.expires_s == 1_700_000_600
    assert 0 < len(query["zgNonce"]) <= 15
    text = (
        f"appid={APP}&streamId=show&zgExpired=1700000600&zgNonce={query['zgNonce']}"
        f"&zgPrivilege=1&key={SECRET}"
    )
    assert access.token == hashlib.sha256(text.encode()).hexdigest()


def test_each_whip_access_is_its_own_and_shows_nothing() -> None:
    """A nonce is used once."""
    one, two = (
        whip_access(app_id=APP, key=SECRET, stream="show", user=USER, now_s=NOW_S, valid_s=600)
        for _ in range(2)
    )
    assert one.url != two.url
    assert one.token != two.token
    for told in (repr(one), str(one)):
        assert one.token not in told
        assert USER not in told
        assert SECRET not in told


def test_a_token_to_play_is_another() -> None:
    """The privilege is signed."""
    known: dict[str, Any] = {
        "app_id": APP,
        "stream": "show",
        "expires_s": 1,
        "nonce": "n",
        "key": SECRET,
    }
    assert bearer(**known) != bearer(**known, privilege=0)


@pytest.mark.parametrize(
    "settings",
    [{"key": ""}, {"user": ""}, {"stream": "a/b"}, {"valid_s": 0}, {"base": "http://zego.im"}],
)
def test_a_whip_access_that_cannot_work_is_refused(settings: dict[str, Any]) -> None:
    """The message names no key."""
    known = {
        "app_id": APP,
        "key": SECRET,
        "stream": "show",
        "user": USER,
        "now_s": NOW_S,
        "valid_s": 600,
    }
    with pytest.raises(ConfigError) as caught:
        whip_access(**{**known, **settings})
    assert SECRET not in str(caught.value)
