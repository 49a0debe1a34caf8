"""hitless.server.recording: single moves, groups, ends of fleet moves; and notes of the rest."""

import json

import pytest
from unit.server import recorded
from unit.server.recorded import PHONE, SECRET, SHOW
from unit.server.stored_streams import go

from hitless import ConfigError
from hitless.core.fleet_replay import reended
from hitless.core.stream_replay import notes_of, regrouped, replaced


pytest_plugins = ("postgres_server",)


@pytest.fixture(scope="module")
def hour(engine):
    """Return the recording of an hour of moves, and where its streams were at the end."""
    return go(recorded.hour_of_moves(engine))


@pytest.fixture
def recording(hour):
    """Return a recording that a test may change."""
    return json.loads(json.dumps(hour[0]))


def moves(recording):
    """Return its moves of single streams, decided again."""
    return replaced(recording["streams"]["moves"], has_changed_reasons=True)


def groups(recording):
    """Return what its groups did, decided again."""
    return regrouped(recording["streams"]["groups"], has_changed_reasons=True)


def test_a_single_move_decided_again_is_the_same_also_one_that_came_too_late(hour, recording):
    """
    The operator's, those of the two brought along, and two more, of which one was overtaken.
    """
    found = moves(recording)

    assert [one for one in found if not one.is_same] == []
    told = [(one.fields["by"], one.told[0]["provider"], one.told[0]["is_accepted"])
            for one in found]  # fmt: skip
    assert told == [
        ("operator", "webrtc", True),
        ("server", "webrtc", True),
        ("server", "webrtc", True),
        ("operator", "zegocloud", True),
        ("operator", "zegocloud", False),
    ]
    assert [one.told[0]["epoch"] for one in found] == [2, 2, 2, 3, 3]
    assert hour[1]["guest"] == "zegocloud"


def test_a_group_decided_again_brings_the_same_streams_along(recording):
    """
    To where the operator moved one of them, and because of that.
    """
    (one,) = groups(recording)

    assert one.is_same
    moved = moves(recording)
    assert one.fields["stream"] == moved[0].fields["stream"]
    assert one.told[0]["provider"] == "webrtc"
    assert one.told[0]["streams"] == [each.fields["stream"] for each in moved[1:3]]


def test_the_end_of_a_fleet_move_decided_again_has_the_same_reason(recording):
    """
    Its source was empty; and there are notes of when it began here and when it was gone.
    """
    (end,) = reended(recording["fleet"]["ends"])
    begun, over = notes_of(recording["fleet"]["notes"])

    assert (end.is_same, end.told) == (True, [{"over": "agora is empty"}])
    assert (begun.name, over.name) == ("move.begun", "move.over")
    assert begun.move == over.move == end.fields["move"]
    assert (begun.provider, begun.because) == ("agora", "a test")
    assert begun.at_s < end.at_s <= over.at_s


def test_a_rescue_is_noted_with_what_became_of_it(recording):
    """
    Opened for one viewer, refused to the next one, and closed.
    """
    notes = notes_of(recording["streams"]["notes"])

    told = [(one.name, one.provider, one.target) for one in notes]
    assert told == [
        ("rescue.opened", "agora", "webrtc"),
        ("rescue.refused", "agora", "webrtc"),
        ("rescue.closed", "webrtc", "webrtc"),
    ]
    assert len({one.stream for one in notes}) == 1
    assert notes[0].client != notes[1].client
    assert notes[2].client is None


def test_neither_a_name_nor_a_secret_is_in_it(recording):
    """
    Not of the operator's reasons, not of a publisher, not of who was rescued.
    """
    text = json.dumps(recording)

    for word in (SHOW, PHONE, "bob-tv", "guest", "third", "lonely", "hosts", "fleeing", "p-"):
        assert f'"{word}' not in text
        assert f" {word}" not in text
    assert SECRET not in text
    assert SECRET[12:] not in text
    assert recording["has_changed_reasons"]


@pytest.mark.parametrize(
    "change",
    [
        lambda move: move["placing"]["row"].update(epoch=7),
        lambda move: move["placing"]["row"].update(is_over=True),
        lambda move: move["placing"]["claim"].update(provider="zegocloud"),
        lambda move: move["placing"]["claim"].update(publisher="client-9"),
        lambda move: move["placed"].update(is_accepted=False),
        lambda move: move["placed"].update(epoch=3),
    ],
    ids=["epoch", "over", "target", "publisher", "refused", "next epoch"],
)
def test_a_move_on_other_facts_is_another_one(recording, change):
    """
    Each fact that is recorded is one that decides.
    """
    change(recording["streams"]["moves"][0])

    assert [one.is_same for one in moves(recording)].count(False) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda group: group["following"]["streams"].pop(),
        lambda group: group["following"].update(provider="agora"),
        lambda group: group["following"].update(is_led=False),
        lambda group: [one.update(provider="webrtc") for one in group["parting"]["streams"]],
    ],
    ids=["fewer", "elsewhere", "led", "together"],
)
def test_a_group_that_did_something_else_is_found(recording, change):
    """
    Fewer streams, another provider, somebody else who leads, nobody to bring along.
    """
    change(recording["streams"]["groups"][0])

    assert not groups(recording)[0].is_same


def test_a_group_in_which_nobody_moved_is_refused(recording):
    """
    With a sentence.
    """
    recording["streams"]["groups"][0]["parting"]["moved"] = 3

    with pytest.raises(ConfigError, match="no stream that moved"):
        groups(recording)


@pytest.mark.parametrize(
    "change",
    [{"streams": 1}, {"is_well": True, "is_operator": False, "streams": 1}, {"streams": 9}],
    ids=str,
)
def test_the_end_of_a_move_on_other_facts_is_another_one(recording, change):
    """
    A provider that is not empty is not left yet.
    """
    (end,) = recording["fleet"]["ends"]
    end["ending"].update(change)

    assert not reended([end])[0].is_same


@pytest.mark.parametrize(
    "damage", [3, [3], [{}], [{"at_s": "then"}], [{"at_s": 1.0, "placing": {}}]]
)
@pytest.mark.parametrize("read", [moves, groups, lambda it: notes_of(it["streams"]["notes"])])
def test_damaged_lines_are_refused(damage, read):
    """
    With a sentence, and nothing else.
    """
    streams = dict.fromkeys(("moves", "groups", "notes"), damage)

    with pytest.raises(ConfigError):
        read({"streams": streams})
