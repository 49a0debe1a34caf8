"""
Remote hands: phones and browsers with a provider's own SDK, for which this server decides.

A hand is a connection with a driver beside it. The driver does not know that its legs are far
away. What the coordinator sends to the connection is heard by the driver first; the client is
told what it needs to go on by itself while it is cut off. Nothing of a hand outlives its
connection but what the client has: it comes back, says which legs it holds, and they are taken up
as they are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import msgspec

from ..client import protocol
from ..client.backend import ProviderSource
from ..client.listing import read_health, read_list
from ..client.telemetry import log
from ..core.events import Announce, StreamRequested
from ..core.listing import Check, ProviderList
from ..core.policy import Policy
from ..errors import HitlessError, LocalFault
from .coordinator import Coordinator, Rejected, check_names
from .hand_legs import RemoteLeg, RemoteProvider, cut
from .hand_plans import problem
from .hand_recording import HandRecording, RecordedDriver
from .hand_sessions import HandSession
from .hub import Connection, Hub
from .keys import Identity, Permission


if TYPE_CHECKING:
    from .judging import Judge
    from .providers import Providers


WAIT_S_MAX: Final = 86_400.0
"""How long a viewer may wait for a publisher [s]."""
LEG_MAX: Final = 1 << 31
"""A client that has used up the numbers of legs below this begins anew."""


class Hand(Connection):
    """
    One connected remote hand.

    Args:
        hello: How it introduced itself; its streams are taken up by `take_up`.
        identity: Whose key it showed.
        coordinator: Agrees placements and gives plans.
        hub: Where it is attached to its streams; whoever made it adds and removes it there.
        source: The providers that this client can open, and how they are.
        policy: The limits.
        seed: Decides the jitter.
        recording: Where its steps are kept.
        tell: Hears every event of its driver.
    """

    def __init__(
        self,
        hello: protocol.Hello,
        identity: Identity,
        *,
        coordinator: Coordinator,
        hub: Hub,
        source: ProviderSource,
        policy: Policy,
        seed: int,
        recording: HandRecording,
        tell: Callable[[Announce], None] = lambda news: None,
    ) -> None:
        super().__init__(hello.client, identity, is_hand=True)
        self.hello, self.coordinator = hello, coordinator
        self._legs: dict[int, RemoteLeg] = {}
        self._hub = hub
        self._sessions: dict[str, HandSession] = {}
        self._burials: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._numbered = 0
        self._is_closed = False
        self.driver = RecordedDriver(
            policy,
            source,
            lambda name: RemoteProvider(name, self._carried),
            seed=seed,
            tell=tell,
            control=_NextDoor(self),
            client=hello.client,
            recording=recording,
        )

    def take_up(self) -> None:
        """Go on with the streams it said hello with; once, after it was welcomed."""
        self._begin(self.hello.streams)

    def has(self, news: protocol.LegNews) -> bool:
        """Whether this client carries the leg that it speaks of, and where it says it does."""
        leg = self._legs.get(news.leg)
        return leg is not None and leg.is_same(news)

    def hear(self, message: protocol.Up) -> None:
        """Take a message of the client. Whatever is wrong with it is answered by a problem."""
        match message:
            case protocol.Hello():
                self._begin(message.streams)
            case protocol.LegNews():
                self._leg(message)
            case protocol.Report():
                pass  # it says at once when media is missing
            case protocol.Finish() | protocol.Renew():
                session = self._sessions.get(message.stream)
                if session is None:
                    said = "say hello with this stream first"
                    self._refuse("unknown-stream", said, message.stream)
                elif isinstance(message, protocol.Finish):
                    session.asked_to_end(message.because)
                else:
                    session.plan.asked_to_renew()
            case protocol.Claim() | protocol.Confirm():
                said = "a hand says what its legs do; the server claims for it"
                self._refuse("not-for-hands", said, message.stream)

    def send(self, message: protocol.Down) -> None:
        """Take what the coordinator has for this client: first of all it is for its driver."""
        session = self._sessions.get(getattr(message, "stream", ""))
        match message:
            case protocol.Placement() if session is not None:
                session.placement(message)
            case protocol.Release() | protocol.Rescue() if session is not None:
                session.order(message)
            case protocol.Over() if session is not None:
                if session.is_about(message):
                    session.over(message.because)
            case protocol.Problem(code="unknown-stream") if session is not None:
                session.over(message.message)
            case protocol.Welcome() | protocol.Problem():
                self.say(message)
            case _:
                pass  # it ended meanwhile

    def say(self, message: protocol.Down) -> None:
        """Send a message to the client itself; after `aclose` nothing is said."""
        if not self._is_closed:
            super().send(message)

    async def aclose(self) -> None:
        """Let go of the client; its legs stay as they are. Idempotent; bounded."""
        self._is_closed = True
        for session in self._sessions.values():
            session.rest()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.driver.aclose()
        self._sessions.clear()
        self._legs.clear()

    # --- For its sessions ---

    def session(self, stream: str) -> HandSession | None:
        """Return the session of a stream, if there is one."""
        return self._sessions.get(stream)

    def is_free(self, number: int) -> bool:
        """Whether the client may come back with a leg of this number."""
        return 0 < number < LEG_MAX and number not in self._legs

    def leg(self, session: HandSession, provider: str, number: int = 0) -> RemoteLeg:
        """Return a new leg; one that the client numbered already keeps its number."""
        self._legs = {n: leg for n, leg in self._legs.items() if not leg.is_gone}
        if not number:
            self._numbered = number = self._numbered + 1
        leg = self._legs[number] = RemoteLeg(
            session.stream,
            session.role,
            provider,
            number,
            say=self.say,
            post=self.driver.post,
            why=session.because,
        )
        return leg

    def own(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run something in the background; it ends with the hand."""
        task = asyncio.create_task(work, name=f"hitless: hand: {name}")
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def bury(self, session: HandSession, outcome: str, because: str) -> None:
        """A session is over: say so once its legs are closed."""
        stream = session.stream
        session.rest()
        self._forget(session)

        async def last_words() -> None:
            await self.driver.closed(stream)
            session.close_found(because)
            self.say(protocol.Over(stream=stream, because=cut(because), outcome=outcome))

        task = self._burials[stream] = self.own(last_words(), f"end of {stream}")
        task.add_done_callback(lambda done: self._buried(stream, done))

    # --- Inside ---

    def _begin(self, streams: tuple[protocol.Seen, ...]) -> None:
        for seen in streams:
            known = self._sessions.get(seen.stream)
            if known is None:
                self._begin_one(seen)
            elif known.role.value != seen.role:
                said = f"it has begun as a {known.role.value}: finish it first"
                self._refuse("busy", said, seen.stream)

    def _begin_one(self, seen: protocol.Seen) -> None:
        needed = Permission.PUBLISH if seen.role == "publisher" else Permission.VIEW
        try:
            check_names(seen.stream, self.client)
        except Rejected as rejected:
            self._refuse(rejected.code, rejected.because, seen.stream)
            return
        if not self.identity.may(needed, seen.stream):
            self._refuse("forbidden", self.identity.why_not(needed), seen.stream)
            return
        if not self._hub.attach(self, seen.stream, seen.role):
            self._refuse("too-many", "finish one of them first", seen.stream)
            return
        known = [leg.leg for leg in seen.legs if self.is_free(leg.leg)]
        self._numbered = max(self._numbered, *known, 0)
        session = self._sessions[seen.stream] = HandSession(self, seen)
        before = self._burials.get(seen.stream)
        self.own(self._start(session, before), f"begin of {seen.stream}")

    async def _start(self, session: HandSession, before: asyncio.Task[None] | None) -> None:
        if before is not None:  # its last words come first
            await asyncio.wait({before})
        try:
            await session.prepare()
        except HitlessError as exc:
            if session.is_returning:
                session.over(str(exc))
            else:
                session.rest()
                self._forget(session)
                self._refuse(*problem(exc), session.stream)
                return
        if session.is_over is not None:
            session.finish(session.is_over)
            self.bury(session, "", session.is_over)
            return
        self.driver.adopt(session.stream, session)
        self.driver.post(
            StreamRequested(
                session=session.stream,
                stream=session.stream,
                role=session.role,
                wait_s=min(max(session.seen.wait_s, 0.0), WAIT_S_MAX),
            )
        )
        session.place()

    def _forget(self, session: HandSession) -> None:
        if self._sessions.get(session.stream) is session:
            del self._sessions[session.stream]
            self._hub.detach(self, session.stream)

    def _leg(self, news: protocol.LegNews) -> None:
        if self.has(news):
            self._legs[news.leg].hear(news)
        elif news.state not in ("failed", "closed"):
            self.say(protocol.Close(stream=news.stream, leg=news.leg, because="nobody wants it"))

    async def _carried(self, stream: str, provider: str) -> RemoteLeg:
        session = self._sessions.get(stream)
        if session is None:
            raise LocalFault(f"{stream}: it is over")
        return await session.carried(provider)

    def _refuse(self, code: str, said: str, stream: str = "") -> None:
        self.say(protocol.Problem(code=code, message=said, stream=stream))

    def _buried(self, stream: str, task: asyncio.Task[None]) -> None:
        if self._burials.get(stream) is task:
            del self._burials[stream]

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (exc := task.exception()) is not None:
            log.error("a task of a hand failed: a defect", task=task.get_name(), exc_info=exc)


