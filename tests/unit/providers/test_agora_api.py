"""Agora's REST API against a stand-in that answers in the documented shapes."""

from __future__ import annotations

import asyncio
import base64
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
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
from hitless.providers import agora_rest, rest
from hitless.providers.agora_answers import Channel, Privilege
from hitless.providers.agora_api import AgoraApi
from hitless.providers.agora_hosts import Hosts
from hitless.providers.quota import Limit, Quota


APP = "970CA35de60c44645bbae8a215061b33"
CUSTOMER = "customer-of-ours"
SECRET = "s3cr3t-of-the-customer"
KEY = "2dfMTRstreamkey0fys"
UID = "4004004"
BASIC = base64.b64encode(f"{CUSTOMER}:{SECRET}".encode()).decode()

CREATED = {
    "status": "success",
    "data": {
        "streamKey": KEY,
        "channel": "show",
        "uid": UID,
        "expiresAfter": 60,
        "createdAt": "1686820170",
    },
}
DONE = {"status": "success"}

Use = Callable[[AgoraApi], Awaitable[Any]]
"""Any: whatever the call returns."""

CALLS: dict[str, Use] = {
    "channels": lambda api: api.channels(),
    "users": lambda api: api.users("show"),
    "ban": lambda api: api.ban(channel="show", uid=int(UID)),
    "create_stream_key": lambda api: api.create_stream_key("show", UID, expires_after_s=60),
    "delete_key": lambda api: api.delete_key(KEY),
    "online_streams": lambda api: api.online_streams("show"),
    "force_disconnect": lambda api: api.force_disconnect(KEY, "sid-1"),
}
GATEWAY = {"create_stream_key", "delete_key", "online_streams", "force_disconnect"}


def api_of(stand_in: StandIn, **settings: Any) -> AgoraApi:
    """Make a client of a stand-in whose hosts have names of their own."""
    hosts = Hosts(
        primary=stand_in.named("primary"),
        alternate=stand_in.named("alternate"),
        adjacent=stand_in.named("adjacent"),
        adjacent_alternate=stand_in.named("adjacent-alternate"),
    )
    known = {
        "app_id": APP,
        "customer_id": CUSTOMER,
        "customer_secret": SECRET,
        "region": "eu",
        "hosts": hosts,
        "back_off_s": (0.01, 0.01, 0.01),
        "resolver": Names(),
    }
    return AgoraApi("agora", **{**known, **settings})


def ask(answering: Answering, use: Use, **settings: Any) -> tuple[Any, list[Asked]]:
    """Return what a call returned or raised, and what the stand-in was asked."""

    async def main() -> tuple[Any, list[Asked]]:
        async with standing_in(answering) as stand_in:
            api = api_of(stand_in, **settings)
            try:
                return await use(api), stand_in.asked
            except HitlessError as exc:
                return exc, stand_in.asked
            finally:
                await api.aclose()

    return asyncio.run(main())


def assert_nothing_is_told(exc: BaseException) -> None:
    """No secret in a message, a repr, a cause or a traceback."""
    told = "".join(traceback.format_exception(exc)) + repr(exc) + repr(vars(exc))
    for link in (exc, exc.__cause__, exc.__context__):
        told += repr(link) + str(link)
    for secret in (SECRET, BASIC, KEY, UID, CUSTOMER):
        assert secret not in told


# --- What is asked, and what is understood ---


def test_channels_are_listed_by_page() -> None:
    """The cheapest health check asks for one."""
    body = {
        "success": True,
        "data": {"channels": [{"channel_name": "lkj144", "user_count": 3}], "total_size": 1},
    }
    page, (asked,) = ask(answers((200, body)), lambda api: api.channels(page=2, page_size=1))
    assert page.channels == (Channel(name="lkj144", users=3),)
    assert page.total == 1
    assert (asked.method, asked.path) == ("GET", f"/dev/v1/channel/{APP}")
    assert dict(asked.query) == {"page_no": "2", "page_size": "1"}
    assert asked.headers["Authorization"] == f"Basic {BASIC}"
    assert asked.host == "primary.localhost"


@pytest.mark.parametrize(("page", "size"), [(-1, 1), (0, 0), (0, 501)])
def test_a_page_that_cannot_be_is_refused(page: int, size: int) -> None:
    """Before anything is asked."""

    async def use(api: AgoraApi) -> None:
        with pytest.raises(ValueError, match="page_size"):
            await api.channels(page=page, page_size=size)

    _, asked = ask(hanging, use)
    assert asked == []


