"""`Zegocloud`: RTMP at nodes that a stand-in of its server API names, and WHIP both ways."""

from __future__ import annotations

import asyncio
import json
import socket
import traceback
from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from aiohttp import web
from canned_media import canned_feed
from control_stand_in import Asked, StandIn, standing_in
from rtmp_server import RtmpServer, until
from rtmp_server import serving as rtmp_serving
from rtmp_source import Source
from whip_server import WhipServer
from whip_server import serving as whip_serving

from hitless.core.events import Role
from hitless.errors import (
    ConfigError,
    CredentialsRejected,
    HitlessError,
    MediaLost,
    NotOnAir,
    Refused,
    Retry,
    Unreachable,
)
from hitless.media.feed import Feed
from hitless.providers import zego_room, zego_token, zegocloud
from hitless.providers.base import Leg, Provider, ViewLeg
from hitless.providers.checkup import Checkable, Finding, Verdict
from hitless.providers.clock import wall_s
from hitless.providers.conformance import check_provider
from hitless.providers.credential import Access
from hitless.providers.zego_rest import signature
from hitless.providers.zego_tickets import TOKEN_S
from hitless.providers.zego_whip import bearer
from hitless.providers.zegocloud import Zegocloud


LIMIT_S = 60.0
APP = 1234567890
SECRET = "9193cc662a4c0ec135ec71fb57194b38"
USER = "user-of-a-plan"
CLOSED_S = 2.5
"""Closing takes 2 s at most, and a busy machine."""


class Console:
    """
    A stand-in of ZEGOCLOUD's server API, in the documented shapes.

    Attributes:
        nodes: Where it sends who pushes or plays; `{stream}` is replaced.
        codes: What it answers instead, by action.
        holders: Who publishes which stream in any room: (stream, user).
        hangs: Actions that are never answered.
    """

    def __init__(self) -> None:
        self.nodes: list[str] = []
        self.codes: dict[str, int] = {}
        self.holders: list[tuple[str, str]] = []
        self.hangs: set[str] = set()
        self.calls: list[tuple[str, dict[str, str]]] = []

    def named(self, action: str) -> list[dict[str, str]]:
        """Return the arguments of the calls of one action, in order."""
        return [arguments for name, arguments in self.calls if name == action]

    async def __call__(self, asked: Asked) -> web.StreamResponse:
        query = dict(asked.query)
        action = query["Action"]
        self.calls.append((action, query))
        if action in self.hangs:
            await asyncio.sleep(LIMIT_S)
        signed = signature(APP, query["SignatureNonce"], SECRET, int(query["Timestamp"]))
        code = self.codes.get(action, 0) if query["Signature"] == signed else 100000005
        body: dict[str, Any] = {"Code": code, "Message": "words", "RequestId": "1"}
        data = self._data(action, query) if code == 0 else None
        return web.json_response(body if data is None else {**body, "Data": data})

    def _data(self, action: str, query: dict[str, str]) -> Any:
        if action == "RTMPDispatchV2":
            return [node.replace("{stream}", query["StreamId"]) for node in self.nodes]
        if action == "DescribeSimpleStreamList":
            return {
                "StreamList": [
                    {"StreamId": stream, "UserId": user, "CreateTime": 1_700_000_000_000}
                    for stream, user in self.holders
                ]
            }
        if action == "DescribeUserNum":
            return {"UserCountList": []}
        return None


class Lab:
    """A console, an RTMP node, and adapters of both."""

    def __init__(self, api: StandIn, console: Console, rtmp: RtmpServer) -> None:
        self.api, self.console, self.rtmp = api, console, rtmp
        console.nodes = [rtmp.url.replace("/live/", f"/{APP}/")]
        self.source = Source()
        self.feed = self.source.feed
        self.made: list[Zegocloud] = []

    def zego(self, **settings: Any) -> Zegocloud:
        """Make an adapter of both."""
        known = {"app_id": APP, "server_secret": SECRET, "api_url": self.api.origin}
        self.made.append(Zegocloud(**{**known, **settings}))
        return self.made[-1]

    async def fails(self, provider: Zegocloud, kind: type[HitlessError]) -> Any:
        """Publish, expect an error, and return it; it tells no secret."""
        with pytest.raises(kind) as caught:
            await provider.start_stream("show", self.feed)
        assert_untold(caught.value)
        return caught.value


