"""WHIP and WHEP over HTTP: obligations of a client, and what real servers do instead."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web
from canned_media import canned_feed
from whip_calls import always, failing, publish, run, whip
from whip_server import WhipServer, serving

from hitless.core.policy import SelfView
from hitless.errors import (
    ContractBroken,
    CredentialsRejected,
    MediaLost,
    Retry,
    Unreachable,
)
from hitless.media.frame import Kind


def test_offers_are_posted_as_sdp_and_sessions_deleted() -> None:
    """POST with type and Accept, DELETE without If-Match, no OPTIONS, no GET."""

    async def test(server: WhipServer) -> None:
        await publish(server, self_view=SelfView.OFF)
        post = server.requests("POST")[0]
        assert post.path == "/whip/show"
        assert post.headers["Content-Type"] == "application/sdp"
        assert "application/sdp" in post.headers["Accept"]
        assert "a=sendonly" in post.body
        assert "a=rtcp-mux-only" in post.body
        assert "a=setup:actpass" in post.body
        assert "a=end-of-candidates" in post.body
        delete = server.requests("DELETE")[0]
        assert delete.path == "/session/1"
        assert "If-Match" not in delete.headers
        assert {each.method for each in server.seen} == {"POST", "DELETE"}
        assert server.sessions == {}

    run(test)


@pytest.mark.parametrize(
    ("location", "deleted"),
    [
        (lambda path: path, "/session/1"),
        (lambda path: path.lstrip("/"), "/whip/session/1"),
        (lambda path: "../session/1?secret=a%2Fb", "/session/1?secret=a%2Fb"),
        (lambda path: "?action=delete&session=1", "/whip/show?action=delete&session=1"),
    ],
)
def test_a_relative_location_is_resolved(location: Any, deleted: str) -> None:
    """With and without a slash, with a query string, against the POST's URL."""

    async def test(server: WhipServer) -> None:
        server.location = location
        await publish(server, self_view=SelfView.OFF)
        assert server.requests("DELETE")[0].path == deleted

    run(test)


@pytest.mark.parametrize("status", [307, 308])
def test_a_redirect_keeps_method_and_body(status: int) -> None:
    """And Location counts from where it led to."""

    async def test(server: WhipServer) -> None:
        async def intercept(request: web.Request) -> web.StreamResponse | None:
            if request.path == "/whip/show":
                return web.Response(status=status, headers={"Location": "/far/away/show"})
            if request.path == "/far/away/show":
                return await server.publish("show", await request.text())
            return None

        server.intercept = intercept
        server.location = lambda path: "session/1"
        await publish(server, self_view=SelfView.OFF)
        first, second = server.requests("POST")
        assert first.body == second.body
        assert server.requests("DELETE")[0].path == "/far/away/session/1"

    run(test)


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304])
def test_other_redirects_break_the_contract(status: int) -> None:
    """They would turn a POST into a GET."""

    async def test(server: WhipServer) -> None:
        server.intercept = always(status, Location="/elsewhere")
        assert isinstance(await failing(whip(server)), ContractBroken)
        assert len(server.seen) == 1

    run(test)


def test_redirects_do_not_go_on_for_ever() -> None:
    """Five are followed."""

    async def test(server: WhipServer) -> None:
        server.intercept = always(307, Location="/whip/show")
        assert isinstance(await failing(whip(server)), ContractBroken)
        assert len(server.seen) == 6

    run(test)


@pytest.mark.parametrize("location", ["ftp://x/y", "http://example.com/plain", "http://[", ""])
def test_a_redirect_to_nowhere_breaks_the_contract(location: str) -> None:
    """Nor does one leave loopback over plain http."""

    async def test(server: WhipServer) -> None:
        server.intercept = always(307, Location=location)
        assert isinstance(await failing(whip(server)), ContractBroken)

    run(test)


def test_the_token_goes_to_the_configured_origin_only() -> None:
    """Never along a redirect or a Location to another one."""

    async def test(server: WhipServer) -> None:
        async with serving() as other:

            async def intercept(request: web.Request) -> web.StreamResponse:
                return web.Response(status=307, headers={"Location": other.url + "/whip/show"})

            server.intercept = intercept
            await publish(server, token="hush", self_view=SelfView.OFF)
            assert server.seen[0].headers["Authorization"] == "Bearer hush"
            assert len(other.seen) == 2
            assert not any("Authorization" in each.headers for each in other.seen)

    run(test)


def test_a_location_on_another_host_gets_no_token() -> None:
    """The session is still ended there."""

    async def test(server: WhipServer) -> None:
        async with serving() as other:
            server.location = lambda path: other.url + path
            await publish(server, token="hush", self_view=SelfView.OFF)
            assert server.seen[0].headers["Authorization"] == "Bearer hush"
            assert [each.method for each in other.seen] == ["DELETE"]
            assert "Authorization" not in other.seen[0].headers

    run(test)


