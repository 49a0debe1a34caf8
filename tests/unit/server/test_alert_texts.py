"""hitless.server.alert_texts"""

from __future__ import annotations

import shlex

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitless.cli import COMMANDS, cli
from hitless.server.alert_texts import Part, Severity, in_words, read


DOWN = {"provider": "agora", "verdict": "down", "because": "3 probes in a row failed: HTTP 503"}

READINGS = [
    ("verdict.changed", DOWN, "warning", "opens", "agora is down", "hitless providers agora"),
    (
        "verdict.changed",
        {**DOWN, "streams": 4},
        "warning",
        "opens",
        "agora is down",
        "hitless drain agora",
    ),
    (
        "verdict.changed",
        {**DOWN, "verdict": "degraded"},
        "info",
        "opens",
        "agora is degraded",
        "hitless providers agora",
    ),
    (
        "verdict.changed",
        {**DOWN, "verdict": "healthy"},
        "info",
        "ends",
        "agora is healthy again",
        "hitless providers agora",
    ),
    (
        "verdict.changed",
        {**DOWN, "verdict": "disabled"},
        "info",
        "ends",
        "agora was disabled",
        "hitless providers agora",
    ),
    (
        "provider.deleted",
        {"provider": "agora", "because": "it was deleted"},
        "info",
        "ends",
        "agora was deleted",
        "hitless audit",
    ),
    (
        "streams.moved",
        {"provider": "agora", "moved": 12, "stayed": 2},
        "warning",
        "adds",
        "Streams of agora are moving",
        "hitless streams",
    ),
    (
        "providers.all_down",
        {},
        "critical",
        "opens",
        "All providers are down",
        "hitless providers",
    ),
    (
        "providers.some_up",
        {},
        "critical",
        "ends",
        "A provider can be used again",
        "hitless providers",
    ),
    (
        "observer.suspected",
        {"provider": None},
        "warning",
        "opens",
        "This server may be cut off",
        "hitless providers",
    ),
    (
        "streams.dark",
        {"streams": 3, "stream": "s"},
        "critical",
        "opens",
        "3 streams off air",
        "hitless streams",
    ),
    (
        "streams.dark",
        {"streams": 1, "stream": "it's on"},
        "critical",
        "opens",
        "1 stream off air",
        """hitless why 'it'"'"'s on'""",
    ),
    (
        "streams.lit",
        {},
        "critical",
        "ends",
        "No stream is off air any more",
        "hitless streams",
    ),
    (
        "store.lost",
        {},
        "warning",
        "opens",
        "The database does not answer",
        "hitless serve --check",
    ),
    ("store.back", {}, "warning", "ends", "The database answers again", "hitless serve --check"),
    ("moves.frozen", {}, "info", "opens", "Automatic moves were frozen", "hitless thaw"),
    ("moves.thawed", {}, "info", "ends", "Automatic moves were thawed", "hitless audit"),
    (
        "rescue.opened",
        {"provider": "agora", "stream": "s", "extra": "zego"},
        "info",
        "burst",
        "Viewers cut off from agora are rescued",
        "hitless why s",
    ),
    (
        "rescue.refused",
        {"provider": "agora", "stream": "s"},
        "warning",
        "burst",
        "Viewers cut off from agora are not rescued",
        "hitless why s",
    ),
    (
        "move.refused",
        {"provider": "agora", "stream": "s"},
        "warning",
        "burst",
        "Streams stay on agora although they should move",
        "hitless why s",
    ),
    (
        "task.failed",
        {},
        "warning",
        "burst",
        "Something in the server failed",
        "hitless incident --since 1h",
    ),
]


@pytest.mark.parametrize(("name", "fields", "severity", "part", "title", "command"), READINGS)
def test_an_event_is_said_in_words(name, fields, severity, part, title, command):
    reading = read(name, fields)

    assert (reading.severity, reading.part) == (severity, part)
    assert (reading.title, reading.command) == (title, command)


def test_a_text_says_what_happened_what_was_done_and_how_many_streams():
    assert read("verdict.changed", {**DOWN, "streams": 2}).text == (
        "3 probes in a row failed: HTTP 503. "
        "Hitless gives new streams to other providers. 2 streams on it."
    )


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("stream.started", {"stream": "s"}),
        ("share.changed", DOWN),
        ("verdict.changed", {**DOWN, "verdict": "unknown"}),
        ("verdict.changed", {**DOWN, "region": "eu"}),
    ],
)
def test_what_is_no_trouble_is_not_said(name, fields):
    assert read(name, fields) is None


@pytest.mark.parametrize("name", ["store.lost", "observer.suspected", "rescue.refused"])
def test_what_one_node_alone_knows_is_local_and_what_all_see_is_not(name):
    assert read(name, {}).is_local
    assert not read("verdict.changed", DOWN).is_local


@pytest.mark.parametrize("words", sorted({row[5] for row in READINGS}))
def test_the_next_command_exists(words):
    """
    It is parsed as the command line would, and not run.
    """
    _, name, *args = shlex.split(words)
    assert name in COMMANDS, f"alerts name `hitless {name}`: it is no command yet"
    command = cli.get_command(click.Context(cli), name)
    try:
        command.make_context(name, args, parent=click.Context(cli, info_name="hitless"))
    except click.UsageError as exc:
        pytest.fail(f"{words}: {exc.format_message()}")


def test_a_stream_named_like_an_option_is_still_a_stream():
    fields = {"streams": 1, "stream": "--force"}

    assert read("streams.dark", fields).command == "hitless why -- --force"


@given(st.text(min_size=1, max_size=300))
def test_whatever_a_stream_is_called_the_shell_sees_one_word(stream):
    command = read("rescue.refused", {"stream": stream, "provider": "p"}).command

    assert shlex.split(command)[-1] == stream


ANY = st.none() | st.text(max_size=1000)


@given(
    st.sampled_from(sorted({row[0] for row in READINGS})),
    st.fixed_dictionaries({"because": ANY, "provider": ANY, "stream": ANY, "verdict": ANY}),
)
def test_whatever_is_told_words_are_bounded(name, fields):
    reading = read(name, fields)

    if reading is not None:
        assert reading.part in Part
        assert reading.severity in Severity
        assert len(reading.title) <= 400
        assert len(reading.text) <= 1200


@pytest.mark.parametrize(
    ("duration_s", "words"),
    [(0, "0 s"), (119.4, "119 s"), (120, "2 min"), (7199, "119 min"), (11_100, "3 h 05 min")],
)
def test_durations_are_said_as_people_say_them(duration_s, words):
    assert in_words(duration_s) == words
