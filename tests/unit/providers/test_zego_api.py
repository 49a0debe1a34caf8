"""ZEGOCLOUD's server API against a stand-in that answers in the documented shapes."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import traceback
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from aiohttp import web
from control_stand_in import (
    Answering,
    Asked,
    Names,
    Noting,
    answers,
    hanging,
    raw,
    standing_in,
    trickling,
)

from hitless.errors import (
    ConfigError,
    ContractBroken,
    CredentialsRejected,
    HitlessError,
    ProviderError,
    Refused,
    Retry,
    StreamEnded,
    Unreachable,
)
from hitless.providers import rest
from hitless.providers.zego_api import StreamState, ZegoApi
from hitless.providers.zego_codes import ACTIONS, COMMON, MEDIA, ROOM, Group
from hitless.providers.zego_rest import LIMITS, TEST_LIMITS, signature
from hitless.providers.zego_whip import bearer, whip_access


APP = 1234567890
SECRET = "9193cc662a4c0ec135ec71fb57194b38"
USER = "user-4004004"
NOW_S = 1_700_000_000.25

NODE = "rtmp://81.69.49.115:1935/1234567890/show"
COUNTS = {"UserCountList": [{"RoomId": "a", "UserCount": 2, "AdminUserCount": 0}]}
STREAMS = {
    "StreamList": [
        {
            "StreamId": "show",
            "UserId": USER,
            "UserName": "x",
            "CreateTime": 1642045110123,
            "StreamNumberId": 10,
        }
    ]
}

Use = Callable[[ZegoApi], Awaitable[Any]]
"""Any: whatever the call returns."""

CALLS: dict[str, Use] = {
    "DescribeUserNum": lambda api: api.user_counts(["a", "b"]),
    "DescribeSimpleStreamList": lambda api: api.streams("a"),
    "DescribeRTCStreamState": lambda api: api.stream_state("show"),
    "KickoutUser": lambda api: api.kick_out("a", [USER]),
    "ForbidRTCStream": lambda api: api.forbid_stream("show"),
    "ResumeRTCStream": lambda api: api.resume_stream("show"),
    "AddStream": lambda api: api.add_stream("a", USER, "show"),
    "DeleteStream": lambda api: api.delete_stream("a", USER, "show"),
    "RTMPDispatchV2": lambda api: api.rtmp_urls("show"),
}
OWN: dict[str, list[tuple[str, str]]] = {
    "DescribeUserNum": [("RoomId[]", "a"), ("RoomId[]", "b")],
    "DescribeSimpleStreamList": [("RoomId", "a")],
    "DescribeRTCStreamState": [("StreamId", "show"), ("Sequence", "1700000000250")],
    "KickoutUser": [("RoomId", "a"), ("UserId[]", USER)],
    "ForbidRTCStream": [("StreamId", "show"), ("Sequence", "1700000000250")],
    "ResumeRTCStream": [("StreamId", "show"), ("Sequence", "1700000000250")],
    "AddStream": [("RoomId", "a"), ("UserId", USER), ("StreamId", "show")],
    "DeleteStream": [("RoomId", "a"), ("UserId", USER), ("StreamId", "show")],
    "RTMPDispatchV2": [("StreamId", "show"), ("Sequence", "1700000000250"), ("Type", "push")],
}
DATA: dict[str, Any] = {
    "DescribeUserNum": COUNTS,
    "DescribeSimpleStreamList": STREAMS,
    "RTMPDispatchV2": [NODE],
}
"""What a success brings (Any: JSON)."""

FINE_IF_ABSENT = {
    "DescribeSimpleStreamList": {104, 105, 138, 5024, 50001, 50003},
    "KickoutUser": {104, 105, 138, 5024, 50001, 50003},
    "DeleteStream": {104, 105, 138, 5024, 50001, 50003},
    "DescribeRTCStreamState": {41004, 41006},
}


def reply(code: int = 0, data: Any = None, message: str = "success") -> tuple[int, Any]:
    """Return an answer of HTTP 200 with a code (Any: JSON)."""
    body = {"Code": code, "Message": message, "RequestId": "343649807833778782"}
    return 200, body if data is None else {**body, "Data": data}


def api_of(origin: str, **settings: Any) -> ZegoApi:
    """Make a client of a stand-in."""
    known = {"app_id": APP, "server_secret": SECRET, "base": origin, "wall_s": lambda: NOW_S}
    return ZegoApi("zegocloud", **{**known, **settings})


def ask(answering: Answering, use: Use, **settings: Any) -> tuple[Any, list[Asked]]:
    """Return what a call returned or raised, and what the stand-in was asked."""

    async def main() -> tuple[Any, list[Asked]]:
        async with standing_in(answering) as stand_in:
            api = api_of(stand_in.origin, **settings)
            try:
                return await use(api), stand_in.asked
            except HitlessError as exc:
                return exc, stand_in.asked
            finally:
                await api.aclose()

    return asyncio.run(main())


def assert_nothing_is_told(exc: BaseException, asked: list[Asked]) -> None:
    """No secret, signature, nonce or user in a message, a repr, a cause or a traceback."""
    told = "".join(traceback.format_exception(exc)) + repr(exc) + repr(vars(exc))
    for link in (exc, exc.__cause__, exc.__context__):
        told += repr(link) + str(link)
    secrets = [SECRET, USER]
    for each in asked:
        query = dict(each.query)
        secrets += [query["Signature"], query["SignatureNonce"]]
    assert all(secrets)
    for secret in secrets:
        assert secret not in told


# --- What is asked, and what is understood ---


def test_the_signature_is_zego_s_own_example() -> None:
    """From the comment in their Go sample."""
    expected = "43e5cfcca828314675f91b001390566a"
    assert signature(12345, "4fd24687296dd9f3", SECRET, 1615186943) == expected


@pytest.mark.parametrize("action", CALLS)
def test_a_call_is_signed_and_asks_as_documented(action: str) -> None:
    """One GET of `/`, lists as `Name[]`, the time in whole seconds."""
    _, (asked,) = ask(answers(reply(0, DATA.get(action))), CALLS[action])
    assert (asked.method, asked.path) == ("GET", "/")
    query = dict(asked.query[:6])
    assert query == {
        "Action": action,
        "AppId": str(APP),
        "SignatureNonce": query["SignatureNonce"],
        "Timestamp": "1700000000",
        "Signature": signature(APP, query["SignatureNonce"], SECRET, 1_700_000_000),
        "SignatureVersion": "2.0",
    }
    assert re.fullmatch(r"[0-9a-f]{16}", query["SignatureNonce"])
    assert asked.query[6:] == OWN[action]


def test_every_request_has_a_nonce_of_its_own() -> None:
    """A signature is good for one request."""

    async def use(api: ZegoApi) -> None:
        for _ in range(5):
            await api.kick_out("a", [USER])

    _, asked = ask(answers(reply()), use)
    assert len({dict(each.query)["SignatureNonce"] for each in asked}) == 5
    assert len({dict(each.query)["Signature"] for each in asked}) == 5


@pytest.mark.parametrize(("is_test", "sent"), [(None, None), (True, "true"), (False, "false")])
def test_is_test_is_sent_only_when_it_is_said(is_test: bool | None, sent: str | None) -> None:
    """Newer projects have no such parameter."""
    _, (asked,) = ask(answers(reply()), CALLS["KickoutUser"], is_test=is_test)
    assert dict(asked.query).get("IsTest") == sent


def test_users_are_counted_by_room() -> None:
    """A room that is not listed has nobody."""
    counts, _ = ask(answers(reply(0, COUNTS)), CALLS["DescribeUserNum"])
    assert counts == {"a": 2, "b": 0}


def test_streams_of_a_room_are_listed() -> None:
    """Times are milliseconds there and seconds here; whose it is, is in no repr."""
    (stream,), _ = ask(answers(reply(0, STREAMS)), CALLS["DescribeSimpleStreamList"])
    assert (stream.stream, stream.user) == ("show", USER)
    assert stream.created_s == 1642045110.123
    assert USER not in repr(stream)


@pytest.mark.parametrize(
    ("code", "state"),
    [(0, StreamState.ACTIVE), (41004, StreamState.UNKNOWN), (41006, StreamState.CLOSED)],
)
def test_the_state_of_a_stream_is_a_code(code: int, state: StreamState) -> None:
    """No failure, though it is not 0."""
    data = {"create_time": "1673334117", "close_time": ""}
    found, _ = ask(answers(reply(code, data)), CALLS["DescribeRTCStreamState"])
    assert found is state


def test_sequences_grow_with_every_call() -> None:
    """Even when the clock stands still, or jumps back."""
    clock = iter([10.0, 10.0, 10.0, 10.0, 10.0, 10.0, 3.0, 3.0])

    async def use(api: ZegoApi) -> None:
        await api.forbid_stream("show")
        await api.resume_stream("show")
        await api.stream_state("show")
        await api.stream_state("show")

    _, asked = ask(answers(reply()), use, wall_s=lambda: next(clock))
    assert [dict(each.query)["Sequence"] for each in asked] == [
        "10000",
        "10001",
        "10002",
        "10003",
    ]


def test_nodes_for_rtmp_are_returned_as_they_are() -> None:
    """To push and to play, with the client's address if it is known."""
    urls, _ = ask(answers(reply(0, [NODE])), CALLS["RTMPDispatchV2"])
    assert urls == (NODE,)
    _, (asked,) = ask(
        answers(reply(0, [NODE])),
        lambda api: api.rtmp_urls("show", is_push=False, client_ip="119.23.242.129"),
    )
    assert asked.query[-2:] == [("Type", "pull"), ("ClientIP", "119.23.242.129")]


