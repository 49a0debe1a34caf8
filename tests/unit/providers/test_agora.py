"""`Agora`: pushing with keys from a stand-in of its REST API, and WHIP with real tokens."""

from __future__ import annotations

import asyncio
import json
import socket
import traceback
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from aiohttp import web
from canned_media import canned_feed
from control_stand_in import Asked, StandIn, standing_in
from rtmp_server import RtmpServer, until
from rtmp_server import serving as rtmp_serving
from rtmp_source import Source
from whip_server import WhipServer
from whip_server import serving as whip_serving

from hitless.client.renewal import renew
from hitless.core.events import LegExpiring, OpenLeg, Role
from hitless.errors import (
    ConfigError,
    CredentialsRejected,
    HitlessError,
    MediaLost,
    Refused,
    Retry,
    Unreachable,
)
from hitless.media.feed import Feed
from hitless.providers import agora_gateway, agora_token
from hitless.providers.agora import Agora
from hitless.providers.agora_tickets import TOKEN_S
from hitless.providers.base import Expiring, Leg, Provider
from hitless.providers.checkup import Checkable, Finding, Verdict
from hitless.providers.clock import wall_s
from hitless.providers.conformance import check_provider
from hitless.providers.credential import Access


LIMIT_S = 60.0
APP = "970CA35de60c44645bbae8a215061b33"
OTHER_APP = "00000000000000000000000000000000"
CERTIFICATE = "5CFd2fd1755d40ecb72977518be15d3b"
CUSTOMER = "customer-of-ours"
SECRET = "s3cr3t-of-the-customer"
KEY = "key-made-in-the-console"
SECRETS = (CERTIFICATE, SECRET, KEY, "made-key")
INGRESS = f"/v1/projects/{APP}/rtls/ingress/"
CLOSED_S = 2.5
"""Closing takes 2 s at most, and a busy machine."""


class Console:
    """
    A stand-in of Agora's REST API, in the documented shapes.

    Attributes:
        hosts: Uids that publish in any channel.
        online: Uids that are pushed now.
        status: What it answers instead, by what is asked for.
        hangs: What is never answered.
    """

    def __init__(self) -> None:
        self.hosts: list[int] = []
        self.online: list[str] = []
        self.status: dict[str, int] = {}
        self.hangs: set[str] = set()
        self.calls: list[tuple[str, str, Any]] = []

    def named(self, name: str) -> list[tuple[str, str, Any]]:
        """Return the calls of one kind, in order."""
        return [call for call in self.calls if call[0] == name]

    async def __call__(self, asked: Asked) -> web.StreamResponse:
        name = self._name(asked)
        self.calls.append((name, asked.path, asked.body))
        if name in self.hangs:
            await asyncio.sleep(LIMIT_S)
        if name in self.status:
            return web.json_response({"message": "no"}, status=self.status[name])
        return web.json_response({"status": "success", **self._said(name)})

    def _name(self, asked: Asked) -> str:
        what = asked.path.split(INGRESS)[-1] if INGRESS in asked.path else asked.path
        kind = (
            what.split("/")[0]
            or {"channel": "channels", "kicking-rule": "ban"}[what.split("/")[3]]
        )
        if what.endswith("hosts_only"):
            kind = "hosts"
        return f"{asked.method} {kind}"

    def _said(self, name: str) -> dict[str, Any]:
        online = [
            {"sid": f"sid-{uid}", "channel": "show", "uid": uid, "bitrate": 1.0}
            for uid in self.online
        ]
        return {
            "GET channels": {"data": {"channels": [], "total_size": 3}},
            "GET hosts": {"data": {"channel_exist": True, "mode": 2, "broadcasters": self.hosts}},
            "POST ban": {"id": 7},
            "POST streamkeys": {"data": {"streamKey": f"made-key-{len(self.named(name))}"}},
            "GET online-streams": {"data": online},
        }.get(name, {})


