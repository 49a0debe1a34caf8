"""
What operators are told of: an alert opens once, is folded while it lasts, and is resolved.

`Alerts` decides, from readings and their times; `Signals` hears what happens at a node, and puts
what came of it on its way. What is kept is bounded: an alert is about a provider or the server,
never about one of many streams.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import TYPE_CHECKING, Final

from ..core.evidence import Word
from ..errors import ConfigError, HitlessError
from .alert_texts import PROVIDER, Message, Part, Reading, Severity, State, in_words, read
from .minters import channel_of
from .store_rows import Json
from .store_streams import StreamRow, StreamState
from .webhook_post import LegNote, LegSaid
from .webhooks import Webhooks


if TYPE_CHECKING:
    from .node import Node


OPEN_MAX: Final = 100
"""Alerts that may be open; one more resolves the oldest."""

REMIND_S: Final = 3600.0
QUIET_S: Final = 600.0
SETTLE_S: Final = 30.0

_GROWTH: Final = 10
"""An alert is told again when it has so many times more streams than were told last."""


@dataclass(slots=True, kw_only=True)
class _Open:
    """
    An alert that is open.

    Attributes:
        reading: The last reading of it.
        since_s, last_s, sent_s: When it opened, was last heard of, was last told of [s].
        count: How many events were folded into it.
        ended_s: When its trouble ended [s]; None: it lasts.
        resolve_s: When it is resolved if nothing more is heard [s]; None: never.
        told: How many streams were told of last.
        did: Whether it was told what Hitless did.
    """

    reading: Reading
    since_s: float
    last_s: float
    sent_s: float
    count: int = 1
    ended_s: float | None = None
    resolve_s: float | None = None
    told: int = 0
    did: bool = False


class Alerts:
    """
    Decides which readings are worth a message.

    Args:
        node: Name of this node.
        origin: Names this start of this process: no two share it. Begins the id of each message.
        remind_s: An alert that lasts is told of again so often [s].
        quiet_s: A burst is over after so long without more of it [s].
        settle_s: Trouble that ends and comes back within this is one alert [s].
        open_max: How many may be open.
    """

    def __init__(
        self,
        node: str,
        origin: str,
        *,
        remind_s: float = REMIND_S,
        quiet_s: float = QUIET_S,
        settle_s: float = SETTLE_S,
        open_max: int = OPEN_MAX,
    ) -> None:
        self._node, self._origin = node, origin
        self._remind_s, self._quiet_s, self._settle_s = remind_s, quiet_s, settle_s
        self._open_max = open_max
        self._open: dict[str, _Open] = {}
        """By key, the oldest first."""
        self._number = 0

    def __len__(self) -> int:
        return len(self._open)

    def by_severity(self) -> dict[Severity, int]:
        """Return how many alerts of each severity are open."""
        found = [one.reading.severity for one in self._open.values()]
        return {severity: found.count(severity) for severity in Severity}

    def subjects(self, kind: str) -> list[str]:
        """Return what the open alerts of a kind are about, those left out whose trouble ended."""
        found = [one.reading for one in self._open.values() if one.ended_s is None]
        return [reading.subject for reading in found if reading.kind == kind]

    def feed(self, reading: Reading, now: float) -> list[Message]:
        """
        Take one reading into account; return what is to be sent.

        Args:
            reading: What happened.
            now: When [s]; never less than before, on the clock that `tick` is called with.
        """
        messages, key = self.tick(now), self._key(reading)
        one = self._open.get(key)
        match reading.part:
            case Part.ENDS:
                if one is not None:
                    self._end(one, reading, now)
                return messages + self.tick(now)
            case Part.ADDS:
                return messages + (self._add(one, reading, now) if one is not None else [])
        if one is None:
            return messages + self._begin(key, reading, now)
        return messages + self._fold(one, reading, now)

    def tick(self, now: float) -> list[Message]:
        """Return the reminders and resolutions that are due; once a second is often enough."""
        messages = []
        for key, one in tuple(self._open.items()):
            if one.resolve_s is not None and one.resolve_s <= now:
                messages.append(self._resolve(key))
            elif one.ended_s is None and one.sent_s + self._remind_s <= now:
                messages.append(self._say(one, State.STILL, now))
        return messages

    def _key(self, reading: Reading) -> str:
        at = f"@{self._node}" if reading.is_local else ""
        return f"{reading.kind}:{reading.subject}{at}"

    def _begin(self, key: str, reading: Reading, now: float) -> list[Message]:
        messages = []
        if len(self._open) >= self._open_max:
            messages.append(self._drop(next(iter(self._open)), now))
        one = _Open(reading=reading, since_s=now, last_s=now, sent_s=now)
        self._open[key] = one
        self._note(one, reading, now)
        return [*messages, self._say(one, State.OPEN, now)]

    def _fold(self, one: _Open, reading: Reading, now: float) -> list[Message]:
        before = one.reading.severity
        one.count += 1
        self._note(one, reading, now)
        if list(Severity).index(reading.severity) < list(Severity).index(before):
            return [self._say(one, State.OPEN, now)]
        if one.reading.streams >= _GROWTH * max(one.told, 1):
            return [self._say(one, State.STILL, now)]
        return []

    def _add(self, one: _Open, reading: Reading, now: float) -> list[Message]:
        """Say what Hitless did about it, once; the alert's own title stays."""
        if one.ended_s is not None or one.did:
            return []
        one.reading = replace(
            one.reading, text=reading.text, command=reading.command, did=reading.did
        )
        return [self._say(one, State.STILL, now)]

    def _note(self, one: _Open, reading: Reading, now: float) -> None:
        """Write down the newest reading of an alert."""
        one.last_s, one.ended_s = now, None
        one.resolve_s = now + self._quiet_s if reading.part is Part.BURST else None
        one.reading = replace(reading, streams=one.count) if reading.counts else reading

    def _end(self, one: _Open, reading: Reading, now: float) -> None:
        """Trouble ended; it is resolved if it does not come back within `settle_s`."""
        if one.ended_s is None:
            one.ended_s, one.resolve_s = now, now + self._settle_s
        one.reading = replace(reading, severity=one.reading.severity)

    def _drop(self, key: str, now: float) -> Message:
        """Resolve an alert before its time: there are too many."""
        one = self._open[key]
        one.ended_s = now
        title = f"{one.reading.title} (no longer followed)"
        text = f"More than {self._open_max} alerts are open: the oldest is let go."
        one.reading = replace(one.reading, title=title, text=text)
        return self._resolve(key)

    def _resolve(self, key: str) -> Message:
        one = self._open.pop(key)
        # A burst never says that it ends: it was over when it was last seen.
        return self._say(one, State.RESOLVED, one.last_s if one.ended_s is None else one.ended_s)

    def _say(self, one: _Open, state: State, now: float) -> Message:
        self._number += 1
        reading, duration_s = one.reading, max(now - one.since_s, 0.0)
        one.sent_s, one.told, one.did = now, reading.streams, one.did or reading.did
        text = reading.text
        if state is State.RESOLVED:
            text = f"It lasted {in_words(duration_s)}. {text}"
        elif one.count > 1:
            ago = in_words(max(now - one.last_s, 0.0))
            text = f"{text} Seen {one.count} times in {in_words(duration_s)}, last {ago} ago."
        return Message(
            id=f"{self._origin}-{self._number}",
            key=self._key(reading),
            kind=reading.kind,
            subject=reading.subject,
            node=self._node if reading.is_local else "",
            state=state,
            severity=reading.severity,
            title=reading.title,
            text=text,
            command=reading.command,
            streams=reading.streams,
            count=one.count,
            duration_s=duration_s,
        )


