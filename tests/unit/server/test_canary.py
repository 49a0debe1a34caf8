"""hitless.server.canary"""

import asyncio
import random

import pytest
from virtual_time import VirtualTimeLoop, run
from whip_server import serving

from hitless.core.observation import Level
from hitless.errors import ConfigError, LocalFault, NotOnAir, Refused
from hitless.media.feed import Feed
from hitless.media.frame import Codec, EncodedFrame, Kind
from hitless.providers.memory import Memory, MemoryHub
from hitless.providers.whip import Whip
from hitless.server import canary
from hitless.server.canary import Canary, Cost, Limits, cost_per_month


SHORT = Limits(watch_s=1.0)
CODECS = {Kind.VIDEO: Codec.VP8, Kind.AUDIO: Codec.OPUS}


def canary_over(provider, *, level=Level.END_TO_END, limits=SHORT, **options):
    """Return a canary whose streams have the same names in each run."""
    return Canary(provider, level=level, limits=limits, rng=random.Random(1), **options)


class Ticking:
    """A feed's engine that needs no encoder: 20 frames of each kind a second."""

    def __init__(self, feed):
        self.feed, self.is_closed, self.count = feed, False, 0
        self.handle = asyncio.get_running_loop().call_later(0.05, self.tick)

    def tick(self):
        loop = asyncio.get_running_loop()
        self.count += 1
        for kind in Kind:
            self.feed.push(
                EncodedFrame(
                    kind=kind,
                    codec=CODECS[kind],
                    data=b"%d" % self.count,
                    timestamp=self.count * 4500,
                    keyframe=True,
                    arrived_s=loop.time(),
                )
            )
        self.handle = loop.call_later(0.05, self.tick)

    def request_keyframe(self):
        pass

    async def aclose(self):
        self.is_closed = True
        self.handle.cancel()


@pytest.fixture
def engines(monkeypatch):
    """Give the canary feeds that take no time but the loop's; return what runs them."""
    made = []

    async def opened(source, *, quality):
        feed = Feed(CODECS)
        made.append(Ticking(feed))
        feed.run_by(made[-1])
        return feed

    monkeypatch.setattr(canary, "open_feed", opened)
    return made


def is_empty(hub):
    """Whether nobody publishes or views."""
    return not hub.publishers and not any(hub.viewers.values())


# --- For real ---


def assert_seen(ended):
    """Check what a run over a provider that works has found."""
    probe = ended.probe
    assert (True, Level.END_TO_END, False) == (probe.ok, probe.level, probe.own_trouble)
    assert probe.because.startswith("published in")
    assert (probe.first_media_s, probe.latency_s) == (ended.first_media_s, ended.latency_s)
    assert 0 < ended.publish_s < 5
    assert 0 < ended.first_media_s < 5
    assert 0 < ended.latency_s < 1
    assert 0 <= ended.loss == probe.loss < 0.5
    assert 0 <= ended.sound_loss < 0.5
    assert 2 * SHORT.watch_s < ended.cost.media_s < 12
    assert 0 < ended.cost.received_bytes <= ended.cost.sent_bytes


def test_over_a_provider_in_memory_it_is_published_and_seen():
    """
    And nothing of it is left, each time it is run.
    """
    provider = Memory("a")

    async def main():
        bird = canary_over(provider, region="eu")
        ended = [await bird.run(), await bird.run()]
        await bird.aclose()
        return ended

    for ended in asyncio.run(main()):
        assert_seen(ended)
        assert ("a", "eu") == (ended.probe.provider, ended.probe.region)
    assert is_empty(provider.hub)


def test_over_whip_and_whep_it_is_published_and_seen():
    """
    By the adapter that clients use, and both sessions are deleted.
    """

    async def main():
        async with serving() as server:
            provider = Whip("agora", url=server.url + "/whip/{stream}")
            ended = await canary_over(provider).run()
            left = dict(server.sessions)
            paths = [one.path for one in server.requests("POST")]
            await provider.aclose()
            return ended, left, paths

    ended, left, paths = asyncio.run(main())

    assert_seen(ended)
    assert {} == left
    assert ["whip", "whep"] == list(dict.fromkeys(path.split("/")[1] for path in paths))
    assert all(path.split("/")[2].startswith(canary.PREFIX) for path in paths)


def test_sound_alone_is_not_seen():
    """
    What came is told: the way is open, and the picture is missing.
    """

    class Deaf(MemoryHub):
        def forward(self, stream, frame):
            if frame.kind is Kind.AUDIO:
                super().forward(stream, frame)

    provider = Memory("a", hub=Deaf())
    ended = asyncio.run(canary_over(provider, limits=Limits(view_s=0.5)).run())

    assert (False, False, True) == (ended.probe.ok, ended.probe.own_trouble, ended.probe.answered)
    assert "published, and no picture seen" in ended.probe.because
    assert "bytes came" in ended.probe.because
    assert (None, None) == (ended.first_media_s, ended.loss)
    assert is_empty(provider.hub)


