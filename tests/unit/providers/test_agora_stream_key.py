"""Stream keys that come with a plan: made without a call, and what a publisher does with them."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from canned_media import canned_feed
from rtmp_server import RtmpServer
from rtmp_server import serving as rtmp_serving
from rtmp_source import Source

from hitless import LiveStreamingProvider, Memory
from hitless.core.events import Role
from hitless.errors import ConfigError, CredentialsRejected, Retry
from hitless.providers import agora_stream_key, agora_token
from hitless.providers.agora import Agora
from hitless.providers.clock import wall_s
from hitless.providers.credential import Access


LIMIT_S = 60.0
APP = "970CA35de60c44645bbae8a215061b33"
CERTIFICATE = "5CFd2fd1755d40ecb72977518be15d3b"
KEY = "key-of-a-plan"
PLAN_S = 600


# --- How a key is made ---


@pytest.mark.parametrize(
    ("channel", "uid", "end_s", "iv", "made"),
    [
        (
            "show-7",
            "9",
            1700000600,
            "000102030405060708090a0b0c0d0e0f",
            "AAECAwQFBgcICQoLDA0ODzl1LzX425x1-5myRpxkPpRIkf2W9Q",
        ),
        (
            "long-channel-name-long-channel-name-long-12",
            "65535",
            1700021600,
            "ffeeddccbbaa99887766554433221100",
            "_-7dzLuqmYh3ZlVEMyIRALViEx-Q-JGt2WkLm0CwpZ8acICPbwcmZAuNfS4v00AFjmzKoh1Vu6I4f0dxfR48"
            "Hh0QvnW9v8_LX5A165_XGQ",
        ),
    ],
)
def test_a_key_is_what_the_documented_steps_give(
    channel: str, uid: str, end_s: int, iv: str, made: str
) -> None:
    """Made by Node.js with msgpack-lite after Agora's page, time and IV fixed; not official."""
    given = agora_stream_key.mint(
        CERTIFICATE, channel=channel, uid=uid, end_s=end_s, iv=bytes.fromhex(iv)
    )
    assert given == made


def test_no_two_keys_share_their_iv() -> None:
    """Two texts encrypted alike would tell of each other."""
    keys = {
        agora_stream_key.mint(CERTIFICATE, channel="show", uid="9", end_s=1)[:21] for _ in range(9)
    }
    assert len(keys) == 9


@pytest.mark.parametrize(
    ("certificate", "channel", "uid", "names"),
    [
        ("s3cret", "show", "9", "certificate"),
        (CERTIFICATE[:30], "show", "9", "certificate"),
        (CERTIFICATE, "", "9", "channel"),
        (CERTIFICATE, "show", "0", "uid"),
        (CERTIFICATE, "show", "", "uid"),
    ],
)
def test_a_key_that_would_open_nothing_is_not_made(
    certificate: str, channel: str, uid: str, names: str
) -> None:
    """Names what is wrong, and no secret."""
    with pytest.raises(ConfigError, match=names) as caught:
        agora_stream_key.mint(certificate, channel=channel, uid=uid, end_s=1)
    assert certificate not in str(caught.value)


# --- What a publisher does with it ---


def plan_with(asked: list[Access] | None = None, **more: Any) -> Any:
    """Return what fetches a plan of some server."""

    async def plan(access: Access) -> dict[str, Any]:
        if asked is not None:
            asked.append(access)
        service = agora_token.rtc("show-7", 9, access.role, PLAN_S)
        token = agora_token.mint(APP, CERTIFICATE, [service], now_s=wall_s(), ttl_s=PLAN_S)
        named = {"app_id": APP, "channel": "show-7", "uid": 9, "epoch": 7}
        return {**named, "token": token, **more}

    return plan


def run(test: Callable[[RtmpServer, Source], Coroutine[Any, Any, None]]) -> None:
    """Run a test with an RTMP server in the place of the gateway, bounded."""

    async def main() -> None:
        source = Source()
        async with asyncio.timeout(LIMIT_S), rtmp_serving() as rtmp:
            try:
                await test(rtmp, source)
            finally:
                await source.feed.aclose()

    asyncio.run(main())


def test_a_publisher_without_a_credential_pushes_with_the_key_of_its_plan() -> None:
    """It makes no call, and the leg ends with what the plan gave."""

    async def test(rtmp: RtmpServer, source: Source) -> None:
        asked: list[Access] = []
        plan = plan_with(asked, stream_key=KEY)
        hosts = (f"127.0.0.1:{rtmp.port}",)
        provider = Agora(app_id=APP, credentials=plan, ingest_hosts=hosts)
        leg = await provider.start_stream("show", source.feed)
        assert rtmp.names("publish") == [KEY]
        assert [(access.role, access.renew) for access in asked] == [(Role.PUBLISHER, False)]
        assert leg.expires_s is not None
        left_s = leg.expires_s - asyncio.get_running_loop().time()
        assert PLAN_S - LIMIT_S < left_s <= PLAN_S + 1.0
        await provider.aclose()

    run(test)


def test_without_a_key_it_says_what_to_configure() -> None:
    """Here, or at the server whose plan it was; no host was asked, and no secret is told."""

    async def test(rtmp: RtmpServer, source: Source) -> None:
        hosts = (f"127.0.0.1:{rtmp.port}",)
        provider = Agora(app_id=APP, credentials=plan_with(), ingest_hosts=hosts)
        with pytest.raises(CredentialsRejected, match=r"local_keys .*customer_id") as caught:
            await provider.start_stream("show", source.feed)
        assert caught.value.retry is Retry.NEXT
        assert "007" not in "".join(traceback.format_exception(caught.value))
        assert rtmp.names("publish") == []
        await provider.aclose()

    run(test)


def test_without_a_key_the_stream_starts_on_the_next_provider() -> None:
    """A publisher that cannot help it goes on air elsewhere; the attempt keeps the reason."""

    async def test(rtmp: RtmpServer, source: Source) -> None:
        hosts = (f"127.0.0.1:{rtmp.port}",)
        agora = Agora(app_id=APP, credentials=plan_with(), ingest_hosts=hosts)
        feed, _ = canned_feed()
        async with LiveStreamingProvider([agora, Memory("zegocloud")]) as live:
            async with live.start_stream("show", feed) as stream:
                first = stream.state.attempts[0]
                assert stream.provider == "zegocloud"
        assert first.provider == "agora"
        assert first.failure is not None
        assert "local_keys" in first.failure.because
        await feed.aclose()

    run(test)
