"""hitless.server.probing: which providers a node probes, and how deep."""

import asyncio
import random
from dataclasses import replace

import pytest
from virtual_time import run

from hitless.core.events import Role
from hitless.core.evidence import Rules
from hitless.core.observation import Level
from hitless.errors import ConfigError
from hitless.providers.credential import Access
from hitless.server import probing as module
from hitless.server.judging import Judge
from hitless.server.minters import ProviderSecrets
from hitless.server.plans import Mint
from hitless.server.probing import Probing
from hitless.server.store_operators import ProviderRow


def row(name="one", url="http://127.0.0.1:9/whip", adapter="whip", is_active=True, **config):
    """Return a provider's row."""
    if url is not None:
        config["url"] = url
    return ProviderRow(name=name, adapter=adapter, is_active=is_active, config=config)


class Prober:
    """Remembers what it was told to watch; takes a while for it."""

    def __init__(self, *args, **more):
        self.watched, self.more, self.is_closed = [], more, False
        self.at_once = self.most_at_once = 0

    async def watch(self, targets):
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        targets = list(targets)
        await asyncio.sleep(0.1)
        self.watched.append(targets)
        self.at_once -= 1

    async def check_now(self, name):
        return [name]

    async def aclose(self):
        self.is_closed = True


class Scene:
    """Probing over rows that change; use with `async with`."""

    def __init__(self, *rows, monkeypatch):
        monkeypatch.setattr(module, "Prober", Prober)
        self.rows = {one.name: one for one in rows}
        self.told = []
        self.mint = Mint(is_revoked=lambda asker: False)
        self.mint.replace(
            [
                ProviderSecrets(
                    name="one", adapter="whip", secrets={"token": "t1", "view_token": "v"}
                )
            ]
        )
        judge = Judge(Rules(), asyncio.get_running_loop().time, lambda news: None)
        self.probing = Probing(
            Rules(),
            self,  # its rows are all that is asked for
            judge,
            self.mint,
            lambda name, **fields: self.told.append((name, fields)),
            rng=random.Random(1),
        )
        self.prober = self.probing._prober

    async def __aenter__(self):
        return self

    async def __aexit__(self, *exc):
        await self.probing.aclose()
        assert self.prober.is_closed

    def set(self, *rows):
        """Let these be the rows from now on."""
        self.rows = {one.name: one for one in rows}

    async def follow(self, *, is_leader=False):
        """Follow, and return what is watched now, by name."""
        await self.probing.follow(is_leader=is_leader)
        return {one.name: one for one in self.prober.watched[-1]} if self.prober.watched else {}


@pytest.fixture
def play(monkeypatch):
    """Run a scene in virtual time."""

    def go(work, *rows):
        async def main():
            async with Scene(*rows, monkeypatch=monkeypatch) as scene:
                await work(scene)

        run(main())

    return go


def test_targets_come_change_and_go_with_the_rows(play):
    async def work(scene):
        assert (await scene.follow()).keys() == {"one"}
        scene.set(row(), row("two", url="http://127.0.0.1:9/two"))
        assert (await scene.follow()).keys() == {"one", "two"}
        scene.set(row(), row("two", url="http://127.0.0.1:9/three"))
        assert (await scene.follow())["two"].publish_url == "http://127.0.0.1:9/three"
        scene.set(row())
        assert (await scene.follow()).keys() == {"one"}

    play(work, row())


def test_what_did_not_change_goes_on_as_before(play):
    async def work(scene):
        before = await scene.follow()
        await scene.follow()
        assert len(scene.prober.watched) == 1
        scene.set(row(), row("two"))
        assert (await scene.follow())["one"] is before["one"]

    play(work, row())


@pytest.mark.parametrize("off", [row(is_active=False), row(probe="none")])
def test_what_is_disabled_or_not_to_be_probed_is_left_alone(off, play):
    async def work(scene):
        assert await scene.follow() == {}
        scene.set(row())
        assert (await scene.follow()).keys() == {"one"}
        scene.set(off)
        assert await scene.follow() == {}

    play(work, off)


def test_only_the_leader_runs_canaries(play):
    async def work(scene):
        target = (await scene.follow())["one"]
        assert (target.deepest, target.adapter) == (Level.CONTROL, None)
        target = (await scene.follow(is_leader=True))["one"]
        assert (target.deepest, target.adapter.name) == (Level.END_TO_END, "one")
        target = (await scene.follow(is_leader=False))["one"]
        assert (target.deepest, target.adapter) == (Level.CONTROL, None)

    play(work, row())


@pytest.mark.parametrize("level", list(Level))
def test_the_row_says_how_deep_the_canary_goes(level, play):
    async def work(scene):
        target = (await scene.follow(is_leader=True))["one"]
        assert target.deepest is level
        assert (target.adapter is None) is (level is Level.CONTROL)

    play(work, row(probe=level.value))


def test_a_control_url_is_asked_in_place_of_the_endpoint(play):
    async def work(scene):
        target = (await scene.follow())["one"]
        assert target.control_url == "http://127.0.0.1:9/health"

    play(work, row(control_url="http://127.0.0.1:9/health"))


