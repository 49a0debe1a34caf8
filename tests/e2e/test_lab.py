"""hitless lab: real processes, real media, and nothing that outlives it."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import termios

import pytest
from e2e.commands import clock, one_line


END_S_MAX = 5.0
"""Ctrl-C ends everything within this time [s]."""
KILLED_S_MAX = 3.0
"""After `kill -9` of the lab nothing is left after this time [s]."""
GAP_S_MAX = 2.0
ON_AIR = "is on air; the viewer decodes it"
STANDS = {"agora", "zegocloud", "webrtc"}


@pytest.fixture(scope="module")
def story(shared_home):
    """Return what `hitless lab --once` did; it takes half a minute, so it is done once."""
    return shared_home.run("lab", "--once", limit_s=120)


# --- The story ---


def test_the_story_ends_well(story):
    """
    Exit status 0, and not a word of a traceback.
    """
    assert 0 == story.returncode, story.stdout + story.stderr
    assert "Traceback" not in story.stdout + story.stderr


@pytest.mark.parametrize(
    "sentence",
    [
        "Health monitoring started for agora",
        "Attempting automatic failover",
        "Trying failover to zegocloud",
        "Successfully failed over to zegocloud",
        "Stream migrated successfully to webrtc",
    ],
)
def test_the_console_says_it_in_these_words(story, sentence):
    """
    Operators search for these sentences.
    """
    assert sentence in story.stdout


def test_the_sentences_come_in_their_order(story):
    """
    A failover is attempted before it succeeds, and the planned move comes last.
    """
    places = [
        story.stdout.index(words)
        for words in (
            "Health monitoring started for agora",
            "Attempting automatic failover",
            "Trying failover to zegocloud",
            "Successfully failed over to zegocloud",
            "Stream migrated successfully to webrtc",
        )
    ]
    assert sorted(places) == places


def test_the_story_shows_gaps_below_two_seconds(story):
    """
    Of the kill, and of the planned migration, which loses nothing.
    """
    gaps = re.findall(r"gap (after|across) .*?: ([\d.]+) s, (\d+) frames lost", story.stdout)

    assert ["after", "across"] == [which for which, _, _ in gaps]
    assert all(float(gap_s) < GAP_S_MAX for _, gap_s, _ in gaps)
    assert "0" == gaps[1][2]


def test_the_stand_ins_are_called_stand_ins(story):
    """
    Nobody may believe that it talks to the companies' services.
    """
    assert "stand-ins on this machine, not those companies' services" in story.stdout


def test_the_story_is_plain_lines_where_there_is_no_terminal(story):
    """
    No table and no escape sequence in a log.
    """
    assert "\x1b" not in story.stdout
    assert "timeline" not in story.stdout


# --- A lab that stays up ---


def test_a_lab_is_broken_and_healed_from_another_terminal(home):
    """
    break, status and heal reach it; a second lab is refused; Ctrl-C ends everything in time.
    """
    with home.running("lab") as lab:
        lab.until_said(ON_AIR)

        told = json.loads(home.run("lab", "status", "--json").stdout)
        assert STANDS == {stand["name"] for stand in told["stand_ins"]}
        assert all(stand["is_running"] for stand in told["stand_ins"])
        assert {"publisher", "viewer"} == set(told["ends"])

        second = home.run("lab")
        assert 1 == second.returncode
        assert "a lab is running already" in second.stderr.splitlines()[-1]
        assert "Traceback" not in second.stderr

        for words, said in (
            (("nobody", "hang"), "nobody"),
            (("webrtc", "hung"), "did you mean 'hang'"),
            (("webrtc", "loss", "7"), "share = 7"),
            (("webrtc", "hang", "1"), "takes 0 numbers"),
        ):
            refused = home.run("lab", "break", *words)
            assert 2 == refused.returncode, words
            assert said in one_line(refused.stderr)

        assert 0 == home.run("lab", "break", "webrtc", "refuse").returncode
        assert ["refuse"] == broken(home)["webrtc"]
        assert "refuse" in home.run("lab", "status").stdout
        assert 0 == home.run("lab", "heal", "webrtc").returncode
        assert [] == broken(home)["webrtc"]

        lab.interrupt()
        assert 130 == lab.ended_within(END_S_MAX)
        assert [] == lab.all_gone_within(0.0)
        assert "Traceback" not in lab.said()
    assert [] == list(home.path.glob("hitless-lab-*.json"))


def test_ctrl_c_twice_ends_it_too(home):
    """
    Impatience does no harm.
    """
    with home.running("lab") as lab:
        lab.until_said(ON_AIR)
        lab.interrupt()
        lab.interrupt()

        assert 130 == lab.ended_within(END_S_MAX)
        assert [] == lab.all_gone_within(0.0)
        assert "Traceback" not in lab.said()


def test_ctrl_c_while_it_starts_leaves_nothing(home):
    """
    Half of the processes are there, and none stays.
    """
    with home.running("lab") as lab:
        lab.until_said("starting the lab")
        lab.interrupt()

        assert 130 == lab.ended_within(END_S_MAX)
        assert [] == lab.all_gone_within(0.0)


def test_kill_9_of_the_lab_leaves_no_child(home):
    """
    Not even one that is stopped, and can do nothing for itself.
    """
    with home.running("lab") as lab:
        lab.until_said(ON_AIR)
        stopped = json.loads(home.run("lab", "status", "--json").stdout)["stand_ins"][0]
        os.kill(stopped["pid"], signal.SIGSTOP)
        lab.note_family()
        assert stopped["pid"] in {one.pid for one in lab.family}

        lab.process.kill()
        lab.process.wait(5)

        assert [] == lab.all_gone_within(KILLED_S_MAX)


def test_a_lab_after_kill_9_of_the_one_before_is_not_refused(home):
    """
    The file that the dead one left behind is nobody's.
    """
    state = home.path / f"hitless-lab-{os.getuid()}.json"
    state.write_text(json.dumps({"url": "http://127.0.0.1:9", "token": "t", "pid": 2**22 + 7}))

    refused = home.run("lab", "status")

    assert 1 == refused.returncode
    assert "no lab is running" in one_line(refused.stderr)


def broken(home):
    """Return by what each stand-in is broken."""
    told = json.loads(home.run("lab", "status", "--json").stdout)
    return {stand["name"]: stand["broken_by"] for stand in told["stand_ins"]}


# --- What it refuses ---


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--source", "missing.mp4"), "missing.mp4"),
        (("--source", "/dev/video99"), "/dev/video99"),
        (("break", "agora", "explode"), "explode"),
        (("break", "agora", "loss", "2"), "share = 2"),
        (("--sauce", "film.mp4"), "--sauce"),
    ],
)
def test_nonsense_is_refused_with_one_line_and_nothing_is_started(home, words, said):
    """
    Exit status 2, the word that is wrong, and not even a folder for logs.
    """
    refused = home.run("lab", *words)

    assert 2 == refused.returncode, refused.stderr
    assert said in one_line(refused.stderr)
    assert [] == list(home.path.iterdir())


@pytest.mark.parametrize(
    "words", [("break", "agora", "hang"), ("heal", "agora"), ("status",)], ids=lambda x: x[0]
)
def test_without_a_lab_it_says_how_to_start_one(home, words):
    """
    One line, exit status 1.
    """
    refused = home.run("lab", *words)

    assert 1 == refused.returncode
    assert "start one with `hitless lab`" in one_line(refused.stderr)


# --- On a terminal ---


def test_a_terminal_shows_a_live_table(home):
    """
    The table names who is on air, and Ctrl-C ends it there too.
    """
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 120, 0, 0))
    try:
        with home.running("lab", stdout=slave) as lab:
            os.close(slave)
            slave = -1
            seen = read_until(master, "ON AIR", limit_s=60)
            lab.interrupt()
            seen += read_until(master, "", limit_s=END_S_MAX)
            assert 130 == lab.ended_within(END_S_MAX)
            assert [] == lab.all_gone_within(0.0)
    finally:
        os.close(master)
        if slave >= 0:
            os.close(slave)

    assert "ON AIR" in seen
    assert "timeline" in seen
    assert "Traceback" not in seen


def read_until(master, text, *, limit_s):
    """Read what a terminal shows until it shows `text`; empty: until it is hung up."""
    seen, until_s = "", clock() + limit_s
    while clock() < until_s:
        if not select.select([master], [], [], 0.1)[0]:
            continue
        try:
            data = os.read(master, 1 << 16)
        except OSError:  # EIO: nobody holds the other side any more
            break
        if not data:
            break
        seen += data.decode(errors="replace")
        if text and text in seen:
            break
    return seen