@pytest.mark.parametrize(
    ("data", "exists", "is_live", "hosts", "audience"),
    [
        ({"channel_exist": False}, False, True, (), ()),
        (
            {"channel_exist": True, "mode": 1, "total": 1, "users": [906218805]},
            True,
            False,
            ("906218805",),
            (),
        ),
        (
            {
                "channel_exist": True,
                "mode": 2,
                "broadcasters": [2206227541, 2845863044],
                "audience": [906219905],
                "audience_total": 1,
            },
            True,
            True,
            ("2206227541", "2845863044"),
            ("906219905",),
        ),
    ],
)
def test_users_of_either_mode_are_understood(
    data: dict[str, Any], exists: bool, is_live: bool, hosts: Any, audience: Any
) -> None:
    """A channel that does not exist has nothing else."""
    body = {"success": True, "data": data}
    users, (asked,) = ask(answers((200, body)), CALLS["users"])
    assert (users.exists, users.is_live) == (exists, is_live)
    assert (users.hosts, users.audience) == (hosts, audience)
    assert asked.path == f"/dev/v1/channel/user/{APP}/show"
    assert "906219905" not in repr(users)


def test_hosts_only_has_a_path_of_its_own_and_names_are_escaped() -> None:
    """A channel's name may hold nearly anything."""
    body = {"success": True, "data": {"channel_exist": True, "mode": 2, "broadcasters": [7]}}
    users, (asked,) = ask(
        answers((200, body)), lambda api: api.users("a b/c?d#%", hosts_only=True)
    )
    assert users.hosts == ("7",)
    assert asked.path == f"/dev/v1/channel/user/{APP}/a%20b%2Fc%3Fd%23%25/hosts_only"


@pytest.mark.parametrize("name", ["", ".", "..", "x" * 513])
def test_a_name_that_would_change_the_path_is_refused(name: str) -> None:
    """Before anything is asked."""
    exc, asked = ask(hanging, lambda api: api.users(name))
    assert isinstance(exc, ConfigError)
    assert asked == []


def test_a_ban_is_a_rule_with_privileges_and_a_time() -> None:
    """The unit is seconds; 0 kicks once."""
    reply = answers((200, {"status": "success", "id": 1953}))
    rule, (asked,) = ask(
        reply,
        lambda api: api.ban(
            channel="show", uid=7, privileges=[Privilege.AUDIO, Privilege.VIDEO], for_s=600
        ),
    )
    assert rule == 1953
    assert (asked.method, asked.path) == ("POST", "/dev/v1/kicking-rule")
    assert asked.headers["Content-Type"] == "application/json"
    assert asked.body == {
        "appid": APP,
        "cname": "show",
        "uid": 7,
        "time_in_seconds": 600,
        "privileges": ["publish_audio", "publish_video"],
    }
    _, (asked,) = ask(reply, lambda api: api.ban(channel=None, uid=7))
    assert asked.body == {
        "appid": APP,
        "uid": 7,
        "time_in_seconds": 0,
        "privileges": ["join_channel"],
    }


@pytest.mark.parametrize(
    "rule",
    [
        {"channel": None, "uid": None},
        {"channel": "", "uid": None},
        {"channel": "show", "uid": 0},
        {"channel": "show", "uid": 1, "privileges": []},
        {"channel": "show", "uid": 1, "for_s": 9},
        {"channel": "show", "uid": 1, "for_s": 86_431},
    ],
)
def test_a_ban_that_agora_would_change_or_that_hits_everybody_is_refused(
    rule: dict[str, Any],
) -> None:
    """Agora would clamp the time; without channel and uid it is everybody."""
    exc, asked = ask(hanging, lambda api: api.ban(**rule))
    assert isinstance(exc, ConfigError)
    assert asked == []


def test_a_stream_key_is_created_by_post() -> None:
    """With an end; the key is in no repr."""
    made, (asked,) = ask(answers((200, CREATED)), CALLS["create_stream_key"])
    assert made.key == KEY
    assert (made.channel, made.expires_after_s) == ("show", 60)
    assert asked.method == "POST"
    assert asked.path == f"/eu/v1/projects/{APP}/rtls/ingress/streamkeys"
    assert asked.body == {"settings": {"channel": "show", "uid": UID, "expiresAfter": 60}}
    assert KEY not in repr(made)
    assert UID not in repr(made)


@pytest.mark.parametrize("status", [404, 405])
def test_a_server_without_post_is_asked_by_put_and_that_is_remembered(status: int) -> None:
    """The documents contradict each other."""

    async def use(api: AgoraApi) -> None:
        for _ in range(2):
            made = await api.create_stream_key("show", UID, expires_after_s=60)
            assert made.key == KEY

    _, asked = ask(answers((status, {"message": "no"}), (200, CREATED)), use)
    assert [each.method for each in asked] == ["POST", "PUT", "PUT"]
    assert {each.path for each in asked} == {f"/eu/v1/projects/{APP}/rtls/ingress/streamkeys"}


@pytest.mark.parametrize("status", [400, 401, 403, 429, 500])
def test_other_refusals_are_not_tried_by_put(status: int) -> None:
    """They were understood."""
    exc, asked = ask(answers((status, {"message": "no"})), CALLS["create_stream_key"])
    assert isinstance(exc, ProviderError)
    assert [each.method for each in asked] == ["POST"]


