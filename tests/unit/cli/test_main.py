"""hitless.cli: main, the shared options, exit status, help and completion"""

from __future__ import annotations

import importlib.util
import json
import logging
import shlex
import subprocess
import sys

import click
import pytest

from hitless import cli as package
from hitless.cli import COMMANDS, cli, main, output
from hitless.cli.logs import ConsoleFormatter
from hitless.errors import (
    AllProvidersFailed,
    ConfigError,
    LocalFault,
    NotOnAir,
    StreamEnded,
    Unreachable,
)


PRESENT = [
    name
    for name, (where, _) in COMMANDS.items()
    if importlib.util.find_spec(f"hitless.cli.{where.partition(':')[0]}")
]

HEAVY = ("aiortc", "aioice", "av", "numpy", "aiohttp", "rich", "structlog", "cryptography")


@pytest.fixture
def raising(monkeypatch):
    """Return what makes the command `config` raise something."""

    def raising(exc):
        @click.command()
        def command():
            raise exc

        monkeypatch.setitem(cli.commands, "config", command)

    return raising


# --- Help ---


def test_help_imports_no_media_library():
    """
    Help and completion answer at once: the media libraries alone take a second.
    """
    code = (
        "import sys; from hitless.cli import main; main(['--help']); "
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )

    assert "[]" == done.stderr.strip()
    assert "Keep a live stream on air" in done.stdout


def test_hitless_alone_prints_its_help(capsys):
    """
    A stranger's first word.
    """
    assert 0 == main([])
    assert "Commands:" in capsys.readouterr().out


def test_the_version_is_the_packages(capsys):
    """
    One version, in pyproject.toml.
    """
    assert 0 == main(["--version"])
    assert capsys.readouterr().out.startswith("hitless ")


@pytest.mark.parametrize("name", PRESENT)
def test_a_command_is_listed_with_its_own_sentence(name):
    """
    The list is written apart from the commands, so that it imports none of them.
    """
    command = cli.get_command(click.Context(cli), name)

    assert COMMANDS[name][1] == command.get_short_help_str(limit=200)


def leaves(command, path):
    """Yield each command below this one, with the words that call it."""
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            yield from leaves(command.get_command(click.Context(command), name), [*path, name])
    else:
        yield path, command


@pytest.mark.parametrize("name", PRESENT)
def test_every_command_has_examples_that_parse(name):
    """
    An example that does not work teaches the wrong thing.
    """
    for path, command in leaves(cli.get_command(click.Context(cli), name), ["hitless", name]):
        start = " ".join(path)
        help_text = command.get_help(click.Context(command, info_name=start))
        examples = [line.strip() for line in help_text.splitlines() if f"  {start}" in line]
        assert "Examples:" in help_text, start
        assert examples, start
        for example in examples:
            words = shlex.split(example.split("  ")[0].split(" > ")[0].split(" >> ")[0])
            command.make_context(start, words[len(path) :], parent=click.Context(cli))


@pytest.mark.parametrize("name", PRESENT)
def test_every_command_takes_the_shared_options(name):
    """
    Before or behind its name.
    """
    for _, command in leaves(cli.get_command(click.Context(cli), name), []):
        options = {word for param in command.params for word in param.opts}
        assert {"--config", "--set", "--verbose", "--no-color"} <= options


# --- How it ends ---


