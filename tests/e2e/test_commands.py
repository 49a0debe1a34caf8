"""hitless publish, watch, config, drill and soak: what they do, and what they refuse."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import asynccontextmanager

import av
import pytest
from e2e.commands import clock, one_line

from hitless.cli import main as hitless
from hitless.lab.stage import Stage


PROVIDER = """
[[provider]]
name = "agora"
adapter = "whip"
url = "{url}/whip/{{stream}}"
"""

KEYS = {
    "drill", "passed", "attempts", "providers", "stream_id", "detect_s", "gap_s", "frames_lost",
    "frames_repeated", "longest_interval_s", "baseline_longest_interval_s", "audio_gap_s",
    "audio_slots_lost", "audio_slots_repeated", "av_skew_s", "duration_s", "because",
}  # fmt: skip
"""What each run of `hitless drill --json` holds, no more and no less."""


def configure(home, text):
    """Write `hitless.toml` where the commands are run."""
    (home.path / "hitless.toml").write_text(text)


@asynccontextmanager
async def configured(home):
    """Run a stand-in, and configure it as the only provider."""
    folder = home.path / "stage"
    folder.mkdir()
    async with Stage(folder, ("agora",), has_accounts=False) as stage:
        configure(home, PROVIDER.format(url=stage.urls["agora"]))
        yield stage


# --- What a user does ---


def test_publish_and_watch_carry_a_stream(home):
    """
    Two commands, one hitless.toml: the file that is written holds picture and sound.
    """
    film = home.path / "show.webm"

    async def main():
        async with configured(home):
            await asyncio.to_thread(stream)

    def stream():
        with home.running("watch", "show", "--to", str(film), "--wait-s", "30") as viewer:
            with home.running("publish", "show") as publisher:
                publisher.until_said("On air with agora")
                viewer.until_said("On air with agora")
                wait_for_size(film, 100_000)
                publisher.interrupt()
                assert 130 == publisher.ended_within(5)
            assert 0 == viewer.ended_within(15), viewer.said()
        assert "Traceback" not in viewer.said() + publisher.said()

    asyncio.run(main())

    with av.open(str(film)) as container:
        assert {"video", "audio"} == {one.type for one in container.streams}
        pictures = sum(1 for _ in container.decode(video=0))
    assert pictures >= 15


def wait_for_size(path, size):
    """Wait until a file has so many bytes, some seconds of a stream."""
    until_s = clock() + 30
    while not path.exists() or path.stat().st_size < size:
        assert clock() < until_s, f"{path} stays small"


# --- What is refused ---
#
# In this very process, so that fifty commands take no minute: what one of them started would be
# found by the fixture `nothing_left_behind`.


@pytest.fixture
def refused(home, monkeypatch, capsys):
    """Return what runs a command here, and returns its exit status and what it said."""
    monkeypatch.chdir(home.path)
    monkeypatch.setenv("TMPDIR", str(home.path))
    logger = logging.getLogger("hitless")
    before = logger.handlers[:], logger.level, logger.propagate

    def run(*words):
        status = hitless(words)
        out, err = capsys.readouterr()
        assert "" == out
        return status, err

    yield run
    logger.handlers[:], logger.level, logger.propagate = before


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ('[[provider]]\nname = "a"\nadapter = "whip"\nurl = "ftp://x/whip"', "url"),
        ('[[provider]]\nname = "a"\nadapter = "whip"\nurl = "http://example.com/whip"', "https"),
        ('[[provider]]\nname = "a"\nadapter = "whip"\nurl = "nonsense"', "url"),
        ('[[provider]]\nname = "a"\nadapter = "memory"\ncolour = "red"', "colour"),
        ('[[provider]]\nname = "a"\nadapter = "pigeon"', "pigeon"),
        (
            '[[provider]]\nname = "a"\nadapter = "memory"\n'
            '[[provider]]\nname = "a"\nadapter = "memory"',
            "a",
        ),
        ("[policy]\nhealth_interval_s = -1", "health_interval_s"),
        ("[policy]\nmax_retrys = 1", "max_retries"),
        ('[backend]\nurl = "http://"', "url"),
        ("", "nothing to stream over"),
        ("provider = []", "the list of providers is empty"),
        ("this is not TOML", "hitless.toml"),
    ],
)
@pytest.mark.parametrize("command", ["publish", "watch"])
def test_a_configuration_that_cannot_work_starts_nothing(home, refused, command, toml, said):
    """
    One line that names the key, exit status 2.
    """
    configure(home, toml)

    status, err = refused(command, "show")

    assert 2 == status, err
    assert said in one_line(err)


@pytest.mark.parametrize(
    "toml",
    [
        "[policy]\nhealth_interval_s = -1",
        "[policy]\nmax_retrys = 1",
        'colour = "red"',
        '[[provider]]\nname = "a"\n[[provider]]\nname = "a"',
        "this is not TOML",
    ],
)
def test_config_refuses_what_it_cannot_read(home, refused, toml):
    """
    The command that shows the configuration finds its mistakes.
    """
    configure(home, toml)

    status, err = refused("config")

    assert 2 == status
    assert one_line(err).startswith("hitless: ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("publish", ""), "stream id is empty"),
        (("publish", "a\tb"), "stream id"),
        (("watch", "x" * 201), "201 characters"),
        (("watch", ".."), "stream id"),
        (("publish", "show", "--source", "missing.mp4"), "missing.mp4"),
        (("publish", "show", "--source", "/dev/video99"), "/dev/video99"),
        (("publish", "show", "--source", "."), "cannot be read"),
        (("publish", "show", "--width", "-5"), "width"),
        (("publish", "show", "--frame-rate", "0"), "frame_rate"),
        (("publish", "show", "--codec", "AV1"), "AV1"),
        (("watch", "show", "--wait-s", "-1"), "wait_s"),
        (("watch", "show", "--wait-s", "soon"), "soon"),
        (("publish", "show", "--config", "missing.toml"), "missing.toml"),
        (("publish", "show", "--set", "policy.max_retries=many"), "max_retries"),
        (("publish",), "STREAM"),
        (("soak", "--seconds", "5"), "seconds = 5"),
        (("soak", "--loss", "--seconds", "nan"), "seconds = nan"),
        (("soak", "--move-every", "1", "--seconds", "600"), "move_every = 1"),
        (("drill", "no-such-drill"), "no-such-drill"),
        (("drill", "--runs", "0"), "0"),
        (("lob",), "lob"),
    ],
)
def test_words_that_make_no_sense_start_nothing(home, refused, words, said):
    """
    One line that says which, exit status 2.
    """
    if "missing.toml" not in words:
        configure(home, PROVIDER.format(url="http://127.0.0.1:9"))
    before = set(home.path.iterdir())

    status, err = refused(*words)

    assert 2 == status, err
    assert said in one_line(err)
    assert before == set(home.path.iterdir())


@pytest.mark.parametrize("stream", ["späti/☕ 7%", "a b", "x" * 200])
def test_an_odd_stream_id_is_a_stream_id(home, refused, stream):
    """
    It is not refused: it reaches the provider percent-encoded, where nobody answers.
    """
    configure(home, PROVIDER.format(url="http://127.0.0.1:9"))

    status, err = refused("watch", stream, "--wait-s", "1")

    assert 1 == status, err
    assert "connection refused" in err


def test_a_file_that_is_no_film_fails(home, refused):
    """
    It is there and can be read, so only opening it shows: one line, and nobody was asked.
    """
    configure(home, PROVIDER.format(url="http://127.0.0.1:9"))
    (home.path / "film.mp4").write_bytes(b"no film at all" * 100)

    status, err = refused("publish", "show", "--source", "film.mp4")

    assert 2 == status, err
    assert "film.mp4" in one_line(err)


# --- Drills ---


def test_the_drills_are_listed_with_what_must_hold(home):
    """
    Every drill of the catalogue, one line each.
    """
    listed = home.run("drill", "--list")

    assert 0 == listed.returncode
    names = [line.split()[0] for line in listed.stdout.splitlines()[1:]]
    assert {"provider-killed", "backend-switch", "own-network-down", "local-fault"} <= set(names)
    assert 29 == len(names) == len(set(names))


def test_a_drill_writes_what_it_measured(home):
    """
    JSON alone on standard output, its progress on standard error, exit status 0.
    """
    done = home.run("drill", "start-with-disabled-default", "--json", "-", limit_s=120)

    assert 0 == done.returncode, done.stdout + done.stderr
    (result,) = json.loads(done.stdout)
    assert KEYS == set(result)
    assert result["passed"] is True
    assert ["zegocloud"] == result["attempts"] == result["providers"]
    assert "passed" in done.stderr
