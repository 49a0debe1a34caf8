"""hitless.server.prober"""

import asyncio
import contextlib
import random

import pytest
from aiohttp import web
from virtual_time import VirtualTimeLoop, run

from hitless.core.evidence import Rules, Word
from hitless.core.observation import Level, ProbeEnded
from hitless.core.verdict import Standing, judge
from hitless.errors import ConfigError
from hitless.providers.memory import Memory
from hitless.server import prober
from hitless.server.canary import CanaryEnded, Cost
from hitless.server.prober import Answer, HttpControl, Prober, Target


RULES = Rules()
GOOD = Answer(ok=True, because="HTTP 200")
BAD = Answer(ok=False, because="HTTP 503")
MUTE = Answer(ok=False, because="no answer", answered=False)


class Api:
    """A provider's control side: says what it is told to, and remembers when it was asked."""

    def __init__(self, answer=GOOD, takes_s=0.1):
        self.answer, self.takes_s = answer, takes_s
        self.asked_s = []
        self.at_once = self.most_at_once = 0

    async def __call__(self):
        self.asked_s.append(asyncio.get_running_loop().time())
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(self.takes_s)
        finally:
            self.at_once -= 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    @property
    def intervals_s(self):
        """Return the times between questions [s]."""
        return [round(b - a, 3) for a, b in zip(self.asked_s, self.asked_s[1:], strict=False)]


class Bird:
    """A canary that takes a while and says what it is told to."""

    def __init__(self, api, ok=True):
        self.api, self.ok = api, ok
        self.is_closed = False

    async def run(self):
        await self.api()
        probe = ProbeEnded(provider="a", level=Level.END_TO_END, ok=self.ok, because="seen")
        return CanaryEnded(
            probe=probe,
            publish_s=0.1,
            first_media_s=0.1,
            latency_s=0.1,
            loss=0.0,
            sound_loss=0.0,
            late_s=0.0,
            cost=Cost(),
        )

    async def aclose(self):
        self.is_closed = True


class Probing:
    """A prober over fakes, with everything it observed, judged as it comes."""

    def __init__(self, apis, *, birds=None, allow_private=(), **targets):
        self.standing, self.seen = Standing(), []
        self.is_down = asyncio.Event()
        self.apis, self.birds, self.more = apis, birds or {}, targets
        self.prober = Prober(
            RULES,
            lambda: self.standing,
            self.observe,
            rng=random.Random(1),
            allow_private=allow_private,
            new_canary=lambda target: self.birds.get(target.name),
        )

    def observe(self, probe):
        now = asyncio.get_running_loop().time()
        self.seen.append((now, probe))
        self.standing, _ = judge(RULES, self.standing, probe, now)
        if any(case.verdict.word is Word.DOWN for case in self.standing.cases.values()):
            self.is_down.set()

    def targets(self):
        return [Target(name=name, control=api, **self.more) for name, api in self.apis.items()]

    async def __aenter__(self):
        await self.prober.watch(self.targets())
        return self

    async def __aexit__(self, *_):
        await self.prober.aclose()


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


# --- Over HTTP, on loopback ---


