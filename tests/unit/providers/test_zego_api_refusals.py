"""ZEGOCLOUD's server API: what it refuses, by code and status, and no secret in it."""

from __future__ import annotations

import asyncio
import logging
import traceback
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from aiohttp import web
from control_stand_in import Answering, Asked, Names, answers, hanging, raw, standing_in, trickling
from unit.providers.zego_api_calls import (
    CALLS,
    DATA,
    FINE_IF_ABSENT,
    SECRET,
    USER,
    api_of,
    ask,
    assert_nothing_is_told,
    reply,
)

from hitless.errors import (
    ContractBroken,
    CredentialsRejected,
    ProviderError,
    Refused,
    Retry,
    Unreachable,
)
from hitless.providers import rest
from hitless.providers.zego_api import ZegoApi
from hitless.providers.zego_codes import ACTIONS, COMMON, MEDIA, ROOM, Group


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
