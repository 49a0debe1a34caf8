"""A prober over fakes: control sides and canaries that say what they are told to."""

import asyncio
import random

from hitless.core.evidence import Rules, Word
from hitless.core.observation import Level, ProbeEnded
from hitless.core.verdict import Standing, judge
from hitless.server.canary import CanaryEnded, Cost
from hitless.server.prober import Answer, Prober, Target


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
