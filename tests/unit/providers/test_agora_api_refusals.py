"""Agora's REST API: what it refuses, with which advice, and no secret in it."""

from __future__ import annotations

import asyncio
import base64

import pytest
from aiohttp import web
from control_stand_in import Asked, StandIn, answers, hanging, raw
from unit.providers.agora_api_calls import (
    BASIC,
    CALLS,
    CUSTOMER,
    DONE,
    GATEWAY,
    KEY,
    SECRET,
    UID,
    api_of,
    ask,
    assert_nothing_is_told,
)

from hitless.errors import ConfigError, ContractBroken, CredentialsRejected, Refused, Retry
from hitless.providers.agora_api import AgoraApi


# --- Refusals ---


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("status", "error", "retry", "retry_after_s"),
    [
        (301, ContractBroken, Retry.NEXT, None),
        (400, ContractBroken, Retry.NEXT, None),
        (401, CredentialsRejected, Retry.NEXT, None),
        (403, CredentialsRejected, Retry.NEXT, None),
        (409, Refused, Retry.SAME, 1.0),
        (415, ContractBroken, Retry.NEXT, None),
        (418, Refused, Retry.NEXT, None),
        (429, Refused, Retry.NEXT, 1.0),
        (500, Refused, Retry.NEXT, None),
        (502, Refused, Retry.NEXT, None),
        (503, Refused, Retry.NEXT, None),
        (504, Refused, Retry.NEXT, None),
    ],
)
def test_a_status_is_an_error_with_advice(
    call: str, status: int, error: type, retry: Retry, retry_after_s: float | None
) -> None:
    """A 403 of the Media Gateway means that it is not enabled. No message tells a secret."""
    text = f"denied to {CUSTOMER} {SECRET} with {KEY} as {UID}"
    exc, asked = ask(answers((status, {"message": text})), CALLS[call])
    if status == 403 and call in GATEWAY:
        error = Refused
        assert "not enabled" in str(exc)
    if call == "create_stream_key" and status >= 500:
        retry = Retry.SAME  # one attempt: the caller has a retry loop of its own
    assert type(exc) is error
    assert exc.retry is retry
    assert exc.retry_after_s == retry_after_s
    assert exc.answered is True
    assert exc.provider == "agora"
    assert exc.operation == ("delete_key" if call == "force_disconnect" else call)
    assert str(status) in str(exc)
    is_asked_again = status >= 500 and call != "create_stream_key"
    assert len(asked) == (4 if is_asked_again else 1)
    assert_nothing_is_told(exc)


@pytest.mark.parametrize("call", ["channels", "users", "ban", "online_streams"])
def test_a_resource_that_does_not_exist_is_refused(call: str) -> None:
    """Where nothing was to be removed."""
    exc, _ = ask(answers((404, {"message": "Resource not found"})), CALLS[call])
    assert type(exc) is Refused
    assert exc.retry is Retry.NEXT


@pytest.mark.parametrize(
    ("call", "secret"),
    [
        *(("channels", secret) for secret in (SECRET, CUSTOMER, BASIC)),
        ("create_stream_key", UID),
        ("ban", UID),
        ("delete_key", KEY),
    ],
)
def test_words_that_repeat_one_secret_are_not_quoted(call: str, secret: str) -> None:
    """Each of them alone: the credential, the stream's key, the user."""
    exc, _ = ask(answers((400, {"message": f"no such {secret} here"})), CALLS[call])
    assert type(exc) is ContractBroken
    assert_nothing_is_told(exc)
    assert "here" not in str(exc)


def test_the_session_s_end_quotes_neither_key_nor_session() -> None:
    """The second request of a forced end."""
    for secret in (KEY, "sid-1"):
        exc, asked = ask(
            answers((200, DONE), (400, {"message": f"no such {secret} here"})),
            CALLS["force_disconnect"],
        )
        assert len(asked) == 2
        assert exc.operation == "force_disconnect"
        assert "here" not in str(exc)


@pytest.mark.parametrize("name", ["message", "reason"])
def test_an_error_quotes_what_agora_says_and_its_request_s_id(name: str) -> None:
    """For Agora's support."""
    reply = raw(
        b'{"%s": "Invalid \'channel\'\\n format."}' % name.encode(), 400, X_Request_ID="id-42"
    )
    exc, _ = ask(reply, CALLS["channels"])
    assert "(Invalid 'channel' format.)" in str(exc)
    assert "request id-42" in str(exc)


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[]", b'{"message": 5}', b"\xff\xfe", b'{"message": null}', b"7"],
)
def test_an_error_without_words_is_still_that_error(body: bytes) -> None:
    """Its status says enough."""
    exc, _ = ask(raw(body, 403), CALLS["channels"])
    assert type(exc) is CredentialsRejected
    assert "HTTP 403" in str(exc)


