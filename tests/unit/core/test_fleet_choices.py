"""hitless.core.fleet_choices: when a fleet move is over"""

import pytest

from hitless.core.fleet import FleetMove, NodeShare
from hitless.core.fleet_choices import Ending


def over(**known):
    """Return why a move of 20 streams at 10 a second and target, begun at 100 s, is over."""
    plan = FleetMove(
        id="1", source="agora", weights={"webrtc": 1.0, "zegocloud": 1.0},
        configured={"agora": 1.0, "webrtc": 1.0, "zegocloud": 1.0},
        starts_per_s={"webrtc": 10.0, "zegocloud": 10.0}, because="a test",
        shares={"n1": NodeShare(live=12), "n2": NodeShare(dark=8)}, begun_s=100.0,
        live_per_minute=known.pop("live_per_minute", None),
    )  # fmt: skip
    usual = {"is_operator": False, "streams": 3, "is_well": False, "unusable": (), "down": (),
             "now_s": 101.0, "spare_s": 30.0}  # fmt: skip
    return Ending(plan=plan, **{**usual, **known}).over()


@pytest.mark.parametrize(
    ("known", "because"),
    [
        ({}, ""),
        ({"streams": 0}, "agora is empty"),
        ({"is_well": True}, "agora is not down any more: the rest stays"),
        ({"is_well": True, "is_operator": True}, ""),
        ({"unusable": ("zegocloud",)}, "zegocloud cannot be used any more"),
        ({"unusable": ("zegocloud",), "is_operator": True}, "zegocloud cannot be used any more"),
        ({"down": ("webrtc",)}, "webrtc is down, too"),
        ({"down": ("webrtc",), "is_operator": True}, ""),
        ({"down": ("agora",)}, ""),
        ({"now_s": 132.0}, ""),
        ({"now_s": 132.1}, "3 streams stay with agora"),
        ({"now_s": 132.1, "live_per_minute": 60}, ""),
        ({"now_s": 144.1, "live_per_minute": 60}, "3 streams stay with agora"),
    ],
    ids=str,
)
def test_a_move_is_over_for_one_reason_or_it_goes_on(known, because):
    assert over(**known) == because