@pytest.mark.parametrize("data", [[], ["http://x"], [NODE, "ftp://x"], "rtmp://x", None, [5]])
def test_an_answer_without_a_node_breaks_the_contract(data: Any) -> None:
    """A success that is none."""
    exc, _ = ask(answers(reply(0, data)), CALLS["RTMPDispatchV2"])
    assert type(exc) is ContractBroken


@pytest.mark.parametrize(
    "use",
    [
        lambda api: api.stream_state(""),
        lambda api: api.stream_state("a/b"),
        lambda api: api.forbid_stream("x" * 257),
        lambda api: api.rtmp_urls("ü"),
        lambda api: api.add_stream("a", USER, "a b"),
        lambda api: api.delete_stream("a", USER, "a\n"),
    ],
)
def test_a_stream_id_that_zego_refuses_is_not_sent(use: Use) -> None:
    """Letters, digits, - and _; 256 of them."""
    exc, asked = ask(hanging, use)
    assert isinstance(exc, ConfigError)
    assert asked == []


@pytest.mark.parametrize(
    "use",
    [
        lambda api: api.user_counts([]),
        lambda api: api.user_counts(["r"] * 11),
        lambda api: api.kick_out("a", []),
        lambda api: api.kick_out("a", ["u"] * 6),
    ],
)
def test_too_many_at_once_are_refused(use: Use) -> None:
    """Ten rooms, five users."""

    async def trying(api: ZegoApi) -> None:
        with pytest.raises(ValueError, match="1 to"):
            await use(api)

    _, asked = ask(hanging, trying)
    assert asked == []