def test_an_error_s_words_are_bounded() -> None:
    """A page of text is no message."""
    exc, _ = ask(answers((400, {"message": "long " * 10_000})), CALLS["channels"])
    assert len(str(exc)) < 300


def test_a_request_id_that_is_none_is_not_quoted() -> None:
    """It is a header that anybody may have written."""
    exc, _ = ask(raw(b"", 400, X_Request_ID="a b <script>"), CALLS["channels"])
    assert "script" not in str(exc)
    exc, _ = ask(raw(b"", 400, X_Request_ID=SECRET), CALLS["channels"])
    assert_nothing_is_told(exc)


def test_a_retry_after_is_passed_on_and_kept() -> None:
    """Nobody of this account asks again before; other kinds of call go on."""
    exc, _ = ask(raw(b"", 429, Retry_After="7"), CALLS["channels"])
    assert exc.retry_after_s == 7.0

    async def use(api: AgoraApi) -> None:
        loop = asyncio.get_running_loop()
        with pytest.raises(Refused, match="HTTP 429"):
            await api.channels()
        with pytest.raises(Refused, match="our own limit") as caught:
            await api.users("show", deadline=loop.time() + 2.0)
        assert caught.value.answered is False
        assert 3.0 < (caught.value.retry_after_s or 0.0) <= 7.0
        assert (await api.ban(channel="show", uid=1)) == 3

    async def answering(asked: Asked) -> web.StreamResponse:
        if asked.method == "POST":
            return web.json_response({"status": "success", "id": 3})
        return web.Response(status=429, headers={"Retry-After": "7"})

    _, asked = ask(answering, use)
    assert len(asked) == 2


def test_a_long_retry_after_of_a_sick_service_leads_on() -> None:
    """It said so itself."""
    exc, _ = ask(raw(b"", 503, Retry_After="60"), CALLS["create_stream_key"])
    assert exc.retry is Retry.NEXT
    assert exc.retry_after_s == 60.0


# --- Credentials ---


def test_a_rejected_secret_is_fetched_again_once() -> None:
    """Then the next provider."""
    given = iter(["old", "new", "newest"])

    async def fetch() -> str:
        return next(given)

    async def use(api: AgoraApi) -> list[Retry]:
        seen = []
        for _ in range(2):
            with pytest.raises(CredentialsRejected) as caught:
                await api.channels()
            seen.append(caught.value.retry)
        await api.channels()
        return seen

    page = {"success": True, "data": {"channels": [], "total_size": 0}}
    seen, asked = ask(answers((401, {}), (401, {}), (200, page)), use, customer_secret=fetch)
    assert seen == [Retry.SAME, Retry.NEXT]
    sent = [base64.b64decode(each.headers["Authorization"][6:]).decode() for each in asked]
    assert sent == [f"{CUSTOMER}:{secret}" for secret in ("old", "new", "newest")]


@pytest.mark.parametrize("call", CALLS)
def test_a_secret_that_cannot_be_had_is_no_secret_told(call: str) -> None:
    """Its function's message may hold one."""

    async def fetch() -> str:
        raise RuntimeError(f"vault says {SECRET}")

    exc, asked = ask(hanging, CALLS[call], customer_secret=fetch)
    assert type(exc) is CredentialsRejected
    assert "RuntimeError" in str(exc)
    assert exc.answered is False
    assert asked == []
    assert_nothing_is_told(exc)


def test_a_secret_that_never_comes_is_not_waited_for() -> None:
    """The deadline is the whole call's."""

    async def fetch() -> str:
        await asyncio.sleep(60)
        return SECRET

    async def use(api: AgoraApi) -> None:
        await api.channels(deadline=asyncio.get_running_loop().time() + 0.05)

    exc, asked = ask(hanging, use, customer_secret=fetch)
    assert type(exc) is CredentialsRejected
    assert asked == []


@pytest.mark.parametrize(
    "settings",
    [
        {"app_id": ""},
        {"app_id": "../x"},
        {"customer_id": ""},
        {"customer_id": "a:b"},
        {"region": "mars"},
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, str]) -> None:
    """When the client is made."""
    with pytest.raises(ConfigError) as caught:
        api_of(StandIn(port=1), **settings)
    assert SECRET not in str(caught.value)


def test_a_client_shows_no_secret() -> None:
    """Nor do its parts."""
    api = api_of(StandIn(port=1))
    assert SECRET not in repr(api)
    assert SECRET not in repr(vars(api))
