"""hitless.server.prober: when who is asked what"""

import asyncio
import random

import pytest
from unit.server.prober_fakes import BAD, GOOD, MUTE, RULES, Api, Bird, Probing
from virtual_time import VirtualTimeLoop, run

from hitless.core.observation import Level
from hitless.core.verdict import Standing
from hitless.errors import ConfigError
from hitless.providers.memory import Memory
from hitless.server import prober
from hitless.server.prober import Prober, Target


# --- When ---


def test_each_provider_is_probed_at_its_interval_from_a_place_of_its_own():
    """
    Every 30 s, and not all at once.
    """
    apis = {f"p{n}": Api() for n in range(8)}

    async def main():
        async with Probing(apis) as probing:
            await asyncio.sleep(300)
            return len(probing.seen)

    seen = run(main())

    for api in apis.values():
        assert set(api.intervals_s) == {30.0}
        assert 0 <= api.asked_s[0] < 30
    assert 80 == pytest.approx(seen, abs=8)
    first = sorted(api.asked_s[0] for api in apis.values())
    assert first[-1] - first[0] > 10
    assert len(set(first)) == len(first)


def test_a_suspect_is_probed_every_five_seconds_and_soon_down():
    """
    From the first failure on.
    """
    api, other = Api(), Api()

    async def main():
        async with Probing({"a": api, "b": other}) as probing:
            await asyncio.sleep(60)
            api.answer = BAD
            broken_s = 60
            await probing.is_down.wait()
            took_s = asyncio.get_running_loop().time() - broken_s
            await asyncio.sleep(20)
            return took_s

    assert run(main()) <= 30 + 2 * 5 + 1
    assert {30.0, 5.0} == set(api.intervals_s)
    assert {30.0} == set(other.intervals_s)


def test_a_silence_has_the_others_asked_at_once():
    """
    The one that waits for half a minute is woken: is it them, or us?
    """
    api, other = Api(), Api()

    async def main():
        async with Probing({"a": api, "b": other}) as probing:
            await asyncio.sleep(61)
            await probing.prober.check_now()
            api.answer = MUTE
            await probing.prober.check_now("a")
            silent_s = asyncio.get_running_loop().time()
            await asyncio.sleep(6)
            return [at_s for at_s in other.asked_s if at_s > silent_s]

    assert run(main())


def test_when_all_are_silent_nobody_is_down():
    """
    Our own network: the observer is suspected.
    """
    apis = {name: Api(MUTE) for name in "abc"}

    async def main():
        async with Probing(apis) as probing:
            await asyncio.sleep(600)
            return probing.standing

    standing = run(main())

    assert standing.suspect_because is not None
    assert {"unknown"} == {standing.verdict(name).word.value for name in apis}


def test_canaries_run_seldom_and_the_first_one_soon():
    """
    Every 300 s, from within the first 30 s on; every 15 s once one failed.
    """
    api, flights = Api(), Api(takes_s=4.0)
    bird = Bird(flights)

    async def main():
        async with Probing({"a": api}, birds={"a": bird}) as probing:
            await asyncio.sleep(700)
            assert flights.asked_s[0] < 31
            assert {300.0} == set(flights.intervals_s)
            bird.ok = False
            await asyncio.sleep(400)
            return probing.standing.verdict("a").word.value

    assert "down" == run(main())
    assert flights.intervals_s[3] == pytest.approx(15.0, abs=0.2)
    assert bird.is_closed


def test_few_canaries_run_at_one_time_and_control_probes_do_not_wait_for_them():
    """
    Each one encodes and decodes.
    """
    flights = Api(takes_s=20.0)
    apis = {f"p{n}": Api() for n in range(6)}

    async def main():
        async with Probing(apis, birds={name: Bird(flights) for name in apis}):
            await asyncio.sleep(280)

    run(main())

    assert 6 == len(flights.asked_s)
    assert prober.CANARIES_MAX == flights.most_at_once
    assert all(max(api.intervals_s) <= 30 + 20 for api in apis.values())


# --- check_now ---


def test_a_check_asks_at_once_on_every_level_and_returns_the_results():
    """
    Though nothing is due.
    """
    api = Api()

    async def main():
        async with Probing({"a": api, "b": Api()}, birds={"a": Bird(Api())}) as probing:
            one = await probing.prober.check_now("a")
            every = await probing.prober.check_now()
            return one, every, probing.seen, asyncio.get_running_loop().time()

    one, every, seen, now = run(main())

    assert [Level.CONTROL, Level.END_TO_END] == [probe.level for probe in one]
    assert ["a", "a", "b"] == sorted(probe.provider for probe in every)
    assert 5 == len(seen)
    assert now < 1


def test_never_more_than_one_probe_of_a_provider_at_a_time():
    """
    However many ask, in whatever region.
    """
    api = Api(takes_s=3.0)

    async def main():
        async with Probing({}) as probing:
            regions = [Target(name="a", region=region, control=api) for region in ("eu", "us")]
            await probing.prober.watch(regions)
            checks = [probing.prober.check_now("a") for _ in range(10)]
            answers = await asyncio.gather(*checks)
            await asyncio.sleep(100)
            return answers

    answers = run(main())

    assert 1 == api.most_at_once
    assert all({"eu", "us"} == {probe.region for probe in found} for found in answers)


def test_an_unknown_name_is_refused():
    """
    And says so.
    """

    async def main():
        async with Probing({"a": Api()}) as probing:
            with pytest.raises(ConfigError, match="no provider 'stranger'"):
                await probing.prober.check_now("stranger")

    run(main())