class Lab:
    """A console, an RTMP server, and adapters of both."""

    def __init__(self, api: StandIn, console: Console, rtmp: RtmpServer) -> None:
        self.api, self.console, self.rtmp = api, console, rtmp
        self.source = Source()
        self.feed = self.source.feed
        self.made: list[Agora] = []

    def agora(self, **settings: Any) -> Agora:
        """Make an adapter of both, with a REST credential unless told otherwise."""
        known = {
            "app_id": APP,
            "customer_id": CUSTOMER,
            "customer_secret": SECRET,
            "region": "eu",
            "api_url": self.api.origin,
            "ingest_hosts": (f"127.0.0.1:{self.rtmp.port}",),
        }
        self.made.append(Agora(**{**known, **settings}))
        return self.made[-1]

    def with_key(self, **settings: Any) -> Agora:
        """Make an adapter without a REST credential."""
        given = {"customer_id": None, "customer_secret": None, "stream_key": KEY}
        return self.agora(**{**given, **settings})

    async def fails(self, provider: Agora, kind: type[HitlessError]) -> Any:
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
        assert [task for task in asyncio.all_tasks() - mine if "agora" in task.get_name()] == []

    asyncio.run(main())


def assert_untold(exc: BaseException) -> None:
    """No secret in a message, a repr, a cause or a traceback."""
    told = "".join(traceback.format_exception(exc)) + repr(exc) + repr(vars(exc))
    for secret in SECRETS:
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
        ({"app_id": "mine"}, "app_id"),
        ({"certificate": SECRET}, "certificate"),
        ({"customer_id": CUSTOMER}, "customer_secret"),
        ({"region": "mars"}, "na, eu, ap, cn"),
        ({"ingest": "srt"}, "rtmp or whip"),
        ({"ingest": "whip"}, "whip_url"),
        ({"ingest": "whip", "whip_url": "ftp://a/b"}, "whip_url must begin"),
        ({"uid": 0}, "uid"),
        ({"uid": 70_000}, "uid"),
        ({"channel": "show"}, "channel"),
        ({"channel": "a/{stream}"}, "channel"),
        ({"key_s": 1.0}, "key_s"),
        ({"ingest_hosts": ("rtmp://a",)}, "ingest_hosts"),
        ({"api_url": "http://api.example.com"}, "https"),
        ({"name": "My Agora"}, "name"),
    ],
)
def test_what_cannot_work_is_refused_by_name(settings: dict[str, Any], names: str) -> None:
    """One line that says which setting and why; never a secret."""
    whole = {"app_id": APP, "customer_secret": None, **settings}
    if "api_url" in settings:
        whole |= {"customer_id": CUSTOMER, "customer_secret": SECRET}
    with pytest.raises(ConfigError, match=names) as caught:
        Agora(**whole)
    assert_untold(caught.value)


def test_it_is_a_provider_that_can_be_examined() -> None:
    """With the optional attributes, which depend on the path; no secret in its repr."""
    rtmp = Agora(app_id=APP, certificate=CERTIFICATE)
    whip = Agora(app_id=APP, ingest="whip", whip_url="https://a.example/whip/{stream}")
    assert isinstance(rtmp, Provider)
    assert isinstance(rtmp, Checkable)
    assert (rtmp.name, rtmp.fault_domain) == ("agora", "agora")
    assert (rtmp.first_media_s, whip.first_media_s) == (10.0, 3.0)
    assert CERTIFICATE not in repr(rtmp) + repr(vars(rtmp.tickets))


@pytest.mark.parametrize(
    ("region", "host"),
    [("na", "rtls-ingress-prod-na.agoramdn.com"), ("cn", "rtls-ingress-prod-cn.agoramdn.com")],
)
def test_it_connects_to_the_hosts_of_its_region(region: str, host: str) -> None:
    """As the doctor is told; the REST host only where there is a credential for it."""
    bare = Agora(app_id=APP, region=region, stream_key=KEY)
    assert bare.endpoints() == (f"rtmp://{host}",)
    full = Agora(
        app_id=APP,
        region=region,
        customer_id=CUSTOMER,
        customer_secret=SECRET,
        whep_url="https://a.example/whep/{stream}",
    )
    api = "https://api.sd-rtn.com" if region == "cn" else "https://api.agora.io"
    assert full.endpoints() == (api, f"rtmp://{host}", "https://a.example/whep/stream")


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


# --- Exactly one publisher ---