# --- Refusals ---


@pytest.mark.parametrize(
    ("action", "code"),
    [
        (action, code)
        for action, group in ACTIONS.items()
        for code in {**COMMON, **(ROOM if group is Group.ROOM else MEDIA)}
    ],
)
def test_a_code_in_an_answer_of_200_is_an_error(action: str, code: int) -> None:
    """By its action; what should go and is gone is fine. No message tells a secret."""
    text = f"denied {USER} and {SECRET}"
    outcome, asked = ask(answers(reply(code, None, text)), CALLS[action])
    assert len(asked) == 1
    if code in FINE_IF_ABSENT.get(action, set()):
        assert not isinstance(outcome, Exception)
        return
    table = {**COMMON, **(ROOM if ACTIONS[action] is Group.ROOM else MEDIA)}
    assert type(outcome) is table[code].error
    assert outcome.operation == action
    assert outcome.provider == "zegocloud"
    assert f"code {code}" in str(outcome)
    # A secret that is a text cannot be renewed: then the advice is the next provider.
    expected = Retry.NEXT if table[code].is_renewable else table[code].retry
    assert outcome.retry is expected
    assert_nothing_is_told(outcome, asked)


def test_an_error_quotes_what_zego_says_and_its_request_s_id() -> None:
    """For ZEGOCLOUD's support."""
    exc, _ = ask(answers(reply(154, None, "list\nbroken")), CALLS["DescribeSimpleStreamList"])
    assert "list broken" in str(exc)
    assert "request 343649807833778782" in str(exc)