# --- What is wrong, and whose fault it is ---


class Blind(MemoryHub):
    """Takes everything, and forwards nothing to viewers."""

    def forward(self, stream, frame):
        pass


def refusing():
    hub = MemoryHub()
    hub.refuses = Refused("it is full", provider="a", operation="publish")
    return hub


def silent():
    hub = MemoryHub()
    hub.is_silent = True
    return hub


def killed():
    hub = MemoryHub()
    hub.kill()
    return hub


@pytest.mark.parametrize(
    ("make", "because", "is_answered"),
    [
        (refusing, "publish: it is full", True),
        (killed, "publish: nobody answers", False),
        (silent, "publish: no media", True),
        (Blind, "view: no media", True),
    ],
)
def test_what_a_provider_does_wrong_is_told(engines, make, because, is_answered):
    """
    With the operation, and whether it answered at all.
    """
    provider = Memory("a", hub=make())
    ended = run(canary_over(provider).run())

    assert (False, because) == (ended.probe.ok, ended.probe.because)
    assert (is_answered, False) == (ended.probe.answered, ended.probe.own_trouble)
    assert is_empty(provider.hub)
    assert engines[0].is_closed


class Odd(Memory):
    """An adapter that raises what it is told to."""

    def __init__(self, *, start=None, join=None):
        super().__init__("a")
        self.start, self.join = start, join

    async def start_stream(self, stream, source):
        if self.start is not None:
            raise self.start
        return await super().start_stream(stream, source)

    async def join_stream(self, stream):
        if self.join is not None:
            raise self.join
        return await super().join_stream(stream)


@pytest.mark.parametrize(
    ("adapter", "because", "is_ours"),
    [
        (Odd(start=RuntimeError("token=secret")), "the adapter failed: RuntimeError", True),
        (Odd(start=LocalFault("no network")), "no network", True),
        (Odd(start=ConfigError("give url")), "give url", True),
        (Odd(join=RuntimeError("token=secret")), "the adapter failed: RuntimeError", True),
        (Odd(join=NotOnAir("who?")), "published, and unknown to viewers", False),
    ],
)
def test_an_adapters_own_mistakes_make_no_verdict(engines, adapter, because, is_ours):
    """
    And texts of strangers are not quoted; a stream that stays unknown is the provider's fault.
    """
    ended = run(canary_over(adapter).run())

    assert (False, because, is_ours) == (
        ended.probe.ok,
        ended.probe.because,
        ended.probe.own_trouble,
    )
    assert is_empty(adapter.hub)
    assert engines[0].is_closed


def test_an_adapter_that_cannot_view_is_judged_by_what_it_takes(engines):
    """
    The level says so.
    """
    ended = run(canary_over(Odd(join=ConfigError("no view_url"))).run())

    assert (True, Level.INGEST) == (ended.probe.ok, ended.probe.level)
    assert (None, 0) == (ended.first_media_s, ended.cost.received_bytes)


def test_an_ingest_canary_publishes_only(engines):
    """
    For as long as it watches.
    """
    provider = Odd(join=AssertionError("not asked for"))

    async def main():
        ended = await canary_over(provider, level=Level.INGEST).run()
        return ended, asyncio.get_running_loop().time()

    ended, took_s = run(main())

    assert (True, Level.INGEST) == (ended.probe.ok, ended.probe.level)
    assert SHORT.watch_s < took_s < SHORT.watch_s + 0.5
    assert ended.cost.media_s == pytest.approx(took_s, abs=0.1)


@pytest.mark.parametrize("level", [Level.INGEST, Level.END_TO_END])
def test_a_leg_that_is_lost_while_watched_fails(engines, level):
    """
    With the reason that the leg gives, and long before its time to watch is over.
    """
    provider = Memory("a")

    async def main():
        running = asyncio.create_task(
            canary_over(provider, level=level, limits=Limits(watch_s=60.0)).run()
        )
        await asyncio.sleep(0.3)
        for leg in tuple(provider.hub.publishers.values()):
            leg.lose("the room was closed")
        return await running, asyncio.get_running_loop().time()

    ended, took_s = run(main())

    assert (False, False) == (ended.probe.ok, ended.probe.own_trouble)
    assert "the room was closed" in ended.probe.because
    assert took_s < 10  # closing waits for a decoder's thread, whose time is not ours


