"""hitless.server.alerts"""

from __future__ import annotations

import asyncio
import shlex

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.server.signalling import Standing, at_node, stream
from virtual_time import run

from hitless.cli import COMMANDS, cli
from hitless.core.evidence import Word
from hitless.server import alerts as module
from hitless.server.alert_texts import Severity, State, read
from hitless.server.alerts import (
    DARK_S,
    HAND_OVER_S,
    QUEUE_MAX,
    SETTLE_S,
    Alerts,
)
from hitless.server.store_streams import StreamState
from hitless.server.webhook_post import LegSaid


PACE = {"remind_s": 3600.0, "quiet_s": 600.0, "settle_s": 30.0}


def judged(word, provider="agora", streams=0):
    """Return the reading of a verdict."""
    fields = {"provider": provider, "verdict": word, "because": "HTTP 503", "streams": streams}
    return read("verdict.changed", fields)


def dark(streams):
    """Return the reading of streams off air; 0: of their end."""
    name = "streams.dark" if streams else "streams.lit"
    return read(name, {"streams": streams, "stream": "s1", "because": "nobody carries them"})


def stayed(stream="s1"):
    """Return the reading of a stream that could not be moved."""
    return read("move.refused", {"provider": "agora", "stream": stream, "because": "31 of 80"})


def moved():
    """Return the reading of what Hitless did about it."""
    return read("streams.moved", {"provider": "agora", "moved": 12, "stayed": 2})


def transcript(steps):
    """Return what is sent at each step: (time, state, severity, title)."""
    alerts, sent = Alerts("n1", "n1-x", **PACE), []
    for now, reading in steps:
        messages = alerts.tick(now) if reading is None else alerts.feed(reading, now)
        sent += [(now, str(m.state), str(m.severity), m.title) for m in messages]
    return sent


DOWN = "agora is down"
WELL = "agora is healthy again"
STAY = "Streams stay on agora although they should move"

TRANSCRIPTS = {
    "a provider goes down and comes back": (
        [(0, judged("down")), (60, judged("healthy")), (89, None), (90, None)],
        [(0, "open", "warning", DOWN), (90, "resolved", "warning", WELL)],
    ),
    "what was said is not said again": (
        [(0, judged("down")), (1, judged("down")), (1800, judged("down")), (3599, None)],
        [(0, "open", "warning", DOWN)],
    ),
    "what lasts is said again every hour": (
        [(0, judged("down")), (3600, None), (3601, judged("down")), (7199, None), (7200, None)],
        [
            (0, "open", "warning", DOWN),
            (3600, "still", "warning", DOWN),
            (7200, "still", "warning", DOWN),
        ],
    ),
    "a provider that flaps is one alert": (
        [
            (0, judged("down")),
            (20, judged("healthy")),
            (40, judged("down")),
            (60, judged("healthy")),
            (89, None),
            (90, None),
        ],
        [(0, "open", "warning", DOWN), (90, "resolved", "warning", WELL)],
    ),
    "what Hitless did is added, once": (
        [(0, judged("down", streams=14)), (5, moved()), (9, moved())],
        [(0, "open", "warning", DOWN), (5, "still", "warning", DOWN)],
    ),
    "what Hitless did without any trouble is not said": ([(0, moved()), (9, None)], []),
    "what gets worse is said at once, what gets better is not": (
        [(0, judged("degraded")), (5, judged("down")), (9, judged("degraded"))],
        [(0, "open", "info", "agora is degraded"), (5, "open", "warning", DOWN)],
    ),
    "disabling a provider ends its alert": (
        [(0, judged("down")), (60, judged("disabled")), (90, None)],
        [(0, "open", "warning", DOWN), (90, "resolved", "warning", "agora was disabled")],
    ),
    "good news of what was never bad is no news": (
        [(0, judged("healthy")), (1, dark(0)), (99, None)],
        [],
    ),
    "ten times as many streams are said, one more is not": (
        [(0, dark(1)), (1, dark(2)), (2, dark(9)), (3, dark(10)), (4, dark(99)), (5, dark(100))],
        [
            (0, "open", "critical", "1 stream off air"),
            (3, "still", "critical", "10 streams off air"),
            (5, "still", "critical", "100 streams off air"),
        ],
    ),
    "bursts are over when no more of them come": (
        [(0, stayed()), (300, stayed("s2")), (899, None), (900, None)],
        [(0, "open", "warning", STAY), (900, "resolved", "warning", STAY)],
    ),
}


@pytest.mark.parametrize("name", TRANSCRIPTS)
def test_operators_are_told_what_the_transcript_says(name):
    steps, expected = TRANSCRIPTS[name]

    assert transcript(steps) == expected