def test_every_request_carries_the_token_and_none_if_there_is_none() -> None:
    """POST and DELETE."""

    async def test(server: WhipServer) -> None:
        await publish(server, token="hush", self_view=SelfView.OFF)
        assert all(each.headers["Authorization"] == "Bearer hush" for each in server.seen)
        server.seen.clear()
        await publish(server, self_view=SelfView.OFF)
        assert not any("Authorization" in each.headers for each in server.seen)

    run(test)


def test_a_rejected_token_is_renewed_once() -> None:
    """SAME with a new one, then NEXT; a success makes it trusted again."""

    async def test(server: WhipServer) -> None:
        tokens: list[str] = []

        async def token() -> str:
            tokens.append(f"t{len(tokens)}")
            return tokens[-1]

        good: set[str] = set()

        async def intercept(request: web.Request) -> web.StreamResponse | None:
            if request.headers["Authorization"] in good or request.method == "DELETE":
                return None
            return web.Response(status=401)

        server.intercept = intercept
        provider, (feed, _) = (
            whip(server, token=token, self_view=SelfView.OFF),
            canned_feed(Kind.AUDIO),
        )
        advice = []
        for _ in range(2):
            with pytest.raises(CredentialsRejected) as caught:
                await provider.start_stream("show", feed)
            advice.append(caught.value.retry)
        assert advice == [Retry.SAME, Retry.NEXT]
        good.add("Bearer t2")
        await (await provider.start_stream("show", feed)).aclose()
        await (await provider.start_stream("show", feed)).aclose()
        assert tokens == ["t0", "t1", "t2"]
        good.clear()
        with pytest.raises(CredentialsRejected) as caught:
            await provider.start_stream("show", feed)
        assert caught.value.retry is Retry.SAME
        await provider.aclose()
        await feed.aclose()

    run(test)


def test_a_token_function_that_fails_tells_no_secret() -> None:
    """Only the type of its error."""

    async def test(server: WhipServer) -> None:
        async def token() -> str:
            raise RuntimeError("the secret is 42")

        exc = await failing(whip(server, token=token))
        assert isinstance(exc, CredentialsRejected)
        assert "42" not in str(exc)
        assert "RuntimeError" in str(exc)
        assert server.seen == []

    run(test)


def test_errors_quote_little_and_never_the_token() -> None:
    """80 printable characters, unless the server repeats our credential."""

    async def test(server: WhipServer) -> None:
        server.intercept = always(500, "over\n\x1b[31m capacity " + "x" * 500)
        exc = await failing(whip(server, token="hush"))
        assert "over" in str(exc)
        assert str(exc).isprintable()
        assert len(str(exc)) < 160
        server.intercept = always(500, "bad token hush")
        assert "hush" not in str(await failing(whip(server, token="hush")))

    run(test)


@pytest.mark.parametrize("how", ["cancelled", "too late"])
def test_an_answer_that_nobody_waits_for_is_deleted(how: str) -> None:
    """A session that was created after the caller left must not stay."""

    async def test(server: WhipServer) -> None:
        arrived = asyncio.Event()

        async def intercept(request: web.Request) -> web.StreamResponse | None:
            if request.method == "POST":
                arrived.set()
                await asyncio.sleep(0.3)
                return web.Response(
                    status=201,
                    text="v=0\r\n",
                    content_type="application/sdp",
                    headers={"Location": "/session/7"},
                )
            return web.Response()

        server.intercept = intercept
        provider = whip(server, first_media_s=3.0 if how == "cancelled" else 0.1)
        joining = asyncio.create_task(provider.join_stream("show"))
        await arrived.wait()
        if how == "cancelled":
            joining.cancel()
            with pytest.raises(asyncio.CancelledError):
                await joining
        else:
            with pytest.raises(Unreachable):
                await joining
        assert server.requests("DELETE") == []
        await asyncio.sleep(0.4)
        assert [each.path for each in server.requests("DELETE")] == ["/session/7"]
        await provider.aclose()

    run(test)


def test_closing_the_provider_waits_briefly_for_late_answers() -> None:
    """And then leaves no task behind."""

    async def test(server: WhipServer) -> None:
        mine = asyncio.all_tasks()
        arrived = asyncio.Event()

        async def intercept(request: web.Request) -> web.StreamResponse | None:
            arrived.set()
            await asyncio.sleep(60)
            return None

        server.intercept = intercept
        provider = whip(server)
        joining = asyncio.create_task(provider.join_stream("show"))
        await arrived.wait()
        joining.cancel()
        with pytest.raises(asyncio.CancelledError):
            await joining
        begun = asyncio.get_running_loop().time()
        await provider.aclose()
        await provider.aclose()
        assert asyncio.get_running_loop().time() - begun < 1.5
        left = {task for task in asyncio.all_tasks() - mine if "agora" in task.get_name()}
        assert left == set()

    run(test)


