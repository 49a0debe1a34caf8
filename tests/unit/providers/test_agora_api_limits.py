"""Agora's REST API: hosts that are sick, deadlines, sizes, limits, and the end."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web
from control_calls import (
    asked_of_what_nobody_waits_for,
    assert_a_cancelled_call_ends_its_connection,
    cancel_once_asked,
)
from control_stand_in import (
    Answering,
    Asked,
    Names,
    Noting,
    StandIn,
    answers,
    hanging,
    raw,
    standing_in,
    trickling,
)
from unit.providers.agora_api_calls import (
    CALLS,
    CREATED,
    DONE,
    KEY,
    UID,
    api_of,
    ask,
    assert_nothing_is_told,
)

from hitless.errors import ContractBroken, Refused, Retry, StreamEnded, Unreachable
from hitless.providers import agora_rest, rest
from hitless.providers.agora_api import AgoraApi
from hitless.providers.quota import Limit, Quota


# --- Hosts, time, size ---


def test_a_sick_primary_leads_through_the_hosts() -> None:
    """Over real connections, as the order was decided in virtual time."""
    page = {"success": True, "data": {"channels": [], "total_size": 0}}

    async def answering(asked: Asked) -> web.StreamResponse:
        if asked.host != "adjacent.localhost":
            return web.Response(status=503)
        return web.json_response(page)

    outcome, asked = ask(answering, CALLS["channels"])
    assert outcome.total == 0
    assert [each.host.partition(".")[0] for each in asked] == [
        "primary",
        "primary",
        "alternate",
        "adjacent",
    ]
    assert len({each.headers["X-Request-ID"] for each in asked}) == 1


def test_a_name_that_is_not_found_is_looked_for_under_the_other_domain() -> None:
    """The one failure after which the alternate domain is asked."""
    page = {"success": True, "data": {"channels": [], "total_size": 0}}
    names = Names("primary")
    outcome, asked = ask(answers((200, page)), CALLS["channels"], resolver=names)
    assert outcome.total == 0
    assert [each.host for each in asked] == ["alternate.localhost"]
    assert names.asked[:2] == ["primary.localhost"] * 2


def test_a_service_that_hangs_leaves_the_alternate_domain_out() -> None:
    """Each attempt is bounded, and the error says what was waited for."""
    exc, asked = ask(hanging, CALLS["channels"], attempt_s=0.5)
    assert type(exc) is Unreachable
    assert exc.retry is Retry.NEXT
    assert exc.answered is False
    assert [each.host.partition(".")[0] for each in asked] == ["primary", "primary", "adjacent"]
    assert_nothing_is_told(exc)


@pytest.mark.parametrize("call", CALLS)
def test_nothing_waits_past_its_deadline(call: str) -> None:
    """Whatever a service does."""
    uses = {
        "channels": lambda api, end: api.channels(deadline=end),
        "users": lambda api, end: api.users("show", deadline=end),
        "ban": lambda api, end: api.ban(channel="show", uid=int(UID), deadline=end),
        "create_stream_key": lambda api, end: api.create_stream_key(
            "show", UID, expires_after_s=60, deadline=end
        ),
        "delete_key": lambda api, end: api.delete_key(KEY, deadline=end),
        "online_streams": lambda api, end: api.online_streams(deadline=end),
        "force_disconnect": lambda api, end: api.force_disconnect(KEY, "sid-1", deadline=end),
    }

    async def use(api: AgoraApi) -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        try:
            await uses[call](api, begun + 0.5)
        finally:
            assert loop.time() - begun < 15.0

    exc, _ = ask(hanging, use, back_off_s=(30.0, 30.0))
    assert type(exc) is Unreachable
    assert_nothing_is_told(exc)


def test_a_body_that_trickles_is_bounded_in_time() -> None:
    """Each byte comes soon after the last, and there is no end to them."""
    exc, _ = ask(trickling, CALLS["channels"], attempt_s=0.2, back_off_s=())
    assert type(exc) is Unreachable
    assert "Connection timeout" in str(exc)


def test_an_endless_body_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """It breaks the contract, whatever it says."""
    monkeypatch.setattr(rest, "BODY_MAX", 10_000)
    exc, asked = ask(raw(b"x" * 1_000_000), CALLS["channels"])
    assert type(exc) is ContractBroken
    assert "HTTP 200 with more than" in str(exc)
    assert len(asked) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not JSON",
        b"[]",
        b"{}",
        b'{"data": null}',
        b'{"data": {"channels": [{"channel_name": 5}]}}',
        b'{"success": true, "data": {"channels": "none"}}',
        b"\xff",
        b"[" * 100_000,
    ],
)
def test_a_success_that_is_not_as_documented_breaks_the_contract(body: bytes) -> None:
    """And is not asked for again."""
    exc, asked = ask(raw(body), CALLS["channels"])
    assert type(exc) is ContractBroken
    assert "not as documented" in str(exc)
    assert len(asked) == 1


def test_a_server_that_does_not_speak_http_tells_no_url() -> None:
    """aiohttp's own error would quote it, with the stream key inside."""

    async def main() -> None:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"220 mail ready\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(talk, "127.0.0.1", 0)
        api = api_of(StandIn(port=server.sockets[0].getsockname()[1]))
        try:
            with pytest.raises(ContractBroken, match="does not speak HTTP") as caught:
                await api.delete_key(KEY)
            assert_nothing_is_told(caught.value)
        finally:
            await api.aclose()
            server.close()
            await server.wait_closed()

    asyncio.run(main())


