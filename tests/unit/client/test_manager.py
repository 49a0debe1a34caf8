"""hitless.client.manager"""

import asyncio

import pytest
from virtual_time import run

from hitless import AllProvidersFailed, ConfigError, Policy, StreamingProviderManager
from hitless.client.backend import BackendUnavailable
from hitless.core.circuit import Circuit
from hitless.core.listing import Answer, Check, Listed, ProviderList
from hitless.errors import LocalFault


class World:
    """A backend that says what it is told to say, and counts what it was asked."""

    def __init__(self, *names):
        self.entries = {name: Listed(name=name, priority=n) for n, name in enumerate(names)}
        self.answers = dict.fromkeys(names, Answer.HEALTHY)
        self.asked, self.checked, self.is_up = 0, [], True
        self.fault = BackendUnavailable("Connection refused", answered=True)

    def put(self, name, **change):
        fields = {"priority": self.entries[name].priority, "is_active": True, **change}
        self.entries[name] = Listed(name=name, **fields)

    async def list_providers(self):
        self.asked += 1
        if not self.is_up:
            raise self.fault
        in_order = sorted(self.entries.values(), key=lambda entry: entry.priority)
        return ProviderList(providers=tuple(in_order))

    async def check_health(self, name):
        self.checked.append(name)
        answer = self.answers[name]
        return Check(provider=name, answer=answer, because=f"it is {answer}")


async def with_manager(world, body, **policy):
    moves = []
    manager = StreamingProviderManager(
        world, policy=Policy(**policy), on_change=moves.append, seed=1
    )
    try:
        return await body(manager, moves)
    finally:
        await manager.aclose()


def test_the_active_provider_is_the_first_of_the_list():
    async def body(manager, moves):
        return await manager.fetch_active_provider(), manager.active_provider

    world = World("agora", "zegocloud")

    assert run(with_manager(world, body)) == ("agora", "agora")


def test_a_list_that_cannot_be_read_leaves_the_last_good_one():
    async def body(manager, moves):
        await manager.fetch_active_provider()
        world.is_up = False
        return await manager.fetch_active_provider()

    world = World("agora", "zegocloud")

    assert run(with_manager(world, body)) == "agora"


def without_a_list(fault):
    """Return what the caller is told when the list cannot be read, for that fault."""

    async def body(manager, moves):
        world.is_up, world.fault = False, fault
        with pytest.raises(AllProvidersFailed) as caught:
            await manager.fetch_active_provider()
        return str(caught.value)

    world = World("agora")
    return run(with_manager(world, body))


def test_without_any_list_there_is_a_clear_error_that_says_why():
    told = without_a_list(BackendUnavailable("Connection refused", answered=True))

    assert told == (
        "no provider to use: backend: list failed: no list could be read: Connection refused"
    )


def test_why_there_is_no_list_shows_no_password_of_an_address():
    address = "https://ann:s3cret@lists.example/v2?signature=s1gned"
    told = without_a_list(LocalFault(f"cannot connect to {address} from here"))

    assert "cannot connect to https://lists.example/... from here" in told
    assert "s3cret" not in told
    assert "s1gned" not in told


def test_a_list_with_nobody_in_it_is_not_one_that_could_not_be_read():
    async def body(manager, moves):
        with pytest.raises(AllProvidersFailed) as caught:
            await manager.fetch_active_provider()
        return str(caught.value)

    assert run(with_manager(World(), body)) == (
        "no provider to use: backend: list failed: the list is empty"
    )


def test_monitoring_asks_every_interval_and_stops_when_told():
    async def body(manager, moves):
        await manager.start_health_monitoring()
        await asyncio.sleep(95.0)
        during, is_on = len(world.checked), manager.is_monitoring
        await manager.stop_health_monitoring()
        await asyncio.sleep(95.0)
        return during, is_on, len(world.checked) - during, manager.is_monitoring

    world = World("agora", "zegocloud")

    assert run(with_manager(world, body)) == (3, True, 0, False)


def test_three_unhealthy_answers_in_a_row_change_the_provider():
    async def body(manager, moves):
        await manager.start_health_monitoring()
        world.answers["agora"] = Answer.UNHEALTHY
        await asyncio.sleep(65.0)
        before = list(moves)
        await asyncio.sleep(30.0)
        return before, moves, manager.status("agora")

    world = World("agora", "zegocloud")
    before, moves, status = run(with_manager(world, body))

    assert before == ["agora"]
    assert moves == ["agora", "zegocloud"]
    assert (status.failures, status.circuit, status.is_healthy) == (3, Circuit.OPEN, False)
    assert status.checked_s == pytest.approx(90.0, abs=1.0)


def test_three_errors_in_a_row_change_the_provider_and_a_success_between_does_not():
    async def body(manager, moves):
        await manager.start_health_monitoring()
        for _ in range(2):
            manager.record_streaming_error("no picture")
        manager.record_streaming_success()
        for _ in range(2):
            manager.record_streaming_error("no picture")
        await asyncio.sleep(0.1)
        before = list(moves)
        manager.record_streaming_error("no picture")
        await asyncio.sleep(0.1)
        return before, moves

    assert run(with_manager(World("agora", "zegocloud"), body)) == (
        ["agora"],
        ["agora", "zegocloud"],
    )


def test_a_switch_holds_for_the_next_stream_until_the_list_changes():
    async def body(manager, moves):
        await manager.fetch_active_provider()
        await manager.switch_provider("zegocloud")
        chosen = await manager.fetch_active_provider()
        world.put("webrtc", priority=-1)
        return chosen, await manager.fetch_active_provider()

    world = World("agora", "zegocloud", "webrtc")

    assert run(with_manager(world, body)) == ("zegocloud", "webrtc")


def test_a_switch_to_a_stranger_or_a_disabled_one_is_refused():
    async def body(manager, moves):
        world.put("zegocloud", is_active=False)
        for name in ("nowhere", "zegocloud"):
            with pytest.raises(ConfigError, match="active providers are agora"):
                await manager.switch_provider(name)

    world = World("agora", "zegocloud")
    run(with_manager(world, body))


def test_failover_to_the_next_provider_is_told_to_the_program():
    async def body(manager, moves):
        await manager.start_health_monitoring()
        await manager.failover_to_next_provider()
        await asyncio.sleep(0.1)
        return moves, manager.active_provider

    assert run(with_manager(World("agora", "zegocloud"), body)) == (
        ["agora", "zegocloud"],
        "zegocloud",
    )