def test_an_error_s_words_are_bounded() -> None:
    """A page of text is no message."""
    exc, _ = ask(answers(reply(1, None, "long " * 10_000)), CALLS["KickoutUser"])
    assert len(str(exc)) < 400


@pytest.mark.parametrize("action", ["KickoutUser", "AddStream", "DeleteStream"])
@pytest.mark.parametrize("secret", [SECRET, USER])
def test_words_that_repeat_one_secret_are_not_quoted(action: str, secret: str) -> None:
    """Each of them alone."""
    exc, asked = ask(answers(reply(1, None, f"no {secret} here")), CALLS[action])
    assert type(exc) is Refused
    assert_nothing_is_told(exc, asked)
    assert "here" not in str(exc)


def test_an_answer_that_repeats_the_signature_is_not_quoted() -> None:
    """With it another call could be made for ten minutes."""

    async def answering(asked: Asked) -> web.StreamResponse:
        signed = dict(asked.query)["Signature"]
        body = {"Code": 100000005, "Message": f"got {signed}", "RequestId": signed}
        return web.json_response(body)

    exc, asked = ask(answering, CALLS["KickoutUser"])
    assert type(exc) is CredentialsRejected
    assert_nothing_is_told(exc, asked)


@pytest.mark.parametrize(
    ("status", "headers", "error", "retry", "retry_after_s"),
    [
        (302, {}, ContractBroken, Retry.NEXT, None),
        (400, {}, ContractBroken, Retry.NEXT, None),
        (401, {}, CredentialsRejected, Retry.NEXT, None),
        (403, {}, CredentialsRejected, Retry.NEXT, None),
        (429, {}, Refused, Retry.NEXT, 1.0),
        (429, {"Retry_After": "9"}, Refused, Retry.NEXT, 9.0),
        (500, {}, Refused, Retry.SAME, None),
        (502, {}, Refused, Retry.SAME, None),
        (503, {"Retry_After": "9"}, Refused, Retry.NEXT, 9.0),
    ],
)
@pytest.mark.parametrize("body", [b"<html>", b'{"Code": 0}', b""])
def test_a_failing_gateway_is_judged_by_its_status(
    status: int,
    headers: dict[str, str],
    error: type,
    retry: Retry,
    retry_after_s: float | None,
    body: bytes,
) -> None:
    """That it says so by a status is unconfirmed; a code of 0 does not make it a success."""
    exc, asked = ask(raw(body, status, **headers), CALLS["KickoutUser"])
    assert type(exc) is error
    assert exc.retry is retry
    assert exc.retry_after_s == retry_after_s
    assert len(asked) == 1
    assert_nothing_is_told(exc, asked)


def test_a_code_counts_more_than_the_status() -> None:
    """It is the documented one."""
    exc, _ = ask(answers((500, {"Code": 100000010, "Message": "no"})), CALLS["KickoutUser"])
    assert type(exc) is CredentialsRejected


