"""hitless.client.live"""

import asyncio
import contextlib

import pytest
from canned import canned_feed, number_of
from virtual_time import run

from hitless import (
    AllProvidersFailed,
    ConfigError,
    Kind,
    LiveStreamingProvider,
    LocalFault,
    Memory,
    NotOnAir,
    Policy,
    Refused,
    Retry,
    StreamEnded,
)
from hitless.core.listing import Listed, ProviderList
from hitless.core.state import Phase
from hitless.providers.memory import MemoryHub


def hubs(*names):
    return {name: MemoryHub() for name in names}


def client(services, **options):
    """A client of these services: each has adapters of its own, as another process would."""
    return LiveStreamingProvider([Memory(n, hub=hub) for n, hub in services.items()], **options)


async def until(condition, limit_s=60.0):
    async with asyncio.timeout(limit_s):
        while not condition():  # noqa: ASYNC110 -- the condition is any state of the client
            await asyncio.sleep(0.01)


async def numbers(view, kind=Kind.VIDEO):
    return [number_of(frame) async for frame in view.frames() if frame.kind is kind]


@contextlib.asynccontextmanager
async def on_air(services, **options):
    """A published stream and one viewer, each in a client of its own."""
    feed = canned_feed()
    policy = options.pop("policy", Policy())
    async with client(services, policy=policy) as here, client(services, policy=policy) as there:
        async with here.start_stream("show", feed) as stream:
            async with there.join_stream("show") as view:
                yield here, there, stream, view
    await feed.aclose()


def test_a_stream_starts_on_the_first_provider():
    async def main():
        async with on_air(hubs("agora", "zegocloud")) as (here, _, stream, view):
            return here.active_provider, stream.provider, view.provider, here.is_streaming

    assert run(main()) == ("agora", "agora", "agora", True)


def test_a_start_asks_agora_twice_and_then_zegocloud():
    async def main():
        services = hubs("agora", "zegocloud", "webrtc")
        services["agora"].kill()
        async with on_air(services) as (_, _, stream, view):
            tried = [attempt.provider for attempt in stream.state.attempts]
            return tried, stream.provider, view.provider

    assert run(main()) == (["agora", "agora", "zegocloud"], "zegocloud", "zegocloud")


def test_all_down_ends_in_one_error_per_attempt_and_leaves_nothing():
    async def main():
        services = hubs("agora", "zegocloud", "webrtc")
        for hub in services.values():
            hub.refuses = Refused("no capacity", provider="x", retry=Retry.SAME)
        feed = canned_feed()
        async with client(services) as live:
            with pytest.raises(AllProvidersFailed) as caught:
                await live.start_stream("show", feed)
        await feed.aclose()
        return len(caught.value.exceptions)

    assert run(main()) == 4


def test_a_dead_provider_is_left_under_the_same_id():
    async def main():
        services = hubs("agora", "zegocloud", "webrtc")
        async with on_air(services) as (_, _, stream, view):
            services["agora"].kill()
            await until(lambda: (stream.provider, view.provider) == ("zegocloud", "zegocloud"))
            return stream.stream, stream.phase, view.phase

    assert run(main()) == ("show", Phase.ON_AIR, Phase.ON_AIR)


def test_a_planned_move_loses_and_repeats_no_frame():
    async def main():
        services = hubs("agora", "zegocloud")
        policy = Policy(overlap_s=3.0)
        async with on_air(services, policy=policy) as (here, there, stream, view):
            seen = asyncio.ensure_future(numbers(view))
            await asyncio.sleep(1.0)
            await here.switch_provider("zegocloud")
            await there.switch_provider("zegocloud")
            await until(lambda: (stream.provider, view.provider) == ("zegocloud", "zegocloud"))
            await asyncio.sleep(5.0)
            await view.aclose()
            return await seen

    shown = run(main())

    assert shown == list(range(shown[0], shown[0] + len(shown)))
    assert len(shown) > 150


def test_a_viewer_waits_for_its_publisher_and_counts_no_attempt():
    async def main():
        services = hubs("agora", "zegocloud")
        feed = canned_feed()
        async with client(services) as here, client(services) as there:
            joining = asyncio.ensure_future(there.join_stream("show", wait_s=10.0)._begin())
            await asyncio.sleep(5.0)
            async with here.start_stream("show", feed):
                view = await joining
                outcomes = [attempt.failure for attempt in view.state.attempts]
        await feed.aclose()
        return outcomes

    assert run(main()) == [None]