@pytest.mark.parametrize(
    ("exc", "status", "says"),
    [
        (ConfigError("max_retries\n = -1"), 2, "hitless: max_retries = -1\n"),
        (
            click.UsageError("no such thing"),
            2,
            "hitless: no such thing (try hitless config --help)\n",
        ),
        (LocalFault("no camera"), 1, "hitless: no camera\n"),
        (NotOnAir("nobody publishes show"), 1, "hitless: nobody publishes show\n"),
        (StreamEnded("over"), 1, "hitless: over\n"),
        (
            AllProvidersFailed("no provider", [Unreachable("timeout", provider="agora")]),
            1,
            "hitless: no provider: agora: open failed: timeout\n",
        ),
        (ExceptionGroup("tasks", [ConfigError("bad")]), 2, "hitless: bad\n"),
        (KeyboardInterrupt(), 130, None),
        (BaseExceptionGroup("tasks", [KeyboardInterrupt()]), 130, None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_what_goes_wrong_is_one_line_and_a_status(exc, status, says, raising, capsys):
    """
    0 done, 1 failed, 2 bad input, 130 Ctrl-C; standard output stays clean.
    """
    raising(exc)

    assert status == main(["config"])
    told = capsys.readouterr()
    assert "" == told.out
    if says is not None:
        assert says == told.err


def test_a_bug_keeps_its_traceback(raising):
    """
    What nobody foresaw is not dressed up as bad input.
    """
    raising(ZeroDivisionError("a bug"))

    with pytest.raises(ZeroDivisionError):
        main(["config"])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["confg"], "No such command 'confg'"),
        (["confg"], "Did you mean 'config'?"),
        (["config", "--jsn"], "--json"),
        (["config", "extra"], "unexpected extra argument"),
        (["conformance"], "Missing argument 'NAME'"),
        (["completion", "tcsh"], "'tcsh' is not one of 'bash', 'zsh', 'fish'"),
        (["--set", "policy.max_retries", "config"], "write KEY=VALUE"),
        (["config", "--config", "/nowhere/hitless.toml"], "cannot read /nowhere/hitless.toml"),
        (["config", "--set", "policy.max_retries=many"], "give a whole number from 0 to 20"),
        (["conformance", "nobody"], "no adapter called 'nobody'"),
    ],
)
def test_bad_input_is_one_clear_line(words, says, capsys, tmp_path, monkeypatch):
    """
    Exit status 2, one line on standard error, nothing on standard output.
    """
    monkeypatch.chdir(tmp_path)

    assert 2 == main(words)
    told = capsys.readouterr()
    assert "" == told.out
    assert says in told.err
    assert told.err.startswith("hitless: ")
    assert 1 == told.err.count("\n")


# --- Colour and JSON ---


def test_colour_is_for_terminals_and_can_be_declined(monkeypatch):
    """
    NO_COLOR, TERM=dumb and --no-color each suffice.
    """

    class Terminal:
        def isatty(self):
            return True

    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")

    assert output.Invocation().is_colored(Terminal())
    assert not output.Invocation(no_color=True).is_colored(Terminal())
    assert not output.Invocation().is_colored(sys.stdin)
    assert output.wants_no_color({"NO_COLOR": "1"})
    assert output.wants_no_color({"TERM": "dumb"})
    assert not output.wants_no_color({"NO_COLOR": ""})


@pytest.mark.parametrize("words", [["--no-color", "config"], ["config", "--no-color"]])
def test_no_color_may_stand_anywhere(words, monkeypatch, capsys):
    """
    Before or behind the command's name.
    """
    seen = []

    @click.command()
    @click.pass_context
    @output.pass_invocation
    def command(invocation, ctx):
        seen.append((invocation.no_color, ctx.color))

    monkeypatch.setitem(cli.commands, "config", output.share(command))

    assert 0 == main(words)
    assert [(True, False)] == seen


def test_json_has_no_numbers_that_json_lacks(capsys):
    """
    NaN and infinity are null; words of an enum are texts.
    """
    output.emit_json({"a": float("nan"), "b": float("inf"), "c": (1, 2.5), "d": click.Path})

    assert {"a": None, "b": None, "c": [1, 2.5]} == {
        key: value for key, value in json.loads(capsys.readouterr().out).items() if key != "d"
    }


# --- Completion ---


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(shell, capsys):
    """
    For the three shells.
    """
    assert 0 == main(["completion", shell])
    assert "_HITLESS_COMPLETE" in capsys.readouterr().out


def test_completion_knows_commands_and_options():
    """
    What the script asks for is answered by the same process.
    """
    done = subprocess.run(
        [sys.executable, "-m", "hitless"],
        env={"_HITLESS_COMPLETE": "bash_complete", "COMP_WORDS": "hitless con", "COMP_CWORD": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert "plain,config" in done.stdout
    assert "plain,conformance" in done.stdout


# --- The console ---


def test_an_event_is_one_line_with_its_fields():
    """
    Sentence first; values that hold blanks are quoted.
    """
    record = logging.makeLogRecord(
        {
            "msg": "Trying failover to zegocloud",
            "levelno": logging.WARNING,
            "levelname": "WARNING",
            "provider": "zegocloud",
            "because": "no media for 0.21 s",
            "gap_s": 0.25,
        }
    )

    line = ConsoleFormatter(color=False).format(record)

    assert line.endswith(
        "warning Trying failover to zegocloud  "
        'provider=zegocloud because="no media for 0.21 s" gap_s=0.250'
    )
    assert "\x1b" not in line
    assert "\x1b" in ConsoleFormatter(color=True).format(record)


def test_the_package_names_every_command_once():
    """
    The registry is the only list.
    """
    assert set(cli.list_commands(click.Context(cli))) == set(package.COMMANDS)
