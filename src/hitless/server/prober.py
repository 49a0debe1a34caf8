"""
Who asks the providers how they are: a small request often, a media canary now and then.

Each target has one task of its own; the providers' turns are spread by their names, and one that
is suspect is asked more often (`core/cadence.py`). What is found is only observed here: judging
it is `core/verdict.py`'s.
"""

from __future__ import annotations

import asyncio
import errno
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

import aiohttp

from ..core.cadence import interval_s, offset_s
from ..core.evidence import Rules
from ..core.observation import Level, ProbeEnded
from ..core.verdict import Standing
from ..errors import ConfigError
from ..providers.base import Provider
from .addresses import (
    Allowed,
    PinnedConnector,
    Resolver,
    TargetRefused,
    TargetUnresolved,
    check_target,
)
from .canary import Canary, CanaryEnded, Limits
from .sighting import Lateness


TIMEOUT_S: Final = 5.0
"""How long a control probe may take, name and body included [s]."""

BODY_BYTES_MAX: Final = 64 * 1024
"""A longer answer is cut off; it is not read for what it says."""

LATE_S_MAX: Final = 0.5
"""A control probe that fails while our own loop was later than this is our trouble [s]."""

CANARIES_MAX: Final = 2
"""Canaries that run at one time: each encodes and decodes."""

_LIMITS: Final = Limits()

_AS_HTTP: Final = {"ws": "http", "wss": "https", "rtmp": "http", "rtmps": "https"}

POSTPONED_S: Final = 1.0
"""A canary that finds no place is tried again after this time [s]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a control probe found; the fields are those of `ProbeEnded`."""

    ok: bool
    because: str
    answered: bool = True
    own_trouble: bool = False


Control = Callable[[], Awaitable[Answer]]
"""Asks a provider's control side, in its own way: bounded by the prober; need not never raise."""