@pytest.mark.parametrize(
    ("stop", "because", "is_ours"),
    [
        (lambda hub, engine: engine.handle.cancel(), "our own encoder gives no frames", True),
        (lambda hub, engine: setattr(hub, "is_silent", True), "published, and then", False),
    ],
)
def test_media_that_stops_is_ours_only_if_our_encoder_did(engines, stop, because, is_ours):
    """
    Both look the same from the leg.
    """
    provider = Memory("a")

    async def main():
        limits = Limits(watch_s=5.0)
        bird = canary_over(provider, level=Level.INGEST, limits=limits)
        running = asyncio.create_task(bird.run())
        await asyncio.sleep(0.5)
        stop(provider.hub, engines[0])
        return await running

    probe = run(main()).probe

    assert (False, is_ours) == (probe.ok, probe.own_trouble)
    assert because in probe.because


def test_a_failure_while_our_own_loop_is_late_is_ours(engines):
    """
    What seems to be missing may lie in our own queue.
    """
    loop = VirtualTimeLoop()

    class Late(Odd):
        async def start_stream(self, stream, source):
            loop._jumping.now += 2.0  # the loop was held up
            await asyncio.sleep(0.1)
            raise Refused("it is full", provider="a", operation="publish")

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        ended = runner.run(canary_over(Late()).run())

    assert (False, True) == (ended.probe.ok, ended.probe.own_trouble)
    assert ended.late_s > 1
    assert "late" in ended.probe.because


# --- Ends ---


@pytest.mark.parametrize("after_s", [0.0, 0.01, 0.02, 0.05, 0.06, 0.08, 0.1, 0.13, 0.5])
@pytest.mark.parametrize("level", [Level.INGEST, Level.END_TO_END])
def test_cancelled_at_any_time_it_closes_every_leg(engines, level, after_s):
    """
    And the feed.
    """
    provider = Memory("a")

    async def main():
        running = asyncio.create_task(canary_over(provider, level=level).run())
        await asyncio.sleep(after_s)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    run(main())

    assert is_empty(provider.hub)
    assert all(engine.is_closed for engine in engines)


class Hanging(Memory):
    """An adapter that hears no cancellation, and has its leg much later."""

    def __init__(self, operation, late_s):
        super().__init__("a")
        self.operation, self.late_s = operation, late_s

    async def start_stream(self, stream, source):
        if self.operation == "publish":
            await self.hang()
        return await super().start_stream(stream, source)

    async def join_stream(self, stream):
        if self.operation == "view":
            await self.hang()
        return await super().join_stream(stream)

    async def hang(self):
        loop = asyncio.get_running_loop()
        until_s = loop.time() + self.late_s
        while loop.time() < until_s:
            try:
                await asyncio.sleep(until_s - loop.time())
            except asyncio.CancelledError:
                continue


@pytest.mark.parametrize("operation", ["publish", "view"])
@pytest.mark.parametrize("late_s", [11.0, 40.0])
def test_an_adapter_that_hangs_is_left_behind_and_its_late_leg_closed(engines, operation, late_s):
    """
    A run is bounded all the same.
    """
    provider, limits = Hanging(operation, late_s), Limits()

    async def main():
        bird = canary_over(provider, limits=limits)
        ended = await bird.run()
        took_s = asyncio.get_running_loop().time()
        await asyncio.sleep(60)
        await bird.aclose()
        await bird.aclose()
        return ended.probe, took_s

    probe, took_s = run(main())

    assert took_s <= limits.total_s
    assert (False, f"{operation}: no media within 10.0 s") == (
        probe.ok,
        probe.because.replace("9.9", "10.0"),
    )
    assert probe.answered is (operation == "view")
    assert is_empty(provider.hub)


# --- What it is asked for ---


def test_a_control_canary_is_refused():
    """
    It needs no media.
    """
    with pytest.raises(ConfigError, match="control"):
        canary_over(Memory("a"), level=Level.CONTROL)


@pytest.mark.parametrize(
    ("price", "expected"),
    [
        (None, None),
        ({}, None),
        ({"per_minute": True}, None),
        ({"per_viewer": 1.0}, None),
        ({"per_minute": 0.01}, 0.01 * 8640 / 60 * 6),
        ({"per_gb": 0.5}, 0.5 * 8640 * 3e-4),
        ({"per_minute": 0.01, "per_gb": 0.5}, 0.01 * 8640 / 60 * 6 + 0.5 * 8640 * 3e-4),
    ],
)
def test_a_month_costs_what_its_runs_cost(price, expected):
    """
    8640 of them at one each 300 s; what has no price has no cost.
    """
    cost = Cost(media_s=6.0, sent_bytes=200_000, received_bytes=100_000)
    found = cost_per_month(300.0, price, cost)

    assert found is None if expected is None else found == pytest.approx(expected)