@pytest.mark.parametrize(
    "body",
    [b"", b"not JSON", b"[]", b"{}", b'{"Code": "0"}', b'{"Code": null}', b"\xff", b"[" * 99_999],
)
def test_an_answer_without_a_code_breaks_the_contract(body: bytes) -> None:
    """Even with 200."""
    exc, asked = ask(raw(body), CALLS["KickoutUser"])
    assert type(exc) is ContractBroken
    assert_nothing_is_told(exc, asked)


@pytest.mark.parametrize("action", DATA)
@pytest.mark.parametrize("data", [None, 5, {}, {"UserCountList": 5}, {"StreamList": [{}]}])
def test_a_success_with_other_data_breaks_the_contract(action: str, data: Any) -> None:
    """Rather than meaning that nobody is there."""
    exc, _ = ask(answers(reply(0, data)), CALLS[action])
    assert type(exc) is ContractBroken
    assert "not as documented" in str(exc)


def test_an_endless_body_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """It breaks the contract, whatever it says."""
    monkeypatch.setattr(rest, "BODY_MAX", 10_000)
    exc, asked = ask(raw(b"x" * 1_000_000), CALLS["KickoutUser"])
    assert type(exc) is ContractBroken
    assert "HTTP 200 with more than" in str(exc)
    assert_nothing_is_told(exc, asked)


@pytest.mark.parametrize("answering", [hanging, trickling])
def test_nothing_waits_past_its_deadline(answering: Answering) -> None:
    """Whether it says nothing, or a byte now and then; and there is one attempt."""

    async def use(api: ZegoApi) -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        try:
            await api.kick_out("a", [USER], deadline=begun + 1.0)
        finally:
            assert loop.time() - begun < 15.0

    exc, asked = ask(answering, use)
    assert type(exc) is Unreachable
    assert exc.retry is Retry.SAME
    assert len(asked) == 1
    assert_nothing_is_told(exc, asked)


def test_nobody_listening_and_no_name_are_unreachable() -> None:
    """And told apart."""

    async def main() -> None:
        async with standing_in(hanging) as stand_in:
            pass
        for origin, says in (
            (stand_in.origin, "connection refused"),
            (stand_in.named("missing"), "host name not found"),
        ):
            api = api_of(origin, resolver=Names("missing"))
            try:
                with pytest.raises(Unreachable, match=says) as caught:
                    await api.kick_out("a", [USER])
                assert_nothing_is_told(caught.value, [])
            finally:
                await api.aclose()

    asyncio.run(main())