class Runs(Protocol):
    """What is run as a canary."""

    async def run(self) -> CanaryEnded: ...

    async def aclose(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """
    What is probed: a provider, or one region of it.

    Attributes:
        name: The provider's name.
        region: Which region; None: none in particular.
        adapter: Carries the canary; None: control only. It is not closed by the prober.
        control: Asks it in its own way; None: `control_url`, else `publish_url`, is asked.
        control_url: Health or API endpoint, asked with GET.
        publish_url: WHIP endpoint, asked with OPTIONS (RFC 9725 section 4.2) if nothing else is
            there; `{stream}` in it is replaced.
        media_urls: What else a canary connects to; judged before it runs, as `publish_url` is.
        headers: Sent along with GET and OPTIONS. They may hold a credential: never printed.
        deepest: How deep its canary goes.
    """

    name: str
    region: str | None = None
    adapter: Provider | None = None
    control: Control | None = None
    control_url: str | None = field(default=None, repr=False)
    publish_url: str | None = field(default=None, repr=False)
    media_urls: tuple[str, ...] = field(default=(), repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    deepest: Level = Level.END_TO_END


class HttpControl:
    """
    Asks a URL: 2xx, 3xx and 4xx are an answer (about us, at worst); 5xx and no answer a failure.

    The name is resolved once, judged, and connected to as judged; redirects are not followed.

    Args:
        url: Where to; neither it nor the headers are ever quoted.
        method: `GET` or `OPTIONS`.
        headers: Sent along.
        allow_private: Networks allowed besides the public ones; True: everything.
        resolver: Finds the addresses of a name; None: the system's.
    """

    def __init__(
        self,
        url: str,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        allow_private: Allowed = (),
        resolver: Resolver | None = None,
    ) -> None:
        self._url, self._method, self._headers = url, method, dict(headers or {})
        self._allow_private, self._resolver = allow_private, resolver

    async def __call__(self) -> Answer:
        """Ask once. Never raises, but when cancelled."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await self._ask()
        except TimeoutError:
            return Answer(ok=False, because=f"no answer within {TIMEOUT_S:g} s", answered=False)
        except TargetUnresolved as exc:
            return Answer(ok=False, because=exc.because, answered=False)
        except TargetRefused as exc:
            return Answer(ok=False, because=f"not probed: {exc.because}", own_trouble=True)
        except (aiohttp.ClientError, OSError, ValueError) as exc:
            return _failed(exc)

    async def _ask(self) -> Answer:
        target = await check_target(
            self._url, self._resolver, allow_private=self._allow_private, timeout_s=TIMEOUT_S
        )
        async with (
            aiohttp.ClientSession(
                connector=PinnedConnector(target),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                timeout=aiohttp.ClientTimeout(total=None),  # `__call__` holds the only limit
            ) as session,
            session.request(
                self._method, target.url, headers=self._headers, allow_redirects=False
            ) as response,
        ):
            read = 0
            async for part in response.content.iter_chunked(4096):
                read += len(part)
                if read > BODY_BYTES_MAX:
                    break
            said = f"HTTP {response.status} to {self._method}"
            return Answer(ok=response.status < 500, because=said)


_OURS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.EADDRNOTAVAIL})


def _failed(exc: Exception) -> Answer:
    """Return what a failed request is called. Texts of foreign exceptions are never quoted."""
    match exc:
        case aiohttp.ClientSSLError() | aiohttp.ClientConnectorCertificateError():
            return Answer(ok=False, because="TLS failed")
        case OSError(errno=errno.ECONNREFUSED):
            return Answer(ok=False, because="connection refused")
        case OSError(errno=number) if number in _OURS:
            return Answer(ok=False, because="this machine cannot connect", own_trouble=True)
        case aiohttp.ClientPayloadError():
            return Answer(ok=False, because="the answer is cut short")
        case aiohttp.ClientResponseError():
            return Answer(ok=False, because="what answers does not speak HTTP")
        case aiohttp.ServerDisconnectedError() | ConnectionResetError():
            because = "the connection was closed without an answer"
            return Answer(ok=False, because=because, answered=False)
        case aiohttp.ClientError() | OSError():
            return Answer(ok=False, because="no connection", answered=False)
    return Answer(ok=False, because="its URL or headers cannot be sent", own_trouble=True)


@dataclass(slots=True, kw_only=True, eq=False)
class _Turns:
    """One target, and whose turn it is when."""

    target: Target
    control: Control
    canary: Runs | None
    begun_s: dict[Level, float] = field(default_factory=dict)
    first_s: dict[Level, float] = field(default_factory=dict)
    wanted: list[asyncio.Future[list[ProbeEnded]]] = field(default_factory=list)
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


class Prober:
    """
    Probes providers, each in its turn, and tells what it found.

    Args:
        rules: How often.
        standing: Returns what is thought of them now: suspects are asked more often.
        observe: Takes each result. It must not block.
        rng: Where the ids of canary streams come from.
        allow_private: Networks that may be probed besides the public ones; True: everything.
        limits: How long a canary may take.
        new_canary: Makes the canary of a target; None: `Canary` over its adapter.
    """

    def __init__(
        self,
        rules: Rules,
        standing: Callable[[], Standing],
        observe: Callable[[ProbeEnded], None],
        *,
        rng: random.Random,
        allow_private: Allowed = (),
        limits: Limits = _LIMITS,
        new_canary: Callable[[Target], Runs | None] | None = None,
    ) -> None:
        self._rules, self._standing, self._observe = rules, standing, observe
        self._rng, self._allow_private, self._limits = rng, allow_private, limits
        self._new_canary = new_canary or self._canary_of
        self._turns: dict[tuple[str, str | None], _Turns] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._places = asyncio.Semaphore(CANARIES_MAX)
        self._is_closed = False

    async def watch(self, targets: Iterable[Target]) -> None:
        """
        Probe these targets from now on, and no others; those that are as before go on as before.

        Raises:
            ConfigError: A target has nothing that could be asked; nothing is changed.
        """
        wanted = {(target.name, target.region): target for target in targets}
        new = {
            key: self._new(target)
            for key, target in wanted.items()
            if key not in self._turns or self._turns[key].target != target
        }
        gone = [key for key in self._turns if key not in wanted or key in new]
        await self._end([self._turns.pop(key) for key in gone])
        if self._is_closed:
            return
        for key, turns in new.items():
            name = f"hitless: probe {key[0]}"
            turns.task = asyncio.create_task(self._run(turns), name=name)
            self._turns[key] = turns
        for name in self._locks.keys() - {name for name, _ in self._turns}:
            del self._locks[name]

    async def check_now(self, name: str | None = None) -> list[ProbeEnded]:
        """
        Probe one provider, or all, on every level at once, and return the results.

        A probe that runs already is waited for and done again. Bounded; what did not end in time
        is missing from the results.

        Raises:
            ConfigError: No provider of that name is probed.
        """
        asked = [turns for key, turns in self._turns.items() if name in (None, key[0])]
        if not asked and name is not None:
            raise ConfigError(
                f"no provider {name[:80]!r} is probed here (see `hitless providers`)"
            )
        loop = asyncio.get_running_loop()
        answers: list[asyncio.Future[list[ProbeEnded]]] = []
        for turns in asked:
            answer: asyncio.Future[list[ProbeEnded]] = loop.create_future()
            turns.wanted.append(answer)
            turns.woken.set()
            answers.append(answer)
        if answers:
            one_s = TIMEOUT_S + self._limits.total_s
            await asyncio.wait(answers, timeout=one_s * (2 + len(self._turns)))
        return [probe for answer in answers if answer.done() for probe in answer.result()]

    async def aclose(self) -> None:
        """End every probe. Idempotent; bounded by the closing of a canary."""
        self._is_closed = True
        turns = list(self._turns.values())
        self._turns.clear()
        await self._end(turns)

    # --- Inside ---

    def _new(self, target: Target) -> _Turns:
        loop, key = asyncio.get_running_loop(), f"{target.name}/{target.region or ''}"
        interval = self._rules.control_interval_s
        turns = _Turns(
            target=target, control=self._control_of(target), canary=self._new_canary(target)
        )
        # The first canary comes as soon as the first control probe may: what it proves is wanted.
        for level in (Level.CONTROL, *([target.deepest] if turns.canary is not None else [])):
            turns.first_s[level] = loop.time() + offset_s(f"{key}/{level}", interval)
        return turns

    def _control_of(self, target: Target) -> Control:
        if target.control is not None:
            return target.control
        url, method = target.control_url, "GET"
        if url is None and target.publish_url is not None:
            url, method = target.publish_url.replace("{stream}", "hitless-canary"), "OPTIONS"
        if url is None:
            raise ConfigError(f"{target.name}: give control, control_url or publish_url to probe")
        return HttpControl(
            url, method=method, headers=target.headers, allow_private=self._allow_private
        )

    def _canary_of(self, target: Target) -> Runs | None:
        if target.adapter is None or target.deepest is Level.CONTROL:
            return None
        return Canary(
            target.adapter,
            level=target.deepest,
            region=target.region,
            limits=self._limits,
            rng=self._rng,
        )

    async def _end(self, ended: list[_Turns]) -> None:
        tasks = [turns.task for turns in ended if turns.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for turns in ended:
            for answer in turns.wanted:
                if not answer.done():
                    answer.set_result([])
            if turns.canary is not None:
                await turns.canary.aclose()

    async def _run(self, turns: _Turns) -> None:
        loop = asyncio.get_running_loop()
        while True:
            while not turns.wanted and (wait_s := min(self._due(turns)) - loop.time()) > 0:
                turns.woken.clear()
                try:
                    async with asyncio.timeout(wait_s):
                        await turns.woken.wait()
                except TimeoutError:
                    break
            async with self._locks[turns.target.name]:
                try:
                    await self._round(turns)
                except Exception as exc:  # a mistake must neither end the probing nor be hidden
                    _report(exc)
                    await asyncio.sleep(POSTPONED_S)

    def _due(self, turns: _Turns) -> list[float]:
        return [self._due_s(turns, level) for level in turns.first_s]

    def _due_s(self, turns: _Turns, level: Level) -> float:
        """Return when a level is due [s]: sooner, once somebody became suspect."""
        begun_s = turns.begun_s.get(level)
        if begun_s is None:
            return turns.first_s[level]
        return begun_s + interval_s(self._rules, self._standing(), turns.target.name, level)

    async def _round(self, turns: _Turns) -> None:
        """Probe what is due, or everything if somebody waits for it."""
        loop = asyncio.get_running_loop()
        asked, turns.wanted = turns.wanted, []
        results: list[ProbeEnded] = []
        try:
            for level in turns.first_s:
                if not asked and self._due_s(turns, level) > loop.time():
                    continue
                if level is Level.CONTROL:
                    turns.begun_s[level] = loop.time()
                    results.append(await self._control(turns))
                elif asked or not self._places.locked():
                    async with self._places:
                        turns.begun_s[level] = loop.time()
                        results.append(await self._canary(turns))
                else:
                    turns.begun_s.pop(level, None)
                    turns.first_s[level] = loop.time() + POSTPONED_S
                    continue
                self._tell(results[-1])
        finally:
            for answer in asked:
                if not answer.done():
                    answer.set_result(results)

    async def _control(self, turns: _Turns) -> ProbeEnded:
        loop = asyncio.get_running_loop()
        lateness, begun_s = Lateness(), loop.time()
        try:
            async with asyncio.timeout(2 * TIMEOUT_S):
                answer = await turns.control()
        except TimeoutError:
            because = f"no answer within {2 * TIMEOUT_S:g} s"
            answer = Answer(ok=False, because=because, answered=False)
        except Exception as exc:  # the app's code: anything, and its text may hold a secret
            because = f"the control probe itself failed: {type(exc).__name__}"
            answer = Answer(ok=False, because=because, own_trouble=True)
        finally:
            late_s = lateness.stop()
        because, is_ours = answer.because, answer.own_trouble
        if not answer.ok and late_s > LATE_S_MAX:
            because, is_ours = f"our own loop was {late_s:.2f} s late: {because}", True
        return ProbeEnded(
            provider=turns.target.name,
            region=turns.target.region,
            level=Level.CONTROL,
            ok=answer.ok,
            because=because,
            latency_s=loop.time() - begun_s if answer.answered else None,
            answered=answer.answered,
            own_trouble=is_ours,
        )

    async def _canary(self, turns: _Turns) -> ProbeEnded:
        assert turns.canary is not None
        target = turns.target
        try:
            for url in (target.publish_url, *target.media_urls):
                if url is not None:
                    url = as_http(url.replace("{stream}", "hitless-canary"))
                    await check_target(url, allow_private=self._allow_private)
            return (await turns.canary.run()).probe
        except TargetUnresolved as exc:
            because, is_ours = exc.because, False
        except TargetRefused as exc:
            because, is_ours = f"not probed: {exc.because}", True
        return ProbeEnded(
            provider=target.name,
            region=target.region,
            level=target.deepest,
            ok=False,
            because=because,
            answered=False,
            own_trouble=is_ours,
        )

    def _tell(self, probe: ProbeEnded) -> None:
        """Hand on a result; whoever waits looks again at when it is due."""
        try:
            self._observe(probe)
        except Exception as exc:  # somebody else's mistake, likewise
            _report(exc)
        for turns in self._turns.values():
            turns.woken.set()


def as_http(url: str) -> str:
    """Return an address of media as one that can be judged: who is there, not what is spoken."""
    scheme, separator, rest = url.partition("://")
    return f"{_AS_HTTP.get(scheme, scheme)}{separator}{rest}"


def _report(exc: Exception) -> None:
    context = {"message": "probing failed by a mistake", "exception": exc}
    asyncio.get_running_loop().call_exception_handler(context)
