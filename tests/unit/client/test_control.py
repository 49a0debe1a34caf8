"""hitless.client.control: plans, credentials and who is shown the key."""

import asyncio
import logging

import pytest
from aiohttp import web
from backend_calls import serving
from control_server import KEY, LIMIT_S, Client, Server, access, go, leg_news, plan, says_no

from hitless.client import link
from hitless.client.control import ControlPlane
from hitless.core.events import PlacementTold, Role
from hitless.errors import ConfigError, Refused


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    """Reconnect at once: how long the pauses are is asked of the link."""
    monkeypatch.setattr(link, "RETRY_S_MAX", 0.02)


# --- Beginning ---


@pytest.mark.parametrize(
    ("role", "path"), [(Role.PUBLISHER, "/v1/start"), (Role.VIEWER, "/v1/join")]
)
def test_a_session_begins_with_a_plan(role, path):
    async def test(server, client):
        got = await client.control.begin("s", "show", role)
        seen = await server.greeted()
        return got, seen, server.asked

    got, seen, [(asked, headers, body)] = go(test)

    assert (got.provider, got.epoch, got.order) == ("agora", 1, ("agora", "webrtc"))
    assert (asked, headers["Authorization"]) == (path, f"Bearer {KEY}")
    assert (body["stream"], body["client"]) == ("show", "studio")
    assert (seen["role"], seen["plan"]) == (role.value, "signed")


def test_a_client_says_where_it_is_whenever_it_says_hello():
    async def test(server, client):
        said = []
        for session, stream in (("s", "show"), ("t", "other")):
            server.answers = [plan(stream)]
            await client.control.begin(session, stream, Role.PUBLISHER)
            said.append(await server.heard("hello"))
        return [hello.get("region") for hello in said]

    assert go(test, region="eu") == ["eu", "eu"]


def test_a_plan_says_where_the_stream_is_unless_nobody_publishes_it_yet():
    async def test(server, client):
        server.answers = [plan(epoch=0, provider=""), plan(epoch=4, because="it is near")]
        for session in ("nowhere", "s"):
            got = await client.control.begin(session, "show", Role.PUBLISHER)
            client.control.place(session, got)
        return [client.posted.get_nowait() for _ in range(client.posted.qsize())]

    assert go(test) == [
        PlacementTold(session="s", epoch=4, provider="agora", because="it is near")
    ]


async def hangs(request):
    await asyncio.sleep(LIMIT_S)


async def breaks_off(request):
    request.transport.abort()


NO_PLAN = {
    "hangs": hangs,
    "breaks off": breaks_off,
    "500": says_no(500),
    "503": says_no(503),
    "no JSON": web.Response(body=b"<html>"),
    "nothing": web.Response(body=b""),
    "endlessly deep": web.Response(body=b"[" * 60_000),
    "too long": web.Response(body=b'{"data": "' + b" " * (1 << 17) + b'"}'),
    "of another stream": {"stream": "other"},
    "of another role": {"role": "viewer"},
    "nobody can carry it": (409, "no-provider"),
}


@pytest.mark.parametrize("answer", NO_PLAN.values(), ids=NO_PLAN)
def test_a_session_begins_without_a_plan_where_none_can_be_had(answer):
    async def test(server, client):
        match answer:
            case dict():
                server.answers = [plan(**answer)]
            case tuple():
                server.answers = [says_no(*answer)]
            case web.Response():
                server.answers = [web.Response(body=answer.body, status=answer.status)]
            case _:
                server.answers = [answer]
        got = await client.control.begin("s", "show", Role.PUBLISHER)
        return got, [news.name for news in client.news]

    got, news = go(test, timeout_s=0.2)

    assert got is None
    assert "control.unreachable" in news


