"""ZEGOCLOUD's stand-in in kick mode: whose token ends is put out."""

import pytest
from speaking_stand import ZEGO, Wall, closed, play, unhurried, until, zego_bearer

from hitless.core.events import Role
from hitless.errors import ConfigError
from hitless.lab.faults import Injected
from hitless.lab.gate import Pass, ZegoGate


@pytest.fixture(autouse=True)
def peers(monkeypatch):
    unhurried(monkeypatch)


def test_a_session_ends_with_its_token_in_kick_mode_only():
    """Known when it joins; who joined before goes on."""
    faults, wall = Injected("zegocloud"), Wall()
    gate = ZegoGate(ZEGO, faults, wall_s=lambda: wall.now_s)

    def left_s(role):
        shown = zego_bearer(role, ttl_s=90)["Authorization"]
        return gate.admit(shown, "s", publishes=role is Role.PUBLISHER, region="fra").left_s

    assert [left_s(role) for role in (*Role, None)] == [None] * 3
    faults.switch("kick-mode", True, {})
    assert [left_s(role) for role in (*Role, None)] == [90] * 3
    wall.now_s += 30.5
    assert left_s(Role.VIEWER) == 90 - 30.5
    faults.switch("kick-mode", False, {})
    assert left_s(Role.VIEWER) is None


def test_no_other_stand_in_has_a_kick_mode():
    """It is ZEGOCLOUD's word for it."""
    with pytest.raises(ConfigError, match="speaks zegocloud"):
        Injected("agora").switch("kick-mode", True, {})


def test_who_is_put_out_by_token_expired_has_a_token():
    """A push by RTMP has a stream's address and no token that could end."""
    faults = Injected("zegocloud")
    gate = ZegoGate(ZEGO, faults)
    faults.switch("token-expired", True, {})
    assert not gate.removes(Pass(user="u"))
    faults.switch("kick-mode", True, {})
    assert gate.removes(Pass(user="u"))
    assert not gate.removes(Pass(user="u", key="pushed"))


def test_whose_token_ends_is_put_out_and_the_others_stay():
    """At that time, in mid-stream."""

    async def scenario(world):
        assert await world.fault("kick-mode") == 200
        now_s = world.wall()
        published = await world.publish(zego_bearer(now_s=now_s))
        short = await world.view(zego_bearer(Role.VIEWER, user="u-8", ttl_s=5, now_s=world.wall()))
        long = await world.view(zego_bearer(Role.VIEWER, user="u-9", now_s=now_s))
        await until(closed(short))
        assert world.wall() >= int(now_s) + 5
        assert long.pc.connectionState == "connected"
        assert published.pc.connectionState == "connected"

    play(ZEGO, scenario, wall=Wall(runs=True))


def test_an_expired_token_by_fault_removes_who_is_in_kick_mode():
    """As when it ends by itself, also who joined before."""

    async def scenario(world):
        published = await world.publish(zego_bearer())
        assert await world.fault("kick-mode") == 200
        assert published.pc.connectionState == "connected"
        assert await world.fault("token-expired") == 200
        await until(closed(published))

    play(ZEGO, scenario)
