"""Every installed provider, and the provider made of providers, keeps the contract."""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager
from dataclasses import replace
from importlib.metadata import entry_points

import livekit_stand_in
import pytest
from canned import canned_feed
from interop import janus, nginx_rtmp
from speaking_stand import AGORA, ZEGO, unhurried
from virtual_time import run

from hitless import LiveStreamingProvider, Memory, Refused, Whip
from hitless.lab.stage import Stage
from hitless.lab.stand import Stand
from hitless.providers import load
from hitless.providers.conformance import RULES, check_provider
from hitless.providers.memory import MemoryHub


INSTALLED = sorted(point.name for point in entry_points(group="hitless.providers"))


async def canned():
    return canned_feed()


def check(make):
    """Return the report on what `make` returns, in virtual time."""

    async def made():
        return make()

    return run(check_provider(made, feed=canned))


@asynccontextmanager
async def nowhere(folder):
    """What an adapter needs that carries streams by itself: nothing."""
    yield {}


@asynccontextmanager
async def stand_in(folder):
    """A running WHIP and WHEP server, as a process of its own."""
    async with Stage(folder, ("agora",), has_accounts=False) as stage:
        yield {"url": stage.urls["agora"] + "/whip/{stream}"}


@asynccontextmanager
async def real_janus(folder):
    """A Janus from Debian."""
    if (why := janus.why_not()) is not None:
        pytest.skip(why)
    async with janus.running(folder) as server:
        yield {"url": server.url, "first_media_s": 8.0}


@asynccontextmanager
async def livekit_server(folder):
    """A stand-in: there is no LiveKit server that a package brings."""
    async with livekit_stand_in.serving() as server:
        key = {"api_key": livekit_stand_in.KEY, "api_secret": livekit_stand_in.SECRET}
        yield {"url": server.url, "first_media_s": 8.0, **key}


@asynccontextmanager
async def real_nginx(folder):
    """An nginx with its RTMP module."""
    if nginx_rtmp.module() is None:
        pytest.skip(nginx_rtmp.WHY_SKIPPED)
    with nginx_rtmp.NginxRtmp() as server:
        yield {"url": server.url, "first_media_s": 8.0}


@asynccontextmanager
async def account_stand(account, **options):
    """A stand-in of the lab that verifies an account's tokens, serves its API and takes WHIP."""
    stand = Stand("it", account=account, rng=random.Random(1))
    url = await stand.start()
    whip = {"ingest": "whip", "whip_url": url + "/whip/{stream}"}
    try:
        yield {"api_url": url, "whep_url": url + "/whep/{stream}", **whip, **options}
    finally:
        await stand.aclose()


def agora_stand(folder):
    """Agora's."""
    names = ("app_id", "certificate", "customer_id", "customer_secret")
    return account_stand(AGORA, **{name: getattr(AGORA, name) for name in names})


def zego_stand(folder):
    """ZEGOCLOUD's."""
    known = {"app_id": ZEGO.app_id, "server_secret": ZEGO.server_secret}
    return account_stand(ZEGO, bearer="token04", **known)


SERVERS = {
    "agora": agora_stand,
    "janus": real_janus,
    "livekit": livekit_server,
    "memory": nowhere,
    "rtmp": real_nginx,
    "whip": stand_in,
    "zegocloud": zego_stand,
}
"""Where each adapter finds its service."""


@pytest.mark.parametrize("name", INSTALLED)
def test_an_installed_provider_keeps_the_contract(name, tmp_path, monkeypatch):
    """
    Adding an adapter adds its entry point, and with it this test.
    """
    unhurried(monkeypatch)
    assert name in SERVERS, f"say in SERVERS where {name} finds its service"

    async def main():
        async with SERVERS[name](tmp_path) as options:

            async def make():
                return load(name)(name, **options)

            return await check_provider(make)

    asyncio.run(main()).require()


def test_providers_that_behave_as_one_keep_the_contract():
    """
    LiveStreamingProvider keeps the contract it depends on.
    """
    check(lambda: LiveStreamingProvider([Memory("a"), Memory("b")])).require()


def test_providers_keep_the_contract_when_the_first_of_them_is_down():
    """
    Failing over is nothing that a caller has to know of.
    """

    def make():
        hub = MemoryHub()
        hub.kill()
        return LiveStreamingProvider([Memory("a", hub=hub), Memory("b")])

    check(make).require()


def test_providers_made_of_providers_keep_the_contract():
    """
    It nests, so a region can be one provider of several regions.
    """

    def make():
        inner = LiveStreamingProvider([Memory("b"), Memory("c")], name="inner")
        return LiveStreamingProvider([Memory("a"), inner], name="outer")

    check(make).require()