def run(test: Callable[[Lab], Coroutine[Any, Any, None]]) -> None:
    """Run a test with stand-ins of its own, bounded; nothing may be left of it."""

    async def main() -> None:
        mine, console = asyncio.all_tasks(), Console()
        async with (
            asyncio.timeout(LIMIT_S),
            standing_in(console) as api,
            rtmp_serving() as rtmp,
        ):
            lab = Lab(api, console, rtmp)
            try:
                await test(lab)
            finally:
                for provider in lab.made:
                    await provider.aclose()
                await lab.feed.aclose()
        left = [task for task in asyncio.all_tasks() - mine if "zego" in task.get_name()]
        assert left == []

    asyncio.run(main())


def assert_untold(exc: BaseException) -> None:
    """No secret, signature or user in a message, a repr, a cause or a traceback."""
    told = "".join(traceback.format_exception(exc)) + repr(exc) + repr(vars(exc))
    for secret in (SECRET, USER, "Signature="):
        assert secret not in told


def now() -> float:
    """Return the loop's time [s]."""
    return asyncio.get_running_loop().time()


def unused_port() -> int:
    """Return a port where nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


# --- What it accepts ---


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"app_id": 0}, "app_id"),
        ({"app_id": "12"}, "app_id"),
        ({"server_secret": "short"}, "server_secret"),
        ({"stream_name": "show"}, "stream_name"),
        ({"stream_name": "a/{stream}"}, "letters, digits"),
        ({"user": ""}, "user"),
        ({"region": "mars"}, "sha, hkg"),
        ({"ingest": "srt"}, "rtmp or whip"),
        ({"bearer": "none"}, "signed or token04"),
        ({"ingest": "whip", "bearer": "token04"}, "whip_url"),
        ({"whep_url": "ftp://a/b"}, "whep_url must begin"),
        ({"api_url": "http://api.example.com"}, "https"),
        ({"name": "My ZEGO"}, "name"),
    ],
)
def test_what_cannot_work_is_refused_by_name(settings: dict[str, Any], names: str) -> None:
    """One line that says which setting and why; never a secret."""
    with pytest.raises(ConfigError, match=names) as caught:
        Zegocloud(**{"app_id": APP, "server_secret": SECRET, **settings})
    assert_untold(caught.value)


def test_it_is_a_provider_that_can_be_examined() -> None:
    """With the optional attributes, which depend on the path; no secret in its repr."""
    rtmp = Zegocloud(app_id=APP, server_secret=SECRET)
    whip = Zegocloud(app_id=APP, server_secret=SECRET, ingest="whip")
    assert isinstance(rtmp, Provider)
    assert isinstance(rtmp, Checkable)
    assert (rtmp.name, rtmp.fault_domain) == ("zegocloud", "zegocloud")
    assert (rtmp.first_media_s, whip.first_media_s) == (10.0, 3.0)
    assert SECRET not in repr(rtmp) + repr(vars(rtmp.tickets))


def test_it_says_where_it_connects_to() -> None:
    """A node for RTMP is known only when it is asked for."""
    assert Zegocloud(app_id=APP).endpoints() == ()
    rtmp = Zegocloud(app_id=APP, server_secret=SECRET, region="fra")
    assert rtmp.endpoints() == ("https://rtc-api-fra.zego.im",)
    whip = Zegocloud(app_id=APP, server_secret=SECRET, ingest="whip")
    api, where = whip.endpoints()
    assert api == "https://rtc-api.zego.im"
    assert where == f"https://i-whip{APP}.whip.zegotech.cn/whip/v1/{APP}/stream"


# --- RTMP ---


def test_a_stream_is_pushed_to_a_node_that_is_asked_for_each_time() -> None:
    """A node is good for two hours; its address holds no credential that could end."""

    async def test(lab: Lab) -> None:
        provider = lab.zego(stream_name="tv-{stream}")
        for _ in range(2):
            leg = await provider.start_stream("show", lab.feed)
            assert isinstance(leg, Leg)
            await leg.aclose()
        assert lab.rtmp.names("publish") == ["tv-show", "tv-show"]
        asked = lab.console.named("RTMPDispatchV2")
        assert [(each["StreamId"], each["Type"]) for each in asked] == [("tv-show", "push")] * 2
        assert int(asked[1]["Sequence"]) > int(asked[0]["Sequence"])

    run(test)


def test_a_stream_is_announced_to_its_room_and_withdrawn() -> None:
    """The SDKs' clients learn of it by nothing else."""

    async def test(lab: Lab) -> None:
        leg = await lab.zego(user="camera").start_stream("show", lab.feed)
        await until(lambda: lab.console.named("AddStream"))
        await asyncio.sleep(0.1)
        assert lab.console.named("DeleteStream") == []
        await leg.aclose()
        await until(lambda: lab.console.named("DeleteStream"))
        for action in ("AddStream", "DeleteStream"):
            (asked,) = lab.console.named(action)
            assert (asked["RoomId"], asked["UserId"], asked["StreamId"]) == (
                "show",
                "camera",
                "show",
            )

    run(test)