class _NextDoor:
    """What a hand's driver tells its control plane: calls instead of a socket."""

    def __init__(self, hand: Hand) -> None:
        self._hand = hand

    def attach(self, **_: object) -> None:
        """The hand hears what the coordinator says, and tells the driver."""

    def claim(self, session: str, base: int, provider: str, because: str) -> None:
        """The driver moved it."""
        if (found := self._hand.session(session)) is not None:
            found.claim(base, provider, because)

    def confirm(self, session: str, epoch: int, provider: str) -> None:
        """Media flows."""
        if (found := self._hand.session(session)) is not None:
            found.confirm(epoch, provider)

    def told(self, news: Announce) -> None:
        """The client told us, and we know."""

    def finish(self, session: str, because: str) -> None:
        """It is over."""
        if (found := self._hand.session(session)) is not None:
            found.finish(because)


class Openable:
    """
    The list that this server gives to everybody, without what one client cannot open.

    Args:
        providers: Ours.
        judge: Knows how they are.
        adapters: What the client can open; empty: everything.
    """

    def __init__(self, providers: Providers, judge: Judge, adapters: tuple[str, ...]) -> None:
        self._providers, self._judge, self._adapters = providers, judge, adapters

    async def list_providers(self) -> ProviderList:
        """Return the list as it is now."""
        listed = read_list(msgspec.to_builtins(self._providers.listed(in_full=True)))
        if not self._adapters:
            return listed
        entries = tuple(
            entry
            for entry in listed.providers
            if entry.config.get("adapter", entry.name) in self._adapters
        )
        is_there = any(entry.name == listed.default for entry in entries)
        return replace(listed, providers=entries, default=listed.default if is_there else None)

    async def check_health(self, name: str) -> Check | None:
        """Return the verdict on a provider; None: it was deleted."""
        if name not in self._providers.rows:
            return None
        answer, because = read_health(msgspec.to_builtins(self._judge.health(name)))
        return Check(provider=name, answer=answer, because=because)