@pytest.mark.parametrize(
    ("reading", "words"),
    [
        (judged("down"), "hitless providers agora"),
        (judged("down", streams=2), "hitless drain agora"),
        (dark(1), "hitless why s1"),
        (dark(2), "hitless streams"),
        (read("moves.frozen", {}), "hitless thaw"),
        (read("store.lost", {}), "hitless serve --check"),
        (read("task.failed", {}), "hitless incident --since 1h"),
    ],
)
def test_the_next_command_can_be_pasted(reading, words):
    """
    The message has it, and the command line parses it; nothing is run.
    """
    (message,) = Alerts("n1", "n1-x", **PACE).feed(reading, 0.0)
    assert message.command == words
    _, name, *args = shlex.split(words)
    assert name in COMMANDS, f"there is no `hitless {name}` yet"
    command = cli.get_command(click.Context(cli), name)
    command.make_context(name, args, parent=click.Context(cli, info_name="hitless"))


def test_the_resolved_message_has_the_duration_of_the_trouble_and_the_key_of_its_beginning():
    """
    Settling is our patience, not their outage.
    """
    alerts = Alerts("n1", "n1-x", **PACE)
    (opened,) = alerts.feed(judged("down"), 0.0)
    alerts.feed(judged("healthy"), 750.0)
    (resolved,) = alerts.tick(900.0)

    assert resolved.duration_s == 750
    assert resolved.text.startswith("It lasted 12 min. ")
    assert (resolved.key, len(alerts)) == (opened.key, 0)


def test_a_burst_lasted_until_it_was_last_seen_and_counts_its_streams():
    alerts = Alerts("n1", "n1-x", **PACE)
    alerts.feed(stayed(), 0.0)
    alerts.feed(stayed("s2"), 100.0)
    (resolved,) = alerts.tick(700.0)

    assert (resolved.duration_s, resolved.count, resolved.streams) == (100, 2, 2)


def test_a_reminder_says_how_often_and_when_it_was_last_seen():
    alerts = Alerts("n1", "n1-x", **PACE)
    for now in (0.0, 60.0, 3000.0):
        alerts.feed(judged("down"), now)
    (reminder,) = alerts.tick(3600.0)

    assert (reminder.state, reminder.count) == (State.STILL, 3)
    assert reminder.text.endswith("Seen 3 times in 60 min, last 10 min ago.")


def test_no_two_messages_have_one_id_and_all_begin_with_the_origin():
    alerts = Alerts("n1", "n1-7f", **PACE)
    messages = [m for n in range(4) for m in alerts.feed(judged("down", f"p{n}"), float(n))]

    assert len({message.id for message in messages}) == 4
    assert all(message.id.startswith("n1-7f-") for message in messages)


def test_two_nodes_share_the_key_of_what_both_see_and_not_of_what_each_sees_alone():
    one, two = Alerts("n1", "a", **PACE), Alerts("n2", "b", **PACE)
    keys = [
        {alerts.feed(reading, 0.0)[0].key for alerts in (one, two)}
        for reading in (judged("down"), read("store.lost", {}))
    ]

    assert keys == [{"provider:agora"}, {"store.lost:store@n1", "store.lost:store@n2"}]


def test_thousands_of_streams_that_stay_are_a_handful_of_messages():
    alerts = Alerts("n1", "n1-x", **PACE)
    messages = [m for n in range(5000) for m in alerts.feed(stayed(f"s{n}"), n / 1000)]

    assert [m.streams for m in messages] == [1, 10, 100, 1000]
    assert len(alerts) == 1


def test_one_alert_too_many_resolves_the_oldest():
    alerts = Alerts("n1", "n1-x", open_max=2, **PACE)
    for n, name in enumerate(("a", "b")):
        alerts.feed(judged("down", name), float(n))
    dropped, opened = alerts.feed(judged("down", "c"), 10.0)

    assert (dropped.state, dropped.subject, dropped.duration_s) == ("resolved", "a", 10)
    assert "no longer followed" in dropped.title
    assert (opened.state, opened.subject, len(alerts)) == ("open", "c", 2)


def test_open_alerts_are_counted_by_severity():
    alerts = Alerts("n1", "n1-x", **PACE)
    alerts.feed(judged("down"), 0.0)
    alerts.feed(dark(1), 0.0)

    assert alerts.by_severity() == {
        Severity.CRITICAL: 1,
        Severity.WARNING: 1,
        Severity.INFO: 0,
    }


READINGS = st.one_of(
    st.builds(judged, st.sampled_from(["healthy", "degraded", "down", "disabled"]), st.text()),
    st.builds(dark, st.integers(0, 10**6)),
    st.builds(stayed, st.text()),
    st.builds(moved),
    st.builds(read, st.sampled_from(["store.lost", "store.back", "task.failed"]), st.just({})),
)


@given(st.lists(st.tuples(st.floats(0, 4000), READINGS), max_size=40))
def test_whatever_happens_alerts_are_bounded_and_each_that_opens_is_resolved_once(steps):
    alerts, now, is_open = Alerts("n1", "n1-x", open_max=4, **PACE), 0.0, set()
    for after_s, reading in steps:
        now += after_s
        for message in alerts.feed(reading, now):
            match message.state:
                case State.OPEN:
                    is_open.add(message.key)
                case State.STILL:
                    assert message.key in is_open
                case State.RESOLVED:
                    is_open.remove(message.key)
            assert message.duration_s >= 0
        assert len(alerts) == len(is_open) <= 4