def test_closing_the_provider_withdraws_what_is_announced() -> None:
    """Once, although the leg closes with it."""

    async def test(lab: Lab) -> None:
        provider = lab.zego()
        await provider.start_stream("show", lab.feed)
        await until(lambda: lab.console.named("AddStream"))
        await asyncio.sleep(0.1)
        await provider.aclose()
        assert len(lab.console.named("DeleteStream")) == 1
        await until(lambda: not lab.rtmp.publishers)

    run(test)


def test_a_room_that_is_not_there_yet_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A room exists while somebody is in it; the stream is on air meanwhile."""
    monkeypatch.setattr(zego_room, "AGAIN_S", 0.3)

    async def test(lab: Lab) -> None:
        lab.console.codes["AddStream"] = 104
        leg = await lab.zego().start_stream("show", lab.feed)
        await until(lambda: len(lab.console.named("AddStream")) >= 2)
        del lab.console.codes["AddStream"]
        before = len(lab.console.named("AddStream"))
        await until(lambda: len(lab.console.named("AddStream")) > before)
        after = len(lab.console.named("AddStream"))
        await asyncio.sleep(1.5)
        assert len(lab.console.named("AddStream")) == after
        await leg.aclose()

    run(test)


def test_an_announcement_ends_with_its_leg() -> None:
    """Nobody is told of a stream that is gone."""

    async def test(lab: Lab) -> None:
        lab.console.codes["AddStream"] = 104
        leg = await lab.zego().start_stream("show", lab.feed)
        await until(lambda: lab.console.named("AddStream"))
        await leg.aclose()
        count = len(lab.console.named("AddStream"))
        await asyncio.sleep(1.5)
        assert len(lab.console.named("AddStream")) == count
        assert lab.console.named("DeleteStream") == []

    run(test)


def test_a_stream_is_viewed_over_rtmp() -> None:
    """With the frames as they were sent, and no call besides the one for a node."""

    async def test(lab: Lab) -> None:
        provider = lab.zego()
        await provider.start_stream("show", lab.feed)
        view = await provider.join_stream("show")
        assert isinstance(view, ViewLeg)
        frames = []
        async with asyncio.timeout(LIMIT_S):
            async for frame in view.frames():
                frames.append(frame)
                if len(frames) == 60:
                    break
        assert all(lab.feed.is_own(frame.data) for frame in frames)
        types = [each["Type"] for each in lab.console.named("RTMPDispatchV2")]
        assert types == ["push", "pull"]

    run(test)


def test_it_keeps_the_contract_by_rtmp() -> None:
    """The public suite, against stand-ins of the server API and of a node."""

    async def test(lab: Lab) -> None:
        async def make() -> Zegocloud:
            return lab.zego()

        async def feed() -> Feed:
            return Source().feed

        report = await check_provider(make, feed=feed)
        report.require()

    run(test)


def test_many_viewers_that_wait_ask_once_in_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls are limited; each of them is told when to ask again."""
    monkeypatch.setattr(zegocloud, "ASK_S", 5.0)

    async def test(lab: Lab) -> None:
        provider = lab.zego()
        for _ in range(20):
            with pytest.raises(NotOnAir):
                await provider.join_stream("show")
        assert len(lab.console.named("RTMPDispatchV2")) == 1
        with pytest.raises(NotOnAir) as caught:
            await provider.join_stream("show")
        assert caught.value.retry_after_s == 5.0

    run(test)