def test_real_servers_that_behave_as_one_keep_the_contract(tmp_path):
    """
    The same over real media and two stand-ins.
    """

    async def main():
        async with Stage(tmp_path, ("agora", "zegocloud"), has_accounts=False) as stage:

            async def make():
                servers = [
                    Whip(name, url=stage.urls[name] + "/whip/{stream}") for name in stage.names
                ]
                return LiveStreamingProvider(servers)

            return await check_provider(make)

    asyncio.run(main()).require()


# --- The suite can fail ---


class Twisted:
    """A leg that does as another one, but for what a subclass breaks."""

    def __init__(self, leg):
        self.leg = leg

    def __getattr__(self, name):
        return getattr(self.leg, name)

    @property
    def provider(self):
        return self.leg.provider

    @property
    def liveness(self):
        return self.leg.liveness

    async def lost(self):
        await self.leg.lost()

    def stats(self):
        return self.leg.stats()

    async def aclose(self):
        await self.leg.aclose()

    async def frames(self):
        async for frame in self.leg.frames():
            if (twisted := self.twist(frame)) is not None:
                yield twisted

    def request_keyframe(self):
        self.leg.request_keyframe()

    def twist(self, frame):
        return frame


class Shouting(Memory):
    def __init__(self):
        super().__init__("MEMORY")


class Refusing(Memory):
    async def start_stream(self, stream, source):
        raise Refused("no", provider=self.name, operation="publish")


class Mute(Twisted):
    def twist(self, frame):
        return frame if frame.kind == "video" else None


class Headless(Twisted):
    def twist(self, frame):
        return replace(frame, keyframe=False)


class Timeless(Twisted):
    def twist(self, frame):
        return replace(frame, timestamp=7)


class Transcoding(Twisted):
    def twist(self, frame):
        return replace(frame, data=frame.data + b"!")


class Silent(Twisted):
    def twist(self, frame):
        return None


class Nameless(Twisted):
    def stats(self):
        return [{"kind": "video"}]


class Deaf(Twisted):
    """Its viewer never learns of the end."""

    async def lost(self):
        await asyncio.Event().wait()

    @property
    def liveness(self):
        class Forever(type(self.leg.liveness)):
            def quiet(self, now):
                return None

        return Forever()


def views_as(twist, *, from_viewer=1):
    """Return a provider whose viewing legs, from the nth on, are twisted."""

    class Views(Memory):
        count = 0

        async def join_stream(self, stream):
            leg = await super().join_stream(stream)
            self.count += 1
            return twist(leg) if self.count >= from_viewer else leg

    return Views


class Welcoming(Memory):
    """Refuses viewers of a stream that nobody publishes, as if it were to blame."""

    async def join_stream(self, stream):
        if stream not in self.hub.publishers:
            await asyncio.sleep(0.01)
            raise Refused("no such stream", provider=self.name, operation="view")
        return await super().join_stream(stream)


class Stubborn(Memory):
    """Goes on the air though its caller has gone."""

    async def start_stream(self, stream, source):
        return await asyncio.shield(asyncio.ensure_future(super().start_stream(stream, source)))


class Unmoved(Memory):
    """Swallows the cancellation of who wanted to watch."""

    async def join_stream(self, stream):
        try:
            return await super().join_stream(stream)
        except asyncio.CancelledError:
            return None


class Hanging(Memory):
    """Its second closing takes for ever."""

    closings = 0

    async def aclose(self):
        self.closings += 1
        await super().aclose()
        if self.closings == 2:
            await asyncio.Event().wait()


BROKEN = [
    ("C1", Shouting),
    ("C2", Refusing),
    ("C3", views_as(Mute)),
    ("C3", views_as(Headless)),
    ("C4", views_as(Timeless)),
    ("C5", views_as(Transcoding)),
    ("C6", views_as(Silent, from_viewer=2)),
    ("C7", Welcoming),
    ("C8", views_as(Nameless)),
    ("C9", views_as(Deaf)),
    ("C10", Stubborn),
    ("C11", Unmoved),
    ("C12", Hanging),
]


@pytest.mark.parametrize(("rule", "make"), BROKEN, ids=lambda x: getattr(x, "__name__", x))
def test_a_provider_that_breaks_a_rule_fails_it(rule, make):
    """
    A suite that cannot fail says nothing.
    """
    report = check(make)

    broken = {finding.rule for finding in report.findings if not finding.is_kept}
    assert rule in broken
    assert not report.passed
    with pytest.raises(AssertionError, match=rule):
        report.require()


def test_every_rule_is_broken_by_somebody():
    """
    A new rule needs somebody who breaks it.
    """
    assert {rule for rule, _ in BROKEN} == set(RULES)