def test_a_server_that_does_not_speak_http_tells_no_url() -> None:
    """aiohttp's own error would quote it, signature and all."""
    seen: list[str] = []

    async def main() -> None:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            seen.append((await reader.readuntil(b"\r\n\r\n")).decode())
            writer.write(b"220 mail ready\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(talk, "127.0.0.1", 0)
        api = api_of(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        try:
            with pytest.raises(ContractBroken, match="does not speak HTTP") as caught:
                await api.kick_out("a", [USER])
        finally:
            await api.aclose()
            server.close()
            await server.wait_closed()
        signed = parse_qs(urlsplit(seen[0].split()[1]).query)["Signature"][0]
        told = "".join(traceback.format_exception(caught.value)) + repr(vars(caught.value))
        assert signed not in told
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None

    asyncio.run(main())


def test_no_log_line_has_a_url(caplog: pytest.LogCaptureFixture) -> None:
    """At any level, whether it works or not."""
    caplog.set_level(logging.DEBUG)

    async def use(api: ZegoApi) -> None:
        await api.kick_out("a", [USER])
        with pytest.raises(ProviderError):
            await api.kick_out("a", [USER])

    _, asked = ask(answers(reply(), reply(1)), use)
    assert len(asked) == 2
    for each in asked:
        assert dict(each.query)["Signature"] not in caplog.text
    assert SECRET not in caplog.text
    assert USER not in caplog.text


# --- Credentials and settings ---


def test_a_rejected_secret_is_fetched_again_once() -> None:
    """Then the next provider."""
    given = iter(["old", "new", "newest"])

    async def fetch() -> str:
        return next(given)

    async def use(api: ZegoApi) -> list[Retry]:
        seen = []
        for _ in range(2):
            with pytest.raises(CredentialsRejected) as caught:
                await api.kick_out("a", [USER])
            seen.append(caught.value.retry)
        await api.kick_out("a", [USER])
        return seen

    wrong = reply(100000005)
    seen, asked = ask(answers(wrong, wrong, reply()), use, server_secret=fetch)
    assert seen == [Retry.SAME, Retry.NEXT]
    for each, secret in zip(asked, ("old", "new", "newest"), strict=True):
        query = dict(each.query)
        expected = signature(APP, query["SignatureNonce"], secret, 1_700_000_000)
        assert query["Signature"] == expected


@pytest.mark.parametrize("secret", ["", None])
def test_a_secret_that_is_none_is_not_signed_with(secret: str | None) -> None:
    """Nothing is asked."""

    async def fetch() -> str | None:
        return secret

    exc, asked = ask(hanging, CALLS["KickoutUser"], server_secret=fetch)
    assert type(exc) is CredentialsRejected
    assert asked == []


@pytest.mark.parametrize(
    "settings",
    [
        {"app_id": 0},
        {"app_id": 2**32},
        {"region": "mars", "base": None},
        {"base": "http://rtc-api.zego.im"},
        {"base": "https://x/path?Signature=1"},
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any]) -> None:
    """When the client is made; a secret is told by none of them."""
    with pytest.raises(ConfigError) as caught:
        api_of("http://127.0.0.1:1", **settings)
    assert SECRET not in str(caught.value)


def test_a_client_shows_no_secret() -> None:
    """Nor do its parts."""
    api = api_of("http://127.0.0.1:1")
    assert SECRET not in repr(api)
    assert SECRET not in repr(vars(api))


@pytest.mark.parametrize(
    ("region", "host"), [(None, "rtc-api.zego.im"), ("fra", "rtc-api-fra.zego.im")]
)
def test_a_region_has_a_host(region: str | None, host: str) -> None:
    """Asked for by name, over https; the name is not found here, so nothing leaves."""
    names = Names("rtc-api", "rtc-api-fra")

    async def main() -> None:
        api = api_of("", base=None, region=region, resolver=names)
        try:
            with pytest.raises(Unreachable, match="host name not found"):
                await api.kick_out("a", [USER])
        finally:
            await api.aclose()

    asyncio.run(main())
    assert names.asked == [host]


# --- Limits, cancellation, the end ---


def test_the_limits_are_the_documented_ones() -> None:
    """Per App ID and action, [1/s]; lower in the test environment."""
    assert {action: limit.per_s for action, limit in LIMITS.items()} == {
        "DescribeUserNum": 10,
        "DescribeSimpleStreamList": 50,
        "DescribeRTCStreamState": 40,
        "KickoutUser": 50,
        "ForbidRTCStream": 20,
        "ResumeRTCStream": 20,
        "AddStream": 10,
        "DeleteStream": 10,
        "RTMPDispatchV2": 40,
    }
    assert {action for action, limit in LIMITS.items() if limit.each_s == 10} == {
        "DescribeSimpleStreamList"
    }
    assert set(LIMITS) == set(TEST_LIMITS) == set(ACTIONS)
    assert all(TEST_LIMITS[action].per_s <= LIMITS[action].per_s for action in LIMITS)


def test_a_burst_of_calls_stays_within_the_limit_of_its_action() -> None:
    """Twenty-five announcements: no second sends more than ten."""
    quota = Noting("zegocloud", LIMITS)

    async def use(api: ZegoApi) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.gather(
            *(api.add_stream("a", USER, f"s{n}", deadline=loop.time() + 60) for n in range(25))
        )

    _, asked = ask(answers(reply()), use, quota=quota)
    assert len(asked) == len(quota.times) == 25
    assert max(sum(at <= each < at + 1 for each in quota.times) for at in quota.times) <= 10


def test_a_room_is_listed_once_in_ten_seconds() -> None:
    """Who cannot wait so long is told when, and nothing is asked."""

    async def use(api: ZegoApi) -> None:
        loop = asyncio.get_running_loop()
        await api.streams("a")
        await api.streams("b")
        with pytest.raises(Refused, match="our own limit") as caught:
            await api.streams("a", deadline=loop.time() + 1.0)
        assert 5.0 < (caught.value.retry_after_s or 0.0) < 12.0
        assert caught.value.answered is False

    _, asked = ask(answers(reply(0, STREAMS)), use)
    assert [dict(each.query)["RoomId"] for each in asked] == ["a", "b"]


@pytest.mark.parametrize(("code", "is_held"), [(206, True), (207, False)])
def test_too_many_calls_are_answered_by_silence(code: int, is_held: bool) -> None:
    """Nobody asks that action for a second; a limit of one room holds nobody else."""
    quota = Noting("zegocloud", LIMITS)

    async def use(api: ZegoApi) -> None:
        loop = asyncio.get_running_loop()
        with pytest.raises(Refused, match="too many calls") as caught:
            await api.kick_out("a", [USER])
        assert caught.value.retry_after_s == 1.0
        if is_held:
            with pytest.raises(Refused, match="our own limit"):
                await api.kick_out("b", [USER], deadline=loop.time() + 0.5)
        else:
            await api.kick_out("b", [USER])
        await api.delete_stream("a", USER, "show")

    _, asked = ask(answers(reply(code), reply()), use, quota=quota)
    assert len(asked) == (2 if is_held else 3)
    assert quota.held == (["KickoutUser"] if is_held else [])


@pytest.mark.parametrize("action", sorted(set(CALLS) - {"AddStream"}))
def test_a_cancelled_call_ends_its_connection(action: str) -> None:
    """At once, on both sides."""

    async def main() -> None:
        async with standing_in(hanging) as stand_in:
            api = api_of(stand_in.origin)
            try:
                task = asyncio.create_task(_of(CALLS[action](api)))
                await _until(lambda: bool(stand_in.asked))
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                await _until(lambda: stand_in.left == 1)
            finally:
                await api.aclose()

    asyncio.run(main())


def test_a_stream_that_is_announced_for_nobody_is_withdrawn() -> None:
    """The caller was cancelled while ZEGOCLOUD worked."""
    go_on = asyncio.Event()

    async def answering(asked: Asked) -> web.StreamResponse:
        if dict(asked.query)["Action"] == "AddStream":
            await go_on.wait()
        return web.json_response(reply()[1])

    async def main() -> None:
        async with standing_in(answering) as stand_in:
            api = api_of(stand_in.origin)
            task = asyncio.create_task(_of(CALLS["AddStream"](api)))
            await _until(lambda: bool(stand_in.asked))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            closing = asyncio.create_task(api.aclose())
            await asyncio.sleep(0.05)
            go_on.set()
            await closing
            actions = [dict(each.query)["Action"] for each in stand_in.asked]
            assert actions == ["AddStream", "DeleteStream"]

    asyncio.run(main())


def test_a_closed_client_asks_nothing() -> None:
    """And closing twice is nothing."""

    async def use(api: ZegoApi) -> None:
        await api.aclose()
        await api.aclose()
        await api.kick_out("a", [USER])

    exc, asked = ask(hanging, use)
    assert isinstance(exc, StreamEnded)
    assert asked == []


# --- WHIP ---


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


async def _of(work: Awaitable[Any]) -> Any:
    return await work


async def _until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(10.0):
        while not is_so():  # noqa: ASYNC110 -- what is waited for happens elsewhere
            await asyncio.sleep(0.005)
