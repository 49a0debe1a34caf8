"""`Agora`: pushing by RTMP with keys from a stand-in of its REST API, and the end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from rtmp_server import serving as rtmp_serving
from rtmp_server import until
from unit.providers.account_runs import CLOSED_S, LIMIT_S, now, unused_port
from unit.providers.agora_console import INGRESS, KEY, Lab, run

from hitless.client.renewal import renew
from hitless.core.events import LegExpiring, OpenLeg
from hitless.errors import (
    ConfigError,
    CredentialsRejected,
    HitlessError,
    MediaLost,
    Refused,
    Retry,
    Unreachable,
)
from hitless.providers import agora_gateway
from hitless.providers.base import Expiring, Leg


# --- Pushing by RTMP ---


def test_a_stream_is_pushed_with_a_key_that_is_made_once() -> None:
    """It is kept for a stream that comes back, and deleted when the provider closes."""

    async def test(lab: Lab) -> None:
        provider = lab.agora(uid=9)
        leg = await provider.start_stream("show", lab.feed)
        assert isinstance(leg, Leg)
        assert lab.rtmp.names("publish") == ["made-key-1"]
        ((_, path, body),) = lab.console.named("POST streamkeys")
        assert path == f"/eu{INGRESS}streamkeys"
        assert body == {"settings": {"channel": "show", "uid": "9", "expiresAfter": 86_400}}
        assert isinstance(leg, Expiring)
        assert leg.expires_s is not None
        assert abs(leg.expires_s - now() - 86_400) < LIMIT_S
        await leg.aclose()
        again = await provider.start_stream("show", lab.feed)
        await again.aclose()
        assert lab.rtmp.names("publish") == ["made-key-1", "made-key-1"]
        assert len(lab.console.named("POST streamkeys")) == 1
        assert lab.console.named("DELETE streamkeys") == []
        await provider.aclose()
        assert [path for _, path, _ in lab.console.named("DELETE streamkeys")] == [
            f"/eu{INGRESS}streamkeys/made-key-1"
        ]

    run(test)


def test_every_stream_has_a_key_of_its_own() -> None:
    """A key belongs to one channel."""

    async def test(lab: Lab) -> None:
        provider = lab.agora(channel="tv-{stream}")
        for stream in ("one", "two"):
            await provider.start_stream(stream, lab.feed)
        channels = [
            call[2]["settings"]["channel"] for call in lab.console.named("POST streamkeys")
        ]
        assert channels == ["tv-one", "tv-two"]
        assert set(lab.rtmp.publishers) == {"made-key-1", "made-key-2"}

    run(test)


def test_a_key_that_nobody_uses_is_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the background, after a while; one in use stays."""
    monkeypatch.setattr(agora_gateway, "KEEP_S", 0.2)

    async def test(lab: Lab) -> None:
        provider = lab.agora()
        await provider.start_stream("used", lab.feed)
        leg = await provider.start_stream("left", lab.feed)
        await leg.aclose()
        await until(lambda: lab.console.named("DELETE streamkeys"))
        await asyncio.sleep(0.5)
        paths = [path for _, path, _ in lab.console.named("DELETE streamkeys")]
        assert [path.rpartition("/")[2] for path in paths] == ["made-key-2"]

    run(test)


async def _key_from_somewhere() -> str:
    return KEY


@pytest.mark.parametrize("given", [KEY, _key_from_somewhere])
def test_a_key_from_the_console_needs_no_call(given: Any) -> None:
    """For projects without a REST credential; when it ends nobody knows here."""

    async def test(lab: Lab) -> None:
        provider = lab.with_key(stream_key=given)
        leg = await provider.start_stream("show", lab.feed)
        assert lab.rtmp.names("publish") == [KEY]
        assert leg.expires_s is None
        assert lab.console.calls == []

    run(test)


def test_without_a_key_it_says_what_to_give() -> None:
    """A plan brings no stream key."""

    async def test(lab: Lab) -> None:
        provider = lab.with_key(stream_key=None)
        exc = await lab.fails(provider, ConfigError)
        assert "customer_id and customer_secret" in str(exc)
        assert "stream_key" in str(exc)

    run(test)


