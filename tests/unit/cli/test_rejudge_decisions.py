"""hitless replay of an incident: orders to hands and moves of the fleet, decided again."""

import json

import pytest
from unit.cli.incidents import replaying
from unit.server import recorded
from unit.server.recorded import PHONE, SECRET, SHOW
from unit.server.stored_streams import go


pytest_plugins = ("postgres_server",)


@pytest.fixture(scope="module")
def minute(engine):
    """Return the recording of a bad minute."""
    return go(recorded.bad_minute(engine))[0]


@pytest.fixture
def replayed(minute, run, tmp_path, monkeypatch):
    """Return what changes the incident as a test likes, and replays it."""
    monkeypatch.chdir(tmp_path)
    return replaying(minute, run, tmp_path)


def silent(recording):
    """Return the step in which the hand's first leg was silent."""
    (hand,) = recording["hands"]
    return next(one for one in hand["steps"] if one["event"] == "LegSilent")


def test_a_failover_and_a_fleet_move_decided_again_are_the_same(replayed):
    """
    And are told in order of time, with nobody's name.
    """
    status, out, err = replayed()

    assert status == 0, out + err
    assert "DIFFERENT" not in out
    orders = [line.split("  ")[3:6] for line in out.splitlines() if "Leg  leg" in line]
    assert orders[:3] == [
        ["OpenLeg", "leg 1", "agora"],
        ["OpenLeg", "leg 2", orders[1][2]],
        ["CloseLeg", "leg 1", orders[2][2]],
    ]
    assert "fleet  agora: " in out
    assert out.index("OpenLeg") < out.index("fleet  agora: ")
    assert "steps of 1 hand run again: the same effects" in err
    assert "of fleet moves decided again: the same moves" in err
    assert not any(word in out for word in (SHOW, PHONE, SECRET, "quiet-"))


def test_an_effect_that_differs_is_told_in_one_line_with_where(replayed):
    """
    Exit status 1; and what was decided elsewhere is still the same.
    """

    def change(recording):
        order = next(one for one in silent(recording)["effects"] if one["effect"] == "OpenLeg")
        order["provider"] = "nobody"

    status, out, err = replayed(change)

    (line,) = [line for line in out.splitlines() if "DIFFERENT" in line]
    assert status == 1
    assert "DIFFERENT after LegSilent of client-1: OpenLeg.provider: recorded " in line
    assert '"nobody", now "' in line
    assert "1 hand run again: 1 difference" in err
    assert "decided again: the same moves" in err
    assert "recorded by hitless 0" in err


def test_an_effect_that_was_left_out_is_told_too(replayed):
    """
    Nothing was recorded where something comes now.
    """
    status, out, _ = replayed(lambda recording: silent(recording)["effects"].clear())

    assert status == 1
    assert "recorded nothing, now " in out


def test_a_plan_that_differs_is_told_in_one_line_with_where(replayed):
    """
    Of the order, and with what was recorded.
    """

    def change(recording):
        (order,) = recording["fleet"]["orders"]
        order["chosen"]["plan"]["starts_per_s"][0][1] = 99.0

    status, out, err = replayed(change)

    (line,) = [line for line in out.splitlines() if "DIFFERENT" in line]
    assert status == 1
    assert "DIFFERENT: order to leave agora: " in line
    assert "plan.starts_per_s[0][1]: recorded 99.0, now " in line
    assert "fleet moves decided again: 1 difference" in err


def test_a_deal_that_differs_is_told_in_one_line_with_where(replayed, minute):
    """
    Of the move, and the first stream that goes elsewhere.
    """
    number = minute["fleet"]["moves"][0]["move"]

    def change(recording):
        (move,) = recording["fleet"]["moves"]
        move["deals"][0]["moves"][0][1] = "agora"

    status, out, _ = replayed(change)

    (line,) = [line for line in out.splitlines() if "DIFFERENT" in line]
    assert status == 1
    assert f"DIFFERENT: deal of move {number} from agora: " in line
    assert 'recorded "agora", now "' in line


def test_as_json_it_tells_what_differs(replayed):
    """
    For programs: the same, in full.
    """
    same = json.loads(replayed(lambda recording: None, "--json")[1])
    status, out, _ = replayed(lambda recording: silent(recording)["effects"].pop(), "--json")
    changed = json.loads(out)

    assert same["is_same"]
    assert same["hands"][0]["different"] == same["fleet"]["different"] == []
    assert same["fleet"]["deals"] > len(same["fleet"]["orders"]) == 1
    assert (status, changed["is_same"], changed["after"]) == (1, False, [])
    (step,) = changed["hands"][0]["different"]
    assert step["observation"] == "LegSilent"
    assert len(step["now"]) == len(step["recorded"]) + 1


def test_an_older_recording_has_verdicts_only_and_that_is_said(replayed):
    """
    It is no difference.
    """

    def change(recording):
        del recording["hands"], recording["fleet"]

    status, out, err = replayed(change)

    assert status == 0
    assert "OpenLeg" not in out
    assert "no steps of hands and no fleet moves: an older hitless recorded it" in err


@pytest.mark.parametrize(
    "change",
    [
        {"hands": 3},
        {"hands": [3]},
        {"hands": [{}]},
        {"fleet": 3},
        {"fleet": {"orders": 3}},
        {"fleet": {"moves": [3]}},
    ],
    ids=str,
)
def test_what_cannot_be_decided_again_is_said_in_a_sentence(replayed, change):
    """
    Exit status 2: it is no incident.
    """
    status, out, err = replayed(lambda recording: recording.update(change))

    assert (status, out) == (2, "")
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) == 1