# --- What happens at a node ---

QUEUE_MAX: Final = 10_000
"""Events that wait to be read; later ones are dropped, and counted in `Signals.dropped`."""

STREAMS_MAX: Final = 100_000
"""Streams whose leg, and whose darkness, is followed; the oldest are let go."""

DARK_S: Final = 15.0
"""A stream that was live and is not carried for so long is off air [s]."""

HAND_OVER_S: Final = 15.0
"""What the fleet's alerts said is kept so long [s] by nodes that do not lead: longer than a
lease, so that the next leader says what the last one could not."""

_TICK_S: Final = 1.0


class Signals:
    """
    Makes alerts and notes on legs of what happens at a node, while `run` runs.

    Of what every node sees (a verdict, a freeze) only the leader tells, or each node while the
    store is away; what one node alone knows, it tells itself.

    Args:
        node: Whose events; it calls `heard` and `changed`.
        webhooks: Where to put them.
        alerts: Decides what is worth a message.

    Attributes:
        webhooks, alerts: The same.
        dropped: How many events were dropped.
    """

    def __init__(self, node: Node, webhooks: Webhooks, alerts: Alerts) -> None:
        self._node, self.webhooks, self.alerts = node, webhooks, alerts
        self._queue: deque[tuple[str, Mapping[str, Json]] | LegNote] = deque()
        self._woken = asyncio.Event()
        self._kept: deque[tuple[float, Message]] = deque(maxlen=100)
        self._legs: dict[str, tuple[str, int]] = {}
        """By stream: provider and epoch of the leg that carried it last."""
        self._dark: dict[str, float] = {}
        """Streams that were live and are not carried: since when [s], the oldest first."""
        self._is: dict[str, bool] = {}
        self._told_dark = 0
        self._looked_s = float("-inf")
        self.dropped = 0

    def __len__(self) -> int:
        """How many events wait to be read."""
        return len(self._queue)

    @property
    def dark(self) -> list[str]:
        """The streams of the fleet that are off air, the longest first."""
        before_s = self._now() - DARK_S
        found = takewhile(lambda item: item[1] <= before_s, self._dark.items())
        return [stream for stream, _ in found]

    def heard(self, name: str, fields: Mapping[str, Json], row: StreamRow | None = None) -> None:
        """Take note of an event; never waits, never raises."""
        if row is not None:
            self._heard_leg(name, row, str(fields.get("because") or ""))
        if not name.startswith("webhook."):  # what webhooks do is no news for webhooks
            self._push((name, fields))

    def changed(self, row: StreamRow) -> None:
        """Take note of a row that changed, here or at another node."""
        if row.state is StreamState.LIVE and not row.is_carried:
            self._dark.setdefault(row.id, self._now())
            _bound(self._dark)
            return
        self._dark.pop(row.id, None)
        if row.state is StreamState.ENDED:
            self._legs.pop(row.id, None)
        elif row.is_carried and row.epoch > self._legs.get(row.id, ("", 0))[1]:
            self._legs[row.id] = (row.provider, row.epoch)
            _bound(self._legs)

    async def run(self) -> None:
        """Read what was heard, until cancelled."""
        while True:
            self._woken.clear()
            if self._now() - self._looked_s >= _TICK_S:
                self._looked_s = self._now()
                self._look()
            for message in self.alerts.tick(self._now()):
                await self._send(message)
            while self._queue:
                await self._read(self._queue.popleft())
            await self._hand_over()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_TICK_S):
                    await self._woken.wait()

    # --- Legs ---

    def _heard_leg(self, name: str, row: StreamRow, because: str) -> None:
        before = self._legs.get(row.id)
        match name:
            case "leg.live":
                self._note(LegSaid.LIVE, row.id, row.provider, row.epoch, because)
                if before is not None and before[1] < row.epoch:
                    moved = f"it is on air at {row.provider} by epoch {row.epoch}"
                    self._note(LegSaid.CLOSING, row.id, *before, moved)
            case "stream.ended":
                leg = before or ((row.provider, row.epoch) if row.is_carried else None)
                if leg is not None:
                    self._note(LegSaid.CLOSING, row.id, *leg, because)
        self.changed(row)

    def _note(self, what: LegSaid, stream: str, provider: str, epoch: int, because: str) -> None:
        if self.webhooks.wants_legs:
            self._push(
                LegNote(
                    what=what,
                    stream=stream,
                    provider=provider,
                    channel=self._channel(stream, provider, epoch),
                    epoch=epoch,
                    because=because,
                )
            )

    def _channel(self, stream: str, provider: str, epoch: int) -> str:
        row = self._node.providers.rows.get(provider)
        if row is None:  # it was deleted meanwhile
            return stream
        with contextlib.suppress(ConfigError):  # then nobody has a credential for it either
            return channel_of(row.adapter, row.config, stream, epoch)
        return stream

    # --- Alerts ---

    def _push(self, item: tuple[str, Mapping[str, Json]] | LegNote) -> None:
        if len(self._queue) >= QUEUE_MAX:
            self.dropped += 1
            return
        self._queue.append(item)
        self._woken.set()

    async def _read(self, item: tuple[str, Mapping[str, Json]] | LegNote) -> None:
        if isinstance(item, LegNote):
            await self.webhooks.leg(item)
            return
        name, fields = item
        if name == "verdict.changed" and fields.get("verdict") == Word.DOWN:
            fields = {**fields, "streams": await self._streams_on(str(fields.get("provider")))}
        reading = read(name, fields)
        if reading is not None:
            for message in self.alerts.feed(reading, self._now()):
                await self._send(message)

    async def _streams_on(self, provider: str) -> int:
        with contextlib.suppress(HitlessError):
            for count in await self._node.store.streams.counts():
                if count.provider == provider:
                    return count.streams
        return 0

    def _look(self) -> None:
        """Look at what no event tells of."""
        node = self._node
        active = [name for name, row in node.providers.rows.items() if row.is_active]
        words = [node.judge.verdict(name).word for name in active]
        is_down = bool(words) and all(word is Word.DOWN for word in words)
        because = f"all {len(active)} are down" if is_down else "it is not down any more"
        self._turned("providers.all_down", "providers.some_up", is_down, because=because)
        self._turned(
            "moves.frozen",
            "moves.thawed",
            node.settings.is_frozen,
            because="an operator said so: the audit log has the name",
        )
        for name in self.alerts.subjects(PROVIDER):
            if name not in node.providers.rows:
                self._push(("provider.deleted", {"provider": name, "because": "it was deleted"}))
        dark = self.dark
        if len(dark) != self._told_dark:
            self._told_dark = len(dark)
            fields: dict[str, Json] = {"because": "media flows again, or they ended"}
            if dark:
                because = f"nobody carries them for {DARK_S:g} s and more"
                fields = {"streams": len(dark), "stream": dark[0], "because": because}
            self._push(("streams.dark" if dark else "streams.lit", fields))

    def _turned(self, begins: str, ends: str, is_so: bool, **fields: Json) -> None:
        if is_so != self._is.get(begins, False):
            self._is[begins] = is_so
            self._push((begins if is_so else ends, fields))

    async def _send(self, message: Message) -> None:
        if message.node or self._may_tell:
            await self.webhooks.alert(message)
        else:
            self._kept.append((self._now(), message))

    async def _hand_over(self) -> None:
        while self._may_tell and self._kept:
            at_s, message = self._kept.popleft()
            if at_s >= self._now() - HAND_OVER_S:
                await self.webhooks.alert(message)

    @property
    def _may_tell(self) -> bool:
        return self._node.is_leader or bool(self._node.store_lost_because)

    def _now(self) -> float:
        return self._node.loop.time()


def _bound(streams: dict[str, float] | dict[str, tuple[str, int]]) -> None:
    if len(streams) > STREAMS_MAX:
        del streams[next(iter(streams))]