def test_older_publishers_are_kicked_when_ours_is_proven() -> None:
    """Once each, so they may come back; neither guests, nor ourselves, nor who came later."""

    async def test(lab: Lab) -> None:
        lab.console.hosts = [1, 7, 70_000]
        provider = lab.agora()
        await provider.start_stream("show", lab.feed)
        lab.console.hosts = [1, 7, 8, 70_000]
        await until(lambda: lab.console.named("POST ban"))
        await asyncio.sleep(0.3)  # for what must not follow
        ((_, _, rule),) = lab.console.named("POST ban")
        assert rule == {
            "appid": APP,
            "cname": "show",
            "uid": 7,
            "time_in_seconds": 0,
            "privileges": ["join_channel"],
        }
        assert len(lab.console.named("GET hosts")) == 2

    run(test)


def test_nobody_is_kicked_by_a_start_that_failed() -> None:
    """The older publisher is all that there is."""

    async def test(lab: Lab) -> None:
        lab.console.hosts = [7]
        lab.rtmp.status["publish"] = ("error", "NetStream.Publish.BadName", "rejected")
        await lab.fails(lab.agora(), Refused)
        await asyncio.sleep(0.3)
        assert lab.console.named("POST ban") == []

    run(test)


@pytest.mark.parametrize("is_fenced", [True, False])
def test_a_channel_that_carries_the_epoch_needs_no_kick(is_fenced: bool) -> None:
    """Who published under the last one is somewhere else; a fleet's move costs no such calls."""

    async def test(lab: Lab) -> None:
        lab.console.hosts = [7]

        async def plan(access: Access) -> dict[str, Any]:
            fence = {"epoch": 4} if is_fenced else {}
            return {"app_id": APP, "channel": "show-4", "uid": 12, "token": "t", **fence}

        await lab.agora(credentials=plan).start_stream("show", lab.feed)
        ((_, _, body),) = lab.console.named("POST streamkeys")
        assert body["settings"]["channel"] == "show-4"
        assert body["settings"]["uid"] == "12"
        await asyncio.sleep(0.3)
        assert bool(lab.console.named("GET hosts")) is not is_fenced

    run(test)


def test_nobody_is_kicked_where_that_is_switched_off() -> None:
    """For channels with several hosts of the same kind."""

    async def test(lab: Lab) -> None:
        lab.console.hosts = [7]
        await lab.agora(removes_older=False).start_stream("show", lab.feed)
        await asyncio.sleep(0.3)
        assert lab.console.named("GET hosts") == []

    run(test)


def test_a_plan_for_another_project_is_no_plan() -> None:
    """Its channel would be somewhere else."""

    async def test(lab: Lab) -> None:
        async def plan(access: Access) -> dict[str, Any]:
            return {"app_id": OTHER_APP, "channel": "show", "uid": 1, "token": "t"}

        exc = await lab.fails(lab.agora(credentials=plan), CredentialsRejected)
        assert exc.retry is Retry.NEXT
        assert "App ID" in str(exc)
        assert lab.console.calls == []

    run(test)


def test_a_stream_that_cannot_be_a_channel_is_refused_by_name() -> None:
    """64 bytes of Agora's characters."""

    async def test(lab: Lab) -> None:
        provider = lab.agora()
        for stream in ("x" * 65, "späti", "a/b"):
            with pytest.raises(ConfigError, match="channel"):
                await provider.start_stream(stream, lab.feed)
        assert lab.console.calls == []

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


# --- Viewing ---


def test_viewing_says_what_to_use_instead() -> None:
    """Agora's media protocol is its SDKs'."""

    async def test(lab: Lab) -> None:
        with pytest.raises(ConfigError, match="native SDK") as caught:
            await lab.agora().join_stream("show")
        assert "whep_url" in str(caught.value)

    run(test)


# --- WHIP and WHEP with an AccessToken2: stand-ins only ---