@pytest.mark.parametrize(("channel", "uid", "after_s"), [("show", "7", 0), ("", "7", 9)])
def test_a_key_without_end_or_channel_is_refused(channel: str, uid: str, after_s: int) -> None:
    """One that is lost would stay for ever."""
    exc, asked = ask(
        hanging, lambda api: api.create_stream_key(channel, uid, expires_after_s=after_s)
    )
    assert isinstance(exc, ConfigError)
    assert asked == []


def test_online_streams_are_read_as_the_reference_shows_them() -> None:
    """A list of sessions."""
    body = {
        "status": "success",
        "data": [
            {
                "sid": "sid-1",
                "channel": "show",
                "uid": UID,
                "url": "rtmp://x",
                "status": "live",
                "beginAt": "1686820170",
                "bitrate": 1500,
                "video": {"width": 1280, "height": 720, "fps": 30},
                "audio": {"channels": 2, "sampleRate": 48000},
            }
        ],
    }
    found, (asked,) = ask(answers((200, body)), lambda api: api.online_streams("a&b"))
    (stream,) = found
    assert (stream.sid, stream.channel, stream.uid) == ("sid-1", "show", UID)
    assert UID not in repr(stream)
    assert asked.query == [("channel", "a&b")]
    assert asked.path == f"/eu/v1/projects/{APP}/rtls/ingress/online-streams"


def test_the_other_documented_answer_to_online_streams_is_no_stream() -> None:
    """The page shows a stream key there."""
    found, (asked,) = ask(answers((200, CREATED)), lambda api: api.online_streams())
    assert found == ()
    assert asked.query == []


def test_a_forced_end_deletes_the_key_first() -> None:
    """Else the encoder would be back at once."""
    _, asked = ask(answers((200, DONE)), CALLS["force_disconnect"])
    base = f"/eu/v1/projects/{APP}/rtls/ingress"
    assert [(each.method, each.path) for each in asked] == [
        ("DELETE", f"{base}/streamkeys/{KEY}"),
        ("DELETE", f"{base}/online-streams/sid-1"),
    ]


@pytest.mark.parametrize("call", ["delete_key", "force_disconnect"])
def test_what_is_gone_already_is_fine(call: str) -> None:
    """That is what was wanted."""
    outcome, _ = ask(answers((404, {"message": "Resource not found"})), CALLS[call])
    assert outcome is None


def test_the_session_stays_if_its_key_cannot_be_deleted() -> None:
    """To end it would only make it connect again."""
    exc, asked = ask(answers((403, {"message": "no"})), CALLS["force_disconnect"])
    assert isinstance(exc, Refused)
    assert len(asked) == 1


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

    async def main() -> None:
        async with standing_in(hanging) as stand_in:
            api = api_of(stand_in)
            try:
                task = asyncio.create_task(_of(CALLS[call](api)))
                await _until(lambda: bool(stand_in.asked))
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                await _until(lambda: stand_in.left == 1)
            finally:
                await api.aclose()

    asyncio.run(main())


def test_a_key_that_is_made_for_nobody_is_deleted() -> None:
    """The caller was cancelled while Agora worked."""
    go_on = asyncio.Event()

    async def answering(asked: Asked) -> web.StreamResponse:
        if asked.method == "POST":
            await go_on.wait()
            return web.json_response(CREATED)
        return web.json_response(DONE)

    async def main() -> None:
        async with standing_in(answering) as stand_in:
            api = api_of(stand_in)
            task = asyncio.create_task(_of(CALLS["create_stream_key"](api)))
            await _until(lambda: bool(stand_in.asked))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            closing = asyncio.create_task(api.aclose())
            await asyncio.sleep(0.05)
            go_on.set()
            await closing
            assert [each.method for each in stand_in.asked] == ["POST", "DELETE"]
            assert stand_in.asked[1].path.endswith(f"/streamkeys/{KEY}")

    asyncio.run(main())


def test_closing_does_not_wait_for_a_key_that_never_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It ends what is under way, and a second time is nothing."""
    monkeypatch.setattr(rest, "CLOSE_S", 0.1)

    async def main() -> None:
        async with standing_in(hanging) as stand_in:
            api = api_of(stand_in, attempt_s=60.0)
            task = asyncio.create_task(_of(api.create_stream_key("show", UID, expires_after_s=60)))
            await _until(lambda: bool(stand_in.asked))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            async with asyncio.timeout(5.0):
                await api.aclose()
                await api.aclose()
            with pytest.raises(StreamEnded, match="closed"):
                await api.channels()

    asyncio.run(main())


async def _of(work: Awaitable[Any]) -> Any:
    return await work


async def _until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(10.0):
        while not is_so():  # noqa: ASYNC110 -- what is waited for happens elsewhere
            await asyncio.sleep(0.005)