def test_a_session_begins_without_a_plan_where_nobody_listens():
    async def main():
        async with serving(Server().answer) as url:
            pass
        client = Client(url)
        try:
            return await client.control.begin("s", "show", Role.VIEWER)
        finally:
            await client.control.aclose()

    assert asyncio.run(main()) is None


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        ((401, "key", "who are you?"), ConfigError, "does not take our key: who are you?"),
        ((403, "key", f"{KEY} is unknown"), ConfigError, "does not take our key: key"),
        ((409, "fenced", "somebody publishes it"), Refused, "somebody publishes it"),
        ((429, "limit", "too\nmany\x1b[31m"), Refused, "too many [31m"),
        ((400, "bad", "x" * 999), ConfigError, "does not understand us: xxx"),
        ((404,), ConfigError, "does not understand us"),
    ],
)
def test_a_server_that_says_no_is_a_clear_error_that_names_no_key(answer, error, words):
    async def test(server, client):
        server.answers = [says_no(*answer)]
        with pytest.raises(error) as caught:
            await client.control.begin("s", "show", Role.PUBLISHER)
        client.control.finish("s", "it never began")
        return str(caught.value), await client.control.credential(access())

    text, credential = go(test)

    assert words in text
    assert "show: " in text
    assert KEY not in text
    assert len(text) < 400
    assert credential == {}


def test_a_session_that_begins_when_all_is_closed_begins_without_a_plan():
    async def test(server, client):
        await client.control.aclose()
        await client.control.aclose()
        return await client.control.begin("s", "show", Role.PUBLISHER), server.asked

    assert go(test) == (None, [])


# --- Where the key goes ---


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_nothing_follows_a_redirect(status):
    """Neither the request for a plan nor the link, and least of all the key."""

    async def main():
        moved, elsewhere = asyncio.Queue(), []

        async def other(request):
            elsewhere.append(request.path)
            return web.Response()

        async with asyncio.timeout(LIMIT_S), serving(other) as away:

            async def answer(request):
                moved.put_nowait(request.path)
                return web.Response(status=status, headers={"Location": away + request.path})

            async with serving(answer) as url:
                client = Client(url)
                try:
                    with pytest.raises(ConfigError):
                        await client.control.begin("s", "show", Role.PUBLISHER)
                    while await moved.get() != "/v1/connect":
                        pass
                    while await moved.get() != "/v1/exchange":  # after three links in vain
                        pass
                finally:
                    await client.control.aclose()
        return elsewhere

    assert asyncio.run(main()) == []


@pytest.mark.parametrize(
    ("url", "more"),
    [
        ("http://hitless.example.com", {}),
        ("ftp://hitless.example.com", {}),
        (f"https://user:{KEY}@hitless.example.com", {}),
        (f"https://hitless.example.com?key={KEY}", {}),
        ("https://hitless.example.com", {"key": f"{KEY}\n"}),
        ("https://hitless.example.com", {"client": "a\nb"}),
        ("https://hitless.example.com", {"client": "x" * 101}),
        ("https://hitless.example.com", {"timeout_s": 0.0}),
    ],
)
def test_what_cannot_be_used_is_refused_and_not_quoted(url, more):
    with pytest.raises(ConfigError) as caught:
        ControlPlane(url, **{"key": KEY, **more})

    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "more"),
    [
        ("http://127.0.0.1:1", {"key": KEY}),
        ("http://hitless.example.com", {"key": KEY, "allow_http": True}),
        ("http://hitless.example.com", {"key": None}),
        ("https://hitless.example.com/", {"key": KEY}),
    ],
)
def test_a_key_goes_in_clear_to_this_machine_or_where_it_may(url, more):
    control = ControlPlane(url, **more)

    assert KEY not in repr(control)
    assert len({control.client, ControlPlane(url, **more).client}) == 2