def guard(server: WhipServer, *, refused: set[str] | None = None) -> list[tuple[str, str]]:
    """Make a server let in who shows a token for that channel and role; note who came."""
    came: list[tuple[str, str]] = []

    async def intercept(request: web.Request) -> web.StreamResponse | None:
        if request.method != "POST":
            return None
        verb, channel = request.path.split("/")[1:3]
        bearer = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if refused is not None and bearer in refused:
            return web.Response(status=401)
        try:
            token = agora_token.read(bearer, CERTIFICATE)
        except agora_token.AgoraTokenRefused:
            return web.Response(status=401)
        uid = token.services[0].names[1]
        wanted = (
            agora_token.Privilege.PUBLISH_VIDEO if verb == "whip" else agora_token.Privilege.JOIN
        )
        if token.app_id != APP or not token.may(wanted, channel, uid, wall_s()):
            return web.Response(status=403)
        came.append((verb, uid))
        return None

    server.intercept = intercept
    return came


def whip(server: WhipServer, **settings: Any) -> Agora:
    """Make an adapter of a WHIP server."""
    known = {
        "app_id": APP,
        "certificate": CERTIFICATE,
        "ingest": "whip",
        "whip_url": server.url + "/whip/{stream}",
        "whep_url": server.url + "/whep/{stream}",
    }
    return Agora(**{**known, **settings})


def at_whip(test: Callable[[WhipServer], Coroutine[Any, Any, None]]) -> None:
    """Run a test with a WHIP server, bounded."""

    async def main() -> None:
        async with asyncio.timeout(LIMIT_S), whip_serving() as server:
            await test(server)

    asyncio.run(main())


def test_it_keeps_the_contract_by_whip() -> None:
    """The public suite, against a stand-in that verifies every token."""

    async def test(server: WhipServer) -> None:
        came = guard(server)

        async def make() -> Agora:
            return whip(server)

        async def feed() -> Feed:
            return canned_feed()[0]

        report = await check_provider(make, feed=feed)
        report.require()
        assert {verb for verb, _ in came} == {"whip", "whep"}

    at_whip(test)


def test_the_publisher_is_always_the_same_user_and_every_viewer_another() -> None:
    """The second of one uid puts out the first; viewers are never in the publishers' range."""

    async def test(server: WhipServer) -> None:
        came = guard(server)
        provider, (feed, _) = whip(server, uid=5), canned_feed()
        leg = await provider.start_stream("show", feed)
        views = [await provider.join_stream("show") for _ in range(2)]
        assert {uid for verb, uid in came if verb == "whip"} == {"5"}
        viewers = [int(uid) for verb, uid in came if verb == "whep"]
        assert len(set(viewers)) == 3  # its own view, and two others
        assert all(uid >= 1 << 16 for uid in viewers)
        for one in (leg, *views):
            assert isinstance(one, Expiring)
            assert one.expires_s is not None
            assert abs(one.expires_s - now() - TOKEN_S) < LIMIT_S
        await provider.aclose()
        await feed.aclose()

    at_whip(test)


def test_a_plan_says_channel_and_token_and_is_renewed_once() -> None:
    """A token that is rejected is asked for anew, and with it the channel's name."""

    async def test(server: WhipServer) -> None:
        old = token_for("show-1", Role.PUBLISHER)
        came = guard(server, refused={old})
        asked: list[Access] = []

        async def plan(access: Access) -> dict[str, Any]:
            asked.append(access)
            epoch = 2 if access.renew or access.role is Role.VIEWER else 1
            channel = f"show-{epoch}"
            token = old if epoch == 1 else token_for(channel, access.role)
            return {"app_id": APP, "channel": channel, "uid": 9, "token": token, "epoch": epoch}

        provider = whip(server, certificate=None, credentials=plan)
        feed, _ = canned_feed()
        with pytest.raises(CredentialsRejected) as caught:
            await provider.start_stream("show", feed)
        assert caught.value.retry is Retry.SAME
        assert old not in "".join(traceback.format_exception(caught.value))
        leg = await provider.start_stream("show", feed)
        assert leg.expires_s is not None
        assert abs(leg.expires_s - now() - 600) < LIMIT_S
        assert [access.stream for access in asked] == ["show"] * len(asked)
        assert [access.renew for access in asked if access.role is Role.PUBLISHER] == [False, True]
        assert ("whip", "9") in came
        assert "show-2" in server.feeds
        await provider.aclose()
        await feed.aclose()

    at_whip(test)


