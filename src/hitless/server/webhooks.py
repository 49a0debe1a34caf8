"""
Telling operators, and machines that hang on a leg, through webhooks.

What is put is a row in the store's outbox, delivered at least once: a node killed between a
delivery and the mark in its row delivers that one message twice, with the same id. Messages of
one alert, and of one stream, arrive in order while a webhook is away for a minute; after that
order yields to delivery, and receivers go by `epoch`, `count` and `at_s`. A webhook that fails
holds up no other.

While the store itself is away, messages are delivered from memory, without these promises: that
the store is away is the one thing an outbox cannot tell.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from ..errors import HitlessError
from .addresses import Allowed, Resolver
from .alert_texts import Message
from .clock import wall_s
from .database import StoreUnavailable
from .store import Store
from .store_nodes import Letter
from .store_rows import Json
from .webhook_post import Hook, LegNote, Undelivered, alert_body, leg_body, post


LANES: Final = 4
"""Posts to one webhook at a time; an alert or stream has the same lane always."""

LANE_MAX: Final = 64
"""Letters in hand in one lane; later ones wait in the outbox, or are dropped without a store."""

BATCH: Final = 100
"""Letters that are taken from the outbox at a time."""

HEAD_TRIES: Final = 5
"""After so many tries in a row a letter steps aside for those behind it."""

KEEP_S: Final = 7 * 86_400.0
"""How long a letter that was delivered or given up is remembered [s]; twins are known so long."""

_HOUR_S: Final = 3600.0

Tell = Callable[..., None]
"""Called with an event's name and fields."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """
    How patient delivery is.

    Attributes:
        post_s: How long one post may take [s].
        hold_s: A letter that was taken and not reported on is taken again after this [s].
        poll_s: The outbox is looked at so often, besides when something is put [s].
        retry_s, retry_s_max: The first and the longest pause before another try; they double,
            and from half to all of one is taken at random [s].
        rest_s_max: A lane that failed is left alone for so long at most [s].
        tries_max: A message is given up after so many tries; 20 take about five hours.
    """

    post_s: float = 10.0
    hold_s: float = 120.0
    poll_s: float = 2.0
    retry_s: float = 2.0
    retry_s_max: float = 1800.0
    rest_s_max: float = 60.0
    tries_max: int = 20


class _Lane:
    """Letters of one webhook that are delivered one after the other."""

    def __init__(self, hook: Hook) -> None:
        self.hook = hook
        self.letters: dict[int, tuple[Letter, float]] = {}
        """By id, with the time after which somebody else may have it [s]."""
        self.woken = asyncio.Event()

    def take(self, letter: Letter, until_s: float) -> bool:
        """Take a letter, or hold one longer that is here already; False: there is no place."""
        here = self.letters.get(letter.id)
        if here is None and len(self.letters) >= LANE_MAX:
            return False
        self.letters[letter.id] = (here[0] if here else letter, until_s)
        self.woken.set()
        return True

    def head(self, now: float) -> Letter | None:
        """Return the letter whose turn it is; what was held too long is let go."""
        for id in [id for id, (_, until_s) in self.letters.items() if until_s < now]:
            del self.letters[id]
        return self.letters[min(self.letters)][0] if self.letters else None


class Webhooks:
    """
    Delivers to every webhook while `run` runs.

    Args:
        hooks: Where to.
        store: Whose outbox; it stays open.
        tell: Hears of `webhook.delivered`, `.failed`, `.gave_up` and `.dropped`; each has
            `webhook`, `because` and `message`, the id.
        rng: Spreads the retries.
        resolver, allow_private: As for `check_target`.
        pace: How patient to be.
    """

    def __init__(
        self,
        hooks: Sequence[Hook],
        store: Store,
        *,
        tell: Tell,
        rng: random.Random,
        resolver: Resolver | None = None,
        allow_private: Allowed = (),
        pace: Pace | None = None,
    ) -> None:
        self._hooks = tuple(hooks)
        self._lanes = {hook.name: [_Lane(hook) for _ in range(LANES)] for hook in hooks}
        self._store, self._tell, self._rng = store, tell, rng
        self._resolver, self._allow_private = resolver, allow_private
        self._pace = pace or Pace()
        self._woken = asyncio.Event()
        self._unmarked: dict[int, None] = {}
        """Letters that were delivered while the store could not be told."""
        self._number = -(1 << 62)  # of letters without a row: they go first, in order
        self._forgot_s = float("-inf")

    def __len__(self) -> int:
        """How many letters are in hand here."""
        return sum(len(lane.letters) for lanes in self._lanes.values() for lane in lanes)

    @property
    def wants_legs(self) -> bool:
        """Whether any webhook is told of legs."""
        return any(hook.legs for hook in self._hooks)

    async def alert(self, message: Message) -> None:
        """Put an alert on its way to every webhook that wants alerts."""
        body = alert_body(message, wall_s())
        await self._put(message.id, body, [hook for hook in self._hooks if hook.alerts])

    async def leg(self, note: LegNote) -> None:
        """Put a note on a leg on its way. Told of the same leg twice, it is sent once."""
        body = leg_body(note, wall_s())
        await self._put(note.id, body, [hook for hook in self._hooks if hook.legs])

    async def run(self) -> None:
        """Deliver until cancelled; what is not delivered then stays in the outbox."""
        async with asyncio.TaskGroup() as group:
            for name, lanes in self._lanes.items():
                for number, lane in enumerate(lanes):
                    group.create_task(self._serve(lane), name=f"hitless: webhook {name} {number}")
            if self._hooks:
                group.create_task(self._fetch(), name="hitless: outbox")

    # --- Taking ---

    async def _put(self, id: str, body: Mapping[str, Json], hooks: Sequence[Hook]) -> None:
        for hook in hooks:
            try:
                await self._store.outbox.put(f"{hook.name} {id}", hook.name, body)
            except HitlessError:
                self._number += 1
                letter = Letter(
                    id=self._number,
                    dedup_key=id,
                    target=hook.name,
                    body=body,
                    tries=0,
                    made_s=0.0,
                    next_s=0.0,
                )
                if not self._lane(letter).take(letter, float("inf")):
                    self._say("dropped", letter, "the store is away and too much waits")
        self._woken.set()

    async def _fetch(self) -> None:
        """Take what is due from the outbox, now and then and when something was put."""
        while True:
            self._woken.clear()
            try:
                while await self._take() == BATCH:
                    pass
                if self._now() - self._forgot_s >= _HOUR_S:
                    self._forgot_s = self._now()
                    await self._store.outbox.forget(KEEP_S)
            except StoreUnavailable:
                pass  # whoever watches the store tells of it
            except HitlessError as exc:
                self._tell("task.failed", because=f"webhooks: {exc}")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pace.poll_s):
                    await self._woken.wait()

    async def _take(self) -> int:
        until_s = self._now() + self._pace.hold_s - self._pace.post_s
        letters = await self._store.outbox.due(self._pace.hold_s, BATCH)
        for letter in letters:
            if letter.id in self._unmarked:
                await self._store.outbox.done(letter.id)
                del self._unmarked[letter.id]
            elif letter.target in self._lanes:
                self._lane(letter).take(letter, until_s)  # no place: it comes again
            else:  # another node may know it, and so may this one after its next start
                again_s = None if letter.tries + 1 >= self._pace.tries_max else _HOUR_S / 2
                await self._store.outbox.failed(letter.id, again_s)
                if again_s is None:
                    self._say("gave_up", letter, "no webhook of this name is configured")
        return len(letters)

    def _lane(self, letter: Letter) -> _Lane:
        about = letter.body.get("stream") or letter.body.get("key")
        return self._lanes[letter.target][zlib.crc32(str(about).encode()) % LANES]

    # --- Delivering ---

    async def _serve(self, lane: _Lane) -> None:
        while True:
            letter = lane.head(self._now())
            if letter is None:
                lane.woken.clear()
                await lane.woken.wait()
                continue
            try:
                await post(
                    lane.hook,
                    letter.body,
                    timeout_s=self._pace.post_s,
                    resolver=self._resolver,
                    allow_private=self._allow_private,
                )
            except Undelivered as exc:
                await asyncio.sleep(await self._failed(lane, letter, exc))
            except Exception as exc:  # a mistake of ours: it must not end the node
                defect = Undelivered(f"a defect: {type(exc).__name__}", is_hopeless=True)
                await self._failed(lane, letter, defect)
            else:
                lane.letters.pop(letter.id, None)
                self._say("delivered", letter, "it was taken")
                await self._done(letter)

    async def _done(self, letter: Letter) -> None:
        if letter.id < 0:
            return
        try:
            await self._store.outbox.done(letter.id)
        except StoreUnavailable:
            self._unmarked[letter.id] = None
            if len(self._unmarked) > 1_000:
                del self._unmarked[next(iter(self._unmarked))]

    async def _failed(self, lane: _Lane, letter: Letter, exc: Undelivered) -> float:
        """Note a failure; return how long to leave the webhook alone [s]."""
        tries, pace = letter.tries + 1, self._pace
        is_over = exc.is_hopeless or tries >= pace.tries_max
        self._say("gave_up" if is_over else "failed", letter, exc.because)
        longest_s = min(pace.retry_s * 2.0 ** min(letter.tries, 30), pace.retry_s_max)
        pause_s = max(longest_s * self._rng.uniform(0.5, 1.0), exc.pause_s or 0.0)
        again_s = pause_s
        if is_over or (tries % HEAD_TRIES == 0 and letter.id >= 0):
            lane.letters.pop(letter.id, None)
        else:
            again_s = max(pause_s, pace.hold_s)  # it stays in hand: nobody else needs it
            until_s = self._now() + again_s - pace.post_s if letter.id >= 0 else float("inf")
            lane.letters[letter.id] = (replace(letter, tries=tries), until_s)
        if letter.id >= 0:
            with contextlib.suppress(StoreUnavailable):  # taken again when its hold runs out
                await self._store.outbox.failed(letter.id, None if is_over else again_s)
        return 0.0 if exc.is_hopeless else min(pause_s, max(pace.rest_s_max, exc.pause_s or 0.0))

    def _say(self, what: str, letter: Letter, because: str) -> None:
        self._tell(
            f"webhook.{what}",
            webhook=letter.target,
            message=letter.body["id"],
            tries=letter.tries + 1,
            because=because,
        )

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