def test_an_ingest_host_that_is_away_is_left_for_the_next_attempt() -> None:
    """One attempt asks one host: the only retry loop is the core's."""

    async def test(lab: Lab) -> None:
        away, here = f"127.0.0.1:{unused_port()}", f"127.0.0.1:{lab.rtmp.port}"
        provider = lab.agora(ingest_hosts=(away, here))
        exc = await lab.fails(provider, Unreachable)
        assert exc.retry is Retry.SAME
        assert lab.rtmp.seen == []
        await provider.start_stream("show", lab.feed)
        await provider.start_stream("other", lab.feed)
        assert len(lab.rtmp.names("publish")) == 2
        assert len(lab.console.named("POST streamkeys")) == 2

    run(test)


def test_when_all_hosts_failed_the_first_of_them_is_asked_again() -> None:
    """Better a doubtful host than none."""

    async def test(lab: Lab) -> None:
        away = [f"127.0.0.1:{unused_port()}" for _ in range(2)]
        provider = lab.with_key(ingest_hosts=away)
        for _ in range(3):
            await lab.fails(provider, Unreachable)
        assert provider._gateway.rota.choose(away) == away[1]

    run(test)


def test_a_host_that_takes_nothing_is_left_as_well() -> None:
    """It accepts the connection and says nothing more."""

    async def test(lab: Lab) -> None:
        async with rtmp_serving() as mute:
            mute.shakes = False
            hosts = (f"127.0.0.1:{mute.port}", f"127.0.0.1:{lab.rtmp.port}")
            provider = lab.with_key(ingest_hosts=hosts, first_media_s=2.0)
            await lab.fails(provider, Unreachable)
            await provider.start_stream("show", lab.feed)
            assert lab.rtmp.names("publish") == [KEY]

    run(test)


def test_a_key_that_is_rejected_is_made_anew_once() -> None:
    """The old one is deleted; a second rejection leads to the next provider."""

    async def test(lab: Lab) -> None:
        provider = lab.agora()
        lab.rtmp.status["publish"] = ("error", "NetStream.Publish.Unauthorized", "denied")
        first = await lab.fails(provider, CredentialsRejected)
        second = await lab.fails(provider, CredentialsRejected)
        assert (first.retry, second.retry) == (Retry.SAME, Retry.NEXT)
        assert lab.rtmp.names("publish") == ["made-key-1", "made-key-2"]
        await until(lambda: lab.console.named("DELETE streamkeys"))

    run(test)


def test_a_text_that_is_rejected_cannot_be_renewed() -> None:
    """A key from the console is what it is."""

    async def test(lab: Lab) -> None:
        provider = lab.with_key()
        lab.rtmp.status["publish"] = ("error", "NetStream.Publish.Unauthorized", "denied")
        exc = await lab.fails(provider, CredentialsRejected)
        assert exc.retry is Retry.NEXT

    run(test)


def test_a_place_that_is_taken_is_freed_for_the_next_attempt() -> None:
    """Its key goes first, then its session, else the encoder would connect again."""

    async def test(lab: Lab) -> None:
        provider = lab.agora()
        lab.console.online = ["1", "2"]
        lab.rtmp.status["publish"] = ("error", "NetStream.Publish.BadName", "already publishing")
        exc = await lab.fails(provider, Refused)
        assert exc.retry is Retry.NEXT
        await until(lambda: lab.console.named("DELETE online-streams"))
        ((_, path, _),) = lab.console.named("DELETE online-streams")
        assert path.endswith("/sid-1")
        names = [name for name, _, _ in lab.console.calls if name.startswith("DELETE")]
        assert names == ["DELETE streamkeys", "DELETE online-streams"]

    run(test)