def test_no_secret_is_told_to_anybody(caplog):
    """Whatever goes wrong, and though the server repeats the key."""
    caplog.set_level(logging.DEBUG)

    async def test(server, client):
        await client.publishes(server)
        await server.say("problem", code="bad", message=f"{KEY} t1 is bad")
        await server.socket.send_str('{"type": "' + KEY)
        await server.drop()
        await server.greeted()
        server.answers = [says_no(403, "bad", f"never heard of {KEY}")]
        with pytest.raises(ConfigError) as caught:
            await client.control.credential(access(renew=True))
        return [str(caught.value), repr(client.control), *map(repr, client.news)]

    told = [*go(test), *(repr(vars(record)) for record in caplog.records)]

    assert any("refused a message" in text for text in told)
    for secret in (KEY, "'t1'", "view-t1", "w-t1"):
        assert not [text for text in told if secret in text]


# --- Credentials ---


def test_a_plan_serves_on_while_the_server_is_away():
    async def main():
        server = Server()
        async with serving(server.answer) as url:
            client = Client(url)
            await client.control.begin("s", "show", Role.PUBLISHER)
        try:
            return [
                await client.control.credential(access(provider, renew=renew))
                for provider in ("agora", "webrtc")
                for renew in (False, True)
            ]
        finally:
            await client.control.aclose()

    assert [one["token"] for one in asyncio.run(main())] == ["t1", "t1", "w-t1", "w-t1"]


def test_a_publisher_views_its_own_stream_with_the_token_for_that():
    async def test(server, client):
        await client.publishes(server)
        return [
            (await client.control.credential(access(provider, Role.VIEWER)))["token"]
            for provider in ("agora", "webrtc")
        ], len(server.asked)

    assert go(test) == (["view-t1", "w-t1"], 1)


def test_a_client_that_publishes_and_watches_has_a_credential_for_each():
    async def test(server, client):
        server.answers = [plan(role="viewer", token="v"), plan(token="p")]
        await client.control.begin("v", "show", Role.VIEWER)
        await client.control.begin("s", "show", Role.PUBLISHER)
        return [(await client.control.credential(access(role=role)))["token"] for role in Role]

    assert go(test) == ["p", "v"]


def test_there_is_no_credential_for_what_nobody_does_here():
    async def test(server, client):
        await client.publishes(server)
        other = await client.control.credential(access(stream="other"))
        asked = len(server.asked)
        unplanned = await client.control.credential(access("zegocloud"))
        return other, asked, unplanned

    assert go(test) == ({}, 1, {})


def test_a_rejected_credential_is_asked_for_anew_once():
    """Whether the adapter says so, or the leg that failed of it."""

    async def test(server, client):
        await client.publishes(server)
        server.answers = [plan(token="t2"), plan(token="t3")]
        tokens = [await client.control.credential(access(renew=True))]
        tokens.append(await client.control.credential(access()))
        client.control.told(leg_news("leg.failed", error="CredentialsRejected"))
        tokens += [await client.control.credential(access()) for _ in range(2)]
        bodies = [body for _, _, body in server.asked]
        return [one["token"] for one in tokens], bodies

    tokens, bodies = go(test)

    assert tokens == ["t2", "t2", "t3", "t3"]
    assert [(body.get("plan", ""), body.get("provider", "")) for body in bodies] == [
        ("", ""),
        ("signed", "agora"),
        ("signed", "agora"),
    ]


def test_a_server_that_let_a_request_time_out_is_not_asked_again_for_a_while():
    async def test(server, client):
        await client.publishes(server)
        server.answers = [hangs]
        for _ in range(3):
            assert (await client.control.credential(access(renew=True)))["token"] == "t1"
        return len(server.asked)

    assert go(test, timeout_s=0.2) == 2


def test_a_plan_that_the_server_sends_takes_the_place_of_the_one_before():
    async def test(server, client):
        await client.publishes(server)
        for stream, token in (("show", "t2"), ("other", "t9")):
            credentials = {"agora": {"token": token}}
            news = {"stream": stream, "role": "publisher", "credentials": credentials}
            await server.socket.send_json({"type": "plan", "plan": news})
        await server.say("release", epoch=1)
        await client.posted.get()
        return (await client.control.credential(access()))["token"], len(server.asked)

    assert go(test) == ("t2", 1)