def token_for(channel: str, role: Role) -> str:
    """Mint what a control plane gives."""
    service = agora_token.rtc(channel, 9, role, 600)
    return agora_token.mint(APP, CERTIFICATE, [service], now_s=wall_s(), ttl_s=600)


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


@pytest.mark.parametrize("token", ["", "t", "007", "007eJw=", "007" + "x" * 40, "ü"])
def test_a_token_that_cannot_be_read_has_no_known_end(token: str) -> None:
    """It may be of another kind: the servers judge it."""

    async def test(lab: Lab) -> None:
        async def plan(access: Access) -> dict[str, Any]:
            return {"app_id": APP, "channel": "show", "uid": 1, "token": token}

        access = Access(provider="agora", stream="show", role=Role.VIEWER)
        ticket = await lab.agora(credentials=plan).tickets.ticket(access)
        assert ticket.ends_s is None

    run(test)


async def _broken_plan(access: Access) -> dict[str, Any]:
    raise RuntimeError(f"with {SECRET} inside")


def test_a_function_that_fails_tells_no_secret() -> None:
    """Only the type of its error is told."""

    async def test(server: WhipServer) -> None:
        feed, _ = canned_feed()
        for provider in (
            whip(server, credentials=_broken_plan),
            Agora(app_id=APP, stream_key=KEY, credentials=_broken_plan),
        ):
            with pytest.raises(CredentialsRejected, match="RuntimeError") as caught:
                await provider.start_stream("show", feed)
            assert SECRET not in str(caught.value) + repr(vars(caught.value))
            await provider.aclose()
        await feed.aclose()

    at_whip(test)


# --- For `hitless doctor` ---


def examined(console: Console, **settings: Any) -> list[Finding]:
    """Return what a checkup finds."""
    found: list[Finding] = []

    async def test(lab: Lab) -> None:
        lab.console.status |= console.status
        found.extend([one async for one in lab.agora(**settings).checkup()])

    run(test)
    text = json.dumps([[one.says, one.fix] for one in found])
    assert not any(secret in text for secret in (*SECRETS, CUSTOMER))
    return found


def verdicts(found: list[Finding]) -> list[tuple[str, Verdict]]:
    return [(one.step, one.verdict) for one in found]


def test_a_checkup_finds_all_good_but_the_trap() -> None:
    """The trap cannot be seen from outside, so it is told always."""
    found = examined(Console(), certificate=CERTIFICATE)
    assert verdicts(found) == [
        ("configuration", Verdict.GOOD),
        ("control API", Verdict.GOOD),
        ("control API", Verdict.GOOD),
        ("credential", Verdict.GOOD),
        ("trap", Verdict.WARNING),
    ]
    assert "3 channels" in found[1].says
    assert "Media Gateway is enabled" in found[2].says
    assert "co-host authentication" in found[-1].says + found[-1].fix


@pytest.mark.parametrize(
    ("call", "status", "fix"),
    [
        ("GET channels", 401, "RESTful API"),
        ("GET channels", 500, "status.agora.io"),
        ("GET online-streams", 403, "enable Media Gateway"),
    ],
)
def test_a_checkup_says_where_to_fix_it(call: str, status: int, fix: str) -> None:
    """At Agora's, since the configuration is as it should be."""
    console = Console()
    console.status[call] = status
    bad = [one for one in examined(console) if one.verdict is Verdict.BAD]
    assert len(bad) == 1
    assert fix in bad[0].fix


def test_a_checkup_without_credentials_says_what_was_left_out() -> None:
    """And that nothing can be published then."""
    found = examined(Console(), customer_id=None, customer_secret=None)
    assert verdicts(found) == [
        ("configuration", Verdict.GOOD),
        ("control API", Verdict.LEFT_OUT),
        ("credential", Verdict.BAD),
        ("credential", Verdict.LEFT_OUT),
        ("trap", Verdict.WARNING),
    ]


async def _wrong_certificate() -> str:
    return "short"


def test_a_checkup_finds_a_certificate_that_is_none() -> None:
    """One that is fetched can be looked at only now."""
    bad = [
        one
        for one in examined(Console(), certificate=_wrong_certificate)
        if one.verdict is Verdict.BAD
    ]
    assert [one.step for one in bad] == ["credential"]
    assert "certificate" in bad[0].says