def test_a_delete_that_hangs_is_left_after_a_second() -> None:
    """And one that fails is no error."""

    async def test(server: WhipServer) -> None:
        async def intercept(request: web.Request) -> web.StreamResponse | None:
            if request.method == "DELETE":
                await asyncio.sleep(30)
            return None

        server.intercept = intercept
        provider, (feed, _) = whip(server, self_view=SelfView.OFF), canned_feed(Kind.AUDIO)
        leg = await provider.start_stream("show", feed)
        begun = asyncio.get_running_loop().time()
        await leg.aclose()
        await leg.aclose()
        assert asyncio.get_running_loop().time() - begun < 1.6
        await provider.aclose()
        await feed.aclose()

    run(test)


@pytest.mark.parametrize("status", [406, 201])
@pytest.mark.parametrize("wants_etag", [False, True])
def test_a_counter_offer_is_answered(status: int, wants_etag: bool) -> None:
    """WHEP 406 with an offer, or an old server's 201: our answer goes there by PATCH."""

    async def test(server: WhipServer) -> None:
        provider, (feed, _) = whip(server), canned_feed()
        leg = await provider.start_stream("show", feed)
        offered: list[Any] = []

        async def intercept(request: web.Request) -> web.StreamResponse | None:
            if request.method == "POST":
                peer = server.viewer_peer("show", [Kind.AUDIO, Kind.VIDEO])
                offer = await peer.offer()
                offered.append(peer)
                headers = {"Location": server.register(peer), "ETag": '"e1"'}
                return web.Response(
                    status=status, text=offer, content_type="application/sdp", headers=headers
                )
            if request.method == "PATCH":
                if wants_etag and request.headers.get("If-Match") != '"e1"':
                    return web.Response(status=428)
                peer = offered[-1]
                await peer.accept(await request.text())
                server.tasks.append(asyncio.create_task(server.connect(peer)))
                return web.Response(status=204)
            return None

        server.intercept = intercept
        view = await provider.join_stream("show")
        async with asyncio.timeout(3):
            async for frame in view.frames():
                if frame.kind is Kind.VIDEO:
                    assert frame.keyframe
                    break
        patches = server.requests("PATCH")
        assert len(patches) == 1 + wants_etag
        assert patches[0].headers["Content-Type"] == "application/sdp"
        assert "a=recvonly" in patches[0].body
        await view.aclose()
        await leg.aclose()
        await provider.aclose()
        await feed.aclose()

    run(test)


def test_a_publisher_accepts_no_offer() -> None:
    """WHIP has no counter-offer."""

    async def test(server: WhipServer) -> None:
        server.intercept = always(
            201,
            "v=0\r\na=setup:actpass\r\n",
            Location="/session/1",
            Content_Type="application/sdp",
        )
        assert isinstance(await failing(whip(server)), ContractBroken)

    run(test)


@pytest.mark.parametrize("etag", [None, "*", "unquoted", '"quoted"'])
def test_entity_tags_of_any_kind_are_tolerated(etag: str | None) -> None:
    """We gather fully and trickle nothing."""

    async def test(server: WhipServer) -> None:
        server.etag = etag
        await publish(server, self_view=SelfView.OFF)
        assert server.requests("PATCH") == []

    run(test)


def test_relays_that_come_with_the_answer_serve_the_next_attempt() -> None:
    """They come too late for this one, so the same provider is asked again."""

    async def test(server: WhipServer) -> None:
        async def intercept(request: web.Request) -> web.StreamResponse | None:
            if request.method != "POST":
                return None
            answer = await server.publish("show", await request.text())
            await server.sessions["/session/" + str(server.count)].aclose()
            answer.headers["Link"] = (
                '<turn:turn.example.net>; rel="ice-server"; username="u"; credential="c"'
            )
            return answer

        server.intercept = intercept
        provider, (feed, _) = whip(server, first_media_s=0.4), canned_feed(Kind.AUDIO)
        advice = []
        for _ in range(2):
            with pytest.raises(MediaLost) as caught:
                await provider.start_stream("show", feed)
            advice.append(caught.value.retry)
        assert advice == [Retry.SAME, Retry.NEXT]
        assert [each.urls for each in provider._learnt] == ["turn:turn.example.net"]
        settings = provider._settings("publish", provider._url.with_host("example.com"), None)  # type: ignore[arg-type]
        assert [each.urls for each in settings["ice_servers"]] == ["turn:turn.example.net"]
        await provider.aclose()
        await feed.aclose()

    run(test)


def test_the_loss_of_the_signalling_connection_means_nothing() -> None:
    """Media flows elsewhere."""

    async def test(server: WhipServer) -> None:
        provider, (feed, _) = whip(server), canned_feed()
        leg = await provider.start_stream("show", feed)
        view = await provider.join_stream("show")
        assert provider._signalling_made is not None
        await provider._signalling_made._connections.http().close()
        await asyncio.sleep(0.4)
        now = asyncio.get_running_loop().time()
        assert leg.liveness.quiet(now) is None
        assert view.liveness.quiet(now) is None
        await view.aclose()
        await leg.aclose()
        await provider.aclose()
        await feed.aclose()

    run(test)
