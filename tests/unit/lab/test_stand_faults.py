"""hitless.lab.faults: the catalogue, and what is on."""

import json

import pytest
from speaking_stand import AGORA, ZEGO, play, unhurried

from hitless.errors import ConfigError
from hitless.lab.catalogue import REGIONS
from hitless.lab.faults import CATALOGUE, Injected, Place, find, numbers


def test_every_fault_has_a_name_of_its_own_and_one_sentence():
    """The catalogue is what `--help` and the docs are made of."""
    assert len({fault.name for fault in CATALOGUE}) == len(CATALOGUE)
    for fault in CATALOGUE:
        assert fault.says
        assert not fault.says.endswith(".")
        assert fault.order


def test_every_place_has_a_fault():
    """All four ways to inject are used."""
    assert {fault.place for fault in CATALOGUE} == set(Place)


def test_only_a_killed_provider_cannot_be_healed():
    """A restart is the one thing an order cannot do."""
    assert [fault.name for fault in CATALOGUE if not fault.heal] == ["killed"]


def test_defaults_are_within_their_own_limits():
    """Breaking without numbers must work for each fault."""
    for fault in CATALOGUE:
        assert numbers(fault, {}) == {p.name: p.default for p in fault.parameters}


def test_an_unknown_fault_names_the_nearest_one():
    """A typing error costs one look."""
    with pytest.raises(ConfigError, match="did you mean 'gray-ingest'"):
        find("grey-ingest")


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), "much", True, None])
def test_a_number_outside_its_limits_is_refused_by_name(value):
    """The message names field, value and limits."""
    with pytest.raises(ConfigError, match=r"share = .* from 0 to 1"):
        numbers(find("loss"), {"share": value})


def test_a_number_that_the_fault_does_not_have_is_refused():
    """Nothing is ignored silently."""
    with pytest.raises(ConfigError, match="has no 'speed'; it takes: share, delay_s_max"):
        numbers(find("loss"), {"speed": 1})


def test_a_fault_of_another_place_is_not_injected_here():
    """A stand-in does not kill itself."""
    with pytest.raises(ConfigError, match="injected in the signal"):
        Injected().switch("killed", True, {})


def test_faults_go_on_and_off_and_on_again():
    """Switching is idempotent in both directions."""
    injected = Injected()
    assert injected.forwards
    for _ in range(2):
        injected.switch("gray-forwarding", True, {})
        assert not injected.forwards
    injected.switch("loss", True, {"share": 0.5})
    assert injected.loss is not None
    assert (injected.loss.share, injected.loss.delay_s_max) == (0.5, 0.1)
    for _ in range(2):
        injected.switch("gray-forwarding", False, {})
        assert injected.forwards
    assert injected.as_json() == {"loss": {"share": 0.5, "delay_s_max": 0.1}}
    injected.clear()
    assert injected.loss is None
    assert injected.as_json() == {}


# --- Words ---


def test_a_word_follows_the_name_after_a_colon():
    """It goes along in the order, so that whoever sends the order need not know it."""
    assert find("region-down").order["region"] == "home"
    assert find("region-down:na").order == {"fault": "region-down", "on": True, "region": "na"}
    assert find("region-down:na").heal == {"fault": "region-down", "on": False}
    assert find("region-down").order["region"] == "home"  # the entry itself is unchanged


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("region-down:moon", "region = 'moon' is not possible .* give one of home, eu"),
        ("region-down:", "region = '' is not possible"),
        ("refuse:na", "'refuse' takes no word"),
        ("regiondown:na", "did you mean 'region-down'"),
    ],
)
def test_a_word_that_cannot_be_is_refused(name, says):
    """By name, with what may be."""
    with pytest.raises(ConfigError, match=says):
        find(name)


def test_a_region_is_one_of_the_provider_that_is_spoken():
    """Home is its first; others' regions are none."""
    for speaks in ("agora", "zegocloud"):
        injected = Injected(speaks)
        assert injected.home == REGIONS[speaks][0]
        for region in REGIONS[speaks]:
            injected.switch("region-down", True, {"region": region})
            assert injected.is_down(region)
            assert injected.as_json() == {"region-down": {"region": region}}
        injected.switch("region-down", True, {})
        assert injected.is_down(injected.home)
        injected.switch("region-down", False, {})
        assert not injected.is_down(injected.home)
    for wrong in ("fra", "moon", 5, None, ["eu"]):
        with pytest.raises(ConfigError):
            Injected("agora").switch("region-down", True, {"region": wrong})


def test_a_fault_of_a_provider_needs_a_stand_in_that_speaks_it():
    """Nothing is injected that would change nothing."""
    for fault in (one for one in CATALOGUE if one.speaks):
        with pytest.raises(ConfigError, match=rf"needs .* speaks {fault.speaks[0]}.* speaks whip"):
            Injected().switch(fault.name, True, {})
        for speaks in fault.speaks:
            Injected(speaks).switch(fault.name, True, {})
    with pytest.raises(ConfigError, match="speaks agora; this one speaks zegocloud"):
        Injected("zegocloud").switch("join-rejected", True, {})


# --- Over HTTP ---


@pytest.mark.parametrize("account", [None, AGORA, ZEGO], ids=["whip", "agora", "zegocloud"])
def test_every_fault_is_injected_and_healed_by_the_control_api(account):
    """With the order of the catalogue; one that is not spoken is refused, and changes nothing."""

    async def scenario(world):
        speaks = world.stand.injected.speaks
        for fault in (one for one in CATALOGUE if one.place is Place.STAND):
            is_had = not fault.speaks or speaks in fault.speaks
            order = dict(fault.order)
            name = order.pop("fault")
            assert await world.fault(name, **order) == (200 if is_had else 400)
            assert (name in world.stand.injected) is is_had
            await world.fault(name, on=False)
            assert world.stand.injected.as_json() == {}

    play(account, scenario)


@pytest.mark.parametrize("fault", ["token-expired", "token-invalid", "quota"])
def test_a_stand_in_of_whip_alone_has_faults_of_credentials_too(fault, monkeypatch):
    """In its own words: 401 as ever, and 429."""

    async def scenario(world):
        assert await world.fault(fault) == 200
        status = 429 if fault == "quota" else 401
        answer = await world.ask("/whip/s")
        assert answer.status == status
        if status == 401:
            assert answer.text == "show a valid token\n"
        else:
            assert json.loads(answer.text)["code"] is None
        assert await world.fault(fault, on=False) == 200
        assert (await world.ask("/whip/s")).status == 201

    unhurried(monkeypatch)
    play(None, scenario)