# --- What happens at a node ---


def test_a_provider_that_goes_down_is_told_with_the_streams_on_it():
    async def play(node):
        node.say("down")

    assert at_node(play).hooks.alerts == [("open", "provider", 7)]


def test_the_alert_of_a_provider_that_was_deleted_is_resolved():
    """
    Nobody would ever say that it is healthy again.
    """

    async def play(node):
        node.say("down")
        node.say("down", "zego")
        await asyncio.sleep(5)
        del node.providers.rows["agora"]
        await asyncio.sleep(2 * SETTLE_S)
        assert node.signals.alerts.subjects("provider") == ["zego"]

    assert at_node(play).hooks.alerts == [
        ("open", "provider", 7),
        ("open", "provider", 0),
        ("resolved", "provider", 0),
    ]


def test_a_follower_keeps_still_and_tells_when_it_leads_soon():
    async def play(node):
        node.is_leader = False
        node.say("down")
        await asyncio.sleep(HAND_OVER_S - 2)
        assert node.hooks.alerts == []
        node.is_leader = True
        await asyncio.sleep(1.1)

    assert at_node(play).hooks.alerts == [("open", "provider", 7)]


def test_a_follower_that_leads_much_later_does_not_say_what_was_said():
    async def play(node):
        node.is_leader = False
        node.say("down")
        await asyncio.sleep(HAND_OVER_S + 2)
        node.is_leader = True
        await asyncio.sleep(1.1)

    assert at_node(play).hooks.alerts == []


def test_a_node_without_a_store_tells_of_it_although_nobody_leads():
    async def play(node):
        node.is_leader, node.store_lost_because = False, "connection lost"
        node.signals.heard("store.lost", {"because": "connection lost"})
        node.say("down")

    assert at_node(play).hooks.alerts == [("open", "store.lost", 0), ("open", "provider", 0)]


def test_all_providers_down_and_a_freeze_are_seen_and_resolved():
    async def play(node):
        node.words = dict.fromkeys(node.words, Word.DOWN)
        node.settings.is_frozen = True
        await asyncio.sleep(3)
        node.words["zego"], node.settings.is_frozen = Word.HEALTHY, False
        await asyncio.sleep(60)

    assert at_node(play).hooks.alerts == [
        ("open", "providers.all_down", 0),
        ("open", "moves.frozen", 0),
        ("resolved", "providers.all_down", 0),
        ("resolved", "moves.frozen", 0),
    ]


def test_a_server_without_providers_is_not_all_down():
    async def play(node):
        node.providers.rows.clear()
        await asyncio.sleep(3)

    assert at_node(play).hooks.alerts == []


def test_live_streams_that_nobody_carries_are_off_air_after_a_while_until_they_are_carried():
    async def play(node):
        for id in ("s1", "s2"):
            node.signals.changed(stream(id, is_carried=False))
        node.signals.changed(stream("new", is_carried=False, state=StreamState.STARTING))
        await asyncio.sleep(DARK_S - 1)
        assert node.signals.dark == []
        await asyncio.sleep(3)
        assert node.signals.dark == ["s1", "s2"]
        node.signals.changed(stream("s1", epoch=2))
        node.signals.changed(stream("s2", state=StreamState.ENDED))
        await asyncio.sleep(60)

    assert at_node(play).hooks.alerts == [
        ("open", "streams.dark", 2),
        ("resolved", "streams.dark", 0),
    ]


def test_events_that_nobody_reads_are_bounded_and_counted():
    async def main():
        node = Standing("agora")
        for _ in range(QUEUE_MAX + 5):
            node.signals.heard("stream.started", {})
        return node.signals

    signals = run(main())
    assert (len(signals), signals.dropped) == (QUEUE_MAX, 5)


def test_streams_that_are_followed_are_bounded(monkeypatch):
    monkeypatch.setattr(module, "STREAMS_MAX", 3)

    async def play(node):
        for n in range(9):
            node.signals.changed(stream(f"dark{n}", is_carried=False))
            node.signals.changed(stream(f"lit{n}"))
        await asyncio.sleep(DARK_S + 1)
        assert node.signals.dark == ["dark6", "dark7", "dark8"]
        node.signals.heard("leg.live", {}, stream("lit0", "zego", 2))

    assert at_node(play).hooks.legs == [(LegSaid.LIVE, "zego", "lit0", 2)]


def test_what_webhooks_do_is_no_news_for_webhooks():
    async def main():
        node = Standing("agora")
        node.signals.heard("webhook.failed", {"webhook": "ops"})
        return len(node.signals)

    assert run(main()) == 0
