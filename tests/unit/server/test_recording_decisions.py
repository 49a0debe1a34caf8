"""hitless.server.recording: the steps of hands and the moves of the fleet, decided again."""

import json

import pytest
from unit.server import recorded
from unit.server.recorded import PHONE, SECRET, SHOW
from unit.server.test_fleet import go

from hitless import ConfigError
from hitless.core import rendezvous
from hitless.core.fleet_replay import redealt, reordered
from hitless.core.judgement import rejudge
from hitless.core.observation import mark
from hitless.core.replay import rerun


pytest_plugins = ("postgres_server",)


@pytest.fixture(scope="module")
def minute(engine):
    """Return the recording of a bad minute, and where its streams were at the end."""
    return go(recorded.bad_minute(engine))


@pytest.fixture
def recording(minute):
    """Return a recording that a test may change."""
    return json.loads(json.dumps(minute[0]))


def steps(recording):
    """Return the steps of the only hand, run again."""
    (hand,) = recording["hands"]
    return rerun(hand, has_changed_reasons=recording["has_changed_reasons"])


def test_the_steps_of_a_hand_run_again_have_the_effects_that_it_had(recording):
    """
    Every one of them, from its first list to the leg it left.
    """
    found = steps(recording)

    assert [one for one in found if not one.is_same] == []
    kinds = [one.kind for one in found]
    assert kinds.count("LegOpened") == 2
    assert "LegSilent" in kinds
    orders = [one["effect"] for step in found for one in step.told]
    assert orders.count("OpenLeg") == 2
    assert {"CloseLeg", "ClaimPlacement", "ConfirmPlacement", "Started"} <= {*orders}


def test_an_order_decided_again_gives_the_same_plan_and_its_deals_the_same_moves(
    minute, recording
):
    """
    With the targets, the room, the shares and the slots that there were.
    """
    where = minute[1]

    orders = reordered(
        recording["fleet"]["orders"], has_changed_reasons=recording["has_changed_reasons"]
    )
    deals = redealt(recording["fleet"]["moves"])

    assert [one.is_same for one in orders] == [True]
    assert orders[0].told[0]["plan"]["source"] == "agora"
    assert [one for one in deals if not one.is_same] == []
    moved = [line for one in deals for line in one.told[0]["moves"]]
    gone = [name for name, at in where.items() if name.startswith("quiet") and at != "agora"]
    assert len(moved) == len({name for name, _, _ in moved}) == len(gone)
    assert {target for _, target, _ in moved} == {"webrtc", "zegocloud"}
    held = {why for one in deals for why, _ in one.told[0]["held"]}
    assert "no room at the targets" in held, "of all with media, a share of them moves"


def test_verdicts_are_judged_again_beside_them(recording):
    """
    An older hitless reads as much of it, and no more.
    """
    found, after = rejudge(recording)

    assert found
    assert all(one.is_same for one in found)
    assert after == []


def test_neither_a_name_nor_its_hash_nor_a_secret_is_in_it(recording):
    """
    Not in events, states, effects and reasons of hands, and not in moves; not as a key of one.
    """
    text = json.dumps(recording)

    for word in (SHOW, PHONE, "alice", "quiet-", "room-", SECRET, SECRET[12:], "a-token"):
        assert word not in text
    for n in range(30):
        for name in (f"quiet-{n}", f"room-{n}"):
            assert f"{rendezvous.key(name):016x}" not in text
            assert str(mark(name)) not in text
    assert recording["has_changed_reasons"], "the hand's client named itself and a key"


def test_the_same_stream_has_the_same_name_for_its_hand_and_in_the_fleet(recording):
    """
    And each other one another name.
    """
    (hand,) = recording["hands"]
    begun = next(one for one in hand["steps"] if one["event"] == "StreamRequested")
    (move,) = recording["fleet"]["moves"]
    dealt = [line[0] for line in move["deals"][0]["come"]]

    assert begun["session"] == begun["stream"]
    assert begun["stream"] not in dealt, "it had left before"
    assert len(dealt) == len(set(dealt)) == 30
    assert hand["hand"].startswith("client-")


