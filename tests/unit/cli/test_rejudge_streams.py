"""hitless replay of an incident: single moves and groups decided again, notes in their place"""

import json

import pytest
from unit.cli.incidents import replaying
from unit.server import recorded
from unit.server.recorded import PHONE, SECRET, SHOW
from unit.server.stored_streams import go


pytest_plugins = ("postgres_server",)


@pytest.fixture(scope="module")
def hour(engine):
    """Return the recording of an hour of moves."""
    return go(recorded.hour_of_moves(engine))[0]


@pytest.fixture
def replayed(hour, run, tmp_path, monkeypatch):
    """Return what changes the incident as a test likes, and replays it."""
    monkeypatch.chdir(tmp_path)
    return replaying(hour, run, tmp_path)


def test_moves_and_notes_are_told_in_order_of_time_and_are_the_same(replayed):
    """
    With nobody's name.
    """
    status, out, err = replayed()

    assert status == 0, out + err
    order = [
        "  moved to webrtc by operator  ",
        "group  of stream-",
        "  moved to webrtc by server  with stream-",
        "  moved to zegocloud by operator  ",
        "  not moved to agora by operator  ",
        "note  rescue.opened  stream-",
        "note  rescue.refused  stream-",
        "note  rescue.closed  stream-",
        "fleet  agora: ",
        "note  move.begun  move ",
        "fleet  agora: move ",
        "note  move.over  move ",
    ]
    at = [out.index(words) for words in order]
    assert at == sorted(at), out
    assert " is over: agora is empty" in out
    assert "1 end of fleet moves decided again: the same moves" in err
    assert "5 single moves and 1 group decided again: the same placements" in err
    assert "5 notes of what cannot be decided again" in err
    assert not any(word in out for word in (SHOW, PHONE, SECRET, "guest", "bob-tv"))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda it: it["streams"]["moves"][0]["placed"].update(provider="agora"),
            'to webrtc: [0].provider: recorded "agora", now "webrtc"',
        ),
        (
            lambda it: it["streams"]["groups"][0]["following"].update(provider="agora"),
            '[0].provider: recorded "agora", now "webrtc"',
        ),
        (
            lambda it: it["fleet"]["ends"][0].update(over="somebody said so"),
            'from agora: [0].over: recorded "somebody said so", now "agora is empty"',
        ),
    ],
    ids=["move", "group", "end"],
)
def test_what_differs_is_told_in_one_line_with_where(replayed, change, told):
    """
    Exit status 1.
    """
    status, out, err = replayed(change)

    (line,) = [line for line in out.splitlines() if "DIFFERENT" in line]
    assert status == 1
    assert told in line
    assert "1 difference" in err


def test_as_json_it_tells_them_too(replayed):
    """
    For programs: what was decided again, and the notes as they are.
    """
    found = json.loads(replayed(lambda recording: None, "--json")[1])

    assert found["is_same"]
    assert [one["is_same"] for one in found["streams"]["moves"]] == [True] * 5
    assert found["streams"]["groups"][0]["observation"] == "GroupMoved"
    assert found["fleet"]["ends"][0]["now"] == [{"over": "agora is empty"}]
    assert sorted({one["name"] for one in found["notes"]}) == [
        "move.begun", "move.over", "rescue.closed", "rescue.opened", "rescue.refused",
    ]  # fmt: skip


def test_an_older_recording_without_them_is_no_difference(replayed):
    """
    Nothing is said of what it does not hold.
    """

    def change(recording):
        del recording["streams"], recording["fleet"]["ends"], recording["fleet"]["notes"]

    status, out, err = replayed(change)

    assert status == 0
    assert "note" not in out + err
    assert "single" not in err


@pytest.mark.parametrize(
    "change",
    [
        {"streams": 3},
        {"streams": {"moves": 3}},
        {"streams": {"groups": [3]}},
        {"streams": {"notes": [{}]}},
        {"fleet": {"ends": [{}]}},
        {"fleet": {"notes": 3}},
    ],
    ids=str,
)
def test_what_cannot_be_read_is_said_in_a_sentence(replayed, change):
    """
    Exit status 2: it is no incident.
    """
    status, out, err = replayed(lambda recording: recording.update(change))

    assert (status, out) == (2, "")
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) == 1