@pytest.mark.parametrize("is_listed", [True, False])
def test_where_only_the_kernel_speaks_the_gateway_must_list_the_stream(is_listed: bool) -> None:
    """A server that answers no ping and counts no bytes proves nothing by itself."""

    async def test(lab: Lab) -> None:
        lab.rtmp.pongs = lab.rtmp.acknowledges = False
        lab.console.online = ["1"] if is_listed else ["2"]
        provider = lab.agora(first_media_s=6.0)
        if is_listed:
            await provider.start_stream("show", lab.feed)
        else:
            exc = await lab.fails(provider, MediaLost)
            assert "lists no such stream" in str(exc)
            await until(lambda: not lab.rtmp.publishers)
        assert lab.console.named("GET online-streams")

    run(test)


def test_where_the_list_cannot_be_had_the_kernel_s_word_must_do() -> None:
    """A limit that is used up says nothing of the stream."""

    async def test(lab: Lab) -> None:
        lab.rtmp.pongs = lab.rtmp.acknowledges = False
        lab.console.status["GET online-streams"] = 429
        leg = await lab.agora().start_stream("show", lab.feed)
        assert getattr(leg.leg, "proven_by", "") == "kernel"

    run(test)


@pytest.mark.parametrize(
    ("status", "kind", "says"),
    [
        (403, Refused, "Media Gateway is not enabled"),
        (429, Refused, "too many"),
        (401, CredentialsRejected, "customer id or secret"),
    ],
)
def test_what_the_api_says_no_to_is_an_error_with_advice(
    status: int, kind: type[HitlessError], says: str
) -> None:
    """Nothing was pushed, and no host is blamed for it."""

    async def test(lab: Lab) -> None:
        lab.console.status["POST streamkeys"] = status
        provider = lab.agora()
        exc = await lab.fails(provider, kind)
        assert says in str(exc)
        assert exc.retry is Retry.NEXT
        assert lab.rtmp.seen == []

    run(test)


def test_an_api_that_hangs_takes_no_longer_than_first_media_may() -> None:
    """And its key, if it is made after all, is deleted."""

    async def test(lab: Lab) -> None:
        lab.console.hangs = {"POST streamkeys"}
        begun = now()
        provider = lab.agora(first_media_s=1.0)
        await lab.fails(provider, CredentialsRejected)
        assert now() - begun < 5.0

    run(test)


# --- Leaving ---


def test_an_api_that_hangs_does_not_hold_back_closing() -> None:
    """What is not deleted ends by itself."""

    async def test(lab: Lab) -> None:
        lab.console.hosts = [7]
        provider = lab.agora()
        await provider.start_stream("show", lab.feed)
        lab.console.hangs = {"DELETE streamkeys", "GET hosts", "POST ban"}
        begun = now()
        await provider.aclose()
        await provider.aclose()
        assert now() - begun < CLOSED_S
        await until(lambda: not lab.rtmp.publishers)

    run(test)


def test_a_start_that_is_cancelled_leaves_nobody_on_air() -> None:
    """Wherever it is at that moment."""

    async def test(lab: Lab) -> None:
        provider = lab.agora()
        for wait_s in (0.0, 0.01, 0.05):
            starting = asyncio.ensure_future(provider.start_stream("show", lab.feed))
            await asyncio.sleep(wait_s)
            starting.cancel()
            result = await asyncio.gather(starting, return_exceptions=True)
            if isinstance(result[0], Leg):
                await result[0].aclose()
            await until(lambda: not lab.rtmp.publishers)

    run(test)


def test_a_credential_that_ends_leads_to_a_planned_move() -> None:
    """Told a minute before at the latest: an open leg takes no new one."""

    async def test(lab: Lab) -> None:
        provider = lab.agora(key_s=60.0)
        leg = await provider.start_stream("show", lab.feed)
        assert leg.expires_s is not None
        leg.expires_s = now() + 0.8
        told: list[Any] = []
        order = OpenLeg(session="s", leg=1, provider="agora", because="a test")
        await asyncio.wait_for(renew(order, leg, told.append), 10.0)
        assert [type(event) for event in told] == [LegExpiring]
        assert "no new credential" in told[0].because

    run(test)