def test_the_adapter_of_a_target_that_went_is_closed(play):
    async def work(scene):
        adapter = (await scene.follow(is_leader=True))["one"].adapter
        closed = []

        async def aclose():
            closed.append(True)

        adapter.aclose = aclose
        scene.set()
        await scene.follow(is_leader=True)
        assert closed == [True]

    play(work, row())


def test_the_canary_opens_legs_with_credentials_of_its_own(play):
    async def work(scene):
        adapter = (await scene.follow(is_leader=True))["one"].adapter
        for role, token in ((Role.PUBLISHER, "t1"), (Role.VIEWER, "v")):
            access = Access(provider="one", stream="canary", role=role)
            found = await adapter._credentials(access)
            assert found["token"] == token

    play(work, row())


@pytest.mark.parametrize(
    ("faulty", "because"),
    [
        (row("bad", url=None, adapter="memory"), "give url or control_url"),
        (row("bad", adapter="none-such"), "no adapter called 'none-such'"),
        (row("bad", colour="red"), "colour"),
    ],
)
def test_a_faulty_provider_is_told_of_once_and_stops_nobody_else(faulty, because, play):
    async def work(scene):
        for _ in range(3):
            assert (await scene.follow(is_leader=True)).keys() == {"one"}
        ((name, fields),) = scene.told
        assert (name, fields["provider"]) == ("probe.impossible", "bad")
        assert because in fields["because"]
        scene.set(row(), row("bad"))
        assert (await scene.follow(is_leader=True)).keys() == {"one", "bad"}
        scene.set(row(), faulty)
        await scene.follow(is_leader=True)
        assert len(scene.told) == 2  # it broke anew

    play(work, row(), faulty)


def test_two_that_follow_at_once_take_turns(play):
    async def work(scene):
        await asyncio.gather(*(scene.follow(is_leader=n % 2 == 0) for n in range(4)))
        assert scene.prober.most_at_once == 1
        assert len(scene.prober.watched) == 4

    play(work, row())


def test_to_check_now_is_handed_on(play):
    async def work(scene):
        assert await scene.probing.check_now("one") == ["one"]

    play(work, row())


def test_a_provider_that_nobody_probes_cannot_be_checked():
    async def main():
        judge = Judge(Rules(), asyncio.get_running_loop().time, lambda news: None)
        scene = type("Rows", (), {"rows": {}})()
        probing = Probing(
            Rules(), scene, judge, Mint(is_revoked=bool), print, rng=random.Random(1)
        )
        with pytest.raises(ConfigError, match=r"'one' is probed here \(see `hitless"):
            await probing.check_now("one")
        await probing.aclose()

    run(main())


def test_a_provider_with_regions_is_probed_in_each_of_them(play):
    """
    With what differs there; the rest is the provider's own.
    """
    regions = {"eu": {"control_url": "https://eu.example/health"}, "us": {}}

    async def work(scene):
        await scene.follow(is_leader=True)
        watched = {one.region: one for one in scene.prober.watched[-1]}
        assert watched.keys() == {"eu", "us"}
        assert watched["eu"].control_url == "https://eu.example/health"
        assert watched["us"].control_url is None
        assert {one.name for one in watched.values()} == {"one"}
        scene.set(row())
        assert (await scene.follow(is_leader=True))["one"].region is None

    own = row()
    play(work, replace(own, config={**own.config, "regions": regions}))


@pytest.mark.parametrize(("more", "is_given"), [({}, True), ({"ingest": "whip"}, False)])
def test_a_canary_by_rtmp_is_given_what_opens_the_api_where_to_push_is_asked(play, more, is_given):
    """
    And counts among the calls of the account, as the control probe does.
    """
    url = "https://a.example/{stream}"
    config = {"app_id": "970CA35de60c44645bbae8a215061b33", "probe": "ingest", **more}
    config |= {"whip_url": url} if more else {}

    async def work(scene):
        scene.secrets = lambda name: {"customer_id": "c", "customer_secret": "s"}
        target = (await scene.follow(is_leader=True))["one"]
        assert (target.adapter.api is not None) is is_given
        assert target.deepest is Level.INGEST
        assert target.media_urls == ((url,) if more else ())
        if is_given:
            assert target.adapter.api._rest._quota is target.control._quota

    play(work, row(url=None, adapter="agora", **config))


def test_where_a_canary_by_rtmp_plays_is_judged_before_it_runs(play):
    """
    As where it publishes is; playing that is not offered is nowhere.
    """

    async def work(scene):
        scene.secrets = lambda name: {}
        scene.set(
            row("one", "rtmp://a.example/x/{stream}", "rtmp", play_url="rtmp://b.example/y/z"),
            row("two", "rtmp://a.example/x/{stream}", "rtmp", play_url=""),
        )
        targets = await scene.follow()
        assert targets["one"].media_urls == ("rtmp://b.example/y/z",)
        assert targets["two"].media_urls == ()

    play(work)
