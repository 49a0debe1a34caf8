"""
Who publishes what and who views it: the life of every session of one stand-in.

A newer publisher of a stream replaces the older one as soon as its media arrives (as MediaMTX
does with `overridePublisher`), not before: one that never connects takes nothing away. The
viewers of a publisher leave with it. Who they are to the provider is in `roster.py`. All that
holds of sessions by RTMP, too; only ZEGOCLOUD's refuse the later publisher (`zego_desk.py`).
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Callable, Coroutine
from typing import Any, Final

import structlog

from ..errors import ContractBroken, NotOnAir, Refused
from ..media.frame import Kind
from .admission import Gate, Load, Slot
from .endpoint import Endpoint, Surroundings
from .faults import Injected
from .forward import Line, Publisher, Viewer, Watcher
from .gate import Pass
from .offer import Choice, Offer, choose_published, choose_viewed
from .report import sessions_as_json
from .roster import Roster
from .rtmp_ingest import Ingest, Mouthless, Take, rtmp_lines
from .session import Peer, Session


TICK_S: Final = 0.05
"""How often reports, keyframe requests and deadlines are looked at [s]."""
CONNECT_S_MAX: Final = 10.0
"""A session that is not connected by then is dropped [s]."""
PUBLISHER_SILENT_S_MAX: Final = 10.0
"""A publisher from whom no packet and no consent check came for this long is gone [s]."""
VIEWER_SILENT_S_MAX: Final = 15.0
"""The same for a viewer, who sends less: consent checks every 4 to 6 s, reports every second."""
SESSIONS_MAX: Final = 1000
"""Sessions at a time."""
CLOSE_S_MAX: Final = 0.7
"""All sessions are closed within this time at the end [s]; what is not is dropped."""

log: Final = structlog.get_logger()


class Sessions:
    """
    All sessions of one stand-in.

    Args:
        name: Of the stand-in.
        host: Address of the candidates in every answer.
        rng: Numbers of the packets and dice of the faults.
        injected: The faults that are on; None: none, and those of WHIP.

    Attributes:
        withheld: Returns which kinds of media a publisher may not send, just now.
        removes: Whether somebody who is in must go, just now.
    """

    def __init__(
        self, name: str, *, host: str, rng: random.Random, injected: Injected | None = None
    ) -> None:
        self.name = name
        self.injected = injected or Injected()
        self.withheld: Callable[[Pass], frozenset[Kind]] = lambda who: frozenset()
        self.removes: Callable[[Pass], bool] = lambda who: False
        self.roster = Roster(self, self.injected)
        self.shared = Surroundings(host, self.injected, rng)
        self.load = Load(self._behind_s)
        self.gate = Gate(name, self.load)
        self._rng = rng
        self._sessions: dict[str, Session] = {}
        self._newest: dict[str, Session] = {}
        self._on_air: dict[str, Session] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._keepers: list[asyncio.Task[None]] = []
        self._forwarded_before = 0

    def start(self) -> None:
        """Begin to keep time."""
        self._keepers = [
            asyncio.create_task(self.load.run(), name="stand load"),
            asyncio.create_task(self._keep(), name="stand sessions"),
        ]

    # --- Joining ---

    async def publish(self, stream: str, offer: Offer, who: Pass | None = None) -> tuple[str, str]:
        """
        Take a publisher; return the secret of its session and the answer.

        Raises:
            ContractBroken: None of its codecs can be forwarded.
            Refused: Too busy.
            ConfigError: The offer cannot be answered.
        """
        choices = choose_published(offer)
        if choices is None:
            raise self._incompatible("publish", "offer VP8 or H264, and opus")
        slot = await self._enter(first=True)
        endpoint = Endpoint(self.shared)
        answer, lines = await self._answer(endpoint, offer, choices, slot)
        publisher = Publisher(stream, endpoint, lines, self.injected)
        session = self._add(stream, endpoint, publisher, slot, who)
        session.choices = choices
        endpoint.take_rtp, endpoint.take_rtcp = self._publishing(session)
        endpoint.on_connected = session.let_next_in
        return session.secret, answer

    async def push(self, stream: str, peer: Peer, who: Pass) -> Session:
        """
        Take a publisher by RTMP, whose connection stands already.

        Raises:
            Refused: Too busy.
        """
        slot = await self._enter(first=True)
        publisher = Publisher(stream, Mouthless(), rtmp_lines(self._rng), self.injected)
        session = self._add(stream, peer, publisher, slot, who)
        session.tags = Ingest(session, *self._publishing(session), self._rng)
        session.let_next_in()
        return session

    def _publishing(self, session: Session) -> tuple[Take, Take]:
        """Make a session its stream's newest; return what takes its RTP, and its RTCP."""
        stream, publisher = session.stream, session.publisher
        session.withhold(self._withheld(session.who))
        if stream in self._newest and self._newest[stream] is not self._on_air.get(stream):
            self._drop(self._newest[stream], "a newer publisher came")
        self._newest[stream] = session
        loop = asyncio.get_running_loop()

        def take_rtp(data: bytes) -> None:
            if session.withheld and data[1] & 0x7F in session.withheld:
                return
            publisher.take_rtp(data, loop.time())
            if self._on_air.get(stream) is not session and publisher.is_on_air:
                self._put_on_air(session)

        return take_rtp, lambda data: publisher.take_rtcp(data, loop.time())

    def _put_on_air(self, session: Session) -> None:
        if session.is_closed or self._newest.get(session.stream) is not session:
            return
        before = self._on_air.get(session.stream)
        self._on_air[session.stream] = session
        log.info("publisher.on_air", stream=session.stream)
        if before is not None:
            self._drop(before, "a newer publisher came")

    async def view(self, stream: str, offer: Offer, who: Pass | None = None) -> tuple[str, str]:
        """
        Take a viewer; return the secret of its session and the answer.

        Raises:
            NotOnAir: No media of a publisher has arrived.
            ContractBroken: The viewer cannot take the publisher's codec.
            Refused: Too busy.
            ConfigError: The offer cannot be answered.
        """
        self.check_on_air(stream)
        slot = await self._enter()
        endpoint = Endpoint(self.shared)
        try:
            published = self._published(stream)  # it may have left while we waited
            choices = choose_viewed(
                offer, {c.kind: c.parameters for c in published.choices if c.parameters}
            )
            if choices is None:
                takes = ", ".join(str(c.codec) for c in published.choices if c.codec)
                raise self._incompatible("view", f"the stream carries {takes}")
        except BaseException:
            slot.release()
            await endpoint.aclose()
            raise
        answer, lines = await self._answer(endpoint, offer, choices, slot)
        viewer = Viewer(published.publisher, endpoint, lines, self._rng)
        session = self._add(stream, endpoint, published.publisher, slot, who, viewer)
        loop = asyncio.get_running_loop()

        def connected() -> None:
            session.let_next_in()
            if published.is_closed:
                self._drop(session, "its publisher left")
            elif not session.is_closed:
                viewer.attach(loop.time())

        endpoint.take_rtcp = lambda data: viewer.take_rtcp(data, loop.time())
        endpoint.on_connected = connected
        if published.is_closed:
            self._drop(session, "its publisher left")
        return session.secret, answer

    async def pull(self, stream: str, peer: Peer, who: Pass) -> Session:
        """
        Take a viewer by RTMP; its player begins when it is told to.

        Raises:
            NotOnAir: No media of a publisher by RTMP has arrived.
            Refused: Too busy.
        """
        self._tags(stream)
        slot = await self._enter()
        try:
            published, tags = self._tags(stream)  # it may have left while we waited
        except NotOnAir:
            slot.release()
            raise
        session = self._add(stream, peer, published.publisher, slot, who, tags.player())
        session.let_next_in()
        return session

    def _tags(self, stream: str) -> tuple[Session, Ingest]:
        session = self._published(stream)
        if session.tags is None:
            raise NotOnAir("nobody publishes it by RTMP")
        return session, session.tags

    def check_on_air(self, stream: str) -> None:
        """
        Make sure that there is something to view.

        Raises:
            NotOnAir: No media of a publisher has arrived.
        """
        self._published(stream)

    def _published(self, stream: str) -> Session:
        session = self._on_air.get(stream)
        if session is None:
            raise NotOnAir("no media of a publisher has arrived", retry_after_s=1)
        return session

    def _incompatible(self, operation: str, because: str) -> ContractBroken:
        return ContractBroken(
            f"no common codec; {because}", provider=self.name, operation=operation
        )

    async def _enter(self, *, first: bool = False) -> Slot:
        if len(self._sessions) >= SESSIONS_MAX:
            raise Refused(
                f"{SESSIONS_MAX} sessions are open",
                provider=self.name,
                operation="join",
                retry_after_s=1,
            )
        return await self.gate.enter(first=first)

    async def _answer(
        self, endpoint: Endpoint, offer: Offer, choices: list[Choice], slot: Slot
    ) -> tuple[str, list[Line]]:
        try:
            return await endpoint.answer(offer, choices)
        except BaseException:
            slot.release()
            await endpoint.aclose()
            raise

    def _add(
        self,
        stream: str,
        endpoint: Peer,
        publisher: Publisher,
        slot: Slot,
        who: Pass | None,
        viewer: Watcher | None = None,
    ) -> Session:
        who = who or Pass(room=stream)
        now = asyncio.get_running_loop().time()
        session = Session(
            secret=secrets.token_urlsafe(16),
            stream=stream,
            endpoint=endpoint,
            publisher=publisher,
            slot=slot,
            since_s=now,
            who=who,
            sid=secrets.token_hex(8),
            viewer=viewer,
            ends_s=None if who.left_s is None else now + who.left_s,
        )
        self._sessions[session.secret] = session
        endpoint.on_gone = lambda: self._drop(session, "it closed or failed")
        log.info("session.opened", stream=stream, role="view" if viewer else "publish")
        return session

    # --- Leaving ---

    def end(self, secret: str, stream: str, *, is_viewer: bool) -> bool:
        """End a session as its owner asked; return whether there was one."""
        session = self._sessions.get(secret)
        if session is None or session.stream != stream:
            return False
        if (session.viewer is not None) is not is_viewer:
            return False
        self._drop(session, "it asked to leave")
        return True

    def remove(self, session: Session, because: str) -> None:
        """End a session as the provider's API ordered; nothing of it stays listed."""
        self._drop(session, because, for_good=True)

    def _drop(self, session: Session, because: str, *, for_good: bool = False) -> None:
        """Take a session out at once, with its viewers, and close it in the background."""
        if session.is_closed:
            return
        session.is_closed = True
        session.let_next_in()
        self._sessions.pop(session.secret, None)
        role = "publish" if session.viewer is None else "view"
        log.info("session.closed", stream=session.stream, role=role, because=because)
        if session.viewer is None:
            if not for_good and self._newest.get(session.stream) is session:
                self.roster.note_left(session)
            for table in (self._on_air, self._newest):
                if table.get(session.stream) is session:
                    del table[session.stream]
            self._forwarded_before += session.publisher.packets_forwarded
            for other in list(self._sessions.values()):
                if other.publisher is session.publisher:
                    self._drop(other, "its publisher left")
        else:
            session.viewer.detach()
        self._spawn(session.endpoint.aclose())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    # --- Keeping time ---

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(TICK_S)
            self._tick(loop.time())

    def _tick(self, now: float) -> None:
        self.gate.expire(now)
        self.roster.tick()
        for session in list(self._sessions.values()):
            if session.is_closed:
                continue  # with its publisher, a moment ago
            if _is_overdue(session, now):
                self._drop(session, "nothing was heard of it")
            elif (because := self._must_go(session, now)) is not None:
                self.remove(session, because)
            elif session.viewer is None:
                if session.endpoint.is_connected:
                    session.publisher.tick(now)
            elif session.viewer.is_broken:
                self._drop(session, "nothing could be sent to it")

    def _must_go(self, session: Session, now: float) -> str | None:
        """Return why the provider ends a session now, or None."""
        if session.ends_s is not None and session.ends_s <= now:
            return "its token expired"
        if self.removes(session.who):
            return "its token counts as expired, on purpose"
        if self.injected.is_down(session.who.region):
            return "its region is down, on purpose"
        if session.viewer is None and not session.withhold(self._withheld(session.who)):
            return "it may not publish any more"
        return None

    def _withheld(self, who: Pass) -> frozenset[Kind]:
        return (frozenset(Kind) - who.kinds) | self.withheld(who)

    def _behind_s(self) -> float:
        now = asyncio.get_running_loop().time()
        return max((s.endpoint.behind_s(now) for s in self._on_air.values()), default=0.0)

    # --- What is known ---

    @property
    def all(self) -> list[Session]:
        """Every session, in order of coming."""
        return list(self._sessions.values())

    @property
    def on_air(self) -> list[Session]:
        """The publishers whose media arrives, one per stream."""
        return list(self._on_air.values())

    @property
    def newest(self) -> list[Session]:
        """The publisher of each stream that came last, on air or not yet."""
        return list(self._newest.values())

    @property
    def packets_forwarded(self) -> int:
        """Since the start, to all viewers."""
        now = (s.publisher.packets_forwarded for s in self.all if s.viewer is None)
        return self._forwarded_before + sum(now)

    def as_json(self) -> dict[str, Any]:
        """Return everything an operator or a bench asks for."""
        return sessions_as_json(self, asyncio.get_running_loop().time())

    async def aclose(self) -> None:
        """Close every session within `CLOSE_S_MAX`. Idempotent."""
        for session in list(self._sessions.values()):
            self._drop(session, "the stand-in ends")
        if self._closing:
            await asyncio.wait(set(self._closing), timeout=CLOSE_S_MAX)
        left = {*self._closing, *self._keepers}
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=CLOSE_S_MAX)


def _is_overdue(session: Session, now: float) -> bool:
    """Whether nothing was heard of a session for too long."""
    if not session.endpoint.is_connected:
        return now - session.since_s > CONNECT_S_MAX
    limit_s = PUBLISHER_SILENT_S_MAX if session.viewer is None else VIEWER_SILENT_S_MAX
    return now - session.endpoint.heard_s > limit_s