def test_a_viewer_goes_past_a_provider_that_it_cannot_use():
    """
    Such as one that needs an SDK that is not there; nobody is blamed, whoever publishes elsewhere.
    """

    async def main():
        services, feed = hubs("agora", "zegocloud"), canned_feed()
        services["agora"].refuses = ConfigError("viewing here needs an SDK")
        elsewhere = {"zegocloud": services["zegocloud"]}
        async with client(elsewhere) as here, client(services) as there:
            joining = asyncio.ensure_future(there.join_stream("show", wait_s=60.0)._begin())
            await asyncio.sleep(30.0)
            async with here.start_stream("show", feed):
                view = await joining
                failures = [status.failures for status in there.providers]
                tried = [attempt.provider for attempt in view.state.attempts]
                found = view.provider, failures, tried
                await view.aclose()
        await feed.aclose()
        return found

    assert run(main()) == ("zegocloud", [0, 0], ["agora", "zegocloud"])


def test_a_viewer_that_can_use_no_provider_is_told_why():
    async def main():
        services = hubs("agora")
        services["agora"].refuses = ConfigError("viewing here needs an SDK")
        async with client(services) as there:
            with pytest.raises(AllProvidersFailed) as caught:
                await there.join_stream("show", wait_s=60.0)
            return str(caught.value)

    assert "viewing here needs an SDK" in run(main())


def test_a_publisher_that_is_configured_wrongly_is_told_so_at_once():
    async def main():
        services, feed = hubs("agora", "zegocloud"), canned_feed()
        services["agora"].refuses = ConfigError("no such channel")
        async with client(services) as live:
            with pytest.raises(LocalFault, match="no such channel"):
                await live.start_stream("show", feed)
        await feed.aclose()

    run(main())


def test_nobody_publishes_is_not_on_air_after_wait_s():
    async def main():
        async with client(hubs("agora", "zegocloud")) as there:
            begun_s = asyncio.get_running_loop().time()
            with pytest.raises(NotOnAir):
                await there.join_stream("show", wait_s=2.0)
            return asyncio.get_running_loop().time() - begun_s

    assert run(main()) == pytest.approx(2.0, abs=0.01)


def test_the_end_of_the_stream_reaches_the_viewer_and_blames_nobody():
    async def main():
        async with on_air(hubs("agora", "zegocloud")) as (_, there, stream, view):
            await stream.aclose()
            ended_s = asyncio.get_running_loop().time()
            with pytest.raises(StreamEnded):
                await view.lost()
            waited_s = asyncio.get_running_loop().time() - ended_s
            return waited_s, [status.failures for status in there.providers]

    waited_s, failures = run(main())

    assert 4.9 < waited_s < 6.0
    assert failures == [0, 0]


def test_news_end_with_the_stream_and_say_the_consoles_words():
    async def main():
        services = hubs("agora", "zegocloud")
        async with on_air(services) as (_, _, stream, _):
            services["agora"].kill()
            await until(lambda: stream.provider == "zegocloud")
            await stream.aclose()
            return [str(news) async for news in stream]

    said = run(main())

    for sentence in (
        "Health monitoring started for agora",
        "Attempting automatic failover",
        "Trying failover to zegocloud",
        "Successfully failed over to zegocloud",
    ):
        assert sentence in said


def test_a_source_that_fails_ends_the_stream_and_blames_nobody():
    async def main():
        feed = canned_feed()
        async with client(hubs("agora")) as live:
            stream = await live.start_stream("show", feed)
            feed.finish(LocalFault("the camera is gone"))
            with pytest.raises(LocalFault, match="the camera is gone"):
                async for _ in stream:
                    pass
            failures = [status.failures for status in live.providers]
        await feed.aclose()
        return failures

    assert run(main()) == [0]


@pytest.mark.parametrize("stream", ["", " ", "a" * 201, "two\nlines", "..", "bell\a"])
def test_an_odd_stream_id_is_one_clear_error(stream):
    live = LiveStreamingProvider([Memory("agora")])

    with pytest.raises(ConfigError, match="stream id"):
        live.start_stream(stream, "test-picture")


def test_two_providers_of_one_name_are_refused():
    with pytest.raises(ConfigError, match="agora"):
        LiveStreamingProvider([Memory("agora"), Memory("agora")])