def test_nobody_listening_is_unreachable() -> None:
    """An active refusal is an answer of sorts."""

    async def main() -> None:
        async with standing_in(hanging) as stand_in:
            pass
        api = api_of(stand_in)
        try:
            with pytest.raises(Unreachable, match="connection refused") as caught:
                await api.channels()
            assert caught.value.answered is True
        finally:
            await api.aclose()

    asyncio.run(main())


# --- Limits, cancellation, the end ---


def test_a_burst_of_calls_stays_within_the_account_s_limits() -> None:
    """Sixty queries: no second sends more than twenty."""
    page = {"success": True, "data": {"channels": [], "total_size": 0}}
    quota = Noting("agora", agora_rest.LIMITS)

    async def use(api: AgoraApi) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.gather(*(api.channels(deadline=loop.time() + 60) for _ in range(60)))

    _, asked = ask(answers((200, page)), use, quota=quota)
    assert len(asked) == len(quota.times) == 60
    assert max(sum(at <= each < at + 1 for each in quota.times) for at in quota.times) <= 20


def test_retries_count_for_the_limit() -> None:
    """A sick service is not hammered by everybody's retries."""
    quota = Noting("agora", {agora_rest.QUERY: Limit(per_s=2.0)})
    exc, asked = ask(answers((503, {})), CALLS["channels"], quota=quota)
    assert type(exc) is Refused
    assert len(asked) == len(quota.times) == 4
    assert quota.times[-1] - quota.times[0] > 1.6


def test_clients_of_one_account_share_a_quota() -> None:
    """The limits are the account's, not the project's."""
    page = {"success": True, "data": {"channels": [], "total_size": 0}}
    limits = {agora_rest.QUERY: Limit(per_s=0.1), agora_rest.OTHER: Limit(per_s=0.1)}

    async def main() -> None:
        quota = Quota("agora", limits)
        async with standing_in(answers((200, page))) as stand_in:
            first, second = (api_of(stand_in, quota=quota) for _ in range(2))
            try:
                await first.channels()
                with pytest.raises(Refused, match="our own limit"):
                    await second.channels(deadline=asyncio.get_running_loop().time() + 0.3)
            finally:
                await first.aclose()
                await second.aclose()

    asyncio.run(main())


@pytest.mark.parametrize("call", sorted(set(CALLS) - {"create_stream_key"}))
def test_a_cancelled_call_ends_its_connection(call: str) -> None:
    """At once, on both sides."""
    assert_a_cancelled_call_ends_its_connection(api_of, CALLS[call])


def test_a_key_that_is_made_for_nobody_is_deleted() -> None:
    """The caller was cancelled while Agora worked."""

    def when(go_on: asyncio.Event) -> Answering:
        async def answering(asked: Asked) -> web.StreamResponse:
            if asked.method == "POST":
                await go_on.wait()
                return web.json_response(CREATED)
            return web.json_response(DONE)

        return answering

    asked = asked_of_what_nobody_waits_for(api_of, when, CALLS["create_stream_key"])
    assert [each.method for each in asked] == ["POST", "DELETE"]
    assert asked[1].path.endswith(f"/streamkeys/{KEY}")


def test_closing_does_not_wait_for_a_key_that_never_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It ends what is under way, and a second time is nothing."""
    monkeypatch.setattr(rest, "CLOSE_S", 0.1)

    async def main() -> None:
        async with standing_in(hanging) as stand_in:
            api = api_of(stand_in, attempt_s=60.0)
            await cancel_once_asked(stand_in, CALLS["create_stream_key"](api))
            async with asyncio.timeout(5.0):
                await api.aclose()
                await api.aclose()
            with pytest.raises(StreamEnded, match="closed"):
                await api.channels()

    asyncio.run(main())