@pytest.mark.parametrize(
    ("state", "kind"), [(41004, NotOnAir), (41006, NotOnAir), (0, Refused), (5000, Refused)]
)
def test_no_node_to_play_from_may_mean_that_nobody_publishes(
    state: int, kind: type[HitlessError]
) -> None:
    """Only the state of the stream tells; where that is not known, it was refused."""

    async def test(lab: Lab) -> None:
        lab.console.codes = {"RTMPDispatchV2": 1003, "DescribeRTCStreamState": state}
        with pytest.raises(kind) as caught:
            await lab.zego().join_stream("show")
        assert_untold(caught.value)

    run(test)


def test_a_node_that_is_away_is_left_for_the_next_attempt() -> None:
    """One attempt asks one node: the only retry loop is the core's."""

    async def test(lab: Lab) -> None:
        lab.console.nodes.insert(0, f"rtmp://127.0.0.1:{unused_port()}/{APP}/{{stream}}")
        provider = lab.zego()
        exc = await lab.fails(provider, Unreachable)
        assert exc.retry is Retry.SAME
        await provider.start_stream("show", lab.feed)
        assert lab.rtmp.names("publish") == ["show"]

    run(test)


@pytest.mark.parametrize("is_active", [True, False])
def test_where_only_the_kernel_speaks_the_stream_must_be_active(is_active: bool) -> None:
    """A node that answers no ping and counts no bytes proves nothing by itself."""

    async def test(lab: Lab) -> None:
        lab.rtmp.pongs = lab.rtmp.acknowledges = False
        lab.console.codes = {} if is_active else {"DescribeRTCStreamState": 41004}
        provider = lab.zego(first_media_s=6.0)
        if is_active:
            await provider.start_stream("show", lab.feed)
        else:
            exc = await lab.fails(provider, MediaLost)
            assert "knows no such stream" in str(exc)
            await until(lambda: not lab.rtmp.publishers)
        assert lab.console.named("DescribeRTCStreamState")

    run(test)


@pytest.mark.parametrize(
    ("code", "kind", "says"),
    [
        (100000017, Refused, "support enables it"),
        (100000004, CredentialsRejected, "clock"),
        (1010, Refused, "too many calls"),
        (1002, Refused, "no node to publish to"),
    ],
)
def test_a_code_in_an_answer_of_200_is_an_error_with_advice(
    code: int, kind: type[HitlessError], says: str
) -> None:
    """Nothing was pushed, and nobody is put out for it."""

    async def test(lab: Lab) -> None:
        lab.console.codes["RTMPDispatchV2"] = code
        exc = await lab.fails(lab.zego(), kind)
        assert says in str(exc)
        assert exc.retry is Retry.NEXT
        assert lab.rtmp.seen == []
        await asyncio.sleep(0.2)
        assert [name for name, _ in lab.console.calls] == ["RTMPDispatchV2"]

    run(test)


def test_without_a_secret_it_says_what_to_give() -> None:
    """A plan brings no way to call the server API."""

    async def test(lab: Lab) -> None:
        provider = lab.zego(server_secret=None)
        exc = await lab.fails(provider, ConfigError)
        assert "server_secret" in str(exc)
        with pytest.raises(ConfigError, match="whep_url"):
            await provider.join_stream("show")

    run(test)


# --- Exactly one publisher ---


def taken(lab: Lab) -> None:
    """Make the node refuse, as if another had the stream."""
    lab.rtmp.status["publish"] = ("error", "NetStream.Publish.BadName", "already publishing")


def test_who_holds_our_stream_is_kicked_out_of_its_room() -> None:
    """In the background: that attempt has failed. Others in the room stay."""

    async def test(lab: Lab) -> None:
        taken(lab)
        lab.console.holders = [("show", "zombie"), ("other", "guest")]
        exc = await lab.fails(lab.zego(), Refused)
        assert exc.retry is Retry.NEXT
        await until(lambda: lab.console.named("KickoutUser"))
        (asked,) = lab.console.named("KickoutUser")
        assert (asked["RoomId"], asked["UserId[]"]) == ("show", "zombie")
        assert lab.console.named("ForbidRTCStream") == []

    run(test)


