"""How often an account may call: limits kept in every window, and nobody waiting in vain."""

from __future__ import annotations

import asyncio
import random

import pytest
from virtual_time import run

from hitless.errors import Refused, Retry
from hitless.providers import quota as module
from hitless.providers.quota import Limit, Quota


def most_in(times: list[float], window_s: float) -> int:
    """Return the most calls in any window of this length."""
    return max(sum(at <= each < at + window_s for each in times) for at in times)


@pytest.mark.parametrize("per_s", [1.0, 10.0, 20.0, 40.0, 50.0, 200.0])
def test_a_burst_never_passes_the_limit_in_any_second(per_s: float) -> None:
    """Twice a full second's calls at once: none is lost, and every second holds at most that."""
    quota = Quota("agora", {"queries": Limit(per_s=per_s)})
    times: list[float] = []

    async def call() -> None:
        await quota.take("queries", operation="users", deadline=60.0)
        times.append(asyncio.get_running_loop().time())

    async def main() -> None:
        async with asyncio.TaskGroup() as calls:
            for _ in range(int(2 * per_s) + 1):
                calls.create_task(call())

    run(main())
    assert len(times) == int(2 * per_s) + 1
    assert most_in(times, 1.0) <= per_s
    assert times[-1] < 3.5


def test_a_limit_is_kept_and_used_by_calls_at_random_times() -> None:
    """Over a minute of too many calls at least three quarters of the limit are let through."""
    quota = Quota("agora", {"queries": Limit(per_s=20.0)})
    chance, times = random.Random(4), []

    async def call(at_s: float) -> None:
        await asyncio.sleep(at_s)
        try:
            await quota.take("queries", operation="users", deadline=at_s + 1.0)
        except Refused:
            return
        times.append(asyncio.get_running_loop().time())

    async def main() -> None:
        async with asyncio.TaskGroup() as calls:
            for _ in range(3000):
                calls.create_task(call(chance.uniform(0, 60)))

    run(main())
    assert most_in(times, 1.0) <= 20
    assert len(times) >= 0.75 * 20 * 60


def test_callers_are_served_in_the_order_they_came() -> None:
    """First come, first served."""
    quota = Quota("agora", {"queries": Limit(per_s=2.0)})
    served: list[int] = []

    async def call(number: int) -> None:
        await quota.take("queries", operation="users", deadline=60.0)
        served.append(number)

    async def main() -> None:
        await asyncio.gather(*(call(number) for number in range(12)))

    run(main())
    assert served == list(range(12))


def test_who_would_wait_past_the_deadline_is_told_so_at_once() -> None:
    """With the time after which it is worth asking again, and no blame on the provider."""
    quota = Quota("agora", {"queries": Limit(per_s=1.0)})

    async def main() -> None:
        loop = asyncio.get_running_loop()
        await quota.take("queries", operation="users", deadline=5.0)
        with pytest.raises(Refused) as caught:
            await quota.take("queries", operation="users", deadline=0.5)
        assert loop.time() == 0.0
        assert caught.value.retry is Retry.NEXT
        assert caught.value.answered is False
        assert caught.value.provider == "agora"
        assert caught.value.operation == "users"
        assert caught.value.retry_after_s == pytest.approx(1 / 0.9)
        await asyncio.sleep(caught.value.retry_after_s or 0.0)
        await quota.take("queries", operation="users", deadline=loop.time())

    run(main())


def test_those_who_wait_count_for_who_comes_next() -> None:
    """The estimate knows the queue."""
    quota = Quota("agora", {"queries": Limit(per_s=1.0)})

    async def main() -> None:
        calls = [
            asyncio.create_task(quota.take("queries", operation="users", deadline=60.0))
            for _ in range(4)
        ]
        await asyncio.sleep(0.01)
        with pytest.raises(Refused) as caught:
            await quota.take("queries", operation="users", deadline=3.0)
        assert caught.value.retry_after_s == pytest.approx(4 / 0.9 - 0.01)
        await asyncio.gather(*calls)

    run(main())


def test_cancelled_callers_leave_no_debt() -> None:
    """A thousand give up; the next one waits no longer than without them."""
    quota = Quota("agora", {"queries": Limit(per_s=1.0)})

    async def main() -> None:
        loop = asyncio.get_running_loop()
        await quota.take("queries", operation="users", deadline=1.0)
        calls = [
            asyncio.create_task(quota.take("queries", operation="users", deadline=9999.0))
            for _ in range(1000)
        ]
        await asyncio.sleep(0.1)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        await quota.take("queries", operation="users", deadline=2.0)
        assert loop.time() == pytest.approx(1 / 0.9)

    run(main())