def test_a_step_with_another_effect_is_found_and_those_after_it_are_not_run(recording):
    """
    The state after it is another one.
    """
    (hand,) = recording["hands"]
    silent = next(one for one in hand["steps"] if one["event"] == "LegSilent")
    order = next(one for one in silent["effects"] if one["effect"] == "OpenLeg")
    order["provider"] = "nobody"

    found = steps(recording)

    assert [one.is_same for one in found].count(False) == 1
    assert (found[-1].kind, found[-1].is_same) == ("LegSilent", False)


def test_a_state_that_somebody_changed_is_found_by_what_comes_of_it(recording):
    """
    Here by the number of the first leg.
    """
    (hand,) = recording["hands"]
    hand["before"]["legs_made"] = 5

    assert not all(one.is_same for one in steps(recording))


@pytest.mark.parametrize(
    "change",
    [
        lambda asked: asked.update(share=0.1),
        lambda asked: asked.update(priorities=[["agora", 0], ["webrtc", 2], ["zegocloud", 1]]),
        lambda asked: asked["candidates"][1][1].update(max_streams=2),
        lambda asked: asked.update(active=["agora"]),
        lambda asked: asked["shares"][0][1].update(live=3),
    ],
    ids=["share", "priority", "room", "active", "streams"],
)
def test_an_order_on_other_facts_is_another_one(recording, change):
    """
    Each fact that is recorded is one that decides.
    """
    (order,) = recording["fleet"]["orders"]
    change(order["asked"])

    (again,) = reordered([order], has_changed_reasons=True)

    assert not again.is_same


@pytest.mark.parametrize(
    "change",
    [
        lambda deal: deal["moves"][0].__setitem__(1, "agora"),
        lambda deal: deal["moves"][0].__setitem__(2, deal["moves"][0][2] + 0.001),
        lambda deal: deal["moves"].pop(),
        lambda deal: deal["held"].append(["a whim", 1]),
        lambda deal: deal.update(is_frozen=True),
        lambda deal: deal["plan"].update(live_per_minute=0),
    ],
    ids=["target", "slot", "fewer", "held", "frozen", "pace"],
)
def test_a_deal_that_moved_otherwise_is_found(recording, change):
    """
    Another target, another slot, another stream, another reason to stay.
    """
    (move,) = recording["fleet"]["moves"]
    change(move["deals"][0])

    assert not redealt([move])[0].is_same


@pytest.mark.parametrize(
    "damage",
    [
        {"before": None},
        {"before": {"sessions": [["s", {"colour": 1}]]}},
        {"steps": [3]},
        {"steps": [{"at_s": 1.0, "event": "Exploded"}]},
        {"policy": {"max_retries": -1}},
        {"hitless": 9},
    ],
    ids=str,
)
def test_damaged_steps_are_refused(recording, damage):
    """
    With a sentence, and nothing else.
    """
    (hand,) = recording["hands"]

    with pytest.raises(ConfigError):
        rerun({**hand, **damage})


@pytest.mark.parametrize(
    "damage",
    [
        {"before": 3},
        {"before": [["s", "no digits", "agora", True, None]]},
        {"before": [["s", "1" * 40, "agora", True, None]]},
        {"deals": [{}]},
        {"deals": [{"plan": {"source": "agora"}}]},
        {"deals": 3},
    ],
    ids=str,
)
def test_damaged_moves_are_refused(recording, damage):
    """
    Whatever stands in them.
    """
    (move,) = recording["fleet"]["moves"]

    with pytest.raises(ConfigError):
        redealt([{**move, **damage}])
    with pytest.raises(ConfigError):
        reordered([damage], has_changed_reasons=False)
