"""hitless.server.history, on both engines"""

import asyncio
from contextlib import asynccontextmanager

import pytest

from hitless.core.evidence import Rules
from hitless.core.observation import ProbeEnded
from hitless.server import history as module
from hitless.server.history import History, month_of
from hitless.server.judging import Judge
from hitless.server.store import Store
from hitless.server.store_members import Member, Role
from hitless.server.store_nodes import Step
from hitless.server.store_operators import ProviderRow
from hitless.server.store_streams import Start


pytest_plugins = ("postgres_server",)

LIMIT_S = 30.0
NOVEMBER_S = month_of("2026-11")[0]


def go(main):
    """Run a test against the clock, bounded."""

    async def bounded():
        async with asyncio.timeout(LIMIT_S):
            return await main

    return asyncio.run(bounded())


class Times:
    """The loop's clock and the wall's, moved by the test."""

    def __init__(self, monkeypatch):
        self.now, self.wall_s = 600.0, NOVEMBER_S + 86_400.0
        monkeypatch.setattr(module, "wall_s", lambda: self.wall_s)

    def later(self, by_s):
        self.now += by_s
        self.wall_s += by_s


@asynccontextmanager
async def measured(engine, times):
    """Lend a store with one live stream on agora that two people watch, and its history."""
    async with engine.database() as database:
        store = Store(database)
        row = await store.streams.start(
            Start(
                stream="show",
                group="show",
                publisher="p",
                provider="agora",
                node="n1",
                because="a test",
            )
        )
        await store.streams.confirm("show", row.epoch, "agora")
        for client in ("a", "b"):
            await store.members.join(
                Member(stream="show", client=client, role=Role.VIEWER, node="n1", provider="agora")
            )
        judge = Judge(Rules(), lambda: times.now, lambda news: None)
        judge.allow("agora", True, "a test")
        yield History(store, judge, lambda: times.now), judge


def rows(**price):
    """Return one provider with a price."""
    return {"agora": ProviderRow(name="agora", adapter="whip", priority=1, price=price or None)}


def test_minutes_of_publishers_and_viewers_are_counted_and_cost_what_is_configured(
    engine, monkeypatch
):
    """
    Ten minutes of one publisher and two viewers at 0.01 a minute.
    """
    times = Times(monkeypatch)

    async def main():
        async with measured(engine, times) as (history, _):
            history.heard("leg.live", "agora")
            for _ in range(61):
                await history.sample(["agora"], is_leader=True)
                times.later(10.0)
            return await history.usage("2026-11", rows(per_minute=0.01, currency="EUR"))

    (found,) = go(main())
    assert (found.publisher_minutes, found.viewer_minutes) == (10.0, 20.0)
    assert (found.cost, found.currency, found.streams) == (0.3, "EUR", 1)


def test_a_time_in_which_nobody_led_is_not_made_up(engine, monkeypatch):
    """
    Half an hour without a sample is no half hour of use.
    """
    times = Times(monkeypatch)

    async def main():
        async with measured(engine, times) as (history, _):
            await history.sample(["agora"], is_leader=True)
            times.later(1800.0)
            await history.sample(["agora"], is_leader=True)
            times.later(10.0)
            await history.sample(["agora"], is_leader=True)
            await history.sample(["agora"], is_leader=True)  # too soon
            return await history.usage("2026-11", rows())

    (found,) = go(main())
    assert round(found.publisher_minutes * 60) == 10
    assert (found.cost, found.because) == (None, "no price is configured")


def test_who_does_not_lead_counts_only_what_came_to_it(engine, monkeypatch):
    """
    Else two nodes would count everything twice.
    """
    times = Times(monkeypatch)

    async def main():
        async with measured(engine, times) as (history, _):
            for _ in range(3):
                history.heard("leg.live", "agora")
                history.heard("stream.ended", "agora")
                await history.sample(["agora"], is_leader=False)
                times.later(10.0)
            return await history.usage("2026-11", rows(per_gb=0.05))

    (found,) = go(main())
    assert (found.streams, found.publisher_minutes) == (3, 0.0)
    assert found.cost == 0.0


@pytest.mark.parametrize(
    ("price", "cost", "because"),
    [
        ({"per_gb": 0.05}, 0.1, "0.05 for each GB that clients sent or received"),
        (
            {"per_gb": 0.05, "per_minute": 0.01},
            0.11,
            "0.01 for each minute of a publisher or a viewer, "
            "0.05 for each GB that clients sent or received",
        ),
        ({}, None, "no price is configured"),
    ],
)
def test_bytes_that_clients_report_are_counted_and_cost_what_is_configured(
    engine, monkeypatch, price, cost, because
):
    """
    Every node writes those that it heard of, whoever leads: half a GB sent, one and a half seen.
    """
    times = Times(monkeypatch)

    async def main():
        async with measured(engine, times) as (history, _):
            for is_leader in (False, True, True):
                for _ in range(2):
                    history.carried("agora", 83_333_333.5, 250e6)
                await history.sample(["agora"], is_leader=is_leader)
                times.later(10.0)
            return await history.usage("2026-11", rows(**price))

    (found,) = go(main())
    assert (found.sent_gb, found.received_gb) == (0.5, 1.5)
    assert (found.cost, found.because) == (cost, because)


def test_a_price_by_gb_without_a_report_of_bytes_is_no_cost_of_nothing(engine, monkeypatch):
    """
    Media flowed, and nobody counted it.
    """
    times = Times(monkeypatch)

    async def main():
        async with measured(engine, times) as (history, _):
            for _ in range(3):
                await history.sample(["agora"], is_leader=True)
                times.later(10.0)
            return await history.usage("2026-11", rows(per_gb=0.05))

    (found,) = go(main())
    assert found.cost is None
    assert "no client told" in found.because


@pytest.mark.parametrize("step", Step)
def test_how_a_provider_did_is_kept_by_minute_and_by_hour(engine, monkeypatch, step):
    """
    Each whole minute of the judgement once.
    """
    times = Times(monkeypatch)

    async def main():
        async with measured(engine, times) as (history, judge):
            for n in range(24):
                judge.observe(
                    ProbeEnded(provider="agora", ok=n % 4 > 0, because="a test", latency_s=0.02)
                )
                judge.tick()
                await history.sample(["agora"], is_leader=True)
                times.later(10.0)
            await history.sample(["agora"], is_leader=True)
            return await history.moments("agora", step, times.wall_s - 7200.0)

    found = go(main())
    tried = [one for one in found if one.error_rate is not None]
    assert len(tried) == (4 if step is Step.MINUTE else 1)
    assert all(0.1 < one.error_rate < 0.4 for one in tried)
    assert all(one.latency_s == pytest.approx(0.02) for one in tried)
    assert all(one.uptime == pytest.approx(1.0) for one in tried if one.uptime is not None)


def test_a_month_is_of_utc_and_must_be_one():
    """
    December has a January after it.
    """
    begin, end = month_of("2026-12")
    assert end - begin == 31 * 86_400
    assert month_of("2027-01")[0] == end
    with pytest.raises(ValueError, match="unconverted"):
        month_of("2026-13")
