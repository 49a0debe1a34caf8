"""hitless.lab.admission: say no before it hurts those who watch."""

import asyncio

import pytest

from hitless.errors import Refused
from hitless.lab import admission
from hitless.lab.admission import HANDSHAKES_MAX, Gate, Load


def load_with(*, cpu=0.1, late_s=0.0, behind_s=0.0):
    """Return a load that was sampled for a second."""
    load = Load(lambda: behind_s)
    for number in range(25):
        load.sample(now=number * 0.05, late_s=late_s, cpu_s=number * 0.05 * cpu)
    return load


def test_load_is_the_share_of_a_core_over_the_last_second():
    """Old samples leave the window."""
    load = load_with(cpu=0.1)
    assert load.cpu == pytest.approx(0.1)
    for number in range(1, 22):
        load.sample(now=1.2 + number * 0.05, late_s=0, cpu_s=0.12 + number * 0.05 * 0.9)
    assert load.cpu == pytest.approx(0.9)
    assert load.cpu_now == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("trouble", "says"),
    [
        ({"cpu": 0.8}, "80% of a core"),
        ({"late_s": 0.2}, "0.20 s late"),
        ({"behind_s": 0.3}, "waited for 0.30 s"),
    ],
)
def test_a_busy_stand_in_refuses_and_says_why(trouble, says):
    """CPU, loop lag and waiting media each refuse alone."""

    async def scenario():
        gate = Gate("agora", load_with(**trouble))
        with pytest.raises(Refused, match=says) as refused:
            await gate.enter()
        assert refused.value.retry_after_s == 1
        assert (gate.admitted, gate.refused) == (0, 1)

    asyncio.run(scenario())


def test_set_ups_take_turns():
    """Never more than HANDSHAKES_MAX at a time; a release lets the next one in, in order."""

    async def scenario():
        gate = Gate("agora", load_with())
        slots = [await gate.enter() for _ in range(HANDSHAKES_MAX)]
        order = []

        async def join(name, first=False):
            slot = await gate.enter(first=first)
            order.append(name)
            return slot

        waiting = [asyncio.create_task(join(name)) for name in ("a", "b")]
        await asyncio.sleep(0)
        publisher = asyncio.create_task(join("publisher", first=True))
        await asyncio.sleep(0.01)
        assert order == []
        assert gate.waiting == 3
        for slot in slots[:3]:
            slot.release()
            slot.release()  # idempotent: one release, one turn
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        await asyncio.gather(*waiting, publisher)
        assert order == ["publisher", "a", "b"]

    asyncio.run(scenario())


def test_who_waits_too_long_is_refused(monkeypatch):
    """Waiting is bounded, and leaves nothing in the queue."""
    monkeypatch.setattr(admission, "WAIT_S_MAX", 0.05)

    async def scenario():
        gate = Gate("agora", load_with())
        for _ in range(HANDSHAKES_MAX):
            await gate.enter()
        with pytest.raises(Refused, match="no turn"):
            await gate.enter()
        assert gate.waiting == 0

    asyncio.run(scenario())


def test_a_long_queue_refuses_at_once(monkeypatch):
    """The queue is bounded."""
    monkeypatch.setattr(admission, "WAITING_MAX", 1)

    async def scenario():
        gate = Gate("agora", load_with())
        for _ in range(HANDSHAKES_MAX):
            await gate.enter()
        waiting = asyncio.create_task(gate.enter())
        await asyncio.sleep(0)
        with pytest.raises(Refused, match="waiting already"):
            await gate.enter()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert gate.waiting == 0

    asyncio.run(scenario())


def test_a_turn_given_to_somebody_who_left_goes_to_the_next():
    """Cancelled in the very moment of its turn, a join must not take a slot with it."""

    async def scenario():
        gate = Gate("agora", load_with())
        slots = [await gate.enter() for _ in range(HANDSHAKES_MAX)]
        leaver = asyncio.create_task(gate.enter())
        stayer = asyncio.create_task(gate.enter())
        await asyncio.sleep(0)
        slots[0].release()
        leaver.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaver
        await asyncio.wait_for(stayer, 0.5)

    asyncio.run(scenario())


def test_a_set_up_that_never_ends_stops_counting(monkeypatch):
    """A client that posts and vanishes must not keep the others out."""
    monkeypatch.setattr(admission, "SLOT_S_MAX", 0.0)

    async def scenario():
        gate = Gate("agora", load_with())
        for _ in range(HANDSHAKES_MAX):
            await gate.enter()
        waiting = asyncio.create_task(gate.enter())
        await asyncio.sleep(0)
        gate.expire(asyncio.get_running_loop().time())
        await asyncio.wait_for(waiting, 0.5)

    asyncio.run(scenario())


def test_set_ups_wait_while_the_process_is_busy_just_now():
    """Below the limit of refusal, but above the pace: wait, do not refuse."""

    async def scenario():
        load = load_with()
        load.cpu_now = 0.65
        gate = Gate("agora", load)
        waiting = asyncio.create_task(gate.enter())
        await asyncio.sleep(0.01)
        assert not waiting.done()
        load.cpu_now = 0.1
        gate.let_in()
        await asyncio.wait_for(waiting, 0.5)

    asyncio.run(scenario())