def test_kinds_of_call_do_not_wait_for_each_other() -> None:
    """One bucket each."""
    quota = Quota("agora", {"queries": Limit(per_s=1.0), "other": Limit(per_s=1.0)})

    async def main() -> None:
        await quota.take("queries", operation="users", deadline=0.0)
        await quota.take("other", operation="ban", deadline=0.0)
        with pytest.raises(Refused):
            await quota.take("other", operation="ban", deadline=0.0)

    run(main())


def test_a_room_has_a_limit_of_its_own() -> None:
    """One in ten seconds for one room, while another room is let through."""
    quota = Quota("zegocloud", {"list": Limit(per_s=50.0, each_s=10.0)})

    async def main() -> None:
        loop = asyncio.get_running_loop()
        times = []
        for _ in range(3):
            await quota.take("list", operation="streams", deadline=60.0, subject="a")
            times.append(loop.time())
        assert times[1] - times[0] >= 10.0
        assert times[2] - times[1] >= 10.0
        await quota.take("list", operation="streams", deadline=loop.time(), subject="b")
        with pytest.raises(Refused, match="one in 10 s for each room"):
            await quota.take("list", operation="streams", deadline=loop.time() + 5, subject="b")

    run(main())


def test_a_room_s_token_comes_back_if_the_account_s_is_not_to_be_had() -> None:
    """Else a room would be locked for ten seconds without a call."""
    quota = Quota("zegocloud", {"list": Limit(per_s=1.0, each_s=10.0)})

    async def main() -> None:
        loop = asyncio.get_running_loop()
        await quota.take("list", operation="streams", deadline=0.0, subject="a")
        waiting = asyncio.create_task(
            quota.take("list", operation="streams", deadline=9.0, subject="b")
        )
        await asyncio.sleep(0.1)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await quota.take("list", operation="streams", deadline=2.0, subject="b")
        assert loop.time() == pytest.approx(1 / 0.9)

    run(main())


def test_a_held_kind_lets_nobody_through_until_then() -> None:
    """After a provider's own "too many"."""
    quota = Quota("agora", {"queries": Limit(per_s=20.0)})

    async def main() -> None:
        loop = asyncio.get_running_loop()
        quota.hold("queries", 3.0)
        with pytest.raises(Refused) as caught:
            await quota.take("queries", operation="users", deadline=2.0)
        assert caught.value.retry_after_s == pytest.approx(3.0)
        await quota.take("queries", operation="users", deadline=5.0)
        assert loop.time() == pytest.approx(3.0)

    run(main())


def test_a_hold_that_comes_while_somebody_waits_ends_at_the_deadline() -> None:
    """The wait is bounded though the estimate was good when it began."""
    quota = Quota("agora", {"queries": Limit(per_s=1.0)})

    async def main() -> None:
        loop = asyncio.get_running_loop()
        await quota.take("queries", operation="users", deadline=5.0)
        waiting = asyncio.create_task(quota.take("queries", operation="users", deadline=2.0))
        await asyncio.sleep(0.1)
        quota.hold("queries", 100.0)
        with pytest.raises(Refused) as caught:
            await waiting
        assert loop.time() == pytest.approx(2.0)
        assert caught.value.retry_after_s == pytest.approx(98.1)

    run(main())


def test_a_hold_is_bounded() -> None:
    """A provider cannot lock us out for a day."""
    quota = Quota("agora", {"queries": Limit(per_s=1.0)})

    async def main() -> None:
        quota.hold("queries", 86_400.0)
        await quota.take("queries", operation="users", deadline=301.0)

    run(main())


def test_rooms_are_forgotten_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest first; never one that somebody waits for."""
    monkeypatch.setattr(module, "SUBJECTS_MAX", 10)
    quota = Quota("zegocloud", {"list": Limit(per_s=1e6, each_s=10.0)})

    async def main() -> None:
        await quota.take("list", operation="streams", deadline=60.0, subject="waited for")
        waiting = asyncio.create_task(
            quota.take("list", operation="streams", deadline=60.0, subject="waited for")
        )
        await asyncio.sleep(0)
        for number in range(100):
            await quota.take("list", operation="streams", deadline=60.0, subject=str(number))
        kept = list(quota._each["list"])
        assert len(kept) == 10
        assert "waited for" in kept
        assert kept[-1] == "99"
        await waiting

    run(main())


@pytest.mark.parametrize("per_s", [0.0, -1.0, float("inf"), float("nan")])
def test_a_limit_that_is_none_is_refused(per_s: float) -> None:
    """At once, not at the first call."""
    with pytest.raises(ValueError, match="more than 0"):
        Quota("agora", {"queries": Limit(per_s=per_s)})