def test_no_provider_at_all_is_refused():
    with pytest.raises(ConfigError, match="at least one"):
        LiveStreamingProvider([])


@pytest.mark.parametrize("turns", range(1, 40))
def test_a_start_cancelled_anywhere_leaves_nothing(turns):
    async def main():
        services = hubs("agora", "zegocloud")
        feed = canned_feed()
        async with client(services) as live:
            starting = asyncio.ensure_future(live.start_stream("show", feed)._begin())
            for _ in range(turns):
                await asyncio.sleep(0)
            await asyncio.sleep(0.001 * turns)
            starting.cancel()
            await asyncio.wait([starting])
            if not starting.cancelled():
                await starting.result().aclose()
            await asyncio.sleep(0.1)
            left = [stream for hub in services.values() for stream in hub.publishers]
        await feed.aclose()
        return left

    assert run(main()) == []


def test_a_program_that_fails_when_it_is_told_does_not_stop_the_stream():
    def tell(news):
        raise RuntimeError("the program's own bug")

    async def main():
        services, feed = hubs("agora", "zegocloud"), canned_feed()
        async with client(services, tell=tell) as live:
            async with live.start_stream("show", feed) as stream:
                services["agora"].kill()
                await until(lambda: stream.provider == "zegocloud")
                phase = stream.phase
        await feed.aclose()
        return phase

    assert run(main()) is Phase.ON_AIR


def test_each_stream_gets_its_own_errors():
    async def main():
        services = hubs("agora", "zegocloud")
        services["agora"].refuses = Refused("no capacity", provider="agora")
        feed = canned_feed()
        async with client(services, policy=Policy(max_retries=1)) as live:
            stream = await live.start_stream("one", feed)
            services["zegocloud"].refuses = Refused("full", provider="zegocloud")
            with pytest.raises(AllProvidersFailed) as caught:
                await live.start_stream("two", feed)
            await stream.aclose()
        await feed.aclose()
        return [exc.because for exc in caught.value.exceptions]

    assert run(main()) == ["no capacity", "full"]


def test_a_client_that_was_closed_hears_nothing_more():
    async def main():
        services, feed = hubs("agora"), canned_feed()
        live = client(services)
        stream = await live.start_stream("show", feed)
        await live.aclose()
        await live.aclose()
        await stream.aclose()
        live.record_streaming_error("late")
        await feed.aclose()
        return live.is_streaming, live.current_stream

    assert run(main()) == (False, None)


def test_an_adapter_is_made_anew_when_the_backend_changes_its_config():
    class Lists:
        port = 1

        async def list_providers(self):
            config = {"adapter": "whip", "url": f"http://127.0.0.1:{self.port}/whip/{{stream}}"}
            return ProviderList(providers=(Listed(name="agora", config=config),))

        async def check_health(self, name):
            return None

        async def aclose(self):
            pass

    async def main():
        backend = Lists()
        live = LiveStreamingProvider(backend=backend, policy=Policy(silence_s=1.5))
        await live.refresh_provider()
        first = live._adapters.of("agora")
        await live.refresh_provider()
        same = live._adapters.of("agora")
        backend.port = 2
        await live.refresh_provider()
        second = live._adapters.of("agora")
        await live.aclose()
        return first is same, first is second, first._silence_s

    assert run(main()) == (True, False, 1.5)


def test_the_core_hears_what_an_adapter_says_of_itself_and_the_backend_has_the_last_word():
    class Lists:
        async def list_providers(self):
            names = ("agora", "zegocloud")
            config = {"agora": {"fault_domain": "theirs"}}
            return ProviderList(
                providers=tuple(Listed(name=one, config=config.get(one, {})) for one in names)
            )

        async def check_health(self, name):
            return None

        async def aclose(self):
            pass

    made = [Memory("agora"), Memory("zegocloud")]
    for one in made:
        one.first_media_s, one.fault_domain = 10.0, "west"

    async def main(policy):
        async with LiveStreamingProvider(made, backend=Lists(), policy=policy) as live:
            await live.refresh_provider()
            listed = live.manager.driver.state.listed
            return {entry.name: dict(entry.config) for entry in listed.providers}

    assert run(main(Policy())) == {
        "agora": {"first_media_s": 10.0, "fault_domain": "theirs"},
        "zegocloud": {"first_media_s": 10.0, "fault_domain": "west"},
    }
    assert run(main(Policy(first_media_s=1.0)))["zegocloud"] == {"fault_domain": "west"}