@pytest.mark.parametrize("holders", [[], [("show", "publisher")]])
def test_one_that_is_in_no_room_is_stopped_by_forbidding_the_stream(
    holders: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a moment: then the stream may be published again."""
    monkeypatch.setattr(zego_room, "FORBIDDEN_S", 0.1)

    async def test(lab: Lab) -> None:
        taken(lab)
        lab.console.holders = holders
        await lab.fails(lab.zego(), Refused)
        await until(lambda: lab.console.named("ResumeRTCStream"))
        names = [name for name, _ in lab.console.calls if name.endswith("RTCStream")]
        assert names == ["ForbidRTCStream", "ResumeRTCStream"]
        assert lab.console.named("KickoutUser") == []

    run(test)


def test_a_stream_is_never_left_forbidden_by_closing() -> None:
    """It is allowed again on the way out."""

    async def test(lab: Lab) -> None:
        taken(lab)
        provider = lab.zego()
        await lab.fails(provider, Refused)
        await until(lambda: lab.console.named("ForbidRTCStream"))
        await provider.aclose()
        assert len(lab.console.named("ResumeRTCStream")) == 1

    run(test)


@pytest.mark.parametrize("how", ["fenced", "switched off"])
def test_nobody_is_put_out_where_names_carry_the_epoch(how: str) -> None:
    """Nor where that is switched off."""

    async def test(lab: Lab) -> None:
        async def plan(access: Access) -> dict[str, Any]:
            return {
                "app_id": APP,
                "room_id": "show-4",
                "stream_id": "show-4",
                "user_id": USER,
                "token": "t",
                "epoch": 4,
            }

        taken(lab)
        settings = {"credentials": plan} if how == "fenced" else {"removes_older": False}
        await lab.fails(lab.zego(**settings), Refused)
        await asyncio.sleep(0.3)
        assert {name for name, _ in lab.console.calls} == {"RTMPDispatchV2"}
        stream = "show-4" if how == "fenced" else "show"
        assert lab.rtmp.names("publish") == [stream]

    run(test)


def test_a_name_that_is_denied_is_no_matter_of_credentials() -> None:
    """A node's address holds none: a new one would change nothing."""

    async def test(lab: Lab) -> None:
        lab.rtmp.closes_on = "publish"
        exc = await lab.fails(lab.zego(), Refused)
        assert exc.retry is Retry.NEXT
        assert "may have its id" in str(exc)

    run(test)


# --- Leaving ---


def test_an_api_that_hangs_does_not_hold_back_closing() -> None:
    """What is not withdrawn goes with its room."""

    async def test(lab: Lab) -> None:
        provider = lab.zego()
        await provider.start_stream("show", lab.feed)
        await until(lambda: lab.console.named("AddStream"))
        await asyncio.sleep(0.1)
        lab.console.hangs = {"DeleteStream", "AddStream"}
        begun = now()
        await provider.aclose()
        await provider.aclose()
        assert now() - begun < CLOSED_S

    run(test)


# --- WHIP ---


def at_whip(test: Callable[[WhipServer], Coroutine[Any, Any, None]]) -> None:
    """Run a test with a WHIP server, bounded."""

    async def main() -> None:
        async with asyncio.timeout(LIMIT_S), whip_serving() as server:
            await test(server)

    asyncio.run(main())


def guard(server: WhipServer) -> list[tuple[str, str]]:
    """Make a server let in who shows a token04 for that stream and role; note who came."""
    came: list[tuple[str, str]] = []

    async def intercept(request: web.Request) -> web.StreamResponse | None:
        if request.method != "POST":
            return None
        verb, stream = request.path.split("/")[1:3]
        text = request.headers.get("Authorization", "").removeprefix("Bearer ")
        try:
            token = zego_token.read(text, SECRET)
        except zego_token.ZegoTokenRefused:
            return web.Response(status=401)
        is_allowed = (
            token.may_publish(stream, stream, wall_s())
            if verb == "whip"
            else token.may_login(stream, wall_s())
        )
        if token.app_id != APP or not is_allowed:
            return web.Response(status=403)
        came.append((verb, token.user_id))
        return None

    server.intercept = intercept
    return came


def whip(server: WhipServer, **settings: Any) -> Zegocloud:
    """Make an adapter of a WHIP server that takes a token04."""
    known = {
        "app_id": APP,
        "server_secret": SECRET,
        "ingest": "whip",
        "bearer": "token04",
        "whip_url": server.url + "/whip/{stream}",
        "whep_url": server.url + "/whep/{stream}",
        "api_url": server.url,
    }
    return Zegocloud(**{**known, **settings})


def without_api(server: WhipServer, **settings: Any) -> Zegocloud:
    """Make one that calls no server API: a plan brings its tokens."""

    async def plan(access: Access) -> dict[str, Any]:
        allowed = zego_token.privileges_of(access.role, room_id="show-7", stream_id="show-7")
        user = f"{access.role.value}-{USER}"
        token = zego_token.mint(
            APP,
            user,
            SECRET,
            now_s=wall_s(),
            ttl_s=600,
            payload=zego_token.payload_of(allowed),
        )
        named = {"room_id": "show-7", "stream_id": "show-7", "user_id": user}
        return {"app_id": APP, **named, "token": token, "epoch": 7}

    return whip(server, **{"server_secret": None, "credentials": plan, **settings})


def test_it_keeps_the_contract_by_whip() -> None:
    """The public suite, against a stand-in that verifies every token."""

    async def test(server: WhipServer) -> None:
        came = guard(server)

        async def make() -> Zegocloud:
            return whip(server)

        async def feed() -> Feed:
            return canned_feed()[0]

        report = await check_provider(make, feed=feed)
        report.require()
        assert {verb for verb, _ in came} == {"whip", "whep"}

    at_whip(test)


def test_a_plan_says_stream_and_token() -> None:
    """It is published under the plan's name, which carries the epoch."""

    async def test(server: WhipServer) -> None:
        came = guard(server)
        provider, (feed, _) = without_api(server), canned_feed()
        await provider.start_stream("show", feed)
        view = await provider.join_stream("show")
        frame = await anext(view.frames())
        assert feed.is_own(frame.data)
        assert set(server.feeds) == {"show-7"}
        assert set(came) == {("whip", f"publisher-{USER}"), ("whep", f"viewer-{USER}")}
        await provider.aclose()
        await feed.aclose()

    at_whip(test)


def test_a_token_of_another_secret_is_rejected() -> None:
    """Once more with a new one, then the next provider; it is not told."""

    async def test(server: WhipServer) -> None:
        guard(server)
        provider = whip(server, server_secret="x" * 32)
        feed, _ = canned_feed()
        with pytest.raises(CredentialsRejected) as caught:
            await provider.start_stream("show", feed)
        assert_untold(caught.value)
        assert "x" * 32 not in str(caught.value)
        await provider.aclose()
        await feed.aclose()

    at_whip(test)


def test_the_documented_address_and_bearer_belong_to_one_request() -> None:
    """Unconfirmed at ZEGOCLOUD: this is what its page describes, and no more."""

    async def test(server: WhipServer) -> None:
        async def shorten(request: web.Request) -> web.StreamResponse | None:
            if request.method == "POST" and request.path.startswith("/whip/v1/"):
                body = await request.text()
                return await server.publish(request.path.split("/")[4], body)
            return None

        server.intercept = shorten
        provider = whip(server, bearer="signed", whip_url=server.url, whep_url=None)
        feed, _ = canned_feed()
        leg = await provider.start_stream("show", feed)
        sent = server.requests("POST")[0]
        parts = urlsplit(sent.path)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        assert parts.path == f"/whip/v1/{APP}/show"
        assert (query["userId"], query["zgVer"]) == ("publisher", "v1")
        assert abs(int(query["zgExpired"]) - wall_s() - TOKEN_S) < LIMIT_S
        expected = bearer(
            app_id=APP,
            stream="show",
            expires_s=int(query["zgExpired"]),
            nonce=query["zgNonce"],
            key=SECRET,
        )
        assert sent.headers["Authorization"] == f"Bearer {expected}"
        await leg.aclose()
        again = await provider.start_stream("show", feed)
        assert server.requests("POST")[-1].path != sent.path
        assert server.requests("DELETE")[0].path.startswith("/session/")
        await again.aclose()
        await provider.aclose()
        await feed.aclose()

    at_whip(test)


def test_publishing_by_the_documented_whip_needs_the_secret() -> None:
    """A plan's token04 is not what that endpoint takes."""

    async def test(server: WhipServer) -> None:
        provider = without_api(server, bearer="signed", whip_url=server.url)
        feed, _ = canned_feed()
        with pytest.raises(CredentialsRejected, match="server_secret"):
            await provider.start_stream("show", feed)
        assert server.seen == []
        await provider.aclose()
        await feed.aclose()

    at_whip(test)


def test_a_plan_for_another_project_is_no_plan() -> None:
    """Its stream would be somewhere else."""

    async def plan(access: Access) -> dict[str, Any]:
        return {"app_id": APP + 1, "stream_id": "show", "token": "t"}

    async def test(server: WhipServer) -> None:
        provider = whip(server, credentials=plan)
        feed, _ = canned_feed()
        with pytest.raises(CredentialsRejected, match="App ID") as caught:
            await provider.start_stream("show", feed)
        assert caught.value.retry is Retry.NEXT
        assert server.seen == []
        await provider.aclose()
        await feed.aclose()

    at_whip(test)


# --- For `hitless doctor` ---


def examined(codes: dict[str, int], **settings: Any) -> list[Finding]:
    """Return what a checkup finds."""
    found: list[Finding] = []

    async def test(lab: Lab) -> None:
        lab.console.codes = codes
        found.extend([one async for one in lab.zego(**settings).checkup()])

    run(test)
    assert SECRET not in json.dumps([[one.says, one.fix] for one in found])
    return found


def test_a_checkup_finds_all_good_but_the_trap() -> None:
    """The trap cannot be seen from outside, so it is told always."""
    found = examined({})
    assert [(one.step, one.verdict) for one in found] == [
        ("control API", Verdict.GOOD),
        ("control API", Verdict.GOOD),
        ("credential", Verdict.GOOD),
        ("trap", Verdict.WARNING),
    ]
    assert "privilege" in found[-1].says + found[-1].fix


@pytest.mark.parametrize(
    ("codes", "fix"),
    [
        ({"DescribeUserNum": 100000005}, "server_secret"),
        ({"DescribeUserNum": 100000004}, "clock"),
        ({"DescribeUserNum": 100000015}, "try again"),
        ({"RTMPDispatchV2": 100000017}, "enable RTMP"),
    ],
)
def test_a_checkup_says_where_to_fix_it(codes: dict[str, int], fix: str) -> None:
    """At ZEGOCLOUD's, or here."""
    bad = [one for one in examined(codes) if one.verdict is Verdict.BAD]
    assert len(bad) == 1
    assert fix in bad[0].fix


async def _wrong_secret() -> str:
    return "short"


def test_a_checkup_without_a_secret_or_with_a_wrong_one_says_so() -> None:
    """One that is fetched can be looked at only now."""
    without = examined({}, server_secret=None)
    assert [one.verdict for one in without[:2]] == [Verdict.LEFT_OUT, Verdict.LEFT_OUT]
    wrong = examined({}, server_secret=_wrong_secret)
    bad = [one.step for one in wrong if one.verdict is Verdict.BAD]
    assert bad == ["control API", "credential"]


def test_roles_that_are_asked_for_reach_the_plan_as_they_are() -> None:
    """A publisher's own view is a viewer's access."""

    async def test(server: WhipServer) -> None:
        guard(server)
        asked: list[tuple[str, Role]] = []
        inner = without_api(server)
        known = inner.tickets._credentials
        assert known is not None

        async def plan(access: Access) -> dict[str, Any]:
            asked.append((access.stream, access.role))
            return dict(await known(access))

        provider = without_api(server, credentials=plan)
        feed, _ = canned_feed()
        await provider.start_stream("show", feed)
        assert asked == [("show", Role.PUBLISHER), ("show", Role.VIEWER)]
        await provider.aclose()
        await feed.aclose()

    at_whip(test)
