"""ZEGOCLOUD's server API against a stand-in that answers in the documented shapes."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from control_stand_in import Names, answers, hanging
from unit.providers.zego_api_calls import (
    APP,
    CALLS,
    COUNTS,
    DATA,
    NODE,
    OWN,
    SECRET,
    STREAMS,
    USER,
    Use,
    api_of,
    ask,
    reply,
)

from hitless.errors import ConfigError, ContractBroken, CredentialsRejected, Retry, Unreachable
from hitless.providers.zego_api import StreamState, ZegoApi
from hitless.providers.zego_rest import signature


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
        {"server_secret": SECRET[:31]},
        {"server_secret": SECRET + "0"},
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