@contextlib.asynccontextmanager
async def serving(handler):
    """Serve every path and method by `handler` and give the URL."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def ask(handler, path="/health", **options):
    """Ask a server once."""

    async def main():
        async with serving(handler) as url:
            control = HttpControl(url + path, **{"allow_private": True, **options})
            return await control()

    return asyncio.run(main())


def answering(status, **more):
    """Return a handler that gives one answer."""

    async def handler(request):
        return web.Response(status=status, **more)

    return handler


@pytest.mark.parametrize(
    ("status", "ok"),
    [
        (200, True),
        (204, True),
        (302, True),
        (401, True),
        (404, True),
        (429, True),
        (500, False),
        (503, False),
    ],
)
def test_what_answers_with_anything_but_5xx_is_there(status, ok):
    """
    4xx is about us.
    """
    answer = ask(answering(status))

    assert (ok, True, False) == (answer.ok, answer.answered, answer.own_trouble)
    assert f"HTTP {status} to GET" == answer.because


def test_redirects_are_not_followed():
    """
    Not even to itself.
    """
    asked = []

    async def handler(request):
        asked.append(request.path)
        raise web.HTTPFound("/elsewhere")

    assert ask(handler).ok
    assert ["/health"] == asked


def test_method_and_headers_are_sent():
    """
    An API may want to know who asks.
    """
    asked = []

    async def handler(request):
        asked.append((request.method, request.headers["Authorization"]))
        return web.Response()

    ask(handler, method="OPTIONS", headers={"Authorization": "Bearer x"})
    assert [("OPTIONS", "Bearer x")] == asked


def test_an_endless_answer_is_cut_off():
    """
    64 KiB are enough.
    """
    sent = []

    async def handler(request):
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            for _ in range(20_000):
                await response.write(b"x" * 4096)
                sent.append(4096)
        return response

    assert ask(handler).ok
    assert sum(sent) < 20_000 * 4096


def test_a_name_is_connected_to_as_it_was_judged():
    """
    It is resolved once, and shown in `Host`.
    """
    asked, hosts = [], []

    async def handler(request):
        hosts.append(request.host)
        return web.Response()

    async def main():
        async def resolver(host, port):
            asked.append(host)
            return ["127.0.0.1"]

        async with serving(handler) as url:
            port = url.rsplit(":", 1)[1]
            url = f"http://provider.example:{port}/"
            refused = await HttpControl(url, resolver=resolver)()
            reached = await HttpControl(url, resolver=resolver, allow_private=True)()
            return refused, reached, port

    refused, reached, port = asyncio.run(main())

    assert (False, True) == (refused.ok, refused.own_trouble)
    assert "loopback" in refused.because
    assert reached.ok
    assert [f"provider.example:{port}"] == hosts
    assert 2 == len(asked)


@pytest.mark.parametrize(
    ("url", "because"),
    [
        ("http://127.0.0.1:1/", "loopback"),
        ("http://169.254.169.254/latest/meta-data", "link-local"),
        ("http://[::1]/", "loopback"),
        ("http://[::ffff:10.0.0.1]/", "private"),
        ("file:///etc/passwd", "must begin with"),
        ("https://user:secret@example.com/", "user or password"),
    ],
)
def test_private_targets_are_refused_as_our_own_trouble(url, because):
    """
    No verdict comes of them.
    """
    answer = asyncio.run(HttpControl(url)())

    assert (False, True) == (answer.ok, answer.own_trouble)
    assert because in answer.because
    assert "secret" not in answer.because


def test_a_refused_connection_is_an_answer_and_a_failure():
    """
    The machine is there, and nothing listens.
    """

    async def main():
        async with serving(answering(200)) as url:
            pass
        return await HttpControl(url, allow_private=True)()

    answer = asyncio.run(main())

    assert (False, True, "connection refused") == (answer.ok, answer.answered, answer.because)


def test_a_name_that_is_not_found_is_no_answer():
    """
    F25: it may as well be our own resolver.
    """

    async def main():
        async def resolver(host, port):
            raise OSError("not found")

        return await HttpControl("https://provider.example/", resolver=resolver)()

    answer = asyncio.run(main())

    assert (False, False, False) == (answer.ok, answer.answered, answer.own_trouble)


def test_what_hangs_is_no_answer(monkeypatch):
    """
    Within the limit, body included.
    """
    monkeypatch.setattr(prober, "TIMEOUT_S", 0.2)

    async def handler(request):
        await asyncio.sleep(5)

    answer = ask(handler)

    assert (False, False, "no answer within 0.2 s") == (
        answer.ok,
        answer.answered,
        answer.because,
    )


def test_what_does_not_speak_http_is_a_failure():
    """
    Something is there, and it is not the provider.
    """

    async def main():
        async def talk(reader, writer):
            writer.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(talk, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            return await HttpControl(f"http://127.0.0.1:{port}/", allow_private=True)()

    answer = asyncio.run(main())

    assert not answer.ok
    assert not answer.own_trouble


def test_the_whip_endpoint_is_asked_when_nothing_else_is_configured():
    """
    OPTIONS, with a stream's name filled in.
    """
    asked = []

    async def handler(request):
        asked.append((request.method, request.path))
        return web.Response()

    async def main():
        async with serving(handler) as url:
            async with Probing({}, allow_private=True) as probing:
                whip = Target(name="a", publish_url=url + "/whip/{stream}")
                await probing.prober.watch([whip])
                await probing.prober.check_now("a")
                both = Target(name="a", publish_url=url + "/whip", control_url=url + "/health")
                await probing.prober.watch([both])
                await probing.prober.check_now("a")

    asyncio.run(main())

    assert [("OPTIONS", "/whip/hitless-canary"), ("GET", "/health")] == asked