def test_closing_while_a_check_waits_ends_both():
    """
    The caller gets what there is.
    """

    async def main():
        probing = Probing({"a": Api(takes_s=4.0)})
        await probing.prober.watch(probing.targets())
        check = asyncio.create_task(probing.prober.check_now())
        await asyncio.sleep(1)
        await probing.prober.aclose()
        await probing.prober.aclose()
        assert [] == await check
        assert [] == await probing.prober.check_now()

    run(main())


# --- What ---


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (GOOD, (True, "HTTP 200", True, False)),
        (BAD, (False, "HTTP 503", True, False)),
        (MUTE, (False, "no answer", False, False)),
        (
            RuntimeError("token=secret"),
            (False, "the control probe itself failed: RuntimeError", True, True),
        ),
    ],
)
def test_an_answer_becomes_an_observation(answer, expected):
    """
    A probe that fails by a mistake of its own is our trouble, and its text is not quoted.
    """

    async def main():
        async with Probing({"a": Api(answer)}, region="eu") as probing:
            (probe,) = await probing.prober.check_now("a")
            return probe

    probe = run(main())

    assert expected == (probe.ok, probe.because, probe.answered, probe.own_trouble)
    assert ("a", "eu", Level.CONTROL) == (probe.provider, probe.region, probe.level)
    if probe.answered:
        assert probe.latency_s == pytest.approx(0.1)


def test_a_control_probe_that_hangs_is_bounded():
    """
    And unanswered.
    """

    async def main():
        async with Probing({"a": Api(takes_s=1e6)}) as probing:
            (probe,) = await probing.prober.check_now("a")
            return probe, asyncio.get_running_loop().time()

    probe, now = run(main())

    assert (False, False, False) == (probe.ok, probe.answered, probe.own_trouble)
    assert now <= 2 * prober.TIMEOUT_S + 0.1


@pytest.mark.parametrize("answer", [GOOD, BAD])
def test_a_failure_while_our_own_loop_is_late_is_ours(answer):
    """
    A success is one all the same.
    """
    loop = VirtualTimeLoop()

    class Late(Api):
        async def __call__(self):
            loop._jumping.now += 2.0  # the loop was held up
            return await super().__call__()

    async def main():
        async with Probing({"a": Late(answer)}) as probing:
            (probe,) = await probing.prober.check_now("a")
            return probe

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        probe = runner.run(main())

    assert (answer.ok, not answer.ok) == (probe.ok, probe.own_trouble)
    assert probe.ok or "late" in probe.because


def test_an_observer_that_fails_does_not_end_the_probing():
    """
    And its mistake is not hidden.
    """
    loop, api = VirtualTimeLoop(), Api()

    def observe(probe):
        raise ZeroDivisionError

    async def main():
        asking = Prober(RULES, Standing, observe, rng=random.Random(1))
        await asking.watch([Target(name="a", control=api)])
        await asyncio.sleep(100)
        await asking.aclose()

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(main())

    assert len(api.asked_s) >= 3
    assert len(api.asked_s) == len(loop.complaints)
    assert "ZeroDivisionError" in loop.complaints[0]


# --- Whom ---


def test_targets_come_and_go_while_the_others_go_on():
    """
    One that changed is begun anew; one that is as before does not notice.
    """
    first, second, third = Api(), Api(), Api()

    async def main():
        async with Probing({"a": first, "b": second}) as probing:
            await asyncio.sleep(100)
            probing.apis = {"a": first, "c": third}
            await probing.prober.watch(probing.targets())
            gone = len(second.asked_s)
            await asyncio.sleep(100)
            assert gone == len(second.asked_s)

    run(main())

    assert {30.0} == set(first.intervals_s)
    assert third.asked_s


def test_a_target_with_nothing_to_ask_is_refused_and_nothing_changes():
    """
    The message says what to give.
    """
    api = Api()

    async def main():
        async with Probing({"a": api}) as probing:
            with pytest.raises(ConfigError, match="b: give control"):
                await probing.prober.watch([Target(name="b")])
            await asyncio.sleep(40)

    run(main())
    assert api.asked_s


def test_secrets_of_a_target_are_not_in_its_repr():
    """
    Neither headers nor a key in a URL.
    """
    target = Target(
        name="a",
        control_url="https://api.example.com/?key=secret",
        publish_url="https://api.example.com/whip?key=secret",
        headers={"Authorization": "Bearer secret"},
    )
    assert "secret" not in repr(target)


def test_a_target_with_an_adapter_gets_a_canary_as_deep_as_it_says():
    """
    And one without, or for control only, gets none.
    """
    asking = Prober(RULES, Standing, lambda probe: None, rng=random.Random(1))
    adapter = Memory("a")

    assert asking._new_canary(Target(name="a", adapter=adapter)) is not None
    assert asking._new_canary(Target(name="a")) is None
    assert asking._new_canary(Target(name="a", adapter=adapter, deepest=Level.CONTROL)) is None


@pytest.mark.parametrize(
    "where",
    [
        {"publish_url": "http://10.1.2.3/whip/{stream}"},
        {"publish_url": "wss://10.1.2.3:8989"},
        {"publish_url": "rtmp://10.1.2.3/live/{stream}"},
        {"media_urls": ("https://10.1.2.3/{stream}",)},
    ],
)
def test_a_canary_is_not_sent_to_a_private_address(where):
    """
    That is our configuration: no verdict.
    """
    flights = Api()

    async def main(**allowed):
        async with Probing(
            {"a": Api()},
            birds={"a": Bird(flights)},
            **where,
            **allowed,
        ) as probing:
            return (await probing.prober.check_now("a"))[1]

    probe = run(main())
    assert (False, True, []) == (probe.ok, probe.own_trouble, flights.asked_s)
    assert "private" in probe.because

    assert run(main(allow_private=True)).ok
